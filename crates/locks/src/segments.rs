//! The segment map: span locks cut into disjoint segments.
//!
//! ```text
//!   t1 shared    [a---------------m)
//!   t2 shared            [f---------------t)
//!   segments     [a------f)[f-----m)[m----t)
//!                 {t1}     {t1,t2}  {t2}
//! ```

use std::collections::BTreeMap;
use std::ops::Bound;

use meridian_types::{Key, Span, TxnId};
use smallvec::SmallVec;

use crate::Mode;

/// The holders of a point or a segment, in no particular order; a transaction appears at most once.
pub(crate) type Holders = SmallVec<[(TxnId, Mode); 2]>;

/// Adds a holder, or strengthens what it holds.
pub(crate) fn add_holder(holders: &mut Holders, txn: TxnId, mode: Mode) {
    match holders.iter_mut().find(|(holder, _)| *holder == txn) {
        Some((_, held)) => *held = (*held).max(mode),
        None => holders.push((txn, mode)),
    }
}

/// Removes a holder; true when it was one.
pub(crate) fn remove_holder(holders: &mut Holders, txn: &TxnId) -> bool {
    match holders.iter().position(|(holder, _)| holder == txn) {
        Some(at) => {
            holders.swap_remove(at);
            true
        }
        None => false,
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) end: Option<Key>,
    pub(crate) holders: Holders,
}

/// Disjoint segments by their start. Invariant: none is empty, none is without holders.
#[derive(Default, Debug)]
pub(crate) struct Segments {
    by_start: BTreeMap<Key, Segment>,
}

impl Segments {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// The segment that covers `key`.
    pub(crate) fn at(&self, key: &Key) -> Option<&Segment> {
        if self.by_start.is_empty() {
            return None;
        }
        let (_, segment) = self.by_start.range::<Key, _>(..=key).next_back()?;
        segment.end.as_ref().is_none_or(|end| key < end).then_some(segment)
    }

    /// The segments that share a key with `span`, ascending.
    pub(crate) fn overlapping<'a>(&'a self, span: &'a Span) -> impl Iterator<Item = (&'a Key, &'a Segment)> {
        let first = self
            .by_start
            .range::<Key, _>(..&span.start)
            .next_back()
            .filter(|(_, s)| s.end.as_ref().is_none_or(|end| *end > span.start));
        let upper = span.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let inside =
            (!span.is_empty()).then(|| self.by_start.range::<Key, _>((Bound::Included(&span.start), upper)));
        first.into_iter().filter(|_| !span.is_empty()).chain(inside.into_iter().flatten())
    }

    /// True when `txn` holds every key of `span` at `mode` or stronger.
    pub(crate) fn covers(&self, span: &Span, txn: &TxnId, mode: Mode) -> bool {
        let mut reached = Some(span.start.clone());
        for (start, segment) in self.overlapping(span) {
            let Some(from) = &reached else { break };
            if start > from || !segment.holders.iter().any(|(t, m)| t == txn && *m >= mode) {
                return false;
            }
            reached = segment.end.clone();
        }
        match (&reached, &span.end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(reached), Some(end)) => reached >= end,
        }
    }

    /// Makes `key` a border, where a segment covers it.
    fn cut(&mut self, key: &Key) {
        let Some((start, segment)) = self.by_start.range_mut::<Key, _>(..key).next_back() else { return };
        assert!(start < key, "the range was exclusive");
        if segment.end.as_ref().is_some_and(|end| end <= key) {
            return;
        }
        let right = segment.clone();
        segment.end = Some(key.clone());
        self.by_start.insert(key.clone(), right);
    }

    /// Adds a holder over a span.
    pub(crate) fn add(&mut self, span: &Span, txn: TxnId, mode: Mode) {
        if span.is_empty() {
            return;
        }
        self.cut(&span.start);
        if let Some(end) = &span.end {
            self.cut(end);
        }
        let upper = span.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut gaps: Vec<Span> = Vec::new();
        let mut reached = Some(span.start.clone());
        for (start, segment) in self.by_start.range_mut::<Key, _>((Bound::Included(&span.start), upper)) {
            if let Some(from) = reached.take().filter(|from| from < start) {
                gaps.push(Span::new(from, Some(start.clone())));
            }
            add_holder(&mut segment.holders, txn, mode);
            reached = segment.end.clone();
            if reached.is_none() {
                break;
            }
        }
        if let Some(from) = reached {
            let rest = Span::new(from, span.end.clone());
            if !rest.is_empty() {
                gaps.push(rest);
            }
        }
        for gap in gaps {
            let holders = Holders::from_elem((txn, mode), 1);
            self.by_start.insert(gap.start, Segment { end: gap.end, holders });
        }
    }

    /// Removes a holder from a span that it holds, and heals borders that separate equals.
    pub(crate) fn remove(&mut self, span: &Span, txn: &TxnId) {
        if span.is_empty() {
            return;
        }
        self.cut(&span.start);
        if let Some(end) = &span.end {
            self.cut(end);
        }
        let upper = span.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut borders: Vec<Key> = Vec::new();
        let mut bare: Vec<Key> = Vec::new();
        for (start, segment) in self.by_start.range_mut::<Key, _>((Bound::Included(&span.start), upper)) {
            remove_holder(&mut segment.holders, txn);
            if segment.holders.is_empty() {
                bare.push(start.clone());
            } else {
                borders.push(start.clone());
            }
        }
        for start in bare {
            self.by_start.remove(&start);
        }
        borders.extend(span.end.clone());
        for border in borders {
            self.heal(&border);
        }
    }

    /// Joins the segments on both sides of a border when their holders are the same, so that a long-lived span is not
    /// left in shreds by the short-lived ones that crossed it.
    fn heal(&mut self, border: &Key) {
        let Some(right) = self.by_start.get(border) else { return };
        let Some((_, left)) = self.by_start.range::<Key, _>(..border).next_back() else { return };
        if left.end.as_ref() != Some(border) || !same_holders(&left.holders, &right.holders) {
            return;
        }
        let right = self.by_start.remove(border).expect("it was found above");
        let (_, left) = self.by_start.range_mut::<Key, _>(..border).next_back().expect("it was found above");
        left.end = right.end;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Span, &Holders)> {
        self.by_start.iter().map(|(start, s)| (Span::new(start.clone(), s.end.clone()), &s.holders))
    }

    pub(crate) fn check_invariants(&self) {
        let mut reached: Option<&Key> = None;
        let mut closed = false;
        for (start, segment) in &self.by_start {
            assert!(!closed, "a segment follows one without end");
            assert!(reached.is_none_or(|r| r <= start), "segments overlap at {start:?}");
            assert!(segment.end.as_ref().is_none_or(|end| start < end), "empty segment at {start:?}");
            assert!(!segment.holders.is_empty(), "segment without holders at {start:?}");
            reached = segment.end.as_ref();
            closed = reached.is_none();
        }
    }
}

fn same_holders(a: &Holders, b: &Holders) -> bool {
    a.len() == b.len() && a.iter().all(|h| b.contains(h))
}
