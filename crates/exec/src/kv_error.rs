//! The one table from errors of the store to SQLSTATEs.

use meridian_datum::{SqlError, SqlState};
use meridian_kv_api::{KvError, RetryReason};

fn reason(r: RetryReason) -> &'static str {
    match r {
        RetryReason::Wounded => "The transaction yielded a lock to an older one.",
        RetryReason::LocksLost => "The transaction's locks were lost with the leader that held them.",
        RetryReason::WouldDeadlock => "The transaction could not prepare without waiting for an older one.",
        RetryReason::NoTimestamp => "No commit timestamp was possible within the schema or leader lease.",
        RetryReason::Recovered => "Recovery aborted the transaction.",
    }
}

/// What the client is told.
#[cold]
pub fn sql_error(e: KvError) -> SqlError {
    match e {
        KvError::Retry { reason: r } => SqlError::new(
            SqlState::SERIALIZATION_FAILURE,
            "could not serialize access due to concurrent transactions",
        )
        .with_detail(reason(r))
        .with_hint("The transaction might succeed if retried."),
        KvError::Ambiguous => {
            SqlError::new(SqlState::STATEMENT_COMPLETION_UNKNOWN, "the outcome of the commit is unknown")
                .with_hint("Check whether the transaction took effect before it is repeated.")
        }
        KvError::LockNotAvailable => {
            SqlError::new(SqlState::LOCK_NOT_AVAILABLE, "could not obtain lock on row in relation")
        }
        KvError::LockTimeout => {
            SqlError::new(SqlState::LOCK_NOT_AVAILABLE, "canceling statement due to lock timeout")
        }
        KvError::Stopped => {
            SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to user request")
        }
        KvError::TooLarge { .. } => SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, e.to_string()),
        KvError::SnapshotTooOld { .. } => {
            SqlError::new(SqlState::SNAPSHOT_TOO_OLD, "snapshot too old").with_detail(e.to_string())
        }
        KvError::InFuture { .. } => SqlError::new(SqlState::INVALID_PARAMETER_VALUE, e.to_string()),
        KvError::ReadOnly => {
            SqlError::new(SqlState::READ_ONLY_SQL_TRANSACTION, "cannot write in a read-only transaction")
        }
        KvError::Unavailable { .. } => SqlError::new(SqlState::CANNOT_CONNECT_NOW, e.to_string()),
        KvError::Internal { .. } => SqlError::new(SqlState::INTERNAL_ERROR, e.to_string()),
    }
}

/// Whether an error of [`sql_error`]'s table asks for the transaction to be run again.
pub fn is_retry(e: &SqlError) -> bool {
    e.state == SqlState::SERIALIZATION_FAILURE
}

/// Whether a commit may have taken effect or not, for all that is known.
pub fn is_ambiguous<T>(committed: &Result<T, SqlError>) -> bool {
    committed.as_ref().is_err_and(|e| e.state == SqlState::STATEMENT_COMPLETION_UNKNOWN)
}
