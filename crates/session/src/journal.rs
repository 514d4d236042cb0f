//! What a transaction block has done so far, so that it can be run again unnoticed.
//!
//! A step is a statement with its parameters, the seed of its volatile functions, and a digest of what the client was
//! told. The journal belongs to one transaction and lives in memory: it holds `transparent_retry_limit` bytes at most (1 MB
//! unless set otherwise), besides the data of COPY, which has a limit of its own (`copied`); a transaction that outgrows
//! either goes on, but is not run again.
//!
//! Invariants: either `steps` is everything that the transaction has done since it began, or `lost` says why not and
//! `steps` is empty; what is lost stays lost until the transaction ends.

use std::sync::Arc;

use meridian_datum::{Datum, SqlError, SqlState};
use meridian_exec::is_retry;
use meridian_plan::ddl::{CopyDirection, Ddl};
use meridian_plan::session::SessionStatement;
use meridian_plan::{PlannedStatement, StatementPlan};

use crate::api::RowDescription;
use crate::cache::CachedPlan;
use crate::copied::Copied;
use crate::extended::Unopened;

/// What a step costs beside its texts and parameters.
const STEP_BYTES: usize = 256;
/// A parsed and planned statement that nobody else keeps, as a multiple of its text.
const PLAN_BYTES_PER_TEXT_BYTE: usize = 16;

/// What volatile functions of a statement start from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seed {
    /// `statement_timestamp()`, in microseconds of the PostgreSQL epoch.
    pub(crate) now: i64,
    /// Of `random()` and its like.
    pub(crate) random: u64,
}

/// A statement as it was called.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) plan: Arc<CachedPlan>,
    pub(crate) params: Vec<Datum>,
    pub(crate) rows: Option<Arc<RowDescription>>,
    /// Rows are announced, as simple queries do.
    pub(crate) describes: bool,
}

/// What a step does.
pub(crate) enum Action {
    /// Runs a statement to its end.
    Run(Call),
    /// Fetches rows from a portal; its first step makes it, unless it is a cursor.
    Fetch { portal: String, max_rows: u32, opens: Option<Unopened> },
    /// COPY FROM STDIN, with what the client sent. That it was asked to send is no part of the answer.
    Copy { call: Call, data: Copied },
}

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    Done,
    /// With an error that says something about data; the block goes on from a savepoint.
    Failed,
    /// With an error that says nothing about data (a timeout, a lock that was not free). There is nothing to repeat: a
    /// savepoint from before it undoes what it had done.
    Interrupted,
}

impl Ending {
    pub(crate) fn of<T>(result: &Result<T, SqlError>) -> Ending {
        match result {
            Ok(_) => Ending::Done,
            Err(e) if is_transient(e) => Ending::Interrupted,
            Err(_) => Ending::Failed,
        }
    }
}

/// An error that says nothing about what the statement would answer.
pub(crate) fn is_transient(e: &SqlError) -> bool {
    const TRANSIENT: [SqlState; 4] = [
        SqlState::QUERY_CANCELED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::CONNECTION_FAILURE,
    ];
    is_retry(e) || TRANSIENT.contains(&e.state)
}

/// One step.
pub(crate) struct Step {
    pub(crate) action: Action,
    pub(crate) seed: Seed,
    /// Digest of what was answered.
    pub(crate) answer: u64,
    pub(crate) ending: Ending,
}

/// Why a transaction is not run again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lost {
    /// It is one statement, which its caller runs again as a whole.
    NoBlock,
    /// `transparent_retries` is off.
    Off,
    /// Its journal would be greater than the limit.
    TooLong,
    /// It reads one snapshot, which never conflicts.
    Snapshot,
    /// It changes the schema: that is done in steps which others see.
    SchemaChange,
    /// It changes the cluster, which its end does not undo.
    ClusterChange,
    /// It takes or gives up advisory locks of the session, which its end does not undo.
    SessionLock,
    /// It has copied in more data than is kept.
    CopyTooLong,
    /// A statement of it was refused before it ran, and a savepoint brought the block back.
    Refused,
    /// A part of the answer to the statement that met the conflict has been sent.
    Sent,
    /// Run again, a statement answered differently.
    Changed,
    /// Running it again failed.
    Interrupted,
}

