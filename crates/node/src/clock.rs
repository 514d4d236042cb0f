//! The node's clock: what disciplines it, and how every step reads it.
//!
//! ```text
//!   time masters --poll, one task each--> DisciplinedClock --publish--> SharedClock --> now(), on every thread
//! ```
//! A poll reads the oscillator before it asks and after it is answered; everything that follows from that is
//! `meridian-truetime`'s business. Reading the clock takes no lock.

use std::sync::Arc;
use std::time::{Duration as StdDuration, Instant, SystemTime};

use async_trait::async_trait;
use meridian_paxos::Now;
use meridian_rpc::admin::{ClockSourceStatus, ClockStatus, EpsilonParts};
use meridian_rpc::{PollError, TimeClient, TimeReading, TimeService};
use meridian_truetime::{
    ClockConfig, ClockEvent, ClockInput, ClockSnapshot, DisciplinedClock, MasterId, MasterModel, Mono,
    Sample, SharedClock,
};
use meridian_types::{Duration, Timestamp, TtInterval};
use parking_lot::Mutex;

use crate::Oscillator;

/// The time of day of this machine: the reference of simulated masters, and absolute time in tests.
pub fn machine_time() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
}

/// A reference that a clock can be disciplined by.
#[async_trait]
pub trait TimeMaster: Send {
    /// Names it for operators.
    fn name(&self) -> String;

    /// Prepares the next poll, so that its round trip is not longer than it need be.
    async fn connect(&mut self) -> Result<(), PollError>;

    /// Asks it: absolute time lies in the answer.
    async fn poll(&mut self) -> Result<TtInterval, PollError>;
}

#[async_trait]
impl TimeMaster for TimeClient {
    fn name(&self) -> String {
        self.master().to_owned()
    }

    async fn connect(&mut self) -> Result<(), PollError> {
        TimeClient::connect(self).await
    }

    async fn poll(&mut self) -> Result<TtInterval, PollError> {
        let reading = TimeClient::poll(self).await?;
        let (time, uncertainty) = (reading.time, reading.uncertainty);
        Ok(TtInterval::new(time.saturating_sub(uncertainty), time + uncertainty))
    }
}

/// A simulated master in this process, and what `meridian time-master` serves.
#[derive(Clone)]
pub struct SimulatedMaster {
    name: String,
    model: Arc<Mutex<MasterModel>>,
}

impl SimulatedMaster {
    /// A master that follows `model` over the time of day of this machine.
    pub fn new(name: &str, model: MasterModel) -> Self {
        SimulatedMaster { name: name.to_owned(), model: Arc::new(Mutex::new(model)) }
    }

    /// Changes its behaviour: makes it lie, drift, stall or stop.
    pub fn set_model(&self, model: MasterModel) {
        *self.model.lock() = model;
    }

    fn answer(&self) -> Option<TtInterval> {
        self.model.lock().answer(machine_time())
    }
}

#[async_trait]
impl TimeMaster for SimulatedMaster {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn connect(&mut self) -> Result<(), PollError> {
        Ok(())
    }

    async fn poll(&mut self) -> Result<TtInterval, PollError> {
        let stopped = || PollError { master: self.name.clone(), detail: "stopped".to_owned() };
        self.answer().ok_or_else(stopped)
    }
}

#[async_trait]
impl TimeService for SimulatedMaster {
    async fn now(&self) -> Option<TimeReading> {
        let answer = self.answer()?;
        let uncertainty = answer.epsilon();
        Some(TimeReading { time: answer.earliest() + uncertainty, uncertainty })
    }
}

/// The kernel's clock, which a daemon on this machine disciplines, with the kernel's own bound of its error.
#[derive(Debug, Default)]
pub struct KernelClock;

#[async_trait]
impl TimeMaster for KernelClock {
    fn name(&self) -> String {
        "system".to_owned()
    }

    async fn connect(&mut self) -> Result<(), PollError> {
        Ok(())
    }

    async fn poll(&mut self) -> Result<TtInterval, PollError> {
        let failed = |detail: String| PollError { master: self.name(), detail };
        let reading = meridian_kernel_clock::read().map_err(|error| failed(error.to_string()))?;
        let (time, error_max) = (reading.time, reading.error_max);
        Ok(TtInterval::new(time.saturating_sub(error_max), time + error_max))
    }
}

/// Polls of one master in a row. A round trip that a busy processor has stretched widens the interval until the next
/// poll; the next one mostly is not stretched, and the clock keeps the narrower sample.
const POLLS_MAX: usize = 4;

