//! Hedged reads: a read that its replica keeps waiting is sent to a second one, and the first answer counts.
//!
//! Snapshot reads may be answered by several replicas, and one that is slow for a moment (its disk, its processor, the way
//! to it) is all that a reader's 99th percentile is made of. A read is hedged when it has taken longer than 95 of a
//! hundred reads of its kind at its replica do, to the quickest of the other replicas that can answer it. The loser's
//! wait is cancelled (Dean and Barroso, "The Tail at Scale", 2013).
//!
//! ```text
//!   asked --answer at once (this node)--------------------------> answer, nothing is counted
//!     |
//!     +--answer within p95------------------------------------> answer, counted
//!     +--p95 has passed, budget--> second replica asked
//!                                      +--first answers---------> answer; the second is slower than that
//!                                      +--second answers--------> answer; the first is slower than that
//! ```
//! *Budget.* Every read adds [`BUDGET_PER_READ`] of a hedge, so that hedges are at most that share of all reads and a few
//! more. A replica that is slow all the time is therefore not hedged away but avoided: where any replica can answer, the
//! one with the least median is asked first ([`Hedging::nearest`]). Medians that are unknown or old are learned by
//! hedging at once, within the same budget, and fade, so that a replica that has recovered is asked again.
//!
//! Which replica answers changes nothing about what is read: the timestamp is the same (I-8).
//!
//! The module counts and decides; it neither waits nor sends. Times come in with every call.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meridian_types::NodeId;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Hedges in a thousand that a read adds to the budget: two of a hundred reads are hedged at most.
const BUDGET_PER_READ: u32 = 20;
/// What a hedge takes from the budget.
const HEDGE: u32 = 1_000;
/// The most that is saved up: a replica that stops answers a few reads by hedges at once.
const BUDGET_MAX: u32 = 10 * HEDGE;

/// The delay while nothing is known of a replica.
const DELAY_AT_FIRST: Duration = Duration::from_millis(50);
/// Timers are no finer.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// A replica that is this many times quicker, and by [`CLEAR_LEAD`], is asked instead of the usual one.
const CLEARLY_QUICKER: u32 = 2;
/// See [`CLEARLY_QUICKER`].
const CLEAR_LEAD: Duration = Duration::from_millis(1);
/// What was learned longer ago than this is learned again; and a median halves so often.
const OLD: Duration = Duration::from_secs(10);

/// Points and scans take different times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    /// Single keys.
    Points,
    /// A page of a span.
    Scan,
}

/// What is known of the time that one kind of reads takes at one node.
#[derive(Clone, Copy, Debug)]
struct Latency {
    median: Duration,
    p95: Duration,
    seen: Instant,
}

/// Moves an estimate of a quantile by one sample. In balance, the steps up and down cancel out: a share `1 - quantile` of
/// the samples is above.
fn step(estimate: Duration, sample: Duration, quantile: f64, gain: f64) -> Duration {
    let factor = if sample > estimate { 1.0 + gain * quantile } else { 1.0 - gain * (1.0 - quantile) };
    estimate.mul_f64(factor).max(Duration::from_micros(1))
}

impl Latency {
    fn of(sample: Duration, now: Instant) -> Self {
        Latency { median: sample, p95: sample, seen: now }
    }

    fn add(&mut self, sample: Duration, now: Instant) {
        self.median = step(self.faded(now), sample, 0.5, 0.4);
        self.p95 = step(self.p95, sample, 0.95, 0.1);
        self.seen = now;
    }

    /// The median, less where it is old.
    fn faded(&self, now: Instant) -> Duration {
        let halvings = now.saturating_duration_since(self.seen).as_secs() / OLD.as_secs();
        self.median / 2u32.saturating_pow(u32::try_from(halvings).unwrap_or(u32::MAX))
    }
}

/// Whom to ask second, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hedge {
    pub(crate) node: NodeId,
    pub(crate) after: Duration,
}

