//! Files for the write-ahead log that are there before they are needed.
//!
//! An fdatasync of a file that has grown writes the file's inode too, a second write that follows the first and for
//! which the logs of several nodes on one file system queue up. A file that is overwritten in place needs the first
//! alone. RocksDB recycles files that it has no use for any more, but a fresh engine has none: so its first ones are
//! filled here.
//!
//! ```text
//!   file 1: filler --flush--> file 2: filler --flush--> file 3 = file 1, overwritten; file 2 is next
//! ```
//! The filler goes to RocksDB's own family, which no [`meridian_storage::Family`] uses, and is deleted at once. Records
//! carry the number of the log that they belong to, so recovery stops where the new ones end.

use rocksdb::{DB, WriteOptions};

/// Files that are filled.
const FILES: usize = 2;

const FILLER: &[u8] = b"filler";

/// Fills the next files of the log with this many bytes each.
pub(crate) fn write(db: &DB, bytes: usize) -> Result<(), rocksdb::Error> {
    if bytes == 0 {
        return Ok(());
    }
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    let filler = vec![0; bytes];
    for _ in 0..FILES {
        // Synced as all of the log engine is, which `wal_check` relies on.
        db.put_opt(FILLER, &filler, &synced)?;
        // With it the file has its length on disk.
        db.delete_opt(FILLER, &synced)?;
        db.flush()?;
    }
    Ok(())
}
