//! One answer of a time master, and what follows from it.

use meridian_types::{Duration, Timestamp, TtInterval};

use crate::{Mono, drift_allowance};

/// One answer of a time master.
///
/// Somewhere between `sent_mono` and `received_mono` the master saw absolute time in
/// `[master_earliest, master_latest]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// When the request left.
    pub sent_mono: Mono,
    /// When the answer came.
    pub received_mono: Mono,
    /// The master's bound from below.
    pub master_earliest: Timestamp,
    /// The master's bound from above.
    pub master_latest: Timestamp,
}

impl Sample {
    /// False for what no correct master answers; such a sample counts as a failed poll.
    pub fn is_well_formed(&self) -> bool {
        self.sent_mono <= self.received_mono && self.master_earliest <= self.master_latest
    }

    /// The round trip as the oscillator counted it.
    pub fn round_trip(&self) -> Duration {
        self.received_mono.since(self.sent_mono)
    }

    /// The master's own uncertainty.
    pub fn master_uncertainty(&self) -> Duration {
        (self.master_latest - self.master_earliest).half_up()
    }

    /// Where absolute time was when the answer came (Cristian): not before the master's earliest, since the answer
    /// was already under way; and at most a whole round trip after its latest. Half of the width is half the round trip
    /// plus the master's uncertainty plus the drift over the round trip.
    pub fn at_receipt(&self, drift_ppm: u64) -> TtInterval {
        let trip = self.round_trip();
        TtInterval::new(self.master_earliest, self.master_latest + trip + drift_allowance(trip, drift_ppm))
    }

    /// Where absolute time is at `mono`, at or after the receipt.
    pub fn at(&self, mono: Mono, drift_ppm: u64) -> TtInterval {
        assert!(mono >= self.received_mono, "a sample says nothing of the time before it was received");
        let elapsed = mono.since(self.received_mono);
        let allowance = drift_allowance(elapsed, drift_ppm);
        let then = self.at_receipt(drift_ppm);
        TtInterval::new(
            then.earliest() + elapsed.saturating_sub(allowance),
            then.latest() + elapsed + allowance,
        )
    }
}

/// What the kernel says of its own clock (`adjtimex`, kept by chrony or ntpd): a source of time that needs no masters.
/// A clock with one master, which is the kernel, takes its samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelReading {
    /// The oscillator just before the reading.
    pub before: Mono,
    /// The oscillator just after it.
    pub after: Mono,
    /// The kernel's time of day.
    pub realtime: Timestamp,
    /// The kernel's bound of its error (`maxerror`).
    pub max_error: Duration,
    /// The kernel holds itself synchronised (no `STA_UNSYNC`, no `TIME_ERROR`).
    pub synchronised: bool,
}

impl KernelReading {
    /// The reading as a master's answer; `None` where the kernel does not vouch for it.
    pub fn sample(&self) -> Option<Sample> {
        self.synchronised.then(|| Sample {
            sent_mono: self.before,
            received_mono: self.after,
            master_earliest: self.realtime.saturating_sub(self.max_error),
            master_latest: self.realtime + self.max_error,
        })
    }
}
