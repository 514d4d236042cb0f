//! The records of jobs: adopting what nobody runs, waiting for what somebody runs, what operators want.

use meridian_catalog::{
    CatalogError, CatalogStore, IndexId, Job, JobPhase, JobState, JobWish, JobWork, TableId, TableRef,
};
use meridian_datum::{Result, SqlError, SqlState};
use meridian_keys::JobId;
use meridian_kv_api::{KvError, Locking, ReadBound, ReadOnlyOptions, ReadWriteOptions};
use meridian_types::{Duration, Timestamp};
use tokio::task::JoinHandle;

use super::{Directive, LEASE, Running};
use crate::ddl::{ATTEMPTS_MAX, DdlServices, catalog_error, clean, constrain, index, outdated_plan, rewrite};
use crate::kv_error::{is_retry, sql_error};

/// How often the state of a job that somebody waits for is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);
/// How often a client that waits hears how far its job is.
const NOTICE: std::time::Duration = std::time::Duration::from_secs(2);
/// Jobs that are over are shown for so long,
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// and no more of them than this, since every look at the jobs reads them all.
const KEEP_MAX: usize = 256;

impl DdlServices {
    /// A job that nobody runs yet.
    pub(super) async fn queued(
        &self,
        work: JobWork,
        table: Option<TableId>,
        table_name: &str,
        statement: &str,
    ) -> Result<Job> {
        let id = self.cluster.allocate_id("job").await.map_err(sql_error)?;
        Ok(Job {
            id: JobId::new(id),
            work,
            transition: None,
            table,
            table_name: table_name.to_owned(),
            statement: statement.to_owned(),
            session: self.job_session.clone(),
            state: JobState::Queued,
            wish: JobWish::Run,
            phase: JobPhase::Waiting,
            rows_done: 0,
            rows_total: None,
            created: self.timestamp()?,
            started: None,
            finished: None,
            start_at: None,
            runner: self.cluster.local_node(),
            claim: 0,
            lease_end: Timestamp::ZERO,
            rest: Vec::new(),
            error: None,
        })
    }

    /// Makes a job of a statement: it runs later, or at once without anybody waiting for it.
    pub async fn defer(&self, table_name: &str, start_at: Option<Timestamp>) -> Result<JobId> {
        let queued = self.queued(JobWork::Statement, None, table_name, &self.statement_text).await?;
        let job = Job { start_at, ..queued };
        let mut retry_of = None;
        for attempt in 1.. {
            self.cancel.check()?;
            let txn = self.kv.begin(ReadWriteOptions { retry_of });
            let step = async {
                job.put(&*txn).await?;
                txn.commit().await?;
                Ok::<_, CatalogError>(())
            };
            match step.await {
                Ok(()) => break,
                Err(CatalogError::Kv(KvError::Retry { .. })) if attempt < ATTEMPTS_MAX => {
                    retry_of = txn.id();
                    txn.rollback().await;
                }
                Err(e) => {
                    txn.rollback().await;
                    return Err(catalog_error(e));
                }
            }
        }
        Ok(job.id)
    }

