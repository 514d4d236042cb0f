//! Versions written at a timestamp of the past, beneath whatever is newer: the backfill of an index (DESIGN section 6).
//!
//! ```text
//!   row a    live writers:  95: "y"   80: -            fill at 70: an entry that nobody sees at or above 80
//!   row b    (nothing)                                  fill at 70: the entry
//! ```
//! A fill takes no locks, meets no transaction and moves neither the floor nor what is shown. It is sound only where
//! nobody reads: the caller sees to it that no reader comes to these keys at or above `at` until all fills are applied
//! *and known to be*. For the second half the answer says up to where followers may believe that they know everything: a
//! timestamp above `closed` is closed by a message that names the fill's slot or a later one, so that a follower which
//! serves it has applied the fill (I-8 for readers above `closed`).
//!
//! A version below the garbage-collection horizon does no harm: of each row the newest version at or below the horizon
//! stays, tombstones included, and hides what is filled in beneath it.

use meridian_types::Timestamp;

use crate::command::Command;
use crate::replica::{Replica, Step};
use crate::{AbortReason, RequestId, Response, ShardError, Write};

impl Replica {
    pub(crate) fn fill(
        &mut self,
        id: RequestId,
        at: Timestamp,
        until: Timestamp,
        writes: Vec<Write>,
        cx: &mut Step<'_>,
    ) {
        let span = &self.state.descriptor.span;
        if !writes.iter().all(|w| span.contains(w.key.as_bytes())) {
            let descriptor = self.state.descriptor.clone();
            return cx.reply(id, Err(ShardError::WrongShard { descriptor }));
        }
        let now = cx.now.tt;
        if now.is_none_or(|tt| tt.latest() > until) {
            return cx.abort(id, AbortReason::NoTimestamp);
        }
        // Applied only once absolute time is past it here, too.
        if now.is_none_or(|tt| at > tt.latest()) {
            return cx.reply(id, Err(ShardError::InFuture { at }));
        }
        if !self.can_propose() || self.leader_mut().is_draining() {
            return cx.reply(id, Err(ShardError::Overloaded));
        }
        let slot = self.propose_plain(Command::Fill { at, writes }, cx);
        self.leader_mut().fills.insert(slot, id);
    }

    /// A fill is applied here; whoever waits for it is answered.
    pub(crate) fn on_filled(&mut self, slot: meridian_types::Slot, cx: &mut Step<'_>) {
        let leader = self.leader_mut();
        let closed = leader.closed;
        if let Some(id) = leader.fills.remove(&slot) {
            cx.reply(id, Ok(Response::Closed { closed, through: slot }));
        }
    }
}
