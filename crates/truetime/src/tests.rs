use std::fmt::Write as _;

use meridian_types::{Duration, SeededRng, Timestamp, TtInterval};
use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
/// Absolute time when a test's world begins.
const EPOCH: u64 = 1_700_000_000 * SECOND;
const POLL: Duration = Duration::from_secs(1);

/// Absolute time, an oscillator of known rate, and masters: everything that the clock does not know.
struct World {
    /// Nanoseconds of absolute time since the epoch of the test, and of the oscillator.
    absolute: u64,
    mono: u64,
    rate_ppm: i64,
    /// What the oscillator has yet to count, in millionths of a nanosecond.
    rest: i128,
    masters: Vec<MasterModel>,
    clock: DisciplinedClock,
    events: Vec<ClockEvent>,
    /// The greatest `earliest` that was answered.
    answered: Timestamp,
}

impl World {
    fn new(masters: usize) -> Self {
        let ids = (0..masters as u32).map(MasterId).collect();
        World {
            absolute: 0,
            mono: 5 * SECOND,
            rate_ppm: 0,
            rest: 0,
            masters: vec![MasterModel::gps(Duration::from_micros(50)); masters],
            clock: DisciplinedClock::new(ClockConfig::new(ids, POLL)),
            events: Vec::new(),
            answered: Timestamp::ZERO,
        }
    }

    fn absolute(&self) -> Timestamp {
        Timestamp::from_nanos(EPOCH + self.absolute)
    }

    fn mono(&self) -> Mono {
        Mono::from_nanos(self.mono)
    }

    fn pass(&mut self, d: Duration) {
        self.absolute += d.as_nanos();
        let counted = i128::from(d.as_nanos()) * i128::from(1_000_000 + self.rate_ppm) + self.rest;
        self.mono += u64::try_from(counted / 1_000_000).unwrap();
        self.rest = counted % 1_000_000;
    }

    /// Polls a master, with these delays there and back.
    fn poll(&mut self, master: usize, there: Duration, back: Duration) {
        let sent_mono = self.mono();
        self.pass(there);
        let answer = self.masters[master].answer(self.absolute());
        self.pass(back);
        let id = MasterId(master as u32);
        let input = answer.map_or(ClockInput::PollFailed { master: id }, |interval| ClockInput::PollResult {
            master: id,
            sample: Sample {
                sent_mono,
                received_mono: self.mono(),
                master_earliest: interval.earliest(),
                master_latest: interval.latest(),
            },
        });
        let output = self.clock.step(input, self.mono());
        self.events.extend(output.events);
    }

    /// Lets a second pass, with a poll of every master.
    fn second(&mut self) {
        let n = self.masters.len();
        for master in 0..n {
            self.poll(master, Duration::from_micros(100), Duration::from_micros(100));
        }
        self.pass(Duration::from_nanos(SECOND - 200_000 * n as u64));
    }

    fn seconds(&mut self, n: u64) {
        (0..n).for_each(|_| self.second());
    }

    fn now(&self) -> Option<TtInterval> {
        self.clock.now(self.mono())
    }

    /// I-1 and monotony.
    fn check(&mut self) {
        if let Some(now) = self.now() {
            let absolute = self.absolute();
            assert!(!now.after(absolute) && !now.before(absolute), "I-1: {absolute} is not in {now:?}");
            assert!(now.earliest() >= self.answered, "earliest went back from {} to {now:?}", self.answered);
            self.answered = now.earliest();
        }
    }

    fn unsure(&self) -> Option<Unsure> {
        self.clock.status(self.mono()).unsure
    }
}

