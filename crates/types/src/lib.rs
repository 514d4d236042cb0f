//! The vocabulary that every layer of Meridian shares: identifiers, timestamps, ballots, keys and spans, and the
//! limits that bound queues and messages.
//!
//! The crate knows nothing of I/O, of clocks or of encodings of SQL values. Every quantity is a newtype, so that a
//! slot can't be passed for a timestamp. All of them are ordered, since sorted iteration is how the cores stay
//! deterministic.
//!
//! Sources: Spanner (OSDI 2012) section 3 for [`TtInterval`], section 4.1 for timestamps; Paxos Made Simple for
//! [`Ballot`] and [`Slot`].

mod ids;
mod key;
pub mod limits;
mod rng;
mod time;

pub use ids::{Ballot, ClusterId, FolderId, GroupId, NodeId, Slot, TxnId};
pub use key::{Key, Span};
pub use rng::SeededRng;
pub use time::{Duration, Timestamp, TtInterval};
