//! The clock that time masters keep right.

use std::collections::{BTreeMap, VecDeque};

use meridian_types::{Duration, Timestamp, TtInterval, limits};

use crate::planted::Planted;
use crate::status::{ClockStatus, MasterStatus, Unsure};
use crate::{
    Agreement, ClockSnapshot, Disagreement, MasterId, Mono, Sample, agree, drift_allowance, majority,
};

/// Agreements that are remembered to find out about drift.
const HISTORY_MAX: usize = 64;

/// How a clock is set up. [`ClockConfig::new`] derives everything from the poll interval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClockConfig {
    /// The time masters.
    pub masters: Vec<MasterId>,
    /// The drift that the oscillator is assumed not to exceed.
    pub drift_ppm: u64,
    /// Above it the clock is unsure.
    pub epsilon_max: Duration,
    /// A sample younger than this is kept where a fresh one would be wider (a slow round trip).
    pub sample_reuse: Duration,
    /// A master whose sample is older than this does not count.
    pub sample_max_age: Duration,
    /// Without agreement for this long the clock is unsure.
    pub agreement_timeout: Duration,
    /// Agreements are compared over this time to find out about drift.
    pub drift_window: Duration,
    /// After a contradiction agreements must be consistent for this long.
    pub recovery_time: Duration,
    /// The bug that the simulation must find.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<crate::Planted>,
}

impl ClockConfig {
    /// The defaults for masters that are polled once in `poll_interval`.
    pub fn new(masters: Vec<MasterId>, poll_interval: Duration) -> Self {
        let polls = |n: u64| Duration::from_nanos(poll_interval.as_nanos().saturating_mul(n));
        ClockConfig {
            masters,
            drift_ppm: limits::DRIFT_BOUND_PPM,
            epsilon_max: limits::EPSILON_MAX,
            sample_reuse: polls(3),
            sample_max_age: polls(5),
            agreement_timeout: polls(10),
            drift_window: polls(60),
            recovery_time: polls(10),
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockInput {
    /// A master answered.
    PollResult {
        /// Which.
        master: MasterId,
        /// What.
        sample: Sample,
    },
    /// A master did not answer.
    PollFailed {
        /// Which.
        master: MasterId,
    },
}

/// What operators should hear of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockEvent {
    /// The clock answers again.
    Sure,
    /// The clock answers no more: no leases and no timestamps are taken.
    Unsure(Unsure),
    /// A master disagrees with the majority.
    Rejected(MasterId),
    /// It agrees again.
    Accepted(MasterId),
}

/// What a step leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClockOutput {
    /// To be published before anything else; `None` while unsure.
    pub snapshot: Option<ClockSnapshot>,
    /// To be logged.
    pub events: Vec<ClockEvent>,
}

#[derive(Default)]
struct Master {
    sample: Option<Sample>,
    rejected: bool,
    failures: u64,
}

/// Contradicting agreements: nothing is answered until they have been consistent for a while.
#[derive(Clone, Copy)]
struct Drifting {
    since: Mono,
    /// The greatest `earliest` that was ever answered: answers resume above it.
    floor: Timestamp,
}

/// The clock's state machine.
///
/// Invariants: while sure, the snapshot's bounds hold absolute time (I-1) provided at most `(n - 1) / 2` masters lie and
/// the oscillator keeps its bound; a snapshot's `earliest` at any moment is at or above that of all earlier snapshots
/// at that moment; steps come in order of `mono`.
pub struct DisciplinedClock {
    config: ClockConfig,
    masters: BTreeMap<MasterId, Master>,
    snapshot: Option<ClockSnapshot>,
    /// Half the width and the moment of the agreement that the snapshot is from.
    sampled: (Duration, Mono),
    history: VecDeque<(Mono, TtInterval)>,
    drifting: Option<Drifting>,
    drift_faults: u64,
    disagreement: Disagreement,
    was_sure: bool,
    last_step: Mono,
}

impl DisciplinedClock {
    /// A clock that has heard nothing yet.
    ///
    /// # Panics
    /// When there are no masters, or one is named twice.
    pub fn new(config: ClockConfig) -> Self {
        let masters: BTreeMap<_, _> = config.masters.iter().map(|id| (*id, Master::default())).collect();
        assert!(!masters.is_empty(), "a clock needs a time master");
        assert!(masters.len() == config.masters.len(), "a time master is named twice");
        let disagreement = Disagreement { reporting: 0, agreeing: 0, needed: majority(masters.len()) };
        DisciplinedClock {
            config,
            masters,
            snapshot: None,
            sampled: (Duration::ZERO, Mono::default()),
            history: VecDeque::new(),
            drifting: None,
            drift_faults: 0,
            disagreement,
            was_sure: false,
            last_step: Mono::default(),
        }
    }