#[test]
fn epsilon_is_a_sawtooth() {
    let mut world = World::new(3);
    world.seconds(3);
    let mut trace = String::new();
    for _ in 0..2 {
        (0..3).for_each(|m| world.poll(m, Duration::from_micros(100), Duration::from_micros(300)));
        for ms in [0, 250, 500, 998] {
            world.pass(Duration::from_millis(if ms == 0 { 0 } else { 250 }));
            let status = world.clock.status(world.mono());
            let us = |d: Option<Duration>| d.unwrap().as_nanos().div_ceil(1_000);
            let (all, sampled, drift) =
                (us(status.epsilon), us(status.epsilon_sampled), us(status.epsilon_drift));
            writeln!(trace, "{ms:3} ms: {all} = {sampled} + {drift}").unwrap();
            world.check();
        }
    }
    let golden = "  0 ms: 251 = 251 + 0\n\
                  250 ms: 301 = 251 + 51\n\
                  500 ms: 351 = 251 + 101\n\
                  998 ms: 401 = 251 + 151\n";
    assert_eq!(trace.lines().count(), 8);
    assert!(trace.ends_with(golden), "{trace}");
}

#[test]
fn a_liar_is_named_and_taken_back() {
    let mut world = World::new(3);
    world.seconds(3);
    world.masters[1].fault = MasterFault::Lie { offset_ns: SECOND as i64 };
    for _ in 0..20 {
        world.second();
        world.check();
    }
    assert!(world.clock.status(world.mono()).masters[1].rejected);
    world.masters[1].fault = MasterFault::None;
    world.seconds(2);
    assert_eq!(
        world.events,
        [ClockEvent::Sure, ClockEvent::Rejected(MasterId(1)), ClockEvent::Accepted(MasterId(1))]
    );
    assert_eq!(world.unsure(), None);
}

#[test]
fn without_a_majority_the_clock_is_unsure_and_comes_back() {
    let mut world = World::new(3);
    world.seconds(3);
    world.masters[0].fault = MasterFault::Stop;
    world.masters[2].fault = MasterFault::Stop;
    world.seconds(10);
    assert_eq!(world.unsure(), None, "a while without a majority is bridged");
    world.seconds(10);
    assert_eq!(
        world.unsure(),
        Some(Unsure::NoMajority(Disagreement { reporting: 1, agreeing: 1, needed: 2 }))
    );
    assert_eq!(world.now(), None);
    world.masters[2].fault = MasterFault::None;
    world.second();
    assert_eq!(world.unsure(), None);
    world.check();
    assert_eq!(world.clock.status(world.mono()).masters[0].failures, 21);
}

#[test]
fn masters_that_all_disagree_are_no_majority() {
    let mut world = World::new(3);
    for (i, master) in world.masters.iter_mut().enumerate() {
        master.fault = MasterFault::Lie { offset_ns: i as i64 * SECOND as i64 };
    }
    world.seconds(30);
    let disagreement = Disagreement { reporting: 3, agreeing: 1, needed: 2 };
    assert_eq!(world.unsure(), Some(Unsure::Starting(disagreement)));
    assert_eq!(world.events, []);
}

#[test]
fn a_slow_round_trip_does_not_widen_the_interval() {
    let mut world = World::new(3);
    world.seconds(3);
    let before = world.now().unwrap().epsilon();
    (0..3).for_each(|m| world.poll(m, Duration::from_millis(1), Duration::from_millis(40)));
    world.check();
    assert!(world.now().unwrap().epsilon() < before + Duration::from_micros(50));
}

#[test]
fn an_oscillator_beyond_its_bound_is_found_out_and_recovers() {
    for rate_ppm in [-2_000, 2_000, 700, -700] {
        let mut world = World::new(3);
        world.seconds(20);
        world.check();
        world.rate_ppm = rate_ppm;
        world.seconds(30);
        assert_eq!(world.unsure(), Some(Unsure::Drifting), "at {rate_ppm} ppm");
        assert_eq!(world.now(), None);
        world.seconds(60);
        assert_eq!(world.unsure(), Some(Unsure::Drifting), "it stays unsure as long as it drifts");
        world.rate_ppm = 100;
        for _ in 0..30 {
            world.second();
            world.check();
        }
        assert_eq!(world.unsure(), None, "at {rate_ppm} ppm");
        let faults = world.clock.status(world.mono()).drift_faults;
        assert!(faults >= 2, "{faults} faults");
    }
}

