//! Several statements of one message.
//!
//! Outside of a block they are one transaction. What its first statements read must still hold when a later one commits, so
//! they read under locks, as in a block. Where none can write, locks are of no use and all read one snapshot. Which of both
//! it is, is in the statements' plans: each is planned once more for that before the first one runs.
//!
//! The plans may turn out to be others when the statements run (a prepared statement is replaced on the way). A write that
//! comes after reads of a snapshot is a conflict, after which all of them are run again under locks: [`Outlook`]
//! decides what is cheap, never what is right.
//!
//! ```text
//!   statement, statement, ... ──end of the message, COMMIT──> committed
//!        | 40001 that running it again with the same answers has not cured (`replay`)
//!        +── answers still buffered ──> dropped; the transaction begins anew under its age, with its first statement
//!        +── a part was sent ──> the client
//! ```

use std::sync::Arc;

use meridian_datum::SqlError;
use meridian_exec::{is_retry, sql_error};
use meridian_kv_api::{KvError, RetryReason};
use meridian_plan::session::SessionStatement;
use meridian_plan::{ParsedStatement, PlanContext, PlannedStatement, StatementPlan};

use crate::api::{Flow, ResultSink};
use crate::block::Transaction;
use crate::journal::Kind;
use crate::session::Session;
use crate::transaction::ATTEMPTS_MAX;

/// What an implicit transaction may still come to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outlook {
    /// It is one statement, or several that come one by one, of which each that only reads has a snapshot of its own.
    Unknown,
    /// Its statements only read: they have one snapshot.
    Reads,
    /// One of its statements may write: all of them read under locks.
    MayWrite,
}

/// What one statement says about the transaction.
enum Effect {
    Reads,
    MayWrite,
    /// The transaction ends with it.
    Ends,
}

impl Transaction {
    /// Whether what it reads must stay as it is until it commits.
    pub(crate) fn may_write(&self) -> bool {
        self.is_explicit || self.outlook == Outlook::MayWrite
    }

    /// Refuses a write where what was read before has no locks; the transaction is then run again with them.
    pub(crate) fn check_write_after_reads(&mut self, planned: &PlannedStatement) -> Result<(), SqlError> {
        let is_snapshot = !self.is_explicit && self.kv_read_only && !self.kv_is_spent;
        if !is_snapshot || planned.is_read_only || self.modes.read_only {
            return Ok(());
        }
        self.outlook = Outlook::MayWrite;
        Err(reads_without_locks())
    }

    /// The same for a pipeline, which nobody can foresee: its statements come one by one. Where it can't be run again, its reads
    /// stay what they were.
    pub(crate) fn check_write_after_snapshots(&mut self, planned: &PlannedStatement) -> Result<(), SqlError> {
        let is_pipeline = !self.is_explicit && self.outlook == Outlook::Unknown;
        if !is_pipeline || self.journal.lost().is_some() || planned.is_read_only || self.modes.read_only {
            return Ok(());
        }
        self.outlook = Outlook::MayWrite;
        Err(reads_without_locks())
    }
}

/// What has been read may have changed since.
fn reads_without_locks() -> SqlError {
    sql_error(KvError::Retry { reason: RetryReason::LocksLost })
}

/// Where in the message the open transaction began.
struct Beginning {
    statement: usize,
    /// Of the sink.
    position: u64,
    attempts: u32,
    /// Whether all that it has done goes away when it is rolled back.
    is_undone: bool,
}

impl Session {
    /// Runs statements as one implicit transaction, as far as they do not say otherwise.
    pub(crate) async fn run_several(
        &mut self,
        statements: Vec<Arc<ParsedStatement>>,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let mut next = 0;
        let mut beginning = None;
        loop {
            if self.transaction.is_none() && next < statements.len() {
                self.begin(false);
                self.transaction.as_mut().expect("just begun").keep_journal();
                let position = sink.position();
                beginning = Some(Beginning { statement: next, position, attempts: 1, is_undone: true });
            }
            let result = match statements.get(next) {
                Some(_) => self.run_next(&statements[next..], beginning.as_mut(), sink).await,
                None => self.end_implicit(sink).await.map(|()| (Flow::Done, 0)),
            };
            match result {
                Ok((Flow::CopyIn, _)) => {
                    let copy = self.copy.as_mut().expect("COPY has begun");
                    copy.rest = statements[next + 1..].to_vec();
                    copy.is_simple = true;
                    return Ok(Flow::CopyIn);
                }
                Ok((Flow::Done, _)) if next == statements.len() => return Ok(Flow::Done),
                Ok((Flow::Done, done)) => next += done,
                Err(e) => next = self.begin_again(beginning.as_mut(), e, sink).await?,
            }
        }
    }

