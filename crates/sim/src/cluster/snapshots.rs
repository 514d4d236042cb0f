//! Snapshots between nodes: a small copy of the server's driver, with a whole snapshot in one message.
//!
//! The receiver refuses what it has already, and a span that another of its replicas still covers: that one is behind a
//! split and will create the replica itself.

use meridian_keys::{local, version};
use meridian_shard::{Input, ShardDescriptor};
use meridian_storage::{Durability, Engine, Family, Reader, WriteBatch};
use meridian_types::{Duration, GroupId, NodeId, Slot, Span};

use super::planted::DriverBug;
use super::world::{Address, Cluster, Event, Packet};

/// A node tells that it does not know a group at most this often.
const REPORT_INTERVAL: Duration = Duration::from_millis(1_000);

/// A group's rows at one applied slot.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) descriptor: ShardDescriptor,
    applied: Slot,
    rows: WriteBatch,
}

/// Where a group's rows are.
fn places(group: GroupId, span: &Span) -> [(Family, Span); 3] {
    let own = local::group_span(group);
    [(Family::State, own.clone()), (Family::Staged, own), (Family::Data, version::versions_in(span))]
}

impl Cluster {
    pub(super) fn send_snapshot(&mut self, from: NodeId, group: GroupId, to: NodeId) {
        let engine = &self.nodes[&from].engine;
        let recovered = meridian_shard::recover(engine, group).expect("memory can be read");
        let Some(recovered) = recovered else { return };
        let mut rows = WriteBatch::new();
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
        let snapshot = Snapshot { descriptor: recovered.descriptor, applied: recovered.applied, rows };
        // It takes its time, in which the log goes on.
        let delay = Duration::from_micros(5_000 + self.rng.below(400_000));
        if self.rng.chance(9, 10) {
            let packet = Packet::Snapshot(Box::new(snapshot));
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
        let now = self.nodes[&id].now(self.scheduler.now());
        let Some(hosted) = self.nodes[&id].replicas.get(&group) else { return };
        let is_member = hosted.replica.descriptor().replicas.iter().any(|(node, _)| *node == stranger);
        if is_member && hosted.replica.lease_end(now).is_some() {
            self.send_snapshot(id, group, stranger);
        }
    }

    pub(super) fn install_snapshot(&mut self, id: NodeId, snapshot: Snapshot) {
        let Snapshot { descriptor, applied, rows } = snapshot;
        let group = descriptor.group;
        let now = self.nodes[&id].now(self.scheduler.now());
        let is_member = descriptor.replicas.iter().any(|(node, _)| *node == id);
        let is_wanted = self.nodes[&id].replicas.iter().all(|(other, hosted)| {
            if *other == group {
                hosted.replica.status(now).committed < applied
            } else {
                !hosted.replica.descriptor().span.overlaps(&descriptor.span)
            }
        });
        if !is_member || !is_wanted {
            return;
        }
        self.stats.snapshots += 1;
        let existing = self.nodes[&id].replicas.get(&group).map(|h| h.replica.descriptor().span.clone());
        let is_new = existing.is_none();
        let mut batch = WriteBatch::new();
        if !self.has_bug(DriverBug::SnapshotOverOldRows) {
            for span in existing.into_iter().chain([descriptor.span]) {
                for (family, span) in places(group, &span) {
                    batch.delete_span(family, span);
                }
            }
        }
        batch.append(rows);
        let node = self.node(id);
        node.engine.write(batch, Durability::Synced).expect("memory takes writes");
        if is_new {
            node.logs.entry(group).or_default().truncate(applied);
            self.open(id, group);
            self.step(id, group, Input::Tick);
        } else {
            self.step(id, group, Input::SnapshotInstalled { applied });
        }
    }
}
