//! Decoding. Everything that no encoder writes is refused, so that a value has one encoding.

use super::*;
use crate::KeyError;

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
