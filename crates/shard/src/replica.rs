//! The replica: inputs in, outputs out, and the order of things within one step.
//!
//! ```text
//!   step(input)
//!     handle the input            may propose, reply, serve, wound
//!     settle until nothing moves:
//!       role changes of Paxos     leader state is made or dropped
//!       emit chosen entries       through the apply gate
//!       readiness                 prepared transactions are locked again
//!       retries, split, hand-over
//!       reads that waited
//! ```

use meridian_paxos as paxos;
use meridian_storage::Reader;
use meridian_types::{Duration, NodeId, Slot, Span, Timestamp};

use crate::apply::{Bugs, Effect, Emitted};
use crate::command::Command;
use crate::leader::{Await, InFlight, Leader, Phase, Timer};
use crate::planted::Planted;
use crate::reads::{Asked, WaitingRead};
use crate::state::State;
use crate::{
    AbortReason, ClosedTimestamp, Config, Input, Now, Outcome, Outputs, Recovered, Request, RequestId,
    Response, ShardDescriptor, ShardError, UnfitReason,
};

/// How often a leader looks for silent transactions and due recoveries, while there is anything to look at.
const SCAN_PAUSE: Duration = Duration::from_millis(250);
/// How soon something that waits for an uncertain clock, a lease or room in the pipeline is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The surroundings of one step.
pub(crate) struct Step<'a> {
    pub(crate) now: Now,
    pub(crate) reader: &'a dyn Reader,
    pub(crate) out: &'a mut Outputs,
}

impl Step<'_> {
    pub(crate) fn reply(&mut self, id: RequestId, answer: Result<Response, ShardError>) {
        self.out.replies.push((id, answer));
    }

    pub(crate) fn abort(&mut self, id: RequestId, reason: AbortReason) {
        self.reply(id, Err(ShardError::Aborted { reason }));
    }
}

/// One replica of a shard. See the crate's documentation.
#[derive(Debug)]
pub struct Replica {
    pub(crate) config: Config,
    pub(crate) paxos: paxos::Replica,
    /// Reused from step to step.
    paxos_out: paxos::Outputs,
    role_changes: Vec<paxos::RoleChange>,
    pub(crate) state: State,
    pub(crate) leader: Option<Leader>,
    pub(crate) failed: bool,
    /// Reads at a timestamp, and strong ones, that can't be served yet.
    pub(crate) reads: Vec<WaitingRead>,
    /// Closed timestamps whose `through` is not applied yet, ascending.
    pub(crate) closings: Vec<ClosedTimestamp>,
    /// Reads at or below are safe here, prepared transactions aside, by what a leader closed.
    pub(crate) closed: Timestamp,
    pub(crate) asked: Option<Asked>,
    data_durable: Slot,
    /// When a replica that lacks its data asks for it again.
    pub(crate) ask_data_at: Timestamp,
    /// For a bug that the simulation must find.
    #[cfg(feature = "planted-bugs")]
    pub(crate) kept_overlay: crate::overlay::Overlay,
    /// The last step's moment, to translate waits for TrueTime into moments of the oscillator.
    last_now: Now,
}

impl Replica {
    /// A replica as it stands after a start of its process, or at its creation by a split.
    pub fn new(config: Config, recovered: Recovered, now: Now) -> Self {
        let mut paxos = paxos::Replica::new(config.paxos.clone(), recovered.paxos(), now);
        paxos.set_holds_data(recovered.holds_data);
        let applied = recovered.applied;
        let state = State::new(recovered, config.paxos.node);
        Replica {
            config,
            paxos,
            paxos_out: paxos::Outputs::default(),
            role_changes: Vec::new(),
            state,
            leader: None,
            failed: false,
            reads: Vec::new(),
            closings: Vec::new(),
            closed: Timestamp::ZERO,
            asked: None,
            data_durable: applied,
            ask_data_at: Timestamp::ZERO,
            #[cfg(feature = "planted-bugs")]
            kept_overlay: crate::overlay::Overlay::default(),
            last_now: now,
        }
    }

