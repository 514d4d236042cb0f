//! Nodes that stop, lag, are cut off, or lose their disk.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use bytes::Bytes;
use futures::executor::block_on;
use meridian_keys::local;
use meridian_paxos::Persist;
use meridian_rpc::{CallError, ShardClient};
use meridian_shard::{ReadMode, Request};
use meridian_storage::{CrashPoint, Durability, Engine, Family, Fault, WriteBatch};
use meridian_types::{Slot, Timestamp};

use super::cluster::*;
use super::troubled::Troubled;
use crate::damage::{self, Damage, verify};
use crate::{Counter, Counters, NodeOptions, log_store};

fn text(n: usize) -> Option<Bytes> {
    Some(Bytes::from(n.to_string()))
}

fn commit_many(cluster: &mut Cluster, count: usize) -> Timestamp {
    let mut last = Timestamp::ZERO;
    for n in 0..count {
        last = cluster.commit(0, GROUP, &[write("k", &n.to_string())]);
    }
    last
}

#[test]
fn a_restarted_node_catches_up_from_the_log() {
    for crash in [CrashPoint::EVERYTHING, CrashPoint::NOTHING_BUFFERED] {
        let mut cluster = Cluster::new(NodeOptions::default());
        commit_many(&mut cluster, 5);
        cluster.await_caught_up(2, GROUP);
        cluster.crash(2, crash);
        let ts = commit_many(&mut cluster, 20);
        cluster.start(2);
        assert_eq!(cluster.read_at(2, GROUP, ts, "k"), text(19));
        assert_eq!(cluster.node(2).counters().snapshots_installed.get(), 0);
    }
}

#[test]
fn a_node_that_was_away_for_longer_than_the_log_gets_a_snapshot() {
    let mut cluster = Cluster::new(NodeOptions { log_retain: 2, ..NodeOptions::default() });
    commit_many(&mut cluster, 5);
    cluster.await_caught_up(2, GROUP);
    cluster.stop(2);
    let ts = commit_many(&mut cluster, 50);
    for i in [0, 1] {
        cluster.await_caught_up(i, GROUP);
        cluster.truncate_log(i, GROUP);
    }
    cluster.start(2);
    assert_eq!(cluster.read_at(2, GROUP, ts, "k"), text(49));
    assert_eq!(cluster.node(2).counters().snapshots_installed.get(), 1);
    // It takes part again, and finds its state after a restart.
    let ts = commit_many(&mut cluster, 3);
    cluster.await_caught_up(2, GROUP);
    cluster.crash(2, CrashPoint::NOTHING_BUFFERED);
    cluster.start(2);
    assert_eq!(cluster.read_at(2, GROUP, ts, "k"), text(2));
}

#[test]
fn a_snapshot_goes_on_where_the_connection_broke() {
    let options = NodeOptions { log_retain: 2, ..NodeOptions::default() };
    let mut cluster = Cluster::apart(StdDuration::from_millis(3), options);
    cluster.stop(2);
    // Many times the chunks that may be under way, so that the stream is in its middle for a while.
    let value = "v".repeat(200 << 10);
    let mut ts = Timestamp::ZERO;
    for n in 0..30 {
        let writes: Vec<_> = (0..4).map(|k| write(&format!("k{n}.{k}"), &value)).collect();
        ts = cluster.commit(0, GROUP, &writes);
    }
    for i in [0, 1] {
        cluster.await_caught_up(i, GROUP);
        cluster.truncate_log(i, GROUP);
    }
    cluster.start(2);
    let kept = |cluster: &Cluster| cluster.engines[2].data.len(Family::Node);
    eventually("some chunks have come", || (kept(&cluster) >= 4).then_some(()));
    cluster.network.isolate(node_id(2));
    eventually("the connection is known to be broken", || {
        let is_live = (0..2).any(|i| cluster.node(i).is_live(node_id(2)));
        (!is_live).then_some(())
    });
    assert!(kept(&cluster) >= 4, "what has come is kept");
    assert_eq!(cluster.node(2).counters().snapshots_installed.get(), 0);
    cluster.network.heal();
    assert_eq!(cluster.read_at(2, GROUP, ts, "k29.3"), Some(Bytes::from(value)));
    let count =
        |of: fn(&Counters) -> &Counter| -> u64 { (0..3).map(|i| of(cluster.node(i).counters()).get()).sum() };
    assert_eq!(count(|c| &c.snapshots_installed), 1);
    assert!(count(|c| &c.snapshots_resumed) >= 1, "either direction's end may be noticed by itself");
}

