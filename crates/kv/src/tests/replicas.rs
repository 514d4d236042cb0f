//! The gateway against real shards: one node, every shard a group of one on one engine, virtual time.
//!
//! What several replicas and faults do is the simulation's business; this is whether gateway and shards mean the same by
//! their messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_kv_api::{
    ClockInfo, Cluster, Kv, KvError, KvTxn, KvWrite, Locking, NodeInfo, ReadBound, ReadOnlyOptions,
    ReadWriteOptions, RetryReason, ScanRequest,
};
use meridian_paxos::MemberKind;
use meridian_rpc::{Call, CallError, ShardClient};
use meridian_shard::{
    Config, Input, LockStatus, Now, Outputs, Recovery, Replica, ReplicaStatus, Request, RequestId, Response,
    ShardDescriptor, ShardError, initial_state, recover, serve,
};
use meridian_storage::{Durability, Engine, MemoryEngine};
use meridian_types::{GroupId, Key, NodeId, SeededRng, Span, Timestamp, TtInterval, TxnId};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::fake::{group, k, node, put, span, v};
use crate::{Clock, ClusterAdmin, Gateway, GatewayConfig, NodeAdmin, Recoverer};

const EPSILON: meridian_types::Duration = meridian_types::Duration::from_micros(500);

struct Node {
    engine: MemoryEngine,
    epoch: Instant,
    state: Mutex<NodeState>,
}

#[derive(Default)]
struct NodeState {
    groups: BTreeMap<GroupId, Replica>,
    waiting: BTreeMap<RequestId, oneshot::Sender<Result<Response, CallError>>>,
    next_request: u64,
    recovery: Vec<Recovery>,
}

impl Clock for Node {
    fn now(&self) -> Option<TtInterval> {
        self.moment().tt
    }
}

impl Node {
    fn moment(&self) -> Now {
        let since: meridian_types::Duration = self.epoch.elapsed().into();
        let mono = Timestamp::from_nanos(1_000_000_000_000) + since;
        Now { mono, tt: Some(TtInterval::new(mono.saturating_sub(EPSILON), mono + EPSILON)) }
    }

    fn create(&self, state: &mut NodeState, descriptor: &ShardDescriptor, floor: Timestamp) {
        let group = descriptor.group;
        if recover(&self.engine, group).unwrap().is_none() {
            self.engine.write(initial_state(descriptor, floor, true), Durability::Synced).unwrap();
        }
        let recovered = recover(&self.engine, group).unwrap().unwrap();
        let replica = Replica::new(Config::new(group, node(1), group.get()), recovered, self.moment());
        state.groups.insert(group, replica);
        self.step(state, group, Input::Campaign);
    }

    /// Steps a replica and does at once what it asks for.
    fn step(&self, state: &mut NodeState, group: GroupId, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Outputs::default();
            let Some(replica) = state.groups.get_mut(&group) else { return };
            replica.step(input, self.moment(), &self.engine, &mut out);
            if !out.persist.is_empty() {
                inputs.push(Input::Persisted(out.token));
            }
            if let Some(last) = out.apply.last().map(|a| a.slot) {
                inputs.push(Input::Applied(last));
            }
            for apply in out.apply {
                self.engine.write(apply.batch, Durability::Buffered).unwrap();
            }
            let served = out.serve.iter().map(|read| (read.id, Ok(serve(&self.engine, read).unwrap())));
            for (id, answer) in served.chain(out.replies) {
                if let Some(asker) = state.waiting.remove(&id) {
                    let _ = asker.send(answer.map_err(CallError::Shard));
                }
            }
            state.recovery.extend(out.recovery);
            for new in out.create {
                self.create(state, &new.descriptor, new.floor);
            }
        }
    }

    async fn run(self: Arc<Self>, gateway: Gateway) {
        loop {
            tokio::time::sleep(Duration::from_micros(200)).await;
            let work = {
                let mut state = self.state.lock();
                let groups: Vec<GroupId> = state.groups.keys().copied().collect();
                for group in groups {
                    self.step(&mut state, group, Input::Tick);
                }
                std::mem::take(&mut state.recovery)
            };
            for work in work {
                let gateway = gateway.clone();
                tokio::spawn(async move { gateway.recover(work).await });
            }
        }
    }
}

impl ShardClient for Node {
    fn local_node(&self) -> NodeId {
        node(1)
    }

    fn call(&self, to: NodeId, group: GroupId, request: Request) -> Call {
        let mut state = self.state.lock();
        if !state.groups.contains_key(&group) {
            return Call::Ready(Some(Err(CallError::Shard(ShardError::UnknownGroup { group }))));
        }
        state.next_request += 1;
        let id = RequestId(state.next_request);
        let (asker, answer) = oneshot::channel();
        state.waiting.insert(id, asker);
        self.step(&mut state, group, Input::Request { id, request });
        Call::Pending { node: to, answer }
    }

    fn is_live(&self, _node: NodeId) -> bool {
        true
    }
}

