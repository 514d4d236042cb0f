//! How RocksDB is set up, per role of an engine and per family.

use std::sync::Arc;

use meridian_keys::version;
use meridian_storage::Family;
use rocksdb::{
    BlockBasedOptions, BlockBasedTablePinningTier, Cache, ColumnFamilyDescriptor, DBCompressionType,
    DBRecoveryMode, LogLevel, SliceTransform,
};

use crate::GarbagePolicy;
use crate::garbage::Factory;

const MIB: usize = 1 << 20;

/// The block cache that a node's engines share.
#[derive(Clone)]
pub struct SharedCache(pub(crate) Cache);

impl SharedCache {
    /// A cache of this many bytes of uncompressed blocks, filters and indexes.
    pub fn new(bytes: usize) -> Self {
        // Without locks, unlike the LRU cache; the charge of an entry is found out by itself.
        SharedCache(Cache::new_hyper_clock_cache(bytes, 0))
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.0.get_usage()
    }
}

/// Files that hold garbage and are never part of a compaction are rewritten at this age.
const REWRITE_SECONDS: u64 = 3 * 86_400;

/// How to open an engine.
#[derive(Clone)]
pub struct Options {
    /// The families of this engine. Using another one is a bug, and panics.
    pub families: Vec<Family>,
    /// Shared by the engines of a node.
    pub cache: SharedCache,
    /// Threads for flushes and compactions.
    pub background_jobs: i32,
    /// Bytes of a memtable of the Data family.
    pub data_memtable_bytes: usize,
    /// Puts are refused while less than this is free on the device.
    pub reserve_bytes: u64,
    /// On a small device the reserve is at most one part of so many of it.
    pub reserve_part: u64,
    /// The write-ahead log goes on in a new file when this much of it is in memtables alone.
    pub wal_bytes_max: u64,
    /// Bytes of the files that the write-ahead log begins with, written when the engine opens.
    pub wal_ahead_bytes: usize,
    /// Every write is synced: a bad record that others follow is damage, and the engine does not open.
    pub all_synced: bool,
    /// What may be dropped from the Data family.
    pub garbage: Option<Arc<dyn GarbagePolicy>>,
}

impl Options {
    /// For the engine of the Paxos log. Its reserve is smaller than that of the data: a node that has no room for data
    /// can still vote and keep its leases, and so serve reads.
    pub fn log(cache: SharedCache) -> Self {
        Options {
            families: vec![Family::Log, Family::Node],
            cache,
            background_jobs: 2,
            data_memtable_bytes: 64 * MIB,
            reserve_bytes: 128 * MIB as u64,
            reserve_part: 32,
            wal_bytes_max: 32 * MIB as u64,
            wal_ahead_bytes: 4 * MIB,
            all_synced: true,
            garbage: None,
        }
    }

    /// For the engine of replicated state and data.
    pub fn data(cache: SharedCache) -> Self {
        Options {
            families: vec![Family::State, Family::Staged, Family::Data, Family::Node],
            reserve_bytes: 256 * MIB as u64,
            reserve_part: 16,
            wal_bytes_max: 256 * MIB as u64,
            wal_ahead_bytes: 0,
            all_synced: false,
            ..Self::log(cache)
        }
    }

    pub(crate) fn database(&self) -> rocksdb::Options {
        let mut db = rocksdb::Options::default();
        db.create_if_missing(true);
        db.create_missing_column_families(true);
        db.set_max_background_jobs(self.background_jobs);
        db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        // Overwriting a file's blocks spares the sync a commit of the file system's journal.
        db.set_recycle_log_file_num(4);
        // A family that is rarely written would otherwise keep the logs of all others alive, and unfit to be recycled.
        db.set_max_total_wal_size(self.wal_bytes_max);
        db.set_bytes_per_sync(MIB as u64);
        db.set_paranoid_checks(true);
        db.set_max_open_files(-1);
        db.set_log_level(LogLevel::Warn);
        db.set_keep_log_file_num(4);
        db.set_max_log_file_size(8 * MIB);
        db.set_stats_dump_period_sec(0);
        db.set_stats_persist_period_sec(0);
        db
    }

    pub(crate) fn descriptors(&self) -> Vec<ColumnFamilyDescriptor> {
        self.families.iter().map(|f| ColumnFamilyDescriptor::new(f.name(), self.family(*f))).collect()
    }

    fn family(&self, family: Family) -> rocksdb::Options {
        let mut options = rocksdb::Options::default();
        options.set_compression_type(DBCompressionType::Lz4);
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache.0);
        table.set_cache_index_and_filter_blocks(true);
        // A read looks into the index and the filter of several files: they are charged to the cache, and not looked up.
        table.set_unpartitioned_pinning_tier(BlockBasedTablePinningTier::All);
        table.set_format_version(6);
        match family {
            Family::Log => {
                table.set_block_size(16 << 10);
                options.set_write_buffer_size(8 * MIB);
                options.set_max_write_buffer_number(6);
                options.set_min_write_buffer_number_to_merge(2);
                options.set_target_file_size_base(32 * MIB as u64);
            }
            Family::Data => self.tune_data(&mut options, &mut table),
            Family::State | Family::Staged | Family::Node => {
                table.set_bloom_filter(10.0, false);
                options.set_write_buffer_size(16 * MIB);
                options.set_max_write_buffer_number(4);
            }
        }
        options.set_block_based_table_factory(&table);
        options
    }

    fn tune_data(&self, options: &mut rocksdb::Options, table: &mut BlockBasedOptions) {
        options.set_prefix_extractor(row_prefix_extractor());
        options.set_memtable_prefix_bloom_ratio(0.05);
        options.set_write_buffer_size(self.data_memtable_bytes);
        options.set_max_write_buffer_number(4);
        options.set_target_file_size_base(64 * MIB as u64);
        options.set_max_bytes_for_level_base(4 * self.data_memtable_bytes as u64);
        // Old versions of a row lie behind the visible one; iterators seek over them early.
        options.set_max_sequential_skip_in_iterations(8);
        table.set_block_size(8 << 10);
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(false);
        table.set_optimize_filters_for_memory(true);
        if let Some(policy) = &self.garbage {
            options.set_compaction_filter_factory(Factory(policy.clone()));
            options.set_periodic_compaction_seconds(REWRITE_SECONDS);
        }
    }
}

/// The name is kept in every file: files of another extractor are not asked.
fn row_prefix_extractor() -> SliceTransform {
    fn prefix(key: &[u8]) -> &[u8] {
        version::row_prefix(key).expect("only keys in the domain are transformed")
    }
    fn in_domain(key: &[u8]) -> bool {
        version::row_prefix(key).is_some()
    }
    SliceTransform::create("meridian.row", prefix, Some(in_domain))
}
