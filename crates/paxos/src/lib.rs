//! Leader Multi-Paxos with timed leases, as a sans-IO state machine.
//!
//! One [`Replica`] is one member of one group. It turns an [`Input`] and the [`Now`] of the step into [`Outputs`]:
//! what to write, what to send at once, what to send once the writes are durable, and which commands are chosen. It
//! does not know what a command means, how a message travels, how an entry is encoded, or what time it is; the driver
//! owns all I/O, and the shard above owns timestamps.
//!
//! ```text
//!                    canvass by a quorum, then Prepare
//!        +----------+ ------------------------------> +-----------+
//!   ---> | Follower |                                 | Candidate |
//!        +----------+ <------------------------------ +-----------+
//!             ^        timeout, higher ballot               | promises and lease votes
//!             |                                             | of a quorum
//!             |        +--------+                           |
//!             +------- | Leader | <-------------------------+
//!    lease over,       +--------+
//!    hand-over,
//!    higher ballot
//! ```
//!
//! - *Canvass.* Before a replica asks for votes it asks whether it would get them: a [`Message::Prepare`] whose lease
//!   has length zero binds nobody, is answered by a [`Message::Promise`] with a lease of length zero, and changes
//!   nothing. A partitioned replica therefore never raises its own ballot, and rejoins without deposing the leader.
//! - *Phase 1* covers every slot from the first unchosen one; it runs once per leadership. Of each slot the value of the
//!   highest ballot is proposed again, holes become no-ops. A candidate first learns what a voter reports as chosen.
//! - *Phase 2* is pipelined; the commit index rides on the next accept. A follower takes an entry for chosen when it
//!   accepted it *at the ballot of the leader that says so*; others it asks for ([`Message::CatchUp`]).
//! - *Leases.* See the `lease` module for the voter's side. The leader holds the lease up to the end that a quorum of
//!   votes, its own included, has reached.
//! - *Membership* changes by one voting member per command, and takes effect for the slots after the command is chosen.
//!   A leader proposes nothing between proposing a membership and seeing it chosen, and begins the next change only when
//!   its lease is covered by a quorum of the last one, so quorums that count at the same time always intersect. A
//!   candidate needs a quorum of *every* membership between its chosen prefix and the end of the log it adopts.
//! - *Hand-over.* The leader stops, waits until its log is chosen and the successor has it, and sends
//!   [`Message::HandOver`] with the floor. The successor, and nobody else, then tells the voters to release the old vote
//!   ([`Message::ReleaseVote`]) and asks for theirs: only who knows the floor may profit from the release. A candidate
//!   that gives up sends the same message for its own ballot, which voids the votes for it.
//!
//! Invariants: **I-2** two replicas never choose different commands in one slot. **I-3** a promise, an accept or a
//! lease vote is durable before it is answered, and a leader counts its own accept only when it is durable. **I-4**
//! leases of different leaders are disjoint in absolute time. Where they are upheld they are asserted, in release
//! builds too. Sources: Paxos Made Simple; Paxos Made Live; Spanner (OSDI 2012), section 4.1.1 and appendix A.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod acceptor;
mod candidate;
mod config;
mod core;
mod follower;
mod hand_over;
mod leader;
mod learner;
mod lease;
mod log;
mod membership;
mod message;
mod planted;
mod progress;
mod replica;
mod rest;

pub use config::Config;
pub use message::*;
#[cfg(feature = "planted-bugs")]
pub use planted::Planted;
pub use replica::Replica;
pub use rest::{FollowerBeats, LeaderBeats, RestingPoint};
