//! Changes of the group's members, one at a time, through the log.
//!
//! ```text
//!   ChangeReplica{node, kind} --> sound? caught up? --> entry proposed --> applied here, known to a quorum --> answered
//!     stranger -> read-only -> voter       a new voter has been a read-only replica and has the log
//!     voter -> read-only -> stranger       or at once; a leader hands over first
//! ```
//! Whether a member has data does not change while it is one:
//! ```text
//!     stranger -> observer -> witness      an observer has the log's position and members, and learns
//!     witness -> stranger
//! ```
//! A *witness* promises, accepts, votes for leases and keeps the log, but applies no data, serves no reads and never leads.
//! Two voters and a witness survive the loss of any one of them. What is chosen may then be with a witness and one voter only,
//! so a witness keeps every entry until Paxos has told it that the voters have it (`meridian_paxos`' `membership`), and a
//! snapshot, which for a witness is the position and the members alone, comes for what is settled only. In every
//! quorum there is a voter: witnesses are fewer than a quorum.
//!
//! A witness that left and came back as another kind before it applied its leaving has no data for what it is now. It stops
//! in front of the entry by which it came back, neither leads nor serves, and asks for a snapshot, its log and votes
//! being what they were.
//!
//! A change is answered once a quorum of the new members knows durably that it is chosen. Before that the next leader may
//! need a quorum of the old members, too, and whoever left must not be switched off: without it, one more failure than
//! the new members should bear would stop the group.
//!
//! Paxos lets at most one change be under way, and refuses those whose quorums need not meet (I-2, I-4). Asking for
//! what is so already is answered at once, so an interrupted change is asked for again.

use meridian_paxos as paxos;
use meridian_paxos::MemberKind;
use meridian_types::{Duration, NodeId, Slot, limits};

use crate::leader::{Changing, InFlight};
use crate::planted::Planted;
use crate::replica::{Replica, Step};
use crate::{RequestId, Response, ShardDescriptor, ShardError};

/// How often a member without data asks for it.
const DATA_PAUSE: Duration = Duration::from_secs(1);

/// How a replica hears that it is no member any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stranger {
    /// It is given the log from here on, as with [`paxos::Message::CatchUp`], and finds its removal there. What came
    /// before the removal is its own still: above all splits, since it is a member of the other half.
    Taught {
        /// What it has not got.
        from_slot: Slot,
    },
    /// The log here does not reach back so far: it is told the generation of a descriptor without it.
    Told {
        /// That one.
        generation: u64,
    },
}

impl Replica {
    pub(crate) fn change_replica(
        &mut self,
        id: RequestId,
        node: NodeId,
        kind: Option<MemberKind>,
        cx: &mut Step<'_>,
    ) {
        let current = self.paxos.membership().clone();
        let is_applied = current.members == self.state.descriptor.replicas;
        if !is_applied || self.leader_mut().is_draining() || self.leader_mut().changing.is_some() {
            return cx.reply(id, Err(ShardError::Overloaded));
        }
        if current.kind(node) == kind {
            if !self.is_membership_known() {
                return cx.reply(id, Err(ShardError::Overloaded));
            }
            let descriptor = self.state.descriptor.clone();
            return cx.reply(id, Ok(Response::Changed { descriptor }));
        }
        let others = current.members.iter().filter(|(n, _)| *n != node).copied();
        let next = paxos::Membership::new(others.chain(kind.map(|kind| (node, kind))));
        let keeps_data = match (current.kind(node), kind) {
            (Some(before), Some(after)) => before.holds_data() == after.holds_data(),
            (None, _) | (_, None) => true,
        };
        let witnesses = next.members.iter().filter(|(_, kind)| *kind == MemberKind::Witness).count();
        let is_sound = current.may_become(&next)
            && next.is_voter(self.config.paxos.node)
            && keeps_data
            && witnesses < next.quorum();
        if !is_sound {
            return cx.reply(id, Err(ShardError::UnsoundChange));
        }
        if kind.is_some_and(MemberKind::votes) && !self.is_caught_up(node) || !self.can_propose() {
            return cx.reply(id, Err(ShardError::Overloaded));
        }
        self.paxos(paxos::Input::Propose(vec![paxos::Command::Membership(next)]), cx);
        // Paxos also waits until the lease rests on a quorum of the last membership, and until the voters have what
        // witnesses may have dropped.
        let Some(slot) = self.proposed_first() else { return cx.reply(id, Err(ShardError::Overloaded)) };
        let leader = self.leader_mut();
        assert!(slot > leader.last_slot, "slot {slot} was given twice");
        leader.last_slot = slot;
        leader.in_flight.insert(slot, InFlight { ts: None, writes: Vec::new(), spans: Vec::new() });
        leader.changing = Some(Changing { id, slot });
    }

