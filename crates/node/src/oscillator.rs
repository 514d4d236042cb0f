//! The node's own oscillator.

use std::time::{Duration as StdDuration, Instant};

use tokio::time::Instant as RuntimeInstant;

use meridian_truetime::Mono;

/// What it counts from: any positive origin, so that a negative offset does not reach below zero.
const ORIGIN_NS: u64 = 3_600_000_000_000;

/// What counts.
#[derive(Debug, Clone, Copy)]
enum Counter {
    Os(Instant),
    Runtime(RuntimeInstant),
}

impl Counter {
    fn elapsed_ns(self) -> u64 {
        let elapsed = match self {
            Counter::Os(start) => start.elapsed(),
            Counter::Runtime(start) => start.elapsed(),
        };
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    fn start(self) -> Instant {
        match self {
            Counter::Os(start) => start,
            Counter::Runtime(start) => start.into_std(),
        }
    }
}

/// The operating system's monotonic clock, with the offset and the drift that a test or a demonstration injects.
#[derive(Debug, Clone)]
pub struct Oscillator {
    counter: Counter,
    origin_ns: u64,
    drift_ppm: i64,
}

impl Oscillator {
    /// The undisturbed clock.
    pub fn os() -> Self {
        Self::disturbed(0, 0)
    }

    /// A clock that is off by `offset_ns` and runs fast by `drift_ppm`.
    ///
    /// # Panics
    /// When the drift is a tenth or more: that is no clock.
    pub fn disturbed(offset_ns: i64, drift_ppm: i64) -> Self {
        Self::counting(Counter::Os(Instant::now()), offset_ns, drift_ppm)
    }

    /// As [`Oscillator::disturbed`], counting the time of the tokio runtime that it is made in, which may be virtual. Only
    /// there can it be read.
    ///
    /// # Panics
    /// Also outside of a runtime.
    pub fn of_runtime(offset_ns: i64, drift_ppm: i64) -> Self {
        Self::counting(Counter::Runtime(RuntimeInstant::now()), offset_ns, drift_ppm)
    }

    fn counting(counter: Counter, offset_ns: i64, drift_ppm: i64) -> Self {
        assert!(drift_ppm.unsigned_abs() < 100_000, "a drift of {drift_ppm} ppm is no clock");
        Oscillator { counter, origin_ns: ORIGIN_NS.saturating_add_signed(offset_ns), drift_ppm }
    }

    /// Reads it.
    pub fn now(&self) -> Mono {
        let elapsed = self.counter.elapsed_ns();
        let drifted = if self.drift_ppm == 0 {
            elapsed
        } else {
            let by = i128::from(elapsed) * i128::from(self.drift_ppm) / 1_000_000;
            elapsed.saturating_add_signed(i64::try_from(by).unwrap_or(i64::MAX))
        };
        Mono::from_nanos(self.origin_ns.saturating_add(drifted))
    }

    /// When it will show `mono`, to within its drift.
    pub(crate) fn instant_of(&self, mono: Mono) -> Instant {
        let counted = mono.as_nanos().saturating_sub(self.origin_ns);
        // A wait is never for longer than an hour at a time; whoever waits looks at the oscillator again.
        let horizon = self.counter.elapsed_ns().saturating_add(ORIGIN_NS);
        self.counter.start() + StdDuration::from_nanos(counted.min(horizon))
    }
}
