//! What operators' tools, joining nodes and gateways ask a node beside the data path, as plain data.
//!
//! ```text
//!   started nodes --Join--> the nodes they were told of        (repeated until they are members)
//!   operator ------Init---> one node --Bootstrap--> each gathered node
//! ```

use async_trait::async_trait;
use meridian_shard::{LockStatus, ReplicaStatus, ShardDescriptor};
use meridian_types::{ClusterId, FolderId, GroupId, NodeId, Timestamp, TxnId};

/// Where a node is and what it runs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeAddress {
    /// Its id; zero while it is not a member.
    pub node: NodeId,
    /// Where other nodes reach it, `host:port`.
    pub address: String,
    /// Where Postgres clients reach it.
    pub sql_address: String,
    /// Where browsers reach it.
    pub http_address: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// The build it runs.
    pub version: String,
    /// Its data folder, to which its id belongs for ever; zero where it is not known.
    pub folder: FolderId,
}

/// Answer to `Init`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitReply {
    /// The new cluster.
    pub cluster: ClusterId,
    /// Its nodes.
    pub nodes: Vec<NodeAddress>,
}

/// A started node makes itself known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRequest {
    /// Itself.
    pub node: NodeAddress,
    /// What it remembers from earlier.
    pub cluster: Option<ClusterId>,
}

/// Who the asker is, as far as is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinReply {
    /// `None` while the cluster is not initialised.
    pub cluster: Option<ClusterId>,
    /// `None` while the asker is not a member.
    pub node: Option<NodeId>,
    /// The nodes known, the asker included.
    pub nodes: Vec<NodeAddress>,
}

/// The initialising node tells another who it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootstrapRequest {
    /// The cluster.
    pub cluster: ClusterId,
    /// The receiver.
    pub node: NodeId,
    /// All members.
    pub nodes: Vec<NodeAddress>,
    /// Groups of which the receiver creates its replica.
    pub shards: Vec<ShardDescriptor>,
    /// Those of them whose replica on the receiver campaigns at once.
    pub campaign: Vec<GroupId>,
}

/// A time master as a node's clock sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClockSourceStatus {
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
    /// What the master did not know itself when it answered, in nanoseconds.
    pub uncertainty_ns: u64,
    /// The age of that answer, in nanoseconds.
    pub age_ns: u64,
    /// Polls that failed since.
    pub failures: u64,
}

/// What the half width of a node's interval is made of, in nanoseconds. The parts add up to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EpsilonParts {
    /// What the best of the agreeing masters did not know itself.
    pub masters_ns: u64,
    /// What the way to the masters, and their differences, added at the last agreement.
    pub network_ns: u64,
    /// What has grown since, at the drift that the oscillator may have.
    pub drift_ns: u64,
}

/// A node's clock.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClockStatus {
    /// Bounds of now; `None` while unsure.
    pub interval: Option<(Timestamp, Timestamp)>,
    /// Why it is unsure, or empty.
    pub unsure: String,
    /// What epsilon is made of; `None` while unsure.
    pub parts: Option<EpsilonParts>,
    /// How often what the masters agreed on contradicted what they had agreed on before: a step of the clock, or a drift
    /// beyond the bound.
    pub drift_faults: u64,
    /// What it hears.
    pub sources: Vec<ClockSourceStatus>,
}

/// A node as operators see it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeStatus {
    /// Where it is.
    pub node: NodeAddress,
    /// `None` while not initialised.
    pub cluster: Option<ClusterId>,
    /// Its clock.
    pub clock: ClockStatus,
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
    /// Open SQL sessions.
    pub sessions: u64,
    /// Open read-write transactions.
    pub transactions: u64,
    /// Its log can't be written: it votes and leads no more.
    pub disk_failed: bool,
    /// It gives its leaderships away.
    pub draining: bool,
    /// Nanoseconds since it started.
    pub uptime_ns: u64,
    /// Counters by name.
    pub counters: Vec<(String, u64)>,
}

/// An open read-write transaction of a gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransactionStatus {
    /// Which.
    pub txn: TxnId,
    /// Bytes buffered.
    pub buffered_bytes: u64,
}

/// Why a node did not do what it was asked. A variant exists where some caller reacts differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The node is not a member of an initialised cluster yet; try again later.
    #[error("cluster is not initialised")]
    NotInitialised,
    /// `Init` of a cluster that exists.
    #[error("cluster is already initialised")]
    AlreadyInitialised,
    /// The asker belongs to another cluster.
    #[error("node belongs to another cluster")]
    WrongCluster,
    /// The asker's address belongs to a node that joined later, with another data folder.
    #[error("another node has joined at this address since, with another data folder")]
    Superseded,
    /// It has left for good.
    #[error("node was decommissioned: it can join again only with a new data folder")]
    Decommissioned,
    /// What is asked is meant for another data folder: the one that the node had has been lost or exchanged.
    #[error("the node has another data folder than the one that is meant")]
    OtherFolder,
    /// The node can't be reached; whether it carried out the request is not known.
    #[error("{address} is unreachable: {detail}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the connection said.
        detail: String,
    },
    /// Anything else.
    #[error("{detail}")]
    Failed {
        /// What.
        detail: String,
    },
}

/// How far a node that leaves for good is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Departure {
    /// Which.
    pub node: NodeId,
    /// Replicas that are to be moved still.
    pub replicas_left: u64,
    /// It is no member any more.
    pub is_out: bool,
}

/// Answers operators, joining nodes and gateways. Implemented by whoever assembles a node.
#[async_trait]
pub trait AdminHandler: Send + Sync + 'static {
    /// Makes a cluster of the nodes that gathered here.
    async fn init(&self) -> Result<InitReply, AdminError>;

    /// A node makes itself known.
    async fn join(&self, request: JoinRequest) -> Result<JoinReply, AdminError>;

    /// This node becomes a member. Idempotent.
    async fn bootstrap(&self, request: BootstrapRequest) -> Result<(), AdminError>;

    /// The address book changed.
    async fn set_peers(&self, nodes: Vec<NodeAddress>) -> Result<(), AdminError>;

    /// The state of this node.
    async fn node_status(&self) -> Result<NodeStatus, AdminError>;

    /// Locks at the leaders on this node.
    async fn locks(&self, limit: usize) -> Result<Vec<LockStatus>, AdminError>;

    /// Open read-write transactions of this gateway.
    async fn transactions(&self, limit: usize) -> Result<Vec<TransactionStatus>, AdminError>;

    /// Returns when this node plans on no catalog older than `version`.
    async fn publish_catalog(&self, version: u64) -> Result<(), AdminError>;

    /// Gives leaderships away; answers how many are left.
    async fn drain(&self) -> Result<u64, AdminError>;

    /// Empties a node (this one, if none is named) for a while; to be asked again until it is out.
    async fn decommission(&self, node: Option<NodeId>) -> Result<Departure, AdminError>;
}
