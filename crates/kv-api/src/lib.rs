//! The seam between SQL and the distributed store: transactions over ordered keys.
//!
//! SQL above this seam knows nothing of shards, leaders or replicas; the store below knows nothing of tables. The
//! seam has two implementations: the gateway in `meridian-kv`, and [`MemoryKv`] for tests of SQL alone.
//!
//! Two kinds of transaction share one trait:
//!
//! - *read-write*: reads lock at the shard leaders (strict two-phase locking), writes are buffered and overlaid on the
//!   transaction's own later reads, commit gives one timestamp at which everything took effect;
//! - *read-only*: takes no locks, sees one snapshot, never aborts for a conflict.
//!
//! Strict serializability is the promise of both.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod buffer;
mod cluster;
mod error;
mod memory;

pub use buffer::{TXN_BYTES_MAX, WriteBuffer, write_bytes};
pub use cluster::{
    ClockInfo, ClockSourceInfo, Cluster, EpsilonInfo, LeaseInfo, LockInfo, NodeInfo, ReplicaChange,
    ShardInfo, TransactionInfo,
};
pub use error::{KvError, RetryReason};
pub use memory::{MemoryClock, MemoryKv};

use async_trait::async_trait;
use bytes::Bytes;
use meridian_types::{Key, Span, Timestamp, TtInterval, TxnId};

/// The store, as one node sees it.
#[async_trait]
pub trait Kv: Send + Sync {
    /// TrueTime on this node.
    fn now(&self) -> Result<TtInterval, KvError>;

    /// Begins a read-write transaction. Nothing is sent until it reads, locks or commits.
    fn begin(&self, options: ReadWriteOptions) -> Box<dyn KvTxn>;

    /// Begins a read-only transaction.
    fn begin_read_only(&self, options: ReadOnlyOptions) -> Box<dyn KvTxn>;

    /// Writes versions at `at`, a moment of the past, beneath whatever is newer: the backfill of an index. It takes no
    /// locks, conflicts with nobody, and may be done again. Nothing is written any more once absolute time may be past
    /// `until`. The caller sees to it that nobody reads these keys at or above `at` yet; readers may come at timestamps
    /// above the one that is returned, once this has returned.
    async fn fill(&self, at: Timestamp, until: Timestamp, writes: Vec<KvWrite>)
    -> Result<Timestamp, KvError>;
}

/// How a read-write transaction begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadWriteOptions {
    /// The id of an earlier attempt of the same transaction, whose age the new one keeps (wound-wait).
    pub retry_of: Option<TxnId>,
}

/// How a read-only transaction begins.
#[derive(Clone, Copy, Debug)]
pub struct ReadOnlyOptions {
    /// Which snapshot.
    pub bound: ReadBound,
    /// The caller promises that everything it reads lies in its first operation (one key, one list of keys, or one
    /// span). Where that is within one shard, the shard's leader picks the timestamp and nothing waits.
    pub single_operation: bool,
}

/// How fresh a read-only transaction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadBound {
    /// Sees everything that was answered before it began.
    Strong,
    /// At exactly this timestamp.
    At(Timestamp),
    /// Not older than this timestamp; as fresh as the nearest replica has without waiting.
    AtLeast(Timestamp),
}

/// How a read of a read-write transaction locks. Ignored by read-only transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadLock {
    /// Shared: a plain read, or FOR SHARE.
    #[default]
    Shared,
    /// Exclusive: the read precedes a write, or FOR UPDATE.
    Exclusive,
}

/// What to do about a lock that is not free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LockWait {
    /// Wait (wound-wait decides who yields).
    #[default]
    Wait,
    /// Fail with [`KvError::LockNotAvailable`].
    NoWait,
    /// Leave the row out.
    SkipLocked,
}

/// Locking of one read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Locking {
    /// How strong.
    pub lock: ReadLock,
    /// If not free.
    pub wait: LockWait,
}

impl Locking {
    /// Shared, waiting.
    pub const SHARED: Locking = Locking { lock: ReadLock::Shared, wait: LockWait::Wait };
    /// Exclusive, waiting.
    pub const EXCLUSIVE: Locking = Locking { lock: ReadLock::Exclusive, wait: LockWait::Wait };
}

/// A page of a scan is asked for.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// The keys.
    pub span: Span,
    /// Descending.
    pub reverse: bool,
    /// At most this many rows in the page; the store may return fewer.
    pub limit: usize,
    /// Locking, in a read-write transaction.
    pub locking: Locking,
}

