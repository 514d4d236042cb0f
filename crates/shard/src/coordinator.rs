//! Two-phase commit at the coordinator's shard: the decision, its record, and the questions about it.
//!
//! The gateway drives the protocol; this shard only decides, once. A decision is one log entry with the coordinator's own
//! writes. Its record stays until every participant has acknowledged (I-9): after [`Request::Forget`] it becomes an
//! ordinary outcome, which still answers late questions for one to two epochs.
//!
//! Whoever asks and finds nothing has an abort written first, so that a decision which is still on its way fails: the
//! record is the one place where commit and abort race.
//!
//! [`Request::Forget`]: crate::Request::Forget

use meridian_types::{Key, Timestamp, TxnId};

use crate::command::Command;
use crate::leader::{Await, InFlight, Phase, Work};
use crate::planted::Planted;
use crate::replica::{Replica, Step};
use crate::timestamp::Unassignable;
use crate::{AbortReason, Outcome, RequestId, Response, ShardError};

impl Replica {
    pub(crate) fn decide(&mut self, id: RequestId, work: Work, deadline: Timestamp, cx: &mut Step<'_>) {
        let Work::Decide { txn, writes, staged_chunks, window, participants } = work else {
            unreachable!("the caller matched")
        };
        if !self.has_chunks(&txn, staged_chunks) {
            self.drop_txn(txn.id, cx);
            return cx.abort(id, AbortReason::LocksLost);
        }
        match self.assign(window.prepare_ts, window.max_ts, cx) {
            Ok(s) => {
                assert!(s >= window.prepare_ts && s <= window.max_ts, "{s} is outside of the votes' window");
                self.pin(txn.id, Phase::Deciding);
                let spans = self.staged_spans(&txn.id);
                let flight = InFlight { ts: Some(s), writes: writes.clone(), spans };
                self.propose(
                    Command::Decide { txn: txn.id, s, writes, staged_chunks, participants },
                    flight,
                    cx,
                );
                self.leader_mut().wait_for(txn.id, id, Await::Commit);
            }
            Err(Unassignable::Later) => {
                let work = Work::Decide { txn, writes, staged_chunks, window, participants };
                self.put_off(id, work, deadline, cx);
            }
            Err(Unassignable::Never) => {
                self.drop_txn(txn.id, cx);
                cx.abort(id, AbortReason::NoTimestamp);
            }
        }
    }

    pub(crate) fn query_outcome(
        &mut self,
        id: RequestId,
        txn: TxnId,
        key: &Key,
        abort_unknown: bool,
        cx: &mut Step<'_>,
    ) {
        if !self.state.descriptor.span.contains(key.as_bytes()) {
            let descriptor = self.state.descriptor.clone();
            return cx.reply(id, Err(ShardError::WrongShard { descriptor }));
        }
        let leader = self.leader_mut();
        let deciding = leader.txns.get(&txn).is_some_and(|t| t.phase == Phase::Deciding);
        if deciding || leader.aborting.contains_key(&txn) {
            return leader.wait_for(txn, id, Await::Outcome);
        }
        if let Some(outcome) = self.state.known_outcome(cx.reader, &txn) {
            return cx.reply(id, Ok(Response::Outcome(Some(outcome))));
        }
        if !abort_unknown {
            return cx.reply(id, Ok(Response::Outcome(None)));
        }
        let at = cx.now.tt.map_or(Timestamp::ZERO, |tt| tt.latest());
        if !self.can_propose() || self.leader_mut().frozen.is_some() {
            return cx.reply(id, Err(ShardError::Overloaded));
        }
        if self.config.has(Planted::AbortUnrecorded) {
            return cx.reply(id, Ok(Response::Outcome(Some(Outcome::Aborted))));
        }
        let phase = self.leader_mut().txns.get(&txn).map(|t| t.phase);
        if phase == Some(Phase::Active) && !self.config.has(Planted::LateDecide) {
            self.drop_txn(txn, cx);
        }
        // Releasing its locks may have let others fill the pipeline.
        if !self.can_propose() {
            return cx.reply(id, Err(ShardError::Overloaded));
        }
        let slot = self.propose_plain(Command::AbortRecord { txn, at }, cx);
        let leader = self.leader_mut();
        leader.aborting.insert(txn, slot);
        leader.wait_for(txn, id, Await::Outcome);
    }

    pub(crate) fn on_abort_recorded(&mut self, txn: TxnId, cx: &mut Step<'_>) {
        let leader = self.leader_mut();
        leader.aborting.remove(&txn);
        let outcome = Outcome::Aborted;
        for id in leader.take_awaits(&txn, |what| what == Await::Outcome) {
            cx.reply(id, Ok(Response::Outcome(Some(outcome))));
        }
        let deciding = leader.txns.get(&txn).is_some_and(|t| t.phase == Phase::Deciding);
        if !deciding {
            for id in leader.take_awaits(&txn, |what| what == Await::Commit) {
                cx.reply(id, Err(ShardError::AlreadyDecided { outcome }));
            }
        }
    }

    pub(crate) fn forget(&mut self, id: RequestId, txn: TxnId, key: &Key, cx: &mut Step<'_>) {
        if !self.state.awaiting.contains_key(&txn) && !self.leader_mut().forgetting.contains_key(&txn) {
            let descriptor = &self.state.descriptor;
            if !descriptor.span.contains(key.as_bytes()) {
                return cx.reply(id, Err(ShardError::WrongShard { descriptor: descriptor.clone() }));
            }
            return cx.reply(id, Ok(Response::Done));
        }
        if !self.leader_mut().forgetting.contains_key(&txn) {
            if !self.can_propose() || self.leader_mut().frozen.is_some() {
                return cx.reply(id, Err(ShardError::Overloaded));
            }
            let slot = self.propose_plain(Command::Forget { txn }, cx);
            self.leader_mut().forgetting.insert(txn, slot);
        }
        self.leader_mut().wait_for(txn, id, Await::Forget);
    }

    pub(crate) fn on_forgotten(&mut self, txn: TxnId, cx: &mut Step<'_>) {
        let leader = self.leader_mut();
        leader.forgetting.remove(&txn);
        leader.recovery.remove(&txn);
        for id in leader.take_awaits(&txn, |what| what == Await::Forget) {
            cx.reply(id, Ok(Response::Done));
        }
    }
}
