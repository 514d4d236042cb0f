//! A store in memory for tests of SQL alone: one node, one multi-version map, no replication.
//!
//! It promises what the real store promises (strict serializability, snapshots at any timestamp, wound-wait), by
//! much simpler means: one mutex makes every step atomic, every lock is an interval in its owner's lock set, and a
//! transaction that must wait sleeps until any other one ends or is wounded.
//!
//! ```text
//!   begin --read--> locks in `State::open` --commit--> versions in `State::data`, locks gone
//!                        |  an older transaction conflicts
//!                        v
//!                     wounded: locks gone, every later call answers `Retry`
//! ```
//! Invariants: commit timestamps ascend, and each is above every timestamp at which a snapshot was read before; the
//! exclusive locks of two open transactions never overlap, nor does an exclusive one with a shared one.
//!
//! It does not know of shards: `split_at` only remembers where somebody split. Faults are injected with
//! [`MemoryKv::fail_next_commit`] and [`MemoryKv::wound`].

mod cluster;
mod locks;
mod snapshot;
#[cfg(test)]
mod tests;
mod txn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use meridian_types::{Duration, Key, NodeId, Span, Timestamp, TtInterval, TxnId, limits};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::memory::locks::LockSet;
use crate::memory::snapshot::MemorySnapshot;
use crate::memory::txn::MemoryTxn;
use crate::{Kv, KvError, KvTxn, KvWrite, ReadOnlyOptions, ReadWriteOptions, RetryReason, ScanPage};

/// The only node.
const NODE: NodeId = NodeId::new(1);

/// Where the time of a [`MemoryKv`] comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryClock {
    /// The clock of the machine.
    System,
    /// Stands still until [`MemoryKv::advance`]; every commit moves it by a nanosecond.
    Manual,
}

/// The in-memory store. Clones share one store.
#[derive(Clone, Debug)]
pub struct MemoryKv {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Wakes everybody who waits for a lock, whenever one was released.
    released: Notify,
}

/// A transaction that has begun and has not ended.
#[derive(Debug, Default)]
struct Open {
    locks: LockSet,
    is_wounded: bool,
    buffered_bytes: u64,
}

#[derive(Debug)]
struct State {
    /// Versions in ascending order of timestamp; `None` is a deletion.
    data: BTreeMap<Key, Vec<(Timestamp, Option<Bytes>)>>,
    clock: MemoryClock,
    /// The greatest timestamp handed out or read at.
    last: Timestamp,
    horizon: Timestamp,
    seq: u64,
    open: BTreeMap<TxnId, Open>,
    splits: BTreeSet<Key>,
    counters: BTreeMap<String, u64>,
    next_failure: Option<KvError>,
    next_confirmation: Option<KvError>,
    page_rows: usize,
}

impl Default for MemoryKv {
    fn default() -> Self {
        MemoryKv::new()
    }
}

impl MemoryKv {
    /// An empty store on the clock of the machine.
    pub fn new() -> Self {
        MemoryKv::with_clock(MemoryClock::System, Timestamp::ZERO)
    }

    /// An empty store whose time starts at `start` and moves only by [`MemoryKv::advance`] and by commits.
    pub fn manual(start: Timestamp) -> Self {
        MemoryKv::with_clock(MemoryClock::Manual, start)
    }

    fn with_clock(clock: MemoryClock, last: Timestamp) -> Self {
        let state = State {
            data: BTreeMap::new(),
            clock,
            last,
            horizon: Timestamp::ZERO,
            seq: 0,
            open: BTreeMap::new(),
            splits: BTreeSet::new(),
            counters: BTreeMap::new(),
            next_failure: None,
            next_confirmation: None,
            page_rows: limits::SCAN_PAGE_ROWS,
        };
        MemoryKv { inner: Arc::new(Inner { state: Mutex::new(state), released: Notify::new() }) }
    }

