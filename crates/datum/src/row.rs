//! Rows as storage has them: the columns that are not part of the key.
//!
//! A row is a list of `(column identifier, tag, value)`, ascending by identifier:
//!
//! ```text
//! row    := version(0x01) field*
//! field  := varint(delta << 4 | tag) payload      delta: identifier minus the one before (from 0)
//!
//! tag  value                     payload
//!  0   false                     none
//!  1   true                      none
//!  2   integer, date, time,      zigzag varint
//!      timestamp (by type)
//!  3   float, double             4 or 8 bytes little-endian, after a length byte
//!  4   text, bytea               varint length, bytes
//!  5   numeric, 64-bit           varint scale, zigzag varint coefficient
//!  6   numeric, any other        varint length, then class byte [varint scale, two's complement bytes]
//!  7   interval                  zigzag varints of months, days, microseconds
//!  8   uuid                      16 bytes
//!  9   array, row                varint length, then a nested encoding
//! 10   char(n)                   varint number of trailing blanks, varint length, bytes without them
//! 11   NULL                      none
//! ```
//!
//! It is self-describing to the extent that a reader can skip every field it does not want; what a value means beyond
//! its tag is the schema's to know. NULLs are absent, unless what is absent reads as another value: that which the column
//! was added with, in rows that are older than the column ([`RowDecoder::with_missing`]). The ordinals are persisted and frozen.

mod decode;
mod encode;

use crate::error::SqlError;
use crate::state::SqlState;

pub use decode::{RowDecoder, decode_values};
pub use encode::{encode_row, encode_row_with_nulls, encode_values};

/// The first byte of every row.
const VERSION: u8 = 1;

const TAG_FALSE: u64 = 0;
const TAG_TRUE: u64 = 1;
const TAG_INT: u64 = 2;
const TAG_FLOAT: u64 = 3;
const TAG_BYTES: u64 = 4;
const TAG_DECIMAL: u64 = 5;
const TAG_BIG_DECIMAL: u64 = 6;
const TAG_INTERVAL: u64 = 7;
const TAG_UUID: u64 = 8;
const TAG_NESTED: u64 = 9;
const TAG_CHAR: u64 = 10;
const TAG_NULL: u64 = 11;
/// Bits that a tag takes in a field's first varint.
const TAG_BITS: u32 = 4;

/// `XX001`: bytes that no encoder of this module wrote.
#[cold]
fn corrupt(what: &'static str) -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, "a stored row cannot be decoded").with_detail(what)
}
