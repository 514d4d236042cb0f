//! Splitting a shard.
//!
//! ```text
//!   Split{at} --> draining: no new commits, prepares, stages
//!             --> nothing in flight, prepared or voted: transactions with locks at or above `at` are aborted, and
//!                 whoever waits for one there is put off
//!             --> entry proposed, floor frozen; no more locks at or above `at`
//!             --> applied on every replica: descriptor narrowed, right half created with its own group
//!             --> answered; the leader's node campaigns for the right half; who was put off is sent there
//! ```
//! Invariant: while the entry is on its way and after it, the left leader's lock table holds nothing at or above `at`. The
//! right half may have a leader as soon as anybody has applied the entry, which knows nothing of locks that were taken on
//! the left, and a transaction whose locks stand on the left is told that all it read there still holds.
//!
//! The right half's timestamps start above the frozen floor, which covers everything that the left leader assigned,
//! closed or read at, so no read is overtaken. Outcomes go to both halves, since a transaction is asked for by a key of
//! either. Data needs no move: it is addressed by user key.

use meridian_types::{GroupId, Key, Span, TxnId};

use crate::command::Command;
use crate::leader::{Leader, Phase, Splitting, Work};
use crate::planted::Planted;
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
        if self.clear_right_half(cx) {
            // What that let go on must drain first.
            return self.advance_split(cx);
        }
        let leader = self.leader_mut();
        let floor = leader.floor;
        leader.frozen = Some(floor);
        let splitting = leader.splitting.as_mut().expect("nothing was cleared, so it is still there");
        splitting.proposed = true;
        let (at, new_group) = (splitting.at.clone(), splitting.new_group);
        self.propose_plain(Command::Split { at, new_group, floor }, cx);
    }

    /// Ends who holds locks in the right half, and puts off who waits for some. False where there was nobody.
    fn clear_right_half(&mut self, cx: &mut Step<'_>) -> bool {
        let (left, right) = self.halves().expect("the shard is about to be split");
        let leader = self.leader_mut();
        let mut losers: Vec<TxnId> = leader.locks.holders_in(&right).into_iter().collect();
        let touches =
            |spans: &std::collections::BTreeMap<u32, Span>| spans.values().any(|s| s.overlaps(&right));
        losers.extend(self.state.staged.iter().filter(|(_, spans)| touches(spans)).map(|(txn, _)| *txn));
        if !losers.is_empty() {
            for txn in losers {
                self.drop_txn(txn, cx);
            }
            self.roll_back_orphans(cx);
            return true;
        }
        if self.config.has(Planted::LockBesideSplit) {
            return false;
        }
        let leader = self.leader_mut();
        let strangers = leader.lock_waits.extract_if(.., |_, work| !work.is_inside(&left));
        let strangers: Vec<_> = strangers.collect();
        let mut events = Vec::new();
        for (ticket, _) in &strangers {
            leader.locks.cancel(*ticket, &mut events);
        }
        let deadline = cx.now.mono + self.config.stall_patience;
        let any = !strangers.is_empty();
        for (ticket, work) in strangers {
            self.put_off(RequestId(ticket.0), work, deadline, cx);
        }
        self.on_lock_events(events, cx);
        any
    }

    /// What the shard is to become.
    fn halves(&self) -> Option<(Span, Span)> {
        let at = &self.leader.as_ref()?.splitting.as_ref()?.at;
        let Span { start, end } = self.state.descriptor.span.clone();
        Some((Span::new(start, Some(at.clone())), Span::new(at.clone(), end)))
    }

    /// True when work would lock what a split that is on its way takes from this shard.
    pub(crate) fn is_beside_split(&self, work: &Work) -> bool {
        let proposed = |leader: &Leader| leader.splitting.as_ref().is_some_and(|s| s.proposed);
        self.leader.as_ref().is_some_and(proposed)
            && !self.config.has(Planted::LockBesideSplit)
            && self.halves().is_some_and(|(left, _)| !work.is_inside(&left))
    }

    pub(crate) fn on_split(&mut self, left: ShardDescriptor, right: ShardDescriptor, cx: &mut Step<'_>) {
        let leader = self.leader.as_mut().expect("the caller made sure that this replica leads");
        assert!(
            self.config.has(Planted::LockBesideSplit) || leader.locks.holders_in(&right.span).is_empty(),
            "a key of {right:?} is locked by the leader of {left:?}"
        );
        leader.frozen = None;
        if let Some(splitting) = leader.splitting.take() {
            cx.reply(splitting.id, Ok(Response::Split { left, right }));
        }
    }
}
