//! What is proposed and not applied yet, for those who lock it next (docs/decisions/0024).
//!
//! ```text
//!   Commit of one shard --proposed--> locks released, writes in the overlay --applied--> in the data engine
//!                                        |
//!                                        +-- a later transaction locks a key of it: reads it here, and is a *dependant*
//! ```
//! A dependant logs behind what it depends on, in the same log, so that it can't take effect alone (see the epochs of
//! `apply.rs`). What it wants answered without logging anything here waits until what it depends on is applied. Locking
//! scans wait likewise, so that pages need not be merged; SKIP LOCKED takes such rows for locked.
//!
//! Reads without locks never look here (I-8).
//!
//! Invariants: every key's slot is in flight; of several slots that write a key it has the greatest.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use meridian_types::{Key, Slot, Span, TxnId};

use crate::leader::Work;
use crate::planted::Planted;
use crate::replica::{Replica, Step};
use crate::{AbortReason, ReadMode, ReadOp, Request, RequestId, ShardError, Write};

/// A commit with more writes keeps its locks until it is applied: rows that many want are written by few at a time, and
/// a load should not fill the overlay.
pub(crate) const RELEASED_WRITES_MAX: usize = 64;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Version {
    slot: Slot,
    value: Option<Bytes>,
}

/// The newest versions that are in flight and no longer locked.
#[derive(Clone, Default, Debug)]
pub(crate) struct Overlay {
    newest: BTreeMap<Key, Version>,
}

impl Overlay {
    /// The writes of a slot are no longer locked.
    pub(crate) fn add(&mut self, slot: Slot, writes: &[Write]) {
        for write in writes {
            let version = Version { slot, value: write.value.clone() };
            let before = self.newest.insert(write.key.clone(), version);
            assert!(
                before.is_none_or(|b| b.slot <= slot),
                "a later slot has written {:?} already",
                write.key
            );
        }
    }

