//! What the environment of a statement lends to scalar functions: the session's time zone, the times of the
//! transaction and the statement, and a source of randomness. Functions are pure but for this.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::date_style::DateStyle;
use crate::timezone::TimeZone;

/// The environment of one statement. Shared by all threads that evaluate it.
#[derive(Debug)]
pub struct EvalContext {
    /// The session's `TimeZone`.
    pub time_zone: TimeZone,
    /// The session's `DateStyle`.
    pub date_style: DateStyle,
    /// `now()`: microseconds since 2000-01-01 00:00 UTC.
    pub transaction_timestamp: i64,
    /// `statement_timestamp()`, in the same unit.
    pub statement_timestamp: i64,
    /// `clock_timestamp()`, in the same unit; where the caller has no clock the statement's time stands in for it.
    pub clock: Option<fn() -> i64>,
    random: AtomicU64,
}

impl EvalContext {
    /// An environment for a statement that began at `now` in a transaction that began at `now`.
    pub fn new(time_zone: TimeZone, now: i64, seed: u64) -> Self {
        EvalContext {
            time_zone,
            date_style: DateStyle::default(),
            transaction_timestamp: now,
            statement_timestamp: now,
            clock: None,
            random: AtomicU64::new(seed),
        }
    }

    /// Sixty-four random bits (SplitMix64, without a lock: every caller advances the state by one step).
    pub fn next_random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `clock_timestamp()`.
    pub fn clock_timestamp(&self) -> i64 {
        self.clock.map_or(self.statement_timestamp, |clock| clock())
    }
}

impl Default for EvalContext {
    /// UTC at the PostgreSQL epoch; for tests and for values that depend on no environment.
    fn default() -> Self {
        EvalContext::new(TimeZone::Utc, 0, 0)
    }
}
