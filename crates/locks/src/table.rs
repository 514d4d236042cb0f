//! Acquisition, release, wounds and queues.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use meridian_types::{Key, Span, TxnId};
use smallvec::SmallVec;

use crate::segments::{Holders, Segments, add_holder, remove_holder};

/// How strong a lock is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Mode {
    /// For reads; compatible with itself.
    Shared,
    /// Compatible with nothing.
    Exclusive,
}

impl Mode {
    fn conflicts(self, other: Mode) -> bool {
        self == Mode::Exclusive || other == Mode::Exclusive
    }
}

/// Names a request that may wait. Unique among those that wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Ticket(pub u64);

/// What is locked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// One key.
    Point(Key),
    /// Every key of a span, existing or not.
    Span(Span),
}

/// One lock of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Need {
    /// What.
    pub target: Target,
    /// How.
    pub mode: Mode,
}

/// What a request does about a conflict; the table in the crate's essay has it in full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Discipline {
    /// Wounds the younger, waits for the older.
    WoundWait,
    /// Neither waits nor wounds.
    NoWait,
    /// Waits for pinned transactions only: what asks is maybe prepared at another shard. Pinned as soon as granted.
    Prepare,
}

/// The answer to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// Every lock is held.
    Granted,
    /// An event will name the ticket.
    Waiting,
    /// Not free ([`Discipline::NoWait`]).
    WouldBlock,
    /// An older unpinned transaction is in the way ([`Discipline::Prepare`]).
    WouldDeadlock,
}

/// What happened to others, or to a ticket that waited.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A ticket that waited holds all its locks.
    Granted(Ticket),
    /// A ticket that waited would wait for an older unpinned holder ([`Discipline::Prepare`]).
    WouldDeadlock(Ticket),
    /// A transaction lost all its locks, and its tickets will never be granted.
    Wounded {
        /// The victim.
        txn: TxnId,
        /// Who needed its locks.
        by: TxnId,
        /// Its requests that waited.
        tickets: Vec<Ticket>,
    },
}

/// One line of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockView {
    /// What.
    pub span: Span,
    /// Who.
    pub txn: TxnId,
    /// How.
    pub mode: Mode,
    /// False for a waiter.
    pub granted: bool,
}

#[derive(Default, Debug)]
struct Owner {
    points: Vec<Key>,
    spans: Vec<Span>,
    pinned: bool,
}

#[derive(Debug)]
struct Waiter {
    needs: Vec<Need>,
    /// Index of the need that is waited for; those before it are held.
    next: usize,
    discipline: Discipline,
}

impl Waiter {
    fn need(&self) -> &Need {
        &self.needs[self.next]
    }
}

/// Waiters in order of age.
type WaiterKey = (TxnId, Ticket);

/// What stands in the way of one need.
#[derive(Debug)]
enum Obstacle {
    None,
    Wound(SmallVec<[TxnId; 4]>),
    Wait,
    Deadlock,
}

/// The lock table.
#[derive(Default, Debug)]
pub struct LockTable {
    points: BTreeMap<Key, Holders>,
    segments: Segments,
    owners: BTreeMap<TxnId, Owner>,
    waiters: BTreeMap<WaiterKey, Waiter>,
    tickets: BTreeMap<Ticket, TxnId>,
    waiting_points: BTreeMap<Key, BTreeSet<WaiterKey>>,
    waiting_spans: BTreeSet<WaiterKey>,
    /// Those of the waiters that prepare. An older transaction that gets, or queues for, what one of them waits for
    /// would make it wait for the unpinned, so it is looked at again.
    preparing: BTreeSet<WaiterKey>,
}

