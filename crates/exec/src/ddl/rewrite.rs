//! Rewrites: every row of a table is read, checked and written to another storage, while nobody writes to the table.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use meridian_catalog::{
    CatalogChange, CatalogSnapshot, IndexId, JobPhase, JobWork, TableDesc, TableId, TableRef,
};
use meridian_datum::{Datum, Result, SqlError, SqlState};
use meridian_kv_api::{KvTxn, KvWrite, Locking, ReadWriteOptions};
use meridian_plan::PlannedStatement;
use meridian_types::Key;

use super::alter::Alteration;
use super::jobs::{Directive, Running, cancelled};
use super::rows::RowPages;
use super::{ATTEMPTS_MAX, DdlServices, LOCKED, backfill, next_version};
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
    let mut lock = locked(next_version(old));
    // What is undone leaves entries for a while, so the numbers of its indexes are not used again.
    lock.next_index = alteration.table.next_index;
    let phase = if alteration.rewrites { JobPhase::Rewrite } else { JobPhase::Validation };
    let work = JobWork::Rewrite {
        old: old.storage,
        new: alteration.table.storage,
        first_index: IndexId(old.next_index),
    };
    let job = services.new_job(work, phase, old).await?;
    let id = job.id;
    let set = CatalogChange::SetJob(Box::new(job.clone()));
    let at = services.change(vec![CatalogChange::ReplaceTable(Box::new(lock.clone())), set]).await?;
    let (runner, old, planned) = (services.detached(), old.clone(), planned.clone());
    // Ends with the job, or with its lease.
    let task = tokio::spawn(async move {
        let running = Running::begun(&runner, job, at);
        running.with_lease(run(&runner, &running, &old, &lock, &alteration, &planned)).await
    });
    services.follow(id, task).await
}

/// Brings a rewrite to its end, done or undone.
async fn run(
    services: &DdlServices,
    running: &Running,
    old: &TableRef,
    lock: &TableDesc,
    alteration: &Alteration,
    planned: &Arc<PlannedStatement>,
) -> Result<Directive> {
    let error = match rows(services, running, old, alteration, planned).await {
        Ok(Directive::Go) => None,
        // What is locked does not rest.
        Ok(Directive::Cancel | Directive::Pause) => Some(cancelled()),
        Err(e) => Some(e),
    };
    let mut next = if error.is_none() { alteration.table.clone() } else { TableDesc::clone(old) };
    next.version = lock.version + 1;
    next.next_index = lock.next_index;
    let mut changes = vec![CatalogChange::ReplaceTable(Box::new(next)), running.over(error.as_ref())?];
    if alteration.rewrites {
        let unused = if error.is_none() { old.storage } else { alteration.table.storage };
        changes.push(services.clean_later(&running.job(), unused, None).await?);
    } else {
        let unused = if error.is_none() { &alteration.dropped_indexes } else { &alteration.new_indexes };
        for id in unused {
            changes.push(services.clean_later(&running.job(), old.storage, Some(*id)).await?);
        }
    }
    services.change(changes).await?;
    error.map_or(Ok(Directive::Go), Err)
}

/// Ends a rewrite whose node has died. The table is as it was before; the storage or the entries that the dead node has
/// written are removed.
pub(super) async fn undo(
    services: &DdlServices,
    running: &Running,
    old: TableId,
    new: TableId,
    first_index: IndexId,
) -> Result<Directive> {
    let failure = if running.directive() == Directive::Cancel {
        cancelled()
    } else {
        SqlError::new(SqlState::SYSTEM_ERROR, "the node that ran the schema change was lost")
    };
    loop {
        let mut changes = vec![running.over(Some(&failure))?];
        if old != new {
            changes.push(services.clean_later(&running.job(), new, None).await?);
        }
        // A table that was dropped meanwhile takes its storage along.
        if let Some(desc) = services.current(running.table()).await? {
            assert!(desc.storage == old, "the storage of a table changes together with the end of the job");
            let mut next = next_version(&desc);
            next.storage_parameters.retain(|(name, _)| name != LOCKED);
            changes.push(CatalogChange::ReplaceTable(Box::new(next)));
            let own = (first_index.0..desc.next_index).filter(|_| old == new).map(IndexId);
            for id in own.filter(|id| desc.index(*id).is_none()) {
                changes.push(services.clean_later(&running.job(), old, Some(id)).await?);
            }
        }
        match services.change(changes).await {
            Ok(_) => return Err(failure),
            Err(e) if running.may_retry(&e).await? => {}
            Err(e) => return Err(e),
        }
    }
}

