//! The extended query protocol: prepared statements and portals.

use std::sync::Arc;
use std::time::Instant;

use meridian_datum::{Batch, DataType, Datum, EvalContext, SqlError, SqlState, parse_binary, parse_text};
use meridian_exec::{Execution, Statement, is_retry};
use meridian_plan::planned::CommandTag as Tag;
use meridian_plan::{ParsedStatement, StatementPlan};
use parking_lot::Mutex;

use crate::api::{BindParams, CommandTag, Flow, Format, ResultSink, RowDescription, StatementDescription};
use crate::block::in_failed_transaction;
use crate::cache::CachedPlan;
use crate::control::{duplicate_statement, unknown_statement};
use crate::execute::{command_tag, drain};
use crate::journal::Kind;
use crate::pipeline::Replay;
use crate::session::Session;

/// A prepared statement.
pub(crate) struct Prepared {
    text: Arc<str>,
    /// `None` for an empty query string.
    pub(crate) parsed: Option<Arc<ParsedStatement>>,
    /// Types as the client declared them; unknown ones are inferred.
    declared: Vec<DataType>,
    /// The latest plan.
    pub(crate) plan: Mutex<Arc<CachedPlan>>,
    /// Made by PREPARE rather than by Parse.
    pub(crate) from_sql: bool,
}

impl Prepared {
    pub(crate) fn new(
        text: Arc<str>,
        parsed: Option<Arc<ParsedStatement>>,
        declared: Vec<DataType>,
        plan: Arc<CachedPlan>,
        from_sql: bool,
    ) -> Self {
        Prepared { text, parsed, declared, plan: Mutex::new(plan), from_sql }
    }

    /// Its text, for `pg_prepared_statements`.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }
}

/// A statement with its parameters.
pub(crate) struct Portal {
    prepared: Arc<Prepared>,
    plan: Arc<CachedPlan>,
    params: Vec<Datum>,
    rows: Option<Arc<RowDescription>>,
    state: PortalState,
    hold: Hold,
}

/// How long a portal lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// Until its transaction ends.
    Transaction,
    /// It outlives its transaction if that commits.
    IfCommitted,
    /// Until it is closed.
    Session,
}

enum PortalState {
    New,
    /// Suspended: what still runs, rows fetched and not sent, the environment of the statement.
    Running(Box<Running>),
    Done(CommandTag),
}

pub(crate) struct Running {
    pub(crate) source: Source,
    pub(crate) statement: Arc<Statement>,
    pub(crate) pending: Option<Batch>,
    /// Rows that were fetched.
    pub(crate) passed: u64,
}

/// Where the rows of a portal come from.
pub(crate) enum Source {
    /// They are made as they are fetched.
    Execution(Execution),
    /// All were made at once, and are passed in either direction.
    Rows(crate::cursor::Rows),
}

impl Running {
    /// The next rows; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Batch>, SqlError> {
        if let Some(batch) = self.pending.take() {
            return Ok(Some(batch));
        }
        match &mut self.source {
            Source::Execution(execution) => execution.next().await,
            Source::Rows(rows) => Ok(rows.rest()),
        }
    }
}

impl Portal {
    /// A portal whose statement has begun.
    pub(crate) fn running(
        prepared: Arc<Prepared>,
        plan: Arc<CachedPlan>,
        running: Running,
        hold: Hold,
    ) -> Self {
        let rows = plan.rows.clone();
        let state = PortalState::Running(Box::new(running));
        Portal { prepared, plan, params: Vec::new(), rows, state, hold }
    }

    /// Its transaction ends; says whether it stays.
    pub(crate) fn survives(&mut self, committed: bool) -> bool {
        if committed && self.hold == Hold::IfCommitted {
            self.hold = Hold::Session;
        }
        self.hold == Hold::Session
    }

    /// Its result.
    pub(crate) fn rows(&self) -> Option<Arc<RowDescription>> {
        self.rows.clone()
    }

    /// What runs; `None` where nothing does any more, or yet.
    pub(crate) fn as_running(&mut self) -> Option<&mut Running> {
        match &mut self.state {
            PortalState::Running(running) => Some(running),
            PortalState::New | PortalState::Done(_) => None,
        }
    }

