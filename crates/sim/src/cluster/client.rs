//! A gateway: runs one transaction after the other, keeps what it was told, and vanishes now and then.
//!
//! It talks to shards by calls that may be lost, late or refused. Requests are never duplicated by the network (they
//! travel over connections), but a gateway that hears nothing sends them again under the same transaction id; from then
//! on a refusal proves nothing, and it asks for the outcome instead.
//!
//! It goes by what shards tell it, as the gateway of the product does: where a transaction has read is asked at its end
//! whether its locks stand, whoever has the keys by then. The map of the shards only says whom to ask first.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meridian_catalog::{CatalogGuard, CommitPermit, IndexState};
use meridian_shard::{
    LockMode, Outcome, ReadMode, ReadOp, ReadResult, Registration, Request, Response, ShardError, TxnRef,
    Vote, WaitPolicy, Write,
};
use meridian_types::{Duration, GroupId, Key, NodeId, SeededRng, Timestamp, TtInterval, TxnId};

use super::Stats;
use super::checker::{Known, Observed, Op};
use super::planted::SchemaBug;
use super::schema::{Change, Gateway, Mail, Maintenance};

const CALL_TIMEOUT: Duration = Duration::from_millis(250);
const ATTEMPTS_MAX: u32 = 5;

/// Where a call goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    Leader,
    Any,
    Node(NodeId),
}

/// What a gateway sees of the world.
pub(super) struct World<'a> {
    pub(super) now: Timestamp,
    pub(super) tt: Option<TtInterval>,
    pub(super) rng: &'a mut SeededRng,
    pub(super) shards: &'a BTreeMap<Key, GroupId>,
    pub(super) history: &'a mut Vec<Op>,
    pub(super) stats: &'a mut Stats,
    pub(super) next_call: &'a mut u64,
    pub(super) outbox: &'a mut Vec<(u64, GroupId, Route, Request)>,
    /// To other gateways.
    pub(super) mail: &'a mut Vec<(usize, Mail)>,
    /// The gateway that changes the schema, and how many changes there were.
    pub(super) changing: &'a mut (Option<usize>, u64),
    pub(super) clients: usize,
    pub(super) has_schema: bool,
    pub(super) schema_bug: Option<SchemaBug>,
    /// When the gateway wants to be woken, at the latest.
    pub(super) timer: &'a mut Option<Timestamp>,
    pub(super) keys: u64,
    /// Rests for up to this long between two transactions.
    pub(super) pause: Duration,
    pub(super) vanishes: bool,
    /// No new transactions.
    pub(super) is_over: bool,
}

impl World<'_> {
    fn group_of(&self, key: &Key) -> GroupId {
        *self.shards.range::<Key, _>(..=key).next_back().expect("some shard holds every key").1
    }

    /// Sends a request that whoever keeps its number answers for.
    pub(super) fn send(&mut self, key: &Key, route: Route, request: Request) -> u64 {
        *self.next_call += 1;
        let call = *self.next_call;
        self.send_again(call, key, route, request);
        call
    }

    pub(super) fn send_again(&mut self, call: u64, key: &Key, route: Route, request: Request) {
        let group = self.group_of(key);
        self.outbox.push((call, group, route, request));
    }

    pub(super) fn post(&mut self, to: usize, mail: Mail) {
        self.mail.push((to, mail));
    }

    pub(super) fn has_bug(&self, bug: SchemaBug) -> bool {
        self.schema_bug == Some(bug)
    }

    pub(super) fn sleep(&mut self, time: Duration) {
        let at = self.now + time;
        *self.timer = Some(self.timer.map_or(at, |t| t.min(at)));
    }
}

#[derive(Clone, Debug)]
struct Call {
    key: Key,
    group: GroupId,
    request: Request,
    attempts: u32,
    route: Route,
    /// Sent again (or given up) at this time.
    due: Timestamp,
}

