//! NUMERIC in PostgreSQL's binary format: digits of base 10^4, the weight of the first, a sign, the display scale.

use bytes::{Buf, BufMut};
use num_bigint::BigInt;

use crate::decimal::arith::BASE_DIGITS;
use crate::decimal::text::DigitBuffer;
use crate::decimal::{Coefficient, Decimal, MAX_SCALE, Repr, pow10};
use crate::error::{Result, SqlError};

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const NEGATIVE_INFINITY: u16 = 0xf000;

impl Decimal {
    /// `numeric_send`.
    pub fn write_binary<B: BufMut>(&self, out: &mut B) {
        match &self.0 {
            Repr::NaN => write_header(out, 0, 0, NAN, 0),
            Repr::Infinity => write_header(out, 0, 0, INFINITY, 0),
            Repr::NegativeInfinity => write_header(out, 0, 0, NEGATIVE_INFINITY, 0),
            Repr::Small { coefficient, .. } => {
                self.write_digits(DigitBuffer::default().fill(coefficient.unsigned_abs()).as_bytes(), out);
            }
            Repr::Big(b) => self.write_digits(b.coefficient.magnitude().to_str_radix(10).as_bytes(), out),
        }
    }

    fn write_digits<B: BufMut>(&self, digits: &[u8], out: &mut B) {
        let sign = if self.signum() < 0 { NEGATIVE } else { POSITIVE };
        let scale = self.scale();
        if self.is_zero() {
            return write_header(out, 0, 0, POSITIVE, scale as u16);
        }
        // The power of ten of a digit counts from the last one up; base digits begin at multiples of four.
        let top = digits.len() as i64 - i64::from(scale) - 1;
        let weight = top.div_euclid(BASE_DIGITS);
        let significant = digits.len() - digits.iter().rev().take_while(|d| **d == b'0').count();
        let lead = (top - weight * BASE_DIGITS + 1) as usize;
        let count = 1 + significant.saturating_sub(lead).div_ceil(BASE_DIGITS as usize);
        write_header(out, count as u16, weight as i16, sign, scale as u16);
        let group = |range: std::ops::Range<usize>| {
            range.fold(0u16, |n, i| n * 10 + u16::from(digits.get(i).map_or(0, |d| d - b'0')))
        };
        out.put_u16(group(0..lead));
        for g in 0..count - 1 {
            let from = lead + g * BASE_DIGITS as usize;
            out.put_u16(group(from..from + BASE_DIGITS as usize));
        }
    }

    /// `numeric_recv`.
    pub fn parse_binary(mut bytes: &[u8]) -> Result<Decimal> {
        let malformed = || SqlError::invalid_binary("insufficient data left in message");
        if bytes.len() < 8 {
            return Err(malformed());
        }
        let (count, weight) = (usize::from(bytes.get_u16()), i64::from(bytes.get_i16()));
        let (sign, scale) = (bytes.get_u16(), u32::from(bytes.get_u16()));
        match sign {
            NAN => return Ok(Decimal::NAN),
            INFINITY => return Ok(Decimal::INFINITY),
            NEGATIVE_INFINITY => return Ok(Decimal::NEGATIVE_INFINITY),
            POSITIVE | NEGATIVE => {}
            _ => return Err(SqlError::invalid_binary("invalid sign in external \"numeric\" value")),
        }
        if scale > MAX_SCALE {
            return Err(SqlError::invalid_binary("invalid scale in external \"numeric\" value"));
        }
        if bytes.len() != count * 2 {
            return Err(malformed());
        }
        let mut text = String::with_capacity(count * BASE_DIGITS as usize);
        for _ in 0..count {
            let digit = bytes.get_u16();
            if digit >= 10_000 {
                return Err(SqlError::invalid_binary("invalid digit in external \"numeric\" value"));
            }
            for divisor in [1000, 100, 10, 1] {
                text.push(char::from(b'0' + (digit / divisor % 10) as u8));
            }
        }
        let magnitude: BigInt =
            if count == 0 { BigInt::ZERO } else { text.parse().expect("only digits were pushed") };
        let coefficient = if sign == NEGATIVE { -magnitude } else { magnitude };
        // The digits stand for coefficient * 10^-from; digits beyond the display scale are cut off, as on receipt.
        let from = (count as i64 - 1 - weight) * BASE_DIGITS;
        let shift = i64::from(scale) - from;
        let power = pow10(u32::try_from(shift.unsigned_abs()).expect("weights and scales are 16-bit"));
        let scaled = if shift >= 0 { coefficient * power } else { coefficient / power };
        Decimal::from_big(scaled, scale).checked()
    }

    /// A compact form for storage: the coefficient's little-endian two's complement bytes, where it is finite.
    pub(crate) fn coefficient_bytes(&self) -> Option<Vec<u8>> {
        self.coefficient().map(|c| match c {
            Coefficient::Small(v) => BigInt::from(v).to_signed_bytes_le(),
            Coefficient::Big(b) => b.to_signed_bytes_le(),
        })
    }

    /// The inverse of [`Decimal::coefficient_bytes`].
    pub(crate) fn from_coefficient_bytes(bytes: &[u8], scale: u32) -> Decimal {
        Decimal::from_big(BigInt::from_signed_bytes_le(bytes), scale)
    }
}

fn write_header<B: BufMut>(out: &mut B, count: u16, weight: i16, sign: u16, scale: u16) {
    out.put_u16(count);
    out.put_i16(weight);
    out.put_u16(sign);
    out.put_u16(scale);
}
