//! Inputs and outputs of [`crate::Replica`]: what its driver feeds it and carries out for it.
//!
//! The driver owns a replica behind one short lock, steps it, and carries out the outputs in this order:
//!
//! 1. `send` goes to the transport at once;
//! 2. `persist` goes to the node's log writer, with `send_after_persist` released when it is durable, followed by
//!    [`Input::Persisted`];
//! 3. each of `apply` is written to the data engine with `Durability::Buffered`, in order, followed by one
//!    [`Input::Applied`] for the last of them;
//! 4. each of `serve` is read from the data engine outside of the lock and answered;
//! 5. `replies` are delivered.
//!
//! A read is served outside of the lock because it is already stable: its keys are locked, or its timestamp is closed.

use std::sync::Arc;

use meridian_paxos::{Envelope, HardState, LogEntry, Message, Persist, PersistToken};
use meridian_storage::WriteBatch;
use meridian_types::{Ballot, GroupId, Key, NodeId, Slot, Span, Timestamp, TxnId};

use crate::{Outcome, ReadOp, Registration, Request, Response, ShardDescriptor, ShardError};

/// Names a request between [`Input::Request`] and its reply. Unique per node while it runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct RequestId(pub u64);

/// What a replica is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// Time passed; also due at [`crate::Replica::next_wake`].
    Tick,
    /// A gateway or another shard asks.
    Request {
        /// Names the reply.
        id: RequestId,
        /// What.
        request: Request,
    },
    /// Nobody waits for this request any more (the client is gone). Locks it holds stay until `Rollback`.
    Cancel(RequestId),
    /// A Paxos message arrived.
    Paxos {
        /// Who sent it.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// Log writes up to the token are durable.
    Persisted(PersistToken),
    /// The data engine holds everything up to this slot.
    Applied(Slot),
    /// The data engine has made everything up to this slot durable: the log may be truncated.
    DataDurable(Slot),
    /// The leader's closed timestamp, from the coalesced broadcast.
    Closed(ClosedTimestamp),
    /// A snapshot received from a peer has been written to the data engine. The driver reads the descriptor back.
    SnapshotInstalled {
        /// Covered through.
        applied: Slot,
    },
    /// Campaign at once (bootstrap, first leader of a split-off shard).
    Campaign,
    /// Versions that only reads below this timestamp can see are not kept any longer. Heeded by a leader alone.
    Collect(Timestamp),
    /// A log write failed: no votes and no leading any more.
    StorageFailed,
}

/// No commit at or below `closed` is in a slot above `through`.
///
/// That stays true whoever leads later: a later leader proposes again what may have been chosen in the same slots, and
/// its own timestamps lie above the lease in which this was promised (I-4, I-5). So the ballot is told for display only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClosedTimestamp {
    /// The leader that closed it.
    pub ballot: Ballot,
    /// The timestamp.
    pub closed: Timestamp,
    /// Apply this first.
    pub through: Slot,
}

/// One applied log entry's effect on the data engine. It holds the applied slot, so that a replay is idempotent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Apply {
    /// Which slot.
    pub slot: Slot,
    /// Its effect.
    pub batch: WriteBatch,
}

/// A read that may be done now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Serve {
    /// Whose reply it becomes.
    pub id: RequestId,
    /// What.
    pub ops: Vec<ReadOp>,
    /// At which timestamp; [`Timestamp::MAX`] reads the newest versions (under locks).
    pub at: Timestamp,
    /// Goes into the reply.
    pub registration: Option<Registration>,
    /// Under locks: values that are newer than what the data engine has, by position in `ops` (docs/decisions/0024).
    pub overlay: Vec<(usize, Option<bytes::Bytes>)>,
    /// The rows to leave out (SKIP LOCKED).
    pub skip: Vec<Key>,
}

impl Serve {
    /// A read without locks.
    pub fn at(id: RequestId, ops: Vec<ReadOp>, at: Timestamp) -> Self {
        Serve { id, ops, at, registration: None, overlay: Vec::new(), skip: Vec::new() }
    }
}

/// A new replica to create on this node, as the effect of a split.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateReplica {
    /// The new shard.
    pub descriptor: ShardDescriptor,
    /// Its timestamps start above this.
    pub floor: Timestamp,
    /// This node led the parent and campaigns for the child at once.
    pub campaign: bool,
}