#[test]
fn a_node_that_never_had_the_replica_gets_it_as_a_snapshot() {
    let mut cluster = Cluster::new(NodeOptions::default());
    let ts = commit_many(&mut cluster, 10);
    cluster.stop(2);
    cluster.engines[2] = Engines::new();
    cluster.start(2);
    assert_eq!(cluster.read_at(2, GROUP, ts, "k"), text(9));
}

/// The data engine is a function of the log: a node that lost it keeps its promises, and gets the rest from its leader.
#[test]
fn a_node_that_lost_its_data_keeps_its_log_and_gets_a_snapshot() {
    let mut cluster = Cluster::new(NodeOptions::default());
    commit_many(&mut cluster, 10);
    cluster.await_caught_up(2, GROUP);
    cluster.stop(2);
    let promised = log_store::load(&*cluster.engines[2].log, GROUP).unwrap().hard.promised;
    cluster.engines[2].data = Engines::new().data;
    cluster.start(2);
    let ts = commit_many(&mut cluster, 10);
    assert_eq!(cluster.read_at(2, GROUP, ts, "k"), text(9));
    assert!(log_store::load(&*cluster.engines[2].log, GROUP).unwrap().hard.promised >= promised);
}

/// I-3: the log of a node without data may be ahead of a leader's snapshot. What it has dropped it has accepted, so only
/// a snapshot that holds it may take its place.
#[test]
fn a_snapshot_that_lacks_what_the_log_has_dropped_is_refused() {
    let mut cluster = Cluster::new(NodeOptions::default());
    let ts = commit_many(&mut cluster, 10);
    cluster.stop(2);
    let ahead = Slot::new(cluster.applied(0, GROUP) + 5);
    let mut batch = WriteBatch::new();
    log_store::push(&mut batch, GROUP, vec![Persist::Truncate(ahead)]);
    cluster.engines[2].log.write(batch, Durability::Synced).unwrap();
    cluster.engines[2].data = Engines::new().data;
    cluster.start(2);
    assert_eq!(cluster.read(0, 0, GROUP, ReadMode::At(ts), "k"), Ok(text(9)));
    assert!(cluster.node(2).replica_status(GROUP).is_none());
    // The leader comes to where it may be.
    let ts = commit_many(&mut cluster, 10);
    assert_eq!(cluster.read_at(2, GROUP, ts, "k"), text(9));
}

#[test]
fn damage_is_found_before_a_node_serves() {
    let mut cluster = Cluster::new(NodeOptions::default());
    commit_many(&mut cluster, 10);
    cluster.await_caught_up(2, GROUP);
    cluster.stop(2);
    let Engines { log, data } = &cluster.engines[2];
    assert_eq!(verify(&**log, &**data), Ok(()));
    // The data engine is behind what the log needs.
    let applied = meridian_shard::recover(&**data, GROUP).unwrap().unwrap().applied;
    let mut batch = WriteBatch::new();
    log_store::push(&mut batch, GROUP, vec![Persist::Truncate(applied.next())]);
    log.write(batch, Durability::Synced).unwrap();
    assert!(matches!(verify(&**log, &**data), Err(Damage::Data(_))));
    // A running node met damage.
    assert_eq!(verify(&**log, &*Engines::new().data), Ok(()));
    damage::note(&**log, "a block").unwrap();
    assert!(matches!(verify(&**log, &*Engines::new().data), Err(Damage::Data(_))));
    damage::forget(&**log).unwrap();
    assert_eq!(verify(&**log, &*Engines::new().data), Ok(()));
    // A record of the log.
    let mut batch = WriteBatch::new();
    batch.put(Family::Log, local::hard_state(GROUP), b"xxxxxxxxx".to_vec());
    log.write(batch, Durability::Synced).unwrap();
    assert!(matches!(verify(&**log, &*Engines::new().data), Err(Damage::Log(_))));
}

