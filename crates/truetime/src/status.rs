//! What the clock says about itself, for system tables, metrics and logs.

use meridian_types::{Duration, TtInterval};

use crate::{Disagreement, MasterId};

/// Why the clock answers nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsure {
    /// No majority has ever agreed.
    Starting(Disagreement),
    /// No majority has agreed for too long.
    NoMajority(Disagreement),
    /// Epsilon has grown beyond its limit.
    EpsilonTooLarge {
        /// What it would be.
        epsilon: Duration,
    },
    /// Agreements contradicted each other: the node's own oscillator is beyond the drift bound (or a majority of
    /// masters lied).
    Drifting,
}

impl std::fmt::Display for Unsure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unsure::Starting(d) => {
                write!(f, "starting: {} of {} needed time masters agree", d.agreeing, d.needed)
            }
            Unsure::NoMajority(d) => write!(
                f,
                "no majority of time masters: {} answer, {} agree, {} needed",
                d.reporting, d.agreeing, d.needed
            ),
            Unsure::EpsilonTooLarge { epsilon } => write!(f, "epsilon of {epsilon:?} is above its limit"),
            Unsure::Drifting => f.write_str("the node's oscillator drifts beyond its bound"),
        }
    }
}

/// One master as the clock sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MasterStatus {
    /// Which.
    pub id: MasterId,
    /// Where it puts absolute time at the moment of the status; `None` where it has not answered recently.
    pub interval: Option<TtInterval>,
    /// The round trip of the sample in use.
    pub round_trip: Option<Duration>,
    /// The master's own uncertainty in that sample.
    pub uncertainty: Option<Duration>,
    /// The age of that sample.
    pub age: Option<Duration>,
    /// It disagrees with the majority.
    pub rejected: bool,
    /// Polls that failed since the last good one.
    pub failures: u64,
}

/// The clock at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClockStatus {
    /// What `now` answers.
    pub now: Option<TtInterval>,
    /// Why it answers nothing.
    pub unsure: Option<Unsure>,
    /// Half the width; the sum of the parts below.
    pub epsilon: Option<Duration>,
    /// The part that came with the last agreement: round trips and the masters' own uncertainty.
    pub epsilon_sampled: Option<Duration>,
    /// The part that has grown since, by the drift bound.
    pub epsilon_drift: Option<Duration>,
    /// All masters, in order of id.
    pub masters: Vec<MasterStatus>,
    /// How often successive agreements contradicted each other.
    pub drift_faults: u64,
}
