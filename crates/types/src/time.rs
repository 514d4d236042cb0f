//! Timestamps, spans of time and TrueTime intervals.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A span of time in nanoseconds. The range is 0 to about 584 years; arithmetic saturates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(u64);

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(0);

    /// A span of `ns` nanoseconds.
    pub const fn from_nanos(ns: u64) -> Self {
        Duration(ns)
    }

    /// A span of `us` microseconds, saturating.
    pub const fn from_micros(us: u64) -> Self {
        Duration(us.saturating_mul(1_000))
    }

    /// A span of `ms` milliseconds, saturating.
    pub const fn from_millis(ms: u64) -> Self {
        Duration(ms.saturating_mul(1_000_000))
    }

    /// A span of `s` seconds, saturating.
    pub const fn from_secs(s: u64) -> Self {
        Duration(s.saturating_mul(1_000_000_000))
    }

    /// The span in nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The span in whole microseconds, rounded down.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// The span in whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Half of the span, rounded up, so that an error bound never shrinks by rounding.
    pub const fn half_up(self) -> Self {
        Duration(self.0.div_ceil(2))
    }

    /// The part of this span that `parts_per_million` make, rounded up.
    pub const fn ppm(self, parts_per_million: u64) -> Self {
        let ns = (self.0 as u128 * parts_per_million as u128).div_ceil(1_000_000);
        Duration(if ns > u64::MAX as u128 { u64::MAX } else { ns as u64 })
    }

    /// `self - other`, or zero where `other` is longer.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Duration(self.0.saturating_sub(other.0))
    }
}

impl Add for Duration {
    type Output = Duration;
    fn add(self, other: Duration) -> Duration {
        Duration(self.0.saturating_add(other.0))
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&std::time::Duration::from_nanos(self.0), f)
    }
}

impl From<Duration> for std::time::Duration {
    fn from(d: Duration) -> Self {
        std::time::Duration::from_nanos(d.0)
    }
}

impl From<std::time::Duration> for Duration {
    fn from(d: std::time::Duration) -> Self {
        Duration(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Nanoseconds since the Unix epoch. [`Timestamp::ZERO`] precedes every commit, [`Timestamp::MAX`] follows every one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Before every commit.
    pub const ZERO: Timestamp = Timestamp(0);
    /// After every commit.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// The timestamp `ns` nanoseconds after the Unix epoch.
    pub const fn from_nanos(ns: u64) -> Self {
        Timestamp(ns)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The next timestamp. Saturates at [`Timestamp::MAX`].
    pub const fn next(self) -> Self {
        Timestamp(self.0.saturating_add(1))
    }

    /// The timestamp before, or zero.
    pub const fn prev(self) -> Self {
        Timestamp(self.0.saturating_sub(1))
    }

    /// `self - d`, or zero.
    pub const fn saturating_sub(self, d: Duration) -> Self {
        Timestamp(self.0.saturating_sub(d.0))
    }

    /// The time from `earlier` to `self`, or zero where `earlier` is later.
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, d: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(d.0))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub<Timestamp> for Timestamp {
    type Output = Duration;
    fn sub(self, earlier: Timestamp) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// What TrueTime answers: absolute time lies in `[earliest, latest]` (Spanner, section 3).
///
/// Invariant: `earliest <= latest`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TtInterval {
    earliest: Timestamp,
    latest: Timestamp,
}

impl TtInterval {
    /// An interval.
    ///
    /// # Panics
    /// When `earliest > latest`: such an interval holds no time, and whoever built it has a bug.
    pub fn new(earliest: Timestamp, latest: Timestamp) -> Self {
        assert!(earliest <= latest, "empty TrueTime interval: earliest {earliest} is after latest {latest}");
        TtInterval { earliest, latest }
    }

    /// The interval of a perfect clock; for tests and simulation.
    pub fn exact(t: Timestamp) -> Self {
        TtInterval { earliest: t, latest: t }
    }

    /// No moment before this one can be the absolute time.
    pub fn earliest(self) -> Timestamp {
        self.earliest
    }

    /// No moment after this one can be the absolute time.
    pub fn latest(self) -> Timestamp {
        self.latest
    }

    /// Half the width: the instantaneous error bound.
    pub fn epsilon(self) -> Duration {
        (self.latest - self.earliest).half_up()
    }

    /// The best guess at the absolute time: off by epsilon at most, and by far less as a rule, however wide the interval
    /// is. For what is fair rather than what is safe.
    pub fn midpoint(self) -> Timestamp {
        self.earliest + (self.latest - self.earliest).half_up()
    }

    /// True when `t` has definitely passed.
    pub fn after(self, t: Timestamp) -> bool {
        self.earliest > t
    }

    /// True when `t` has definitely not arrived.
    pub fn before(self, t: Timestamp) -> bool {
        self.latest < t
    }
}
