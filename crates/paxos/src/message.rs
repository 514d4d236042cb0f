//! Inputs, outputs and messages of one replica.
//!
//! ```text
//!             Input                          Outputs
//!   driver -----------> Replica::step ----------------> driver
//!                                       persist   -> log writer (one fsync for all groups)
//!                                       send      -> transport, at once
//!                                       after     -> transport, once `persist` is durable
//!                                       chosen    -> shard, in slot order
//! ```

use bytes::Bytes;
use meridian_types::{Ballot, Duration, GroupId, NodeId, Slot, Timestamp, TtInterval};

/// The moment of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The local oscillator: monotonic, unrelated to absolute time. Timeouts use it.
    pub mono: Timestamp,
    /// TrueTime, or `None` while the node can't bound its clock. Such a node takes and grants no lease and assigns no
    /// timestamp; it still promises, accepts and learns.
    pub tt: Option<TtInterval>,
}

/// The role of a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum MemberKind {
    /// Promises, accepts, votes for leases, may lead; holds data.
    Voter,
    /// Learns and holds data, never votes.
    ReadOnly,
    /// Promises, accepts and votes, and keeps the log; holds no data and never leads.
    Witness,
    /// Learns, and holds no data: what a witness is before it votes.
    Observer,
}

/// Who belongs to the group. Changed one member at a time by [`Command::Membership`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    /// Members in ascending order of node.
    pub members: Vec<(NodeId, MemberKind)>,
}

/// What a slot holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Fills a hole after a change of leader.
    Noop,
    /// A command of the shard; opaque here.
    Normal(Bytes),
    /// The membership from the next slot on.
    Membership(Membership),
}

/// A slot's content with the ballot under which it was accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// Where.
    pub slot: Slot,
    /// The ballot of the accept.
    pub ballot: Ballot,
    /// What.
    pub command: Command,
}

/// A request for a lease vote, or for its extension. `leader_earliest` is `TT.now().earliest` read by the leader
/// *before* sending (Spanner, appendix A); the voter echoes it, so that the leader needs no table of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseRequest {
    /// The leader's lower bound of now when it asked.
    pub leader_earliest: Timestamp,
    /// How long a lease is asked for.
    pub length: Duration,
}

/// A lease vote granted: the voter votes for no other leader until `TT.after(its own now().latest + length)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseGrant {
    /// Echo of [`LeaseRequest::leader_earliest`].
    pub leader_earliest: Timestamp,
    /// Echo of [`LeaseRequest::length`].
    pub length: Duration,
}

/// A message between two replicas of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The group.
    pub group: GroupId,
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The content.
    pub message: Message,
}

