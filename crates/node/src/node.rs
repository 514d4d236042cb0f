//! The store of one node.

use std::sync::Arc;
use std::thread::JoinHandle;

use meridian_paxos::MemberKind;
use meridian_rpc::admin::NodeAddress;
use meridian_rpc::peer::{PeerHandler, Transport};
use meridian_rpc::{Call, ShardClient};
use meridian_shard::{Input, LockStatus, ReplicaStatus, Request, ShardDescriptor};
use meridian_storage::{Durability, Engine, Family, Reader, StorageError};
use meridian_types::{GroupId, Key, NodeId, Span, Timestamp};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::bell::Driving;
use crate::cell::Cell;
use crate::clock::NodeClock;
use crate::counters::Counters;
use crate::driven::DiskModel;
use crate::garbage::Horizons;
use crate::housekeeping::Stop;
use crate::inner::{Inner, Observer, RecoveryHandler};
use crate::log_store::{self, LogState};
use crate::peers::Handler;
use crate::{driven, removal, snapshot_rows};

/// What a node is made of.
pub struct NodeConfig {
    /// Who it is.
    pub node: NodeId,
    /// Holds what the log leads to. Nobody but the node may write to it.
    pub data: Arc<dyn Engine>,
    /// Holds the log.
    pub log: Arc<dyn Engine>,
    /// The time.
    pub clock: Arc<NodeClock>,
    /// The way to the other nodes.
    pub transport: Arc<dyn Transport>,
    /// Seed of all that is random here. Drawn anew at each start: ids of calls begin at it.
    pub seed: u64,
    /// What may be tuned.
    pub options: NodeOptions,
    /// Shared with the compactions of `data`.
    pub horizons: Arc<Horizons>,
}

/// What may be tuned on a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeOptions {
    /// Applied entries that stay in each log, so that a replica that was away for a moment catches up from the log
    /// instead of by a snapshot.
    pub log_retain: u64,
    /// While more bytes than this wait for the disk, what would add to them is refused.
    pub backlog_bytes: u64,
    /// Bytes of rows that are remembered in front of the data engine.
    pub row_cache_bytes: usize,
}

impl Default for NodeOptions {
    fn default() -> Self {
        NodeOptions { log_retain: 4_096, backlog_bytes: 64 << 20, row_cache_bytes: 64 << 20 }
    }
}

/// The replicas of one node, and the threads that drive them. Dropping it stops it.
pub struct Node {
    inner: Arc<Inner>,
    stop: Arc<Stop>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// In the place of threads.
    tasks: Vec<AbortHandle>,
    /// The transport holds it weakly.
    _handler: Arc<dyn PeerHandler>,
}

impl Node {
    /// Recovers every replica that the engines know, and starts.
    pub fn open(config: NodeConfig) -> Result<Arc<Node>, StorageError> {
        let inner = Self::recover(config, Driving::Threads)?;
        let stop = Arc::new(Stop::default());
        let threads = start_threads(&inner, &stop);
        Ok(Self::attach(inner, stop, threads, Vec::new()))
    }

    /// As [`Node::open`], with tasks of the current runtime in the place of threads: for simulations, where time is the
    /// runtime's, and nothing happens but in its one thread. The clock's oscillator has to count that time
    /// ([`crate::Oscillator::of_runtime`]).
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn open_driven(config: NodeConfig, disk: DiskModel) -> Result<Arc<Node>, StorageError> {
        let inner = Self::recover(config, Driving::Tasks)?;
        let tasks = driven::start(&inner, disk);
        Ok(Self::attach(inner, Arc::default(), Vec::new(), tasks))
    }

    fn attach(
        inner: Arc<Inner>,
        stop: Arc<Stop>,
        threads: Vec<JoinHandle<()>>,
        tasks: Vec<AbortHandle>,
    ) -> Arc<Node> {
        let handler: Arc<dyn PeerHandler> = Arc::new(Handler(inner.clone()));
        inner.transport.attach(Arc::downgrade(&handler));
        Arc::new(Node { inner, stop, threads: Mutex::new(threads), tasks, _handler: handler })
    }

