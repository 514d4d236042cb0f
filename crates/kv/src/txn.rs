//! Read-write transactions: locking reads, the write buffer laid over them, and what each shard said.
//!
//! ```text
//!   open --Retry from any shard--> dead --rollback, drop--> ended
//!     |                             ^                         ^
//!     +--big writes sent ahead--> sent -----------------------+
//!     |                                                       |
//!     +--commit (see `commit`) / rollback / drop--------------+
//! ```
//! A shard is noted before it is asked, not when it answers: if the caller stops waiting, the shard may still lock,
//! and then has to be told of the end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use meridian_kv_api::{
    KvError, KvTxn, KvWrite, LockWait, Locking, ReadLock, ReadWriteOptions, RetryReason, Savepoint, ScanPage,
    ScanRequest, WriteBuffer,
};
use meridian_rpc::CallError;
use meridian_shard::{
    LockMode, ReadMode, ReadOp, ReadResult, Registration, Request, Response, TxnRef, WaitPolicy,
};
use meridian_types::{GroupId, Key, Timestamp, TxnId};
use parking_lot::MutexGuard;
use smallvec::SmallVec;

use crate::call::{Failure, Resend, Tries, error_of, is_final, unexpected};
use crate::commit::{Bounds, Sent};
use crate::gateway::Core;
use crate::heartbeat::LiveTxn;
use crate::limits::CHUNK_BYTES;
use crate::patience::Patience;
use crate::read::{self, Reader, value_of};
use crate::router::Shard;

/// A shard that was asked for a lock.
#[derive(Clone, Debug)]
pub(crate) struct Touched {
    pub(crate) shard: Arc<Shard>,
    /// What it answered; `None` until then. Without an answer nothing was read there.
    pub(crate) registration: Option<Registration>,
}

/// Where a transaction is in its life.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// Its writes are on their way to the shards, or there.
    Sent,
    /// It must be tried again (or never had an id); every call answers this.
    Dead(KvError),
    Ended,
}

/// The mutable part of a transaction.
///
/// Invariant: `touched` has one entry per group.
pub(crate) struct TxnState {
    pub(crate) buffer: WriteBuffer,
    pub(crate) touched: SmallVec<[Touched; 2]>,
    pub(crate) bounds: Bounds,
    /// What was sent ahead of the commit.
    sent: Option<Sent>,
    lock_timeout: Option<Duration>,
    phase: Phase,
    is_listed: bool,
}

impl TxnState {
    pub(crate) fn buffered_bytes(&self) -> u64 {
        self.buffer.bytes() as u64
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.touched.iter().map(|touched| &touched.shard)
    }

    fn check_open(&self) -> Result<(), KvError> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Dead(error) => Err(error.clone()),
            Phase::Sent | Phase::Ended => {
                Err(KvError::Internal { detail: "a transaction was used after its end".into() })
            }
        }
    }

    /// Notes that a shard is asked, and answers what it said earlier.
    fn touch(&mut self, shard: &Arc<Shard>) -> Option<Registration> {
        match self.touched.iter().find(|touched| touched.shard.group() == shard.group()) {
            Some(touched) => touched.registration,
            None => {
                self.touched.push(Touched { shard: Arc::clone(shard), registration: None });
                None
            }
        }
    }

    /// Notes a shard's registration. One that differs from an earlier one means that the locks taken under the
    /// earlier one are gone, and with them the stability of everything read there.
    pub(crate) fn register(&mut self, group: GroupId, registration: Registration) -> Result<(), KvError> {
        let touched = self.touched.iter_mut().find(|touched| touched.shard.group() == group);
        let touched = touched.expect("a shard is noted before it is asked");
        match touched.registration {
            Some(known) if known != registration => {
                let error = KvError::Retry { reason: RetryReason::LocksLost };
                self.phase = Phase::Dead(error.clone());
                Err(error)
            }
            _ => {
                touched.registration = Some(registration);
                Ok(())
            }
        }
    }
}

/// A read-write transaction.
pub(crate) struct Txn {
    core: Arc<Core>,
    /// `None` where the node never knew the time; such a transaction is born dead.
    id: Option<TxnId>,
    live: Arc<LiveTxn>,
}

