//! Two-phase commit at a participant: prepare, vote, resolve, and recovery when nobody resolves.
//!
//! ```text
//!   Prepare --locks--> prepare_ts assigned, record proposed --applied--> vote [prepare_ts, max_ts]
//!                                                              |  silence: AskOutcome, with doubling pauses
//!   Resolve --> outcome proposed --applied (after(s))--> versions visible, locks released, Done
//! ```
//! The vote's upper bound keeps the promise within what this leader can keep: read locks die with its lease, so a
//! transaction that read here may commit only below the lease's end. Written keys are in the record, and the next leader
//! locks them again before it serves.
//!
//! A shard that was only read votes without logging. It may forget the vote once no timestamp at or below the vote's
//! upper bound can be assigned here: from then on no writer can slip below the transaction.

use meridian_locks::{Acquired, Discipline, LockTable, Mode, Need, Target, Ticket};
use meridian_types::{Key, Span, Timestamp, TxnId};

use crate::command::{Command, PrepareRecord};
use crate::leader::{Await, InFlight, Phase, Timer, Work};
use crate::replica::{Replica, Step};
use crate::timestamp::Unassignable;
use crate::{AbortReason, Outcome, Recovery, RequestId, Response, ShardError, Vote};

/// Takes the locks of a prepare record after a change of leader, when the table holds nothing but such locks.
pub(crate) fn lock_again(locks: &mut LockTable, record: &PrepareRecord, spans: Vec<Span>) {
    let point = |w: &crate::Write| Need { target: Target::Point(w.key.clone()), mode: Mode::Exclusive };
    let mut needs: Vec<Need> = record.writes.iter().map(point).collect();
    needs.extend(spans.into_iter().map(|s| Need { target: Target::Span(s), mode: Mode::Exclusive }));
    let mut events = Vec::new();
    let answer = locks.acquire(Ticket(u64::MAX), record.txn, needs, Discipline::Prepare, &mut events);
    assert!(answer == Acquired::Granted, "prepared transactions conflict: {answer:?} for {}", record.txn);
    assert!(events.is_empty(), "a prepared transaction was wounded");
}

impl Replica {
    pub(crate) fn prepare(&mut self, id: RequestId, work: Work, deadline: Timestamp, cx: &mut Step<'_>) {
        let Work::Prepare { txn, writes, staged_chunks, coordinator, max_ts } = work else {
            unreachable!("the caller matched")
        };
        if !self.has_chunks(&txn, staged_chunks) {
            self.drop_txn(txn.id, cx);
            return cx.abort(id, AbortReason::LocksLost);
        }
        if writes.is_empty() && staged_chunks == 0 {
            self.leader_mut().locks.pin(txn.id);
            self.leader_mut().txns.get_mut(&txn.id).expect("it was admitted").phase =
                Phase::Voted { until: Timestamp::ZERO };
            return self.vote(id, txn.id, max_ts, cx);
        }
        match self.assign(Timestamp::ZERO, max_ts, cx) {
            Ok(prepare_ts) => {
                self.pin(txn.id, Phase::Preparing);
                let spans = self.staged_spans(&txn.id);
                let flight = InFlight { ts: Some(prepare_ts), writes: writes.clone(), spans };
                let record =
                    PrepareRecord { txn: txn.id, prepare_ts, max_ts, coordinator, writes, staged_chunks };
                self.propose(Command::Prepare(record), flight, cx);
                self.leader_mut().wait_for(txn.id, id, Await::Vote);
            }
            Err(Unassignable::Later) => {
                let work = Work::Prepare { txn, writes, staged_chunks, coordinator, max_ts };
                self.put_off(id, work, deadline, cx);
            }
            Err(Unassignable::Never) => {
                self.drop_txn(txn.id, cx);
                cx.abort(id, AbortReason::NoTimestamp);
            }
        }
    }

    /// Votes for a transaction that is prepared, or that only read here.
    pub(crate) fn vote(&mut self, id: RequestId, txn: TxnId, max_ts: Timestamp, cx: &mut Step<'_>) {
        let leadership = self.paxos.leadership(cx.now);
        let Some(leadership) = leadership else {
            let group = self.state.group;
            return cx.reply(id, Err(ShardError::NotLeader { group, leader: None }));
        };
        let lease_bound = leadership.lease_end.prev();
        let shown = self.state.shown;
        let record = self.state.unresolved(&txn).map(|p| (p.record.prepare_ts, p.record.max_ts));
        let leader = self.leader_mut();
        let state = leader.txns.get_mut(&txn).expect("who votes is registered");
        if state.phase == Phase::Prepared && record.is_none() {
            // A late copy of the request: the outcome is emitted already and answers it once the data engine has it.
            return leader.wait_for(txn, id, Await::Vote);
        }
        let vote = match (state.phase, record) {
            (Phase::Prepared, Some((prepare_ts, bound))) => {
                let max_ts = max_ts.min(bound);
                let max_ts = if state.has_reads { max_ts.min(lease_bound) } else { max_ts };
                Vote { prepare_ts, max_ts }
            }
            (Phase::Voted { until }, _) => {
                let vote = Vote { prepare_ts: shown.next(), max_ts: max_ts.min(lease_bound) };
                state.phase = Phase::Voted { until: until.max(vote.max_ts) };
                vote
            }
            (phase, _) => unreachable!("{txn} votes in phase {phase:?}"),
        };
        if vote.prepare_ts > vote.max_ts {
            return cx.abort(id, AbortReason::NoTimestamp);
        }
        cx.reply(id, Ok(Response::Voted(vote)));
    }

