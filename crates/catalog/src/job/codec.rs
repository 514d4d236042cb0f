//! Job records as bytes: a protobuf message whose tags and ordinals are frozen. 0 is never an ordinal.

use bytes::Bytes;
use meridian_keys::JobId;
use meridian_types::{Key, NodeId, Span, Timestamp};
use prost::Message;

use super::{Job, JobError, JobPhase, JobSession, JobState, JobWish, JobWork, Transition};
use crate::descriptor::TableDesc;
use crate::ids::{IndexId, TableId};
use crate::store::{CodecError, Descriptor};

/// What could not be understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum JobCodecError {
    #[error("{0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("{field} has the unknown value {value}")]
    Unknown { field: &'static str, value: u32 },
    #[error("{0}")]
    Table(#[from] CodecError),
    #[error("the transition is not one from table to table")]
    Transition,
}

#[derive(Clone, PartialEq, Message)]
struct JobRecord {
    /// 1 statement, 2 add index, 3 rewrite, 4 clean, 5 alter.
    #[prost(uint32, tag = "1")]
    work: u32,
    #[prost(uint32, optional, tag = "2")]
    index: Option<u32>,
    #[prost(uint32, tag = "3")]
    storage: u32,
    #[prost(uint32, tag = "4")]
    new_storage: u32,
    #[prost(bool, tag = "5")]
    forget: bool,
    #[prost(uint32, optional, tag = "6")]
    table: Option<u32>,
    #[prost(string, tag = "7")]
    table_name: String,
    #[prost(string, tag = "8")]
    statement: String,
    #[prost(string, tag = "9")]
    user: String,
    #[prost(string, tag = "10")]
    database: String,
    #[prost(string, tag = "11")]
    search_path: String,
    /// 1 queued, 2 running, 3 paused, 4 succeeded, 5 failed, 6 cancelled.
    #[prost(uint32, tag = "12")]
    state: u32,
    /// 1 run, 2 pause, 3 cancel.
    #[prost(uint32, tag = "13")]
    wish: u32,
    /// 1 waiting, 2 backfill, 3 validation, 4 rewrite, 5 removal, 6 constraints.
    #[prost(uint32, tag = "14")]
    phase: u32,
    #[prost(uint64, tag = "15")]
    rows_done: u64,
    #[prost(uint64, optional, tag = "16")]
    rows_total: Option<u64>,
    #[prost(fixed64, tag = "17")]
    created: u64,
    #[prost(fixed64, optional, tag = "18")]
    started: Option<u64>,
    #[prost(fixed64, optional, tag = "19")]
    finished: Option<u64>,
    #[prost(fixed64, optional, tag = "20")]
    start_at: Option<u64>,
    #[prost(uint32, tag = "21")]
    runner: u32,
    #[prost(uint64, tag = "22")]
    claim: u64,
    #[prost(fixed64, tag = "23")]
    lease_end: u64,
    #[prost(message, repeated, tag = "24")]
    rest: Vec<SpanRecord>,
    #[prost(message, optional, tag = "25")]
    error: Option<ErrorRecord>,
    #[prost(string, tag = "26")]
    time_zone: String,
    #[prost(string, tag = "27")]
    date_style: String,
    /// Indexes from `index` on besides the first one.
    #[prost(uint32, tag = "28")]
    more_indexes: u32,
    /// Descriptors, as they are stored: both or none.
    #[prost(bytes = "bytes", optional, tag = "29")]
    before: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "30")]
    after: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct SpanRecord {
    #[prost(bytes = "bytes", tag = "1")]
    start: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    end: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct ErrorRecord {
    #[prost(string, tag = "1")]
    code: String,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(string, optional, tag = "3")]
    detail: Option<String>,
    #[prost(string, optional, tag = "4")]
    schema: Option<String>,
    #[prost(string, optional, tag = "5")]
    table: Option<String>,
    #[prost(string, optional, tag = "6")]
    column: Option<String>,
    #[prost(string, optional, tag = "7")]
    constraint: Option<String>,
}

