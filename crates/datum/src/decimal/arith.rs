//! Addition to division, rounding, and the scale that each chooses for its result.

use num_bigint::{BigInt, Sign};

use crate::decimal::text::DigitBuffer;
use crate::decimal::{Coefficient, Decimal, MAX_INTEGER_DIGITS, MAX_SCALE, Repr, pow10};
use crate::error::{Result, SqlError};
use crate::state::SqlState;
use crate::types::NumericMod;

/// Significant digits that a division or a transcendental function gives at least (`NUMERIC_MIN_SIG_DIGITS`).
pub(super) const MIN_SIGNIFICANT_DIGITS: i64 = 16;
/// Most digits after the point that such a function chooses by itself (`NUMERIC_MAX_DISPLAY_SCALE`).
pub(super) const MAX_DISPLAY_SCALE: i64 = 1000;
/// PostgreSQL's numerics have digits of base 10^4, and some scales follow from where the first of them lies.
pub(super) const BASE_DIGITS: i64 = 4;

/// `22003`: "value overflows numeric format".
#[cold]
pub(super) fn overflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}

/// `numerator / denominator`, rounded half away from zero.
pub(super) fn divide_rounded(numerator: &BigInt, denominator: &BigInt) -> BigInt {
    let quotient = numerator / denominator;
    let remainder = numerator - &quotient * denominator;
    let doubled: BigInt = remainder * 2;
    if doubled.magnitude() >= denominator.magnitude() {
        let down = (numerator.sign() == Sign::Minus) != (denominator.sign() == Sign::Minus);
        if down { quotient - 1 } else { quotient + 1 }
    } else {
        quotient
    }
}

fn divide_rounded_i128(numerator: i128, denominator: i128) -> i128 {
    let (q, r) = (numerator / denominator, numerator % denominator);
    // The remainder is smaller than the denominator, which is below 2^126 wherever this is called.
    if r.unsigned_abs() * 2 >= denominator.unsigned_abs() {
        if (numerator < 0) != (denominator < 0) { q - 1 } else { q + 1 }
    } else {
        q
    }
}

/// Where a finite value's first base-10^4 digit lies, and what it is. Zero is `(0, 0)`.
pub(super) fn head(value: &Decimal) -> (i64, i64) {
    fn of_digits(digits: &[u8], scale: i64) -> (i64, i64) {
        let top = digits.len() as i64 - scale - 1;
        let weight = top.div_euclid(BASE_DIGITS);
        let count = (top - weight * BASE_DIGITS + 1) as usize;
        let first = (0..count).fold(0, |n, i| n * 10 + i64::from(digits.get(i).map_or(0, |d| d - b'0')));
        (weight, first)
    }
    if value.is_zero() {
        return (0, 0);
    }
    let scale = i64::from(value.scale());
    match value.coefficient().expect("callers pass finite values") {
        Coefficient::Small(c) => of_digits(DigitBuffer::default().fill(c.unsigned_abs()).as_bytes(), scale),
        Coefficient::Big(b) => of_digits(b.magnitude().to_str_radix(10).as_bytes(), scale),
    }
}

impl Decimal {
    /// Errors when the value has more digits before the point than the type can hold.
    pub(super) fn checked(self) -> Result<Decimal> {
        if let Repr::Big(b) = &self.0 {
            // A digit takes more than 3.3 bits; the exact count is taken only near the limit.
            let limit = u64::from(MAX_INTEGER_DIGITS + u32::from(b.scale));
            if b.coefficient.bits() > limit * 33 / 10
                && b.coefficient.magnitude().to_str_radix(10).len() as u64 > limit
            {
                return Err(overflow());
            }
        }
        Ok(self)
    }

