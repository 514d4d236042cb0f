//! What a replica is told about itself at its start.

use meridian_types::{Duration, GroupId, NodeId, limits};

/// Configuration of one replica. Built by [`Config::new`]; the fields may be changed afterwards.
///
/// Invariant: every replica of a group has the same `lease`, and a node never restarts with a shorter one: a restarted
/// voter abstains for its own `lease`, which must cover the longest vote that it may have forgotten.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The group.
    pub group: GroupId,
    /// The node of this replica.
    pub node: NodeId,
    /// Seed of the randomised timeouts.
    pub seed: u64,
    /// The length of a lease.
    pub lease: Duration,
    /// A leader asks for an extension when less than this is left.
    pub renew_below: Duration,
    /// How long a leader waits for a proposal that would carry a new commit index before it sends the index by
    /// itself. Shorter keeps followers fresher; longer saves messages.
    pub commit_notify: Duration,
    /// Elections are spread at random over this time, so that candidates rarely collide.
    pub election_spread: Duration,
    /// Unanswered requests are sent again after this time; it should exceed a round trip.
    pub retransmit: Duration,
    /// A candidate gives up after this time.
    pub campaign: Duration,
    /// A hand-over waits this long for the log to be chosen and the successor to have it.
    pub hand_over_wait: Duration,
    /// The bug that the simulation must find.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<crate::Planted>,
}

impl Config {
    /// The configuration of production, with the timing derived from [`limits::LEASE`].
    pub fn new(group: GroupId, node: NodeId, seed: u64) -> Self {
        Config {
            group,
            node,
            seed,
            lease: limits::LEASE,
            renew_below: limits::LEASE_RENEW_BELOW,
            commit_notify: Duration::from_millis(5),
            election_spread: Duration::from_millis(375),
            retransmit: Duration::from_millis(500),
            campaign: Duration::from_millis(1_500),
            hand_over_wait: Duration::from_millis(500),
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }

    /// How often a request that depends on the clock or on the lease is tried again.
    pub(crate) fn retry(&self) -> Duration {
        Duration::from_nanos(self.lease.as_nanos() / 10)
    }
}
