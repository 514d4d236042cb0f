//! How fast schema changes go: they give way where the node is busy, and to an operator's throttle, which takes effect on
//! jobs that run already; and they are announced no further ahead than the cluster needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The least rest, which tells how busy the node is: a timer on an idle machine is late by less than [`LATE`].
const REST_MIN: Duration = Duration::from_millis(1);
/// Tokio's timers have a resolution of a millisecond; more is time that a statement would have waited for a thread, too.
const LATE: Duration = Duration::from_millis(3);
/// So much longer than it was late a job rests, so that it leaves most of a busy machine to others,
const REST_FACTOR: u32 = 4;
/// and no longer than this, so that it ends all the same.
const REST_MAX: Duration = Duration::from_millis(200);

/// What an activation is expected to need until one has been seen: two commits and two rounds of messages.
const NEEDED_AT_FIRST: Duration = Duration::from_millis(20);
/// An activation is announced so many times further ahead than the last ones needed,
const AHEAD_FACTOR: u64 = 2;
/// and at least this far: what comes too late has to be announced again.
const AHEAD_MIN: meridian_types::Duration = meridian_types::Duration::from_millis(8);

/// The pace of a node's schema changes. Clones share it.
#[derive(Clone, Debug)]
pub struct Pace(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Nanoseconds that jobs rest after each page of rows.
    rest: AtomicU64,
    /// Nanoseconds that the slowest of the last activations needed from its announcement to its commit. Fades, so that
    /// one bad moment is not paid for forever.
    needed: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        let needed = AtomicU64::new(NEEDED_AT_FIRST.as_nanos() as u64);
        Pace(Arc::new(Shared { rest: AtomicU64::new(0), needed }))
    }
}

impl Pace {
    /// Sets the rest.
    pub fn set(&self, rest: meridian_types::Duration) {
        self.0.rest.store(rest.as_nanos(), Ordering::Relaxed);
    }

    /// How far ahead the next activation is announced.
    pub(super) fn ahead(&self) -> meridian_types::Duration {
        let needed = self.0.needed.load(Ordering::Relaxed);
        meridian_types::Duration::from_nanos(needed.saturating_mul(AHEAD_FACTOR)).max(AHEAD_MIN)
    }

    /// An activation was committed so long after its announcement was begun.
    pub(super) fn note_needed(&self, needed: meridian_types::Duration) {
        let faded = |before: u64| Some(needed.as_nanos().max(before / 4 * 3));
        // Always stores: the closure always answers.
        self.0.needed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, faded).ok();
    }

    /// Rests for `courtesy`, and for longer where an operator wants that or the node turns out to be busy.
    pub(super) async fn rest(&self, courtesy: Duration) {
        let wanted = Duration::from_nanos(self.0.rest.load(Ordering::Relaxed)).max(courtesy).max(REST_MIN);
        let begun = Instant::now();
        tokio::time::sleep(wanted).await;
        let late = begun.elapsed().saturating_sub(wanted);
        if late > LATE {
            tokio::time::sleep((late * REST_FACTOR).min(REST_MAX)).await;
        }
    }
}

/// How long a job rests after each page that it writes, so that commits of others, which go the same way, are not held up
/// by it: longer while pages take longer than they need.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Courtesy {
    /// What a page takes when nothing is in its way.
    quickest: Option<Duration>,
    rest: Duration,
}

impl Courtesy {
    /// A page was written in this time.
    pub(super) fn note(&mut self, took: Duration) {
        // Grows a little with each page: pages may have become larger, or the way longer.
        let quickest = self.quickest.map_or(took, |known| known + known / 256).min(took);
        self.quickest = Some(quickest);
        self.rest = match took > quickest + quickest / 2 {
            true => (self.rest + (took - quickest)).min(REST_MAX),
            false => self.rest * 7 / 8,
        };
    }

    pub(super) fn rest(&self) -> Duration {
        self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> meridian_types::Duration {
        meridian_types::Duration::from_millis(n)
    }

    #[test]
    fn a_job_rests_while_its_pages_are_slow_and_goes_on_when_they_are_quick_again() {
        let ms = Duration::from_millis;
        let mut courtesy = Courtesy::default();
        for took in [8, 5, 6, 7] {
            courtesy.note(ms(took));
            assert_eq!(courtesy.rest(), Duration::ZERO, "as quick as the quickest, about");
        }
        courtesy.note(ms(25));
        let first = courtesy.rest();
        assert!(first >= ms(19) && first < ms(20), "so much longer than it needs: {first:?}");
        courtesy.note(ms(25));
        assert!(courtesy.rest() > first);
        (0..100).for_each(|_| courtesy.note(ms(60_000)));
        assert_eq!(courtesy.rest(), REST_MAX, "it ends all the same");
        (0..60).for_each(|_| courtesy.note(ms(6)));
        assert!(courtesy.rest() < ms(1));
    }

    #[test]
    fn the_next_activation_has_twice_the_time_of_the_slowest_of_the_last_ones() {
        let pace = Pace::default();
        assert_eq!(pace.ahead(), ms(40));
        pace.clone().note_needed(ms(300));
        assert_eq!(pace.ahead(), ms(600), "a slow one counts at once, and for all clones");
        let mut before = pace.ahead();
        for _ in 0..60 {
            pace.note_needed(ms(1));
            assert!(pace.ahead() <= before, "a quick one never asks for more");
            before = pace.ahead();
        }
        assert_eq!(pace.ahead(), AHEAD_MIN, "quick ones bring it down, to the least");
    }
}
