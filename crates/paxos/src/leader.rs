//! Phase 2 and the lease of an established leader.
//!
//! Invariants: every slot above the chosen prefix holds an entry of this leader's ballot, without gaps; at most
//! `PIPELINE_SLOTS_MAX` of them exist beyond those adopted in phase 1; the lease end never decreases, and is what a
//! quorum of votes reached under the membership of the time.

use std::collections::{BTreeMap, VecDeque};

use meridian_types::{Ballot, Duration, NodeId, Slot, Timestamp, limits};

use crate::candidate::Candidate;
use crate::core::Core;
use crate::hand_over::HandingOver;
use crate::log::{entry_bytes, message_len};
use crate::planted::Planted;
use crate::progress::Progress;
use crate::{
    Command, LeaderBeats, Leadership, LeaseGrant, LeaseRequest, LogEntry, MemberKind, Membership, Message,
    Now, Outputs, Persist, PersistToken, RoleChange,
};

/// Bytes proposed and not chosen. A promise reports at most about this much, so it also bounds the largest message.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) ballot: Ballot,
    pub(crate) ready_at: Slot,
    pub(crate) floor: Timestamp,
    pub(crate) peers: BTreeMap<NodeId, Progress>,
    pub(crate) handing_over: Option<HandingOver>,
    /// The own accepts are durable up to here.
    own_match: Slot,
    /// Own writes in flight: the token that covers them and their last slot.
    own_writes: VecDeque<(PersistToken, Slot)>,
    own_lease_end: Timestamp,
    /// The longest lease that a quorum ever gave; what the shard relies on.
    lease_end: Timestamp,
    /// What a quorum of the current membership gives; below `lease_end` just after a change of membership.
    quorum_lease_end: Timestamp,
    /// When the lease is over even without a clock to tell.
    lease_end_mono: Timestamp,
    renew_at: Timestamp,
    asked_at: Timestamp,
    notify_at: Option<Timestamp>,
    /// A membership that is proposed and not yet chosen.
    reconfiguring: Option<Slot>,
    /// No witness has dropped more than this.
    settled_max: Slot,
    in_flight_bytes: usize,
}

impl Leader {
    /// Begins to lead: proposes again what phase 1 found.
    pub(crate) fn establish(
        core: &mut Core,
        candidate: Candidate,
        lease_end: Timestamp,
        now: Now,
        out: &mut Outputs,
    ) -> Leader {
        let tt = now.tt.expect("a candidate without a clock does not win");
        let chosen = core.log.chosen();
        // The lease of this node's earlier ballot may still run; what it promised then is below its end.
        let before = core.handed_over.take().map_or(core.own_lease_end, |(_, floor)| floor);
        let before = if core.planted(Planted::ForgetFloor) { Timestamp::ZERO } else { before };
        let floor = tt.latest().max(before);
        let mut leader = Leader {
            ballot: candidate.ballot,
            ready_at: chosen,
            floor,
            peers: BTreeMap::new(),
            handing_over: None,
            own_match: chosen,
            own_writes: VecDeque::new(),
            own_lease_end: candidate.own_lease_end(),
            lease_end,
            quorum_lease_end: lease_end,
            lease_end_mono: now.mono,
            renew_at: now.mono,
            asked_at: now.mono,
            notify_at: None,
            reconfiguring: None,
            settled_max: chosen,
            in_flight_bytes: 0,
        };
        for (node, _) in core.membership.members.iter().filter(|(n, _)| *n != core.node()) {
            let mut progress = Progress::new(chosen);
            progress.lease_end = candidate.lease_end_of(*node);
            leader.peers.insert(*node, progress);
        }
        leader.update_lease(core, now);
        if core.known < core.membership_since {
            core.touch_hard_state();
        }
        let entries = candidate.into_proposals(chosen);
        leader.ready_at = entries.last().map_or(chosen, |e| e.slot);
        leader.settled_max = leader.ready_at;
        out.role_change =
            Some(RoleChange::Leading { ballot: leader.ballot, ready_at: leader.ready_at, floor });
        core.leader_hint = None;
        if entries.is_empty() {
            leader.heartbeat(core, None, now, out);
        } else {
            leader.accept_own(core, entries, now, out);
        }
        leader
    }

