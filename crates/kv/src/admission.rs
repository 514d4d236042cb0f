//! Which node id a data folder has.
//!
//! A node's promises are in its folder (I-3), so an id belongs to one folder for ever: the record is written in the same
//! transaction that takes the id, whichever node is asked, however often. Ids ascend, so that of two nodes at one address
//! the later one is known.

use bytes::Bytes;
use meridian_keys::{Counter, SystemKey};
use meridian_kv_api::{KvError, KvWrite};
use meridian_types::{FolderId, NodeId};
use parking_lot::Mutex;

use crate::admin::{ClusterAdmin, decode_counter};

fn malformed(what: &str) -> KvError {
    KvError::Internal { detail: format!("malformed {what}") }
}

/// The value of a folder's record: the node's id, big-endian. Persisted.
fn decode_node(stored: &[u8]) -> Result<NodeId, KvError> {
    let bytes = stored.try_into().map_err(|_| malformed("record of a folder"))?;
    Ok(NodeId::new(u32::from_be_bytes(bytes)))
}

impl ClusterAdmin {
    /// The id of the node that has `folder`: the one that it was given before, or a new one above every earlier one and
    /// above `above`.
    pub async fn admit(&self, folder: FolderId, above: NodeId) -> Result<NodeId, KvError> {
        let record = SystemKey::Folder(folder).encode();
        let counter = SystemKey::Counter(Counter::Node).encode();
        let admitted = Mutex::new(NodeId::default());
        let change = |stored: Vec<Option<Bytes>>| {
            let [known, free] = stored.as_slice() else { return Err(malformed("answer to two keys")) };
            if let Some(known) = known {
                *admitted.lock() = decode_node(known)?;
                return Ok(Vec::new());
            }
            let id = decode_counter(free.as_ref(), Counter::Node)?.max(u64::from(above.get()) + 1);
            let node = NodeId::new(u32::try_from(id).map_err(|_| malformed("counter of nodes"))?);
            *admitted.lock() = node;
            let value = |bytes: &[u8]| Some(Bytes::copy_from_slice(bytes));
            Ok(vec![
                KvWrite { key: record.clone(), value: value(&node.get().to_be_bytes()) },
                KvWrite { key: counter.clone(), value: value(&(id + 1).to_be_bytes()) },
            ])
        };
        self.gateway.update(vec![record.clone(), counter.clone()], change).await?;
        let node = *admitted.lock();
        Ok(node)
    }
}