    /// A job's record.
    pub(super) async fn job(&self, id: JobId) -> Result<Option<Job>> {
        let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: true };
        Job::get(&*self.kv.begin_read_only(options), id, Locking::SHARED).await.map_err(catalog_error)
    }

    async fn jobs(&self) -> Result<Vec<Job>> {
        let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false };
        Job::all(&*self.kv.begin_read_only(options)).await.map_err(catalog_error)
    }

    /// Changes a job's record, if it is there and `change` wants to; what was there before.
    pub(super) async fn update_job(
        &self,
        id: JobId,
        change: impl Fn(&Job) -> Option<Job>,
    ) -> Result<Option<Job>> {
        let mut retry_of = None;
        for attempt in 1.. {
            let txn = self.kv.begin(ReadWriteOptions { retry_of });
            let step = async {
                let Some(stored) = Job::get(&*txn, id, Locking::EXCLUSIVE).await? else { return Ok(None) };
                if let Some(next) = change(&stored) {
                    next.put(&*txn).await?;
                }
                txn.commit().await?;
                Ok::<_, CatalogError>(Some(stored))
            };
            let stepped = step.await;
            if stepped.is_err() {
                retry_of = txn.id();
                txn.rollback().await;
            }
            match stepped {
                Err(CatalogError::Kv(KvError::Retry { .. } | KvError::Ambiguous))
                    if attempt < ATTEMPTS_MAX => {}
                other => return other.map_err(catalog_error),
            }
        }
        unreachable!("the loop returns")
    }

    /// Waits for the end of a job that this node runs in a task of its own: it outlives the statement that has made it
    /// and its client. Cancelling the statement cancels the job.
    pub(in crate::ddl) async fn follow(&self, id: JobId, task: JoinHandle<Result<()>>) -> Result<()> {
        let mut task = Some(task);
        let mut failure = None;
        let mut interrupted = None;
        let mut told = tokio::time::Instant::now();
        loop {
            let ended = async {
                match &mut task {
                    Some(task) => task.await,
                    None => std::future::pending().await,
                }
            };
            if let Ok(ended) = tokio::time::timeout(LOOK, ended).await {
                task = None;
                failure = ended.ok().and_then(Result::err);
            }
            if interrupted.is_none()
                && let Err(e) = self.cancel.check()
            {
                // The wish comes too late where the job has ended meanwhile.
                match self.wish(id, JobWish::Cancel).await {
                    Err(wrong) if wrong.state != SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => return Err(e),
                    _ => interrupted = Some(e),
                }
            }
            let is_time = told.elapsed() >= NOTICE;
            if task.is_some() && !is_time {
                continue;
            }
            let job = match self.job(id).await {
                Ok(Some(job)) => job,
                Ok(None) => return Ok(()),
                // Whoever goes on with the job needs the store too, and waits for it.
                Err(_) => continue,
            };
            if job.state.is_over() {
                self.see_changes().await?;
            }
            match job.state {
                JobState::Succeeded => return Ok(()),
                JobState::Cancelled => return Err(interrupted.unwrap_or_else(super::cancelled)),
                JobState::Failed => {
                    let recorded = || job.error.as_ref().map(|e| e.to_sql());
                    let known = failure.take().filter(|e| !is_outage(e)).or_else(recorded);
                    return Err(known.unwrap_or_else(|| SqlError::internal("the schema change failed")));
                }
                JobState::Queued | JobState::Running | JobState::Paused => {}
            }
            if is_time {
                told = tokio::time::Instant::now();
                self.note(describe(&job));
            }
        }
    }

    /// Returns when everything is in force that is written in the catalog, here too: the record of a job's end is seen a
    /// little before what it belongs to takes effect.
    async fn see_changes(&self) -> Result<()> {
        let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false };
        let txn = self.kv.begin_read_only(options);
        let stored = CatalogStore::version(&*txn).await.map_err(catalog_error)?;
        self.wait_until(stored.valid_from).await?;
        self.catalog.refresh().await.map_err(catalog_error)
    }

    /// Tells the client something in between.
    pub(in crate::ddl) fn note(&self, text: String) {
        if let Some(notices) = &self.notices {
            // A client that has gone away does not stop the change.
            let _ = notices.send(text);
        }
    }

    /// Runs a job that this node has claimed, until it is over, paused, or another's.
    ///
    /// # Errors
    /// Why it failed; or why this node could not go on with it, which another one will then do.
    pub async fn run_job(&self, job: Job) -> Result<()> {
        self.go_on(&Running::new(self, job)).await
    }

    /// The same for a job whose record has been read, or written, by this node.
    pub(in crate::ddl) async fn go_on(&self, running: &Running) -> Result<()> {
        let work = async {
            // The job is seen a little before the descriptors that it is about take effect.
            self.see_changes().await?;
            match running.job().work {
                JobWork::AddIndexes { first, count } => {
                    let ids: Vec<IndexId> = (first.0..first.0 + count).map(IndexId).collect();
                    index::run(self, running, &ids).await
                }
                JobWork::Alter => constrain::run(self, running).await,
                JobWork::Rewrite { old, new, first_index } => {
                    rewrite::undo(self, running, old, new, first_index).await
                }
                JobWork::Clean { storage, index, forget } => {
                    clean::run(self, running, storage, index, forget).await
                }
                JobWork::Statement => Err(SqlError::internal("a statement is run by a session")),
            }
        };
        running.with_lease(work).await
    }

    /// `PAUSE`, `RESUME`, `CANCEL JOB`.
    ///
    /// # Errors
    /// 42704 for a job that does not exist, 55000 for one that is over or can't be stopped.
    pub async fn wish(&self, id: JobId, wish: JobWish) -> Result<()> {
        let refusal = |job: &Job| {
            let what = match wish {
                _ if job.state.is_over() => return Some(format!("job {id} has {}", past(job.state))),
                JobWish::Pause if !job.can_pause() => "paused",
                JobWish::Cancel if !job.work.can_cancel() => "cancelled",
                JobWish::Run | JobWish::Pause | JobWish::Cancel => return None,
            };
            Some(format!("job {id} ({}) cannot be {what}", job.work.name()))
        };
        let stored = self
            .update_job(id, |job| {
                let state = match (job.state, wish) {
                    _ if refusal(job).is_some() => return None,
                    (JobState::Paused, JobWish::Run | JobWish::Cancel) => JobState::Queued,
                    (JobState::Queued, JobWish::Pause) => JobState::Paused,
                    (state, _) => state,
                };
                // A statement that has not begun has nothing to undo.
                if wish == JobWish::Cancel && state == JobState::Queued && job.work == JobWork::Statement {
                    let at = self.timestamp().ok()?;
                    return Some(Job { wish, ..job.ended(at, Some(&super::cancelled())) });
                }
                // Undoing does not wait for the time that the change was to begin at.
                let start_at = if wish == JobWish::Cancel { None } else { job.start_at };
                Some(Job { state, wish, start_at, ..job.clone() })
            })
            .await?;
        let Some(job) = stored else {
            return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("job {id} does not exist")));
        };
        match refusal(&job) {
            Some(message) => Err(SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)),
            None => Ok(()),
        }
    }

    /// Changes of one table take turns: waits for the jobs on these tables. What was planned before they ended is then
    /// planned again.
    pub(in crate::ddl) async fn wait_turn(&self, tables: &[TableId]) -> Result<()> {
        let mut waited = false;
        while self.job_on(tables).await?.is_some() {
            waited = true;
            self.cancel.guard(tokio::time::sleep(LOOK)).await?;
        }
        if waited { Err(outdated_plan()) } else { Ok(()) }
    }

    /// The same in a transaction block, which waits for no job: that might wait for the block.
    ///
    /// # Errors
    /// 55006 while there is a job on one of the tables.
    pub(in crate::ddl) async fn check_turn(&self, tables: &[TableId]) -> Result<()> {
        let Some(job) = self.job_on(tables).await? else { return Ok(()) };
        let message = format!("table \"{}\" is being changed by job {}", job.table_name, job.id);
        Err(SqlError::new(SqlState::OBJECT_IN_USE, message)
            .with_hint("Try again when meridian.schema_changes shows that the job is over."))
    }

    /// A job that has not ended and has one of the tables for itself.
    async fn job_on(&self, tables: &[TableId]) -> Result<Option<Job>> {
        if tables.is_empty() {
            return Ok(None);
        }
        let concerns = |job: &Job| {
            let is_open = !job.state.is_over() && !matches!(job.work, JobWork::Clean { .. });
            is_open && job.table.is_some_and(|table| tables.contains(&table))
        };
        Ok(self.jobs().await?.into_iter().find(concerns))
    }

    /// Takes over jobs that nobody runs, of those that clean at most `room`, and forgets what is over for long. Called now and then on every
    /// node, which then runs them.
    pub async fn adopt_jobs(&self, room: usize) -> Result<Vec<Job>> {
        let now = self.kv.now().map_err(sql_error)?;
        let jobs = self.jobs().await?;
        let mut over: Vec<&Job> = jobs.iter().filter(|j| j.state.is_over()).collect();
        over.sort_by_key(|job| std::cmp::Reverse(job.finished));
        for (at, job) in over.into_iter().enumerate() {
            if at >= KEEP_MAX || job.finished.is_some_and(|end| end + KEEP < now.earliest()) {
                self.forget_job(job.id).await?;
            }
        }
        let mut adopted = Vec::new();
        let mut cleans = 0;
        for job in jobs.iter().filter(|j| j.is_adoptable(now.earliest())) {
            let is_clean = matches!(job.work, JobWork::Clean { .. });
            if is_clean && cleans == room {
                continue;
            }
            cleans += usize::from(is_clean);
            let (runner, lease_end) = (self.cluster.local_node(), now.latest() + LEASE);
            let claim = |stored: &Job| {
                stored.is_adoptable(now.earliest()).then(|| Job {
                    state: JobState::Running,
                    started: stored.started.or(Some(now.latest())),
                    claim: stored.claim + 1,
                    runner,
                    lease_end,
                    ..stored.clone()
                })
            };
            let claimed = self.update_job(job.id, claim).await?.and_then(|stored| claim(&stored));
            if let Some(job) = claimed {
                tracing::info!(job = job.id.get(), work = job.work.name(), claim = job.claim, "took a job");
                adopted.push(job);
            }
        }
        Ok(adopted)
    }

    async fn forget_job(&self, id: JobId) -> Result<()> {
        let txn = self.kv.begin(ReadWriteOptions::default());
        Job::delete(&*txn, id).await.map_err(catalog_error)?;
        let committed = txn.commit().await;
        if committed.is_err() {
            txn.rollback().await;
        }
        committed.map(drop).map_err(sql_error)
    }

    /// A table as it is by now.
    pub(in crate::ddl) async fn current(&self, table: Option<TableId>) -> Result<Option<TableRef>> {
        let guard = self.catalog.acquire().await.map_err(sql_error)?;
        Ok(table.and_then(|id| guard.snapshot().table(id).cloned()))
    }
}

