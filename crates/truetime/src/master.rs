//! A simulated time master: a reference clock of known quality that can be told to fail.

use meridian_types::{Duration, Timestamp, TtInterval};

/// The kind of reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MasterKind {
    /// Constant uncertainty.
    Gps,
    /// Advertises an uncertainty that grows since it was last set against GPS ("Armageddon master").
    Atomic {
        /// When.
        synchronised: Timestamp,
        /// By how much.
        drift_ppb: u64,
    },
}

/// How the master fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MasterFault {
    /// It does not.
    #[default]
    None,
    /// Its answers are off by this much, with the usual uncertainty.
    Lie {
        /// Added to the time, in nanoseconds.
        offset_ns: i64,
    },
    /// It drifts without knowing.
    Drift {
        /// From when on.
        since: Timestamp,
        /// How fast.
        drift_ppm: i64,
    },
    /// It goes on answering what it would have answered then.
    Stall {
        /// When it stopped counting.
        at: Timestamp,
    },
    /// It does not answer.
    Stop,
}

/// A simulated time master: its answer is a pure function of the reference time.
///
/// Invariant: without a fault the reference time lies in every answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MasterModel {
    /// What kind of reference it has.
    pub kind: MasterKind,
    /// The uncertainty that it advertises at least.
    pub uncertainty: Duration,
    /// How it fails.
    pub fault: MasterFault,
}

impl MasterModel {
    /// A GPS master.
    pub fn gps(uncertainty: Duration) -> Self {
        MasterModel { kind: MasterKind::Gps, uncertainty, fault: MasterFault::None }
    }

    /// An atomic master.
    pub fn atomic(uncertainty: Duration, synchronised: Timestamp, drift_ppb: u64) -> Self {
        MasterModel {
            kind: MasterKind::Atomic { synchronised, drift_ppb },
            uncertainty,
            fault: MasterFault::None,
        }
    }

    /// What the master answers at the reference time; `None` when it does not.
    pub fn answer(&self, reference: Timestamp) -> Option<TtInterval> {
        let shown = match self.fault {
            MasterFault::None => reference,
            MasterFault::Lie { offset_ns } => shift(reference, offset_ns.into()),
            MasterFault::Drift { since, drift_ppm } => {
                let elapsed = i128::from(reference.since(since).as_nanos());
                shift(reference, elapsed * i128::from(drift_ppm) / 1_000_000)
            }
            MasterFault::Stall { at } => at.min(reference),
            MasterFault::Stop => return None,
        };
        let uncertainty = self.uncertainty + self.holdover(shown);
        Some(TtInterval::new(shown.saturating_sub(uncertainty), shown + uncertainty))
    }

    fn holdover(&self, shown: Timestamp) -> Duration {
        match self.kind {
            MasterKind::Gps => Duration::ZERO,
            MasterKind::Atomic { synchronised, drift_ppb } => {
                let product = u128::from(shown.since(synchronised).as_nanos()) * u128::from(drift_ppb);
                Duration::from_nanos(u64::try_from(product.div_ceil(1_000_000_000)).unwrap_or(u64::MAX))
            }
        }
    }
}

fn shift(t: Timestamp, by: i128) -> Timestamp {
    let shifted = (i128::from(t.as_nanos()) + by).clamp(0, i128::from(u64::MAX));
    Timestamp::from_nanos(u64::try_from(shifted).expect("clamped to the range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let s = |s: u64| Timestamp::from_nanos(s * 1_000_000_000);
        let us = Duration::from_micros;
        let with = |fault| MasterModel { fault, ..MasterModel::gps(us(10)) }.answer(s(100));
        let around = |t: Timestamp, d: Duration| Some(TtInterval::new(t.saturating_sub(d), t + d));
        assert_eq!(with(MasterFault::None), around(s(100), us(10)));
        assert_eq!(with(MasterFault::Lie { offset_ns: -1_000_000_000 }), around(s(99), us(10)));
        assert_eq!(
            with(MasterFault::Drift { since: s(90), drift_ppm: 100 }),
            around(s(100) + us(1_000), us(10))
        );
        assert_eq!(with(MasterFault::Stall { at: s(40) }), around(s(40), us(10)));
        assert_eq!(with(MasterFault::Stop), None);
        let atomic = MasterModel::atomic(us(10), s(0), 1_000);
        assert_eq!(atomic.answer(s(100)), around(s(100), us(110)));
    }
}
