//! What nodes say to each other, and the seam over which they say it.
//!
//! A transport carries messages between ordered pairs of nodes. It keeps their order, may lose any of them (the
//! protocols above retransmit), never duplicates one, and bounds what it queues. It implements no protocol itself:
//! calls, answers and snapshots are matched up by the node.

use std::sync::Weak;

use bytes::Bytes;
use meridian_paxos::{Command, Envelope, LogEntry, Message};
use meridian_shard::beats::{Beat, BeatAnswer};
use meridian_shard::{ClosedTimestamp, ReadResult, Request, Response, ShardDescriptor, ShardError, Write};
use meridian_types::{Duration, GroupId, NodeId, Slot, Span};

use crate::admin::NodeAddress;

/// Bytes that may wait for one peer. A peer that is this far behind gains nothing from older messages.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Messages that may wait for one peer.
pub const QUEUE_MESSAGES_MAX: usize = 65_536;

/// A frame is closed at this size, so that one decode does not hold up what comes after it for long.
pub const FRAME_BYTES: usize = 1 << 20;

/// A node that was silent for this long is not live. Beats alone arrive ten times a second.
pub const LIVENESS: Duration = Duration::from_millis(1_500);

const _: () = assert!(FRAME_BYTES < QUEUE_BYTES_MAX);

/// The closed timestamp of one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupClosed {
    /// The group.
    pub group: GroupId,
    /// What its leader closed.
    pub closed: ClosedTimestamp,
}

/// One row of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotRow {
    /// Ordinal of the column family.
    pub family: u32,
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// One group's part of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotPart {
    /// The shard as of the snapshot.
    pub descriptor: ShardDescriptor,
    /// Covered through.
    pub applied: Slot,
}

/// What comes along with a snapshot that passes a split.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotBeside {
    /// The span that the receiver's replica had when it told it.
    pub span: Span,
    /// All that the sender has in there and the receiver is a member of.
    pub parts: Vec<SnapshotPart>,
}

/// What the receiver of a snapshot says about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotVerdict {
    /// Chunks below this number are stored: go on. Zero accepts the offer.
    Received(u32),
    /// Not wanted, not possible yet, or out of step: give up.
    Refused,
    /// Installed.
    Installed,
    /// It would pass a split: the receiver's own replica has this span, and needs what else lives in there now. Offer
    /// it again together with that.
    Narrows(Span),
}

/// A message between two nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerMessage {
    /// Replication.
    Paxos(Envelope),
    /// A request to a shard replica on the receiver.
    Call {
        /// Names the answer; unique over all incarnations of the sender.
        id: u64,
        /// Whose replica.
        group: GroupId,
        /// What.
        request: Request,
    },
    /// The answer to a call.
    Answer {
        /// Of which.
        id: u64,
        /// The answer.
        result: Result<Response, ShardError>,
    },
    /// Nobody waits for this call any more.
    Cancel {
        /// Which.
        id: u64,
    },
    /// Closed timestamps of the groups that the sender leads and that do not rest.
    Closed(Vec<GroupClosed>),
    /// For all groups that the sender leads and that rest. Empty ones are sent too: they say that it lives.
    Beat(Beat),
    /// The answer to a beat that asked for one.
    BeatAnswer(BeatAnswer),
    /// A message came for a group of which the sender of this one has no replica.
    UnknownGroup {
        /// Which.
        group: GroupId,
    },
    /// A message came from a replica that is no member of its group, by a descriptor of this generation. If the
    /// receiver's own is older, it was removed and goes.
    NotMember {
        /// Which group.
        group: GroupId,
        /// Of the sender's descriptor.
        generation: u64,
    },
    /// A snapshot is ready to be streamed.
    SnapshotOffer {
        /// Names the stream.
        id: u64,
        /// The shard as of the snapshot.
        descriptor: ShardDescriptor,
        /// Covered through.
        applied: Slot,
        /// What comes along.
        beside: Option<SnapshotBeside>,
    },
    /// A chunk of a snapshot.
    SnapshotChunk {
        /// Of which stream.
        id: u64,
        /// The group, for the receiver's bookkeeping.
        group: GroupId,
        /// Ascending from 0.
        sequence: u32,
        /// The rows.
        rows: Vec<SnapshotRow>,
        /// Nothing follows.
        last: bool,
    },
    /// The receiver's answer to an offer or to chunks.
    SnapshotReply {
        /// Of which stream.
        id: u64,
        /// What it says.
        verdict: SnapshotVerdict,
    },
}

