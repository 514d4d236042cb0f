//! The jobs of schema changes on this node, beside all sessions; and `PAUSE`, `RESUME`, `CANCEL JOB`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meridian_catalog::{Job, JobSession, JobWish, JobWork};
use meridian_datum::{Batch, DateStyle, EvalContext, SqlError, TimeZone};
use meridian_exec::CancelHandle;
use meridian_exec::ddl::{DdlServices, Directive, Running, is_outage};
use meridian_keys::JobId;
use meridian_plan::session::JobAction;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::advisory::SessionLocks;
use crate::api::{CommandTag, CopyHeader, ResultSink, RowDescription, SessionParams, Severity, SinkClosed};
use crate::factory::{SessionFactory, SessionInfo};
use crate::session::{Session, now_micros};
use crate::settings::Settings;
use crate::view::View;

/// How often a node looks for jobs that nobody runs.
const LOOK: Duration = Duration::from_secs(1);
/// Removals of unreachable rows that a node runs at a time: they are in no hurry.
const CLEANS_MAX: usize = 4;
/// Who runs jobs that are no statement.
const ROOT: &str = "root";

impl SessionFactory {
    /// Runs jobs that nobody runs, until `shutdown` resolves. The server spawns it once per node.
    pub async fn run_jobs(self, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        let services = match self.job_services() {
            Ok(services) => services,
            Err(error) => return tracing::error!(%error, "jobs cannot be run on this node"),
        };
        // Dropped with the shutdown, which ends what still runs: another node goes on with it.
        let mut tasks: JoinSet<()> = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            while tasks.try_join_next().is_some() {}
            let adopted = tokio::select! {
                biased;
                () = &mut shutdown => return,
                adopted = services.adopt_jobs(CLEANS_MAX.saturating_sub(tasks.len())) => adopted,
            };
            match adopted {
                Ok(jobs) => {
                    for job in jobs {
                        tasks.spawn(self.clone().run_adopted(services.clone(), job));
                    }
                }
                Err(error) => tracing::debug!(%error, "jobs could not be looked at"),
            }
        }
    }

    /// Runs a job that this node has claimed.
    pub(crate) async fn run_adopted(self, services: DdlServices, job: Job) {
        let id = job.id.get();
        let ran = match job.work {
            JobWork::Statement => self.run_statement(&services, job).await,
            JobWork::Alter => self.run_alter(&services, job).await,
            JobWork::AddIndexes { .. } | JobWork::Rewrite { .. } | JobWork::Clean { .. } => {
                services.run_job(job).await
            }
        };
        if let Err(error) = ran {
            tracing::warn!(%error, job = id, "a job has failed, or goes on elsewhere");
        }
    }

    /// A session as whoever has made the job.
    async fn open_for(&self, job: &Job) -> Result<Session, SqlError> {
        let JobSession { user, database, search_path, time_zone, date_style } = job.session.clone();
        let named = [("search_path", search_path), ("timezone", time_zone), ("datestyle", date_style)];
        let settings = named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.open(SessionParams { user, database, settings, ..SessionParams::default() }).await
    }

    /// Goes on with a change whose conditions are read as whoever has made it reads them, where they can be asked still.
    async fn run_alter(&self, services: &DdlServices, job: Job) -> Result<(), SqlError> {
        let mut session = match self.open_for(&job).await {
            Ok(session) => session,
            Err(e) if is_outage(&e) => return Err(e),
            Err(_) => return services.run_job(job).await,
        };
        let statement_text = job.statement.as_str().into();
        let ran = DdlServices { statement_text, ..session.ddl_services() }.run_job(job).await;
        session.terminate().await;
        ran
    }

    /// Plans and runs a statement as whoever has scheduled it.
    async fn run_statement(&self, services: &DdlServices, job: Job) -> Result<(), SqlError> {
        let running = Running::new(services, job.clone());
        let mut session = match self.open_for(&job).await {
            Ok(session) => session,
            Err(e) if is_outage(&e) => return Err(e),
            Err(e) => return running.end(Some(&e)).await,
        };
        let (statement, activate_at) = (job.statement.clone(), job.start_at);
        let open = Arc::new(Mutex::new(Some(job)));
        session.statement_job = Some(open.clone());
        session.activate_at = activate_at;
        let cancel = session.cancel_handle();
        let mut sink = NoSink;
        let ran = {
            let query = session.simple_query(&statement, &mut sink);
            tokio::pin!(query);
            // From its first change on the statement is a job of another kind, which is kept and stopped as that.
            let is_begun = || open.lock().is_none();
            let heed = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if running.directive() == Directive::Cancel && !is_begun() {
                        cancel.cancel();
                    }
                }
            };
            tokio::select! {
                biased;
                ran = &mut query => ran,
                () = heed => unreachable!("nobody ends the loop"),
                lost = running.keep() => if is_begun() { query.await } else { return Err(lost) },
            }
        };
        session.terminate().await;
        match ran {
            Ok(_) => running.end(None).await,
            Err(e) if is_outage(&e) => Err(e),
            Err(e) => {
                running.end(Some(&e)).await?;
                Err(e)
            }
        }
    }

    /// What jobs need that are no statement.
    pub(crate) fn job_services(&self) -> Result<DdlServices, SqlError> {
        let shared = self.shared.clone();
        let settings = Settings::new(ROOT, &shared.server.defaults, &[])?;
        let memory_limit = settings.effective().memory_limit;
        let database: Arc<str> = "defaultdb".into();
        let info = SessionInfo {
            id: 0,
            pid: 0,
            user: ROOT.to_owned(),
            database: database.to_string(),
            client: None,
            application: "jobs".into(),
            state: "active",
            query: "".into(),
            started: now_micros(),
            query_started: now_micros(),
            transactions: 0,
            prepared: Vec::new(),
        };
        let view = View::new(
            shared.clone(),
            ROOT.into(),
            database,
            Arc::new(Mutex::new(settings)),
            Arc::new(Mutex::new(info)),
            SessionLocks::new(shared.locks.clone(), 0, 0),
        );
        Ok(DdlServices {
            kv: shared.kv.clone(),
            cluster: shared.cluster.clone(),
            catalog: shared.catalog.clone(),
            cancel: CancelHandle::default(),
            owner: ROOT.into(),
            shards_per_table: 0,
            session: Arc::new(view),
            time_zone: TimeZone::default(),
            date_style: DateStyle::default(),
            now: now_micros(),
            memory_limit,
            pace: shared.server.cluster.pace(),
            statement_text: "".into(),
            job_session: JobSession { user: ROOT.to_owned(), ..JobSession::default() },
            notices: None,
            statement_job: None,
            activate_at: None,
        })
    }
}

