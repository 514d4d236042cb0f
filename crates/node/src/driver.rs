//! Steps a replica and carries out what it asks for.
//!
//! ```text
//!   lock ----------------------------------------------------------------------------------- unlock
//!     step -> send, log writer, data engine -+-> Applied -> step -> ...      -> reads, answers, hand-offs
//!                                            +-> big: apply thread -> (lock) Applied -> step
//! ```
//! Under the lock nothing waits: messages and log writes are queued, and batches for the data engine are buffered
//! writes. Reads and answers come after the unlock, on the thread that made the step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use meridian_paxos::Envelope;
use meridian_rpc::peer::PeerMessage;
use meridian_shard::{
    CreateReplica, Input, ReadMode, Recovery, Request, RequestId, Response, Serve, ShardError, UnfitReason,
};
use meridian_storage::{Durability, StorageError, WriteBatch};
use meridian_types::{NodeId, Slot, Timestamp};
use parking_lot::{MutexGuard, RwLockReadGuard};
use smallvec::SmallVec;

use crate::backlog::persist_bytes;
use crate::cell::{Cell, Core, Phase, Reading, Reply, Waiter};
use crate::damage;
use crate::demand::Demand;
use crate::inner::Inner;
use crate::log_writer::LogJob;
use crate::resting::Rest;

/// A larger batch is applied on its own thread, so that the replica's lock is not held for milliseconds.
const INLINE_APPLY_BYTES: usize = 256 << 10;

/// Requests that may wait at one replica; further ones are refused as overload.
const WAITERS_MAX: usize = 65_536;

/// A batch for the apply thread.
pub(crate) struct ApplyJob {
    pub(crate) cell: Arc<Cell>,
    pub(crate) slot: Slot,
    batch: WriteBatch,
    create: Vec<CreateReplica>,
}

/// What a step leaves to be done without the lock.
#[derive(Default)]
pub(crate) struct Effects {
    replies: SmallVec<[Reply; 2]>,
    reads: SmallVec<[Reading; 2]>,
    own: Option<Result<Response, ShardError>>,
    recovery: SmallVec<[Recovery; 0]>,
    snapshot_to: SmallVec<[NodeId; 1]>,
    close: SmallVec<[(NodeId, Timestamp); 1]>,
    campaign: SmallVec<[Arc<Cell>; 0]>,
    /// The generation of the descriptor without this node.
    removed: Option<u64>,
}

/// How a request began.
pub(crate) enum Begun {
    /// Answered.
    Ready(Result<Response, ShardError>),
    /// The waiter will be told.
    Waiting(RequestId),
}

/// A panic in a step means that an invariant is broken: the process ends before it can answer or write anything that
/// rests on it. Crash beats corrupt.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() && !cfg!(test) {
            tracing::error!("a replica's step panicked: aborting");
            std::process::abort();
        }
    }
}

/// True for requests that make the data grow. They are refused while the disk is full; what ends transactions is not.
fn adds_data(request: &Request) -> bool {
    matches!(
        request,
        Request::Stage { .. } | Request::Commit { .. } | Request::Prepare { .. } | Request::Decide { .. }
    )
}

/// What a leader does for a client that is waiting, and another node would do for it in its place.
fn is_for_clients(request: &Request) -> bool {
    matches!(
        request,
        Request::Read { mode: ReadMode::Locking { .. } | ReadMode::Strong, .. }
            | Request::Commit { .. }
            | Request::Prepare { .. }
            | Request::Decide { .. }
    )
}

impl Inner {
    /// Feeds one input, unless the cell does not serve.
    pub(crate) fn step(self: &Arc<Self>, cell: &Arc<Cell>, input: Input) {
        let mut effects = Effects::default();
        let mut core = cell.core.lock();
        if core.phase != Phase::Serving {
            return;
        }
        self.drive(cell, &mut core, input, None, &mut effects);
        self.unlock_and_finish(cell, core, effects);
    }

