//! What a shard is asked and what it answers.
//!
//! Requests come from gateways (over gRPC, or by a direct call on the same node) and from other shards' leaders. They
//! are addressed by key: the group in the envelope is only the gateway's cached guess, and a replica that does not
//! cover the keys, or does not lead, answers with a typed redirect.
//!
//! ```text
//!  gateway                       participants                 coordinator
//!     | Read (locks) ------------->|                               |
//!     | <---- values, registration |                               |
//!     | Stage* (big writes) ------>|                               |
//!     | Prepare ------------------>| log Prepare                   |
//!     | <-- Vote [prepare_ts,max]  |                               |
//!     | Decide(votes, own writes) -------------------------------->| log Commit at s; commit wait
//!     | <---------------------------------------------- Committed s|
//!     | Resolve(s) --------------->| log Resolve, apply at s, unlock
//!     | Forget (all acknowledged) -------------------------------->| log Forget
//! ```
//! A transaction whose written keys all lie in one shard, and which read no other, sends `Commit` alone.

use bytes::Bytes;
use meridian_paxos::MemberKind;
use meridian_types::{Ballot, GroupId, Key, NodeId, Slot, Span, Timestamp, TxnId};

/// What a shard is: which keys, replicated where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardDescriptor {
    /// Its Paxos group.
    pub group: GroupId,
    /// Its keys.
    pub span: Span,
    /// Grows with every split, merge and change of members; the greater one is right.
    pub generation: u64,
    /// Where its replicas live, in ascending order of node.
    pub replicas: Vec<(NodeId, MemberKind)>,
}

/// Proof that a transaction's locks at a shard are the ones that it took: the leader's ballot, and a number that the
/// lock table gives to a transaction at its first lock there. A transaction whose locks were dropped (wounded, silent,
/// leader changed, split) and that comes back is told so, instead of silently going on without them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Registration {
    /// The leader's ballot when the first lock was taken.
    pub ballot: Ballot,
    /// Unique under this ballot.
    pub number: u64,
}

/// A transaction as a request names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxnRef {
    /// Which.
    pub id: TxnId,
    /// The registration that this shard answered earlier, `None` at the first contact.
    pub registration: Option<Registration>,
}

/// How strong a lock is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum LockMode {
    /// For reads; compatible with itself.
    Shared,
    /// For writes, and for reads that precede one.
    Exclusive,
}

/// What to do when a lock is not free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WaitPolicy {
    /// Wound-wait: wound younger holders, wait for older ones.
    #[default]
    Wait,
    /// Answer [`ShardError::WouldBlock`] (SELECT ... FOR UPDATE NOWAIT).
    NoWait,
    /// Leave locked rows out of the result (SKIP LOCKED).
    SkipLocked,
}

/// How a read is isolated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadMode {
    /// Under two-phase locking, at the leader, the newest version.
    Locking {
        /// Who locks.
        txn: TxnRef,
        /// How.
        mode: LockMode,
        /// What if not free.
        wait: WaitPolicy,
    },
    /// Lock-free at the leader, at a timestamp of its choice that is at or above every transaction answered before
    /// the request. Only when one shard holds all that the statement reads.
    Strong,
    /// Lock-free at any replica whose safe time reaches this timestamp; waits for it, asking the leader if needed.
    At(Timestamp),
}

/// One read of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadOp {
    /// One key.
    Get(Key),
    /// A page of a span. Under locking, the part of the span up to the end of the page is locked.
    Scan {
        /// The keys.
        span: Span,
        /// Descending order.
        reverse: bool,
        /// At most this many rows; see `limits::SCAN_PAGE_ROWS`.
        limit_rows: usize,
        /// Stop once this many bytes are collected (at least one row is returned).
        limit_bytes: usize,
    },
}

/// What one read found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadResult {
    /// For [`ReadOp::Get`].
    Value(Option<Bytes>),
    /// For [`ReadOp::Scan`]: rows in the order asked for, and what is left of the span.
    Rows {
        /// The rows.
        rows: Vec<(Key, Bytes)>,
        /// The rest, `None` when the scan is complete.
        resume: Option<Span>,
    },
}

/// One buffered write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// The key.
    pub key: Key,
    /// The value, `None` for a deletion.
    pub value: Option<Bytes>,
}

/// The window in which a participant can commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vote {
    /// The commit timestamp must be at or above this.
    pub prepare_ts: Timestamp,
    /// And at or below this.
    pub max_ts: Timestamp,
}

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// At this timestamp.
    Committed(Timestamp),
    /// Without effect.
    Aborted,
}

