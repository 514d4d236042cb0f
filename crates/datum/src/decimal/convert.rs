//! NUMERIC from and to the machine's numbers.

use num_bigint::BigInt;

use crate::decimal::text::parse_decimal;
use crate::decimal::{Coefficient, Decimal, Repr};

impl Decimal {
    /// The nearest integer, half away from zero; `None` when it does not fit or the value is not finite.
    pub fn to_i64(&self) -> Option<i64> {
        let rounded = self.round(0);
        match rounded.0 {
            Repr::Small { coefficient, .. } => Some(coefficient),
            _ => None,
        }
    }

    /// The nearest integer as a big one; `None` when the value is not finite.
    pub fn to_big_integer(&self) -> Option<BigInt> {
        self.round(0).coefficient().map(|c| c.to_big())
    }

    /// The nearest double, correctly rounded. Values beyond its range become an infinity.
    pub fn to_f64(&self) -> f64 {
        /// Powers of ten that a double holds exactly.
        const EXACT: [f64; 23] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
            1e18, 1e19, 1e20, 1e21, 1e22,
        ];
        match &self.0 {
            Repr::NaN => f64::NAN,
            Repr::Infinity => f64::INFINITY,
            Repr::NegativeInfinity => f64::NEG_INFINITY,
            // One correctly rounded division of two exact doubles is correctly rounded.
            Repr::Small { coefficient, scale }
                if coefficient.unsigned_abs() <= 1 << 53 && usize::from(*scale) < EXACT.len() =>
            {
                *coefficient as f64 / EXACT[usize::from(*scale)]
            }
            _ => {
                let digits = match self.coefficient().expect("specials are handled above") {
                    Coefficient::Small(c) => c.to_string(),
                    Coefficient::Big(b) => b.to_str_radix(10),
                };
                let text = format!("{digits}e-{}", self.scale());
                text.parse().expect("digits with an exponent are a number")
            }
        }
    }

    /// The value of a double at 15 significant digits, which is all that PostgreSQL trusts it for.
    pub fn from_f64(v: f64) -> Decimal {
        Self::from_scientific(v, |v| format!("{v:.14e}"))
    }

    /// The value of a single at 6 significant digits.
    pub fn from_f32(v: f32) -> Decimal {
        Self::from_scientific(f64::from(v), |_| format!("{v:.5e}"))
    }

    fn from_scientific(v: f64, digits: impl Fn(f64) -> String) -> Decimal {
        if v.is_nan() {
            return Decimal::NAN;
        }
        if v.is_infinite() {
            return if v > 0.0 { Decimal::INFINITY } else { Decimal::NEGATIVE_INFINITY };
        }
        let parsed = parse_decimal(&digits(v)).expect("a formatted float is a number");
        // "%g" drops the trailing zeros of the fraction.
        parsed.normalized()
    }
}

impl From<u64> for Decimal {
    fn from(v: u64) -> Self {
        Decimal::from_parts(i128::from(v), 0)
    }
}
