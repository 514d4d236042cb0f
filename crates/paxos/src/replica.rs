//! The replica: one core, one role, one `step`.

use meridian_types::{Ballot, NodeId, Slot, Timestamp};

use crate::candidate::Candidate;
use crate::core::Core;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::planted::Planted;
use crate::{Config, Input, Leadership, Membership, Message, Now, Outputs, Persist, Recovered, RoleChange};

#[derive(Debug)]
pub(crate) enum Role {
    Follower(Follower),
    Candidate(Box<Candidate>),
    Leader(Box<Leader>),
    /// The log could not be written; nothing is answered until the process starts again.
    Failed,
}

impl Role {
    /// The ballot that this replica leads or campaigns with.
    pub(crate) fn ballot(&self) -> Option<Ballot> {
        match self {
            Role::Follower(_) | Role::Failed => None,
            Role::Candidate(candidate) => Some(candidate.ballot),
            Role::Leader(leader) => Some(leader.ballot),
        }
    }

    /// Becomes a follower. The shard hears of it when this replica led.
    pub(crate) fn follow(&mut self, leader: Option<NodeId>, out: &mut Outputs) {
        if let Role::Leader(_) = self {
            out.role_change = Some(RoleChange::Following { leader });
        }
        if !matches!(self, Role::Follower(_)) {
            *self = Role::Follower(Follower::default());
        }
    }
}

/// One member of one group. See the crate's documentation.
#[derive(Debug)]
pub struct Replica {
    pub(crate) core: Core,
    pub(crate) role: Role,
    /// See the `rest` module.
    pub(crate) resting: bool,
}

impl Replica {
    /// A replica as it stands after a start of its process. A replica that has never promised anything (`recovered.hard`
    /// is the default) votes at once; any other abstains from lease votes for one lease length.
    ///
    /// The first step emits what is chosen but not applied; [`Replica::next_wake`] asks for it at once.
    pub fn new(config: Config, recovered: Recovered, now: Now) -> Self {
        let core = Core::recovered(config, recovered, now);
        Replica { core, role: Role::Follower(Follower::default()), resting: false }
    }

    /// Takes one input. `out` is cleared first, and keeps its buffers from step to step.
    pub fn step(&mut self, input: Input, now: Now, out: &mut Outputs) {
        out.clear();
        if matches!(self.role, Role::Failed) {
            return;
        }
        self.assert_awake_for(&input);
        let core = &mut self.core;
        let role = &mut self.role;
        core.voter.observe(now.tt);
        if let Role::Leader(leader) = role
            && !self.resting
            && leader.is_over(now)
        {
            role.follow(None, out);
            core.await_leader(now);
        }
        match input {
            Input::Tick => self.tick(now, out),
            Input::Receive { from, message } => self.receive(from, message, now, out),
            Input::Persisted(token) => {
                core.persisted(token);
                match role {
                    Role::Leader(leader) => leader.persisted(core, token, now, out),
                    Role::Candidate(candidate) => {
                        candidate.persisted(core, token);
                        self.try_establish(now, out);
                    }
                    Role::Follower(_) | Role::Failed => {}
                }
            }
            Input::Propose(commands) => {
                if let Role::Leader(leader) = role {
                    leader.propose(core, commands, now, out);
                }
            }
            Input::Applied(slot) => {
                assert!(slot <= core.emitted, "slot {slot} was applied but only {} emitted", core.emitted);
                core.applied = core.applied.max(slot);
            }
            Input::Truncate(slot) => core.truncate(slot, out),
            Input::SnapshotInstalled { applied, membership } => {
                core.snapshot_installed(applied, membership, out)
            }
            Input::Campaign => self.campaign_on_request(now, out),
            Input::HandOver { to, floor } => {
                if let Role::Leader(leader) = role {
                    leader.hand_over(core, to, floor, now, out);
                }
            }
            Input::StorageFailed => {
                role.follow(None, out);
                *role = Role::Failed;
                return;
            }
        }
        self.after_step(now, out);
        self.core.finish(out);
    }

    /// What any input may have made possible.
    fn after_step(&mut self, now: Now, out: &mut Outputs) {
        if let Role::Leader(leader) = &mut self.role
            && leader.try_hand_over(&mut self.core, now, out)
        {
            self.role.follow(self.core.leader_hint, out);
            self.core.await_leader(now);
        }
        // Without a quorum to wait for (a group of one) the canvass is over before any answer.
        if let Role::Follower(follower) = &self.role
            && follower.is_canvass_won(&self.core)
        {
            self.campaign(now, out);
        }
    }

