//! Rewrites: every row of a table is read, checked and written to another storage, while nobody writes to the table.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use meridian_catalog::{CatalogChange, CatalogSnapshot, TableDesc, TableRef};
use meridian_datum::{Datum, Result, SqlError, SqlState};
use meridian_kv_api::{KvTxn, KvWrite, Locking, ReadWriteOptions};
use meridian_plan::PlannedStatement;
use meridian_types::Key;

use super::alter::Alteration;
use super::rows::RowPages;
use super::{ATTEMPTS_MAX, DdlServices, LOCKED, index, next_version};
use crate::context::Statement;
use crate::dml::key_text;
use crate::kv_error::is_retry;
use crate::table::{IndexWriter, TableWriter};

/// Pages of a rewrite whose commits are under way while the next one is read: enough to hide a quorum's disks.
const PAGES_UNDER_WAY: usize = 4;

fn locked(mut table: TableDesc) -> TableDesc {
    table.storage_parameters.push((LOCKED.to_owned(), "on".to_owned()));
    table
}

/// ALTER TABLE that looks at rows or moves them.
pub(super) async fn online(
    services: &DdlServices,
    old: &TableRef,
    alteration: Alteration,
    planned: &Arc<PlannedStatement>,
) -> Result<()> {
    let lock = locked(next_version(old));
    services.change(vec![CatalogChange::ReplaceTable(Box::new(lock.clone()))]).await?;
    // From here on the lock must go, whatever happens; a cancelled statement takes it back too.
    let persistent = DdlServices { cancel: Default::default(), ..services.clone() };
    let copied = rows(services, old, &alteration, planned).await;
    match copied {
        Ok(()) => {
            let mut new = alteration.table.clone();
            new.version = lock.version + 1;
            if alteration.rewrites {
                // Nobody may write to the new storage while somebody still reads the old one.
                let step = locked(new.clone());
                persistent.change(vec![CatalogChange::ReplaceTable(Box::new(step))]).await?;
                new.version += 1;
            }
            persistent.change(vec![CatalogChange::ReplaceTable(Box::new(new))]).await?;
            if alteration.rewrites && old.interleave.is_none() {
                persistent.remove_storage_later(old.storage);
            }
            Ok(())
        }
        Err(e) => {
            let mut back = TableDesc::clone(old);
            back.version = lock.version + 1;
            persistent.change(vec![CatalogChange::ReplaceTable(Box::new(back))]).await?;
            if alteration.rewrites {
                persistent.remove_storage_later(alteration.table.storage);
            }
            Err(e)
        }
    }
}

async fn rows(
    services: &DdlServices,
    old: &TableRef,
    alteration: &Alteration,
    planned: &Arc<PlannedStatement>,
) -> Result<()> {
    let is_interleaved = {
        let guard = services.catalog.acquire().await.map_err(crate::kv_error::sql_error)?;
        old.interleave.is_some() || guard.snapshot().children(old.id).next().is_some()
    };
    if alteration.rewrites && is_interleaved {
        return Err(SqlError::unsupported("rewriting the rows of an interleaved table"));
    }
    let statement = services.reading(planned).await?;
    let copy = Copier::new(&statement.catalog, &alteration.table)?;
    let mut pages = RowPages::new(&statement, old, Locking::SHARED)?;
    let mut under_way = FuturesUnordered::new();
    let read = async {
        // A change that only drops or adds indexes asks nothing of the rows.
        while alteration.needs_lock()
            && let Some((_, batch)) = pages.next().await?
        {
            let rows = alteration.map(statement.ctx(), batch).await?;
            if !alteration.rewrites {
                continue;
            }
            let rows: Vec<Vec<Datum>> = (0..rows.len()).map(|r| rows.row(r)).collect();
            under_way.push(copy.commit(services, &statement, rows));
            // Begins the new one, and waits for one where enough are under way.
            while let Some(ended) = if under_way.len() < PAGES_UNDER_WAY {
                under_way.next().now_or_never().flatten()
            } else {
                under_way.next().await
            } {
                ended?;
            }
        }
        Ok(())
    };
    let read = read.await;
    // To the end of each, whatever the others met: nothing is written to a storage that is given up.
    let mut written = Ok(());
    while let Some(ended) = under_way.next().await {
        written = written.and(ended);
    }
    read.and(written)?;
    for id in &alteration.new_indexes {
        index::backfill(services, &alteration.table, *id, planned).await?;
    }
    Ok(())
}

