//! The catalog as one node plans on it: versions that are valid for spans of time, under a schema lease.
//!
//! ```text
//!     announced T        next version is known          T has passed
//!   current ------> current, fenced -------> current + pending ------> pending is current
//!                       |  T has passed and there is no next version
//!                       v
//!                   current, fence lifted
//! ```
//! A refresh notes the time `e = now().earliest`, reads version and fence at a timestamp that is not older, and may then
//! plan on that version until `e + lease`, or until just below the fence. A change of what plans rely on goes
//!
//! ```text
//!   fence T stored -> every node has set it, or its lease has run out -> version stored, committed below T -> T
//! ```
//! so that whatever is planned on the old version commits below `T`, and whatever is planned on the new one above: a node
//! takes up the new version only when `T` has surely passed. Nobody waits: until `T` the old version is used, afterwards
//! the new one, which is loaded by then. Transactions whose tables a change does not touch are not concerned at all
//! ([`CatalogCache::advance`], [`CatalogCache::commit_permit`]). A change whose version is not stored by `T` has failed,
//! which every node finds out by itself.
//!
//! Changes that no plan can conflict with (a new table) take effect with their commit and need no fence.
//!
//! A node that has left the cluster plans nothing new: its refreshes read its [`Licence`] in the same snapshot as the version,
//! and extend nothing once it is withdrawn. Fences are heeded as before.
//!
//! Invariants: what was planned on a version commits at or below [`CatalogGuard::limit`]; the lease of a version grows
//! only while it is the stored one and the node has its licence; a fence that was set is lifted only by a read at or above it that finds no change.
//!
//! The cache does not know who changes the catalog, nor how nodes hear of it. Source: docs/decisions/0014, Spanner
//! (OSDI 2012) section 4.2.3, and "Online, Asynchronous Schema Change in F1" (VLDB 2013), section 3.

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
use crate::store::{CatalogError, CatalogState, CatalogStore};
pub use version::CommitPermit;
use version::Version;

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

/// The use of a version by one transaction.
#[derive(Clone, Debug)]
pub struct CatalogGuard {
    version: Arc<Version>,
}

impl CatalogGuard {
    /// The snapshot to plan on.
    pub fn snapshot(&self) -> &Arc<CatalogSnapshot> {
        &self.version.snapshot
    }

    /// When the version took effect.
    pub fn valid_from(&self) -> Timestamp {
        self.version.valid_from
    }

    /// The greatest timestamp at which a transaction that was planned on this snapshot may read or commit. It grows for
    /// as long as the version stays current, and shrinks when the next one is announced.
    pub fn limit(&self) -> Timestamp {
        self.version.limit()
    }
}

/// What a node may plan by: a record in the store, which is written before the first lease.
#[derive(Clone, Debug)]
pub struct Licence {
    /// Its key.
    pub record: Key,
    /// Whether the stored record allows another lease.
    pub allows: fn(Option<&[u8]>) -> bool,
}

#[derive(Debug)]
struct State {
    current: Arc<Version>,
    /// Takes effect at its `valid_from`, which has not passed for certain.
    pending: Option<Arc<Version>>,
    /// Older versions that transactions still use.
    retired: Vec<Arc<Version>>,
    history: VecDeque<Arc<CatalogSnapshot>>,
    /// The version that was in force at two moments and so at all between them.
    confirmed: Option<Confirmed>,
    /// The licence was withdrawn.
    has_left: bool,
}

/// A version that was in force from one moment through another, as reads of the store at both of them have shown. It may
/// have been in force before and after.
#[derive(Debug)]
struct Confirmed {
    snapshot: Arc<CatalogSnapshot>,
    from: Timestamp,
    through: Timestamp,
}

impl State {
    /// The store's newest version, as of `read_at`, is the newest one known.
    fn confirm(&mut self, read_at: Timestamp) {
        let newest = self.newest();
        if newest.valid_from > read_at {
            return;
        }
        let snapshot = Arc::clone(&newest.snapshot);
        match &mut self.confirmed {
            Some(known) if Arc::ptr_eq(&known.snapshot, &snapshot) => {
                known.through = known.through.max(read_at)
            }
            known => *known = Some(Confirmed { snapshot, from: read_at, through: read_at }),
        }
    }

    /// The newest version known.
    fn newest(&self) -> &Arc<Version> {
        self.pending.as_ref().unwrap_or(&self.current)
    }

    /// Takes up the pending version when its time has come.
    fn activate(&mut self, now: TtInterval) {
        if let Some(next) = self.pending.take_if(|next| next.valid_from <= now.earliest()) {
            let old = std::mem::replace(&mut self.current, next);
            self.retired.push(old);
        }
    }

    fn in_use(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.retired.iter().chain([&self.current])
    }

    /// How long until the next version may be used, where the current one may not be used any more.
    fn until_activation(&self, now: TtInterval) -> Option<Duration> {
        let at = self.pending.as_ref().map(|next| next.valid_from).or_else(|| self.current.fence())?;
        (now.earliest() < at && now.latest() >= at).then(|| at.since(now.earliest()))
    }
}

/// A node's catalog.
pub struct CatalogCache {
    kv: Arc<dyn Kv>,
    lease: Duration,
    licence: Option<Licence>,
    state: Mutex<State>,
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
        let empty = Version::new(Arc::new(CatalogSnapshot::default()), Timestamp::ZERO, Timestamp::ZERO);
        let state = State {
            current: Arc::new(empty),
            pending: None,
            retired: Vec::new(),
            history: VecDeque::new(),
            confirmed: None,
            has_left: false,
        };
        CatalogCache {
            kv,
            lease,
            licence: None,
            state: Mutex::new(state),
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
        Arc::clone(&self.state.lock().current.snapshot)
    }

