//! The administrative service.

use meridian_shard::{LockStatus, ReplicaStatus};
use meridian_types::{FolderId, GroupId, NodeId, Slot, Timestamp};

use super::{WireError, all, each, need, proto};
use crate::admin::{
    BootstrapRequest, ClockSourceStatus, ClockStatus, EpsilonParts, InitReply, JoinReply, JoinRequest,
    NodeAddress, NodeStatus, TransactionStatus,
};

impl From<NodeAddress> for proto::NodeAddress {
    fn from(a: NodeAddress) -> Self {
        proto::NodeAddress {
            node: a.node.get(),
            address: a.address,
            sql_address: a.sql_address,
            http_address: a.http_address,
            region: a.region,
            zone: a.zone,
            version: a.version,
            folder_high: (a.folder.get() >> 64) as u64,
            folder_low: a.folder.get() as u64,
        }
    }
}

impl From<proto::NodeAddress> for NodeAddress {
    fn from(a: proto::NodeAddress) -> Self {
        NodeAddress {
            node: NodeId::new(a.node),
            address: a.address,
            sql_address: a.sql_address,
            http_address: a.http_address,
            region: a.region,
            zone: a.zone,
            version: a.version,
            folder: FolderId::new((u128::from(a.folder_high) << 64) | u128::from(a.folder_low)),
        }
    }
}

impl From<InitReply> for proto::InitReply {
    fn from(r: InitReply) -> Self {
        proto::InitReply { cluster: Some(r.cluster.into()), nodes: each(r.nodes) }
    }
}

impl TryFrom<proto::InitReply> for InitReply {
    type Error = WireError;
    fn try_from(r: proto::InitReply) -> Result<Self, WireError> {
        Ok(InitReply { cluster: need(r.cluster, "init_reply.cluster")?.into(), nodes: each(r.nodes) })
    }
}

impl From<JoinRequest> for proto::JoinRequest {
    fn from(r: JoinRequest) -> Self {
        proto::JoinRequest { node: Some(r.node.into()), cluster: r.cluster.map(Into::into) }
    }
}

impl TryFrom<proto::JoinRequest> for JoinRequest {
    type Error = WireError;
    fn try_from(r: proto::JoinRequest) -> Result<Self, WireError> {
        Ok(JoinRequest { node: need(r.node, "join.node")?.into(), cluster: r.cluster.map(Into::into) })
    }
}

impl From<JoinReply> for proto::JoinReply {
    fn from(r: JoinReply) -> Self {
        proto::JoinReply {
            cluster: r.cluster.map(Into::into),
            node: r.node.map_or(0, NodeId::get),
            nodes: each(r.nodes),
        }
    }
}

impl From<proto::JoinReply> for JoinReply {
    fn from(r: proto::JoinReply) -> Self {
        JoinReply {
            cluster: r.cluster.map(Into::into),
            node: (r.node != 0).then(|| NodeId::new(r.node)),
            nodes: each(r.nodes),
        }
    }
}

impl From<BootstrapRequest> for proto::BootstrapRequest {
    fn from(r: BootstrapRequest) -> Self {
        proto::BootstrapRequest {
            cluster: Some(r.cluster.into()),
            node: r.node.get(),
            nodes: each(r.nodes),
            shards: each(r.shards),
            campaign: r.campaign.into_iter().map(GroupId::get).collect(),
        }
    }
}

impl TryFrom<proto::BootstrapRequest> for BootstrapRequest {
    type Error = WireError;
    fn try_from(r: proto::BootstrapRequest) -> Result<Self, WireError> {
        Ok(BootstrapRequest {
            cluster: need(r.cluster, "bootstrap.cluster")?.into(),
            node: NodeId::new(r.node),
            nodes: each(r.nodes),
            shards: all(r.shards)?,
            campaign: r.campaign.into_iter().map(GroupId::new).collect(),
        })
    }
}

impl From<ClockSourceStatus> for proto::ClockSource {
    fn from(s: ClockSourceStatus) -> Self {
        proto::ClockSource {
            master: s.master,
            low_ns: s.low_ns,
            high_ns: s.high_ns,
            accepted: s.accepted,
            reason: s.reason,
            round_trip_ns: s.round_trip_ns,
            uncertainty_ns: s.uncertainty_ns,
            age_ns: s.age_ns,
            failures: s.failures,
        }
    }
}

impl From<proto::ClockSource> for ClockSourceStatus {
    fn from(s: proto::ClockSource) -> Self {
        ClockSourceStatus {
            master: s.master,
            low_ns: s.low_ns,
            high_ns: s.high_ns,
            accepted: s.accepted,
            reason: s.reason,
            round_trip_ns: s.round_trip_ns,
            uncertainty_ns: s.uncertainty_ns,
            age_ns: s.age_ns,
            failures: s.failures,
        }
    }
}

impl From<ClockStatus> for proto::Clock {
    fn from(c: ClockStatus) -> Self {
        proto::Clock {
            interval: c.interval.map(|(earliest, latest)| proto::clock::Interval {
                earliest: earliest.as_nanos(),
                latest: latest.as_nanos(),
            }),
            unsure: c.unsure,
            sources: each(c.sources),
            parts: c.parts.map(|p| proto::clock::Parts {
                masters_ns: p.masters_ns,
                network_ns: p.network_ns,
                drift_ns: p.drift_ns,
            }),
            drift_faults: c.drift_faults,
        }
    }
}

