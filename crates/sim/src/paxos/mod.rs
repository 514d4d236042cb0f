//! A Paxos group on simulated time, network and disks.
//!
//! ```text
//!   faults, clients          Cluster                     checkers
//!   crash, partition,  --->  replicas + disks  --------> I-2 one command per slot
//!   hand-over, propose       ^      |                    I-4 one leader at a time
//!                            |      v                    I-5 timestamps ascend over leaders
//!                            +-- network                 liveness once healed
//! ```
//!
//! A crash loses every write that was not reported durable, except for a random prefix, and what the data engine had
//! not synced; so a promise or accept that was answered too early (I-3) shows as two commands in one slot. Leaders
//! assign timestamps as boldly as their lease allows, up to its very end, so leases that overlap anywhere (I-4) show
//! as a timestamp that does not ascend even if no two nodes are caught leading at one moment.

mod checker;
mod cluster;
mod config;
mod disk;
mod network;

pub use checker::{Broken, Violation};
pub use config::SimConfig;

use std::panic::{AssertUnwindSafe, catch_unwind};

use meridian_types::{Duration, Timestamp};

use cluster::Cluster;

/// What a run has done; equal for equal seeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Events processed.
    pub events: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Slots chosen.
    pub slots: u64,
    /// Leaderships established.
    pub leaders: u64,
    /// Leaderships that began by a hand-over.
    pub hand_overs: u64,
    /// Changes of membership chosen.
    pub reconfigurations: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Crashes.
    pub crashes: u64,
    /// A digest of the order of all events.
    pub digest: u64,
}

/// Runs one group under faults for `time` of virtual time, then heals everything and demands progress. An assertion
/// that fails inside the core counts as a violation.
pub fn run(seed: u64, time: Duration, config: &SimConfig) -> Result<Stats, Violation> {
    let at = std::cell::Cell::new(Timestamp::ZERO);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut cluster = Cluster::new(seed, config.clone());
        cluster.run(time, &at)
    }));
    let broken = match result {
        Ok(Ok(stats)) => return Ok(stats),
        Ok(Err(broken)) => broken,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Broken::Assertion { message: text.unwrap_or_default() }
        }
    };
    Err(Violation { seed, at: at.get().since(cluster::START), broken })
}
