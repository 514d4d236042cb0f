//! An oscillator whose rate may change.

use meridian_types::{Duration, SeededRng, Timestamp};

/// Counts nanoseconds at a rate of its own. Invariant: it never goes back.
#[derive(Clone, Debug)]
pub struct Oscillator {
    /// Counted up to `since`.
    counted: Timestamp,
    since: Timestamp,
    /// Millionths of the true rate.
    rate_ppm: u64,
}

impl Oscillator {
    /// An oscillator within `drift_ppm` of the true rate, with a random origin.
    pub fn new(drift_ppm: u64, rng: &mut SeededRng) -> Self {
        let rate_ppm = 1_000_000 - drift_ppm + rng.below(2 * drift_ppm + 1);
        Oscillator { counted: Timestamp::from_nanos(rng.below(1 << 40)), since: Timestamp::ZERO, rate_ppm }
    }

    /// What it shows at the absolute time `at`, which is not before its last change of rate.
    pub fn mono(&self, at: Timestamp) -> Timestamp {
        assert!(at >= self.since, "an oscillator is read before its last change of rate");
        let elapsed = u128::from(at.since(self.since).as_nanos()) * u128::from(self.rate_ppm) / 1_000_000;
        self.counted + Duration::from_nanos(elapsed as u64)
    }

    /// The absolute time at which it will show at least `mono`.
    pub fn when(&self, mono: Timestamp) -> Timestamp {
        if self.rate_ppm == 0 {
            return Timestamp::MAX;
        }
        let missing = u128::from(mono.since(self.counted).as_nanos()) * 1_000_000;
        let wait = missing.div_ceil(u128::from(self.rate_ppm));
        self.since + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// From `at` on it runs at `rate_ppm` millionths of the true rate; at zero it stands still, as the monotonic clock
    /// of a suspended machine does.
    pub fn set_rate(&mut self, at: Timestamp, rate_ppm: u64) {
        self.counted = self.mono(at);
        self.since = at;
        self.rate_ppm = rate_ppm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_and_waits_agree_over_changes_of_rate() {
        let at = |s: u64| Timestamp::from_nanos(s * 1_000_000_000);
        let mut oscillator = Oscillator { counted: at(5), since: at(0), rate_ppm: 1_000_100 };
        assert_eq!(oscillator.mono(at(10)), at(15) + Duration::from_micros(1_000));
        oscillator.set_rate(at(10), 0);
        assert_eq!(oscillator.mono(at(20)), at(15) + Duration::from_micros(1_000));
        assert_eq!(oscillator.when(at(16)), Timestamp::MAX);
        oscillator.set_rate(at(20), 999_900);
        let due = oscillator.when(at(16));
        assert!(oscillator.mono(due) >= at(16));
        assert!(oscillator.mono(due.saturating_sub(Duration::from_nanos(2))) < at(16));
    }
}
