//! Every request against a shard of one replica, with a driver that does each output at once and a clock under the
//! test's control. What several replicas, lost messages and crashes do is the simulation's business.

#![allow(clippy::unwrap_used)]

mod hot_rows;
mod splits;

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_paxos::{Command, HardState, LogEntry, MemberKind, Persist, PersistToken};
use meridian_shard::*;
use meridian_storage::{Durability, Engine, MemoryEngine};
use meridian_types::{Duration, GroupId, Key, NodeId, Slot, Span, Timestamp, TtInterval, TxnId};

const NODE: NodeId = NodeId::new(1);
const GROUP: GroupId = GroupId::new(7);
const EPSILON: Duration = Duration::from_millis(2);

struct Shard {
    replica: Replica,
    engine: MemoryEngine,
    time: Timestamp,
    next_request: u64,
    answers: BTreeMap<RequestId, Result<Response, ShardError>>,
    recovery: Vec<Recovery>,
    created: Vec<CreateReplica>,
    /// While it is there, the data engine tells nothing of what it has applied; up to here it has.
    held: Option<Slot>,
    /// While it is there, the log's disk tells nothing; this is the last that it was given.
    held_log: Option<Option<PersistToken>>,
    out: Outputs,
    /// What the log engine has.
    hard: HardState,
    log: BTreeMap<Slot, LogEntry>,
}

fn key(text: &str) -> Key {
    Key::copy_from(text.as_bytes())
}

fn put(k: &str, v: &str) -> Write {
    Write { key: key(k), value: Some(Bytes::copy_from_slice(v.as_bytes())) }
}

fn txn(age: u64) -> TxnId {
    TxnId { first_start: Timestamp::from_nanos(age), node: NODE, seq: age }
}

fn blind(age: u64) -> TxnRef {
    TxnRef { id: txn(age), registration: None }
}

fn config(seed: u64) -> Config {
    Config { releases_at_proposal: true, ..Config::new(GROUP, NODE, seed) }
}

fn descriptor() -> ShardDescriptor {
    ShardDescriptor {
        group: GROUP,
        span: Span::ALL,
        generation: 1,
        replicas: vec![(NODE, MemberKind::Voter)],
    }
}

impl Shard {
    fn new() -> Self {
        let engine = MemoryEngine::new();
        engine.write(initial_state(&descriptor(), Timestamp::ZERO, true), Durability::Synced).unwrap();
        let recovered = recover(&engine, GROUP).unwrap().unwrap();
        Shard::start(engine, recovered, Timestamp::from_nanos(1_000_000_000_000))
    }

    /// A shard that finds a log. Its clock is past whatever was promised before.
    fn restarted(engine: MemoryEngine, recovered: Recovered) -> Self {
        Shard::start(engine, recovered, Timestamp::from_nanos(2_000_000_000_000))
    }

    fn start(engine: MemoryEngine, recovered: Recovered, time: Timestamp) -> Self {
        let is_new = recovered.entries.is_empty();
        let replica = Replica::new(config(1), recovered, Self::now_at(time));
        let mut shard = Shard {
            replica,
            engine,
            time,
            next_request: 0,
            answers: BTreeMap::new(),
            recovery: Vec::new(),
            created: Vec::new(),
            held: None,
            held_log: None,
            out: Outputs::default(),
            hard: HardState::default(),
            log: BTreeMap::new(),
        };
        if is_new {
            shard.step(Input::Campaign);
            shard.pass(Duration::from_millis(10));
        } else {
            // A voter abstains for a lease after a restart.
            shard.pass(Duration::from_secs(20));
        }
        assert!(shard.replica.status(shard.now()).is_leader, "a group of one elects itself");
        shard
    }

    fn now_at(time: Timestamp) -> Now {
        let tt = TtInterval::new(time.saturating_sub(EPSILON), time + EPSILON);
        Now { mono: time, tt: Some(tt) }
    }

    fn now(&self) -> Now {
        Self::now_at(self.time)
    }

    fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let now = self.now();
            self.replica.step(input, now, &self.engine, &mut self.out);
            let out = std::mem::take(&mut self.out);
            self.replica.check_invariants();
            assert!(out.send.is_empty() && out.send_after_persist.is_empty(), "there is nobody to send to");
            for persist in &out.persist {
                match persist {
                    Persist::HardState(hard) => self.hard = hard.clone(),
                    Persist::Entries(entries) => {
                        self.log.extend(entries.iter().map(|entry| (entry.slot, entry.clone())));
                    }
                    Persist::Truncate(_) => {}
                }
            }
            if !out.persist.is_empty() {
                match &mut self.held_log {
                    Some(held) => *held = Some(out.token),
                    None => inputs.push(Input::Persisted(out.token)),
                }
            }
            if let Some(last) = out.apply.last().map(|a| a.slot) {
                match &mut self.held {
                    Some(held) => *held = last,
                    None => inputs.push(Input::Applied(last)),
                }
            }
            for apply in out.apply {
                self.engine.write(apply.batch, Durability::Buffered).unwrap();
            }
            for read in &out.serve {
                let answer = serve(&self.engine, read).unwrap();
                assert!(self.answers.insert(read.id, Ok(answer)).is_none(), "answered twice");
            }
            for (id, answer) in out.replies {
                assert!(self.answers.insert(id, answer).is_none(), "{id:?} is answered twice");
            }
            self.recovery.extend(out.recovery);
            self.created.extend(out.create);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.time + time;
        while let Some(wake) = self.replica.next_wake().filter(|w| *w <= end) {
            self.time = self.time.max(wake) + Duration::from_nanos(1);
            self.step(Input::Tick);
        }
        self.time = self.time.max(end);
        self.step(Input::Tick);
    }

    fn ask(&mut self, request: Request) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.step(Input::Request { id, request });
        id
    }

    fn answer(&mut self, id: RequestId) -> Result<Response, ShardError> {
        self.answers.remove(&id).expect("answered")
    }

    /// Asks, lets time pass until commit wait is over, and takes the answer.
    fn call(&mut self, request: Request) -> Result<Response, ShardError> {
        let id = self.ask(request);
        self.pass(Duration::from_millis(20));
        self.answer(id)
    }

    fn commit(&mut self, txn: TxnRef, writes: Vec<Write>) -> Result<Timestamp, ShardError> {
        let max_ts = Timestamp::MAX;
        match self.call(Request::Commit { txn, writes, staged_chunks: 0, max_ts })? {
            Response::Committed { commit_ts } => Ok(commit_ts),
            other => panic!("a commit was answered with {other:?}"),
        }
    }

    fn prepare(&mut self, txn: TxnRef, writes: Vec<Write>) -> Result<Vote, ShardError> {
        let (coordinator, max_ts) = (key("zz"), Timestamp::MAX);
        match self.call(Request::Prepare { txn, writes, staged_chunks: 0, coordinator, max_ts })? {
            Response::Voted(vote) => Ok(vote),
            other => panic!("a prepare was answered with {other:?}"),
        }
    }

    fn lock(&mut self, txn: TxnRef, mode: LockMode, ops: Vec<ReadOp>) -> RequestId {
        self.ask(Request::Read { mode: ReadMode::Locking { txn, mode, wait: WaitPolicy::Wait }, ops })
    }

    fn locked(&mut self, id: RequestId) -> (Vec<ReadResult>, Registration) {
        match self.answer(id) {
            Ok(Response::Read { results, registration: Some(r), .. }) => (results, r),
            other => panic!("a locking read was answered with {other:?}"),
        }
    }

    fn strong(&mut self, k: &str) -> (Option<Bytes>, Timestamp) {
        let ops = vec![ReadOp::Get(key(k))];
        match self.call(Request::Read { mode: ReadMode::Strong, ops }) {
            Ok(Response::Read { mut results, read_ts, .. }) => match results.remove(0) {
                ReadResult::Value(value) => (value, read_ts),
                other => panic!("{other:?}"),
            },
            other => panic!("a strong read was answered with {other:?}"),
        }
    }
}

fn get(k: &str) -> Vec<ReadOp> {
    vec![ReadOp::Get(key(k))]
}

fn aborted(reason: AbortReason) -> ShardError {
    ShardError::Aborted { reason }
}

