//! What can go wrong below SQL.

use meridian_types::Timestamp;

/// Why a transaction must be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryReason {
    /// An older transaction needed a lock that this one held.
    Wounded,
    /// Locks were lost with their leader, by a split, or after silence.
    LocksLost,
    /// Preparing would have waited for an older transaction.
    WouldDeadlock,
    /// No commit timestamp was possible (lease or schema bound).
    NoTimestamp,
    /// Recovery decided to abort it.
    Recovered,
}

/// An error of the store. A variant exists where SQL reacts differently.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KvError {
    /// The transaction was aborted and may be tried again: 40001.
    #[error("transaction must be retried: {reason:?}")]
    Retry {
        /// Why.
        reason: RetryReason,
    },
    /// Whether the commit took effect could not be learned: 40003.
    #[error("commit outcome is unknown")]
    Ambiguous,
    /// NOWAIT found a lock: 55P03.
    #[error("lock not available")]
    LockNotAvailable,
    /// A lock was waited for longer than [`KvTxn::set_lock_timeout`](crate::KvTxn::set_lock_timeout) allows: 55P03.
    #[error("lock timeout")]
    LockTimeout,
    /// [`KvTxn::stop_commit`](crate::KvTxn::stop_commit) came in time: the commit had no effect and will have none. 57014.
    #[error("commit was stopped")]
    Stopped,
    /// A key, a value or a transaction is beyond its limit: 54000.
    #[error("{what} of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The snapshot is below the garbage-collection horizon: 72000.
    #[error("snapshot {at} is older than the garbage-collection horizon {horizon}")]
    SnapshotTooOld {
        /// Asked for.
        at: Timestamp,
        /// The oldest readable.
        horizon: Timestamp,
    },
    /// The snapshot lies in the future: 22023.
    #[error("snapshot {at} is in the future")]
    InFuture {
        /// Asked for.
        at: Timestamp,
    },
    /// A write in a read-only transaction: 25006.
    #[error("read-only transaction")]
    ReadOnly,
    /// No quorum, no leader, or no bounded clock within the time allowed: 57P03.
    #[error("store is unavailable: {detail}")]
    Unavailable {
        /// What was tried.
        detail: String,
    },
    /// A bug or a corrupted record: XX000.
    #[error("internal error: {detail}")]
    Internal {
        /// What was found.
        detail: String,
    },
}
