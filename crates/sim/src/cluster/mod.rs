//! A whole cluster on simulated time, network, clocks and disks: several shards on three or five nodes, gateways that run
//! transactions over them, and checkers of I-1 to I-9. One seed is one run; `meridian sim` runs it.
//!
//! ```text
//!   gateways                  nodes x groups                         monitor   I-1, I-2, I-4, I-5, I-6 at every step
//!   read-write, 2PC,   --->   meridian_shard::Replica  ------------> checker   I-7, I-8, I-9 over the history
//!   strong, snapshot,         MemoryEngine, log, DisciplinedClock    verdict   progress, equal replicas, nothing left
//!   follower reads            ^
//!   vanish midway             +-- faults: crash, partition, hand-over, split, snapshot, clocks
//! ```
//!
//! The driver here is a small copy of the server's: it persists, sends, applies, confirms late, serves reads from the
//! engine, carries out recovery and streams snapshots. A crash loses unsynced log writes but for a prefix, and a suffix
//! of the data engine's buffered batches; so what was answered before it was durable (I-3) shows as a broken I-2 or I-9.
//!
//! Commit timestamps are known, so strict serializability needs no search: the versions that the engines hold in the end
//! are the truth, and every answer that a gateway got is compared with it (see `checker.rs`).

mod calls;
mod checker;
mod client;
mod delivery;
mod faults;
mod garbage;
mod members;
mod monitor;
mod network;
mod node;
mod options;
mod planted;
mod polls;
mod schema;
mod snapshots;
mod trace;
mod verdict;
mod witness;
mod world;

pub use checker::Broken;
pub use options::{Fault, Faults, Load, Options, UnknownFault};
#[cfg(feature = "planted-bugs")]
pub use planted::{DriverBug, Planted, SchemaBug};

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use meridian_types::Duration;

use world::Cluster;

/// What a run has done; equal for equal seeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Steps of the scheduler.
    pub events: u64,
    /// Virtual time.
    pub time: Duration,
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
    /// Locking reads of what was proposed and not applied yet.
    pub overlay_reads: u64,
    /// Changes of a group's leader.
    pub leaders: u64,
    /// Crashes.
    pub crashes: u64,
    /// Splits asked for.
    pub splits: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Replicas that came with a snapshot of the group from which they were split off.
    pub heirs: u64,
    /// Members that joined, as read-only replicas.
    pub members_added: u64,
    /// Read-only replicas that became voters.
    pub members_promoted: u64,
    /// Voters that became read-only replicas.
    pub members_demoted: u64,
    /// Versions of the catalog that were stored.
    pub schema_changes: u64,
    /// Indexes that were filled in.
    pub backfills: u64,
    /// Observers that became witnesses.
    pub witnesses_added: u64,
    /// Entries that witnesses have dropped.
    pub witnesses_cut: u64,
    /// Changes of members that were answered.
    pub changes_judged: u64,
    /// Members that were removed.
    pub members_removed: u64,
    /// Replicas that found out that they were removed, and went.
    pub replicas_removed: u64,
    /// Versions below the horizon that nodes have dropped.
    pub swept: u64,
    /// Hand-overs asked for.
    pub hand_overs: u64,
    /// Outcomes found by recovery instead of the gateway.
    pub recoveries: u64,
    /// A clock that was disturbed beyond its bounds broke I-1, so that what rests on clocks was not demanded any more.
    pub clocks_are_void: bool,
    /// A digest of the trace.
    pub digest: u64,
}

/// A run without a violation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Its numbers.
    pub stats: Stats,
    /// Its whole trace, where [`Options::record`] asked for it.
    pub trace: Option<String>,
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
    /// The trace up to there, where [`Options::record`] asked for it.
    pub trace: Option<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: after {:?}: {:?}", self.seed, self.at, self.broken)
    }
}

impl std::error::Error for Violation {}

/// Runs gateways under faults, then heals everything, waits until all is settled, and checks what is left. An assertion
/// that fails inside a core counts as a violation.
pub fn run(seed: u64, options: &Options) -> Result<Report, Box<Violation>> {
    let at = std::cell::Cell::new(world::START);
    let mut cluster = Cluster::new(seed, options);
    let result = catch_unwind(AssertUnwindSafe(|| cluster.run(&at)));
    let broken = match result {
        Ok(Ok(stats)) => return Ok(Report { stats, trace: cluster.into_trace() }),
        Ok(Err(broken)) => broken,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Broken::Assertion { message: text.unwrap_or_default() }
        }
    };
    let at = at.get().since(world::START);
    Err(Box::new(Violation { seed, at, broken, trace: cluster.into_trace() }))
}