impl Lost {
    fn why(self) -> &'static str {
        match self {
            Lost::NoBlock => "It is no transaction block.",
            Lost::Off => "Transparent retries are off.",
            Lost::TooLong => "It is too long to be run again unnoticed (transparent_retry_limit).",
            Lost::Snapshot => "It is read-only and therefore not run again unnoticed.",
            Lost::SchemaChange => "It changes the schema and is therefore not run again unnoticed.",
            Lost::ClusterChange => "It changes the cluster and is therefore not run again unnoticed.",
            Lost::SessionLock => {
                "It has changed advisory locks of the session and is therefore not run again unnoticed."
            }
            Lost::CopyTooLong => {
                "It copies in more data than is kept to run it again unnoticed (copy_retry_limit)."
            }
            Lost::Refused => "A statement was refused in it; it is therefore not run again unnoticed.",
            Lost::Sent => "A part of the statement's answer had been sent.",
            Lost::Changed => "Run again, it would have answered differently than before.",
            Lost::Interrupted => "It was interrupted while it was run again.",
        }
    }

    /// The conflict's error, with the reason why the client has to hear of it.
    pub(crate) fn explain(self, conflict: SqlError) -> SqlError {
        if self == Lost::NoBlock || !is_retry(&conflict) {
            return conflict;
        }
        let detail = match &conflict.detail {
            Some(reason) => format!("{reason} {}", self.why()),
            None => self.why().to_owned(),
        };
        conflict.with_detail(detail)
    }
}

/// The steps of a block.
#[derive(Default)]
pub(crate) struct Journal {
    steps: Vec<Step>,
    bytes: usize,
    lost: Option<Lost>,
}

impl Journal {
    /// A journal that is none.
    pub(crate) fn none(why: Lost) -> Journal {
        Journal { steps: Vec::new(), bytes: 0, lost: Some(why) }
    }

    /// Adds a step, unless the journal is lost or would be greater than `limit` bytes.
    pub(crate) fn push(&mut self, step: Step, limit: usize) {
        if self.lost.is_some() {
            return;
        }
        self.bytes += step.bytes();
        if self.bytes > limit {
            return self.lose(Lost::TooLong);
        }
        self.steps.push(step);
    }

    /// From here on the transaction can't be run again.
    pub(crate) fn lose(&mut self, why: Lost) {
        if self.lost.is_none() {
            *self = Journal::none(why);
        }
    }

    pub(crate) fn lost(&self) -> Option<Lost> {
        self.lost
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Bytes of COPY data that are kept.
    pub(crate) fn copied_bytes(&self) -> usize {
        let of = |step: &Step| match &step.action {
            Action::Copy { data, .. } => data.bytes(),
            Action::Run(_) | Action::Fetch { .. } => 0,
        };
        self.steps.iter().map(of).sum()
    }

    /// Whether the last thing that happened is an error that is written down.
    pub(crate) fn ends_in_failure(&self) -> bool {
        self.steps.last().is_some_and(|step| step.ending != Ending::Done)
    }
}

impl Step {
    fn bytes(&self) -> usize {
        let held = match &self.action {
            // The data has a limit of its own.
            Action::Run(call) | Action::Copy { call, .. } => call.bytes(),
            Action::Fetch { portal, opens, .. } => {
                portal.len() + opens.as_ref().map_or(0, |p| params_bytes(p.params()))
            }
        };
        STEP_BYTES + held
    }
}

impl Call {
    fn bytes(&self) -> usize {
        // The plans of prepared statements are kept anyway.
        let plan = if self.describes { self.plan.text_bytes() * PLAN_BYTES_PER_TEXT_BYTE } else { 0 };
        plan + params_bytes(&self.params)
    }
}

fn params_bytes(params: &[Datum]) -> usize {
    params.iter().map(|p| size_of::<Datum>() + p.heap_size()).sum()
}

/// What a statement means for the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A step.
    Step,
    /// Begins or ends the transaction, or leaves it alone, or (EXECUTE) runs another statement that is the step.
    NoStep,
    /// Nothing that could be done twice.
    Once(Lost),
}

