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

use bytes::Bytes;
use meridian_types::Key;

use crate::{Decimal, KeyError};

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

/// Appends values to a key.
#[derive(Clone, Debug, Default)]
pub struct KeyBuilder {
    buf: Vec<u8>,
}

impl KeyBuilder {
    /// An empty key.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty key with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        KeyBuilder { buf: Vec::with_capacity(bytes) }
    }

    /// Goes on from an encoded key or prefix.
    pub fn from_prefix(prefix: &[u8]) -> Self {
        KeyBuilder { buf: prefix.to_vec() }
    }

    /// The bytes so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buf
    }

    /// Cuts back to `len` bytes, to build the next key on the same prefix.
    pub fn truncate(&mut self, len: usize) {
        self.buf.truncate(len);
    }

    /// A copy of the key so far; the builder's allocation is kept for the next key.
    pub fn to_key(&self) -> Key {
        Key::new(Bytes::copy_from_slice(&self.buf))
    }

    /// The key.
    pub fn finish(self) -> Key {
        Key::new(self.buf)
    }

    pub(crate) fn push_raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Appends an id as an ordered varint: one byte up to `f7`, else `f7 + n` and `n` bytes big-endian.
    pub fn push_id(&mut self, id: u64) {
        if id <= ID_ONE_BYTE_MAX {
            self.buf.push(id as u8);
            return;
        }
        let n = 8 - id.leading_zeros() as usize / 8;
        self.buf.push(ID_ONE_BYTE_MAX as u8 + n as u8);
        self.buf.extend_from_slice(&id.to_be_bytes()[8 - n..]);
    }

    /// Appends NULL at the given place in key order, whatever the direction of its column.
    pub fn push_null(&mut self, direction: Direction, nulls: Nulls) {
        let low = (nulls == Nulls::First) != (direction == Direction::Descending);
        self.write(direction, |buf| buf.push(if low { NULL_LOW } else { NULL_HIGH }));
    }

    /// Appends a boolean.
    pub fn push_bool(&mut self, value: bool, direction: Direction) {
        self.write(direction, |buf| buf.push(if value { TRUE } else { FALSE }));
    }

    /// Appends an integer, date or timestamp.
    pub fn push_int(&mut self, value: i64, direction: Direction) {
        self.write(direction, |buf| put_int(buf, value));
    }

    /// Appends a float.
    pub fn push_float(&mut self, value: f64, direction: Direction) {
        let value = match value {
            v if v.is_nan() => f64::NAN.abs(),
            // Matches -0 as well, which PostgreSQL holds equal.
            0.0 => 0.0,
            v => v,
        };
        let bits = value.to_bits();
        let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
        self.write(direction, |buf| {
            buf.push(FLOAT);
            buf.extend_from_slice(&ordered.to_be_bytes());
        });
    }

    /// Appends a decimal.
    pub fn push_decimal(&mut self, value: &Decimal, direction: Direction) {
        self.write(direction, |buf| put_decimal(buf, value));
    }

    /// Appends bytes, or text in the order of its UTF-8 bytes.
    pub fn push_bytes(&mut self, value: &[u8], direction: Direction) {
        self.write(direction, |buf| {
            buf.push(BYTES);
            for &b in value {
                if b <= BYTES_ESCAPE {
                    buf.extend_from_slice(&[BYTES_ESCAPE, b + 1]);
                } else {
                    buf.push(b);
                }
            }
            buf.push(BYTES_END);
        });
    }

    /// Appends a uuid.
    pub fn push_uuid(&mut self, value: u128, direction: Direction) {
        self.write(direction, |buf| {
            buf.push(UUID);
            buf.extend_from_slice(&value.to_be_bytes());
        });
    }

    /// Appends a 128-bit integer (an interval as its span, for instance).
    pub fn push_int128(&mut self, value: i128, direction: Direction) {
        let flipped = value as u128 ^ 1 << 127;
        self.write(direction, |buf| {
            buf.push(INT128);
            buf.extend_from_slice(&flipped.to_be_bytes());
        });
    }

    /// Appends a decoded value.
    pub fn push_value(&mut self, value: &KeyValue, direction: Direction, nulls: Nulls) {
        match value {
            KeyValue::Null => self.push_null(direction, nulls),
            KeyValue::Bool(v) => self.push_bool(*v, direction),
            KeyValue::Int(v) => self.push_int(*v, direction),
            KeyValue::Float(v) => self.push_float(*v, direction),
            KeyValue::Decimal(v) => self.push_decimal(v, direction),
            KeyValue::Bytes(v) => self.push_bytes(v, direction),
            KeyValue::Uuid(v) => self.push_uuid(*v, direction),
            KeyValue::Int128(v) => self.push_int128(*v, direction),
        }
    }

    fn write(&mut self, direction: Direction, f: impl FnOnce(&mut Vec<u8>)) {
        let from = self.buf.len();
        f(&mut self.buf);
        if direction == Direction::Descending {
            self.buf[from..].iter_mut().for_each(|b| *b = !*b);
        }
    }
}

