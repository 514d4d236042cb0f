//! The cluster as JSON: what the console draws and what `status --json` prints.

use std::collections::BTreeMap;

use meridian_keys::Pretty;
use meridian_rpc::admin::{NodeAddress, NodeStatus};
use meridian_shard::ReplicaStatus;
use serde_json::{Value, json};

/// What is known of one node: its record, and its own answer if it gave one.
pub(crate) struct Seen {
    pub(crate) address: NodeAddress,
    pub(crate) status: Option<NodeStatus>,
}

/// All nodes, clocks and shards. A shard is described by its leader where that answered, else by any replica.
pub(crate) fn view(nodes: &[Seen]) -> Value {
    let mut shards: BTreeMap<u64, &ReplicaStatus> = BTreeMap::new();
    for replica in nodes.iter().filter_map(|n| n.status.as_ref()).flat_map(|s| &s.replicas) {
        let known = shards.entry(replica.descriptor.group.get()).or_insert(replica);
        let rank = |r: &ReplicaStatus| (r.is_leader, r.descriptor.generation, r.applied);
        if rank(replica) > rank(known) {
            *known = replica;
        }
    }
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "nodes": nodes.iter().map(node_row).collect::<Vec<_>>(),
        "clocks": nodes.iter().map(clock_row).collect::<Vec<_>>(),
        "shards": shards.values().map(|r| shard_row(r)).collect::<Vec<_>>(),
        "alerts": alerts(nodes, &shards),
    })
}

/// One node's own view.
pub(crate) fn node(status: &NodeStatus) -> Value {
    json!({
        "node": status.node.node.get(),
        "replicas": status.replicas.iter().map(shard_row).collect::<Vec<_>>(),
        "counters": status.counters.iter().cloned().collect::<BTreeMap<String, u64>>(),
        "uptime_s": status.uptime_ns / 1_000_000_000,
    })
}

fn node_row(seen: &Seen) -> Value {
    let status = seen.status.as_ref();
    json!({
        "node": seen.address.node.get(),
        "address": seen.address.address,
        "sql_address": seen.address.sql_address,
        "http_address": seen.address.http_address,
        "region": seen.address.region,
        "zone": seen.address.zone,
        "version": seen.address.version,
        "live": status.is_some(),
        "draining": status.is_some_and(|s| s.draining),
        "disk_failed": status.is_some_and(|s| s.disk_failed),
        "leads": status.map_or(0, |s| s.replicas.iter().filter(|r| r.is_leader).count()),
        "replicas": status.map_or(0, |s| s.replicas.len()),
        "sessions": status.map_or(0, |s| s.sessions),
        "transactions": status.map_or(0, |s| s.transactions),
    })
}

fn clock_row(seen: &Seen) -> Value {
    let Some(status) = &seen.status else {
        return json!({ "node": seen.address.node.get(), "epsilon_ns": null, "unsure": "node does not answer", "sources": [] });
    };
    let interval = status.clock.interval;
    let sources = status.clock.sources.iter().map(|s| {
        json!({
            "master": s.master,
            "low_ns": s.low_ns,
            "high_ns": s.high_ns,
            "accepted": s.accepted,
            "reason": s.reason,
            "round_trip_ns": s.round_trip_ns,
            "uncertainty_ns": s.uncertainty_ns,
            "age_ns": s.age_ns,
            "failures": s.failures,
        })
    });
    json!({
        "node": seen.address.node.get(),
        "earliest": interval.map(|(earliest, _)| earliest.as_nanos()),
        "latest": interval.map(|(_, latest)| latest.as_nanos()),
        "epsilon_ns": interval.map(|(earliest, latest)| (latest - earliest).half_up().as_nanos()),
        "epsilon_masters_ns": status.clock.parts.map(|p| p.masters_ns),
        "epsilon_network_ns": status.clock.parts.map(|p| p.network_ns),
        "epsilon_drift_ns": status.clock.parts.map(|p| p.drift_ns),
        "drift_faults": status.clock.drift_faults,
        "unsure": status.clock.unsure,
        "sources": sources.collect::<Vec<_>>(),
    })
}

fn shard_row(replica: &ReplicaStatus) -> Value {
    let span = &replica.descriptor.span;
    json!({
        "group": replica.descriptor.group.get(),
        "generation": replica.descriptor.generation,
        "start": Pretty(span.start.as_bytes()).to_string(),
        "end": span.end.as_ref().map(|end| Pretty(end.as_bytes()).to_string()),
        "replicas": replica.descriptor.replicas.iter().map(|(node, _)| node.get()).collect::<Vec<_>>(),
        "kinds": replica.descriptor.replicas.iter().map(|(_, kind)| kind.name()).collect::<Vec<_>>(),
        "leader": replica.leader.map(|n| n.get()),
        "lease_end": replica.lease_end.map(|t| t.as_nanos()),
        "ballot": replica.ballot.to_string(),
        "committed": replica.committed.get(),
        "applied": replica.applied.get(),
        "safe_time": replica.safe_time.as_nanos(),
        "prepared": replica.prepared,
        "lock_holders": replica.lock_holders,
        "lock_waiters": replica.lock_waiters,
    })
}

/// What an operator should look at.
fn alerts(nodes: &[Seen], shards: &BTreeMap<u64, &ReplicaStatus>) -> Vec<String> {
    let mut alerts = Vec::new();
    for seen in nodes {
        let id = seen.address.node.get();
        match &seen.status {
            None => alerts.push(format!("node {id} does not answer")),
            Some(status) => {
                if status.disk_failed {
                    alerts.push(format!("node {id}: its disk failed, it votes and leads no more"));
                }
                if status.clock.interval.is_none() {
                    alerts.push(format!("node {id}: its clock is unsure: {}", status.clock.unsure));
                }
            }
        }
    }
    for (group, replica) in shards {
        if replica.leader.is_none() {
            alerts.push(format!("shard {group} has no leader"));
        }
    }
    alerts
}
