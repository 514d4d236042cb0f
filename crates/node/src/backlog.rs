//! How much waits for the disks of a node, and what is done when that is too much.
//!
//! Each group bounds what its leader has under way, but a node has many groups, and a disk that stalls stalls them all.
//! Beyond the limit a leader pushes back: it refuses what would add more, with an error that gateways answer by trying
//! again after a pause with jitter. A follower takes an accept's news (the commit index, the lease) and not its entries,
//! which the leader sends again; so it neither grows nor holds up its group, whose quorum is elsewhere. What ends
//! transactions is let through, so that the work that was begun drains.

use std::sync::atomic::{AtomicU64, Ordering};

use meridian_paxos::{Command, Envelope, Message, Persist};

/// What an entry, or a record beside it, takes besides its command.
const RECORD_BYTES: usize = 64;

/// Bytes that are queued for the log writer and the apply thread.
#[derive(Debug)]
pub(crate) struct Backlog {
    bytes: AtomicU64,
    limit: u64,
}

impl Backlog {
    pub(crate) fn new(limit: u64) -> Self {
        Backlog { bytes: AtomicU64::new(0), limit }
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        assert!(before >= bytes as u64, "{bytes} bytes leave a queue that held {before}");
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.limit
    }
}

/// The size of log writes, roughly.
pub(crate) fn persist_bytes(persist: &[Persist]) -> usize {
    let entry = |command: &Command| match command {
        Command::Normal(bytes) => RECORD_BYTES + bytes.len(),
        Command::Noop | Command::Membership(_) => RECORD_BYTES,
    };
    let one = |persist: &Persist| match persist {
        Persist::Entries(entries) => entries.iter().map(|e| entry(&e.command)).sum(),
        Persist::HardState(_) | Persist::Truncate(_) => RECORD_BYTES,
    };
    persist.iter().map(one).sum()
}

/// Takes out of a message what would have to be written. False where nothing is left of it; the sender repeats itself.
pub(crate) fn lighten(envelope: &mut Envelope) -> bool {
    match &mut envelope.message {
        Message::Accept { entries, .. } => {
            // Without entries it is a heartbeat.
            entries.clear();
            true
        }
        Message::Learn { .. } => false,
        _ => true,
    }
}