    /// It has no more rows.
    pub(crate) fn end(&mut self) {
        self.state = PortalState::Done(CommandTag::Select(0));
    }

    /// Whether it has outlived the transaction that made it.
    pub(crate) fn outlives(&self) -> bool {
        self.hold == Hold::Session
    }

    /// Whether what it answers may still depend on its transaction. A portal at its end answers that it is.
    pub(crate) fn reads(&self) -> bool {
        !self.outlives() && !matches!(self.state, PortalState::Done(_))
    }

    /// What its statement means for the journal.
    pub(crate) fn kind(&self) -> Kind {
        Kind::of(&self.plan.planned)
    }

    /// Whether it has begun to run in its transaction and is not at its end.
    pub(crate) fn is_midway(&self) -> bool {
        !self.outlives() && matches!(self.state, PortalState::Running(_))
    }

    /// What the portal is made of; `None` once it runs.
    pub(crate) fn unopened(&self) -> Option<Unopened> {
        matches!(self.state, PortalState::New).then(|| Unopened {
            prepared: self.prepared.clone(),
            plan: self.plan.clone(),
            params: self.params.clone(),
            rows: self.rows.clone(),
        })
    }
}

/// A portal before it runs, from which it can be made any number of times.
#[derive(Clone)]
pub(crate) struct Unopened {
    prepared: Arc<Prepared>,
    plan: Arc<CachedPlan>,
    params: Vec<Datum>,
    rows: Option<Arc<RowDescription>>,
}

impl Unopened {
    pub(crate) fn params(&self) -> &[Datum] {
        &self.params
    }

    /// The portal.
    pub(crate) fn open(&self) -> Portal {
        let Unopened { prepared, plan, params, rows } = self.clone();
        Portal { prepared, plan, params, rows, state: PortalState::New, hold: Hold::Transaction }
    }
}

fn cannot_insert_several() -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, "cannot insert multiple commands into a prepared statement")
}

/// `42P03`
pub(crate) fn duplicate_portal(name: &str) -> SqlError {
    SqlError::new(SqlState::DUPLICATE_CURSOR, format!("cursor \"{name}\" already exists"))
}

pub(crate) fn unknown_portal(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}

impl Session {
    /// Parse. Types of 0 or beyond the list are inferred.
    ///
    /// # Errors
    /// What parsing and planning find; 42P05 for a name in use.
    pub async fn parse(&mut self, name: &str, sql: &str, param_oids: &[u32]) -> Result<(), SqlError> {
        let text: Arc<str> = sql.into();
        self.begin_statement(text.clone());
        let result = match self.fresh_catalog().await {
            Ok(()) => self.parse_inner(name, text, param_oids).await,
            Err(e) => Err(e),
        };
        self.end_message(result).await
    }

    async fn parse_inner(&mut self, name: &str, text: Arc<str>, param_oids: &[u32]) -> Result<(), SqlError> {
        if name.is_empty() {
            self.statements.remove("");
        } else if self.statements.contains_key(name) {
            return Err(duplicate_statement(name));
        }
        let declared = param_oids.iter().map(|&oid| declared_type(oid)).collect::<Result<Vec<_>, _>>()?;
        let (parsed, plan) = match self.cached(&text, &declared) {
            Some((parsed, plan)) => (Some(parsed), plan),
            None => {
                let mut statements = meridian_plan::parse(&text).map_err(|e| self.unless_failed(e))?;
                if statements.len() > 1 {
                    return Err(cannot_insert_several());
                }
                match statements.pop().map(Arc::new) {
                    None => (None, Arc::new(CachedPlan::empty())),
                    Some(parsed) => {
                        self.look_back(&parsed).await?;
                        let plan = self.plan(&parsed, &declared).map_err(|e| self.unless_failed(e))?;
                        let plan = self.keep(&text, &declared, &parsed, plan);
                        (Some(parsed), plan)
                    }
                }
            }
        };
        self.check_failed(&plan.planned)?;
        let prepared = Prepared::new(text, parsed, declared, plan, false);
        self.statements.insert(name.to_owned(), Arc::new(prepared));
        if !name.is_empty() {
            self.note_prepared();
        }
        Ok(())
    }

    pub(crate) fn find_statement(&self, name: &str) -> Result<Arc<Prepared>, SqlError> {
        self.statements.get(name).cloned().ok_or_else(|| unknown_statement(name))
    }

