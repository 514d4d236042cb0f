//! Rest: a group in which nothing happens costs nothing.
//!
//! A leader whose log is chosen, and known as chosen by every member, has one thing left to do: to extend its lease. For
//! a group at rest that is done outside, in one message per pair of nodes for all groups at once (the *beats* of
//! `meridian-shard`). The replica then has no timers and sends nothing.
//!
//! ```text
//!   awake --rest()--> resting --take_over(what beats carried), rouse()--> awake
//! ```
//! Whoever drives the replica takes over what the beats have carried before it asks for the lease, and rouses it before
//! it tells it anything that could change a promise, a vote or the log.
//!
//! Invariant: while a replica rests, its promise, its lease vote's ballot and its log do not change; a follower's vote
//! runs at least to the end that its node has granted by beats, which is taken over before any vote can change (I-4).

use meridian_types::{Ballot, NodeId, Slot, Timestamp};

use crate::replica::{Replica, Role};
use crate::{Input, Now};

/// What a leader at rest stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestingPoint {
    /// Its ballot.
    pub ballot: Ballot,
    /// The whole log, chosen and known to every member.
    pub through: Slot,
    /// Where its lease ended when it was asked.
    pub lease_end: Timestamp,
}

/// What beats carried for a leader.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaderBeats {
    /// The leader's own vote: the end of the lease it carries, and the end of the vote.
    pub own: Option<(Timestamp, Timestamp)>,
    /// The end of the lease that each other member's vote carries.
    pub votes: Vec<(NodeId, Timestamp)>,
}

/// What beats carried for a follower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerBeats {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// How far this node extended its votes.
    pub vote_end: Option<Timestamp>,
    /// When the leader's node was heard last, by the local oscillator.
    pub heard: Timestamp,
}

impl Input {
    /// True for what may reach a resting replica: it changes no promise, no vote and no entry.
    fn is_harmless(&self) -> bool {
        matches!(self, Input::Tick | Input::Persisted(_) | Input::Applied(_) | Input::Truncate(_))
    }
}

impl Replica {
    /// Where a leader with nothing left to do stands; `None` on anybody else.
    pub fn resting_point(&self, now: Now) -> Option<RestingPoint> {
        let Role::Leader(leader) = &self.role else { return None };
        let leadership = leader.leadership(now)?;
        let core = &self.core;
        let is_idle = leader.is_idle(core)
            && core.is_settled()
            && core.voter.would_grant(core.node(), now.tt)
            && core.voter.is_for(leader.ballot);
        is_idle.then_some(RestingPoint {
            ballot: leader.ballot,
            through: core.log.last(),
            lease_end: leadership.lease_end,
        })
    }

    /// True when this follower stands exactly where a resting leader says, and would extend its vote for it.
    pub fn stands_at(&self, ballot: Ballot, through: Slot, now: Now) -> bool {
        let core = &self.core;
        let Role::Follower(follower) = &self.role else { return false };
        let votes = !core.membership.is_voting(core.node())
            || (core.voter.would_grant(ballot.node, now.tt) && core.voter.is_for(ballot));
        votes
            && core.promised == ballot
            && core.log.last() == through
            && core.is_settled()
            && core.handed_over.is_none()
            && !follower.is_canvassing()
            && core.membership.kind(core.node()).is_some()
    }

    /// Rests from here on.
    pub fn rest(&mut self) {
        self.resting = true;
    }

    /// True while it rests.
    pub fn is_resting(&self) -> bool {
        self.resting
    }

    /// Goes on by itself; the caller has taken over what the beats carried.
    pub fn rouse(&mut self) {
        self.resting = false;
    }

    /// Takes over what beats carried for this leader. Nothing is asked of anybody.
    pub fn take_over_leading(&mut self, beats: &LeaderBeats, now: Now) {
        if let Role::Leader(leader) = &mut self.role {
            leader.take_over(&mut self.core, beats, now);
        }
    }

    /// Takes over what beats carried for this follower.
    pub fn take_over_following(&mut self, beats: &FollowerBeats) {
        let core = &mut self.core;
        if let Some(end) = beats.vote_end {
            core.voter.extend(beats.ballot, end);
        }
        let jitter = core.jitter();
        core.election_at = core.election_at.max(beats.heard + core.config.lease + jitter);
    }

    /// Asserts that a resting replica is told nothing that would change what the beats rest on.
    pub(crate) fn assert_awake_for(&self, input: &Input) {
        assert!(!self.resting || input.is_harmless(), "a resting replica was told {input:?}");
    }
}
