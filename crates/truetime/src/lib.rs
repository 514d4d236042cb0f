//! TrueTime: a clock that knows how wrong it may be (Spanner, OSDI 2012, section 3).
//!
//! A node's own oscillator ([`Mono`]) is disciplined by several time masters. Each poll of a master gives an interval
//! that holds absolute time (Cristian, 1989); the intervals of all masters are combined so that a minority of liars can't
//! push absolute time out of the result (after Marzullo, 1984); between polls the result widens by the drift that
//! the oscillator is assumed not to exceed, which gives the paper's sawtooth.
//!
//! ```text
//!   driver                      DisciplinedClock                          readers, many threads
//!     | PollResult / PollFailed -->| sample -> agreement -> anchors           |
//!     | <-- ClockSnapshot, events  |                                          |
//!     | publish ----------------------------------------------> SharedClock --| now(mono)
//!
//!              agreement                     contradicts an earlier one
//!   starting ------------> sure ---------------------------------------------> drifting
//!      ^                   |  ^                                                   |
//!      |  (never again)    v  | agreement                   consistent for a while  |
//!                        unsure <--------------------------------------------------
//!          no majority for too long, or epsilon too large
//! ```
//! The crate is a set of state machines and pure functions: it reads no clock, sends nothing and draws no random
//! numbers. A driver polls the masters, feeds [`DisciplinedClock::step`] and publishes the snapshot that it returns.
//!
//! **I-1**: absolute time lies in every interval that `now` returns, provided that (a) less than half of the masters
//! (exactly: at most `(n - 1) / 2` of `n`) are wrong and (b) the oscillator keeps the drift bound. Where (b) does not
//! hold, the intervals of successive agreements contradict each other sooner or later: the clock then is unsure, says so
//! and recovers by itself once they have agreed for a while.
//!
//! Further invariants: `earliest` never goes back, not even across a recovery; a clock without a majority, or with an
//! epsilon above its limit, answers `None`, never a guess.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agreement;
mod clock;
mod master;
mod mono;
mod planted;
mod sample;
mod snapshot;
mod status;

pub use agreement::{Agreement, Disagreement, agree, majority};
pub use clock::{ClockConfig, ClockEvent, ClockInput, ClockOutput, DisciplinedClock};
pub use master::{MasterFault, MasterKind, MasterModel};
pub use mono::{Mono, drift_allowance};
#[cfg(feature = "planted-bugs")]
pub use planted::Planted;
pub use sample::{KernelReading, Sample};
pub use snapshot::{ClockSnapshot, SharedClock};
pub use status::{ClockStatus, MasterStatus, Unsure};

/// Names a time master within a clock's configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MasterId(pub u32);

impl std::fmt::Display for MasterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests;
