//! Phase 1 and the first lease.
//!
//! A candidate wins when it has, for *every* membership between its chosen prefix and the end of the log that it
//! adopts, promises and running lease votes of a quorum, its own durable ones included, and has learned everything that
//! any of them knows as chosen.
//!
//! Why every membership: slots after a membership command were decided by quorums of that membership, which need not
//! meet a quorum of the membership before the one before. A promise from each quorum on the way reveals the next.

use std::collections::BTreeMap;

use meridian_types::{Ballot, Duration, NodeId, Slot, Timestamp};

use crate::core::Core;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::planted::Planted;
use crate::replica::{Replica, Role};
use crate::{Command, LeaseGrant, LeaseRequest, LogEntry, Membership, Message, Now, Outputs, PersistToken};

/// A candidate asks again after this part of the retransmission interval, the first time.
const FIRST_RESEND_PART: u64 = 32;

#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) ballot: Ballot,
    from_slot: Slot,
    /// The write that makes the own promise and vote durable.
    own_token: PersistToken,
    own_lease_end: Timestamp,
    promises: BTreeMap<NodeId, Promised>,
    /// The value of the highest ballot per slot.
    adopted: BTreeMap<Slot, LogEntry>,
    /// Set by a hand-over: the ballot whose votes are to be released.
    release: Option<Ballot>,
    resend_at: Timestamp,
    /// Twice as long each time, up to the retransmission interval. Short at first: of a group that a split has made, its
    /// other members may hear a moment later than this one.
    resend_after: Duration,
    give_up_at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Promised {
    chosen: Slot,
    lease_end: Timestamp,
}

enum Verdict {
    Wait,
    /// A later membership does not let this replica lead.
    Excluded,
    Won {
        lease_end: Timestamp,
    },
}

impl Candidate {
    fn new(core: &Core, ballot: Ballot, release: Option<Ballot>, own_lease_end: Timestamp, now: Now) -> Self {
        let from_slot = core.log.chosen().next();
        let resend_after = Duration::from_nanos(core.config.retransmit.as_nanos() / FIRST_RESEND_PART);
        let mut candidate = Candidate {
            ballot,
            from_slot,
            own_token: core.next_token(),
            own_lease_end,
            promises: BTreeMap::new(),
            adopted: BTreeMap::new(),
            release,
            resend_at: now.mono + resend_after,
            resend_after,
            give_up_at: now.mono + core.config.campaign,
        };
        for entry in core.log.from(from_slot) {
            candidate.adopt(core, entry.clone());
        }
        candidate
    }

    pub(crate) fn next_wake(&self) -> Timestamp {
        self.resend_at.min(self.give_up_at)
    }

    pub(crate) fn lease_end_of(&self, node: NodeId) -> Timestamp {
        self.promises.get(&node).map_or(Timestamp::ZERO, |p| p.lease_end)
    }

    pub(crate) fn own_lease_end(&self) -> Timestamp {
        self.own_lease_end
    }

    /// What is to be proposed again: from the slot after `chosen` on, holes filled.
    pub(crate) fn into_proposals(mut self, chosen: Slot) -> Vec<LogEntry> {
        let Some(last) = self.adopted.last_key_value().map(|(s, _)| *s) else { return Vec::new() };
        let slots = chosen.next().get()..=last.get();
        let ballot = self.ballot;
        slots
            .map(|slot| {
                let slot = Slot::new(slot);
                let command = self.adopted.remove(&slot).map_or(Command::Noop, |e| e.command);
                LogEntry { slot, ballot, command }
            })
            .collect()
    }

    fn adopt(&mut self, core: &Core, entry: LogEntry) {
        let prefer_lower = core.planted(Planted::AdoptLowestBallot);
        match self.adopted.get(&entry.slot) {
            Some(held) if (held.ballot >= entry.ballot) != prefer_lower => {}
            Some(_) | None => {
                self.adopted.insert(entry.slot, entry);
            }
        }
    }

    /// The memberships that decide about slots after the chosen prefix.
    fn memberships<'a>(&'a self, core: &'a Core) -> impl Iterator<Item = &'a Membership> {
        let adopted = self.adopted.range(core.log.chosen().next()..).filter_map(|(_, e)| match &e.command {
            Command::Membership(m) => Some(m),
            Command::Noop | Command::Normal(_) => None,
        });
        let looks = !core.planted(Planted::ManyMembersAtOnce);
        std::iter::once(&core.membership).chain(adopted.filter(move |_| looks))
    }