async fn rows(
    services: &DdlServices,
    running: &Running,
    old: &TableRef,
    alteration: &Alteration,
    planned: &Arc<PlannedStatement>,
) -> Result<Directive> {
    let statement = services.reading(planned).await?;
    check_apart(&statement.catalog, old, alteration)?;
    let copy = Copier::new(&statement.catalog, &alteration.table)?;
    let mut pages = RowPages::new(&statement, old, Locking::SHARED)?;
    let mut under_way = FuturesUnordered::new();
    let read = async {
        // A change that only drops or adds indexes asks nothing of the rows.
        while alteration.needs_lock()
            && let Some((keys, batch)) = pages.next().await?
        {
            if running.directive() != Directive::Go {
                return Ok(running.directive());
            }
            running.progress(keys.len() as u64).await;
            let rows = alteration.map(statement.ctx(), batch).await?;
            if !alteration.rewrites {
                continue;
            }
            let rows: Vec<Vec<Datum>> = (0..rows.len()).map(|r| rows.row(r)).collect();
            under_way.push(copy.commit(services, running, &statement, rows));
            // Begins the new one, and waits for one where enough are under way.
            while let Some(ended) = if under_way.len() < PAGES_UNDER_WAY {
                under_way.next().now_or_never().flatten()
            } else {
                under_way.next().await
            } {
                ended?;
            }
        }
        Ok(Directive::Go)
    };
    let read = read.await;
    // To the end of each, whatever the others met: nothing is written to a storage that is given up.
    let mut written = Ok(());
    while let Some(ended) = under_way.next().await {
        written = written.and(ended);
    }
    written?;
    match read? {
        Directive::Go => {}
        stopped => return Ok(stopped),
    }
    let table = &alteration.table;
    if alteration.new_indexes.is_empty() {
        return Ok(Directive::Go);
    }
    let spans = backfill::spans(services, &statement.catalog, table).await?;
    running.begin_phase(JobPhase::Backfill, None, Vec::new());
    let ids = &alteration.new_indexes;
    match backfill::fill(services, &statement.catalog, running, table, ids, spans).await? {
        Directive::Go => {}
        stopped => return Ok(stopped),
    }
    running.begin_phase(JobPhase::Validation, None, Vec::new());
    let statement = services.reading(planned).await?;
    backfill::validate(running, &statement, table, &alteration.new_indexes).await
}

/// A storage moves by itself, not together with others that lie in it or around it.
fn check_apart(catalog: &CatalogSnapshot, old: &TableDesc, alteration: &Alteration) -> Result<()> {
    let is_interleaved = old.interleave.is_some() || catalog.children(old.id).next().is_some();
    if alteration.rewrites && is_interleaved {
        return Err(SqlError::unsupported("rewriting the rows of an interleaved table"));
    }
    Ok(())
}

/// The same within the statement's transaction. The rows are locked, all of them and the gaps between, so that none is
/// written on the old schema any more. The old storage stays as it is for those who read below the activation, and is
/// removed by a job.
pub(super) async fn in_transaction(
    statement: &Statement,
    catalog: &CatalogSnapshot,
    old: &TableRef,
    alteration: &Alteration,
) -> Result<()> {
    check_apart(&statement.catalog, old, alteration)?;
    let copy = Copier::new(catalog, &alteration.table)?;
    let mut pages = RowPages::new(statement, old, Locking::SHARED)?;
    while let Some((_, batch)) = pages.next().await? {
        let rows = alteration.map(statement.ctx(), batch).await?;
        if !alteration.rewrites {
            continue;
        }
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
            for index in self.writer.unique_indexes() {
                if let Some(key) = index.constrained_key(row)?
                    && keys.insert(key, (at, index)).is_some()
                {
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
        running: &Running,
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
                txn.limit_commit_timestamp(running.lease_end());
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
