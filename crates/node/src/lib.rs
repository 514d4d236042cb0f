//! The store of one node: the threads and queues around the shard replicas.
//!
//! Replicas are state machines without I/O ([`meridian_shard::Replica`]); this crate owns everything that they do not:
//! the engines, the clock, the transport, the lock around each replica, and who waits for an answer.
//!
//! ```text
//!   gateway --call--> [cell lock] step ---answer---------------------------> gateway
//!   transport ------> [cell lock] step --+-- send ------------------------> transport
//!   timer ----------> [cell lock] step   +-- persist --> log writer: one batch, one fsync for all groups
//!   log writer -----> [cell lock] step   +-- apply ----> data engine, buffered (big ones: apply thread)
//! ```
//! A request runs on its caller's thread, an incoming message on the transport's, and what follows a durable write on the
//! log writer's: there is no queue in front of a replica, and a read that needs no waiting is answered by a call and a
//! lock. Calls to other nodes travel in the same frames as everything else between two nodes.
//!
//! What it does not know: transactions, SQL, routing by key (a gateway's business; cross-shard recovery is handed to a
//! [`RecoveryHandler`]), and how a message looks on the wire.
//!
//! Invariants: a replica's lock is never held across an fsync, an await or another replica's step; **I-3** what depends
//! on a durable write leaves the node after it (see `log_writer`); the log is truncated only below what the data engine
//! has made durable; after [`Node::stop`] nothing is written. A panic in a step ends the process.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod background;
mod backlog;
mod bell;
mod cell;
mod clock;
mod counters;
mod damage;
mod demand;
mod driven;
mod driver;
mod garbage;
mod housekeeping;
mod inner;
mod local;
mod log_store;
mod log_writer;
mod node;
mod oscillator;
mod peers;
mod removal;
mod resting;
mod room;
mod row_cache;
mod snapshot_rows;
mod snapshots;
#[cfg(test)]
mod tests;
mod timer;

pub use clock::{KernelClock, NodeClock, SimulatedMaster, TimeMaster, machine_time};
pub use counters::{Counter, Counters};
pub use damage::{Damage, forget as forget_damage, verify};
pub use driven::DiskModel;
pub use garbage::{Horizons, RETENTION, Sweep};
pub use inner::RecoveryHandler;
pub use local::{LocalNetwork, LocalTransport};
pub use node::{Node, NodeConfig, NodeOptions};
pub use oscillator::Oscillator;
