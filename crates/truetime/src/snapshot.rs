//! What readers of the clock see: an immutable extrapolation, and a cell that many threads read without a lock.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use meridian_types::{Duration, Timestamp, TtInterval};

use crate::{Mono, drift_allowance};

/// An extrapolation of absolute time from two anchors by the oscillator.
///
/// The bounds have anchors of their own, so that a bound that is still better than a later poll's stays as it is: were it
/// rounded to the later poll's moment, `earliest` could go back by a nanosecond.
///
/// Invariants: at any `mono` from both anchors on, `earliest <= latest`; `now` is `None` after `valid_until`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockSnapshot {
    /// When `earliest` held.
    pub earliest_mono: Mono,
    /// Absolute time was not before this.
    pub earliest: Timestamp,
    /// When `latest` held.
    pub latest_mono: Mono,
    /// Absolute time was not after this.
    pub latest: Timestamp,
    /// The drift bound.
    pub drift_ppm: u64,
    /// From here on the clock is unsure, unless another snapshot comes.
    pub valid_until: Mono,
}

impl ClockSnapshot {
    /// Absolute time at `mono`, `None` when that is beyond the snapshot's validity.
    #[inline]
    pub fn now(&self, mono: Mono) -> Option<TtInterval> {
        (mono <= self.valid_until).then(|| TtInterval::new(self.earliest_at(mono), self.latest_at(mono)))
    }

    /// The lower bound at `mono`, whether still valid or not.
    pub fn earliest_at(&self, mono: Mono) -> Timestamp {
        if mono >= self.earliest_mono {
            let elapsed = mono.since(self.earliest_mono);
            self.earliest + elapsed.saturating_sub(drift_allowance(elapsed, self.drift_ppm))
        } else {
            // A thread read the oscillator and then was overtaken by the snapshot.
            let before = self.earliest_mono.since(mono);
            self.earliest.saturating_sub(before + drift_allowance(before, self.drift_ppm))
        }
    }

    /// The upper bound at `mono`, whether still valid or not.
    pub fn latest_at(&self, mono: Mono) -> Timestamp {
        let elapsed = mono.since(self.latest_mono);
        self.latest + elapsed + drift_allowance(elapsed, self.drift_ppm)
    }

    /// A moment of the oscillator from which on `now` is after `t` by this snapshot: when a commit wait may end. A later
    /// snapshot can only make it earlier.
    pub fn when_after(&self, t: Timestamp) -> Mono {
        let missing = t.next().since(self.earliest);
        // Elapsed time counts for `1 - p / (1 - p)` at least; twice the bound covers that, and one the rounding.
        let extra = drift_allowance(missing, 2 * self.drift_ppm) + Duration::from_nanos(1);
        self.earliest_mono.plus(if missing == Duration::ZERO { missing } else { missing + extra })
    }
}

/// The snapshot that readers use, replaced by the driver.
///
/// A sequence lock over plain atomics: a reader that meets a replacement, which takes a few nanoseconds and happens once
/// per poll, reads again. Readers never write, so they do not slow each other down.
///
/// Invariant: the sequence is odd exactly while a writer replaces the fields.
#[derive(Debug, Default)]
pub struct SharedClock {
    sequence: AtomicU64,
    /// `earliest_mono, earliest, latest_mono, latest, drift_ppm, valid_until`; all zero while unsure.
    fields: [AtomicU64; 6],
}

impl SharedClock {
    /// A clock that is unsure until a snapshot is published.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the snapshot; `None` makes the clock unsure.
    pub fn publish(&self, snapshot: Option<ClockSnapshot>) {
        let values = snapshot.map_or([0; 6], |s| {
            let monos = [s.earliest_mono, s.latest_mono, s.valid_until].map(Mono::as_nanos);
            [monos[0], s.earliest.as_nanos(), monos[1], s.latest.as_nanos(), s.drift_ppm, monos[2]]
        });
        let mut sequence = self.sequence.load(Ordering::Relaxed);
        loop {
            let even = sequence & !1;
            match self.sequence.compare_exchange_weak(even, even + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break sequence = even,
                Err(found) => sequence = found,
            }
        }
        fence(Ordering::Release);
        for (field, value) in self.fields.iter().zip(values) {
            field.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence + 2, Ordering::Release);
    }

    /// The snapshot, `None` while unsure.
    pub fn snapshot(&self) -> Option<ClockSnapshot> {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            if before & 1 == 0 {
                let v: [u64; 6] = std::array::from_fn(|i| self.fields[i].load(Ordering::Relaxed));
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    return (v != [0; 6]).then(|| ClockSnapshot {
                        earliest_mono: Mono::from_nanos(v[0]),
                        earliest: Timestamp::from_nanos(v[1]),
                        latest_mono: Mono::from_nanos(v[2]),
                        latest: Timestamp::from_nanos(v[3]),
                        drift_ppm: v[4],
                        valid_until: Mono::from_nanos(v[5]),
                    });
                }
            }
            std::hint::spin_loop();
        }
    }

    /// Absolute time at `mono`, `None` while the clock is unsure. Read the oscillator right before.
    #[inline]
    pub fn now(&self, mono: Mono) -> Option<TtInterval> {
        self.snapshot()?.now(mono)
    }
}
