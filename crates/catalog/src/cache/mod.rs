//! The catalog as one node plans on it, kept fresh: what [`SchemaLease`] decides, with the reading and the waiting.
//!
//! ```text
//!   refresh (every third of a lease, or when told) --store--> SchemaLease --guards, permits--> sessions
//! ```
//! The cache does not know who changes the catalog, nor how nodes hear of it. Source: docs/decisions/0014, Spanner
//! (OSDI 2012) section 4.2.3, and "Online, Asynchronous Schema Change in F1" (VLDB 2013), section 3.

mod lease;
#[cfg(test)]
mod tests;
mod version;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_kv_api::{Kv, KvError, Locking, ReadBound, ReadOnlyOptions};
use meridian_types::{Duration, Key, Timestamp, TtInterval};
use parking_lot::Mutex;

use crate::ids::TableId;
use crate::snapshot::CatalogSnapshot;
use crate::store::{CatalogError, CatalogStore};
pub use lease::{CatalogGuard, Look, SchemaLease};
pub use version::CommitPermit;

/// How long [`CatalogCache::acquire`] waits for a refresh. Longer than a change of leadership of the catalog's shard
/// takes (one lease of 3 s and a round trip), shorter than clients' usual patience.
const ACQUIRE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// It looks again after this long, where a look has not helped.
const ACQUIRE_PAUSE: std::time::Duration = std::time::Duration::from_millis(1);
/// Snapshots of the past that are kept: a session reads at one, and reports step through a few.
const HISTORY: usize = 4;
/// Refreshes per lease, so that two may fail before statements wait. A commit begins with at least one such part of a
/// lease, where that can be had.
const REFRESHES_PER_LEASE: u64 = 3;

/// What a node may plan by: a record in the store, which is written before the first lease.
#[derive(Clone, Debug)]
pub struct Licence {
    /// Its key.
    pub record: Key,
    /// Whether the stored record allows another lease.
    pub allows: fn(Option<&[u8]>) -> bool,
}

/// A node's catalog.
pub struct CatalogCache {
    kv: Arc<dyn Kv>,
    lease: Duration,
    licence: Option<Licence>,
    state: Mutex<SchemaLease>,
    /// Snapshots of the past, latest use first.
    history: Mutex<VecDeque<Arc<CatalogSnapshot>>>,
    /// The version that is current, for a cheap look.
    version: AtomicU64,
    /// Makes refreshes serial, so that a slow one can't bring back what a later one has replaced.
    refreshing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for CatalogCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatalogCache").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl CatalogCache {
    /// A cache that knows nothing until its first refresh, which the first [`CatalogCache::acquire`] waits for.
    pub fn new(kv: Arc<dyn Kv>, lease: Duration) -> Self {
        CatalogCache {
            kv,
            lease,
            licence: None,
            state: Mutex::default(),
            history: Mutex::default(),
            version: AtomicU64::new(0),
            refreshing: tokio::sync::Mutex::new(()),
        }
    }

    /// The same, for a node that plans under a licence.
    #[must_use]
    pub fn under(self, licence: Licence) -> Self {
        CatalogCache { licence: Some(licence), ..self }
    }

    /// The version that is planned on; 0 before the first refresh.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The snapshot that was current last, leased or not: for what may be stale (completion, logs).
    pub fn latest(&self) -> Arc<CatalogSnapshot> {
        Arc::clone(self.state.lock().current())
    }

    /// The current version, when it may be planned on at this moment.
    pub fn try_acquire(&self) -> Result<Option<CatalogGuard>, KvError> {
        let now = self.kv.now()?;
        let mut state = self.state.lock();
        let usable = state.usable(now);
        self.note_version(&state);
        Ok(usable)
    }

    fn note_version(&self, state: &SchemaLease) {
        self.version.store(state.current().version(), Ordering::Release);
    }

