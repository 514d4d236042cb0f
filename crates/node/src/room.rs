//! A full disk: writers wait for room instead of giving up, since nothing was written and nothing is lost.
//!
//! A commit that meets a full disk stalls at the replica that has no room, and goes on when there is some. Meanwhile the
//! node refuses requests that add data, and serves reads; it keeps its leases as long as the log, which may use more of
//! the disk than the data, can be written.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use meridian_storage::StorageError;

/// How often a refused write is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Whether there is room.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Writes that wait.
    waiting: AtomicUsize,
}

impl Room {
    /// True while some write waits for room.
    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Writes, again and again while the disk is full, until `stopped`. The thread that calls has nothing else to do.
    pub(crate) fn wait(
        &self,
        stopped: impl Fn() -> bool,
        write: impl Fn() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut waited = false;
        loop {
            let written = write();
            match &written {
                Err(error @ StorageError::NoSpace { .. }) if !stopped() => {
                    if !waited {
                        tracing::error!(%error, "the disk is full: writes wait");
                        self.waiting.fetch_add(1, Ordering::Relaxed);
                    }
                    waited = true;
                    std::thread::sleep(RETRY);
                }
                _ => {
                    if waited {
                        self.waiting.fetch_sub(1, Ordering::Relaxed);
                    }
                    return written;
                }
            }
        }
    }
}
