//! Nodes that talk over gRPC streams, as processes do.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use meridian_paxos::MemberKind;
use meridian_rpc::admin::*;
use meridian_rpc::{
    GrpcConfig, GrpcTransport, LatencyTable, NodeServices, PeerEndpoint, Security, ShardClient, serve_node,
};
use meridian_shard::{LockStatus, ReadMode, ReadOp, ReadResult, Request, Response, ShardDescriptor, TxnRef};
use meridian_types::{ClusterId, Duration, NodeId, Span, Timestamp, TxnId};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::cluster::*;
use crate::{Node, NodeClock, NodeConfig, NodeOptions, machine_time};

/// These tests have no operators.
struct NoAdmin;

fn nobody<T>() -> Result<T, AdminError> {
    Err(AdminError::NotInitialised)
}

#[async_trait]
impl AdminHandler for NoAdmin {
    async fn init(&self) -> Result<InitReply, AdminError> {
        nobody()
    }
    async fn join(&self, _: JoinRequest) -> Result<JoinReply, AdminError> {
        nobody()
    }
    async fn bootstrap(&self, _: BootstrapRequest) -> Result<(), AdminError> {
        nobody()
    }
    async fn set_peers(&self, _: Vec<NodeAddress>) -> Result<(), AdminError> {
        nobody()
    }
    async fn node_status(&self) -> Result<NodeStatus, AdminError> {
        nobody()
    }
    async fn locks(&self, _: usize) -> Result<Vec<LockStatus>, AdminError> {
        nobody()
    }
    async fn transactions(&self, _: usize) -> Result<Vec<TransactionStatus>, AdminError> {
        nobody()
    }
    async fn publish_catalog(&self, _: u64) -> Result<(), AdminError> {
        nobody()
    }
    async fn drain(&self) -> Result<u64, AdminError> {
        nobody()
    }
    async fn decommission(&self, _: Option<NodeId>) -> Result<Departure, AdminError> {
        nobody()
    }
}

struct Remote {
    runtime: Runtime,
    clock: Arc<NodeClock>,
    engines: Vec<Engines>,
    nodes: Vec<Option<Arc<Node>>>,
    addresses: Vec<NodeAddress>,
    starts: u64,
}

impl Remote {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let clock = NodeClock::free_running(Duration::from_micros(200));
        let engines = (0..3).map(|_| Engines::new()).collect();
        let addresses = (0..3).map(|i| NodeAddress { node: node_id(i), ..NodeAddress::default() }).collect();
        let mut remote =
            Remote { runtime, clock, engines, nodes: vec![None, None, None], addresses, starts: 0 };
        (0..3).for_each(|i| remote.start(i));
        let replicas = (0..3).map(|i| (node_id(i), MemberKind::Voter)).collect();
        let descriptor = ShardDescriptor { group: GROUP, span: Span::ALL, generation: 1, replicas };
        for i in [2, 1, 0] {
            remote.node(i).bootstrap_group(&descriptor, i == 0).unwrap();
        }
        eventually("the first node leads", || remote.node(0).replica_status(GROUP)?.is_leader.then_some(()));
        remote
    }

    fn node(&self, i: usize) -> &Arc<Node> {
        self.nodes[i].as_ref().expect("it runs")
    }

    /// Starts a node at an address of its own and tells everybody.
    fn start(&mut self, i: usize) {
        self.starts += 1;
        let _runtime = self.runtime.enter();
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        self.addresses[i].address = listener.local_addr().unwrap().to_string();
        let transport = GrpcTransport::new(
            GrpcConfig {
                cluster: ClusterId::new(9),
                node: node_id(i),
                region: String::new(),
                incarnation: self.starts,
                latency: LatencyTable::none(),
                security: Security::none(),
            },
            tokio::runtime::Handle::current(),
        );
        let endpoint = Arc::new(PeerEndpoint::default());
        endpoint.set(transport.clone());
        let services = NodeServices { peers: endpoint, admin: Arc::new(NoAdmin), time: None };
        self.runtime.spawn(async move {
            serve_node(listener, services, &Security::none(), std::future::pending()).await
        });
        let node = Node::open(NodeConfig {
            node: node_id(i),
            data: self.engines[i].data.clone(),
            log: self.engines[i].log.clone(),
            clock: self.clock.clone(),
            transport,
            seed: self.starts,
            options: NodeOptions { log_retain: 2, ..NodeOptions::default() },
            horizons: Default::default(),
        });
        self.nodes[i] = Some(node.unwrap());
        for node in self.nodes.iter().flatten() {
            node.set_peers(&self.addresses);
        }
    }

    fn commit(&self, via: usize, seq: u64, value: &str) -> Timestamp {
        let id = TxnId { first_start: machine_time(), node: node_id(via), seq };
        let request = || Request::Commit {
            txn: TxnRef { id, registration: None },
            writes: vec![write("k", value)],
            staged_chunks: 0,
            max_ts: Timestamp::MAX,
        };
        eventually("the commit is answered", || {
            let call = self.node(via).call(node_id(0), GROUP, request());
            match self.runtime.block_on(call) {
                Ok(Response::Committed { commit_ts }) => Some(commit_ts),
                _ => None,
            }
        })
    }

    fn read_at(&self, i: usize, at: Timestamp) -> Option<Bytes> {
        eventually("the replica serves the timestamp", || {
            let request = Request::Read { mode: ReadMode::At(at), ops: vec![ReadOp::Get(key("k"))] };
            match self.runtime.block_on(self.node(i).call(node_id(i), GROUP, request)) {
                Ok(Response::Read { results, .. }) => match &results[..] {
                    [ReadResult::Value(value)] => Some(value.clone()),
                    other => panic!("the read was answered by {other:?}"),
                },
                _ => None,
            }
        })
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.nodes.iter().flatten().for_each(|node| node.stop());
    }
}

#[test]
fn commits_from_other_processes_are_replicated_and_a_node_that_was_away_gets_a_snapshot() {
    let mut remote = Remote::new();
    let mut last = Timestamp::ZERO;
    for seq in 1..=20 {
        last = remote.commit(seq as usize % 3, seq, &seq.to_string());
    }
    for i in 0..3 {
        assert_eq!(remote.read_at(i, last), Some(Bytes::from_static(b"20")), "at {i}");
    }
    remote.nodes[2].take().expect("it runs").stop();
    for seq in 21..=40 {
        last = remote.commit(seq as usize % 2, seq, &seq.to_string());
    }
    for i in [0, 1] {
        remote.read_at(i, last);
        remote.node(i).truncate_logs();
    }
    remote.start(2);
    assert_eq!(remote.read_at(2, last), Some(Bytes::from_static(b"40")));
    assert_eq!(remote.node(2).counters().snapshots_installed.get(), 1);
}
