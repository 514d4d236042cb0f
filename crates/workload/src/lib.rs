//! Workloads that check what they see, over the Postgres protocol.
//!
//! A workload is a mix of transactions and the rules that their results obey on a strictly serializable database,
//! whatever happens to its nodes meanwhile. It runs against any list of places, which makes it a client like others: this
//! crate knows nothing of the server.
//!
//! | workload | transactions | what must hold |
//! |---|---|---|
//! | `bank` | transfers between accounts; all balances at once | every read sums up to the same total |
//! | `list-append` | appends to and reads of several lists | the history is strictly serializable |
//! | `register` | reads and writes of several registers | the same |
//! | `set` | additions, look-ups, and reads of everything | what was added before a read began is in it |
//! | `long-fork` | single writes, reads of a group of them | the same as `register`: no two readers see two writes in opposite orders |
//! | `monotonic` | counters go up by one | at the end each counter is at the number of its increments |
//!
//! Every workload states its transactions as operations on lists or registers and records them with
//! [`meridian_history`], so that `meridian check` judges each of them; the rules above are checked beside that, as soon
//! as a result is there.
//!
//! ```text
//!  plan (seeded) --> invoke is recorded --> BEGIN, body, COMMIT --> end is recorded --> observe: rules, counters
//!                                              |
//!                                              +-- an error: certain failure or unknown outcome ([`Outcome`])
//! ```
//!
//! *Outcomes.* An error before COMMIT was sent is a certain failure. An error in answer to COMMIT is one too when the
//! server says why; it is an unknown outcome when the connection broke, when nothing came in time, or when the server
//! says that it does not know (40003 and its relatives). A workload never repeats a value, so that an unknown outcome
//! shows later which way it went.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bank;
mod lists;
mod outcome;
mod place;
mod recorder;
mod registers;
mod run;
mod session;
mod set;
mod stats;
mod workload;

pub use outcome::{Failure, Outcome};
pub use place::{Place, places};
pub use recorder::Recorder;
pub use run::{Options, Running, Summary, WorkloadError, setup, start};
pub use stats::{Counts, Latencies};
pub use workload::{Answers, NAMES, Plan, Workload, by_name};
