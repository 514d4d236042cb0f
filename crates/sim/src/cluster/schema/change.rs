//! A schema change from its announcement to its end, as its coordinator sees it.
//!
//! ```text
//!   look (locks) -> announce T -> every gateway has set the fence, or its lease is over
//!     -> look again, store the version, committed below T -> T has passed -> fill in the index, row by row
//! ```
//! Then another change makes the index public, and later another one takes it away. What comes too late is given up, and so
//! is what meets an error; the next coordinator goes on with what is stored, and takes away an index that was not finished.

use std::collections::BTreeSet;

use bytes::Bytes;
use meridian_shard::{
    LockMode, ReadMode, ReadOp, ReadResult, Registration, Request, Response, ShardError, TxnRef, WaitPolicy,
    Write,
};
use meridian_types::{Duration, Key, NodeId, Timestamp, TxnId};

use super::super::client::{Route, World, key};
use super::super::planted::SchemaBug;
use super::{Index, LEASE, Mail, Record, entry_key, fence_key, record_key, word};

/// A call that is not answered is sent again.
const CALL_TIMEOUT: Duration = Duration::from_millis(150);
const ATTEMPTS_MAX: u32 = 5;

/// Gateways that have not answered are told again.
const TELL_AGAIN: Duration = Duration::from_millis(60);

/// A backfill that takes longer is somebody else's.
const FILL_LEASE: Duration = Duration::from_secs(8);

/// A transaction on the catalog's record and the fence.
#[derive(Debug)]
struct Mini {
    txn: TxnId,
    goal: Goal,
    registration: Option<Registration>,
}

#[derive(Clone, Copy, Debug)]
enum Goal {
    /// Announces an activation.
    Announce,
    /// Stores the version that takes effect at an activation.
    Store { at: Timestamp, next: Record },
}

/// What a commit leads to.
#[derive(Clone, Copy, Debug)]
enum Then {
    Publish { at: Timestamp, next: Record },
    Await(Record),
}

#[derive(Debug)]
enum Stage {
    Looking(Mini),
    Committing(Then),
    /// Until `over` at the latest, when whoever has not answered has no lease any more.
    Publishing {
        at: Timestamp,
        next: Record,
        waiting: BTreeSet<usize>,
        over: Timestamp,
        tell_at: Timestamp,
    },
    /// Until the version has surely taken effect.
    Awaiting(Record),
    /// Rows are read at `at`, from the last one on.
    Reading {
        at: Timestamp,
        left: u64,
    },
    Writing {
        at: Timestamp,
        left: u64,
    },
}

#[derive(Debug)]
struct Call {
    id: u64,
    key: Key,
    request: Request,
    route: Route,
    attempts: u32,
    due: Timestamp,
}

/// One coordinator's work. Its owner drops it when it is done.
#[derive(Debug)]
pub(in super::super) struct Change {
    id: u64,
    node: NodeId,
    txns: u64,
    /// Names what gateways are told, so that an answer counts for that alone.
    round: u64,
    stage: Stage,
    call: Option<Call>,
    /// The index that was filled in here.
    filled: Option<u64>,
    number: u64,
    /// The next activation is above this.
    above: Timestamp,
    pub(in super::super) is_done: bool,
}

impl Change {
    /// Begins. `id` is unique in the run.
    pub(in super::super) fn begin(me: usize, id: u64, w: &mut World<'_>) -> Change {
        let mut change = Change {
            id,
            node: NodeId::new(1_000 + me as u32),
            txns: 0,
            round: id << 16,
            stage: Stage::Awaiting(Record::FIRST),
            call: None,
            filled: None,
            number: 0,
            above: Timestamp::ZERO,
            is_done: false,
        };
        change.look(Goal::Announce, w);
        change
    }

    fn end(&mut self) {
        self.is_done = true;
        self.call = None;
    }

    fn call(&mut self, key: Key, request: Request, route: Route, w: &mut World<'_>) {
        let id = w.send(&key, route, request.clone());
        let due = w.now + CALL_TIMEOUT;
        self.call = Some(Call { id, key, request, route, attempts: 1, due });
        w.sleep(CALL_TIMEOUT);
    }

    /// Reads the record and the fence under locks.
    fn look(&mut self, goal: Goal, w: &mut World<'_>) {
        self.txns += 1;
        let txn = TxnId { first_start: w.now, node: self.node, seq: (self.id << 16) + self.txns };
        let reference = TxnRef { id: txn, registration: None };
        let mode = ReadMode::Locking { txn: reference, mode: LockMode::Exclusive, wait: WaitPolicy::Wait };
        let ops = vec![ReadOp::Get(record_key()), ReadOp::Get(fence_key())];
        self.stage = Stage::Looking(Mini { txn, goal, registration: None });
        self.call(record_key(), Request::Read { mode, ops }, Route::Leader, w);
    }

