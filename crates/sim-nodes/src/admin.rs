//! What gateways ask single nodes, over the simulated network.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use meridian_kv::NodeAdmin;
use meridian_kv_api::{ClockInfo, KvError, NodeInfo};
use meridian_member::Member;
use meridian_shard::{LockStatus, ReplicaStatus};
use meridian_types::{NodeId, TxnId};

use crate::host::Surroundings;

/// Half of a question's way.
const WAY: Duration = Duration::from_millis(1);

/// A question that is not answered is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// [`NodeAdmin`] of one node.
pub(crate) struct WorldAdmin {
    me: NodeId,
    surroundings: Surroundings,
}

impl WorldAdmin {
    pub(crate) fn new(me: NodeId, surroundings: &Surroundings) -> Self {
        WorldAdmin { me, surroundings: surroundings.clone() }
    }

    /// Has `node` answer, in its own time.
    async fn ask<T: Send + 'static>(
        &self,
        node: NodeId,
        question: impl FnOnce(Arc<Member>) -> BoxFuture<'static, T> + Send,
    ) -> Result<T, KvError> {
        let unavailable = |detail: &str| KvError::Unavailable { detail: format!("node {node}: {detail}") };
        tokio::time::sleep(WAY).await;
        let face = self.surroundings.faces.lock().get(&node).cloned();
        let face = face.ok_or_else(|| unavailable("connection refused"))?;
        if !self.surroundings.network.is_reachable(self.me, node) {
            tokio::time::sleep(PATIENCE).await;
            return Err(unavailable("no answer"));
        }
        let answer = face.handle.spawn(question(face.member));
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        tokio::time::sleep(WAY).await;
        if !self.surroundings.network.is_reachable(self.me, node) {
            return Err(unavailable("the answer is lost"));
        }
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(unavailable("connection reset")),
            Err(_) => Err(unavailable("no answer")),
        }
    }
}

#[async_trait]
impl NodeAdmin for WorldAdmin {
    async fn nodes(&self) -> Result<Vec<NodeInfo>, KvError> {
        let up = self.surroundings.faces.lock();
        let info = |a: &meridian_rpc::admin::NodeAddress| NodeInfo {
            node: a.node,
            address: a.address.clone(),
            sql_address: a.sql_address.clone(),
            http_address: a.http_address.clone(),
            region: a.region.clone(),
            zone: a.zone.clone(),
            is_live: up.contains_key(&a.node) && self.surroundings.network.is_reachable(self.me, a.node),
            version: a.version.clone(),
        };
        Ok(self.surroundings.book.iter().map(info).collect())
    }

    async fn replicas(&self, node: NodeId) -> Result<Vec<ReplicaStatus>, KvError> {
        self.ask(node, |member| Box::pin(async move { member.node.status() })).await
    }

    async fn locks(&self, node: NodeId, limit: usize) -> Result<Vec<LockStatus>, KvError> {
        self.ask(node, move |member| Box::pin(async move { member.node.locks(limit) })).await
    }

    async fn transactions(&self, node: NodeId, limit: usize) -> Result<Vec<(TxnId, u64)>, KvError> {
        self.ask(node, move |member| Box::pin(async move { member.gateway.local_transactions(limit) })).await
    }

    async fn clock(&self, node: NodeId) -> Result<ClockInfo, KvError> {
        self.ask(node, move |member| {
            Box::pin(async move {
                let status = member.node.clock().status();
                ClockInfo {
                    node,
                    interval: status.interval.map(|(e, l)| (e, l, (l - e).half_up().as_nanos())),
                    unsure: status.unsure,
                    parts: None,
                    drift_faults: status.drift_faults,
                    sources: Vec::new(),
                }
            })
        })
        .await
    }

    async fn may_lead(&self, node: NodeId) -> Result<bool, KvError> {
        self.ask(node, |member| Box::pin(async move { member.may_lead() })).await
    }

    async fn publish_catalog(&self, node: NodeId, version: u64) -> Result<(), KvError> {
        let published = self
            .ask(node, move |member| Box::pin(async move { member.catalog.publish(version).await }))
            .await?;
        published.map_err(|error| KvError::Unavailable { detail: error.to_string() })
    }
}
