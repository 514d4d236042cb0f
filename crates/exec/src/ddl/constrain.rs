//! ALTER TABLE that asks something of the rows that are there, while they are read and written.
//!
//! ```text
//!              T1                                                     T2
//!   before ────┼── enforced: writers heed what is new ────────────────┼── after
//!              │   rows are checked, new indexes filled and compared  └── or before
//! ```
//! Whoever commits above `T1` was planned on the version that enforces the new constraints (docs/decisions/0014). So a
//! version of a row that violates one is older than `T1`, and whoever looks at each key once, at any snapshot above `T1`,
//! meets it or its successor. Snapshots need not be the same for all rows: a build may take longer than old versions are
//! kept, and another node may go on where this one died. Nothing relies on a constraint before `T2`.
//!
//! Before `T1` a page of rows is looked at, so that a mistake that shows there disturbs no writer.

use std::sync::Arc;

use meridian_catalog::{CatalogChange, Job, JobPhase, JobWork, TableRef, Transition};
use meridian_datum::{Batch, Result, SqlError};
use meridian_kv_api::{Locking, ScanRequest};
use meridian_plan::{Expr, PlanContext, PlannedStatement, plan_check};
use meridian_types::Span;
use std::time::Duration;

use super::alter::{Alteration, has_nulls, is_violated};
use super::jobs::{Directive, Running, cancelled, is_outage};
use super::rows::RowPages;
use super::{DdlServices, backfill, index};
use crate::context::Statement;
use crate::table::{Decoded, IndexReader};

/// Rows that are read at a time: about a millisecond's work.
const PAGE_ROWS: usize = 1_024;
/// How long a snapshot is read from.
const SNAPSHOT_AGE: Duration = Duration::from_secs(1);

/// Begins the change, and waits for its job.
pub(super) async fn online(
    services: &DdlServices,
    old: &TableRef,
    alteration: Alteration,
    planned: &Arc<PlannedStatement>,
) -> Result<()> {
    look_at_first(&services.reading(planned).await?, old, &alteration).await?;
    let transition = Transition { before: old.as_ref().clone(), after: alteration.table };
    let enforced = CatalogChange::ReplaceTable(Box::new(transition.enforced()));
    let job = services.new_job(JobWork::Alter, JobPhase::Waiting, old).await?;
    let job = Job { transition: Some(Box::new(transition)), ..job };
    let set = CatalogChange::SetJob(Box::new(job.clone()));
    let at = services.change(vec![enforced, set]).await?;
    let (id, runner) = (job.id, services.detached());
    // Ends with the job, or with its lease.
    let task = tokio::spawn(async move { runner.go_on(&Running::begun(&runner, job, at)).await });
    services.follow(id, task).await
}

async fn look_at_first(statement: &Statement, old: &TableRef, alteration: &Alteration) -> Result<()> {
    if let Some((_, batch)) = RowPages::new(statement, old, Locking::SHARED)?.next().await? {
        alteration.map(statement.ctx(), batch).await?;
    }
    Ok(())
}

/// Brings the change to its end, made or undone.
pub(super) async fn run(services: &DdlServices, running: &Running) -> Result<Directive> {
    let transition = running.job().transition;
    let transition = transition.ok_or_else(|| SqlError::internal("a change of a table has no aim"))?;
    let proven = match running.directive() {
        Directive::Cancel => Ok(Directive::Cancel),
        Directive::Go | Directive::Pause => prove(services, running, &transition).await,
    };
    let error = match proven {
        Ok(Directive::Go) => None,
        Ok(Directive::Cancel) => Some(cancelled()),
        Ok(Directive::Pause) => return Ok(Directive::Pause),
        // The lease runs out, and somebody goes on.
        Err(e) if is_outage(&e) => return Err(e),
        Err(e) => Some(e),
    };
    let unused = if error.is_none() { transition.dropped_indexes() } else { transition.new_indexes() };
    loop {
        let Some(table) = services.current(running.table()).await? else { return running.abandon().await };
        let end = transition.end(&table, error.is_none());
        let mut changes = vec![CatalogChange::ReplaceTable(Box::new(end)), running.over(error.as_ref())?];
        for id in &unused {
            changes.push(services.clean_later(&running.job(), table.storage, Some(*id)).await?);
        }
        match services.change(changes).await {
            Ok(_) => return error.map_or(Ok(Directive::Go), Err),
            Err(e) if running.may_retry(&e).await? => {}
            Err(e) => return Err(e),
        }
    }
}

