//! Clocks of simulated nodes.
//!
//! ```text
//!   ErraticClock       intervals that hold absolute time and jump about as wildly as I-1 allows: the cores' worst case
//!   DisciplinedNode    an oscillator, and `meridian_truetime::DisciplinedClock` polled over a bad network against
//!                      masters that lie, drift, stall and stop: the code that the server runs
//! ```
//! The erratic clock makes a run hard for what stands on I-1; the disciplined one puts I-1 itself to the test.

mod disciplined;
mod erratic;
mod oscillator;

pub use disciplined::{DisciplinedNode, MASTERS, POLL_INTERVAL, Poll};
pub use erratic::{ClockConfig, ErraticClock};
pub use oscillator::Oscillator;

use meridian_types::{Timestamp, TtInterval};

/// The clock of one node.
pub enum NodeClock {
    /// Honest intervals out of nowhere.
    Erratic(ErraticClock),
    /// The real discipline.
    Disciplined(Box<DisciplinedNode>),
}

impl NodeClock {
    /// What the oscillator shows at the absolute time `at`.
    pub fn mono(&self, at: Timestamp) -> Timestamp {
        match self {
            NodeClock::Erratic(clock) => clock.mono(at),
            NodeClock::Disciplined(node) => node.oscillator.mono(at),
        }
    }

    /// The absolute time at which the oscillator will show at least `mono`, if nothing disturbs it.
    pub fn when(&self, mono: Timestamp) -> Timestamp {
        match self {
            NodeClock::Erratic(clock) => clock.when(mono),
            NodeClock::Disciplined(node) => node.oscillator.when(mono),
        }
    }

    /// What TrueTime answers at the absolute time `at`.
    pub fn tt(&self, at: Timestamp) -> Option<TtInterval> {
        match self {
            NodeClock::Erratic(clock) => clock.tt(at),
            NodeClock::Disciplined(node) => node.tt(at),
        }
    }
}