impl TryFrom<proto::Clock> for ClockStatus {
    type Error = WireError;
    fn try_from(c: proto::Clock) -> Result<Self, WireError> {
        let interval =
            c.interval.map(|i| (Timestamp::from_nanos(i.earliest), Timestamp::from_nanos(i.latest)));
        if interval.is_some_and(|(earliest, latest)| earliest > latest) {
            return Err(WireError::OutOfRange { field: "clock.interval" });
        }
        let parts = c.parts.map(|p| EpsilonParts {
            masters_ns: p.masters_ns,
            network_ns: p.network_ns,
            drift_ns: p.drift_ns,
        });
        let (drift_faults, sources) = (c.drift_faults, each(c.sources));
        Ok(ClockStatus { interval, unsure: c.unsure, parts, drift_faults, sources })
    }
}

impl From<ReplicaStatus> for proto::Replica {
    fn from(r: ReplicaStatus) -> Self {
        proto::Replica {
            descriptor: Some(r.descriptor.into()),
            leader: r.leader.map(NodeId::get),
            is_leader: r.is_leader,
            lease_end: r.lease_end.map(Timestamp::as_nanos),
            ballot: Some(r.ballot.into()),
            committed: r.committed.get(),
            applied: r.applied.get(),
            safe_time: r.safe_time.as_nanos(),
            prepared: r.prepared as u64,
            lock_holders: r.lock_holders as u64,
            lock_waiters: r.lock_waiters as u64,
        }
    }
}

fn count(n: u64, field: &'static str) -> Result<usize, WireError> {
    usize::try_from(n).map_err(|_| WireError::OutOfRange { field })
}

impl TryFrom<proto::Replica> for ReplicaStatus {
    type Error = WireError;
    fn try_from(r: proto::Replica) -> Result<Self, WireError> {
        Ok(ReplicaStatus {
            descriptor: need(r.descriptor, "replica.descriptor")?.try_into()?,
            leader: r.leader.map(NodeId::new),
            is_leader: r.is_leader,
            lease_end: r.lease_end.map(Timestamp::from_nanos),
            ballot: need(r.ballot, "replica.ballot")?.into(),
            committed: Slot::new(r.committed),
            applied: Slot::new(r.applied),
            safe_time: Timestamp::from_nanos(r.safe_time),
            prepared: count(r.prepared, "replica.prepared")?,
            lock_holders: count(r.lock_holders, "replica.lock_holders")?,
            lock_waiters: count(r.lock_waiters, "replica.lock_waiters")?,
        })
    }
}

impl From<NodeStatus> for proto::NodeStatusReply {
    fn from(s: NodeStatus) -> Self {
        proto::NodeStatusReply {
            node: Some(s.node.into()),
            cluster: s.cluster.map(Into::into),
            clock: Some(s.clock.into()),
            replicas: each(s.replicas),
            sessions: s.sessions,
            transactions: s.transactions,
            disk_failed: s.disk_failed,
            draining: s.draining,
            uptime_ns: s.uptime_ns,
            counters: s.counters.into_iter().map(|(name, value)| proto::Counter { name, value }).collect(),
        }
    }
}

impl TryFrom<proto::NodeStatusReply> for NodeStatus {
    type Error = WireError;
    fn try_from(s: proto::NodeStatusReply) -> Result<Self, WireError> {
        Ok(NodeStatus {
            node: need(s.node, "node_status.node")?.into(),
            cluster: s.cluster.map(Into::into),
            clock: need(s.clock, "node_status.clock")?.try_into()?,
            replicas: all(s.replicas)?,
            sessions: s.sessions,
            transactions: s.transactions,
            disk_failed: s.disk_failed,
            draining: s.draining,
            uptime_ns: s.uptime_ns,
            counters: s.counters.into_iter().map(|c| (c.name, c.value)).collect(),
        })
    }
}

impl From<LockStatus> for proto::Lock {
    fn from(l: LockStatus) -> Self {
        proto::Lock {
            group: l.group.get(),
            span: Some(l.span.into()),
            txn: Some(l.txn.into()),
            mode: proto::LockMode::from(l.mode).into(),
            granted: l.granted,
        }
    }
}

impl TryFrom<proto::Lock> for LockStatus {
    type Error = WireError;
    fn try_from(l: proto::Lock) -> Result<Self, WireError> {
        Ok(LockStatus {
            group: GroupId::new(l.group),
            mode: l.mode().try_into()?,
            span: need(l.span, "lock.span")?.into(),
            txn: need(l.txn, "lock.txn")?.into(),
            granted: l.granted,
        })
    }
}

impl From<TransactionStatus> for proto::Transaction {
    fn from(t: TransactionStatus) -> Self {
        proto::Transaction { txn: Some(t.txn.into()), buffered_bytes: t.buffered_bytes }
    }
}

impl TryFrom<proto::Transaction> for TransactionStatus {
    type Error = WireError;
    fn try_from(t: proto::Transaction) -> Result<Self, WireError> {
        Ok(TransactionStatus {
            txn: need(t.txn, "transaction.txn")?.into(),
            buffered_bytes: t.buffered_bytes,
        })
    }
}
