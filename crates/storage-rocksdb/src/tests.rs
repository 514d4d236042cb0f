use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_mvcc as mvcc;
use meridian_storage::{Durability, Engine, Family, MemoryEngine, Reader, WriteBatch};
use meridian_types::{Key, SeededRng, Span, Timestamp};

use super::*;

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("meridian-rocksdb-{}-{number}", std::process::id()));
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Leaving files behind in the temporary folder is no reason to fail a test.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Temporary {
    engine: RocksEngine,
    _folder: Folder,
}

fn all_families() -> Options {
    Options { families: Family::ALL.to_vec(), ..Options::data(SharedCache::new(8 << 20)) }
}

fn open(path: &Path) -> RocksEngine {
    RocksEngine::open(path, &all_families()).unwrap()
}

impl Temporary {
    fn with(options: &Options) -> Self {
        let folder = Folder::new();
        Temporary { engine: RocksEngine::open(&folder.0, options).unwrap(), _folder: folder }
    }
}

impl Reader for Temporary {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<bytes::Bytes>, StorageError> {
        self.engine.get(family, key)
    }
    fn cursor<'a>(&'a self, family: Family, span: &Span) -> Box<dyn meridian_storage::Cursor + 'a> {
        self.engine.cursor(family, span)
    }
}

impl Engine for Temporary {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StorageError> {
        self.engine.write(batch, durability)
    }
    fn sync(&self) -> Result<(), StorageError> {
        self.engine.sync()
    }
    fn snapshot(&self) -> Box<dyn Reader + '_> {
        self.engine.snapshot()
    }
}

fn ts(ns: u64) -> Timestamp {
    Timestamp::from_nanos(ns)
}

fn flush(engine: &RocksEngine) {
    engine.db().flush_cf(engine.handle(Family::Data)).unwrap();
}

/// Flips a bit of the value in a write-ahead log of the folder.
fn flip(folder: &Path, value: &[u8]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "log") {
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(value.len()).position(|w| w == value) {
            bytes[at] ^= 1;
            return std::fs::write(&path, bytes).unwrap();
        }
    }
    panic!("the value is in no log");
}

#[test]
fn damage_inside_of_the_log_is_refused_and_a_bad_tail_is_repaired() {
    let folder = Folder::new();
    let options = Options::log(SharedCache::new(8 << 20));
    let values: Vec<String> = (0..40).map(|i| format!("value-{i:03}-{}", "x".repeat(i * 200))).collect();
    let write = |range: std::ops::Range<usize>| {
        let engine = RocksEngine::open(&folder.0, &options).unwrap();
        for i in range {
            let mut batch = WriteBatch::new();
            batch.put(Family::Log, vec![i as u8], values[i].clone());
            engine.write(batch, Durability::Synced).unwrap();
        }
    };
    let held = || {
        let engine = RocksEngine::open(&folder.0, &options)?;
        let held = (0..values.len()).map(|i| engine.get(Family::Log, &[i as u8]).unwrap().is_some());
        Ok::<Vec<bool>, StorageError>(held.collect())
    };
    write(0..20);
    assert_eq!(held().unwrap().iter().filter(|is_held| **is_held).count(), 20);
    write(20..40);
    flip(&folder.0, b"value-039-");
    assert_eq!(held().unwrap().iter().filter(|is_held| **is_held).count(), 39, "the last record is repaired");
    write(39..40);
    write(20..40);
    flip(&folder.0, b"value-030-");
    let refused = held().unwrap_err();
    assert!(matches!(&refused, StorageError::Corruption { detail } if detail.contains("is damaged at byte")));
    flip(&folder.0, b"walue-030-");
    assert!(held().unwrap().iter().all(|is_held| *is_held), "the check changes nothing");
}

#[test]
fn conforms() {
    meridian_storage::conformance::run(&mut || Temporary::with(&all_families()));
}