/// Whether a round trip is about as short as they have been lately. What "usual" means grows a little with each one, so
/// that a longer way to the master is accepted in time.
fn is_usual(usual: &mut Option<Duration>, round_trip: Duration) -> bool {
    let known = usual.map_or(round_trip, |known| known + Duration::from_nanos(known.as_nanos() / 16));
    *usual = Some(known.min(round_trip));
    round_trip.as_nanos() <= known.as_nanos() + known.as_nanos() / 2
}

/// The clock of a node, shared by everything on it.
pub struct NodeClock {
    oscillator: Oscillator,
    shared: SharedClock,
    disciplined: Option<Mutex<DisciplinedClock>>,
    masters: Vec<String>,
    /// Why the last poll of each master had no answer; empty where it had one.
    failures: Mutex<Vec<String>>,
}

impl NodeClock {
    /// A clock that is unsure until a majority of `masters` has answered [`NodeClock::discipline`]. `patience` is the
    /// longest interval between polls: how old a sample may be, and what is taken for drift, is counted in it.
    ///
    /// # Panics
    /// Without masters.
    pub fn new(oscillator: Oscillator, masters: &[Box<dyn TimeMaster>], patience: Duration) -> Arc<Self> {
        let ids = (0..masters.len() as u32).map(MasterId).collect();
        let disciplined = DisciplinedClock::new(ClockConfig::new(ids, patience));
        Arc::new(NodeClock {
            oscillator,
            shared: SharedClock::new(),
            disciplined: Some(Mutex::new(disciplined)),
            masters: masters.iter().map(|m| m.name()).collect(),
            failures: Mutex::new(vec![String::new(); masters.len()]),
        })
    }

    /// A clock that nothing disciplines, within `epsilon` of this machine's time of day at its creation, for tests.
    pub fn free_running(epsilon: Duration) -> Arc<Self> {
        let oscillator = Oscillator::os();
        let shared = SharedClock::new();
        let (mono, now) = (oscillator.now(), machine_time());
        shared.publish(Some(ClockSnapshot {
            earliest_mono: mono,
            earliest: now.saturating_sub(epsilon),
            latest_mono: mono,
            latest: now + epsilon,
            drift_ppm: 0,
            valid_until: Mono::from_nanos(u64::MAX),
        }));
        Arc::new(NodeClock {
            oscillator,
            shared,
            disciplined: None,
            masters: Vec::new(),
            failures: Mutex::default(),
        })
    }

    /// The moment of a step.
    #[inline]
    pub fn now(&self) -> Now {
        let mono = self.oscillator.now();
        Now { mono: Timestamp::from_nanos(mono.as_nanos()), tt: self.shared.now(mono) }
    }

    /// The oscillator alone.
    pub fn mono(&self) -> Timestamp {
        Timestamp::from_nanos(self.oscillator.now().as_nanos())
    }

    /// When the oscillator will show `mono`, about.
    pub(crate) fn instant_of(&self, mono: Timestamp) -> Instant {
        self.oscillator.instant_of(Mono::from_nanos(mono.as_nanos()))
    }

    /// Polls `masters`, those that the clock was made with, until dropped. One task per master, which ends when the
    /// returned guard is dropped.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or when these are not the masters that the clock was made with.
    pub fn discipline(
        self: &Arc<Self>,
        masters: Vec<Box<dyn TimeMaster>>,
        interval: StdDuration,
    ) -> tokio_util::sync::DropGuard {
        assert_eq!(
            masters.len(),
            self.masters.len(),
            "a clock is disciplined by the masters it was made with"
        );
        let stop = tokio_util::sync::CancellationToken::new();
        for (i, master) in masters.into_iter().enumerate() {
            let polls = self.clone().poll_forever(MasterId(i as u32), master, interval);
            tokio::spawn(stop.clone().run_until_cancelled_owned(polls));
        }
        stop.drop_guard()
    }

