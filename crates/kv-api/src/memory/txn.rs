//! Read-write transactions of the in-memory store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use meridian_types::{Key, Span, Timestamp, TxnId};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::memory::{Inner, State};
use crate::{
    KvError, KvTxn, KvWrite, LockWait, Locking, RetryReason, Savepoint, ScanPage, ScanRequest, WriteBuffer,
};

/// A read-write transaction. Dropping it releases its locks.
pub(super) struct MemoryTxn {
    inner: Arc<Inner>,
    id: TxnId,
    local: Mutex<Local>,
}

struct Local {
    buffer: WriteBuffer,
    min_commit: Timestamp,
    max_commit: Timestamp,
    lock_timeout: Option<Duration>,
    is_stopped: bool,
}

/// What an attempt to lock came to.
enum Attempt {
    Granted,
    /// An older transaction holds it.
    MustWait,
    /// Somebody holds it and the caller does not want to wait.
    Refused,
}

impl MemoryTxn {
    pub(super) fn new(inner: Arc<Inner>, id: TxnId) -> Self {
        let local = Local {
            buffer: WriteBuffer::new(),
            min_commit: Timestamp::ZERO,
            max_commit: Timestamp::MAX,
            lock_timeout: None,
            is_stopped: false,
        };
        MemoryTxn { inner, id, local: Mutex::new(local) }
    }

    /// Runs `step` until it does not have to wait.
    async fn until<T>(
        &self,
        mut step: impl FnMut(&mut State) -> Result<Option<T>, KvError>,
    ) -> Result<T, KvError> {
        let timeout = self.local.lock().lock_timeout;
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let released = self.inner.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            {
                let mut state = self.inner.lock();
                state.check_open(self.id)?;
                if let Some(done) = step(&mut state)? {
                    return Ok(done);
                }
            }
            if self.local.lock().is_stopped {
                return Err(KvError::Stopped);
            }
            // A step that waits may have wounded younger transactions first, whose waiters must learn of it.
            match deadline {
                None => released.await,
                Some(at) => {
                    tokio::time::timeout_at(at, released).await.map_err(|_| KvError::LockTimeout)?;
                }
            }
        }
    }

    /// Locks a point or a span; `None` means wait, `Some(false)` means that the row is to be left out.
    fn acquire(&self, state: &mut State, span: &Span, locking: Locking) -> Result<Option<bool>, KvError> {
        let (attempt, wounded) = state.try_lock(self.id, span, locking);
        if wounded {
            self.inner.released.notify_waiters();
        }
        match (attempt, locking.wait) {
            (Attempt::Granted, _) => Ok(Some(true)),
            (Attempt::MustWait, _) => Ok(None),
            (Attempt::Refused, LockWait::SkipLocked) => Ok(Some(false)),
            (Attempt::Refused, _) => Err(KvError::LockNotAvailable),
        }
    }

    async fn get_stored(&self, key: &Key, locking: Locking) -> Result<Option<Bytes>, KvError> {
        let span = Span::point(key);
        self.until(|state| {
            let granted = self.acquire(state, &span, locking)?;
            Ok(granted.map(|visible| if visible { state.read(key, Timestamp::MAX) } else { None }))
        })
        .await
    }

    /// Locks and reads a page. The locked part of the span ends with the page, so that nothing can appear inside it.
    fn scan_step(&self, state: &mut State, request: &ScanRequest) -> Result<Option<ScanPage>, KvError> {
        let mut page = state.scan(&request.span, request.reverse, request.limit, Timestamp::MAX);
        if request.locking.wait == LockWait::SkipLocked {
            let mut rows = Vec::with_capacity(page.rows.len());
            for (key, value) in page.rows {
                if self.acquire(state, &Span::point(&key), request.locking)? == Some(true) {
                    rows.push((key, value));
                }
            }
            page.rows = rows;
            return Ok(Some(page));
        }
        let read = match (&page.resume, request.reverse) {
            (None, _) => request.span.clone(),
            (Some(rest), false) => Span::new(request.span.start.clone(), Some(rest.start.clone())),
            (Some(rest), true) => {
                let from = rest.end.clone().expect("the rest of a descending scan has an end");
                Span::new(from, request.span.end.clone())
            }
        };
        Ok(self.acquire(state, &read, request.locking)?.map(|_| page))
    }

    fn commit_step(
        &self,
        state: &mut State,
        local: &mut Local,
    ) -> Result<Option<Option<Timestamp>>, KvError> {
        if local.buffer.is_empty() {
            state.open.remove(&self.id);
            return Ok(Some(None));
        }
        for (key, _) in local.buffer.iter() {
            if self.acquire(state, &Span::point(key), Locking::EXCLUSIVE)?.is_none() {
                return Ok(None);
            }
        }
        let failure = state.next_failure.take();
        if let Some(error) = failure.as_ref().filter(|e| **e != KvError::Ambiguous) {
            return Err(error.clone());
        }
        // Time goes on from there, since nobody waits here.
        let commit_ts = state.tick().max(local.min_commit);
        if commit_ts > local.max_commit {
            return Err(KvError::Retry { reason: RetryReason::NoTimestamp });
        }
        state.last = commit_ts;
        for (key, value) in local.buffer.iter() {
            let versions = state.data.entry(key.clone()).or_default();
            assert!(versions.last().is_none_or(|(ts, _)| *ts < commit_ts), "commit timestamps must ascend");
            versions.push((commit_ts, value.clone()));
        }
        state.open.remove(&self.id);
        failure.map_or(Ok(Some(Some(commit_ts))), Err)
    }

    fn end(&self) {
        self.inner.lock().open.remove(&self.id);
        self.inner.released.notify_waiters();
    }
}