#[test]
fn a_commit_is_answered_after_its_timestamp_has_passed() {
    let mut shard = Shard::new();
    let writes = vec![put("a", "1")];
    let id = shard.ask(Request::Commit { txn: blind(1), writes, staged_chunks: 0, max_ts: Timestamp::MAX });
    assert!(!shard.answers.contains_key(&id), "commit wait takes at least two epsilons");
    shard.pass(Duration::from_millis(3));
    assert!(!shard.answers.contains_key(&id), "commit wait takes at least two epsilons");
    let now = shard.now();
    assert_eq!(
        shard.replica.try_strong_read(&get("a"), now),
        Some(Timestamp::ZERO),
        "it is not answered yet"
    );
    shard.pass(Duration::from_millis(3));
    let Ok(Response::Committed { commit_ts }) = shard.answer(id) else { panic!("not committed") };
    assert!(shard.now().tt.unwrap().after(commit_ts));
    assert_eq!(shard.strong("a"), (Some(Bytes::from_static(b"1")), commit_ts));
    let now = shard.now();
    assert_eq!(shard.replica.try_strong_read(&get("a"), now), Some(commit_ts));
}

#[test]
fn a_repeated_commit_is_answered_alike() {
    let mut shard = Shard::new();
    let first = shard.commit(blind(1), vec![put("a", "1")]).unwrap();
    assert!(shard.commit(blind(2), vec![put("a", "2")]).unwrap() > first);
    assert_eq!(shard.commit(blind(1), vec![put("a", "1")]), Ok(first));
    assert_eq!(shard.strong("a").0.as_deref(), Some(&b"2"[..]));
}

#[test]
fn an_older_transaction_wounds_and_the_victim_learns_of_it() {
    let mut shard = Shard::new();
    let young = shard.lock(blind(20), LockMode::Exclusive, get("a"));
    let (_, registration) = shard.locked(young);
    let old = shard.lock(blind(10), LockMode::Shared, get("a"));
    shard.locked(old);
    let victim = TxnRef { id: txn(20), registration: Some(registration) };
    assert_eq!(shard.commit(victim, vec![put("a", "1")]), Err(aborted(AbortReason::LocksLost)));
    let end = Request::EndReads { txn: blind(10) };
    assert_eq!(shard.call(end), Ok(Response::Done));
}

#[test]
fn waits_are_cancelled_and_nothing_else_is() {
    let mut shard = Shard::new();
    let old = shard.lock(blind(10), LockMode::Exclusive, get("a"));
    let (_, registration) = shard.locked(old);
    let young = shard.lock(blind(20), LockMode::Exclusive, get("b"));
    let (_, young_registration) = shard.locked(young);
    let young = TxnRef { id: txn(20), registration: Some(young_registration) };
    let waits = shard.lock(young, LockMode::Exclusive, get("a"));
    // A commit waits in the same way, and is refused for certain.
    let writes = vec![put("a", "2")];
    let commit = Request::Commit { txn: blind(30), writes, staged_chunks: 0, max_ts: Timestamp::MAX };
    let blind_commit = shard.ask(commit.clone());
    for id in [20, 30] {
        assert_eq!(shard.call(Request::CancelWaits { id: txn(id) }), Ok(Response::Done));
    }
    assert_eq!(shard.answer(waits), Err(ShardError::LockTimeout));
    assert_eq!(shard.answer(blind_commit), Err(ShardError::LockTimeout));
    // What does not wait goes on: the holder, and what the younger one holds.
    assert_eq!(shard.call(Request::CancelWaits { id: txn(10) }), Ok(Response::Done));
    let older = TxnRef { id: txn(10), registration: Some(registration) };
    let committing = vec![put("a", "1")];
    let id = shard.ask(Request::Commit {
        txn: older,
        writes: committing,
        staged_chunks: 0,
        max_ts: Timestamp::MAX,
    });
    assert_eq!(shard.call(Request::CancelWaits { id: txn(10) }), Ok(Response::Done));
    assert!(matches!(shard.answer(id), Ok(Response::Committed { .. })));
    shard.commit(young, vec![put("b", "1")]).unwrap();
    assert!(matches!(shard.call(commit), Ok(Response::Committed { .. })), "it may be tried again");
}

#[test]
fn a_younger_transaction_waits_and_reads_what_the_older_wrote() {
    let mut shard = Shard::new();
    let old = shard.lock(blind(10), LockMode::Exclusive, get("a"));
    let (_, registration) = shard.locked(old);
    let young = shard.lock(blind(20), LockMode::Shared, vec![scan("a", "c")]);
    assert!(!shard.answers.contains_key(&young));
    let older = TxnRef { id: txn(10), registration: Some(registration) };
    shard.commit(older, vec![put("a", "1")]).unwrap();
    let (results, _) = shard.locked(young);
    let rows = vec![(key("a"), Bytes::from_static(b"1"))];
    assert_eq!(results, vec![ReadResult::Rows { rows, resume: None }]);
}

