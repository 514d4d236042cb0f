//! Transactions of one shard: registration, locks, commit, and the ways in which a transaction ends without one.

use meridian_locks::{Acquired, Discipline, Event, Mode, Need, Target, Ticket};
use meridian_types::{Timestamp, TxnId, limits};

use crate::command::{Command, StagedChunk};
use crate::leader::{Await, InFlight, Phase, Work};
use crate::overlay::RELEASED_WRITES_MAX;
use crate::planted::Planted;
use crate::replica::{Replica, Step};
use crate::timestamp::Unassignable;
use crate::{AbortReason, LockMode, ReadOp, RequestId, Response, ShardError, TxnRef, WaitPolicy, Write};

impl From<LockMode> for Mode {
    fn from(mode: LockMode) -> Mode {
        match mode {
            LockMode::Shared => Mode::Shared,
            LockMode::Exclusive => Mode::Exclusive,
        }
    }
}

/// What admission found out about a transaction.
enum Admission {
    /// It stands, and takes locks.
    Go,
    /// The request was answered, or waits for what is in flight already.
    Done,
}

impl Replica {
    /// Starts work under locks: checks the keys, registers the transaction, takes what locks it lacks.
    pub(crate) fn start(&mut self, id: RequestId, work: Work, cx: &mut Step<'_>) {
        let deadline = cx.now.mono + self.config.stall_patience;
        self.restart(id, work, deadline, cx);
    }

    pub(crate) fn restart(&mut self, id: RequestId, work: Work, deadline: Timestamp, cx: &mut Step<'_>) {
        if !work.is_inside(&self.state.descriptor.span) {
            let descriptor = self.state.descriptor.clone();
            return cx.reply(id, Err(ShardError::WrongShard { descriptor }));
        }
        if self.is_beside_split(&work) {
            return self.put_off(id, work, deadline, cx);
        }
        if matches!(self.admit(id, &work, cx), Admission::Done) {
            return;
        }
        let txn = work.txn().id;
        let leader = self.leader_mut();
        if leader.is_draining() && !matches!(work, Work::Read { .. }) {
            return self.put_off(id, work, deadline, cx);
        }
        let (needs, discipline) = match self.needs(&work) {
            Some(needs) => needs,
            None => return self.skip_locked(id, work, cx),
        };
        if needs.is_empty() {
            return self.proceed(id, work, deadline, cx);
        }
        let leader = self.leader_mut();
        if leader.lock_waits.len() >= self.config.waiters_max {
            return cx.reply(id, Err(ShardError::Overloaded));
        }
        let mut events = Vec::new();
        let leader = self.leader_mut();
        let answer = leader.locks.acquire(Ticket(id.0), txn, needs, discipline, &mut events);
        match answer {
            Acquired::Waiting => {
                leader.lock_waits.insert(Ticket(id.0), work);
                self.on_lock_events(events, cx);
            }
            Acquired::Granted => {
                self.on_lock_events(events, cx);
                self.granted(id, work, deadline, cx);
            }
            Acquired::WouldBlock => cx.reply(id, Err(ShardError::WouldBlock)),
            Acquired::WouldDeadlock => {
                self.on_lock_events(events, cx);
                self.drop_txn(txn, cx);
                cx.abort(id, AbortReason::WouldDeadlock);
            }
        }
    }