impl Txn {
    pub(crate) fn begin(core: Arc<Core>, options: ReadWriteOptions) -> Self {
        let id = core.next_id(options.retry_of);
        let unborn = || KvError::Unavailable { detail: "the node can't bound its clock".into() };
        let state = TxnState {
            buffer: WriteBuffer::new(),
            touched: SmallVec::new(),
            bounds: Bounds::NONE,
            sent: None,
            lock_timeout: None,
            phase: if id.is_some() { Phase::Open } else { Phase::Dead(unborn()) },
            is_listed: false,
        };
        Txn { core, id, live: LiveTxn::new(state) }
    }

    fn open_id(&self) -> TxnId {
        self.id.expect("a transaction without an id is never open")
    }

    /// The state of an open transaction. The first use lists it for heartbeats and status pages.
    fn open(&self) -> Result<MutexGuard<'_, TxnState>, KvError> {
        let mut state = self.live.state.lock();
        state.check_open()?;
        if !state.is_listed {
            state.is_listed = true;
            drop(state);
            self.core.live.add(self.open_id(), Arc::clone(&self.live));
            state = self.live.state.lock();
            state.check_open()?;
        }
        Ok(state)
    }

    fn mode(&self, locking: Locking, registration: Option<Registration>) -> ReadMode {
        let mode = match locking.lock {
            ReadLock::Shared => LockMode::Shared,
            ReadLock::Exclusive => LockMode::Exclusive,
        };
        let wait = match locking.wait {
            LockWait::Wait => WaitPolicy::Wait,
            LockWait::NoWait => WaitPolicy::NoWait,
            LockWait::SkipLocked => WaitPolicy::SkipLocked,
        };
        ReadMode::Locking { txn: TxnRef { id: self.open_id(), registration }, mode, wait }
    }

    /// What bounds the waits of a read.
    fn patience(&self, state: &TxnState) -> Patience {
        let locks = state.lock_timeout.map(|timeout| (self.open_id(), timeout));
        Patience { locks, commit: None }
    }

    /// What bounds the waits of a commit.
    fn commit_patience(&self, state: &TxnState) -> Patience {
        Patience { commit: Some(Arc::clone(&self.live)), ..self.patience(state) }
    }

    /// A commit that nobody wanted any more, and that did not take effect, does not ask for another attempt.
    fn unless_stopped<T>(&self, result: Result<T, KvError>) -> Result<T, KvError> {
        match result {
            Err(KvError::Retry { .. }) if self.live.stop.is_said() => Err(KvError::Stopped),
            result => result,
        }
    }

    /// Takes in an answer to a locking read.
    fn accept(&self, shard: &Shard, response: Response) -> Result<Vec<ReadResult>, KvError> {
        match response {
            Response::Read { results, registration: Some(registration), .. } => {
                self.live.state.lock().register(shard.group(), registration)?;
                Ok(results)
            }
            other => Err(unexpected("a locking read", &other)),
        }
    }

    /// Remembers an error after which the transaction is of no use.
    fn note<T>(&self, result: Result<T, KvError>) -> Result<T, KvError> {
        if let Err(error @ KvError::Retry { .. }) = &result {
            let mut state = self.live.state.lock();
            if state.phase == Phase::Open {
                state.phase = Phase::Dead(error.clone());
            }
        }
        result
    }

    /// Reads a key from its leader if both are cached: no future is boxed, no task is switched, and nothing is
    /// allocated but the request. `None` where that did not work, for whatever reason.
    async fn get_quickly(&self, key: &Key, locking: Locking) -> Option<Result<Option<Bytes>, KvError>> {
        let shard = self.core.router.shard(key)?;
        let node = shard.leader()?;
        let (registration, patience) = match self.open() {
            Ok(mut state) => (state.touch(&shard), self.patience(&state)),
            Err(error) => return Some(Err(error)),
        };
        let mode = self.mode(locking, registration);
        let request = Request::Read { mode, ops: vec![ReadOp::Get(key.clone())] };
        let answer = self.core.call(node, shard.group(), request, &patience).await;
        let response = match answer.expect("nothing stops a read but its caller") {
            Ok(response) => response,
            Err(CallError::Shard(error)) if is_final(&error) => return Some(Err(error_of(error))),
            Err(_) => return None,
        };
        let value = self.accept(&shard, response).and_then(|mut results| match results.pop() {
            Some(result) if results.is_empty() => value_of(result),
            other => Err(unexpected("Get", &other)),
        });
        Some(value)
    }

    async fn get_stored(&self, key: Key, locking: Locking) -> Result<Option<Bytes>, KvError> {
        if let Some(result) = self.get_quickly(&key, locking).await {
            return self.note(result);
        }
        let keys = [key];
        let values = Box::pin(read::points(&LockingReader { txn: self, locking }, &keys)).await;
        self.note(values.map(|mut values| values.pop().expect("one key has one value")))
    }

    /// What the transaction itself wrote to a key, where that alone answers a read. A locking read that does not wait
    /// has to ask the shard all the same, to learn of others.
    fn own_write(&self, key: &Key, locking: Locking) -> Result<Option<Option<Bytes>>, KvError> {
        let state = self.live.state.lock();
        state.check_open()?;
        if locking.wait != LockWait::Wait {
            return Ok(None);
        }
        Ok(state.buffer.get(key).cloned())
    }

    /// Tells all shards that the transaction is over. Answers are not waited for: locks of which a shard does not
    /// learn expire, and this is sent on the same connections as everything before it.
    fn abandon(&self) {
        let touched = {
            let mut state = self.live.state.lock();
            if state.phase == Phase::Ended {
                return;
            }
            state.phase = Phase::Ended;
            state.buffer = WriteBuffer::new();
            state.sent = None;
            std::mem::take(&mut state.touched)
        };
        self.unlist();
        if let Some(id) = self.id {
            self.core.roll_back(id, touched);
        }
    }

    fn unlist(&self) {
        if std::mem::take(&mut self.live.state.lock().is_listed) {
            self.core.live.remove(self.open_id());
        }
    }
}

