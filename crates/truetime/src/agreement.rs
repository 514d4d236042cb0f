//! One interval out of many, some of which lie.
//!
//! Marzullo's algorithm finds the points that most intervals cover. That alone is not safe here: a liar that overlaps a
//! part of the honest intervals makes *its* part the one that most cover, and absolute time may lie in the rest.
//!
//! ```text
//!   honest  |-----------*---|            * is absolute time
//!   honest     |--------*--------|
//!   liar    |------|
//!              ^^^^                      covered by three: the wrong answer
//!           ^^^^^^^^^^^^^^^^             covered by two or more (hull): the right one
//! ```
//! Of `n` masters at most `f = (n - 1) / 2` lie. When `k` of them have answered, at least `k - f` of the answers are
//! honest, and all of those cover absolute time. So absolute time is covered at least `k - f` times, and the result is
//! the hull of all points that are. A majority of all `n` must agree on some point, else there is no result.

use meridian_types::{Timestamp, TtInterval};

use crate::MasterId;

/// What a majority of masters agrees on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// Holds absolute time when at most `(n - 1) / 2` masters lie.
    pub interval: TtInterval,
    /// Masters whose interval shares no point with a majority: they lie (or a majority does).
    pub rejected: Vec<MasterId>,
}

/// No majority agrees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disagreement {
    /// Masters that have answered recently.
    pub reporting: usize,
    /// The greatest number of them that agree.
    pub agreeing: usize,
    /// How many must.
    pub needed: usize,
}

/// How many of `masters` must agree.
pub const fn majority(masters: usize) -> usize {
    masters / 2 + 1
}

/// Combines the intervals of those masters that have answered, out of `masters` configured ones. All intervals are for
/// one moment.
pub fn agree(intervals: &[(MasterId, TtInterval)], masters: usize) -> Result<Agreement, Disagreement> {
    assert!(intervals.len() <= masters, "more masters answered than there are");
    let (reporting, needed) = (intervals.len(), majority(masters));
    let steps = coverage(intervals);
    let agreeing = steps.iter().map(|(_, covered)| *covered).max().unwrap_or(0);
    if agreeing < needed {
        return Err(Disagreement { reporting, agreeing, needed });
    }
    let liars_max = masters.saturating_sub(1) / 2;
    let trusted = covered_at_least(&steps, reporting - liars_max);
    let (first, last) = (trusted.first(), trusted.last());
    let (first, last) = first.zip(last).expect("what a majority covers is covered often enough");
    let interval = TtInterval::new(first.earliest(), last.latest());
    let by_majority = covered_at_least(&steps, needed);
    let rejected = intervals
        .iter()
        .filter(|(_, own)| !by_majority.iter().any(|agreed| overlap(own, agreed)))
        .map(|(id, _)| *id);
    Ok(Agreement { interval, rejected: rejected.collect() })
}

fn overlap(a: &TtInterval, b: &TtInterval) -> bool {
    a.earliest() <= b.latest() && b.earliest() <= a.latest()
}

/// How many intervals cover the time from each listed point on. At an interval's end (which belongs to it) the entry
/// says what is covered beyond.
fn coverage(intervals: &[(MasterId, TtInterval)]) -> Vec<(Timestamp, usize)> {
    const START: u8 = 0;
    const END: u8 = 1;
    let starts = intervals.iter().map(|(_, i)| (i.earliest(), START));
    let ends = intervals.iter().map(|(_, i)| (i.latest(), END));
    let mut edges: Vec<(Timestamp, u8)> = starts.chain(ends).collect();
    // Starts first: intervals that touch in one point share it.
    edges.sort_unstable();
    let mut covered = 0;
    let step = |(at, edge)| {
        covered = if edge == START { covered + 1 } else { covered - 1 };
        (at, covered)
    };
    edges.into_iter().map(step).collect()
}

/// The maximal intervals that are covered at least `times`, in order.
fn covered_at_least(steps: &[(Timestamp, usize)], times: usize) -> Vec<TtInterval> {
    let mut found = Vec::new();
    let mut since = None;
    for (at, covered) in steps {
        if *covered >= times {
            since = since.or(Some(*at));
        } else if let Some(start) = since.take() {
            found.push(TtInterval::new(start, *at));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(masters: usize, intervals: &[(u64, u64)]) -> Result<((u64, u64), Vec<u32>), Disagreement> {
        let named = intervals.iter().enumerate().map(|(i, (from, to))| {
            let interval = TtInterval::new(Timestamp::from_nanos(*from), Timestamp::from_nanos(*to));
            (MasterId(i as u32), interval)
        });
        let agreement = agree(&named.collect::<Vec<_>>(), masters)?;
        let interval = (agreement.interval.earliest().as_nanos(), agreement.interval.latest().as_nanos());
        Ok((interval, agreement.rejected.iter().map(|id| id.0).collect()))
    }

    #[test]
    fn agreements() {
        type Case<'a> = (&'a str, usize, &'a [(u64, u64)], (u64, u64), &'a [u32]);
        let cases: &[Case<'_>] = &[
            ("a single master is believed", 1, &[(10, 20)], (10, 20), &[]),
            ("two masters: both must be right", 2, &[(10, 20), (15, 30)], (15, 20), &[]),
            ("two of three suffice", 3, &[(10, 20), (15, 30), (12, 18)], (12, 20), &[]),
            ("a far liar is named", 3, &[(10, 20), (15, 30), (90, 95)], (15, 20), &[2]),
            ("a near liar can't narrow the result", 3, &[(10, 30), (14, 34), (8, 16)], (10, 30), &[]),
            ("one is silent: the other may lie", 3, &[(10, 20), (15, 30)], (10, 30), &[]),
            ("a shared point is enough", 3, &[(10, 20), (20, 30), (40, 50)], (20, 20), &[2]),
            ("two liars of five", 5, &[(10, 20), (11, 21), (12, 22), (50, 60), (51, 61)], (12, 20), &[3, 4]),
        ];
        for (name, masters, intervals, interval, rejected) in cases {
            assert_eq!(run(*masters, intervals), Ok((*interval, rejected.to_vec())), "{name}");
        }
    }

    #[test]
    fn disagreements() {
        let error = |reporting, agreeing, needed| Err(Disagreement { reporting, agreeing, needed });
        assert_eq!(run(3, &[]), error(0, 0, 2));
        assert_eq!(run(3, &[(10, 20)]), error(1, 1, 2));
        assert_eq!(run(3, &[(10, 20), (30, 40), (50, 60)]), error(3, 1, 2));
        assert_eq!(run(2, &[(10, 20), (21, 30)]), error(2, 1, 2));
        assert_eq!(
            run(4, &[(10, 20), (10, 20), (30, 40), (30, 40)]),
            error(4, 2, 3),
            "no half is a majority"
        );
    }
}
