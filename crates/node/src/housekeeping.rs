//! What happens at intervals: closed timestamps to followers, forgotten callers, truncation of the log, horizons of
//! garbage collection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use meridian_rpc::peer::{GroupClosed, PeerMessage};
use meridian_shard::{Input, RequestId};
use meridian_types::{Duration, NodeId, Slot};
use parking_lot::{Condvar, Mutex};

use crate::cell::{Cell, Phase, Waiter};
use crate::inner::Inner;

/// How often leaders tell followers what is closed: the age of a follower's data where it is not asked for fresher.
pub(crate) const CLOSE_INTERVAL: Duration = Duration::from_millis(100);

/// How many of these intervals lie between two looks for callers that are gone.
const SWEEP_EVERY: u64 = 10;

/// How many of these intervals may pass before the data engine is made durable and logs are truncated.
const SYNC_EVERY: u64 = 100;

/// Bytes of log after which that happens earlier.
const SYNC_LOG_BYTES: u64 = 64 << 20;

/// Truncation in steps of so many slots: each leaves a range deletion in the log engine.
const TRUNCATE_STEP: u64 = 500;

/// How many of these intervals lie between two looks for versions that need not be kept any longer.
const COLLECT_EVERY: u64 = 20;

/// A horizon is raised in steps of this part of the retention: each costs every shard that is written a log entry.
const COLLECT_PART: u64 = 64;

/// Stops the thread.
#[derive(Default)]
pub(crate) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    /// True once stopped.
    fn wait(&self, interval: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.changed.wait_for(&mut stopped, interval.into());
        }
        *stopped
    }
}

/// How far it is.
#[derive(Default)]
pub(crate) struct Rounds {
    done: u64,
    /// The round of the last truncation, and what had been written of the log by then.
    last_sync: u64,
    log_bytes: u64,
}

impl Inner {
    /// The housekeeping thread.
    pub(crate) fn run_housekeeping(self: &Arc<Self>, stop: &Stop) {
        let mut rounds = Rounds::default();
        while !stop.wait(CLOSE_INTERVAL) {
            self.keep_house(&mut rounds);
        }
    }

    /// One round, due every [`CLOSE_INTERVAL`].
    pub(crate) fn keep_house(self: &Arc<Self>, rounds: &mut Rounds) {
        rounds.done += 1;
        self.broadcast_closed();
        self.send_beats(rounds.done);
        if rounds.done.is_multiple_of(SWEEP_EVERY) {
            self.sweep();
            self.give_up_silent_streams();
        }
        if rounds.done.is_multiple_of(COLLECT_EVERY) {
            self.collect_garbage();
        }
        let written = self.counters.log_bytes.get();
        if rounds.done - rounds.last_sync >= SYNC_EVERY || written - rounds.log_bytes >= SYNC_LOG_BYTES {
            rounds.last_sync = rounds.done;
            rounds.log_bytes = written;
            self.truncate_logs(TRUNCATE_STEP);
        }
    }

    /// One message per other node: what is closed in the groups that this node leads and that do not rest. For the
    /// others, and as a sign of life, there are beats.
    fn broadcast_closed(&self) {
        let mut by_peer: BTreeMap<NodeId, Vec<GroupClosed>> = BTreeMap::new();
        for cell in self.leading_cells() {
            if cell.rests.load(Ordering::Acquire) {
                continue;
            }
            let mut core = cell.core.lock();
            if core.phase != Phase::Serving {
                continue;
            }
            let now = self.clock.now();
            self.consider_rest(&cell, &mut core, now);
            let Some(closed) = core.replica.closed_for_broadcast(now) else { continue };
            for (node, _) in &core.replica.descriptor().replicas {
                if *node != self.node {
                    by_peer.entry(*node).or_default().push(GroupClosed { group: cell.group, closed });
                }
            }
        }
        for (peer, groups) in by_peer {
            self.send(peer, PeerMessage::Closed(groups));
        }
    }

    /// Tells replicas, here and elsewhere, of callers that wait no more.
    fn sweep(self: &Arc<Self>) {
        for cell in self.cells() {
            for id in gone(&cell) {
                self.step(&cell, Input::Cancel(id));
            }
        }
        let lost: Vec<(NodeId, u64)> = {
            let mut outgoing = self.outgoing.lock();
            let gone = |(id, o): (&u64, &crate::inner::Outgoing)| o.is_forgotten().then_some((o.node, *id));
            let lost: Vec<(NodeId, u64)> = outgoing.iter().filter_map(gone).collect();
            for (_, id) in &lost {
                outgoing.remove(id);
            }
            lost
        };
        for (node, id) in lost {
            self.send(node, PeerMessage::Cancel { id });
        }
    }

    /// Raises the horizons of the shards that this node leads, and tells compactions of those that its replicas heed.
    pub(crate) fn collect_garbage(self: &Arc<Self>) {
        let retention = self.horizons.retention();
        let step = Duration::from_nanos(retention.as_nanos() / COLLECT_PART);
        if let Some(tt) = self.clock.now().tt {
            let horizon = tt.earliest().saturating_sub(retention);
            let is_due = |cell: &Arc<Cell>| {
                let core = cell.core.lock();
                core.replica.wants_horizon(horizon) && horizon >= core.replica.gc_horizon() + step
            };
            for cell in self.leading_cells().iter().filter(|cell| is_due(cell)) {
                self.step(cell, Input::Collect(horizon));
            }
        }
        let heeded = |cell: Arc<Cell>| {
            let core = cell.core.lock();
            (core.replica.descriptor().span.clone(), core.replica.gc_horizon())
        };
        self.horizons.publish(self.cells().into_iter().map(heeded).collect());
    }

    /// Makes the data engine durable, and lets the groups that have moved on drop log that it covers. The log is
    /// truncated only below what was applied before the sync.
    pub(crate) fn truncate_logs(self: &Arc<Self>, step: u64) {
        if self.is_disk_failed() || self.snapshots.is_installing() {
            return;
        }
        let due: Vec<(Arc<Cell>, Slot)> = self
            .cells()
            .into_iter()
            .filter_map(|cell| {
                let core = cell.core.lock();
                let target = core.applied;
                let is_due = core.phase == Phase::Serving && target.get() >= core.durable.get() + step;
                drop(core);
                is_due.then_some((cell, target))
            })
            .collect();
        if due.is_empty() {
            return;
        }
        if let Err(error) = self.data.sync() {
            return self.disk_failed(&error);
        }
        for (cell, target) in due {
            cell.core.lock().durable = target;
            self.step(&cell, Input::DataDurable(target));
        }
    }
}

/// Requests at a cell whose callers on this node are gone.
fn gone(cell: &Cell) -> Vec<RequestId> {
    let mut core = cell.core.lock();
    let is_gone = |waiter: &Waiter| matches!(waiter, Waiter::Local(sender) if sender.is_closed());
    let gone: Vec<RequestId> =
        core.waiters.iter().filter(|(_, waiter)| is_gone(waiter)).map(|(id, _)| *id).collect();
    for id in &gone {
        core.waiters.remove(id);
    }
    gone
}