    async fn poll_forever(
        self: Arc<Self>,
        id: MasterId,
        mut master: Box<dyn TimeMaster>,
        interval: StdDuration,
    ) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut usual: Option<Duration> = None;
        loop {
            ticks.tick().await;
            for _ in 0..POLLS_MAX {
                let polled = poll_once(&self.oscillator, &mut *master).await;
                self.note_failure(id, polled.as_ref().err());
                let input = match polled {
                    Ok(sample) => ClockInput::PollResult { master: id, sample },
                    Err(_) => ClockInput::PollFailed { master: id },
                };
                self.feed(input);
                let ClockInput::PollResult { sample, .. } = input else { break };
                if is_usual(&mut usual, sample.round_trip()) {
                    break;
                }
            }
        }
    }

    /// Polls each of `masters` once, in order, for callers that want a sure clock before they go on.
    pub async fn poll_now(&self, masters: &mut [Box<dyn TimeMaster>]) {
        for (i, master) in masters.iter_mut().enumerate() {
            let id = MasterId(i as u32);
            match poll_once(&self.oscillator, &mut **master).await {
                Ok(sample) => self.feed(ClockInput::PollResult { master: id, sample }),
                Err(_) => self.feed(ClockInput::PollFailed { master: id }),
            }
        }
    }

    /// Remembers why a poll had no answer, and says so once.
    fn note_failure(&self, id: MasterId, error: Option<&PollError>) {
        let detail = error.map(|e| e.detail.clone()).unwrap_or_default();
        let mut failures = self.failures.lock();
        let known = &mut failures[id.0 as usize];
        if let Some(error) = error
            && known.is_empty()
        {
            tracing::warn!(%error, "no time");
        }
        *known = detail;
    }

    fn feed(&self, input: ClockInput) {
        let Some(disciplined) = &self.disciplined else { return };
        let mut clock = disciplined.lock();
        // Read under the lock: steps come in order of the oscillator.
        let output = clock.step(input, self.oscillator.now());
        self.shared.publish(output.snapshot);
        drop(clock);
        for event in output.events {
            self.log(&event);
        }
    }

    fn log(&self, event: &ClockEvent) {
        let name = |id: &MasterId| self.masters.get(id.0 as usize).map_or("", String::as_str);
        match event {
            ClockEvent::Sure => tracing::info!("clock is sure"),
            ClockEvent::Unsure(why) => tracing::error!(%why, "clock is unsure: no leases and no timestamps"),
            ClockEvent::Rejected(id) => tracing::warn!(master = name(id), "time master disagrees"),
            ClockEvent::Accepted(id) => tracing::info!(master = name(id), "time master agrees"),
        }
    }

    /// What operators see.
    pub fn status(&self) -> ClockStatus {
        let Some(disciplined) = &self.disciplined else {
            let interval = self.now().tt.map(|tt| (tt.earliest(), tt.latest()));
            return ClockStatus { interval, ..ClockStatus::default() };
        };
        let clock = disciplined.lock();
        let status = clock.status(self.oscillator.now());
        drop(clock);
        let failures = self.failures.lock();
        let source = |m| source_status(&self.masters, &failures, m, status.now);
        let sources = status.masters.iter().map(source).collect();
        ClockStatus {
            interval: status.now.map(|tt| (tt.earliest(), tt.latest())),
            unsure: status.unsure.as_ref().map(ToString::to_string).unwrap_or_default(),
            parts: parts(&status),
            drift_faults: status.drift_faults,
            sources,
        }
    }
}

/// What epsilon is made of. Of what came with the last agreement the masters themselves are charged with what the best of
/// those that agree did not know; the rest is the way to them.
fn parts(status: &meridian_truetime::ClockStatus) -> Option<EpsilonParts> {
    let sampled = status.epsilon_sampled?.as_nanos();
    let agreeing = status.masters.iter().filter(|m| !m.rejected);
    let best = agreeing.filter_map(|m| m.uncertainty).min().map_or(0, Duration::as_nanos);
    let masters_ns = best.min(sampled);
    let drift_ns = status.epsilon_drift?.as_nanos();
    Some(EpsilonParts { masters_ns, network_ns: sampled - masters_ns, drift_ns })
}