/// The protocol. One row per message: who sends it, who receives it, what it asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Candidate to voter: phase 1a for every slot from `from_slot` (the candidate's first unchosen one) on, with the
    /// request for a lease vote. A voter whose lease vote for another node still runs refuses with [`Message::Refuse`].
    /// A lease of length zero makes it a canvass, which asks whether the answer would be yes and binds nobody.
    Prepare {
        /// The candidate's ballot.
        ballot: Ballot,
        /// First slot of interest.
        from_slot: Slot,
        /// The lease asked for.
        lease: LeaseRequest,
    },
    /// Voter to candidate: phase 1b. Durable before it is sent (I-3), as is the lease vote.
    Promise {
        /// The ballot promised.
        ballot: Ballot,
        /// Everything accepted above `chosen`, at or above the candidate's `from_slot`. Empty in a canvass.
        accepted: Vec<LogEntry>,
        /// Everything up to here is known chosen by the voter (the candidate may have to catch up first).
        chosen: Slot,
        /// The lease vote, unless the voter's clock is unsure or it abstains after a restart.
        lease: Option<LeaseGrant>,
    },
    /// Voter to candidate or leader: refused, because a higher ballot was promised or a lease vote still runs.
    Refuse {
        /// The ballot refused.
        ballot: Ballot,
        /// The highest ballot promised.
        promised: Ballot,
        /// Who holds the voter's lease vote, as a hint where the leader is.
        leader: Option<NodeId>,
    },
    /// Leader to member: phase 2a for consecutive slots, pipelined. An empty `entries` is a heartbeat.
    Accept {
        /// The leader's ballot.
        ballot: Ballot,
        /// Consecutive entries; their ballot field equals `ballot`.
        entries: Vec<LogEntry>,
        /// Everything up to here is chosen.
        commit: Slot,
        /// Extension of the lease, on some of the messages.
        lease: Option<LeaseRequest>,
    },
    /// Member to leader: phase 2b. Durable before it is sent (I-3).
    Accepted {
        /// The ballot of the accept.
        ballot: Ballot,
        /// The slots accepted by this answer, `[first, last]`; `None` answers a heartbeat.
        slots: Option<(Slot, Slot)>,
        /// The sender has learned everything up to here.
        chosen: Slot,
        /// The extension granted.
        lease: Option<LeaseGrant>,
    },
    /// Member to any member that may know (normally the leader): send me what was chosen from `from_slot` on.
    CatchUp {
        /// First slot missing.
        from_slot: Slot,
    },
    /// Answer to [`Message::CatchUp`]: chosen entries, consecutive. The ballots are those of their acceptance.
    Learn {
        /// Chosen entries.
        entries: Vec<LogEntry>,
        /// The sender knows everything up to here as chosen.
        chosen: Slot,
    },
    /// Answer to [`Message::CatchUp`] when the log is truncated above `from_slot`: the driver streams a snapshot.
    /// Carries what the receiver's log needs once the snapshot's data is installed.
    NeedSnapshot {
        /// The sender's log starts after this slot.
        truncated: Slot,
    },
    /// Leader to witness: so many voters know everything up to here as chosen, durably, that whichever voter leads next finds
    /// it with itself or with another voter. The witness need not keep it any more.
    Settled {
        /// That slot.
        through: Slot,
    },
    /// Voter to leader, in a group with witnesses: after a restart, too, the sender knows everything up to here as chosen.
    Known {
        /// That slot.
        through: Slot,
    },
    /// Leader to the member that shall lead: graceful hand-over (DESIGN section 3). The receiver campaigns at once
    /// with a ballot above `ballot`; the sender has stopped assigning.
    HandOver {
        /// The old leader's ballot.
        ballot: Ballot,
        /// Greatest timestamp that the old leader used or promised; the successor's first is above it.
        floor: Timestamp,
        /// Everything up to here is chosen.
        commit: Slot,
    },
    /// From the successor of a hand-over to every voter, before its Prepare: the lease under `ballot` is over, your vote
    /// for it may go to me. Sound because the old leader has stopped assigning timestamps for good under `ballot`, and
    /// because the successor, who alone knows the floor, sends it. From the owner of `ballot` itself: it never led under
    /// `ballot` and never will; the votes for it are void.
    ReleaseVote {
        /// The ballot whose lease ends.
        ballot: Ballot,
        /// Who will ask next.
        successor: NodeId,
    },
}

/// What a replica must remember durably, written to the log engine. The driver encodes it; order matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Persist {
    /// The promised ballot and the lease vote. `vote_end` is `now().latest + length` of the voter at its latest grant.
    HardState(HardState),
    /// Accepted entries; each replaces what its slot held.
    Entries(Vec<LogEntry>),
    /// Slots up to and including this one are gone.
    Truncate(Slot),
}

/// The durable part of a replica beside its entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// No accept or promise below this ballot any more.
    pub promised: Ballot,
    /// The leader that holds this voter's lease vote, with the end of the vote on this voter's clock. Extensions by
    /// accepts and heartbeats are *not* persisted one by one: after a restart the voter abstains for a whole lease
    /// length instead.
    pub vote: Option<(Ballot, Timestamp)>,
    /// A lower bound of the chosen prefix; may lag.
    pub commit: Slot,
}

