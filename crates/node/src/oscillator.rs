//! The node's own oscillator.

use std::time::{Duration as StdDuration, Instant};

use meridian_truetime::Mono;

/// What it counts from: any positive origin, so that a negative offset does not reach below zero.
const ORIGIN_NS: u64 = 3_600_000_000_000;

/// The operating system's monotonic clock, with the offset and the drift that a test or a demonstration injects.
#[derive(Debug, Clone)]
pub struct Oscillator {
    start: Instant,
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
        assert!(drift_ppm.unsigned_abs() < 100_000, "a drift of {drift_ppm} ppm is no clock");
        Oscillator { start: Instant::now(), origin_ns: ORIGIN_NS.saturating_add_signed(offset_ns), drift_ppm }
    }

    /// Reads it.
    pub fn now(&self) -> Mono {
        let elapsed = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
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
        let horizon =
            u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(ORIGIN_NS);
        self.start + StdDuration::from_nanos(counted.min(horizon))
    }
}
