//! The session: its state, and simple queries.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meridian_catalog::{CatalogSnapshot, Job};
use meridian_datum::{DataType, DateStyle, EvalContext, SqlError, SqlState, TimeZone};
use meridian_exec::copy::CopyIn;
use meridian_exec::{CancelHandle, CompiledPoint};
use meridian_plan::session::SessionStatement;
use meridian_plan::{ParsedStatement, PlanContext, PlannedStatement, StatementPlan};
use meridian_types::Timestamp;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::advisory::SessionLocks;
use crate::api::{Flow, ResultSink, SessionParams, Severity, TransactionStatus};
use crate::block::{Transaction, in_failed_transaction};
use crate::cache::{CachedPlan, PlanCache};
use crate::catalog_access::{Lease, Past};
use crate::copy::KeptCopy;
use crate::extended::Prepared;
use crate::factory::{SessionInfo, Shared};
use crate::journal::Seed;
use crate::pipeline::Replay;
use crate::portals::Portals;
use crate::settings::Settings;
use crate::settings::staleness::POSTGRES_EPOCH_MICROS;
use crate::simple::{Query, Simple};
use crate::view::View;

/// A client's session. One statement runs at a time.
pub struct Session {
    pub(crate) shared: Arc<Shared>,
    id: u64,
    pub(crate) user: Arc<str>,
    pub(crate) database: Arc<str>,
    pub(crate) settings: Arc<Mutex<Settings>>,
    /// Counts changes of settings that plans depend on.
    pub(crate) settings_generation: u64,
    pub(crate) view: Arc<View>,
    pub(crate) info: Arc<Mutex<SessionInfo>>,
    pub(crate) locks: Arc<SessionLocks>,
    /// Of pauses, and of what volatile functions start from.
    pub(crate) rng: Mutex<StdRng>,
    pub(crate) transaction: Option<Transaction>,
    pub(crate) statements: HashMap<String, Arc<Prepared>>,
    pub(crate) portals: Portals,
    pub(crate) plans: PlanCache,
    /// Where in the sink the last command tag is.
    pub(crate) last_tag: Option<(u64, u64)>,
    /// Rows that the statement under way has sent or written.
    pub(crate) row_count: u64,
    /// The only statement of the implicit transaction that Sync will commit.
    pub(crate) replay: Option<Replay>,
    pub(crate) cancel: CancelHandle,
    pub(crate) copy: Option<CopyState>,
    /// What volatile functions of the running statement start from, where that is written down.
    pub(crate) seed: Option<Seed>,
    /// The moment that the statement at hand reads at, with its catalog.
    pub(crate) past: Option<Past>,
    /// Of the last read-write transaction that wrote.
    pub(crate) commit_timestamp: Option<Timestamp>,
    /// Of the last read-only transaction.
    pub(crate) read_timestamp: Option<Timestamp>,
    /// The job whose statement the session runs.
    pub(crate) statement_job: Option<Arc<Mutex<Option<Job>>>>,
    /// When that statement shall take effect.
    pub(crate) activate_at: Option<Timestamp>,
}