/// A page of a scan.
#[derive(Clone, Debug, Default)]
pub struct ScanPage {
    /// Rows in order.
    pub rows: Vec<(Key, Bytes)>,
    /// The rest of the span, to be asked for next; `None` at the end. A page may be empty and have a rest.
    pub resume: Option<Span>,
}

/// One write: a value, or a deletion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KvWrite {
    /// The key.
    pub key: Key,
    /// The value; `None` deletes.
    pub value: Option<Bytes>,
}

/// A mark in the write buffer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Savepoint(pub usize);

/// A transaction. Methods take `&self`, so that several operators of one plan may read through it; calls that write,
/// mark, commit or roll back come from one task only.
///
/// After [`KvError::Retry`] the transaction is dead: roll it back and begin another with `retry_of`.
#[async_trait]
pub trait KvTxn: Send + Sync {
    /// The id, of a read-write transaction.
    fn id(&self) -> Option<TxnId>;

    /// The snapshot of a read-only transaction, once it is known.
    fn read_timestamp(&self) -> Option<Timestamp>;

    /// Reads one key.
    async fn get(&self, key: Key, locking: Locking) -> Result<Option<Bytes>, KvError>;

    /// Reads several keys at once, one message per shard. Answers in the order of `keys`. Under
    /// [`LockWait::SkipLocked`] a locked row reads as `None`.
    async fn multi_get(&self, keys: Vec<Key>, locking: Locking) -> Result<Vec<Option<Bytes>>, KvError>;

    /// Reads one page of a span.
    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, KvError>;

    /// Buffers writes. Waits only when the buffer has grown so large that a part of it is staged at the shards.
    async fn write(&self, writes: Vec<KvWrite>) -> Result<(), KvError>;

    /// Marks the write buffer.
    fn savepoint(&self) -> Savepoint;

    /// Undoes the writes after the mark; the mark stays. Locks stay too, as in PostgreSQL.
    async fn rollback_to(&self, savepoint: Savepoint) -> Result<(), KvError>;

    /// A lock is not waited for longer than this, or as long as it takes; a wait that is under way is not changed. Counts
    /// from the moment at which a shard is asked.
    fn set_lock_timeout(&self, _timeout: Option<std::time::Duration>) {}

    /// Whether a read-only transaction may send a read that waits to a second replica, as it does unless told otherwise.
    fn set_hedging(&self, _on: bool) {}

    /// What the transaction writes may take at most this many bytes, as [`write_bytes`] counts them;
    /// [`TXN_BYTES_MAX`] unless told otherwise.
    fn limit_bytes(&self, _max: usize) {}

    /// The transaction may not commit above this timestamp (the end of the schema lease that it was planned under).
    /// The lowest bound given wins.
    fn limit_commit_timestamp(&self, max: Timestamp);

    /// The transaction may not commit below this timestamp, which may be yet to come: what it wrote and read stays locked
    /// until it has passed. The greatest bound given wins. Does nothing to a transaction that writes nothing.
    fn raise_commit_timestamp(&self, min: Timestamp);

    /// How much the transaction has written and not sent yet, as [`write_bytes`] counts it.
    fn written_bytes(&self) -> usize {
        0
    }

    /// Sends to the shards ahead of a commit what is too big to travel with it. A bound on the commit timestamp that is
    /// set afterwards need not outlast the sending, which takes as long as it takes to replicate the writes. The
    /// transaction reads and writes nothing more.
    async fn send_ahead(&self) -> Result<(), KvError> {
        Ok(())
    }

    /// Commits. Returns the commit timestamp (of a transaction that wrote), once it has passed everywhere.
    async fn commit(&self) -> Result<Option<Timestamp>, KvError>;

    /// Nobody wants the commit that is under way any more. It ends as soon as it is known how: without effect
    /// ([`KvError::Stopped`]) where that can still be, with success where it was decided already.
    fn stop_commit(&self) {}

    /// Ends without effect. Never fails: what can't be told to a shard, the shard finds out.
    async fn rollback(&self);

    /// Ends without effect, once it is known whether what was read stands: it may have been another's commit that was decided
    /// only afterwards, or never. Comes before an error that rests on it is told. A read-only transaction reads nothing of that kind.
    ///
    /// # Errors
    /// [`KvError::Retry`] where it does not stand, and others where that could not be learned.
    async fn rollback_confirmed(&self) -> Result<(), KvError> {
        self.rollback().await;
        Ok(())
    }
}