    /// Takes in what happened; `mono` is the oscillator's reading now.
    ///
    /// # Panics
    /// When steps are out of order, or a master is not one of the configuration.
    pub fn step(&mut self, input: ClockInput, mono: Mono) -> ClockOutput {
        assert!(mono >= self.last_step, "the oscillator went back");
        self.last_step = mono;
        let mut events = Vec::new();
        match input {
            ClockInput::PollResult { master, sample } if sample.is_well_formed() => {
                assert!(sample.received_mono <= mono, "a sample comes from the future");
                self.take_sample(master, sample);
            }
            ClockInput::PollResult { master, .. } | ClockInput::PollFailed { master } => {
                self.master(master).failures += 1;
            }
        }
        self.reconsider(mono, &mut events);
        let unsure = self.unsure(mono);
        if self.was_sure != unsure.is_none() {
            self.was_sure = unsure.is_none();
            events.push(unsure.map_or(ClockEvent::Sure, ClockEvent::Unsure));
        }
        ClockOutput { snapshot: self.snapshot, events }
    }

    /// Absolute time at `mono`, `None` while unsure.
    pub fn now(&self, mono: Mono) -> Option<TtInterval> {
        self.snapshot?.now(mono)
    }

    /// The clock and its masters at `mono`, which is at or after the last step.
    pub fn status(&self, mono: Mono) -> ClockStatus {
        let now = self.now(mono);
        let epsilon = now.map(TtInterval::epsilon);
        let sampled = epsilon.map(|e| e.min(self.sampled.0));
        ClockStatus {
            now,
            unsure: self.unsure(mono),
            epsilon,
            epsilon_sampled: sampled,
            epsilon_drift: epsilon.zip(sampled).map(|(whole, part)| whole.saturating_sub(part)),
            masters: self.masters.iter().map(|(id, m)| self.master_status(*id, m, mono)).collect(),
            drift_faults: self.drift_faults,
        }
    }

    fn master_status(&self, id: MasterId, master: &Master, mono: Mono) -> MasterStatus {
        let sample = master.sample.filter(|s| self.counts(s, mono));
        MasterStatus {
            id,
            interval: sample.map(|s| s.at(mono, self.config.drift_ppm)),
            round_trip: sample.map(|s| s.round_trip()),
            uncertainty: sample.map(|s| s.master_uncertainty()),
            age: sample.map(|s| mono.since(s.received_mono)),
            rejected: master.rejected,
            failures: master.failures,
        }
    }

    fn unsure(&self, mono: Mono) -> Option<Unsure> {
        if self.drifting.is_some() {
            return Some(Unsure::Drifting);
        }
        let Some(snapshot) = &self.snapshot else {
            return Some(Unsure::Starting(self.disagreement));
        };
        if mono <= snapshot.valid_until {
            return None;
        }
        let epsilon = TtInterval::new(snapshot.earliest_at(mono), snapshot.latest_at(mono)).epsilon();
        if epsilon > self.config.epsilon_max {
            return Some(Unsure::EpsilonTooLarge { epsilon });
        }
        Some(Unsure::NoMajority(self.disagreement))
    }

    fn master(&mut self, id: MasterId) -> &mut Master {
        self.masters.get_mut(&id).expect("only masters of the configuration are polled")
    }

    fn counts(&self, sample: &Sample, mono: Mono) -> bool {
        mono.since(sample.received_mono) <= self.config.sample_max_age
    }

    /// Keeps the better of the old and the new sample. An old one that contradicts the new one goes: either the master
    /// has changed its mind, or the oscillator has drifted, and both are for [`Self::reconsider`] to find out.
    fn take_sample(&mut self, id: MasterId, sample: Sample) {
        let (ppm, reuse) = (self.config.drift_ppm, self.config.sample_reuse);
        let master = self.master(id);
        master.failures = 0;
        let keep_old = master.sample.is_some_and(|old| {
            // Answers may overtake each other.
            if old.received_mono > sample.received_mono {
                return true;
            }
            let fresh = sample.at_receipt(ppm);
            let aged = old.at(sample.received_mono, ppm);
            sample.received_mono.since(old.received_mono) < reuse
                && aged.epsilon() < fresh.epsilon()
                && aged.earliest() <= fresh.latest()
                && fresh.earliest() <= aged.latest()
        });
        if !keep_old {
            master.sample = Some(sample);
        }
    }

