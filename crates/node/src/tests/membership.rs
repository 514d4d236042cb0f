//! Groups whose members change.

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use meridian_keys::local;
use meridian_paxos::MemberKind;
use meridian_rpc::{CallError, ShardClient};
use meridian_shard::{ReadMode, Request, Response, ShardDescriptor, ShardError};
use meridian_storage::{Family, MemoryEngine, Reader};
use meridian_types::{GroupId, Key, NodeId};

use super::cluster::*;
use crate::{NodeOptions, log_store};

fn text(s: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(s.as_bytes()))
}

fn on_three_of(nodes: usize) -> Cluster {
    let cluster = Cluster::empty(nodes, NodeOptions::default());
    cluster.bootstrap(&[0, 1, 2], GROUP);
    cluster
}

/// Asks the leader until it has done it.
fn change(cluster: &Cluster, i: usize, kind: Option<MemberKind>) -> ShardDescriptor {
    eventually("the members change", || {
        let leader = cluster.leader(GROUP);
        let request = Request::ChangeReplica { node: node_id(i), kind };
        match block_on(cluster.node(leader).call(node_id(leader), GROUP, request)) {
            Ok(Response::Changed { descriptor }) => Some(descriptor),
            Err(CallError::Shard(
                ShardError::Overloaded | ShardError::NotLeader { .. } | ShardError::OutcomeUnknown,
            )) => None,
            other => panic!("the change was answered by {other:?}"),
        }
    })
}

fn voters(descriptor: &ShardDescriptor) -> Vec<NodeId> {
    descriptor.replicas.iter().filter(|(_, k)| *k == MemberKind::Voter).map(|(n, _)| *n).collect()
}

fn holds_nothing(engine: &Arc<MemoryEngine>) -> bool {
    let state = engine.cursor(Family::State, &local::group_span(GROUP)).first().unwrap();
    let all = meridian_types::Span::new(Key::MIN, None);
    let data = engine.cursor(Family::Data, &all).first().unwrap();
    !state && !data
}

#[test]
fn a_replica_is_added_promoted_and_takes_the_place_of_another() {
    let mut cluster = on_three_of(4);
    let ts = cluster.commit(0, GROUP, &[write("k", "1")]);
    change(&cluster, 3, Some(MemberKind::ReadOnly));
    assert_eq!(
        cluster.read_at(3, GROUP, ts, "k"),
        text("1"),
        "a read-only replica serves what was before it"
    );
    let descriptor = change(&cluster, 3, Some(MemberKind::Voter));
    assert_eq!(voters(&descriptor).len(), 4);
    let descriptor = change(&cluster, 2, None);
    assert_eq!(voters(&descriptor), [node_id(0), node_id(1), node_id(3)]);
    eventually("the old replica goes", || {
        (cluster.node(2).counters().replicas_removed.get() == 1).then_some(())
    });
    assert!(cluster.node(2).replica_status(GROUP).is_none());
    assert!(holds_nothing(&cluster.engines[2].data), "rows of a replica that is gone are left");
    // The new voter counts: with one of the others gone it makes the quorum.
    cluster.stop(1);
    let ts = cluster.commit(0, GROUP, &[write("k", "2")]);
    assert_eq!(cluster.read_at(3, GROUP, ts, "k"), text("2"));
    // And after a restart the node that was removed has nothing that it would join with.
    cluster.stop(2);
    cluster.start(2);
    assert!(cluster.node(2).replica_status(GROUP).is_none());
}

#[test]
fn a_replica_that_was_away_while_it_was_removed_is_told_and_cleans_up() {
    let mut cluster = on_three_of(4);
    cluster.commit(0, GROUP, &[write("k", "1")]);
    cluster.await_caught_up(2, GROUP);
    cluster.stop(2);
    change(&cluster, 3, Some(MemberKind::ReadOnly));
    change(&cluster, 3, Some(MemberKind::Voter));
    change(&cluster, 2, None);
    cluster.start(2);
    eventually("it is told", || (cluster.node(2).counters().replicas_removed.get() == 1).then_some(()));
    assert!(holds_nothing(&cluster.engines[2].data));
    // It may come again, with a snapshot.
    let ts = cluster.commit(0, GROUP, &[write("k", "2")]);
    change(&cluster, 2, Some(MemberKind::ReadOnly));
    assert_eq!(cluster.read_at(2, GROUP, ts, "k"), text("2"));
    assert_eq!(voters(&change(&cluster, 2, Some(MemberKind::Voter))).len(), 4);
}