    /// Decides whether the request's transaction may go on.
    fn admit(&mut self, id: RequestId, work: &Work, cx: &mut Step<'_>) -> Admission {
        let txn = work.txn();
        let forgets = self.config.has(Planted::ForgetRegistration) && matches!(work, Work::Commit { .. });
        let awaited = match work {
            Work::Read { .. } => None,
            Work::Stage { chunk, .. } => Some(Await::Stage(*chunk)),
            Work::Commit { .. } | Work::Decide { .. } => Some(Await::Commit),
            Work::Prepare { .. } => Some(Await::Vote),
        };
        let late_decide = self.config.has(Planted::LateDecide);
        let leader = self.leader_mut();
        if leader.stands(&txn) || (forgets && leader.txns.contains_key(&txn.id)) {
            let state = leader.txns.get_mut(&txn.id).expect("it stands");
            state.last_heard = cx.now.mono;
            return match (state.phase, work) {
                (Phase::Active, _) => {
                    state.has_reads |= matches!(work, Work::Read { .. });
                    Admission::Go
                }
                (Phase::Deciding, Work::Commit { .. } | Work::Decide { .. })
                | (Phase::Preparing, Work::Prepare { .. }) => {
                    leader.wait_for(txn.id, id, awaited.expect("only reads await nothing"));
                    Admission::Done
                }
                (Phase::Prepared | Phase::Voted { .. }, Work::Prepare { max_ts, .. }) => {
                    let max_ts = *max_ts;
                    self.vote(id, txn.id, max_ts, cx);
                    Admission::Done
                }
                _ => {
                    cx.abort(id, AbortReason::LocksLost);
                    Admission::Done
                }
            };
        }
        let decides = matches!(work, Work::Commit { .. } | Work::Decide { .. });
        if decides && leader.aborting.contains_key(&txn.id) && !late_decide {
            leader.wait_for(txn.id, id, Await::Commit);
            return Admission::Done;
        }
        if decides
            && !leader.txns.contains_key(&txn.id)
            && let Some(outcome) = self.state.known_outcome(cx.reader, &txn.id)
            && !(outcome == crate::Outcome::Aborted && late_decide)
        {
            Self::answer_decided(id, outcome, cx);
            return Admission::Done;
        }
        let leader = self.leader_mut();
        if (txn.registration.is_some() && !forgets) || leader.txns.contains_key(&txn.id) {
            cx.abort(id, AbortReason::LocksLost);
            return Admission::Done;
        }
        let state = leader.register(txn.id, Phase::Active, cx.now.mono);
        state.has_reads = matches!(work, Work::Read { .. });
        Admission::Go
    }

    /// The locks that the work lacks; what can be had without waiting is taken on the way. `None` for SKIP LOCKED, which
    /// has its own way.
    fn needs(&mut self, work: &Work) -> Option<(Vec<Need>, Discipline)> {
        let txn = work.txn().id;
        let mut needs = Vec::new();
        let discipline = match work {
            Work::Read { mode, wait, ops, .. } => {
                let mode = Mode::from(*mode);
                let discipline = match wait {
                    WaitPolicy::Wait => Discipline::WoundWait,
                    WaitPolicy::NoWait => Discipline::NoWait,
                    WaitPolicy::SkipLocked => return None,
                };
                for op in ops {
                    match op {
                        ReadOp::Get(key) => self.point_need(txn, key, mode, &mut needs),
                        ReadOp::Scan { span, .. } => {
                            needs.push(Need { target: Target::Span(span.clone()), mode });
                        }
                    }
                }
                discipline
            }
            Work::Stage { lock, .. } => {
                needs.push(Need { target: Target::Span(lock.clone()), mode: Mode::Exclusive });
                Discipline::WoundWait
            }
            Work::Commit { writes, .. } => {
                self.write_needs(txn, writes, &mut needs);
                Discipline::WoundWait
            }
            Work::Prepare { writes, .. } | Work::Decide { writes, .. } => {
                self.write_needs(txn, writes, &mut needs);
                if self.config.has(Planted::WoundPrepared) {
                    Discipline::WoundWait
                } else {
                    Discipline::Prepare
                }
            }
        };
        Some((needs, discipline))
    }

    fn write_needs(&mut self, txn: TxnId, writes: &[Write], needs: &mut Vec<Need>) {
        for write in writes {
            self.point_need(txn, &write.key, Mode::Exclusive, needs);
        }
    }

    fn point_need(&mut self, txn: TxnId, key: &meridian_types::Key, mode: Mode, needs: &mut Vec<Need>) {
        if !self.leader_mut().locks.try_point(txn, key, mode) {
            needs.push(Need { target: Target::Point(key.clone()), mode });
        }
    }

