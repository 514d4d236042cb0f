//! Which entries of the log have an effect.
//!
//! An epoch is the time of one leader. It begins with the leader's first entry, `Lead`, and ends with that of the next one,
//! or with a no-op before, which fills a hole that a later leader found. What a leader proposed counts within its epoch.
//!
//! ```text
//!   Lead(L)  commit(L)  no-op  commit(L)  Lead(M)  commit(L)  commit(M)
//!      |        counts     |      void       |        void       counts
//!      +--- epoch of L ----+--- of nobody ---+--- epoch of M ...
//! ```
//! Why entries behind a hole do not count: what L proposed in the hole is lost, and what it proposed behind may rest on it
//! (`overlay.rs`). None of it was answered, since a leader answers what it has applied, in the order of slots. Why
//! whatever counts has all that it rests on: a leader serves nobody before its `Lead` is applied, and every slot from there
//! to the entry holds what it proposed there itself. A hole would hold a no-op, and a successor's own entries stand behind
//! that one's `Lead`.

use meridian_types::Ballot;

/// The epoch at a place of the log. [`Epoch::default`] is before every leader's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Epoch {
    /// The latest leader whose `Lead` is applied.
    pub leader: Ballot,
    /// A hole came after it.
    pub is_over: bool,
}

impl Epoch {
    pub(crate) fn of(leader: Ballot) -> Self {
        Epoch { leader, is_over: false }
    }

    /// A no-op. Several in a row are one hole: the next leader may have the very next ballot.
    pub(crate) fn end(&mut self) {
        self.is_over = true;
    }

    /// Whether an entry that was proposed under this ballot has an effect.
    pub(crate) fn counts(self, origin: Ballot) -> bool {
        origin > self.leader || (origin == self.leader && !self.is_over)
    }
}

#[cfg(test)]
mod tests {
    use meridian_types::NodeId;

    use super::*;

    fn ballot(node: u32) -> Ballot {
        Ballot::new(7, NodeId::new(node))
    }

    #[test]
    fn a_hole_of_any_size_voids_its_leader_and_not_the_next() {
        let mut epoch = Epoch::of(ballot(3));
        assert!(epoch.counts(ballot(3)) && !epoch.counts(ballot(2)));
        for _ in 0..5 {
            epoch.end();
            assert!(!epoch.counts(ballot(3)) && epoch.counts(ballot(4)), "two leaders can share a round");
        }
        assert!(Epoch::of(ballot(4)).counts(ballot(4)) && !Epoch::of(ballot(4)).counts(ballot(3)));
    }
}