/// Nobody talks to it any more, and it may not ask for votes.
#[test]
fn a_read_only_replica_that_was_away_while_it_was_removed_asks_and_cleans_up() {
    let mut cluster = on_three_of(4);
    let ts = cluster.commit(0, GROUP, &[write("k", "1")]);
    change(&cluster, 3, Some(MemberKind::ReadOnly));
    assert_eq!(cluster.read_at(3, GROUP, ts, "k"), text("1"));
    cluster.stop(3);
    change(&cluster, 3, None);
    cluster.start(3);
    eventually("it is told", || (cluster.node(3).counters().replicas_removed.get() == 1).then_some(()));
    assert!(cluster.node(3).replica_status(GROUP).is_none());
    assert!(holds_nothing(&cluster.engines[3].data));
}

fn split(cluster: &Cluster, at: &str, new_group: GroupId) {
    eventually("the shard splits", || {
        let leader = cluster.leader(GROUP);
        let request = Request::Split { at: key(at), new_group };
        match block_on(cluster.node(leader).call(node_id(leader), GROUP, request)) {
            Ok(Response::Split { .. }) => Some(()),
            Err(CallError::Shard(ShardError::Overloaded | ShardError::NotLeader { .. })) => None,
            other => panic!("the split was answered by {other:?}"),
        }
    });
}

/// Of five members of the right half, two have not applied the split when they are removed from the left one.
#[test]
fn whoever_is_removed_behind_a_split_keeps_the_other_half() {
    const RIGHT: GroupId = GroupId::new(2);
    const LATER: GroupId = GroupId::new(3);
    for log_retain in [NodeOptions::default().log_retain, 0] {
        let mut cluster = Cluster::empty(5, NodeOptions { log_retain, ..NodeOptions::default() });
        cluster.bootstrap(&[0, 1, 2], GROUP);
        let ts = cluster.commit(0, GROUP, &[write("a", "1"), write("z", "1")]);
        for away in [1, 2] {
            change(&cluster, away + 2, Some(MemberKind::ReadOnly));
            change(&cluster, away + 2, Some(MemberKind::Voter));
        }
        [1, 2].iter().for_each(|i| cluster.await_caught_up(*i, GROUP));
        [1, 2].iter().for_each(|i| cluster.stop(*i));
        split(&cluster, "m", RIGHT);
        change(&cluster, 1, None);
        change(&cluster, 2, None);
        split(&cluster, "f", LATER);
        cluster.commit(0, GROUP, &[write("a", "2")]);
        if log_retain == 0 {
            (0..5).filter(|i| cluster.nodes[*i].is_some()).for_each(|i| cluster.node(i).truncate_logs());
        }
        // The right half has one member left, which can't lead without those that were removed from the left one.
        cluster.stop(3);
        cluster.stop(4);
        cluster.start(1);
        cluster.start(2);
        for i in [1, 2] {
            let gone = || cluster.node(i).replica_status(GROUP).is_none().then_some(());
            eventually("it goes from the left half", gone);
            eventually("it has the right half", || cluster.node(i).replica_status(RIGHT).map(|_| ()));
            assert_eq!(cluster.read_at(i, RIGHT, ts, "z"), text("1"), "{log_retain} slots are retained");
            assert!(cluster.node(i).replica_status(LATER).is_none(), "it was no member by then");
        }
        let ts = cluster.commit(0, RIGHT, &[write("z", "2")]);
        assert_eq!(cluster.read_at(1, RIGHT, ts, "z"), text("2"));
    }
}

#[test]
fn changes_that_are_not_sound_are_refused() {
    let cluster = on_three_of(4);
    let ask = |node: usize, kind| {
        let request = Request::ChangeReplica { node: node_id(node), kind };
        block_on(cluster.node(0).call(node_id(0), GROUP, request))
    };
    let unsound = Err(CallError::Shard(ShardError::UnsoundChange));
    assert_eq!(ask(3, Some(MemberKind::Voter)), unsound, "a stranger joins read-only");
    assert_eq!(ask(0, None), unsound, "a leader does not remove itself");
    assert_eq!(ask(3, Some(MemberKind::Witness)), unsound, "a stranger joins as an observer");
    assert_eq!(ask(2, Some(MemberKind::Observer)), unsound, "who has data goes on having it");
    let Ok(Response::Changed { descriptor }) = ask(1, Some(MemberKind::Voter)) else {
        panic!("what is so already is answered");
    };
    assert_eq!(descriptor.generation, 1);
}

