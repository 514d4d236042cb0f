//! What must hold at every moment, seen from above all nodes: I-1, I-2, I-4, I-5, I-6.
//!
//! A node whose clock was disturbed beyond its bounds may break I-1. From that moment on it is *declared faulty*: what
//! rests on clocks (I-4, I-5, I-7, I-8) is owed no more in this run, all else still is. That it notices by itself is
//! demanded of an oscillator that went bad; that a majority of the masters lies can't be noticed by anybody.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use meridian_shard::{Now, Replica};
use meridian_storage::{Mutation, WriteBatch};
use meridian_types::{Duration, GroupId, NodeId, Slot, Timestamp};

use super::checker::Broken;
use super::trace::Mixer;

/// A clock whose oscillator went bad must be unsure, or right again, within this time. Mostly the next polls show it; but
/// where one master is silent the other two may seem to contradict each other, and it takes the ten polls after which a
/// clock without agreement is unsure.
const NOTICED_WITHIN: Duration = Duration::from_millis(15_000);

#[derive(Debug, Default)]
pub(super) struct Monitor {
    /// By group, the effect of each slot and who applied it first.
    effects: BTreeMap<GroupId, BTreeMap<Slot, (u64, NodeId)>>,
    leaders: BTreeMap<GroupId, NodeId>,
    /// By group, the greatest timestamp assigned and by whom.
    assigned: BTreeMap<GroupId, (Timestamp, NodeId)>,
    /// I-1 was broken by a clock that was disturbed beyond its bounds.
    pub(super) clocks_are_void: bool,
    /// Since when a node's clock has been wrong and sure of itself.
    wrong_since: BTreeMap<NodeId, Timestamp>,
}

impl Monitor {
    /// I-1: what the clock of a node says at the absolute time `at`. `is_excused` when it was disturbed beyond its bounds.
    pub(super) fn reading(
        &mut self,
        node: NodeId,
        now: Now,
        at: Timestamp,
        is_excused: bool,
    ) -> Result<(), Broken> {
        let is_wrong = now.tt.is_some_and(|tt| at < tt.earliest() || tt.latest() < at);
        if !is_wrong {
            if !self.wrong_since.is_empty() {
                self.wrong_since.remove(&node);
            }
            return Ok(());
        }
        if !is_excused {
            return Err(Broken::WrongClock { node });
        }
        self.clocks_are_void = true;
        self.wrong_since.entry(node).or_insert(at);
        Ok(())
    }

    /// A disturbed oscillator must be noticed.
    pub(super) fn check_noticed(&self, node: NodeId, at: Timestamp) -> Result<(), Broken> {
        match self.wrong_since.get(&node) {
            Some(since) if at.since(*since) > NOTICED_WITHIN => Err(Broken::UnnoticedClock { node }),
            Some(_) | None => Ok(()),
        }
    }

    /// I-2 and I-6: what a slot does is the same wherever it is applied. Returns a digest of it.
    pub(super) fn applied(
        &mut self,
        node: NodeId,
        group: GroupId,
        slot: Slot,
        batch: &WriteBatch,
    ) -> Result<u64, Broken> {
        let effect = digest(batch);
        let (expected, first) = *self.effects.entry(group).or_default().entry(slot).or_insert((effect, node));
        if expected == effect {
            Ok(effect)
        } else {
            Err(Broken::EffectsDiffer { group, slot, nodes: (first, node) })
        }
    }

    /// I-4 and I-5, after a step of `replica` on `node`. `holds` tells whether another node holds the group's lease now.
    pub(super) fn stepped(
        &mut self,
        node: NodeId,
        group: GroupId,
        replica: &Replica,
        now: Now,
        holds: impl FnOnce(NodeId) -> bool,
    ) -> Result<bool, Broken> {
        if self.clocks_are_void {
            return Ok(false);
        }
        let Some(lease_end) = replica.lease_end(now) else { return Ok(false) };
        let before = self.leaders.insert(group, node);
        let is_new = before != Some(node);
        if let Some(other) = before.filter(|other| *other != node)
            && holds(other)
        {
            return Err(Broken::TwoLeaders { group, nodes: (other, node) });
        }
        let own = replica.last_assigned();
        let (greatest, by) = self.assigned.entry(group).or_insert((Timestamp::ZERO, node));
        if own > *greatest {
            if own >= lease_end && now.tt.is_some() {
                return Err(Broken::OutsideOfLease { group, node, assigned: own, lease_end });
            }
            (*greatest, *by) = (own, node);
        } else if own > Timestamp::ZERO && (own < *greatest || *by != node) {
            return Err(Broken::TimestampWentBack { group, nodes: (*by, node), before: *greatest, own });
        }
        Ok(is_new)
    }
}

fn digest(batch: &WriteBatch) -> u64 {
    let mut mixer = Mixer::default();
    for mutation in batch.mutations() {
        match mutation {
            Mutation::Put { family, key, value } => {
                (0_u8, *family as u8, &key[..], &value[..]).hash(&mut mixer)
            }
            Mutation::Delete { family, key } => (1_u8, *family as u8, &key[..]).hash(&mut mixer),
            Mutation::DeleteSpan { family, span } => {
                let end = span.end.as_ref().map(meridian_types::Key::as_bytes);
                (2_u8, *family as u8, span.start.as_bytes(), end).hash(&mut mixer);
            }
        }
    }
    mixer.finish()
}
