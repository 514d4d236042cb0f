//! Roots, exponentials and logarithms of NUMERIC.
//!
//! They are computed in fixed point with guard digits and rounded once, at the scale that PostgreSQL would choose: so
//! the digits agree with PostgreSQL's wherever its own are right.

use std::f64::consts::{LOG10_2, LOG10_E};

use num_bigint::{BigInt, Sign};

use crate::decimal::arith::{MAX_DISPLAY_SCALE, MIN_SIGNIFICANT_DIGITS, divide_rounded, head, overflow};
use crate::decimal::{Decimal, pow10};
use crate::error::{Result, SqlError};
use crate::state::SqlState;

/// Beyond this argument an exponential certainly overflows (`NUMERIC_MAX_RESULT_SCALE * 3`).
const MAX_EXPONENT: f64 = 6000.0;
/// Digits computed beyond the ones that are kept.
const GUARD: u32 = 12;

/// The scale for a result of about `10^weight`, at least that of the operands.
fn result_scale(weight: i64, operands: &[&Decimal]) -> u32 {
    let least = operands.iter().map(|d| i64::from(d.scale())).max().unwrap_or(0);
    (MIN_SIGNIFICANT_DIGITS - weight).max(least).clamp(0, MAX_DISPLAY_SCALE) as u32
}

fn invalid(state: SqlState, message: &'static str) -> SqlError {
    SqlError::new(state, message)
}

/// A finite value as an integer at `digits` digits after the point.
fn fixed(value: &Decimal, digits: u32) -> BigInt {
    value.round(digits as i32).parts().expect("the value is finite").0
}

impl Decimal {
    /// `sqrt(self)`.
    pub fn sqrt(&self) -> Result<Decimal> {
        if !self.is_finite() && self.signum() > 0 {
            return Ok(self.clone());
        }
        if self.signum() < 0 {
            return Err(invalid(
                SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "cannot take square root of a negative number",
            ));
        }
        let weight = (head(self).0 + 1) * 4 / 2 - 1;
        Ok(self.sqrt_at(result_scale(weight, &[self])))
    }

    /// The root of a finite value that is not negative, rounded at `scale`.
    pub(crate) fn sqrt_at(&self, scale: u32) -> Decimal {
        // The root of c * 10^-s at one digit more than wanted, so that the rounding sees what follows.
        let (c, s) = self.parts().expect("the value is finite");
        let extra = scale + 1;
        let root = (c * pow10(2 * extra + (s % 2))).sqrt();
        let root_scale = extra + s.div_ceil(2);
        // A truncated root cannot be mistaken for a tie: half a unit would have to be an exact root.
        Decimal::from_big(root, root_scale).round(scale as i32)
    }

    /// `exp(self)`.
    pub fn exp(&self) -> Result<Decimal> {
        if self.is_nan() || (self.is_infinite() && self.signum() > 0) {
            return Ok(self.clone());
        }
        if self.is_infinite() {
            return Ok(Decimal::ZERO);
        }
        let value = self.to_f64();
        let weight = (value * LOG10_E).clamp(-2000.0, 2000.0) as i64;
        exp_at(self, result_scale(weight, &[self]))
    }

    /// `ln(self)`.
    pub fn ln(&self) -> Result<Decimal> {
        check_logarithm(self)?;
        if !self.is_finite() {
            return Ok(self.clone());
        }
        let scale = result_scale(ln_weight(self), &[self]);
        Ok(ln_at(self, scale))
    }

    /// `log(base, self)`.
    pub fn log(&self, base: &Decimal) -> Result<Decimal> {
        if self.is_nan() || base.is_nan() {
            return Ok(Decimal::NAN);
        }
        check_logarithm(base)?;
        check_logarithm(self)?;
        match (base.is_infinite(), self.is_infinite()) {
            (true, true) => return Ok(Decimal::NAN),
            (true, false) => return Ok(Decimal::ZERO),
            (false, true) => return Ok(Decimal::INFINITY),
            (false, false) => {}
        }
        let (base_weight, own_weight) = (ln_weight(base), ln_weight(self));
        let weight = own_weight - base_weight;
        let scale = result_scale(weight, &[base, self]);
        let digits =
            |w: i64| (i64::from(scale) + weight.abs() - w + i64::from(GUARD)).max(i64::from(GUARD)) as u32;
        let (base_ln, own_ln) = (ln_at(base, digits(base_weight)), ln_at(self, digits(own_weight)));
        if base_ln.is_zero() {
            return Err(SqlError::division_by_zero());
        }
        own_ln.div_at(&base_ln, scale)
    }

