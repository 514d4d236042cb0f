//! One version of the catalog in use: until when transactions that were planned on it may commit.
//!
//! ```text
//!   limit = min(end of the schema lease, fence - 1)
//! ```
//! The lease grows while the version is the stored one. The *fence* is the announced activation of the next version; once a
//! node has set it, every commit that begins here carries a bound below it. Commits that began before carry greater
//! bounds, so whoever sets a fence waits for those to end: that is what [`Version::commits_before_fence`] is for. A commit may
//! itself be waiting for locks of whoever has announced the fence (a block that changes the schema), so that those which take
//! longer than [`PATIENCE`] are asked to give up where they are not decided ([`CommitPermit::unwanted`]).
//!
//! Every commit under way is counted by its bound. It may be older than several fences, since fences come and go
//! while a commit is slow; whether it has to be waited for is told by the bound alone.
//!
//! Invariant: a commit that begins after a fence was set has a bound below it, or is counted before the fence's waiter
//! looks: it reads its bound and is counted under one lock.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_types::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::snapshot::CatalogSnapshot;

/// How long a fence waits for commits before it asks them to give up: most end sooner, and the activations of blocks are
/// announced further ahead than this.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(100);

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
    /// How many commits are under way, by their bounds.
    commits: Mutex<BTreeMap<Timestamp, usize>>,
    /// The greatest bound of a commit that nobody waited for to its end.
    abandoned: AtomicU64,
    ended: Notify,
    /// How often a fence has lost patience, and the last fence that has.
    impatience: AtomicU64,
    impatient: AtomicU64,
    hurried: Notify,
}

impl Version {
    pub(super) fn new(snapshot: Arc<CatalogSnapshot>, valid_from: Timestamp, lease_end: Timestamp) -> Self {
        Version {
            snapshot,
            valid_from,
            lease_end: AtomicU64::new(lease_end.as_nanos()),
            fence: AtomicU64::new(NONE),
            commits: Mutex::default(),
            abandoned: AtomicU64::new(0),
            ended: Notify::new(),
            impatience: AtomicU64::new(0),
            impatient: AtomicU64::new(NONE),
            hurried: Notify::new(),
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
        self.fence.fetch_min(at.as_nanos(), Ordering::SeqCst);
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

    /// True while a commit is under way that may happen at the fence or above.
    pub(super) fn has_commits_before_fence(&self) -> bool {
        let Some(fence) = self.fence() else { return false };
        self.commits.lock().last_key_value().is_some_and(|(limit, _)| *limit >= fence)
    }

    /// Waits until no commit is under way that may happen at the fence or above.
    pub(super) async fn commits_before_fence(&self) {
        if tokio::time::timeout(PATIENCE, self.commits_end()).await.is_ok() {
            return;
        }
        if let Some(fence) = self.fence() {
            self.impatient.store(fence.as_nanos(), Ordering::SeqCst);
            self.impatience.fetch_add(1, Ordering::SeqCst);
            self.hurried.notify_waiters();
        }
        self.commits_end().await;
    }

    async fn commits_end(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if !self.has_commits_before_fence() {
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
    limit: Timestamp,
    /// How often fences had lost patience when it began.
    impatience: u64,
    is_over: bool,
}

impl CommitPermit {
    pub(super) fn new(version: &Arc<Version>) -> Self {
        let mut commits = version.commits.lock();
        let limit = version.limit();
        *commits.entry(limit).or_default() += 1;
        drop(commits);
        let impatience = version.impatience.load(Ordering::SeqCst);
        CommitPermit { version: Arc::clone(version), limit, impatience, is_over: false }
    }

    /// The greatest timestamp at which the transaction may commit.
    pub fn limit(&self) -> Timestamp {
        self.limit
    }

    /// Returns when a fence below its bound has waited for the commit for long: it should give up, unless it is decided.
    pub async fn unwanted(&self) {
        let version = &self.version;
        loop {
            let hurried = version.hurried.notified();
            tokio::pin!(hurried);
            hurried.as_mut().enable();
            let is_hurried = version.impatience.load(Ordering::SeqCst) != self.impatience;
            if is_hurried && self.limit.as_nanos() >= version.impatient.load(Ordering::SeqCst) {
                return;
            }
            hurried.await;
        }
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
        let mut commits = self.version.commits.lock();
        let Entry::Occupied(mut same) = commits.entry(self.limit) else {
            unreachable!("a commit under way is counted")
        };
        *same.get_mut() -= 1;
        if *same.get() == 0 {
            same.remove();
        }
        drop(commits);
        self.version.ended.notify_waiters();
    }
}