    /// Feeds a request of a node. `waiter` is asked for only when the answer does not come at once.
    pub(crate) fn request(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        mut request: Request,
        from: NodeId,
        waiter: impl FnOnce() -> Waiter,
    ) -> Begun {
        if self.room.is_short() && adds_data(&request) {
            return Begun::Ready(Err(ShardError::Unfit { reason: UnfitReason::Disk }));
        }
        if self.backlog.is_full() && adds_data(&request) {
            self.counters.requests_pushed_back.add(1);
            return Begun::Ready(Err(ShardError::Overloaded));
        }
        let id = RequestId(self.next_request());
        let mut effects = Effects::default();
        let mut core = cell.core.lock();
        match core.phase {
            Phase::Serving if core.waiters.len() >= WAITERS_MAX => {
                return Begun::Ready(Err(ShardError::Overloaded));
            }
            Phase::Serving => {}
            Phase::Installing => {
                return Begun::Ready(Err(ShardError::NotLeader { group: cell.group, leader: None }));
            }
            Phase::Stopped => return Begun::Ready(Err(ShardError::UnknownGroup { group: cell.group })),
        }
        if core.is_leading && is_for_clients(&request) {
            core.demand.note(from);
        }
        let now = self.clock.now();
        if core.rest == Rest::Leading && !core.replica.holds_lease(now) {
            self.take_over(&mut core, now);
        }
        if let Request::Read { mode: ReadMode::Strong, ops } = &mut request
            && let Some(at) = core.replica.try_strong_read(ops, now)
        {
            let guard = cell.data.read();
            drop(core);
            let ops = std::mem::take(ops);
            let answer = self.read(cell, &Serve::at(id, ops, at));
            drop(guard);
            self.counters.ready_answers.add(1);
            return Begun::Ready(answer);
        }
        self.drive(cell, &mut core, Input::Request { id, request }, Some(id), &mut effects);
        let own = effects.own.take();
        let own_read = match effects.reads.iter().position(|(waiter, _)| waiter.is_none()) {
            Some(at) => Some(effects.reads.remove(at).1),
            None => None,
        };
        if own.is_none() && own_read.is_none() {
            core.waiters.insert(id, waiter());
        }
        let guard = own_read.is_some().then(|| cell.data.read());
        self.unlock_and_finish(cell, core, effects);
        let answer = match (own, own_read) {
            (Some(answer), _) => answer,
            (None, Some(read)) => {
                let answer = self.read(cell, &read);
                drop(guard);
                answer
            }
            (None, None) => return Begun::Waiting(id),
        };
        self.counters.ready_answers.add(1);
        Begun::Ready(answer)
    }