fn put_int(buf: &mut Vec<u8>, value: i64) {
    let magnitude = if value < 0 { !value as u64 } else { value as u64 };
    let n = (64 - magnitude.leading_zeros() as usize).div_ceil(8);
    buf.push(if value < 0 { INT_NEG - n as u8 } else { INT_ZERO + n as u8 });
    buf.extend_from_slice(&value.to_be_bytes()[8 - n..]);
}

fn put_decimal(buf: &mut Vec<u8>, value: &Decimal) {
    let (negative, exponent, digits) = match value {
        Decimal::NegInfinity => return buf.push(DECIMAL_NEG_INF),
        Decimal::PosInfinity => return buf.push(DECIMAL_POS_INF),
        Decimal::NaN => return buf.push(DECIMAL_NAN),
        Decimal::Finite { digits, .. } if digits.is_empty() => return buf.push(DECIMAL_ZERO),
        Decimal::Finite { negative, exponent, digits } => (*negative, *exponent, digits),
    };
    assert!(digits.first() != Some(&0) && digits.last() != Some(&0), "decimal digits are not normalised");
    buf.push(if negative { DECIMAL_NEG } else { DECIMAL_POS });
    let from = buf.len();
    put_int(buf, exponent);
    for pair in digits.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        buf.push(pair[0] * 10 + low + DIGITS_BASE);
    }
    buf.push(DIGITS_END);
    if negative {
        buf[from..].iter_mut().for_each(|b| *b = !*b);
    }
}

