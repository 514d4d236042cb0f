//! A member of a cluster, put together: replicas, gateway, catalog, sessions.
//!
//! What it stands on is given to it: engines, a clock, a network, and the way to other nodes' operators' side
//! ([`meridian_kv::NodeAdmin`]). The server gives it RocksDB, gRPC and the time of this machine; the simulation of whole
//! nodes gives it memory, a network of its own and virtual time. From here up to the SQL port both run the same code.
//!
//! ```text
//!   engines, clock, transport -> node (replicas) -> gateway -> catalog -> sessions -> (SQL port)
//! ```
//! How a cluster comes about, and how a node takes the place of a lost one, is here too: `bootstrap`, `succession`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bootstrap;
mod leaders;
mod member;
mod records;
mod succession;

pub use bootstrap::{SYSTEM_GROUP, USER_GROUP, number, requests};
pub use member::{Member, MemberConfig};
pub use meridian_kv::nodes::Decommissioned;