    /// Runs the first of the statements that are left, and those that are done together with it; how many these are.
    async fn run_next(
        &mut self,
        left: &[Arc<ParsedStatement>],
        mut beginning: Option<&mut Beginning>,
        sink: &mut dyn ResultSink,
    ) -> Result<(Flow, usize), SqlError> {
        let statement = &left[0];
        self.start_timeout();
        self.lease().await?;
        let t = self.transaction.as_ref().expect("the transaction is open");
        if !t.is_explicit && !t.has_run && t.outlook == Outlook::Unknown {
            let outlook = self.outlook(left);
            self.transaction.as_mut().expect("the transaction is open").outlook = outlook;
        }
        self.look_back(statement).await?;
        let plan = self.plan(statement, &[]).map_err(|e| self.unless_failed(e))?;
        let (plan, more) = self.with_indexes_that_follow(plan, &left[1..]);
        let plan = Arc::new(plan);
        let kind = Kind::of(&plan.planned);
        if let Some(beginning) = &mut beginning {
            beginning.is_undone &= !matches!(kind, Kind::Once(_));
        }
        let flow = self.run_in_transaction(&plan, Vec::new(), sink).await?;
        if let Some(beginning) = beginning {
            beginning.is_undone &= kind == Kind::Step;
        }
        Ok((flow, 1 + more))
    }

    /// After an error: begins the open transaction anew, if it is a conflict and the client has seen nothing of it. The
    /// statement to go on with.
    async fn begin_again(
        &mut self,
        beginning: Option<&mut Beginning>,
        e: SqlError,
        sink: &mut dyn ResultSink,
    ) -> Result<usize, SqlError> {
        let Some(beginning) = beginning else { return Err(e) };
        let Some(t) = self.transaction.as_ref().filter(|t| !t.is_explicit) else { return Err(e) };
        let can_retry = is_retry(&e)
            && self.retries_transparently()
            && beginning.is_undone
            && beginning.attempts < ATTEMPTS_MAX
            && !self.cancel.is_cancelled();
        let retry_of = self.attempt_id().or(t.retry_of);
        if !can_retry || !sink.rewind(beginning.position) {
            return Err(e);
        }
        beginning.attempts += 1;
        self.shared.retries.note_statement();
        self.roll_back().await;
        self.locks.run_again();
        self.cancel.guard(tokio::time::sleep(self.backoff(beginning.attempts))).await?;
        self.begin(false);
        let t = self.transaction.as_mut().expect("just begun");
        t.keep_journal();
        t.retry_of = retry_of;
        // What was thought of it may have been wrong.
        t.outlook = Outlook::MayWrite;
        Ok(beginning.statement)
    }

    /// What the transaction that the first of these statements begins will do, as far as the others belong to it.
    fn outlook(&self, statements: &[Arc<ParsedStatement>]) -> Outlook {
        for statement in statements {
            match self.effect(statement) {
                Effect::Reads => {}
                Effect::MayWrite => return Outlook::MayWrite,
                Effect::Ends => break,
            }
        }
        Outlook::Reads
    }

    fn effect(&self, statement: &ParsedStatement) -> Effect {
        // It is planned on the catalog of its moment, and writes nothing.
        if statement.has_as_of() {
            return Effect::Reads;
        }
        let snapshot = self.snapshot();
        let effective = self.settings.lock().effective().clone();
        let eval = self.eval_context();
        let context = PlanContext {
            snapshot: &snapshot,
            database: &self.database,
            user: &self.user,
            search_path: &effective.search_path,
            param_types: &[],
            eval: &eval,
        };
        // It may be fit for planning once the statements before it have run.
        let Ok(planned) = meridian_plan::plan_statement(&context, statement) else { return Effect::MayWrite };
        match &planned.plan {
            StatementPlan::Session(s) => self.control_effect(s, planned.is_read_only),
            _ if planned.is_read_only => Effect::Reads,
            _ => Effect::MayWrite,
        }
    }

    fn control_effect(&self, statement: &SessionStatement, is_read_only: bool) -> Effect {
        match statement {
            SessionStatement::Commit { .. } | SessionStatement::Rollback { .. } => Effect::Ends,
            SessionStatement::Execute { name, .. } => {
                let found = self.statements.get(name);
                let only_reads = found.is_some_and(|prepared| prepared.plan.lock().planned.is_read_only);
                if only_reads { Effect::Reads } else { Effect::MayWrite }
            }
            SessionStatement::Set { .. }
            | SessionStatement::Reset(_)
            | SessionStatement::Show(_)
            | SessionStatement::ShowCluster(_)
            | SessionStatement::ShowAll
            | SessionStatement::SetSessionCharacteristics(_)
            | SessionStatement::Prepare { .. }
            | SessionStatement::Deallocate(_)
            | SessionStatement::Fetch { .. }
            | SessionStatement::Close(_)
            | SessionStatement::Empty => Effect::Reads,
            _ if is_read_only => Effect::Reads,
            _ => Effect::MayWrite,
        }
    }
}
