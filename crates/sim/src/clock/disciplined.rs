//! A node's clock as the server runs it: `DisciplinedClock`, polled against simulated masters over a bad network.
//!
//! ```text
//!   Poll ---d1---> master answers for absolute time at + d1 ---d2---> PollDone: sample, agreement, snapshot
//! ```
//! `d1` and `d2` are drawn apart, so round trips are as asymmetric as Cristian's method must bear. A crash forgets what
//! the process knew; the oscillator, which is the machine's, goes on.

use meridian_truetime::{ClockConfig, ClockInput, DisciplinedClock, MasterId, MasterModel, Mono, Sample};
use meridian_types::{Duration, SeededRng, Timestamp, TtInterval};

use super::Oscillator;

/// Time masters of a cluster. One of them may be wrong.
pub const MASTERS: u32 = 3;

/// How often each node polls each master.
pub const POLL_INTERVAL: Duration = Duration::from_millis(1_000);

/// A poll without an answer fails after this time.
const POLL_TIMEOUT: Duration = Duration::from_millis(700);

/// A poll on its way.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    master: MasterId,
    sent: Mono,
    answer: Option<TtInterval>,
}

/// See the module.
pub struct DisciplinedNode {
    /// The machine's.
    pub oscillator: Oscillator,
    clock: DisciplinedClock,
    /// The bug in the clock.
    #[cfg(feature = "planted-bugs")]
    planted: Option<meridian_truetime::Planted>,
}

impl DisciplinedNode {
    /// A node that has heard of no master yet.
    #[cfg(not(feature = "planted-bugs"))]
    pub fn new(oscillator: Oscillator) -> Self {
        DisciplinedNode { oscillator, clock: DisciplinedClock::new(config()) }
    }

    /// A node that has heard of no master yet.
    #[cfg(feature = "planted-bugs")]
    pub fn new(oscillator: Oscillator, planted: Option<meridian_truetime::Planted>) -> Self {
        let clock = DisciplinedClock::new(ClockConfig { planted, ..config() });
        DisciplinedNode { oscillator, clock, planted }
    }

    /// The process starts again and knows nothing.
    pub fn restart(&mut self) {
        #[cfg(feature = "planted-bugs")]
        let config = ClockConfig { planted: self.planted, ..config() };
        #[cfg(not(feature = "planted-bugs"))]
        let config = config();
        self.clock = DisciplinedClock::new(config);
    }

    /// What TrueTime answers at the absolute time `at`.
    pub fn tt(&self, at: Timestamp) -> Option<TtInterval> {
        self.clock.now(self.reading(at))
    }

    fn reading(&self, at: Timestamp) -> Mono {
        Mono::from_nanos(self.oscillator.mono(at).as_nanos())
    }

    /// Asks a master; the poll is over at the moment returned.
    pub fn poll(
        &self,
        index: u32,
        master: &MasterModel,
        at: Timestamp,
        rng: &mut SeededRng,
    ) -> (Timestamp, Poll) {
        let there = way(rng);
        let back = way(rng);
        let answer = if rng.chance(1, 50) { None } else { master.answer(at + there) };
        let answer = answer.filter(|_| there + back < POLL_TIMEOUT);
        let done = if answer.is_some() { there + back } else { POLL_TIMEOUT };
        (at + done, Poll { master: MasterId(index), sent: self.reading(at), answer })
    }

    /// A poll is over. True when the clock is sure afterwards.
    pub fn poll_done(&mut self, poll: Poll, at: Timestamp) -> bool {
        let received = self.reading(at);
        let input = match poll.answer {
            Some(answer) => ClockInput::PollResult {
                master: poll.master,
                sample: Sample {
                    sent_mono: poll.sent,
                    received_mono: received,
                    master_earliest: answer.earliest(),
                    master_latest: answer.latest(),
                },
            },
            None => ClockInput::PollFailed { master: poll.master },
        };
        self.clock.step(input, received).snapshot.is_some()
    }
}

fn config() -> ClockConfig {
    ClockConfig::new((0..MASTERS).map(MasterId).collect(), POLL_INTERVAL)
}

/// One way between a node and a master: mostly short, now and then stuck in a queue.
fn way(rng: &mut SeededRng) -> Duration {
    let us = if rng.chance(1, 30) { rng.below(60_000) } else { 50 + rng.below(1_500) };
    Duration::from_micros(us)
}
