//! A cluster of three nodes made of a map: answers at once, writes down every request, and fails as scripted.
//!
//! Group 1 holds the system keyspace, groups 2, 3 and 4 hold `[a, h)`, `[h, p)` and `[p, inf)`; node 1 is the gateway's.
//! Everybody may read everything; locks are granted to all, since conflicts are the shards' business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use meridian_keys::SystemKey;
use meridian_kv_api::{Kv, KvTxn, KvWrite, ReadWriteOptions};
use meridian_paxos::MemberKind;
use meridian_rpc::{Call, CallError, ShardClient};
use meridian_shard::{
    LockMode, Outcome, ReadMode, ReadOp, ReadResult, Registration, Request, Response, ShardDescriptor,
    ShardError, Vote, Write,
};
use meridian_types::{Ballot, GroupId, Key, NodeId, Span, Timestamp, TtInterval, TxnId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{Clock, Gateway, GatewayConfig, encode_descriptor};

pub(super) type Answer = Result<Response, CallError>;

pub(super) fn k(s: &str) -> Key {
    Key::copy_from(s.as_bytes())
}

pub(super) fn v(s: &str) -> Bytes {
    Bytes::copy_from_slice(s.as_bytes())
}

pub(super) fn put(key: &str, value: &str) -> Vec<KvWrite> {
    vec![KvWrite { key: k(key), value: Some(v(value)) }]
}

pub(super) fn span(a: &str, b: &str) -> Span {
    Span::new(k(a), Some(k(b)))
}

pub(super) fn node(n: u32) -> NodeId {
    NodeId::new(n)
}

pub(super) fn group(g: u64) -> GroupId {
    GroupId::new(g)
}

pub(super) fn descriptor(g: u64, generation: u64, start: &str, end: Option<&str>) -> ShardDescriptor {
    let replicas = [1, 2, 3].map(|n| (node(n), MemberKind::Voter)).to_vec();
    ShardDescriptor { group: group(g), span: Span::new(k(start), end.map(k)), generation, replicas }
}

/// Time that moves with each commit, and when a test says so.
#[derive(Default)]
pub(super) struct TestClock {
    ns: AtomicU64,
    pub(super) epsilon: AtomicU64,
}

impl TestClock {
    pub(super) fn tick(&self) -> Timestamp {
        Timestamp::from_nanos(self.ns.fetch_add(10, Ordering::SeqCst))
    }

    pub(super) fn advance(&self, by: std::time::Duration) {
        self.ns.fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Option<TtInterval> {
        let (now, epsilon) = (self.ns.load(Ordering::SeqCst), self.epsilon.load(Ordering::SeqCst));
        Some(TtInterval::new(Timestamp::from_nanos(now - epsilon), Timestamp::from_nanos(now + epsilon)))
    }
}

#[derive(Default)]
pub(super) struct State {
    log: Vec<String>,
    pub(super) shards: Vec<ShardDescriptor>,
    pub(super) leaders: BTreeMap<GroupId, NodeId>,
    pub(super) dead: BTreeSet<NodeId>,
    /// Answers to the next requests whose text contains the word, in order.
    script: Vec<(&'static str, Answer)>,
    /// Requests whose text contains the word are carried out, and then the connection breaks.
    lost_answers: Vec<&'static str>,
    /// The next request whose text contains the word waits for a lock until `CancelWaits`, or for ever.
    pub(super) waits: Vec<&'static str>,
    /// The next request whose text contains the word is carried out, and its answer does not come.
    pub(super) slow_answers: Vec<&'static str>,
    waiting: Vec<oneshot::Sender<Answer>>,
    unanswered: Vec<oneshot::Sender<Answer>>,
    /// The first request whose text contains the word is carried out, and then all nodes die.
    pub(super) last_word: Option<&'static str>,
    data: BTreeMap<Key, BTreeMap<Timestamp, Option<Bytes>>>,
    staged: BTreeMap<(GroupId, TxnId), Vec<Write>>,
    prepared: BTreeMap<(GroupId, TxnId), Vec<Write>>,
    outcomes: BTreeMap<TxnId, Outcome>,
    names: BTreeMap<TxnId, usize>,
}

pub(super) struct Fake {
    pub(super) clock: Arc<TestClock>,
    pub(super) state: Mutex<State>,
}

/// The gateway on node 1 and the cluster behind it. Leaders of groups 1 to 4 are nodes 1, 1, 2 and 3.
pub(super) fn cluster() -> (Arc<Fake>, Gateway) {
    let clock = Arc::new(TestClock::default());
    clock.ns.store(1_000_000_000, Ordering::SeqCst);
    let mut state = State {
        shards: vec![
            descriptor(1, 1, "", Some("a")),
            descriptor(2, 1, "a", Some("h")),
            descriptor(3, 1, "h", Some("p")),
            descriptor(4, 1, "p", None),
        ],
        leaders: [(1, 1), (2, 1), (3, 2), (4, 3)].map(|(g, n)| (group(g), node(n))).into(),
        ..State::default()
    };
    for shard in state.shards.clone() {
        let key = SystemKey::Meta { end: shard.span.end.clone() }.encode();
        state.data.entry(key).or_default().insert(Timestamp::from_nanos(1), Some(encode_descriptor(&shard)));
    }
    let fake = Arc::new(Fake { clock: Arc::clone(&clock), state: Mutex::new(state) });
    let config = GatewayConfig { bootstrap: [1, 2, 3].map(node).to_vec(), seed: 1 };
    let client: Arc<dyn ShardClient> = Arc::clone(&fake) as _;
    (fake, Gateway::new(client, clock, &config))
}

/// A cluster whose map and leaders the gateway knows already, with an empty trace.
pub(super) async fn warm_cluster() -> (Arc<Fake>, Gateway) {
    let (fake, gateway) = cluster();
    for key in ["a", "h", "p"] {
        let txn = gateway.begin(ReadWriteOptions::default());
        txn.get(k(key), meridian_kv_api::Locking::SHARED).await.unwrap();
        txn.rollback().await;
    }
    fake.trace();
    (fake, gateway)
}

pub(super) fn begin(gateway: &Gateway) -> Box<dyn KvTxn> {
    gateway.begin(ReadWriteOptions::default())
}

/// Lets background tasks run until they are done or wait for time to pass.
pub(super) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

impl Fake {
    /// The requests since the last call, one per line.
    pub(super) fn trace(&self) -> String {
        std::mem::take(&mut self.state.lock().log).join("\n")
    }

    /// The next request whose text contains `word` is answered so, and not carried out.
    pub(super) fn answer(&self, word: &'static str, answer: Result<Response, ShardError>) {
        self.state.lock().script.push((word, answer.map_err(CallError::Shard)));
    }

    /// The next request whose text contains `word` never arrives, and the connection breaks.
    pub(super) fn lose_request(&self, word: &'static str) {
        self.state.lock().script.push((word, Err(CallError::Unreachable { node: node(9) })));
    }

    /// The next request whose text contains `word` is carried out, and its answer is lost.
    pub(super) fn lose_answer(&self, word: &'static str) {
        self.state.lock().lost_answers.push(word);
    }

    pub(super) fn value(&self, key: &str) -> Option<Bytes> {
        self.state.lock().read(&k(key), Timestamp::MAX)
    }

    /// Splits a shard behind the gateway's back, without telling the map.
    pub(super) fn split(&self, g: u64, at: &str, new: u64) {
        self.state.lock().split(group(g), k(at), group(new));
    }
}

impl ShardClient for Fake {
    fn local_node(&self) -> NodeId {
        node(1)
    }

    fn call(&self, to: NodeId, g: GroupId, request: Request) -> Call {
        let mut state = self.state.lock();
        let text = format!("{to:?} {g:?} {}", state.render(&request));
        state.log.push(text.clone());
        if state.dead.contains(&to) {
            return Call::Ready(Some(Err(CallError::Unreachable { node: to })));
        }
        if let Some(i) = state.script.iter().position(|(word, _)| text.contains(word)) {
            return Call::Ready(Some(state.script.remove(i).1));
        }
        let (sender, answer) = oneshot::channel();
        let pending = Call::Pending { node: to, answer };
        if let Some(i) = state.waits.iter().position(|word| text.contains(word)) {
            state.waits.remove(i);
            state.waiting.push(sender);
            return pending;
        }
        let answer = state.serve(&self.clock, to, g, request).map_err(CallError::Shard);
        if let Some(i) = state.slow_answers.iter().position(|word| text.contains(word)) {
            state.slow_answers.remove(i);
            state.unanswered.push(sender);
            return pending;
        }
        if state.last_word.is_some_and(|word| text.contains(word)) {
            state.dead.extend([1, 2, 3].map(node));
            return Call::Ready(Some(Err(CallError::Unreachable { node: to })));
        }
        if let Some(i) = state.lost_answers.iter().position(|word| text.contains(word)) {
            state.lost_answers.remove(i);
            return Call::Ready(Some(Err(CallError::Unreachable { node: to })));
        }
        Call::Ready(Some(answer))
    }

    fn is_live(&self, node: NodeId) -> bool {
        !self.state.lock().dead.contains(&node)
    }
}

impl State {
    fn read(&self, key: &Key, at: Timestamp) -> Option<Bytes> {
        self.data.get(key)?.range(..=at).next_back()?.1.clone()
    }

    fn split(&mut self, g: GroupId, at: Key, new: GroupId) -> (ShardDescriptor, ShardDescriptor) {
        let left = self.shards.iter_mut().find(|d| d.group == g).unwrap();
        left.generation += 1;
        let right =
            ShardDescriptor { group: new, span: Span::new(at.clone(), left.span.end.take()), ..left.clone() };
        left.span.end = Some(at);
        let left = left.clone();
        self.shards.push(right.clone());
        let leader = self.leaders[&g];
        self.leaders.insert(new, leader);
        (left, right)
    }

    fn change_replica(
        &mut self,
        g: GroupId,
        node: NodeId,
        kind: Option<MemberKind>,
    ) -> Result<Response, ShardError> {
        let is_leader = self.leaders[&g] == node;
        let shard = self.shards.iter_mut().find(|d| d.group == g).unwrap();
        let before = shard.replicas.iter().find(|(n, _)| *n == node).map(|(_, k)| *k);
        let is_stranger = before.is_none() && kind == Some(MemberKind::Voter);
        if is_stranger || is_leader && kind != Some(MemberKind::Voter) {
            return Err(ShardError::UnsoundChange);
        }
        if before != kind {
            shard.replicas.retain(|(n, _)| *n != node);
            shard.replicas.extend(kind.map(|kind| (node, kind)));
            shard.replicas.sort_unstable();
            shard.generation += 1;
        }
        Ok(Response::Changed { descriptor: shard.clone() })
    }

    fn apply(&mut self, writes: Vec<Write>, at: Timestamp) {
        for Write { key, value } in writes {
            self.data.entry(key).or_default().insert(at, value);
        }
    }

    fn serve(
        &mut self,
        clock: &TestClock,
        to: NodeId,
        g: GroupId,
        request: Request,
    ) -> Result<Response, ShardError> {
        let Some(shard) = self.shards.iter().find(|d| d.group == g).cloned() else {
            return Err(ShardError::UnknownGroup { group: g });
        };
        let is_follower_read = matches!(request, Request::Read { mode: ReadMode::At(_), .. });
        if self.leaders.get(&g) != Some(&to) && !is_follower_read {
            return Err(ShardError::NotLeader { group: g, leader: self.leaders.get(&g).copied() });
        }
        if keys_of(&request).iter().any(|keys| !shard.span.contains_span(keys)) {
            return Err(ShardError::WrongShard { descriptor: shard });
        }
        let ballot = Ballot::new(1, to);
        let registration = Registration { ballot, number: g.get() };
        match request {
            Request::Read { mode, ops } => {
                let (at, read_ts, registration) = match mode {
                    ReadMode::Locking { .. } => (Timestamp::MAX, Timestamp::ZERO, Some(registration)),
                    ReadMode::Strong => {
                        let now = clock.now().unwrap().latest();
                        (now, now, None)
                    }
                    ReadMode::At(at) => (at, at, None),
                };
                let results = ops.into_iter().map(|op| self.read_op(op, at)).collect();
                Ok(Response::Read { results, read_ts, registration })
            }
            Request::Stage { txn, writes, .. } => {
                self.staged.entry((g, txn.id)).or_default().extend(writes);
                Ok(Response::Staged { registration })
            }
            Request::Commit { txn, mut writes, .. } => {
                writes.extend(self.staged.remove(&(g, txn.id)).unwrap_or_default());
                self.decide(clock, txn.id, writes, Timestamp::ZERO)
            }
            Request::Prepare { txn, mut writes, .. } => {
                writes.extend(self.staged.remove(&(g, txn.id)).unwrap_or_default());
                self.prepared.insert((g, txn.id), writes);
                Ok(Response::Voted(Vote { prepare_ts: Timestamp::from_nanos(5), max_ts: Timestamp::MAX }))
            }
            Request::Decide { txn, mut writes, window, .. } => {
                writes.extend(self.staged.remove(&(g, txn.id)).unwrap_or_default());
                self.decide(clock, txn.id, writes, window.prepare_ts)
            }
            Request::Resolve { id, outcome, .. } => {
                let writes = self.prepared.remove(&(g, id)).unwrap_or_default();
                if let Outcome::Committed(at) = outcome {
                    self.apply(writes, at);
                }
                Ok(Response::Done)
            }
            Request::QueryOutcome { id, abort_unknown, .. } => {
                if abort_unknown {
                    self.outcomes.entry(id).or_insert(Outcome::Aborted);
                }
                Ok(Response::Outcome(self.outcomes.get(&id).copied()))
            }
            Request::Split { at, new_group } => {
                let (left, right) = self.split(g, at, new_group);
                Ok(Response::Split { left, right })
            }
            Request::Fill { at, writes, .. } => {
                self.apply(writes, at);
                Ok(Response::Closed { closed: Timestamp::ZERO, through: meridian_types::Slot::ZERO })
            }
            Request::ChangeReplica { node, kind } => self.change_replica(g, node, kind),
            Request::TransferLeader { to } => {
                self.leaders.insert(g, to);
                Ok(Response::Done)
            }
            Request::CancelWaits { .. } => {
                for waiting in self.waiting.drain(..) {
                    waiting.send(Err(CallError::Shard(ShardError::LockTimeout))).ok();
                }
                Ok(Response::Done)
            }
            Request::Forget { .. }
            | Request::Rollback { .. }
            | Request::EndReads { .. }
            | Request::Heartbeat { .. } => Ok(Response::Done),
            Request::CloseTimestamp { .. } => panic!("gateways close no timestamps"),
        }
    }

    fn decide(
        &mut self,
        clock: &TestClock,
        id: TxnId,
        writes: Vec<Write>,
        low: Timestamp,
    ) -> Result<Response, ShardError> {
        if let Some(outcome) = self.outcomes.get(&id) {
            return Err(ShardError::AlreadyDecided { outcome: *outcome });
        }
        let commit_ts = clock.tick().max(low);
        self.outcomes.insert(id, Outcome::Committed(commit_ts));
        self.apply(writes, commit_ts);
        Ok(Response::Committed { commit_ts })
    }

    fn read_op(&self, op: ReadOp, at: Timestamp) -> ReadResult {
        let (span, reverse, limit) = match op {
            ReadOp::Get(key) => return ReadResult::Value(self.read(&key, at)),
            ReadOp::Scan { span, reverse, limit_rows, .. } => (span, reverse, limit_rows),
        };
        let inside = self.data.keys().filter(|key| span.contains(key.as_bytes()));
        let mut rows: Vec<_> =
            inside.filter_map(|key| self.read(key, at).map(|v| (key.clone(), v))).collect();
        if reverse {
            rows.reverse();
        }
        let is_more = rows.len() > limit;
        rows.truncate(limit);
        let resume = rows.last().filter(|_| is_more).map(|(last, _)| match reverse {
            true => Span::new(span.start.clone(), Some(last.clone())),
            false => Span::new(last.next(), span.end.clone()),
        });
        ReadResult::Rows { rows, resume }
    }

    fn name(&mut self, id: TxnId) -> String {
        let next = self.names.len() + 1;
        format!("t{}", self.names.entry(id).or_insert(next))
    }

    fn render(&mut self, request: &Request) -> String {
        let registered = |r: Option<Registration>| r.map_or(String::new(), |r| format!(" r{}", r.number));
        match request {
            Request::Read { mode, ops } => {
                let mode = match mode {
                    ReadMode::Locking { txn, mode, wait } => {
                        let mode = if *mode == LockMode::Shared { "S" } else { "X" };
                        format!("{}{} {mode} {wait:?}", self.name(txn.id), registered(txn.registration))
                    }
                    ReadMode::Strong => "strong".into(),
                    ReadMode::At(at) => format!("at {}", at.as_nanos()),
                };
                let ops: Vec<String> = ops.iter().map(render_op).collect();
                format!("Read {mode}: {}", ops.join(" "))
            }
            Request::Stage { txn, chunk, lock, writes } => {
                let (name, lock) = (self.name(txn.id), render_span(lock));
                format!(
                    "Stage {name}{} #{chunk} {lock} {} writes",
                    registered(txn.registration),
                    writes.len()
                )
            }
            Request::Commit { txn, writes, staged_chunks, max_ts } => {
                let (name, writes) = (self.name(txn.id), render_writes(writes, *staged_chunks));
                format!("Commit {name}{} {writes}{}", registered(txn.registration), render_bound(*max_ts))
            }
            Request::Prepare { txn, writes, staged_chunks, coordinator, max_ts } => {
                let (name, writes) = (self.name(txn.id), render_writes(writes, *staged_chunks));
                let (registration, bound) = (registered(txn.registration), render_bound(*max_ts));
                format!("Prepare {name}{registration} {writes} -> {}{bound}", text(coordinator))
            }
            Request::Decide { txn, writes, staged_chunks, window, participants } => {
                let (name, writes) = (self.name(txn.id), render_writes(writes, *staged_chunks));
                let participants: Vec<String> = participants.iter().map(text).collect();
                let (from, bound) = (window.prepare_ts.as_nanos(), render_bound(window.max_ts));
                let registration = registered(txn.registration);
                format!(
                    "Decide {name}{registration} {writes} from {from}{bound} tell [{}]",
                    participants.join(" ")
                )
            }
            Request::Resolve { id, outcome, .. } => match outcome {
                Outcome::Committed(_) => format!("Resolve {} committed", self.name(*id)),
                Outcome::Aborted => format!("Resolve {} aborted", self.name(*id)),
            },
            Request::Forget { id, .. } => format!("Forget {}", self.name(*id)),
            Request::Rollback { id } => format!("Rollback {}", self.name(*id)),
            Request::CancelWaits { id } => format!("CancelWaits {}", self.name(*id)),
            Request::EndReads { txn } => {
                format!("EndReads {}{}", self.name(txn.id), registered(txn.registration))
            }
            Request::Heartbeat { ids } => {
                let names: Vec<String> = ids.iter().map(|id| self.name(*id)).collect();
                format!("Heartbeat [{}]", names.join(" "))
            }
            Request::QueryOutcome { id, key, abort_unknown } => {
                format!("QueryOutcome {} at {} abort={abort_unknown}", self.name(*id), text(key))
            }
            Request::CloseTimestamp { at } => format!("CloseTimestamp {at}"),
            Request::Split { at, new_group } => format!("Split at {} into {new_group:?}", text(at)),
            Request::Fill { at, writes, .. } => {
                format!("Fill {} at {}", render_writes(writes, 0), at.as_nanos())
            }
            Request::ChangeReplica { node, kind } => format!("ChangeReplica {node:?} to {kind:?}"),
            Request::TransferLeader { to } => format!("TransferLeader to {to:?}"),
        }
    }
}

fn keys_of(request: &Request) -> Vec<Span> {
    let of_writes = |writes: &[Write]| writes.iter().map(|w| Span::point(&w.key)).collect();
    match request {
        Request::Read { ops, .. } => {
            let span = |op: &ReadOp| match op {
                ReadOp::Get(key) => Span::point(key),
                ReadOp::Scan { span, .. } => span.clone(),
            };
            ops.iter().map(span).collect()
        }
        Request::Stage { lock, .. } => vec![lock.clone()],
        Request::Commit { writes, .. }
        | Request::Prepare { writes, .. }
        | Request::Decide { writes, .. }
        | Request::Fill { writes, .. } => of_writes(writes),
        Request::QueryOutcome { key, .. }
        | Request::Split { at: key, .. }
        | Request::Forget { key, .. }
        | Request::Resolve { key: Some(key), .. } => vec![Span::point(key)],
        Request::Resolve { key: None, .. }
        | Request::Rollback { .. }
        | Request::CancelWaits { .. }
        | Request::EndReads { .. }
        | Request::Heartbeat { .. }
        | Request::CloseTimestamp { .. }
        | Request::ChangeReplica { .. }
        | Request::TransferLeader { .. } => Vec::new(),
    }
}

fn text(key: &Key) -> String {
    key.as_bytes().escape_ascii().to_string()
}

fn render_span(span: &Span) -> String {
    format!("[{},{})", text(&span.start), span.end.as_ref().map_or("~".into(), text))
}

fn render_op(op: &ReadOp) -> String {
    match op {
        ReadOp::Get(key) => text(key),
        ReadOp::Scan { span, reverse, limit_rows, .. } => {
            format!("{}{}x{limit_rows}", if *reverse { "reverse " } else { "" }, render_span(span))
        }
    }
}

fn render_writes(writes: &[Write], staged: u32) -> String {
    let write = |w: &Write| match &w.value {
        Some(value) if value.len() < 16 => format!("{}={}", text(&w.key), value.escape_ascii()),
        Some(value) => format!("{}={}B", text(&w.key), value.len()),
        None => format!("{}=x", text(&w.key)),
    };
    let writes: Vec<String> = writes.iter().map(write).collect();
    let staged = if staged == 0 { String::new() } else { format!("{staged} staged ") };
    format!("{staged}{{{}}}", writes.join(" "))
}

fn render_bound(max_ts: Timestamp) -> String {
    if max_ts == Timestamp::MAX { String::new() } else { format!(" max {}", max_ts.as_nanos()) }
}
