//! Nodes for tests, with the clock of this machine as absolute time.

use std::sync::Arc;
use std::time::{Duration as StdDuration, Instant};

use bytes::Bytes;
use futures::executor::block_on;
use meridian_paxos::MemberKind;
use meridian_rpc::{CallError, LatencyTable, ShardClient};
use meridian_shard::{
    Outcome, ReadMode, ReadOp, ReadResult, Request, Response, ShardDescriptor, ShardError, TxnRef, Write,
};
use meridian_storage::{CrashPoint, Engine, MemoryEngine};
use meridian_types::{Duration, GroupId, Key, NodeId, Span, Timestamp, TxnId};

use crate::{LocalNetwork, Node, NodeClock, NodeConfig, NodeOptions, log_store, machine_time};

/// Longer than any of this takes on a busy machine.
const PATIENCE: StdDuration = StdDuration::from_secs(60);

/// Waits until `probe` finds something.
pub(super) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "did not happen: {what}");
        std::thread::yield_now();
    }
}

pub(super) struct Engines {
    pub(super) data: Arc<MemoryEngine>,
    pub(super) log: Arc<MemoryEngine>,
}

impl Engines {
    pub(super) fn new() -> Self {
        Engines { data: Arc::new(MemoryEngine::new()), log: Arc::new(MemoryEngine::new()) }
    }
}

pub(super) struct Cluster {
    pub(super) network: Arc<LocalNetwork>,
    pub(super) engines: Vec<Engines>,
    pub(super) nodes: Vec<Option<Arc<Node>>>,
    clock: Arc<NodeClock>,
    options: NodeOptions,
    starts: u64,
    txns: u64,
}

pub(super) const GROUP: GroupId = GroupId::new(1);

pub(super) fn node_id(i: usize) -> NodeId {
    NodeId::new(i as u32 + 1)
}

pub(super) fn key(s: &str) -> Key {
    Key::copy_from(s.as_bytes())
}

pub(super) fn write(k: &str, value: &str) -> Write {
    Write { key: key(k), value: Some(Bytes::copy_from_slice(value.as_bytes())) }
}

impl Cluster {
    /// `n` nodes without groups.
    pub(super) fn empty(n: usize, options: NodeOptions) -> Self {
        Self::on(LatencyTable::none(), n, options)
    }

    /// Three nodes with one group of the whole keyspace, led by the first, whose messages take a while.
    pub(super) fn apart(delay: StdDuration, options: NodeOptions) -> Self {
        let mut latency = LatencyTable::none();
        latency.set("here", "here", delay);
        let cluster = Self::on(latency, 3, options);
        cluster.bootstrap(&[0, 1, 2], GROUP);
        cluster
    }

    fn on(latency: LatencyTable, n: usize, options: NodeOptions) -> Self {
        let mut cluster = Cluster {
            network: LocalNetwork::new(latency),
            engines: (0..n).map(|_| Engines::new()).collect(),
            nodes: (0..n).map(|_| None).collect(),
            clock: NodeClock::free_running(Duration::from_micros(200)),
            options,
            starts: 0,
            txns: 0,
        };
        for i in 0..n {
            cluster.start(i);
        }
        cluster
    }

    /// Three nodes with one group of the whole keyspace, led by the first.
    pub(super) fn new(options: NodeOptions) -> Self {
        let cluster = Self::empty(3, options);
        cluster.bootstrap(&[0, 1, 2], GROUP);
        cluster
    }

    pub(super) fn bootstrap(&self, members: &[usize], group: GroupId) {
        let descriptor = ShardDescriptor {
            group,
            span: Span::ALL,
            generation: 1,
            replicas: members.iter().map(|i| (node_id(*i), MemberKind::Voter)).collect(),
        };
        for i in members.iter().rev() {
            self.node(*i).bootstrap_group(&descriptor, *i == members[0]).unwrap();
        }
        self.await_leader(members[0], group);
    }

    pub(super) fn start(&mut self, i: usize) {
        self.start_on(i, self.engines[i].data.clone());
    }

    pub(super) fn start_on(&mut self, i: usize, data: Arc<dyn Engine>) {
        self.starts += 1;
        let config = NodeConfig {
            node: node_id(i),
            data,
            log: self.engines[i].log.clone(),
            clock: self.clock.clone(),
            transport: self.network.transport(node_id(i), "here"),
            seed: self.starts,
            options: self.options,
            horizons: Default::default(),
        };
        self.nodes[i] = Some(Node::open(config).unwrap());
    }

    pub(super) fn stop(&mut self, i: usize) {
        self.nodes[i].take().expect("it runs").stop();
    }

