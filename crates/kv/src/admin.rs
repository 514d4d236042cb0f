//! Operators' view and controls, from the shard map and from what each node says about itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use meridian_keys::{Counter, SystemKey, meta_span};
use meridian_kv_api::{
    ClockInfo, Cluster, Kv, KvError, KvWrite, LeaseInfo, LockInfo, Locking, NodeInfo, ReadBound,
    ReadOnlyOptions, ReplicaChange, ScanRequest, ShardInfo, TransactionInfo,
};
use meridian_shard::{LockMode, LockStatus, ReplicaStatus, Request, ShardDescriptor};
use meridian_types::{GroupId, Key, NodeId, TxnId};

use crate::call::{Failure, Resend, Tries};
use crate::gateway::Gateway;
use crate::limits::{ID_BLOCK, META_PAGE_ROWS, PAUSE_MAX, STATUS_ROWS};
use crate::meta::decode_descriptor;
use crate::nodes;

/// What a gateway asks single nodes, this one included. A node that can't be reached answers
/// [`KvError::Unavailable`].
#[async_trait]
pub trait NodeAdmin: Send + Sync {
    /// The members of the cluster, as far as this node knows, with what they say of themselves.
    async fn nodes(&self) -> Result<Vec<NodeInfo>, KvError>;

    /// The replicas on a node.
    async fn replicas(&self, node: NodeId) -> Result<Vec<ReplicaStatus>, KvError>;

    /// The locks of the shards that a node leads.
    async fn locks(&self, node: NodeId, limit: usize) -> Result<Vec<LockStatus>, KvError>;

    /// The open read-write transactions of a node's gateway, with the bytes buffered; see
    /// [`Gateway::local_transactions`].
    async fn transactions(&self, node: NodeId, limit: usize) -> Result<Vec<(TxnId, u64)>, KvError>;

    /// The clock of a node.
    async fn clock(&self, node: NodeId) -> Result<ClockInfo, KvError>;

    /// Whether the node may be given leadership: it can bound its clock, its disk works, and it is not being drained.
    async fn may_lead(&self, node: NodeId) -> Result<bool, KvError>;

    /// Returns when the node plans on no catalog older than `version`.
    async fn publish_catalog(&self, node: NodeId, version: u64) -> Result<(), KvError>;
}

/// The [`Cluster`] of a running node.
pub struct ClusterAdmin {
    pub(crate) gateway: Gateway,
    pub(crate) nodes: Arc<dyn NodeAdmin>,
    /// A node that was not heard from for this long plans nothing on a catalog that it may have missed the end of.
    schema_lease: Duration,
    /// Ids taken from a counter and not given out yet. Held while a block is fetched, so that one block is fetched.
    blocks: tokio::sync::Mutex<BTreeMap<Counter, std::ops::Range<u64>>>,
}

/// The first id that a counter gives out; those below belong to what exists from the start of a cluster.
fn first_id(counter: Counter) -> u64 {
    match counter {
        Counter::Group | Counter::Descriptor => 100,
        Counter::Node | Counter::Job => 1,
    }
}

fn counter_named(name: &str) -> Result<Counter, KvError> {
    match name {
        "group" => Ok(Counter::Group),
        "node" => Ok(Counter::Node),
        "descriptor" => Ok(Counter::Descriptor),
        "job" => Ok(Counter::Job),
        _ => Err(KvError::Internal { detail: format!("there is no counter named {name:?}") }),
    }
}

/// The value of a counter: its next free id, big-endian. Persisted.
pub(crate) fn decode_counter(stored: Option<&Bytes>, counter: Counter) -> Result<u64, KvError> {
    let Some(bytes) = stored else { return Ok(first_id(counter)) };
    let bytes: Result<[u8; 8], _> = bytes.as_ref().try_into();
    let malformed = |_| KvError::Internal { detail: format!("malformed counter {counter:?}") };
    bytes.map(u64::from_be_bytes).map_err(malformed)
}

impl ClusterAdmin {
    /// The view through a gateway. Also gives the gateway the means to repair the shard map.
    pub fn new(gateway: Gateway, nodes: Arc<dyn NodeAdmin>, schema_lease: Duration) -> Self {
        gateway.set_node_admin(Arc::clone(&nodes));
        ClusterAdmin { gateway, nodes, schema_lease, blocks: tokio::sync::Mutex::default() }
    }