    fn recover(config: NodeConfig, driving: Driving) -> Result<Arc<Inner>, StorageError> {
        let inner = Arc::new(Inner::new(config, driving));
        snapshot_rows::recover(&*inner.data)?;
        for group in groups(&*inner.data)? {
            let cell = inner.load(group)?.expect("a group with a descriptor has a state");
            let (is_removed, descriptor) = {
                let core = cell.core.lock();
                (core.replica.is_removed(), core.replica.descriptor().clone())
            };
            if is_removed {
                removal::erase(&inner, group, &descriptor.span, descriptor.generation)?;
            } else {
                inner.insert(&cell);
            }
        }
        Ok(inner)
    }

    /// Creates the replica of a new group on this node. With `campaign` it tries to lead at once. A group that is here
    /// already is left alone, and so is one that this node has voted in before: its state was lost or removed since, and
    /// comes back as a snapshot if at all.
    pub fn bootstrap_group(&self, descriptor: &ShardDescriptor, campaign: bool) -> Result<(), StorageError> {
        let is_new = log_store::load(&*self.inner.log, descriptor.group)? == LogState::default();
        if self.inner.cell(descriptor.group).is_none() && is_new {
            let state = meridian_shard::initial_state(descriptor, Timestamp::ZERO, true);
            self.inner.data.write(state, Durability::Synced)?;
            let cell = self.inner.load(descriptor.group)?.expect("its state was just written");
            self.inner.insert(&cell);
        }
        if campaign && let Some(cell) = self.inner.cell(descriptor.group) {
            self.inner.step(&cell, Input::Campaign);
        }
        Ok(())
    }

    /// Who does cross-shard recovery. It should hold the node weakly.
    ///
    /// # Panics
    /// When it was set before.
    pub fn set_recovery_handler(&self, handler: Arc<dyn RecoveryHandler>) {
        assert!(self.inner.recovery.set(handler).is_ok(), "a node has one recovery handler");
    }

