//! The catalog as one node plans on it: a snapshot under a schema lease.
//!
//! ```text
//!              refresh: same version          refresh: another version
//!             +--------------------+        +--------------------------+
//!             v                    |        v                          |
//!   (empty) --> current, leased until T ----> retired: no new guards, its commits end at T
//!                  |  T has passed                |  last guard dropped, or T has passed
//!                  v                              v
//!               acquire waits for a refresh     forgotten
//! ```
//!
//! A refresh notes the time `e = now().latest`, reads the version by a strong read, and may then plan on that version
//! until `e + lease`: a change that commits after the read has begun is published, and its publisher waits for every
//! node either to have switched, or for a lease to have passed.
//!
//! Invariants: the lease of a version never grows after the version was retired; a transaction that is planned on a
//! version commits at or below the end of its lease ([`CatalogGuard::commit_limit`]). Therefore no commit planned on
//! an old version follows the return of [`CatalogCache::publish`].
//!
//! The cache does not know who changes the catalog, nor how nodes hear of it. Source: docs/decisions/0006, and
//! "Online, Asynchronous Schema Change in F1" (VLDB 2013), section 3.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use meridian_kv_api::{Kv, KvError, ReadBound, ReadOnlyOptions};
use meridian_types::{Duration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::snapshot::CatalogSnapshot;
use crate::store::{CatalogError, CatalogStore};

/// How long [`CatalogCache::acquire`] waits for a refresh. Longer than a change of leadership of the catalog's shard
/// takes (one lease of 3 s and a round trip), shorter than clients' usual patience.
const ACQUIRE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// Snapshots of the past that are kept: a session reads at one, and reports step through a few.
const HISTORY: usize = 4;
/// Refreshes per lease, so that two may fail before statements wait.
const REFRESHES_PER_LEASE: u64 = 3;

/// One version of the catalog and its users.
#[derive(Debug)]
struct Version {
    snapshot: Arc<CatalogSnapshot>,
    /// Nanoseconds; transactions planned on this version commit at or below.
    lease_end: AtomicU64,
    guards: AtomicUsize,
    drained: Notify,
}

impl Version {
    fn lease_end(&self) -> Timestamp {
        Timestamp::from_nanos(self.lease_end.load(Ordering::Acquire))
    }
}

/// The use of a version by one transaction; ends when it is dropped.
#[derive(Debug)]
pub struct CatalogGuard {
    version: Arc<Version>,
}

impl CatalogGuard {
    fn new(version: &Arc<Version>) -> Self {
        version.guards.fetch_add(1, Ordering::AcqRel);
        CatalogGuard { version: Arc::clone(version) }
    }

    /// The snapshot to plan on.
    pub fn snapshot(&self) -> &Arc<CatalogSnapshot> {
        &self.version.snapshot
    }

    /// The greatest timestamp at which a transaction that was planned on this snapshot may commit. It grows for as long as
    /// the version stays current, so a long transaction asks right before its commit.
    pub fn commit_limit(&self) -> Timestamp {
        self.version.lease_end()
    }
}

impl Clone for CatalogGuard {
    fn clone(&self) -> Self {
        CatalogGuard::new(&self.version)
    }
}

impl Drop for CatalogGuard {
    fn drop(&mut self) {
        if self.version.guards.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.version.drained.notify_waiters();
        }
    }
}

#[derive(Debug)]
struct State {
    current: Arc<Version>,
    /// Older versions that transactions still use.
    retired: Vec<Arc<Version>>,
    history: VecDeque<Arc<CatalogSnapshot>>,
}