    /// Takes one input. Appends to `out`, which the driver drains between steps. `reader` must show at least what was
    /// confirmed by [`Input::Applied`].
    pub fn step(&mut self, input: Input, now: Now, reader: &dyn Reader, out: &mut Outputs) {
        self.last_now = now;
        let mut cx = Step { now, reader, out };
        match input {
            Input::Tick => self.tick(&mut cx),
            Input::Request { id, request } => self.request(id, request, &mut cx),
            Input::Cancel(id) => self.cancel(id, &mut cx),
            Input::Paxos { from, message } => self.paxos(paxos::Input::Receive { from, message }, &mut cx),
            Input::Persisted(token) => self.paxos(paxos::Input::Persisted(token), &mut cx),
            Input::Applied(slot) => self.applied(slot, &mut cx),
            Input::DataDurable(slot) => {
                self.data_durable = self.data_durable.max(slot);
                let keep = Slot::new(self.data_durable.get().saturating_sub(self.config.log_retain));
                if keep > self.paxos.truncated() {
                    self.paxos(paxos::Input::Truncate(keep), &mut cx);
                }
            }
            Input::Closed(closed) => self.learn_closed(closed),
            Input::SnapshotInstalled { applied } => self.snapshot_installed(applied, &mut cx),
            Input::Campaign => self.paxos(paxos::Input::Campaign, &mut cx),
            Input::Collect(horizon) => self.raise_horizon(horizon, &mut cx),
            Input::StorageFailed => {
                self.failed = true;
                self.paxos(paxos::Input::StorageFailed, &mut cx);
                self.lose_leadership(None, &mut cx);
            }
        }
        self.settle(&mut cx);
    }

    /// Steps Paxos and takes over its outputs.
    pub(crate) fn paxos(&mut self, input: paxos::Input, cx: &mut Step<'_>) {
        self.paxos.step(input, cx.now, &mut self.paxos_out);
        let from = &mut self.paxos_out;
        if !from.persist.is_empty() {
            cx.out.persist.append(&mut from.persist);
            cx.out.token = from.token;
        }
        cx.out.send.append(&mut from.send);
        cx.out.send_after_persist.append(&mut from.send_after_persist);
        cx.out.snapshot_to.append(&mut from.snapshot_to);
        for entry in from.chosen.drain(..) {
            self.state.enqueue(entry);
        }
        self.role_changes.extend(from.role_change.take());
    }

    /// True when one more command may be proposed.
    pub(crate) fn can_propose(&self) -> bool {
        self.leader.is_some() && self.role_changes.is_empty() && self.paxos.can_propose(self.last_now) > 0
    }

    /// Proposes a command. The caller has asked [`Replica::can_propose`] in this step.
    pub(crate) fn propose(&mut self, command: Command, flight: InFlight, cx: &mut Step<'_>) -> Slot {
        let origin = self.leader_mut().ballot;
        let command = paxos::Command::Normal(command.encode(origin));
        self.paxos(paxos::Input::Propose(vec![command]), cx);
        let slot = *self.paxos_out.proposed.first().expect("a leader with room takes a proposal");
        let leader = self.leader.as_mut().expect("only a leader proposes");
        assert!(slot > leader.last_slot, "slot {slot} was given twice");
        leader.last_slot = slot;
        leader.in_flight.insert(slot, flight);
        slot
    }

    /// The slot that the last proposal got, if it was taken.
    pub(crate) fn proposed_first(&self) -> Option<Slot> {
        self.paxos_out.proposed.first().copied()
    }

    /// A proposal of which no version comes.
    pub(crate) fn propose_plain(&mut self, command: Command, cx: &mut Step<'_>) -> Slot {
        self.propose(command, InFlight { ts: None, writes: Vec::new(), spans: Vec::new() }, cx)
    }

    pub(crate) fn leader_mut(&mut self) -> &mut Leader {
        self.leader.as_mut().expect("the caller made sure that this replica leads")
    }

