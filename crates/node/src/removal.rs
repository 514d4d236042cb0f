//! Replicas whose groups no longer have them as members.
//!
//! ```text
//!   applied here: members without this node --+
//!   told by a member (NotMember, newer) ------+--> unlisted, stopped --> rows erased, synced --> log entries forgotten
//!   found so at the start --------------------+
//! ```
//! A replica that was away while it was removed canvasses or asks for the log when it comes back. Whoever it asks
//! answers with the generation of a descriptor that does not name it; a descriptor of its own that is older settles it,
//! since a node becomes a member again only by a newer one, and first as a read-only replica from a snapshot.
//!
//! Invariant: promise and vote survive, so a node that becomes a member again has not forgotten what it promised (I-3).

use std::sync::Arc;

use meridian_keys::local;
use meridian_mvcc::erase_span;
use meridian_paxos::Message;
use meridian_rpc::peer::PeerMessage;
use meridian_storage::{Durability, Family, StorageError, WriteBatch};
use meridian_types::{GroupId, NodeId, Span};

use crate::cell::{Cell, Phase};
use crate::inner::Inner;
use crate::log_store;

impl Inner {
    /// True for what a replica sends that does not know that it was removed; it is told.
    pub(crate) fn is_stranger(&self, cell: &Cell, from: NodeId, message: &Message) -> bool {
        if !matches!(message, Message::Prepare { .. } | Message::CatchUp { .. }) {
            return false;
        }
        let core = cell.core.lock();
        let descriptor = core.replica.descriptor();
        if descriptor.replicas.iter().any(|(node, _)| *node == from) {
            return false;
        }
        let generation = descriptor.generation;
        drop(core);
        self.send(from, PeerMessage::NotMember { group: cell.group, generation });
        true
    }

    pub(crate) fn on_not_member(self: &Arc<Self>, group: GroupId, generation: u64) {
        let Some(cell) = self.cell(group) else { return };
        let is_older = cell.core.lock().replica.descriptor().generation < generation;
        if is_older {
            self.remove_replica(&cell);
        }
    }

    /// Drops a replica, and all that it has, in the background.
    pub(crate) fn remove_replica(self: &Arc<Self>, cell: &Arc<Cell>) {
        let mut core = cell.core.lock();
        if core.phase != Phase::Serving || !self.take_cell(cell) {
            return;
        }
        self.wake(cell, &mut core, self.clock.now());
        core.phase = Phase::Stopped;
        // Dropping them tells the callers.
        let waiters = std::mem::take(&mut core.waiters);
        let span = core.replica.descriptor().span.clone();
        drop(core);
        drop(waiters);
        self.note_leading(cell, false);
        tracing::info!(group = cell.group.get(), "replica removed: its group has other members");
        let (inner, cell) = (self.clone(), cell.clone());
        // Ends with the erasure, or finds the node stopped; the next start then erases.
        self.in_background("remove-replica".to_owned(), async move {
            inner.until(|| cell.core.lock().applies_queued == 0).await;
            let _no_reads = cell.data.write();
            if inner.is_stopped() {
                return;
            }
            match erase(&inner, cell.group, &span) {
                Ok(()) => inner.counters.replicas_removed.add(1),
                Err(error) => inner.disk_failed(&error),
            }
        });
    }
}

/// Erases what a group has in both engines, the rows first: without a descriptor the replica is gone.
pub(crate) fn erase(inner: &Inner, group: GroupId, span: &Span) -> Result<(), StorageError> {
    let mut batch = WriteBatch::new();
    batch.delete_span(Family::State, local::group_span(group));
    batch.delete_span(Family::Staged, local::group_span(group));
    erase_span(&mut batch, span);
    inner.data.write(batch, Durability::Buffered)?;
    inner.data.sync()?;
    log_store::forget(&*inner.log, group)
}