#[test]
fn another_node_leads_when_the_leader_is_gone_and_nothing_answered_is_lost() {
    let mut cluster = Cluster::new(NodeOptions::default());
    let ts = commit_many(&mut cluster, 10);
    cluster.stop(0);
    let leader = cluster.leader(GROUP);
    assert_ne!(leader, 0);
    assert_eq!(cluster.read(leader, leader, GROUP, ReadMode::Strong, "k"), Ok(text(9)));
    let later = cluster.commit(leader, GROUP, &[write("k", "x")]);
    assert!(later > ts);
    cluster.start(0);
    assert_eq!(cluster.read_at(0, GROUP, later, "k"), Some(Bytes::from_static(b"x")));
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_joins_again() {
    let mut cluster = Cluster::new(NodeOptions::default());
    commit_many(&mut cluster, 3);
    cluster.network.isolate(node_id(0));
    let leader = eventually("another node leads", || {
        (1..3).find(|i| cluster.node(*i).replica_status(GROUP).is_some_and(|s| s.is_leader))
    });
    let txn = cluster.txn(leader);
    let request =
        Request::Commit { txn, writes: vec![write("k", "x")], staged_chunks: 0, max_ts: Timestamp::MAX };
    block_on(cluster.node(leader).call(node_id(leader), GROUP, request)).unwrap();
    let unreachable = cluster.read(leader, 0, GROUP, ReadMode::Strong, "k");
    assert_eq!(unreachable, Err(CallError::Unreachable { node: node_id(0) }));
    cluster.network.heal();
    cluster.await_caught_up(0, GROUP);
}

#[test]
fn a_call_under_way_to_a_node_that_stops_is_answered_as_unreachable() {
    let mut cluster = Cluster::new(NodeOptions::default());
    // Without a quorum the commit can't be answered.
    cluster.network.cut(node_id(0), node_id(1));
    cluster.network.cut(node_id(0), node_id(2));
    let caller = cluster.node(1).clone();
    let txn = cluster.txn(1);
    let request =
        Request::Commit { txn, writes: vec![write("k", "x")], staged_chunks: 0, max_ts: Timestamp::MAX };
    let call = caller.call(node_id(0), GROUP, request);
    cluster.stop(0);
    assert_eq!(block_on(call), Err(CallError::Unreachable { node: node_id(0) }));
}

#[test]
fn a_node_whose_log_fails_says_so_and_another_leads() {
    let mut cluster = Cluster::new(NodeOptions::default());
    commit_many(&mut cluster, 3);
    cluster.engines[0].log.fail_next_write(Fault::Io);
    let txn = cluster.txn(0);
    let request =
        Request::Commit { txn, writes: vec![write("k", "x")], staged_chunks: 0, max_ts: Timestamp::MAX };
    let answer = block_on(cluster.node(0).call(node_id(0), GROUP, request));
    assert!(answer.is_err(), "{answer:?}");
    eventually("the node notices", || cluster.node(0).is_disk_failed().then_some(()));
    let leader = eventually("another node leads", || {
        (1..3).find(|i| cluster.node(*i).replica_status(GROUP).is_some_and(|s| s.is_leader))
    });
    cluster.commit(leader, GROUP, &[write("k", "y")]);
}

#[test]
fn a_full_disk_holds_a_commit_up_and_reads_go_on() {
    let mut cluster = Cluster::new(NodeOptions::default());
    commit_many(&mut cluster, 3);
    cluster.engines[0].data.fail_next_write(Fault::NoSpace);
    let ts = cluster.commit(0, GROUP, &[write("k", "x")]);
    assert!(!cluster.node(0).is_disk_failed());
    assert_eq!(cluster.read_at(0, GROUP, ts, "k"), Some(Bytes::from_static(b"x")));
    cluster.engines[0].log.fail_next_write(Fault::NoSpace);
    cluster.commit(0, GROUP, &[write("k", "y")]);
    assert_eq!(cluster.read(0, 0, GROUP, ReadMode::Strong, "k"), Ok(Some(Bytes::from_static(b"y"))));
}

/// A disk that fills up while a snapshot comes, or while it is put in place: neither costs the node its vote, nor the
/// snapshot more than the time until there is room.
#[test]
fn a_snapshot_that_meets_a_full_disk_comes_when_there_is_room() {
    for full in [Family::Node, Family::Data] {
        let mut cluster = Cluster::new(NodeOptions { log_retain: 0, ..NodeOptions::default() });
        cluster.await_caught_up(2, GROUP);
        cluster.stop(2);
        commit_many(&mut cluster, 20);
        let ts = cluster.commit(0, GROUP, &[write("k", "x")]);
        cluster.await_caught_up(1, GROUP);
        (0..2).for_each(|i| cluster.truncate_log(i, GROUP));
        let data = Arc::new(Troubled::new(cluster.engines[2].data.clone()));
        data.set_full(&[full]);
        cluster.start_on(2, data.clone());
        let count = |counter: fn(&Counters) -> &Counter| counter(cluster.node(2).counters()).get();
        eventually("it has no room", || {
            let has_refused = full == Family::Node && count(|c| &c.snapshots_refused) > 0;
            (has_refused || cluster.node(2).is_out_of_space()).then_some(())
        });
        assert!(!cluster.node(2).is_disk_failed());
        assert_eq!(count(|c| &c.snapshots_installed), 0);
        data.set_full(&[]);
        assert_eq!(cluster.read_at(2, GROUP, ts, "k"), Some(Bytes::from_static(b"x")), "{full:?}");
        assert_eq!(count(|c| &c.snapshots_installed), 1);
        assert!(!cluster.node(2).is_disk_failed() && !cluster.node(2).is_out_of_space());
    }
}
