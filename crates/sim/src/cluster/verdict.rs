//! The end of a run: everything heals, what is undecided must be decided, and what is left is compared with what was told.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use meridian_shard::Replica;
use meridian_storage::{Durability, Engine, Family, MemoryEngine, Reader, WriteBatch};
use meridian_types::{Duration, GroupId, Key, NodeId, Slot, Span, Timestamp};

use super::checker::{self, Broken, Truth};
use super::client::key;
use super::garbage::each_garbage;
use super::node::Node;
use super::options::Fault;
use super::schema;
use super::world::Cluster;

/// After the faults everything must be settled within this time. Clocks that were disturbed need ten polls to be trusted
/// again, and lies of masters five to be forgotten.
const HEALING: Duration = Duration::from_secs(40);

/// How often it is looked whether everything is settled.
const LOOK_EVERY: Duration = Duration::from_millis(1_000);

impl Cluster {
    /// Runs until everything is settled, or time is up.
    pub(super) fn settle(&mut self, at: &Cell<Timestamp>) -> Result<(), Broken> {
        let deadline = self.scheduler.now() + HEALING;
        loop {
            let next = self.scheduler.now() + LOOK_EVERY;
            self.run_until(next, u64::MAX, at)?;
            match self.unsettled() {
                None => return Ok(()),
                Some(broken) if self.scheduler.now() >= deadline => return Err(broken),
                Some(_) => {}
            }
        }
    }

    fn unsettled(&self) -> Option<Broken> {
        if let Some(client) = self.clients.iter().position(|client| !client.is_idle()) {
            return Some(Broken::Hanging { client });
        }
        self.shards.values().find_map(|group| self.group_unsettled(*group))
    }

    fn group_unsettled(&self, group: GroupId) -> Option<Broken> {
        let at = self.scheduler.now();
        let leads = |node: &Node| {
            // A leader whose clock is unsure at this very moment is as good as another.
            let now = node.now(at);
            let leads = |r: &Replica| {
                if now.tt.is_some() { r.status(now).is_leader } else { r.leader_hint() == Some(node.id) }
            };
            node.replicas.get(&group).is_some_and(|hosted| leads(&hosted.replica))
        };
        let Some(leader) = self.nodes.values().find(|node| leads(node)) else {
            return Some(Broken::Stuck { group });
        };
        let newest = leader.replicas[&group].replica.applied_slot();
        let members: Vec<NodeId> = self.members[&group].replicas.iter().map(|(node, _)| *node).collect();
        let stranger = |n: &&Node| !members.contains(&n.id) && n.replicas.contains_key(&group);
        if let Some(node) = self.nodes.values().find(stranger) {
            return Some(Broken::NotRemoved { group, node: node.id });
        }
        for node in members.iter().map(|id| &self.nodes[id]) {
            let Some(hosted) = node.replicas.get(&group) else {
                return Some(Broken::LeftBehind { group, node: node.id });
            };
            let status = hosted.replica.status(node.now(at));
            if status.applied < newest {
                return Some(Broken::LeftBehind { group, node: node.id });
            }
            if status.prepared > 0 || !node.engine.is_empty(Family::Staged) {
                return Some(Broken::Undecided { group, node: node.id, count: status.prepared });
            }
        }
        None
    }

    /// Compares what is left with what was told.
    pub(super) fn check(&mut self) -> Result<(), Broken> {
        for group in self.shards.values().copied().collect::<Vec<_>>() {
            self.check_replicas(group)?;
        }
        let truth = self.truth();
        if self.weather().faults.has(Fault::Schema) && !self.monitor.clocks_are_void {
            schema::check(&self.history, &truth)?;
        }
        checker::check(&std::mem::take(&mut self.history), &truth, self.monitor.clocks_are_void)
    }

