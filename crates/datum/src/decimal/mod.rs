//! [`Decimal`]: the values of NUMERIC.
//!
//! A finite value is an integer coefficient and a display scale: `coefficient * 10^-scale`, where the scale is also
//! the number of digits printed after the point, as in PostgreSQL. Coefficients that fit 64 bits, which are nearly all
//! of them, are held in place and computed in 128 bits without allocation; the rest are big integers. The scale that
//! each operation chooses for its result is PostgreSQL's rule for rule (`numeric.c`), since it is visible.
//!
//! Invariant: a coefficient that fits an `i64` is never held as a big integer, so representation decides nothing.
//! Invariant: `scale <= MAX_SCALE`.

mod arith;
mod convert;
mod math;
mod text;
mod wire;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use num_bigint::{BigInt, Sign};

/// Most digits after the point (`NUMERIC_DSCALE_MAX`).
pub const MAX_SCALE: u32 = 16_383;
/// Most digits before the point (`NUMERIC_WEIGHT_MAX`).
pub const MAX_INTEGER_DIGITS: u32 = 131_072;

/// A NUMERIC value: finite, an infinity, or NaN.
#[derive(Clone)]
pub struct Decimal(Repr);

#[derive(Clone)]
enum Repr {
    Small { coefficient: i64, scale: u16 },
    Big(Arc<Big>),
    NegativeInfinity,
    Infinity,
    NaN,
}

struct Big {
    coefficient: BigInt,
    scale: u16,
}

/// A finite coefficient, borrowed in the representation it has.
enum Coefficient<'a> {
    Small(i64),
    Big(&'a BigInt),
}

impl Coefficient<'_> {
    fn to_big(&self) -> BigInt {
        match self {
            Coefficient::Small(c) => BigInt::from(*c),
            Coefficient::Big(b) => (*b).clone(),
        }
    }
}

/// `10^n` as a big integer.
fn pow10(n: u32) -> BigInt {
    match 10i128.checked_pow(n) {
        Some(p) => BigInt::from(p),
        None => BigInt::from(10).pow(n),
    }
}

impl Decimal {
    /// Zero, with no digits after the point.
    pub const ZERO: Decimal = Decimal(Repr::Small { coefficient: 0, scale: 0 });
    /// One.
    pub const ONE: Decimal = Decimal(Repr::Small { coefficient: 1, scale: 0 });
    /// Not a number; equal to itself and above every number.
    pub const NAN: Decimal = Decimal(Repr::NaN);
    /// Above every finite number.
    pub const INFINITY: Decimal = Decimal(Repr::Infinity);
    /// Below every finite number.
    pub const NEGATIVE_INFINITY: Decimal = Decimal(Repr::NegativeInfinity);

    /// `coefficient * 10^-scale`.
    ///
    /// # Panics
    /// When the scale exceeds [`MAX_SCALE`].
    pub fn from_parts(coefficient: i128, scale: u32) -> Decimal {
        assert!(scale <= MAX_SCALE, "a numeric has at most 16383 digits after the point");
        match i64::try_from(coefficient) {
            Ok(coefficient) => Decimal(Repr::Small { coefficient, scale: scale as u16 }),
            Err(_) => {
                Decimal(Repr::Big(Arc::new(Big { coefficient: coefficient.into(), scale: scale as u16 })))
            }
        }
    }

    /// `coefficient * 10^-scale`.
    ///
    /// # Panics
    /// When the scale exceeds [`MAX_SCALE`].
    pub fn from_big(coefficient: BigInt, scale: u32) -> Decimal {
        assert!(scale <= MAX_SCALE, "a numeric has at most 16383 digits after the point");
        match i64::try_from(&coefficient) {
            Ok(coefficient) => Decimal(Repr::Small { coefficient, scale: scale as u16 }),
            Err(_) => Decimal(Repr::Big(Arc::new(Big { coefficient, scale: scale as u16 }))),
        }
    }

    /// Digits printed after the point; zero for NaN and the infinities.
    pub fn scale(&self) -> u32 {
        match &self.0 {
            Repr::Small { scale, .. } => u32::from(*scale),
            Repr::Big(b) => u32::from(b.scale),
            _ => 0,
        }
    }

    /// Whether the value is NaN.
    pub fn is_nan(&self) -> bool {
        matches!(self.0, Repr::NaN)
    }

    /// Whether the value is neither NaN nor an infinity.
    pub fn is_finite(&self) -> bool {
        matches!(self.0, Repr::Small { .. } | Repr::Big(_))
    }