impl Kind {
    pub(crate) fn of(planned: &PlannedStatement) -> Kind {
        match &planned.plan {
            StatementPlan::Query(_) if planned.changes_cluster() => Kind::Once(Lost::ClusterChange),
            StatementPlan::Query(_) if planned.locks_for_session() => Kind::Once(Lost::SessionLock),
            StatementPlan::Query(_)
            | StatementPlan::PointSelect(_)
            | StatementPlan::PointUpdate(_)
            | StatementPlan::PointDelete(_)
            | StatementPlan::PointInsert(_)
            | StatementPlan::Explain(_) => Kind::Step,
            // It removes rows, and leaves the schema alone.
            StatementPlan::Ddl(ddl) if matches!(**ddl, Ddl::Truncate { .. }) => Kind::Step,
            StatementPlan::Ddl(_) => Kind::Once(Lost::SchemaChange),
            StatementPlan::Session(s) => Kind::of_control(s),
        }
    }

    fn of_control(statement: &SessionStatement) -> Kind {
        match statement {
            SessionStatement::Declare { query, .. } if query.locks_for_session() => {
                Kind::Once(Lost::SessionLock)
            }
            SessionStatement::Savepoint(_)
            | SessionStatement::Release(_)
            | SessionStatement::RollbackTo(_)
            | SessionStatement::SetTransaction(_)
            | SessionStatement::SetSessionCharacteristics(_)
            | SessionStatement::Set { .. }
            | SessionStatement::Reset(_)
            | SessionStatement::Show(_)
            | SessionStatement::ShowCluster(_)
            | SessionStatement::ShowAll
            | SessionStatement::Declare { .. }
            | SessionStatement::Fetch { .. }
            | SessionStatement::Close(_)
            | SessionStatement::Copy(_)
            | SessionStatement::LockTable { .. } => Kind::Step,
            SessionStatement::Role(_) => Kind::Once(Lost::ClusterChange),
            SessionStatement::Empty
            | SessionStatement::Begin(_)
            | SessionStatement::Commit { .. }
            | SessionStatement::Rollback { .. }
            | SessionStatement::SetCluster { .. }
            | SessionStatement::Prepare { .. }
            | SessionStatement::Execute { .. }
            | SessionStatement::Deallocate(_)
            | SessionStatement::Discard(_)
            | SessionStatement::Maintenance { .. }
            | SessionStatement::Unlisten
            | SessionStatement::Job { .. } => Kind::NoStep,
        }
    }
}

/// Whether a statement is COPY FROM STDIN.
pub(crate) fn copies_in(planned: &PlannedStatement) -> bool {
    let StatementPlan::Session(statement) = &planned.plan else { return false };
    match &**statement {
        SessionStatement::Copy(copy) => matches!(copy.direction, CopyDirection::From { .. }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(bytes: usize) -> Step {
        let params = vec![Datum::from("x".repeat(bytes).as_str())];
        let call = Call { plan: Arc::new(CachedPlan::empty()), params, rows: None, describes: true };
        let seed = Seed { now: 0, random: 0 };
        Step { action: Action::Run(call), seed, answer: 0, ending: Ending::Done }
    }

    #[test]
    fn a_journal_beyond_its_limit_is_given_up() {
        let mut journal = Journal::default();
        journal.push(step(1000), 4000);
        journal.push(step(1000), 4000);
        assert_eq!((journal.steps().len(), journal.lost()), (2, None));
        journal.push(step(2000), 4000);
        assert_eq!((journal.steps().len(), journal.lost()), (0, Some(Lost::TooLong)));
        journal.push(step(1), 4000);
        journal.lose(Lost::Changed);
        assert!(journal.steps().is_empty(), "what is lost stays lost");
        assert_eq!(journal.lost(), Some(Lost::TooLong), "for the first reason");
    }
}