    pub(in super::super) fn wake(&mut self, w: &mut World<'_>) {
        if self.is_done {
            return;
        }
        if w.is_over || (w.vanishes && w.rng.chance(1, 2_000)) {
            return self.end();
        }
        if let Some(call) = &mut self.call
            && call.due <= w.now
        {
            call.attempts += 1;
            if call.attempts > ATTEMPTS_MAX {
                return self.end();
            }
            call.due = w.now + CALL_TIMEOUT;
            let (key, route, request) = (call.key.clone(), call.route, call.request.clone());
            w.send_again(call.id, &key, route, request);
        }
        if let Some(call) = &self.call {
            w.sleep(call.due.since(w.now));
        }
        match &self.stage {
            Stage::Publishing { .. } => self.publish(w),
            Stage::Awaiting(record) => {
                let record = *record;
                self.in_force(record, w);
            }
            _ => {}
        }
    }

    /// True when the answer was to a call of this change.
    pub(in super::super) fn answer(
        &mut self,
        id: u64,
        answer: &Result<Response, ShardError>,
        w: &mut World<'_>,
    ) -> bool {
        let Some(call) = self.call.as_mut().filter(|call| call.id == id) else { return false };
        let route = match answer {
            Err(ShardError::NotLeader { leader: Some(node), .. }) => Some(Route::Node(*node)),
            Err(ShardError::NotLeader { leader: None, .. } | ShardError::Overloaded) => Some(Route::Any),
            Err(ShardError::Unfit { .. } | ShardError::UnknownGroup { .. }) => Some(Route::Any),
            Err(ShardError::WrongShard { .. } | ShardError::InFuture { .. }) => Some(Route::Leader),
            _ => None,
        };
        if let Some(route) = route {
            call.route = route;
            call.due = w.now + Duration::from_millis(5 + w.rng.below(15));
            let pause = call.due.since(w.now);
            w.sleep(pause);
            return true;
        }
        self.call = None;
        let Ok(answer) = answer else {
            self.end();
            return true;
        };
        match (&mut self.stage, answer) {
            (Stage::Looking(mini), Response::Read { results, registration, .. }) => {
                mini.registration = *registration;
                let value = |i: usize| match &results[i] {
                    ReadResult::Value(value) => value.as_deref(),
                    ReadResult::Rows { .. } => panic!("a get found rows"),
                };
                let record = Record::decode(value(0));
                let fence = value(1).map(|bytes| Timestamp::from_nanos(word(bytes, 0)));
                self.looked(record, fence, w);
            }
            (Stage::Committing(then), Response::Committed { .. }) => {
                let then = *then;
                self.committed(then, w);
            }
            (Stage::Reading { at, left }, Response::Read { results, .. }) => {
                let (at, left) = (*at, *left);
                let [ReadResult::Value(value)] = &results[..] else { panic!("a get found rows") };
                self.read(at, left, value.as_ref(), w);
            }
            (Stage::Writing { at, left }, Response::Closed { closed, .. }) => {
                self.above = self.above.max(*closed);
                let (at, left) = (*at, *left);
                self.fill(at, left, w);
            }
            (stage, answer) => panic!("{stage:?} was answered by {answer:?}"),
        }
        true
    }

    fn looked(&mut self, record: Record, fence: Option<Timestamp>, w: &mut World<'_>) {
        let Stage::Looking(mini) = &self.stage else { panic!("nothing was looked at") };
        let (goal, txn, registration) = (mini.goal, mini.txn, mini.registration);
        let Some(tt) = w.tt else { return self.end() };
        let (then, write, max_ts) = match goal {
            Goal::Announce => {
                // One at a time, and none before the last one is in force.
                if fence.is_some_and(|fence| fence >= tt.earliest()) || record.valid_from > tt.earliest() {
                    return self.roll_back(txn, w);
                }
                let next = self.next(record);
                // Often too little; then a lease has to be waited for, too.
                let ahead = match w.rng.below(3) {
                    0 => Duration::from_millis(30 + w.rng.below(100)),
                    1 => Duration::from_millis(200 + w.rng.below(300)),
                    _ => LEASE + Duration::from_millis(300 + w.rng.below(500)),
                };
                let at = (tt.latest() + ahead).max(self.above.next());
                let write = Write { key: fence_key(), value: Some(word_of(at)) };
                (Then::Publish { at, next }, write, Timestamp::MAX)
            }
            Goal::Store { at, next } => {
                if fence != Some(at) || record.version + 1 != next.version {
                    return self.roll_back(txn, w);
                }
                let next = Record { valid_from: at, ..next };
                let write = Write { key: record_key(), value: Some(next.encode()) };
                (Then::Await(next), write, at.prev())
            }
        };
        self.stage = Stage::Committing(then);
        let reference = TxnRef { id: txn, registration };
        let request = Request::Commit { txn: reference, writes: vec![write], staged_chunks: 0, max_ts };
        self.call(record_key(), request, Route::Leader, w);
    }