impl Running {
    /// Runs the job's work while its lease lasts.
    pub(in crate::ddl) async fn with_lease(
        &self,
        work: impl Future<Output = Result<Directive>>,
    ) -> Result<()> {
        let worked = tokio::select! {
            biased;
            worked = work => worked,
            error = self.keep() => return Err(error),
        };
        match worked? {
            Directive::Pause => self.pause().await,
            Directive::Go | Directive::Cancel => Ok(()),
        }
    }
}

/// Whether an error means that the store could not be asked, so that somebody should go on with the job later.
pub fn is_outage(e: &SqlError) -> bool {
    is_retry(e)
        || e.state == SqlState::CANNOT_CONNECT_NOW
        || e.state == SqlState::STATEMENT_COMPLETION_UNKNOWN
        || e.state == SqlState::SYSTEM_ERROR
}

fn past(state: JobState) -> &'static str {
    match state {
        JobState::Cancelled => "been cancelled",
        other => other.name(),
    }
}

/// How far a job is, in words.
fn describe(job: &Job) -> String {
    let (id, done) = (job.id, job.rows_done);
    match (job.state, job.rows_total) {
        (JobState::Paused, _) => format!("job {id}: paused"),
        (_, Some(total)) if total > 0 => {
            let percent = done.min(total) * 100 / total;
            format!("job {id}: {}, {done} of {total} rows ({percent}%)", job.phase.name())
        }
        _ => format!("job {id}: {}, {done} rows", job.phase.name()),
    }
}
