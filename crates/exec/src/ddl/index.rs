//! CREATE INDEX and DROP INDEX.

use std::collections::HashMap;
use std::sync::Arc;

use meridian_catalog::{CatalogChange, CatalogSnapshot, IndexId, IndexState, TableDesc, TableRef};
use meridian_datum::{Datum, Result, SqlError, SqlState};
use meridian_keys as keys;
use meridian_kv_api::{KvTxn, KvWrite, Locking, ReadWriteOptions, ScanRequest};
use meridian_plan::PlannedStatement;
use meridian_plan::ddl::NewIndex;
use meridian_types::{Key, Span};

use super::rows::{RowPages, remove_span};
use super::{ATTEMPTS_MAX, DdlServices, create, next_version};
use crate::context::Statement;
use crate::dml::key_text;
use crate::kv_error::{is_retry, sql_error};
use crate::table::{Decoded, IndexReader, IndexWriter, Prefix};

/// Rows whose entries one transaction of a backfill writes. Its locks are short, and writers wait for no more.
const BACKFILL_ROWS: usize = 1000;

/// A table with an index more.
async fn add(
    services: &DdlServices,
    table: &TableDesc,
    new: &NewIndex,
    state: IndexState,
) -> Result<TableDesc> {
    let mut desc = next_version(table);
    let ids: Vec<_> = desc.columns.iter().map(|c| c.id).collect();
    let id = IndexId(desc.next_index);
    desc.next_index += 1;
    desc.indexes.push(create::index(services, new, id, &ids, state).await?);
    Ok(desc)
}

/// A table with an index more that is readable at once: its entries are written in the same transaction.
pub(super) async fn add_public(
    services: &DdlServices,
    table: &TableDesc,
    new: &NewIndex,
) -> Result<TableDesc> {
    add(services, table, new, IndexState::Public).await
}

/// CREATE INDEX while the table is in use.
pub(super) async fn create(
    services: &DdlServices,
    table: &TableRef,
    new: &NewIndex,
    planned: &Arc<PlannedStatement>,
) -> Result<()> {
    super::check_writable(table)?;
    let desc = add(services, table, new, IndexState::WriteOnly).await?;
    let id = desc.indexes.last().expect("an index was added").id;
    services.change(vec![CatalogChange::ReplaceTable(Box::new(desc.clone()))]).await?;
    let filled = backfill(services, &desc, id, planned).await;
    let mut next = next_version(&desc);
    match filled {
        Ok(()) => {
            next.indexes.iter_mut().filter(|i| i.id == id).for_each(|i| i.state = IndexState::Public);
            services.change(vec![CatalogChange::ReplaceTable(Box::new(next))]).await.map(drop)
        }
        Err(e) => {
            next.indexes.retain(|i| i.id != id);
            // The statement may be cancelled; what it began is taken back all the same.
            let services = DdlServices { cancel: Default::default(), ..services.clone() };
            services.change(vec![CatalogChange::ReplaceTable(Box::new(next))]).await?;
            remove_entries_later(&services, &desc, id);
            Err(e)
        }
    }
}

/// DROP INDEX while the table is in use: first nobody reads it, then nobody writes it.
pub(super) async fn remove(services: &DdlServices, table: &TableRef, id: IndexId) -> Result<()> {
    let guard = services.catalog.acquire().await.map_err(sql_error)?;
    // Several indexes of one table may go in one statement, so the descriptor is taken as it is by then.
    let current = guard.snapshot().table(table.id).cloned().unwrap_or_else(|| table.clone());
    drop(guard);
    let mut hidden = next_version(&current);
    hidden.indexes.iter_mut().filter(|i| i.id == id).for_each(|i| i.state = IndexState::WriteOnly);
    services.change(vec![CatalogChange::ReplaceTable(Box::new(hidden.clone()))]).await?;
    let mut gone = next_version(&hidden);
    gone.indexes.retain(|i| i.id != id);
    services.change(vec![CatalogChange::ReplaceTable(Box::new(gone))]).await?;
    remove_entries_later(services, &current, id);
    Ok(())
}

