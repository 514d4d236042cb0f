//! Functions on advisory locks, and `pg_locks`.

use std::collections::BTreeSet;

use bytes::Bytes;
use meridian_catalog::advisory::{AdvisoryLock, decode_lease};
use meridian_datum::{Datum, Result, SqlError, SqlState};
use meridian_keys::{AdvisoryId, AdvisoryKey, DescriptorId, SystemKey};
use meridian_kv_api::{KvTxn, Locking, ReadBound, ReadOnlyOptions, ScanRequest};
use meridian_plan::physical::{AdvisoryAction, AdvisoryCall};
use meridian_types::{Key, Span, limits};

use crate::context::Statement;

/// Calls a function. A NULL among the arguments makes nothing happen, as in PostgreSQL.
pub(super) async fn call(stmt: &Statement, call: AdvisoryCall, args: &[Datum]) -> Result<Datum> {
    let small = |v: &Datum| v.as_int().and_then(|v| i32::try_from(v).ok());
    let id = match args {
        [] => None,
        args if args.iter().any(Datum::is_null) => return Ok(Datum::Null),
        [one] => one.as_int().map(AdvisoryId::One),
        [a, b, ..] => small(a).zip(small(b)).map(|(a, b)| AdvisoryId::Two(a, b)),
    };
    let key = match id {
        None => None,
        Some(id) => {
            let name = stmt.session.database();
            let database = stmt.catalog.database(name).ok_or_else(|| {
                let message = format!("database \"{name}\" does not exist");
                SqlError::new(SqlState::INVALID_CATALOG_NAME, message)
            })?;
            Some(AdvisoryKey { database: DescriptorId::new(u64::from(database.id.0)), id })
        }
    };
    let done = stmt.session.advisory(call, key, &stmt.cancel).await?;
    Ok(match call.action {
        AdvisoryAction::TryLock | AdvisoryAction::Unlock => Datum::Bool(done),
        AdvisoryAction::Lock | AdvisoryAction::UnlockAll => Datum::from(""),
    })
}

async fn scan(stmt: &Statement, txn: &dyn KvTxn, span: Span) -> Result<Vec<(Key, Bytes)>> {
    let mut rest = Some(span);
    let mut all = Vec::new();
    while let Some(span) = rest {
        let limit = limits::SCAN_PAGE_ROWS;
        let request = ScanRequest { span, reverse: false, limit, locking: Locking::SHARED };
        let page = stmt.wait(txn.scan(request)).await?;
        all.extend(page.rows);
        rest = page.resume;
    }
    Ok(all)
}

/// The rows of `pg_locks`: the advisory locks of the whole cluster. Locks of rows are in `meridian.locks`.
pub(super) async fn rows(stmt: &Statement) -> Result<Vec<Vec<Datum>>> {
    let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false };
    let txn = stmt.kv.begin_read_only(options);
    let now = stmt.kv.now().map_err(crate::kv_error::sql_error)?.earliest();
    let is_alive = |(key, lease): &(Key, Bytes)| (decode_lease(lease) >= now).then(|| key.clone());
    let holders = scan(stmt, &*txn, SystemKey::lock_holders()).await?;
    let alive: BTreeSet<_> = holders.iter().filter_map(is_alive).collect();
    let mut out = Vec::new();
    for (key, row) in scan(stmt, &*txn, SystemKey::advisory_locks()).await? {
        let Ok(SystemKey::AdvisoryLock(AdvisoryKey { database, id })) = SystemKey::decode(key.as_bytes())
        else {
            continue;
        };
        let lock = AdvisoryLock::decode(Some(&row)).map_err(|e| SqlError::internal(e.to_string()))?;
        let oid = |bits: u32| Datum::Int(i64::from(bits));
        let (class, object, kind) = match id {
            AdvisoryId::One(n) => (oid((n as u64 >> 32) as u32), oid(n as u32), 1),
            AdvisoryId::Two(a, b) => (oid(a as u32), oid(b as u32), 2),
        };
        for r in lock.requests() {
            let holder = r.owner.holder;
            if !alive.contains(&SystemKey::LockHolder { node: holder.node, start: holder.start }.encode()) {
                continue;
            }
            let mode = if r.is_exclusive { "ExclusiveLock" } else { "ShareLock" };
            let mut columns = vec![Datum::from("advisory"), Datum::Int(database.get() as i64)];
            columns.extend([Datum::Null, Datum::Null, Datum::Null, Datum::Null, Datum::Null]);
            columns.extend([class.clone(), object.clone(), Datum::Int(kind)]);
            columns.push(Datum::from(format!("{}/{}", holder.node.get(), r.owner.session).as_str()));
            columns.extend([Datum::Int(i64::from(r.pid)), Datum::from(mode), Datum::Bool(r.is_granted)]);
            columns.extend([Datum::Bool(false), Datum::Null]);
            out.push(columns);
        }
    }
    Ok(out)
}
