//! What the threads of a node share.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use meridian_paxos::Envelope;
use meridian_rpc::CallError;
use meridian_rpc::admin::NodeAddress;
use meridian_rpc::peer::Transport;
use meridian_shard::{Config, CreateReplica, Input, Recovery, Replica, RequestId, Response};
use meridian_storage::{Durability, Engine, StorageError, WriteBatch};
use meridian_types::{GroupId, NodeId, Span};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use crate::backlog::Backlog;
use crate::bell::Driving;
use crate::cell::{Cell, Phase};
use crate::clock::NodeClock;
use crate::counters::Counters;
use crate::driver::ApplyJob;
use crate::garbage::Horizons;
use crate::log_store;
use crate::log_writer::{Done, Inbox, LogObserver, LogWriter};
use crate::node::NodeOptions;
use crate::resting::Resting;
use crate::room::Room;
use crate::row_cache::RowCache;
use crate::snapshots::Snapshots;
use crate::timer::Timer;

/// Cross-shard work that a replica asks for and that needs routing. Called on the node's own threads: it must not
/// block.
pub trait RecoveryHandler: Send + Sync {
    /// Does `work` for `group`, of which a replica lives here. Doing nothing is safe: the replica asks again.
    fn recover(&self, group: GroupId, work: Recovery);
}

/// What becomes of the answer to a call.
pub(crate) enum Then {
    /// Somebody waits for it.
    Tell(oneshot::Sender<Result<Response, CallError>>),
    /// It closes a timestamp in this group.
    Close(GroupId),
}

/// A call to another node that has no answer yet.
pub(crate) struct Outgoing {
    pub(crate) node: NodeId,
    pub(crate) then: Then,
}

impl Outgoing {
    /// True when nobody waits any more.
    pub(crate) fn is_forgotten(&self) -> bool {
        matches!(&self.then, Then::Tell(sender) if sender.is_closed())
    }
}

pub(crate) struct Inner {
    pub(crate) node: NodeId,
    pub(crate) driving: Driving,
    pub(crate) seed: u64,
    options: NodeOptions,
    peers: Mutex<Vec<NodeId>>,
    pub(crate) clock: Arc<NodeClock>,
    pub(crate) data: Arc<dyn Engine>,
    pub(crate) log: Arc<dyn Engine>,
    pub(crate) transport: Arc<dyn Transport>,
    cells: RwLock<HashMap<GroupId, Arc<Cell>>>,
    leading: Mutex<BTreeMap<GroupId, Arc<Cell>>>,
    next_request: AtomicU64,
    pub(crate) next_call: AtomicU64,
    /// Calls to other nodes, by id.
    pub(crate) outgoing: Mutex<BTreeMap<u64, Outgoing>>,
    /// Calls of other nodes that wait, by caller and its id.
    pub(crate) remote_calls: Mutex<BTreeMap<(NodeId, u64), (GroupId, RequestId)>>,
    pub(crate) log_writer: LogWriter,
    pub(crate) applier: Inbox<ApplyJob>,
    pub(crate) timer: Timer,
    pub(crate) snapshots: Snapshots,
    /// What replicas that were removed had, until it is erased.
    pub(crate) erasing: Mutex<BTreeMap<GroupId, Span>>,
    /// What shards have given up in splits, until the replicas that have it now are listed. Noted under the lock of the
    /// replica that gives it up, so that nobody sees that one narrower before.
    pub(crate) coming: Mutex<BTreeMap<GroupId, Span>>,
    pub(crate) resting: Resting,
    pub(crate) counters: Counters,
    pub(crate) room: Room,
    pub(crate) backlog: Backlog,
    pub(crate) horizons: Arc<Horizons>,
    pub(crate) recovery: OnceLock<Arc<dyn RecoveryHandler>>,
    disk_failed: AtomicBool,
    pub(crate) stopped: AtomicBool,
}