    /// `power(self, exponent)`.
    pub fn pow(&self, exponent: &Decimal) -> Result<Decimal> {
        if !self.is_finite() || !exponent.is_finite() {
            return self.pow_special(exponent);
        }
        let negative_error = || {
            invalid(
                SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "a negative number raised to a non-integer power yields a complex result",
            )
        };
        if self.is_zero() && exponent.signum() < 0 {
            return Err(invalid(
                SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "zero raised to a negative power is undefined",
            ));
        }
        let whole = exponent.trunc(0) == *exponent;
        if whole && let Some(n) = exponent.to_i64().and_then(|n| i32::try_from(n).ok()) {
            return self.pow_integer(n, exponent);
        }
        if self.is_zero() {
            return Ok(Decimal::from_parts(0, MIN_SIGNIFICANT_DIGITS as u32));
        }
        if self.signum() < 0 && !whole {
            return Err(negative_error());
        }
        let odd = whole && exponent.to_big_integer().is_some_and(|n| n.bit(0));
        let base = self.abs();
        let power = base.pow_real(exponent)?;
        Ok(if self.signum() < 0 && odd { power.neg() } else { power })
    }

    fn pow_special(&self, exponent: &Decimal) -> Result<Decimal> {
        // The order of the rules is that of POSIX pow(3), which PostgreSQL follows.
        if *self == Decimal::ONE || exponent.is_zero() {
            return Ok(Decimal::ONE);
        }
        if self.is_nan() || exponent.is_nan() {
            return Ok(Decimal::NAN);
        }
        let zero_base = self.is_zero();
        if zero_base && exponent.signum() < 0 {
            return Err(invalid(
                SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "zero raised to a negative power is undefined",
            ));
        }
        if zero_base {
            return Ok(Decimal::ZERO);
        }
        if exponent.is_infinite() {
            let magnitude = self.abs();
            return Ok(match (magnitude.cmp(&Decimal::ONE), exponent.signum() > 0) {
                (std::cmp::Ordering::Equal, _) => Decimal::ONE,
                (std::cmp::Ordering::Greater, true) | (std::cmp::Ordering::Less, false) => Decimal::INFINITY,
                _ => Decimal::ZERO,
            });
        }
        if self.signum() > 0 {
            return Ok(if exponent.signum() > 0 { Decimal::INFINITY } else { Decimal::ZERO });
        }
        if exponent.trunc(0) != *exponent {
            return Err(invalid(
                SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "a negative number raised to a non-integer power yields a complex result",
            ));
        }
        if exponent.signum() < 0 {
            return Ok(Decimal::ZERO);
        }
        let odd = exponent.to_big_integer().is_some_and(|n| n.bit(0));
        Ok(if odd { Decimal::NEGATIVE_INFINITY } else { Decimal::INFINITY })
    }

    /// `power_var_int`: exact products, cut to the digits that matter.
    fn pow_integer(&self, n: i32, exponent: &Decimal) -> Result<Decimal> {
        let scale = i64::from(self.scale()).clamp(MIN_SIGNIFICANT_DIGITS, MAX_DISPLAY_SCALE) as u32;
        let _ = exponent;
        match n {
            0 => return Ok(Decimal::ONE.round(scale as i32)),
            1 => return Ok(self.round(scale as i32)),
            -1 => return Decimal::ONE.div_at(self, scale),
            2 => return Ok(self.mul(self)?.round(scale as i32)),
            _ => {}
        }
        if self.is_zero() {
            return Ok(Decimal::from_parts(0, scale));
        }
        let magnitude = approximate_log10(self) * f64::from(n);
        if magnitude > 131_072.0 * 3.0 {
            return Err(overflow());
        }
        if magnitude + 1.0 < -f64::from(scale) || magnitude + 1.0 < -(MAX_DISPLAY_SCALE as f64) {
            return Ok(Decimal::from_parts(0, scale));
        }
        let digits = (f64::from(scale) + magnitude.max(0.0)) as u32 + 16 + GUARD;
        let power = float_power(Float::of(self), n.unsigned_abs(), digits);
        let result = if n < 0 { Float::of(&Decimal::ONE).div(&power, digits + 8) } else { power };
        result.to_decimal(scale)
    }