/// The same within the statement's transaction; the old rows go.
pub(super) async fn in_transaction(
    statement: &Statement,
    catalog: &CatalogSnapshot,
    old: &TableRef,
    alteration: &Alteration,
) -> Result<()> {
    let copy = Copier::new(catalog, &alteration.table)?;
    let mut pages = RowPages::new(statement, old, Locking::EXCLUSIVE)?;
    while let Some((keys, batch)) = pages.next().await? {
        let rows = alteration.map(statement.ctx(), batch).await?;
        if !alteration.rewrites {
            continue;
        }
        let removals = keys.into_iter().map(|key| KvWrite { key, value: None }).collect();
        statement.wait(statement.txn.write(removals)).await?;
        let rows: Vec<Vec<Datum>> = (0..rows.len()).map(|r| rows.row(r)).collect();
        let writes = copy.writes(statement, &*statement.txn, &rows).await?;
        statement.wait(statement.txn.write(writes)).await?;
    }
    Ok(())
}

/// Writes rows to the new storage.
struct Copier<'a> {
    table: &'a TableDesc,
    writer: TableWriter,
}

impl<'a> Copier<'a> {
    fn new(catalog: &CatalogSnapshot, table: &'a TableDesc) -> Result<Self> {
        Ok(Copier { table, writer: TableWriter::of_any(catalog, table)? })
    }

    /// The writes of rows, none of which may agree with another on a unique key.
    async fn writes(
        &self,
        statement: &Statement,
        txn: &dyn KvTxn,
        rows: &[Vec<Datum>],
    ) -> Result<Vec<KvWrite>> {
        let mut writes = Vec::with_capacity(rows.len() * (1 + self.writer.secondary.len()));
        let mut keys: HashMap<Key, (usize, &IndexWriter)> = HashMap::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            for index in self.writer.unique_indexes().filter(|i| i.is_constrained(row)) {
                if keys.insert(index.key(row)?, (at, index)).is_some() {
                    return Err(self.duplicated(statement, index, row));
                }
            }
            self.writer.insert(self.writer.primary.key(row)?, row, &mut writes)?;
        }
        let keys: Vec<(Key, (usize, &IndexWriter))> = keys.into_iter().collect();
        let wanted = keys.iter().map(|(k, _)| k.clone()).collect();
        let found = statement.wait(txn.multi_get(wanted, Locking::EXCLUSIVE)).await?;
        if let Some(at) = found.iter().position(Option::is_some) {
            let (row, index) = keys[at].1;
            return Err(self.duplicated(statement, index, &rows[row]));
        }
        Ok(writes)
    }

    #[cold]
    fn duplicated(&self, statement: &Statement, index: &IndexWriter, row: &[Datum]) -> SqlError {
        let message = format!("could not create unique index \"{}\"", index.name);
        SqlError::new(SqlState::UNIQUE_VIOLATION, message)
            .with_detail(format!("{} is duplicated.", key_text(statement, self.table, index, row)))
            .with_table(statement.catalog.schema_name(self.table), self.table.name.clone())
            .with_constraint(index.name.clone())
    }

    /// Commits rows in a transaction of their own.
    async fn commit(
        &self,
        services: &DdlServices,
        statement: &Statement,
        rows: Vec<Vec<Datum>>,
    ) -> Result<()> {
        let mut retry_of = None;
        for attempt in 1.. {
            statement.checkpoint().await?;
            let txn = services.kv.begin(ReadWriteOptions { retry_of });
            let step = async {
                let writes = self.writes(statement, &*txn, &rows).await?;
                statement.wait(txn.write(writes)).await?;
                statement.wait(txn.commit()).await
            };
            match step.await {
                Ok(_) => return Ok(()),
                Err(e) if is_retry(&e) && attempt < ATTEMPTS_MAX => {
                    retry_of = txn.id();
                    txn.rollback().await;
                }
                Err(e) if e.state == SqlState::STATEMENT_COMPLETION_UNKNOWN => {
                    // Whether the rows are there is found out by looking: the next attempt would meet its own rows.
                    if self.is_there(statement, services, &rows).await? {
                        return Ok(());
                    }
                }
                Err(e) => {
                    txn.rollback().await;
                    return Err(e);
                }
            }
        }
        unreachable!("the loop returns")
    }

    async fn is_there(
        &self,
        statement: &Statement,
        services: &DdlServices,
        rows: &[Vec<Datum>],
    ) -> Result<bool> {
        let Some(row) = rows.first() else { return Ok(true) };
        let txn = services.kv.begin(ReadWriteOptions::default());
        let found = statement.wait(txn.get(self.writer.primary.key(row)?, Locking::SHARED)).await?;
        txn.rollback().await;
        Ok(found.is_some())
    }
}
