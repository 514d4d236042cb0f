//! Groups in which nothing happens: they cost nothing, lose nothing, and wake up.

use bytes::Bytes;
use meridian_paxos::MemberKind;
use meridian_rpc::admin::NodeAddress;
use meridian_shard::{ReadMode, ShardDescriptor};
use meridian_types::{FolderId, GroupId, Span};

use super::cluster::*;
use crate::NodeOptions;

const GROUPS: u64 = 1_000;

/// Tells the nodes of each other, without which there is nobody to send beats to.
fn introduce(cluster: &Cluster) {
    let address = |i| NodeAddress {
        node: node_id(i),
        address: String::new(),
        sql_address: String::new(),
        http_address: String::new(),
        region: "here".into(),
        zone: String::new(),
        version: String::new(),
        folder: FolderId::default(),
    };
    let all: Vec<NodeAddress> = (0..cluster.nodes.len()).map(address).collect();
    for node in cluster.nodes.iter().flatten() {
        node.set_peers(&all);
    }
}

/// `groups` groups on three nodes, each led by one of them in turn.
fn many(groups: u64) -> Cluster {
    let cluster = Cluster::empty(3, NodeOptions::default());
    introduce(&cluster);
    for n in 0..groups {
        let first = (n % 3) as usize;
        let descriptor = ShardDescriptor {
            group: GroupId::new(n + 1),
            span: Span::new(key(&format!("{n:04}")), Some(key(&format!("{:04}", n + 1)))),
            generation: 1,
            replicas: (0..3).map(|i| (node_id(i), MemberKind::Voter)).collect(),
        };
        for i in [(first + 1) % 3, (first + 2) % 3, first] {
            cluster.node(i).bootstrap_group(&descriptor, i == first).unwrap();
        }
    }
    cluster
}

fn await_rest(cluster: &Cluster, groups: usize) {
    eventually("every replica rests", || {
        let resting: Vec<(usize, usize)> =
            cluster.nodes.iter().flatten().map(|n| n.resting_groups()).collect();
        let led: usize = resting.iter().map(|r| r.0).sum();
        let followed: usize = resting.iter().map(|r| r.1).sum();
        (led == groups && followed == 2 * groups).then_some(())
    });
}

#[test]
fn a_thousand_idle_groups_cost_one_message_per_pair_of_nodes() {
    let cluster = many(GROUPS);
    await_rest(&cluster, GROUPS as usize);
    let read = |i: usize| {
        let c = cluster.node(i).counters();
        [c.beat_rounds.get(), c.messages_sent.get(), c.steps.get(), c.log_writes.get()]
    };
    // Every leader has heard the answers to its joins, so nothing of them is under way.
    let settled = |i: usize| cluster.node(i).counters().beat_rounds.get();
    let begun: Vec<u64> = (0..3).map(settled).collect();
    eventually("a round goes by", || (0..3).all(|i| settled(i) >= begun[i] + 10).then_some(()));
    let before: Vec<[u64; 4]> = (0..3).map(read).collect();
    eventually("rounds go by", || (0..3).all(|i| settled(i) >= before[i][0] + 50).then_some(()));
    for (i, [rounds, messages, steps, writes]) in before.into_iter().enumerate() {
        let [rounds_then, messages_then, steps_then, writes_then] = read(i);
        // A beat to each of two nodes, and at most one answer to each.
        let beats = (rounds_then - rounds + 1) * 2;
        assert!(
            messages_then - messages <= beats * 2,
            "{} messages in {} rounds on node {i}",
            messages_then - messages,
            rounds_then - rounds
        );
        assert_eq!((steps_then, writes_then), (steps, writes), "no replica was touched on node {i}");
    }
    // After more than a lease length every leader holds its lease, and followers serve what was closed since.
    for i in 0..3 {
        let leading = cluster.node(i).status().into_iter().filter(|s| s.is_leader).count();
        assert!((GROUPS as usize).div_ceil(3).abs_diff(leading) <= 1, "node {i} leads {leading} groups");
    }
}

#[test]
fn a_group_at_rest_serves_closed_timestamps_and_wakes_for_a_commit() {
    let mut cluster = Cluster::new(NodeOptions::default());
    introduce(&cluster);
    let ts = cluster.commit(0, GROUP, &[write("k", "1")]);
    await_rest(&cluster, 1);
    let steps = cluster.node(0).counters().steps.get();
    // A follower's safe time goes on although the leader is not stepped.
    eventually("the safe time passes the commit", || {
        cluster.node(1).replica_status(GROUP).filter(|s| s.safe_time > ts)
    });
    assert_eq!(cluster.node(0).counters().steps.get(), steps);
    assert_eq!(cluster.read_at(1, GROUP, ts, "k"), Some(Bytes::from_static(b"1")));
    let safe = cluster.node(1).replica_status(GROUP).unwrap().safe_time;
    assert_eq!(cluster.read(0, 0, GROUP, ReadMode::Strong, "k"), Ok(Some(Bytes::from_static(b"1"))));
    let later = cluster.commit(0, GROUP, &[write("k", "2")]);
    assert!(later > safe, "a commit came below what was closed while the group rested");
    assert_eq!(cluster.read_at(2, GROUP, later, "k"), Some(Bytes::from_static(b"2")));
}

#[test]
fn groups_at_rest_get_a_new_leader_when_theirs_is_gone() {
    let mut cluster = Cluster::new(NodeOptions::default());
    introduce(&cluster);
    let ts = cluster.commit(0, GROUP, &[write("k", "1")]);
    await_rest(&cluster, 1);
    let closed = cluster.node(1).replica_status(GROUP).unwrap().safe_time;
    cluster.stop(0);
    let leader = cluster.leader(GROUP);
    assert_ne!(leader, 0);
    let later = cluster.commit(leader, GROUP, &[write("k", "2")]);
    assert!(later > ts && later > closed, "the new leader went below what the old one closed");
}

#[test]
fn a_leader_at_rest_that_is_cut_off_does_not_serve_after_its_lease() {
    let cluster = Cluster::new(NodeOptions::default());
    introduce(&cluster);
    await_rest(&cluster, 1);
    cluster.network.isolate(node_id(0));
    let leader = eventually("another node leads", || {
        (1..3).find(|i| cluster.node(*i).replica_status(GROUP).is_some_and(|s| s.is_leader))
    });
    let old = cluster.node(0).replica_status(GROUP).unwrap();
    assert!(!old.is_leader, "two nodes lead: the one that was cut off, and {leader}");
    assert!(cluster.read(0, 0, GROUP, ReadMode::Strong, "k").is_err());
    cluster.network.heal();
    await_rest(&cluster, 1);
}