pub(super) fn encode(job: &Job) -> Bytes {
    let (work, index, storage, new_storage, forget) = match job.work {
        JobWork::Statement => (1, None, 0, 0, false),
        JobWork::AddIndexes { first, .. } => (2, Some(first.0), 0, 0, false),
        JobWork::Rewrite { old, new, first_index } => (3, Some(first_index.0), old.0, new.0, false),
        JobWork::Clean { storage, index, forget } => (4, index.map(|i| i.0), storage.0, 0, forget),
        JobWork::Alter => (5, None, 0, 0, false),
    };
    let state = match job.state {
        JobState::Queued => 1,
        JobState::Running => 2,
        JobState::Paused => 3,
        JobState::Succeeded => 4,
        JobState::Failed => 5,
        JobState::Cancelled => 6,
    };
    let wish = match job.wish {
        JobWish::Run => 1,
        JobWish::Pause => 2,
        JobWish::Cancel => 3,
    };
    let phase = match job.phase {
        JobPhase::Waiting => 1,
        JobPhase::Backfill => 2,
        JobPhase::Validation => 3,
        JobPhase::Rewrite => 4,
        JobPhase::Removal => 5,
        JobPhase::Constraints => 6,
    };
    let bytes = |key: &Key| Bytes::copy_from_slice(key.as_bytes());
    let span = |s: &Span| SpanRecord { start: bytes(&s.start), end: s.end.as_ref().map(bytes) };
    let table = |t: &TableDesc| Descriptor::Table(Box::new(t.clone())).encode();
    let record = JobRecord {
        work,
        index,
        storage,
        new_storage,
        forget,
        table: job.table.map(|t| t.0),
        table_name: job.table_name.clone(),
        statement: job.statement.clone(),
        user: job.session.user.clone(),
        database: job.session.database.clone(),
        search_path: job.session.search_path.clone(),
        state,
        wish,
        phase,
        rows_done: job.rows_done,
        rows_total: job.rows_total,
        created: job.created.as_nanos(),
        started: job.started.map(Timestamp::as_nanos),
        finished: job.finished.map(Timestamp::as_nanos),
        start_at: job.start_at.map(Timestamp::as_nanos),
        runner: job.runner.get(),
        claim: job.claim,
        lease_end: job.lease_end.as_nanos(),
        rest: job.rest.iter().map(span).collect(),
        error: job.error.clone().map(error_record),
        time_zone: job.session.time_zone.clone(),
        date_style: job.session.date_style.clone(),
        more_indexes: match job.work {
            JobWork::AddIndexes { count, .. } => count - 1,
            _ => 0,
        },
        before: job.transition.as_ref().map(|t| table(&t.before)),
        after: job.transition.as_ref().map(|t| table(&t.after)),
    };
    record.encode_to_vec().into()
}

fn error_record(e: JobError) -> ErrorRecord {
    let (schema, table) = e.table.unzip();
    let JobError { code, message, detail, column, constraint, .. } = e;
    ErrorRecord { code, message, detail, schema, table, column, constraint }
}

fn error(e: ErrorRecord) -> JobError {
    let table = e.schema.zip(e.table);
    let ErrorRecord { code, message, detail, column, constraint, .. } = e;
    JobError { code, message, detail, table, column, constraint }
}

pub(super) fn decode(id: JobId, bytes: &[u8]) -> Result<Job, JobCodecError> {
    let r = JobRecord::decode(bytes)?;
    let work = match r.work {
        1 => JobWork::Statement,
        2 => JobWork::AddIndexes {
            first: IndexId(r.index.unwrap_or_default()),
            count: r.more_indexes.saturating_add(1),
        },
        3 => JobWork::Rewrite {
            old: TableId(r.storage),
            new: TableId(r.new_storage),
            first_index: IndexId(r.index.unwrap_or_default()),
        },
        4 => JobWork::Clean { storage: TableId(r.storage), index: r.index.map(IndexId), forget: r.forget },
        5 => JobWork::Alter,
        value => return Err(JobCodecError::Unknown { field: "work", value }),
    };
    let state = match r.state {
        1 => JobState::Queued,
        2 => JobState::Running,
        3 => JobState::Paused,
        4 => JobState::Succeeded,
        5 => JobState::Failed,
        6 => JobState::Cancelled,
        value => return Err(JobCodecError::Unknown { field: "state", value }),
    };
    let wish = match r.wish {
        1 => JobWish::Run,
        2 => JobWish::Pause,
        3 => JobWish::Cancel,
        value => return Err(JobCodecError::Unknown { field: "wish", value }),
    };
    let phase = match r.phase {
        1 => JobPhase::Waiting,
        2 => JobPhase::Backfill,
        3 => JobPhase::Validation,
        4 => JobPhase::Rewrite,
        5 => JobPhase::Removal,
        6 => JobPhase::Constraints,
        value => return Err(JobCodecError::Unknown { field: "phase", value }),
    };
    let time = Timestamp::from_nanos;
    Ok(Job {
        id,
        work,
        transition: transition(r.before, r.after)?,
        table: r.table.map(TableId),
        table_name: r.table_name,
        statement: r.statement,
        session: JobSession {
            user: r.user,
            database: r.database,
            search_path: r.search_path,
            time_zone: r.time_zone,
            date_style: r.date_style,
        },
        state,
        wish,
        phase,
        rows_done: r.rows_done,
        rows_total: r.rows_total,
        created: time(r.created),
        started: r.started.map(time),
        finished: r.finished.map(time),
        start_at: r.start_at.map(time),
        runner: NodeId::new(r.runner),
        claim: r.claim,
        lease_end: time(r.lease_end),
        rest: r.rest.into_iter().map(|s| Span::new(Key::new(s.start), s.end.map(Key::new))).collect(),
        error: r.error.map(error),
    })
}

fn transition(before: Option<Bytes>, after: Option<Bytes>) -> Result<Option<Box<Transition>>, JobCodecError> {
    let table = |bytes: Bytes| match Descriptor::decode(&bytes)? {
        Descriptor::Table(table) => Ok(*table),
        Descriptor::Database(_) | Descriptor::Schema(_) => Err(JobCodecError::Transition),
    };
    match (before, after) {
        (None, None) => Ok(None),
        (Some(before), Some(after)) => {
            Ok(Some(Box::new(Transition { before: table(before)?, after: table(after)? })))
        }
        (Some(_), None) | (None, Some(_)) => Err(JobCodecError::Transition),
    }
}