    fn check_replicas(&self, group: GroupId) -> Result<(), Broken> {
        let mut known: BTreeMap<Slot, (NodeId, Rows)> = BTreeMap::new();
        for node in self.nodes.values() {
            let Some(hosted) = node.replicas.get(&group) else { continue };
            if !hosted.replica.holds_data() {
                continue;
            }
            // The engine may be ahead of what it has confirmed to the replica.
            let stored = meridian_shard::recover(&node.engine, group).expect("memory can be read");
            let slot = stored.expect("a replica has a state").applied;
            let span = &hosted.replica.descriptor().span;
            let mut bytes = dump(&node.engine, Family::Data, &meridian_keys::version::versions_in(span));
            // Each node drops what nobody may read in its own time.
            let mut dropped = BTreeSet::new();
            each_garbage(&node.engine, span, hosted.replica.gc_horizon(), |key, _| {
                dropped.insert(key.to_vec());
            });
            bytes.retain(|(key, _)| !dropped.contains(key));
            bytes.extend(dump(&node.engine, Family::State, &meridian_keys::local::group_span(group)));
            match known.get(&slot) {
                Some((other, expected)) if *expected != bytes => {
                    return Err(Broken::ReplicasDiffer { group, slot, nodes: (*other, node.id) });
                }
                Some(_) => {}
                None => {
                    known.insert(slot, (node.id, bytes));
                }
            }
        }
        Ok(())
    }

    /// What lies in front of the rows, in the first shard.
    fn catalog_and_entries(&self, batch: &mut WriteBatch) -> BTreeSet<Key> {
        let span = Span::new(Key::MIN, Some(key(0)));
        let group = self.group_of(&Key::MIN);
        let hosts = self.nodes.values().filter_map(|n| Some((n.replicas.get(&group)?, n)));
        let hosts = hosts.filter(|(hosted, _)| hosted.replica.holds_data());
        let newest = hosts.max_by_key(|(hosted, _)| hosted.replica.applied_slot());
        let (_, node) = newest.expect("every group lives somewhere");
        let raw = meridian_keys::version::versions_in(&span);
        let mut found = dump(&node.engine, Family::Data, &raw);
        found.extend(self.swept.iter().map(|(k, v)| (k.clone(), v.clone())).filter(|(k, _)| raw.contains(k)));
        let mut keys = BTreeSet::new();
        for (raw, value) in found {
            let (row, _) = meridian_keys::version::split(&raw).expect("a version is written whole");
            keys.insert(meridian_keys::version::user_key(row).expect("a key was encoded"));
            batch.put(Family::Data, raw, value);
        }
        keys
    }

    /// All versions, from the replicas that have applied the most, and what was dropped of them.
    fn truth(&self) -> Truth {
        let mut truth = Truth::new();
        let all = MemoryEngine::new();
        let mut batch = WriteBatch::new();
        self.swept.iter().for_each(|(key, value)| batch.put(Family::Data, key.clone(), value.clone()));
        for n in 0..self.weather().load.keys {
            let key = key(n);
            let group = self.group_of(&key);
            let hosts = self.nodes.values().filter_map(|n| Some((n.replicas.get(&group)?, n)));
            let hosts = hosts.filter(|(hosted, _)| hosted.replica.holds_data());
            let newest = hosts.max_by_key(|(hosted, _)| hosted.replica.applied_slot());
            let (_, node) = newest.expect("every group lives somewhere");
            let versions = meridian_keys::version::versions_from(key.as_bytes(), Timestamp::MAX);
            dump(&node.engine, Family::Data, &versions).into_iter().for_each(|(k, v)| {
                batch.put(Family::Data, k, v);
            });
        }
        let mut keys: BTreeSet<Key> = (0..self.weather().load.keys).map(key).collect();
        if self.weather().faults.has(Fault::Schema) {
            keys.extend(self.catalog_and_entries(&mut batch));
        }
        all.write(batch, Durability::Buffered).expect("memory takes writes");
        for key in keys {
            let mut versions = meridian_mvcc::versions(&all, key.as_bytes()).expect("memory can be read");
            versions.reverse();
            truth.insert(key, versions);
        }
        truth
    }
}

/// Keys and values, raw.
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn dump(engine: &MemoryEngine, family: Family, span: &Span) -> Rows {
    let mut cursor = engine.cursor(family, span);
    let mut all = Vec::new();
    let mut more = cursor.first().expect("memory can be read");
    while more {
        all.push((cursor.key().to_vec(), cursor.value().to_vec()));
        more = cursor.next().expect("memory can be read");
    }
    all
}