#[derive(Debug, Default)]
struct State {
    latencies: BTreeMap<(NodeId, Kind), Latency>,
    budget: u32,
}

/// Latencies of other replicas, and the budget of hedges, of one gateway.
///
/// Invariant: hedges that were granted are at most reads x [`BUDGET_PER_READ`] / [`HEDGE`].
#[derive(Debug, Default)]
pub(crate) struct Hedging {
    state: Mutex<State>,
    sent: AtomicU64,
    won: AtomicU64,
}

impl Hedging {
    /// Whom to ask first of the replicas that can answer alone: `usual`, unless another one is clearly quicker.
    pub(crate) fn nearest(
        &self,
        kind: Kind,
        usual: NodeId,
        others: impl Iterator<Item = NodeId>,
        now: Instant,
    ) -> NodeId {
        let state = self.state.lock();
        let median = |node| state.latencies.get(&(node, kind)).map(|l| l.faded(now));
        let Some(usually) = median(usual) else { return usual };
        let quickest = others.filter_map(|node| median(node).map(|m| (m, node))).min();
        match quickest {
            Some((m, node)) if usually > m * CLEARLY_QUICKER && usually > m + CLEAR_LEAD => node,
            _ => usual,
        }
    }

    /// A read at `first` waits. `None` where there is nobody else to ask.
    pub(crate) fn plan(
        &self,
        kind: Kind,
        first: NodeId,
        others: impl Iterator<Item = NodeId>,
        now: Instant,
    ) -> Option<Hedge> {
        let mut state = self.state.lock();
        state.budget = (state.budget + BUDGET_PER_READ).min(BUDGET_MAX);
        let known = |node: &NodeId| state.latencies.get(&(*node, kind));
        let is_fresh = |l: &Latency| now.saturating_duration_since(l.seen) < OLD;
        // What is not known sorts first.
        let second = others.min_by_key(|node| known(node).filter(|l| is_fresh(l)).map(|l| l.median))?;
        let after = match (known(&second), known(&first)) {
            (Some(latency), Some(first)) if is_fresh(latency) => first.p95.max(DELAY_MIN),
            (_, Some(_)) => Duration::ZERO,
            (_, None) => DELAY_AT_FIRST,
        };
        Some(Hedge { node: second, after })
    }

    /// Takes a hedge from the budget, if there is one.
    pub(crate) fn take(&self) -> bool {
        let mut state = self.state.lock();
        let left = state.budget.checked_sub(HEDGE);
        state.budget = left.unwrap_or(state.budget);
        if left.is_some() {
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        left.is_some()
    }

    /// A hedge was answered first.
    pub(crate) fn note_won(&self) {
        self.won.fetch_add(1, Ordering::Relaxed);
    }

    /// A read took so long at a node, or at least so long where the other replica was quicker.
    pub(crate) fn note(&self, kind: Kind, node: NodeId, took: Duration, now: Instant) {
        let mut state = self.state.lock();
        let latency = state.latencies.entry((node, kind));
        latency.and_modify(|l| l.add(took, now)).or_insert_with(|| Latency::of(took, now));
    }

    /// Hedges sent, and those that were answered first.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.won.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn node(n: u32) -> NodeId {
        NodeId::new(n)
    }

    fn learn(hedging: &Hedging, n: u32, took: Duration, now: Instant) {
        for _ in 0..200 {
            hedging.note(Kind::Points, node(n), took, now);
        }
    }

    fn plan(hedging: &Hedging, first: u32, others: &[u32], now: Instant) -> Option<Hedge> {
        hedging.plan(Kind::Points, node(first), others.iter().copied().map(node), now)
    }

