//! The gateway: how a node reads and writes the shards, wherever they are.
//!
//! It implements the seam of `meridian-kv-api` on top of [`meridian_rpc::ShardClient`]. It finds the shard of a key,
//! follows it as it splits and as its leader moves, buffers writes, drives two-phase commit and picks replicas for
//! snapshot reads. It holds no lock and stores nothing: what it knows about shards is a cache that the shards' typed
//! redirects correct, and what it knows about a transaction is lost with the node, after which the shards end the
//! transaction by themselves (DESIGN section 5).
//!
//! ```text
//!   Kv::begin            Kv::begin_read_only          Cluster
//!      |                        |                        |
//!    txn ---- reads ---> read <- snapshot              admin
//!      |                  |                              |
//!    commit, two_phase    |        recovery (called by shards' leaders)
//!      |                  |           |                  |
//!      +-----------> call: one shard, its leader, redirects, pauses
//!                         |
//!                      router: key -> shard, leader hint  <-- meta: the shard map in the system keyspace
//! ```
//!
//! What it deliberately does not know: SQL, locks, logs, and which requests a shard serialises how.
//!
//! Invariants:
//! - a request that may have been carried out is sent again only if it is idempotent; an unanswered `Commit` or
//!   `Decide` is followed by `QueryOutcome`, and only by that;
//! - `Decide` is sent only after every participant has voted, and no participant is told of a commit before the
//!   coordinator answered that it is one (I-9);
//! - a transaction whose registration at a shard differs from the one answered before is dead;
//! - the timestamp of a snapshot is chosen once.
//!
//! Sources: Spanner (OSDI 2012) sections 4.1.2 to 4.2.2.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod admission;
mod call;
mod commit;
mod departure;
mod fill;
mod gateway;
mod heartbeat;
mod hedge;
mod ids;
mod limits;
mod membership;
mod meta;
pub mod nodes;
mod patience;
mod read;
mod recovery;
mod repair;
mod router;
mod snapshot;
mod split;
#[cfg(test)]
mod tests;
mod two_phase;
mod txn;

pub use admin::{ClusterAdmin, NodeAdmin};
pub use gateway::{Clock, Gateway, GatewayConfig};
pub use meta::{ROOT_GROUP, decode_descriptor, encode_descriptor};
pub use recovery::Recoverer;
