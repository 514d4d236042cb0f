//! Splitting a shard.
//!
//! ```text
//!   Split{at} --> draining: no new commits, prepares, stages
//!             --> nothing in flight, prepared or voted: transactions with locks at or above `at` are aborted
//!             --> entry proposed, floor frozen
//!             --> applied on every replica: descriptor narrowed, right half created with its own group
//!             --> answered; the leader's node campaigns for the right half
//! ```
//! The right half's timestamps start above the frozen floor, which covers everything that the left leader assigned,
//! closed or read at, so no read is overtaken. Outcomes go to both halves, since a transaction is asked for by a key of
//! either. Data needs no move: it is addressed by user key.

use meridian_types::{GroupId, Key, Span, TxnId};

use crate::command::Command;
use crate::leader::{Phase, Splitting};
use crate::replica::{Replica, Step};
use crate::{RequestId, Response, ShardDescriptor, ShardError};

impl Replica {
    pub(crate) fn split(&mut self, id: RequestId, at: Key, new_group: GroupId, cx: &mut Step<'_>) {
        let span = &self.state.descriptor.span;
        if !span.contains(at.as_bytes()) || at == span.start {
            let descriptor = self.state.descriptor.clone();
            return cx.reply(id, Err(ShardError::WrongShard { descriptor }));
        }
        let deadline = cx.now.mono + self.config.stall_patience;
        let leader = self.leader_mut();
        if leader.is_draining() {
            return cx.reply(id, Err(ShardError::Overloaded));
        }
        leader.splitting = Some(Splitting { id, at, new_group, deadline, proposed: false });
    }

    /// Carries a split on as far as it gets.
    pub(crate) fn advance_split(&mut self, cx: &mut Step<'_>) {
        let Some(leader) = self.leader.as_mut() else { return };
        let Some(splitting) = leader.splitting.as_ref().filter(|s| !s.proposed) else { return };
        if cx.now.mono >= splitting.deadline {
            cx.reply(splitting.id, Err(ShardError::Overloaded));
            leader.splitting = None;
            return;
        }
        let busy = !leader.in_flight.is_empty() || leader.txns.values().any(|t| t.phase != Phase::Active);
        if busy || !self.state.prepared.is_empty() || !self.can_propose() {
            return;
        }
        let leader = self.leader.as_mut().expect("it was there");
        let splitting = leader.splitting.as_ref().expect("it was there");
        let (at, new_group) = (splitting.at.clone(), splitting.new_group);
        let right = Span::new(at.clone(), self.state.descriptor.span.end.clone());
        let mut losers: Vec<TxnId> = leader.locks.holders_in(&right).into_iter().collect();
        let touches =
            |spans: &std::collections::BTreeMap<u32, Span>| spans.values().any(|s| s.overlaps(&right));
        losers.extend(self.state.staged.iter().filter(|(_, spans)| touches(spans)).map(|(txn, _)| *txn));
        if !losers.is_empty() {
            for txn in losers {
                self.drop_txn(txn, cx);
            }
            self.roll_back_orphans(cx);
            // What their end let go on must drain first.
            return self.advance_split(cx);
        }
        let floor = self.leader_mut().floor;
        self.leader_mut().frozen = Some(floor);
        self.propose_plain(Command::Split { at, new_group, floor }, cx);
        if let Some(splitting) = self.leader_mut().splitting.as_mut() {
            splitting.proposed = true;
        }
    }

    pub(crate) fn on_split(&mut self, left: ShardDescriptor, right: ShardDescriptor, cx: &mut Step<'_>) {
        // Reads went on locking while the entry was on its way; what they locked on the right is not this leader's any more.
        for txn in self.leader_mut().locks.holders_in(&right.span) {
            self.drop_txn(txn, cx);
        }
        let leader = self.leader_mut();
        leader.frozen = None;
        if let Some(splitting) = leader.splitting.take() {
            cx.reply(splitting.id, Ok(Response::Split { left, right }));
        }
        let span = &self.state.descriptor.span;
        let leader = self.leader.as_mut().expect("the caller made sure that this replica leads");
        let strangers = leader.lock_waits.iter().filter(|(_, work)| !work.is_inside(span));
        let strangers: Vec<_> = strangers.map(|(ticket, _)| *ticket).collect();
        let mut events = Vec::new();
        for ticket in strangers {
            leader.lock_waits.remove(&ticket);
            leader.locks.cancel(ticket, &mut events);
            let descriptor = self.state.descriptor.clone();
            cx.reply(RequestId(ticket.0), Err(ShardError::WrongShard { descriptor }));
        }
        self.on_lock_events(events, cx);
    }
}
