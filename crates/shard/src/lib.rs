//! One replica of a shard: locks, transactions and safe time over a Paxos group.

mod driver;
mod message;

pub use driver::*;
pub use message::*;