impl Inner {
    pub(crate) fn new(config: crate::NodeConfig, driving: Driving) -> Self {
        Inner {
            node: config.node,
            driving,
            seed: config.seed,
            options: config.options,
            peers: Mutex::default(),
            clock: config.clock,
            data: Arc::new(RowCache::new(config.data, config.options.row_cache_bytes)),
            log: config.log,
            transport: config.transport,
            cells: RwLock::default(),
            leading: Mutex::default(),
            next_request: AtomicU64::new(0),
            // Ids of an earlier incarnation must not be met again: the seed differs from start to start.
            next_call: AtomicU64::new(config.seed << 20),
            outgoing: Mutex::default(),
            remote_calls: Mutex::default(),
            log_writer: LogWriter::new(driving),
            applier: Inbox::new(driving),
            timer: Timer::new(driving),
            snapshots: Snapshots::default(),
            erasing: Mutex::default(),
            coming: Mutex::default(),
            resting: Resting::new(config.seed << 20),
            counters: Counters::default(),
            room: Room::default(),
            backlog: Backlog::new(config.options.backlog_bytes),
            horizons: config.horizons,
            recovery: OnceLock::new(),
            disk_failed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    pub(crate) fn next_request(&self) -> u64 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn set_peers(&self, peers: &[NodeAddress]) {
        self.transport.set_peers(peers);
        *self.peers.lock() = peers.iter().map(|p| p.node).filter(|n| *n != self.node).collect();
    }

    /// The other nodes.
    pub(crate) fn peers(&self) -> Vec<NodeId> {
        self.peers.lock().clone()
    }

    pub(crate) fn cell(&self, group: GroupId) -> Option<Arc<Cell>> {
        self.cells.read().get(&group).cloned()
    }

    /// Takes a cell off the list, if it is still there.
    pub(crate) fn take_cell(&self, cell: &Arc<Cell>) -> bool {
        let mut cells = self.cells.write();
        let is_listed = cells.get(&cell.group).is_some_and(|c| Arc::ptr_eq(c, cell));
        if is_listed {
            cells.remove(&cell.group);
        }
        is_listed
    }

    pub(crate) fn cells(&self) -> Vec<Arc<Cell>> {
        let mut cells: Vec<Arc<Cell>> = self.cells.read().values().cloned().collect();
        cells.sort_by_key(|c| c.group);
        cells
    }

    pub(crate) fn leading_cells(&self) -> Vec<Arc<Cell>> {
        self.leading.lock().values().cloned().collect()
    }

    pub(crate) fn note_leading(&self, cell: &Arc<Cell>, leading: bool) {
        let mut all = self.leading.lock();
        if leading {
            all.insert(cell.group, cell.clone());
        } else {
            all.remove(&cell.group);
        }
    }

    pub(crate) fn is_disk_failed(&self) -> bool {
        self.disk_failed.load(Ordering::Acquire)
    }

    /// True when it was marked before.
    pub(crate) fn mark_disk_failed(&self) -> bool {
        self.disk_failed.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Reads a replica back from the engines; `None` where this node has none of this group.
    pub(crate) fn load(&self, group: GroupId) -> Result<Option<Arc<Cell>>, StorageError> {
        let Some(mut recovered) = meridian_shard::recover(&*self.data, group)? else { return Ok(None) };
        let log = log_store::load(&*self.log, group)?;
        recovered.hard = log.hard;
        recovered.truncated = log.truncated;
        recovered.entries = log.entries;
        let applied = recovered.applied;
        let seed = self.seed ^ group.get().rotate_left(32) ^ u64::from(self.node.get());
        let mut config = Config::new(group, self.node, seed);
        config.log_retain = self.options.log_retain;
        let replica = Replica::new(config, recovered, self.clock.now());
        Ok(Some(Arc::new(Cell::new(group, replica, applied))))
    }

    /// Makes a loaded replica reachable, and lets it run.
    pub(crate) fn insert(self: &Arc<Self>, cell: &Arc<Cell>) {
        let former = self.cells.write().insert(cell.group, cell.clone());
        assert!(former.is_none(), "group {} has two replicas on one node", cell.group);
        let core = cell.core.lock();
        if let Some(at) = core.replica.next_wake() {
            self.timer.schedule(cell, at);
        }
    }

    /// Creates the child of a split, whose initial state its parent's batch has just written. The log engine may know
    /// the child already: this node has voted in it and then lost the buffered batch in a crash. Returns the child when
    /// it is to campaign.
    pub(crate) fn create_replica(self: &Arc<Self>, create: &CreateReplica) -> Option<Arc<Cell>> {
        let group = create.descriptor.group;
        if self.cell(group).is_some() {
            return None;
        }
        let cell = match self.load(group) {
            Ok(cell) => cell.expect("a split writes the state of its child"),
            Err(error) => {
                self.disk_failed(&error);
                return None;
            }
        };
        self.insert(&cell);
        let removed = {
            let core = cell.core.lock();
            core.replica.is_removed().then(|| core.replica.descriptor().generation)
        };
        // A replica that catches up goes through what its group did after its removal, too.
        if let Some(generation) = removed {
            self.remove_replica(&cell, generation);
            return None;
        }
        create.campaign.then_some(cell)
    }

    pub(crate) fn recover(&self, group: GroupId, work: Recovery) {
        if let Some(handler) = self.recovery.get() {
            handler.recover(group, work);
        }
    }

    /// The timer thread.
    pub(crate) fn run_timer(self: &Arc<Self>) {
        let mut due = Vec::new();
        let clock = self.clock.clone();
        while self.timer.wait(|| clock.mono(), |at| clock.instant_of(at), &mut due) {
            self.tick(&mut due);
        }
    }

    /// Wakes the replicas whose moment has come.
    pub(crate) fn tick(self: &Arc<Self>, due: &mut Vec<(u64, GroupId)>) {
        for (at, group) in due.drain(..) {
            if let Some(cell) = self.cell(group)
                && crate::timer::take_schedule(&cell, at)
                && self.is_due(&cell)
            {
                self.counters.ticks.add(1);
                self.step(&cell, Input::Tick);
            }
        }
    }

    /// False for a replica that has come to rest since it asked for its timer.
    fn is_due(&self, cell: &Cell) -> bool {
        if !cell.rests.load(Ordering::Acquire) {
            return true;
        }
        let core = cell.core.lock();
        match core.replica.next_wake() {
            Some(at) if at > self.clock.mono() => self.timer.schedule(cell, at),
            Some(_) => return true,
            None => {}
        }
        false
    }

    /// The apply thread.
    pub(crate) fn run_applier(self: &Arc<Self>) {
        let mut jobs = Vec::new();
        while self.applier.take(&mut jobs) {
            for job in jobs.drain(..) {
                self.apply_big(job);
            }
        }
    }

    /// Lets nothing step any more, and so nothing be written, and forgets who waits.
    pub(crate) fn stop_cells(&self) {
        for cell in self.cells() {
            let waiters = {
                let mut core = cell.core.lock();
                core.phase = Phase::Stopped;
                std::mem::take(&mut core.waiters)
            };
            drop(waiters);
        }
        self.outgoing.lock().clear();
        self.remote_calls.lock().clear();
    }
}

/// What the log writer's threads call.
pub(crate) struct Observer(pub(crate) Arc<Inner>);

impl LogObserver for Observer {
    fn release(&self, envelopes: Vec<Envelope>) {
        if !self.0.is_stopped() {
            self.0.send_all(envelopes.into_iter());
        }
    }

    fn persisted(&self, done: Done) {
        for (cell, token) in done {
            self.0.step(&cell, Input::Persisted(token));
        }
    }

    fn written(&self, bytes: usize, jobs: usize, waited: usize) {
        self.0.backlog.remove(waited);
        self.0.counters.log_writes.add(1);
        self.0.counters.log_bytes.add(bytes as u64);
        self.0.counters.log_jobs.add(jobs as u64);
    }

    fn write(&self, batch: &WriteBatch) -> bool {
        let write = || self.0.log.write_kept(batch, Durability::Synced);
        match self.0.room.wait(|| self.0.is_stopped(), write) {
            Ok(()) => true,
            Err(error) => {
                self.0.disk_failed(&error);
                false
            }
        }
    }
}
