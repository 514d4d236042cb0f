//! A disk that stalls.

use std::sync::Arc;

use futures::executor::block_on;
use meridian_paxos::{Envelope, MemberKind, Message};
use meridian_rpc::{Call, CallError, LatencyTable, ShardClient};
use meridian_shard::{Request, Response, ShardDescriptor, ShardError, TxnRef};
use meridian_storage::MemoryEngine;
use meridian_types::{Ballot, Duration, Slot, Span, Timestamp, TxnId};

use super::cluster::*;
use super::troubled::Troubled;
use crate::backlog::lighten;
use crate::{LocalNetwork, Node, NodeClock, NodeConfig, NodeOptions, machine_time};

#[test]
fn a_leader_whose_disk_stalls_pushes_back_and_goes_on_when_it_does_not() {
    let log = Arc::new(Troubled::new(Arc::default()));
    let network = LocalNetwork::new(LatencyTable::none());
    let node = Node::open(NodeConfig {
        node: node_id(0),
        data: Arc::new(MemoryEngine::new()),
        log: log.clone(),
        clock: NodeClock::free_running(Duration::from_micros(200)),
        transport: network.transport(node_id(0), "here"),
        seed: 1,
        options: NodeOptions { backlog_bytes: 0, ..NodeOptions::default() },
        horizons: Default::default(),
    })
    .unwrap();
    let replicas = vec![(node_id(0), MemberKind::Voter)];
    let descriptor = ShardDescriptor { group: GROUP, span: Span::ALL, generation: 1, replicas };
    node.bootstrap_group(&descriptor, true).unwrap();
    eventually("the node leads", || node.replica_status(GROUP)?.is_leader.then_some(()));

    let commit = |seq: u64| {
        let id = TxnId { first_start: machine_time(), node: node_id(0), seq };
        let txn = TxnRef { id, registration: None };
        let writes = vec![write("k", &seq.to_string())];
        let request = Request::Commit { txn, writes, staged_chunks: 0, max_ts: Timestamp::MAX };
        node.call(node_id(0), GROUP, request)
    };
    let is_committed =
        |answer: &Result<Response, CallError>| matches!(answer, Ok(Response::Committed { .. }));
    eventually("the first commit", || is_committed(&block_on(commit(1))).then_some(()));
    eventually("nothing waits", || is_committed(&block_on(commit(2))).then_some(()));
    log.set_shut(true);
    let waiting = eventually("a commit is under way", || match commit(3) {
        Call::Ready(_) => None,
        pending => Some(pending),
    });
    assert_eq!(block_on(commit(4)), Err(CallError::Shard(ShardError::Overloaded)));
    assert!(node.counters().requests_pushed_back.get() > 0);
    log.set_shut(false);
    let answer = block_on(waiting);
    assert!(is_committed(&answer), "{answer:?}");
    eventually("commits go on", || is_committed(&block_on(commit(4))).then_some(()));
    node.stop();
}

#[test]
fn an_overloaded_follower_takes_the_news_of_a_message_and_not_its_entries() {
    let envelope = |message| Envelope { group: GROUP, from: node_id(1), to: node_id(0), message };
    let entry = meridian_paxos::LogEntry {
        slot: Slot::new(1),
        ballot: Ballot::new(1, node_id(1)),
        command: meridian_paxos::Command::Noop,
    };
    let (ballot, commit, lease) = (entry.ballot, Slot::new(9), None);
    let mut accept = envelope(Message::Accept { ballot, entries: vec![entry.clone()], commit, lease });
    assert!(lighten(&mut accept));
    assert_eq!(accept.message, Message::Accept { ballot, entries: Vec::new(), commit, lease });
    let mut learn = envelope(Message::Learn { entries: vec![entry], chosen: commit });
    assert!(!lighten(&mut learn));
    let mut other = envelope(Message::CatchUp { from_slot: commit });
    assert!(lighten(&mut other));
}