    fn settle(&mut self, cx: &mut Step<'_>) {
        loop {
            while !self.role_changes.is_empty() {
                let change = self.role_changes.remove(0);
                self.change_role(change, cx);
            }
            self.emit(cx);
            self.become_ready(cx);
            self.retry(cx);
            self.advance_split(cx);
            self.advance_hand_over(cx);
            self.answer_change(cx);
            // Each may give the other something to do.
            while self.release_locks(cx) || self.retry_dependants(cx) {}
            self.retry_reads(cx);
            if self.role_changes.is_empty() {
                return;
            }
        }
    }

    fn emit(&mut self, cx: &mut Step<'_>) {
        if self.state.queue.is_empty() {
            return;
        }
        let mut emitted = Emitted::default();
        let bugs = Bugs {
            skips_gate: self.config.has(Planted::SkipCommitWait),
            counts_behind_holes: self.config.has(Planted::CountBehindHoles),
        };
        self.state.emit(cx.now.tt, bugs, cx.reader, &mut emitted);
        cx.out.apply.append(&mut emitted.apply);
        for mut create in emitted.create {
            create.campaign = self.leader.is_some();
            cx.out.create.push(create);
        }
    }

    fn change_role(&mut self, change: paxos::RoleChange, cx: &mut Step<'_>) {
        match change {
            paxos::RoleChange::Leading { ballot, ready_at, floor } => {
                self.lose_leadership(None, cx);
                let mut leader = Leader::new(ballot, ready_at, floor);
                self.plant_overlay(&mut leader);
                self.leader = Some(leader);
                cx.out.leading = Some(true);
            }
            paxos::RoleChange::Following { leader } => self.lose_leadership(leader, cx),
        }
    }

    /// Answers everybody who waits for this leader, and drops its volatile state.
    fn lose_leadership(&mut self, successor: Option<NodeId>, cx: &mut Step<'_>) {
        let Some(leader) = self.leader.take() else { return };
        self.keep_overlay(&leader);
        cx.out.leading = Some(false);
        let refused = ShardError::NotLeader { group: self.state.group, leader: successor };
        for ticket in leader.lock_waits.keys() {
            cx.reply(RequestId(ticket.0), Err(refused.clone()));
        }
        let retries = leader.retry.iter().map(|(id, _, _)| *id);
        for id in retries.chain(leader.stalled.iter().map(|(id, _, _)| *id)) {
            cx.reply(id, Err(refused.clone()));
        }
        for dependant in &leader.dependants {
            cx.reply(dependant.id, Err(refused.clone()));
        }
        for (id, what) in leader.awaits.values().flatten() {
            let answer = if *what == Await::Commit { ShardError::OutcomeUnknown } else { refused.clone() };
            cx.reply(*id, Err(answer));
        }
        if let Some(changing) = leader.changing {
            cx.reply(changing.id, Err(ShardError::OutcomeUnknown));
        }
        for id in leader.fills.into_values() {
            cx.reply(id, Err(refused.clone()));
        }
        let split = leader.splitting.iter().map(|s| (s.id, s.proposed));
        for (id, proposed) in split.chain(leader.handing_over.iter().map(|h| (h.id, false))) {
            cx.reply(id, Err(if proposed { ShardError::OutcomeUnknown } else { refused.clone() }));
        }
    }

