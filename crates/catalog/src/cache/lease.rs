//! What a node may plan and commit, by what it has seen of the catalog and when: versions that are valid for spans of time,
//! under a schema lease. Sans IO: it is told what was read, and what time it is.
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
//! ([`SchemaLease::advance`], [`SchemaLease::permit`]). A change whose version is not stored by `T` has failed,
//! which every node finds out by itself.
//!
//! Changes that no plan can conflict with (a new table) take effect with their commit and need no fence.
//!
//! A node that has left the cluster plans nothing new: its refreshes read its [`Licence`] in the same snapshot as the version,
//! and extend nothing once it is withdrawn. Fences are heeded as before.
//!
//! A node that finds a version that is yet to take effect, and whose lease has run out or that never had one, does not know
//! what is in force until then: it may have missed another activation. It plans nothing before that moment. Whose lease has
//! not run out knows it: nothing takes effect within the lease of another version.
//!
//! Invariants: what was planned on a version commits at or below [`CatalogGuard::limit`]; the lease of a version grows
//! only while it is in force, as far as the store says, and the node has its licence; a fence that was set is lifted only by a
//! read at or above it that finds no change.
//!
//! The simulation of clusters (`meridian-sim`) gives its gateways these leases, too, over shards and clocks under faults.

use std::sync::Arc;

use meridian_types::{Duration, Timestamp, TtInterval};

use super::version::{CommitPermit, Version};
use crate::ids::TableId;
use crate::snapshot::CatalogSnapshot;
use crate::store::CatalogState;

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

/// A look at the store.
#[derive(Debug)]
pub struct Look {
    /// Version and fence, as they were read.
    pub found: CatalogState,
    /// The catalog, where its version is not the one that was known.
    pub next: Option<Arc<CatalogSnapshot>>,
    /// The timestamp of the snapshot in which all of it was read.
    pub read_at: Timestamp,
    /// The end of the lease that the look gives: by a clock that was read before. `None` where the node may have none.
    pub lease_end: Option<Timestamp>,
}

/// What a node plans on. See the module.
#[derive(Debug)]
pub struct SchemaLease {
    current: Arc<Version>,
    /// Takes effect at its `valid_from`, which has not passed for certain.
    pending: Option<Arc<Version>>,
    /// Older versions that transactions still use.
    retired: Vec<Arc<Version>>,
    /// The version that was in force at two moments and so at all between them.
    pub(super) confirmed: Option<Confirmed>,
    /// The licence was withdrawn.
    has_left: bool,
}

/// A version that was in force from one moment through another, as reads of the store at both of them have shown. It may
/// have been in force before and after.
#[derive(Debug)]
pub(super) struct Confirmed {
    pub(super) snapshot: Arc<CatalogSnapshot>,
    pub(super) from: Timestamp,
    pub(super) through: Timestamp,
}

impl Default for SchemaLease {
    /// Knows nothing, and has no lease.
    fn default() -> Self {
        let empty = Version::new(Arc::new(CatalogSnapshot::default()), Timestamp::ZERO, Timestamp::ZERO);
        SchemaLease {
            current: Arc::new(empty),
            pending: None,
            retired: Vec::new(),
            confirmed: None,
            has_left: false,
        }
    }
}

impl SchemaLease {
    /// The newest version known.
    fn newest(&self) -> &Arc<Version> {
        self.pending.as_ref().unwrap_or(&self.current)
    }

    /// Takes up the pending version when its time has come.
    pub fn activate(&mut self, now: TtInterval) {
        if let Some(next) = self.pending.take_if(|next| next.valid_from <= now.earliest()) {
            let old = std::mem::replace(&mut self.current, next);
            self.retired.push(old);
        }
    }

    /// The snapshot that was current last, leased or not.
    pub fn current(&self) -> &Arc<CatalogSnapshot> {
        &self.current.snapshot
    }

    /// The newest version known, which may not have taken effect.
    pub fn newest_version(&self) -> u64 {
        self.newest().snapshot.version()
    }

    /// The greatest timestamp at which what is planned on the newest version may commit, as of now.
    pub fn newest_limit(&self) -> Timestamp {
        self.newest().limit()
    }

    /// True once a look has found that the node may have no lease any more.
    pub fn has_left(&self) -> bool {
        self.has_left
    }

    /// The current version, when it may be planned on at this moment.
    pub fn usable(&mut self, now: TtInterval) -> Option<CatalogGuard> {
        self.activate(now);
        let is_usable = now.latest() <= self.current.limit();
        is_usable.then(|| CatalogGuard { version: Arc::clone(&self.current) })
    }

    /// The current version in the place of an older one; see [`super::CatalogCache::advance`].
    pub fn advance(
        &mut self,
        guard: &CatalogGuard,
        used: &[TableId],
        now: TtInterval,
    ) -> Option<CatalogGuard> {
        let newest = self.usable(now)?;
        is_same(guard.snapshot(), newest.snapshot(), used).then_some(newest)
    }

