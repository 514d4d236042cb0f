//! What a replica is configured with.

use meridian_types::{Duration, GroupId, NodeId};

/// Configuration of one replica.
#[derive(Clone, Debug)]
pub struct Config {
    /// Of the Paxos replica; names the group and the node, too.
    pub paxos: meridian_paxos::Config,
    /// Closed timestamps of the broadcast lag this much behind the clock, so that they don't push commits upwards.
    pub close_lag: Duration,
    /// A read at a timestamp gives up after this time.
    pub read_patience: Duration,
    /// A request that waits for a leader to become ready, for a split or for a lease gives up after this time.
    pub stall_patience: Duration,
    /// A prepared or decided transaction that heard nothing for this long asks or tells (then with doubling pauses).
    pub recovery_after: Duration,
    /// The longest pause between two attempts of recovery.
    pub recovery_pause_max: Duration,
    /// Applied entries that stay in the log, so that a member that was away for a moment needs no snapshot.
    pub log_retain: u64,
    /// Requests that may wait in this replica, of each kind.
    pub waiters_max: usize,
    /// A commit of one shard releases its locks when it is proposed instead of when it is applied (docs/decisions/0024).
    pub releases_at_proposal: bool,
    /// The bug that the simulation must find.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<crate::Planted>,
}

impl Config {
    /// The configuration of production.
    pub fn new(group: GroupId, node: NodeId, seed: u64) -> Self {
        Config {
            paxos: meridian_paxos::Config::new(group, node, seed),
            close_lag: Duration::from_millis(100),
            read_patience: Duration::from_millis(1_000),
            stall_patience: Duration::from_millis(1_000),
            recovery_after: Duration::from_millis(1_000),
            recovery_pause_max: Duration::from_millis(16_000),
            log_retain: 4_096,
            waiters_max: 4_096,
            releases_at_proposal: true,
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}