#[async_trait::async_trait]
impl NodeAdmin for Node {
    async fn nodes(&self) -> Result<Vec<NodeInfo>, KvError> {
        Ok(Vec::new())
    }

    async fn replicas(&self, _node: NodeId) -> Result<Vec<ReplicaStatus>, KvError> {
        let state = self.state.lock();
        Ok(state.groups.values().map(|replica| replica.status(self.moment())).collect())
    }

    async fn locks(&self, _node: NodeId, _limit: usize) -> Result<Vec<LockStatus>, KvError> {
        Ok(Vec::new())
    }

    async fn transactions(&self, _node: NodeId, _limit: usize) -> Result<Vec<(TxnId, u64)>, KvError> {
        Ok(Vec::new())
    }

    async fn clock(&self, _node: NodeId) -> Result<ClockInfo, KvError> {
        Err(KvError::Unavailable { detail: "not asked for here".into() })
    }

    async fn may_lead(&self, _node: NodeId) -> Result<bool, KvError> {
        Ok(true)
    }

    async fn publish_catalog(&self, _node: NodeId, _version: u64) -> Result<(), KvError> {
        Ok(())
    }
}

/// A node with a system shard, `[a, m)` and `[m, inf)`, all of which lead.
async fn start() -> (Arc<Node>, Gateway, ClusterAdmin) {
    let state = Mutex::new(NodeState::default());
    let one = Arc::new(Node { engine: MemoryEngine::new(), epoch: Instant::now(), state });
    let shards: Vec<ShardDescriptor> = [(1, "", Some("a")), (2, "a", Some("m")), (3, "m", None)]
        .map(|(g, start, end)| ShardDescriptor {
            group: group(g),
            span: Span::new(k(start), end.map(k)),
            generation: 1,
            replicas: vec![(node(1), MemberKind::Voter)],
        })
        .to_vec();
    for descriptor in &shards {
        one.create(&mut one.state.lock(), descriptor, Timestamp::ZERO);
    }
    let config = GatewayConfig { bootstrap: vec![node(1)], seed: 3 };
    let gateway = Gateway::new(Arc::clone(&one) as _, Arc::clone(&one) as _, &config);
    tokio::spawn(Arc::clone(&one).run(gateway.clone()));
    gateway.publish_descriptors(shards).await.unwrap();
    let admin = ClusterAdmin::new(gateway.clone(), Arc::clone(&one) as _, Duration::from_secs(1));
    (one, gateway, admin)
}

fn account(i: u64) -> Key {
    k(&format!("{}{i}", if i.is_multiple_of(2) { "b" } else { "n" }))
}

fn amount(value: Option<Bytes>) -> i64 {
    value.map_or(0, |bytes| i64::from_be_bytes(bytes.as_ref().try_into().unwrap()))
}

fn amount_write(i: u64, amount: i64) -> KvWrite {
    KvWrite { key: account(i), value: Some(Bytes::copy_from_slice(&amount.to_be_bytes())) }
}

const ACCOUNTS: u64 = 8;

async fn transfer(txn: &dyn KvTxn, from: u64, to: u64, by: i64) -> Result<Timestamp, KvError> {
    let read = txn.multi_get(vec![account(from), account(to)], Locking::EXCLUSIVE).await?;
    let [a, b] = <[_; 2]>::try_from(read).unwrap().map(amount);
    txn.write(vec![amount_write(from, a - by), amount_write(to, b + by)]).await?;
    Ok(txn.commit().await?.unwrap())
}

/// Transfers money at random; answers the commit timestamps, which ascend because each began after the last ended.
async fn teller(gateway: Gateway, seed: u64, transfers: usize) -> Vec<Timestamp> {
    let mut rng = SeededRng::new(seed);
    let mut commits = Vec::new();
    for _ in 0..transfers {
        let from = rng.below(ACCOUNTS);
        let to = (from + 1 + rng.below(ACCOUNTS - 1)) % ACCOUNTS;
        let mut retry_of = None;
        loop {
            let txn = gateway.begin(ReadWriteOptions { retry_of });
            match transfer(&*txn, from, to, 1 + rng.below(9) as i64).await {
                Ok(commit_ts) => {
                    assert!(
                        gateway.now().unwrap().after(commit_ts),
                        "answered before its timestamp had passed"
                    );
                    assert!(commits.last().is_none_or(|last| *last < commit_ts), "I-7");
                    commits.push(commit_ts);
                    break;
                }
                Err(KvError::Retry { .. }) => retry_of = txn.id(),
                Err(error) => panic!("{error}"),
            }
        }
    }
    commits
}

async fn total(gateway: &Gateway, bound: ReadBound) -> i64 {
    let txn = gateway.begin_read_only(ReadOnlyOptions { bound, single_operation: false });
    let values = txn.multi_get((0..ACCOUNTS).map(account).collect(), Locking::SHARED).await.unwrap();
    values.into_iter().map(amount).sum()
}

