//! Self-delimiting values whose bytes sort as the values do.
//!
//! | tag | value | bytes after the tag |
//! |---|---|---|
//! | `10` | NULL that sorts first | |
//! | `11`, `12` | false, true | |
//! | `17..=1f` | integer below zero, `1f - n` | the low `n` bytes, big-endian two's complement |
//! | `20..=28` | integer from zero on, `20 + n` | its `n` bytes, big-endian |
//! | `30` | float | 8 bytes: the sign bit flipped for positive, all bits for negative numbers |
//! | `34..=39` | decimal: -inf, negative, 0, positive, inf, NaN | exponent as integer, digit pairs `+ 2`, `01` |
//! | `40` | bytes | `00` as `01 01`, `01` as `01 02`, others as they are; `00` ends |
//! | `48` | uuid | 16 bytes |
//! | `49` | 128-bit integer | 16 bytes, sign bit flipped |
//! | `70` | NULL that sorts last | |
//!
//! Descending values are the same bytes inverted, tag included. Dates and timestamps are integers. Integers are as
//! short as their magnitude allows because most keys are made of small ones, and because `00` bytes cost two in a
//! version key. Tags leave gaps so that types can be added between without moving others.
//!
//! Floats follow PostgreSQL: NaN is greatest and equals itself, `-0` is `0` (and reads back as `0`).

mod builder;
mod reader;

pub use builder::KeyBuilder;
pub use reader::KeyReader;

use crate::Decimal;

/// The kind of a value in a key, by its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueTag {
    /// NULL, of either placement.
    Null,
    /// A boolean.
    Bool,
    /// An integer, date or timestamp.
    Int,
    /// A float.
    Float,
    /// A decimal.
    Decimal,
    /// Bytes or text.
    Bytes,
    /// A uuid.
    Uuid,
    /// A 128-bit integer.
    Int128,
}

/// The order of one column of an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Direction {
    /// Smallest first.
    #[default]
    Ascending,
    /// Greatest first.
    Descending,
}

/// Where NULLs go, as they are met in key order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Nulls {
    /// Before all values.
    First,
    /// After all values.
    Last,
}

impl Nulls {
    /// PostgreSQL's default: NULL counts as greater than every value.
    pub const fn default_for(direction: Direction) -> Self {
        match direction {
            Direction::Ascending => Nulls::Last,
            Direction::Descending => Nulls::First,
        }
    }
}

const NULL_LOW: u8 = 0x10;
const FALSE: u8 = 0x11;
const TRUE: u8 = 0x12;
const INT_NEG_MIN: u8 = 0x17;
const INT_NEG: u8 = 0x1f;
const INT_ZERO: u8 = 0x20;
const INT_MAX: u8 = 0x28;
const FLOAT: u8 = 0x30;
const DECIMAL_NEG_INF: u8 = 0x34;
const DECIMAL_NEG: u8 = 0x35;
const DECIMAL_ZERO: u8 = 0x36;
const DECIMAL_POS: u8 = 0x37;
const DECIMAL_POS_INF: u8 = 0x38;
const DECIMAL_NAN: u8 = 0x39;
const BYTES: u8 = 0x40;
const UUID: u8 = 0x48;
const INT128: u8 = 0x49;
const NULL_HIGH: u8 = 0x70;

/// Ends a byte string; below every byte that its content encodes to.
const BYTES_END: u8 = 0x00;
/// Escapes `00` and itself within a byte string.
const BYTES_ESCAPE: u8 = 0x01;
/// Ends the digits of a decimal; below every encoded digit pair.
const DIGITS_END: u8 = 0x01;
/// Added to a digit pair, so that it stays above [`DIGITS_END`] and never is `00`.
const DIGITS_BASE: u8 = 2;

/// Ids up to this one take one byte.
const ID_ONE_BYTE_MAX: u64 = 0xf7;

/// A decoded value of a key.
#[derive(Clone, PartialEq, Debug)]
pub enum KeyValue {
    /// NULL.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer, date or timestamp.
    Int(i64),
    /// A float.
    Float(f64),
    /// A decimal.
    Decimal(Decimal),
    /// Bytes or text.
    Bytes(Vec<u8>),
    /// A uuid.
    Uuid(u128),
    /// A 128-bit integer.
    Int128(i128),
}

/// What a direction does to every byte.
fn mask(direction: Direction) -> u8 {
    match direction {
        Direction::Ascending => 0,
        Direction::Descending => 0xff,
    }
}

#[cfg(test)]
mod tests;
