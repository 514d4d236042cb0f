//! Read-only transactions of the in-memory store.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use meridian_types::{Key, Timestamp, TxnId};
use parking_lot::Mutex;

use crate::memory::{Inner, State};
use crate::{KvError, KvTxn, KvWrite, Locking, ReadBound, Savepoint, ScanPage, ScanRequest};

/// A read-only transaction.
pub(super) struct MemorySnapshot {
    inner: Arc<Inner>,
    bound: ReadBound,
    /// Chosen at the first read.
    at: Mutex<Option<Timestamp>>,
}

impl MemorySnapshot {
    pub(super) fn new(inner: Arc<Inner>, bound: ReadBound) -> Self {
        MemorySnapshot { inner, bound, at: Mutex::new(None) }
    }

    fn read<T>(&self, read: impl FnOnce(&State, Timestamp) -> T) -> Result<T, KvError> {
        let mut at = self.at.lock();
        let mut state = self.inner.lock();
        let ts = match *at {
            Some(ts) => ts,
            None => *at.insert(state.choose(self.bound)?),
        };
        if ts < state.horizon {
            return Err(KvError::SnapshotTooOld { at: ts, horizon: state.horizon });
        }
        Ok(read(&state, ts))
    }
}

impl State {
    /// Commits are above every timestamp returned here, since `now` never hands out less than it did before and a
    /// commit takes more.
    fn choose(&mut self, bound: ReadBound) -> Result<Timestamp, KvError> {
        let now = self.now();
        match bound {
            ReadBound::Strong => Ok(now),
            ReadBound::At(at) if at > now => Err(KvError::InFuture { at }),
            ReadBound::At(at) => Ok(at),
            ReadBound::AtLeast(at) if at > now => Err(KvError::InFuture { at }),
            ReadBound::AtLeast(_) => Ok(now),
        }
    }
}

#[async_trait]
impl KvTxn for MemorySnapshot {
    fn id(&self) -> Option<TxnId> {
        None
    }

    fn read_timestamp(&self) -> Option<Timestamp> {
        *self.at.lock()
    }

    async fn get(&self, key: Key, _locking: Locking) -> Result<Option<Bytes>, KvError> {
        self.read(|state, at| state.read(&key, at))
    }

    async fn multi_get(&self, keys: Vec<Key>, _locking: Locking) -> Result<Vec<Option<Bytes>>, KvError> {
        self.read(|state, at| keys.iter().map(|key| state.read(key, at)).collect())
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, KvError> {
        if request.limit == 0 {
            return Ok(ScanPage { rows: Vec::new(), resume: Some(request.span).filter(|s| !s.is_empty()) });
        }
        self.read(|state, at| state.scan(&request.span, request.reverse, request.limit, at))
    }

    async fn write(&self, _writes: Vec<KvWrite>) -> Result<(), KvError> {
        Err(KvError::ReadOnly)
    }

    fn savepoint(&self) -> Savepoint {
        Savepoint(0)
    }

    async fn rollback_to(&self, _savepoint: Savepoint) -> Result<(), KvError> {
        Ok(())
    }

    fn limit_commit_timestamp(&self, _max: Timestamp) {}

    fn raise_commit_timestamp(&self, _min: Timestamp) {}

    async fn commit(&self) -> Result<Option<Timestamp>, KvError> {
        Ok(None)
    }

    async fn rollback(&self) {}
}
