//! CREATE INDEX and DROP INDEX.

use std::collections::HashMap;
use std::sync::Arc;

use meridian_catalog::{
    CatalogChange, CatalogSnapshot, ColumnId, IndexId, IndexState, JobPhase, JobWork, TableDesc, TableRef,
};
use meridian_datum::{Datum, Result, SqlError, SqlState};
use meridian_kv_api::{KvTxn, KvWrite, Locking};
use meridian_plan::ddl::NewIndex;
use meridian_types::Key;

use super::backfill;
use super::jobs::{Directive, Running, cancelled, is_outage};
use super::rows::RowPages;
use super::{DdlServices, create, next_version};
use crate::context::Statement;
use crate::dml::key_text;
use crate::table::{IndexReader, IndexWriter};

/// Adds an index to a table's next version.
async fn add(
    services: &DdlServices,
    desc: &mut TableDesc,
    new: &NewIndex,
    state: IndexState,
) -> Result<IndexId> {
    let mut ids: Vec<_> = desc.columns.iter().map(|c| c.id).collect();
    for _ in &new.expressions {
        ids.push(ColumnId(desc.next_column));
        desc.next_column += 1;
    }
    let id = IndexId(desc.next_index);
    desc.next_index += 1;
    desc.indexes.push(create::index(services, new, id, &ids, state).await?);
    Ok(id)
}

/// A table with more indexes that are readable at once: their entries are written in the same transaction.
pub(super) async fn add_public(
    services: &DdlServices,
    table: &TableDesc,
    news: &[&NewIndex],
) -> Result<(TableDesc, Vec<IndexId>)> {
    let mut desc = next_version(table);
    let mut ids = Vec::with_capacity(news.len());
    for new in news {
        ids.push(add(services, &mut desc, new, IndexState::Public).await?);
    }
    Ok((desc, ids))
}

/// CREATE INDEX while the table is in use; several at once are one job.
pub(super) async fn create(services: &DdlServices, table: &TableRef, news: &[&NewIndex]) -> Result<()> {
    super::check_writable(table)?;
    let mut desc = next_version(table);
    let first = IndexId(desc.next_index);
    for new in news {
        add(services, &mut desc, new, IndexState::WriteOnly).await?;
    }
    let work = JobWork::AddIndexes { first, count: desc.next_index - first.0 };
    let job = services.new_job(work, JobPhase::Waiting, table).await?;
    let set = CatalogChange::SetJob(Box::new(job.clone()));
    let at = services.change(vec![CatalogChange::ReplaceTable(Box::new(desc)), set]).await?;
    let (id, runner) = (job.id, services.detached());
    // Ends with the job, or with its lease.
    let task = tokio::spawn(async move { runner.go_on(&Running::begun(&runner, job, at)).await });
    services.follow(id, task).await
}

/// Whether the table still has the indexes that are being made.
pub(super) fn has_all(table: &TableDesc, ids: &[IndexId]) -> bool {
    ids.iter().all(|id| table.index(*id).is_some())
}

/// Brings new indexes to their end, readable or gone.
pub(super) async fn run(services: &DdlServices, running: &Running, ids: &[IndexId]) -> Result<Directive> {
    let filled = match running.directive() {
        Directive::Cancel => Ok(Directive::Cancel),
        Directive::Go | Directive::Pause => fill(services, running, ids).await,
    };
    let error = match filled {
        Ok(Directive::Go) => None,
        Ok(Directive::Cancel) => Some(cancelled()),
        Ok(Directive::Pause) => return Ok(Directive::Pause),
        // The lease runs out, and somebody goes on.
        Err(e) if is_outage(&e) => return Err(e),
        Err(e) => Some(e),
    };
    loop {
        let desc = services.current(running.table()).await?;
        let Some(desc) = desc.filter(|t| has_all(t, ids)) else { return running.abandon().await };
        let mut next = next_version(&desc);
        let mut changes = vec![running.over(error.as_ref())?];
        if error.is_none() {
            let made = next.indexes.iter_mut().filter(|i| ids.contains(&i.id));
            made.for_each(|i| i.state = IndexState::Public);
        } else {
            next.indexes.retain(|i| !ids.contains(&i.id));
            for id in ids {
                changes.push(services.clean_later(&running.job(), desc.storage, Some(*id)).await?);
            }
        }
        changes.push(CatalogChange::ReplaceTable(Box::new(next)));
        match services.change(changes).await {
            Ok(_) => return error.map_or(Ok(Directive::Go), Err),
            Err(e) if running.may_retry(&e).await? => {}
            Err(e) => return Err(e),
        }
    }
}

/// Tables without some of their indexes, and the removal of the entries. From the moment on at which the change takes
/// effect nobody reads the indexes or writes to them, so one step is enough.
pub(super) async fn remove(
    services: &DdlServices,
    indexes: &[(TableRef, IndexId)],
) -> Result<Vec<CatalogChange>> {
    let mut tables: Vec<TableDesc> = Vec::new();
    let mut changes = Vec::with_capacity(2 * indexes.len());
    for (table, id) in indexes {
        changes.push(services.clean_table_later(table, Some(*id)).await?);
        let at = tables.iter().position(|t| t.id == table.id).unwrap_or_else(|| {
            tables.push(next_version(table));
            tables.len() - 1
        });
        tables[at].indexes.retain(|i| i.id != *id);
    }
    changes.extend(tables.into_iter().map(|table| CatalogChange::ReplaceTable(Box::new(table))));
    Ok(changes)
}

