//! The garbage-collection horizon of a shard: reads below it are refused, so that versions that only they could see may
//! go (Spanner keeps versions for an hour and more; the rule which ones go is `meridian_mvcc::Garbage`).
//!
//! ```text
//!   driver: Collect(now - retention) -> leader: entry Collect{horizon} -> every replica, in log order:
//!     refuses reads below -> driver: drops versions in compactions, whenever they come
//! ```
//! The horizon is replicated rather than computed by each replica, so that all refuse the same reads and a snapshot or
//! a split carries it along (I-6). Versions themselves go from each replica in its own time: what nobody may read is no
//! part of the state that replicas must agree on.
//!
//! Invariants: the horizon never falls; it lies in the past of absolute time; no commit comes at or below it, so that a
//! strong read may be done at the horizon where that is above the newest commit. A read that was let in before the horizon rose past it is refused when it
//! has been done: see [`Replica::gc_horizon`].

use meridian_types::Timestamp;

use crate::command::Command;
use crate::replica::{Replica, Step};

impl Replica {
    /// Proposes a new horizon, if this replica leads and anything has been written since the last one.
    pub(crate) fn raise_horizon(&mut self, horizon: Timestamp, cx: &mut Step<'_>) {
        let Some(tt) = cx.now.tt.filter(|tt| tt.after(horizon)) else { return };
        if !self.wants_horizon(horizon) || !self.can_propose() {
            return;
        }
        let is_serving = self.leader.as_ref().is_some_and(|leader| leader.serving);
        // Strong reads are done at or above the horizon, so no commit may come at or below it.
        if !is_serving || !self.raise_floor(horizon, cx.now) {
            return;
        }
        assert!(horizon < tt.earliest(), "the horizon {horizon} is not in the past");
        self.propose_plain(Command::Collect { horizon }, cx);
    }

    /// False where raising the horizon to this would let nothing go.
    pub fn wants_horizon(&self, horizon: Timestamp) -> bool {
        let current = self.state.gc_horizon;
        horizon > current && self.state.last_commit > current
    }

    /// Reads below are refused. A driver that reads outside of the replica's lock looks again when it has read: a
    /// compaction may have dropped what the read needed if the horizon has risen past its timestamp.
    pub fn gc_horizon(&self) -> Timestamp {
        self.state.gc_horizon
    }
}