    /// True when `node` has learned all but what may be under way, and as what it is a member.
    fn is_caught_up(&self, node: NodeId) -> bool {
        let has = self.paxos.progress().into_iter().find(|(n, _)| *n == node).map_or(Slot::ZERO, |(_, s)| s);
        has.get() + limits::PIPELINE_SLOTS_MAX >= self.paxos.commit().get()
            && has >= self.paxos.membership_since()
            && (has > Slot::ZERO || self.paxos.commit() == Slot::ZERO)
    }

    /// True when whoever left with the last change is not needed any more.
    fn is_membership_known(&self) -> bool {
        self.paxos.is_membership_known() || self.config.has(Planted::AnswerUnknownChange)
    }

    /// Answers a change that is in force, in the data engine, and known to a quorum of the new members.
    pub(crate) fn answer_change(&mut self, cx: &mut Step<'_>) {
        let Some(leader) = &self.leader else { return };
        if leader.changing.as_ref().is_none_or(|c| c.slot > self.state.confirmed)
            || !self.is_membership_known()
        {
            return;
        }
        if let Some(changing) = self.leader_mut().changing.take() {
            let descriptor = self.state.descriptor.clone();
            cx.reply(changing.id, Ok(Response::Changed { descriptor }));
        }
    }

    /// What to do with a message of a replica that does not know that it was removed; `None` for any other message.
    pub fn stranger(&self, from: NodeId, message: &paxos::Message) -> Option<Stranger> {
        let from_slot = match message {
            paxos::Message::Prepare { from_slot, .. } | paxos::Message::CatchUp { from_slot } => *from_slot,
            paxos::Message::Promise { .. }
            | paxos::Message::Refuse { .. }
            | paxos::Message::Accept { .. }
            | paxos::Message::Accepted { .. }
            | paxos::Message::Learn { .. }
            | paxos::Message::NeedSnapshot { .. }
            | paxos::Message::Settled { .. }
            | paxos::Message::Known { .. }
            | paxos::Message::HandOver { .. }
            | paxos::Message::ReleaseVote { .. } => return None,
        };
        let descriptor = &self.state.descriptor;
        if descriptor.replicas.iter().any(|(node, _)| *node == from) {
            return None;
        }
        if self.paxos.truncated() < from_slot {
            Some(Stranger::Taught { from_slot })
        } else {
            Some(Stranger::Told { generation: descriptor.generation })
        }
    }

    /// True when data is applied here; a witness has none.
    pub fn holds_data(&self) -> bool {
        self.state.holds_data
    }

    /// Whoever has learned this slot knows the members.
    pub fn membership_since(&self) -> Slot {
        self.paxos.membership_since()
    }

    /// How far the log is settled, as this replica knows.
    pub fn settled(&self) -> Slot {
        self.paxos.settled()
    }

    /// True when a snapshot at `applied` brings this replica forward, and takes nothing from it that others may need. One
    /// that brings data brings all that the log has up to there: a witness that has become another kind of member can give
    /// it back, and is told of nothing settled any more where it was the last witness.
    pub fn wants_snapshot(&self, descriptor: &ShardDescriptor, applied: Slot) -> bool {
        if self.state.lacks_data {
            return applied > self.state.emitted;
        }
        let me = self.config.paxos.node;
        let brings_data = descriptor.replicas.iter().any(|(node, kind)| *node == me && kind.holds_data());
        applied > self.paxos.commit() && (brings_data || self.paxos.may_skip_to(applied))
    }

    /// A member that should have data and has none asks for a snapshot: nothing of the log would help.
    pub(crate) fn ask_for_data(&mut self, cx: &mut Step<'_>) {
        let me = self.config.paxos.node;
        if !self.state.lacks_data || cx.now.mono < self.ask_data_at {
            return;
        }
        self.ask_data_at = cx.now.mono + DATA_PAUSE;
        let membership = self.paxos.membership();
        let voters = membership.members.iter().filter(|(n, kind)| *kind == MemberKind::Voter && *n != me);
        for (to, _) in voters {
            let message = paxos::Message::CatchUp { from_slot: Slot::ZERO };
            cx.out.send.push(paxos::Envelope { group: self.state.group, from: me, to: *to, message });
        }
    }

    /// True when this node is no member, by what is applied here and by what is known as chosen: whoever left and came
    /// back counts in quorums again, and must not be dropped as it applies its leaving.
    pub fn is_removed(&self) -> bool {
        let me = self.config.paxos.node;
        let was_member = self.state.descriptor.replicas.iter().any(|(node, _)| *node == me);
        !was_member && self.paxos.membership().kind(me).is_none()
    }
}