    /// `self + other`.
    pub fn add(&self, other: &Decimal) -> Result<Decimal> {
        let (Some(a), Some(b)) = (self.coefficient(), other.coefficient()) else {
            return Ok(match (&self.0, &other.0) {
                (Repr::NaN, _) | (_, Repr::NaN) => Decimal::NAN,
                (Repr::Infinity, Repr::NegativeInfinity) | (Repr::NegativeInfinity, Repr::Infinity) => {
                    Decimal::NAN
                }
                (Repr::Infinity | Repr::NegativeInfinity, _) => self.clone(),
                _ => other.clone(),
            });
        };
        let (sa, sb) = (self.scale(), other.scale());
        let scale = sa.max(sb);
        if let (Coefficient::Small(a), Coefficient::Small(b)) = (&a, &b) {
            if sa == sb {
                return Ok(Decimal::from_parts(i128::from(*a) + i128::from(*b), scale));
            }
            // 2^63 * 10^18 is below 2^123.
            if scale - sa <= 18 && scale - sb <= 18 {
                let a = i128::from(*a) * 10i128.pow(scale - sa);
                let b = i128::from(*b) * 10i128.pow(scale - sb);
                return Ok(Decimal::from_parts(a + b, scale));
            }
        }
        let sum = a.to_big() * pow10(scale - sa) + b.to_big() * pow10(scale - sb);
        Decimal::from_big(sum, scale).checked()
    }

    /// `self - other`.
    pub fn sub(&self, other: &Decimal) -> Result<Decimal> {
        self.add(&other.neg())
    }

    /// `-self`.
    pub fn neg(&self) -> Decimal {
        match &self.0 {
            Repr::Small { coefficient, scale } => {
                Decimal::from_parts(-i128::from(*coefficient), u32::from(*scale))
            }
            Repr::Big(b) => Decimal::from_big(-&b.coefficient, u32::from(b.scale)),
            Repr::Infinity => Decimal::NEGATIVE_INFINITY,
            Repr::NegativeInfinity => Decimal::INFINITY,
            Repr::NaN => Decimal::NAN,
        }
    }

    /// `abs(self)`.
    pub fn abs(&self) -> Decimal {
        if self.signum() < 0 { self.neg() } else { self.clone() }
    }

    /// `self * other`.
    pub fn mul(&self, other: &Decimal) -> Result<Decimal> {
        let (Some(a), Some(b)) = (self.coefficient(), other.coefficient()) else {
            if self.is_nan() || other.is_nan() || self.is_zero() || other.is_zero() {
                return Ok(Decimal::NAN);
            }
            let sign = self.signum() * other.signum();
            return Ok(if sign < 0 { Decimal::NEGATIVE_INFINITY } else { Decimal::INFINITY });
        };
        let scale = self.scale() + other.scale();
        if let (Coefficient::Small(a), Coefficient::Small(b)) = (&a, &b)
            && scale <= MAX_SCALE
        {
            return Ok(Decimal::from_parts(i128::from(*a) * i128::from(*b), scale));
        }
        let product = a.to_big() * b.to_big();
        if scale > MAX_SCALE {
            let product = divide_rounded(&product, &pow10(scale - MAX_SCALE));
            return Decimal::from_big(product, MAX_SCALE).checked();
        }
        Decimal::from_big(product, scale).checked()
    }

    /// The scale of a quotient (`select_div_scale`).
    pub(crate) fn quotient_scale(&self, other: &Decimal) -> u32 {
        let ((weight1, first1), (weight2, first2)) = (head(self), head(other));
        let mut weight = weight1 - weight2;
        if first1 <= first2 {
            weight -= 1;
        }
        let scale = (MIN_SIGNIFICANT_DIGITS - weight * BASE_DIGITS)
            .max(i64::from(self.scale()))
            .max(i64::from(other.scale()))
            .clamp(0, MAX_DISPLAY_SCALE);
        scale as u32
    }

    /// `self / other`.
    pub fn div(&self, other: &Decimal) -> Result<Decimal> {
        if let Some(special) = self.div_special(other)? {
            return Ok(special);
        }
        self.div_at(other, self.quotient_scale(other))
    }

