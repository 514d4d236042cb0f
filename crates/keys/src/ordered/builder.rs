//! Encoding.

use bytes::Bytes;
use meridian_types::Key;

use super::*;

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
