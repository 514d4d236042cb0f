//! Members that come and go, and replicas that are no members any more.
//!
//! Where there are witnesses, strangers join as observers, too, and become witnesses; those never become anything else.
//!
//! A stranger joins as a read-only replica, is promoted, demoted and removed, one step at a time; together these replace
//! voters. A removed replica erases its rows and forgets its log, but not its promise; one that was away meanwhile is
//! taught or told when it asks for votes or for the log.

use meridian_paxos::{MemberKind, Membership, Message};
use meridian_shard::{Input, Request, ShardDescriptor, Stranger};
use meridian_storage::{Durability, Engine, WriteBatch};
use meridian_types::{Duration, GroupId, Key, NodeId, Span};

use super::calls::NodeCall;
use super::checker::Broken;
use super::client::key;
use super::delivery::{Address, Packet};
use super::options::{Fault, Weather};
use super::planted::DriverBug;
use super::snapshots::places;
use super::world::{Cluster, Event};

/// At the start of a run.
const SHARDS: u64 = 3;

impl Cluster {
    /// Asks for one change of a random group that concerns this node.
    pub(super) fn change_members(&mut self, node: NodeId) {
        let observer = if self.weather().faults.has(Fault::Witness) && self.rng.chance(1, 2) {
            self.any_observer()
        } else {
            None
        };
        // Otherwise hardly one would get so far as to vote.
        let (group, node) = match observer {
            Some(observer) => observer,
            None => (self.any_group(), node),
        };
        let replicas = &self.members[&group].replicas;
        let voters = replicas.iter().filter(|(_, kind)| *kind == MemberKind::Voter).count();
        let kind = match replicas.iter().find(|(n, _)| *n == node).map(|(_, kind)| *kind) {
            None if self.weather().faults.has(Fault::Witness) && self.rng.chance(1, 3) => {
                Some(MemberKind::Observer)
            }
            None => Some(MemberKind::ReadOnly),
            Some(MemberKind::Witness) => None,
            Some(MemberKind::Observer) => self.rng.chance(4, 5).then_some(MemberKind::Witness),
            Some(MemberKind::Voter) if voters <= 2 => return,
            Some(MemberKind::Voter) => self.rng.chance(1, 2).then_some(MemberKind::ReadOnly),
            Some(MemberKind::ReadOnly) => self.rng.chance(4, 5).then_some(MemberKind::Voter),
        };
        let from = self.leader_guess(group).unwrap_or(node);
        self.node_call(from, group, Request::ChangeReplica { node, kind }, NodeCall::Ignore);
    }

    /// Whoever left may be gone for good once the change is answered: whatever quorum of the new members lives on must know
    /// of it, all of them having been restarted.
    pub(super) fn judge_change(&mut self, id: NodeId, group: GroupId, descriptor: &ShardDescriptor) {
        let members = Membership::new(descriptor.replicas.iter().copied());
        let since = self.nodes[&id].replicas[&group].replica.membership_since();
        let log = |node: NodeId| self.nodes.get(&node).and_then(|n| n.logs.get(&group));
        self.stats.changes_judged += 1;
        if !members.has_quorum(|node| log(node).is_some_and(|log| log.knows_members(&members, since))) {
            self.fail(Broken::UnknownChange { group, node: id, since });
        }
    }

    fn any_observer(&self) -> Option<(GroupId, NodeId)> {
        let members = self.members.iter().flat_map(|(group, d)| d.replicas.iter().map(|m| (*group, *m)));
        let mut observers = members.filter(|(_, (_, kind))| *kind == MemberKind::Observer);
        observers.next().map(|(group, (node, _))| (group, node))
    }

    /// Takes note of the descriptor of a group that a replica has come to, and counts what it changes.
    pub(super) fn learn_members(&mut self, id: NodeId, group: GroupId) {
        let descriptor = self.nodes[&id].replicas[&group].replica.descriptor();
        let known = &self.members[&group];
        if descriptor.generation <= known.generation {
            return;
        }
        let kind = |d: &ShardDescriptor, node| d.replicas.iter().find(|(n, _)| *n == node).map(|(_, k)| *k);
        for node in (1..=self.setup.weather.nodes).map(NodeId::new) {
            match (kind(known, node), kind(descriptor, node)) {
                (None, Some(_)) => self.stats.members_added += 1,
                (Some(_), None) => self.stats.members_removed += 1,
                (Some(MemberKind::ReadOnly), Some(MemberKind::Voter)) => self.stats.members_promoted += 1,
                (Some(MemberKind::Voter), Some(MemberKind::ReadOnly)) => self.stats.members_demoted += 1,
                (Some(MemberKind::Observer), Some(MemberKind::Witness)) => self.stats.witnesses_added += 1,
                _ => {}
            }
        }
        let descriptor = descriptor.clone();
        self.members.insert(group, descriptor);
    }

