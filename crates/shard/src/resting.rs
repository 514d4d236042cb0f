//! Replicas of groups in which nothing happens: see [`crate::beats`] and `meridian_paxos`' `rest` module.

use meridian_paxos as paxos;
use meridian_types::{Ballot, Slot};

use crate::beats::{FollowerCarried, LeaderCarried};
use crate::replica::Replica;
use crate::{ClosedTimestamp, Input, Now, ReadMode, Request};

impl Input {
    /// True for what a resting replica can be told without being roused: it neither assigns a timestamp nor touches
    /// the log, a promise or a vote.
    pub fn is_harmless(&self) -> bool {
        match self {
            Input::Request { request, .. } => matches!(
                request,
                Request::Read { mode: ReadMode::Strong | ReadMode::At(_), .. }
                    | Request::CloseTimestamp { .. }
            ),
            Input::Tick
            | Input::Cancel(_)
            | Input::Persisted(_)
            | Input::Applied(_)
            | Input::DataDurable(_)
            | Input::Closed(_) => true,
            Input::Paxos { .. }
            | Input::SnapshotInstalled { .. }
            | Input::Campaign
            | Input::Collect(_)
            | Input::StorageFailed => false,
        }
    }
}

impl Replica {
    /// Where this leader may rest: nothing is under way, nothing is locked, nobody waits.
    pub fn resting_point(&self, now: Now) -> Option<paxos::RestingPoint> {
        let leader = self.leader.as_ref()?;
        let is_idle = leader.is_idle()
            && self.reads.is_empty()
            && self.state.is_idle()
            && self.state.confirmed == self.paxos.last_slot();
        if is_idle { self.paxos.resting_point(now) } else { None }
    }

    /// True when this follower may rest where its leader says.
    pub fn stands_at(&self, ballot: Ballot, through: Slot, now: Now) -> bool {
        !self.failed && self.leader.is_none() && self.paxos.stands_at(ballot, through, now)
    }

    /// Rests from here on.
    pub fn rest(&mut self) {
        self.paxos.rest();
    }

    /// True while it rests.
    pub fn is_resting(&self) -> bool {
        self.paxos.is_resting()
    }

    /// Goes on by itself; what the beats carried has been taken over.
    pub fn rouse(&mut self) {
        self.paxos.rouse();
    }

    /// The members of the group beside this one.
    pub fn others(&self) -> impl Iterator<Item = meridian_types::NodeId> + '_ {
        let me = self.config.paxos.node;
        self.state.descriptor.replicas.iter().map(|(node, _)| *node).filter(move |n| *n != me)
    }

    /// The highest slot in use.
    pub fn last_slot(&self) -> Slot {
        self.paxos.last_slot()
    }

    /// True while the lease is known to hold.
    pub fn holds_lease(&self, now: Now) -> bool {
        self.paxos.leadership(now).is_some()
    }

    /// Takes over what beats carried for this leader: lease votes, and the floor under which everything is closed.
    pub fn take_over_leading(&mut self, carried: &LeaderCarried, now: Now) {
        self.paxos.take_over_leading(&carried.beats, now);
        if let Some(leader) = self.leader.as_mut() {
            assert!(leader.frozen.is_none(), "a leader rests and has given its floor away");
            leader.floor = leader.floor.max(carried.closed);
            leader.closed = leader.closed.max(carried.closed);
        }
    }

    /// Takes over what beats carried for this follower.
    pub fn take_over_following(&mut self, carried: &FollowerCarried) {
        self.paxos.take_over_following(&carried.beats);
        let ballot = carried.beats.ballot;
        self.learn_closed(ClosedTimestamp { ballot, closed: carried.closed, through: carried.through });
    }
}
