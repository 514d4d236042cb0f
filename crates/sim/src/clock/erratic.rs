//! Clocks of simulated nodes: an oscillator that drifts, and TrueTime that is honest about not knowing.
//!
//! Time is cut into epochs, one per poll of the masters. In each the interval has a random width and absolute time a
//! random place in it, so intervals of one node jump back and forth as much as invariant I-1 allows, and a node's
//! `earliest` may be far behind while another's `latest` is far ahead. In some epochs the clock is unsure of itself.

use meridian_types::{Duration, SeededRng, Timestamp, TtInterval};

/// How bad the clocks are.
#[derive(Clone, Copy, Debug)]
pub struct ClockConfig {
    /// The widest epsilon.
    pub epsilon_max: Duration,
    /// The fastest or slowest oscillator, in parts per million.
    pub drift_ppm_max: u64,
    /// Epochs in a thousand without a usable interval.
    pub outage_per_mille: u64,
}

/// The time between two polls.
const EPOCH: Duration = Duration::from_millis(500);

/// The clock of one node.
#[derive(Clone, Debug)]
pub struct ErraticClock {
    config: ClockConfig,
    seed: u64,
    /// The oscillator's rate, in parts per million of the true rate.
    rate_ppm: u64,
    /// What the oscillator showed at absolute time zero.
    offset: Duration,
}

impl ErraticClock {
    /// A clock with a random rate and offset.
    pub fn new(config: ClockConfig, rng: &mut SeededRng) -> Self {
        let rate_ppm = 1_000_000 - config.drift_ppm_max + rng.below(2 * config.drift_ppm_max + 1);
        ErraticClock {
            config,
            seed: rng.next_u64(),
            rate_ppm,
            offset: Duration::from_nanos(rng.below(1 << 40)),
        }
    }

    /// What the oscillator shows at the absolute time `at`.
    pub fn mono(&self, at: Timestamp) -> Timestamp {
        let elapsed = u128::from(at.as_nanos()) * u128::from(self.rate_ppm) / 1_000_000;
        Timestamp::from_nanos(elapsed as u64) + self.offset
    }

    /// The absolute time at which the oscillator will show at least `mono`.
    pub fn when(&self, mono: Timestamp) -> Timestamp {
        let shown = mono.saturating_sub(self.offset).as_nanos();
        let at = (u128::from(shown) * 1_000_000).div_ceil(u128::from(self.rate_ppm));
        Timestamp::from_nanos(u64::try_from(at).unwrap_or(u64::MAX))
    }

    /// What TrueTime answers at the absolute time `at`.
    pub fn tt(&self, at: Timestamp) -> Option<TtInterval> {
        let epoch = at.as_nanos() / EPOCH.as_nanos();
        let mut rng = SeededRng::new(self.seed ^ epoch.wrapping_mul(0x9e37_79b9));
        if rng.chance(self.config.outage_per_mille, 1_000) {
            return None;
        }
        let width = 2 * rng.below(self.config.epsilon_max.as_nanos() + 1);
        let below = rng.below(width + 1);
        let earliest = at.saturating_sub(Duration::from_nanos(below));
        Some(TtInterval::new(earliest, earliest + Duration::from_nanos(width)))
    }
}
