//! What a schema change has still to do after its first step, whoever does it.
//!
//! A change of several steps writes a job with its first one, and ends it with its last one, in the same transactions as
//! the descriptors. In between the node that runs it keeps a lease. Where that node dies, another one finds the lease run
//! out and takes the job over:
//!
//! ```text
//!   statement    is planned and run again: nothing has come of it yet
//!   add index    goes on from the last checkpoint
//!   alter table  likewise
//!   rewrite      is undone: the table is unlocked as it was, the statement has failed
//!   clean        begins again: what is removed already costs nothing
//! ```
//! Every write of a runner is bounded: descriptors by the record's claim, rows by the end of the lease, which the store
//! compares with the commit timestamp. So nothing of a runner that was thought dead takes effect once another one has
//! begun, and two runners never both end a job.
//!
//! | file | subject |
//! |---|---|
//! | `mod.rs` | a job that this node runs: lease, progress, what operators want |
//! | `control.rs` | the records: adopting, waiting, PAUSE, RESUME, CANCEL |

mod control;

pub use control::is_outage;

use std::sync::Arc;

use meridian_catalog::{
    CatalogChange, IndexId, Job, JobPhase, JobState, JobWish, JobWork, TableDesc, TableId,
};
use meridian_datum::{Result, SqlError, SqlState};
use meridian_keys::JobId;
use meridian_types::{Duration, Span, Timestamp};
use parking_lot::Mutex;

use super::{DdlServices, catalog_error};
use crate::kv_error::is_retry;

/// How long a runner has a job without a heartbeat: so long that a change of leadership of the system's shard (3 s) does
/// not cost it, and that nobody waits much longer for a dead node's job than for its shards.
pub(super) const LEASE: Duration = Duration::from_secs(8);
/// Time between heartbeats. Each is a small transaction; a cancelled job stops within this time.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_millis(500);

/// What a runner is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Directive {
    /// To go on.
    Go,
    /// To stop; somebody goes on later.
    Pause,
    /// To undo what it did.
    Cancel,
}

/// A job that this node runs.
pub struct Running {
    services: DdlServices,
    state: Mutex<State>,
}

struct State {
    job: Job,
    directive: Directive,
}

impl Running {
    /// A job that this node has begun with a change that has taken effect at `at`.
    pub(super) fn begun(services: &DdlServices, job: Job, at: Timestamp) -> Arc<Self> {
        let lease_end = job.lease_end.max(at + LEASE);
        Running::new(services, Job { lease_end, ..job })
    }

    /// A job that this node has claimed.
    pub fn new(services: &DdlServices, job: Job) -> Arc<Self> {
        let directive = directive(job.wish);
        Arc::new(Running { services: services.detached(), state: Mutex::new(State { job, directive }) })
    }

    /// The job as this node knows it.
    pub fn job(&self) -> Job {
        self.state.lock().job.clone()
    }

    pub(super) fn id(&self) -> JobId {
        self.state.lock().job.id
    }

    pub(super) fn table(&self) -> Option<TableId> {
        self.state.lock().job.table
    }

    /// What operators want, as of the last heartbeat.
    pub fn directive(&self) -> Directive {
        self.state.lock().directive
    }

    /// Nothing that the runner does to rows may take effect above this.
    pub(super) fn lease_end(&self) -> Timestamp {
        self.state.lock().job.lease_end
    }

    /// A phase begins, with these spans to be read.
    pub(super) fn begin_phase(&self, phase: JobPhase, rows_total: Option<u64>, rest: Vec<Span>) {
        let job = &mut self.state.lock().job;
        (job.phase, job.rows_done, job.rows_total, job.rest) = (phase, 0, rows_total, rest);
    }

    /// Rows are done.
    pub(super) fn count(&self, rows: u64) {
        self.state.lock().job.rows_done += rows;
    }

    /// The job as it is in its next phase, to be written together with what makes that the next one.
    pub(super) fn in_phase(&self, phase: JobPhase) -> CatalogChange {
        let job = Job { phase, rows_done: 0, rest: Vec::new(), ..self.job() };
        CatalogChange::SetJob(Box::new(job))
    }

    /// Rows are done, and this is left.
    pub(super) fn advance(&self, rows: u64, rest: Vec<Span>) {
        let job = &mut self.state.lock().job;
        job.rows_done += rows;
        job.rest = rest;
    }

    /// Rows are done. Then rests, as the node's load and its operators want.
    pub(super) async fn progress(&self, rows: u64) {
        self.count(rows);
        self.services.pace.rest(std::time::Duration::ZERO).await;
    }