    fn div_special(&self, other: &Decimal) -> Result<Option<Decimal>> {
        if self.is_finite() && other.is_finite() {
            return if other.is_zero() { Err(SqlError::division_by_zero()) } else { Ok(None) };
        }
        if self.is_nan() || other.is_nan() || (self.is_infinite() && other.is_infinite()) {
            return Ok(Some(Decimal::NAN));
        }
        if other.is_infinite() {
            return Ok(Some(Decimal::ZERO));
        }
        if other.is_zero() {
            return Err(SqlError::division_by_zero());
        }
        let negative = self.signum() * other.signum() < 0;
        Ok(Some(if negative { Decimal::NEGATIVE_INFINITY } else { Decimal::INFINITY }))
    }

    /// The quotient of finite values, rounded at `scale`; the divisor is not zero.
    pub(crate) fn div_at(&self, other: &Decimal, scale: u32) -> Result<Decimal> {
        let a = self.coefficient().expect("the dividend is finite");
        let b = other.coefficient().expect("the divisor is finite");
        let shift = i64::from(scale) + i64::from(other.scale()) - i64::from(self.scale());
        if let (Coefficient::Small(a), Coefficient::Small(b)) = (&a, &b) {
            let (a, b) = (i128::from(*a), i128::from(*b));
            let power = u32::try_from(shift.unsigned_abs()).ok().and_then(|s| 10i128.checked_pow(s));
            if let Some(power) = power {
                let scaled = if shift >= 0 {
                    (a.checked_mul(power), Some(b))
                } else {
                    (Some(a), b.checked_mul(power))
                };
                if let (Some(a), Some(b)) = scaled
                    && b.unsigned_abs() < 1 << 126
                {
                    return Ok(Decimal::from_parts(divide_rounded_i128(a, b), scale));
                }
            }
        }
        let shift_by = pow10(u32::try_from(shift.unsigned_abs()).expect("scales are below 2^15"));
        let quotient = if shift >= 0 {
            divide_rounded(&(a.to_big() * shift_by), &b.to_big())
        } else {
            divide_rounded(&a.to_big(), &(b.to_big() * shift_by))
        };
        Decimal::from_big(quotient, scale).checked()
    }

    /// `div(self, other)`: the quotient truncated to an integer.
    pub fn div_trunc(&self, other: &Decimal) -> Result<Decimal> {
        if let Some(special) = self.div_special(other)? {
            return Ok(special);
        }
        let (a, b, _) = self.aligned(other);
        Decimal::from_big(a / b, 0).checked()
    }

    /// `self % other`, with the sign of `self`.
    pub fn rem(&self, other: &Decimal) -> Result<Decimal> {
        if self.is_nan() || other.is_nan() {
            return Ok(Decimal::NAN);
        }
        if other.is_zero() {
            return Err(SqlError::division_by_zero());
        }
        if self.is_infinite() {
            return Ok(Decimal::NAN);
        }
        if other.is_infinite() {
            return Ok(self.clone());
        }
        if let (Some((a, sa)), Some((b, sb))) = (self.small_parts(), other.small_parts())
            && sa.abs_diff(sb) <= 18
        {
            let scale = sa.max(sb);
            let a = i128::from(a) * 10i128.pow(scale - sa);
            let b = i128::from(b) * 10i128.pow(scale - sb);
            return Ok(Decimal::from_parts(a % b, scale));
        }
        let (a, b, scale) = self.aligned(other);
        Ok(Decimal::from_big(a % b, scale))
    }

    /// Both coefficients at the greater of the two scales.
    pub(super) fn aligned(&self, other: &Decimal) -> (BigInt, BigInt, u32) {
        let (sa, sb) = (self.scale(), other.scale());
        let scale = sa.max(sb);
        let a = self.coefficient().expect("the value is finite").to_big() * pow10(scale - sa);
        let b = other.coefficient().expect("the value is finite").to_big() * pow10(scale - sb);
        (a, b, scale)
    }