    /// A prepare record is applied.
    pub(crate) fn on_prepared(&mut self, txn: TxnId, cx: &mut Step<'_>) {
        let leader = self.leader_mut();
        let Some(state) = leader.txns.get_mut(&txn) else { return };
        state.phase = Phase::Prepared;
        let waiting = leader.take_awaits(&txn, |what| what == Await::Vote);
        let max_ts = self.state.unresolved(&txn).map_or(Timestamp::ZERO, |p| p.record.max_ts);
        for id in waiting {
            self.vote(id, txn, max_ts, cx);
        }
        self.start_recovery_timer(txn, cx);
        if let Some((outcome, false)) = self.leader_mut().resolving.get(&txn).copied() {
            self.propose_resolve(txn, outcome, cx);
        }
    }

    pub(crate) fn resolve(
        &mut self,
        id: RequestId,
        txn: TxnId,
        outcome: Outcome,
        key: Option<Key>,
        cx: &mut Step<'_>,
    ) {
        let is_prepared = self.state.unresolved(&txn).is_some();
        let leader = self.leader_mut();
        if leader.resolving.contains_key(&txn) {
            return leader.wait_for(txn, id, Await::Resolve);
        }
        let phase = leader.txns.get(&txn).map(|t| t.phase);
        match phase {
            Some(Phase::Preparing) => {
                leader.resolving.insert(txn, (outcome, false));
                leader.wait_for(txn, id, Await::Resolve);
            }
            _ if is_prepared => {
                leader.wait_for(txn, id, Await::Resolve);
                leader.resolving.insert(txn, (outcome, false));
                self.propose_resolve(txn, outcome, cx);
            }
            Some(Phase::Active | Phase::Voted { .. }) => {
                if let Outcome::Committed(s) = outcome {
                    let raised = self.raise_floor(s, cx.now);
                    let passed = cx.now.tt.is_some_and(|tt| tt.after(s));
                    if !raised && !passed {
                        // The promise of the vote must outlive the locks; let the gateway tell again.
                        return cx.reply(id, Err(ShardError::Overloaded));
                    }
                }
                self.drop_txn(txn, cx);
                cx.reply(id, Ok(Response::Done));
            }
            // A split waits for what is prepared, so whoever has the key now has had the record, if there was one. Whoever
            // has not must not say that all is done (I-9): the coordinator's record may go by that word.
            None if key.is_some_and(|key| !self.state.descriptor.span.contains(key.as_bytes())) => {
                let descriptor = self.state.descriptor.clone();
                cx.reply(id, Err(ShardError::WrongShard { descriptor }));
            }
            Some(Phase::Deciding | Phase::Prepared) | None => cx.reply(id, Ok(Response::Done)),
        }
    }

    fn propose_resolve(&mut self, txn: TxnId, outcome: Outcome, cx: &mut Step<'_>) {
        // What can't be proposed at the moment is told again by the recovery timer, or by the gateway.
        if !self.can_propose() || self.leader_mut().frozen.is_some() {
            self.leader_mut().resolving.remove(&txn);
            let refused = ShardError::Overloaded;
            for id in self.leader_mut().take_awaits(&txn, |what| what == Await::Resolve) {
                cx.reply(id, Err(refused.clone()));
            }
            return;
        }
        self.leader_mut().resolving.insert(txn, (outcome, true));
        self.propose_plain(Command::Resolve { txn, outcome }, cx);
    }

    pub(crate) fn on_resolved(&mut self, txn: TxnId, outcome: Outcome, cx: &mut Step<'_>) {
        let leader = self.leader_mut();
        leader.resolving.remove(&txn);
        leader.recovery.remove(&txn);
        for id in leader.take_awaits(&txn, |what| what == Await::Resolve) {
            cx.reply(id, Ok(Response::Done));
        }
        for id in leader.take_awaits(&txn, |what| what == Await::Vote) {
            let reason = AbortReason::ByRecovery;
            match outcome {
                Outcome::Aborted => cx.abort(id, reason),
                Outcome::Committed(_) => cx.reply(id, Err(ShardError::AlreadyDecided { outcome })),
            }
        }
        self.drop_txn(txn, cx);
    }

    pub(crate) fn start_recovery_timer(&mut self, txn: TxnId, cx: &Step<'_>) {
        let pause = self.config.recovery_after;
        let timer = Timer { due: cx.now.mono + pause, pause };
        self.leader_mut().recovery.insert(txn, timer);
    }

    /// Asks for, or tells, the outcomes that are due.
    pub(crate) fn recover_undecided(&mut self, cx: &mut Step<'_>) {
        let now = cx.now.mono;
        let pause_max = self.config.recovery_pause_max;
        let leader = self.leader.as_mut().expect("the caller made sure that this replica leads");
        let state = &self.state;
        leader.recovery.retain(|txn, timer| {
            let record = state.unresolved(txn).map(|p| &p.record);
            let told = state.awaiting.get(txn);
            if record.is_none() && told.is_none() {
                return false;
            }
            if timer.due > now {
                return true;
            }
            timer.pause = (timer.pause + timer.pause).min(pause_max);
            timer.due = now + timer.pause;
            let here = state.descriptor.span.start.clone();
            if let Some(record) = record {
                let key = record.writes.first().map(|w| w.key.clone());
                let staged = || state.staged.get(txn)?.values().next().map(|span| span.start.clone());
                let here = key.or_else(staged).unwrap_or(here);
                let coordinator = record.coordinator.clone();
                cx.out.recovery.push(Recovery::AskOutcome { id: *txn, coordinator, here });
            } else if let Some(told) = told {
                let participants = told.participants.clone();
                cx.out.recovery.push(Recovery::TellParticipants {
                    id: *txn,
                    outcome: told.outcome,
                    participants,
                    here,
                });
            }
            true
        });
    }
}
