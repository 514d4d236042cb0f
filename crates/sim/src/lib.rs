//! Deterministic simulation of the cores with checkers and planted bugs.
//!
//! A simulation owns virtual time, clocks, network and disks, and drives the same sans-IO state machines that the
//! server drives. Everything random comes from one seed, so a seed replays a run exactly. After every event checkers
//! look at all nodes at once, which no real cluster can do; the first violated invariant ends the run and is printed
//! with its seed. It knows nothing of real I/O or of SQL.
//!
//! | module | what runs |
//! |---|---|
//! | [`cluster`] | a cluster: several shards, transactions over them, every kind of fault; what `meridian sim` runs |
//! | [`paxos`] | one Paxos group alone, with faults far denser than a cluster could bear |
//! | [`clock`] | the clocks of both |
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod clock;
pub mod cluster;
pub mod paxos;
mod scheduler;

pub use clock::{ClockConfig, ErraticClock};
pub use scheduler::Scheduler;
