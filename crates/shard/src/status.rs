//! What operators see, and the checks that tests run after every step.

use meridian_locks::Mode;
use meridian_types::{NodeId, Slot, Timestamp};

use crate::replica::Replica;
use crate::{LockMode, LockStatus, Now, ReplicaStatus};

impl Replica {
    /// A summary.
    pub fn status(&self, now: Now) -> ReplicaStatus {
        let leadership = self.paxos.leadership(now);
        let locks = self.leader.as_ref().map(|l| &l.locks);
        let safe =
            self.leader.as_ref().filter(|_| leadership.is_some()).map_or(self.closed, |_| self.state.shown);
        ReplicaStatus {
            descriptor: self.state.descriptor.clone(),
            leader: self.paxos.leader_hint(),
            is_leader: leadership.is_some() && self.leader.as_ref().is_some_and(|l| l.serving),
            lease_end: leadership.map(|l| l.lease_end),
            ballot: self.paxos.promised(),
            committed: self.paxos.commit(),
            applied: self.state.confirmed,
            safe_time: safe.max(self.closed),
            prepared: self.state.prepared.len(),
            lock_holders: locks.map_or(0, meridian_locks::LockTable::holder_count),
            lock_waiters: locks.map_or(0, meridian_locks::LockTable::waiter_count),
        }
    }

    /// The end of the lease, while this replica holds it.
    pub fn lease_end(&self, now: Now) -> Option<Timestamp> {
        self.paxos.leadership(now).map(|leadership| leadership.lease_end)
    }

    /// The greatest timestamp that this replica has assigned since it leads; zero on any other replica.
    pub fn last_assigned(&self) -> Timestamp {
        self.leader.as_ref().map_or(Timestamp::ZERO, |leader| leader.assigned)
    }

    /// Every lock that is held or waited for; empty on any other replica than the leader.
    pub fn locks(&self) -> Vec<LockStatus> {
        let group = self.state.group;
        let mode = |m| if m == Mode::Shared { LockMode::Shared } else { LockMode::Exclusive };
        let views = self.leader.iter().flat_map(|l| l.locks.views());
        let status = |v: meridian_locks::LockView| LockStatus {
            group,
            span: v.span,
            txn: v.txn,
            mode: mode(v.mode),
            granted: v.granted,
        };
        views.map(status).collect()
    }

    /// Who leads, as far as this replica knows.
    pub fn leader_hint(&self) -> Option<NodeId> {
        self.paxos.leader_hint()
    }

    /// The slot that the data engine has.
    pub fn applied_slot(&self) -> Slot {
        self.state.confirmed
    }

    /// The greatest commit timestamp that readers can see here.
    pub fn newest_commit(&self) -> Timestamp {
        self.state.shown
    }

    /// Asserts every invariant that can be checked on one replica.
    ///
    /// # Panics
    /// When one is broken.
    pub fn check_invariants(&self) {
        self.paxos.check_invariants();
        self.state.check_invariants();
        let ascending = self.closings.windows(2).all(|w| w[0].closed < w[1].closed);
        assert!(ascending, "closed timestamps are out of order");
        if let Some(leader) = &self.leader {
            leader.check_invariants();
            if leader.serving {
                for (txn, prepared) in &self.state.prepared {
                    assert!(
                        prepared.record.prepare_ts <= leader.floor,
                        "I-5: {txn} prepared above the floor"
                    );
                }
            }
        }
    }
}