/// A node's catalog.
pub struct CatalogCache {
    kv: Arc<dyn Kv>,
    lease: Duration,
    state: Mutex<State>,
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
        let empty = Version {
            snapshot: Arc::new(CatalogSnapshot::default()),
            lease_end: AtomicU64::new(0),
            guards: AtomicUsize::new(0),
            drained: Notify::new(),
        };
        let state = State { current: Arc::new(empty), retired: Vec::new(), history: VecDeque::new() };
        CatalogCache { kv, lease, state: Mutex::new(state), refreshing: tokio::sync::Mutex::new(()) }
    }

    /// The version that is planned on; 0 before the first refresh.
    pub fn version(&self) -> u64 {
        self.state.lock().current.snapshot.version()
    }

    /// The snapshot that was current last, leased or not: for what may be stale (completion, logs).
    pub fn latest(&self) -> Arc<CatalogSnapshot> {
        Arc::clone(&self.state.lock().current.snapshot)
    }

    /// The current version, when its lease has not run out.
    pub fn try_acquire(&self) -> Result<Option<CatalogGuard>, KvError> {
        let now = self.kv.now()?.latest();
        let state = self.state.lock();
        Ok((now <= state.current.lease_end()).then(|| CatalogGuard::new(&state.current)))
    }

    /// The current version, for one transaction.
    ///
    /// # Errors
    /// [`KvError::Unavailable`] when the lease has run out and the catalog cannot be read in time.
    pub async fn acquire(&self) -> Result<CatalogGuard, KvError> {
        if let Some(guard) = self.try_acquire()? {
            return Ok(guard);
        }
        let wait = async {
            loop {
                self.refresh_unless(|now, current| now <= current.lease_end()).await?;
                if let Some(guard) = self.try_acquire()? {
                    return Ok(guard);
                }
            }
        };
        match tokio::time::timeout(ACQUIRE_TIMEOUT, wait).await {
            Ok(outcome) => outcome.map_err(kv_error),
            Err(_) => {
                Err(KvError::Unavailable { detail: "the catalog could not be read in time".to_owned() })
            }
        }
    }

    /// Learns the version that the store has, and extends the lease.
    pub async fn refresh(&self) -> Result<(), CatalogError> {
        self.refresh_unless(|_, _| false).await
    }

    /// Refreshes, unless `is_done` holds once every refresh that was under way has ended.
    async fn refresh_unless(
        &self,
        is_done: impl FnOnce(Timestamp, &Version) -> bool,
    ) -> Result<(), CatalogError> {
        let _serial = self.refreshing.lock().await;
        let start = self.kv.now()?.latest();
        let current = Arc::clone(&self.state.lock().current);
        if is_done(start, &current) {
            return Ok(());
        }
        let lease_end = start + self.lease;
        let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: true };
        let version = CatalogStore::version(&*self.kv.begin_read_only(options)).await?;
        if version == current.snapshot.version() && version > 0 {
            current.lease_end.fetch_max(lease_end.as_nanos(), Ordering::AcqRel);
            return Ok(());
        }
        let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false };
        let snapshot = CatalogStore::load(&*self.kv.begin_read_only(options)).await?;
        assert!(
            snapshot.version() >= current.snapshot.version(),
            "the catalog went back from version {} to {}",
            current.snapshot.version(),
            snapshot.version()
        );
        self.install(snapshot, lease_end);
        Ok(())
    }

    fn install(&self, snapshot: CatalogSnapshot, lease_end: Timestamp) {
        tracing::debug!(version = snapshot.version(), "the catalog has a new version");
        let new = Arc::new(Version {
            snapshot: Arc::new(snapshot),
            lease_end: AtomicU64::new(lease_end.as_nanos()),
            guards: AtomicUsize::new(0),
            drained: Notify::new(),
        });
        let mut state = self.state.lock();
        let old = std::mem::replace(&mut state.current, new);
        state.retired.push(old);
        state.retired.retain(|v| v.guards.load(Ordering::Acquire) > 0);
    }

    /// Called on every node after a change: switches to `version` or a later one and returns when no transaction that
    /// was planned on an earlier one can commit any more, since each has ended or is beyond its lease.
    pub async fn publish(&self, version: u64) -> Result<(), CatalogError> {
        self.refresh_unless(|_, current| current.snapshot.version() >= version).await?;
        loop {
            let old = {
                let mut state = self.state.lock();
                state.retired.retain(|v| v.guards.load(Ordering::Acquire) > 0);
                state.retired.iter().find(|v| v.snapshot.version() < version).cloned()
            };
            let Some(old) = old else { return Ok(()) };
            let drained = old.drained.notified();
            if old.guards.load(Ordering::Acquire) == 0 {
                continue;
            }
            let now = self.kv.now()?.earliest();
            if now > old.lease_end() {
                self.state.lock().retired.retain(|v| !Arc::ptr_eq(v, &old));
                continue;
            }
            // Either event is looked at again above.
            let beyond = old.lease_end().since(now) + Duration::from_millis(1);
            let _ = tokio::time::timeout(beyond.into(), drained).await;
        }
    }

    /// The catalog as it was at a timestamp.
    pub async fn at(&self, timestamp: Timestamp) -> Result<Arc<CatalogSnapshot>, CatalogError> {
        let txn = self
            .kv
            .begin_read_only(ReadOnlyOptions { bound: ReadBound::At(timestamp), single_operation: false });
        let version = CatalogStore::version(&*txn).await?;
        {
            let state = self.state.lock();
            let mut known = std::iter::once(&state.current.snapshot).chain(&state.history);
            if let Some(snapshot) = known.find(|s| s.version() == version) {
                return Ok(Arc::clone(snapshot));
            }
        }
        let snapshot = Arc::new(CatalogStore::load(&*txn).await?);
        let mut state = self.state.lock();
        state.history.retain(|s| s.version() != version);
        state.history.truncate(HISTORY - 1);
        state.history.push_front(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// Keeps the lease alive until `shutdown` resolves. The server spawns it once and owns it.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        let pause = std::time::Duration::from_nanos(self.lease.as_nanos() / REFRESHES_PER_LEASE);
        let mut failed = false;
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(pause) => {}
            }
            let outcome = tokio::select! {
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