fn scan(from: &str, to: &str) -> ReadOp {
    let span = Span::new(key(from), Some(key(to)));
    ReadOp::Scan { span, reverse: false, limit_rows: 10, limit_bytes: 1 << 20 }
}

#[test]
fn a_scan_under_locks_keeps_phantoms_out() {
    let mut shard = Shard::new();
    let old = shard.lock(blind(10), LockMode::Shared, vec![scan("a", "c")]);
    shard.locked(old);
    let insert = Request::Commit {
        txn: blind(20),
        writes: vec![put("b", "1")],
        staged_chunks: 0,
        max_ts: Timestamp::MAX,
    };
    let insert = shard.ask(insert);
    shard.pass(Duration::from_millis(50));
    assert!(!shard.answers.contains_key(&insert), "the insert waits for the scan's lock");
    assert_eq!(shard.call(Request::Rollback { id: txn(10) }), Ok(Response::Done));
    assert!(shard.answer(insert).is_ok());
}

#[test]
fn two_phase_commit_at_a_participant() {
    let mut shard = Shard::new();
    shard.commit(blind(1), vec![put("a", "0")]).unwrap();
    let vote = shard.prepare(blind(10), vec![put("a", "1")]).unwrap();
    assert_eq!(vote.max_ts, Timestamp::MAX);
    // A strong read must not guess.
    let strong = shard.ask(Request::Read { mode: ReadMode::Strong, ops: get("a") });
    shard.pass(Duration::from_millis(20));
    assert!(!shard.answers.contains_key(&strong));
    let below = Request::Read { mode: ReadMode::At(vote.prepare_ts.prev()), ops: get("a") };
    assert!(shard.call(below).is_ok(), "below the prepare timestamp nothing can come");
    // An older transaction waits for a prepared one.
    let older = shard.lock(blind(5), LockMode::Shared, get("a"));
    assert!(!shard.answers.contains_key(&older));
    let s = vote.prepare_ts + Duration::from_millis(1);
    let resolve = Request::Resolve { id: txn(10), outcome: Outcome::Committed(s), key: None };
    assert_eq!(shard.call(resolve.clone()), Ok(Response::Done));
    assert_eq!(shard.locked(older).0, vec![ReadResult::Value(Some(Bytes::from_static(b"1")))]);
    let Ok(Response::Read { read_ts, results, .. }) = shard.answer(strong) else { panic!("not read") };
    assert_eq!((read_ts, results), (s, vec![ReadResult::Value(Some(Bytes::from_static(b"1")))]));
    assert_eq!(shard.call(resolve), Ok(Response::Done), "telling again does no harm");
}

#[test]
fn a_vote_over_read_locks_ends_with_the_lease() {
    let mut shard = Shard::new();
    let read = shard.lock(blind(10), LockMode::Shared, get("r"));
    let (_, registration) = shard.locked(read);
    let txn = TxnRef { id: txn(10), registration: Some(registration) };
    let vote = shard.prepare(txn, vec![]).unwrap();
    let lease_end = shard.replica.status(shard.now()).lease_end.unwrap();
    assert!(vote.max_ts < lease_end);
    let older = shard.ask(Request::Commit {
        txn: blind(5),
        writes: vec![put("r", "1")],
        staged_chunks: 0,
        max_ts: Timestamp::MAX,
    });
    shard.pass(Duration::from_millis(50));
    assert!(!shard.answers.contains_key(&older), "a voted transaction is not wounded");
    let outcome = Outcome::Committed(vote.prepare_ts);
    assert_eq!(shard.call(Request::Resolve { id: txn.id, outcome, key: None }), Ok(Response::Done));
    assert!(shard.answer(older).is_ok());
}

#[test]
fn a_preparing_transaction_does_not_wait_for_an_older_one() {
    let mut shard = Shard::new();
    let old = shard.lock(blind(5), LockMode::Shared, get("a"));
    shard.locked(old);
    assert_eq!(shard.prepare(blind(10), vec![put("a", "1")]), Err(aborted(AbortReason::WouldDeadlock)));
}

fn decide(age: u64, prepare_ts: Timestamp) -> Request {
    Request::Decide {
        txn: blind(age),
        writes: vec![put("c", "1")],
        staged_chunks: 0,
        window: Vote { prepare_ts, max_ts: Timestamp::MAX },
        participants: vec![key("p")],
    }
}