fn has_rows(engine: &Arc<MemoryEngine>) -> bool {
    let all = meridian_types::Span::new(Key::MIN, None);
    engine.cursor(Family::Data, &all).first().unwrap()
}

/// Two voters and a witness. What only the leader and the witness have reaches the other voter when the leader is gone.
#[test]
fn a_witness_votes_keeps_the_log_and_has_no_data() {
    let mut cluster = Cluster::empty(4, NodeOptions { log_retain: 0, ..NodeOptions::default() });
    cluster.bootstrap(&[0, 1], GROUP);
    let ts = cluster.commit(0, GROUP, &[write("k", "1")]);
    cluster.truncate_log(0, GROUP);
    change(&cluster, 2, Some(MemberKind::Observer));
    let descriptor = change(&cluster, 2, Some(MemberKind::Witness));
    assert_eq!(voters(&descriptor), [node_id(0), node_id(1)]);
    assert!(!has_rows(&cluster.engines[2].data), "a snapshot for a witness brings no rows");
    let refused = cluster.read(2, 2, GROUP, ReadMode::At(ts), "k");
    assert!(matches!(refused, Err(CallError::Shard(ShardError::NotLeader { .. }))), "{refused:?}");
    // With one voter away it makes the quorum.
    cluster.await_caught_up(1, GROUP);
    cluster.stop(1);
    cluster.commit(0, GROUP, &[write("k", "2")]);
    cluster.await_caught_up(2, GROUP);
    let truncated = |c: &Cluster, i: usize| log_store::truncated(&*c.engines[i].log, GROUP).unwrap();
    cluster.truncate_log(0, GROUP);
    cluster.node(2).truncate_logs();
    // The other comes back after the first is lost, with a log from which the leader had cut off what it lacks.
    cluster.stop(0);
    cluster.start(1);
    cluster.await_leader(1, GROUP);
    let kept = truncated(&cluster, 2);
    assert_eq!(cluster.read(1, 1, GROUP, ReadMode::Strong, "k"), Ok(text("2")), "kept after {kept}");
    assert!(!has_rows(&cluster.engines[2].data));
    // With the first one back both have all, and the witness need not keep it.
    cluster.start(0);
    eventually("the witness cuts its log", || {
        cluster.commit(1, GROUP, &[write("k", "3")]);
        cluster.node(2).truncate_logs();
        (truncated(&cluster, 2) > kept).then_some(())
    });
    // Another one takes its place, after a restart of all.
    change(&cluster, 3, Some(MemberKind::Observer));
    change(&cluster, 3, Some(MemberKind::Witness));
    change(&cluster, 2, None);
    (0..4).for_each(|i| cluster.stop(i));
    [0, 3].into_iter().for_each(|i| cluster.start(i));
    cluster.await_leader(0, GROUP);
    assert_eq!(cluster.read(0, 0, GROUP, ReadMode::Strong, "k"), Ok(text("3")));
}

/// A witness that was away while it was removed, and came back as a replica with data, gets the data.
#[test]
fn a_witness_that_comes_back_as_another_kind_gets_the_data() {
    let mut cluster = on_three_of(4);
    change(&cluster, 3, Some(MemberKind::Observer));
    change(&cluster, 3, Some(MemberKind::Witness));
    cluster.commit(0, GROUP, &[write("k", "1")]);
    cluster.await_caught_up(3, GROUP);
    cluster.stop(3);
    change(&cluster, 3, None);
    change(&cluster, 3, Some(MemberKind::ReadOnly));
    let ts = cluster.commit(0, GROUP, &[write("k", "2")]);
    cluster.start(3);
    assert_eq!(cluster.read_at(3, GROUP, ts, "k"), text("2"));
    assert_eq!(voters(&change(&cluster, 3, Some(MemberKind::Voter))).len(), 4);
}

#[test]
fn groups_of_five_and_seven_survive_two_and_three() {
    for n in [5, 7] {
        let mut cluster = Cluster::empty(n, NodeOptions::default());
        cluster.bootstrap(&(0..n).collect::<Vec<_>>(), GROUP);
        cluster.commit(0, GROUP, &[write("k", "1")]);
        for i in n / 2 + 1..n {
            cluster.stop(i);
        }
        let ts = cluster.commit(0, GROUP, &[write("k", "2")]);
        assert_eq!(cluster.read_at(1, GROUP, ts, "k"), text("2"), "{n} replicas");
        assert_eq!(cluster.read(0, 0, GROUP, ReadMode::Strong, "k"), Ok(text("2")));
    }
}
