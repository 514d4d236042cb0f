//! Wiring: a whole node from its parts, the demo cluster, HTTP, and the clients behind `init` and `status`.
//!
//! Nothing is decided here that a lower layer could decide; this crate only knows which part gets which other part.
//!
//! ```text
//!  start --> identity in the folder? --no--> join loop <--> peers ... Init at one of them ... Bootstrap --+
//!              | yes                                                                                      |
//!              v                                                                                          v
//!            engines -> clock -> node (replicas) -> gateway -> catalog -> sessions -> SQL port, HTTP    identity
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod assembly;
mod certificates;
mod clocks;
mod commands;
mod demo;
mod error;
mod http;
mod identity;
mod latency;
mod nodes;
mod peers;
mod shutdown;
mod start;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use commands::{Target, init, node_decommission, node_drain, node_list, status, time_master};
pub use demo::demo;
pub use error::ServerError;
pub use latency::Latency;
pub use start::start;

/// Options of `meridian demo`.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// How many nodes, 1 to 9.
    pub nodes: usize,
    /// Regions dealt out to the nodes in turn; empty for those of the latency table, or `local`.
    pub regions: Vec<String>,
    /// Delays between regions.
    pub latency: Latency,
    /// Where the data stays; `None` for a temporary folder.
    pub data: Option<PathBuf>,
    /// SQL port of the first node.
    pub pg_port: u16,
    /// HTTP port of the first node.
    pub http_port: u16,
    /// Into how many shards a new table is split.
    pub shards_per_table: u32,
}

/// Options of `meridian start`.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// The data folder.
    pub data: PathBuf,
    /// What other nodes are told to connect to.
    pub advertise: String,
    /// Where the node listens for other nodes.
    pub listen: SocketAddr,
    /// Where it listens for SQL clients.
    pub pg: SocketAddr,
    /// Where it serves HTTP.
    pub http: SocketAddr,
    /// Nodes to find the cluster by.
    pub join: Vec<String>,
    /// The node's region.
    pub region: String,
    /// The node's zone.
    pub zone: String,
    /// Where time comes from.
    pub clock: ClockSource,
    /// Certificates; without them nothing is encrypted and anybody is let in.
    pub certs: Option<PathBuf>,
    /// Into how many shards a new table is split.
    pub shards_per_table: u32,
}

/// Where a node's time comes from.
#[derive(Clone, Debug)]
pub enum ClockSource {
    /// Time masters at these addresses; those that begin with `https://` are asked over TLS.
    Masters(Vec<String>),
    /// The kernel's clock with the kernel's error bound.
    System,
}

/// Options of `meridian time-master`.
#[derive(Clone, Debug)]
pub struct MasterOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The error bound that it advertises.
    pub uncertainty: Duration,
    /// How far it is off, in nanoseconds.
    pub offset_ns: i64,
    /// How fast it drifts, in parts per million.
    pub drift_ppm: i64,
    /// Seed of its jitter.
    pub seed: u64,
    /// Certificates, where it answers over TLS only.
    pub certs: Option<PathBuf>,
}