/// A COPY FROM that awaits data.
pub(crate) struct CopyState {
    pub(crate) input: CopyIn,
    /// What it takes to make the copy again, if its transaction is run again.
    pub(crate) kept: Option<KeptCopy>,
    /// Statements of the query string that follow it.
    pub(crate) rest: Vec<Arc<ParsedStatement>>,
    pub(crate) is_simple: bool,
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        (id, seed): (u64, u64),
        params: SessionParams,
        settings: Settings,
    ) -> Self {
        let application = settings.show("application_name").map_or_else(|_| "".into(), |(_, v)| v);
        let now = now_micros();
        let info = Arc::new(Mutex::new(SessionInfo {
            id,
            pid: params.backend_pid,
            user: params.user.clone(),
            database: params.database.clone(),
            client: params.client_address,
            application,
            state: "idle",
            query: "".into(),
            started: now,
            query_started: now,
            transactions: 0,
            prepared: Vec::new(),
        }));
        shared.sessions.lock().insert(id, info.clone());
        let settings = Arc::new(Mutex::new(settings));
        let user: Arc<str> = params.user.into();
        let database: Arc<str> = params.database.into();
        let locks = SessionLocks::new(shared.locks.clone(), id, params.backend_pid);
        let view = Arc::new(View::new(
            shared.clone(),
            user.clone(),
            database.clone(),
            settings.clone(),
            info.clone(),
            locks.clone(),
        ));
        Session {
            shared,
            id,
            user,
            database,
            settings,
            settings_generation: 0,
            view,
            info,
            locks,
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            transaction: None,
            statements: HashMap::new(),
            portals: Portals::default(),
            plans: PlanCache::default(),
            last_tag: None,
            row_count: 0,
            replay: None,
            cancel: CancelHandle::default(),
            copy: None,
            seed: None,
            past: None,
            commit_timestamp: None,
            read_timestamp: None,
            statement_job: None,
            activate_at: None,
        }
    }

    /// Counts the sessions of this node.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Tells the settings that a client is told at start-up.
    pub fn parameter_status(&self, mut tell: impl FnMut(&str, &str)) {
        for (name, value) in self.settings.lock().reported() {
            tell(name, &value);
        }
    }

    /// Cancels what this session runs.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// The byte of ReadyForQuery.
    pub fn status(&self) -> TransactionStatus {
        self.transaction.as_ref().map_or(TransactionStatus::Idle, Transaction::status)
    }

    /// Ends the session: an open transaction is rolled back, and advisory locks are given up.
    pub async fn terminate(&mut self) {
        self.copy = None;
        self.portals.clear();
        self.roll_back().await;
        self.locks.unlock_all().await;
    }

    /// Runs a query string. After an error the edge sends it and ReadyForQuery.
    ///
    /// # Errors
    /// The first error of a statement; what came before it in the same implicit transaction is undone.
    pub async fn simple_query(&mut self, sql: &str, sink: &mut dyn ResultSink) -> Result<Flow, SqlError> {
        let text: Arc<str> = sql.into();
        self.begin_statement(text.clone());
        let result = self.run_simple(text, sink).await;
        self.end_request(result, sink).await
    }

    /// Makes sure that planning outside a transaction sees a catalog that is not stale.
    pub(crate) async fn fresh_catalog(&mut self) -> Result<(), SqlError> {
        if self.transaction.is_none() {
            self.past = None;
        }
        if self.transaction.as_ref().is_some_and(|t| t.lease.is_some() || t.is_failed) {
            return self.lease().await;
        }
        if !matches!(self.shared.catalog.try_acquire(), Ok(Some(_))) {
            self.cancel
                .guard(Box::pin(self.shared.catalog.acquire()))
                .await?
                .map_err(meridian_exec::sql_error)?;
        }
        Ok(())
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.transaction.as_ref().is_some_and(|t| t.is_failed)
    }

    async fn run_simple(&mut self, text: Arc<str>, sink: &mut dyn ResultSink) -> Result<Flow, SqlError> {
        // A query string destroys the unnamed statement and portal.
        self.portals.remove("");
        self.statements.remove("");
        self.fresh_catalog().await?;
        match self.prepare_simple(text).await? {
            Query::Empty => {
                sink.empty_query();
                Ok(Flow::Done)
            }
            Query::One(statement) => self.run_alone(statement, sink).await,
            Query::Several(statements) => Box::pin(self.run_several(statements, sink)).await,
        }
    }

    /// Runs the only statement of a query string; outside a block it is a transaction of its own, and is run again
    /// when it conflicts.
    async fn run_alone(
        &mut self,
        mut statement: Simple,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let flow = if self.transaction.is_some() {
            self.plan_on_lease(&mut statement).await?;
            self.run_in_transaction(&statement.plan, statement.params, sink).await?
        } else {
            self.run_autocommit(statement, sink).await?
        };
        if let Some(copy) = &mut self.copy {
            copy.is_simple = true;
        }
        Ok(flow)
    }

    /// The catalog with what the open transaction has changed in it, if it has.
    pub(crate) fn private_catalog(&self) -> Option<&Arc<CatalogSnapshot>> {
        self.transaction.as_ref().and_then(|t| t.lease.as_ref()).and_then(Lease::private)
    }

    /// Whether descriptors were changed by the open transaction.
    pub(crate) fn has_private_catalog(&self) -> bool {
        self.private_catalog().is_some()
    }

    pub(crate) fn cached(
        &mut self,
        text: &Arc<str>,
        types: &[DataType],
    ) -> Option<(Arc<ParsedStatement>, Arc<CachedPlan>)> {
        let version = self.snapshot().version();
        let lease = self.transaction.as_ref().and_then(|t| t.lease.as_ref());
        let private = lease.and_then(Lease::private);
        self.plans.get(text, types, self.settings_generation, version, private)
    }

    pub(crate) fn keep(
        &mut self,
        text: &Arc<str>,
        types: &[DataType],
        parsed: &Arc<ParsedStatement>,
        plan: CachedPlan,
    ) -> Arc<CachedPlan> {
        let plan = Arc::new(plan);
        // A catalog that holds this transaction's own changes has a version of its own and is not shared.
        if !self.has_private_catalog() {
            self.plans.put(text, types, self.settings_generation, parsed.clone(), plan.clone());
        }
        plan
    }

    /// Plans a statement.
    pub(crate) fn plan(
        &self,
        parsed: &Arc<ParsedStatement>,
        types: &[DataType],
    ) -> Result<CachedPlan, SqlError> {
        let snapshot = self.snapshot();
        let effective = self.settings.lock().effective().clone();
        let eval = self.eval_context();
        let context = PlanContext {
            snapshot: &snapshot,
            database: &self.database,
            user: &self.user,
            search_path: &effective.search_path,
            param_types: types,
            eval: &eval,
        };
        let mut planned = meridian_plan::plan_statement(&context, parsed)?;
        let defer = self.defer(parsed, &mut planned, &eval)?;
        let point = CompiledPoint::new(&planned.plan, &snapshot)?;
        let source = Some((parsed.clone(), types.to_vec()));
        let mut plan = CachedPlan::new(planned, source, point, snapshot.version(), self.private_catalog());
        if let StatementPlan::Session(s) = &plan.planned.plan
            && let SessionStatement::Fetch { name, is_move: false, .. } = s.as_ref()
        {
            plan.rows = self.cursor_rows(name);
        }
        Ok(plan.deferred(defer).counted(&self.shared.statistics))
    }

    /// In a failed block every error is that the block has failed.
    pub(crate) fn unless_failed(&self, e: SqlError) -> SqlError {
        if self.transaction.as_ref().is_some_and(|t| t.is_failed) && e.state != SqlState::SYNTAX_ERROR {
            in_failed_transaction()
        } else {
            e
        }
    }

    /// Time zone and times of a statement that begins.
    pub(crate) fn eval_context(&self) -> EvalContext {
        let (zone, style) = self.date_settings();
        let seed = self.seed.unwrap_or_else(|| self.new_seed());
        let mut eval = EvalContext::new(zone, seed.now, seed.random);
        eval.date_style = style;
        if let Some(t) = &self.transaction {
            eval.transaction_timestamp = t.started;
        }
        eval.clock = Some(now_micros);
        eval
    }

    /// What dates are read and written by.
    pub(crate) fn date_settings(&self) -> (TimeZone, DateStyle) {
        let settings = self.settings.lock();
        let effective = settings.effective();
        (effective.time_zone, effective.date_style)
    }

    /// TrueTime's middle, or the machine's clock where TrueTime is unsure; in microseconds of the PostgreSQL epoch.
    pub(crate) fn now(&self) -> i64 {
        match self.shared.kv.now() {
            Ok(i) => {
                let middle = i.earliest().as_nanos() / 2 + i.latest().as_nanos() / 2;
                (middle / 1000) as i64 - POSTGRES_EPOCH_MICROS
            }
            Err(_) => now_micros(),
        }
    }

    /// How long the client may send nothing from now on, and the error with which the connection then ends.
    pub fn idle_timeout(&self) -> Option<(Duration, SqlError)> {
        let effective = self.settings.lock().effective().clone();
        if self.transaction.is_some() {
            let message = "terminating connection due to idle-in-transaction timeout";
            let error = || SqlError::new(SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT, message);
            return effective.idle_in_transaction_timeout.map(|timeout| (timeout, error()));
        }
        let message = "terminating connection due to idle-session timeout";
        let error = || SqlError::new(SqlState::IDLE_SESSION_TIMEOUT, message);
        effective.idle_session_timeout.map(|timeout| (timeout, error()))
    }

    /// Cancels what runs from here on when `statement_timeout` passes. A statement that is run again unnoticed goes on
    /// under the time of its first attempt.
    pub(crate) fn start_timeout(&self) {
        self.cancel.set_timeout(self.settings.lock().effective().statement_timeout);
    }

    /// A request begins.
    pub(crate) fn begin_statement(&mut self, text: Arc<str>) {
        self.cancel.reset();
        self.start_timeout();
        self.last_tag = None;
        self.locks.begin_statement();
        let mut info = self.info.lock();
        info.state = "active";
        info.query = text;
        info.query_started = now_micros();
    }

    /// A request of the simple protocol ends: the implicit transaction is committed, or undone after an error.
    pub(crate) async fn end_request(
        &mut self,
        result: Result<Flow, SqlError>,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let result = match result {
            Ok(Flow::Done) => self.end_implicit(sink).await.map(|()| Flow::Done),
            other => other,
        };
        if let Err(e) = &result {
            self.note_error(e);
            self.fail().await;
        }
        self.tell_settings(sink);
        self.note_idle();
        result
    }

    /// Shows the prepared statements in `pg_prepared_statements`.
    pub(crate) fn note_prepared(&self) {
        let named = self.statements.iter().filter(|(name, _)| !name.is_empty());
        let shown = named.map(|(name, p)| (name.clone(), p.text().clone(), p.from_sql)).collect();
        self.info.lock().prepared = shown;
    }

    pub(crate) fn note_idle(&self) {
        let state = match self.status() {
            TransactionStatus::Idle => "idle",
            TransactionStatus::InBlock => "idle in transaction",
            TransactionStatus::Failed => "idle in transaction (aborted)",
        };
        self.info.lock().state = state;
    }

    /// ParameterStatus for what changed.
    pub(crate) fn tell_settings(&mut self, sink: &mut dyn ResultSink) {
        let changed = self.settings.lock().changed_reports();
        for (name, value) in &changed {
            sink.parameter_status(name, value);
            if *name == "application_name" {
                self.info.lock().application = value.clone();
            }
        }
    }

    /// A notice, if the client wants to hear of it.
    pub(crate) fn notice(&self, sink: &mut dyn ResultSink, severity: Severity, notice: &SqlError) {
        let effective = self.settings.lock().effective().clone();
        let wanted = match severity {
            Severity::Warning => effective.sends_warnings,
            Severity::Notice => effective.sends_notices,
            Severity::Info => true,
        };
        if wanted {
            sink.notice(severity, notice);
        }
    }

    /// Whether a plan may run in a failed block.
    pub(crate) fn ends_failure(planned: &PlannedStatement) -> bool {
        match &planned.plan {
            StatementPlan::Session(s) => matches!(
                s.as_ref(),
                SessionStatement::Commit { .. }
                    | SessionStatement::Rollback { .. }
                    | SessionStatement::RollbackTo(_)
            ),
            _ => false,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.sessions.lock().remove(&self.id);
    }
}

/// The machine's clock in microseconds of the PostgreSQL epoch.
pub(crate) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH_MICROS
}