    #[test]
    fn estimates_find_the_quantiles_of_what_comes() {
        let now = Instant::now();
        let mut latency = Latency::of(MS * 500, now);
        let mut rng = meridian_types::SeededRng::new(7);
        let (mut medians, mut p95s) = (0.0, 0.0);
        for i in 0..20_000 {
            // Uniform from 0 to 100 ms.
            latency.add(Duration::from_micros(rng.below(100_000)), now);
            if i >= 10_000 {
                medians += latency.median.as_secs_f64() / 10.0;
                p95s += latency.p95.as_secs_f64() / 10.0;
            }
        }
        assert!((40.0..60.0).contains(&medians), "{medians} ms");
        assert!((85.0..103.0).contains(&p95s), "{p95s} ms");
    }

    #[test]
    fn a_read_waits_for_the_95th_percentile_of_its_replica_and_goes_to_the_quickest_other() {
        let (hedging, now) = (Hedging::default(), Instant::now());
        learn(&hedging, 1, 20 * MS, now);
        learn(&hedging, 2, 9 * MS, now);
        learn(&hedging, 3, 5 * MS, now);
        let hedge = plan(&hedging, 1, &[2, 3], now).unwrap();
        assert_eq!(hedge.node, node(3));
        assert!((18 * MS..22 * MS).contains(&hedge.after), "{hedge:?}");
        assert_eq!(plan(&hedging, 1, &[], now), None, "nobody else can answer");
    }

    #[test]
    fn unknown_and_forgotten_replicas_are_learned_by_hedging_at_once() {
        let (hedging, now) = (Hedging::default(), Instant::now());
        assert_eq!(plan(&hedging, 1, &[2], now), Some(Hedge { node: node(2), after: DELAY_AT_FIRST }));
        learn(&hedging, 1, 20 * MS, now);
        learn(&hedging, 2, 9 * MS, now);
        assert_eq!(plan(&hedging, 1, &[2, 3], now), Some(Hedge { node: node(3), after: Duration::ZERO }));
        assert!(plan(&hedging, 1, &[2], now).unwrap().after > Duration::ZERO);
        let later = now + OLD;
        assert_eq!(plan(&hedging, 1, &[2], later), Some(Hedge { node: node(2), after: Duration::ZERO }));
    }

    #[test]
    fn hedges_are_two_of_a_hundred_reads() {
        let (hedging, now) = (Hedging::default(), Instant::now());
        assert!(!hedging.take(), "nothing is saved up yet");
        let mut granted = 0;
        for _ in 0..10_000 {
            plan(&hedging, 1, &[2], now);
            granted += u32::from(hedging.take());
        }
        assert_eq!(granted, 200);
        for _ in 0..10_000 {
            plan(&hedging, 1, &[2], now);
        }
        let at_once = std::iter::repeat_with(|| hedging.take()).take_while(|granted| *granted).count();
        assert_eq!(at_once, 10, "so many are saved up");
        assert_eq!(hedging.counts().0, 210);
    }

    #[test]
    fn a_replica_that_is_slow_all_the_time_is_avoided_until_it_is_forgotten() {
        let (hedging, now) = (Hedging::default(), Instant::now());
        let nearest = |now| hedging.nearest(Kind::Points, node(1), [node(2), node(3)].into_iter(), now);
        assert_eq!(nearest(now), node(1), "nothing is known");
        learn(&hedging, 2, 5 * MS, now);
        assert_eq!(nearest(now), node(1), "nothing is known of the usual one");
        learn(&hedging, 1, 8 * MS, now);
        assert_eq!(nearest(now), node(1), "not by so much");
        learn(&hedging, 1, 40 * MS, now);
        assert_eq!(nearest(now), node(2));
        // Meanwhile only the other one is asked.
        let later = now + 4 * OLD;
        learn(&hedging, 2, 5 * MS, later);
        assert_eq!(nearest(later), node(1), "it may have recovered");
        for _ in 0..10 {
            hedging.note(Kind::Points, node(1), 40 * MS, later);
        }
        assert_eq!(nearest(later), node(2), "it has not");
    }
}