    fn tick(&mut self, now: Now, out: &mut Outputs) {
        if self.resting {
            return;
        }
        self.core.retry_catch_up(now, out);
        match &mut self.role {
            Role::Follower(follower) => follower.tick(&mut self.core, now, out),
            Role::Candidate(candidate) => {
                if candidate.tick(&mut self.core, now, out) {
                    self.abandon(now, out);
                } else {
                    self.try_establish(now, out);
                }
            }
            Role::Leader(leader) => leader.tick(&mut self.core, now, out),
            Role::Failed => {}
        }
    }

    fn receive(&mut self, from: NodeId, message: Message, now: Now, out: &mut Outputs) {
        if from == self.core.node() {
            return;
        }
        match message {
            Message::Prepare { ballot, from_slot, lease } => {
                self.on_prepare(from, ballot, from_slot, lease, now, out)
            }
            Message::Promise { ballot, accepted, chosen, lease } => {
                self.on_promise(from, ballot, accepted, chosen, lease, now, out);
            }
            Message::Refuse { ballot, promised, leader } => {
                self.on_refuse(from, ballot, promised, leader, now, out)
            }
            Message::Accept { ballot, entries, commit, lease } => {
                self.on_accept(from, ballot, entries, commit, lease, now, out);
            }
            Message::Accepted { ballot, slots, chosen, lease } => {
                if let Role::Leader(leader) = &mut self.role
                    && leader.ballot == ballot
                {
                    leader.on_accepted(&mut self.core, from, slots, chosen, lease, now, out);
                }
            }
            Message::CatchUp { from_slot } => {
                // Who asks for more than is known here knows more. It may be a witness, which never leads, and so would tell
                // nobody of a change of members that it alone still has.
                if !matches!(self.role, Role::Leader(_)) && from_slot > self.core.log.chosen().next() {
                    self.core.want(from, from_slot.prev(), now, out);
                }
                self.core.on_catch_up(from, from_slot, out);
            }
            Message::Learn { entries, chosen } => {
                // A leader has learned before it led, and counts for itself since.
                if !matches!(self.role, Role::Leader(_)) {
                    self.core.on_learn(from, entries, chosen, now, out);
                    self.try_establish(now, out);
                }
            }
            Message::NeedSnapshot { truncated } => self.core.on_need_snapshot(from, truncated, now),
            Message::Known { through } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.on_known(from, through);
                }
            }
            Message::Settled { through } => self.core.settled = self.core.settled.max(through),
            Message::HandOver { ballot, floor, commit } => {
                self.on_hand_over(from, ballot, floor, commit, now, out)
            }
            Message::ReleaseVote { ballot, successor } => self.on_release_vote(from, ballot, successor),
        }
    }

    /// The time (of the local oscillator) at which a [`Input::Tick`] is needed; earlier ticks do no harm.
    pub fn next_wake(&self) -> Option<Timestamp> {
        if self.core.has_more() {
            return Some(Timestamp::ZERO);
        }
        if self.resting {
            return None;
        }
        let catch_up = self.core.catch_up.as_ref().and_then(|c| c.retry_at());
        let role = match &self.role {
            Role::Follower(_) => Some(self.core.election_at),
            Role::Candidate(candidate) => Some(candidate.next_wake()),
            Role::Leader(leader) => Some(leader.next_wake()),
            Role::Failed => return None,
        };
        [catch_up, role].into_iter().flatten().min()
    }

    /// The right to act as leader, while it lasts: established, and `TT.before(lease_end)`.
    pub fn leadership(&self, now: Now) -> Option<Leadership> {
        match &self.role {
            Role::Leader(leader) => leader.leadership(now),
            Role::Follower(_) | Role::Candidate(_) | Role::Failed => None,
        }
    }

    /// How many commands [`Input::Propose`] would take at this moment. Zero on any other replica than a leader whose lease
    /// holds, during a hand-over, and between the proposal of a membership and its choice.
    pub fn can_propose(&self, now: Now) -> usize {
        match &self.role {
            Role::Leader(leader) if !leader.is_over(now) => leader.capacity(&self.core),
            Role::Leader(_) | Role::Follower(_) | Role::Candidate(_) | Role::Failed => 0,
        }
    }

    /// Who leads, as far as this replica knows.
    pub fn leader_hint(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.core.node()),
            Role::Follower(_) | Role::Candidate(_) | Role::Failed => self.core.leader_hint,
        }
    }

    /// Everything up to here is known chosen.
    pub fn commit(&self) -> Slot {
        self.core.log.chosen()
    }

    /// Everything up to here was reported applied.
    pub fn applied(&self) -> Slot {
        self.core.applied
    }

    /// The highest slot in use.
    pub fn last_slot(&self) -> Slot {
        self.core.log.last()
    }

    /// The log starts after this slot.
    pub fn truncated(&self) -> Slot {
        self.core.log.truncated()
    }

    /// The highest ballot promised.
    pub fn promised(&self) -> Ballot {
        self.core.promised
    }

    /// The membership in force for the slot after [`Replica::commit`].
    pub fn membership(&self) -> &Membership {
        &self.core.membership
    }

    /// How far the log is settled, as this leader knows, or as this witness has been told.
    pub fn settled(&self) -> Slot {
        match &self.role {
            Role::Leader(leader) => leader.settled(&self.core, &self.core.membership),
            Role::Follower(_) | Role::Candidate(_) | Role::Failed => self.core.settled,
        }
    }

    /// True when a snapshot without data may take the place of the log up to `slot`: who has no data keeps what is not settled. Also
    /// an observer, since a leader that makes it a witness can't know what it lets go of before it hears that.
    pub fn may_skip_to(&self, slot: Slot) -> bool {
        slot <= self.core.settled
    }

    /// Tells whether data is applied here. A replica without any neither leads nor gives snapshots, whatever its kind.
    pub fn set_holds_data(&mut self, holds_data: bool) {
        self.core.holds_data = holds_data;
    }

    /// Whoever has learned this slot knows that it is a member, and as what.
    pub fn membership_since(&self) -> Slot {
        self.core.membership_since
    }

    /// True on a leader when a quorum of the members knows durably that their membership is chosen. Until then the next
    /// leader may need a quorum of the membership before it, too: whoever left must be kept alive.
    ///
    /// Every quorum of the members has one that knows it then. A candidate asks that one, since it has the entry in its log
    /// or hears of it: of those whose quorum chose the entry, every quorum of the members has one, or it is a quorum of the
    /// membership before, too.
    pub fn is_membership_known(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.is_membership_known(&self.core),
            Role::Follower(_) | Role::Candidate(_) | Role::Failed => false,
        }
    }

    /// Slots that this leader has proposed and not yet seen chosen.
    pub fn in_flight(&self) -> u64 {
        match &self.role {
            Role::Leader(_) => self.core.log.last().get() - self.core.log.chosen().get(),
            Role::Follower(_) | Role::Candidate(_) | Role::Failed => 0,
        }
    }

    /// What the leader knows of each other member's chosen-or-accepted prefix, for placement and the console. Empty on
    /// any other replica.
    pub fn progress(&self) -> Vec<(NodeId, Slot)> {
        match &self.role {
            Role::Leader(leader) => leader.progress(),
            Role::Follower(_) | Role::Candidate(_) | Role::Failed => Vec::new(),
        }
    }

    /// Asserts every invariant that can be checked on one replica.
    ///
    /// # Panics
    /// When one is broken.
    pub fn check_invariants(&self) {
        self.core.check_invariants();
        match &self.role {
            Role::Leader(leader) => leader.check_invariants(&self.core),
            Role::Candidate(c) => {
                assert!(c.ballot == self.core.promised, "a candidate promised another ballot")
            }
            Role::Follower(_) | Role::Failed => {}
        }
    }

    pub(crate) fn parts(&mut self) -> (&mut Core, &mut Role) {
        (&mut self.core, &mut self.role)
    }
}

impl Outputs {
    /// Empties the outputs and keeps the buffers.
    pub fn clear(&mut self) {
        self.persist.clear();
        self.send.clear();
        self.send_after_persist.clear();
        self.chosen.clear();
        self.proposed.clear();
        self.snapshot_to.clear();
        self.role_change = None;
    }
}

impl Core {
    fn truncate(&mut self, slot: Slot, out: &mut Outputs) {
        let slot = slot.min(self.applied);
        let is_dataless = self.kind().is_some_and(|kind| !kind.holds_data());
        let keeps = is_dataless && !self.planted(Planted::WitnessCutsLog);
        let slot = if keeps { slot.min(self.settled) } else { slot };
        if slot > self.log.truncated() {
            self.log.truncate(slot);
            out.persist.push(Persist::Truncate(slot));
        }
    }
}
