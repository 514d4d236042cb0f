//! Snapshots between nodes: a replica that needs what the log no longer holds gets the group's rows.
//!
//! ```text
//!   sender (a thread per stream)                     receiver
//!     offer(descriptor, applied) ------------------->  wanted? refused or received(0)
//!     chunk 0..n, at most WINDOW unanswered -------->  kept aside, received(k)
//!     last chunk ----------------------------------->  install (a thread), installed
//! ```
//! The rows are read from one engine snapshot, which holds the applied slot with the effects up to it. The receiver
//! refuses what it has already, and a span that another of its replicas still covers: that one is behind a split and
//! will create the replica itself. A stream whose peer is lost or silent is given up; the need for it shows again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use meridian_rpc::peer::{PeerMessage, SnapshotRow, SnapshotVerdict};
use meridian_shard::{Input, ShardDescriptor};
use meridian_storage::{Durability, StorageError, WriteBatch};
use meridian_types::{GroupId, NodeId, Slot, Span};
use parking_lot::Mutex;

use crate::cell::Phase;
use crate::inner::Inner;
use crate::{log_store, snapshot_rows};

/// Chunks under way that the receiver has not answered: 4 MiB, which fills a link of 100 ms at 40 MB/s.
const WINDOW: u32 = 16;

/// Streams that one node sends at a time.
const STREAMS_MAX: usize = 4;

/// A receiver that is silent for this long is given up; installing a large shard takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node tells that it does not know a group at most this often.
const REPORT_INTERVAL_NS: u64 = 1_000_000_000;

/// Reports that are remembered.
const REPORTS_MAX: usize = 4_096;

struct Sending {
    to: NodeId,
    group: GroupId,
    replies: mpsc::Sender<SnapshotVerdict>,
}

struct Receiving {
    from: NodeId,
    id: u64,
    descriptor: ShardDescriptor,
    applied: Slot,
    next: u32,
}

#[derive(Default)]
pub(crate) struct Snapshots {
    sending: Mutex<BTreeMap<u64, Sending>>,
    receiving: Mutex<BTreeMap<GroupId, Receiving>>,
    installing: Mutex<BTreeSet<GroupId>>,
    /// When each unknown group was reported last, by the oscillator.
    reported: Mutex<BTreeMap<GroupId, u64>>,
}

impl Snapshots {
    /// Gives up what goes to or comes from a peer.
    pub(crate) fn peer_lost(&self, peer: NodeId) {
        // Dropping the sender ends the thread.
        self.sending.lock().retain(|_, s| s.to != peer);
        self.receiving.lock().retain(|_, r| r.from != peer);
    }

    pub(crate) fn stop(&self) {
        self.sending.lock().clear();
        self.receiving.lock().clear();
    }

    /// True while snapshots are being put in place.
    pub(crate) fn is_installing(&self) -> bool {
        !self.installing.lock().is_empty()
    }
}

/// Why a stream ended without an installed snapshot.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("receiver does not want it")]
    Refused,
    #[error("receiver is gone or silent")]
    Lost,
    #[error("no replica of the group lives here any more")]
    NoReplica,
}

impl Inner {
    /// Tells a peer that it talks to a replica that is not here. Its leader will offer a snapshot, unless a split that
    /// has not been applied yet creates the replica first.
    pub(crate) fn report_unknown(&self, to: NodeId, group: GroupId) {
        let now = self.clock.mono().as_nanos();
        let mut reported = self.snapshots.reported.lock();
        if reported.get(&group).is_some_and(|at| now.saturating_sub(*at) < REPORT_INTERVAL_NS) {
            return;
        }
        if reported.len() >= REPORTS_MAX {
            reported.clear();
        }
        reported.insert(group, now);
        drop(reported);
        self.send(to, PeerMessage::UnknownGroup { group });
    }

    pub(crate) fn on_unknown_group(self: &Arc<Self>, from: NodeId, group: GroupId) {
        let Some(cell) = self.cell(group) else { return };
        let core = cell.core.lock();
        let is_member = core.replica.descriptor().replicas.iter().any(|(node, _)| *node == from);
        let is_leading = core.is_leading;
        drop(core);
        if is_member && is_leading {
            self.start_snapshot(group, from);
        }
    }