    /// The plan of a prepared statement, made anew where the catalog has changed.
    pub(crate) fn current_plan(&self, prepared: &Prepared) -> Result<Arc<CachedPlan>, SqlError> {
        let mut plan = prepared.plan.lock();
        if plan.is_current(self.snapshot().version(), self.private_catalog()) || self.is_failed() {
            return Ok(plan.clone());
        }
        let fresh = self.refresh(&plan)?;
        *plan = fresh;
        Ok(plan.clone())
    }

    /// Describe of a statement.
    ///
    /// # Errors
    /// 26000 for an unknown name.
    pub fn describe_statement(&mut self, name: &str) -> Result<StatementDescription, SqlError> {
        let prepared = self.find_statement(name)?;
        let plan = prepared.plan.lock().clone();
        Ok(StatementDescription {
            parameters: plan.planned.param_types.clone().into(),
            rows: plan.rows.clone(),
        })
    }

    /// Bind.
    ///
    /// # Errors
    /// 26000 for an unknown statement, 42P03 for a portal in use, and what is wrong with the values.
    pub async fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        params: BindParams<'_>,
    ) -> Result<(), SqlError> {
        self.start_timeout();
        let result = self.bind_inner(portal, statement, params).await;
        self.end_message(result).await
    }

    async fn bind_inner(
        &mut self,
        portal: &str,
        statement: &str,
        bind: BindParams<'_>,
    ) -> Result<(), SqlError> {
        let prepared = self.find_statement(statement)?;
        if portal.is_empty() {
            self.portals.remove("");
        } else if self.portals.get(portal).is_some() {
            return Err(duplicate_portal(portal));
        }
        if self.transaction.as_ref().is_some_and(|t| t.is_failed)
            && !Session::ends_failure(&prepared.plan.lock().planned)
        {
            return Err(in_failed_transaction());
        }
        if let Some(parsed) = &prepared.parsed {
            self.look_back(parsed).await?;
        }
        let plan = self.current_plan(&prepared)?;
        let types = &plan.planned.param_types;
        if bind.parameters.len() != types.len() {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement \"{statement}\" requires {}",
                bind.parameters.len(),
                types.len()
            );
            return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        let columns = plan.rows.as_ref().map_or(0, |r| r.fields.len());
        if bind.result_formats.len() > 1 && bind.result_formats.len() != columns {
            let message = format!(
                "bind message has {} result formats but query has {columns} columns",
                bind.result_formats.len()
            );
            return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        let params = if types.is_empty() { Vec::new() } else { self.decode_params(types, bind)? };
        let rows = plan.rows_as(bind.result_formats);
        let state = PortalState::New;
        let hold = Hold::Transaction;
        self.portals.insert(portal, Portal { prepared, plan, params, rows, state, hold });
        Ok(())
    }

    fn decode_params(&self, types: &[DataType], bind: BindParams<'_>) -> Result<Vec<Datum>, SqlError> {
        if bind.parameter_formats.len() > 1 && bind.parameter_formats.len() != types.len() {
            let message = format!(
                "bind message has {} parameter formats but {} parameters",
                bind.parameter_formats.len(),
                types.len()
            );
            return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        let (zone, style) = self.date_settings();
        let mut eval = EvalContext::new(zone, 0, 0);
        eval.date_style = style;
        let mut out = Vec::with_capacity(types.len());
        for (i, (ty, value)) in types.iter().zip(bind.parameters).enumerate() {
            let format = match bind.parameter_formats {
                [] => Format::Text,
                [one] => *one,
                many => many[i],
            };
            out.push(match (value, format) {
                (None, _) => Datum::Null,
                (Some(bytes), Format::Binary) => parse_binary(bytes, ty)?,
                (Some(bytes), Format::Text) => {
                    let text = std::str::from_utf8(bytes).map_err(|_| {
                        SqlError::new(
                            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                            "invalid byte sequence for encoding \"UTF8\"",
                        )
                    })?;
                    self.text_param(&eval, text, ty)?
                }
            });
        }
        Ok(out)
    }

    /// A parameter that came as text. Names of objects are looked up in the catalog.
    fn text_param(&self, eval: &EvalContext, text: &str, ty: &DataType) -> Result<Datum, SqlError> {
        let is_name =
            matches!(ty, DataType::RegClass | DataType::RegType | DataType::RegProc | DataType::RegNamespace);
        if !is_name {
            return parse_text(eval, text, ty);
        }
        let path = self.settings.lock().effective().search_path.clone();
        let snapshot = self.snapshot();
        let oid = meridian_catalog::parse_reg(&snapshot, &self.database, &path, &self.user, text, ty)?;
        Ok(Datum::Int(i64::from(oid)))
    }

    /// Describe of a portal.
    ///
    /// # Errors
    /// 34000 for an unknown name.
    pub fn describe_portal(&self, name: &str) -> Result<Option<Arc<RowDescription>>, SqlError> {
        self.portals.get(name).map(|p| p.rows.clone()).ok_or_else(|| unknown_portal(name))
    }

    /// Close of a statement; an unknown name is no error. Portals made from it stay, as in PostgreSQL, whatever its manual
    /// says of the message.
    pub fn close_statement(&mut self, name: &str) {
        if self.statements.remove(name).is_some() && !name.is_empty() {
            self.note_prepared();
        }
    }

    /// Close of a portal; an unknown name is no error.
    pub fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }

    /// Execute. `max_rows` of 0 is no limit.
    ///
    /// # Errors
    /// What the statement fails with.
    pub async fn execute(
        &mut self,
        portal: &str,
        max_rows: u32,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let result = self.execute_inner(portal, max_rows, sink).await;
        self.end_message(result).await
    }

    async fn execute_inner(
        &mut self,
        name: &str,
        max_rows: u32,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let Some(mut portal) = self.portals.remove(name) else { return Err(unknown_portal(name)) };
        self.begin_statement(portal.prepared.text.clone());
        if let PortalState::New = portal.state {
            if self.transaction.is_none() {
                self.begin(false);
                self.replay = None;
            }
            self.begin_pipeline(sink);
            self.lease().await?;
            if let Some(parsed) = &portal.prepared.parsed {
                self.look_back(parsed).await?;
            }
            portal.plan = self.current_plan(&portal.prepared)?;
            let can_suspend = max_rows > 0 && matches!(portal.plan.planned.plan, StatementPlan::Query(_));
            if !can_suspend {
                return self.execute_whole(name, portal, sink).await;
            }
            self.check_failed(&portal.plan.planned)?;
            self.replay = None;
        }
        let (shape, begins) = (portal.plan.shape.clone(), matches!(portal.state, PortalState::New));
        let begun = Instant::now();
        self.row_count = 0;
        let result = Box::pin(self.fetch_journaled(name, portal, max_rows, sink)).await;
        if let Some(shape) = shape {
            shape.note(&result, begins, self.row_count, begun.elapsed());
        }
        result.map(|()| Flow::Done)
    }

    /// Runs a portal to its end at once.
    async fn execute_whole(
        &mut self,
        name: &str,
        mut portal: Portal,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let start = sink.position();
        let is_first = self.transaction.as_ref().is_some_and(|t| !t.is_explicit && !t.has_run);
        let params = std::mem::take(&mut portal.params);
        let can_replay = is_first && self.is_own_transaction(&portal.plan);
        let kept = if can_replay { params.clone() } else { Vec::new() };
        let mut replay = portal.prepared.parsed.clone().filter(|_| can_replay).map(|parsed| Replay {
            parsed,
            plan: portal.plan.clone(),
            params: kept,
            rows: portal.rows.clone(),
            declared: portal.prepared.declared.clone(),
            seed: self.new_seed(),
            start,
            end: start,
        });
        self.seed = replay.as_ref().map(|r| r.seed);
        let mut result = self.run_plan(&portal.plan, params, portal.rows.clone(), false, sink).await;
        self.seed = None;
        if let (Err(e), Some(r)) = (&result, &replay)
            && is_retry(e)
            && self.retries_transparently()
        {
            result = Box::pin(self.run_again(r, e.clone(), sink)).await;
        }
        let flow = result?;
        if let Some(r) = &mut replay {
            r.end = sink.position();
        }
        self.replay = replay;
        // Control statements may have ended the transaction and all portals with it.
        let tag = command_tag(&portal.plan.planned.tag, 0, 0);
        portal.state = PortalState::Done(tag);
        if flow == Flow::Done && self.transaction.is_some() {
            self.portals.insert(name, portal);
        }
        Ok(flow)
    }

    /// Sends up to `max_rows` rows of a portal, which begins to run if it does not yet.
    pub(crate) async fn fetch(
        &mut self,
        portal: &mut Portal,
        max_rows: u32,
        sink: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        if let PortalState::New = portal.state {
            portal.plan = self.refresh(&portal.plan)?;
            let statement = Arc::new(self.statement(&portal.plan.planned, portal.params.clone())?);
            let execution = Execution::start(statement.clone());
            let source = Source::Execution(execution);
            let running = Running { source, statement, pending: None, passed: 0 };
            portal.state = PortalState::Running(Box::new(running));
        }
        let running = match &mut portal.state {
            PortalState::Running(r) => r,
            PortalState::Done(tag) => {
                sink.complete(*tag);
                return Ok(());
            }
            PortalState::New => unreachable!("the portal was just started"),
        };
        let rows = portal.rows.clone().unwrap_or_default();
        let mut left = if max_rows == 0 { usize::MAX } else { max_rows as usize };
        let mut sent = 0u64;
        loop {
            let batch = running.next().await?;
            if sent == 0 {
                self.check_read()?;
            }
            let Some(batch) = batch else { break };
            if batch.len() > left {
                sink.batch(&rows, &batch.slice(0..left), &running.statement.eval)?;
                running.pending = Some(batch.slice(left..batch.len()));
                running.passed += left as u64;
                self.row_count = sent + left as u64;
                self.send_warnings(sink);
                sink.suspended();
                return Ok(());
            }
            left -= batch.len();
            sent += batch.len() as u64;
            running.passed += batch.len() as u64;
            sink.batch(&rows, &batch, &running.statement.eval)?;
            drain(sink).await?;
            if left == 0 {
                self.row_count = sent;
                // PostgreSQL does not look ahead: the portal is suspended even when no row is left.
                self.send_warnings(sink);
                sink.suspended();
                return Ok(());
            }
        }
        let affected = match &running.source {
            Source::Execution(execution) => execution.affected(),
            Source::Rows(_) => 0,
        };
        let tag = command_tag(&portal.plan.planned.tag, sent, affected);
        self.complete(sink, tag);
        let done = match &portal.plan.planned.tag {
            Tag::Select => CommandTag::Select(0),
            other => command_tag(other, 0, 0),
        };
        portal.state = PortalState::Done(done);
        Ok(())
    }

    /// Sync: the implicit transaction is committed.
    ///
    /// # Errors
    /// A commit that failed; its statement has been run again as often as it made sense.
    pub async fn sync(&mut self, sink: &mut dyn ResultSink) -> Result<(), SqlError> {
        let replay = self.replay.take().filter(|r| sink.position() == r.end);
        // The time that the client took to send Sync is not the commit's.
        self.start_timeout();
        let mut result = self.end_implicit(sink).await;
        if let (Err(e), Some(r)) = (&result, replay)
            && is_retry(e)
            && self.retries_transparently()
        {
            result = Box::pin(self.commit_again(&r, e.clone(), sink)).await;
        }
        if let Err(e) = &result {
            self.note_error(e);
            self.fail().await;
        }
        self.tell_settings(sink);
        self.note_idle();
        result
    }

    /// The edge refused a message that it could not make sense of (a text that is not UTF-8): fails the transaction as a
    /// failed statement does.
    pub async fn refuse(&mut self) {
        self.replay = None;
        self.fail().await;
    }

    /// A message of the extended protocol ends; an error fails the transaction.
    async fn end_message<T>(&mut self, result: Result<T, SqlError>) -> Result<T, SqlError> {
        if let Err(e) = &result {
            self.note_error(e);
            self.replay = None;
            self.fail().await;
        }
        result
    }
}

/// The type that a client declared by its oid.
fn declared_type(oid: u32) -> Result<DataType, SqlError> {
    match oid {
        0 | 705 => Ok(DataType::Unknown),
        _ => DataType::from_oid(oid, -1).ok_or_else(|| {
            SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type with OID {oid} does not exist"))
        }),
    }
}
