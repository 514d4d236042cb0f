//! The cluster of one node that an in-memory store is.

use async_trait::async_trait;
use meridian_types::{Key, NodeId, Timestamp};

use crate::memory::{MemoryKv, NODE};
use crate::{
    ClockInfo, Cluster, EpsilonInfo, KvError, LeaseInfo, LockInfo, NodeInfo, ReadLock, ReplicaChange,
    ShardInfo, TransactionInfo,
};

#[async_trait]
impl Cluster for MemoryKv {
    fn local_node(&self) -> NodeId {
        NODE
    }

    async fn nodes(&self) -> Result<Vec<NodeInfo>, KvError> {
        Ok(vec![NodeInfo {
            node: NODE,
            address: String::new(),
            sql_address: String::new(),
            http_address: String::new(),
            region: "local".into(),
            zone: "local".into(),
            is_live: true,
            version: env!("CARGO_PKG_VERSION").into(),
        }])
    }

    async fn shards(&self) -> Result<Vec<ShardInfo>, KvError> {
        let state = self.inner.lock();
        let starts: Vec<Key> = std::iter::once(Key::MIN).chain(state.splits.iter().cloned()).collect();
        let ends = starts.iter().skip(1).cloned().map(Some).chain(std::iter::once(None));
        let shards = starts.iter().cloned().zip(ends).zip(1..).map(|((start, end), group)| ShardInfo {
            group,
            start,
            end,
            generation: state.splits.len() as u64,
            replicas: vec![NODE],
            kinds: vec!["voter"],
            leader: Some(NODE),
        });
        Ok(shards.collect())
    }

    async fn leases(&self) -> Result<Vec<LeaseInfo>, KvError> {
        let groups = self.shards().await?;
        let now = self.inner.lock().now();
        let lease = |group| LeaseInfo {
            group,
            leader: NODE,
            round: 1,
            lease_end: Timestamp::MAX,
            safe_time: now,
            committed: 0,
            applied: 0,
        };
        Ok(groups.iter().map(|shard| lease(shard.group)).collect())
    }

    async fn locks(&self) -> Result<Vec<LockInfo>, KvError> {
        let state = self.inner.lock();
        let all = state.open.iter().flat_map(|(id, open)| open.locks.iter().map(move |lock| (id, lock)));
        let info = all.map(|(id, (span, mode))| LockInfo {
            group: 1 + state.splits.range(..=span.start.clone()).count() as u64,
            start: span.start,
            end: span.end,
            txn: id.to_string(),
            mode: if mode == ReadLock::Exclusive { "exclusive" } else { "shared" },
            granted: true,
        });
        Ok(info.collect())
    }

    async fn transactions(&self) -> Result<Vec<TransactionInfo>, KvError> {
        let state = self.inner.lock();
        let info = state.open.iter().map(|(id, open)| TransactionInfo {
            txn: id.to_string(),
            gateway: NODE,
            started: id.first_start,
            buffered_bytes: open.buffered_bytes,
        });
        Ok(info.collect())
    }

    async fn clocks(&self) -> Result<Vec<ClockInfo>, KvError> {
        let now = self.inner.lock().now();
        Ok(vec![ClockInfo {
            node: NODE,
            interval: Some((now, now, 0)),
            unsure: String::new(),
            parts: Some(EpsilonInfo::default()),
            drift_faults: 0,
            sources: Vec::new(),
        }])
    }

    async fn split_at(&self, key: Key) -> Result<(), KvError> {
        if key != Key::MIN {
            self.inner.lock().splits.insert(key);
        }
        Ok(())
    }

    async fn transfer_leader(&self, group: u64, node: NodeId) -> Result<(), KvError> {
        if node == NODE {
            return Ok(());
        }
        Err(KvError::Unavailable { detail: format!("group {group} has no voter on node {node}") })
    }

    async fn move_replica(&self, group: u64, from: NodeId, to: NodeId) -> Result<(), KvError> {
        if from == NODE && to == NODE {
            return Ok(());
        }
        Err(KvError::Unavailable { detail: format!("group {group} lives on node {NODE} alone") })
    }

    async fn change_replica(&self, group: u64, node: NodeId, change: ReplicaChange) -> Result<(), KvError> {
        if node == NODE && change == ReplicaChange::Promote {
            return Ok(());
        }
        Err(KvError::Unavailable { detail: format!("group {group} lives on node {NODE} alone") })
    }

    async fn allocate_id(&self, counter: &str) -> Result<u64, KvError> {
        let mut state = self.inner.lock();
        let next = state.counters.entry(counter.to_owned()).or_default();
        *next += 1;
        Ok(*next)
    }

    async fn publish_catalog(&self, _version: u64) -> Result<(), KvError> {
        Ok(())
    }
}
