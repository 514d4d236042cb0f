//! Graceful change of leader, in one round trip after the last slot is chosen.
//!
//! ```text
//!   old leader            successor              other voters
//!     |--- HandOver ---------->|                      |
//!     | (stopped for good)     |--- ReleaseVote ----->|
//!     |<------- both ----------|--- Prepare --------->|
//!     |--- Promise ----------->|<----- Promise -------|
//! ```
//!
//! The release comes from the successor, not from the old leader: were the `HandOver` lost, a freed voter could help a
//! leader that does not know the floor (I-5). Lost messages cost one lease, nothing else.

use meridian_types::{Ballot, NodeId, Slot, Timestamp, limits};

use crate::core::Core;
use crate::leader::Leader;
use crate::replica::{Replica, Role};
use crate::{Message, Now, Outputs, RoleChange};

/// A hand-over that waits for the log.
#[derive(Debug)]
pub(crate) struct HandingOver {
    to: NodeId,
    floor: Timestamp,
    pub(crate) give_up_at: Timestamp,
}

impl Leader {
    /// Stops proposing. A successor that can't lead is refused by a [`RoleChange::Leading`] with the unchanged ballot.
    pub(crate) fn hand_over(
        &mut self,
        core: &Core,
        to: NodeId,
        floor: Timestamp,
        now: Now,
        out: &mut Outputs,
    ) {
        let floor = floor.max(self.floor);
        if to == core.node() || !core.membership.is_voter(to) {
            let ready_at = self.ready_at;
            out.role_change = Some(RoleChange::Leading { ballot: self.ballot, ready_at, floor });
            return;
        }
        self.handing_over =
            Some(HandingOver { to, floor, give_up_at: now.mono + core.config.hand_over_wait });
    }

    /// Hands over when the log is chosen and the successor has it, or has had time enough: what is left is then
    /// proposed again by phase 1. Returns true when this replica has stopped leading.
    pub(crate) fn try_hand_over(&mut self, core: &mut Core, now: Now, out: &mut Outputs) -> bool {
        let Some(handing) = &self.handing_over else { return false };
        let last = core.log.last();
        let is_ready = core.log.chosen() == last && self.has_log(handing.to, last);
        if !is_ready && now.mono < handing.give_up_at {
            return false;
        }
        let message =
            Message::HandOver { ballot: self.ballot, floor: handing.floor, commit: core.log.chosen() };
        core.send(handing.to, message, out);
        core.leader_hint = Some(handing.to);
        true
    }

    /// True when `node` answers and is at most a pipeline behind.
    fn has_log(&self, node: NodeId, last: Slot) -> bool {
        self.peers.get(&node).is_some_and(|p| {
            p.streaming && p.matched >= last && p.chosen.get() + limits::PIPELINE_SLOTS_MAX >= last.get()
        })
    }
}

impl Replica {
    pub(crate) fn on_hand_over(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        floor: Timestamp,
        commit: Slot,
        now: Now,
        out: &mut Outputs,
    ) {
        let (core, role) = self.parts();
        if ballot.node != from || ballot < core.promised || !core.is_voter() {
            return;
        }
        let Role::Follower(_) = role else { return };
        core.see_round(ballot);
        core.learn_commit(ballot, commit);
        core.voter.release_to(ballot, core.node());
        core.handed_over = Some((ballot, floor));
        self.campaign(now, out);
    }
}
