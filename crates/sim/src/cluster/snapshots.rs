//! Snapshots between nodes: a small copy of the server's driver, with a whole snapshot in one message.
//!
//! The receiver refuses what it has already, and a span that another of its replicas still covers: that one is behind a
//! split and will create the replica itself. A snapshot that would take it past a split by which its own replica has to
//! give up a part of its span is refused too, and the sender is told that span: it sends again, together with its
//! replicas of the groups that live there now, and all are put in place at once.

use meridian_keys::{local, version};
use meridian_shard::{Input, ShardDescriptor};
use meridian_storage::{Durability, Engine, Family, Reader, WriteBatch};
use meridian_types::{Duration, GroupId, NodeId, Slot, Span};

use super::delivery::{Address, Packet};
use super::node::Hosted;
use super::planted::DriverBug;
use super::world::{Cluster, Event};

/// A node tells that it does not know a group at most this often.
const REPORT_INTERVAL: Duration = Duration::from_millis(1_000);

/// A group's rows at one applied slot.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) descriptor: ShardDescriptor,
    applied: Slot,
    rows: WriteBatch,
}

/// What one message carries.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    from: NodeId,
    pub(super) main: Part,
    /// The span that the receiver has told, and what else the sender has there.
    heirs: Option<(Span, Vec<Part>)>,
}

/// Where a group's rows are.
pub(super) fn places(group: GroupId, span: &Span) -> [(Family, Span); 3] {
    let own = local::group_span(group);
    [(Family::State, own.clone()), (Family::Staged, own), (Family::Data, version::versions_in(span))]
}

fn receiver_has_data(descriptor: &ShardDescriptor, to: NodeId) -> bool {
    descriptor.replicas.iter().any(|(node, kind)| *node == to && kind.holds_data())
}

impl Cluster {
    /// Nothing where there is no data to give.
    fn read_part(&self, from: NodeId, group: GroupId, to: NodeId) -> Option<Part> {
        let engine = &self.nodes[&from].engine;
        let recovered = meridian_shard::recover(engine, group).expect("memory can be read")?;
        if !recovered.holds_data {
            return None;
        }
        let mut rows = WriteBatch::new();
        if !receiver_has_data(&recovered.descriptor, to) {
            let given = meridian_shard::dataless_rows(engine, group).expect("memory can be read");
            given.into_iter().for_each(|(family, key, value)| rows.put(family, key, value));
            return Some(Part { descriptor: recovered.descriptor, applied: recovered.applied, rows });
        }
        for (family, span) in places(group, &recovered.descriptor.span) {
            let mut cursor = engine.cursor(family, &span);
            let mut more = cursor.first().expect("memory can be read");
            while more {
                let is_prepared = local::all_prepared(group).contains(cursor.key());
                if !(is_prepared && self.has_bug(DriverBug::SnapshotWithoutPrepared)) {
                    rows.put(family, cursor.key().to_vec(), cursor.value().to_vec());
                }
                more = cursor.next().expect("memory can be read");
            }
        }
        Some(Part { descriptor: recovered.descriptor, applied: recovered.applied, rows })
    }

    /// Sends what a group has, with all that lives within `beside`, where the receiver has told a span.
    pub(super) fn send_snapshot(&mut self, from: NodeId, group: GroupId, to: NodeId, beside: Option<Span>) {
        let Some(main) = self.read_part(from, group, to) else { return };
        let heirs = match beside {
            None => None,
            Some(span) => {
                let is_heir = |(other, hosted): &(&GroupId, &Hosted)| {
                    let descriptor = hosted.replica.descriptor();
                    let is_member = descriptor.replicas.iter().any(|(node, _)| *node == to);
                    **other != group && is_member && span.contains_span(&descriptor.span)
                };
                let others = self.nodes[&from].replicas.iter().filter(is_heir).map(|(other, _)| *other);
                // Where one of them has no data here, somebody else has to send.
                let parts = others.map(|other| self.read_part(from, other, to)).collect::<Option<Vec<_>>>();
                let Some(heirs) = parts else { return };
                Some((span, heirs))
            }
        };
        // It takes its time, in which the log goes on.
        let delay = Duration::from_micros(5_000 + self.rng.below(400_000));
        if self.rng.chance(9, 10) {
            let packet = Packet::Snapshot(Box::new(Snapshot { from, main, heirs }));
            self.scheduler.after(delay, Event::Deliver { to: Address::Node(to), packet });
        }
    }