#[test]
fn a_jump_of_the_oscillator_is_found_out_at_once() {
    let mut world = World::new(3);
    world.seconds(20);
    // The machine was suspended, and the oscillator did not count.
    world.absolute += 3 * SECOND;
    world.poll(0, Duration::from_micros(100), Duration::from_micros(100));
    world.poll(1, Duration::from_micros(100), Duration::from_micros(100));
    assert_eq!(world.unsure(), Some(Unsure::Drifting));
}

#[test]
fn after_a_clock_ran_ahead_answers_resume_above_the_last_one() {
    let mut world = World::new(1);
    world.seconds(3);
    world.masters[0].fault = MasterFault::Lie { offset_ns: 30 * SECOND as i64 };
    world.seconds(15);
    let ahead = world.now().unwrap().earliest();
    assert!(ahead > world.absolute(), "the only master is believed after a while");
    world.masters[0].fault = MasterFault::None;
    world.seconds(20);
    assert_eq!(
        world.unsure(),
        Some(Unsure::Drifting),
        "recovered, but absolute time is below what was answered"
    );
    world.seconds(20);
    assert!(world.now().unwrap().earliest() > ahead);
}

#[test]
fn epsilon_above_its_limit_is_no_answer() {
    let mut world = World::new(3);
    world.masters.iter_mut().for_each(|m| m.uncertainty = Duration::from_millis(300));
    world.seconds(5);
    assert!(matches!(world.unsure(), Some(Unsure::EpsilonTooLarge { .. })), "{:?}", world.unsure());
    assert_eq!(world.now(), None);
    world.masters.iter_mut().for_each(|m| m.uncertainty = Duration::from_millis(249));
    world.seconds(1);
    assert!(world.now().is_some());
}

#[test]
fn malformed_answers_count_as_failures() {
    let mut world = World::new(1);
    let sample = Sample {
        sent_mono: world.mono(),
        received_mono: world.mono(),
        master_earliest: Timestamp::from_nanos(2),
        master_latest: Timestamp::from_nanos(1),
    };
    world.clock.step(ClockInput::PollResult { master: MasterId(0), sample }, world.mono());
    let status = world.clock.status(world.mono());
    assert_eq!((status.masters[0].failures, status.masters[0].interval), (1, None));
}

#[test]
fn the_kernel_can_be_the_master() {
    let reading = KernelReading {
        before: Mono::from_nanos(100),
        after: Mono::from_nanos(150),
        realtime: Timestamp::from_nanos(EPOCH),
        max_error: Duration::from_micros(700),
        synchronised: true,
    };
    let sample = reading.sample().unwrap();
    let mut clock = DisciplinedClock::new(ClockConfig::new(vec![MasterId(0)], POLL));
    let output = clock.step(ClockInput::PollResult { master: MasterId(0), sample }, reading.after);
    let now = output.snapshot.unwrap().now(reading.after).unwrap();
    assert_eq!(now.earliest(), Timestamp::from_nanos(EPOCH - 700_000));
    assert_eq!(now.latest(), Timestamp::from_nanos(EPOCH + 700_051));
    assert_eq!(KernelReading { synchronised: false, ..reading }.sample(), None);
}

#[test]
fn readers_see_whole_snapshots() {
    let shared = SharedClock::new();
    assert_eq!(shared.now(Mono::from_nanos(1)), None);
    let snapshot = |n: u64| ClockSnapshot {
        earliest_mono: Mono::from_nanos(n),
        earliest: Timestamp::from_nanos(n),
        latest_mono: Mono::from_nanos(n),
        latest: Timestamp::from_nanos(n),
        drift_ppm: n,
        valid_until: Mono::from_nanos(n),
    };
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let shared = &shared;
            scope.spawn(move || (1..20_000).for_each(|n| shared.publish(Some(snapshot(2 * n + writer)))));
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if let Some(seen) = shared.snapshot() {
                        assert_eq!(seen, snapshot(seen.drift_ppm), "a torn snapshot");
                    }
                }
            });
        }
    });
    shared.publish(None);
    assert_eq!(shared.snapshot(), None);
}