#[test]
fn a_decision_lies_above_every_vote_and_is_kept_until_forgotten() {
    let mut shard = Shard::new();
    let prepare_ts = shard.time + Duration::from_millis(10);
    let Ok(Response::Committed { commit_ts }) = shard.call(decide(10, prepare_ts)) else {
        panic!("not decided")
    };
    assert!(commit_ts >= prepare_ts);
    let outcome = Outcome::Committed(commit_ts);
    let query = Request::QueryOutcome { id: txn(10), key: key("c"), abort_unknown: true };
    assert_eq!(shard.call(query.clone()), Ok(Response::Outcome(Some(outcome))));
    shard.pass(Duration::from_millis(1_500));
    let here = Key::MIN;
    let participants = vec![key("p")];
    assert_eq!(shard.recovery, vec![Recovery::TellParticipants { id: txn(10), outcome, participants, here }]);
    assert_eq!(shard.call(Request::Forget { key: key("zz"), id: txn(10) }), Ok(Response::Done));
    shard.recovery.clear();
    shard.pass(Duration::from_millis(10_000));
    assert_eq!(shard.recovery, vec![]);
    assert_eq!(shard.call(query), Ok(Response::Outcome(Some(outcome))), "late questions are answered");
}

#[test]
fn an_abort_by_recovery_beats_a_late_decision() {
    let mut shard = Shard::new();
    let query = Request::QueryOutcome { id: txn(10), key: key("c"), abort_unknown: true };
    assert_eq!(shard.call(query), Ok(Response::Outcome(Some(Outcome::Aborted))));
    let late = shard.call(decide(10, Timestamp::ZERO));
    assert_eq!(late, Err(ShardError::AlreadyDecided { outcome: Outcome::Aborted }));
    assert_eq!(shard.strong("c").0, None);
}

#[test]
fn a_prepared_transaction_that_hears_nothing_asks() {
    let mut shard = Shard::new();
    shard.prepare(blind(10), vec![put("a", "1")]).unwrap();
    shard.pass(Duration::from_millis(2_000));
    let expected = Recovery::AskOutcome { id: txn(10), coordinator: key("zz"), here: key("a") };
    assert_eq!(shard.recovery.first(), Some(&expected));
}

#[test]
fn staged_chunks_commit_with_their_transaction_or_vanish() {
    let mut shard = Shard::new();
    let lock = Span::new(key("a"), Some(key("c")));
    let stage = |chunk, registration| Request::Stage {
        txn: TxnRef { id: txn(10), registration },
        chunk,
        lock: lock.clone(),
        writes: vec![put("a", if chunk == 0 { "old" } else { "new" })],
    };
    let Ok(Response::Staged { registration }) = shard.call(stage(0, None)) else { panic!("not staged") };
    shard.call(stage(1, Some(registration))).unwrap();
    let txn10 = TxnRef { id: txn(10), registration: Some(registration) };
    let writes = vec![put("b", "2")];
    let commit = Request::Commit { txn: txn10, writes, staged_chunks: 2, max_ts: Timestamp::MAX };
    assert!(matches!(shard.call(commit), Ok(Response::Committed { .. })));
    assert_eq!(shard.strong("a").0.as_deref(), Some(&b"new"[..]));
    assert_eq!(shard.strong("b").0.as_deref(), Some(&b"2"[..]));
    shard.call(Request::Stage { txn: blind(20), chunk: 0, lock, writes: vec![put("a", "lost")] }).unwrap();
    shard.call(Request::Rollback { id: txn(20) }).unwrap();
    let recovered = recover(&shard.engine, GROUP).unwrap().unwrap();
    assert_eq!(recovered.staged, vec![]);
    assert_eq!(shard.strong("a").0.as_deref(), Some(&b"new"[..]));
}

