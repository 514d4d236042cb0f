//! The records of nodes in the system keyspace.
//!
//! ```text
//!   (none) --first start--> there --decommission, or succession--> marked --a schema lease later--> silent, for ever
//! ```
//! A node that was decommissioned has no replica, is in no address book, and does not come back: its id belongs to a folder
//! whose promises nobody counts on any more. The mark is what nodes learn it by that were away.
//!
//! A record is also the licence to plan (docs/decisions/0014). A node writes its record before it has its first schema
//! lease, and each refresh of the lease reads the record in the snapshot that it reads the catalog in, at a timestamp not
//! below the moment that the lease counts from. So
//!
//! - whoever announces a schema change and then reads the records finds every node that may plan without having seen the
//!   announcement: one whose record was written later, reads the announcement before it plans;
//! - a refresh that extends a lease has not seen the mark, so it read below the mark's timestamp `m`, and its lease ends
//!   below `m + lease`. Whoever has seen the mark reads `now().latest() >= m`; when that and a lease have surely passed,
//!   whatever the node has planned can neither commit nor read at any time from then on. Whoever waits for that writes
//!   *silent*, and nobody waits for the node again.
//!
//! Invariant: a record that is silent belongs to a node that neither has a schema lease nor will have one.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use meridian_keys::SystemKey;
use meridian_kv_api::{Kv, KvError, KvWrite, Locking, ReadBound, ReadOnlyOptions, ScanRequest};
use meridian_rpc::admin::NodeAddress;
use meridian_types::NodeId;
use serde_json::Value;

use crate::gateway::Gateway;

/// The name of the mark.
const MARK: &str = "decommissioned";

/// The name of what follows the mark.
const SILENT: &str = "silent";

/// A page of node records; there are no more nodes than that.
const NODES_MAX: usize = 10_000;

/// This node is to be no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this node was decommissioned: it can join again only with a new data folder")]
pub struct Decommissioned;

/// A node's address for the system keyspace, as JSON: operators and other nodes read it.
pub fn node_record(node: &NodeAddress) -> Bytes {
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
pub fn is_decommissioned(record: &[u8]) -> bool {
    serde_json::from_slice::<Value>(record).is_ok_and(|record| record[MARK] == true)
}

/// Whether the node whose record this is may have a new schema lease.
pub fn may_plan(record: Option<&[u8]>) -> bool {
    record.is_some_and(|record| !is_decommissioned(record))
}

/// Every record, in the order of ids.
pub async fn records(gateway: &Gateway) -> Result<Vec<(NodeId, Value)>, KvError> {
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

/// The nodes that may have planned something which they have not yet committed.
pub(crate) async fn planners(gateway: &Gateway) -> Result<Vec<NodeId>, KvError> {
    let all = records(gateway).await?;
    Ok(all.into_iter().filter(|(_, record)| record[SILENT] != true).map(|(node, _)| node).collect())
}

/// The nodes that are to be no more.
pub async fn gone(gateway: &Gateway) -> Result<BTreeSet<NodeId>, KvError> {
    let all = records(gateway).await?;
    Ok(all.into_iter().filter(|(_, record)| record[MARK] == true).map(|(node, _)| node).collect())
}

/// Sets a name in a node's record to true.
async fn set(gateway: &Gateway, node: NodeId, name: &str) -> Result<(), KvError> {
    let key = SystemKey::Node(node).encode();
    let change = |stored: Vec<Option<Bytes>>| {
        let found = stored.first().and_then(Option::as_ref);
        let mut record: Value = found
            .and_then(|r| serde_json::from_slice(r).ok())
            .unwrap_or_else(|| Value::Object(Default::default()));
        if record[name] == true {
            return Ok(Vec::new());
        }
        record[name] = Value::Bool(true);
        Ok(vec![KvWrite { key: key.clone(), value: Some(Bytes::from(record.to_string())) }])
    };
    gateway.update(vec![key.clone()], change).await
}

/// Marks a node as one that is to be no more.
pub async fn mark(gateway: &Gateway, node: NodeId) -> Result<(), KvError> {
    set(gateway, node, MARK).await
}

/// Waits until those that are marked can't plan any more, and writes it down. Any node may do so, and again.
pub async fn silence(gateway: &Gateway, schema_lease: Duration) -> Result<(), KvError> {
    let all = records(gateway).await?;
    let is_over = |record: &Value| record[MARK] == true && record[SILENT] != true;
    let over: Vec<NodeId> = all.into_iter().filter(|(_, r)| is_over(r)).map(|(node, _)| node).collect();
    if over.is_empty() {
        return Ok(());
    }
    gateway.core.wait_past(gateway.core.now()?.latest() + schema_lease.into()).await;
    for node in over {
        set(gateway, node, SILENT).await?;
    }
    Ok(())
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
        assert!(may_plan(Some(&node_record(&address))));
        assert!(!may_plan(Some(br#"{"address":"h:1","decommissioned":true}"#)));
        assert!(!may_plan(None), "a node has its record before its first lease");
    }
}
