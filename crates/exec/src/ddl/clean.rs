//! Removing rows that nobody can reach any more: of dropped tables and indexes, of replaced storages, of changes that
//! were undone.

use meridian_catalog::{CatalogChange, IndexId, JobPhase, TableId};
use meridian_datum::Result;
use meridian_keys as keys;
use meridian_kv_api::{Locking, ReadBound, ReadOnlyOptions, ScanRequest};
use meridian_types::Span;

use super::DdlServices;
use super::jobs::{Directive, Running};
use super::rows::{RowPages, commit_writes, removals, table_span};
use crate::kv_error::sql_error;

/// How often it is looked whether the rows are out of use.
const LOOK: std::time::Duration = std::time::Duration::from_millis(50);
/// Rows removed by one transaction.
const REMOVE_ROWS: usize = 1024;

/// The keys of one index of a storage.
fn index_span(storage: TableId, index: IndexId) -> Span {
    keys::index_span(keys::TableId::new(u64::from(storage.0)), keys::IndexId::new(index.0))
}

/// Whether what is to be removed is still in use. The job's record is committed a little before the change that it belongs
/// to takes effect; transactions below that time read the old rows.
async fn is_in_use(
    services: &DdlServices,
    running: &Running,
    storage: TableId,
    index: Option<IndexId>,
) -> Result<bool> {
    let table = services.current(running.table()).await?.filter(|table| table.storage == storage);
    Ok(table.is_some_and(|table| index.is_none_or(|index| table.index(index).is_some())))
}

/// Runs a job that removes a storage, or one index of it.
pub(super) async fn run(
    services: &DdlServices,
    running: &Running,
    storage: TableId,
    index: Option<IndexId>,
    forget: bool,
) -> Result<Directive> {
    let dropped = running.table().filter(|_| forget);
    let span = index.map_or_else(|| table_span(storage), |index| index_span(storage, index));
    running.begin_phase(JobPhase::Removal, None, Vec::new());
    while is_in_use(services, running, storage, index).await? {
        if running.directive() == Directive::Pause {
            return Ok(Directive::Pause);
        }
        tokio::time::sleep(LOOK).await;
    }
    if let Some(id) = dropped {
        let guard = services.catalog.acquire().await.map_err(sql_error)?;
        let snapshot = guard.snapshot();
        // A parent that is dropped too takes them along.
        let lies_apart = |t: &&meridian_catalog::TableRef| {
            t.interleave.is_some_and(|i| snapshot.table(i.parent).is_some())
        };
        let table = snapshot.dropped_table(id).filter(lies_apart).cloned();
        drop(guard);
        if let Some(table) = table
            && remove_interleaved(services, running, &table).await? == Directive::Pause
        {
            return Ok(Directive::Pause);
        }
    }
    if remove_span(services, running, span).await? == Directive::Pause {
        return Ok(Directive::Pause);
    }
    let mut changes: Vec<CatalogChange> = dropped.map(CatalogChange::RemoveTable).into_iter().collect();
    if changes.is_empty() {
        running.end(None).await?;
    } else {
        changes.push(running.over(None)?);
        services.change(changes).await?;
    }
    Ok(Directive::Go)
}

/// Removes everything in a span, in many small transactions. It is in no hurry, and rests as long as it works, so that
/// whoever waits for an answer has the machine at least half of the time.
async fn remove_span(services: &DdlServices, running: &Running, span: Span) -> Result<Directive> {
    let mut rest = Some(span);
    while let Some(span) = rest {
        if running.directive() == Directive::Pause {
            return Ok(Directive::Pause);
        }
        let begun = tokio::time::Instant::now();
        // At a timestamp of its own it sees whatever has committed below, in flight or not.
        let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false };
        let read = services.kv.begin_read_only(options);
        let request = ScanRequest { span, reverse: false, limit: REMOVE_ROWS, locking: Locking::SHARED };
        let page = read.scan(request).await.map_err(sql_error)?;
        let removed = page.rows.len() as u64;
        if removed > 0 {
            commit_writes(&*services.kv, removals(page.rows)).await.map_err(sql_error)?;
        }
        running.progress(removed).await;
        rest = page.resume;
        if rest.is_some() {
            tokio::time::sleep(begun.elapsed()).await;
        }
    }
    Ok(Directive::Go)
}

/// Removes the rows of a dropped table that lies in its parent's range, one by one. Its indexes have a range of their own.
async fn remove_interleaved(
    services: &DdlServices,
    running: &Running,
    table: &meridian_catalog::TableDesc,
) -> Result<Directive> {
    let planned = std::sync::Arc::new(super::placeholder());
    let statement = services.reading(&planned).await?;
    let mut pages = RowPages::new(&statement, table, Locking::SHARED)?;
    while let Some((keys, _)) = pages.next().await? {
        if running.directive() == Directive::Pause {
            return Ok(Directive::Pause);
        }
        let removed = keys.len() as u64;
        let writes = keys.into_iter().map(|key| meridian_kv_api::KvWrite { key, value: None }).collect();
        commit_writes(&*services.kv, writes).await.map_err(sql_error)?;
        running.progress(removed).await;
    }
    Ok(Directive::Go)
}