impl Core {
    /// Sends `Rollback` to shards without waiting.
    pub(crate) fn roll_back(&self, id: TxnId, touched: impl IntoIterator<Item = Touched>) {
        for Touched { shard, .. } in touched {
            drop(self.client.call(self.leader_or_guess(&shard), shard.group(), Request::Rollback { id }));
        }
    }
}

/// A transaction together with how one of its reads locks.
struct LockingReader<'a> {
    txn: &'a Txn,
    locking: Locking,
}

impl Reader for LockingReader<'_> {
    fn core(&self) -> &Core {
        &self.txn.core
    }

    fn before_round(&self, _is_one_shard: bool) -> Result<(), KvError> {
        Ok(())
    }

    async fn read_shard(
        &self,
        shard: &Arc<Shard>,
        ops: Vec<ReadOp>,
        _is_point: bool,
        tries: &mut Tries,
    ) -> Result<Vec<ReadResult>, Failure> {
        let registration = {
            let mut state = self.txn.open().map_err(Failure::GaveUp)?;
            tries.patience = self.txn.patience(&state);
            state.touch(shard)
        };
        let mode = self.txn.mode(self.locking, registration);
        // Locking again under the same registration is the same as locking once.
        let make = || Request::Read { mode, ops: ops.clone() };
        let response = self.txn.core.ask(shard, tries, Resend::Always, &make).await?;
        self.txn.accept(shard, response).map_err(Failure::GaveUp)
    }
}

impl Drop for Txn {
    fn drop(&mut self) {
        self.abandon();
        // A commit that nobody waited for to the end has left it listed.
        self.unlist();
    }
}

#[async_trait]
impl KvTxn for Txn {
    fn id(&self) -> Option<TxnId> {
        self.id
    }

    fn read_timestamp(&self) -> Option<Timestamp> {
        None
    }

    async fn get(&self, key: Key, locking: Locking) -> Result<Option<Bytes>, KvError> {
        if let Some(value) = self.own_write(&key, locking)? {
            return Ok(value);
        }
        if locking.wait == LockWait::Wait {
            return self.get_stored(key, locking).await;
        }
        let stored = self.get_stored(key.clone(), locking).await?;
        Ok(self.live.state.lock().buffer.get(&key).cloned().unwrap_or(stored))
    }

