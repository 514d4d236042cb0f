//! Advisory locks of this node's sessions (docs/decisions/0021).
//!
//! ```text
//!   SessionLocks   what one session has and how often, by session and by transaction
//!   NodeLocks      the node's incarnation as a holder, its lease, and what is left to be given up
//! ```
//! Each acquisition and each release is a small transaction on the lock's row. Sessions wait by looking at the row; who
//! gives a lock up grants it to the next one in the same transaction, and wakes the sessions of its own node.
//!
//! Statements that are run again unnoticed have their locks once: what an attempt did by session is set down, and the next
//! one finds it done. A block that has done such a thing is not run again. Locks of a transaction are kept while its block
//! is run again, and counted twice, which its end makes good.
//!
//! Invariants: nothing that a session's transactions commit while it has a lock takes effect after its holder's lease; a
//! holder's lease is extended only by a transaction that commits before its end, so that nobody sees it end and grow again.

mod node;
mod session;

pub(crate) use node::NodeLocks;
pub(crate) use session::{SessionLocks, Wanted};