    /// `exp(exponent * ln(self))` for a positive base.
    fn pow_real(&self, exponent: &Decimal) -> Result<Decimal> {
        let weight = ln_weight(self);
        let rough_scale = (8 - weight).max(0) as u32;
        let rough = ln_at(self, rough_scale).mul(exponent)?.round(rough_scale as i32).to_f64();
        if rough.abs() > MAX_EXPONENT * 1.003_34 {
            return if rough > 0.0 {
                Err(overflow())
            } else {
                Ok(Decimal::from_parts(0, MAX_DISPLAY_SCALE as u32))
            };
        }
        let result_weight = (rough * LOG10_E) as i64;
        let scale = result_scale(result_weight, &[self, exponent]);
        // The product's absolute error must stay below a unit of the result's last digit, relative to the result.
        let exponent_digits = (head(exponent).0.max(0) + 1) * 4;
        let digits = i64::from(scale) + result_weight.max(0) + exponent_digits + i64::from(GUARD);
        let product = ln_at(self, digits.max(0) as u32).mul(exponent)?;
        exp_at(&product, scale)
    }
}

fn check_logarithm(value: &Decimal) -> Result<()> {
    if value.is_zero() {
        return Err(invalid(SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, "cannot take logarithm of zero"));
    }
    if value.signum() < 0 {
        return Err(invalid(
            SqlState::INVALID_ARGUMENT_FOR_LOGARITHM,
            "cannot take logarithm of a negative number",
        ));
    }
    Ok(())
}

/// The decimal logarithm of a finite positive or negative value's magnitude, to a double's precision.
fn approximate_log10(value: &Decimal) -> f64 {
    let (c, s) = value.parts().expect("the value is finite");
    let digits = c.magnitude().to_str_radix(10);
    let lead: f64 = digits[..digits.len().min(17)].parse().expect("digits are a number");
    lead.log10() + (digits.len() as f64 - digits.len().min(17) as f64) - f64::from(s)
}

/// `estimate_ln_dweight`: about where the first digit of the logarithm will be.
fn ln_weight(value: &Decimal) -> i64 {
    let near = (Decimal::from_parts(9, 1), Decimal::from_parts(11, 1));
    if *value >= near.0 && *value <= near.1 {
        let x = value.sub(&Decimal::ONE).expect("a difference of numbers near one");
        if x.is_zero() {
            return 0;
        }
        let (weight, first) = head(&x);
        return weight * 4 + (first as f64).log10() as i64;
    }
    let ln = approximate_log10(value) / LOG10_E;
    ln.abs().log10() as i64
}

/// `ln(value)` at `scale` digits after the point, for a positive finite value.
fn ln_at(value: &Decimal, scale: u32) -> Decimal {
    if *value == Decimal::ONE {
        return Decimal::from_parts(0, scale);
    }
    let digits = scale + GUARD;
    // value = m * 10^k with m between 0.1 and 1, which keeps the series short whatever the magnitude.
    let k = approximate_log10(value).floor() as i64 + 1;
    let near = (-1..=1).contains(&k);
    let (c, s) = value.parts().expect("the value is finite");
    let exponent = if near { 0 } else { k };
    let shift = i64::from(digits) - i64::from(s) - exponent;
    let power = pow10(shift.unsigned_abs() as u32);
    let m = if shift >= 0 { c * power } else { divide_rounded(&c, &power) };
    let mut ln = ln_fixed(&m, digits);
    if exponent != 0 {
        let ten = pow10(digits + 1);
        ln += ln_fixed(&ten, digits) * exponent;
    }
    Decimal::from_big(divide_rounded(&ln, &pow10(GUARD)), scale)
}

