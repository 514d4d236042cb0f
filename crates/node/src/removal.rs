//! Replicas whose groups no longer have them as members.
//!
//! ```text
//!   applied here: members without this node --+
//!   told by a member (NotMember, newer) ------+--> unlisted, stopped --> rows erased, synced --> log entries forgotten
//!   found so at the start --------------------+
//! ```
//! A replica that was away while it was removed canvasses or asks for the log when it comes back. Whoever it asks gives it
//! the log, as to a member, so that it applies what came before its removal: a split among that leaves a replica of the
//! other half here, which counts in quorums of its group. Where the log does not reach back so far, the answer is the
//! generation of a descriptor that does not name it; a descriptor of its own that is older settles it, since a node
//! becomes a member again only by a newer one, and first as a read-only replica from a snapshot. What it had of shards
//! that were split off meanwhile goes with the rest: their other members send a snapshot when they talk to it.
//!
//! Invariants: promise and vote survive, so a node that becomes a member again has not forgotten what it promised (I-3);
//! what it accepted does not, so no snapshot begins a replica here whose descriptor is not newer than the removal; and
//! none begins in a span that is being erased.

use std::sync::Arc;

use meridian_keys::local;
use meridian_mvcc::erase_span;
use meridian_paxos::Message;
use meridian_rpc::peer::PeerMessage;
use meridian_shard::{Input, ShardDescriptor, Stranger};
use meridian_storage::{Durability, Family, StorageError, WriteBatch};
use meridian_types::{GroupId, NodeId, Span};

use crate::cell::{Cell, Phase};
use crate::inner::Inner;
use crate::log_store;

impl Inner {
    /// True for what a replica sends that does not know that it was removed; it is taught or told.
    pub(crate) fn is_stranger(self: &Arc<Self>, cell: &Arc<Cell>, from: NodeId, message: &Message) -> bool {
        let stranger = cell.core.lock().replica.stranger(from, message);
        match stranger {
            None => return false,
            Some(Stranger::Taught { from_slot }) => {
                self.step(cell, Input::Paxos { from, message: Message::CatchUp { from_slot } });
            }
            Some(Stranger::Told { generation }) => {
                self.send(from, PeerMessage::NotMember { group: cell.group, generation });
            }
        }
        true
    }

    pub(crate) fn on_not_member(self: &Arc<Self>, group: GroupId, generation: u64) {
        if let Some(cell) = self.cell(group) {
            self.remove_replica(&cell, generation);
        }
    }

    /// Drops a replica, and all that it has, in the background. The generation is that of the descriptor without it.
    pub(crate) fn remove_replica(self: &Arc<Self>, cell: &Arc<Cell>, generation: u64) {
        let mut core = cell.core.lock();
        let is_gone = core.replica.is_removed() || core.replica.descriptor().generation < generation;
        if core.phase != Phase::Serving || !is_gone {
            return;
        }
        // Before it is unlisted, so that no snapshot begins in the span meanwhile.
        let span = core.replica.descriptor().span.clone();
        self.erasing.lock().insert(cell.group, span.clone());
        if !self.take_cell(cell) {
            self.erasing.lock().remove(&cell.group);
            return;
        }
        self.wake(cell, &mut core, self.clock.now());
        core.phase = Phase::Stopped;
        // Dropping them tells the callers.
        let waiters = std::mem::take(&mut core.waiters);
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
            match erase(&inner, cell.group, &span, generation) {
                Ok(()) => {
                    inner.erasing.lock().remove(&cell.group);
                    inner.counters.replicas_removed.add(1);
                }
                Err(error) => inner.disk_failed(&error),
            }
        });
    }

    /// True where a replica that is not here yet may begin with this descriptor.
    pub(crate) fn may_begin(&self, descriptor: &ShardDescriptor) -> Result<bool, StorageError> {
        let is_erasing = self.erasing.lock().values().any(|span| span.overlaps(&descriptor.span));
        let left_at = log_store::removed_at(&*self.log, descriptor.group)?;
        Ok(!is_erasing && descriptor.generation > left_at)
    }
}

/// Erases what a group has in both engines, the rows first: without a descriptor the replica is gone.
pub(crate) fn erase(inner: &Inner, group: GroupId, span: &Span, generation: u64) -> Result<(), StorageError> {
    let mut batch = WriteBatch::new();
    batch.delete_span(Family::State, local::group_span(group));
    batch.delete_span(Family::Staged, local::group_span(group));
    erase_span(&mut batch, span);
    inner.data.write(batch, Durability::Buffered)?;
    inner.data.sync()?;
    log_store::forget(&*inner.log, group, generation)
}