#[test]
fn what_was_written_is_there_after_opening_again() {
    let folder = Folder::new();
    let mut batch = WriteBatch::new();
    batch.put(Family::Log, &b"k"[..], &b"v"[..]);
    open(&folder.0).write(batch, Durability::Buffered).unwrap();
    assert_eq!(open(&folder.0).get(Family::Log, b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

/// Lengths of the write-ahead log's files, ascending.
fn wal_lengths(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let logs = entries.filter(|e| e.path().extension().is_some_and(|x| x == "log"));
    let mut lengths: Vec<u64> = logs.map(|e| e.metadata().unwrap().len()).collect();
    lengths.sort_unstable();
    lengths
}

#[test]
fn the_log_overwrites_a_file_that_was_written_ahead() {
    let folder = Folder::new();
    let options = Options::log(SharedCache::new(8 << 20));
    let put = |engine: &RocksEngine, n: u8| {
        let mut batch = WriteBatch::new();
        batch.put(Family::Log, vec![n], vec![n; 1000]);
        engine.write(batch, Durability::Synced).unwrap();
    };
    for round in 0..5 {
        let engine = RocksEngine::open(&folder.0, &options).unwrap();
        let before = wal_lengths(&folder.0);
        assert!(before.last().is_some_and(|n| *n >= options.wal_ahead_bytes as u64), "{before:?}");
        put(&engine, 2 * round);
        put(&engine, 2 * round + 1);
        assert_eq!(wal_lengths(&folder.0), before, "no file grows");
        // Nothing was flushed: the next opening reads the overwritten file.
        drop(engine);
        let engine = RocksEngine::open(&folder.0, &options).unwrap();
        for n in 0..2 * round + 2 {
            assert_eq!(engine.get(Family::Log, &[n]).unwrap().as_deref(), Some(&[n; 1000][..]), "{n}");
        }
    }
}

#[test]
fn a_folder_belongs_to_one_engine() {
    let folder = Folder::new();
    let _first = open(&folder.0);
    let second = RocksEngine::open(&folder.0, &all_families());
    assert!(matches!(second.err(), Some(StorageError::Locked { .. })));
}

#[test]
fn a_corrupted_record_is_reported() {
    let folder = Folder::new();
    let engine = open(&folder.0);
    let mut batch = WriteBatch::new();
    let value = vec![7u8; 1 << 12];
    (0..64u8).for_each(|i| batch.put(Family::Data, vec![i], value.clone()));
    engine.write(batch, Durability::Synced).unwrap();
    flush(&engine);
    drop(engine);
    let tables = std::fs::read_dir(&folder.0).unwrap().map(|e| e.unwrap().path());
    for table in tables.filter(|p| p.extension().is_some_and(|e| e == "sst")) {
        let mut bytes = std::fs::read(&table).unwrap();
        bytes[..256].iter_mut().for_each(|b| *b ^= 0xff);
        std::fs::write(&table, bytes).unwrap();
    }
    let found = RocksEngine::open(&folder.0, &all_families()).and_then(|e| e.get(Family::Data, &[0]));
    assert!(matches!(found, Err(StorageError::Corruption { .. })), "{found:?}");
}

#[test]
fn errors_keep_their_kind() {
    let kind = |text: &str| is_lock_error(text);
    assert!(kind("IO error: While lock file: /d/LOCK: Resource temporarily unavailable"));
    assert!(kind("IO error: lock hold by current process, acquire time 1 acquiring thread 2: /d/LOCK"));
    assert!(!kind("IO error: While fdatasync: /d/000004.log: Input/output error"));
}

#[test]
fn after_a_failed_sync_every_write_is_refused() {
    let Temporary { engine, _folder } = Temporary::with(&all_families());
    let failed = engine.note_sync_result(Err(StorageError::Io { detail: "injected".to_owned() }));
    assert!(failed.is_err() && engine.has_failed());
    assert!(matches!(engine.write(WriteBatch::new(), Durability::Buffered), Err(StorageError::Io { .. })));
    assert!(matches!(engine.write(WriteBatch::new(), Durability::Synced), Err(StorageError::Io { .. })));
    assert!(matches!(engine.sync(), Err(StorageError::Io { .. })));
    assert_eq!(engine.get(Family::Data, b"k"), Ok(None), "reads still work");
}

#[test]
fn a_full_device_does_not_stick() {
    let Temporary { engine, _folder } = Temporary::with(&all_families());
    let full = engine.note_sync_result(Err(StorageError::NoSpace { detail: "injected".to_owned() }));
    assert!(full.is_err() && !engine.has_failed());
}

/// The same versions in both engines, spread over files and the memtable.
fn versioned_pair(seed: u64) -> (Temporary, MemoryEngine, Vec<Vec<u8>>) {
    let mut rng = SeededRng::new(seed);
    let (rocks, memory) = (Temporary::with(&all_families()), MemoryEngine::new());
    let keys: Vec<Vec<u8>> = (0..40)
        .map(|_| (0..rng.below(6)).map(|_| [0, 1, b'k', 0xfe][rng.below(4) as usize]).collect())
        .collect();
    for round in 0..6 {
        let mut batch = WriteBatch::new();
        for _ in 0..60 {
            let key = &keys[rng.below(keys.len() as u64) as usize];
            let value = rng.chance(3, 4).then(|| rng.next_u64().to_be_bytes());
            mvcc::write_version(&mut batch, key, ts(rng.below(500)), value.as_ref().map(|v| &v[..]));
        }
        memory.write(batch.clone(), Durability::Buffered).unwrap();
        rocks.write(batch, Durability::Buffered).unwrap();
        if round < 5 {
            flush(&rocks.engine);
        }
    }
    (rocks, memory, keys)
}

#[test]
fn versioned_reads_match_the_memory_engine() {
    for seed in 0..8 {
        let (rocks, memory, keys) = versioned_pair(seed);
        let mut rng = SeededRng::new(seed ^ 0xabc);
        let mut rows = mvcc::Rows::new(&rocks.engine);
        for _ in 0..400 {
            let key = &keys[rng.below(keys.len() as u64) as usize];
            let at = ts(rng.below(520));
            assert_eq!(mvcc::get(&rocks, key, at), mvcc::get(&memory, key, at), "seed {seed}");
            assert_eq!(rows.get(key, at), mvcc::get(&memory, key, at), "seed {seed}");
            assert_eq!(mvcc::versions(&rocks, key), mvcc::versions(&memory, key), "seed {seed}");
            let span = Span::new(Key::copy_from(key), Some(Key::copy_from(&keys[rng.below(40) as usize])));
            let options = mvcc::ScanOptions {
                span: &span,
                at,
                reverse: rng.chance(1, 2),
                limit_rows: 1 + rng.below(9) as usize,
                limit_bytes: 1 << 20,
            };
            assert_eq!(mvcc::scan(&rocks, &options), mvcc::scan(&memory, &options), "seed {seed}");
        }
    }
}

#[test]
fn cursors_over_one_row_move_in_every_direction() {
    for seed in 0..4 {
        let (rocks, memory, keys) = versioned_pair(seed);
        let mut rng = SeededRng::new(seed);
        for key in &keys {
            let span = meridian_keys::version::versions_from(key, ts(400));
            let mut cursors = [rocks.cursor(Family::Data, &span), memory.cursor(Family::Data, &span)];
            let mut on_key = false;
            for _ in 0..30 {
                let target =
                    meridian_keys::version::encode(&keys[rng.below(40) as usize], ts(rng.below(500)));
                let choice = rng.below(if on_key { 6 } else { 4 });
                let [rocks, memory] = cursors.each_mut().map(|cursor| {
                    let found = match choice {
                        0 => cursor.first(),
                        1 => cursor.last(),
                        2 => cursor.seek(&target),
                        3 => cursor.seek_before(&target),
                        4 => cursor.next(),
                        _ => cursor.prev(),
                    };
                    found.unwrap().then(|| (cursor.key().to_vec(), cursor.value().to_vec()))
                });
                assert_eq!(rocks, memory, "seed {seed}, move {choice}");
                on_key = rocks.is_some();
            }
        }
    }
}

struct Horizon(u64);

impl GarbagePolicy for Horizon {
    fn begin(&self) -> Box<dyn VersionFilter> {
        Box::new(BelowHorizon(mvcc::Garbage::new(ts(self.0))))
    }
}

struct BelowHorizon(mvcc::Garbage);

impl VersionFilter for BelowHorizon {
    fn is_garbage(&mut self, version_key: &[u8]) -> bool {
        self.0.is_garbage(version_key)
    }
}

#[test]
fn compactions_drop_garbage_and_nothing_else() {
    let options = Options { garbage: Some(Arc::new(Horizon(50))), ..all_families() };
    let Temporary { engine, _folder } = Temporary::with(&options);
    for at in [10, 20, 50, 60] {
        let mut batch = WriteBatch::new();
        mvcc::put_version(&mut batch, b"k", ts(at), &at.to_be_bytes());
        engine.write(batch, Durability::Buffered).unwrap();
        flush(&engine);
    }
    engine.compact(Family::Data, &Span::ALL);
    let left: Vec<u64> = mvcc::versions(&engine, b"k").unwrap().iter().map(|(at, _)| at.as_nanos()).collect();
    assert_eq!(left, [60, 50]);
}

#[test]
fn metrics_and_sizes_follow_the_data() {
    let Temporary { engine, _folder } = Temporary::with(&all_families());
    assert_eq!(engine.metrics().live_data, 0);
    let mut batch = WriteBatch::new();
    let mut rng = SeededRng::new(1);
    for i in 0..2_000u64 {
        let value: Vec<u8> = (0..64).flat_map(|_| rng.next_u64().to_be_bytes()).collect();
        mvcc::put_version(&mut batch, &i.to_be_bytes(), ts(1), &value);
    }
    engine.write(batch, Durability::Buffered).unwrap();
    assert!(engine.metrics().memtables > 1_000_000);
    flush(&engine);
    let metrics = engine.metrics();
    assert!(metrics.live_data > 1_000_000, "{metrics:?}");
    assert!(!metrics.write_stopped);
    let half = Span::new(Key::MIN, Some(Key::new(1_000u64.to_be_bytes().to_vec())));
    let half = meridian_keys::version::versions_in(&half);
    let (half, all) =
        (engine.approximate_bytes(Family::Data, &half), engine.approximate_bytes(Family::Data, &Span::ALL));
    assert!(half > all / 3 && half < all / 3 * 2, "half {half} of {all}");
}