    /// The work has its locks.
    pub(crate) fn proceed(&mut self, id: RequestId, work: Work, deadline: Timestamp, cx: &mut Step<'_>) {
        if !matches!(work, Work::Read { .. }) && (!self.can_propose() || self.leader_mut().is_draining()) {
            return self.put_off(id, work, deadline, cx);
        }
        match work {
            Work::Read { .. } => self.read_locked(id, work, cx),
            Work::Stage { txn, chunk, lock, writes } => {
                let staged = StagedChunk { lock: lock.clone(), writes };
                let flight = InFlight { ts: None, writes: Vec::new(), spans: vec![lock] };
                self.propose(Command::Stage { txn: txn.id, chunk, staged }, flight, cx);
                let leader = self.leader_mut();
                leader.txns.get_mut(&txn.id).expect("it was admitted").may_have_staged = true;
                leader.wait_for(txn.id, id, Await::Stage(chunk));
            }
            Work::Commit { .. } => self.commit(id, work, deadline, cx),
            Work::Prepare { .. } => self.prepare(id, work, deadline, cx),
            Work::Decide { .. } => self.decide(id, work, deadline, cx),
        }
    }

    fn commit(&mut self, id: RequestId, work: Work, deadline: Timestamp, cx: &mut Step<'_>) {
        let Work::Commit { txn, writes, staged_chunks, max_ts } = work else {
            unreachable!("the caller matched")
        };
        if !self.has_chunks(&txn, staged_chunks) {
            self.drop_txn(txn.id, cx);
            return cx.abort(id, AbortReason::LocksLost);
        }
        if writes.is_empty() && staged_chunks == 0 {
            // Whatever it read under locks is what holds at the newest commit shown: nobody could change it since.
            let commit_ts = self.state.shown;
            self.drop_txn(txn.id, cx);
            return cx.reply(id, Ok(Response::Committed { commit_ts }));
        }
        match self.assign(Timestamp::ZERO, max_ts, cx) {
            Ok(s) => {
                self.pin(txn.id, Phase::Deciding);
                let spans = self.staged_spans(&txn.id);
                let flight = InFlight { ts: Some(s), writes: writes.clone(), spans };
                let released = self.config.releases_at_proposal
                    && staged_chunks == 0
                    && writes.len() <= RELEASED_WRITES_MAX;
                let slot =
                    self.propose(Command::Commit { txn: txn.id, s, writes, staged_chunks }, flight, cx);
                if released {
                    self.release_at_proposal(txn.id, slot);
                    if self.config.has(Planted::ForgetReleased) {
                        self.leader_mut().floor = s.prev();
                    }
                }
                self.leader_mut().wait_for(txn.id, id, Await::Commit);
            }
            Err(Unassignable::Later) => {
                self.put_off(id, Work::Commit { txn, writes, staged_chunks, max_ts }, deadline, cx);
            }
            Err(Unassignable::Never) => {
                self.drop_txn(txn.id, cx);
                cx.abort(id, AbortReason::NoTimestamp);
            }
        }
    }

    pub(crate) fn pin(&mut self, txn: TxnId, phase: Phase) {
        let wounds = phase == Phase::Preparing && self.config.has(Planted::WoundPrepared);
        let leader = self.leader_mut();
        if !wounds {
            leader.locks.pin(txn);
        }
        leader.txns.get_mut(&txn).expect("only registered transactions are pinned").phase = phase;
    }

    /// True when as many chunks were staged and applied here as the gateway thinks.
    pub(crate) fn has_chunks(&mut self, txn: &TxnRef, staged_chunks: u32) -> bool {
        let state = self.leader_mut().txns.get(&txn.id).expect("it was admitted");
        state.staged == staged_chunks
    }

    pub(crate) fn staged_spans(&self, txn: &TxnId) -> Vec<meridian_types::Span> {
        self.state.staged.get(txn).into_iter().flat_map(|chunks| chunks.values().cloned()).collect()
    }

    /// Keeps work that has its locks until it can be proposed.
    pub(crate) fn put_off(&mut self, id: RequestId, work: Work, deadline: Timestamp, cx: &mut Step<'_>) {
        let max = self.config.waiters_max;
        let leader = self.leader_mut();
        if leader.retry.len() >= max {
            return cx.reply(id, Err(ShardError::Overloaded));
        }
        leader.retry.push((id, work, deadline));
    }