    /// The current version, when it may be planned on at this moment.
    pub fn try_acquire(&self) -> Result<Option<CatalogGuard>, KvError> {
        let now = self.kv.now()?;
        let mut state = self.state.lock();
        self.activate(&mut state, now);
        let is_usable = now.latest() <= state.current.limit();
        Ok(is_usable.then(|| CatalogGuard { version: Arc::clone(&state.current) }))
    }

    fn activate(&self, state: &mut State, now: TtInterval) {
        state.activate(now);
        self.version.store(state.current.snapshot.version(), Ordering::Release);
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
                        self.refresh_unless(|now, state| now.latest() <= state.current.limit()).await?;
                    }
                }
                if let Some(guard) = self.try_acquire()? {
                    return Ok(guard);
                }
                if self.state.lock().has_left {
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
        let newest = self.try_acquire().ok().flatten()?;
        is_same(guard.snapshot(), newest.snapshot(), used).then_some(newest)
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
            let is_long = |now: TtInterval, state: &State| state.newest().limit() >= now.latest() + enough;
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
        let newest = {
            let mut state = self.state.lock();
            self.activate(&mut state, now);
            Arc::clone(state.newest())
        };
        let is_newest = Arc::ptr_eq(&newest, &guard.version);
        let version = if is_newest || is_same(guard.snapshot(), &newest.snapshot, used) {
            &newest
        } else {
            &guard.version
        };
        let permit = CommitPermit::new(version);
        if permit.limit() < now.latest() {
            permit.end();
            return Ok(None);
        }
        Ok(Some(permit))
    }

    /// Learns the version that the store has, and extends the lease.
    pub async fn refresh(&self) -> Result<(), CatalogError> {
        self.refresh_unless(|_, _| false).await
    }

    /// Refreshes, unless `is_done` holds once every refresh that was under way has ended.
    async fn refresh_unless(
        &self,
        is_done: impl FnOnce(TtInterval, &State) -> bool,
    ) -> Result<(), CatalogError> {
        let _serial = self.refreshing.lock().await;
        let start = self.kv.now()?;
        let known = {
            let mut state = self.state.lock();
            self.activate(&mut state, start);
            if is_done(start, &state) {
                return Ok(());
            }
            state.newest().snapshot.version()
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
            version => {
                assert!(version >= known, "the catalog went back from version {known} to {version}");
                Some(CatalogStore::load(&*txn).await?)
            }
        };
        let now = self.kv.now()?;
        let mut state = self.state.lock();
        state.has_left = !is_licensed;
        let lease_end = if is_licensed { lease_end } else { Timestamp::ZERO };
        match next {
            None => {
                // Nothing was changed but what is pending, so that the current version's lease grows too.
                state.current.extend(lease_end);
                state.newest().extend(lease_end);
            }
            Some(snapshot) => install(&mut state, snapshot, found, lease_end),
        }
        state.confirm(read_at);
        apply_fence(&mut state, found, read_at);
        self.activate(&mut state, now);
        state.retired.retain(|v| Arc::strong_count(v) > 1);
        Ok(())
    }

    /// Called on every node when a change is announced (with the version that it will make) and when it is made: looks at
    /// the store and returns when no transaction that was planned on an earlier version can commit at or above the fence.
    pub async fn publish(&self, version: u64) -> Result<(), CatalogError> {
        self.refresh_unless(|_, state| state.newest().snapshot.version() >= version).await?;
        let fenced: Vec<Arc<Version>> = {
            let state = self.state.lock();
            state.in_use().chain(&state.pending).filter(|v| v.fence().is_some()).cloned().collect()
        };
        for version in fenced {
            version.commits_before_fence().await;
            let Some(fence) = version.fence() else { continue };
            let abandoned = version.abandoned();
            if abandoned < fence {
                continue;
            }
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
        if let Some(known) = &self.state.lock().confirmed
            && (known.from..=known.through).contains(&timestamp)
        {
            return Ok(Arc::clone(&known.snapshot));
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

/// Takes in a version that was read from the store.
fn install(state: &mut State, snapshot: CatalogSnapshot, found: CatalogState, lease_end: Timestamp) {
    tracing::debug!(version = snapshot.version(), "the catalog has a new version");
    let valid_from = found.stored.valid_from;
    let new = Arc::new(Version::new(Arc::new(snapshot), valid_from, lease_end));
    // A version with the same activation has only what no plan can conflict with.
    for old in state.in_use().filter(|old| old.valid_from < valid_from) {
        old.set_fence(valid_from);
    }
    if let Some(replaced) = state.pending.replace(new) {
        state.retired.push(replaced);
    }
}

/// Takes in the announcement that was read from the store at `read_at`. Fences of announcements before it, which this node
/// may have seen last, go where they have passed without effect.
fn apply_fence(state: &mut State, found: CatalogState, read_at: Timestamp) {
    let newest = found.stored.valid_from;
    let announced = found.fence.filter(|fence| *fence > newest && *fence > read_at);
    for version in state.in_use().chain(&state.pending) {
        version.lift_fence(newest, read_at);
        if let Some(fence) = announced {
            version.set_fence(fence);
        }
    }
}

/// Whether tables are the same in two versions, together with what is interleaved in them.
fn is_same(old: &CatalogSnapshot, new: &CatalogSnapshot, used: &[TableId]) -> bool {
    let version = |s: &CatalogSnapshot, id| s.table(id).map(|t| t.version);
    used.iter().all(|&id| {
        version(old, id) == version(new, id)
            && old.children(id).map(|t| (t.id, t.version)).eq(new.children(id).map(|t| (t.id, t.version)))
    })
}

fn kv_error(error: CatalogError) -> KvError {
    match error {
        CatalogError::Kv(error) => error,
        other => KvError::Internal { detail: other.to_string() },
    }
}
