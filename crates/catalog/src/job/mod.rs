//! Jobs: what a schema change has still to do after its first version is in force.
//!
//! ```text
//!   queued --claim--> running ----------> succeeded | failed | cancelled
//!     ^               |  ^ the lease ran out: claimed by another node
//!     | RESUME  PAUSE v  |
//!     +------------ paused
//! ```
//! A record is written in the transaction of the descriptors that make it necessary, and its last state in the
//! transaction of those that end it, so that there is neither a change without a job nor a job without its change. A
//! runner holds a lease, an interval of TrueTime that it extends while it works. `claim` counts runners: whoever writes a
//! record under an old claim, or after the job's end, is refused ([`CatalogError::Outdated`]).
//!
//! Invariants: a job that is over never changes again; of two runners only the later can write.
//!
//! This module knows how jobs are kept. What they do is the executor's business.

mod codec;
#[cfg(test)]
mod tests;
mod transition;

pub use transition::Transition;

use meridian_datum::{SqlError, SqlState};
use meridian_keys::{JobId, SystemKey};
use meridian_kv_api::{KvTxn, KvWrite, Locking, ScanRequest};
use meridian_types::{Duration, Key, NodeId, Span, Timestamp, limits};

use crate::ids::{IndexId, TableId};
use crate::store::CatalogError;

/// A change that shall take effect at a time to come is taken up this long before: time to find it, to plan it, and to
/// announce its activation.
const START_AHEAD: Duration = Duration::from_secs(3);

/// What a job does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobWork {
    /// Plans and runs its statement.
    Statement,
    /// Writes the entries of indexes with one read of the table, and makes them readable together.
    AddIndexes {
        /// The first of them.
        first: IndexId,
        /// How many they are; their numbers follow each other.
        count: u32,
    },
    /// Looks at rows, and writes the entries of new indexes, while writers heed the new constraints already; then takes the
    /// job's [`Transition`] to its end.
    Alter,
    /// Moves rows from one storage to another (or only looks at them, where both are the same) while the table is locked.
    Rewrite {
        /// From where.
        old: TableId,
        /// To where.
        new: TableId,
        /// Indexes from this number on are the change's own.
        first_index: IndexId,
    },
    /// Removes rows that nobody can reach any more.
    Clean {
        /// Of which storage.
        storage: TableId,
        /// Of one index only.
        index: Option<IndexId>,
        /// The table's descriptor goes with them.
        forget: bool,
    },
}

impl JobWork {
    /// Its name, for operators.
    pub fn name(self) -> &'static str {
        match self {
            JobWork::Statement => "statement",
            JobWork::AddIndexes { .. } => "add index",
            JobWork::Alter => "alter table",
            JobWork::Rewrite { .. } => "rewrite",
            JobWork::Clean { .. } => "clean",
        }
    }

    /// It can be undone. What is gone is not brought back, so rows that nobody can reach are always removed.
    pub fn can_cancel(self) -> bool {
        !matches!(self, JobWork::Clean { .. })
    }
}

/// How far a job is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum JobState {
    /// Nobody has begun it.
    Queued,
    /// Somebody has a lease on it, or has died.
    Running,
    /// An operator has stopped it.
    Paused,
    /// Done.
    Succeeded,
    /// Undone, because of an error.
    Failed,
    /// Undone, because an operator or the client wanted so.
    Cancelled,
}

impl JobState {
    /// Its name, for operators.
    pub fn name(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Paused => "paused",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// Nothing more will happen.
    pub fn is_over(self) -> bool {
        self >= JobState::Succeeded
    }
}

/// What a job is about at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobPhase {
    /// Nothing is done yet.
    Waiting,
    /// Entries of existing rows are written.
    Backfill,
    /// Existing rows are checked against new constraints.
    Constraints,
    /// New unique indexes are compared with the rows.
    Validation,
    /// Rows are moved.
    Rewrite,
    /// Rows are removed.
    Removal,
}

impl JobPhase {
    /// Its name, for operators.
    pub fn name(self) -> &'static str {
        match self {
            JobPhase::Waiting => "waiting",
            JobPhase::Backfill => "backfill",
            JobPhase::Constraints => "constraints",
            JobPhase::Validation => "validation",
            JobPhase::Rewrite => "rewrite",
            JobPhase::Removal => "removal",
        }
    }
}

/// What operators want of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobWish {
    /// To go on.
    Run,
    /// To stop for a while.
    Pause,
    /// To be undone.
    Cancel,
}

/// Why a job failed: an error for a client, as far as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobError {
    /// SQLSTATE.
    pub code: String,
    /// The message.
    pub message: String,
    /// The detail.
    pub detail: Option<String>,
    /// The schema and the table concerned.
    pub table: Option<(String, String)>,
    /// The column concerned.
    pub column: Option<String>,
    /// The constraint that is violated.
    pub constraint: Option<String>,
}

impl From<&SqlError> for JobError {
    fn from(e: &SqlError) -> Self {
        JobError {
            code: e.state.code().to_owned(),
            message: e.message.to_string(),
            detail: e.detail.as_ref().map(ToString::to_string),
            table: e.schema.clone().zip(e.table.clone()),
            column: e.column.clone(),
            constraint: e.constraint.clone(),
        }
    }
}

impl JobError {
    /// The error for the client that waits for the job.
    pub fn to_sql(&self) -> SqlError {
        let state = SqlState::from_code(&self.code).unwrap_or(SqlState::INTERNAL_ERROR);
        let mut e = SqlError::new(state, self.message.clone());
        if let Some(detail) = &self.detail {
            e = e.with_detail(detail.clone());
        }
        if let Some((schema, table)) = &self.table {
            e = e.with_table(schema, table);
        }
        if let Some(column) = &self.column {
            e = e.with_column(column);
        }
        if let Some(constraint) = &self.constraint {
            e = e.with_constraint(constraint);
        }
        e
    }
}