    /// Begins a commit of a transaction that was planned on a version and has used these tables, if it can still happen.
    pub fn permit(
        &mut self,
        guard: &CatalogGuard,
        used: &[TableId],
        now: TtInterval,
    ) -> Option<CommitPermit> {
        self.activate(now);
        let newest = Arc::clone(self.newest());
        let is_newest = Arc::ptr_eq(&newest, &guard.version);
        let version = if is_newest || is_same(guard.snapshot(), &newest.snapshot, used) {
            &newest
        } else {
            &guard.version
        };
        let permit = CommitPermit::new(version);
        if permit.limit() < now.latest() {
            permit.end();
            return None;
        }
        Some(permit)
    }

    /// Takes in what a look has found. One that has found an older version than is known was made at a timestamp of the past,
    /// by a clock that is wrong without knowing it; it says nothing of the present, and extends nothing.
    pub fn take_in(&mut self, look: Look, now: TtInterval) {
        let Look { found, next, read_at, lease_end } = look;
        if found.stored.version < self.newest_version() {
            tracing::debug!(%read_at, "a look at the catalog has found an older version than is known");
            return;
        }
        self.has_left = lease_end.is_none();
        let lease_end = lease_end.unwrap_or(Timestamp::ZERO);
        match next {
            None => {
                if self.pending.is_none() || self.current.limit() >= read_at {
                    self.current.extend(lease_end);
                }
                self.newest().extend(lease_end);
            }
            Some(snapshot) => self.install(snapshot, found, lease_end),
        }
        self.confirm(read_at);
        self.apply_fence(found, read_at);
        self.activate(now);
        self.retired.retain(|v| Arc::strong_count(v) > 1);
    }

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

    /// The version that was in force at a moment of the past, where looks before and after it have found the same.
    pub fn confirmed_at(&self, timestamp: Timestamp) -> Option<&Arc<CatalogSnapshot>> {
        let known = self.confirmed.as_ref()?;
        (known.from..=known.through).contains(&timestamp).then_some(&known.snapshot)
    }

    /// Takes in a version that was read from the store.
    fn install(&mut self, snapshot: Arc<CatalogSnapshot>, found: CatalogState, lease_end: Timestamp) {
        tracing::debug!(version = snapshot.version(), "the catalog has a new version");
        let valid_from = found.stored.valid_from;
        let new = Arc::new(Version::new(snapshot, valid_from, lease_end));
        // A version with the same activation has only what no plan can conflict with.
        for old in self.in_use().filter(|old| old.valid_from < valid_from) {
            old.set_fence(valid_from);
        }
        if let Some(replaced) = self.pending.replace(new) {
            self.retired.push(replaced);
        }
    }

    /// Takes in the announcement that was read from the store at `read_at`. Fences of announcements before it, which this
    /// node may have seen last, go where they have passed without effect.
    fn apply_fence(&mut self, found: CatalogState, read_at: Timestamp) {
        let newest = found.stored.valid_from;
        let announced = found.fence.filter(|fence| *fence > newest && *fence > read_at);
        for version in self.in_use().chain(&self.pending) {
            version.lift_fence(newest, read_at);
            if let Some(fence) = announced {
                version.set_fence(fence);
            }
        }
    }

    /// What is fenced: whoever announced the fence waits for the commits that began before it.
    pub fn fences(&self) -> Vec<Fence> {
        let all = self.in_use().chain(&self.pending);
        all.filter(|v| v.fence().is_some()).map(|v| Fence(Arc::clone(v))).collect()
    }

    fn in_use(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.retired.iter().chain([&self.current])
    }

    /// How long until the next version may be used, where the current one may not be used any more.
    pub fn until_activation(&self, now: TtInterval) -> Option<Duration> {
        let at = self.pending.as_ref().map(|next| next.valid_from).or_else(|| self.current.fence())?;
        (now.earliest() < at && now.latest() >= at).then(|| at.since(now.earliest()))
    }
}

/// A version that is fenced.
#[derive(Clone, Debug)]
pub struct Fence(Arc<Version>);

impl Fence {
    /// Waits until no commit is under way that began before the fence.
    pub(super) async fn commits_before(&self) {
        self.0.commits_before_fence().await;
    }

    /// True while such a commit is under way.
    pub fn has_commits_before(&self) -> bool {
        self.0.has_commits_before_fence()
    }

    /// Until when commits may happen at or above the fence that nobody watches any more.
    pub fn abandoned(&self) -> Option<Timestamp> {
        let (fence, abandoned) = (self.0.fence()?, self.0.abandoned());
        (abandoned >= fence).then_some(abandoned)
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