    /// A leader begins with an entry of its own, behind all that may have been chosen before; when that is applied it takes
    /// up the prepared transactions and serves.
    fn become_ready(&mut self, cx: &mut Step<'_>) {
        if self.leader.as_ref().is_some_and(|l| !l.has_begun) && self.can_propose() {
            let slot = self.propose_plain(Command::Lead, cx);
            let leader = self.leader_mut();
            leader.has_begun = true;
            leader.ready_at = slot;
        }
        let Some(leader) = self.leader.as_mut() else { return };
        if leader.serving || !leader.has_begun || self.state.confirmed < leader.ready_at {
            return;
        }
        assert!(
            self.state.emitted == self.state.confirmed,
            "nothing else is proposed before the leader serves"
        );
        leader.serving = true;
        let state = &self.state;
        leader.floor = leader.floor.max(state.last_commit).max(state.floor).max(state.gc_horizon);
        for (txn, prepared) in &self.state.prepared {
            leader.floor = leader.floor.max(prepared.record.prepare_ts);
            leader.register(*txn, Phase::Prepared, cx.now.mono);
            if self.config.has(Planted::ForgetPrepared) {
                continue;
            }
            let spans: Vec<Span> =
                self.state.staged.get(txn).into_iter().flat_map(|c| c.values().cloned()).collect();
            crate::participant::lock_again(&mut leader.locks, &prepared.record, spans);
        }
        let orphans = self.state.staged.keys().filter(|txn| !self.state.prepared.contains_key(txn));
        leader.orphans.extend(orphans.copied());
        let timer =
            Timer { due: cx.now.mono + self.config.recovery_after, pause: self.config.recovery_after };
        let undecided = self.state.prepared.keys().chain(self.state.awaiting.keys());
        leader.recovery.extend(undecided.map(|txn| (*txn, timer)));
        leader.next_scan = cx.now.mono;
        let stalled = std::mem::take(&mut leader.stalled);
        for (id, request, _) in stalled {
            self.request(id, request, cx);
        }
    }

    /// The data engine has everything up to `slot`.
    fn applied(&mut self, slot: Slot, cx: &mut Step<'_>) {
        while let Some((slot, effect)) = self.state.confirm_next(slot) {
            if effect == Effect::Membership && self.is_removed() {
                cx.out.removed = true;
            }
            if let Some(leader) = self.leader.as_mut() {
                if let Some(flight) = leader.in_flight.remove(&slot) {
                    leader.overlay.applied(slot, &flight.writes);
                }
                leader.floor = leader.floor.max(self.state.shown);
                if effect == Effect::Filled {
                    self.on_filled(slot, cx);
                } else {
                    self.on_effect(effect, cx);
                }
            }
        }
        self.ripen_closings();
        self.paxos(paxos::Input::Applied(slot), cx);
    }

    fn on_effect(&mut self, effect: Effect, cx: &mut Step<'_>) {
        match effect {
            Effect::None | Effect::RolledBack { .. } | Effect::Filled | Effect::Membership => {}
            Effect::Committed { txn, s } => self.on_committed(txn, s, cx),
            Effect::Staged { txn, chunk } => self.on_staged(txn, chunk, cx),
            Effect::Prepared { txn } => self.on_prepared(txn, cx),
            Effect::Resolved { txn, outcome } => self.on_resolved(txn, outcome, cx),
            Effect::AbortRecorded { txn } => self.on_abort_recorded(txn, cx),
            Effect::Forgotten { txn } => self.on_forgotten(txn, cx),
            Effect::Split { left, right } => self.on_split(left, right, cx),
        }
    }

    /// Tries again what could not be proposed.
    fn retry(&mut self, cx: &mut Step<'_>) {
        self.roll_back_orphans(cx);
        let Some(leader) = self.leader.as_mut() else { return };
        if leader.retry.is_empty() || leader.is_draining() {
            return;
        }
        for (id, work, deadline) in std::mem::take(&mut leader.retry) {
            if cx.now.mono >= deadline {
                self.give_up(id, &work, cx);
            } else {
                self.restart(id, work, deadline, cx);
            }
        }
    }

