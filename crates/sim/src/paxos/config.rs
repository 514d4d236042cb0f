//! What kind of world a run has.

use meridian_types::{Duration, SeededRng};

use crate::ClockConfig;

/// The world of a run. Probabilities are per thousand.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Replicas.
    pub nodes: u32,
    /// Clocks.
    pub clock: ClockConfig,
    /// Messages lost.
    pub loss: u64,
    /// Messages delivered twice.
    pub duplication: u64,
    /// Messages that take up to seconds.
    pub straggling: u64,
    /// Whether nodes crash, the network splits, and leaders hand over.
    pub faults: bool,
    /// Whether members come and go.
    pub reconfigure: bool,
    /// A crash may take the whole disk, and the node comes back under its id with nothing: what giving a node's id to
    /// another folder would do. No run can hold with it.
    pub blank_returns: bool,
    /// The bug in every replica.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<meridian_paxos::Planted>,
}

impl SimConfig {
    /// Every fault, `nodes` replicas.
    pub fn hostile(nodes: u32) -> Self {
        SimConfig {
            nodes,
            clock: ClockConfig {
                epsilon_max: Duration::from_millis(20),
                drift_ppm_max: 200,
                outage_per_mille: 10,
            },
            loss: 20,
            duplication: 20,
            straggling: 10,
            faults: true,
            reconfigure: false,
            blank_returns: false,
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }

    /// No fault; clocks are as wide as ever, but always usable.
    pub fn calm(nodes: u32) -> Self {
        let hostile = SimConfig::hostile(nodes);
        let clock = ClockConfig { outage_per_mille: 0, ..hostile.clock };
        SimConfig { clock, loss: 0, duplication: 0, straggling: 0, faults: false, ..hostile }
    }
}

/// What a seed makes of a [`SimConfig`]: runs differ in which part of the system is slow, so that one run is full of
/// unwritten accepts, another of unchosen slots, a third of stale messages.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) loss: u64,
    pub(super) straggling: u64,
    pub(super) message_delay_us: u64,
    pub(super) fsync_us: u64,
    pub(super) commit_notify: Duration,
    pub(super) propose_pause_ms: u64,
    pub(super) fault_pause_ms: u64,
}

impl Weather {
    pub(super) fn new(config: &SimConfig, rng: &mut SeededRng) -> Self {
        let mut pick = |choices: [u64; 4]| choices[rng.below(4) as usize];
        if !config.faults {
            return Weather {
                loss: config.loss,
                straggling: config.straggling,
                message_delay_us: 3_000,
                fsync_us: 3_000,
                commit_notify: Duration::from_millis(5),
                propose_pause_ms: 20,
                fault_pause_ms: 0,
            };
        }
        Weather {
            loss: config.loss * pick([0, 1, 2, 5]),
            straggling: config.straggling * pick([0, 1, 1, 4]),
            message_delay_us: pick([500, 3_000, 5_000, 30_000]),
            fsync_us: pick([500, 3_000, 10_000, 80_000]),
            commit_notify: Duration::from_millis(pick([1, 5, 50, 200])),
            propose_pause_ms: pick([2, 5, 20, 50]),
            fault_pause_ms: pick([100, 200, 400, 600]),
        }
    }
}
