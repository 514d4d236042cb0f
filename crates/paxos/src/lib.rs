//! Leader Multi-Paxos with timed leases as a sans-IO state machine.

mod message;

pub use message::*;
