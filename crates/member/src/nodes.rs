//! The records of nodes in the system keyspace.
//!
//! ```text
//!   (none) --first start--> there --decommission--> marked, for ever
//!                             +--succession (its folder is lost)--> (none)
//! ```
//! A node that was decommissioned has no replica, is in no address book, and does not come back: its id belongs to a folder
//! whose promises nobody counts on any more. The mark is what nodes learn it by that were away.

use std::collections::BTreeSet;

use bytes::Bytes;
use meridian_keys::SystemKey;
use meridian_kv::Gateway;
use meridian_kv_api::{
    Kv, KvError, KvWrite, Locking, ReadBound, ReadOnlyOptions, ReadWriteOptions, ScanRequest,
};
use meridian_rpc::admin::NodeAddress;
use meridian_types::NodeId;
use serde_json::Value;

/// The name of the mark.
const MARK: &str = "decommissioned";

/// A page of node records; there are no more nodes than that.
const NODES_MAX: usize = 10_000;

/// This node is to be no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this node was decommissioned: it can join again only with a new data folder")]
pub struct Decommissioned;

/// A node's address for the system keyspace, as JSON: operators and other nodes read it.
pub(crate) fn node_record(node: &NodeAddress) -> Bytes {
    let record = serde_json::json!({
        "address": node.address,
        "sql_address": node.sql_address,
        "http_address": node.http_address,
        "region": node.region,
        "zone": node.zone,
        "version": node.version,
    });
    Bytes::from(record.to_string())
}

/// True for the record of a node that is to be no more.
pub(crate) fn is_decommissioned(record: &[u8]) -> bool {
    serde_json::from_slice::<Value>(record).is_ok_and(|record| record[MARK] == true)
}

/// Every record, in the order of ids.
pub(crate) async fn records(gateway: &Gateway) -> Result<Vec<(NodeId, Value)>, KvError> {
    let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: true };
    let request =
        ScanRequest { span: SystemKey::nodes(), reverse: false, limit: NODES_MAX, locking: Locking::SHARED };
    let page = gateway.begin_read_only(options).scan(request).await?;
    let read = |(key, value): (meridian_types::Key, Bytes)| {
        let Ok(SystemKey::Node(node)) = SystemKey::decode(key.as_bytes()) else { return None };
        Some((node, serde_json::from_slice(&value).ok()?))
    };
    Ok(page.rows.into_iter().filter_map(read).collect())
}

/// The nodes that are to be no more.
pub(crate) async fn gone(gateway: &Gateway) -> Result<BTreeSet<NodeId>, KvError> {
    let all = records(gateway).await?;
    Ok(all.into_iter().filter(|(_, record)| record[MARK] == true).map(|(node, _)| node).collect())
}

/// Marks a node as one that is to be no more.
pub(crate) async fn mark(gateway: &Gateway, node: NodeId) -> Result<(), KvError> {
    let key = SystemKey::Node(node).encode();
    let change = |stored: Vec<Option<Bytes>>| {
        let found = stored.first().and_then(Option::as_ref);
        let mut record: Value = found
            .and_then(|r| serde_json::from_slice(r).ok())
            .unwrap_or_else(|| Value::Object(Default::default()));
        record[MARK] = Value::Bool(true);
        Ok(vec![KvWrite { key: key.clone(), value: Some(Bytes::from(record.to_string())) }])
    };
    gateway.update(vec![key.clone()], change).await
}

/// Drops the record of a node whose place another one has taken.
pub(crate) async fn forget(gateway: &Gateway, node: NodeId) -> Result<(), KvError> {
    let txn = gateway.begin(ReadWriteOptions::default());
    txn.write(vec![KvWrite { key: SystemKey::Node(node).encode(), value: None }]).await?;
    txn.commit().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_marked_or_not() {
        let address = NodeAddress { address: "h:1".into(), ..NodeAddress::default() };
        assert!(!is_decommissioned(&node_record(&address)));
        assert!(is_decommissioned(br#"{"address":"h:1","decommissioned":true}"#));
        assert!(!is_decommissioned(br#"{"decommissioned":false}"#));
        assert!(!is_decommissioned(b"nonsense"));
    }
}
