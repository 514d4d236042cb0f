//! A store in memory for tests of SQL alone: one node, one snapshot-isolated map, no replication.

/// The in-memory store.
#[derive(Debug, Default)]
pub struct MemoryKv;
