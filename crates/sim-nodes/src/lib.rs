//! Whole nodes under simulated network, disks and time: the code that runs in production from the SQL port down to the
//! engine, in one thread, with seeded faults, and clients that judge what they are told.
//!
//! `meridian-sim` simulates the cores, where every message is a step that the scheduler chooses; it is fast and knows the
//! invariants by name. Here is what it leaves out: the drivers around the cores, gateways, catalog, sessions, the wire.
//!
//! ```text
//!   workload clients --in-process streams--> SQL port, sessions, gateway, node --[`Network`]--> other nodes
//!        |                                        |            |
//!   history checker                      virtual clocks    memory engines, which a crash takes back to the last sync
//! ```
//!
//! *Time.* Every host (a node, or the clients) has an asynchronous runtime of its own, of one thread, whose clock stands
//! still unless it is told to go on. A [`World`] goes from millisecond to millisecond: it delivers what is due on the
//! network, then lets each host do all that it can at this moment, then moves its clock. Computing takes no time; waiting
//! does. A crash drops the runtime: every task ends where it waits.
//!
//! *Faults*, from a seed: crashes with loss of unsynced writes, of one node or of all; nodes that stand still and go on
//! later without knowing; links that carry nothing in one direction or in both; messages that take long; clocks that are
//! off and drift; a time master that lies, drifts or stops; and operators who split shards, hand over leadership, move
//! replicas and change the schema meanwhile.
//!
//! *What is checked.* The rules of the workload ([`meridian_workload`]), strict serializability of its history
//! ([`meridian_history`]), indexes against tables (`meridian.check_table`), the cores' assertions, and that the cluster
//! comes to rest after all has healed.
//!
//! *Determinism.* One seed gives one run as far as the code above the cores allows: there is one thread, and no real time.
//! Sessions draw from the seed, and `select!` is biased; something is left all the same, so that a failing seed nearly always
//! fails again, but may take a second try.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod faults;
mod host;
mod network;
mod operator;
mod place;
mod run;
mod time;
mod world;

pub use run::{Options, Report, Violation, run};
