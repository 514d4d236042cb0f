//! Commits, reads, splits and hand-overs on healthy nodes.

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use meridian_rpc::{Call, CallError, ShardClient};
use meridian_shard::{LockMode, ReadMode, ReadOp, Request, Response, ShardError, WaitPolicy};
use meridian_storage::{CrashPoint, Family, Reader};
use meridian_types::{GroupId, Timestamp};

use super::cluster::*;
use super::troubled::Troubled;
use crate::{Counter, Counters, NodeOptions};

fn value(s: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(s.as_bytes()))
}

#[test]
fn a_commit_is_read_at_the_leader_and_at_its_timestamp_on_every_replica() {
    let mut cluster = Cluster::new(NodeOptions::default());
    let ts = cluster.commit(0, GROUP, &[write("a", "1"), write("b", "2")]);
    assert_eq!(cluster.read(0, 0, GROUP, ReadMode::Strong, "a"), Ok(value("1")));
    assert_eq!(cluster.read(2, 0, GROUP, ReadMode::Strong, "b"), Ok(value("2")), "from another node");
    for i in 0..3 {
        assert_eq!(cluster.read_at(i, GROUP, ts, "a"), value("1"), "at replica {i}");
        assert_eq!(cluster.read_at(i, GROUP, ts.prev(), "a"), None, "before, at replica {i}");
    }
}

#[test]
fn commits_from_every_node_get_ascending_timestamps() {
    let mut cluster = Cluster::new(NodeOptions::default());
    let mut last = Timestamp::ZERO;
    for n in 0..30 {
        let ts = cluster.commit(n % 3, GROUP, &[write("k", &n.to_string())]);
        assert!(ts > last, "I-7: {ts} was answered after {last}");
        last = ts;
    }
    assert_eq!(cluster.read(0, 0, GROUP, ReadMode::Strong, "k"), Ok(value("29")));
}

#[test]
fn a_strong_read_at_the_leader_is_answered_at_once() {
    let mut cluster = Cluster::new(NodeOptions::default());
    cluster.commit(0, GROUP, &[write("a", "1")]);
    let request = Request::Read { mode: ReadMode::Strong, ops: vec![ReadOp::Get(key("a"))] };
    let call = cluster.node(0).call(node_id(0), GROUP, request);
    assert!(matches!(call, Call::Ready(Some(Ok(Response::Read { .. })))), "{call:?}");
}

#[test]
fn a_request_to_a_follower_is_redirected_and_an_unknown_group_is_named() {
    let cluster = Cluster::new(NodeOptions::default());
    let expected = ShardError::NotLeader { group: GROUP, leader: Some(node_id(0)) };
    eventually("the follower hears of its leader", || {
        let redirected = cluster.read(1, 1, GROUP, ReadMode::Strong, "a");
        (redirected == Err(CallError::Shard(expected.clone()))).then_some(())
    });
    let group = GroupId::new(99);
    for target in [0, 1] {
        let answer = cluster.read(0, target, group, ReadMode::Strong, "a");
        assert_eq!(answer, Err(CallError::Shard(ShardError::UnknownGroup { group })));
    }
}

#[test]
fn a_lock_wait_is_answered_when_the_holder_ends() {
    let mut cluster = Cluster::new(NodeOptions::default());
    let older = cluster.txn(0);
    let younger = cluster.txn(1);
    let read = |txn| Request::Read {
        mode: ReadMode::Locking { txn, mode: LockMode::Exclusive, wait: WaitPolicy::Wait },
        ops: vec![ReadOp::Get(key("a"))],
    };
    let held = block_on(cluster.node(0).call(node_id(0), GROUP, read(older)));
    assert!(matches!(held, Ok(Response::Read { registration: Some(_), .. })), "{held:?}");
    // Both ways to wait: on the leader's node and from another one.
    let local = cluster.node(0).call(node_id(0), GROUP, read(younger));
    let remote = cluster.node(1).call(node_id(0), GROUP, read(younger));
    assert!(matches!(local, Call::Pending { .. }));
    let rollback = Request::Rollback { id: older.id };
    assert_eq!(block_on(cluster.node(0).call(node_id(0), GROUP, rollback)), Ok(Response::Done));
    for call in [local, remote] {
        let answer = block_on(call);
        assert!(matches!(answer, Ok(Response::Read { registration: Some(_), .. })), "{answer:?}");
    }
}

#[test]
fn leadership_is_handed_over_on_request() {
    let mut cluster = Cluster::new(NodeOptions::default());
    let before = cluster.commit(0, GROUP, &[write("a", "1")]);
    cluster.await_caught_up(1, GROUP);
    let transfer = Request::TransferLeader { to: node_id(1) };
    let answer = block_on(cluster.node(0).call(node_id(0), GROUP, transfer));
    assert_eq!(answer, Ok(Response::Done));
    cluster.await_leader(1, GROUP);
    let after = cluster.commit(0, GROUP, &[write("a", "2")]);
    assert!(after > before);
    assert_eq!(cluster.read(2, 1, GROUP, ReadMode::Strong, "a"), Ok(value("2")));
}

fn split(cluster: &mut Cluster) -> GroupId {
    let new_group = GroupId::new(7);
    let request = Request::Split { at: key("m"), new_group };
    let answer = block_on(cluster.node(0).call(node_id(0), GROUP, request));
    let Ok(Response::Split { left, right }) = answer else { panic!("the split was answered by {answer:?}") };
    assert_eq!((left.span.end, right.span.start), (Some(key("m")), key("m")));
    cluster.await_leader(0, new_group);
    new_group
}