    /// The current version, for one transaction.
    ///
    /// # Errors
    /// [`KvError::Unavailable`] when the lease has run out and the catalog cannot be read in time, or the node has left.
    pub async fn acquire(&self) -> Result<CatalogGuard, KvError> {
        if let Some(guard) = self.try_acquire()? {
            return Ok(guard);
        }
        let wait = async {
            loop {
                let pause = self.state.lock().until_activation(self.kv.now()?);
                match pause {
                    Some(pause) => tokio::time::sleep(pause.into()).await,
                    None => {
                        self.refresh_unless(|now, state| state.usable(now).is_some()).await?;
                    }
                }
                if let Some(guard) = self.try_acquire()? {
                    return Ok(guard);
                }
                if self.state.lock().has_left() {
                    let detail = "this node was decommissioned and plans nothing any more".to_owned();
                    return Err(CatalogError::Kv(KvError::Unavailable { detail }));
                }
                tokio::time::sleep(ACQUIRE_PAUSE).await;
            }
        };
        match tokio::time::timeout(ACQUIRE_TIMEOUT, wait).await {
            Ok(outcome) => outcome.map_err(kv_error),
            Err(_) => {
                Err(KvError::Unavailable { detail: "the catalog could not be read in time".to_owned() })
            }
        }
    }

    /// The current version in the place of an older one, for a transaction that has used nothing but these tables so far;
    /// `None` where one of them is another now, or the current version may not be planned on at this moment.
    pub fn advance(&self, guard: &CatalogGuard, used: &[TableId]) -> Option<CatalogGuard> {
        let now = self.kv.now().ok()?;
        let mut state = self.state.lock();
        let newest = state.advance(guard, used, now);
        self.note_version(&state);
        newest
    }

    /// Begins a commit of a transaction that was planned on a version and has used these tables. The permit's bound is as
    /// far as the tables stay as they were. Where that has passed already, the transaction has to be planned again:
    /// `None`.
    ///
    /// On a node so loaded that its refreshes come late, little may be left of the lease. A commit that would have to
    /// happen within that waits for a refresh first: it must not fail because the node is slow.
    pub async fn commit_permit(
        &self,
        guard: &CatalogGuard,
        used: &[TableId],
    ) -> Result<Option<CommitPermit>, KvError> {
        let enough = Duration::from_nanos(self.lease.as_nanos() / REFRESHES_PER_LEASE);
        if let Some(permit) = self.try_permit(guard, used)? {
            let now = self.kv.now()?.latest();
            let is_fenced = permit.is_fenced();
            if is_fenced || permit.limit() >= now + enough {
                return Ok(Some(permit));
            }
            // Half of what is left is for the commit itself, should the catalog not be readable.
            let patience = Duration::from_nanos(permit.limit().since(now).as_nanos() / 2);
            permit.end();
            let is_long =
                |now: TtInterval, state: &mut SchemaLease| state.newest_limit() >= now.latest() + enough;
            let refreshed = tokio::time::timeout(patience.into(), self.refresh_unless(is_long)).await;
            if !matches!(refreshed, Ok(Ok(()))) {
                tracing::debug!("a commit begins with little of the schema lease left");
            }
        }
        if let Some(permit) = self.try_permit(guard, used)? {
            return Ok(Some(permit));
        }
        self.acquire().await?;
        self.try_permit(guard, used)
    }

    fn try_permit(&self, guard: &CatalogGuard, used: &[TableId]) -> Result<Option<CommitPermit>, KvError> {
        let now = self.kv.now()?;
        let mut state = self.state.lock();
        let permit = state.permit(guard, used, now);
        self.note_version(&state);
        Ok(permit)
    }

    /// Learns the version that the store has, and extends the lease.
    pub async fn refresh(&self) -> Result<(), CatalogError> {
        self.refresh_unless(|_, _| false).await
    }