    /// The data engine has what a slot wrote.
    pub(crate) fn applied(&mut self, slot: Slot, writes: &[Write]) {
        if self.newest.is_empty() {
            return;
        }
        for write in writes {
            if self.newest.get(&write.key).is_some_and(|version| version.slot == slot) {
                self.newest.remove(&write.key);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// The keys of the span that are here.
    fn keys_in<'a>(&'a self, span: &Span) -> impl Iterator<Item = (&'a Key, Slot)> + use<'a> {
        let end = span.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let bounds = (Bound::Included(span.start.clone()), end);
        let found = (!span.is_empty()).then(|| self.newest.range::<Key, _>(bounds));
        found.into_iter().flatten().map(|(key, version)| (key, version.slot))
    }

    pub(crate) fn check_invariants(&self, is_in_flight: impl Fn(Slot) -> bool) {
        for (key, version) in &self.newest {
            assert!(is_in_flight(version.slot), "{key:?} is in the overlay, and its slot is not in flight");
        }
    }
}

/// A request that waits until what its transaction depends on is applied.
#[derive(Debug)]
pub(crate) struct Dependant {
    after: Slot,
    pub(crate) id: RequestId,
    request: Request,
}

impl Replica {
    /// A commit of one shard was proposed: its locks go at the end of the step, and its writes are here from now on.
    pub(crate) fn release_at_proposal(&mut self, txn: TxnId, slot: Slot) {
        let leader = self.leader_mut();
        let flight = leader.in_flight.get(&slot).expect("it was just proposed");
        leader.overlay.add(slot, &flight.writes);
        leader.released.push(txn);
    }

    /// Releases the locks of what was proposed, which may let others be proposed: theirs go in the next round, so that a
    /// queue of any length is worked off without recursion. True when there was something to do.
    pub(crate) fn release_locks(&mut self, cx: &mut Step<'_>) -> bool {
        let Some(leader) = self.leader.as_mut() else { return false };
        let released = std::mem::take(&mut leader.released);
        for txn in &released {
            let Some(leader) = self.leader.as_mut() else { return false };
            let mut events = Vec::new();
            // A statement that nobody waited for any more, and whose cancellation has not come yet, may still wait.
            for ticket in leader.locks.release(*txn, &mut events) {
                leader.lock_waits.remove(&ticket);
                cx.abort(RequestId(ticket.0), AbortReason::LocksLost);
            }
            self.on_lock_events(events, cx);
        }
        !released.is_empty()
    }

    /// A locking read that has its locks.
    pub(crate) fn read_locked(&mut self, id: RequestId, work: Work, cx: &mut Step<'_>) {
        let Work::Read { txn, mode, wait, ops, skip } = work else { unreachable!("the caller matched") };
        let leader = self.leader_mut();
        if leader.overlay.is_empty() {
            return self.serve_locked(id, txn.id, ops, Vec::new(), skip, cx);
        }
        let scans = ops.iter().filter_map(|op| match op {
            ReadOp::Scan { span, .. } => leader.overlay.keys_in(span).map(|(_, slot)| slot).max(),
            ReadOp::Get(_) => None,
        });
        if let Some(after) = scans.max() {
            let request = Request::Read { mode: ReadMode::Locking { txn, mode, wait }, ops };
            return self.put_behind(Dependant { after, id, request }, cx);
        }
        let mut values = Vec::new();
        let mut after = Slot::ZERO;
        for (at, op) in ops.iter().enumerate() {
            let ReadOp::Get(key) = op else { continue };
            if let Some(version) = leader.overlay.newest.get(key) {
                after = after.max(version.slot);
                values.push((at, version.value.clone()));
            }
        }
        let state = leader.txns.get_mut(&txn.id).expect("who reads under locks is registered");
        state.after = state.after.max(after);
        if self.config.has(Planted::ReadUnderOverlay) {
            values.clear();
        }
        self.serve_locked(id, txn.id, ops, values, skip, cx);
    }

    /// The keys of the overlay that a read with SKIP LOCKED passes over.
    pub(crate) fn overlaid_keys(&mut self, ops: &[ReadOp]) -> Vec<Key> {
        let overlay = &self.leader_mut().overlay;
        let mut keys = Vec::new();
        for op in ops.iter().filter(|_| !overlay.is_empty()) {
            match op {
                ReadOp::Get(key) => keys.extend(overlay.newest.contains_key(key).then(|| key.clone())),
                ReadOp::Scan { span, .. } => keys.extend(overlay.keys_in(span).map(|(key, _)| key.clone())),
            }
        }
        keys
    }

    /// Where a request has to wait for: it ends a transaction, or votes for it, without an entry of its own that would stand
    /// behind what the transaction depends on.
    pub(crate) fn depends_on(&self, request: &Request) -> Option<Slot> {
        let txn = match request {
            Request::EndReads { txn } => txn,
            Request::Commit { txn, writes, staged_chunks: 0, .. }
            | Request::Prepare { txn, writes, staged_chunks: 0, .. }
                if writes.is_empty() =>
            {
                txn
            }
            _ => return None,
        };
        let after = self.leader.as_ref()?.txns.get(&txn.id)?.after;
        (after > self.state.confirmed && !self.config.has(Planted::AnswerOnOverlay)).then_some(after)
    }

    /// Keeps a request until a slot is applied here.
    pub(crate) fn wait_for_slot(&mut self, after: Slot, id: RequestId, request: Request, cx: &mut Step<'_>) {
        self.put_behind(Dependant { after, id, request }, cx);
    }

    fn put_behind(&mut self, dependant: Dependant, cx: &mut Step<'_>) {
        let max = self.config.waiters_max;
        let leader = self.leader_mut();
        assert!(leader.in_flight.contains_key(&dependant.after), "who waits for a slot that is applied?");
        if leader.dependants.len() >= max {
            return cx.reply(dependant.id, Err(ShardError::Overloaded));
        }
        leader.dependants.push(dependant);
    }

    /// Takes up again what waited for slots that are applied. True when there was something to do.
    pub(crate) fn retry_dependants(&mut self, cx: &mut Step<'_>) -> bool {
        let confirmed = self.state.confirmed;
        let Some(leader) = self.leader.as_mut() else { return false };
        if leader.dependants.iter().all(|d| d.after > confirmed) {
            return false;
        }
        let dependants = std::mem::take(&mut leader.dependants);
        let (ripe, rest): (Vec<_>, Vec<_>) = dependants.into_iter().partition(|d| d.after <= confirmed);
        leader.dependants = rest;
        for Dependant { id, request, .. } in ripe {
            self.request(id, request, cx);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: &str, value: Option<&'static str>) -> Write {
        Write { key: Key::new(key.as_bytes().to_vec()), value: value.map(Bytes::from) }
    }

    #[test]
    fn the_newest_version_of_a_key_stays_until_its_own_slot_is_applied() {
        let mut overlay = Overlay::default();
        let (first, second) = ([write("a", Some("1")), write("b", None)], [write("a", Some("2"))]);
        overlay.add(Slot::new(5), &first);
        overlay.add(Slot::new(6), &second);
        let all = Span::new(Key::MIN, None);
        let slots = |overlay: &Overlay| overlay.keys_in(&all).map(|(_, slot)| slot.get()).collect::<Vec<_>>();
        assert_eq!(slots(&overlay), [6, 5]);
        overlay.applied(Slot::new(5), &first);
        assert_eq!(slots(&overlay), [6], "what slot 6 wrote is not applied");
        overlay.check_invariants(|slot| slot == Slot::new(6));
        overlay.applied(Slot::new(6), &second);
        assert!(overlay.is_empty());
    }

    #[test]
    fn a_span_has_its_own_keys_only() {
        let mut overlay = Overlay::default();
        overlay.add(Slot::new(1), &[write("a", None), write("c", None)]);
        let count = |start: &str, end: Option<&str>| {
            let end = end.map(|e| Key::new(e.as_bytes().to_vec()));
            overlay.keys_in(&Span::new(Key::new(start.as_bytes().to_vec()), end)).count()
        };
        assert_eq!((count("a", Some("c")), count("b", None), count("c", Some("c"))), (1, 1, 0));
    }
}