/// A request to one shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Reads, all under one mode and at one timestamp. All keys lie in one shard.
    Read {
        /// Isolation.
        mode: ReadMode,
        /// What to read; answered in order.
        ops: Vec<ReadOp>,
    },
    /// Replicates a part of a big transaction's writes ahead of its commit or prepare, taking exclusive locks on
    /// `lock` (the span that covers the chunk). Answered with [`Response::Staged`] once chosen.
    Stage {
        /// Whose.
        txn: TxnRef,
        /// Ascending from 0 at each shard.
        chunk: u32,
        /// What is locked.
        lock: Span,
        /// The writes.
        writes: Vec<Write>,
    },
    /// Commit of a transaction that touched only this shard. Locks not yet held on written keys are taken first, under
    /// wound-wait. Idempotent by transaction id.
    Commit {
        /// Who. No registration is needed when nothing was read under locks.
        txn: TxnRef,
        /// The writes beside the staged ones.
        writes: Vec<Write>,
        /// Chunks staged before.
        staged_chunks: u32,
        /// The commit timestamp must be at or below this (schema lease of the gateway, schema barriers).
        max_ts: Timestamp,
    },
    /// First phase at a participant. Takes missing write locks (never waiting for an older unprepared holder: that is
    /// answered with an abort, so that prepared transactions wait for nothing), logs a prepare record, votes. Without
    /// writes it votes without logging, with `max_ts` below the lease's end.
    Prepare {
        /// Who.
        txn: TxnRef,
        /// The writes beside the staged ones.
        writes: Vec<Write>,
        /// Chunks staged before.
        staged_chunks: u32,
        /// A written key of the coordinator's shard: where the outcome is.
        coordinator: Key,
        /// Upper bound from the gateway.
        max_ts: Timestamp,
    },
    /// Second phase at the coordinator, with its own writes and all votes. Answered after commit wait.
    Decide {
        /// Who.
        txn: TxnRef,
        /// The coordinator shard's own writes beside the staged ones.
        writes: Vec<Write>,
        /// Chunks staged before.
        staged_chunks: u32,
        /// The intersection of all votes and of the gateway's bound.
        window: Vote,
        /// One written or read key per participant with a prepare record: whom to tell.
        participants: Vec<Key>,
    },
    /// The outcome, told to a participant, or to a shard that only holds locks. Answered once applied. Idempotent: a shard
    /// that knows nothing of the transaction (any more) answers so too, if it is the one that is meant.
    Resolve {
        /// Who.
        id: TxnId,
        /// How it ended.
        outcome: Outcome,
        /// A key of the participant, by which a shard knows that it is not the one that is meant; `None` where locks
        /// are all that there is to be dropped.
        key: Option<Key>,
    },
    /// Every participant has applied: the outcome record may go.
    Forget {
        /// Who.
        id: TxnId,
        /// A key of the coordinator's shard.
        key: Key,
    },
    /// Drops an unprepared transaction's locks and staged chunks. A prepared one is left alone.
    Rollback {
        /// Who.
        id: TxnId,
    },
    /// Those of a transaction's requests that wait for a lock wait no longer, and are answered with
    /// [`ShardError::LockTimeout`]. What it holds stays.
    CancelWaits {
        /// Whose.
        id: TxnId,
    },
    /// Answers whether the locks of a transaction that wrote nothing still stood until now, and drops them.
    EndReads {
        /// Who, with its registration.
        txn: TxnRef,
    },
    /// These transactions of a gateway live.
    Heartbeat {
        /// Who.
        ids: Vec<TxnId>,
    },
    /// How did the transaction end? Asked of the coordinator's shard. With `abort_unknown` a shard without a record
    /// logs an abort first, so that a late `Decide` or `Commit` fails.
    QueryOutcome {
        /// Who.
        id: TxnId,
        /// A key of the coordinator's shard.
        key: Key,
        /// Decide it if undecided.
        abort_unknown: bool,
    },
    /// A follower asks the leader to close `at`: no commit at or below it will be proposed after the slot answered.
    CloseTimestamp {
        /// The timestamp that a reader needs.
        at: Timestamp,
    },
    /// Splits the shard: `[start, at)` stays, `[at, end)` becomes `new_group`. Drains prepared transactions first;
    /// unprepared ones that hold locks at or above `at` are aborted.
    Split {
        /// First key of the right half.
        at: Key,
        /// Its group, allocated by the caller.
        new_group: GroupId,
    },
    /// Writes versions at a timestamp of the past, beneath whatever is newer, without locks: the backfill of an index that
    /// nobody reads yet (see `fill.rs`). Answered with [`Response::Closed`] once applied. Idempotent.
    Fill {
        /// The versions' timestamp.
        at: Timestamp,
        /// Not proposed any more when absolute time may be past this: the end of the writer's lease.
        until: Timestamp,
        /// The versions.
        writes: Vec<Write>,
    },
    /// Makes a node a member, another kind of member, or none. Answered when it is so; asking again does no harm.
    ChangeReplica {
        /// Whose replica.
        node: NodeId,
        /// What it shall be; `None` removes it.
        kind: Option<MemberKind>,
    },
    /// Hands leadership to a voter.
    TransferLeader {
        /// To whom.
        to: NodeId,
    },
}

