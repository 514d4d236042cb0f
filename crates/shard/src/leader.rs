//! What only a leader has: locks, registered transactions, assigned timestamps, proposals in flight, and who waits.
//!
//! All of it is volatile: it dies with the leadership (I-9 rests on the log alone).
//!
//! ```text
//!   a transaction at this shard
//!
//!   (no entry) --read, stage, write--> Active --Commit, Decide--> Deciding --applied--> (no entry)
//!       ^                                | \---Prepare, writes--> Preparing --applied--> Prepared --Resolve--> (no entry)
//!       |                                |  \--Prepare, none----> Voted --Resolve, Rollback, silence--> (no entry)
//!       +-- wounded, silent, rollback ---+
//! ```
//! Invariants: every state but Active is pinned in the lock table, or, Deciding, holds no lock any more (`overlay.rs`); a
//! transaction in flight has an entry.

use std::collections::BTreeMap;

use meridian_locks::{LockTable, Ticket};
use meridian_types::{Ballot, Key, NodeId, Slot, Span, Timestamp, TxnId};
use smallvec::SmallVec;

use crate::overlay::{Dependant, Overlay};
use crate::{Outcome, ReadOp, Registration, Request, RequestId, TxnRef, Vote, WaitPolicy, Write};

/// Where a transaction stands at this shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Takes locks.
    Active,
    /// Its commit is in flight.
    Deciding,
    /// Its prepare record is in flight.
    Preparing,
    /// Its prepare record is applied.
    Prepared,
    /// Wrote nothing here, and voted that its read locks stand up to this timestamp.
    Voted { until: Timestamp },
}

#[derive(Clone, Debug)]
pub(crate) struct Txn {
    pub(crate) number: u64,
    pub(crate) last_heard: Timestamp,
    pub(crate) phase: Phase,
    /// It has read here under locks, which die with this leader's lease.
    pub(crate) has_reads: bool,
    /// Chunks staged and applied.
    pub(crate) staged: u32,
    /// A chunk was proposed: dropping the transaction must be logged.
    pub(crate) may_have_staged: bool,
    /// It has read what this slot writes, which may not be applied yet.
    pub(crate) after: Slot,
}

/// A request that works on locks and may have to wait for them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    Read { txn: TxnRef, mode: crate::LockMode, wait: WaitPolicy, ops: Vec<ReadOp>, skip: Vec<Key> },
    Stage { txn: TxnRef, chunk: u32, lock: Span, writes: Vec<Write> },
    Commit { txn: TxnRef, writes: Vec<Write>, staged_chunks: u32, max_ts: Timestamp },
    Prepare { txn: TxnRef, writes: Vec<Write>, staged_chunks: u32, coordinator: Key, max_ts: Timestamp },
    Decide { txn: TxnRef, writes: Vec<Write>, staged_chunks: u32, window: Vote, participants: Vec<Key> },
}

impl Work {
    pub(crate) fn txn(&self) -> TxnRef {
        match self {
            Work::Read { txn, .. }
            | Work::Stage { txn, .. }
            | Work::Commit { txn, .. }
            | Work::Prepare { txn, .. }
            | Work::Decide { txn, .. } => *txn,
        }
    }

    pub(crate) fn is_inside(&self, span: &Span) -> bool {
        match self {
            Work::Read { ops, .. } => crate::reads::ops_inside(ops, span),
            Work::Stage { lock, writes, .. } => {
                span.contains_span(lock) && writes.iter().all(|w| lock.contains(w.key.as_bytes()))
            }
            Work::Commit { writes, .. } | Work::Prepare { writes, .. } | Work::Decide { writes, .. } => {
                writes.iter().all(|w| span.contains(w.key.as_bytes()))
            }
        }
    }
}

/// What a request waits to hear of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Await {
    /// Commit or Decide: `Committed`.
    Commit,
    Stage(u32),
    Vote,
    Resolve,
    /// QueryOutcome.
    Outcome,
    Forget,
}

/// A proposal that the data engine does not have yet.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    /// The commit or prepare timestamp; `None` where no version comes of it.
    pub(crate) ts: Option<Timestamp>,
    pub(crate) writes: Vec<Write>,
    pub(crate) spans: Vec<Span>,
}

