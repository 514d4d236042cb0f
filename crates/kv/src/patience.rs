//! How long an answer is waited for, where that is not until it comes.
//!
//! Two things end a wait early, and neither may contradict what the shard does:
//!
//! - *`lock_timeout`*: the gateway counts, and then has the shard cancel what waits for a lock (`CancelWaits`). Only the
//!   shard knows whether the request waits for a lock or is being carried out; in the second case it is answered as ever.
//! - *a commit that nobody wants any more* (a statement's timeout, a cancel request): where nothing was sent, or what
//!   was sent was refused, it ends at once. Otherwise the outcome is asked for like one whose answer was lost, which
//!   writes an abort unless the commit is decided already: the client hears what is true.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meridian_kv_api::KvError;
use meridian_types::TxnId;
use tokio::sync::Notify;

use crate::heartbeat::LiveTxn;

/// Says that nobody wants a commit any more. Once said, it stays said.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_said: AtomicBool,
    wake: Notify,
}

impl Stop {
    pub(crate) fn say(&self) {
        self.is_said.store(true, Ordering::Release);
        self.wake.notify_waiters();
    }

    pub(crate) fn is_said(&self) -> bool {
        self.is_said.load(Ordering::Acquire)
    }

    async fn said(&self) {
        loop {
            let woken = self.wake.notified();
            if self.is_said() {
                return;
            }
            woken.await;
        }
    }
}

/// What ends the waits of a transaction's requests. Nothing does by default.
#[derive(Clone, Default)]
pub(crate) struct Patience {
    /// The transaction, and how long its requests wait for locks.
    pub(crate) locks: Option<(TxnId, Duration)>,
    /// The transaction whose commit ends when it says stop.
    pub(crate) commit: Option<Arc<LiveTxn>>,
}

impl Patience {
    /// Fails once the commit is not wanted any more.
    pub(crate) fn check(&self) -> Result<(), KvError> {
        if self.commit.as_ref().is_some_and(|txn| txn.stop.is_said()) {
            Err(KvError::Stopped)
        } else {
            Ok(())
        }
    }

    /// Returns when the commit is not wanted any more; never, where that can't be.
    pub(crate) async fn stopped(&self) {
        match &self.commit {
            Some(txn) => txn.stop.said().await,
            None => std::future::pending().await,
        }
    }

    /// Runs a future that may be dropped, unless the commit is not wanted any more.
    pub(crate) async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T, KvError> {
        tokio::select! {
            biased;
            done = future => Ok(done),
            () = self.stopped() => Err(KvError::Stopped),
        }
    }
}