    /// What comes after a version. An index that somebody else has left unfinished goes.
    fn next(&self, record: Record) -> Record {
        let (index, number) = match record.index {
            Index::Absent => (Index::WriteOnly, record.number + 1),
            Index::WriteOnly if self.filled == Some(record.number) => (Index::Public, record.number),
            Index::WriteOnly | Index::Public => (Index::Absent, record.number),
        };
        Record { version: record.version + 1, valid_from: Timestamp::ZERO, index, number }
    }

    fn roll_back(&mut self, txn: TxnId, w: &mut World<'_>) {
        w.send(&record_key(), Route::Leader, Request::Rollback { id: txn });
        self.end();
    }

    fn committed(&mut self, then: Then, w: &mut World<'_>) {
        match then {
            Then::Publish { at, next } => {
                let Some(tt) = w.tt else { return self.end() };
                self.round += 1;
                let over = tt.latest() + LEASE;
                let waiting = (0..w.clients).collect();
                self.stage = Stage::Publishing { at, next, waiting, over, tell_at: w.now };
                self.publish(w);
            }
            Then::Await(record) => {
                w.stats.schema_changes += 1;
                // News, so that they need not look for it when its time has come.
                self.round += 1;
                (0..w.clients).for_each(|to| w.post(to, Mail::Publish { change: self.round }));
                self.stage = Stage::Awaiting(record);
                self.in_force(record, w);
            }
        }
    }

    /// Tells those who have not answered, and goes on once nobody has to be waited for.
    fn publish(&mut self, w: &mut World<'_>) {
        let is_early = w.has_bug(SchemaBug::ActivationBeforeLastBarrier);
        let Stage::Publishing { at, next, waiting, over, tell_at } = &mut self.stage else { return };
        let Some(tt) = w.tt else { return w.sleep(TELL_AGAIN) };
        if *tell_at <= w.now {
            *tell_at = w.now + TELL_AGAIN;
            waiting.iter().for_each(|to| w.post(*to, Mail::Publish { change: self.round }));
        }
        if waiting.is_empty() || tt.earliest() > *over || is_early {
            let (at, next) = (*at, *next);
            if tt.latest() >= at {
                // Too late: the announcement lapses.
                return self.end();
            }
            return self.look(Goal::Store { at, next }, w);
        }
        let pause = tell_at.since(w.now).min(over.next().since(tt.earliest()));
        w.sleep(pause);
    }

    pub(in super::super) fn published(&mut self, by: usize, change: u64, w: &mut World<'_>) {
        if let Stage::Publishing { waiting, .. } = &mut self.stage
            && change == self.round
        {
            waiting.remove(&by);
            self.publish(w);
        }
    }

    fn in_force(&mut self, record: Record, w: &mut World<'_>) {
        let Some(tt) = w.tt else { return w.sleep(TELL_AGAIN) };
        if tt.earliest() <= record.valid_from {
            return w.sleep(record.valid_from.next().since(tt.earliest()));
        }
        if record.index != Index::WriteOnly {
            return self.end();
        }
        self.number = record.number;
        self.fill(tt.latest(), w.keys, w);
    }

    /// Goes on with the next row.
    fn fill(&mut self, at: Timestamp, left: u64, w: &mut World<'_>) {
        let Some(row) = left.checked_sub(1) else {
            self.filled = Some(self.number);
            w.stats.backfills += 1;
            return self.look(Goal::Announce, w);
        };
        self.stage = Stage::Reading { at, left: row };
        let ops = vec![ReadOp::Get(key(row))];
        self.call(key(row), Request::Read { mode: ReadMode::At(at), ops }, Route::Leader, w);
    }

    fn read(&mut self, at: Timestamp, left: u64, value: Option<&Bytes>, w: &mut World<'_>) {
        let Some(value) = value else { return self.fill(at, left, w) };
        let Some(tt) = w.tt else { return self.end() };
        let entry = entry_key(self.number, value);
        let writes = vec![Write { key: entry.clone(), value: Some(key(left).into_bytes()) }];
        self.stage = Stage::Writing { at, left };
        let at = if w.has_bug(SchemaBug::BackfillAtWrongVersion) { tt.earliest().max(at) } else { at };
        self.call(entry, Request::Fill { at, until: tt.latest() + FILL_LEASE, writes }, Route::Leader, w);
    }
}

fn word_of(t: Timestamp) -> Bytes {
    Bytes::copy_from_slice(&t.as_nanos().to_be_bytes())
}