impl Session {
    /// `PAUSE JOB`, `RESUME JOB`, `CANCEL JOB`.
    pub(crate) async fn control_job(
        &mut self,
        action: JobAction,
        job: i64,
    ) -> Result<&'static str, SqlError> {
        let (wish, tag) = match action {
            JobAction::Pause => (JobWish::Pause, "PAUSE JOB"),
            JobAction::Resume => (JobWish::Run, "RESUME JOB"),
            JobAction::Cancel => (JobWish::Cancel, "CANCEL JOB"),
        };
        self.ddl_services().wish(JobId::new(u64::try_from(job).unwrap_or(u64::MAX)), wish).await?;
        Ok(tag)
    }
}

/// Nobody waits for the results of a job's statement.
struct NoSink;

#[async_trait]
impl ResultSink for NoSink {
    fn describe(&mut self, _: &RowDescription) {}

    fn batch(&mut self, _: &RowDescription, _: &Batch, _: &EvalContext) -> Result<(), SqlError> {
        Ok(())
    }

    fn complete(&mut self, _: CommandTag) {}

    fn empty_query(&mut self) {}

    fn suspended(&mut self) {}

    fn notice(&mut self, _: Severity, _: &SqlError) {}

    fn parameter_status(&mut self, _: &str, _: &str) {}

    fn copy_in(&mut self, _: CopyHeader) {}

    fn copy_out(&mut self, _: CopyHeader) {}

    fn copy_data(&mut self, _: &[u8]) {}

    fn copy_out_done(&mut self) {}

    fn position(&self) -> u64 {
        0
    }

    fn rewind(&mut self, _: u64) -> bool {
        true
    }

    fn appended(&self, _: u64) -> Option<&[u8]> {
        Some(&[])
    }

    fn is_full(&self) -> bool {
        false
    }

    async fn flush(&mut self) -> Result<(), SinkClosed> {
        Ok(())
    }
}