/// What writes the entries of rows within a transaction.
struct Backfill<'a> {
    table: &'a TableDesc,
    writer: IndexWriter,
    /// Reads the primary key back from an entry.
    entry_key: IndexReader,
}

impl<'a> Backfill<'a> {
    fn new(catalog: &CatalogSnapshot, table: &'a TableDesc, id: IndexId) -> Result<Self> {
        let index =
            table.index(id).ok_or_else(|| SqlError::internal("an index was made and is not there"))?;
        Ok(Backfill {
            table,
            writer: IndexWriter::new(catalog, table, index)?,
            entry_key: IndexReader::new(catalog, table, index, &table.key_ordinals())?,
        })
    }

    /// The entries of rows; fails when two rows agree on the key of a unique index, here or with what is there.
    async fn entries(
        &self,
        statement: &Statement,
        txn: &dyn KvTxn,
        rows: &[Vec<Datum>],
    ) -> Result<Vec<KvWrite>> {
        let mut writes = Vec::with_capacity(rows.len());
        let mut constrained: HashMap<Key, usize> = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            let Some(entry) = self.writer.entry(row)? else { continue };
            if self.writer.is_constrained(row)? && constrained.insert(entry.key.clone(), at).is_some() {
                return Err(self.duplicated(statement, row));
            }
            writes.push(entry);
        }
        if !constrained.is_empty() {
            let wanted: Vec<(Key, usize)> = constrained.into_iter().collect();
            let keys = wanted.iter().map(|(k, _)| k.clone()).collect();
            let found = statement.wait(txn.multi_get(keys, Locking::EXCLUSIVE)).await?;
            for ((key, at), value) in wanted.iter().zip(found) {
                let Some(value) = value else { continue };
                // A live writer may have been here already: the row's own entry is no conflict.
                let owner = self.entry_key.read_row(key.as_bytes(), &value)?;
                let own: Vec<Datum> =
                    self.table.key_ordinals().iter().map(|&o| rows[*at][o].clone()).collect();
                if owner != own {
                    return Err(self.duplicated(statement, &rows[*at]));
                }
            }
        }
        Ok(writes)
    }

    #[cold]
    fn duplicated(&self, statement: &Statement, row: &[Datum]) -> SqlError {
        let message = format!("could not create unique index \"{}\"", self.writer.name);
        SqlError::new(SqlState::UNIQUE_VIOLATION, message)
            .with_detail(format!("{} is duplicated.", key_text(statement, self.table, &self.writer, row)))
            .with_table(statement.catalog.schema_name(self.table), self.table.name.clone())
            .with_constraint(self.writer.name.clone())
    }
}

/// Writes the entries of all rows while the table is in use, and compares them where that is called for, from where the
/// job stands.
pub(super) async fn fill(services: &DdlServices, running: &Running, ids: &[IndexId]) -> Result<Directive> {
    let planned = Arc::new(super::placeholder());
    if running.job().phase != JobPhase::Validation {
        let statement = services.reading(&planned).await?;
        let table = services.current(running.table()).await?;
        let Some(table) = table.filter(|t| has_all(t, ids)) else { return running.abandon().await };
        if running.job().phase == JobPhase::Waiting {
            let spans = backfill::spans(services, &statement.catalog, &table).await?;
            let total = backfill::count(services, &statement, &table, &spans).await?;
            running.begin_phase(JobPhase::Backfill, Some(total), spans);
        }
        let left = running.job().rest;
        let filled = backfill::fill(services, &statement.catalog, running, &table, ids, left).await?;
        let is_unique = |id: &IndexId| table.index(*id).is_some_and(|index| index.unique);
        if filled != Directive::Go || !ids.iter().any(is_unique) {
            return Ok(filled);
        }
        backfill::settle_writers(services, running, ids).await?;
    }
    let statement = services.reading(&planned).await?;
    let table = services.current(running.table()).await?;
    let Some(table) = table.filter(|t| has_all(t, ids)) else { return running.abandon().await };
    backfill::validate(running, &statement, &table, ids).await
}

/// Writes the entries of all rows within the statement's transaction. The rows are locked, shared, and the gaps between
/// them: whoever writes one without its entry needs its primary key exclusively, and finds no timestamp below the
/// activation.
pub(super) async fn backfill_in_transaction(
    statement: &Statement,
    catalog: &CatalogSnapshot,
    table: &TableDesc,
    ids: &[IndexId],
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let works = ids.iter().map(|id| Backfill::new(catalog, table, *id)).collect::<Result<Vec<_>>>()?;
    let mut pages = RowPages::new(statement, table, Locking::SHARED)?;
    while let Some((_, batch)) = pages.next().await? {
        let rows: Vec<Vec<Datum>> = (0..batch.len()).map(|r| batch.row(r)).collect();
        for work in &works {
            let writes = work.entries(statement, &*statement.txn, &rows).await?;
            statement.wait(statement.txn.write(writes)).await?;
        }
    }
    Ok(())
}
