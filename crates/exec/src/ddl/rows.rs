//! Rows in bulk: reading pages, removing ranges.

use bytes::Bytes;
use meridian_catalog::{IndexState, TableDesc, TableId};
use meridian_datum::{Batch, Result};
use meridian_keys as keys;
use meridian_kv_api::{Kv, KvError, KvTxn, KvWrite, Locking, ReadWriteOptions, ScanRequest};
use meridian_types::{Key, Span, limits};

use crate::context::Statement;
use crate::table::{Decoded, IndexReader};

/// All keys of a table's storage.
pub(super) fn table_span(storage: TableId) -> Span {
    keys::table_span(keys::TableId::new(u64::from(storage.0)))
}

/// Reads a table's rows page after page.
pub(super) struct RowPages<'a> {
    statement: &'a Statement,
    reader: IndexReader,
    rest: Option<Span>,
    locking: Locking,
}

impl<'a> RowPages<'a> {
    /// The rows of a table, all columns, in the statement's transaction.
    pub(super) fn new(statement: &'a Statement, table: &TableDesc, locking: Locking) -> Result<Self> {
        let all: Vec<usize> = (0..table.columns.len()).collect();
        let reader = IndexReader::new(&statement.catalog, table, &table.primary, &all)?;
        let prefix = crate::table::Prefix::of(&statement.catalog, table, &table.primary)?;
        Ok(RowPages { statement, reader, rest: Some(Span::prefix(&prefix.start().finish())), locking })
    }

    /// The next page with its keys; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(Vec<Key>, Batch)>> {
        while let Some(span) = self.rest.take() {
            self.statement.checkpoint().await?;
            let request =
                ScanRequest { span, reverse: false, limit: limits::SCAN_PAGE_ROWS, locking: self.locking };
            let page = self.statement.wait(self.statement.txn.scan(request)).await?;
            self.rest = page.resume;
            let mut batch = self.reader.batch(page.rows.len());
            let mut keys = Vec::with_capacity(page.rows.len());
            for (key, value) in page.rows {
                if self.reader.read(key.as_bytes(), &value, &mut batch)? == Decoded::Row {
                    keys.push(key);
                }
            }
            if !batch.is_empty() {
                return Ok(Some((keys, batch)));
            }
        }
        Ok(None)
    }
}

/// Removes all rows of a table within the statement's transaction.
pub(super) async fn truncate(statement: &Statement, table: &TableDesc) -> Result<()> {
    let is_shared = table.interleave.is_some() || statement.catalog.children(table.id).next().is_some();
    // The entries of an index that is being filled may come after a look at them, so that they are removed unseen.
    let is_filled = table.indexes.iter().any(|index| index.state != IndexState::Public);
    if is_shared || is_filled {
        // Or rows of other tables lie between.
        let writer = crate::table::TableWriter::new(&statement.catalog, table)?;
        let mut pages = RowPages::new(statement, table, Locking::EXCLUSIVE)?;
        while let Some((keys, batch)) = pages.next().await? {
            let mut writes = Vec::with_capacity(keys.len());
            for (r, key) in keys.into_iter().enumerate() {
                writer.delete(key, &batch.row(r), &mut writes)?;
            }
            statement.wait(statement.txn.write(writes)).await?;
        }
        return Ok(());
    }
    let mut rest = Some(table_span(table.storage));
    while let Some(span) = rest {
        statement.checkpoint().await?;
        let limit = limits::SCAN_PAGE_ROWS;
        let request = ScanRequest { span, reverse: false, limit, locking: Locking::EXCLUSIVE };
        let page = statement.wait(statement.txn.scan(request)).await?;
        statement.wait(statement.txn.write(removals(page.rows))).await?;
        rest = page.resume;
    }
    Ok(())
}

pub(super) fn removals(rows: Vec<(Key, Bytes)>) -> Vec<KvWrite> {
    rows.into_iter().map(|(key, _)| KvWrite { key, value: None }).collect()
}

/// Commits blind writes; tries again when they conflict.
pub(super) async fn commit_writes(kv: &dyn Kv, writes: Vec<KvWrite>) -> Result<(), KvError> {
    let mut retry_of = None;
    for attempt in 1.. {
        let txn: Box<dyn KvTxn> = kv.begin(ReadWriteOptions { retry_of });
        let outcome = match txn.write(writes.clone()).await {
            Ok(()) => txn.commit().await.map(|_| ()),
            Err(e) => Err(e),
        };
        match outcome {
            Err(KvError::Retry { .. }) if attempt < super::ATTEMPTS_MAX => {
                retry_of = txn.id();
                txn.rollback().await;
            }
            Err(e) => {
                txn.rollback().await;
                return Err(e);
            }
            Ok(()) => return Ok(()),
        }
    }
    unreachable!("the loop returns")
}
