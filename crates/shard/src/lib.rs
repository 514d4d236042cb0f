//! One replica of a shard: locks, transactions and safe time over a Paxos group.
//!
//! [`Replica`] is a sans-IO state machine: [`Replica::step`] takes an [`Input`] and the moment, and appends to
//! [`Outputs`] what its driver shall do. It knows nothing of sockets, threads, clocks, disks, SQL or other shards: reading
//! its data engine goes through a `Reader` that is passed in, and work that crosses shards leaves as [`Recovery`].
//!
//! ```text
//!   requests --> locks (volatile, leader) --> timestamps --> log (Paxos) --> apply gate --> data engine --> replies
//!                wound-wait                   I-5            I-2, I-3        commit wait    MVCC            I-7
//! ```
//!
//! | file | subject |
//! |---|---|
//! | `message.rs`, `driver.rs` | the API |
//! | `replica.rs` | dispatch, Paxos plumbing, role changes |
//! | `leader.rs` | the leader's volatile state |
//! | `commit.rs` | registration, locks, one-shard commit, rollback |
//! | `overlay.rs` | locks released at proposal, and those who depend on what is proposed |
//! | `participant.rs`, `coordinator.rs` | the two sides of two-phase commit |
//! | `timestamp.rs` | assignment, floor, closed timestamps |
//! | `reads.rs` | locking, strong, leader and follower reads |
//! | `apply.rs`, `state.rs` | the replicated state machine |
//! | `command.rs`, `codec.rs` | what is persisted |
//! | `split.rs`, `hand_over.rs`, `membership.rs` | splits, change of leader, change of members |
//! | `fill.rs` | versions beneath newer ones: backfills |
//! | `garbage.rs` | the horizon below which versions are not kept |
//! | `resting.rs`, `beats` | groups in which nothing happens |
//!
//! Invariants (DESIGN's numbers): I-5 in `timestamp.rs`; I-6 in `apply.rs`, whose effects depend on the log alone; I-7 by
//! commit wait (`apply.rs`) and the Start rule (`timestamp.rs`); I-8 in `reads.rs`; I-9 in `coordinator.rs` and
//! `participant.rs`.
//!
//! Spanner (OSDI 2012), section 4.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apply;
pub mod beats;
mod codec;
mod command;
mod commit;
mod config;
mod coordinator;
mod driver;
mod epoch;
mod fill;
mod garbage;
mod hand_over;
mod leader;
mod membership;
mod message;
mod overlay;
mod participant;
mod planted;
mod reads;
mod replica;
mod resting;
mod split;
mod state;
mod status;
mod timestamp;

pub use codec::CodecError;
pub use config::Config;
pub use driver::*;
pub use epoch::Epoch;
pub use membership::Stranger;
pub use meridian_paxos::Now;
pub use message::*;
#[cfg(feature = "planted-bugs")]
pub use planted::Planted;
pub use reads::serve;
pub use replica::Replica;
pub use state::{dataless_rows, initial_state, recover};
