//! Witnesses: what they may forget.
//!
//! A witness that drops an entry which only a voter has that is lost afterwards would take an acknowledged write with it. Nodes of
//! the simulation always come back, so that no run would show it; it is looked at when a witness drops something. In
//! every quorum with a voter to lead it, the voter or another one must have the entry durably.

use std::collections::BTreeMap;

use meridian_paxos::{MemberKind, Persist};
use meridian_storage::CrashPoint;
use meridian_types::{GroupId, NodeId, Slot};

use super::checker::Broken;
use super::world::Cluster;

impl Cluster {
    /// Judges what a witness is about to drop.
    pub(super) fn witness_cuts(&mut self, id: NodeId, group: GroupId, writes: &[Persist]) {
        let cut = writes.iter().filter_map(|write| match write {
            Persist::Truncate(slot) => Some(*slot),
            Persist::Entries(_) | Persist::HardState(_) => None,
        });
        let Some(cut) = cut.max() else { return };
        let members = &self.members[&group].replicas;
        if !members.contains(&(id, MemberKind::Witness)) {
            return;
        }
        let voting = members.iter().filter(|(_, kind)| kind.votes()).count();
        let voters: Vec<NodeId> =
            members.iter().filter(|(_, kind)| *kind == MemberKind::Voter).map(|(node, _)| *node).collect();
        let enough = (voting - (voting / 2 + 1) + 1).min(voters.len());
        // What came with a snapshot is in no log.
        let mut applied: BTreeMap<NodeId, Slot> = BTreeMap::new();
        let mut dropped = 0;
        let mut missing = None;
        for entry in self.nodes[&id].logs[&group].through(cut) {
            let mut has = |node: &&NodeId| {
                self.nodes[*node].logs.get(&group).is_some_and(|log| log.knows(entry))
                    || *applied.entry(**node).or_insert_with(|| self.durably_applied(**node, group))
                        >= entry.slot
            };
            if voters.iter().filter(|node| has(node)).count() < enough {
                missing.get_or_insert(entry.slot);
            }
            dropped += 1;
        }
        self.stats.witnesses_cut += dropped;
        if let Some(slot) = missing {
            self.fail(Broken::WitnessForgot { group, node: id, slot });
        }
    }

    /// How far the data of a group would reach if the node crashed now.
    fn durably_applied(&self, id: NodeId, group: GroupId) -> Slot {
        let engine = self.nodes[&id].engine.crash(CrashPoint::NOTHING_BUFFERED);
        let recovered = meridian_shard::recover(&engine, group).expect("memory can be read");
        recovered.filter(|r| r.holds_data).map_or(Slot::ZERO, |r| r.applied)
    }
}