/// Finds out whether what is enforced holds for all rows. Goes on from where the job stands; between the constraints and
/// the indexes it is `Waiting` again, and whoever finds it so looks at the rows once more.
async fn prove(services: &DdlServices, running: &Running, transition: &Transition) -> Result<Directive> {
    let new_indexes = transition.new_indexes();
    if matches!(running.job().phase, JobPhase::Waiting | JobPhase::Constraints) {
        let checked = check_rows(services, running, transition).await?;
        if checked != Directive::Go || new_indexes.is_empty() {
            return Ok(checked);
        }
        running.begin_phase(JobPhase::Waiting, None, Vec::new());
    }
    index::fill(services, running, &new_indexes).await
}

/// Looks at every row that the job has not looked at yet.
async fn check_rows(services: &DdlServices, running: &Running, transition: &Transition) -> Result<Directive> {
    let planned = Arc::new(super::placeholder());
    let mut statement = services.reading(&planned).await?;
    let Some(table) = services.current(running.table()).await? else { return running.abandon().await };
    let conditions = Conditions::new(services, &statement, &table, transition)?;
    if conditions.is_empty() {
        return Ok(running.directive());
    }
    if running.job().phase == JobPhase::Waiting {
        let spans = backfill::spans(services, &statement.catalog, &table).await?;
        let total = statement.catalog.statistics(table.id).map(|known| known.rows as u64);
        running.begin_phase(JobPhase::Constraints, total, spans);
    }
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let reader = IndexReader::new(&statement.catalog, &table, &table.primary, &all)?;
    let mut since = tokio::time::Instant::now();
    let mut rest = running.job().rest;
    while !rest.is_empty() {
        if running.directive() != Directive::Go {
            return Ok(running.directive());
        }
        if since.elapsed() > SNAPSHOT_AGE {
            statement = services.reading(&planned).await?;
            since = tokio::time::Instant::now();
        }
        let (batch, left) = read(&statement, &table, &reader, rest[0].clone()).await?;
        conditions.check(&statement, &batch)?;
        match left {
            Some(left) => rest[0] = left,
            None => drop(rest.remove(0)),
        }
        running.advance(batch.len() as u64, rest.clone());
        services.pace.rest(Duration::ZERO).await;
    }
    Ok(running.directive())
}

/// A page of rows, and what is left of the span behind it.
async fn read(
    statement: &Statement,
    table: &TableRef,
    reader: &IndexReader,
    span: Span,
) -> Result<(Batch, Option<Span>)> {
    statement.checkpoint().await?;
    let request = ScanRequest { span, reverse: false, limit: PAGE_ROWS, locking: Locking::SHARED };
    let page = statement.wait(statement.txn.scan(request)).await?;
    let at = statement.txn.read_timestamp().expect("a snapshot that was read has a timestamp");
    assert!(at >= table.valid_from, "rows are looked at above the time from which on writers check theirs");
    let mut batch = reader.batch(page.rows.len());
    for (key, value) in &page.rows {
        let _: Decoded = reader.read(key.as_bytes(), value, &mut batch)?;
    }
    Ok((batch, page.resume))
}

/// What rows must meet.
struct Conditions<'a> {
    table: &'a TableRef,
    /// Columns that must not be NULL.
    not_null: Vec<usize>,
    checks: Vec<(String, Expr)>,
}

impl<'a> Conditions<'a> {
    fn new(
        services: &DdlServices,
        statement: &Statement,
        table: &'a TableRef,
        transition: &Transition,
    ) -> Result<Self> {
        let ctx = PlanContext {
            snapshot: &statement.catalog,
            database: &services.job_session.database,
            user: &services.job_session.user,
            search_path: &services.session.search_path(),
            param_types: &[],
            eval: &statement.eval,
        };
        let refused = table.columns.iter().enumerate().filter(|(_, c)| c.refuses_null);
        let check = |c: &meridian_catalog::CheckDesc| Ok((c.name.clone(), plan_check(&ctx, table, &c.expr)?));
        Ok(Conditions {
            table,
            not_null: refused.map(|(at, _)| at).collect(),
            checks: transition.checks().map(check).collect::<Result<_>>()?,
        })
    }

    fn is_empty(&self) -> bool {
        self.not_null.is_empty() && self.checks.is_empty()
    }

    fn check(&self, statement: &Statement, rows: &Batch) -> Result<()> {
        for &at in &self.not_null {
            let column = rows.column(at);
            if (0..rows.len()).any(|r| column.is_null(r)) {
                return Err(has_nulls(statement, self.table, &self.table.columns[at].name));
            }
        }
        for (name, condition) in &self.checks {
            let result = statement.ctx().scope().column(condition, rows)?;
            if (0..rows.len()).any(|r| result.get(r).as_bool() == Some(false)) {
                return Err(is_violated(statement, self.table, name));
            }
        }
        Ok(())
    }
}
