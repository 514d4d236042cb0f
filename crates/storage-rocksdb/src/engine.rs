//! The engine itself.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use meridian_storage::{Cursor, Durability, Engine, Family, Mutation, Reader, StorageError, WriteBatch};
use meridian_types::Span;
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, Snapshot, WriteOptions};

use crate::cursor::{RocksCursor, Source};
use crate::space::SpaceGuard;
use crate::{Options, open_error, storage_error};
use crate::{wal_ahead, wal_check};

/// Stands for "beyond every key" where RocksDB wants an end. Keyspaces start with bytes far below `ff`, and
/// [`Engine::write`] asserts it.
const INFINITY: [u8; 64] = [0xff; 64];

/// RocksDB behind the storage seam.
pub struct RocksEngine {
    db: DB,
    families: [bool; Family::COUNT],
    synced: WriteOptions,
    buffered: WriteOptions,
    space: SpaceGuard,
    /// A synced write or a sync failed: what is on disk is not known, and no write may succeed any more.
    failed: AtomicBool,
}

/// What an engine says of its health; bytes unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EngineMetrics {
    /// In live files.
    pub live_data: u64,
    /// In memtables, not flushed yet.
    pub memtables: u64,
    /// That compactions have yet to rewrite.
    pub pending_compaction: u64,
    /// Files in level zero, a count: many of them slow reads.
    pub level0_files: u64,
    /// Writes are stopped until compactions catch up.
    pub write_stopped: bool,
    /// Writes are slowed to this many bytes per second; 0 when they are not.
    pub delayed_write_rate: u64,
    /// Errors of background work, a count.
    pub background_errors: u64,
}

impl RocksEngine {
    /// Opens the engine in a folder, which is created if needed, and replays its write-ahead log.
    pub fn open(path: &Path, options: &Options) -> Result<Self, StorageError> {
        std::fs::create_dir_all(path).map_err(|e| StorageError::Io { detail: e.to_string() })?;
        if options.all_synced {
            wal_check::check(path)?;
        }
        let db =
            DB::open_cf_descriptors(&options.database(), path, options.descriptors()).map_err(open_error)?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        let mut families = [false; Family::COUNT];
        for family in &options.families {
            families[*family as usize] = true;
        }
        let buffered = WriteOptions::default();
        let space = SpaceGuard::of_folder(path.to_owned(), options.reserve_bytes, options.reserve_part);
        if !space.is_low() {
            wal_ahead::write(&db, options.wal_ahead_bytes).map_err(storage_error)?;
        }
        Ok(RocksEngine { db, families, synced, buffered, space, failed: AtomicBool::new(false) })
    }

    /// True once a synced write has failed; only a new process may go on.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Roughly how many bytes of files a span of a family takes. What is not flushed yet is not counted.
    pub fn approximate_bytes(&self, family: Family, span: &Span) -> u64 {
        if span.is_empty() {
            return 0;
        }
        let end = span.end.as_ref().map_or(&INFINITY[..], |e| e.as_bytes());
        let range = rocksdb::Range::new(span.start.as_bytes(), end);
        self.db.get_approximate_sizes_cf(self.handle(family), &[range]).iter().sum()
    }

    /// Compacts a span of a family now, dropping what the [`crate::GarbagePolicy`] allows.
    pub fn compact(&self, family: Family, span: &Span) {
        let end = span.end.as_ref().map(|e| e.as_bytes());
        self.db.compact_range_cf(self.handle(family), Some(span.start.as_bytes()), end);
    }

    /// How the engine is.
    pub fn metrics(&self) -> EngineMetrics {
        let of_all = |name: &str| -> u64 {
            let handles = Family::ALL.iter().filter(|f| self.families[**f as usize]).map(|f| self.handle(*f));
            handles.filter_map(|h| self.db.property_int_value_cf(h, name).ok().flatten()).sum()
        };
        let of_db = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        let level0 = |family: Family| -> u64 {
            let value = self.db.property_value_cf(self.handle(family), "rocksdb.num-files-at-level0");
            value.ok().flatten().and_then(|v| v.parse().ok()).unwrap_or(0)
        };
        EngineMetrics {
            live_data: of_all("rocksdb.live-sst-files-size"),
            memtables: of_all("rocksdb.cur-size-all-mem-tables"),
            pending_compaction: of_all("rocksdb.estimate-pending-compaction-bytes"),
            level0_files: Family::ALL
                .iter()
                .filter(|f| self.families[**f as usize])
                .map(|f| level0(*f))
                .sum(),
            write_stopped: of_db("rocksdb.is-write-stopped") != 0,
            delayed_write_rate: of_db("rocksdb.actual-delayed-write-rate"),
            background_errors: of_db("rocksdb.background-errors"),
        }
    }

    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    pub(crate) fn handle(&self, family: Family) -> &ColumnFamily {
        let handle = self.db.cf_handle(family.name());
        handle.unwrap_or_else(|| panic!("family {} is not part of this engine", family.name()))
    }