    pub(super) fn report_unknown(&mut self, id: NodeId, group: GroupId, to: NodeId) {
        let at = self.scheduler.now();
        let node = self.node(id);
        if node.reported.get(&group).is_some_and(|last| at.since(*last) < REPORT_INTERVAL) {
            return;
        }
        node.reported.insert(group, at);
        self.send(Address::Node(id), Address::Node(to), Packet::Unknown { group, from: id }, false);
    }

    pub(super) fn on_unknown(&mut self, id: NodeId, group: GroupId, stranger: NodeId) {
        let Some(hosted) = self.nodes[&id].replicas.get(&group) else { return };
        if hosted.replica.descriptor().replicas.iter().any(|(node, _)| *node == stranger) {
            self.send_snapshot(id, group, stranger, None);
        }
    }

    pub(super) fn install_snapshot(&mut self, id: NodeId, snapshot: Snapshot) {
        let Snapshot { from, main, heirs } = snapshot;
        let group = main.descriptor.group;
        let replicas = &self.nodes[&id].replicas;
        let is_free = |part: &Part| {
            let others = replicas.iter().filter(|(other, _)| **other != group);
            part.descriptor.replicas.iter().any(|(node, _)| *node == id)
                && others
                    .map(|(_, h)| &h.replica.descriptor().span)
                    .all(|s| !s.overlaps(&part.descriptor.span))
        };
        let existing = replicas.get(&group).map(|h| &h.replica);
        if existing.is_none() && !self.may_begin(id, &main.descriptor) {
            return;
        }
        if !is_free(&main) || existing.is_some_and(|r| !r.wants_snapshot(&main.descriptor, main.applied)) {
            return;
        }
        let old_span = existing.map(|r| r.descriptor().span.clone());
        let mut parts = Vec::new();
        if let Some(old) = old_span.as_ref().filter(|old| !main.descriptor.span.contains_span(old)) {
            match heirs {
                Some((told, heirs)) if told.contains_span(old) => {
                    let may_come = |part: &Part| is_free(part) && self.may_begin(id, &part.descriptor);
                    parts.extend(heirs.into_iter().filter(may_come));
                }
                Some(_) | None => {
                    let packet = Packet::Narrows { group, from: id, span: old.clone() };
                    return self.send(Address::Node(id), Address::Node(from), packet, false);
                }
            }
        }
        self.stats.snapshots += 1;
        self.stats.heirs += parts.len() as u64;
        parts.push(main);
        let mut batch = WriteBatch::new();
        if !self.has_bug(DriverBug::SnapshotOverOldRows) {
            let old = old_span.map(|span| (group, span));
            let new = parts.iter().map(|part| (part.descriptor.group, part.descriptor.span.clone()));
            for (family, span) in old.into_iter().chain(new).flat_map(|(group, span)| places(group, &span)) {
                batch.delete_span(family, span);
            }
        }
        let installed: Vec<(GroupId, Slot)> =
            parts.iter().map(|part| (part.descriptor.group, part.applied)).collect();
        parts.into_iter().for_each(|part| batch.append(part.rows));
        self.node(id).engine.write(batch, Durability::Synced).expect("memory takes writes");
        for (group, applied) in installed {
            if self.nodes[&id].replicas.contains_key(&group) {
                self.step(id, group, Input::SnapshotInstalled { applied });
            } else {
                self.node(id).logs.entry(group).or_default().truncate(applied);
                self.open(id, group);
                self.step(id, group, Input::Tick);
            }
        }
    }
}