#[test]
fn what_waits_for_the_engine_asks_for_no_timer() {
    let mut shard = Shard::new();
    let lock = Span::new(key("a"), Some(key("c")));
    let stage = Request::Stage { txn: blind(10), chunk: 0, lock, writes: vec![put("a", "1")] };
    let Ok(Response::Staged { registration }) = shard.call(stage) else { panic!("not staged") };
    shard.held = Some(Slot::ZERO);
    let plain = Request::Commit {
        txn: blind(11),
        writes: vec![put("x", "1")],
        staged_chunks: 0,
        max_ts: Timestamp::MAX,
    };
    let plain = shard.ask(plain);
    let txn = TxnRef { id: txn(10), registration: Some(registration) };
    let commit = Request::Commit { txn, writes: vec![], staged_chunks: 1, max_ts: Timestamp::MAX };
    let commit = shard.ask(commit);
    shard.time += Duration::from_millis(20);
    shard.step(Input::Tick);
    assert!(
        shard.answers.is_empty(),
        "the engine has not said that it has the first, and the second needs that"
    );
    let wake = shard.replica.next_wake().expect("a leader renews its lease");
    assert!(wake > shard.time, "the gate has opened, and to look again changes nothing");
    let applied = shard.held.take().expect("the first commit");
    shard.step(Input::Applied(applied));
    assert!(matches!(shard.answer(plain), Ok(Response::Committed { .. })));
    assert!(matches!(shard.answer(commit), Ok(Response::Committed { .. })));
}

#[test]
fn nowait_and_skip_locked() {
    let mut shard = Shard::new();
    shard.commit(blind(1), vec![put("a", "1"), put("b", "2"), put("c", "3")]).unwrap();
    let held = shard.lock(blind(10), LockMode::Exclusive, get("a"));
    shard.locked(held);
    let ask = |wait, op| Request::Read {
        mode: ReadMode::Locking { txn: blind(5), mode: LockMode::Exclusive, wait },
        ops: vec![op],
    };
    let nowait = ask(WaitPolicy::NoWait, ReadOp::Get(key("a")));
    assert_eq!(shard.call(nowait), Err(ShardError::WouldBlock));
    let one = ReadOp::Scan { span: Span::ALL, reverse: false, limit_rows: 1, limit_bytes: 1 << 20 };
    let id = shard.ask(ask(WaitPolicy::SkipLocked, one));
    let (results, _) = shard.locked(id);
    let rows = vec![(key("b"), Bytes::from_static(b"2"))];
    let resume = Some(Span::new(key("b").next(), None));
    assert_eq!(results, vec![ReadResult::Rows { rows, resume }]);
    let held: Vec<Span> = shard.replica.locks().into_iter().map(|l| l.span).collect();
    assert_eq!(held, vec![Span::point(&key("a")), Span::point(&key("b"))], "only the returned row is locked");
}

#[test]
fn a_read_at_a_timestamp_pushes_later_commits_above_it() {
    let mut shard = Shard::new();
    let at = shard.time + Duration::from_millis(100);
    let read = Request::Read { mode: ReadMode::At(at), ops: get("a") };
    assert!(shard.call(read).is_ok());
    let writes = vec![put("a", "1")];
    let id = shard.ask(Request::Commit { txn: blind(1), writes, staged_chunks: 0, max_ts: Timestamp::MAX });
    shard.pass(Duration::from_millis(150));
    let Ok(Response::Committed { commit_ts }) = shard.answer(id) else { panic!("not committed") };
    assert!(commit_ts > at);
    let far = shard.time + Duration::from_secs(9);
    let read = Request::Read { mode: ReadMode::At(far), ops: get("a") };
    assert_eq!(shard.call(read), Err(ShardError::InFuture { at: far }));
}

#[test]
fn a_bound_that_leaves_no_timestamp_aborts() {
    let mut shard = Shard::new();
    let max_ts = shard.time.saturating_sub(Duration::from_secs(1));
    let commit = Request::Commit { txn: blind(1), writes: vec![put("a", "1")], staged_chunks: 0, max_ts };
    assert_eq!(shard.call(commit), Err(aborted(AbortReason::NoTimestamp)));
    assert_eq!(shard.replica.locks(), vec![]);
}

#[test]
fn a_silent_transaction_loses_its_locks_and_a_heard_one_keeps_them() {
    let mut shard = Shard::new();
    let a = shard.lock(blind(10), LockMode::Exclusive, get("a"));
    let b = shard.lock(blind(11), LockMode::Exclusive, get("b"));
    shard.locked(a);
    shard.locked(b);
    for _ in 0..7 {
        shard.pass(Duration::from_millis(1_000));
        shard.call(Request::Heartbeat { ids: vec![txn(11)] }).unwrap();
    }
    let holders: Vec<TxnId> = shard.replica.locks().into_iter().map(|l| l.txn).collect();
    assert_eq!(holders, vec![txn(11)]);
}

