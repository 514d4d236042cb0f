//! Giving leadership away: the shard's half of Paxos' hand-over.
//!
//! The leader stops assigning, lets what is in flight be applied, and tells Paxos the floor: the greatest timestamp that
//! it used or promised, above which the successor starts. Votes that rest on read locks are let go first. Volatile locks are not moved; their transactions find that
//! their registration is of another ballot, and retry.

use meridian_paxos as paxos;
use meridian_types::NodeId;

use crate::leader::{HandingOver, Phase, Txn};
use crate::replica::{Replica, Step};
use crate::{RequestId, Response, ShardError};

impl Replica {
    pub(crate) fn transfer_leader(&mut self, id: RequestId, to: NodeId, cx: &mut Step<'_>) {
        let voter = (to, paxos::MemberKind::Voter);
        if to == self.config.paxos.node {
            return cx.reply(id, Ok(Response::Done));
        }
        let deadline = cx.now.mono + self.config.stall_patience;
        let is_voter = self.state.descriptor.replicas.contains(&voter);
        let leader = self.leader_mut();
        if leader.is_draining() || !is_voter {
            return cx.reply(id, Err(ShardError::Overloaded));
        }
        leader.handing_over = Some(HandingOver { id, to, deadline, sent: false });
    }

    /// Carries a hand-over on as far as it gets.
    pub(crate) fn advance_hand_over(&mut self, cx: &mut Step<'_>) {
        let can_propose = self.paxos.can_propose(cx.now) > 0;
        let Some(leader) = self.leader.as_mut() else { return };
        let Some(handing_over) = leader.handing_over.as_mut() else { return };
        let late = cx.now.mono >= handing_over.deadline;
        if handing_over.sent {
            if late && can_propose {
                // Paxos gave it up: the successor did not keep up with the log.
                leader.handing_over = None;
                leader.frozen = None;
            }
            return;
        }
        if late {
            cx.reply(handing_over.id, Err(ShardError::Overloaded));
            leader.handing_over = None;
            return;
        }
        // A vote that rests on read locks promises that nothing is written below its bound, which this leader keeps and
        // its successor would not know of.
        let promises = |t: &Txn| match t.phase {
            Phase::Voted { .. } => true,
            Phase::Preparing | Phase::Prepared => t.has_reads,
            Phase::Active | Phase::Deciding => false,
        };
        if !leader.in_flight.is_empty() || leader.txns.values().any(promises) {
            return;
        }
        handing_over.sent = true;
        let (id, to) = (handing_over.id, handing_over.to);
        let floor = leader.floor;
        leader.frozen = Some(floor);
        cx.reply(id, Ok(Response::Done));
        self.paxos(paxos::Input::HandOver { to, floor }, cx);
    }
}