    /// Work could not be proposed for so long that waiting makes no sense.
    pub(crate) fn give_up(&mut self, id: RequestId, work: &Work, cx: &mut Step<'_>) {
        let txn = work.txn();
        let leader = self.leader_mut();
        // Another copy of the request may have got through; then its fate is decided by that one.
        let active = leader.txns.get(&txn.id).is_some_and(|t| t.phase == Phase::Active);
        if active && leader.stands(&txn) {
            self.drop_txn(txn.id, cx);
            cx.abort(id, AbortReason::NoTimestamp);
        } else {
            cx.reply(id, Err(ShardError::Overloaded));
        }
    }

    /// Carries out what happened in the lock table. The table is ahead of the events: a ticket that was granted first may
    /// belong to a transaction that was wounded later, so the wounds are carried out before any grant.
    pub(crate) fn on_lock_events(&mut self, events: Vec<Event>, cx: &mut Step<'_>) {
        for event in &events {
            if let Event::Wounded { txn, by, tickets } = event {
                let reason = AbortReason::Wounded { by: *by };
                for ticket in tickets {
                    self.leader_mut().lock_waits.remove(ticket);
                    cx.abort(RequestId(ticket.0), reason);
                }
                self.unregister(*txn, reason, cx);
            }
        }
        for event in events {
            match event {
                Event::Granted(ticket) => {
                    let Some(work) = self.leader_mut().lock_waits.remove(&ticket) else { continue };
                    let deadline = cx.now.mono + self.config.stall_patience;
                    self.granted(RequestId(ticket.0), work, deadline, cx);
                }
                Event::WouldDeadlock(ticket) => {
                    let Some(work) = self.leader_mut().lock_waits.remove(&ticket) else { continue };
                    self.drop_txn(work.txn().id, cx);
                    cx.abort(RequestId(ticket.0), AbortReason::WouldDeadlock);
                }
                Event::Wounded { .. } => {}
            }
        }
    }

    /// Goes on with work whose locks were granted, unless other events have overtaken it: its transaction may have been
    /// wounded since, or another copy of the same request may have been proposed.
    fn granted(&mut self, id: RequestId, work: Work, deadline: Timestamp, cx: &mut Step<'_>) {
        let txn = work.txn();
        let leader = self.leader_mut();
        if !leader.stands(&txn) {
            return cx.abort(id, AbortReason::LocksLost);
        }
        if leader.txns.get(&txn.id).is_some_and(|t| t.phase == Phase::Active) {
            self.proceed(id, work, deadline, cx);
        } else {
            self.restart(id, work, deadline, cx);
        }
    }

    /// Ends a transaction here: its locks go, and whoever of its requests waits is told that they are lost.
    pub(crate) fn drop_txn(&mut self, txn: TxnId, cx: &mut Step<'_>) {
        let mut events = Vec::new();
        let leader = self.leader_mut();
        for ticket in leader.locks.release(txn, &mut events) {
            leader.lock_waits.remove(&ticket);
            cx.abort(RequestId(ticket.0), AbortReason::LocksLost);
        }
        self.unregister(txn, AbortReason::LocksLost, cx);
        self.on_lock_events(events, cx);
    }

    fn unregister(&mut self, txn: TxnId, reason: AbortReason, cx: &mut Step<'_>) {
        let leader = self.leader_mut();
        let Some(state) = leader.txns.remove(&txn) else { return };
        leader.retry.retain(|(id, work, _)| {
            let keep = work.txn().id != txn;
            if !keep {
                cx.out.replies.push((*id, Err(ShardError::Aborted { reason })));
            }
            keep
        });
        if state.may_have_staged && state.phase == Phase::Active {
            for id in leader.take_awaits(&txn, |what| matches!(what, Await::Stage(_))) {
                cx.abort(id, reason);
            }
            leader.orphans.push(txn);
        }
    }

    /// Drops staged chunks whose transaction is gone.
    pub(crate) fn roll_back_orphans(&mut self, cx: &mut Step<'_>) {
        while self.can_propose() {
            let leader = self.leader_mut();
            if !leader.serving || leader.frozen.is_some() {
                return;
            }
            let Some(txn) = leader.orphans.pop() else { return };
            self.propose_plain(Command::Rollback { txn }, cx);
        }
    }