    /// Teaches or tells a replica that it is no member; true when it was one of those.
    pub(super) fn meet_stranger(
        &mut self,
        id: NodeId,
        group: GroupId,
        from: NodeId,
        message: &Message,
    ) -> bool {
        let Some(hosted) = self.nodes[&id].replicas.get(&group) else { return false };
        match hosted.replica.stranger(from, message) {
            None => return false,
            Some(Stranger::Taught { from_slot }) => {
                let message = Message::CatchUp { from_slot };
                self.step(id, group, Input::Paxos { from, message });
            }
            Some(Stranger::Told { generation }) => {
                let packet = Packet::NotMember { group, generation };
                self.send(Address::Node(id), Address::Node(from), packet, false);
            }
        }
        true
    }

    pub(super) fn on_not_member(&mut self, id: NodeId, group: GroupId, generation: u64) {
        let hosted = self.nodes[&id].replicas.get(&group);
        if hosted.is_some_and(|h| h.replica.descriptor().generation < generation) {
            self.remove_replica(id, group, generation);
        }
    }

    /// Drops a replica; what it has is erased a moment later.
    pub(super) fn remove_replica(&mut self, id: NodeId, group: GroupId, generation: u64) {
        let Some(hosted) = self.node(id).replicas.remove(&group) else { return };
        let span = hosted.replica.descriptor().span.clone();
        self.node(id).erasing.insert(group, (span, generation));
        // What is large takes longer.
        let longest = if self.rng.chance(1, 2) { 3_000_000 } else { 50_000 };
        let takes = Duration::from_micros(self.rng.below(longest));
        let life = self.life(id);
        self.scheduler.after(takes, Event::Erase { life, group });
    }

    /// Erases what a group has here, but for what its replica has promised.
    pub(super) fn erase(&mut self, id: NodeId, group: GroupId) {
        let node = self.node(id);
        let (span, generation) = node.erasing.remove(&group).expect("the erasure was scheduled");
        let mut batch = WriteBatch::new();
        for (family, span) in places(group, &span) {
            batch.delete_span(family, span);
        }
        node.engine.write(batch, Durability::Synced).expect("memory takes writes");
        node.logs.entry(group).or_default().forget(generation);
        self.stats.replicas_removed += 1;
    }

    /// True when a replica that is not here yet may begin with this descriptor.
    pub(super) fn may_begin(&self, id: NodeId, descriptor: &ShardDescriptor) -> bool {
        let node = &self.nodes[&id];
        let is_erasing = node.erasing.values().any(|(span, _)| span.overlaps(&descriptor.span));
        let is_new = node.logs.get(&descriptor.group).is_none_or(|log| log.may_begin(descriptor));
        (!is_erasing || self.has_bug(DriverBug::ErasesUnderSnapshot))
            && (is_new || self.has_bug(DriverBug::SnapshotFromBefore))
    }
}

/// The shards at the start: thirds of the keys, each on neighbouring nodes.
pub(super) fn descriptors(weather: &Weather) -> Vec<ShardDescriptor> {
    let borders: Vec<Key> =
        (0..SHARDS).map(|i| if i == 0 { Key::MIN } else { key(i * weather.load.keys / SHARDS) }).collect();
    let describe = |i: usize| {
        let node = |r: u32| NodeId::new((i as u32 + r) % weather.nodes + 1);
        let kind = |r| match r >= weather.replicas - weather.witnesses {
            true => MemberKind::Witness,
            false => MemberKind::Voter,
        };
        let mut replicas: Vec<_> = (0..weather.replicas).map(|r| (node(r), kind(r))).collect();
        replicas.sort_unstable();
        let span = Span::new(borders[i].clone(), borders.get(i + 1).cloned());
        ShardDescriptor { group: GroupId::new(i as u64 + 1), span, generation: 1, replicas }
    };
    (0..borders.len()).map(describe).collect()
}
