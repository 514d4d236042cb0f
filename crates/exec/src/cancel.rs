//! Cancellation of the statement that a session is running.

use std::future::Future;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use meridian_datum::{SqlError, SqlState};
use meridian_kv_api::{KvError, KvTxn};
use meridian_types::Timestamp;
use tokio::sync::Notify;

use crate::ddl::outdated_plan;
use crate::kv_error::sql_error;

const RUNNING: u8 = 0;
const BY_USER: u8 = 1;
const BY_TIMEOUT: u8 = 2;

/// Cancels the statement that a session is running (57014). Cheap to clone; outlives the session harmlessly.
///
/// The executor looks at it at batch boundaries, and everything that waits for the store gives up when it is set.
#[derive(Clone, Debug, Default)]
pub struct CancelHandle(Arc<CancelState>);

#[derive(Debug, Default)]
struct CancelState {
    reason: AtomicU8,
    /// Microseconds since the process began to count; 0 is none.
    deadline: AtomicU64,
    wake: Notify,
}

impl CancelHandle {
    /// Cancels the statement that runs at this moment; without one, nothing happens.
    pub fn cancel(&self) {
        self.set(BY_USER);
    }

    /// Cancels the statement when this much time has passed; `None` takes an earlier deadline back.
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        let deadline = timeout.map_or(0, |t| elapsed_micros().saturating_add(t.as_micros() as u64).max(1));
        self.0.deadline.store(deadline, Ordering::Release);
    }

    /// How long the statement may go on; `None` without a deadline.
    fn time_left(&self) -> Option<Duration> {
        match self.0.deadline.load(Ordering::Acquire) {
            0 => None,
            deadline => Some(Duration::from_micros(deadline.saturating_sub(elapsed_micros()))),
        }
    }

    fn set(&self, reason: u8) {
        self.0.reason.store(reason, Ordering::Release);
        self.0.wake.notify_waiters();
    }

    /// Whether the running statement is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.reason.load(Ordering::Acquire) != RUNNING
    }

    /// Forgets a cancellation: a statement begins.
    pub fn reset(&self) {
        self.0.reason.store(RUNNING, Ordering::Release);
        self.0.deadline.store(0, Ordering::Release);
    }

    /// The error of a cancelled statement.
    pub fn check(&self) -> Result<(), SqlError> {
        match self.0.reason.load(Ordering::Acquire) {
            RUNNING if self.time_left().is_none_or(|t| !t.is_zero()) => Ok(()),
            RUNNING => Err(cancelled(BY_TIMEOUT)),
            reason => Err(cancelled(reason)),
        }
    }

    /// Returns when the statement is cancelled.
    pub async fn cancelled(&self) {
        loop {
            let woken = self.0.wake.notified();
            if self.is_cancelled() {
                return;
            }
            woken.await;
        }
    }

    /// Runs a future unless the statement is cancelled first.
    pub async fn guard<T>(&self, future: impl Future<Output = T>) -> Result<T, SqlError> {
        let mut future = std::pin::pin!(future);
        // Most answers are there at the first poll; only waiting registers with the notifier.
        if let std::task::Poll::Ready(v) = futures::poll!(&mut future) {
            return Ok(v);
        }
        let Some(left) = self.time_left() else {
            return tokio::select! {
                biased;
                v = &mut future => Ok(v),
                () = self.cancelled() => Err(cancelled(self.0.reason.load(Ordering::Acquire))),
            };
        };
        tokio::select! {
            biased;
            v = &mut future => Ok(v),
            () = self.cancelled() => Err(cancelled(self.0.reason.load(Ordering::Acquire))),
            () = tokio::time::sleep(left) => Err(cancelled(BY_TIMEOUT)),
        }
    }

    /// Commits, unless the statement is cancelled first. What may be durable already is waited for: the answer is the
    /// cancellation only when the transaction had no effect, and 40003 when that could not be learned.
    ///
    /// # Errors
    /// 57014, and those of the store.
    pub async fn commit(&self, txn: &dyn KvTxn) -> Result<Option<Timestamp>, SqlError> {
        self.commit_unless(txn, std::future::pending()).await
    }

    /// The same, where `unwanted` tells that the commit should make room for a schema change unless it is decided.
    ///
    /// # Errors
    /// Those above, and 40001.
    pub async fn commit_unless(
        &self,
        txn: &dyn KvTxn,
        unwanted: impl Future<Output = ()>,
    ) -> Result<Option<Timestamp>, SqlError> {
        self.check()?;
        let mut commit = std::pin::pin!(txn.commit());
        let waits = async {
            tokio::select! {
                biased;
                committed = &mut commit => Some(committed),
                () = unwanted => None,
            }
        };
        let stopped = match self.guard(waits).await {
            Ok(Some(committed)) => return committed.map_err(sql_error),
            Ok(None) => outdated_plan(),
            Err(cancelled) => cancelled,
        };
        txn.stop_commit();
        match commit.await {
            Err(KvError::Stopped) => Err(stopped),
            committed => committed.map_err(sql_error),
        }
    }
}

/// A monotonic clock that fits in an atomic.
fn elapsed_micros() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as u64 + 1
}

#[cold]
fn cancelled(reason: u8) -> SqlError {
    let message = if reason == BY_TIMEOUT {
        "canceling statement due to statement timeout"
    } else {
        "canceling statement due to user request"
    };
    SqlError::new(SqlState::QUERY_CANCELED, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiting_statement_is_cancelled() {
        let handle = CancelHandle::default();
        let other = handle.clone();
        let waiting = tokio::spawn(async move { other.guard(std::future::pending::<()>()).await });
        tokio::task::yield_now().await;
        handle.cancel();
        assert_eq!(waiting.await.unwrap().unwrap_err().state, SqlState::QUERY_CANCELED);
        assert!(handle.check().is_err());
        handle.reset();
        assert_eq!(handle.guard(async { 7 }).await.unwrap(), 7);
    }
}