/// What the driver loads after a restart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The last written hard state.
    pub hard: HardState,
    /// Slots up to here are truncated (their effect is in the applied state).
    pub truncated: Slot,
    /// The remaining entries in ascending order of slot; gaps are possible.
    pub entries: Vec<LogEntry>,
    /// Membership as of the applied state.
    pub membership: Membership,
    /// The slot that the data engine has applied.
    pub applied: Slot,
}

/// What a replica is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Time passed. The driver also calls this at [`crate::Replica::next_wake`].
    Tick,
    /// A message arrived.
    Receive {
        /// Who sent it.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// All `persist` outputs up to this token are durable.
    Persisted(PersistToken),
    /// Propose commands; only meaningful on a leader (ask [`crate::Replica::leadership`] first). They get consecutive
    /// slots, answered in [`Outputs::proposed`]. Where that is shorter than the commands, the rest was refused (not
    /// leading, handing over, pipeline full, a membership under way or not allowed) and may be proposed again.
    Propose(Vec<Command>),
    /// The shard has applied everything up to here.
    Applied(Slot),
    /// Drop log entries up to here (below the applied slot that the data engine has made durable).
    Truncate(Slot),
    /// A snapshot that covers everything up to `applied` has been installed in the data engine.
    SnapshotInstalled {
        /// Covered through.
        applied: Slot,
        /// Membership as of that slot.
        membership: Membership,
    },
    /// Campaign now instead of waiting for a timeout (bootstrap, split, request of an operator).
    Campaign,
    /// Hand leadership to a voter. The shard has stopped assigning; `floor` is its greatest timestamp.
    HandOver {
        /// To whom.
        to: NodeId,
        /// Greatest timestamp used or promised.
        floor: Timestamp,
    },
    /// The log could not be written: stop voting until restart.
    StorageFailed,
}

/// Identifies the persist outputs of one step; ascending.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct PersistToken(pub u64);

/// What one step asks of the driver.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outputs {
    /// To be written in order and made durable together; then [`Input::Persisted`] with `token`. Empty: no write.
    pub persist: Vec<Persist>,
    /// Names this step's writes.
    pub token: PersistToken,
    /// To be sent at once: they depend on nothing unwritten.
    pub send: Vec<Envelope>,
    /// To be sent after this step's (and so all earlier) writes are durable.
    pub send_after_persist: Vec<Envelope>,
    /// Newly chosen entries, in slot order without gaps, for the shard to apply, before it looks at `role_change`. They
    /// are durable in this replica's log.
    pub chosen: Vec<LogEntry>,
    /// Slots given to the commands of [`Input::Propose`], in order.
    pub proposed: Vec<Slot>,
    /// The role changed.
    pub role_change: Option<RoleChange>,
    /// A member asked for what is truncated here: stream it a snapshot.
    pub snapshot_to: Vec<NodeId>,
}

/// A change of role that the shard must know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoleChange {
    /// This replica leads: its ballot is established, it holds a lease, and everything that may have been chosen
    /// under earlier ballots has been re-proposed. It may assign timestamps (above `floor` and inside the lease) once
    /// the shard has applied through `ready_at`.
    Leading {
        /// The ballot.
        ballot: Ballot,
        /// Strong reads and timestamps only once this slot is applied.
        ready_at: Slot,
        /// Timestamps must be above this one (from a hand-over; otherwise the start of the lease).
        floor: Timestamp,
    },
    /// This replica does not lead (any more). `leader` is a hint.
    Following {
        /// Who may lead.
        leader: Option<NodeId>,
    },
}

/// A leader's right to act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// The ballot.
    pub ballot: Ballot,
    /// The lease holds while `TT.before(lease_end)`; no timestamp at or above it may be assigned.
    pub lease_end: Timestamp,
}
