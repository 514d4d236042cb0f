//! What operators see and do, as SQL's `meridian` schema needs it.

use async_trait::async_trait;
use meridian_types::{Key, NodeId, Timestamp};

use crate::KvError;

/// A node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeInfo {
    /// Its id.
    pub node: NodeId,
    /// Where other nodes reach it.
    pub address: String,
    /// Where clients reach it.
    pub sql_address: String,
    /// Where browsers reach it.
    pub http_address: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// Heard from lately.
    pub is_live: bool,
    /// The build it runs.
    pub version: String,
}

/// A shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardInfo {
    /// Its Paxos group.
    pub group: u64,
    /// First key.
    pub start: Key,
    /// First key beyond.
    pub end: Option<Key>,
    /// Its generation.
    pub generation: u64,
    /// Where its replicas are.
    pub replicas: Vec<NodeId>,
    /// Of what kind each of them is: voter, read-only, witness, observer.
    pub kinds: Vec<&'static str>,
    /// Who leads, as far as is known.
    pub leader: Option<NodeId>,
}

/// A leader lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseInfo {
    /// The group.
    pub group: u64,
    /// The leader.
    pub leader: NodeId,
    /// Its ballot's round.
    pub round: u64,
    /// When the lease ends.
    pub lease_end: Timestamp,
    /// Safe time at the leader.
    pub safe_time: Timestamp,
    /// Chosen through.
    pub committed: u64,
    /// Applied through.
    pub applied: u64,
}

/// A lock that is held or waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockInfo {
    /// The group.
    pub group: u64,
    /// First key locked.
    pub start: Key,
    /// First key beyond.
    pub end: Option<Key>,
    /// Who.
    pub txn: String,
    /// `shared` or `exclusive`.
    pub mode: &'static str,
    /// False for a waiter.
    pub granted: bool,
}

/// A transaction of some gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionInfo {
    /// Who.
    pub txn: String,
    /// Its gateway.
    pub gateway: NodeId,
    /// When its first attempt began.
    pub started: Timestamp,
    /// Bytes buffered.
    pub buffered_bytes: u64,
}

/// A time master as a node's clock sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClockSourceInfo {
    /// Its address.
    pub master: String,
    /// Lower bound of its offset to the node's estimate, in nanoseconds.
    pub low_ns: i64,
    /// Upper bound.
    pub high_ns: i64,
    /// Inside the majority's intersection.
    pub accepted: bool,
    /// Why not, or empty.
    pub reason: String,
    /// The round trip of the answer in use, in nanoseconds.
    pub round_trip_ns: u64,
    /// What the master did not know itself, in nanoseconds.
    pub uncertainty_ns: u64,
    /// The age of that answer, in nanoseconds.
    pub age_ns: u64,
    /// Polls that failed since.
    pub failures: u64,
}

/// What epsilon is made of, in nanoseconds. The parts add up to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EpsilonInfo {
    /// What the masters did not know themselves.
    pub masters_ns: u64,
    /// What the way to them, and their differences, added.
    pub network_ns: u64,
    /// What has grown since by drift.
    pub drift_ns: u64,
}

/// A node's clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClockInfo {
    /// The node.
    pub node: NodeId,
    /// Bounds of now and half of their distance in nanoseconds; `None` while unsure.
    pub interval: Option<(Timestamp, Timestamp, u64)>,
    /// Why it is unsure, or empty.
    pub unsure: String,
    /// What epsilon is made of; `None` while unsure.
    pub parts: Option<EpsilonInfo>,
    /// How often what the masters agreed on contradicted what they had agreed on before.
    pub drift_faults: u64,
    /// What it hears.
    pub sources: Vec<ClockSourceInfo>,
}

/// What becomes of a node's replica of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplicaChange {
    /// A new one, which holds the data, serves reads, and does not vote.
    Add,
    /// A new one that votes and keeps the log, without data: a witness.
    AddWitness,
    /// It votes, and may lead.
    Promote,
    /// It votes no more.
    Demote,
    /// It goes.
    Remove,
}

/// Operators' view and controls of the cluster.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// The node that this session runs on.
    fn local_node(&self) -> NodeId;

    /// All nodes.
    async fn nodes(&self) -> Result<Vec<NodeInfo>, KvError>;

    /// All shards.
    async fn shards(&self) -> Result<Vec<ShardInfo>, KvError>;

    /// The leases of the groups.
    async fn leases(&self) -> Result<Vec<LeaseInfo>, KvError>;

    /// The locks at all leaders, at most a few thousand.
    async fn locks(&self) -> Result<Vec<LockInfo>, KvError>;

    /// The open read-write transactions of all gateways.
    async fn transactions(&self) -> Result<Vec<TransactionInfo>, KvError>;

    /// The clocks of all nodes.
    async fn clocks(&self) -> Result<Vec<ClockInfo>, KvError>;

    /// Makes `key` the first key of a shard. No error where it is already.
    async fn split_at(&self, key: Key) -> Result<(), KvError>;

    /// Hands the leadership of a group to a node that holds a voter of it.
    async fn transfer_leader(&self, group: u64, node: NodeId) -> Result<(), KvError>;

    /// Moves a replica of a group from one node to another. Done when the data has moved.
    async fn move_replica(&self, group: u64, from: NodeId, to: NodeId) -> Result<(), KvError>;

    /// Changes a node's replica of a group. Done when it is so, and for a promotion when it has the data.
    async fn change_replica(&self, group: u64, node: NodeId, change: ReplicaChange) -> Result<(), KvError>;

    /// A number that was never returned before under this name, cluster-wide (descriptor ids).
    async fn allocate_id(&self, counter: &str) -> Result<u64, KvError>;

    /// Tells every node that the catalog has reached `version`, and returns when each of them has either switched to
    /// it and finished what it had planned on older versions, or lost its schema lease.
    async fn publish_catalog(&self, version: u64) -> Result<(), KvError>;
}