/// An answer of a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// To `Read`.
    Read {
        /// In the order of the request.
        results: Vec<ReadResult>,
        /// At which timestamp a lock-free read was done; zero under locking.
        read_ts: Timestamp,
        /// The transaction's registration, under locking.
        registration: Option<Registration>,
    },
    /// To `Stage`.
    Staged {
        /// The transaction's registration.
        registration: Registration,
    },
    /// To `Commit` and `Decide`.
    Committed {
        /// When. Absolute time is past it.
        commit_ts: Timestamp,
    },
    /// To `Prepare`.
    Voted(Vote),
    /// To `QueryOutcome`; `None` where undecided and `abort_unknown` was not set.
    Outcome(Option<Outcome>),
    /// To `CloseTimestamp`: everything at or below `closed` is in slots up to `through`. To `Fill`: it is in slot
    /// `through`, which whoever serves a timestamp above `closed` has applied.
    Closed {
        /// At or above the timestamp asked for.
        closed: Timestamp,
        /// Apply this first.
        through: Slot,
    },
    /// To `Split`.
    Split {
        /// What stays.
        left: ShardDescriptor,
        /// What is split off.
        right: ShardDescriptor,
    },
    /// To `ChangeReplica`.
    Changed {
        /// The shard with its new members.
        descriptor: ShardDescriptor,
    },
    /// To everything else.
    Done,
}

/// Why a shard did not do what it was asked. A variant exists where some caller reacts differently.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShardError {
    /// Not the leader (any more), or its lease is in doubt. Ask `leader`.
    #[error("replica does not lead group {group}")]
    NotLeader {
        /// Which group.
        group: GroupId,
        /// Who may.
        leader: Option<NodeId>,
    },
    /// The keys are not (all) in this shard. The descriptor corrects the caller's map.
    #[error("keys are outside of shard {}", .descriptor.group)]
    WrongShard {
        /// What this shard is.
        descriptor: ShardDescriptor,
    },
    /// No replica of this group lives here.
    #[error("no replica of group {group} lives on this node")]
    UnknownGroup {
        /// Which group.
        group: GroupId,
    },
    /// The transaction must be tried again (keeping its age).
    #[error("transaction aborted: {reason:?}")]
    Aborted {
        /// Why.
        reason: AbortReason,
    },
    /// A lock is held and the policy is not to wait.
    #[error("lock not available")]
    WouldBlock,
    /// A lock was waited for until the gateway had it cancelled.
    #[error("lock timeout")]
    LockTimeout,
    /// The transaction is decided already, differently from what the request wants (a late commit after an abort).
    #[error("transaction is already decided")]
    AlreadyDecided {
        /// How.
        outcome: Outcome,
    },
    /// The commit was proposed and then leadership was lost: ask for the outcome.
    #[error("outcome is not known")]
    OutcomeUnknown,
    /// The group can't go from its members to those asked for: a voter that was no read-only replica before, the leader
    /// itself, the last voter, a member with data that becomes one without, or as many witnesses as make a quorum.
    #[error("members can't be changed so")]
    UnsoundChange,
    /// The timestamp is below the garbage-collection horizon.
    #[error("timestamp {at} is below the garbage-collection horizon {horizon}")]
    BelowHorizon {
        /// Asked for.
        at: Timestamp,
        /// The oldest that can be read.
        horizon: Timestamp,
    },
    /// Queues are full; try again after a random delay.
    #[error("shard is overloaded")]
    Overloaded,
    /// The shard can't make this timestamp safe, for it lies too far in the future.
    #[error("timestamp {at} is in the future")]
    InFuture {
        /// Asked for.
        at: Timestamp,
    },
    /// The node can't bound its clock, or its disk failed.
    #[error("node is not fit to serve: {reason:?}")]
    Unfit {
        /// Why.
        reason: UnfitReason,
    },
}

/// Why a transaction was aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbortReason {
    /// An older transaction needed a lock.
    Wounded {
        /// Which.
        by: TxnId,
    },
    /// The locks are gone: the leader changed, the shard split, or the gateway was silent for too long.
    LocksLost,
    /// While preparing, a lock was held by an older unprepared transaction.
    WouldDeadlock,
    /// No timestamp lies in the window (lease end, schema bound).
    NoTimestamp,
    /// Somebody who found no outcome decided so.
    ByRecovery,
}

/// Why a node serves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnfitReason {
    /// TrueTime is unsure.
    Clock,
    /// A write to the log failed.
    Disk,
}
