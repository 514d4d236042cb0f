//! The storage seam: an ordered byte store with column families, atomic batches and snapshots.
//!
//! A node opens two engines. The *log engine* holds what must be durable before it is answered (ballots, lease votes,
//! accepted entries) and is written with [`Durability::Synced`] by one group-commit writer. The *data engine* holds
//! what is a function of the log (MVCC data, applied slot, prepared transactions, outcomes) and is written with
//! [`Durability::Buffered`]: after a power loss it may be behind, never torn, and the log is replayed over it. The log
//! is truncated only below what [`Engine::sync`] has made durable in the data engine.
//!
//! Two engines rather than one because a buffered write that shares a write-ahead log with synced ones waits for
//! their fsync.
//!
//! The seam knows nothing of versions, transactions or SQL. Implementations: [`MemoryEngine`] here and
//! `meridian-storage-rocksdb`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;
mod recall;

pub use batch::{Mutation, WriteBatch};
pub use memory::{CrashPoint, Fault, MemoryEngine};
pub use recall::{Recall, Ticket};

use bytes::Bytes;
use meridian_types::{Span, Timestamp};

/// A column family. The ordinals name families on disk and are frozen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Family {
    /// Log engine: Paxos log entries, ballots, lease votes.
    Log = 0,
    /// Data engine: applied slots, shard descriptors, prepared transactions, outcomes.
    State = 1,
    /// Data engine: writes of transactions that are staged or prepared but not decided.
    Staged = 2,
    /// Data engine: committed versions, keyed `(user key, descending commit timestamp)`.
    Data = 3,
    /// Either engine: what the node knows of itself (cluster id, node id, format version).
    Node = 4,
}

impl Family {
    /// How many families there are; ordinals lie below it.
    pub const COUNT: usize = 5;

    /// Every family, by ordinal.
    pub const ALL: [Family; Family::COUNT] =
        [Family::Log, Family::State, Family::Staged, Family::Data, Family::Node];

    /// The name on disk; frozen like the ordinal.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Log => "log",
            Family::State => "state",
            Family::Staged => "staged",
            Family::Data => "data",
            Family::Node => "node",
        }
    }
}

/// What a write waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Atomic and ordered, but may be lost by a crash of the machine (never a prefix torn, never reordered).
    Buffered,
    /// On stable storage when the call returns.
    Synced,
}

/// Why an engine could not do what it was asked. After [`StorageError::Io`] on a synced write the state on disk is
/// unknown: the engine refuses every later write, and the node stops voting (an fsync is never retried).
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum StorageError {
    /// The device refused or lost a write.
    #[error("storage i/o failed: {detail}")]
    Io {
        /// What the device or library said.
        detail: String,
    },
    /// No space is left; reads still work.
    #[error("no space left on the device: {detail}")]
    NoSpace {
        /// What the device or library said.
        detail: String,
    },
    /// A record's checksum does not match.
    #[error("corrupted record: {detail}")]
    Corruption {
        /// Which record.
        detail: String,
    },
    /// The folder is in use by another process.
    #[error("data folder is locked by another process: {detail}")]
    Locked {
        /// Which folder.
        detail: String,
    },
}

/// A consistent view of an engine.
pub trait Reader: Send + Sync {
    /// The value at `key`.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// A cursor over `span`, unpositioned.
    fn cursor<'a>(&'a self, family: Family, span: &Span) -> Box<dyn Cursor + 'a>;

    /// A cursor over [`Family::Data`] for looking at many rows, one after another: it is made once, and moved by
    /// [`Cursor::seek`]. After a seek it shows the sought row's keys from there on. Whether it shows any of other rows
    /// behind them is up to the engine, so that one with a filter of rows may ask that first.
    fn rows<'a>(&'a self) -> Box<dyn Cursor + 'a> {
        self.cursor(Family::Data, &Span::ALL)
    }

    /// What the reader remembers of the row of [`Family::Data`] whose versions' keys begin with `row` and end with
    /// eight bytes more. A reader that remembers nothing says so at no cost.
    fn recall(&self, _row: &[u8]) -> Recall {
        Recall::Unknown(None)
    }

    /// Tells the reader a row's newest version, as it was found after `ticket` was given.
    fn remember(&self, _ticket: Ticket, _row: &[u8], _at: Timestamp, _stored: &[u8]) {}
}

/// A cursor over the keys of one span of one family. Keys outside the span are never shown.
pub trait Cursor {
    /// Moves to the first key at or after `key`. Returns false where there is none.
    fn seek(&mut self, key: &[u8]) -> Result<bool, StorageError>;
    /// Moves to the last key strictly before `key`. Returns false where there is none.
    fn seek_before(&mut self, key: &[u8]) -> Result<bool, StorageError>;
    /// Moves to the first key of the span.
    fn first(&mut self) -> Result<bool, StorageError>;
    /// Moves to the last key of the span.
    fn last(&mut self) -> Result<bool, StorageError>;
    /// Moves one key forward.
    ///
    /// # Panics
    /// When the cursor is not on a key.
    fn next(&mut self) -> Result<bool, StorageError>;
    /// Moves one key back.
    ///
    /// # Panics
    /// When the cursor is not on a key.
    fn prev(&mut self) -> Result<bool, StorageError>;
    /// The key under the cursor, borrowed until it moves.
    ///
    /// # Panics
    /// When the cursor is not on a key.
    fn key(&self) -> &[u8];
    /// The value under the cursor, borrowed until it moves.
    ///
    /// # Panics
    /// When the cursor is not on a key.
    fn value(&self) -> &[u8];
}

/// An ordered byte store.
pub trait Engine: Reader {
    /// Applies `batch` atomically; batches become visible, and durable, in the order of the calls.
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StorageError>;

    /// As [`Engine::write`], for callers who try again when the device is full. An engine that takes nothing out of the
    /// batch spares the copy.
    fn write_kept(&self, batch: &WriteBatch, durability: Durability) -> Result<(), StorageError> {
        self.write(batch.clone(), durability)
    }

    /// Makes everything written so far durable.
    fn sync(&self) -> Result<(), StorageError>;

    /// A view that later writes do not change.
    fn snapshot(&self) -> Box<dyn Reader + '_>;
}