impl State {
    fn check_open(&self, id: TxnId) -> Result<(), KvError> {
        match self.open.get(&id) {
            Some(open) if open.is_wounded => Err(KvError::Retry { reason: RetryReason::Wounded }),
            Some(_) => Ok(()),
            None => Err(KvError::Internal { detail: format!("transaction {id} was used after its end") }),
        }
    }

    /// Wound-wait: younger holders are wounded, older ones are waited for. The flag tells whether one was wounded.
    fn try_lock(&mut self, id: TxnId, span: &Span, locking: Locking) -> (Attempt, bool) {
        let holders = self
            .open
            .iter()
            .filter(|(other, open)| **other != id && open.locks.conflicts(span, locking.lock));
        let holders: Vec<TxnId> = holders.map(|(other, _)| *other).collect();
        if !holders.is_empty() && locking.wait != LockWait::Wait {
            return (Attempt::Refused, false);
        }
        let younger = holders.iter().filter(|other| id.is_older_than(other));
        let wounded = younger.map(|other| self.wound(*other)).count();
        if wounded < holders.len() {
            return (Attempt::MustWait, wounded > 0);
        }
        let open = self.open.get_mut(&id).expect("only open transactions lock");
        open.locks.add(span, locking.lock);
        (Attempt::Granted, wounded > 0)
    }
}

impl Drop for MemoryTxn {
    fn drop(&mut self) {
        self.end();
    }
}

#[async_trait]
impl KvTxn for MemoryTxn {
    fn id(&self) -> Option<TxnId> {
        Some(self.id)
    }

    fn read_timestamp(&self) -> Option<Timestamp> {
        None
    }

    async fn get(&self, key: Key, locking: Locking) -> Result<Option<Bytes>, KvError> {
        let written = self.local.lock().buffer.get(&key).cloned();
        match written {
            // A locking read of an own write still locks: FOR UPDATE NOWAIT must notice who else holds the row.
            Some(value) if locking == Locking::SHARED => Ok(value),
            written => {
                let stored = self.get_stored(&key, locking).await?;
                Ok(written.unwrap_or(stored))
            }
        }
    }

    async fn multi_get(&self, keys: Vec<Key>, locking: Locking) -> Result<Vec<Option<Bytes>>, KvError> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key, locking).await?);
        }
        Ok(values)
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, KvError> {
        if request.span.is_empty() || request.limit == 0 {
            let resume = (!request.span.is_empty()).then(|| request.span.clone());
            return Ok(ScanPage { rows: Vec::new(), resume });
        }
        let page = self.until(|state| self.scan_step(state, &request)).await?;
        Ok(self.local.lock().buffer.overlay(page, &request.span, request.reverse, request.limit))
    }

    async fn write(&self, writes: Vec<KvWrite>) -> Result<(), KvError> {
        let mut local = self.local.lock();
        local.buffer.write(writes)?;
        let bytes = local.buffer.bytes() as u64;
        let mut state = self.inner.lock();
        state.check_open(self.id)?;
        state.open.get_mut(&self.id).expect("it was checked to be open").buffered_bytes = bytes;
        Ok(())
    }

    fn savepoint(&self) -> Savepoint {
        self.local.lock().buffer.savepoint()
    }

    async fn rollback_to(&self, savepoint: Savepoint) -> Result<(), KvError> {
        self.local.lock().buffer.rollback_to(savepoint);
        Ok(())
    }

    fn limit_commit_timestamp(&self, max: Timestamp) {
        let mut local = self.local.lock();
        local.max_commit = local.max_commit.min(max);
    }

    fn raise_commit_timestamp(&self, min: Timestamp) {
        let mut local = self.local.lock();
        local.min_commit = local.min_commit.max(min);
    }

    fn set_lock_timeout(&self, timeout: Option<Duration>) {
        self.local.lock().lock_timeout = timeout;
    }

    fn limit_bytes(&self, max: usize) {
        self.local.lock().buffer.limit_bytes(max);
    }

    fn stop_commit(&self) {
        self.local.lock().is_stopped = true;
        self.inner.released.notify_waiters();
    }

    fn written_bytes(&self) -> usize {
        self.local.lock().buffer.bytes()
    }

    async fn commit(&self) -> Result<Option<Timestamp>, KvError> {
        let result = self.until(|state| self.commit_step(state, &mut self.local.lock())).await;
        // A failed commit ends the transaction too: nobody should wait for locks of which nothing will come.
        self.end();
        result
    }

    async fn rollback(&self) {
        self.end();
    }

    async fn rollback_confirmed(&self) -> Result<(), KvError> {
        let failure = self.inner.lock().next_confirmation.take();
        self.end();
        failure.map_or(Ok(()), Err)
    }
}
