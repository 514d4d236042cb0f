//! Beats: leases and closed timestamps of all groups at rest, in one message per pair of nodes.
//!
//! ```text
//!   leader's node (Leading)                              other node (Following)
//!     Beat{joins: g at ballot b, through slot s} ------->  its replica stands there too: it rests in the stream
//!     <------------------ BeatAnswer{grant, left: []}      every vote in the stream is extended at once
//!     all members answered: the leader rests as well
//!     Beat{lease, closed} ------------------------------>  nothing else is sent for g, however long it idles
//!     Beat{leaves: g} ---------------------------------->  g's replicas go on by themselves
//! ```
//! The beats of one node to another are a *stream*: numbered without gaps. A lost beat or answer, a restart of either
//! side, or silence ends the stream, and every group in it goes on by itself; so what one side believes of the other never rests on a message
//! that was not delivered.
//!
//! Why it is safe:
//!
//! - *I-4.* A group is in a stream only while its replica stands at the leader's ballot, its log is settled, and its vote
//!   is for that ballot. The replica leaves the stream, taking over how far its vote was extended, *before* it is told
//!   anything that could change the vote; from then on an answer no longer counts for it, because it names the groups
//!   that left since the answer before, and answers have no gaps. The arithmetic of a vote is that of a single one:
//!   the leader counts from the `earliest` that it read before it asked, the voter from the `latest` that it read after.
//! - *I-5, I-8.* The closed timestamp of a beat holds for every group in the stream, since no timestamp at or below it
//!   is assigned in them any more: a leader takes the greatest one sent over into its floor before it assigns again, and the next
//!   beat says first that the group has left. It stays below the end of every lease that it rests on.
//!
//! Nothing here is written: a restarted voter abstains for a lease length, as for every other extension.

mod following;
mod leading;

pub use following::{Following, Standing};
pub use leading::{Leading, Settled};

use meridian_paxos::{FollowerBeats, LeaderBeats, LeaseGrant, LeaseRequest};
use meridian_types::{Ballot, GroupId, Slot, Timestamp};

/// A group that begins to rest in a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Join {
    /// Which.
    pub group: GroupId,
    /// Its leader's ballot.
    pub ballot: Ballot,
    /// Its last slot, known as chosen by every member.
    pub through: Slot,
}

/// From a node to another, for all groups that the first one leads and that rest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Beat {
    /// Names the stream; unique over all incarnations of the sender.
    pub stream: u64,
    /// Ascending from 0 without gaps.
    pub sequence: u64,
    /// Asks for the extension of every vote in the stream. Such a beat is answered.
    pub lease: Option<LeaseRequest>,
    /// No commit at or below this comes in the groups of the stream.
    pub closed: Option<Timestamp>,
    /// These groups have left. Comes before `joins`.
    pub leaves: Vec<GroupId>,
    /// These join.
    pub joins: Vec<Join>,
}

/// The answer to a beat with a lease request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BeatAnswer {
    /// The stream.
    pub stream: u64,
    /// Of the beat.
    pub sequence: u64,
    /// False when the stream has a gap here: it is over.
    pub in_step: bool,
    /// The extension of every vote in the stream; `None` where this node's clock is unsure or its disk failed.
    pub lease: Option<LeaseGrant>,
    /// The groups that did not join, or left on their own since the last answer.
    pub left: Vec<GroupId>,
}

/// What a leader at rest takes over.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaderCarried {
    /// For Paxos.
    pub beats: LeaderBeats,
    /// The greatest closed timestamp sent.
    pub closed: Timestamp,
}

/// What a follower at rest takes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerCarried {
    /// For Paxos.
    pub beats: FollowerBeats,
    /// The greatest closed timestamp received since it joined.
    pub closed: Timestamp,
    /// The slot that goes with it.
    pub through: Slot,
}

#[cfg(test)]
mod tests;