    fn reconsider(&mut self, mono: Mono, events: &mut Vec<ClockEvent>) {
        let ppm = self.config.drift_ppm;
        let fresh = |m: &Master| m.sample.filter(|s| self.counts(s, mono)).map(|s| s.at(mono, ppm));
        let intervals: Vec<_> = self.masters.iter().filter_map(|(id, m)| Some((*id, fresh(m)?))).collect();
        let trusted =
            if self.config.has(Planted::TrustAnybody) { intervals.len().min(1) } else { intervals.len() };
        let masters = if self.config.has(Planted::TrustAnybody) { 1 } else { self.masters.len() };
        match agree(&intervals[..trusted], masters) {
            Err(disagreement) => self.disagreement = disagreement,
            Ok(Agreement { interval, rejected }) => {
                for (id, _) in &intervals {
                    let now_rejected = rejected.contains(id);
                    let master = self.master(*id);
                    if master.rejected != now_rejected {
                        master.rejected = now_rejected;
                        let event = if now_rejected { ClockEvent::Rejected } else { ClockEvent::Accepted };
                        events.push(event(*id));
                    }
                }
                self.take_agreement(interval, mono);
            }
        }
    }

    fn take_agreement(&mut self, agreed: TtInterval, mono: Mono) {
        if !self.is_consistent(agreed, mono) {
            let floor = self.snapshot.map_or(Timestamp::ZERO, |s| s.earliest_at(mono.min(s.valid_until)));
            let floor = self.drifting.map_or(floor, |d| d.floor.max(floor));
            self.drifting = Some(Drifting { since: mono, floor });
            self.drift_faults += 1;
            self.snapshot = None;
            self.history.clear();
        }
        self.remember(agreed, mono);
        if let Some(drifting) = self.drifting {
            let long_enough = mono.since(drifting.since) >= self.config.recovery_time;
            if !long_enough || agreed.earliest() <= drifting.floor {
                return;
            }
            self.drifting = None;
        }
        self.snapshot = Some(self.extend(agreed, mono));
        self.sampled = (agreed.epsilon(), mono);
    }

    /// True when every remembered agreement, extrapolated by an oscillator within its bound, shares a point with this
    /// one. The farther back, the smaller a drift is noticed.
    fn is_consistent(&self, agreed: TtInterval, mono: Mono) -> bool {
        let fits = |(at, past): &(Mono, TtInterval)| {
            let elapsed = mono.since(*at);
            let allowance = drift_allowance(elapsed, self.config.drift_ppm);
            let earliest = past.earliest() + elapsed.saturating_sub(allowance);
            let latest = past.latest() + elapsed + allowance;
            earliest <= agreed.latest() && agreed.earliest() <= latest
        };
        let bounds_fit = |s: &ClockSnapshot| s.earliest_at(mono) <= agreed.latest();
        self.history.iter().all(fits) && self.snapshot.as_ref().is_none_or(bounds_fit)
    }

    fn remember(&mut self, agreed: TtInterval, mono: Mono) {
        let window = self.config.drift_window;
        while self.history.front().is_some_and(|(at, _)| mono.since(*at) > window) {
            self.history.pop_front();
        }
        let spacing = window.as_nanos() / HISTORY_MAX as u64;
        let due = self.history.back().is_none_or(|(at, _)| mono.since(*at).as_nanos() >= spacing);
        if due {
            if self.history.len() == HISTORY_MAX {
                self.history.pop_front();
            }
            self.history.push_back((mono, agreed));
        }
    }

    /// The next snapshot. The upper bound is always the agreement's; the lower one stays where it is still better.
    fn extend(&self, agreed: TtInterval, mono: Mono) -> ClockSnapshot {
        let kept = self.snapshot.filter(|s| s.earliest_at(mono) >= agreed.earliest());
        let (earliest_mono, earliest) =
            kept.map_or((mono, agreed.earliest()), |s| (s.earliest_mono, s.earliest));
        let mut next = ClockSnapshot {
            earliest_mono,
            earliest,
            latest_mono: mono,
            latest: agreed.latest(),
            drift_ppm: if self.config.has(Planted::NoDrift) { 0 } else { self.config.drift_ppm },
            valid_until: mono,
        };
        let epsilon = TtInterval::new(next.earliest_at(mono), next.latest_at(mono)).epsilon();
        next.valid_until = match self.epsilon_runway(epsilon) {
            // Valid until just before this moment, that is: unsure at once.
            None => Mono::from_nanos(mono.as_nanos().saturating_sub(1)),
            Some(runway) => mono.plus(runway.min(self.config.agreement_timeout)),
        };
        next
    }

    /// How long it takes from `epsilon` to its limit at the drift bound, rounded down; `None` where it is above.
    fn epsilon_runway(&self, epsilon: Duration) -> Option<Duration> {
        if epsilon > self.config.epsilon_max {
            return None;
        }
        let room = self.config.epsilon_max.saturating_sub(epsilon).as_nanos();
        let ppm = self.config.drift_ppm;
        // Two nanoseconds of the room go to rounding.
        let runway =
            u128::from(room.saturating_sub(2)) * u128::from(1_000_000 - ppm) / u128::from(ppm.max(1));
        Some(Duration::from_nanos(u64::try_from(runway).unwrap_or(u64::MAX)))
    }
}