/// Liars that stay close to the truth are the dangerous ones; far ones are rejected.
fn lie(rng: &mut SeededRng) -> MasterFault {
    let spans = [1_000, 100_000, 1_000_000, 100_000_000, 10_000_000_000];
    let span = spans[rng.below(5) as usize];
    match rng.below(8) {
        0 => MasterFault::Stop,
        1 => MasterFault::Stall { at: Timestamp::from_nanos(EPOCH + rng.below(60 * SECOND)) },
        2 => MasterFault::Drift {
            since: Timestamp::from_nanos(EPOCH),
            drift_ppm: rng.below(2_000) as i64 - 1_000,
        },
        3 => MasterFault::None,
        _ => MasterFault::Lie { offset_ns: rng.below(2 * span) as i64 - span as i64 },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// I-1 for every schedule in which a majority of masters is honest and the oscillator keeps its bound.
    #[test]
    fn absolute_time_is_in_every_interval(seed: u64, masters in 1usize..8) {
        let mut rng = SeededRng::new(seed);
        let mut world = World::new(masters);
        let liars = rng.below(masters.div_ceil(2) as u64) as usize;
        for master in &mut world.masters {
            master.uncertainty = Duration::from_micros(1 + rng.below(500));
        }
        for _ in 0..300 {
            world.rate_ppm = rng.below(401) as i64 - 200;
            let master = rng.below(masters as u64) as usize;
            if master < liars {
                world.masters[master].fault = lie(&mut rng);
            } else if rng.chance(1, 10) {
                world.masters[master].fault = MasterFault::Stop;
            } else {
                // An honest master errs within its uncertainty.
                let error = rng.below(2 * world.masters[master].uncertainty.as_nanos() + 1) as i64
                    - world.masters[master].uncertainty.as_nanos() as i64;
                world.masters[master].fault = MasterFault::Lie { offset_ns: error };
            }
            let scale = [1_000, 100_000, 30_000_000][rng.below(3) as usize];
            let (there, back) = (rng.below(scale), rng.below(scale));
            world.poll(master, Duration::from_nanos(there), Duration::from_nanos(back));
            world.check();
            world.pass(Duration::from_nanos(rng.below(2 * SECOND / masters as u64)));
            world.check();
            prop_assert_ne!(world.unsure(), Some(Unsure::Drifting), "a false alarm");
        }
    }

    #[test]
    fn a_commit_wait_ends_after_its_timestamp(start: u32, delta in 0u64..10 * SECOND, ppm in 0u64..1_000) {
        let snapshot = ClockSnapshot {
            earliest_mono: Mono::from_nanos(u64::from(start)),
            earliest: Timestamp::from_nanos(EPOCH),
            latest_mono: Mono::from_nanos(u64::from(start)),
            latest: Timestamp::from_nanos(EPOCH + 1),
            drift_ppm: ppm,
            valid_until: Mono::from_nanos(u64::MAX),
        };
        let t = Timestamp::from_nanos(EPOCH - SECOND + delta);
        let when = snapshot.when_after(t);
        prop_assert!(snapshot.now(when).unwrap().after(t));
        let waited = when.since(snapshot.earliest_mono).as_nanos();
        prop_assert!(waited <= t.next().since(snapshot.earliest).as_nanos() * 1_003 / 1_000 + 2, "waited {}", waited);
    }

    #[test]
    fn the_drift_allowance_covers_every_rate_within_the_bound(counted in 0u64..1 << 50, ppm in 0u64..1_000, rate in 0u64..2_001) {
        // Absolute nanoseconds while an oscillator of rate 1 + r counts `counted`.
        let r = (rate as i128 - 1_000) * ppm as i128 / 1_000;
        let absolute = counted as i128 * 1_000_000 / (1_000_000 + r);
        let allowance = i128::from(drift_allowance(Duration::from_nanos(counted), ppm).as_nanos());
        prop_assert!((absolute - counted as i128).abs() <= allowance);
    }
}