impl InFlight {
    /// True when a read of `op` at `t` must wait for it.
    pub(crate) fn blocks(&self, op: &ReadOp, t: Timestamp) -> bool {
        if self.ts.is_none_or(|ts| ts > t) {
            return false;
        }
        match op {
            ReadOp::Get(key) => {
                self.writes.iter().any(|w| w.key == *key)
                    || self.spans.iter().any(|s| s.contains(key.as_bytes()))
            }
            ReadOp::Scan { span, .. } => {
                self.writes.iter().any(|w| span.contains(w.key.as_bytes()))
                    || self.spans.iter().any(|s| s.overlaps(span))
            }
        }
    }
}

/// When to ask or tell next about a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    pub(crate) due: Timestamp,
    pub(crate) pause: meridian_types::Duration,
}

#[derive(Debug)]
pub(crate) struct Splitting {
    pub(crate) id: RequestId,
    pub(crate) at: Key,
    pub(crate) new_group: meridian_types::GroupId,
    pub(crate) deadline: Timestamp,
    pub(crate) proposed: bool,
}

#[derive(Debug)]
pub(crate) struct HandingOver {
    pub(crate) id: RequestId,
    pub(crate) to: NodeId,
    pub(crate) deadline: Timestamp,
    pub(crate) sent: bool,
}

/// A change of members in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changing {
    pub(crate) id: RequestId,
    pub(crate) slot: Slot,
}

type Replies = SmallVec<[(RequestId, Await); 1]>;

/// The leader's part of a replica.
#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) ballot: Ballot,
    pub(crate) ready_at: Slot,
    /// Its own first entry is proposed, at `ready_at`.
    pub(crate) has_begun: bool,
    /// Applied through `ready_at`, prepared transactions locked again.
    pub(crate) serving: bool,
    /// Every later timestamp is above this (I-5). Covers assigned commits and prepares, closed timestamps, and reads.
    pub(crate) floor: Timestamp,
    /// The greatest commit or prepare timestamp assigned by this leader.
    pub(crate) assigned: Timestamp,
    /// The greatest timestamp told to followers, which may show commits up to it before this replica has applied them.
    pub(crate) closed: Timestamp,
    /// No timestamp may be assigned and no floor raised above this one: a split or a hand-over has told it to others.
    pub(crate) frozen: Option<Timestamp>,
    pub(crate) last_slot: Slot,
    pub(crate) locks: LockTable,
    pub(crate) txns: BTreeMap<TxnId, Txn>,
    pub(crate) next_number: u64,
    pub(crate) in_flight: BTreeMap<Slot, InFlight>,
    /// What of it is no longer locked.
    pub(crate) overlay: Overlay,
    /// Committing transactions whose locks go before the step ends.
    pub(crate) released: Vec<TxnId>,
    /// Requests that wait for a slot to be applied.
    pub(crate) dependants: Vec<Dependant>,
    pub(crate) lock_waits: BTreeMap<Ticket, Work>,
    /// Work that holds its locks (or needs none) but can't be proposed at the moment.
    pub(crate) retry: Vec<(RequestId, Work, Timestamp)>,
    /// Requests that arrived before the leader was ready.
    pub(crate) stalled: Vec<(RequestId, Request, Timestamp)>,
    pub(crate) awaits: BTreeMap<TxnId, Replies>,
    /// Abort records in flight.
    pub(crate) aborting: BTreeMap<TxnId, Slot>,
    /// Outcomes in flight, or known before the prepare record was applied.
    pub(crate) resolving: BTreeMap<TxnId, (Outcome, bool)>,
    /// Transactions whose `Forget` is in flight.
    pub(crate) forgetting: BTreeMap<TxnId, Slot>,
    /// Staged chunks to be dropped as soon as something can be proposed.
    pub(crate) orphans: Vec<TxnId>,
    pub(crate) recovery: BTreeMap<TxnId, Timer>,
    pub(crate) splitting: Option<Splitting>,
    pub(crate) handing_over: Option<HandingOver>,
    pub(crate) changing: Option<Changing>,
    /// Fills in flight, and who waits for them.
    pub(crate) fills: BTreeMap<Slot, RequestId>,
    pub(crate) next_scan: Timestamp,
}