    fn voting(&self, core: &Core) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.memberships(core).flat_map(Membership::voting).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.retain(|n| *n != core.node());
        nodes
    }

    /// Asks everybody whose promise or lease vote is missing. Sent after the own promise is durable, so that a ballot
    /// is never used twice.
    fn ask(&self, core: &Core, lease: LeaseRequest, now: Now, out: &mut Outputs) {
        for peer in self.voting(core) {
            if now.tt.is_some_and(|tt| tt.before(self.lease_end_of(peer))) {
                continue;
            }
            if let Some(ballot) = self.release {
                core.send_durable(peer, Message::ReleaseVote { ballot, successor: core.node() }, out);
            }
            let prepare = Message::Prepare { ballot: self.ballot, from_slot: self.from_slot, lease };
            core.send_durable(peer, prepare, out);
        }
    }

    /// Returns true when it is time to give up.
    pub(crate) fn tick(&mut self, core: &mut Core, now: Now, out: &mut Outputs) -> bool {
        if now.mono >= self.give_up_at {
            return true;
        }
        if now.mono >= self.resend_at {
            self.resend_after = (self.resend_after + self.resend_after).min(core.config.retransmit);
            self.resend_at = now.mono + self.resend_after;
            if let Some(lease) = self.vote_for_self(core, now) {
                self.ask(core, lease, now, out);
            }
        }
        false
    }

    fn vote_for_self(&mut self, core: &mut Core, now: Now) -> Option<LeaseRequest> {
        let lease = LeaseRequest { leader_earliest: now.tt?.earliest(), length: core.config.lease };
        core.grant(self.ballot, lease, now)?;
        self.own_lease_end = self.own_lease_end.max(lease.leader_earliest + lease.length);
        Some(lease)
    }

    pub(crate) fn persisted(&mut self, core: &Core, token: PersistToken) {
        if token >= self.own_token {
            let own = Promised { chosen: Slot::ZERO, lease_end: Timestamp::ZERO };
            self.promises.insert(core.node(), own);
        }
    }

    fn promised(&mut self, core: &Core, from: NodeId, accepted: Vec<LogEntry>, promised: Promised) {
        for entry in accepted {
            if entry.slot >= self.from_slot && entry.ballot < self.ballot {
                self.adopt(core, entry);
            }
        }
        let known = self.promises.entry(from).or_insert(promised);
        known.chosen = known.chosen.max(promised.chosen);
        known.lease_end = known.lease_end.max(promised.lease_end);
    }

    fn verdict(&self, core: &Core, now: Now) -> Verdict {
        let Some(tt) = now.tt else { return Verdict::Wait };
        let node = core.node();
        if !self.memberships(core).all(|m| m.is_voter(node)) {
            return Verdict::Excluded;
        }
        let has_learned = self.promises.values().all(|p| p.chosen <= core.log.chosen());
        if !has_learned || !self.promises.contains_key(&node) {
            return Verdict::Wait;
        }
        if !self.memberships(core).all(|m| m.has_quorum(|n| self.promises.contains_key(&n))) {
            return Verdict::Wait;
        }
        let end_of = |n: NodeId| if n == node { self.own_lease_end } else { self.lease_end_of(n) };
        let lease_end = self.memberships(core).map(|m| m.reached_by_quorum(end_of)).min();
        match lease_end {
            Some(lease_end) if tt.before(lease_end) => Verdict::Won { lease_end },
            Some(_) | None => Verdict::Wait,
        }
    }
}

impl Replica {
    /// An operator, a bootstrap or a split asks. A group that has never promised anything has nobody to disturb.
    pub(crate) fn campaign_on_request(&mut self, now: Now, out: &mut Outputs) {
        let (core, role) = self.parts();
        let Role::Follower(follower) = role else { return };
        if !core.is_voter() || core.must_wait(now).is_some() {
            return;
        }
        if core.promised == Ballot::ZERO {
            self.campaign(now, out);
        } else {
            follower.start_canvass(core, now, out);
        }
    }

