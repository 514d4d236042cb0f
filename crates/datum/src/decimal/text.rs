//! NUMERIC as text.

use std::fmt::{self, Write};

use crate::decimal::{Decimal, Repr};

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