    /// Stops a node as a loss of power would: what the engines had not synced may be gone.
    pub(super) fn crash(&mut self, i: usize, data: CrashPoint) {
        self.stop(i);
        let engines = &mut self.engines[i];
        engines.data = Arc::new(engines.data.crash(data));
        engines.log = Arc::new(engines.log.crash(CrashPoint::NOTHING_BUFFERED));
    }

    /// Lets node `i` cut its log, and waits until it has: what only waits to be written is lost when the node stops.
    pub(super) fn truncate_log(&self, i: usize, group: GroupId) {
        let applied = self.applied(i, group);
        self.node(i).truncate_logs();
        eventually("the log is cut", || {
            let truncated = log_store::truncated(&*self.engines[i].log, group).unwrap();
            (truncated.get() + self.options.log_retain >= applied).then_some(())
        });
    }

    pub(super) fn node(&self, i: usize) -> &Arc<Node> {
        self.nodes[i].as_ref().expect("it runs")
    }

    pub(super) fn await_leader(&self, i: usize, group: GroupId) {
        eventually("the node leads", || {
            let status = self.node(i).replica_status(group)?;
            status.is_leader.then_some(())
        });
    }

    /// The node that leads, among those that run.
    pub(super) fn leader(&self, group: GroupId) -> usize {
        eventually("somebody leads", || {
            (0..self.nodes.len()).find(|i| {
                let status = self.nodes[*i].as_ref().and_then(|n| n.replica_status(group));
                status.is_some_and(|s| s.is_leader)
            })
        })
    }

    pub(super) fn txn(&mut self, i: usize) -> TxnRef {
        self.txns += 1;
        let id = TxnId { first_start: machine_time(), node: node_id(i), seq: self.txns };
        TxnRef { id, registration: None }
    }

    /// Commits through node `i`, following redirects until somebody takes it. The way a gateway does it: one
    /// transaction id over all attempts.
    pub(super) fn commit(&mut self, i: usize, group: GroupId, writes: &[Write]) -> Timestamp {
        let txn = self.txn(i);
        let mut target = node_id(i);
        let answer = eventually("the commit is answered", || {
            let request =
                Request::Commit { txn, writes: writes.to_vec(), staged_chunks: 0, max_ts: Timestamp::MAX };
            match block_on(self.node(i).call(target, group, request)) {
                Ok(Response::Committed { commit_ts }) => Some(commit_ts),
                Err(CallError::Shard(ShardError::NotLeader { leader, .. })) => {
                    target = leader.unwrap_or_else(|| node_id(self.leader(group)));
                    None
                }
                Err(CallError::Shard(ShardError::OutcomeUnknown) | CallError::Unreachable { .. }) => {
                    target = node_id(self.leader(group));
                    None
                }
                Err(CallError::Shard(ShardError::AlreadyDecided { outcome: Outcome::Committed(ts) })) => {
                    Some(ts)
                }
                other => panic!("the commit was answered by {other:?}"),
            }
        });
        assert!(
            self.clock.now().tt.is_some_and(|tt| tt.after(answer)),
            "answered before commit wait was over"
        );
        answer
    }

    pub(super) fn read(
        &self,
        via: usize,
        on: usize,
        group: GroupId,
        mode: ReadMode,
        k: &str,
    ) -> Result<Option<Bytes>, CallError> {
        let request = Request::Read { mode, ops: vec![ReadOp::Get(key(k))] };
        match block_on(self.node(via).call(node_id(on), group, request))? {
            Response::Read { results, .. } => match &results[..] {
                [ReadResult::Value(value)] => Ok(value.clone()),
                other => panic!("the read was answered by {other:?}"),
            },
            other => panic!("the read was answered by {other:?}"),
        }
    }

    /// Reads at `t` on node `i` itself, asking again while it is not able to.
    pub(super) fn read_at(&self, i: usize, group: GroupId, t: Timestamp, k: &str) -> Option<Bytes> {
        eventually("the replica can serve the timestamp", || self.read(i, i, group, ReadMode::At(t), k).ok())
    }

    pub(super) fn applied(&self, i: usize, group: GroupId) -> u64 {
        self.node(i).replica_status(group).map_or(0, |s| s.applied.get())
    }

    /// Waits until node `i` has applied what the leader has.
    pub(super) fn await_caught_up(&self, i: usize, group: GroupId) {
        let target = self.applied(self.leader(group), group);
        eventually("the replica catches up", || (self.applied(i, group) >= target).then_some(()));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.iter().flatten() {
            node.stop();
        }
    }
}