/// The master's interval relative to the middle of the node's own.
fn source_status(
    names: &[String],
    failures: &[String],
    master: &meridian_truetime::MasterStatus,
    now: Option<TtInterval>,
) -> ClockSourceStatus {
    let reference = now.or(master.interval);
    let middle = reference.map_or(0, |tt| (tt.earliest() + tt.epsilon()).as_nanos());
    let offset =
        |t: Timestamp| i64::try_from(i128::from(t.as_nanos()) - i128::from(middle)).unwrap_or(i64::MAX);
    let failure = failures.get(master.id.0 as usize).map_or("", String::as_str);
    let reason = match (master.interval, master.rejected) {
        (None, _) if !failure.is_empty() => failure,
        (None, _) => "no recent answer",
        (Some(_), true) => "disagrees with the majority",
        (Some(_), false) => "",
    };
    ClockSourceStatus {
        master: names.get(master.id.0 as usize).cloned().unwrap_or_default(),
        low_ns: master.interval.map_or(0, |tt| offset(tt.earliest())),
        high_ns: master.interval.map_or(0, |tt| offset(tt.latest())),
        accepted: master.interval.is_some() && !master.rejected,
        reason: reason.to_owned(),
        round_trip_ns: master.round_trip.map_or(0, Duration::as_nanos),
        uncertainty_ns: master.uncertainty.map_or(0, Duration::as_nanos),
        age_ns: master.age.map_or(0, Duration::as_nanos),
        failures: master.failures,
    }
}

async fn poll_once(oscillator: &Oscillator, master: &mut dyn TimeMaster) -> Result<Sample, PollError> {
    master.connect().await?;
    let sent_mono = oscillator.now();
    let answer = master.poll().await?;
    Ok(Sample {
        sent_mono,
        received_mono: oscillator.now(),
        master_earliest: answer.earliest(),
        master_latest: answer.latest(),
    })
}

#[cfg(test)]
mod tests {
    use meridian_truetime::MasterFault;

    use super::*;

    fn three() -> (Vec<SimulatedMaster>, Vec<Box<dyn TimeMaster>>) {
        let us = Duration::from_micros(100);
        let masters: Vec<SimulatedMaster> =
            ["a", "b", "c"].iter().map(|n| SimulatedMaster::new(n, MasterModel::gps(us))).collect();
        let boxed = masters.iter().map(|m| Box::new(m.clone()) as Box<dyn TimeMaster>).collect();
        (masters, boxed)
    }

    #[tokio::test]
    async fn a_majority_of_masters_bounds_absolute_time_and_a_liar_is_named() {
        let (masters, mut boxed) = three();
        let lie = MasterFault::Lie { offset_ns: 5_000_000_000 };
        masters[1].set_model(MasterModel { fault: lie, ..MasterModel::gps(Duration::from_micros(100)) });
        let clock =
            NodeClock::new(Oscillator::disturbed(-7_000_000_000, 150), &boxed, Duration::from_secs(1));
        assert_eq!(clock.now().tt, None, "nothing has been heard yet");
        clock.poll_now(&mut boxed).await;
        let before = machine_time();
        let tt = clock.now().tt.expect("two of three masters agree");
        assert!(tt.latest() >= before, "absolute time is not in the interval");
        assert!(tt.earliest() <= machine_time(), "absolute time is not in the interval");
        let status = clock.status();
        let accepted: Vec<bool> = status.sources.iter().map(|s| s.accepted).collect();
        assert_eq!(accepted, [true, false, true]);
        assert_eq!(status.sources[1].reason, "disagrees with the majority");
        let (earliest, latest) = status.interval.unwrap();
        let parts = status.parts.unwrap();
        let sum = parts.masters_ns + parts.network_ns + parts.drift_ns;
        assert_eq!(sum, TtInterval::new(earliest, latest).epsilon().as_nanos(), "{parts:?}");
        assert_eq!(parts.masters_ns, Duration::from_micros(100).as_nanos());
    }

    #[test]
    fn a_stretched_round_trip_is_not_usual_until_it_stays() {
        let us = Duration::from_micros;
        let mut usual = None;
        assert!(is_usual(&mut usual, us(100)));
        assert!(is_usual(&mut usual, us(120)));
        assert!(!is_usual(&mut usual, us(900)));
        assert!(is_usual(&mut usual, us(110)), "one that was stretched changes nothing");
        let polls = (0..100).position(|_| is_usual(&mut usual, us(900)));
        assert!(polls.is_some_and(|polls| polls > 10), "a longer way is accepted in time: {polls:?}");
    }

    #[tokio::test]
    async fn stopped_masters_leave_the_clock_unsure() {
        let (masters, mut boxed) = three();
        for master in &masters[..2] {
            master.set_model(MasterModel { fault: MasterFault::Stop, ..MasterModel::gps(Duration::ZERO) });
        }
        let clock = NodeClock::new(Oscillator::os(), &boxed, Duration::from_secs(1));
        clock.poll_now(&mut boxed).await;
        assert_eq!(clock.now().tt, None);
        assert!(!clock.status().unsure.is_empty());
    }
}
