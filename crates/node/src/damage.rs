//! What to do about records that have gone bad.
//!
//! The two engines differ in what their loss means. The data engine is a function of the log, so where it is damaged all
//! of it may go: the log engine still has every promise and accepted entry, and the groups come back as snapshots from
//! their leaders. The log engine is the node's memory of what it has promised (I-3): a node that can't read a part of it
//! does not know what that part was, and may not vote as the node that it was. Damage that a running node meets ends its
//! voting at once (`Inner::disk_failed`), and is noted for the next start.

use meridian_keys::local::NODE_DAMAGED;
use meridian_storage::{Durability, Engine, Family, StorageError, WriteBatch};

use crate::log_store;
use crate::node::groups;

/// What is damaged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// The promises and accepted entries: this node's part in its groups is lost.
    #[error("the log is damaged: {0}")]
    Log(StorageError),
    /// The rest, which can be had again from the other replicas.
    #[error("the data is damaged: {0}")]
    Data(StorageError),
}

/// Reads what a node must know of itself before it serves: the log, and the state of every replica.
///
/// # Errors
/// Something is damaged, or can't be read.
pub fn verify(log: &dyn Engine, data: &dyn Engine) -> Result<(), Damage> {
    log_store::verify(log).map_err(Damage::Log)?;
    if let Some(detail) = log.get(Family::Node, NODE_DAMAGED).map_err(Damage::Log)? {
        let detail = String::from_utf8_lossy(&detail).into_owned();
        return Err(Damage::Data(StorageError::Corruption { detail }));
    }
    for group in groups(data).map_err(Damage::Data)? {
        let state = meridian_shard::recover(data, group).map_err(Damage::Data)?;
        let applied = state.map(|s| s.applied).unwrap_or_default();
        let truncated = log_store::truncated(log, group).map_err(Damage::Log)?;
        if applied < truncated {
            let detail =
                format!("group {group} has applied slot {applied}, its log begins after {truncated}");
            return Err(Damage::Data(StorageError::Corruption { detail }));
        }
    }
    Ok(())
}

/// Notes that the data engine was found damaged, so that the next start does without it.
pub(crate) fn note(log: &dyn Engine, detail: &str) -> Result<(), StorageError> {
    let mut batch = WriteBatch::new();
    batch.put(Family::Node, NODE_DAMAGED, detail.as_bytes().to_vec());
    log.write(batch, Durability::Synced)
}

/// The data engine is a new one.
pub fn forget(log: &dyn Engine) -> Result<(), StorageError> {
    let mut batch = WriteBatch::new();
    batch.delete(Family::Node, NODE_DAMAGED);
    log.write(batch, Durability::Synced)
}