impl LockTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a point lock when nothing at all is in the way, without allocating for the request. False changes nothing.
    pub fn try_point(&mut self, txn: TxnId, key: &Key, mode: Mode) -> bool {
        if !self.waiters.is_empty() {
            let need = Need { target: Target::Point(key.clone()), mode };
            if self.holds(&txn, &need.target, mode) {
                return true;
            }
            let free = matches!(self.obstacle(&txn, &need, Discipline::NoWait), Obstacle::None);
            if free && self.preparing.is_empty() {
                self.hold(txn, &need);
                return true;
            }
            return false;
        }
        if let Some(segment) = self.segments.at(key) {
            if segment.holders.iter().any(|(t, m)| *t != txn && m.conflicts(mode)) {
                return false;
            }
            if segment.holders.iter().any(|(t, m)| *t == txn && *m >= mode) {
                return true;
            }
        }
        if let Some(holders) = self.points.get_mut(key) {
            if holders.iter().any(|(t, m)| *t != txn && m.conflicts(mode)) {
                return false;
            }
            let known = holders.iter().any(|(t, _)| *t == txn);
            add_holder(holders, txn, mode);
            if !known {
                self.owners.entry(txn).or_default().points.push(key.clone());
            }
            return true;
        }
        self.points.insert(key.clone(), Holders::from_elem((txn, mode), 1));
        self.owners.entry(txn).or_default().points.push(key.clone());
        true
    }

    /// Takes all of `needs`, in order, keeping what it gets while it waits for the rest. What happens to others goes to
    /// `events`.
    ///
    /// # Panics
    /// When `ticket` waits already, or `txn` is pinned and asks for more than it has.
    pub fn acquire(
        &mut self,
        ticket: Ticket,
        txn: TxnId,
        needs: Vec<Need>,
        discipline: Discipline,
        events: &mut Vec<Event>,
    ) -> Acquired {
        assert!(!self.tickets.contains_key(&ticket), "ticket {ticket:?} waits already");
        if discipline == Discipline::NoWait {
            return self.acquire_at_once(txn, &needs, events);
        }
        assert!(!self.owners.get(&txn).is_some_and(|o| o.pinned), "pinned transaction {txn} asks for locks");
        self.tickets.insert(ticket, txn);
        self.waiters.insert((txn, ticket), Waiter { needs, next: 0, discipline });
        let mut work = BTreeSet::new();
        let answer = self.attempt((txn, ticket), &mut work, events);
        self.settle(work, events);
        answer
    }

    fn acquire_at_once(&mut self, txn: TxnId, needs: &[Need], events: &mut Vec<Event>) -> Acquired {
        let free = |n: &Need| matches!(self.obstacle(&txn, n, Discipline::NoWait), Obstacle::None);
        if !needs.iter().all(free) {
            return Acquired::WouldBlock;
        }
        let mut work = BTreeSet::new();
        for need in needs {
            self.hold(txn, need);
            self.nudge_preparing(txn, &need.target, &mut work);
        }
        self.settle(work, events);
        Acquired::Granted
    }

    fn nudge_preparing(&self, txn: TxnId, target: &Target, work: &mut BTreeSet<WaiterKey>) {
        let hit = |key: &&WaiterKey| {
            txn.is_older_than(&key.0) && overlaps(&self.waiters[*key].need().target, target)
        };
        work.extend(self.preparing.iter().filter(|k| self.waiters.contains_key(*k)).filter(hit));
    }

    /// The transaction's fate is being decided: it is never wounded any more.
    pub fn pin(&mut self, txn: TxnId) {
        self.owners.entry(txn).or_default().pinned = true;
    }

    /// Drops all that a transaction holds and waits for. Returns its tickets that waited.
    pub fn release(&mut self, txn: TxnId, events: &mut Vec<Event>) -> Vec<Ticket> {
        let mut work = BTreeSet::new();
        let tickets = self.drop_owner(txn, &mut work);
        self.settle(work, events);
        tickets
    }

    /// A request does not wait any more. What it got so far stays with the transaction.
    pub fn cancel(&mut self, ticket: Ticket, events: &mut Vec<Event>) {
        let Some(txn) = self.tickets.get(&ticket).copied() else { return };
        let mut work = BTreeSet::new();
        self.dequeue((txn, ticket), &mut work);
        self.settle(work, events);
    }

    /// True when `txn` holds `target` at `mode` or stronger.
    pub fn holds(&self, txn: &TxnId, target: &Target, mode: Mode) -> bool {
        match target {
            Target::Point(key) => {
                let strong = |h: &Holders| h.iter().any(|(t, m)| t == txn && *m >= mode);
                self.points.get(key).is_some_and(strong)
                    || self.segments.at(key).is_some_and(|s| strong(&s.holders))
            }
            Target::Span(span) => span.is_empty() || self.segments.covers(span, txn, mode),
        }
    }

    /// True when a lock that `txn` does not hold itself conflicts with the need: SKIP LOCKED leaves such a row out.
    pub fn is_blocked(&self, txn: &TxnId, need: &Need) -> bool {
        !matches!(self.obstacle(txn, need, Discipline::NoWait), Obstacle::None)
    }

    /// Transactions that hold a lock on some key of `span`.
    pub fn holders_in(&self, span: &Span) -> BTreeSet<TxnId> {
        let mut found = BTreeSet::new();
        for (_, holders) in self.points_in(span) {
            found.extend(holders.iter().map(|(t, _)| *t));
        }
        for (_, segment) in self.segments.overlapping(span) {
            found.extend(segment.holders.iter().map(|(t, _)| *t));
        }
        found
    }

    /// Transactions that hold locks.
    pub fn holder_count(&self) -> usize {
        self.owners.len()
    }

    /// Requests that wait.
    pub fn waiter_count(&self) -> usize {
        self.waiters.len()
    }

    /// Everything that is held or waited for, in order of keys, then waiters by age.
    pub fn views(&self) -> Vec<LockView> {
        let view = |span: Span, holders: &Holders| {
            let mut sorted: Vec<_> = holders.iter().copied().collect();
            sorted.sort();
            sorted.into_iter().map(move |(txn, mode)| LockView {
                span: span.clone(),
                txn,
                mode,
                granted: true,
            })
        };
        let mut all: Vec<LockView> = self.points.iter().flat_map(|(k, h)| view(Span::point(k), h)).collect();
        all.extend(self.segments.iter().flat_map(|(span, h)| view(span, h)));
        for ((txn, _), waiter) in &self.waiters {
            let need = waiter.need();
            let span = match &need.target {
                Target::Point(key) => Span::point(key),
                Target::Span(span) => span.clone(),
            };
            all.push(LockView { span, txn: *txn, mode: need.mode, granted: false });
        }
        all
    }

    fn points_in<'a>(&'a self, span: &'a Span) -> impl Iterator<Item = (&'a Key, &'a Holders)> {
        let upper = span.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        (!span.is_empty())
            .then(|| self.points.range::<Key, _>((Bound::Included(&span.start), upper)))
            .into_iter()
            .flatten()
    }

    /// What stands between `txn` and `need`.
    fn obstacle(&self, txn: &TxnId, need: &Need, discipline: Discipline) -> Obstacle {
        if self.holds(txn, &need.target, need.mode) {
            return Obstacle::None;
        }
        let mut verdict =
            Verdict { discipline, requester: txn, wounds: SmallVec::new(), wait: false, deadlock: false };
        match &need.target {
            Target::Point(key) => {
                let at = self.points.get(key).into_iter().chain(self.segments.at(key).map(|s| &s.holders));
                at.for_each(|holders| self.judge(holders, need.mode, &mut verdict));
            }
            Target::Span(span) => {
                let points = self.points_in(span).map(|(_, h)| h);
                let all = points.chain(self.segments.overlapping(span).map(|(_, s)| &s.holders));
                all.for_each(|holders| self.judge(holders, need.mode, &mut verdict));
            }
        }
        if !verdict.deadlock {
            self.judge_waiters(txn, need, &mut verdict);
        }
        verdict.into_obstacle()
    }

    fn judge(&self, holders: &Holders, mode: Mode, verdict: &mut Verdict<'_>) {
        for (holder, held) in holders {
            if holder == verdict.requester || !held.conflicts(mode) {
                continue;
            }
            let pinned = self.owners.get(holder).is_some_and(|o| o.pinned);
            if pinned || verdict.discipline == Discipline::NoWait {
                verdict.wait = true;
            } else if verdict.requester.is_older_than(holder) {
                if !verdict.wounds.contains(holder) {
                    verdict.wounds.push(*holder);
                }
            } else if verdict.discipline == Discipline::Prepare {
                verdict.deadlock = true;
            } else {
                verdict.wait = true;
            }
        }
    }

    fn judge_waiters(&self, txn: &TxnId, need: &Need, verdict: &mut Verdict<'_>) {
        if self.waiters.is_empty() {
            return;
        }
        let older = (Bound::Unbounded, Bound::Excluded((*txn, Ticket(0))));
        let mut judge = |key: &WaiterKey| {
            let waiter = &self.waiters[key];
            if waiter.need().mode.conflicts(need.mode) && overlaps(&waiter.need().target, &need.target) {
                let may_queue =
                    verdict.discipline != Discipline::Prepare || waiter.discipline == Discipline::Prepare;
                if may_queue {
                    verdict.wait = true;
                } else {
                    verdict.deadlock = true;
                }
            }
            verdict.deadlock || (verdict.wait && verdict.discipline != Discipline::Prepare)
        };
        if self.waiting_spans.range(older).any(&mut judge) {
            return;
        }
        match &need.target {
            Target::Point(key) => {
                if let Some(queue) = self.waiting_points.get(key) {
                    queue.range(older).any(&mut judge);
                }
            }
            Target::Span(span) if !span.is_empty() => {
                let upper = span.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let queues = self.waiting_points.range::<Key, _>((Bound::Included(&span.start), upper));
                queues.flat_map(|(_, queue)| queue.range(older)).any(judge);
            }
            Target::Span(_) => {}
        }
    }

    fn hold(&mut self, txn: TxnId, need: &Need) {
        if self.holds(&txn, &need.target, need.mode) {
            return;
        }
        let owner = self.owners.entry(txn).or_default();
        assert!(!owner.pinned, "pinned transaction {txn} took another lock");
        match &need.target {
            Target::Point(key) => {
                let holders = self.points.entry(key.clone()).or_default();
                if !holders.iter().any(|(t, _)| *t == txn) {
                    owner.points.push(key.clone());
                }
                add_holder(holders, txn, need.mode);
            }
            Target::Span(span) => {
                self.segments.add(span, txn, need.mode);
                owner.spans.push(span.clone());
            }
        }
    }

    /// Carries a waiter on as far as it gets. A waiter that can't go on is indexed by what it waits for.
    fn attempt(
        &mut self,
        key: WaiterKey,
        work: &mut BTreeSet<WaiterKey>,
        events: &mut Vec<Event>,
    ) -> Acquired {
        let (txn, ticket) = key;
        let mut waiter = self.waiters.remove(&key).expect("a waiter is attempted only while it waits");
        while waiter.next < waiter.needs.len() {
            match self.obstacle(&txn, waiter.need(), waiter.discipline) {
                Obstacle::None => {}
                Obstacle::Wound(victims) => {
                    for victim in victims {
                        let tickets = self.drop_owner(victim, work);
                        events.push(Event::Wounded { txn: victim, by: txn, tickets });
                    }
                }
                Obstacle::Wait => {
                    let target = waiter.need().target.clone();
                    self.index(key, &target);
                    self.nudge_preparing(txn, &target, work);
                    if waiter.discipline == Discipline::Prepare {
                        self.preparing.insert(key);
                    }
                    self.waiters.insert(key, waiter);
                    return Acquired::Waiting;
                }
                Obstacle::Deadlock => {
                    self.tickets.remove(&ticket);
                    return Acquired::WouldDeadlock;
                }
            }
            self.hold(txn, waiter.need());
            self.nudge_preparing(txn, &waiter.need().target, work);
            waiter.next += 1;
        }
        self.tickets.remove(&ticket);
        if waiter.discipline == Discipline::Prepare {
            self.pin(txn);
        }
        Acquired::Granted
    }

    fn index(&mut self, key: WaiterKey, target: &Target) {
        match target {
            Target::Point(point) => {
                self.waiting_points.entry(point.clone()).or_default().insert(key);
            }
            Target::Span(_) => {
                self.waiting_spans.insert(key);
            }
        }
    }

    fn unindex(&mut self, key: WaiterKey, target: &Target) {
        self.preparing.remove(&key);
        match target {
            Target::Point(point) => {
                if let Some(queue) = self.waiting_points.get_mut(point) {
                    queue.remove(&key);
                    if queue.is_empty() {
                        self.waiting_points.remove(point);
                    }
                }
            }
            Target::Span(_) => {
                self.waiting_spans.remove(&key);
            }
        }
    }

    /// Retries the waiters that a release may have helped, the oldest first.
    fn settle(&mut self, mut work: BTreeSet<WaiterKey>, events: &mut Vec<Event>) {
        while let Some(key) = work.pop_first() {
            let Some(waiter) = self.waiters.get(&key) else { continue };
            let target = waiter.need().target.clone();
            self.unindex(key, &target);
            match self.attempt(key, &mut work, events) {
                Acquired::Granted => events.push(Event::Granted(key.1)),
                Acquired::WouldDeadlock => {
                    self.candidates(&target, &mut work);
                    events.push(Event::WouldDeadlock(key.1));
                }
                Acquired::Waiting => {}
                Acquired::WouldBlock => unreachable!("a waiter may wait"),
            }
        }
    }

    /// Removes a waiter; those behind it are retried.
    fn dequeue(&mut self, key: WaiterKey, work: &mut BTreeSet<WaiterKey>) {
        if let Some(waiter) = self.waiters.remove(&key) {
            self.tickets.remove(&key.1);
            let target = waiter.need().target.clone();
            self.unindex(key, &target);
            self.candidates(&target, work);
        }
        work.remove(&key);
    }

    /// Removes a transaction from every index, and retries those that it may have kept waiting.
    fn drop_owner(&mut self, txn: TxnId, work: &mut BTreeSet<WaiterKey>) -> Vec<Ticket> {
        let mine: Vec<WaiterKey> =
            self.waiters.range((txn, Ticket(0))..=(txn, Ticket(u64::MAX))).map(|(k, _)| *k).collect();
        for key in &mine {
            self.dequeue(*key, work);
        }
        if let Some(owner) = self.owners.remove(&txn) {
            for key in &owner.points {
                if let Some(holders) = self.points.get_mut(key) {
                    remove_holder(holders, &txn);
                    if holders.is_empty() {
                        self.points.remove(key);
                    }
                }
            }
            for span in &owner.spans {
                self.segments.remove(span, &txn);
            }
            if !self.waiters.is_empty() {
                owner.points.into_iter().for_each(|k| self.candidates(&Target::Point(k), work));
                owner.spans.into_iter().for_each(|s| self.candidates(&Target::Span(s), work));
            }
        }
        for key in &mine {
            work.remove(key);
        }
        mine.into_iter().map(|(_, ticket)| ticket).collect()
    }

    /// Waiters that may go on, since something at `target` was released. Of a queue at one key only the front can: who
    /// stands behind a conflicting older waiter is blocked by it, whether that one goes on waiting or becomes a holder.
    fn candidates(&self, target: &Target, work: &mut BTreeSet<WaiterKey>) {
        let front = |queue: &BTreeSet<WaiterKey>, work: &mut BTreeSet<WaiterKey>| {
            let first = queue.first().map(|key| key.0);
            let mut exclusive: Option<TxnId> = None;
            for key in queue {
                if exclusive.is_some_and(|txn| txn != key.0) {
                    break;
                }
                let is_exclusive = self.waiters[key].need().mode == Mode::Exclusive;
                if !is_exclusive || first == Some(key.0) {
                    work.insert(*key);
                }
                if is_exclusive {
                    exclusive = Some(key.0);
                }
            }
        };
        for key in self.waiting_spans.iter().chain(&self.preparing) {
            if overlaps(&self.waiters[key].need().target, target) {
                work.insert(*key);
            }
        }
        match target {
            Target::Point(point) => {
                if let Some(queue) = self.waiting_points.get(point) {
                    front(queue, work);
                }
            }
            Target::Span(span) if !span.is_empty() => {
                let upper = span.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let queues = self.waiting_points.range::<Key, _>((Bound::Included(&span.start), upper));
                queues.for_each(|(_, queue)| front(queue, work));
            }
            Target::Span(_) => {}
        }
    }

    /// Checks the invariants of the crate's essay.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check_invariants(&self) {
        self.segments.check_invariants();
        for (key, holders) in &self.points {
            assert!(!holders.is_empty(), "point without holders at {key:?}");
            let mut all: Vec<(TxnId, Mode)> = holders.to_vec();
            all.extend(self.segments.at(key).into_iter().flat_map(|s| s.holders.iter().copied()));
            assert_compatible(&all);
            for (txn, _) in holders {
                assert!(self.owners.contains_key(txn), "{txn} holds {key:?} and is no owner");
            }
        }
        for (_, holders) in self.segments.iter() {
            assert_compatible(holders);
        }
        for (key, waiter) in &self.waiters {
            assert_eq!(self.tickets.get(&key.1), Some(&key.0), "ticket index is off for {:?}", key.1);
            let obstacle = self.obstacle(&key.0, waiter.need(), waiter.discipline);
            assert!(
                matches!(obstacle, Obstacle::Wait),
                "{} waits although its obstacle is {obstacle:?}",
                key.0
            );
        }
        let indexed =
            self.waiting_points.values().map(BTreeSet::len).sum::<usize>() + self.waiting_spans.len();
        assert_eq!(indexed, self.waiters.len(), "every waiter is indexed exactly once");
        assert!(self.segments.is_empty() || !self.owners.is_empty(), "segments without owners");
    }
}

fn assert_compatible(holders: &[(TxnId, Mode)]) {
    for (i, (a, mode)) in holders.iter().enumerate() {
        for (b, other) in &holders[i + 1..] {
            assert!(a == b || !mode.conflicts(*other), "{a} and {b} hold conflicting locks");
        }
    }
}

struct Verdict<'a> {
    discipline: Discipline,
    requester: &'a TxnId,
    wounds: SmallVec<[TxnId; 4]>,
    wait: bool,
    deadlock: bool,
}

impl Verdict<'_> {
    fn into_obstacle(self) -> Obstacle {
        if self.deadlock {
            Obstacle::Deadlock
        } else if self.wait {
            Obstacle::Wait
        } else if self.wounds.is_empty() {
            Obstacle::None
        } else {
            Obstacle::Wound(self.wounds)
        }
    }
}

fn overlaps(a: &Target, b: &Target) -> bool {
    match (a, b) {
        (Target::Point(a), Target::Point(b)) => a == b,
        (Target::Point(p), Target::Span(s)) | (Target::Span(s), Target::Point(p)) => s.contains(p.as_bytes()),
        (Target::Span(a), Target::Span(b)) => a.overlaps(b),
    }
}