impl Call {
    /// What is asked of locks that are held concerns the shard that has granted them, whoever has the key by now.
    fn is_bound(&self) -> bool {
        match &self.request {
            Request::Read { mode: ReadMode::Locking { txn, .. }, .. }
            | Request::Commit { txn, .. }
            | Request::Prepare { txn, .. }
            | Request::Decide { txn, .. } => txn.registration.is_some(),
            Request::Resolve { key, .. } => key.is_none(),
            _ => false,
        }
    }

    /// The shard to send it to again.
    fn group_now(&self, w: &World<'_>) -> GroupId {
        if self.is_bound() { self.group } else { w.group_of(&self.key) }
    }
}

#[derive(Clone, Debug)]
struct Access {
    key: Key,
    read: Option<LockMode>,
    write: Option<Bytes>,
}

#[derive(Debug)]
enum Stage {
    Reading,
    /// Thinks before it goes on.
    Thinking(Timestamp),
    Committing,
    Preparing {
        votes: Vec<Vote>,
    },
    /// Has all votes and dawdles.
    Dawdling(Timestamp),
    Deciding,
    Asking,
    Resolving,
}

#[derive(Debug)]
struct Txn {
    id: TxnId,
    begin: Timestamp,
    steps: Vec<Access>,
    at: usize,
    /// Of every shard that was read from, with a key that was read there.
    registrations: BTreeMap<GroupId, (Registration, Key)>,
    reads: Observed,
    stage: Stage,
    participants: BTreeMap<GroupId, (Key, Vec<Write>)>,
    logged: Vec<Key>,
    coordinator: Option<(GroupId, Key, Vec<Write>)>,
    window: Vote,
    /// A commit or decision was sent more than once.
    is_doubtful: bool,
    is_recorded: bool,
    outcome: Option<Outcome>,
    /// What it was planned on, and how that bounds its commit.
    guard: Option<CatalogGuard>,
    permit: Option<CommitPermit>,
}

impl Txn {
    fn reference(&self, group: GroupId) -> TxnRef {
        TxnRef { id: self.id, registration: self.registrations.get(&group).map(|(r, _)| *r) }
    }
}

#[derive(Debug)]
struct Snapshot {
    begin: Timestamp,
    /// `None` for a strong read.
    at: Option<Timestamp>,
    is_present: bool,
    reads: Observed,
    leader_served: bool,
}

#[derive(Debug)]
enum State {
    Idle(Timestamp),
    Reads(Snapshot),
    Txn(Box<Txn>),
}

pub(super) struct Client {
    index: u32,
    seq: u64,
    state: State,
    calls: BTreeMap<u64, Call>,
    schema: Gateway,
    change: Option<Change>,
}

pub(super) fn key(n: u64) -> Key {
    Key::new(format!("k{n:02}").into_bytes())
}

impl Client {
    pub(super) fn new(index: u32) -> Self {
        Client {
            index,
            seq: 0,
            state: State::Idle(Timestamp::ZERO),
            calls: BTreeMap::new(),
            schema: Gateway::default(),
            change: None,
        }
    }

