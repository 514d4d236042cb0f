//! Whole transactions on simulated time, network, clocks and disks: several shards on three nodes, gateways that run
//! transactions over them, and a checker of strict serializability.
//!
//! ```text
//!   gateways                  nodes x groups                        checker
//!   read-write, 2PC,   --->   meridian_shard::Replica  ---------->  versions left in the end against
//!   strong, snapshot,         MemoryEngine, log            history  what every gateway was told
//!   follower reads            ^
//!   vanish midway             +-- crash, partition, hand-over, split, bad clocks
//! ```
//!
//! The driver here is a small copy of the server's: it persists, sends, applies, confirms late, serves reads from the
//! engine and carries out recovery. A crash loses unsynced log writes but for a prefix, and a suffix of the data engine's
//! buffered batches.
//!
//! Commit timestamps are known, so strict serializability needs no search: the versions that the engines hold in the end
//! are the truth, and every answer that a gateway got is compared with it (see `checker.rs`).

mod checker;
mod client;
mod cluster;
mod node;

pub use checker::Broken;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use meridian_types::{Duration, Timestamp};

use crate::ClockConfig;
use cluster::Cluster;

/// The world of a run. Probabilities are per thousand.
#[derive(Clone, Debug)]
pub struct TxnConfig {
    /// Clocks.
    pub clock: ClockConfig,
    /// Gateways, each with one transaction at a time.
    pub clients: usize,
    /// Keys, spread over the shards.
    pub keys: u64,
    /// Messages lost.
    pub loss: u64,
    /// Messages delivered twice.
    pub duplication: u64,
    /// Messages that take up to seconds.
    pub straggling: u64,
    /// Whether nodes crash, links are cut, leaders hand over, shards split and gateways vanish.
    pub faults: bool,
    /// The bug in every replica.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<meridian_shard::Planted>,
}

impl TxnConfig {
    /// Every fault.
    pub fn hostile() -> Self {
        TxnConfig {
            clock: ClockConfig {
                epsilon_max: Duration::from_millis(10),
                drift_ppm_max: 200,
                outage_per_mille: 5,
            },
            clients: 6,
            keys: 24,
            loss: 10,
            duplication: 10,
            straggling: 5,
            faults: true,
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }

    /// No fault but bad clocks.
    pub fn calm() -> Self {
        let hostile = TxnConfig::hostile();
        let clock = ClockConfig { outage_per_mille: 0, ..hostile.clock };
        TxnConfig { clock, loss: 0, duplication: 0, straggling: 0, faults: false, ..hostile }
    }
}

/// What a run has done; equal for equal seeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Events processed.
    pub events: u64,
    /// Read-write transactions that were acknowledged.
    pub commits: u64,
    /// Of those, the ones over several shards.
    pub distributed: u64,
    /// Transactions that were told to have aborted.
    pub aborts: u64,
    /// Transactions whose gateway never learned the outcome.
    pub unknown: u64,
    /// Lock-free reads at a leader.
    pub strong_reads: u64,
    /// Lock-free reads at a timestamp.
    pub snapshot_reads: u64,
    /// Of those, the ones that a follower served.
    pub follower_reads: u64,
    /// Crashes.
    pub crashes: u64,
    /// Splits answered.
    pub splits: u64,
    /// Hand-overs asked for.
    pub hand_overs: u64,
    /// Outcomes found by recovery instead of the gateway.
    pub recoveries: u64,
    /// A digest of the order of all events.
    pub digest: u64,
}

/// The first thing that went wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Replays the run.
    pub seed: u64,
    /// When it showed.
    pub at: Duration,
    /// What.
    pub broken: Broken,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: after {:?}: {:?}", self.seed, self.at, self.broken)
    }
}

/// Runs gateways under faults for `time` of virtual time, then heals everything, waits, and checks the history. An
/// assertion that fails inside the core counts as a violation.
pub fn run(seed: u64, time: Duration, config: &TxnConfig) -> Result<Stats, Box<Violation>> {
    let at = std::cell::Cell::new(Timestamp::ZERO);
    let result = catch_unwind(AssertUnwindSafe(|| Cluster::new(seed, config.clone()).run(time, &at)));
    let broken = match result {
        Ok(Ok(stats)) => return Ok(stats),
        Ok(Err(broken)) => broken,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Broken::Assertion { message: text.unwrap_or_default() }
        }
    };
    Err(Box::new(Violation { seed, at: at.get().since(cluster::START), broken }))
}