#[test]
fn both_halves_of_a_split_serve() {
    let mut cluster = Cluster::new(NodeOptions::default());
    cluster.commit(0, GROUP, &[write("a", "1"), write("z", "1")]);
    let right = split(&mut cluster);
    assert_eq!(cluster.read(0, 0, right, ReadMode::Strong, "z"), Ok(value("1")));
    let outside = cluster.read(0, 0, GROUP, ReadMode::Strong, "z");
    assert!(matches!(outside, Err(CallError::Shard(ShardError::WrongShard { .. }))), "{outside:?}");
    let left_ts = cluster.commit(0, GROUP, &[write("a", "2")]);
    let right_ts = cluster.commit(1, right, &[write("z", "2")]);
    for i in 0..3 {
        assert_eq!(cluster.read_at(i, GROUP, left_ts, "a"), value("2"), "left half at {i}");
        assert_eq!(cluster.read_at(i, right, right_ts, "z"), value("2"), "right half at {i}");
    }
}

/// The log has the split, the data engine has lost it: replay creates the child again, and the child remembers what it
/// promised.
#[test]
fn a_split_survives_the_loss_of_all_buffered_writes() {
    let mut cluster = Cluster::new(NodeOptions::default());
    cluster.commit(0, GROUP, &[write("a", "1"), write("z", "1")]);
    let right = split(&mut cluster);
    let ts = cluster.commit(0, right, &[write("z", "2")]);
    cluster.await_caught_up(2, right);
    cluster.crash(2, CrashPoint::NOTHING_BUFFERED);
    cluster.start(2);
    assert_eq!(cluster.read_at(2, right, ts, "z"), value("2"));
    cluster.commit(0, right, &[write("z", "3")]);
    cluster.await_caught_up(2, right);
}

/// Node 2 was away while the shard was split, and the log no longer has the split. Of the right half node 0 has the only
/// replica that runs, which can't lead alone: node 2 must get its own together with the left half's snapshot.
#[test]
fn a_snapshot_that_passes_a_split_brings_the_other_half_along() {
    let mut cluster = Cluster::new(NodeOptions { log_retain: 2, ..NodeOptions::default() });
    let ts = cluster.commit(0, GROUP, &[write("a", "1"), write("z", "1")]);
    cluster.await_caught_up(2, GROUP);
    cluster.stop(2);
    let right = split(&mut cluster);
    for n in 0..20 {
        cluster.commit(0, GROUP, &[write("a", &n.to_string())]);
    }
    for i in [0, 1] {
        cluster.await_caught_up(i, GROUP);
        cluster.truncate_log(i, GROUP);
    }
    cluster.stop(1);
    cluster.stop(0);
    cluster.start(0);
    cluster.start(2);
    assert_eq!(cluster.read_at(2, right, ts, "z"), value("1"));
    assert_eq!(cluster.node(2).counters().snapshots_installed.get(), 1);
    let leader = cluster.leader(right);
    let later = cluster.commit(leader, right, &[write("z", "2")]);
    // It finds both halves after a crash, and all three agree in the end.
    cluster.await_caught_up(2, right);
    cluster.crash(2, CrashPoint::NOTHING_BUFFERED);
    cluster.start(2);
    cluster.start(1);
    for i in 0..3 {
        assert_eq!(cluster.read_at(i, right, later, "z"), value("2"), "right half at {i}");
        assert_eq!(cluster.read_at(i, GROUP, later, "a"), value("19"), "left half at {i}");
    }
}

/// The right half's members talk to a node that has seen its replica narrowed and not created the other one yet.
#[test]
fn what_a_split_is_about_to_create_is_not_taken_as_a_snapshot() {
    let mut cluster = Cluster::new(NodeOptions::default());
    cluster.commit(0, GROUP, &[write("a", "1"), write("z", "1")]);
    cluster.await_caught_up(2, GROUP);
    cluster.stop(2);
    let data = Arc::new(Troubled::new(cluster.engines[2].data.clone()));
    cluster.start_on(2, data.clone());
    cluster.await_caught_up(2, GROUP);
    data.set_shut(true);
    let right = split(&mut cluster);
    eventually("it is narrowed", || {
        let descriptors = cluster.node(2).descriptors();
        descriptors.iter().all(|d| !d.span.contains(b"z")).then_some(())
    });
    let ts = cluster.commit(0, right, &[write("z", "2")]);
    let count = |counter: fn(&Counters) -> &Counter| counter(cluster.node(2).counters()).get();
    let before = count(|c| &c.snapshots_refused);
    let first_chunk = meridian_keys::local::snapshot_chunk(right, 0);
    let kept = || cluster.engines[2].data.get(Family::Node, &first_chunk).unwrap();
    eventually("the snapshot is refused or taken", || {
        (count(|c| &c.snapshots_refused) > before || kept().is_some()).then_some(())
    });
    let kept = kept();
    let status = cluster.node(2).replica_status(right);
    // First of all, since the node's end waits for its disk.
    data.set_shut(false);
    assert_eq!((kept, status), (None, None));
    assert_eq!(cluster.read_at(2, right, ts, "z"), value("2"));
    assert_eq!(count(|c| &c.snapshots_installed), 0);
}
