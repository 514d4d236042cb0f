//! The voter's side of leader leases (Spanner, OSDI 2012, appendix A).
//!
//! A voter that grants a vote at its own time promises no vote to another node until `TT.after(now().latest + L)`. The
//! leader counts the lease from its own `now().earliest`, read before it asked, so the vote outlives the lease.
//!
//! ```text
//!            asks                                  lease_end = earliest + L
//!   leader   |earliest ------------------------------------|
//!   voter              |grants ------------------------------------| vote end = latest + L
//! ```
//!
//! Three things stop a voter from granting:
//! - a *vote* for another node that runs;
//! - a *reservation*: at a hand-over the vote of the old leader is released, but to the successor alone, because only
//!   the successor knows the floor below which the old leader used timestamps. Until the old vote would have ended
//!   nobody else may have this voter's vote, even if the successor fails;
//! - *abstention*: extensions are not written, so a restarted voter grants nothing for a whole lease length. The lease
//!   it may have forgotten began before the restart, so it ends within that time.
//!
//! Invariant (I-4): at any moment the votes that a voter has granted and that may still run are for one node.

use meridian_types::{Ballot, Duration, NodeId, Timestamp, TtInterval};

use crate::{LeaseGrant, LeaseRequest};

/// A granted vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Vote {
    ballot: Ballot,
    end: Timestamp,
}

/// A released vote that only one node may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Reservation {
    successor: NodeId,
    until: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Abstention {
    /// This process knows all its votes.
    Over,
    /// After a restart, before the first reading of TrueTime.
    Unmeasured,
    /// After a restart.
    Until(Timestamp),
}

#[derive(Debug)]
pub(crate) struct LeaseVoter {
    length: Duration,
    vote: Option<Vote>,
    reservation: Option<Reservation>,
    abstention: Abstention,
}

impl LeaseVoter {
    /// `vote` as loaded; `restarted` unless this voter has never promised anything.
    pub(crate) fn new(length: Duration, vote: Option<(Ballot, Timestamp)>, restarted: bool) -> Self {
        LeaseVoter {
            length,
            // The written end misses the extensions; abstention decides when this vote is over.
            vote: vote.map(|(ballot, _)| Vote { ballot, end: Timestamp::MAX }),
            reservation: None,
            abstention: if restarted { Abstention::Unmeasured } else { Abstention::Over },
        }
    }

    /// Advances the abstention. To be called with every reading of the clock.
    pub(crate) fn observe(&mut self, tt: Option<TtInterval>) {
        let Some(tt) = tt else { return };
        if self.reservation.is_some_and(|r| tt.after(r.until)) {
            self.reservation = None;
        }
        match self.abstention {
            Abstention::Over => {}
            Abstention::Unmeasured => {
                let until = tt.latest() + self.length;
                self.abstention = Abstention::Until(until);
                if let Some(vote) = &mut self.vote {
                    vote.end = until;
                }
            }
            Abstention::Until(until) if tt.after(until) => self.abstention = Abstention::Over,
            Abstention::Until(_) => {}
        }
    }

    /// True while this voter may have forgotten votes.
    pub(crate) fn abstains(&self) -> bool {
        self.abstention != Abstention::Over
    }

    /// The node that has this voter's vote, or may only have it, and when that ends, if this keeps it from `candidate`.
    pub(crate) fn blocked_by(
        &self,
        candidate: NodeId,
        tt: Option<TtInterval>,
    ) -> Option<(NodeId, Timestamp)> {
        let over = |end: Timestamp| tt.is_some_and(|tt| tt.after(end));
        let vote = self.vote.map(|v| (v.ballot.node, v.end));
        let reservation = self.reservation.map(|r| (r.successor, r.until));
        [vote, reservation].into_iter().flatten().find(|(node, end)| *node != candidate && !over(*end))
    }

    /// Who holds the vote, whether it still runs or not.
    pub(crate) fn holder(&self) -> Option<NodeId> {
        self.vote.map(|v| v.ballot.node)
    }

    /// True when a request of `candidate` would be granted.
    pub(crate) fn would_grant(&self, candidate: NodeId, tt: Option<TtInterval>) -> bool {
        tt.is_some() && !self.abstains() && self.blocked_by(candidate, tt).is_none()
    }

    /// Grants or extends the vote of `ballot`'s node, or refuses. The second value tells that the vote is for another
    /// ballot than before, so that it must be written before it is answered.
    pub(crate) fn grant(
        &mut self,
        ballot: Ballot,
        request: LeaseRequest,
        tt: Option<TtInterval>,
    ) -> Option<(LeaseGrant, bool)> {
        let tt = tt?;
        if request.length > self.length || !self.would_grant(ballot.node, Some(tt)) {
            return None;
        }
        let earlier = self.vote.filter(|v| v.ballot.node == ballot.node);
        let end = (tt.latest() + request.length).max(earlier.map_or(Timestamp::ZERO, |v| v.end));
        let is_new = self.vote.is_none_or(|v| v.ballot != ballot);
        self.vote = Some(Vote { ballot, end });
        Some((LeaseGrant { leader_earliest: request.leader_earliest, length: request.length }, is_new))
    }

    /// True when the vote is for this ballot.
    pub(crate) fn is_for(&self, ballot: Ballot) -> bool {
        self.vote.is_some_and(|v| v.ballot == ballot)
    }

    /// The vote for `ballot` was extended outside of this replica, which rested.
    pub(crate) fn extend(&mut self, ballot: Ballot, end: Timestamp) {
        if let Some(vote) = self.vote.as_mut().filter(|v| v.ballot == ballot) {
            vote.end = vote.end.max(end);
        }
    }

    /// Passes the vote of the old leader on to `successor`, who knows the old leader's floor. Sound because the old
    /// leader has stopped for good under `ballot`. An abstaining voter can't tell what it would release.
    pub(crate) fn release_to(&mut self, ballot: Ballot, successor: NodeId) {
        if self.abstains() || self.reservation.is_some_and(|r| r.successor != ballot.node) {
            return;
        }
        let vote = self.vote.filter(|v| v.ballot.node == ballot.node && v.ballot <= ballot);
        let Some(until) = vote.map(|v| v.end).max(self.reservation.map(|r| r.until)) else { return };
        if vote.is_some() {
            self.vote = None;
        }
        self.reservation = Some(Reservation { successor, until });
    }

    /// Forgets the vote for a ballot that never led and never will. A reservation outlives it.
    pub(crate) fn void(&mut self, ballot: Ballot) {
        if self.vote.is_some_and(|v| v.ballot == ballot) {
            self.vote = None;
        }
    }

    /// Forgets everything granted; a planted bug.
    pub(crate) fn forget(&mut self) {
        self.vote = None;
        self.reservation = None;
    }

    /// What goes into the hard state.
    pub(crate) fn durable(&self) -> Option<(Ballot, Timestamp)> {
        self.vote.map(|v| (v.ballot, v.end))
    }
}

#[cfg(test)]
mod tests;
