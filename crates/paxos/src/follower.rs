//! A follower waits for its leader, and canvasses when there is none. One that may not lead asks for the log instead when
//! it has heard nothing for a lease: it may have been removed without having heard of it, and then nobody talks to it.

use std::collections::BTreeSet;

use meridian_types::{Ballot, Duration, NodeId};

use crate::core::Core;
use crate::{LeaseRequest, Message, Now, Outputs};

#[derive(Debug, Default)]
pub(crate) struct Follower {
    canvass: Option<Canvass>,
}

/// Who would vote for this replica, were it to ask.
#[derive(Debug)]
struct Canvass {
    ballot: Ballot,
    yes: BTreeSet<NodeId>,
}

impl Follower {
    pub(crate) fn stop_canvass(&mut self) {
        self.canvass = None;
    }

    pub(crate) fn tick(&mut self, core: &mut Core, now: Now, out: &mut Outputs) {
        if now.mono < core.election_at {
            return;
        }
        if core.is_voter() {
            match core.must_wait(now) {
                Some(wait) => core.election_at = now.mono + wait,
                None => self.start_canvass(core, now, out),
            }
        } else {
            core.ask_anybody(out);
            core.await_leader(now);
        }
    }

    pub(crate) fn start_canvass(&mut self, core: &mut Core, now: Now, out: &mut Outputs) {
        let Some(tt) = now.tt else { return };
        let ballot = core.next_ballot();
        let from_slot = core.log.chosen().next();
        let lease = LeaseRequest { leader_earliest: tt.earliest(), length: Duration::ZERO };
        for peer in core.membership.voting().filter(|n| *n != core.node()) {
            core.send(peer, Message::Prepare { ballot, from_slot, lease }, out);
        }
        self.canvass = Some(Canvass { ballot, yes: BTreeSet::from([core.node()]) });
        core.election_at = now.mono + core.config.retransmit + core.jitter();
    }

    pub(crate) fn is_canvassing(&self) -> bool {
        self.canvass.is_some()
    }

    /// A voter would vote for this replica.
    pub(crate) fn encouraged(&mut self, from: NodeId, ballot: Ballot) {
        if let Some(canvass) = &mut self.canvass
            && canvass.ballot == ballot
        {
            canvass.yes.insert(from);
        }
    }

    /// A voter has promised as high a ballot: canvass again with a higher one.
    pub(crate) fn outbid(&mut self, core: &mut Core, ballot: Ballot, now: Now) {
        if self.canvass.take_if(|c| c.ballot == ballot).is_some() {
            core.election_at = now.mono + core.jitter();
        }
    }

    pub(crate) fn is_canvass_won(&self, core: &Core) -> bool {
        self.canvass.as_ref().is_some_and(|c| core.membership.has_quorum(|n| c.yes.contains(&n)))
    }
}

impl Core {
    /// Asks a voting member for the log; at random, since some may be gone.
    fn ask_anybody(&mut self, out: &mut Outputs) {
        let me = self.node();
        let others = self.membership.voting().filter(|n| *n != me).count() as u64;
        if others == 0 {
            return;
        }
        let chosen = self.rng.below(others) as usize;
        if let Some(peer) = self.membership.voting().filter(|n| *n != me).nth(chosen) {
            self.send(peer, Message::CatchUp { from_slot: self.log.chosen().next() }, out);
        }
    }

    /// A sign that others know this replica: one that may not lead has nothing to ask for a while.
    pub(crate) fn heard(&mut self, now: Now) {
        if !self.is_voter() {
            self.await_leader(now);
        }
    }

    /// How long this replica must not ask for votes: it could not vote for itself.
    pub(crate) fn must_wait(&mut self, now: Now) -> Option<Duration> {
        let jitter = self.jitter();
        let Some(tt) = now.tt.filter(|_| !self.voter.abstains()) else {
            return Some(self.config.retry());
        };
        self.blocked_by(self.node(), now)?;
        let (_, end) = self.voter.blocked_by(self.node(), now.tt)?;
        Some(end.since(tt.earliest()) + jitter + Duration::from_millis(1))
    }
}