    /// Asks for promises and votes.
    pub(crate) fn campaign(&mut self, now: Now, out: &mut Outputs) {
        let (core, role) = self.parts();
        role.follow(None, out);
        *role = Role::Follower(Follower::default());
        if !core.is_voter() || core.must_wait(now).is_some() {
            return;
        }
        let Some(tt) = now.tt else { return };
        let ballot = core.next_ballot();
        let lease = LeaseRequest { leader_earliest: tt.earliest(), length: core.config.lease };
        core.promise(ballot);
        let grant = core.grant(ballot, lease, now);
        assert!(grant.is_some(), "a replica that need not wait refuses its own vote");
        core.leader_hint = None;
        let release = core.handed_over.map(|(old, _)| old);
        let candidate = Candidate::new(core, ballot, release, lease.leader_earliest + lease.length, now);
        candidate.ask(core, lease, now, out);
        *role = Role::Candidate(Box::new(candidate));
    }

    /// Gives up, and frees whoever voted: the ballot has never led and never will.
    pub(crate) fn abandon(&mut self, now: Now, out: &mut Outputs) {
        let (core, role) = self.parts();
        let Role::Candidate(candidate) = role else { return };
        let ballot = candidate.ballot;
        core.voter.void(ballot);
        for peer in candidate.voting(core) {
            core.send_durable(peer, Message::ReleaseVote { ballot, successor: ballot.node }, out);
        }
        role.follow(None, out);
        core.election_at = now.mono + core.jitter();
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(crate) fn on_promise(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        accepted: Vec<LogEntry>,
        chosen: Slot,
        lease: Option<LeaseGrant>,
        now: Now,
        out: &mut Outputs,
    ) {
        let (core, role) = self.parts();
        let is_canvass = lease.is_some_and(|l| l.length.as_nanos() == 0);
        match role {
            Role::Follower(follower) if is_canvass => follower.encouraged(from, ballot),
            Role::Candidate(candidate) if !is_canvass && candidate.ballot == ballot => {
                let lease_end = lease.map_or(Timestamp::ZERO, |l| l.leader_earliest + l.length);
                candidate.promised(core, from, accepted, Promised { chosen, lease_end });
                core.want(from, chosen, now, out);
                self.try_establish(now, out);
            }
            // Too late to help the election; the vote still carries the lease.
            Role::Leader(leader) if !is_canvass && leader.ballot == ballot => {
                leader.voted(core, from, lease, now)
            }
            Role::Follower(_) | Role::Candidate(_) | Role::Leader(_) | Role::Failed => {}
        }
    }

    pub(crate) fn on_refuse(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        promised: Ballot,
        leader: Option<NodeId>,
        now: Now,
        out: &mut Outputs,
    ) {
        let (core, role) = self.parts();
        core.see_round(promised);
        if let Some(leader) = leader.filter(|l| *l != core.node()) {
            core.leader_hint = Some(leader);
        }
        match role {
            Role::Follower(follower) if promised >= ballot => follower.outbid(core, ballot, now),
            Role::Candidate(candidate) if candidate.ballot == ballot && promised > ballot => {
                self.abandon(now, out)
            }
            // A member promised a higher ballot to a candidate that failed, and could never accept from this leader
            // again. The lease is this node's, so nobody else can win: it raises its ballot.
            Role::Leader(leader) if leader.ballot == ballot && promised > ballot => {
                if leader.leads(from) && core.must_wait(now).is_none() {
                    self.campaign(now, out);
                }
            }
            Role::Follower(_) | Role::Candidate(_) | Role::Leader(_) | Role::Failed => {}
        }
    }

    pub(crate) fn try_establish(&mut self, now: Now, out: &mut Outputs) {
        let (core, role) = self.parts();
        let Role::Candidate(candidate) = role else { return };
        match candidate.verdict(core, now) {
            Verdict::Wait => {}
            Verdict::Excluded => {
                self.abandon(now, out);
                let (core, _) = self.parts();
                core.await_leader(now);
            }
            Verdict::Won { lease_end } => {
                let previous = std::mem::replace(role, Role::Follower(Follower::default()));
                let Role::Candidate(candidate) = previous else { unreachable!("matched above") };
                *role = Role::Leader(Box::new(Leader::establish(core, *candidate, lease_end, now, out)));
            }
        }
    }
}
