//! The session's side: what it has, and how often.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meridian_catalog::advisory::{LockOwner, LockRequest};
use meridian_datum::{SqlError, SqlState};
use meridian_exec::{CancelHandle, sql_error};
use meridian_keys::AdvisoryKey;
use meridian_kv_api::KvError;
use meridian_types::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::node::{Incarnation, Left, NodeLocks};

/// Locks that a session may have. Each is a row that all who wait for one read once a second.
const LOCKS_MAX: usize = 4096;
/// Warnings that a statement keeps until they are sent.
const WARNINGS_MAX: usize = 1000;
/// How often a session that waits looks at the lock.
const LOOK: Duration = Duration::from_millis(50);
/// How often it looks whether it waits for a dead node, or in a circle.
const LOOK_CLOSER: Duration = Duration::from_secs(1);

/// A lock and whether it is exclusive.
type Place = (AdvisoryKey, bool);

/// How often a session has a lock.
struct Held {
    request: LockRequest,
    by_session: u64,
    by_transaction: u64,
}

/// What was done by session: locks taken, less locks given up. Nothing is kept where they are equal.
#[derive(Default)]
struct Deeds(BTreeMap<Place, i64>);

impl Deeds {
    fn add(&mut self, place: Place, n: i64) {
        let count = self.0.entry(place).or_default();
        *count += n;
        if *count == 0 {
            self.0.remove(&place);
        }
    }

    /// Takes one of those in the direction of `n` out, if there is one.
    fn take(&mut self, place: Place, n: i64) -> bool {
        let found = self.0.get(&place).is_some_and(|count| count.signum() == n.signum());
        if found {
            self.add(place, -n);
        }
        found
    }
}

#[derive(Default)]
struct State {
    incarnation: Option<Arc<Incarnation>>,
    held: BTreeMap<Place, Held>,
    /// What is asked for at the moment.
    asked: Option<Left>,
    /// Counts requests.
    number: u64,
    /// What the running statement has done.
    deeds: Deeds,
    /// What an attempt of it did that did not commit, and that the present one has not met yet.
    earlier: Deeds,
    /// What the client of the running statement is to be warned of. Unlocking is limited by nothing, warnings are: the
    /// rest of them says the same.
    warnings: Vec<SqlError>,
}

/// The advisory locks of a session.
pub(crate) struct SessionLocks {
    node: Arc<NodeLocks>,
    session: u64,
    pid: i32,
    state: Mutex<State>,
    /// There is something for the transaction's end to do.
    has_end: AtomicBool,
    /// There are warnings.
    has_warnings: AtomicBool,
}

/// What is asked of a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    pub(crate) key: AdvisoryKey,
    pub(crate) is_exclusive: bool,
    pub(crate) is_of_transaction: bool,
}

#[cold]
fn lost() -> SqlError {
    SqlError::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "the advisory locks of this session were lost, since its node could not extend their lease",
    )
    .with_hint("Give them up with pg_advisory_unlock_all() and begin again.")
}

#[cold]
fn deadlock() -> SqlError {
    SqlError::new(SqlState::DEADLOCK_DETECTED, "deadlock detected")
        .with_detail("The session and others wait for each other's advisory locks.")
}

#[cold]
fn timeout() -> SqlError {
    SqlError::new(SqlState::LOCK_NOT_AVAILABLE, "canceling statement due to lock timeout")
}

#[cold]
fn too_many() -> SqlError {
    SqlError::new(SqlState::OUT_OF_MEMORY, "out of shared memory")
        .with_detail(format!("A session can have {LOCKS_MAX} advisory locks."))
}

#[cold]
fn not_owned(is_exclusive: bool) -> SqlError {
    let mode = if is_exclusive { "ExclusiveLock" } else { "ShareLock" };
    SqlError::new(SqlState::WARNING, format!("you don't own a lock of type {mode}"))
}

/// Whether an error is about the store's state of health and may be over in a moment.
fn is_passing(error: &KvError) -> bool {
    matches!(error, KvError::Unavailable { .. } | KvError::Retry { .. } | KvError::Ambiguous)
}

impl SessionLocks {
    pub(crate) fn new(node: Arc<NodeLocks>, session: u64, pid: i32) -> Arc<Self> {
        let (has_end, has_warnings) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(SessionLocks { node, session, pid, state: Mutex::default(), has_end, has_warnings })
    }