    /// Steps until nothing more follows at once.
    pub(crate) fn drive(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        core: &mut Core,
        input: Input,
        own: Option<RequestId>,
        effects: &mut Effects,
    ) {
        let _abort = AbortOnPanic;
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let now = self.clock.now();
            self.before_step(cell, core, &input, now);
            core.replica.step(input, now, &*self.data, &mut core.outputs);
            self.counters.steps.add(1);
            cell.horizon.store(core.replica.gc_horizon().as_nanos(), Ordering::Release);
            self.send_all(core.outputs.send.drain(..));
            let out = &mut core.outputs;
            if !out.persist.is_empty() || !out.send_after_persist.is_empty() {
                let persist = std::mem::take(&mut out.persist);
                let bytes = persist_bytes(&persist);
                self.backlog.add(bytes);
                let (cell, token) = (cell.clone(), out.token);
                let after = std::mem::take(&mut out.send_after_persist);
                self.log_writer.jobs.push(LogJob { cell, token, persist, after, bytes });
            }
            next = self.apply(cell, core);
            self.collect(cell, core, own, effects);
        }
        if core.rest == Rest::Joining && !core.is_leading {
            self.wake(cell, core, self.clock.now());
        }
        if let Some(at) = core.replica.next_wake() {
            self.timer.schedule(cell, at);
        }
    }

    /// Writes what is to be applied, or hands it to the apply thread.
    fn apply(self: &Arc<Self>, cell: &Arc<Cell>, core: &mut Core) -> Option<Input> {
        let out = &mut core.outputs;
        let create = std::mem::take(&mut out.create);
        if !create.is_empty() {
            let spans = create.iter().map(|c| (c.descriptor.group, c.descriptor.span.clone()));
            self.coming.lock().extend(spans);
        }
        let mut applies = out.apply.drain(..);
        let Some(first) = applies.next() else {
            assert!(create.is_empty(), "a replica is created as the effect of an applied entry");
            return None;
        };
        let (mut slot, mut batch) = (first.slot, first.batch);
        for more in applies {
            slot = more.slot;
            batch.append(more.batch);
        }
        let job = ApplyJob { cell: cell.clone(), slot, batch, create };
        // What creates a replica waits for the disk, which is not for a thread that holds the lock.
        let is_big = job.batch.bytes() > INLINE_APPLY_BYTES || !job.create.is_empty();
        if core.applies_queued > 0 || is_big {
            core.applies_queued += 1;
            self.apply_later(job);
            return None;
        }
        match self.write_data(&job.batch) {
            Ok(()) => {
                core.applied = slot;
                Some(Input::Applied(slot))
            }
            Err(StorageError::NoSpace { .. }) => {
                // The apply thread waits for room.
                core.applies_queued += 1;
                self.apply_later(job);
                None
            }
            Err(error) => {
                self.data_failed(&error);
                None
            }
        }
    }

    fn apply_later(&self, job: ApplyJob) {
        self.backlog.add(job.batch.bytes());
        self.applier.push(job);
    }

    fn write_data(&self, batch: &WriteBatch) -> Result<(), StorageError> {
        self.counters.applies.add(1);
        self.data.write_kept(batch, Durability::Buffered)
    }

    /// The apply thread's work on one batch.
    pub(crate) fn apply_big(self: &Arc<Self>, job: ApplyJob) {
        let cell = job.cell.clone();
        let written = self.room.wait(|| self.is_stopped(), || self.write_data(&job.batch));
        // A new replica counts in quorums of its group; what it begins with must not be lost in a crash.
        let written = written.and_then(|()| if job.create.is_empty() { Ok(()) } else { self.data.sync() });
        self.backlog.remove(job.batch.bytes());
        let mut effects = Effects::default();
        let mut core = cell.core.lock();
        core.applies_queued -= 1;
        if let Err(error) = written {
            return self.data_failed(&error);
        }
        if self.is_stopped() {
            return;
        }
        // Also where the parent was removed meanwhile: the children have other members, who may need them.
        for child in job.create {
            effects.campaign.extend(self.create_replica(&child));
            self.coming.lock().remove(&child.descriptor.group);
        }
        if core.phase == Phase::Stopped {
            return self.unlock_and_finish(&cell, core, effects);
        }
        core.applied = job.slot;
        if core.phase == Phase::Installing {
            return self.unlock_and_finish(&cell, core, effects);
        }
        self.drive(&cell, &mut core, Input::Applied(job.slot), None, &mut effects);
        self.unlock_and_finish(&cell, core, effects);
    }

    /// Moves what is for later out of the outputs.
    fn collect(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        core: &mut Core,
        own: Option<RequestId>,
        effects: &mut Effects,
    ) {
        let Core { replica, outputs: out, waiters, is_leading, demand, .. } = core;
        for serve in out.serve.drain(..) {
            if Some(serve.id) == own {
                effects.reads.push((None, serve));
            } else if let Some(waiter) = waiters.remove(&serve.id) {
                effects.reads.push((Some(waiter), serve));
            }
        }
        for (id, answer) in out.replies.drain(..) {
            if Some(id) == own {
                effects.own.get_or_insert(answer);
            } else if let Some(waiter) = waiters.remove(&id) {
                effects.replies.push((waiter, answer));
            }
        }
        effects.recovery.extend(out.recovery.drain(..));
        if std::mem::take(&mut out.removed) {
            effects.removed = Some(replica.descriptor().generation);
        }
        effects.snapshot_to.extend(out.snapshot_to.drain(..));
        if !out.close_requests.is_empty() {
            let leader = replica.leader_hint().filter(|leader| *leader != self.node);
            let requests = out.close_requests.drain(..);
            effects.close.extend(requests.filter_map(|at| leader.map(|leader| (leader, at))));
        }
        if let Some(leading) = out.leading.take() {
            *is_leading = leading;
            *demand = Demand::new(self.clock.now().mono);
            self.note_leading(cell, leading);
        }
    }

    /// Does what a step left, in the order: reads, answers, hand-offs.
    fn unlock_and_finish(self: &Arc<Self>, cell: &Arc<Cell>, core: MutexGuard<'_, Core>, effects: Effects) {
        // Taken before the unlock, so that no snapshot replaces the data between the step and the read.
        let guard: Option<RwLockReadGuard<'_, ()>> = (!effects.reads.is_empty()).then(|| cell.data.read());
        drop(core);
        for (waiter, read) in effects.reads {
            let answer = self.read(cell, &read);
            let waiter = waiter.expect("the caller of a step has taken its own read");
            self.deliver(waiter, answer);
        }
        drop(guard);
        for (waiter, answer) in effects.replies {
            self.deliver(waiter, answer);
        }
        for work in effects.recovery {
            self.recover(cell.group, work);
        }
        for peer in effects.snapshot_to {
            self.start_snapshot(cell.group, peer);
        }
        for (leader, at) in effects.close {
            self.ask_to_close(leader, cell.group, at);
        }
        if let Some(generation) = effects.removed {
            self.remove_replica(cell, generation);
        }
        for child in effects.campaign {
            self.step(&child, Input::Campaign);
        }
    }

    fn read(self: &Arc<Self>, cell: &Cell, read: &Serve) -> Result<Response, ShardError> {
        let answer = meridian_shard::serve(&*self.data, read).map_err(|error| {
            self.data_failed(&error);
            ShardError::Unfit { reason: UnfitReason::Disk }
        })?;
        // The horizon may have risen since the read was let in, and what it needed be gone.
        let horizon = Timestamp::from_nanos(cell.horizon.load(Ordering::Acquire));
        if read.at < horizon {
            return Err(ShardError::BelowHorizon { at: read.at, horizon });
        }
        Ok(answer)
    }

    /// Tells a waiter. One that is gone does not mind.
    pub(crate) fn deliver(&self, waiter: Waiter, answer: Result<Response, ShardError>) {
        match waiter {
            Waiter::Local(sender) => drop(sender.send(answer.map_err(Into::into))),
            Waiter::Remote { peer, call } => {
                self.remote_calls.lock().remove(&(peer, call));
                self.send(peer, PeerMessage::Answer { id: call, result: answer });
            }
        }
    }

    /// Sends without regard to whether there is a connection: the protocols above repeat what matters.
    pub(crate) fn send(&self, to: NodeId, message: PeerMessage) {
        self.try_send(to, message);
    }

    /// As [`Inner::send`]; false where the message went nowhere.
    pub(crate) fn try_send(&self, to: NodeId, message: PeerMessage) -> bool {
        let sent = self.transport.send(to, message).is_ok();
        let counter = if sent { &self.counters.messages_sent } else { &self.counters.messages_dropped };
        counter.add(1);
        sent
    }

    pub(crate) fn send_all(&self, envelopes: impl Iterator<Item = Envelope>) {
        for envelope in envelopes {
            self.send(envelope.to, PeerMessage::Paxos(envelope));
        }
    }

    /// As [`Inner::disk_failed`], for the data engine: where it is damaged, the next start does without it.
    pub(crate) fn data_failed(self: &Arc<Self>, error: &StorageError) {
        if let StorageError::Corruption { detail } = error {
            tracing::error!(%error, "the data is damaged: start this node again, and it is rebuilt from the other replicas");
            if let Err(error) = damage::note(&*self.log, detail) {
                tracing::error!(%error, "the damage can't be noted");
            }
        }
        self.disk_failed(error);
    }

    /// The engine can't be written or read any more: no group votes or leads here until the process starts again. Done
    /// in the background, because the caller holds a replica's lock.
    pub(crate) fn disk_failed(self: &Arc<Self>, error: &StorageError) {
        if self.mark_disk_failed() {
            return;
        }
        tracing::error!(%error, "storage failed: this node stops voting and leading");
        let inner = self.clone();
        self.in_background("disk-failed".to_owned(), async move {
            for cell in inner.cells() {
                inner.step(&cell, Input::StorageFailed);
            }
        });
    }
}
