//! Timestamps: assignment, and the floor that orders assignments, reads and closed timestamps.
//!
//! **I-5** A leader assigns timestamps only inside its lease, each greater than every one assigned before in the group.
//! Within one leader the floor does it: it is at or above every timestamp assigned, closed or read at. Between leaders
//! the leases do it: they are disjoint (I-4), a leader starts above the start of its lease, and stays below the end.
//!
//! A commit timestamp is also at or above `TT.now().latest` at the time when the commit arrived (Spanner, section
//! 4.1.2, the Start rule), so together with commit wait I-7 holds.

use meridian_types::{Duration, Timestamp};

use crate::planted::Planted;
use crate::replica::{Replica, Step};
use crate::{ClosedTimestamp, Now};

/// A reader may ask for a timestamp that lies this far ahead of the leader's clock (its own clock may be ahead); more
/// would make later commits wait for it.
pub(crate) const FUTURE_MAX: Duration = Duration::from_millis(1_000);

/// Why no timestamp was assigned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unassignable {
    /// Not for the moment: the lease must be extended first, or a split is under way.
    Later,
    /// The upper bound leaves no room.
    Never,
}

impl Replica {
    /// A fresh timestamp at or above `low` and at or below `max`.
    pub(crate) fn assign(
        &mut self,
        low: Timestamp,
        max: Timestamp,
        cx: &Step<'_>,
    ) -> Result<Timestamp, Unassignable> {
        let leadership = self.paxos.leadership(cx.now).ok_or(Unassignable::Later)?;
        let tt = cx.now.tt.ok_or(Unassignable::Later)?;
        let leader = self.leader.as_mut().ok_or(Unassignable::Later)?;
        let s = leader.floor.next().max(low).max(tt.latest());
        if s > max {
            return Err(Unassignable::Never);
        }
        if s >= leadership.lease_end || leader.frozen.is_some() {
            return Err(Unassignable::Later);
        }
        assert!(leadership.ballot == leader.ballot, "the lease is of another ballot");
        assert!(s > leader.floor, "I-5: {s} was assigned at or below the floor {}", leader.floor);
        assert!(tt.before(leadership.lease_end), "I-5: {s} was assigned outside of the lease");
        leader.floor = s;
        leader.assigned = s;
        Ok(s)
    }

    /// Promises that no later commit is at or below `t`. False when the lease or a freeze does not allow that (yet).
    pub(crate) fn raise_floor(&mut self, t: Timestamp, now: Now) -> bool {
        let Some(leadership) = self.paxos.leadership(now) else { return false };
        let Some(leader) = self.leader.as_mut() else { return false };
        if t <= leader.floor {
            return true;
        }
        if t >= leadership.lease_end || leader.frozen.is_some() {
            return false;
        }
        leader.floor = t;
        true
    }

    /// The closed timestamp for the periodic broadcast to followers; `None` on any other replica than a leader that
    /// serves.
    pub fn closed_for_broadcast(&mut self, now: Now) -> Option<ClosedTimestamp> {
        let tt = now.tt?;
        let at = tt.earliest().saturating_sub(self.config.close_lag);
        self.close(at, now)
    }

    pub(crate) fn close(&mut self, at: Timestamp, now: Now) -> Option<ClosedTimestamp> {
        if !self.leader.as_ref().is_some_and(|l| l.serving) || !self.raise_floor(at, now) {
            return None;
        }
        let leader = self.leader.as_mut()?;
        leader.closed = leader.closed.max(at);
        let through =
            if self.config.has(Planted::CloseInFlight) { self.state.confirmed } else { leader.last_slot };
        Some(ClosedTimestamp { ballot: leader.ballot, closed: at, through })
    }
}