/// Holder and waiter are silent for equally long. The end of the first lets the second's commit go on, and from then on
/// it is nobody's to drop.
#[test]
fn a_commit_that_a_silent_holder_let_go_goes_on() {
    let mut shard = Shard::new();
    let holder = shard.lock(blind(10), LockMode::Exclusive, get("a"));
    shard.locked(holder);
    let writes = vec![put("a", "1")];
    let commit = Request::Commit { txn: blind(20), writes, staged_chunks: 0, max_ts: Timestamp::MAX };
    let commit = shard.ask(commit);
    while shard.replica.locks().iter().any(|l| l.txn == txn(10)) {
        shard.pass(Duration::from_millis(1));
    }
    assert!(!shard.answers.contains_key(&commit), "the commit is in flight");
    shard.pass(Duration::from_millis(20));
    assert!(matches!(shard.answer(commit), Ok(Response::Committed { .. })));
}

#[test]
fn reads_below_the_horizon_are_refused_and_the_horizon_outlives_splits_and_restarts() {
    let mut shard = Shard::new();
    let first = shard.commit(blind(1), vec![put("a", "1")]).unwrap();
    let second = shard.commit(blind(2), vec![put("a", "2")]).unwrap();
    let read = |at| Request::Read { mode: ReadMode::At(at), ops: get("a") };
    shard.step(Input::Collect(shard.time + Duration::from_millis(1)));
    assert!(shard.call(read(first)).is_ok(), "a horizon in the future is no horizon");

    shard.step(Input::Collect(second));
    let refused = ShardError::BelowHorizon { at: first, horizon: second };
    assert_eq!(shard.call(read(first)).unwrap_err(), refused);
    assert!(shard.call(read(second)).is_ok());

    let third = shard.commit(blind(3), vec![put("a", "3")]).unwrap();
    let horizon = third + Duration::from_millis(1);
    shard.step(Input::Collect(horizon));
    assert_eq!(shard.strong("a"), (Some(Bytes::from_static(b"3")), horizon), "above the newest commit");
    assert!(!shard.replica.wants_horizon(horizon.next()), "nothing was written since");

    shard.step(Input::Collect(first));
    assert_eq!(shard.replica.gc_horizon(), horizon, "a horizon never falls");

    shard.call(Request::Split { at: key("m"), new_group: GroupId::new(8) }).unwrap();
    for group in [GROUP, GroupId::new(8)] {
        assert_eq!(recover(&shard.engine, group).unwrap().unwrap().gc_horizon, horizon);
    }
}

#[test]
fn a_fill_lies_beneath_what_is_newer_and_meets_nobody() {
    let mut shard = Shard::new();
    let before = shard.commit(blind(1), vec![put("row", "0")]).unwrap();
    shard.pass(Duration::from_millis(10));
    shard.commit(blind(2), vec![put("b", "live"), Write { key: key("c"), value: None }]).unwrap();
    let locked = shard.lock(blind(10), LockMode::Exclusive, get("a"));
    shard.locked(locked);
    let (_, shown) = shard.strong("row");

    let fill = |at, until| Request::Fill {
        at,
        until,
        writes: vec![put("a", "fill"), put("b", "fill"), put("c", "fill")],
    };
    let until = shard.time + Duration::from_secs(1);
    let filled = shard.call(fill(before, until));
    assert!(matches!(filled, Ok(Response::Closed { .. })), "{filled:?}");
    assert_eq!(shard.strong("row").1, shown, "what is shown does not move");
    let newest = |k: &str| meridian_mvcc_get(&shard.engine, k, Timestamp::MAX);
    let then = |k: &str| meridian_mvcc_get(&shard.engine, k, before);
    assert_eq!(newest("a").as_deref(), Some(&b"fill"[..]), "beneath a lock");
    assert_eq!(newest("b").as_deref(), Some(&b"live"[..]));
    assert_eq!(newest("c"), None, "a deletion stays one");
    assert!(["a", "b", "c"].iter().all(|k| then(k).as_deref() == Some(&b"fill"[..])));

    let late = shard.call(fill(before, shard.time.saturating_sub(Duration::from_secs(1))));
    assert_eq!(late, Err(ShardError::Aborted { reason: AbortReason::NoTimestamp }));
    let ahead = shard.time + Duration::from_millis(500);
    assert_eq!(shard.call(fill(ahead, until)), Err(ShardError::InFuture { at: ahead }));
}