    /// What a request needs of this replica before it can be looked at.
    pub(crate) fn request(&mut self, id: RequestId, request: Request, cx: &mut Step<'_>) {
        if self.failed {
            return cx.reply(id, Err(ShardError::Unfit { reason: UnfitReason::Disk }));
        }
        if let Request::Read { mode: crate::ReadMode::At(at), ops } = request {
            if !self.state.holds_data {
                let leader = self.paxos.leader_hint();
                return cx.reply(id, Err(ShardError::NotLeader { group: self.state.group, leader }));
            }
            return self.read(id, Some(at), ops, cx);
        }
        if cx.now.tt.is_none() {
            return cx.reply(id, Err(ShardError::Unfit { reason: UnfitReason::Clock }));
        }
        let leads = self.paxos.leadership(cx.now).is_some() && self.role_changes.is_empty();
        let hint = self.paxos.leader_hint();
        let Some(leader) = self.leader.as_mut().filter(|_| leads) else {
            let leader = hint.filter(|node| *node != self.config.paxos.node);
            return cx.reply(id, Err(ShardError::NotLeader { group: self.state.group, leader }));
        };
        if let Some(handing_over) = &leader.handing_over {
            let leader = Some(handing_over.to);
            return cx.reply(id, Err(ShardError::NotLeader { group: self.state.group, leader }));
        }
        if !leader.serving {
            if leader.stalled.len() >= self.config.waiters_max {
                return cx.reply(id, Err(ShardError::Overloaded));
            }
            let deadline = cx.now.mono + self.config.stall_patience;
            leader.stalled.push((id, request, deadline));
            return;
        }
        self.dispatch(id, request, cx);
    }

    fn dispatch(&mut self, id: RequestId, request: Request, cx: &mut Step<'_>) {
        use crate::ReadMode;
        use crate::leader::Work;
        if let Some(after) = self.depends_on(&request) {
            return self.wait_for_slot(after, id, request, cx);
        }
        match request {
            Request::Read { mode: ReadMode::Locking { txn, mode, wait }, ops } => {
                self.start(id, Work::Read { txn, mode, wait, ops, skip: Vec::new() }, cx);
            }
            Request::Read { mode: ReadMode::Strong, ops } => self.read(id, None, ops, cx),
            Request::Read { mode: ReadMode::At(at), ops } => self.read(id, Some(at), ops, cx),
            Request::Stage { txn, chunk, lock, writes } => {
                self.start(id, Work::Stage { txn, chunk, lock, writes }, cx);
            }
            Request::Commit { txn, writes, staged_chunks, max_ts } => {
                self.start(id, Work::Commit { txn, writes, staged_chunks, max_ts }, cx);
            }
            Request::Prepare { txn, writes, staged_chunks, coordinator, max_ts } => {
                self.start(id, Work::Prepare { txn, writes, staged_chunks, coordinator, max_ts }, cx);
            }
            Request::Decide { txn, writes, staged_chunks, window, participants } => {
                self.start(id, Work::Decide { txn, writes, staged_chunks, window, participants }, cx);
            }
            Request::Resolve { id: txn, outcome, key } => self.resolve(id, txn, outcome, key, cx),
            Request::Forget { id: txn, key } => self.forget(id, txn, &key, cx),
            Request::Rollback { id: txn } => self.rollback(id, txn, cx),
            Request::CancelWaits { id: txn } => self.cancel_waits(id, txn, cx),
            Request::EndReads { txn } => self.end_reads(id, txn, cx),
            Request::Heartbeat { ids } => {
                let leader = self.leader_mut();
                for txn in ids {
                    if let Some(state) = leader.txns.get_mut(&txn) {
                        state.last_heard = cx.now.mono;
                    }
                }
                cx.reply(id, Ok(Response::Done));
            }
            Request::QueryOutcome { id: txn, key, abort_unknown } => {
                self.query_outcome(id, txn, &key, abort_unknown, cx);
            }
            Request::CloseTimestamp { at } => self.close_for_reader(id, at, cx),
            Request::Split { at, new_group } => self.split(id, at, new_group, cx),
            Request::Fill { at, until, writes } => self.fill(id, at, until, writes, cx),
            Request::ChangeReplica { node, kind } => self.change_replica(id, node, kind, cx),
            Request::TransferLeader { to } => self.transfer_leader(id, to, cx),
        }
    }