    /// Moves time forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.inner.state.lock();
        state.last = state.now() + by;
    }

    /// Pages of scans have at most this many rows from here on, so that small tests see paging.
    pub fn set_page_rows(&self, rows: usize) {
        assert!(rows > 0, "a page without rows would never end a scan");
        self.inner.state.lock().page_rows = rows;
    }

    /// Snapshots below `horizon` are refused from here on.
    pub fn set_horizon(&self, horizon: Timestamp) {
        self.inner.state.lock().horizon = horizon;
    }

    /// The next commit of a transaction that wrote fails with `error`. Under [`KvError::Ambiguous`] it takes effect
    /// all the same, since that is the harder case for whoever has to cope with it.
    pub fn fail_next_commit(&self, error: KvError) {
        self.inner.state.lock().next_failure = Some(error);
    }

    /// The next [rollback that asks](crate::KvTxn::rollback_confirmed) whether what was read stands fails with `error`.
    pub fn fail_next_confirmation(&self, error: KvError) {
        self.inner.state.lock().next_confirmation = Some(error);
    }

    /// Wounds an open transaction, as an older one would do. False when it is not open.
    pub fn wound(&self, id: TxnId) -> bool {
        let is_open = self.inner.state.lock().wound(id);
        self.inner.released.notify_waiters();
        is_open
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// The time; it never goes back.
    fn now(&mut self) -> Timestamp {
        if self.clock == MemoryClock::System {
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.last = self.last.max(Timestamp::ZERO + Duration::from(since_epoch));
        }
        self.last
    }

    /// A timestamp above all that were handed out or read at.
    fn tick(&mut self) -> Timestamp {
        let next = self.now().next();
        assert!(next > self.last, "the clock has reached the end of time");
        self.last = next;
        next
    }

    fn wound(&mut self, id: TxnId) -> bool {
        let Some(open) = self.open.get_mut(&id) else { return false };
        open.is_wounded = true;
        open.locks = LockSet::default();
        true
    }

    fn read(&self, key: &Key, at: Timestamp) -> Option<Bytes> {
        version_at(self.data.get(key)?, at)
    }

    /// A page of live rows at a timestamp.
    fn scan(&self, span: &Span, reverse: bool, limit: usize, at: Timestamp) -> ScanPage {
        if span.is_empty() {
            return ScanPage::default();
        }
        let limit = limit.clamp(1, self.page_rows);
        let from = self.data.range::<Key, _>(&span.start..);
        let inside = from.take_while(|(k, _)| span.contains(k.as_bytes()));
        if reverse {
            let end = span.end.as_ref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let range = self.data.range::<Key, _>((std::ops::Bound::Included(&span.start), end));
            page(range.rev(), span, limit, at, |last| Span::new(span.start.clone(), Some(last.clone())))
        } else {
            page(inside, span, limit, at, |last| Span::new(last.next(), span.end.clone()))
        }
    }
}

type Versions = Vec<(Timestamp, Option<Bytes>)>;

fn version_at(versions: &Versions, at: Timestamp) -> Option<Bytes> {
    let visible = versions.partition_point(|(ts, _)| *ts <= at);
    versions[..visible].last().and_then(|(_, value)| value.clone())
}

fn page<'a>(
    entries: impl Iterator<Item = (&'a Key, &'a Versions)>,
    span: &Span,
    limit: usize,
    at: Timestamp,
    rest_after: impl Fn(&Key) -> Span,
) -> ScanPage {
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut live = entries.filter_map(|(k, versions)| version_at(versions, at).map(|v| (k.clone(), v)));
    for (key, value) in live.by_ref() {
        assert!(span.contains(key.as_bytes()), "a scan left its span");
        bytes += key.as_bytes().len() + value.len();
        rows.push((key, value));
        if rows.len() >= limit || bytes >= limits::SCAN_PAGE_BYTES {
            break;
        }
    }
    let resume = match (rows.last(), live.next()) {
        (Some((last, _)), Some(_)) => Some(rest_after(last)),
        _ => None,
    };
    ScanPage { rows, resume }
}

#[async_trait]
impl Kv for MemoryKv {
    fn now(&self) -> Result<TtInterval, KvError> {
        Ok(TtInterval::exact(self.inner.lock().now()))
    }

    fn begin(&self, options: ReadWriteOptions) -> Box<dyn KvTxn> {
        let mut state = self.inner.lock();
        state.seq += 1;
        let first_start = options.retry_of.map_or_else(|| state.now(), |earlier| earlier.first_start);
        let id = TxnId { first_start, node: NODE, seq: state.seq };
        state.open.insert(id, Open::default());
        Box::new(MemoryTxn::new(Arc::clone(&self.inner), id))
    }

    fn begin_read_only(&self, options: ReadOnlyOptions) -> Box<dyn KvTxn> {
        Box::new(MemorySnapshot::new(Arc::clone(&self.inner), options.bound))
    }

    async fn fill(
        &self,
        at: Timestamp,
        until: Timestamp,
        writes: Vec<KvWrite>,
    ) -> Result<Timestamp, KvError> {
        let mut state = self.inner.lock();
        let now = state.now();
        if now > until {
            return Err(KvError::Retry { reason: RetryReason::NoTimestamp });
        }
        if at > now {
            return Err(KvError::InFuture { at });
        }
        for KvWrite { key, value } in writes {
            let versions = state.data.entry(key).or_default();
            match versions.binary_search_by_key(&at, |(ts, _)| *ts) {
                Ok(same) => versions[same].1 = value,
                Err(place) => versions.insert(place, (at, value)),
            }
        }
        Ok(at)
    }
}