fn meridian_mvcc_get(engine: &MemoryEngine, k: &str, at: Timestamp) -> Option<Bytes> {
    meridian_mvcc::get(engine, k.as_bytes(), at).unwrap().map(|(_, value)| value)
}

#[test]
fn a_fill_says_what_followers_may_believe_and_is_refused_beyond_its_shard() {
    let mut shard = Shard::new();
    let before = shard.commit(blind(1), vec![put("a", "0")]).unwrap();
    shard.pass(Duration::from_millis(10));
    let ahead = shard.time + Duration::from_millis(300);
    shard.call(Request::CloseTimestamp { at: ahead }).unwrap();
    let until = shard.time + Duration::from_secs(1);
    let fill = |k: &str| Request::Fill { at: before, until, writes: vec![put(k, "fill")] };
    let Ok(Response::Closed { closed, through }) = shard.call(fill("z")) else { panic!("filled") };
    assert_eq!(closed, ahead, "a follower may serve up to here without the fill");
    let next = shard.call(Request::CloseTimestamp { at: ahead.next() });
    let Ok(Response::Closed { through: later, .. }) = next else { panic!("{next:?}") };
    assert!(later >= through, "and above it only with the fill");

    shard.call(Request::Split { at: key("m"), new_group: GroupId::new(8) }).unwrap();
    assert!(matches!(shard.call(fill("z")), Err(ShardError::WrongShard { .. })));
    assert!(shard.call(fill("b")).is_ok());
}

#[test]
fn a_restart_finds_prepared_transactions_locked() {
    let mut shard = Shard::new();
    shard.prepare(blind(10), vec![put("a", "1")]).unwrap();
    let recovered = recover(&shard.engine, GROUP).unwrap().unwrap();
    assert_eq!(recovered.prepared.len(), 1);
    let later = Shard::now_at(shard.time);
    shard.replica = Replica::new(config(2), recovered, later);
    shard.step(Input::Campaign);
    shard.pass(Duration::from_secs(10));
    let locked = shard.replica.locks();
    assert_eq!(locked.len(), 1);
    assert_eq!((locked[0].txn, locked[0].span.clone()), (txn(10), Span::point(&key("a"))));
    let s = shard.time;
    let resolve = Request::Resolve { id: txn(10), outcome: Outcome::Committed(s), key: None };
    assert_eq!(shard.call(resolve), Ok(Response::Done));
    assert_eq!(shard.strong("a"), (Some(Bytes::from_static(b"1")), s));
}

/// The outcome of a prepared transaction is on its way into the data engine when another copy of its prepare arrives.
#[test]
fn a_prepare_that_comes_between_outcome_and_engine_hears_the_outcome() {
    let mut shard = Shard::new();
    shard.prepare(blind(10), vec![put("a", "1")]).unwrap();
    shard.held = Some(Slot::ZERO);
    let resolve = shard.ask(Request::Resolve { id: txn(10), outcome: Outcome::Aborted, key: None });
    let (writes, coordinator) = (vec![put("a", "1")], key("zz"));
    let late =
        Request::Prepare { txn: blind(10), writes, staged_chunks: 0, coordinator, max_ts: Timestamp::MAX };
    let late = shard.ask(late);
    assert!(shard.answers.is_empty(), "nothing is known before the engine has it");
    let applied = shard.held.take().unwrap();
    shard.step(Input::Applied(applied));
    assert_eq!(shard.answer(resolve), Ok(Response::Done));
    assert_eq!(shard.answer(late), Err(aborted(AbortReason::ByRecovery)));
}

/// The first that a leader hears after its lease is that a prepare record is applied, whose outcome waits for that.
#[test]
fn an_outcome_that_waited_is_not_proposed_after_the_lease() {
    let mut shard = Shard::new();
    shard.held = Some(Slot::ZERO);
    let (writes, coordinator) = (vec![put("a", "1")], key("zz"));
    let prepare =
        Request::Prepare { txn: blind(10), writes, staged_chunks: 0, coordinator, max_ts: Timestamp::MAX };
    shard.ask(prepare);
    let resolve = shard.ask(Request::Resolve { id: txn(10), outcome: Outcome::Aborted, key: None });
    let applied = shard.held.take().unwrap();
    shard.time += Duration::from_secs(60);
    shard.step(Input::Applied(applied));
    assert!(shard.answer(resolve).is_err(), "nobody leads who could log it");
}