    /// Until when the session has its locks for certain; `None` where it has none.
    ///
    /// # Errors
    /// 55000 when they are lost.
    pub(crate) fn bound(&self) -> Result<Option<Timestamp>, SqlError> {
        let state = self.state.lock();
        let Some(incarnation) = state.incarnation.as_ref().filter(|_| !state.held.is_empty()) else {
            return Ok(None);
        };
        if self.node.is_over(incarnation).map_err(sql_error)? {
            Err(lost())
        } else {
            Ok(Some(incarnation.lease_end()))
        }
    }

    /// Takes a lock. False where others are in the way and it does not wait.
    pub(crate) async fn lock(
        &self,
        wanted: Wanted,
        waits: bool,
        patience: Option<Duration>,
        cancel: &CancelHandle,
    ) -> Result<bool, SqlError> {
        self.bound()?;
        let place = (wanted.key, wanted.is_exclusive);
        {
            let mut state = self.state.lock();
            if !wanted.is_of_transaction && state.earlier.take(place, 1) {
                state.deeds.add(place, 1);
                return Ok(true);
            }
            if let Some(held) = state.held.get_mut(&place) {
                self.count(held, wanted);
                if !wanted.is_of_transaction {
                    state.deeds.add(place, 1);
                }
                return Ok(true);
            }
            if state.held.len() >= LOCKS_MAX {
                return Err(too_many());
            }
        }
        let incarnation = self.incarnation().await.map_err(sql_error)?;
        let request = {
            let mut state = self.state.lock();
            state.number += 1;
            let request = LockRequest {
                owner: LockOwner { holder: incarnation.holder, session: self.session },
                is_exclusive: wanted.is_exclusive,
                is_granted: false,
                number: state.number,
                pid: self.pid,
            };
            state.asked = Some((wanted.key, request));
            request
        };
        let got = cancel.guard(self.wait(wanted.key, request, &incarnation, waits, patience)).await;
        let got = got.and_then(|got| got);
        // A request that was refused may have been written all the same.
        if got.is_err() || waits && !matches!(got, Ok(true)) {
            self.node.give_up(vec![(wanted.key, request)]).await;
        }
        let mut state = self.state.lock();
        state.asked = None;
        if let Ok(true) = got {
            let mut held = Held { request, by_session: 0, by_transaction: 0 };
            self.count(&mut held, wanted);
            state.held.insert(place, held);
            if !wanted.is_of_transaction {
                state.deeds.add(place, 1);
            }
        } else if state.held.is_empty() {
            state.incarnation = None;
        }
        got
    }

    fn count(&self, held: &mut Held, wanted: Wanted) {
        if wanted.is_of_transaction {
            held.by_transaction += 1;
            self.has_end.store(true, Ordering::SeqCst);
        } else {
            held.by_session += 1;
        }
    }

    async fn incarnation(&self) -> Result<Arc<Incarnation>, KvError> {
        {
            let mut state = self.state.lock();
            if state.held.is_empty() {
                state.incarnation = None;
            }
            if let Some(known) = &state.incarnation {
                return Ok(known.clone());
            }
        }
        let incarnation = self.node.incarnation().await?;
        self.state.lock().incarnation = Some(incarnation.clone());
        Ok(incarnation)
    }

    async fn wait(
        &self,
        key: AdvisoryKey,
        request: LockRequest,
        incarnation: &Incarnation,
        waits: bool,
        patience: Option<Duration>,
    ) -> Result<bool, SqlError> {
        let begun = Instant::now();
        loop {
            match self.node.request(key, request, waits, incarnation.lease_end()).await {
                Ok(is_granted) if is_granted || !waits => return Ok(is_granted),
                Ok(_) => {}
                Err(error) if waits && is_passing(&error) => {
                    tracing::debug!(%error, "an advisory lock is asked for again");
                }
                Err(error) => return Err(sql_error(error)),
            }
            let looked = Instant::now();
            while looked.elapsed() < LOOK_CLOSER {
                let left = patience.map(|patience| patience.saturating_sub(begun.elapsed()));
                if left.is_some_and(|left| left.is_zero()) {
                    return Err(timeout());
                }
                let given_up = self.node.given_up.notified();
                // Whoever gives it up on another node wakes nobody here.
                let _ = tokio::time::timeout(left.map_or(LOOK, |left| left.min(LOOK)), given_up).await;
                if matches!(self.node.is_granted(key, &request).await, Ok(true)) {
                    break;
                }
            }
            if self.node.is_over(incarnation).unwrap_or(false) {
                return Err(lost());
            }
            if matches!(self.node.must_give_up(request.owner).await, Ok(true)) {
                return Err(deadlock());
            }
        }
    }

