//! What the gateway asks single nodes, carried by the address book's clients.

use std::sync::Arc;

use async_trait::async_trait;
use meridian_kv::NodeAdmin;
use meridian_kv_api::{ClockInfo, ClockSourceInfo, EpsilonInfo, KvError, NodeInfo};
use meridian_rpc::admin::AdminError;
use meridian_shard::{LockStatus, ReplicaStatus};
use meridian_types::{NodeId, TxnId};

use crate::peers::{Peer, Peers};

/// [`NodeAdmin`] over the address book.
pub(crate) struct PeerNodes {
    peers: Arc<Peers>,
}

impl PeerNodes {
    pub(crate) fn new(peers: Arc<Peers>) -> Self {
        PeerNodes { peers }
    }

    fn peer(&self, node: NodeId) -> Result<Peer, KvError> {
        self.peers
            .peer(node)
            .ok_or_else(|| KvError::Unavailable { detail: format!("there is no node {node}") })
    }
}

fn unavailable(error: AdminError) -> KvError {
    KvError::Unavailable { detail: error.to_string() }
}

#[async_trait]
impl NodeAdmin for PeerNodes {
    async fn nodes(&self) -> Result<Vec<NodeInfo>, KvError> {
        let info = |seen: crate::http::Seen| NodeInfo {
            node: seen.address.node,
            address: seen.address.address,
            sql_address: seen.address.sql_address,
            http_address: seen.address.http_address,
            region: seen.address.region,
            zone: seen.address.zone,
            is_live: seen.status.is_some(),
            version: seen.address.version,
        };
        Ok(self.peers.all_statuses().await.into_iter().map(info).collect())
    }

    async fn replicas(&self, node: NodeId) -> Result<Vec<ReplicaStatus>, KvError> {
        Ok(self.peer(node)?.node_status().await.map_err(unavailable)?.replicas)
    }

    async fn locks(&self, node: NodeId, limit: usize) -> Result<Vec<LockStatus>, KvError> {
        self.peer(node)?.locks(limit).await.map_err(unavailable)
    }

    async fn transactions(&self, node: NodeId, limit: usize) -> Result<Vec<(TxnId, u64)>, KvError> {
        let open = self.peer(node)?.transactions(limit).await.map_err(unavailable)?;
        Ok(open.into_iter().map(|t| (t.txn, t.buffered_bytes)).collect())
    }

    async fn clock(&self, node: NodeId) -> Result<ClockInfo, KvError> {
        let clock = self.peer(node)?.node_status().await.map_err(unavailable)?.clock;
        let source = |s: meridian_rpc::admin::ClockSourceStatus| ClockSourceInfo {
            master: s.master,
            low_ns: s.low_ns,
            high_ns: s.high_ns,
            accepted: s.accepted,
            reason: s.reason,
            round_trip_ns: s.round_trip_ns,
            uncertainty_ns: s.uncertainty_ns,
            age_ns: s.age_ns,
            failures: s.failures,
        };
        Ok(ClockInfo {
            node,
            interval: clock.interval.map(|(e, l)| (e, l, (l - e).half_up().as_nanos())),
            unsure: clock.unsure,
            parts: clock.parts.map(|p| EpsilonInfo {
                masters_ns: p.masters_ns,
                network_ns: p.network_ns,
                drift_ns: p.drift_ns,
            }),
            drift_faults: clock.drift_faults,
            sources: clock.sources.into_iter().map(source).collect(),
        })
    }

    async fn may_lead(&self, node: NodeId) -> Result<bool, KvError> {
        let status = self.peer(node)?.node_status().await.map_err(unavailable)?;
        Ok(!status.draining && !status.disk_failed && status.clock.interval.is_some())
    }

    async fn publish_catalog(&self, node: NodeId, version: u64) -> Result<(), KvError> {
        self.peer(node)?.publish_catalog(version).await.map_err(unavailable)
    }
}