    /// The address book, complete.
    pub fn set_peers(&self, peers: &[NodeAddress]) {
        self.inner.set_peers(peers);
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<NodeClock> {
        &self.inner.clock
    }

    /// The data engine.
    pub fn data(&self) -> &Arc<dyn Engine> {
        &self.inner.data
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// True once an engine has failed: this node neither votes nor leads until the process starts again.
    pub fn is_disk_failed(&self) -> bool {
        self.inner.is_disk_failed()
    }

    /// True while the disk is full and writes wait for room.
    pub fn is_out_of_space(&self) -> bool {
        self.inner.room.is_short()
    }

    /// The descriptors of the replicas here, by group.
    pub fn descriptors(&self) -> Vec<ShardDescriptor> {
        self.inner.cells().iter().map(|cell| cell.core.lock().replica.descriptor().clone()).collect()
    }

    /// The replica here whose shard holds `key`, with its group's leader as far as is known.
    pub fn locate(&self, key: &Key) -> Option<(ShardDescriptor, Option<NodeId>)> {
        self.inner.cells().iter().find_map(|cell| {
            let core = cell.core.lock();
            let descriptor = core.replica.descriptor();
            let leader = || core.replica.status(self.inner.clock.now()).leader;
            descriptor.span.contains(key.as_bytes()).then(|| (descriptor.clone(), leader()))
        })
    }

    /// The state of all replicas, by group.
    pub fn status(&self) -> Vec<ReplicaStatus> {
        let now = self.inner.clock.now();
        let status = |cell: &Arc<Cell>| {
            let mut core = cell.core.lock();
            self.inner.take_over(&mut core, now);
            core.replica.status(now)
        };
        self.inner.cells().iter().map(status).collect()
    }

    /// The state of one replica.
    pub fn replica_status(&self, group: GroupId) -> Option<ReplicaStatus> {
        let cell = self.inner.cell(group)?;
        let now = self.inner.clock.now();
        let mut core = cell.core.lock();
        self.inner.take_over(&mut core, now);
        Some(core.replica.status(now))
    }

    /// How many replicas rest here: as leaders (or about to), and under leaders elsewhere.
    pub fn resting_groups(&self) -> (usize, usize) {
        self.inner.resting_groups()
    }

    /// Locks at the leaders here, at most `limit`.
    pub fn locks(&self, limit: usize) -> Vec<LockStatus> {
        let mut all = Vec::new();
        for cell in self.inner.leading_cells() {
            if all.len() >= limit {
                break;
            }
            all.extend(cell.core.lock().replica.locks());
        }
        all.truncate(limit);
        all
    }

    /// Groups that are led from here.
    pub fn led_groups(&self) -> Vec<GroupId> {
        self.inner.leading_cells().iter().map(|cell| cell.group).collect()
    }

    /// Shards that are led from here although another voter's node asks for nearly all that they do, and that node. To be
    /// called about once a second.
    pub fn misplaced(&self) -> Vec<(GroupId, NodeId)> {
        let me = self.inner.node;
        let wanted = |cell: Arc<Cell>| {
            let mut core = cell.core.lock();
            let to = core.demand.look(me, self.inner.clock.now().mono)?;
            let is_voter = core.replica.descriptor().replicas.contains(&(to, MemberKind::Voter));
            is_voter.then_some((cell.group, to))
        };
        self.inner.leading_cells().into_iter().filter_map(wanted).collect()
    }

    /// Makes the data engine durable and truncates logs now, instead of at the next interval.
    pub fn truncate_logs(&self) {
        self.inner.truncate_logs(1);
    }

    /// Stops every thread. Nothing is written to the engines after the return, and whoever waits for an answer is told
    /// that the node is unreachable. Safe to call twice.
    pub fn stop(&self) {
        if self.inner.stopped.swap(true, std::sync::atomic::Ordering::AcqRel) {
            return;
        }
        self.inner.transport.shutdown();
        self.inner.snapshots.stop();
        self.inner.stop_cells();
        self.stop.stop();
        self.inner.timer.stop();
        self.inner.log_writer.stop();
        self.inner.applier.stop();
        self.tasks.iter().for_each(AbortHandle::abort);
        let me = std::thread::current().id();
        for thread in self.threads.lock().drain(..) {
            if thread.thread().id() != me {
                let ended = thread.join();
                assert!(ended.is_ok() || std::thread::panicking(), "a thread of the node ended in a panic");
            }
        }
        // A task has no other thread to wait for: it finds the node stopped when it goes on.
        while self.inner.driving == Driving::Threads && self.inner.snapshots.is_installing() {
            std::thread::yield_now();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

impl ShardClient for Node {
    fn local_node(&self) -> NodeId {
        self.inner.node
    }

    fn call(&self, node: NodeId, group: GroupId, request: Request) -> Call {
        if node == self.inner.node {
            self.inner.call_local(group, request)
        } else {
            self.inner.call_remote(node, group, request)
        }
    }

    fn is_live(&self, node: NodeId) -> bool {
        self.inner.transport.is_live(node)
    }
}

fn start_threads(inner: &Arc<Inner>, stop: &Arc<Stop>) -> Vec<JoinHandle<()>> {
    type Body = Box<dyn FnOnce(Arc<Inner>) + Send>;
    let stop = stop.clone();
    let bodies: [(&str, Body); 5] = [
        ("log-writer", Box::new(|i| i.log_writer.run_writer(&Observer(i.clone())))),
        ("log-follow-up", Box::new(|i| i.log_writer.run_follow_up(&Observer(i.clone())))),
        ("applier", Box::new(|i| i.run_applier())),
        ("timer", Box::new(|i| i.run_timer())),
        ("housekeeping", Box::new(move |i| i.run_housekeeping(&stop))),
    ];
    bodies
        .into_iter()
        .map(|(name, body)| {
            let inner = inner.clone();
            let thread = std::thread::Builder::new().name(format!("{name}-{}", inner.node));
            thread.spawn(move || body(inner)).expect("the operating system has a thread")
        })
        .collect()
}

/// The groups that the data engine holds, found by their descriptors.
pub(crate) fn groups(data: &dyn Reader) -> Result<Vec<GroupId>, StorageError> {
    let mut found = Vec::new();
    let mut cursor = data.cursor(Family::State, &Span::ALL);
    let mut more = cursor.first()?;
    while more {
        let key = cursor.key();
        let corrupt = |_| StorageError::Corruption { detail: format!("state key {}", key.escape_ascii()) };
        let group = meridian_keys::local::group_of(key).map_err(corrupt)?;
        found.push(group);
        let beyond = meridian_keys::local::group_span(group).end;
        more = match beyond {
            Some(end) => cursor.seek(end.as_bytes())?,
            None => false,
        };
    }
    Ok(found)
}