    fn refuse_after_failure(&self) -> Result<(), StorageError> {
        if self.has_failed() {
            return Err(StorageError::Io { detail: "an earlier synced write failed".to_owned() });
        }
        Ok(())
    }

    /// Makes the failure of a synced write stick.
    pub(crate) fn note_sync_result(&self, result: Result<(), StorageError>) -> Result<(), StorageError> {
        if let Err(error @ (StorageError::Io { .. } | StorageError::Corruption { .. })) = &result {
            self.failed.store(true, Ordering::Release);
            tracing::error!(%error, "synced write failed: the engine refuses every later write");
        }
        result
    }

    fn rocks_batch(&self, batch: &WriteBatch) -> rocksdb::WriteBatch {
        let overhead = 32 * batch.mutations().len();
        let mut rocks = rocksdb::WriteBatch::with_capacity_bytes(batch.bytes() + overhead);
        for mutation in batch.mutations() {
            match mutation {
                Mutation::Put { family, key, value } => {
                    assert!(key[..] < INFINITY[..], "a key lies beyond the end of every span");
                    rocks.put_cf(self.handle(*family), key, value);
                }
                Mutation::Delete { family, key } => rocks.delete_cf(self.handle(*family), key),
                Mutation::DeleteSpan { family, span } if !span.is_empty() => {
                    let end = span.end.as_ref().map_or(&INFINITY[..], |e| e.as_bytes());
                    rocks.delete_range_cf(self.handle(*family), span.start.as_bytes(), end);
                }
                Mutation::DeleteSpan { .. } => {}
            }
        }
        rocks
    }
}

impl Engine for RocksEngine {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StorageError> {
        self.write_kept(&batch, durability)
    }

    fn write_kept(&self, batch: &WriteBatch, durability: Durability) -> Result<(), StorageError> {
        self.refuse_after_failure()?;
        self.space.admit(batch)?;
        let batch = self.rocks_batch(batch);
        match durability {
            Durability::Buffered => self.db.write_opt(batch, &self.buffered).map_err(storage_error),
            Durability::Synced => {
                self.note_sync_result(self.db.write_opt(batch, &self.synced).map_err(storage_error))
            }
        }
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.refuse_after_failure()?;
        self.note_sync_result(self.db.flush_wal(true).map_err(storage_error))
    }

    fn snapshot(&self) -> Box<dyn Reader + '_> {
        Box::new(RocksSnapshot { engine: self, snapshot: self.db.snapshot() })
    }
}

fn to_bytes(found: Option<DBPinnableSlice<'_>>) -> Option<Bytes> {
    found.map(|value| Bytes::copy_from_slice(&value))
}

impl Reader for RocksEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.db.get_pinned_cf(self.handle(family), key).map(to_bytes).map_err(storage_error)
    }

    fn cursor<'a>(&'a self, family: Family, span: &Span) -> Box<dyn Cursor + 'a> {
        Box::new(RocksCursor::new(Source::Latest(self), family, span))
    }

    fn rows<'a>(&'a self) -> Box<dyn Cursor + 'a> {
        Box::new(RocksCursor::rows(Source::Latest(self)))
    }
}

struct RocksSnapshot<'a> {
    engine: &'a RocksEngine,
    snapshot: Snapshot<'a>,
}

impl Reader for RocksSnapshot<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.snapshot.get_pinned_cf(self.engine.handle(family), key).map(to_bytes).map_err(storage_error)
    }

    fn cursor<'a>(&'a self, family: Family, span: &Span) -> Box<dyn Cursor + 'a> {
        Box::new(RocksCursor::new(Source::Snapshot(self.engine, &self.snapshot), family, span))
    }

    fn rows<'a>(&'a self) -> Box<dyn Cursor + 'a> {
        Box::new(RocksCursor::rows(Source::Snapshot(self.engine, &self.snapshot)))
    }
}
