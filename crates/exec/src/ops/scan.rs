//! Scans of an index: by whole keys, or by ranges page after page.

use async_trait::async_trait;
use bytes::Bytes;
use meridian_catalog::{IndexDesc, IndexId};
use meridian_datum::{Batch, Result, SqlError};
use meridian_kv_api::{LockWait, ScanRequest};
use meridian_plan::physical::Scan;
use meridian_types::{Key, Span, limits};

use super::filter::{keep, limit_value};
use super::{BATCH_ROWS, Operator};
use crate::context::Ctx;
use crate::table::{Decoded, IndexReader, IndexWriter, KeySpans, evaluate_spans};

/// Keys read by one message.
pub(super) const POINTS_MAX: usize = 1024;

/// Reads spans of an index.
pub(super) struct ScanOp<'a> {
    ctx: Ctx<'a>,
    scan: &'a Scan,
    reader: IndexReader,
    /// Locks primary rows of a covering secondary scan.
    primary: Option<RowLocker>,
    state: State,
    /// Rows still wanted.
    wanted: u64,
}

enum State {
    New,
    Points(std::vec::IntoIter<Key>),
    /// Spans still to read, the next one last.
    Ranges(Vec<Span>),
    Done,
}

/// Finds and locks the primary row behind a secondary entry.
struct RowLocker {
    key_columns: IndexReader,
    writer: IndexWriter,
}

/// The index with this id.
pub(super) fn index_of(table: &meridian_catalog::TableDesc, id: IndexId) -> Result<&IndexDesc> {
    table.index(id).ok_or_else(|| SqlError::internal("a plan names an index that its table lacks"))
}

impl<'a> ScanOp<'a> {
    pub(super) fn new(ctx: Ctx<'a>, scan: &'a Scan) -> Result<Self> {
        let index = index_of(&scan.table, scan.index)?;
        let catalog = &ctx.stmt.catalog;
        let reader = IndexReader::new(catalog, &scan.table, index, &scan.columns)?;
        let primary = if scan.for_update && scan.index != IndexId::PRIMARY {
            Some(RowLocker {
                key_columns: IndexReader::new(catalog, &scan.table, index, &scan.table.key_ordinals())?,
                writer: IndexWriter::new(catalog, &scan.table, &scan.table.primary)?,
            })
        } else {
            None
        };
        Ok(ScanOp { ctx, scan, reader, primary, state: State::New, wanted: u64::MAX })
    }

    async fn start(&mut self) -> Result<()> {
        self.wanted = limit_value(self.ctx, self.scan.limit.as_ref()).await?.unwrap_or(u64::MAX);
        let index = index_of(&self.scan.table, self.scan.index)?;
        let spans =
            evaluate_spans(self.ctx, &self.ctx.stmt.catalog, &self.scan.table, index, &self.scan.spans)
                .await?;
        self.state = match spans {
            KeySpans::Points(mut keys) => {
                if self.scan.reverse {
                    keys.reverse();
                }
                State::Points(keys.into_iter())
            }
            KeySpans::Ranges(mut spans) => {
                if !self.scan.reverse {
                    spans.reverse();
                }
                State::Ranges(spans)
            }
        };
        Ok(())
    }

    /// The next rows as they are stored; `None` at the end.
    async fn page(&mut self) -> Result<Option<Vec<(Key, Bytes)>>> {
        let stmt = self.ctx.stmt;
        match &mut self.state {
            State::New | State::Done => Ok(None),
            State::Points(keys) => {
                let chunk: Vec<Key> = keys.by_ref().take(POINTS_MAX).collect();
                if chunk.is_empty() {
                    return Ok(None);
                }
                let values = stmt.wait(stmt.txn.multi_get(chunk.clone(), self.scan.locking)).await?;
                Ok(Some(chunk.into_iter().zip(values).filter_map(|(k, v)| Some((k, v?))).collect()))
            }
            State::Ranges(spans) => {
                let Some(span) = spans.pop() else { return Ok(None) };
                let limit = page_limit(self.wanted, self.scan.filter.is_some());
                let request =
                    ScanRequest { span, reverse: self.scan.reverse, limit, locking: self.scan.locking };
                let page = stmt.wait(stmt.txn.scan(request)).await?;
                spans.extend(page.resume);
                Ok(Some(page.rows))
            }
        }
    }

    /// Locks the primary rows of secondary entries, and drops the entries whose row is skipped.
    async fn lock_rows(&self, rows: Vec<(Key, Bytes)>) -> Result<Vec<(Key, Bytes)>> {
        let Some(locker) = &self.primary else { return Ok(rows) };
        let stmt = self.ctx.stmt;
        let mut keys = Vec::with_capacity(rows.len());
        for (key, value) in &rows {
            let values = locker.key_columns.read_row(key.as_bytes(), value)?;
            keys.push(locker.writer.key_of_values(&values)?);
        }
        let locked = stmt.wait(stmt.txn.multi_get(keys, self.scan.locking)).await?;
        if self.scan.locking.wait != LockWait::SkipLocked {
            return Ok(rows);
        }
        Ok(rows.into_iter().zip(locked).filter_map(|(row, v)| v.map(|_| row)).collect())
    }
}

/// Rows to ask for in one page.
fn page_limit(wanted: u64, filtered: bool) -> usize {
    let most = limits::SCAN_PAGE_ROWS;
    match usize::try_from(wanted) {
        Ok(n) if !filtered => n.clamp(1, most),
        // A filter may drop rows, but a small limit is seldom worth a large page.
        Ok(n) => n.saturating_mul(4).clamp(64, most),
        Err(_) => most,
    }
}

#[async_trait]
impl Operator for ScanOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        if matches!(self.state, State::New) {
            self.start().await?;
        }
        while self.wanted > 0 {
            self.ctx.stmt.checkpoint().await?;
            let Some(rows) = self.page().await? else { break };
            if rows.is_empty() {
                continue;
            }
            let rows = self.lock_rows(rows).await?;
            let mut batch = self.reader.batch(rows.len().min(4 * BATCH_ROWS));
            for (key, value) in &rows {
                // Rows of interleaved tables are passed over.
                let _: Decoded = self.reader.read(key.as_bytes(), value, &mut batch)?;
            }
            if let Some(filter) = &self.scan.filter
                && !batch.is_empty()
            {
                batch = keep(self.ctx, filter, batch).await?;
            }
            if batch.is_empty() {
                continue;
            }
            if batch.len() as u64 > self.wanted {
                batch.truncate(self.wanted as usize);
            }
            if self.wanted != u64::MAX {
                self.wanted -= batch.len() as u64;
            }
            return Ok(Some(batch));
        }
        self.state = State::Done;
        Ok(None)
    }
}