/// The logarithm of a fixed-point number: square roots bring it near one, then the series of atanh.
fn ln_fixed(m: &BigInt, digits: u32) -> BigInt {
    const EXTRA: u32 = 10;
    let digits_inner = digits + EXTRA;
    let one = pow10(digits_inner);
    let mut y = m * pow10(EXTRA);
    let mut doublings = 0u32;
    let bound: BigInt = &one / 64;
    while (&y - &one).magnitude() > bound.magnitude() {
        y = (y * &one).sqrt();
        doublings += 1;
    }
    let z = (&y - &one) * &one / (&y + &one);
    let z2 = &z * &z / &one;
    let (mut term, mut sum, mut n) = (z.clone(), z, 1u32);
    loop {
        term = &term * &z2 / &one;
        n += 2;
        let part = &term / n;
        if part == BigInt::ZERO {
            break;
        }
        sum += part;
    }
    divide_rounded(&(sum << (doublings + 1)), &pow10(EXTRA))
}

/// `exp(value)` at `scale` digits after the point.
fn exp_at(value: &Decimal, scale: u32) -> Result<Decimal> {
    let approximate = value.to_f64();
    if approximate.abs() >= MAX_EXPONENT {
        return if approximate > 0.0 { Err(overflow()) } else { Ok(Decimal::from_parts(0, scale)) };
    }
    let magnitude = (approximate * LOG10_E).ceil() as i64;
    let significant = (i64::from(scale) + magnitude).max(0) as u32 + 4;
    // Each squaring doubles the relative error; twenty of them cost six digits.
    let digits = significant + GUARD + 10;
    let one = pow10(digits);
    let mut halvings = 0u32;
    let mut size = approximate.abs();
    while size > 0.01 {
        size /= 2.0;
        halvings += 1;
    }
    let precise = digits + halvings.div_ceil(3);
    let x = divide_rounded(&fixed(value, precise), &(pow10(precise - digits) << halvings));
    let (mut term, mut sum, mut n) = (one.clone(), one.clone(), 0u32);
    loop {
        n += 1;
        term = &term * &x / &one / n;
        if term == BigInt::ZERO {
            break;
        }
        sum += &term;
    }
    let mut power = Float { coefficient: sum, exponent: -i64::from(digits) };
    for _ in 0..halvings {
        power = power.mul(&power, digits);
    }
    power.to_decimal(scale)
}

/// A decimal floating-point number of bounded precision, for products whose magnitude runs away.
#[derive(Clone)]
struct Float {
    coefficient: BigInt,
    exponent: i64,
}

impl Float {
    fn of(value: &Decimal) -> Float {
        let (coefficient, scale) = value.parts().expect("the value is finite");
        Float { coefficient, exponent: -i64::from(scale) }
    }

    fn cut(self, digits: u32) -> Float {
        let have = (self.coefficient.bits() as f64 * LOG10_2) as i64;
        let drop = have - i64::from(digits);
        if drop <= 0 {
            return self;
        }
        let power = pow10(drop as u32);
        Float { coefficient: divide_rounded(&self.coefficient, &power), exponent: self.exponent + drop }
    }

    fn mul(&self, other: &Float, digits: u32) -> Float {
        let product = Float {
            coefficient: &self.coefficient * &other.coefficient,
            exponent: self.exponent + other.exponent,
        };
        product.cut(digits)
    }

    fn div(&self, other: &Float, digits: u32) -> Float {
        let shift = digits + (other.coefficient.bits() as f64 * 0.302) as u32 + 1;
        Float {
            coefficient: divide_rounded(&(&self.coefficient * pow10(shift)), &other.coefficient),
            exponent: self.exponent - other.exponent - i64::from(shift),
        }
    }

    fn to_decimal(&self, scale: u32) -> Result<Decimal> {
        let shift = i64::from(scale) + self.exponent;
        if self.coefficient.sign() == Sign::NoSign {
            return Ok(Decimal::from_parts(0, scale));
        }
        if shift > 400_000 {
            return Err(overflow());
        }
        let power = pow10(shift.unsigned_abs() as u32);
        let c =
            if shift >= 0 { &self.coefficient * power } else { divide_rounded(&self.coefficient, &power) };
        Decimal::from_big(c, scale).checked()
    }
}

fn float_power(base: Float, mut n: u32, digits: u32) -> Float {
    let mut result: Option<Float> = None;
    let mut square = base;
    loop {
        if n & 1 == 1 {
            result = Some(match result {
                None => square.clone(),
                Some(r) => r.mul(&square, digits),
            });
        }
        n >>= 1;
        if n == 0 {
            return result.expect("exponents are not zero here");
        }
        square = square.mul(&square, digits);
    }
}
