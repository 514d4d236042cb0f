//! Rows of the system keyspace that sessions read and change one at a time.

use bytes::Bytes;
use meridian_datum::SqlError;
use meridian_exec::sql_error;
use meridian_keys::SystemKey;
use meridian_kv_api::{
    Kv, KvError, KvWrite, Locking, ReadBound, ReadOnlyOptions, ReadWriteOptions, ScanRequest,
};
use meridian_types::{Duration, Key, Span};

/// Rows may be this old where all of them are read.
const STALENESS: Duration = Duration::from_secs(1);

/// Attempts of a change that loses against another one.
const ATTEMPTS: usize = 8;

/// What becomes of a row.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// It stays.
    Nothing,
    /// It gets this value.
    Put(Bytes),
    /// It goes.
    Delete,
}

/// All rows of `span`, of about now, at the nearest replica.
pub(crate) async fn read_all(kv: &dyn Kv, span: Span) -> Result<Vec<(Key, Bytes)>, KvError> {
    let bound = ReadBound::AtLeast(kv.now()?.earliest().saturating_sub(STALENESS));
    let txn = kv.begin_read_only(ReadOnlyOptions { bound, single_operation: true });
    let mut rest = Some(span);
    let mut rows = Vec::new();
    while let Some(span) = rest {
        let request = ScanRequest { span, reverse: false, limit: 1_000, locking: Locking::SHARED };
        let page = txn.scan(request).await?;
        rows.extend(page.rows);
        rest = page.resume;
    }
    Ok(rows)
}

/// Changes one row by what it holds, in a transaction of its own, which is tried again where it loses.
pub(crate) async fn change(
    kv: &dyn Kv,
    key: &SystemKey,
    decide: impl Fn(Option<Bytes>) -> Result<Change, SqlError>,
) -> Result<(), SqlError> {
    let key = key.encode();
    let mut retry_of = None;
    for attempt in 1.. {
        let txn = kv.begin(ReadWriteOptions { retry_of });
        retry_of = txn.id();
        let step = async {
            let row = txn.get(key.clone(), Locking::EXCLUSIVE).await?;
            let value = match decide(row) {
                Ok(Change::Nothing) => return Ok(Some(Ok(()))),
                Ok(Change::Put(value)) => Some(value),
                Ok(Change::Delete) => None,
                Err(error) => return Ok(Some(Err(error))),
            };
            txn.write(vec![KvWrite { key: key.clone(), value }]).await?;
            txn.commit().await?;
            Ok(None)
        };
        match step.await {
            Ok(None) => return Ok(()),
            Ok(Some(without_a_write)) => {
                txn.rollback().await;
                return without_a_write;
            }
            Err(KvError::Retry { .. }) if attempt < ATTEMPTS => txn.rollback().await,
            Err(error) => {
                txn.rollback().await;
                return Err(sql_error(error));
            }
        }
    }
    unreachable!("the last attempt returns")
}