    /// Keeps the lease and writes the checkpoints. Returns only when the job is another's, or cannot be kept.
    pub async fn keep(&self) -> SqlError {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            match self.heartbeat().await {
                Ok(true) => {}
                Ok(false) => return lost(),
                Err(error) => {
                    let now = self.services.kv.now().map(|now| now.latest());
                    if now.is_ok_and(|now| now > self.lease_end()) {
                        return error;
                    }
                }
            }
        }
    }

    /// False when the job is another's by now.
    async fn heartbeat(&self) -> Result<bool> {
        let mine = self.job();
        let lease_end = self.services.timestamp()? + LEASE;
        let is_ours = |stored: &Job| stored.claim == mine.claim && stored.state == JobState::Running;
        let stored = self
            .services
            .update_job(mine.id, |stored| {
                is_ours(stored).then(|| {
                    let known = if stored.work == mine.work { &mine } else { stored };
                    Job { wish: stored.wish, lease_end, ..known.clone() }
                })
            })
            .await?;
        // Where it is over, the runner has yet to see that its last step is in force.
        let is_over = |stored: &Job| stored.claim == mine.claim && stored.state.is_over();
        let Some(stored) = stored.filter(|stored| is_ours(stored) || is_over(stored)) else {
            return Ok(false);
        };
        let mut state = self.state.lock();
        state.job.lease_end = lease_end;
        state.job.wish = stored.wish;
        state.directive = directive(stored.wish);
        Ok(true)
    }

    /// The job's end, to be written together with what ends it.
    pub(super) fn over(&self, error: Option<&SqlError>) -> Result<CatalogChange> {
        let at = self.services.timestamp()?;
        Ok(CatalogChange::SetJob(Box::new(self.job().ended(at, error))))
    }

    /// Whether a step that was refused may be tried again: only the descriptor was another.
    pub(super) async fn may_retry(&self, e: &SqlError) -> Result<bool> {
        if !is_retry(e) {
            return Ok(false);
        }
        self.services.catalog.refresh().await.map_err(catalog_error)?;
        let claim = self.job().claim;
        let stored = self.services.job(self.id()).await?;
        Ok(stored.is_some_and(|s| s.claim == claim && s.state == JobState::Running))
    }

    /// Stops; whoever finds the job once it is resumed goes on from here.
    async fn pause(&self) -> Result<()> {
        let mine = self.job();
        self.services
            .update_job(mine.id, |stored| {
                let is_ours = stored.claim == mine.claim && stored.state == JobState::Running;
                // It may have been resumed since.
                let state = if stored.wish == JobWish::Pause { JobState::Paused } else { JobState::Queued };
                is_ours.then(|| Job { state, wish: stored.wish, ..mine.clone() })
            })
            .await
            .map(drop)
    }

    /// Ends a job that changes no descriptor any more.
    pub async fn end(&self, error: Option<&SqlError>) -> Result<()> {
        let ended = self.job().ended(self.services.timestamp()?, error);
        let is_ours = |stored: &Job| stored.claim == ended.claim && stored.state == JobState::Running;
        // A statement that has become another job ends as that.
        self.services
            .update_job(ended.id, |stored| {
                (is_ours(stored) && stored.work == ended.work).then(|| ended.clone())
            })
            .await
            .map(drop)
    }

    /// Ends a job about a table or index that is gone.
    pub(super) async fn abandon(&self) -> Result<Directive> {
        let name = self.state.lock().job.table_name.clone();
        let e = SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" was dropped"));
        self.end(Some(&e)).await?;
        Err(e)
    }
}

fn directive(wish: JobWish) -> Directive {
    match wish {
        JobWish::Run => Directive::Go,
        JobWish::Pause => Directive::Pause,
        JobWish::Cancel => Directive::Cancel,
    }
}

#[cold]
fn lost() -> SqlError {
    SqlError::new(SqlState::SYSTEM_ERROR, "another node has taken over the schema change")
}

/// 57014, for a job that an operator has cancelled.
#[cold]
pub(super) fn cancelled() -> SqlError {
    SqlError::new(SqlState::QUERY_CANCELED, "the schema change was cancelled")
}

impl DdlServices {
    /// The same services for work that no statement can cancel, and that is nobody's but its own job's.
    pub(super) fn detached(&self) -> DdlServices {
        let cancel = Default::default();
        DdlServices { cancel, notices: None, statement_job: None, activate_at: None, ..self.clone() }
    }

    /// A job of this node for a change that is about to be made. Where the change is itself a job's statement, it is that
    /// job.
    pub(super) async fn new_job(&self, work: JobWork, phase: JobPhase, table: &TableDesc) -> Result<Job> {
        let now = self.timestamp()?;
        let job = match self.statement_job.as_ref().and_then(|job| job.lock().clone()) {
            Some(job) => {
                let (table, table_name) = (Some(table.id), table.name.clone());
                Job { work, table, table_name, ..job }
            }
            None => {
                let job = self.queued(work, Some(table.id), &table.name, &self.statement_text).await?;
                Job { state: JobState::Running, started: Some(now), claim: 1, ..job }
            }
        };
        Ok(Job { phase, lease_end: now + LEASE, runner: self.cluster.local_node(), ..job })
    }

    /// The removal of what a job leaves behind, for whichever node finds it first.
    pub(super) async fn clean_later(
        &self,
        job: &Job,
        storage: TableId,
        index: Option<IndexId>,
    ) -> Result<CatalogChange> {
        let work = JobWork::Clean { storage, index, forget: false };
        let clean = self.queued(work, job.table, &job.table_name, &job.statement).await?;
        Ok(CatalogChange::SetJob(Box::new(clean)))
    }

    /// The removal of a dropped table, or of a dropped index of one.
    pub(super) async fn clean_table_later(
        &self,
        table: &TableDesc,
        index: Option<IndexId>,
    ) -> Result<CatalogChange> {
        self.clean_of(table, index, index.is_none()).await
    }

    /// The removal of a storage that a table gives up.
    pub(super) async fn clean_storage_later(&self, table: &TableDesc) -> Result<CatalogChange> {
        self.clean_of(table, None, false).await
    }

    async fn clean_of(
        &self,
        table: &TableDesc,
        index: Option<IndexId>,
        forget: bool,
    ) -> Result<CatalogChange> {
        let work = JobWork::Clean { storage: table.storage, index, forget };
        let clean = self.queued(work, Some(table.id), &table.name, &self.statement_text).await?;
        Ok(CatalogChange::SetJob(Box::new(clean)))
    }
}