    /// Whether the value is one of the infinities.
    pub fn is_infinite(&self) -> bool {
        matches!(self.0, Repr::Infinity | Repr::NegativeInfinity)
    }

    /// -1, 0 or 1; NaN counts as 1, which is where the order has it.
    pub fn signum(&self) -> i32 {
        match &self.0 {
            Repr::Small { coefficient, .. } => coefficient.signum() as i32,
            Repr::Big(b) => {
                if b.coefficient.sign() == Sign::Minus {
                    -1
                } else {
                    1
                }
            }
            Repr::NegativeInfinity => -1,
            Repr::Infinity | Repr::NaN => 1,
        }
    }

    /// Whether the value is zero.
    pub fn is_zero(&self) -> bool {
        matches!(self.0, Repr::Small { coefficient: 0, .. })
    }

    /// The coefficient and the scale where they fit; the fast path of storage and the wire.
    pub fn small_parts(&self) -> Option<(i64, u32)> {
        match self.0 {
            Repr::Small { coefficient, scale } => Some((coefficient, u32::from(scale))),
            _ => None,
        }
    }

    /// The coefficient and the scale of a finite value.
    pub fn parts(&self) -> Option<(BigInt, u32)> {
        self.coefficient().map(|c| (c.to_big(), self.scale()))
    }

    /// Bytes on the heap.
    pub fn heap_size(&self) -> usize {
        match &self.0 {
            Repr::Big(b) => 48 + (b.coefficient.bits() / 8) as usize,
            _ => 0,
        }
    }

    fn coefficient(&self) -> Option<Coefficient<'_>> {
        match &self.0 {
            Repr::Small { coefficient, .. } => Some(Coefficient::Small(*coefficient)),
            Repr::Big(b) => Some(Coefficient::Big(&b.coefficient)),
            _ => None,
        }
    }

    fn class(&self) -> u8 {
        match self.0 {
            Repr::NegativeInfinity => 0,
            Repr::Small { .. } | Repr::Big(_) => 1,
            Repr::Infinity => 2,
            Repr::NaN => 3,
        }
    }

    /// The same value with the fewest digits after the point.
    pub fn normalized(&self) -> Decimal {
        match &self.0 {
            Repr::Small { coefficient, scale } => {
                let (mut c, mut s) = (*coefficient, *scale);
                while s > 0 && c % 10 == 0 {
                    c /= 10;
                    s -= 1;
                }
                Decimal(Repr::Small { coefficient: c, scale: s })
            }
            Repr::Big(b) => {
                let digits = b.coefficient.magnitude().to_str_radix(10);
                let zeros = digits.bytes().rev().take_while(|d| *d == b'0').count() as u32;
                let drop = zeros.min(u32::from(b.scale));
                if drop == 0 {
                    return self.clone();
                }
                Decimal::from_big(&b.coefficient / pow10(drop), u32::from(b.scale) - drop)
            }
            _ => self.clone(),
        }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        let (Some(a), Some(b)) = (self.coefficient(), other.coefficient()) else {
            return self.class().cmp(&other.class());
        };
        let (sa, sb) = (self.scale(), other.scale());
        if let (Coefficient::Small(a), Coefficient::Small(b)) = (&a, &b) {
            if sa == sb {
                return a.cmp(b);
            }
            let (a, b) = (i128::from(*a), i128::from(*b));
            let widen = |v: i128, by: u32| 10i128.checked_pow(by).and_then(|p| v.checked_mul(p));
            let scaled = if sa < sb { (widen(a, sb - sa), Some(b)) } else { (Some(a), widen(b, sa - sb)) };
            if let (Some(a), Some(b)) = scaled {
                return a.cmp(&b);
            }
        }
        let order = self.signum().cmp(&other.signum());
        if order != Ordering::Equal {
            return order;
        }
        let scale = sa.max(sb);
        (a.to_big() * pow10(scale - sa)).cmp(&(b.to_big() * pow10(scale - sb)))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Decimal) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.class());
        match self.normalized().0 {
            Repr::Small { coefficient, scale } => {
                state.write_i64(coefficient);
                state.write_u16(scale);
            }
            Repr::Big(b) => {
                b.coefficient.hash(state);
                state.write_u16(b.scale);
            }
            _ => {}
        }
    }
}

impl From<i64> for Decimal {
    fn from(v: i64) -> Self {
        Decimal(Repr::Small { coefficient: v, scale: 0 })
    }
}

impl From<i32> for Decimal {
    fn from(v: i32) -> Self {
        Decimal::from(i64::from(v))
    }
}

impl From<i128> for Decimal {
    fn from(v: i128) -> Self {
        Decimal::from_parts(v, 0)
    }
}