    async fn multi_get(&self, keys: Vec<Key>, locking: Locking) -> Result<Vec<Option<Bytes>>, KvError> {
        let mut values = vec![None; keys.len()];
        let mut positions = Vec::new();
        let mut stored = Vec::new();
        for (i, key) in keys.into_iter().enumerate() {
            match self.own_write(&key, locking)? {
                Some(value) => values[i] = value,
                None => {
                    positions.push(i);
                    stored.push(key);
                }
            }
        }
        if stored.is_empty() {
            return Ok(values);
        }
        let read = self.note(read::points(&LockingReader { txn: self, locking }, &stored).await)?;
        let state = self.live.state.lock();
        for ((i, key), value) in positions.into_iter().zip(&stored).zip(read) {
            values[i] = state.buffer.get(key).cloned().unwrap_or(value);
        }
        Ok(values)
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, KvError> {
        let reader = LockingReader { txn: self, locking: request.locking };
        let page = self.note(read::page(&reader, &request).await)?;
        let state = self.live.state.lock();
        Ok(state.buffer.overlay(page, &request.span, request.reverse, request.limit))
    }

    async fn write(&self, writes: Vec<KvWrite>) -> Result<(), KvError> {
        self.open()?.buffer.write(writes)
    }

    fn savepoint(&self) -> Savepoint {
        self.live.state.lock().buffer.savepoint()
    }

    async fn rollback_to(&self, savepoint: Savepoint) -> Result<(), KvError> {
        self.open()?.buffer.rollback_to(savepoint);
        Ok(())
    }

    fn limit_commit_timestamp(&self, max: Timestamp) {
        let mut state = self.live.state.lock();
        state.bounds.max = state.bounds.max.min(max);
    }

    fn raise_commit_timestamp(&self, min: Timestamp) {
        let mut state = self.live.state.lock();
        state.bounds.min = state.bounds.min.max(min);
    }

    fn set_lock_timeout(&self, timeout: Option<Duration>) {
        self.live.state.lock().lock_timeout = timeout;
    }

    fn limit_bytes(&self, max: usize) {
        self.live.state.lock().buffer.limit_bytes(max);
    }

    fn stop_commit(&self) {
        self.live.stop.say();
    }

    fn written_bytes(&self) -> usize {
        self.live.state.lock().buffer.bytes()
    }

    async fn send_ahead(&self) -> Result<(), KvError> {
        let (buffer, touched, patience) = {
            let mut state = self.open()?;
            if state.buffer.bytes() <= CHUNK_BYTES {
                return Ok(());
            }
            state.phase = Phase::Sent;
            (std::mem::take(&mut state.buffer), state.touched.clone(), self.patience(&state))
        };
        let sent = self.core.send_ahead(self.open_id(), buffer, touched, &patience).await;
        let mut state = self.live.state.lock();
        match sent {
            Ok(sent) => {
                state.sent = Some(sent);
                Ok(())
            }
            Err(error) => {
                state.phase = Phase::Dead(error.clone());
                Err(error)
            }
        }
    }

    async fn commit(&self) -> Result<Option<Timestamp>, KvError> {
        let sent = {
            let mut state = self.live.state.lock();
            let sent = state.sent.take();
            if sent.is_some() {
                state.phase = Phase::Ended;
            }
            sent.map(|sent| (sent, state.bounds, self.commit_patience(&state)))
        };
        if let Some((sent, bounds, patience)) = sent {
            let result = self.core.commit_sent(self.open_id(), sent, bounds, &patience).await;
            self.unlist();
            return self.unless_stopped(result).map(Some);
        }
        let (buffer, touched, bounds, patience) = {
            let mut state = self.live.state.lock();
            state.check_open()?;
            state.phase = Phase::Ended;
            // The shards stay in the state until the outcome is known, so that heartbeats go on.
            let patience = self.commit_patience(&state);
            (std::mem::take(&mut state.buffer), state.touched.clone(), state.bounds, patience)
        };
        if buffer.is_empty() && touched.is_empty() {
            self.unlist();
            return Ok(None);
        }
        let result = self.core.commit(self.open_id(), buffer, touched, bounds, &patience).await;
        self.unlist();
        self.unless_stopped(result)
    }

    async fn rollback(&self) {
        self.abandon();
    }

    async fn rollback_confirmed(&self) -> Result<(), KvError> {
        let (touched, patience) = {
            let mut state = self.live.state.lock();
            match &state.phase {
                Phase::Open => {}
                Phase::Dead(error) => return Err(error.clone()),
                // It has said already how it ends.
                Phase::Sent | Phase::Ended => return Ok(()),
            }
            state.phase = Phase::Ended;
            state.buffer = WriteBuffer::new();
            (state.touched.clone(), self.commit_patience(&state))
        };
        let ended = match touched.is_empty() {
            true => Ok(None),
            false => {
                let nothing = WriteBuffer::new();
                self.core.commit(self.open_id(), nothing, touched, Bounds::NONE, &patience).await
            }
        };
        self.unlist();
        self.unless_stopped(ended.map(|_| ()))
    }
}