    pub(crate) fn propose(&mut self, core: &mut Core, commands: Vec<Command>, now: Now, out: &mut Outputs) {
        let mut entries = Vec::with_capacity(commands.len());
        let mut slot = core.log.last();
        let mut room = self.capacity(core);
        for command in commands {
            if room == 0 {
                break;
            }
            room -= 1;
            if let Command::Membership(next) = &command {
                if !self.may_reconfigure(core, next) {
                    break;
                }
                room = 0;
            }
            slot = slot.next();
            out.proposed.push(slot);
            entries.push(LogEntry { slot, ballot: self.ballot, command });
        }
        if !entries.is_empty() {
            self.accept_own(core, entries, now, out);
        }
    }

    /// How many commands may be proposed.
    pub(crate) fn capacity(&self, core: &Core) -> usize {
        if self.handing_over.is_some()
            || self.reconfiguring.is_some()
            || self.in_flight_bytes >= IN_FLIGHT_BYTES_MAX
        {
            return 0;
        }
        let in_flight = core.log.last().get() - core.log.chosen().get();
        limits::PIPELINE_SLOTS_MAX.saturating_sub(in_flight) as usize
    }

    /// A change of membership may begin when the last one has a lease quorum of its own: then every later quorum
    /// meets the votes on which the running lease rests. A leader does not remove itself; it hands over first.
    fn may_reconfigure(&self, core: &Core, next: &Membership) -> bool {
        let may = core.membership.may_become(next)
            && self.quorum_lease_end >= self.lease_end
            && self.is_found_by_next_leader(core, next);
        next.is_voter(core.node()) && (may || core.planted(Planted::ManyMembersAtOnce))
    }

    /// True when in `next`, too, everything is settled that a witness of it may have dropped; so it is where the same members
    /// vote.
    fn is_found_by_next_leader(&self, core: &Core, next: &Membership) -> bool {
        let becomes =
            |node: NodeId| next.kind(node) == Some(MemberKind::Witness) && !core.membership.is_voting(node);
        let new = self.peers.iter().filter(|(node, _)| becomes(**node)).map(|(_, peer)| peer.chosen);
        let dropped = new.fold(self.settled_max, Slot::max);
        let votes = |membership: &Membership| {
            let voting = membership.members.iter().filter(|(_, kind)| kind.votes());
            voting.copied().collect::<Vec<_>>()
        };
        !next.has_witness() || votes(next) == votes(&core.membership) || self.settled(core, next) >= dropped
    }

    /// How far the log is settled in a membership.
    pub(crate) fn settled(&self, core: &Core, membership: &Membership) -> Slot {
        membership.settled(|node| match self.peers.get(&node) {
            _ if node == core.node() => core.known,
            Some(peer) => peer.known,
            None => Slot::ZERO,
        })
    }

    /// True when a quorum of the members knows durably that their membership is chosen (see
    /// [`crate::Replica::is_membership_known`]). What a member reports as learned it reports once that is written.
    pub(crate) fn is_membership_known(&self, core: &Core) -> bool {
        let known = core.membership.reached_by_quorum(|node| match self.peers.get(&node) {
            _ if node == core.node() => core.known,
            Some(peer) => peer.chosen,
            None => Slot::ZERO,
        });
        known >= core.membership_since
    }