    /// True when nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle(_)) && self.change.is_none()
    }

    /// Keeps the schema lease, and goes on with a change that this gateway coordinates.
    fn wake_schema(&mut self, w: &mut World<'_>) {
        if !w.has_schema {
            return;
        }
        self.schema.wake(w);
        if let Some(change) = &mut self.change {
            change.wake(w);
        } else if w.changing.0.is_none() && !w.is_over && w.rng.chance(1, 20) {
            w.changing.1 += 1;
            w.changing.0 = Some(self.index as usize);
            self.change = Some(Change::begin(self.index as usize, w.changing.1, w));
        }
        self.end_change(w);
    }

    fn end_change(&mut self, w: &mut World<'_>) {
        if self.change.take_if(|change| change.is_done).is_some() {
            w.changing.0 = None;
        }
    }

    /// Another gateway has written.
    pub(super) fn mail(&mut self, from: usize, mail: Mail, w: &mut World<'_>) {
        match mail {
            Mail::Publish { change } => self.schema.publish(from, change, w),
            Mail::Published { change } => {
                if let Some(open) = &mut self.change {
                    open.published(from, change, w);
                }
                self.end_change(w);
            }
        }
    }

    fn call(&mut self, key: &Key, request: Request, route: Route, w: &mut World<'_>) -> u64 {
        self.call_group(w.group_of(key), key, request, route, w)
    }

    fn call_group(
        &mut self,
        group: GroupId,
        key: &Key,
        request: Request,
        route: Route,
        w: &mut World<'_>,
    ) -> u64 {
        *w.next_call += 1;
        let call = *w.next_call;
        w.outbox.push((call, group, route, request.clone()));
        let due = w.now + CALL_TIMEOUT;
        self.calls.insert(call, Call { key: key.clone(), group, request, attempts: 1, route, due });
        w.sleep(CALL_TIMEOUT);
        call
    }

    fn fire_and_forget(group: GroupId, request: Request, w: &mut World<'_>) {
        *w.next_call += 1;
        w.outbox.push((*w.next_call, group, Route::Leader, request));
    }

    fn idle(&mut self, w: &mut World<'_>) {
        self.calls.clear();
        let pause = Duration::from_micros(w.rng.below(w.pause.as_micros().max(1)));
        self.state = State::Idle(w.now + pause);
        w.sleep(pause);
    }

    /// Time passed.
    pub(super) fn wake(&mut self, w: &mut World<'_>) {
        let late: Vec<u64> = self.calls.iter().filter(|(_, c)| c.due <= w.now).map(|(id, _)| *id).collect();
        for call in late {
            self.timed_out(call, w);
        }
        self.wake_schema(w);
        match &self.state {
            State::Idle(until) if *until <= w.now => self.begin(w),
            State::Idle(until) => {
                let rest = until.since(w.now);
                w.sleep(rest);
            }
            State::Txn(txn) => match txn.stage {
                Stage::Thinking(until) if until <= w.now => self.finish_txn(w),
                Stage::Dawdling(until) if until <= w.now => self.send_decide(w),
                Stage::Thinking(until) | Stage::Dawdling(until) => w.sleep(until.since(w.now)),
                _ => {}
            },
            State::Reads(_) => {}
        }
        let due = self.calls.values().map(|c| c.due).min();
        if let Some(due) = due {
            w.sleep(due.since(w.now));
        }
    }

    fn begin(&mut self, w: &mut World<'_>) {
        let Some(tt) = w.tt.filter(|_| !w.is_over) else {
            if !w.is_over {
                self.idle(w);
            }
            return;
        };
        match w.rng.below(10) {
            0..=5 => self.begin_txn(w),
            6 | 7 => {
                self.begin_reads(None, true, 1, Route::Leader, w);
            }
            8 => {
                let count = 1 + w.rng.below(3);
                self.begin_reads(Some(tt.latest()), true, count, Route::Leader, w);
            }
            _ => {
                let is_present = w.rng.chance(1, 3);
                let staleness = Duration::from_micros(w.rng.below(150_000));
                let at = if is_present { tt.latest() } else { tt.earliest().saturating_sub(staleness) };
                let count = 1 + w.rng.below(3);
                self.begin_reads(Some(at), is_present, count, Route::Any, w);
            }
        }
    }

    fn random_keys(count: u64, w: &mut World<'_>) -> Vec<Key> {
        let mut keys = BTreeSet::new();
        for _ in 0..count {
            // Half of the accesses meet on four keys.
            let n = if w.rng.chance(1, 2) { w.rng.below(4) * w.keys / 4 } else { w.rng.below(w.keys) };
            keys.insert(key(n));
        }
        keys.into_iter().collect()
    }

    fn begin_reads(
        &mut self,
        at: Option<Timestamp>,
        is_present: bool,
        count: u64,
        route: Route,
        w: &mut World<'_>,
    ) {
        let keys = Self::random_keys(count, w);
        let leader_served = route == Route::Leader;
        self.state =
            State::Reads(Snapshot { begin: w.now, at, is_present, reads: Vec::new(), leader_served });
        let mode = at.map_or(ReadMode::Strong, ReadMode::At);
        for key in keys {
            let ops = vec![ReadOp::Get(key.clone())];
            self.call(&key, Request::Read { mode, ops }, route, w);
        }
    }

    fn begin_txn(&mut self, w: &mut World<'_>) {
        let guard = if w.has_schema { self.schema.guard(w) } else { None };
        if w.has_schema && guard.is_none() {
            return self.idle(w);
        }
        let has_index = guard.as_ref().is_some_and(|g| Maintenance::of(g.snapshot()).is_some());
        self.seq += 1;
        let count = 1 + w.rng.below(3);
        let mut steps: Vec<Access> = Vec::new();
        for (i, key) in Self::random_keys(count, w).into_iter().enumerate() {
            let value = format!("{}.{}.{i}", self.index, self.seq);
            let write = w.rng.chance(3, 4).then(|| Bytes::from(value.into_bytes()));
            let read = match w.rng.below(4) {
                // The entry of what it replaces has to go.
                _ if write.is_some() && has_index => Some(LockMode::Exclusive),
                0 if write.is_some() => None,
                0 | 1 => Some(LockMode::Shared),
                _ => Some(LockMode::Exclusive),
            };
            steps.push(Access { key, read, write });
        }
        if steps.iter().all(|s| s.write.is_none()) {
            let value = format!("{}.{}.w", self.index, self.seq);
            steps[0].write = Some(Bytes::from(value.into_bytes()));
            if has_index {
                steps[0].read = Some(LockMode::Exclusive);
            }
        }
        let id = TxnId { first_start: w.now, node: NodeId::new(100 + self.index), seq: self.seq };
        self.state = State::Txn(Box::new(Txn {
            id,
            begin: w.now,
            steps,
            at: 0,
            registrations: BTreeMap::new(),
            reads: Vec::new(),
            stage: Stage::Reading,
            participants: BTreeMap::new(),
            logged: Vec::new(),
            coordinator: None,
            window: Vote { prepare_ts: Timestamp::ZERO, max_ts: Timestamp::MAX },
            is_doubtful: false,
            is_recorded: false,
            outcome: None,
            guard,
            permit: None,
        }));
        self.next_read(w);
    }

    fn txn(&mut self) -> &mut Txn {
        match &mut self.state {
            State::Txn(txn) => txn,
            other => panic!("no transaction is under way: {other:?}"),
        }
    }

    fn next_read(&mut self, w: &mut World<'_>) {
        let txn = self.txn();
        while txn.at < txn.steps.len() && txn.steps[txn.at].read.is_none() {
            txn.at += 1;
        }
        if let Some(access) = txn.steps.get(txn.at) {
            let key = access.key.clone();
            let mode = access.read.expect("steps without a read were skipped");
            let txn = txn.reference(w.group_of(&key));
            let mode = ReadMode::Locking { txn, mode, wait: WaitPolicy::Wait };
            let ops = vec![ReadOp::Get(key.clone())];
            self.call(&key, Request::Read { mode, ops }, Route::Leader, w);
            return;
        }
        let think = if w.rng.chance(1, 50) { w.rng.below(1_500_000) } else { w.rng.below(3_000) };
        let think = Duration::from_micros(think);
        self.txn().stage = Stage::Thinking(w.now + think);
        w.sleep(think);
    }

    fn may_vanish(&mut self, w: &mut World<'_>) -> bool {
        if w.vanishes && w.rng.chance(1, 60) {
            self.record(Known::Unknown, w);
            self.idle(w);
            return true;
        }
        false
    }

    fn finish_txn(&mut self, w: &mut World<'_>) {
        if self.may_vanish(w) {
            return;
        }
        let txn = self.txn();
        let mut entries = Vec::new();
        let mut limit = Timestamp::MAX;
        if let Some(guard) = txn.guard.clone() {
            if let Some(index) = Maintenance::of(guard.snapshot()) {
                entries = self.entries(&index, w);
            }
            let Some(permit) = self.schema.permit(&guard, w) else { return self.abort(w) };
            limit = permit.limit();
            self.txn().permit = Some(permit);
        }
        let txn = self.txn();
        let mut shards: BTreeMap<GroupId, (Key, Vec<Write>)> = BTreeMap::new();
        for write in entries {
            let group = w.group_of(&write.key);
            shards.entry(group).or_insert_with(|| (write.key.clone(), Vec::new())).1.push(write);
        }
        for step in &txn.steps {
            let Some(value) = &step.write else { continue };
            let shard = shards.entry(w.group_of(&step.key)).or_insert_with(|| (step.key.clone(), Vec::new()));
            shard.1.push(Write { key: step.key.clone(), value: Some(value.clone()) });
        }
        for (group, (_, key)) in &txn.registrations {
            shards.entry(*group).or_insert_with(|| (key.clone(), Vec::new()));
        }
        let max_ts = match w.tt {
            Some(tt) if w.rng.chance(1, 20) => tt.latest() + Duration::from_micros(w.rng.below(20_000)),
            _ => Timestamp::MAX,
        };
        let max_ts = max_ts.min(limit);
        if shards.len() == 1 {
            let (group, (key, writes)) = shards.pop_first().expect("there is one");
            let txn = self.txn();
            txn.stage = Stage::Committing;
            let reference = txn.reference(group);
            txn.coordinator = Some((group, key.clone(), writes.clone()));
            let request = Request::Commit { txn: reference, writes, staged_chunks: 0, max_ts };
            self.call_group(group, &key, request, Route::Leader, w);
            return;
        }
        let writers: Vec<GroupId> = shards.iter().filter(|(_, s)| !s.1.is_empty()).map(|(g, _)| *g).collect();
        let coordinator = writers[w.rng.below(writers.len() as u64) as usize];
        let (key, writes) = shards.remove(&coordinator).expect("it was chosen from the map");
        let txn = self.txn();
        txn.coordinator = Some((coordinator, key.clone(), writes));
        txn.window.max_ts = max_ts;
        txn.participants = shards.clone();
        txn.logged = shards.values().filter(|s| !s.1.is_empty()).map(|s| s.0.clone()).collect();
        txn.stage = Stage::Preparing { votes: Vec::new() };
        for (group, (at, writes)) in shards {
            let (txn, coordinator) = (self.txn().reference(group), key.clone());
            let request = Request::Prepare { txn, writes, staged_chunks: 0, coordinator, max_ts };
            self.call_group(group, &at, request, Route::Leader, w);
        }
    }

    /// What the transaction does to the index.
    fn entries(&mut self, index: &Maintenance, w: &World<'_>) -> Vec<Write> {
        let txn = self.txn();
        let keeps_old = w.has_bug(SchemaBug::DeleteNotPropagated) && index.state == IndexState::WriteOnly;
        let mut writes = Vec::new();
        for step in &txn.steps {
            let Some(value) = &step.write else { continue };
            let old = txn.reads.iter().find(|(key, _)| *key == step.key).and_then(|(_, old)| old.as_ref());
            let (gone, come) = index.entries(old, value);
            writes.extend(gone.filter(|_| !keeps_old).map(|key| Write { key, value: None }));
            let row = Bytes::copy_from_slice(step.key.as_bytes());
            writes.push(Write { key: come, value: Some(row) });
        }
        writes
    }

    fn send_decide(&mut self, w: &mut World<'_>) {
        if self.may_vanish(w) {
            return;
        }
        let txn = self.txn();
        txn.stage = Stage::Deciding;
        let (group, key, writes) = txn.coordinator.clone().expect("a distributed transaction has one");
        let reference = txn.reference(group);
        let (window, participants) = (txn.window, txn.logged.clone());
        let request = Request::Decide { txn: reference, writes, staged_chunks: 0, window, participants };
        self.call_group(group, &key, request, Route::Leader, w);
    }

    fn ask_outcome(&mut self, w: &mut World<'_>) {
        self.calls.clear();
        let txn = self.txn();
        txn.stage = Stage::Asking;
        let (_, key, _) = txn.coordinator.clone().expect("it was chosen before the commit");
        let request = Request::QueryOutcome { id: txn.id, key: key.clone(), abort_unknown: true };
        self.call(&key, request, Route::Leader, w);
    }

    /// Gives up a transaction whose decision was never asked for.
    fn abort(&mut self, w: &mut World<'_>) {
        self.record(Known::Aborted, w);
        let txn = self.txn();
        let id = txn.id;
        let prepared = txn.participants.values().filter(|(_, writes)| !writes.is_empty());
        let prepared: Vec<Key> = prepared.map(|(key, _)| key.clone()).collect();
        let mut groups: BTreeSet<GroupId> = txn.registrations.keys().copied().collect();
        groups.extend(txn.steps.iter().map(|step| w.group_of(&step.key)));
        for key in prepared {
            let resolve = Request::Resolve { id, outcome: Outcome::Aborted, key: Some(key.clone()) };
            Self::fire_and_forget(w.group_of(&key), resolve, w);
        }
        for group in groups {
            Self::fire_and_forget(group, Request::Rollback { id }, w);
        }
        self.idle(w);
    }

    fn record(&mut self, known: Known, w: &mut World<'_>) {
        let State::Txn(txn) = &mut self.state else { return };
        if txn.is_recorded {
            return;
        }
        txn.is_recorded = true;
        if let Some(permit) = txn.permit.take() {
            match known {
                Known::Committed(_) | Known::Aborted => permit.end(),
                // It may happen yet: dropped, it is waited out.
                Known::Unknown => drop(permit),
            }
        }
        let planned = txn.guard.as_ref().map(|guard| guard.snapshot().version());
        let writes = txn.steps.iter().filter_map(|s| Some((s.key.clone(), s.write.clone()?))).collect();
        let distributed = !txn.participants.is_empty();
        match known {
            Known::Committed(_) => {
                w.stats.commits += 1;
                w.stats.distributed += u64::from(distributed);
            }
            Known::Aborted => w.stats.aborts += 1,
            Known::Unknown => w.stats.unknown += 1,
        }
        let (begin, end, reads) = (txn.begin, w.now, std::mem::take(&mut txn.reads));
        w.history.push(Op::Write { txn: txn.id, begin, end, known, reads, writes, planned });
    }

    fn timed_out(&mut self, id: u64, w: &mut World<'_>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.attempts += 1;
        call.due = w.now + CALL_TIMEOUT;
        if call.attempts <= ATTEMPTS_MAX {
            let group = call.group_now(w);
            call.group = group;
            if call.route != Route::Any {
                call.route = Route::Leader;
            }
            w.outbox.push((id, group, call.route, call.request.clone()));
            if let State::Txn(txn) = &mut self.state {
                txn.is_doubtful |= matches!(txn.stage, Stage::Committing | Stage::Deciding);
            }
            return;
        }
        self.calls.remove(&id);
        match &mut self.state {
            State::Idle(_) => {}
            State::Reads(_) => self.idle(w),
            State::Txn(txn) => match txn.stage {
                Stage::Committing | Stage::Deciding => self.ask_outcome(w),
                Stage::Asking => {
                    self.record(Known::Unknown, w);
                    self.idle(w);
                }
                Stage::Resolving => self.idle(w),
                _ => self.abort(w),
            },
        }
    }

    /// An answer arrived.
    pub(super) fn answer(&mut self, id: u64, answer: Result<Response, ShardError>, w: &mut World<'_>) {
        if w.has_schema {
            if self.schema.answer(id, &answer, w) {
                return;
            }
            if self.change.as_mut().is_some_and(|change| change.answer(id, &answer, w)) {
                return self.end_change(w);
            }
        }
        let Some(call) = self.calls.get(&id).cloned() else { return };
        if let Err(error) = &answer
            && self.tries_again(id, &call, error, w)
        {
            return;
        }
        self.calls.remove(&id);
        match &self.state {
            State::Idle(_) => {}
            State::Reads(_) => self.on_read(&call, answer, w),
            State::Txn(txn) => match txn.stage {
                Stage::Reading => self.on_locked(&call, answer, w),
                Stage::Committing | Stage::Deciding => self.on_decided(answer, w),
                Stage::Preparing { .. } => self.on_vote(answer, w),
                Stage::Asking => self.on_outcome(answer, w),
                Stage::Resolving => self.on_resolved(w),
                Stage::Thinking(_) | Stage::Dawdling(_) => {}
            },
        }
    }

    /// Redirects and refusals that are worth another attempt.
    fn tries_again(&mut self, id: u64, call: &Call, error: &ShardError, w: &mut World<'_>) -> bool {
        let route = match error {
            ShardError::NotLeader { leader: Some(node), .. } => Route::Node(*node),
            ShardError::NotLeader { leader: None, .. } => Route::Any,
            ShardError::Overloaded | ShardError::Unfit { .. } | ShardError::UnknownGroup { .. } => Route::Any,
            // A locking read is made anew, for the shard that has the key now.
            ShardError::WrongShard { .. }
                if matches!(call.request, Request::Read { mode: ReadMode::Locking { .. }, .. }) =>
            {
                return false;
            }
            ShardError::WrongShard { .. } if call.is_bound() => return false,
            ShardError::WrongShard { .. } => Route::Leader,
            _ => return false,
        };
        if call.attempts >= ATTEMPTS_MAX {
            return false;
        }
        let call = self.calls.get_mut(&id).expect("the caller looked it up");
        // The next timeout sends it, to whom this error points.
        call.route = route;
        call.due = w.now + Duration::from_micros(2_000 + w.rng.below(20_000));
        let pause = call.due.since(w.now);
        w.sleep(pause);
        true
    }

    fn on_read(&mut self, call: &Call, answer: Result<Response, ShardError>, w: &mut World<'_>) {
        let Ok(Response::Read { mut results, read_ts, .. }) = answer else { return self.idle(w) };
        let ReadResult::Value(value) = results.remove(0) else { panic!("a get found rows") };
        let State::Reads(reads) = &mut self.state else { panic!("no read is under way") };
        reads.reads.push((call.key.clone(), value));
        assert!(reads.at.is_none_or(|at| at == read_ts), "a read at a timestamp was done at another");
        if !self.calls.is_empty() {
            return;
        }
        match reads.at {
            None => w.stats.strong_reads += 1,
            Some(_) => w.stats.snapshot_reads += 1,
        }
        w.stats.follower_reads += u64::from(!reads.leader_served);
        let observed = std::mem::take(&mut reads.reads);
        let (begin, is_present) = (reads.begin, reads.is_present);
        w.history.push(Op::Read { begin, end: w.now, at: read_ts, is_present, reads: observed });
        self.idle(w);
    }

    fn on_locked(&mut self, call: &Call, answer: Result<Response, ShardError>, w: &mut World<'_>) {
        let (mut results, registration) = match answer {
            Ok(Response::Read { results, registration: Some(registration), .. }) => (results, registration),
            Err(ShardError::WrongShard { .. }) if w.group_of(&call.key) != call.group => {
                return self.next_read(w);
            }
            _ => return self.abort(w),
        };
        let txn = self.txn();
        let (known, _) = txn.registrations.entry(call.group).or_insert((registration, call.key.clone()));
        if *known != registration {
            return self.abort(w);
        }
        let ReadResult::Value(value) = results.remove(0) else { panic!("a get found rows") };
        txn.reads.push((call.key.clone(), value));
        txn.at += 1;
        self.next_read(w);
    }

    fn on_vote(&mut self, answer: Result<Response, ShardError>, w: &mut World<'_>) {
        let Ok(Response::Voted(vote)) = answer else { return self.abort(w) };
        let open = self.calls.len();
        let txn = self.txn();
        txn.window.prepare_ts = txn.window.prepare_ts.max(vote.prepare_ts);
        txn.window.max_ts = txn.window.max_ts.min(vote.max_ts);
        let Stage::Preparing { votes } = &mut txn.stage else { panic!("nobody asked for a vote") };
        votes.push(vote);
        if open > 0 {
            return;
        }
        if txn.window.prepare_ts > txn.window.max_ts {
            return self.abort(w);
        }
        let dawdle = if w.rng.chance(1, 20) { w.rng.below(1_200_000) } else { 0 };
        let dawdle = Duration::from_micros(dawdle);
        self.txn().stage = Stage::Dawdling(w.now + dawdle);
        if dawdle == Duration::ZERO { self.send_decide(w) } else { w.sleep(dawdle) }
    }

    fn on_decided(&mut self, answer: Result<Response, ShardError>, w: &mut World<'_>) {
        let is_doubtful = self.txn().is_doubtful;
        match answer {
            Ok(Response::Committed { commit_ts }) => self.ended(Outcome::Committed(commit_ts), w),
            Err(ShardError::AlreadyDecided { outcome: Outcome::Aborted }) => self.ended(Outcome::Aborted, w),
            Err(ShardError::Aborted { .. }) if !is_doubtful => self.abort(w),
            _ => self.ask_outcome(w),
        }
    }

    fn on_outcome(&mut self, answer: Result<Response, ShardError>, w: &mut World<'_>) {
        match answer {
            Ok(Response::Outcome(Some(outcome))) => self.ended(outcome, w),
            _ => {
                self.record(Known::Unknown, w);
                self.idle(w);
            }
        }
    }

    /// The outcome is known; the participants are told.
    fn ended(&mut self, outcome: Outcome, w: &mut World<'_>) {
        let known = match outcome {
            Outcome::Committed(s) => Known::Committed(s),
            Outcome::Aborted => Known::Aborted,
        };
        self.record(known, w);
        let txn = self.txn();
        txn.outcome = Some(outcome);
        txn.stage = Stage::Resolving;
        let id = txn.id;
        let participants = std::mem::take(&mut txn.participants);
        self.calls.clear();
        if participants.is_empty() || (w.vanishes && w.rng.chance(1, 15)) {
            return self.idle(w);
        }
        for (group, (key, writes)) in participants {
            // Who only voted is told where it did.
            let (group, of) =
                if writes.is_empty() { (group, None) } else { (w.group_of(&key), Some(key.clone())) };
            self.call_group(group, &key, Request::Resolve { id, outcome, key: of }, Route::Leader, w);
        }
    }

    fn on_resolved(&mut self, w: &mut World<'_>) {
        if !self.calls.is_empty() {
            return;
        }
        let txn = self.txn();
        let (id, outcome) = (txn.id, txn.outcome);
        let (_, key, _) = txn.coordinator.clone().expect("a distributed transaction has one");
        if matches!(outcome, Some(Outcome::Committed(_))) && w.rng.chance(9, 10) {
            Self::fire_and_forget(w.group_of(&key), Request::Forget { id, key }, w);
        }
        self.idle(w);
    }
}
