//! Order, equality and hashing of values.
//!
//! One total order serves `ORDER BY`, indexes and grouping: NaN equals itself and is above every number, `-0` equals
//! `0`, text is by bytes (the "C" collation), `character(n)` ignores trailing blanks, and NULL is above all. Values of
//! different representations are ordered by representation; the planner has cast both sides before it compares, so
//! that case only keeps the order total.
//!
//! Invariant: `a == b` implies equal hashes, so `1.0` and `1.00` group together.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::array::ArrayValue;
use crate::datum::Datum;

/// Floats in PostgreSQL's order.
pub fn compare_f64(a: f64, b: f64) -> Ordering {
    match a.partial_cmp(&b) {
        Some(o) => o,
        None => a.is_nan().cmp(&b.is_nan()),
    }
}

/// Strings without their trailing blanks, as `character(n)` compares.
pub fn trim_blanks(s: &str) -> &str {
    s.trim_end_matches(' ')
}

impl Datum {
    /// The three-valued comparison: `None` when either side is NULL.
    pub fn sql_cmp(&self, other: &Datum) -> Option<Ordering> {
        if self.is_null() || other.is_null() { None } else { Some(self.cmp(other)) }
    }

    fn rank(&self) -> u8 {
        match self {
            Datum::Bool(_) => 0,
            Datum::Int(_) => 1,
            Datum::Float4(_) => 2,
            Datum::Float8(_) => 3,
            Datum::Numeric(_) => 4,
            Datum::Text(_) => 5,
            Datum::Char(_) => 6,
            Datum::Bytea(_) => 7,
            Datum::Date(_) => 8,
            Datum::Time(_) => 9,
            Datum::Timestamp(_) => 10,
            Datum::TimestampTz(_) => 11,
            Datum::Interval(_) => 12,
            Datum::Uuid(_) => 13,
            Datum::Array(_) => 14,
            Datum::Record(_) => 15,
            Datum::Null => u8::MAX,
        }
    }
}

impl Ord for Datum {
    fn cmp(&self, other: &Datum) -> Ordering {
        match (self, other) {
            (Datum::Int(a), Datum::Int(b)) => a.cmp(b),
            (Datum::Text(a), Datum::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
            (Datum::Float4(a), Datum::Float4(b)) => compare_f64(f64::from(*a), f64::from(*b)),
            (Datum::Float8(a), Datum::Float8(b)) => compare_f64(*a, *b),
            (Datum::Numeric(a), Datum::Numeric(b)) => a.cmp(b),
            (Datum::Char(a), Datum::Char(b)) => trim_blanks(a).as_bytes().cmp(trim_blanks(b).as_bytes()),
            (Datum::Bytea(a), Datum::Bytea(b)) => a.cmp(b),
            (Datum::Date(a), Datum::Date(b)) => a.cmp(b),
            (Datum::Time(a), Datum::Time(b))
            | (Datum::Timestamp(a), Datum::Timestamp(b))
            | (Datum::TimestampTz(a), Datum::TimestampTz(b)) => a.cmp(b),
            (Datum::Interval(a), Datum::Interval(b)) => a.cmp(b),
            (Datum::Uuid(a), Datum::Uuid(b)) => a.cmp(b),
            (Datum::Array(a), Datum::Array(b)) => a.cmp(b),
            (Datum::Record(a), Datum::Record(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Datum {
    fn partial_cmp(&self, other: &Datum) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Datum {
    /// Equality of grouping and `IS NOT DISTINCT FROM`: NULL equals NULL.
    fn eq(&self, other: &Datum) -> bool {
        match (self, other) {
            (Datum::Int(a), Datum::Int(b)) => a == b,
            (Datum::Text(a), Datum::Text(b)) => a == b,
            _ => self.cmp(other) == Ordering::Equal,
        }
    }
}

impl Eq for Datum {}

/// The bits that equal floats share.
fn float_bits(v: f64) -> u64 {
    if v.is_nan() {
        f64::NAN.to_bits()
    } else if v == 0.0 {
        0
    } else {
        v.to_bits()
    }
}

impl Hash for Datum {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.rank());
        match self {
            Datum::Null => {}
            Datum::Bool(v) => state.write_u8(u8::from(*v)),
            Datum::Int(v) => state.write_i64(*v),
            Datum::Float4(v) => state.write_u64(float_bits(f64::from(*v))),
            Datum::Float8(v) => state.write_u64(float_bits(*v)),
            Datum::Numeric(v) => v.hash(state),
            Datum::Text(v) => v.hash(state),
            Datum::Char(v) => trim_blanks(v).hash(state),
            Datum::Bytea(v) => v.hash(state),
            Datum::Date(v) => state.write_i32(*v),
            Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => state.write_i64(*v),
            Datum::Interval(v) => v.hash(state),
            Datum::Uuid(v) => v.hash(state),
            Datum::Array(v) => v.hash(state),
            Datum::Record(v) => v.hash(state),
        }
    }
}

impl Ord for ArrayValue {
    /// `array_cmp`: elements first, then their number, then the dimensions.
    fn cmp(&self, other: &ArrayValue) -> Ordering {
        self.elements().cmp(other.elements()).then_with(|| {
            let (a, b) = (self.dimensions(), other.dimensions());
            a.len().cmp(&b.len()).then_with(|| a.cmp(b))
        })
    }
}

impl PartialOrd for ArrayValue {
    fn partial_cmp(&self, other: &ArrayValue) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ArrayValue {
    fn eq(&self, other: &ArrayValue) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ArrayValue {}

impl Hash for ArrayValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.elements().hash(state);
        self.dimensions().hash(state);
    }
}
