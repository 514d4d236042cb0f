//! Promises, accepts and lease votes: the part of a replica that must not forget.

use meridian_types::{Ballot, NodeId, Slot};

use crate::core::Core;
use crate::planted::Planted;
use crate::replica::{Replica, Role};
use crate::{LeaseGrant, LeaseRequest, LogEntry, Message, Now, Outputs, Persist};

impl LeaseRequest {
    /// A canvass asks whether a vote would be granted, and binds nobody.
    pub(crate) fn is_canvass(&self) -> bool {
        self.length.as_nanos() == 0
    }
}

impl Core {
    /// Who keeps this voter's lease vote from `candidate`.
    pub(crate) fn blocked_by(&self, candidate: NodeId, now: Now) -> Option<NodeId> {
        if self.planted(Planted::IgnoreLeaseVote) {
            return None;
        }
        self.voter.blocked_by(candidate, now.tt).map(|(node, _)| node)
    }

    fn refuse(&self, to: NodeId, ballot: Ballot, leader: Option<NodeId>, out: &mut Outputs) {
        self.send(to, Message::Refuse { ballot, promised: self.promised, leader }, out);
    }

    /// Grants a lease vote. A vote for another ballot than before is written with this step.
    pub(crate) fn grant(&mut self, ballot: Ballot, request: LeaseRequest, now: Now) -> Option<LeaseGrant> {
        if self.planted(Planted::IgnoreLeaseVote)
            && let Some(holder) = self.voter.holder()
            && holder != ballot.node
        {
            self.voter.forget();
        }
        let (grant, is_new) = self.voter.grant(ballot, request, now.tt)?;
        if is_new {
            self.touch_hard_state();
        }
        Some(grant)
    }

    /// Stores the entries of an accept and writes those that are new.
    fn store(&mut self, mut entries: Vec<LogEntry>, out: &mut Outputs) {
        entries.retain(|entry| self.log.accept(entry));
        if self.is_witness() && self.planted(Planted::WitnessKeepsNothing) {
            return;
        }
        if !entries.is_empty() {
            out.persist.push(Persist::Entries(entries));
        }
    }
}

/// True when the entries are what a leader sends: consecutive, at its ballot.
fn are_well_formed(ballot: Ballot, entries: &[LogEntry]) -> bool {
    entries.iter().all(|e| e.ballot == ballot) && entries.windows(2).all(|w| w[0].slot.next() == w[1].slot)
}

impl Replica {
    pub(crate) fn on_prepare(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        from_slot: Slot,
        lease: LeaseRequest,
        now: Now,
        out: &mut Outputs,
    ) {
        let (core, role) = self.parts();
        if ballot.node != from {
            return;
        }
        // A replica that does not know itself a member may have lost what it knew (it was removed and came back empty):
        // its promise would be worth nothing. The candidate may know how it became one.
        if core.membership.kind(core.node()).is_none() {
            return core.want(from, from_slot.prev(), now, out);
        }
        if lease.is_canvass() {
            return core.on_canvass(from, ballot, from_slot, lease, now, out);
        }
        core.see_round(ballot);
        if ballot < core.promised {
            return core.refuse(from, ballot, core.leader_hint, out);
        }
        // Two candidates that voted for themselves would block each other for a whole lease: the lower ballot yields.
        if let Role::Candidate(candidate) = role
            && candidate.ballot < ballot
        {
            self.abandon(now, out);
        }
        let (core, role) = self.parts();
        if let Some(holder) = core.blocked_by(from, now) {
            return core.refuse(from, ballot, Some(holder), out);
        }
        if core.log.truncated() >= from_slot {
            core.refuse(from, ballot, None, out);
            return core.on_catch_up(from, from_slot, out);
        }
        if role.ballot().is_some_and(|own| own < ballot) {
            role.follow(None, out);
        }
        core.promise(ballot);
        core.await_leader(now);
        let lease = core.grant(ballot, lease, now);
        let chosen = core.log.chosen();
        let accepted = core.log.from(from_slot.max(chosen.next())).cloned().collect();
        core.send_durable(from, Message::Promise { ballot, accepted, chosen, lease }, out);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(crate) fn on_accept(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        entries: Vec<LogEntry>,
        commit: Slot,
        lease: Option<LeaseRequest>,
        now: Now,
        out: &mut Outputs,
    ) {
        let (core, role) = self.parts();
        if ballot.node != from || !are_well_formed(ballot, &entries) {
            return;
        }
        core.see_round(ballot);
        if ballot < core.promised {
            core.refuse(from, ballot, core.voter.holder(), out);
            // What is chosen is chosen, whatever was promised since.
            return core.want(from, commit, now, out);
        }
        assert!(role.ballot() != Some(ballot), "{from} leads with the ballot {ballot} of this replica");
        if ballot > core.promised {
            core.promise(ballot);
            role.follow(Some(from), out);
        }
        if let Role::Follower(follower) = role {
            follower.stop_canvass();
        }
        core.leader_hint = Some(from);
        if core.handed_over.is_some_and(|(old, _)| old < ballot) {
            core.handed_over = None;
        }
        let slots = entries.first().zip(entries.last()).map(|(first, last)| (first.slot, last.slot));
        let is_heartbeat = lease.is_some() || (slots.is_none() && !core.membership.is_voting(core.node()));
        core.store(entries, out);
        core.learn_commit(ballot, commit);
        core.want(from, commit, now, out);
        let lease = lease.and_then(|request| core.grant(ballot, request, now));
        // A leader that no longer extends its lease (its clock may be unsure) must not hold up its successor.
        if lease.is_some() {
            core.await_leader(now);
        }
        core.heard(now);
        if slots.is_none() {
            core.write_commit();
        }
        core.tell_known(from, ballot, is_heartbeat, out);
        let chosen = core.learned();
        core.send_durable(from, Message::Accepted { ballot, slots, chosen, lease }, out);
    }

    /// A release counts from two nodes only: from the owner of a ballot that never led, which voids the votes for it,
    /// and from the successor of a hand-over, who knows the floor.
    pub(crate) fn on_release_vote(&mut self, from: NodeId, ballot: Ballot, successor: NodeId) {
        let (core, _) = self.parts();
        if from == ballot.node {
            core.voter.void(ballot);
        } else if from == successor {
            core.voter.release_to(ballot, successor);
        }
    }
}

impl Core {
    fn on_canvass(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        from_slot: Slot,
        lease: LeaseRequest,
        now: Now,
        out: &mut Outputs,
    ) {
        if ballot <= self.promised {
            return self.refuse(from, ballot, self.leader_hint, out);
        }
        if let Some(holder) = self.blocked_by(from, now) {
            return self.refuse(from, ballot, Some(holder), out);
        }
        if self.log.truncated() >= from_slot {
            self.refuse(from, ballot, None, out);
            return self.on_catch_up(from, from_slot, out);
        }
        if !self.voter.abstains() && now.tt.is_some() {
            let lease = LeaseGrant { leader_earliest: lease.leader_earliest, length: lease.length };
            let chosen = self.log.chosen();
            let promise = Message::Promise { ballot, accepted: Vec::new(), chosen, lease: Some(lease) };
            self.send(from, promise, out);
        }
    }
}