/// Overhead of one message in the accounting of queues.
const MESSAGE_OVERHEAD: usize = 64;

impl PeerMessage {
    /// About how many bytes the message takes; for the bounds of queues and frames.
    pub fn weight(&self) -> usize {
        MESSAGE_OVERHEAD
            + match self {
                PeerMessage::Paxos(envelope) => paxos_weight(&envelope.message),
                PeerMessage::Call { request, .. } => request_weight(request),
                PeerMessage::Answer { result: Ok(Response::Read { results, .. }), .. } => {
                    results.iter().map(result_weight).sum()
                }
                PeerMessage::SnapshotChunk { rows, .. } => {
                    rows.iter().map(|r| r.key.len() + r.value.len() + 16).sum()
                }
                PeerMessage::Closed(groups) => groups.len() * 32,
                PeerMessage::Beat(beat) => 8 * beat.leaves.len() + 32 * beat.joins.len(),
                PeerMessage::BeatAnswer(answer) => 8 * answer.left.len(),
                PeerMessage::Answer { .. }
                | PeerMessage::Cancel { .. }
                | PeerMessage::UnknownGroup { .. }
                | PeerMessage::NotMember { .. }
                | PeerMessage::SnapshotOffer { .. }
                | PeerMessage::SnapshotReply { .. } => 0,
            }
    }

    /// True for what must not be dropped because a queue is full: it is bounded by what the receiver asked for itself,
    /// and it would wait for it in vain.
    pub fn is_answer(&self) -> bool {
        matches!(self, PeerMessage::Answer { .. } | PeerMessage::SnapshotReply { .. })
    }
}

fn entries_weight(entries: &[LogEntry]) -> usize {
    entries
        .iter()
        .map(|e| match &e.command {
            Command::Normal(bytes) => 32 + bytes.len(),
            Command::Noop | Command::Membership(_) => 32,
        })
        .sum()
}

fn paxos_weight(message: &Message) -> usize {
    match message {
        Message::Promise { accepted: entries, .. }
        | Message::Accept { entries, .. }
        | Message::Learn { entries, .. } => entries_weight(entries),
        _ => 0,
    }
}

fn writes_weight(writes: &[Write]) -> usize {
    writes.iter().map(|w| 16 + w.key.as_bytes().len() + w.value.as_ref().map_or(0, Bytes::len)).sum()
}

fn request_weight(request: &Request) -> usize {
    match request {
        Request::Stage { writes, .. }
        | Request::Commit { writes, .. }
        | Request::Prepare { writes, .. }
        | Request::Decide { writes, .. } => writes_weight(writes),
        Request::Read { ops, .. } => ops.len() * 48,
        _ => 0,
    }
}

fn result_weight(result: &ReadResult) -> usize {
    match result {
        ReadResult::Value(value) => 8 + value.as_ref().map_or(0, Bytes::len),
        ReadResult::Rows { rows, .. } => rows.iter().map(|(k, v)| 16 + k.as_bytes().len() + v.len()).sum(),
    }
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Too much waits already.
    #[error("queue to the peer is full")]
    Full,
    /// There is no connection.
    #[error("peer is not connected")]
    Disconnected,
}

/// Carries messages to other nodes.
pub trait Transport: Send + Sync {
    /// Queues `message` for `to`. Never blocks, never calls back.
    fn send(&self, to: NodeId, message: PeerMessage) -> Result<(), SendError>;

    /// The address book, complete. Nodes that are not in it any more are disconnected.
    fn set_peers(&self, peers: &[NodeAddress]);

    /// True when the node was heard from within [`LIVENESS`].
    fn is_live(&self, node: NodeId) -> bool;

    /// Where incoming messages go. Messages that arrive before are dropped.
    fn attach(&self, handler: Weak<dyn PeerHandler>);

    /// Ends all connections and drops what is queued. No delivery begins after the return; one under way may still end.
    fn shutdown(&self);
}

/// Receives messages from other nodes. May be called from several threads, but for one peer only from one at a time.
pub trait PeerHandler: Send + Sync {
    /// These came, in the order in which they were sent.
    fn receive(&self, from: NodeId, messages: Vec<PeerMessage>);

    /// A connection from or to `peer` ended: answers that were under way may be lost.
    fn disconnected(&self, peer: NodeId);
}
