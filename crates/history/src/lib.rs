//! Recorded histories of transactions, and a checker for strict serializability.
//!
//! A history says what clients asked and what they were told, in the order in which it happened. The checker knows
//! nothing of the database: it rebuilds the dependencies between transactions from what they read, and a cycle among
//! them is a proof that no serial order explains the history. The method is Elle's (Kingsbury, Alvaro: "Elle: inferring
//! isolation anomalies from experimental observations", VLDB 2020) over Adya's graphs (Adya, Liskov, O'Neil:
//! "Generalized isolation level definitions", ICDE 2000), with real-time order as further edges.
//!
//! # The format
//!
//! The EDN of Jepsen and Elle, one event a line; [`Event`] writes it and [`History::parse`] reads it.
//!
//! ```text
//! {:index 0, :type :invoke, :process 3, :f :txn, :value [[:append 7 1] [:r 8 nil]]}
//! {:index 1, :type :ok,     :process 3, :f :txn, :value [[:append 7 1] [:r 8 [2 4]]]}
//! ```
//! `:append k v` and `:r k [...]` are operations of a list, `:w k v` and `:r k v` of a register; `nil` in an answered
//! read is the empty list or a register that nobody wrote. `:ok` is a commit that was answered, `:fail` a transaction
//! that certainly did not happen, `:info` one whose outcome the client did not learn; so is an `:invoke` without an end.
//! A process has one transaction at a time. The order of the lines is the order in real time. Events of processes that
//! are not numbers (Jepsen's nemesis) are passed over. No key is given the same value twice.
//!
//! # What is found
//!
//! ```text
//!  parse -> per key: writes, reads -> list: version order from the longest read ---+-> dependencies -> cycles -> report
//!             |                       register: order by read-then-write and time -+        ^
//!             +-> reads that no order could explain                        real time chain --+
//! ```
//! *Without a graph*: reads of aborted (G1a), intermediate (G1b) or never written values, reads that contradict the
//! transaction's own operations, lists with an element twice, reads that order one list in two ways, two transactions
//! that replaced the same version (lost update), and acknowledged appends that a later read lacks (lost write).
//!
//! *By cycles*: G0 (write-write only), G1c (and write-read), G-single (one anti-dependency), G2-item (several), and each
//! of them again where the cycle needs an edge of real time: the history is serializable but not strictly so.
//!
//! *Unknown outcomes*: such a transaction takes part as committed once somebody has read what it wrote, and never ends in
//! real time; otherwise it is left out, since it may not have happened.
//!
//! # What it does not find
//!
//! List-append histories give away the order of all observed versions, so that every cycle among observed transactions is
//! found. A register's versions are ordered only where a transaction read one and wrote the next, or where real time
//! decides; what is found is wrong for certain, but not all that is wrong is found. Predicates do not occur.
//!
//! # Cost
//!
//! Linear in the history but for sorting: real-time order is one chain of barrier nodes rather than edges between
//! pairs, and sets of readers are joined to sets of writers through helper nodes.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod anomaly;
mod check;
mod cycle;
mod edn;
mod explain;
mod fan;
mod graph;
mod history;
mod index;
mod list;
mod realtime;
mod record;
mod register;
mod search;

pub use anomaly::{Anomaly, Cycle, CycleKind, Dependency, Edge};
pub use check::{Report, check};
pub use edn::HistoryError;
pub use history::{History, Key, Operation, Outcome, Seen, Transaction, TxnIndex, Value};
pub use record::{Event, EventKind, RecordedOp};