    /// A voter has told what it knows durably.
    pub(crate) fn on_known(&mut self, from: NodeId, through: Slot) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.known = peer.known.max(through);
        }
    }

    /// Tells members without data what they need not keep; `again` also those that were told, since that may have been lost.
    /// All of them: one that is behind may take itself for the witness that it was before it was removed and came back.
    fn tell_settled(&mut self, core: &Core, again: bool, out: &mut Outputs) {
        if !core.membership.has_dataless() {
            return;
        }
        let through = self.settled(core, &core.membership);
        self.settled_max = self.settled_max.max(through);
        for (node, peer) in &mut self.peers {
            let is_dataless = core.membership.kind(*node).is_some_and(|kind| !kind.holds_data());
            if is_dataless && (again || peer.settled_told < through) {
                peer.settled_told = through;
                core.send(*node, Message::Settled { through }, out);
            }
        }
    }

    /// Accepts own proposals, and sends them to everybody at once: the own fsync overlaps the network.
    fn accept_own(&mut self, core: &mut Core, entries: Vec<LogEntry>, now: Now, out: &mut Outputs) {
        for entry in &entries {
            let is_new = core.log.accept(entry);
            assert!(is_new, "slot {} is proposed twice at ballot {}", entry.slot, entry.ballot);
            self.in_flight_bytes += entry_bytes(entry);
            if matches!(entry.command, Command::Membership(_)) {
                self.reconfiguring = Some(entry.slot);
            }
        }
        let last = entries.last().expect("only called with entries").slot;
        self.own_writes.push_back((core.next_token(), last));
        let lease = self.lease_if_due(core, now);
        let ballot = self.ballot;
        for (node, peer) in &mut self.peers {
            let lease = lease.filter(|_| core.membership.is_voting(*node));
            if peer.streaming {
                send_accept(core, ballot, *node, peer, &entries, lease, now, out);
            } else if lease.is_some() {
                send_accept(core, ballot, *node, peer, &[], lease, now, out);
            }
        }
        out.persist.push(Persist::Entries(entries));
        if core.planted(Planted::CountOwnBeforeDurable) {
            self.own_match = last;
            self.advance_commit(core, now, out);
        }
    }

    /// The own accepts covered by `token` count from here on (I-3).
    pub(crate) fn persisted(&mut self, core: &mut Core, token: PersistToken, now: Now, out: &mut Outputs) {
        while let Some((write, last)) = self.own_writes.front()
            && *write <= token
        {
            self.own_match = self.own_match.max(*last);
            self.own_writes.pop_front();
        }
        self.advance_commit(core, now, out);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(crate) fn on_accepted(
        &mut self,
        core: &mut Core,
        from: NodeId,
        slots: Option<(Slot, Slot)>,
        chosen: Slot,
        lease: Option<LeaseGrant>,
        now: Now,
        out: &mut Outputs,
    ) {
        let commit = core.log.chosen();
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let before = peer.matched;
        peer.chosen = peer.chosen.max(chosen);
        peer.skip_to(commit.min(peer.sent));
        if let Some((first, last)) = slots {
            assert!(last <= core.log.last(), "{from} accepted slot {last}, which was never proposed");
            peer.accepted(first, last);
        }
        if peer.matched > before || !peer.is_waiting() {
            peer.resend_at = peer.is_waiting().then_some(now.mono + core.config.retransmit);
        }
        if !peer.streaming {
            peer.streaming = true;
            peer.skip_to(commit);
            peer.sent = peer.matched;
            let rest: Vec<_> = core.log.from(peer.sent.next()).cloned().collect();
            if !rest.is_empty() {
                send_accept(core, self.ballot, from, peer, &rest, None, now, out);
            }
        } else if peer.sent.get() - peer.matched.get() > 2 * limits::PIPELINE_SLOTS_MAX {
            peer.streaming = false;
        }
        self.voted(core, from, lease, now);
        self.advance_commit(core, now, out);
    }

    /// Counts a lease vote.
    pub(crate) fn voted(&mut self, core: &mut Core, from: NodeId, lease: Option<LeaseGrant>, now: Now) {
        if let Some(grant) = lease
            && let Some(peer) = self.peers.get_mut(&from)
        {
            peer.lease_end = peer.lease_end.max(grant.leader_earliest + grant.length);
            self.update_lease(core, now);
        }
    }

    /// Chooses what a quorum has accepted. A membership takes effect at once, so the slots after it are counted anew.
    fn advance_commit(&mut self, core: &mut Core, now: Now, out: &mut Outputs) {
        let before = core.log.chosen();
        loop {
            let node = core.node();
            let matched = |n: NodeId| match self.peers.get(&n) {
                _ if n == node => self.own_match,
                Some(peer) => peer.matched,
                None => Slot::ZERO,
            };
            let reached = core.membership.reached_by_quorum(matched);
            let mut is_reconfigured = false;
            while core.log.chosen() < reached && !is_reconfigured {
                is_reconfigured = core.choose_next();
                let bytes = core.log.get(core.log.chosen()).map_or(0, entry_bytes);
                self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
            }
            let chosen = core.log.chosen();
            self.reconfiguring.take_if(|slot| *slot <= chosen);
            if !is_reconfigured {
                break;
            }
            self.adopt_membership(core, now, out);
        }
        if core.log.chosen() > before && !self.peers.is_empty() {
            self.notify_at.get_or_insert(now.mono + core.config.commit_notify);
        }
    }

    /// Follows a change of membership that was just chosen. Whoever left is told once that it was.
    fn adopt_membership(&mut self, core: &mut Core, now: Now, out: &mut Outputs) {
        assert!(core.is_voter(), "a membership without its leader was chosen");
        let (ballot, node) = (self.ballot, core.node());
        for (peer, progress) in &mut self.peers {
            if core.membership.kind(*peer).is_none() {
                send_accept(core, ballot, *peer, progress, &[], None, now, out);
            }
        }
        self.peers.retain(|peer, _| core.membership.kind(*peer).is_some());
        let chosen = core.log.chosen();
        let rest: Vec<_> = core.log.from(chosen.next()).cloned().collect();
        for (peer, _) in core.membership.members.iter().filter(|(n, _)| *n != node) {
            self.peers.entry(*peer).or_insert_with(|| {
                let mut progress = Progress::new(chosen);
                send_accept(core, ballot, *peer, &mut progress, &rest, None, now, out);
                progress
            });
        }
        self.update_lease(core, now);
        // The vote of a new voter is missing from the lease.
        self.renew_at = now.mono;
    }

    pub(crate) fn tick(&mut self, core: &mut Core, now: Now, out: &mut Outputs) {
        // The lease was checked before this tick. An interval that has become wider moves its end away.
        if now.mono >= self.lease_end_mono {
            self.update_lease(core, now);
        }
        if now.mono >= self.renew_at {
            let lease = self.lease_if_due(core, now);
            self.heartbeat(core, lease, now, out);
            core.write_commit();
            self.tell_settled(core, true, out);
        }
        let chosen = core.log.chosen();
        if self.notify_at.take_if(|at| now.mono >= *at).is_some() {
            for (node, peer) in self.peers.iter_mut().filter(|(_, p)| p.streaming && p.commit_told < chosen) {
                send_accept(core, self.ballot, *node, peer, &[], None, now, out);
            }
            self.tell_settled(core, false, out);
        }
        for (node, peer) in &mut self.peers {
            if peer.resend_at.take_if(|at| now.mono >= *at).is_some() && peer.streaming {
                peer.streaming = false;
                send_accept(core, self.ballot, *node, peer, &[], None, now, out);
            }
        }
    }

    /// True when every member has and knows all that there is, and nothing is due but extensions of the lease.
    pub(crate) fn is_idle(&self, core: &Core) -> bool {
        let last = core.log.last();
        let knows = |p: &Progress| {
            p.streaming && p.matched >= last && p.chosen >= last && p.commit_told >= last && !p.is_waiting()
        };
        self.handing_over.is_none()
            && self.reconfiguring.is_none()
            && self.notify_at.is_none()
            && self.own_match == last
            && self.quorum_lease_end >= self.lease_end
            && self.peers.values().all(knows)
    }

    /// Takes over the votes that beats carried while this leader rested.
    pub(crate) fn take_over(&mut self, core: &mut Core, beats: &LeaderBeats, now: Now) {
        if let Some((lease_end, vote_end)) = beats.own {
            core.voter.extend(self.ballot, vote_end);
            self.own_lease_end = self.own_lease_end.max(lease_end);
        }
        for (node, lease_end) in &beats.votes {
            if let Some(peer) = self.peers.get_mut(node) {
                peer.lease_end = peer.lease_end.max(*lease_end);
            }
        }
        self.update_lease(core, now);
    }

    fn heartbeat(&mut self, core: &Core, lease: Option<LeaseRequest>, now: Now, out: &mut Outputs) {
        for (node, peer) in &mut self.peers {
            let lease = lease.filter(|_| core.membership.is_voting(*node));
            send_accept(core, self.ballot, *node, peer, &[], lease, now, out);
        }
    }

    /// Asks for an extension when it is time. The leader is a voter of its own lease: its vote is extended at the
    /// same moment. Without a clock it asks for nothing.
    fn lease_if_due(&mut self, core: &mut Core, now: Now) -> Option<LeaseRequest> {
        if now.mono < self.renew_at {
            return None;
        }
        self.asked_at = now.mono;
        self.renew_at = now.mono + core.config.retry();
        let lease = LeaseRequest { leader_earliest: now.tt?.earliest(), length: core.config.lease };
        if core.grant(self.ballot, lease, now).is_some() {
            self.own_lease_end = self.own_lease_end.max(lease.leader_earliest + lease.length);
        }
        self.update_lease(core, now);
        Some(lease)
    }

    /// The lease runs to what a quorum of votes has reached (appendix A).
    fn update_lease(&mut self, core: &mut Core, now: Now) {
        let Some(tt) = now.tt else { return };
        let node = core.node();
        let end_of = |n: NodeId| match self.peers.get(&n) {
            _ if n == node => self.own_lease_end,
            Some(peer) => peer.lease_end,
            None => Timestamp::ZERO,
        };
        self.quorum_lease_end = core.membership.reached_by_quorum(end_of);
        self.lease_end = self.lease_end.max(self.quorum_lease_end);
        core.own_lease_end = core.own_lease_end.max(self.lease_end);
        self.lease_end_mono = now.mono + self.lease_end.since(tt.earliest()) + Duration::from_nanos(1);
        let due = self.quorum_lease_end.saturating_sub(core.config.renew_below).since(tt.latest());
        self.renew_at = (now.mono + due).max(self.asked_at + core.config.retry());
    }

    /// True when the lease has run out, or may have.
    pub(crate) fn is_over(&self, now: Now) -> bool {
        match now.tt {
            Some(tt) => !tt.before(self.lease_end),
            None => now.mono >= self.lease_end_mono,
        }
    }

    pub(crate) fn leadership(&self, now: Now) -> Option<Leadership> {
        let tt = now.tt?;
        tt.before(self.lease_end).then_some(Leadership { ballot: self.ballot, lease_end: self.lease_end })
    }

    /// True when `node` is a voting member that this leader would need.
    pub(crate) fn leads(&self, node: NodeId) -> bool {
        self.handing_over.is_none() && self.peers.contains_key(&node)
    }

    pub(crate) fn progress(&self) -> Vec<(NodeId, Slot)> {
        self.peers.iter().map(|(n, p)| (*n, p.chosen)).collect()
    }

    pub(crate) fn next_wake(&self) -> Timestamp {
        let resend = self.peers.values().filter_map(|p| p.resend_at).min();
        let hand_over = self.handing_over.as_ref().map(|h| h.give_up_at);
        let others = [self.notify_at, resend, hand_over].into_iter().flatten().min();
        let own = self.renew_at.min(self.lease_end_mono);
        others.map_or(own, |t| t.min(own))
    }

    pub(crate) fn check_invariants(&self, core: &Core) {
        assert!(self.ballot == core.promised, "a leader at {} promised {}", self.ballot, core.promised);
        assert!(self.own_match <= core.log.last(), "own accepts beyond the log");
        assert!(self.quorum_lease_end <= self.lease_end, "the lease end went back");
        let mut expected = core.log.chosen();
        for entry in core.log.from(expected.next()) {
            expected = expected.next();
            assert_eq!(entry.slot, expected, "the leader's log has a hole");
            assert_eq!(entry.ballot, self.ballot, "an entry of another ballot is in flight");
        }
        for (node, peer) in &self.peers {
            assert!(peer.matched <= peer.sent, "{node} matched {} but was sent {}", peer.matched, peer.sent);
            assert!(peer.sent <= core.log.last(), "{node} was sent slot {} beyond the log", peer.sent);
            assert!(core.membership.kind(*node).is_some(), "{node} is not a member");
        }
    }
}

/// Sends entries, or a heartbeat, in messages of bounded size; the lease request rides on the first.
#[expect(clippy::too_many_arguments, reason = "one place that fills the fields of Accept")]
fn send_accept(
    core: &Core,
    ballot: Ballot,
    node: NodeId,
    peer: &mut Progress,
    entries: &[LogEntry],
    mut lease: Option<LeaseRequest>,
    now: Now,
    out: &mut Outputs,
) {
    let commit = core.log.chosen();
    let mut rest = entries;
    loop {
        let (head, tail) = rest.split_at(message_len(rest));
        let accept = Message::Accept { ballot, entries: head.to_vec(), commit, lease: lease.take() };
        core.send(node, accept, out);
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    peer.commit_told = commit;
    if let Some(last) = entries.last() {
        peer.sent = last.slot;
        peer.resend_at.get_or_insert(now.mono + core.config.retransmit);
    }
}
