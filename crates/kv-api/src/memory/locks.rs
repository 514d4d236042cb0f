//! The locks of one transaction, as two sets of disjoint intervals.

use std::collections::BTreeMap;

use meridian_types::{Key, Span};

use crate::ReadLock;

/// What one transaction has locked.
#[derive(Debug, Default)]
pub(super) struct LockSet {
    shared: SpanSet,
    exclusive: SpanSet,
}

impl LockSet {
    /// Adds a lock.
    pub(super) fn add(&mut self, span: &Span, lock: ReadLock) {
        match lock {
            ReadLock::Shared => self.shared.insert(span.clone()),
            ReadLock::Exclusive => self.exclusive.insert(span.clone()),
        }
    }

    /// True when another transaction may not lock `span` like this.
    pub(super) fn conflicts(&self, span: &Span, lock: ReadLock) -> bool {
        self.exclusive.overlaps(span) || (lock == ReadLock::Exclusive && self.shared.overlaps(span))
    }

    /// Every locked interval.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Span, ReadLock)> {
        let shared = self.shared.iter().map(|s| (s, ReadLock::Shared));
        shared.chain(self.exclusive.iter().map(|s| (s, ReadLock::Exclusive)))
    }
}

/// A set of keys as intervals. Invariant: intervals neither overlap nor touch.
#[derive(Debug, Default)]
struct SpanSet {
    by_start: BTreeMap<Key, Option<Key>>,
}

impl SpanSet {
    fn insert(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let Span { mut start, mut end } = span;
        if let Some((s, e)) = self.by_start.range::<Key, _>(..=&start).next_back()
            && e.as_ref().is_none_or(|e| *e >= start)
        {
            start = s.clone();
            end = later(end, e.clone());
        }
        while let Some((s, e)) = self.by_start.range::<Key, _>(&start..).next()
            && end.as_ref().is_none_or(|end| s <= end)
        {
            end = later(end, e.clone());
            let s = s.clone();
            self.by_start.remove(&s);
        }
        self.by_start.insert(start, end);
    }

    fn overlaps(&self, span: &Span) -> bool {
        let before = self.by_start.range::<Key, _>(..=&span.start).next_back();
        let after = self.by_start.range::<Key, _>(&span.start..).next();
        before.into_iter().chain(after).any(|(s, e)| Span::new(s.clone(), e.clone()).overlaps(span))
    }

    fn iter(&self) -> impl Iterator<Item = Span> {
        self.by_start.iter().map(|(s, e)| Span::new(s.clone(), e.clone()))
    }
}

/// The later of two ends, where `None` is the end of the keyspace.
fn later(a: Option<Key>, b: Option<Key>) -> Option<Key> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        _ => None,
    }
}