    /// Streams a snapshot of `group` to `to`, unless one is under way.
    pub(crate) fn start_snapshot(self: &Arc<Self>, group: GroupId, to: NodeId) {
        if self.is_stopped() {
            return;
        }
        let id = self.next_call.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (sender, replies) = mpsc::channel();
        {
            let mut sending = self.snapshots.sending.lock();
            let is_under_way = sending.values().any(|s| s.to == to && s.group == group);
            if is_under_way || sending.len() >= STREAMS_MAX {
                return;
            }
            sending.insert(id, Sending { to, group, replies: sender });
        }
        let inner = self.clone();
        // The thread ends with its stream, which ends when the peer is lost or the node stops.
        let thread = std::thread::Builder::new().name(format!("snapshot-{group}-{to}")).spawn(move || {
            match inner.stream(id, group, to, &replies) {
                Ok(()) => inner.counters.snapshots_sent.add(1),
                Err(error) => {
                    tracing::info!(group = group.get(), to = to.get(), %error, "snapshot not installed");
                }
            }
            inner.snapshots.sending.lock().remove(&id);
        });
        thread.expect("the operating system has a thread for a snapshot");
    }

    fn stream(
        &self,
        id: u64,
        group: GroupId,
        to: NodeId,
        replies: &mpsc::Receiver<SnapshotVerdict>,
    ) -> Result<(), StreamError> {
        let snapshot = self.data.snapshot();
        let recovered = meridian_shard::recover(&*snapshot, group)?.ok_or(StreamError::NoReplica)?;
        let (descriptor, applied) = (recovered.descriptor, recovered.applied);
        let span = descriptor.span.clone();
        self.send(to, PeerMessage::SnapshotOffer { id, descriptor, applied });
        let mut received = wait_for(replies)?;
        let mut sequence = 0;
        let mut failure = None;
        let all = snapshot_rows::read_chunks(&*snapshot, group, &span, |rows, last| {
            while sequence - received >= WINDOW {
                match wait_for(replies) {
                    Ok(next) => received = next,
                    Err(error) => {
                        failure = Some(error);
                        return false;
                    }
                }
            }
            self.send(to, PeerMessage::SnapshotChunk { id, group, sequence, rows, last });
            sequence += 1;
            true
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        assert!(all, "a stream ends early only with a failure");
        loop {
            match replies.recv_timeout(PATIENCE) {
                Ok(SnapshotVerdict::Received(_)) => {}
                Ok(SnapshotVerdict::Installed) => return Ok(()),
                Ok(SnapshotVerdict::Refused) => return Err(StreamError::Refused),
                Err(_) => return Err(StreamError::Lost),
            }
        }
    }

    pub(crate) fn on_snapshot_reply(&self, from: NodeId, id: u64, verdict: SnapshotVerdict) {
        let sending = self.snapshots.sending.lock();
        if let Some(stream) = sending.get(&id).filter(|s| s.to == from) {
            // The thread may have ended meanwhile.
            stream.replies.send(verdict).ok();
        }
    }

    fn reply(&self, to: NodeId, id: u64, verdict: SnapshotVerdict) {
        self.send(to, PeerMessage::SnapshotReply { id, verdict });
    }

    pub(crate) fn on_snapshot_offer(
        self: &Arc<Self>,
        from: NodeId,
        id: u64,
        descriptor: ShardDescriptor,
        applied: Slot,
    ) {
        let group = descriptor.group;
        if !self.wants(&descriptor, applied) {
            return self.reply(from, id, SnapshotVerdict::Refused);
        }
        if let Err(error) = snapshot_rows::discard(&*self.data, group) {
            self.disk_failed(&error);
            return self.reply(from, id, SnapshotVerdict::Refused);
        }
        let receiving = Receiving { from, id, descriptor, applied, next: 0 };
        self.snapshots.receiving.lock().insert(group, receiving);
        self.reply(from, id, SnapshotVerdict::Received(0));
    }

    fn wants(&self, descriptor: &ShardDescriptor, applied: Slot) -> bool {
        let is_member = descriptor.replicas.iter().any(|(node, _)| *node == self.node);
        let is_installing = self.snapshots.installing.lock().contains(&descriptor.group);
        is_member
            && !is_installing
            && !self.is_disk_failed()
            && self.cells().iter().all(|cell| {
                let core = cell.core.lock();
                if cell.group == descriptor.group {
                    core.replica.status(self.clock.now()).committed < applied
                } else {
                    !core.replica.descriptor().span.overlaps(&descriptor.span)
                }
            })
    }

    pub(crate) fn on_snapshot_chunk(
        self: &Arc<Self>,
        from: NodeId,
        id: u64,
        group: GroupId,
        sequence: u32,
        rows: &[SnapshotRow],
        last: bool,
    ) {
        let mut receiving = self.snapshots.receiving.lock();
        let Some(stream) = receiving.get_mut(&group).filter(|r| r.from == from && r.id == id) else {
            drop(receiving);
            return self.reply(from, id, SnapshotVerdict::Refused);
        };
        let is_sound =
            stream.next == sequence && snapshot_rows::are_sound(rows, group, &stream.descriptor.span);
        if !is_sound {
            receiving.remove(&group);
            drop(receiving);
            return self.reply(from, id, SnapshotVerdict::Refused);
        }
        stream.next += 1;
        let next = stream.next;
        let complete = last.then(|| receiving.remove(&group)).flatten();
        if complete.is_some() {
            // Before the stream is forgotten, so that no other one begins.
            self.snapshots.installing.lock().insert(group);
        }
        drop(receiving);
        if let Err(error) = snapshot_rows::keep_chunk(&*self.data, group, sequence, rows) {
            self.snapshots.installing.lock().remove(&group);
            self.disk_failed(&error);
            return self.reply(from, id, SnapshotVerdict::Refused);
        }
        let Some(complete) = complete else {
            return self.reply(from, id, SnapshotVerdict::Received(next));
        };
        let inner = self.clone();
        // The thread ends with the installation, which is bounded by the size of a shard.
        let thread = std::thread::Builder::new().name(format!("install-{group}")).spawn(move || {
            let verdict = match inner.install(&complete) {
                Ok(true) => SnapshotVerdict::Installed,
                Ok(false) => SnapshotVerdict::Refused,
                Err(error) => {
                    inner.disk_failed(&error);
                    SnapshotVerdict::Refused
                }
            };
            inner.snapshots.installing.lock().remove(&group);
            inner.reply(complete.from, complete.id, verdict);
        });
        thread.expect("the operating system has a thread for an installation");
    }

    /// Puts a complete snapshot in place. False when it is not wanted any more.
    fn install(self: &Arc<Self>, snapshot: &Receiving) -> Result<bool, StorageError> {
        let group = snapshot.descriptor.group;
        let existing = self.cell(group);
        let mut erase: Vec<Span> = vec![snapshot.descriptor.span.clone()];
        if let Some(cell) = &existing {
            let mut core = cell.core.lock();
            let has_it = core.replica.status(self.clock.now()).committed >= snapshot.applied;
            if core.phase != Phase::Serving || has_it {
                drop(core);
                snapshot_rows::discard(&*self.data, group)?;
                return Ok(false);
            }
            core.phase = Phase::Installing;
            erase.push(core.replica.descriptor().span.clone());
            // Batches at the apply thread are older than the snapshot and must not come after it.
            while core.applies_queued > 0 {
                drop(core);
                std::thread::yield_now();
                core = cell.core.lock();
            }
        }
        if self.is_stopped() {
            return Ok(false);
        }
        let no_reads = existing.as_ref().map(|cell| cell.data.write());
        snapshot_rows::install(&*self.data, group, &erase)?;
        drop(no_reads);
        self.counters.snapshots_installed.add(1);
        match existing {
            Some(cell) => {
                let mut core = cell.core.lock();
                if core.phase == Phase::Installing {
                    core.phase = Phase::Serving;
                    core.applied = snapshot.applied;
                }
                drop(core);
                self.step(&cell, Input::SnapshotInstalled { applied: snapshot.applied });
            }
            None => {
                self.truncate_log(group, snapshot.applied)?;
                let cell = self.load(group)?.expect("a snapshot holds the group's state");
                self.insert(&cell);
            }
        }
        Ok(true)
    }

    /// A replica that begins with a snapshot has no log below it.
    fn truncate_log(&self, group: GroupId, applied: Slot) -> Result<(), StorageError> {
        let mut batch = WriteBatch::new();
        log_store::push(&mut batch, group, vec![meridian_paxos::Persist::Truncate(applied)]);
        self.log.write(batch, Durability::Synced)
    }
}

fn wait_for(replies: &mpsc::Receiver<SnapshotVerdict>) -> Result<u32, StreamError> {
    match replies.recv_timeout(PATIENCE) {
        Ok(SnapshotVerdict::Received(next)) => Ok(next),
        Ok(SnapshotVerdict::Refused) => Err(StreamError::Refused),
        Ok(SnapshotVerdict::Installed) | Err(_) => Err(StreamError::Lost),
    }
}