impl Leader {
    pub(crate) fn new(ballot: Ballot, ready_at: Slot, floor: Timestamp) -> Self {
        Leader {
            ballot,
            ready_at,
            has_begun: false,
            serving: false,
            floor,
            assigned: Timestamp::ZERO,
            closed: Timestamp::ZERO,
            frozen: None,
            last_slot: ready_at,
            locks: LockTable::new(),
            txns: BTreeMap::new(),
            next_number: 1,
            in_flight: BTreeMap::new(),
            overlay: Overlay::default(),
            released: Vec::new(),
            dependants: Vec::new(),
            lock_waits: BTreeMap::new(),
            retry: Vec::new(),
            stalled: Vec::new(),
            awaits: BTreeMap::new(),
            aborting: BTreeMap::new(),
            resolving: BTreeMap::new(),
            forgetting: BTreeMap::new(),
            orphans: Vec::new(),
            recovery: BTreeMap::new(),
            splitting: None,
            handing_over: None,
            changing: None,
            fills: BTreeMap::new(),
            next_scan: Timestamp::ZERO,
        }
    }

    /// True while nothing may be proposed that holds up a split or a hand-over.
    pub(crate) fn is_draining(&self) -> bool {
        self.splitting.is_some() || self.handing_over.is_some()
    }

    /// True when nothing is locked, under way or waited for.
    pub(crate) fn is_idle(&self) -> bool {
        self.serving
            && !self.is_draining()
            && self.frozen.is_none()
            && self.changing.is_none()
            && self.txns.is_empty()
            && self.in_flight.is_empty()
            && self.dependants.is_empty()
            && self.lock_waits.is_empty()
            && self.retry.is_empty()
            && self.stalled.is_empty()
            && self.awaits.is_empty()
            && self.orphans.is_empty()
            && self.recovery.is_empty()
    }

    pub(crate) fn registration(&self, txn: &TxnId) -> Option<Registration> {
        let number = self.txns.get(txn)?.number;
        Some(Registration { ballot: self.ballot, number })
    }

    /// True when the transaction stands here and is the one that the caller knows.
    pub(crate) fn stands(&self, txn: &TxnRef) -> bool {
        match (self.registration(&txn.id), txn.registration) {
            (Some(current), Some(known)) => current == known,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    pub(crate) fn register(&mut self, txn: TxnId, phase: Phase, mono: Timestamp) -> &mut Txn {
        let number = self.next_number;
        self.next_number += 1;
        let fresh = Txn {
            number,
            last_heard: mono,
            phase,
            has_reads: false,
            staged: 0,
            may_have_staged: false,
            after: Slot::ZERO,
        };
        let previous = self.txns.insert(txn, fresh);
        assert!(previous.is_none(), "transaction {txn} is registered twice");
        self.txns.get_mut(&txn).expect("it was just inserted")
    }

    pub(crate) fn wait_for(&mut self, txn: TxnId, id: RequestId, what: Await) {
        self.awaits.entry(txn).or_default().push((id, what));
    }

    /// Takes the requests that wait for something of a kind.
    pub(crate) fn take_awaits(
        &mut self,
        txn: &TxnId,
        is: impl Fn(Await) -> bool,
    ) -> SmallVec<[RequestId; 1]> {
        let mut taken = SmallVec::new();
        if let Some(replies) = self.awaits.get_mut(txn) {
            replies.retain(|(id, what)| {
                let take = is(*what);
                if take {
                    taken.push(*id);
                }
                !take
            });
            if replies.is_empty() {
                self.awaits.remove(txn);
            }
        }
        taken
    }

    pub(crate) fn check_invariants(&self) {
        self.locks.check_invariants();
        for (txn, state) in &self.txns {
            if state.phase == Phase::Deciding {
                assert!(!self.in_flight.is_empty(), "{txn} decides and nothing is in flight");
            }
        }
        assert!(self.released.is_empty(), "locks of what is proposed are released within the step");
        self.overlay.check_invariants(|slot| self.in_flight.contains_key(&slot));
        let assigned = self.in_flight.values().filter_map(|f| f.ts).max();
        assert!(assigned.is_none_or(|ts| ts <= self.floor), "I-5: a timestamp in flight is above the floor");
        assert!(self.frozen.is_none_or(|f| self.floor <= f), "the floor moved while it was frozen");
        for ticket in self.lock_waits.keys() {
            assert!(ticket.0 != u64::MAX, "a request id is used up");
        }
    }
}