/// Work that crosses shards and therefore needs routing, which a replica does not know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recovery {
    /// A prepared transaction heard nothing: send `QueryOutcome { abort_unknown: true }` to the shard of `coordinator`,
    /// then `Resolve` to this group with the answer.
    AskOutcome {
        /// Who.
        id: TxnId,
        /// Where the outcome is.
        coordinator: Key,
        /// A key of this shard, to which the outcome goes.
        here: Key,
    },
    /// A decided transaction was not forgotten: send `Resolve` to each participant, then `Forget` to this group.
    TellParticipants {
        /// Who.
        id: TxnId,
        /// How it ended.
        outcome: Outcome,
        /// Whom to tell.
        participants: Vec<Key>,
        /// A key of this shard, to which `Forget` goes.
        here: Key,
    },
}

/// What one step asks of the driver. Reused between steps: the driver drains it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outputs {
    /// For the log writer.
    pub persist: Vec<Persist>,
    /// Names this step's `persist`.
    pub token: PersistToken,
    /// To send at once.
    pub send: Vec<Envelope>,
    /// To send after `persist`.
    pub send_after_persist: Vec<Envelope>,
    /// For the data engine.
    pub apply: Vec<Apply>,
    /// Reads to do.
    pub serve: Vec<Serve>,
    /// Answers.
    pub replies: Vec<(RequestId, Result<Response, ShardError>)>,
    /// Replicas to create.
    pub create: Vec<CreateReplica>,
    /// Cross-shard work.
    pub recovery: Vec<Recovery>,
    /// Timestamps that readers wait for here: send `CloseTimestamp` to the leader, and feed a positive answer back as
    /// [`Input::Closed`] (the ballot in it is only a hint, see there).
    pub close_requests: Vec<Timestamp>,
    /// Members that need a snapshot, streamed by the driver from the data engine at the applied slot.
    pub snapshot_to: Vec<NodeId>,
    /// This node is no member any more: the replica is to be dropped with all that it has.
    pub removed: bool,
    /// The node now leads (`Some(true)`), or stopped leading (`Some(false)`) this group.
    pub leading: Option<bool>,
}

/// What the driver loads for a replica after a restart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// From the log engine.
    pub hard: HardState,
    /// From the log engine: slots up to here are gone.
    pub truncated: Slot,
    /// From the log engine.
    pub entries: Vec<LogEntry>,
    /// From the data engine.
    pub applied: Slot,
    /// From the data engine.
    pub descriptor: ShardDescriptor,
    /// From the data engine: whether data is applied here. It is not by a witness.
    pub holds_data: bool,
    /// From the data engine: the greatest commit timestamp applied.
    pub last_commit: Timestamp,
    /// From the data engine: no leader assigns a timestamp at or below this one.
    pub floor: Timestamp,
    /// From the data engine: the greatest timestamp of any decision.
    pub decided: Timestamp,
    /// From the data engine: whose entries have an effect.
    pub epoch: crate::Epoch,
    /// From the data engine: reads below are refused.
    pub gc_horizon: Timestamp,
    /// From the data engine: encoded prepare records by transaction.
    pub prepared: Vec<(TxnId, bytes::Bytes)>,
    /// From the data engine: encoded outcome records of this group that wait for acknowledgements.
    pub outcomes: Vec<(TxnId, bytes::Bytes)>,
    /// From the data engine: the locked spans of staged chunks.
    pub staged: Vec<(TxnId, u32, Span)>,
}

/// What an operator sees of a replica (`meridian.shards`, `meridian.leases`, `meridian.locks`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaStatus {
    /// The shard.
    pub descriptor: ShardDescriptor,
    /// Who leads, as far as is known here.
    pub leader: Option<NodeId>,
    /// True when this replica leads.
    pub is_leader: bool,
    /// The lease's end, on the leader.
    pub lease_end: Option<Timestamp>,
    /// The ballot promised.
    pub ballot: Ballot,
    /// Everything up to here is chosen.
    pub committed: Slot,
    /// Everything up to here is applied.
    pub applied: Slot,
    /// Reads at or below are possible here, prepared transactions aside.
    pub safe_time: Timestamp,
    /// Transactions that are prepared and undecided.
    pub prepared: usize,
    /// Transactions that hold locks.
    pub lock_holders: usize,
    /// Requests that wait for a lock.
    pub lock_waiters: usize,
}

/// Used by status pages: a lock that is held or waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockStatus {
    /// The group.
    pub group: GroupId,
    /// What is locked.
    pub span: Span,
    /// Who.
    pub txn: TxnId,
    /// How.
    pub mode: crate::LockMode,
    /// False for a waiter.
    pub granted: bool,
}

/// A data engine as replicas see it: read-only.
pub type SharedReader = Arc<dyn meridian_storage::Reader>;
