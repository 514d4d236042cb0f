//! The storage engine on RocksDB: the only crate that names RocksDB.
//!
//! A node opens two of them (see [`meridian_storage`]): the log engine, whose writes are synced and whose contents are
//! deleted soon, and the data engine, whose writes are buffered. They share one block cache ([`SharedCache`]).
//!
//! | family | tuned for |
//! |---|---|
//! | Log | entries that live for seconds: small memtables, two merged per flush, so that most entries die before they reach a file |
//! | State, Staged, Node | small, hot |
//! | Data | point reads by a prefix bloom filter over the row prefix of version keys, in files and memtables; long scans |
//!
//! **Bloom filters.** The prefix of a version key is all but its timestamp. A cursor whose span is the versions of one
//! row ([`meridian_keys::version::is_one_row`]) asks the filters; every other cursor is a total-order one, since a filter
//! says nothing of neighbours. Files are told of no whole keys: nobody knows a version's exact timestamp beforehand.
//!
//! **Durability.** A synced write returns after fdatasync of the write-ahead log, whose files are recycled, and the first
//! ones written ahead (module `wal_ahead`), so that a sync need not wait for the file system's metadata. A buffered write has been handed to the operating system: it
//! survives the process, not the machine. Recovery stops at the first torn record, so what survives is a prefix. An engine
//! whose every write is synced does not open when records are damaged that are not its last (module `wal_check`).
//!
//! **Failure.** Invariant: after an I/O error on a synced write or a sync no later write succeeds, because the kernel
//! may have dropped the dirty pages that an fsync failed to write, and a second fsync would then report success
//! ("fsyncgate"). Only a new process, which reads back what is there, may go on.
//!
//! **A full device.** Puts are refused while less than [`Options::reserve_bytes`] is free. Without that reserve RocksDB
//! could not flush its memtables, neither to go on nor to open the folder again. Reads and deletions pass. Should the
//! device fill up all the same, RocksDB refuses writes and tries every few seconds whether it can go on.
//!
//! **Garbage.** Old versions go in the compactions of the Data family, by a [`GarbagePolicy`] that knows the replicated
//! horizons; without one nothing goes.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cursor;
mod engine;
mod garbage;
mod options;
mod space;
mod wal_ahead;
mod wal_check;

pub use engine::{EngineMetrics, RocksEngine};
pub use garbage::{GarbagePolicy, VersionFilter};
pub use options::{Options, SharedCache};

use meridian_storage::StorageError;

/// RocksDB tells errors apart by text alone: the status code's name, then what the operating system said.
fn storage_error(error: rocksdb::Error) -> StorageError {
    use rocksdb::ErrorKind;

    let kind = error.kind();
    let detail = error.into_string();
    let no_space = detail.contains("No space left on device") || detail.contains("Space limit reached");
    match kind {
        ErrorKind::Corruption => StorageError::Corruption { detail },
        _ if no_space => StorageError::NoSpace { detail },
        _ => StorageError::Io { detail },
    }
}

/// As [`storage_error`], for opening, where the folder's lock can be held by another process (or another engine of
/// this one).
fn open_error(error: rocksdb::Error) -> StorageError {
    match storage_error(error) {
        StorageError::Io { detail } if is_lock_error(&detail) => StorageError::Locked { detail },
        other => other,
    }
}

fn is_lock_error(detail: &str) -> bool {
    detail.contains("lock file") || detail.contains("lock hold by current process")
}

#[cfg(test)]
mod tests;