/// Where and as whom a job's statement is planned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JobSession {
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The setting `search_path`.
    pub search_path: String,
    /// The setting `timezone`.
    pub time_zone: String,
    /// The setting `DateStyle`.
    pub date_style: String,
}

/// A job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// Which.
    pub id: JobId,
    /// What it does.
    pub work: JobWork,
    /// What becomes of the table; exactly while a job of [`JobWork::Alter`] is not over.
    pub transition: Option<Box<Transition>>,
    /// The table that it works on; changes of one table take turns. Unknown before a statement is planned.
    pub table: Option<TableId>,
    /// The table's name.
    pub table_name: String,
    /// The statement.
    pub statement: String,
    /// Whose it is.
    pub session: JobSession,
    /// How far it is.
    pub state: JobState,
    /// What operators want.
    pub wish: JobWish,
    /// What it is about.
    pub phase: JobPhase,
    /// Rows dealt with.
    pub rows_done: u64,
    /// Rows to deal with, where that is known.
    pub rows_total: Option<u64>,
    /// When it was made.
    pub created: Timestamp,
    /// When somebody began it.
    pub started: Option<Timestamp>,
    /// When it was over.
    pub finished: Option<Timestamp>,
    /// When it shall take effect; `None` for at once.
    pub start_at: Option<Timestamp>,
    /// Who runs it, or did last.
    pub runner: NodeId,
    /// Counts runners.
    pub claim: u64,
    /// Until when the runner has it.
    pub lease_end: Timestamp,
    /// What of the table is still to be read, once the phase has begun.
    pub rest: Vec<Span>,
    /// Why it failed.
    pub error: Option<JobError>,
}

impl Job {
    fn read(key: &Key, bytes: &[u8]) -> Result<Job, CatalogError> {
        let corrupt = |detail: String| CatalogError::Corrupt {
            key: meridian_keys::Pretty(key.as_bytes()).to_string(),
            detail,
        };
        let id = match SystemKey::decode(key.as_bytes()) {
            Ok(SystemKey::Job(id)) => id,
            _ => return Err(corrupt("not a job".to_owned())),
        };
        codec::decode(id, bytes).map_err(|e| corrupt(e.to_string()))
    }

    /// It can stop and go on later. A rewrite can't, since its table is locked, nor a statement that waits for its turn.
    pub fn can_pause(&self) -> bool {
        match self.work {
            JobWork::Statement => self.state != JobState::Running,
            JobWork::AddIndexes { .. } | JobWork::Alter | JobWork::Clean { .. } => true,
            JobWork::Rewrite { .. } => false,
        }
    }

    /// One job.
    pub async fn get(txn: &dyn KvTxn, id: JobId, locking: Locking) -> Result<Option<Job>, CatalogError> {
        let key = SystemKey::Job(id).encode();
        let found = txn.get(key.clone(), locking).await?;
        found.map(|bytes| Job::read(&key, &bytes)).transpose()
    }

    /// All jobs, oldest first.
    pub async fn all(txn: &dyn KvTxn) -> Result<Vec<Job>, CatalogError> {
        let mut jobs = Vec::new();
        let mut rest = Some(SystemKey::jobs());
        while let Some(span) = rest {
            let limit = limits::SCAN_PAGE_ROWS;
            let request = ScanRequest { span, reverse: false, limit, locking: Locking::SHARED };
            let page = txn.scan(request).await?;
            for (key, value) in page.rows {
                jobs.push(Job::read(&key, &value)?);
            }
            rest = page.resume;
        }
        Ok(jobs)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// [`CatalogError::Outdated`] when somebody else has claimed the job since, or it is over.
    pub async fn put(&self, txn: &dyn KvTxn) -> Result<(), CatalogError> {
        if let Some(stored) = Job::get(txn, self.id, Locking::EXCLUSIVE).await?
            && (stored.claim > self.claim || stored.state.is_over())
        {
            let (expected, found) = (self.claim, stored.claim);
            return Err(CatalogError::Outdated { id: self.id.get() as u32, expected, found });
        }
        let write = KvWrite { key: SystemKey::Job(self.id).encode(), value: Some(codec::encode(self)) };
        Ok(txn.write(vec![write]).await?)
    }

    /// Forgets the record.
    pub async fn delete(txn: &dyn KvTxn, id: JobId) -> Result<(), CatalogError> {
        Ok(txn.write(vec![KvWrite { key: SystemKey::Job(id).encode(), value: None }]).await?)
    }

    /// Whether a node that looks for work at `now`, the earliest that it can be, may take the job.
    pub fn is_adoptable(&self, now: Timestamp) -> bool {
        match self.state {
            JobState::Queued => self.start_at.is_none_or(|at| at <= now + START_AHEAD),
            JobState::Running => self.lease_end < now,
            JobState::Paused | JobState::Succeeded | JobState::Failed | JobState::Cancelled => false,
        }
    }

    /// The job as it is when it is over.
    pub fn ended(&self, at: Timestamp, error: Option<&SqlError>) -> Job {
        let state = match error {
            None => JobState::Succeeded,
            Some(e) if e.state == SqlState::QUERY_CANCELED => JobState::Cancelled,
            Some(_) => JobState::Failed,
        };
        let error = error.map(JobError::from);
        let rest = Vec::new();
        Job { state, error, rest, transition: None, finished: Some(at), ..self.clone() }
    }
}
