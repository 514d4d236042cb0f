//! Decimals of any precision, as keys see them.

/// A decimal as a key holds it: by value, so that `1.0` and `1.00` are one key (the scale that a value was written
/// with is kept beside it). Ordered as PostgreSQL's `numeric`: minus infinity, finite values, infinity, NaN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decimal {
    /// `-Infinity`.
    NegInfinity,
    /// `0.d1d2d3... * 10^exponent`, negated where `negative`.
    ///
    /// Invariant: digits are `0..=9` with neither leading nor trailing zeros; zero has no digits, exponent 0 and is not
    /// negative. [`Decimal::finite`] upholds it.
    Finite {
        /// Below zero.
        negative: bool,
        /// Where the decimal point is, relative to the first digit.
        exponent: i64,
        /// The significant digits, most significant first.
        digits: Vec<u8>,
    },
    /// `Infinity`.
    PosInfinity,
    /// `NaN`, which equals itself and is above everything.
    NaN,
}

impl Decimal {
    /// Zero.
    pub const ZERO: Decimal = Decimal::Finite { negative: false, exponent: 0, digits: Vec::new() };

    /// `digits * 10^-scale`, negated where `negative`; digits are `0..=9`, most significant first.
    ///
    /// # Panics
    /// When a digit is above 9.
    pub fn finite(negative: bool, digits: &[u8], scale: i64) -> Self {
        assert!(digits.iter().all(|&d| d <= 9), "a decimal digit is above 9");
        let Some(first) = digits.iter().position(|&d| d != 0) else {
            return Decimal::ZERO;
        };
        let last = digits.iter().rposition(|&d| d != 0).expect("there is a non-zero digit");
        let exponent = (digits.len() - first) as i64 - scale;
        Decimal::Finite { negative, exponent, digits: digits[first..=last].to_vec() }
    }

    /// For a finite value the scale that makes its digits an integer: `value = digits * 10^-scale`. Negative where the
    /// value ends in zeros before its decimal point.
    pub fn scale(&self) -> Option<i64> {
        match self {
            Decimal::Finite { exponent, digits, .. } => Some(digits.len() as i64 - exponent),
            _ => None,
        }
    }
}