    /// Refreshes, unless `is_done` holds once every refresh that was under way has ended.
    async fn refresh_unless(
        &self,
        is_done: impl FnOnce(TtInterval, &mut SchemaLease) -> bool,
    ) -> Result<(), CatalogError> {
        let _serial = self.refreshing.lock().await;
        let start = self.kv.now()?;
        let known = {
            let mut state = self.state.lock();
            state.activate(start);
            self.note_version(&state);
            if is_done(start, &mut state) {
                return Ok(());
            }
            state.newest_version()
        };
        let lease_end = start.earliest() + self.lease;
        // A snapshot at a timestamp of its own sees whatever has committed below it, answered or not; that a fence has
        // passed without effect must not be concluded from less.
        let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false };
        let txn = self.kv.begin_read_only(options);
        let found = CatalogStore::state(&*txn).await?;
        let is_licensed = match &self.licence {
            None => true,
            Some(licence) => {
                let record = txn.get(licence.record.clone(), Locking::SHARED).await?;
                (licence.allows)(record.as_deref())
            }
        };
        let read_at = txn.read_timestamp().expect("a snapshot that was read has a timestamp");
        let next = match found.stored.version {
            version if version == known && version > 0 => None,
            _ => Some(Arc::new(CatalogStore::load(&*txn).await?)),
        };
        let now = self.kv.now()?;
        let lease_end = is_licensed.then_some(lease_end);
        let mut state = self.state.lock();
        state.take_in(Look { found, next, read_at, lease_end }, now);
        self.note_version(&state);
        Ok(())
    }

    /// Called on every node when a change is announced (with the version that it will make) and when it is made: looks at
    /// the store and returns when no transaction that was planned on an earlier version can commit at or above the fence.
    pub async fn publish(&self, version: u64) -> Result<(), CatalogError> {
        self.refresh_unless(|_, state| state.newest_version() >= version).await?;
        let fences = self.state.lock().fences();
        for fence in fences {
            fence.commits_before().await;
            let Some(abandoned) = fence.abandoned() else { continue };
            loop {
                let now = self.kv.now()?;
                if now.earliest() > abandoned {
                    break;
                }
                tokio::time::sleep((abandoned.since(now.earliest()) + Duration::from_millis(1)).into()).await;
            }
        }
        Ok(())
    }

    /// The catalog that transactions at a timestamp use.
    pub async fn at(&self, timestamp: Timestamp) -> Result<Arc<CatalogSnapshot>, CatalogError> {
        if let Some(known) = self.state.lock().confirmed_at(timestamp) {
            return Ok(Arc::clone(known));
        }
        let begin = |at| {
            let options = ReadOnlyOptions { bound: ReadBound::At(at), single_operation: false };
            self.kv.begin_read_only(options)
        };
        let mut txn = begin(timestamp);
        let mut stored = CatalogStore::version(&*txn).await?;
        if stored.valid_from > timestamp {
            // It was written already, and took effect later.
            txn = begin(stored.before.min(timestamp));
            stored = CatalogStore::version(&*txn).await?;
        }
        let version = stored.version;
        {
            let (state, history) = (self.state.lock(), self.history.lock());
            let mut known = std::iter::once(state.current()).chain(&*history);
            if let Some(snapshot) = known.find(|s| s.version() == version) {
                return Ok(Arc::clone(snapshot));
            }
        }
        let snapshot = Arc::new(CatalogStore::load(&*txn).await?);
        let mut history = self.history.lock();
        history.retain(|s| s.version() != version);
        history.truncate(HISTORY - 1);
        history.push_front(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// Keeps the lease alive until `shutdown` resolves. The server spawns it once and owns it.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        let pause = std::time::Duration::from_nanos(self.lease.as_nanos() / REFRESHES_PER_LEASE);
        let mut failed = false;
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = tokio::time::sleep(pause) => {}
            }
            let outcome = tokio::select! {
                biased;
                () = &mut shutdown => return,
                outcome = self.refresh() => outcome,
            };
            match outcome {
                Ok(()) => failed = false,
                Err(error) if !failed => {
                    failed = true;
                    tracing::warn!(%error, "the catalog could not be refreshed; statements wait once its lease ends");
                }
                Err(_) => {}
            }
        }
    }
}

fn kv_error(error: CatalogError) -> KvError {
    match error {
        CatalogError::Kv(error) => error,
        other => KvError::Internal { detail: other.to_string() },
    }
}
