//! One replica of a shard: locks, transactions and safe time over a Paxos group.

mod message;

pub use message::*;
