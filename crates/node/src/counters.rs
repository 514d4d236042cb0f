//! What a node counts, for status pages and tests.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of a node.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Counters {
            /// All of them by name.
            pub fn list(&self) -> Vec<(String, u64)> {
                vec![$((stringify!($name).to_owned(), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Inputs fed to replicas.
    steps,
    /// Ticks that the timer fed.
    ticks,
    /// Requests of gateways on this node.
    local_calls,
    /// Requests of gateways elsewhere.
    remote_calls,
    /// Requests answered without waiting.
    ready_answers,
    /// Synced writes of the log.
    log_writes,
    /// Bytes of them.
    log_bytes,
    /// Groups that had something in them, summed up.
    log_jobs,
    /// Requests refused because too much waited for the disk.
    requests_pushed_back,
    /// Messages whose entries were not taken for the same reason.
    accepts_lightened,
    /// Batches written to the data engine.
    applies,
    /// Messages sent to other nodes.
    messages_sent,
    /// Messages that found no connection or a full queue.
    messages_dropped,
    /// Batches of messages received from other nodes.
    frames_received,
    /// Rounds of beats: one message to every other node, for all groups at rest.
    beat_rounds,
    /// Snapshots sent and installed there.
    snapshots_sent,
    /// Snapshots that went on after a connection broke.
    snapshots_resumed,
    /// Snapshots received and installed here.
    snapshots_installed,
    /// Snapshots offered or sent here that were not wanted, or not at that time.
    snapshots_refused,
    /// Replicas dropped because their groups no longer had them as members.
    replicas_removed,
}