fn remove_entries_later(services: &DdlServices, table: &TableDesc, id: IndexId) {
    let kv = services.kv.clone();
    let span = keys::index_span(keys::TableId::new(u64::from(table.storage.0)), keys::IndexId::new(id.0));
    tokio::spawn(async move {
        if let Err(error) = remove_span(&*kv, span).await {
            tracing::warn!(%error, "entries of a dropped index could not be removed");
        }
    });
}

/// The writer and reader of a backfill.
struct Backfill<'a> {
    table: &'a TableDesc,
    writer: IndexWriter,
    reader: IndexReader,
    /// Reads the primary key back from an entry.
    entry_key: IndexReader,
}

impl<'a> Backfill<'a> {
    fn new(catalog: &CatalogSnapshot, table: &'a TableDesc, id: IndexId) -> Result<Self> {
        let index =
            table.index(id).ok_or_else(|| SqlError::internal("an index was made and is not there"))?;
        let all: Vec<usize> = (0..table.columns.len()).collect();
        Ok(Backfill {
            table,
            writer: IndexWriter::new(catalog, table, index)?,
            reader: IndexReader::new(catalog, table, &table.primary, &all)?,
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
            let key = self.writer.key(row)?;
            if self.writer.is_constrained(row) && constrained.insert(key.clone(), at).is_some() {
                return Err(self.duplicated(statement, row));
            }
            writes.push(KvWrite { key, value: Some(self.writer.value(row)) });
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

    /// Writes the entries of one page in a transaction of its own: the page is read again under locks, so that no entry
    /// of a row that was changed or removed meanwhile is written. Returns what is left of the span.
    async fn page(&self, services: &DdlServices, statement: &Statement, span: Span) -> Result<Option<Span>> {
        let mut retry_of = None;
        for attempt in 1.. {
            statement.checkpoint().await?;
            let txn = services.kv.begin(ReadWriteOptions { retry_of });
            let step = async {
                let limit = BACKFILL_ROWS;
                let locking = Locking::SHARED;
                let request = ScanRequest { span: span.clone(), reverse: false, limit, locking };
                let page = statement.wait(txn.scan(request)).await?;
                let mut batch = self.reader.batch(page.rows.len());
                for (key, value) in &page.rows {
                    let _: Decoded = self.reader.read(key.as_bytes(), value, &mut batch)?;
                }
                let rows: Vec<Vec<Datum>> = (0..batch.len()).map(|r| batch.row(r)).collect();
                let writes = self.entries(statement, &*txn, &rows).await?;
                statement.wait(txn.write(writes)).await?;
                statement.wait(txn.commit()).await?;
                Ok(page.resume)
            };
            match step.await {
                Err(e) if is_retry(&e) && attempt < ATTEMPTS_MAX => {
                    retry_of = txn.id();
                    txn.rollback().await;
                }
                Err(e) => {
                    txn.rollback().await;
                    return Err(e);
                }
                Ok(rest) => return Ok(rest),
            }
        }
        unreachable!("the loop returns")
    }
}

/// Writes the entries of all rows while the table is in use.
pub(super) async fn backfill(
    services: &DdlServices,
    table: &TableDesc,
    id: IndexId,
    planned: &Arc<PlannedStatement>,
) -> Result<()> {
    let statement = services.reading(planned).await?;
    let work = Backfill::new(&statement.catalog, table, id)?;
    let prefix = Prefix::of(&statement.catalog, table, &table.primary)?;
    let mut rest = Some(Span::prefix(&prefix.start().finish()));
    while let Some(span) = rest {
        rest = work.page(services, &statement, span).await?;
    }
    Ok(())
}

/// Writes the entries of all rows within the statement's transaction.
pub(super) async fn backfill_in_transaction(
    statement: &Statement,
    catalog: &CatalogSnapshot,
    table: &TableDesc,
    id: IndexId,
) -> Result<()> {
    let work = Backfill::new(catalog, table, id)?;
    let mut pages = RowPages::new(statement, table, Locking::EXCLUSIVE)?;
    while let Some((_, batch)) = pages.next().await? {
        let rows: Vec<Vec<Datum>> = (0..batch.len()).map(|r| batch.row(r)).collect();
        let writes = work.entries(statement, &*statement.txn, &rows).await?;
        statement.wait(statement.txn.write(writes)).await?;
    }
    Ok(())
}
