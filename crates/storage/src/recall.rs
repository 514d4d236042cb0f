//! What a reader may remember of single rows, so that a row in demand is read without a search.

use bytes::Bytes;
use meridian_types::Timestamp;

/// What a reader remembers of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recall {
    /// The row's newest version: when it was committed, and the value that is stored under its key.
    Newest {
        /// Its commit timestamp.
        at: Timestamp,
        /// The stored value.
        stored: Bytes,
    },
    /// Nothing. With a ticket, the reader would like to be told (see [`crate::Reader::remember`]).
    Unknown(Option<Ticket>),
}

/// Says as of when a row was read, so that what has been overwritten meanwhile is not remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket(pub u64);
