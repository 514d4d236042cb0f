//! The node's own oscillator.

use meridian_types::Duration;

/// A reading of the node's monotonic clock in nanoseconds, from an arbitrary origin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Mono(u64);

impl Mono {
    /// A reading of `ns` nanoseconds.
    pub const fn from_nanos(ns: u64) -> Self {
        Mono(ns)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, or zero where `earlier` is later.
    pub const fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `d` later, saturating.
    pub const fn plus(self, d: Duration) -> Mono {
        Mono(self.0.saturating_add(d.as_nanos()))
    }
}

/// By how much absolute time may differ from what the oscillator counted over `elapsed`.
///
/// An oscillator of rate `r` within `1 ± p` that counted `c` saw `c / r`, which is at most `c + c p / (1 - p)`: a little
/// more than `c p`. Rounded up.
///
/// # Panics
/// When the drift bound is a tenth or more: that is no clock.
pub const fn drift_allowance(elapsed: Duration, drift_ppm: u64) -> Duration {
    assert!(drift_ppm < 100_000, "the drift bound is a tenth or more");
    let divisor = 1_000_000 - drift_ppm;
    let elapsed = elapsed.as_nanos();
    // Divisions of 128 bits cost more than all the rest of `now`, and no interval lives for years.
    match elapsed.checked_mul(drift_ppm) {
        Some(product) => Duration::from_nanos(product.div_ceil(divisor)),
        None => Duration::from_nanos((elapsed / divisor + 1).saturating_mul(drift_ppm)),
    }
}