    /// Gives up a lock of the session, once. False where it has none.
    pub(crate) async fn unlock(&self, key: AdvisoryKey, is_exclusive: bool) -> Result<bool, SqlError> {
        self.bound()?;
        let place = (key, is_exclusive);
        let gone = {
            let mut state = self.state.lock();
            if state.earlier.take(place, -1) {
                state.deeds.add(place, -1);
                return Ok(true);
            }
            let Some(held) = state.held.get_mut(&place).filter(|held| held.by_session > 0) else {
                if state.warnings.len() < WARNINGS_MAX {
                    state.warnings.push(not_owned(is_exclusive));
                    self.has_warnings.store(true, Ordering::SeqCst);
                }
                return Ok(false);
            };
            held.by_session -= 1;
            state.deeds.add(place, -1);
            take_unused(&mut state)
        };
        self.node.give_up(gone).await;
        Ok(true)
    }

    /// Gives up all locks of the session, also those that are lost.
    pub(crate) async fn unlock_all(&self) {
        let gone = {
            let mut state = self.state.lock();
            state.held.values_mut().for_each(|held| held.by_session = 0);
            (state.deeds, state.earlier) = (Deeds::default(), Deeds::default());
            take_unused(&mut state)
        };
        self.node.give_up(gone).await;
    }

    /// What the client is to be warned of since it was asked last.
    pub(crate) fn take_warnings(&self) -> Vec<SqlError> {
        if !self.has_warnings.swap(false, Ordering::SeqCst) {
            return Vec::new();
        }
        std::mem::take(&mut self.state.lock().warnings)
    }

    /// A statement begins that is no attempt at an earlier one.
    pub(crate) fn begin_statement(&self) {
        let mut state = self.state.lock();
        state.warnings.clear();
        if !state.deeds.0.is_empty() {
            state.deeds = Deeds::default();
        }
    }

    /// The statement's transaction was undone, and the statement is run again: what it has done by session is done.
    pub(crate) fn run_again(&self) {
        let mut state = self.state.lock();
        assert!(
            state.earlier.0.is_empty(),
            "the transaction's end has dealt with what the attempt before left"
        );
        state.warnings.clear();
        state.earlier = std::mem::take(&mut state.deeds);
        if !state.earlier.0.is_empty() {
            self.has_end.store(true, Ordering::SeqCst);
        }
    }

    /// The transaction has ended, and its locks with it. So have those that an earlier attempt at its statement took, and
    /// the last one did not.
    pub(crate) async fn end_transaction(&self) {
        if !self.has_end.load(Ordering::SeqCst) {
            return;
        }
        let gone = {
            let mut state = self.state.lock();
            self.has_end.store(false, Ordering::SeqCst);
            state.held.values_mut().for_each(|held| held.by_transaction = 0);
            for (place, n) in std::mem::take(&mut state.earlier).0 {
                if let Some(held) = state.held.get_mut(&place).filter(|_| n > 0) {
                    held.by_session = held.by_session.saturating_sub(n.unsigned_abs());
                }
            }
            take_unused(&mut state)
        };
        self.node.give_up(gone).await;
    }
}

/// Takes out what is not held any more, to be given up.
fn take_unused(state: &mut State) -> Vec<Left> {
    let mut unused = Vec::new();
    state.held.retain(|(key, _), held| {
        let is_used = held.by_session > 0 || held.by_transaction > 0;
        if !is_used {
            unused.push((*key, held.request));
        }
        is_used
    });
    if state.held.is_empty() && state.asked.is_none() {
        state.incarnation = None;
    }
    unused
}

impl Drop for SessionLocks {
    /// A session that is gone has no locks, however it went.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        for ((key, _), held) in &state.held {
            self.node.leave((*key, held.request));
        }
        if let Some(asked) = state.asked {
            self.node.leave(asked);
        }
    }
}