    async fn allocate(&self, counter: Counter) -> Result<u64, KvError> {
        let mut blocks = self.blocks.lock().await;
        let block = blocks.entry(counter).or_default();
        if let Some(id) = block.next() {
            return Ok(id);
        }
        let key = SystemKey::Counter(counter).encode();
        let taken = parking_lot::Mutex::new(0);
        let change = |stored: Vec<Option<Bytes>>| {
            let first = decode_counter(stored.first().and_then(Option::as_ref), counter)?;
            *taken.lock() = first;
            let value = Some(Bytes::copy_from_slice(&(first + ID_BLOCK).to_be_bytes()));
            Ok(vec![KvWrite { key: key.clone(), value }])
        };
        self.gateway.update(vec![key.clone()], change).await?;
        let first = *taken.lock();
        *block = first..first + ID_BLOCK;
        block.next().ok_or_else(|| KvError::Internal { detail: "a block of ids is empty".into() })
    }

    /// Every shard in the map, in order of keys.
    pub async fn descriptors(&self) -> Result<Vec<ShardDescriptor>, KvError> {
        let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: true };
        let txn = self.gateway.begin_read_only(options);
        let mut all = Vec::new();
        let mut rest = Some(meta_span());
        while let Some(span) = rest {
            let request =
                ScanRequest { span, reverse: false, limit: META_PAGE_ROWS * 16, locking: Locking::SHARED };
            let page = txn.scan(request).await?;
            for (_, value) in page.rows {
                all.push(decode_descriptor(&value)?);
            }
            rest = page.resume;
        }
        if all.is_empty() {
            all.push(self.gateway.core.router.root().descriptor.clone());
        }
        Ok(all)
    }

    /// The nodes of the cluster.
    pub(crate) async fn member_nodes(&self) -> Result<Vec<NodeId>, KvError> {
        Ok(self.nodes.nodes().await?.into_iter().map(|info| info.node).collect())
    }

    /// Gives the leadership of a shard to a node's replica, if that may lead.
    ///
    /// # Errors
    /// It may not or does not answer, it has no voter, or the shard's leader is not found.
    pub async fn lead_from(&self, group: GroupId, node: NodeId) -> Result<(), KvError> {
        if !self.nodes.may_lead(node).await? {
            return Err(KvError::Unavailable { detail: format!("node {node} is not fit to lead") });
        }
        self.transfer(group.get(), node).await
    }

    pub(crate) async fn transfer(&self, group: u64, node: NodeId) -> Result<(), KvError> {
        let shard = self.shard_of(group).await?;
        if shard.voters().all(|voter| voter != node) {
            return Err(KvError::Unavailable {
                detail: format!("group {group} has no voter on node {node}"),
            });
        }
        let core = &self.gateway.core;
        let make = || Request::TransferLeader { to: node };
        match core.ask(&shard, &mut Tries::new(), Resend::Always, &make).await {
            Ok(_) => Ok(()),
            Err(Failure::Moved) => Err(KvError::Unavailable { detail: format!("group {group} has moved") }),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Asks every live node; those that do not answer are left out, as status pages should show what there is.
    async fn ask_all<T, F: Future<Output = Result<Vec<T>, KvError>>>(
        &self,
        ask: impl Fn(NodeId) -> F,
    ) -> Result<Vec<(NodeId, T)>, KvError> {
        let nodes = self.nodes.nodes().await?;
        let answers = join_all(nodes.iter().map(|info| ask(info.node))).await;
        let rows = nodes
            .iter()
            .zip(answers)
            .flat_map(|(info, rows)| rows.unwrap_or_default().into_iter().map(move |row| (info.node, row)));
        Ok(rows.collect())
    }

    async fn replicas(&self) -> Result<Vec<(NodeId, ReplicaStatus)>, KvError> {
        self.ask_all(|node| self.nodes.replicas(node)).await
    }

    /// Tells a node of a catalog version until it has switched, or can't plan on the old one any more: whatever it has
    /// leased or begun to commit before, answering or hanging, is over when a schema lease from now on is.
    async fn publish_to(&self, node: NodeId, version: u64) -> Result<(), KvError> {
        let over = self.gateway.core.now()?.latest() + self.schema_lease.into();
        let told = async {
            while self.nodes.publish_catalog(node, version).await.is_err() {
                tokio::time::sleep(self.gateway.core.jitter(PAUSE_MAX * 4)).await;
            }
        };
        if tokio::time::timeout(self.schema_lease, told).await.is_err() {
            tracing::info!(node = node.get(), "a node did not answer within its schema lease");
            self.gateway.core.wait_past(over).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Cluster for ClusterAdmin {
    fn local_node(&self) -> NodeId {
        self.gateway.core.node
    }

    async fn nodes(&self) -> Result<Vec<NodeInfo>, KvError> {
        self.nodes.nodes().await
    }

    async fn shards(&self) -> Result<Vec<ShardInfo>, KvError> {
        let (descriptors, replicas) = futures::join!(self.descriptors(), self.replicas());
        let mut leaders: BTreeMap<GroupId, NodeId> = BTreeMap::new();
        for (node, status) in replicas.unwrap_or_default() {
            if status.is_leader {
                leaders.insert(status.descriptor.group, node);
            }
        }
        let info = |d: ShardDescriptor| ShardInfo {
            group: d.group.get(),
            start: d.span.start,
            end: d.span.end,
            generation: d.generation,
            replicas: d.replicas.iter().map(|(node, _)| *node).collect(),
            kinds: d.replicas.iter().map(|(_, kind)| kind.name()).collect(),
            leader: leaders.get(&d.group).copied(),
        };
        Ok(descriptors?.into_iter().map(info).collect())
    }

    async fn leases(&self) -> Result<Vec<LeaseInfo>, KvError> {
        let replicas = self.replicas().await?;
        let leader = |(node, status): (NodeId, ReplicaStatus)| {
            let lease_end = status.lease_end.filter(|_| status.is_leader)?;
            Some(LeaseInfo {
                group: status.descriptor.group.get(),
                leader: node,
                round: status.ballot.round,
                lease_end,
                safe_time: status.safe_time,
                committed: status.committed.get(),
                applied: status.applied.get(),
            })
        };
        let mut leases: Vec<LeaseInfo> = replicas.into_iter().filter_map(leader).collect();
        leases.sort_by_key(|lease| (lease.group, lease.round));
        Ok(leases)
    }

    async fn locks(&self) -> Result<Vec<LockInfo>, KvError> {
        let locks = self.ask_all(|node| self.nodes.locks(node, STATUS_ROWS as usize)).await?;
        let info = |(_, lock): (NodeId, LockStatus)| LockInfo {
            group: lock.group.get(),
            start: lock.span.start,
            end: lock.span.end,
            txn: lock.txn.to_string(),
            mode: if lock.mode == LockMode::Exclusive { "exclusive" } else { "shared" },
            granted: lock.granted,
        };
        Ok(locks.into_iter().map(info).collect())
    }

    async fn transactions(&self) -> Result<Vec<TransactionInfo>, KvError> {
        let open = self.ask_all(|node| self.nodes.transactions(node, STATUS_ROWS as usize)).await?;
        let info = |(gateway, (id, buffered_bytes)): (NodeId, (TxnId, u64))| TransactionInfo {
            txn: id.to_string(),
            gateway,
            started: id.first_start,
            buffered_bytes,
        };
        Ok(open.into_iter().map(info).collect())
    }

    async fn clocks(&self) -> Result<Vec<ClockInfo>, KvError> {
        let nodes = self.nodes.nodes().await?;
        let clocks = join_all(nodes.iter().map(|info| self.nodes.clock(info.node))).await;
        let silent = |node| ClockInfo {
            node,
            interval: None,
            unsure: "node is unreachable".into(),
            parts: None,
            drift_faults: 0,
            sources: Vec::new(),
        };
        Ok(nodes
            .iter()
            .zip(clocks)
            .map(|(info, clock)| clock.unwrap_or_else(|_| silent(info.node)))
            .collect())
    }

    async fn split_at(&self, key: Key) -> Result<(), KvError> {
        let group = async { self.allocate(Counter::Group).await.map(GroupId::new) };
        self.gateway.split_at(key, group).await
    }

    async fn transfer_leader(&self, group: u64, node: NodeId) -> Result<(), KvError> {
        self.transfer(group, node).await
    }

    async fn move_replica(&self, group: u64, from: NodeId, to: NodeId) -> Result<(), KvError> {
        self.move_replica_of(group, from, to).await
    }

    async fn change_replica(&self, group: u64, node: NodeId, change: ReplicaChange) -> Result<(), KvError> {
        self.change_replica_of(group, node, change).await
    }

    async fn allocate_id(&self, counter: &str) -> Result<u64, KvError> {
        self.allocate(counter_named(counter)?).await
    }

    async fn publish_catalog(&self, version: u64) -> Result<(), KvError> {
        let planners = nodes::planners(&self.gateway).await?;
        let told = planners.into_iter().map(|node| self.publish_to(node, version));
        join_all(told).await.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_decode_or_start() {
        assert_eq!(decode_counter(None, Counter::Group), Ok(100));
        assert_eq!(
            decode_counter(Some(&Bytes::from_static(&[0, 0, 0, 0, 0, 0, 1, 2])), Counter::Group),
            Ok(258)
        );
        assert!(decode_counter(Some(&Bytes::from_static(b"7")), Counter::Job).is_err());
        assert!(counter_named("nonsense").is_err());
    }
}