/// Reads values back from a key, in order.
#[derive(Clone, Debug)]
pub struct KeyReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> KeyReader<'a> {
    /// Reads from the first byte of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        KeyReader { bytes, at: 0 }
    }

    /// How many bytes have been read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// True when all has been read.
    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Fails when anything is left.
    pub fn expect_end(&self) -> Result<(), KeyError> {
        if self.is_at_end() { Ok(()) } else { Err(KeyError::Trailing { at: self.at }) }
    }

    /// Reads what [`KeyBuilder::push_id`] wrote.
    pub fn read_id(&mut self) -> Result<u64, KeyError> {
        let at = self.at;
        let first = u64::from(self.byte(0)?);
        if first <= ID_ONE_BYTE_MAX {
            return Ok(first);
        }
        let n = (first - ID_ONE_BYTE_MAX) as usize;
        let mut raw = [0; 8];
        raw[8 - n..].copy_from_slice(self.take(n)?);
        let id = u64::from_be_bytes(raw);
        // Two encodings of one id would break the order.
        let canonical = id > ID_ONE_BYTE_MAX && raw[8 - n] != 0;
        if canonical { Ok(id) } else { Err(KeyError::Malformed { at }) }
    }

    /// The kind of the value that comes next, `None` at the end of the key.
    pub fn peek(&self, direction: Direction) -> Result<Option<ValueTag>, KeyError> {
        let Some(&raw) = self.bytes.get(self.at) else {
            return Ok(None);
        };
        let tag = raw ^ mask(direction);
        Ok(Some(match tag {
            NULL_LOW | NULL_HIGH => ValueTag::Null,
            FALSE | TRUE => ValueTag::Bool,
            INT_NEG_MIN..=INT_MAX => ValueTag::Int,
            FLOAT => ValueTag::Float,
            DECIMAL_NEG_INF..=DECIMAL_NAN => ValueTag::Decimal,
            BYTES => ValueTag::Bytes,
            UUID => ValueTag::Uuid,
            INT128 => ValueTag::Int128,
            _ => return Err(KeyError::UnexpectedTag { at: self.at, tag: raw }),
        }))
    }

    /// Consumes a NULL where one comes next, and says whether it did.
    pub fn read_null(&mut self, direction: Direction) -> Result<bool, KeyError> {
        let is_null = self.peek(direction)? == Some(ValueTag::Null);
        self.at += usize::from(is_null);
        Ok(is_null)
    }

    /// Reads a boolean.
    pub fn read_bool(&mut self, direction: Direction) -> Result<bool, KeyError> {
        let at = self.at;
        match self.byte(mask(direction))? {
            FALSE => Ok(false),
            TRUE => Ok(true),
            _ => Err(self.unexpected(at)),
        }
    }

    /// Reads an integer, date or timestamp.
    pub fn read_int(&mut self, direction: Direction) -> Result<i64, KeyError> {
        self.int(mask(direction))
    }

    /// Reads a float.
    pub fn read_float(&mut self, direction: Direction) -> Result<f64, KeyError> {
        let mask = mask(direction);
        self.tag(FLOAT, mask)?;
        let ordered = u64::from_be_bytes(self.array(mask)?);
        let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
        Ok(f64::from_bits(bits))
    }

    /// Reads a decimal.
    pub fn read_decimal(&mut self, direction: Direction) -> Result<Decimal, KeyError> {
        let mask = mask(direction);
        let at = self.at;
        let negative = match self.byte(mask)? {
            DECIMAL_NEG_INF => return Ok(Decimal::NegInfinity),
            DECIMAL_ZERO => return Ok(Decimal::ZERO),
            DECIMAL_POS_INF => return Ok(Decimal::PosInfinity),
            DECIMAL_NAN => return Ok(Decimal::NaN),
            DECIMAL_NEG => true,
            DECIMAL_POS => false,
            _ => return Err(self.unexpected(at)),
        };
        let mask = if negative { !mask } else { mask };
        let exponent = self.int(mask)?;
        let mut digits = Vec::new();
        loop {
            let pair = match self.byte(mask)? {
                DIGITS_END => break,
                b => b.checked_sub(DIGITS_BASE).filter(|&p| p < 100).ok_or(KeyError::Malformed { at })?,
            };
            digits.extend_from_slice(&[pair / 10, pair % 10]);
        }
        if digits.last() == Some(&0) {
            digits.pop();
        }
        let normal = digits.first().is_some_and(|&d| d != 0) && digits.last() != Some(&0);
        if normal {
            Ok(Decimal::Finite { negative, exponent, digits })
        } else {
            Err(KeyError::Malformed { at })
        }
    }

    /// Reads bytes or text.
    pub fn read_bytes(&mut self, direction: Direction) -> Result<Vec<u8>, KeyError> {
        let mask = mask(direction);
        self.tag(BYTES, mask)?;
        let mut value = Vec::new();
        loop {
            let at = self.at;
            match self.byte(mask)? {
                BYTES_END => return Ok(value),
                BYTES_ESCAPE => match self.byte(mask)? {
                    b @ 1..=2 => value.push(b - 1),
                    _ => return Err(KeyError::Malformed { at }),
                },
                b => value.push(b),
            }
        }
    }

    /// Reads a uuid.
    pub fn read_uuid(&mut self, direction: Direction) -> Result<u128, KeyError> {
        let mask = mask(direction);
        self.tag(UUID, mask)?;
        Ok(u128::from_be_bytes(self.array(mask)?))
    }

    /// Reads a 128-bit integer.
    pub fn read_int128(&mut self, direction: Direction) -> Result<i128, KeyError> {
        let mask = mask(direction);
        self.tag(INT128, mask)?;
        Ok((u128::from_be_bytes(self.array(mask)?) ^ 1 << 127) as i128)
    }

    /// Reads whatever value comes next.
    pub fn read_value(&mut self, direction: Direction) -> Result<KeyValue, KeyError> {
        Ok(match self.peek(direction)?.ok_or(KeyError::Truncated { at: self.at })? {
            ValueTag::Null => {
                self.at += 1;
                KeyValue::Null
            }
            ValueTag::Bool => KeyValue::Bool(self.read_bool(direction)?),
            ValueTag::Int => KeyValue::Int(self.read_int(direction)?),
            ValueTag::Float => KeyValue::Float(self.read_float(direction)?),
            ValueTag::Decimal => KeyValue::Decimal(self.read_decimal(direction)?),
            ValueTag::Bytes => KeyValue::Bytes(self.read_bytes(direction)?),
            ValueTag::Uuid => KeyValue::Uuid(self.read_uuid(direction)?),
            ValueTag::Int128 => KeyValue::Int128(self.read_int128(direction)?),
        })
    }

    /// Moves past the next value without decoding more than its length takes.
    pub fn skip_value(&mut self, direction: Direction) -> Result<(), KeyError> {
        let mask = mask(direction);
        match self.peek(direction)?.ok_or(KeyError::Truncated { at: self.at })? {
            ValueTag::Null | ValueTag::Bool => self.at += 1,
            ValueTag::Int => {
                self.int(mask)?;
            }
            ValueTag::Float => {
                self.take(9)?;
            }
            ValueTag::Uuid | ValueTag::Int128 => {
                self.take(17)?;
            }
            ValueTag::Decimal => {
                self.read_decimal(direction)?;
            }
            ValueTag::Bytes => {
                let end = self.rest().iter().position(|&b| b ^ mask == BYTES_END);
                self.at += end.ok_or(KeyError::Truncated { at: self.at })? + 1;
            }
        }
        Ok(())
    }

    fn int(&mut self, mask: u8) -> Result<i64, KeyError> {
        let at = self.at;
        let (n, fill) = match self.byte(mask)? {
            tag @ INT_NEG_MIN..=INT_NEG => (INT_NEG - tag, 0xff),
            tag @ INT_ZERO..=INT_MAX => (tag - INT_ZERO, 0),
            _ => return Err(self.unexpected(at)),
        };
        let n = usize::from(n);
        let mut raw = [fill; 8];
        for (to, from) in raw[8 - n..].iter_mut().zip(self.take(n)?) {
            *to = from ^ mask;
        }
        if n > 0 && raw[8 - n] == fill {
            return Err(KeyError::Malformed { at });
        }
        let value = i64::from_be_bytes(raw);
        if (value < 0) == (fill == 0xff) { Ok(value) } else { Err(KeyError::Malformed { at }) }
    }

    fn unexpected(&self, at: usize) -> KeyError {
        KeyError::UnexpectedTag { at, tag: self.bytes[at] }
    }

    fn tag(&mut self, expected: u8, mask: u8) -> Result<(), KeyError> {
        let at = self.at;
        if self.byte(mask)? == expected { Ok(()) } else { Err(self.unexpected(at)) }
    }

    fn byte(&mut self, mask: u8) -> Result<u8, KeyError> {
        let b = *self.bytes.get(self.at).ok_or(KeyError::Truncated { at: self.at })?;
        self.at += 1;
        Ok(b ^ mask)
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], KeyError> {
        let taken = self.rest().get(..n).ok_or(KeyError::Truncated { at: self.at })?;
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, mask: u8) -> Result<[u8; N], KeyError> {
        let mut raw: [u8; N] = self.take(N)?.try_into().expect("take returns as many bytes as asked for");
        raw.iter_mut().for_each(|b| *b ^= mask);
        Ok(raw)
    }
}

fn mask(direction: Direction) -> u8 {
    match direction {
        Direction::Ascending => 0,
        Direction::Descending => 0xff,
    }
}

#[cfg(test)]
mod tests;
