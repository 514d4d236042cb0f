//! What a leader knows of one other member.
//!
//! ```text
//!              no progress within `retransmit`
//!   Streaming ---------------------------------> Probing
//!       ^                                           |
//!       +------- any answer: resend the rest -------+
//! ```
//!
//! A streamed member gets every entry at once; a probed one gets heartbeats only, so that a dead member costs nothing.
//! Slots at or below the commit index are never re-sent by accepts: the member pulls them as chosen ones (`CatchUp`).
//!
//! Invariant: `matched <= sent`; every slot up to `matched` is chosen or accepted by the member at this ballot.

use std::collections::BTreeMap;

use meridian_types::{Slot, Timestamp};

#[derive(Debug)]
pub(crate) struct Progress {
    /// Chosen or accepted at this ballot, without gaps.
    pub(crate) matched: Slot,
    /// Accepted beyond a gap: first slot to last slot.
    beyond: BTreeMap<Slot, Slot>,
    /// What the member has reported to have learned.
    pub(crate) chosen: Slot,
    /// The highest slot sent.
    pub(crate) sent: Slot,
    /// The commit index in the last message.
    pub(crate) commit_told: Slot,
    /// What this voter has reported to know durably.
    pub(crate) known: Slot,
    /// What this witness was told to be settled.
    pub(crate) settled_told: Slot,
    /// Its lease vote carries the lease to here.
    pub(crate) lease_end: Timestamp,
    /// False while probing.
    pub(crate) streaming: bool,
    /// When to give up waiting for an answer to what was sent.
    pub(crate) resend_at: Option<Timestamp>,
}

impl Progress {
    pub(crate) fn new(commit: Slot) -> Self {
        Progress {
            matched: commit,
            beyond: BTreeMap::new(),
            chosen: Slot::ZERO,
            sent: commit,
            commit_told: Slot::ZERO,
            known: Slot::ZERO,
            settled_told: Slot::ZERO,
            lease_end: Timestamp::ZERO,
            streaming: true,
            resend_at: None,
        }
    }

    /// Slots up to `commit` need no accept any more.
    pub(crate) fn skip_to(&mut self, commit: Slot) {
        self.matched = self.matched.max(commit);
        self.absorb();
    }

    /// The member has accepted `[first, last]` at this ballot.
    pub(crate) fn accepted(&mut self, first: Slot, last: Slot) {
        if first <= self.matched.next() {
            self.matched = self.matched.max(last);
            self.absorb();
        } else {
            let end = self.beyond.entry(first).or_insert(last);
            *end = last.max(*end);
        }
    }

    fn absorb(&mut self) {
        while let Some(first) = self.beyond.first_entry()
            && *first.key() <= self.matched.next()
        {
            self.matched = self.matched.max(first.remove());
        }
        self.sent = self.sent.max(self.matched);
    }

    /// True while something sent is not acknowledged.
    pub(crate) fn is_waiting(&self) -> bool {
        self.matched < self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_out_of_order_close_the_gap() {
        let mut p = Progress::new(Slot::new(10));
        p.sent = Slot::new(20);
        p.accepted(Slot::new(13), Slot::new(14));
        p.accepted(Slot::new(16), Slot::new(17));
        assert_eq!(p.matched, Slot::new(10));
        p.accepted(Slot::new(11), Slot::new(12));
        assert_eq!(p.matched, Slot::new(14));
        p.skip_to(Slot::new(15));
        assert_eq!(p.matched, Slot::new(17));
        assert!(p.is_waiting());
    }
}
