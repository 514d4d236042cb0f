use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meridian_keys::SystemKey;
use meridian_kv_api::{ClockInfo, Cluster, KvError, KvWrite, Locking, NodeInfo, ReplicaChange};
use meridian_rpc::admin::NodeAddress;
use meridian_shard::{LockStatus, Outcome, Recovery, ReplicaStatus};
use meridian_types::{Ballot, FolderId, NodeId, Slot, Timestamp, TxnId};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::fake::*;
use crate::nodes::{self, node_record};
use crate::{Clock, ClusterAdmin, Gateway, NodeAdmin, Recoverer};

/// The nodes of the fake cluster.
struct Nodes {
    fake: Arc<Fake>,
    published: Mutex<Vec<(NodeId, u64)>>,
    /// Does not answer.
    hanging: Mutex<Option<NodeId>>,
}

fn info(n: u32) -> NodeInfo {
    NodeInfo {
        node: node(n),
        address: String::new(),
        sql_address: String::new(),
        http_address: String::new(),
        region: String::new(),
        zone: String::new(),
        is_live: true,
        version: String::new(),
    }
}

impl Nodes {
    fn check(&self, node: NodeId) -> Result<(), KvError> {
        match self.fake.state.lock().dead.contains(&node) {
            true => Err(KvError::Unavailable { detail: "dead".into() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl NodeAdmin for Nodes {
    async fn nodes(&self) -> Result<Vec<NodeInfo>, KvError> {
        Ok([1, 2, 3].map(info).to_vec())
    }

    async fn replicas(&self, node: NodeId) -> Result<Vec<ReplicaStatus>, KvError> {
        self.check(node)?;
        let state = self.fake.state.lock();
        let status = |d: &meridian_shard::ShardDescriptor| {
            let leader = state.leaders.get(&d.group).copied();
            ReplicaStatus {
                descriptor: d.clone(),
                leader,
                is_leader: leader == Some(node),
                lease_end: (leader == Some(node)).then_some(Timestamp::MAX),
                ballot: Ballot::new(1, node),
                committed: Slot::ZERO,
                applied: Slot::ZERO,
                safe_time: Timestamp::ZERO,
                prepared: 0,
                lock_holders: 0,
                lock_waiters: 0,
            }
        };
        Ok(state.shards.iter().map(status).collect())
    }

    async fn locks(&self, node: NodeId, _limit: usize) -> Result<Vec<LockStatus>, KvError> {
        self.check(node).map(|()| Vec::new())
    }

    async fn transactions(&self, node: NodeId, _limit: usize) -> Result<Vec<(TxnId, u64)>, KvError> {
        self.check(node).map(|()| Vec::new())
    }

    async fn clock(&self, node: NodeId) -> Result<ClockInfo, KvError> {
        self.check(node)?;
        let (unsure, sources) = (String::new(), Vec::new());
        Ok(ClockInfo { node, interval: None, unsure, parts: None, drift_faults: 0, sources })
    }

    async fn may_lead(&self, node: NodeId) -> Result<bool, KvError> {
        self.check(node).map(|()| true)
    }

    async fn publish_catalog(&self, node: NodeId, version: u64) -> Result<(), KvError> {
        self.check(node)?;
        self.published.lock().push((node, version));
        let hangs = *self.hanging.lock() == Some(node);
        if hangs { std::future::pending().await } else { Ok(()) }
    }
}

async fn admin() -> (Arc<Fake>, Gateway, Arc<Nodes>, ClusterAdmin) {
    let (fake, gateway) = warm_cluster().await;
    let nodes =
        Arc::new(Nodes { fake: Arc::clone(&fake), published: Mutex::default(), hanging: Mutex::default() });
    let admin = ClusterAdmin::new(gateway.clone(), Arc::clone(&nodes) as _, Duration::from_secs(7));
    (fake, gateway, nodes, admin)
}

#[tokio::test(start_paused = true)]
async fn a_split_takes_an_id_splits_and_writes_the_map() {
    let (fake, gateway, _, admin) = admin().await;
    admin.split_at(k("m")).await.unwrap();
    settle().await;
    let trace = fake.trace();
    let split = trace.find("n2 g3 Split at m into g100").expect(&trace);
    assert!(trace[..split].contains("g1 Commit"), "an id first: {trace}");
    assert!(trace[split..].contains("g1 Commit"), "and the map afterwards: {trace}");
    let shards = admin.shards().await.unwrap();
    let starts: Vec<_> = shards.iter().map(|s| (s.group, s.start.clone())).collect();
    assert_eq!(starts, [(1, k("")), (2, k("a")), (3, k("h")), (100, k("m")), (4, k("p"))]);
    assert_eq!(shards[3].leader, Some(node(2)));
    fake.trace();
    admin.split_at(k("m")).await.unwrap();
    assert_eq!(fake.trace(), "", "it is split there already");
    begin(&gateway).get(k("n"), Locking::SHARED).await.unwrap();
    assert!(
        fake.trace().starts_with("n2 g100 Read")
            || gateway.core.router.shard(&k("n")).unwrap().group() == group(100)
    );
    assert!(admin.split_at(k("\x08\x01\x01x")).await.is_err(), "the map stays whole");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_split_is_found_out() {
    let (fake, _, _, admin) = admin().await;
    fake.lose_answer("Split");
    admin.split_at(k("m")).await.unwrap();
    settle().await;
    let shards = admin.shards().await.unwrap();
    assert!(shards.iter().any(|s| s.start == k("m")), "repair has written the map: {shards:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_notices_a_stale_map_repairs_it() {
    let (fake, gateway, _, admin) = admin().await;
    fake.split(3, "m", 77);
    assert_eq!(admin.shards().await.unwrap().len(), 4, "the map does not know");
    let txn = begin(&gateway);
    txn.get(k("n"), Locking::SHARED).await.unwrap();
    settle().await;
    let groups: Vec<_> = admin.shards().await.unwrap().iter().map(|s| s.group).collect();
    assert_eq!(groups, [1, 2, 3, 77, 4]);
}

#[tokio::test(start_paused = true)]
async fn ids_are_unique_and_come_in_blocks() {
    let (fake, gateway, nodes, admin) = admin().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(admin.allocate_id("descriptor").await.unwrap());
    }
    assert_eq!(ids, (100..120).collect::<Vec<u64>>());
    assert_eq!(fake.trace().matches("Commit").count(), 2);
    let other = ClusterAdmin::new(gateway, nodes, Duration::ZERO);
    assert_eq!(other.allocate_id("descriptor").await.unwrap(), 132, "another node takes the next block");
    assert!(other.allocate_id("nonsense").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_folder_has_one_id_and_a_later_one_a_greater_id() {
    let (_, gateway, nodes, admin) = admin().await;
    let folder = FolderId::new;
    assert_eq!(admin.admit(folder(7), node(3)).await, Ok(node(4)));
    let other = ClusterAdmin::new(gateway, nodes, Duration::ZERO);
    assert_eq!(
        other.admit(folder(7), node(4)).await,
        Ok(node(4)),
        "whoever is asked, and whatever is known there"
    );
    assert_eq!(other.admit(folder(8), node(3)).await, Ok(node(5)));
    assert_eq!(admin.admit(folder(9), node(3)).await, Ok(node(6)), "ids ascend, whoever gives them out");
}

#[tokio::test(start_paused = true)]
async fn leaders_are_transferred_and_listed() {
    let (fake, _, _, admin) = admin().await;
    admin.transfer_leader(3, node(3)).await.unwrap();
    assert_eq!(fake.state.lock().leaders[&group(3)], node(3));
    let leases = admin.leases().await.unwrap();
    assert_eq!(
        leases.iter().map(|l| (l.group, l.leader.get())).collect::<Vec<_>>(),
        [(1, 1), (2, 1), (3, 3), (4, 3)]
    );
    assert!(admin.transfer_leader(3, node(8)).await.is_err());
    assert!(admin.transfer_leader(99, node(1)).await.is_err());
    fake.state.lock().dead.insert(node(3));
    assert_eq!(admin.leases().await.unwrap().len(), 2, "what the dead node led is not known");
    assert_eq!(admin.clocks().await.unwrap()[2].unsure, "node is unreachable");
}

#[tokio::test(start_paused = true)]
async fn a_replica_moves_in_single_steps_and_a_leader_hands_over_first() {
    let (fake, _, _, admin) = admin().await;
    // Node 2 leads group 3. Its replica can't move to a node that has one, so that one goes first.
    admin.change_replica(3, node(1), ReplicaChange::Remove).await.unwrap();
    fake.trace();
    admin.move_replica(3, node(2), node(1)).await.unwrap();
    let trace = fake.trace();
    let mut steps: Vec<&str> = trace
        .lines()
        .filter(|l| l.contains("Replica ") || l.contains("TransferLeader"))
        .map(|l| l.split_once(' ').map_or(l, |(_, rest)| rest))
        .collect();
    // A request that was redirected is there twice.
    steps.dedup();
    let expected = [
        "g3 ChangeReplica n1 to Some(ReadOnly)",
        "g3 ChangeReplica n1 to Some(Voter)",
        "g3 ChangeReplica n2 to None",
        "g3 TransferLeader to n1",
        "g3 ChangeReplica n2 to None",
    ];
    assert_eq!(steps, expected, "{trace}");
    let shards = admin.shards().await.unwrap();
    let moved = shards.iter().find(|s| s.group == 3).unwrap();
    assert_eq!(moved.replicas, [node(1), node(3)], "the map knows");
    fake.trace();
    admin.move_replica(3, node(2), node(1)).await.unwrap();
    assert!(!fake.trace().contains("ChangeReplica"), "it has moved already");
    for (group, from, to) in [(3, 1, 9), (3, 9, 8), (99, 1, 2)] {
        let refused = admin.move_replica(group, node(from), node(to)).await;
        assert!(refused.is_err(), "group {group} moved from {from} to {to}");
    }
    assert!(admin.change_replica(4, node(1), ReplicaChange::Add).await.is_err(), "it is a voter there");
    // The shard that holds the map is no exception.
    admin.move_replica(1, node(1), node(3)).await.unwrap();
    let shards = admin.shards().await.unwrap();
    assert_eq!(shards.iter().find(|s| s.group == 1).unwrap().replicas, [node(2), node(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_catalog_version_waits_for_acks_or_for_the_lease_of_the_silent() {
    let (fake, gateway, nodes, admin) = admin().await;
    for n in 1..=3 {
        join(&gateway, node(n)).await;
    }
    let began = Instant::now();
    admin.publish_catalog(4).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO, "virtual time");
    assert_eq!(nodes.published.lock().len(), 3);
    // TrueTime gets on a little slower than the timers.
    let clock = fake.clock.clone();
    let passing = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            clock.advance(Duration::from_millis(99));
        }
    });
    let lease = Duration::from_millis(7_000)..Duration::from_millis(7_300);
    fake.state.lock().dead.insert(node(2));
    let began = Instant::now();
    admin.publish_catalog(5).await.unwrap();
    assert!(lease.contains(&began.elapsed()), "virtual time: {:?}", began.elapsed());
    *nodes.hanging.lock() = Some(node(3));
    let began = Instant::now();
    admin.publish_catalog(6).await.unwrap();
    assert!(lease.contains(&began.elapsed()), "one that hangs holds up no longer: {:?}", began.elapsed());
    passing.abort();
}

/// Writes a node's record, as it does before it plans.
async fn join(gateway: &Gateway, node: NodeId) {
    let value = Some(node_record(&NodeAddress { node, ..NodeAddress::default() }));
    let txn = begin(gateway);
    txn.write(vec![KvWrite { key: SystemKey::Node(node).encode(), value }]).await.unwrap();
    txn.commit().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_schema_change_waits_for_who_may_plan() {
    let (fake, gateway, nodes, admin) = admin().await;
    let asked = async || {
        admin.publish_catalog(4).await.unwrap();
        let mut asked: Vec<u32> = nodes.published.lock().drain(..).map(|(node, _)| node.get()).collect();
        asked.sort_unstable();
        asked
    };
    join(&gateway, node(1)).await;
    join(&gateway, node(2)).await;
    assert_eq!(asked().await, [1, 2]);
    // In nobody's address book.
    join(&gateway, node(7)).await;
    assert_eq!(asked().await, [1, 2, 7]);
    let lease = Duration::from_secs(3);
    nodes::silence(&gateway, lease).await.unwrap();
    nodes::mark(&gateway, node(2)).await.unwrap();
    assert_eq!(asked().await, [1, 2, 7], "it may have a schema lease");
    let marked = fake.clock.now().unwrap().latest();
    let silence = nodes::silence(&gateway, lease);
    tokio::pin!(silence);
    loop {
        tokio::select! {
            biased;
            done = &mut silence => break done.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(100)) => fake.clock.advance(Duration::from_millis(99)),
        }
    }
    assert!(fake.clock.now().unwrap().earliest() > marked + lease.into(), "its lease has passed");
    assert_eq!(asked().await, [1, 7]);
    nodes::mark(&gateway, node(2)).await.unwrap();
    assert_eq!(asked().await, [1, 7], "once and for all");
}

#[tokio::test(start_paused = true)]
async fn recovery_asks_and_tells() {
    let (fake, gateway) = warm_cluster().await;
    let id = TxnId { first_start: Timestamp::from_nanos(1), node: node(9), seq: 1 };
    gateway.recover(Recovery::AskOutcome { id, coordinator: k("b"), here: k("i") }).await;
    let outcome = Outcome::Committed(Timestamp::from_nanos(5));
    let participants = vec![k("i"), k("q")];
    gateway
        .recover(Recovery::TellParticipants { id, outcome, participants: participants.clone(), here: k("b") })
        .await;
    let expected = [
        "n1 g2 QueryOutcome t4 at b abort=true",
        "n2 g3 Resolve t4 aborted",
        "n2 g3 Resolve t4 committed",
        "n3 g4 Resolve t4 committed",
        "n1 g2 Forget t4",
    ];
    assert_eq!(fake.trace().lines().collect::<Vec<_>>(), expected);
    fake.state.lock().leaders.remove(&group(4));
    gateway.recover(Recovery::TellParticipants { id, outcome, participants, here: k("b") }).await;
    assert!(!fake.trace().contains("Forget"), "one participant has not applied it yet");
}

/// A gateway whose map is older than a split asks the wrong half first. That half must not be taken for the participant:
/// the record of the outcome would go, and the participant abort what has committed.
#[tokio::test(start_paused = true)]
async fn recovery_on_an_old_map_finds_the_participant() {
    let (fake, gateway, _, _admin) = admin().await;
    let id = TxnId { first_start: Timestamp::from_nanos(1), node: node(9), seq: 1 };
    fake.split(3, "m", 77);
    let outcome = Outcome::Committed(Timestamp::from_nanos(5));
    let participants = vec![k("n")];
    gateway.recover(Recovery::TellParticipants { id, outcome, participants, here: k("b") }).await;
    let trace = fake.trace();
    assert!(trace.contains("g77 Resolve t4 committed"), "{trace}");
    let told = trace.find("g77 Resolve").unwrap();
    assert!(trace.find("Forget t4").is_some_and(|forgotten| forgotten > told), "{trace}");
}