    fn cancel(&mut self, id: RequestId, cx: &mut Step<'_>) {
        self.reads.retain(|read| read.id != id);
        let Some(leader) = self.leader.as_mut() else { return };
        leader.stalled.retain(|(other, _, _)| *other != id);
        leader.retry.retain(|(other, _, _)| *other != id);
        leader.dependants.retain(|dependant| dependant.id != id);
        leader.fills.retain(|_, other| *other != id);
        leader.awaits.retain(|_, replies| {
            replies.retain(|(other, _)| *other != id);
            !replies.is_empty()
        });
        let ticket = meridian_locks::Ticket(id.0);
        if leader.lock_waits.remove(&ticket).is_some() {
            let mut events = Vec::new();
            leader.locks.cancel(ticket, &mut events);
            self.on_lock_events(events, cx);
        }
    }

    fn tick(&mut self, cx: &mut Step<'_>) {
        self.paxos(paxos::Input::Tick, cx);
        self.ask_for_data(cx);
        let group = self.state.group;
        let Some(leader) = self.leader.as_mut() else { return };
        let now = cx.now.mono;
        leader.stalled.retain(|(id, _, deadline)| {
            let keep = *deadline > now;
            if !keep {
                cx.out.replies.push((*id, Err(ShardError::NotLeader { group, leader: None })));
            }
            keep
        });
        if leader.serving && now >= leader.next_scan {
            leader.next_scan = now + SCAN_PAUSE;
            self.drop_silent(cx);
            self.recover_undecided(cx);
        }
    }

    fn snapshot_installed(&mut self, applied: Slot, cx: &mut Step<'_>) {
        let recovered =
            crate::state::recover(cx.reader, self.state.group).expect("the data engine can be read");
        let recovered = recovered.expect("a snapshot brings a descriptor");
        assert!(recovered.applied == applied, "the snapshot is at {}, not at {applied}", recovered.applied);
        let membership = paxos::Membership { members: recovered.descriptor.replicas.clone() };
        self.state = State::new(recovered, self.config.paxos.node);
        self.paxos.set_holds_data(self.state.holds_data);
        self.paxos(paxos::Input::SnapshotInstalled { applied, membership }, cx);
        self.ripen_closings();
    }

    /// The moment of the oscillator at which an [`Input::Tick`] is due; earlier ones do no harm.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let mono = self.last_now.mono;
        let gate = self.state.gated().and_then(|s| match self.last_now.tt {
            // TrueTime's lower bound grows with the oscillator, up to its drift; being a little late beats being early.
            Some(tt) if !tt.after(s) => Some(mono + s.next().since(tt.earliest()) + Duration::from_micros(5)),
            // What is still there after a step waits for the data engine, whose answer is a step.
            Some(_) => None,
            None => Some(mono + RETRY_PAUSE),
        });
        let reads = self.reads.iter().map(|read| read.deadline).min();
        let poll = self.reads.iter().any(|r| r.polls).then_some(mono + RETRY_PAUSE);
        let leader = self.leader.as_ref().and_then(|leader| {
            let stalled = leader.stalled.iter().map(|(_, _, deadline)| *deadline).min();
            let busy = !leader.has_begun
                || !leader.retry.is_empty()
                || !leader.orphans.is_empty()
                || leader.is_draining();
            let retry = busy.then_some(mono + RETRY_PAUSE);
            let watches = !leader.txns.is_empty() || !leader.recovery.is_empty();
            let scan = (leader.serving && watches).then_some(leader.next_scan);
            [stalled, retry, scan].into_iter().flatten().min()
        });
        let data = self.state.lacks_data.then_some(self.ask_data_at);
        [self.paxos.next_wake(), gate, reads, poll, leader, data].into_iter().flatten().min()
    }

    /// The shard as of the emitted entries.
    pub fn descriptor(&self) -> &ShardDescriptor {
        &self.state.descriptor
    }

    /// True when the transaction outcome `outcome` may be told as the answer to a commit.
    pub(crate) fn answer_decided(id: RequestId, outcome: Outcome, cx: &mut Step<'_>) {
        match outcome {
            Outcome::Committed(commit_ts) => cx.reply(id, Ok(Response::Committed { commit_ts })),
            Outcome::Aborted => cx.reply(id, Err(ShardError::AlreadyDecided { outcome })),
        }
    }
}
