//! Interleavings of a few sessions, and whether what came of them is serializable.
//!
//! A *spec* names sessions, their steps, and the orders in which the steps are sent; the format is that of PostgreSQL's
//! isolation tests ([`Spec`]). Sessions are connections to different nodes. A step that waits for a lock is left
//! waiting: the server's own table of locks says so, no clock does. Steps of a session that waits are sent as soon as
//! it goes on, so that every interleaving ends, whichever side a conflict is decided against.
//!
//! # What must hold
//!
//! Which transaction waits and which is aborted is the server's choice: PostgreSQL lets everybody go on and aborts at
//! a dangerous structure, wound-wait makes younger transactions wait and aborts them for older ones. What the server
//! promises is strict serializability of those that committed. So an interleaving is right when there is *an* order of
//! the committed transactions, each after all that had ended before it began, in which they, run one after the other
//! from the same beginning, answer every statement the same and leave the same tables ([`run_spec`] runs the orders).
//! Aborted transactions must have left nothing, and steps may fail only in transactions that were aborted or rolled
//! back to a savepoint before the failure.
//!
//! The same holds where the server runs transactions again behind the clients' back ([`Conflicts::Hidden`]): what a client
//! has seen must be what the transaction saw that committed.
//!
//! SKIP LOCKED answers what no serial order answers, on purpose. Interleavings with it are run but not judged.

mod run;
mod serial;
mod spec;

pub use run::{Conflicts, Report, run_spec};
pub use serial::Verdict;
pub use spec::Spec;
