//! One version of the catalog in use: until when transactions that were planned on it may commit.
//!
//! ```text
//!   limit = min(end of the schema lease, fence - 1)
//! ```
//! The lease grows while the version is the stored one. The *fence* is the announced activation of the next version; once a
//! node has set it, every commit that begins here carries a bound below it. Commits that began before carry greater
//! bounds, so whoever sets a fence waits for those to end: that is what [`Version::commits_before_fence`] is for.
//!
//! Commits are counted in two slots that change places with every fence, so that the wait is for older ones only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use meridian_types::Timestamp;
use tokio::sync::Notify;

use crate::snapshot::CatalogSnapshot;

/// No fence.
const NONE: u64 = u64::MAX;

/// A version and its bounds.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) snapshot: Arc<CatalogSnapshot>,
    /// When it takes effect.
    pub(super) valid_from: Timestamp,
    lease_end: AtomicU64,
    fence: AtomicU64,
    epoch: AtomicUsize,
    commits: [AtomicUsize; 2],
    /// The greatest bound of a commit that nobody waited for to its end.
    abandoned: AtomicU64,
    ended: Notify,
}

impl Version {
    pub(super) fn new(snapshot: Arc<CatalogSnapshot>, valid_from: Timestamp, lease_end: Timestamp) -> Self {
        Version {
            snapshot,
            valid_from,
            lease_end: AtomicU64::new(lease_end.as_nanos()),
            fence: AtomicU64::new(NONE),
            epoch: AtomicUsize::new(0),
            commits: Default::default(),
            abandoned: AtomicU64::new(0),
            ended: Notify::new(),
        }
    }

    /// The greatest timestamp at which what was planned on this version may read or commit.
    pub(super) fn limit(&self) -> Timestamp {
        let fence = self.fence.load(Ordering::SeqCst);
        Timestamp::from_nanos(self.lease_end.load(Ordering::SeqCst).min(fence.saturating_sub(1)))
    }

    pub(super) fn fence(&self) -> Option<Timestamp> {
        let fence = self.fence.load(Ordering::SeqCst);
        (fence != NONE).then(|| Timestamp::from_nanos(fence))
    }

    pub(super) fn extend(&self, lease_end: Timestamp) {
        self.lease_end.fetch_max(lease_end.as_nanos(), Ordering::SeqCst);
    }

    /// Nothing that begins to commit from here on commits at or above `at`.
    pub(super) fn set_fence(&self, at: Timestamp) {
        if self.fence.fetch_min(at.as_nanos(), Ordering::SeqCst) > at.as_nanos() {
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Forgets the fence if it lies above `newest`, when the newest version of all takes effect, and not above `seen`, up
    /// to when that is known: the activation did not take place.
    pub(super) fn lift_fence(&self, newest: Timestamp, seen: Timestamp) {
        let fence = self.fence.load(Ordering::SeqCst);
        if fence > newest.as_nanos() && fence <= seen.as_nanos() {
            // Another value means that a later look has set another fence, which stays.
            let _ = self.fence.compare_exchange(fence, NONE, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// True while a commit is under way whose bound is older than the fence.
    pub(super) fn has_commits_before_fence(&self) -> bool {
        let old = self.epoch.load(Ordering::SeqCst).wrapping_sub(1) & 1;
        self.commits[old].load(Ordering::SeqCst) > 0
    }

    /// Waits until no commit is under way whose bound is older than the fence.
    pub(super) async fn commits_before_fence(&self) {
        let old = self.epoch.load(Ordering::SeqCst).wrapping_sub(1) & 1;
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.commits[old].load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }

    /// Until when commits may happen that nobody watches any more.
    pub(super) fn abandoned(&self) -> Timestamp {
        Timestamp::from_nanos(self.abandoned.load(Ordering::SeqCst))
    }
}

/// A commit under way, with its bound.
#[derive(Debug)]
pub struct CommitPermit {
    version: Arc<Version>,
    slot: usize,
    limit: Timestamp,
    is_over: bool,
}

impl CommitPermit {
    pub(super) fn new(version: &Arc<Version>) -> Self {
        let slot = loop {
            let epoch = version.epoch.load(Ordering::SeqCst);
            version.commits[epoch & 1].fetch_add(1, Ordering::SeqCst);
            if version.epoch.load(Ordering::SeqCst) == epoch {
                break epoch & 1;
            }
            // A fence was set in between; who waits for its predecessors shall not wait for this one.
            version.commits[epoch & 1].fetch_sub(1, Ordering::SeqCst);
            version.ended.notify_waiters();
        };
        // The fence is set before the epoch changes, so a commit in the new epoch sees it.
        CommitPermit { version: Arc::clone(version), slot, limit: version.limit(), is_over: false }
    }

    /// The greatest timestamp at which the transaction may commit.
    pub fn limit(&self) -> Timestamp {
        self.limit
    }

    /// An announced activation bounds it, which no refresh takes away.
    pub(super) fn is_fenced(&self) -> bool {
        self.version.fence().is_some()
    }

    /// The store has answered: the commit has happened, or never will.
    pub fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for CommitPermit {
    fn drop(&mut self) {
        if !self.is_over {
            self.version.abandoned.fetch_max(self.limit.as_nanos(), Ordering::SeqCst);
        }
        if self.version.commits[self.slot].fetch_sub(1, Ordering::SeqCst) == 1 {
            self.version.ended.notify_waiters();
        }
    }
}