    pub(crate) fn on_staged(&mut self, txn: TxnId, chunk: u32, cx: &mut Step<'_>) {
        let leader = self.leader_mut();
        let waiting = leader.take_awaits(&txn, |what| what == Await::Stage(chunk));
        let Some(registration) = leader.registration(&txn) else { return };
        let chunks = self.state.staged.get(&txn).map_or(0, std::collections::BTreeMap::len);
        let state = self.leader_mut().txns.get_mut(&txn).expect("it is registered");
        state.staged = u32::try_from(chunks).expect("chunks are counted by a u32");
        for id in waiting {
            cx.reply(id, Ok(Response::Staged { registration }));
        }
    }

    /// A commit or a decision is applied: commit wait is over.
    pub(crate) fn on_committed(&mut self, txn: TxnId, s: Timestamp, cx: &mut Step<'_>) {
        if self.state.awaiting.contains_key(&txn) {
            self.start_recovery_timer(txn, cx);
        }
        let leader = self.leader_mut();
        for id in leader.take_awaits(&txn, |what| what == Await::Commit) {
            cx.reply(id, Ok(Response::Committed { commit_ts: s }));
        }
        let outcome = crate::Outcome::Committed(s);
        for id in leader.take_awaits(&txn, |what| what == Await::Outcome) {
            cx.reply(id, Ok(Response::Outcome(Some(outcome))));
        }
        self.drop_txn(txn, cx);
    }

    pub(crate) fn rollback(&mut self, id: RequestId, txn: TxnId, cx: &mut Step<'_>) {
        let phase = self.leader_mut().txns.get(&txn).map(|t| t.phase);
        if matches!(phase, Some(Phase::Active | Phase::Voted { .. })) {
            self.drop_txn(txn, cx);
        }
        cx.reply(id, Ok(Response::Done));
    }

    pub(crate) fn cancel_waits(&mut self, id: RequestId, txn: TxnId, cx: &mut Step<'_>) {
        let mut events = Vec::new();
        let leader = self.leader_mut();
        let mine = leader.lock_waits.iter().filter(|(_, work)| work.txn().id == txn);
        let mine: Vec<Ticket> = mine.map(|(ticket, _)| *ticket).collect();
        for ticket in mine {
            leader.lock_waits.remove(&ticket);
            leader.locks.cancel(ticket, &mut events);
            cx.reply(RequestId(ticket.0), Err(ShardError::LockTimeout));
        }
        self.on_lock_events(events, cx);
        cx.reply(id, Ok(Response::Done));
    }

    pub(crate) fn end_reads(&mut self, id: RequestId, txn: TxnRef, cx: &mut Step<'_>) {
        let leader = self.leader_mut();
        let active = leader.txns.get(&txn.id).is_some_and(|t| t.phase == Phase::Active);
        if leader.stands(&txn) && active {
            self.drop_txn(txn.id, cx);
            cx.reply(id, Ok(Response::Done));
        } else {
            cx.abort(id, AbortReason::LocksLost);
        }
    }

    /// Drops transactions whose gateway is silent. One that has only voted is dropped once nobody can assign a timestamp
    /// within its vote any more: its promise is kept without locks from then on.
    pub(crate) fn drop_silent(&mut self, cx: &mut Step<'_>) {
        let floor = self.leader_mut().floor;
        let now = cx.now;
        let silent = |last_heard: Timestamp| now.mono.since(last_heard) > limits::TXN_EXPIRY;
        let gone: Vec<TxnId> = self
            .leader_mut()
            .txns
            .iter()
            .filter(|(_, t)| match t.phase {
                Phase::Active => silent(t.last_heard),
                Phase::Voted { until } => {
                    silent(t.last_heard) && (until <= floor || now.tt.is_some_and(|tt| tt.after(until)))
                }
                Phase::Deciding | Phase::Preparing | Phase::Prepared => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for txn in gone {
            // The end of one may have let the commit of another go on.
            let phase = self.leader_mut().txns.get(&txn).map(|t| t.phase);
            if matches!(phase, Some(Phase::Active | Phase::Voted { .. })) {
                self.drop_txn(txn, cx);
            }
        }
    }
}
