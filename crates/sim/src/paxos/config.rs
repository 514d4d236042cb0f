//! What kind of world a run has.

use meridian_types::Duration;

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
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }

    /// No fault but bad clocks.
    pub fn calm(nodes: u32) -> Self {
        SimConfig { loss: 0, duplication: 0, straggling: 0, faults: false, ..SimConfig::hostile(nodes) }
    }
}
