//! The seam through which compactions of the Data family drop versions that nobody can read any more.

use std::ffi::CStr;
use std::sync::Arc;

use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};

/// Knows the garbage-collection horizons of this node's shards.
pub trait GarbagePolicy: Send + Sync {
    /// A filter for one compaction, with the horizons as they are at its start. Called on a background thread.
    fn begin(&self) -> Box<dyn VersionFilter>;
}

/// Decides about the versions of one compaction.
pub trait VersionFilter: Send {
    /// True when the version may go. Versions come in ascending order of key, but a compaction may not see all
    /// versions of a row: what is dropped must be hidden by a version that is kept, and a tombstone must be kept while
    /// any older version may be elsewhere.
    fn is_garbage(&mut self, version_key: &[u8]) -> bool;
}

pub(crate) struct Factory(pub(crate) Arc<dyn GarbagePolicy>);

pub(crate) struct Filter(Box<dyn VersionFilter>);

const NAME: &CStr = c"meridian.garbage";

impl CompactionFilterFactory for Factory {
    type Filter = Filter;

    fn create(&mut self, _: CompactionFilterContext) -> Filter {
        Filter(self.0.begin())
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

impl CompactionFilter for Filter {
    fn filter(&mut self, _level: u32, key: &[u8], _value: &[u8]) -> rocksdb::CompactionDecision {
        if self.0.is_garbage(key) {
            rocksdb::CompactionDecision::Remove
        } else {
            rocksdb::CompactionDecision::Keep
        }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}
