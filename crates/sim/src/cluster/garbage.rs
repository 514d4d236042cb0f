//! The garbage-collection horizon: leaders are told to raise it, and every node drops, in its own time, what only reads
//! below the horizon of its replica could see. What was dropped is kept aside, since it is a part of the truth.

use meridian_keys::version;
use meridian_mvcc::Garbage;
use meridian_shard::Input;
use meridian_storage::{Durability, Engine, Family, MemoryEngine, Reader, WriteBatch};
use meridian_types::{Duration, NodeId, Span, Timestamp};

use super::planted::DriverBug;
use super::world::Cluster;

/// Visits the garbage of a span, below a horizon.
pub(super) fn each_garbage(
    engine: &MemoryEngine,
    span: &Span,
    horizon: Timestamp,
    mut visit: impl FnMut(&[u8], &[u8]),
) {
    let mut garbage = Garbage::new(horizon);
    let mut cursor = engine.cursor(Family::Data, &version::versions_in(span));
    let mut more = cursor.first().expect("memory can be read");
    while more {
        if garbage.is_garbage(cursor.key()) {
            visit(cursor.key(), cursor.value());
        }
        more = cursor.next().expect("memory can be read");
    }
}

impl Cluster {
    /// Keeps versions for a short time only, so that reads come too late now and then.
    pub(super) fn collect(&mut self, id: NodeId) {
        let Some(tt) = self.nodes[&id].now(self.scheduler.now()).tt else { return };
        let retention = Duration::from_millis(1 + self.rng.below(200));
        let horizon = tt.earliest().saturating_sub(retention);
        for group in self.nodes[&id].replicas.keys().copied().collect::<Vec<_>>() {
            self.step(id, group, Input::Collect(horizon));
        }
    }

    /// One node's compaction.
    pub(super) fn sweep(&mut self, id: NodeId) {
        let eager = self.has_bug(DriverBug::SweepTooMuch);
        let node = self.nodes.get_mut(&id).expect("nodes are fixed");
        let mut batch = WriteBatch::new();
        for hosted in node.replicas.values() {
            let horizon = match hosted.replica.gc_horizon() {
                Timestamp::ZERO => continue,
                _ if eager => Timestamp::MAX,
                horizon => horizon,
            };
            each_garbage(&node.engine, &hosted.replica.descriptor().span, horizon, |key, value| {
                batch.delete(Family::Data, key.to_vec());
                self.swept.insert(key.to_vec(), value.to_vec());
                self.stats.swept += 1;
            });
        }
        node.engine.write(batch, Durability::Buffered).expect("memory takes writes");
    }
}
