//! Group commit over many groups, and big batches.

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use meridian_paxos::MemberKind;
use meridian_rpc::{Call, LatencyTable, ShardClient};
use meridian_shard::{ReadMode, Request, Response, ShardDescriptor, TxnRef, Write};
use meridian_storage::MemoryEngine;
use meridian_types::{Duration, GroupId, Span, Timestamp, TxnId};

use super::cluster::*;
use super::troubled::Troubled;
use crate::{LocalNetwork, Node, NodeClock, NodeConfig, NodeOptions, machine_time};

#[test]
fn one_fsync_serves_every_group_that_waits() {
    const GROUPS: u64 = 16;
    let log = Arc::new(Troubled::new(Arc::new(MemoryEngine::new())));
    let network = LocalNetwork::new(LatencyTable::none());
    let node = Node::open(NodeConfig {
        node: node_id(0),
        data: Arc::new(MemoryEngine::new()),
        log: log.clone(),
        clock: NodeClock::free_running(Duration::from_micros(200)),
        transport: network.transport(node_id(0), ""),
        seed: 1,
        options: NodeOptions::default(),
        horizons: Default::default(),
    })
    .unwrap();
    let groups: Vec<GroupId> = (1..=GROUPS).map(GroupId::new).collect();
    for group in &groups {
        let start = key(&format!("{:02}", group.get()));
        let span = Span::new(start.clone(), start.prefix_end());
        let replicas = vec![(node_id(0), MemberKind::Voter)];
        let descriptor = ShardDescriptor { group: *group, span, generation: 1, replicas };
        node.bootstrap_group(&descriptor, true).unwrap();
        eventually("the node leads", || node.replica_status(*group)?.is_leader.then_some(()));
    }
    log.set_shut(true);
    let before = node.counters().log_writes.get();
    let calls: Vec<Call> = groups
        .iter()
        .map(|group| {
            let id = TxnId { first_start: machine_time(), node: node_id(0), seq: group.get() };
            let request = Request::Commit {
                txn: TxnRef { id, registration: None },
                writes: vec![write(&format!("{:02}", group.get()), "v")],
                staged_chunks: 0,
                max_ts: Timestamp::MAX,
            };
            node.call(node_id(0), *group, request)
        })
        .collect();
    log.set_shut(false);
    for call in calls {
        assert!(matches!(block_on(call), Ok(Response::Committed { .. })));
    }
    // One for what was under way when the gate was shut, one for the rest, and what renewals of leases may add.
    let writes = node.counters().log_writes.get() - before;
    assert!(writes <= 4, "{GROUPS} groups took {writes} writes of the log");
    node.stop();
}

#[test]
fn a_big_commit_is_applied_apart_and_in_order() {
    let mut cluster = Cluster::new(NodeOptions::default());
    let big = Bytes::from(vec![7u8; 600 << 10]);
    cluster.commit(0, GROUP, &[Write { key: key("big"), value: Some(big.clone()) }, write("k", "1")]);
    let ts = cluster.commit(0, GROUP, &[write("k", "2")]);
    assert_eq!(cluster.read(0, 0, GROUP, ReadMode::Strong, "big"), Ok(Some(big.clone())));
    for i in 0..3 {
        assert_eq!(cluster.read_at(i, GROUP, ts, "big"), Some(big.clone()), "at {i}");
        assert_eq!(cluster.read_at(i, GROUP, ts, "k"), Some(Bytes::from_static(b"2")), "at {i}");
    }
}