    /// The value at `scale` digits after the point (before it, where negative), rounded half away from zero.
    pub fn round(&self, scale: i32) -> Decimal {
        self.rescale(scale, true)
    }

    /// The value at `scale` digits after the point, the rest cut off.
    pub fn trunc(&self, scale: i32) -> Decimal {
        self.rescale(scale, false)
    }

    fn rescale(&self, scale: i32, rounded: bool) -> Decimal {
        let Some(c) = self.coefficient() else { return self.clone() };
        let scale = scale.clamp(-(MAX_INTEGER_DIGITS as i32), MAX_SCALE as i32);
        let (from, target) = (self.scale() as i32, scale.max(0) as u32);
        if scale == from {
            return self.clone();
        }
        if scale > from {
            let by = (scale - from) as u32;
            if let Coefficient::Small(c) = c
                && by <= 18
            {
                return Decimal::from_parts(i128::from(c) * 10i128.pow(by), target);
            }
            return Decimal::from_big(c.to_big() * pow10(by), target);
        }
        let drop = (from - scale) as u32;
        let restore = (-scale).max(0) as u32;
        if let Coefficient::Small(c) = c {
            if drop > 19 {
                return Decimal::from_parts(0, target);
            }
            let power = 10i128.pow(drop);
            let c = i128::from(c);
            let cut = if rounded { divide_rounded_i128(c, power) } else { c / power };
            return Decimal::from_parts(cut * 10i128.pow(restore), target);
        }
        let power = pow10(drop);
        let cut = if rounded { divide_rounded(&c.to_big(), &power) } else { c.to_big() / power };
        Decimal::from_big(cut * pow10(restore), target)
    }

    /// The least integer at or above the value.
    pub fn ceil(&self) -> Decimal {
        let cut = self.trunc(0);
        if self.is_finite() && cut < *self {
            cut.add(&Decimal::ONE).unwrap_or(Decimal::INFINITY)
        } else {
            cut
        }
    }

    /// The greatest integer at or below the value.
    pub fn floor(&self) -> Decimal {
        let cut = self.trunc(0);
        if self.is_finite() && cut > *self {
            cut.sub(&Decimal::ONE).unwrap_or(Decimal::INFINITY)
        } else {
            cut
        }
    }

    /// The value as `numeric(precision, scale)` holds it: rounded, or 22003 when it does not fit.
    pub fn with_modifier(&self, modifier: NumericMod) -> Result<Decimal> {
        let (precision, scale) = (i32::from(modifier.precision), i32::from(modifier.scale));
        if self.is_infinite() {
            return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow")
                .with_detail(format!(
                    "A field with precision {precision}, scale {scale} cannot hold an infinite value."
                )));
        }
        let rounded = self.round(scale);
        let digits = precision - scale;
        let fits = match rounded.coefficient() {
            None => true,
            Some(Coefficient::Small(0)) => true,
            Some(c) => {
                // |c| * 10^-s < 10^digits  <=>  |c| < 10^(digits + s)
                let exponent = digits + rounded.scale() as i32;
                match (c, u32::try_from(exponent)) {
                    (_, Err(_)) => false,
                    (Coefficient::Small(c), Ok(e)) => {
                        10i128.checked_pow(e).is_none_or(|limit| i128::from(c).abs() < limit)
                    }
                    (Coefficient::Big(b), Ok(e)) => b.magnitude() < pow10(e).magnitude(),
                }
            }
        };
        if fits {
            return Ok(rounded);
        }
        let limit = if digits == 0 { "1".to_owned() } else { format!("10^{digits}") };
        Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").with_detail(format!(
            "A field with precision {precision}, scale {scale} must round to an absolute value less than {limit}."
        )))
    }
}
