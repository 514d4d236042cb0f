//! NUMERIC as text.

use std::fmt::{self, Write};
use std::str::FromStr;

use num_bigint::BigInt;

use crate::decimal::arith::overflow;
use crate::decimal::{Decimal, MAX_INTEGER_DIGITS, MAX_SCALE, Repr, pow10};
use crate::error::{Result, SqlError};

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::NaN => f.write_str("NaN"),
            Repr::Infinity => f.write_str("Infinity"),
            Repr::NegativeInfinity => f.write_str("-Infinity"),
            Repr::Small { coefficient, scale } => {
                let mut buffer = DigitBuffer::default();
                let digits = buffer.fill(coefficient.unsigned_abs());
                write_pointed(f, *coefficient < 0, digits, usize::from(*scale))
            }
            Repr::Big(b) => {
                let digits = b.coefficient.magnitude().to_str_radix(10);
                write_pointed(f, self.signum() < 0, &digits, usize::from(b.scale))
            }
        }
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Decimal {
    type Err = SqlError;

    /// `numeric_in`: blanks around it are ignored, so is the case of the special values.
    fn from_str(text: &str) -> Result<Decimal> {
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
        if let Some(special) = parse_special(trimmed) {
            return Ok(special);
        }
        match parse_decimal(trimmed) {
            Some(d) => Ok(d),
            None if is_number(trimmed) => Err(overflow()),
            None => Err(SqlError::invalid_text("numeric", text)),
        }
    }
}

fn parse_special(text: &str) -> Option<Decimal> {
    let (negative, bare) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if text.eq_ignore_ascii_case("nan") {
        return Some(Decimal::NAN);
    }
    if bare.eq_ignore_ascii_case("infinity") || bare.eq_ignore_ascii_case("inf") {
        return Some(if negative { Decimal::NEGATIVE_INFINITY } else { Decimal::INFINITY });
    }
    None
}

/// The parts of `[+-]digits[.digits][e[+-]digits]`.
struct Scanned<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

fn scan(text: &str) -> Option<Scanned<'_>> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, mut rest) = rest.split_at(digits(rest));
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        (fraction, rest) = after.split_at(digits(after));
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut exponent = 0i64;
    if let Some(after) = rest.strip_prefix(['e', 'E']) {
        let (sign, after) = match after.as_bytes().first()? {
            b'-' => (-1, &after[1..]),
            b'+' => (1, &after[1..]),
            _ => (1, after),
        };
        if after.is_empty() || digits(after) != after.len() {
            return None;
        }
        // An exponent of more digits than this is out of range whatever it is.
        exponent = sign * after.parse::<i64>().unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
        rest = "";
    }
    rest.is_empty().then_some(Scanned { negative, whole, fraction, exponent })
}

fn is_number(text: &str) -> bool {
    scan(text).is_some()
}

/// The value of a number's text, `None` when it is none or is out of the type's range.
pub(super) fn parse_decimal(text: &str) -> Option<Decimal> {
    let s = scan(text)?;
    let scale = s.fraction.len() as i64 - s.exponent;
    let whole = s.whole.trim_start_matches('0');
    let zero = whole.is_empty() && s.fraction.bytes().all(|d| d == b'0');
    if zero && scale <= i64::from(MAX_SCALE) {
        return Some(Decimal::from_parts(0, scale.max(0) as u32));
    }
    if scale > i64::from(MAX_SCALE) || (whole.len() as i64 + s.exponent) > i64::from(MAX_INTEGER_DIGITS) {
        return None;
    }
    let len = whole.len() + s.fraction.len();
    if len <= 18 && scale >= 0 {
        let value = whole.bytes().chain(s.fraction.bytes()).fold(0i64, |n, d| n * 10 + i64::from(d - b'0'));
        return Some(Decimal::from_parts(i128::from(if s.negative { -value } else { value }), scale as u32));
    }
    let mut digits = String::with_capacity(len + 1);
    if s.negative {
        digits.push('-');
    }
    digits.push_str(whole);
    digits.push_str(s.fraction);
    let coefficient: BigInt = digits.parse().ok()?;
    if scale >= 0 {
        return Some(Decimal::from_big(coefficient, scale as u32));
    }
    if coefficient == BigInt::ZERO {
        return Some(Decimal::ZERO);
    }
    let up = u32::try_from(-scale).ok().filter(|up| *up <= MAX_INTEGER_DIGITS)?;
    Some(Decimal::from_big(coefficient * pow10(up), 0))
}

/// Decimal digits of a machine integer, on the stack.
#[derive(Default)]
pub(crate) struct DigitBuffer([u8; 20]);

impl DigitBuffer {
    /// The digits of `value`, at least one.
    pub(crate) fn fill(&mut self, mut value: u64) -> &str {
        let mut at = self.0.len();
        loop {
            at -= 1;
            self.0[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        std::str::from_utf8(&self.0[at..]).expect("digits are ASCII")
    }
}

fn write_pointed(f: &mut impl Write, negative: bool, digits: &str, scale: usize) -> fmt::Result {
    if negative {
        f.write_char('-')?;
    }
    if scale == 0 {
        return f.write_str(digits);
    }
    if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        f.write_str(whole)?;
        f.write_char('.')?;
        return f.write_str(fraction);
    }
    f.write_str("0.")?;
    for _ in digits.len()..scale {
        f.write_char('0')?;
    }
    f.write_str(digits)
}