#[tokio::test(start_paused = true)]
async fn money_is_neither_made_nor_lost_while_shards_split() {
    let (_one, gateway, admin) = start().await;
    let tellers: Vec<_> = (0..6).map(|seed| tokio::spawn(teller(gateway.clone(), seed, 40))).collect();
    for (round, at) in ["b4", "n3", "n7"].into_iter().enumerate() {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(7)).await;
            assert_eq!(
                total(&gateway, ReadBound::Strong).await,
                0,
                "a snapshot across shards, round {round}"
            );
        }
        admin.split_at(k(at)).await.unwrap();
    }
    let mut commits = Vec::new();
    for teller in tellers {
        commits.extend(teller.await.unwrap());
    }
    assert_eq!(commits.len(), 240);
    for at in commits {
        assert_eq!(total(&gateway, ReadBound::At(at)).await, 0, "at {at}");
    }
    assert_eq!(admin.shards().await.unwrap().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_big_transaction_is_staged_at_several_shards_and_appears_at_once() {
    let (_one, gateway, _) = start().await;
    let value = Bytes::from(vec![7; 300 << 10]);
    let keys: Vec<Key> = (0..16).map(account).collect();
    let txn = gateway.begin(ReadWriteOptions::default());
    let writes = keys.iter().map(|key| KvWrite { key: key.clone(), value: Some(value.clone()) }).collect();
    txn.write(writes).await.unwrap();
    let commit_ts = txn.commit().await.unwrap().unwrap();
    for (at, expected) in [(commit_ts.prev(), 0), (commit_ts, 16)] {
        let options = ReadOnlyOptions { bound: ReadBound::At(at), single_operation: false };
        let found = gateway.begin_read_only(options).multi_get(keys.clone(), Locking::SHARED).await.unwrap();
        assert_eq!(found.iter().flatten().filter(|v| **v == value).count(), expected, "at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn scans_keep_phantoms_out_across_shards() {
    let (_one, gateway, _) = start().await;
    let old = gateway.begin(ReadWriteOptions::default());
    let request = |span| ScanRequest { span, reverse: false, limit: 100, locking: Locking::SHARED };
    let page = old.scan(request(span("b", "z"))).await.unwrap();
    let page = old.scan(request(page.resume.unwrap())).await.unwrap();
    assert!(page.rows.is_empty() && page.resume.is_none());
    let young = gateway.begin(ReadWriteOptions::default());
    young.write(put("n1", "phantom")).await.unwrap();
    let commit = tokio::spawn(async move { young.commit().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!commit.is_finished(), "the younger one waits for the scanned span");
    assert_eq!(old.commit().await, Ok(None));
    assert!(commit.await.unwrap().unwrap().is_some());
    let strong = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: true };
    assert_eq!(gateway.begin_read_only(strong).get(k("n1"), Locking::SHARED).await, Ok(Some(v("phantom"))));
}

#[tokio::test(start_paused = true)]
async fn the_older_of_two_crossing_transactions_wins() {
    let (_one, gateway, _) = start().await;
    let old = gateway.begin(ReadWriteOptions::default());
    let young = gateway.begin(ReadWriteOptions::default());
    old.get(k("b"), Locking::EXCLUSIVE).await.unwrap();
    young.get(k("n"), Locking::EXCLUSIVE).await.unwrap();
    let crossing = tokio::spawn(async move {
        let got = young.get(k("b"), Locking::EXCLUSIVE).await;
        (got, young.commit().await)
    });
    old.get(k("n"), Locking::EXCLUSIVE).await.unwrap();
    assert_eq!(old.commit().await, Ok(None));
    let (_, committed) = crossing.await.unwrap();
    assert!(matches!(
        committed,
        Err(KvError::Retry { reason: RetryReason::LocksLost | RetryReason::Wounded })
    ));
}

#[tokio::test(start_paused = true)]
async fn locks_outlive_silence_only_with_heartbeats() {
    let (_one, gateway, _) = start().await;
    let old = gateway.begin(ReadWriteOptions::default());
    old.get(k("b"), Locking::EXCLUSIVE).await.unwrap();
    old.write(put("b", "1")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(old.commit().await.unwrap().is_some(), "the gateway has kept it alive");
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_nobody_waits_for_leaves_no_locks() {
    let (one, gateway, _) = start().await;
    let txn = gateway.begin(ReadWriteOptions::default());
    txn.write([put("b", "1"), put("n", "1")].concat()).await.unwrap();
    let impatient = tokio::time::timeout(Duration::from_micros(300), txn.commit()).await;
    assert!(impatient.is_err(), "commit wait takes longer");
    drop(txn);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(total_locks(&one), 0);
    let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false };
    let found =
        gateway.begin_read_only(options).multi_get(vec![k("b"), k("n")], Locking::SHARED).await.unwrap();
    assert_eq!(found, [Some(v("1")), Some(v("1"))], "both or none");
}

fn total_locks(one: &Node) -> usize {
    let state = one.state.lock();
    state
        .groups
        .values()
        .map(|replica| replica.status(one.moment()))
        .map(|s| s.lock_holders + s.prepared)
        .sum()
}
