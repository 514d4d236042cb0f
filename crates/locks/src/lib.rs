//! The lock table of a shard leader: shared and exclusive locks on points and spans under wound-wait.
//!
//! It is a pure data structure. It knows nothing of requests, time, replication or what a transaction is for: a caller
//! names a transaction by its id (whose order is its age), names a request by a [`Ticket`], and is told by [`Event`]s
//! which tickets were granted and which transactions were wounded.
//!
//! # Rules (Rosenkrantz, Stearns, Lewis 1978; Spanner, section 4.2.1)
//!
//! ```text
//!  requester meets a conflicting ...      WoundWait        NoWait        Prepare
//!    pinned holder                        waits            WouldBlock    waits
//!    older unpinned holder                waits            WouldBlock    WouldDeadlock
//!    younger unpinned holder              wounds it        WouldBlock    wounds it
//!    older waiter                         waits behind     WouldBlock    waits behind a Prepare, else WouldDeadlock
//!    younger waiter                       passes it        passes it     passes it
//! ```
//! A *pinned* transaction is committing or prepared: its fate is being decided elsewhere, it requests nothing more, so
//! that waiting for it can't close a cycle. Everybody else waits only for older ones; hence no deadlock. Waiters are
//! ordered by age, not by arrival: an old exclusive waiter is passed only by the finitely many transactions older than
//! itself, so that a stream of shared locks can't starve it.
//!
//! A younger holder is wounded only when nothing else stands in the way, since a wound that does not let the requester
//! proceed is wasted work.
//!
//! # Structures
//!
//! Points live in an ordered map by key. Spans live in a *segment map*: disjoint segments, each with its holders; a
//! span lock is cut along the existing borders. Whether a point is covered is thus one lookup, however many spans are
//! locked. Waiters are indexed by the key or span that they wait for, so that a release looks only at those it can help.
//!
//! Invariants (checked by [`LockTable::check_invariants`]):
//! - no two transactions hold conflicting locks on a common key;
//! - every waiter is blocked by a holder or by an older waiter;
//! - segments are disjoint, not empty, and have at least one holder.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod segments;
mod table;

pub use table::{Acquired, Discipline, Event, LockTable, LockView, Mode, Need, Target, Ticket};
