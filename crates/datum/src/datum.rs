//! [`Datum`]: one SQL value.
//!
//! A datum knows its representation, not its SQL type: `smallint`, `integer`, `bigint` and `oid` share [`Datum::Int`],
//! and every string type but `character(n)` shares [`Datum::Text`]. The type is known statically wherever a datum
//! stands (an expression, a column), which keeps the value at 24 bytes and the integer operators free of dispatch.
//!
//! `character(n)` has a representation of its own, since its trailing blanks count for output and for nothing else.

use std::sync::Arc;

use crate::array::ArrayValue;
use crate::decimal::Decimal;
use crate::interval::Interval;

/// One SQL value, or NULL. Cheap to clone.
#[derive(Clone, Default)]
pub enum Datum {
    /// NULL of any type.
    #[default]
    Null,
    /// `boolean`
    Bool(bool),
    /// `smallint`, `integer`, `bigint`, and unsigned 32-bit object identifiers.
    Int(i64),
    /// `real`
    Float4(f32),
    /// `double precision`
    Float8(f64),
    /// `numeric`
    Numeric(Decimal),
    /// `text`, `varchar`, `name`, `"char"`, `json`, and untyped literals.
    Text(Arc<str>),
    /// `character(n)`, padded; compared without its trailing blanks.
    Char(Arc<str>),
    /// `bytea`
    Bytea(Arc<[u8]>),
    /// `date`: days since 2000-01-01; `i32::MIN` and `i32::MAX` are the infinities.
    Date(i32),
    /// `time`: microseconds since midnight, up to and including 24:00.
    Time(i64),
    /// `timestamp`: microseconds since 2000-01-01; `i64::MIN` and `i64::MAX` are the infinities.
    Timestamp(i64),
    /// `timestamptz`: microseconds since 2000-01-01 00:00 UTC, with the same infinities.
    TimestampTz(i64),
    /// `interval`
    Interval(Interval),
    /// `uuid`
    Uuid([u8; 16]),
    /// An array of any element type, and the catalog's vectors.
    Array(Arc<ArrayValue>),
    /// An anonymous row.
    Record(Arc<[Datum]>),
}

impl Datum {
    /// A text value.
    pub fn text(s: impl Into<Arc<str>>) -> Datum {
        Datum::Text(s.into())
    }

    /// A bytea value.
    pub fn bytea(b: impl Into<Arc<[u8]>>) -> Datum {
        Datum::Bytea(b.into())
    }

    /// Whether the value is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// The boolean, or `None` for NULL.
    ///
    /// # Panics
    /// When the value is of another representation: the planner has typed the expression wrongly.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Datum::Null => None,
            Datum::Bool(b) => Some(*b),
            other => panic!("a boolean was expected, found {other:?}"),
        }
    }

    /// The integer or object identifier, or `None` for NULL.
    ///
    /// # Panics
    /// When the value is of another representation.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Datum::Null => None,
            Datum::Int(i) => Some(*i),
            other => panic!("an integer was expected, found {other:?}"),
        }
    }

    /// The string of `text` and `character(n)` values, or `None` for NULL.
    ///
    /// # Panics
    /// When the value is of another representation.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Datum::Null => None,
            Datum::Text(s) | Datum::Char(s) => Some(s),
            other => panic!("a string was expected, found {other:?}"),
        }
    }

    /// The elements of an array, or `None` for NULL.
    ///
    /// # Panics
    /// When the value is of another representation.
    pub fn as_array(&self) -> Option<&ArrayValue> {
        match self {
            Datum::Null => None,
            Datum::Array(a) => Some(a),
            other => panic!("an array was expected, found {other:?}"),
        }
    }

    /// Bytes on the heap that the value holds beyond its own size; for memory limits.
    pub fn heap_size(&self) -> usize {
        match self {
            Datum::Text(s) | Datum::Char(s) => s.len() + 16,
            Datum::Bytea(b) => b.len() + 16,
            Datum::Numeric(d) => d.heap_size(),
            Datum::Array(a) => a.elements().iter().map(|e| e.heap_size() + 24).sum::<usize>() + 64,
            Datum::Record(r) => r.iter().map(|e| e.heap_size() + 24).sum::<usize>() + 16,
            _ => 0,
        }
    }
}

impl From<bool> for Datum {
    fn from(v: bool) -> Self {
        Datum::Bool(v)
    }
}

impl From<i64> for Datum {
    fn from(v: i64) -> Self {
        Datum::Int(v)
    }
}

impl From<i32> for Datum {
    fn from(v: i32) -> Self {
        Datum::Int(i64::from(v))
    }
}

impl From<f64> for Datum {
    fn from(v: f64) -> Self {
        Datum::Float8(v)
    }
}

impl From<&str> for Datum {
    fn from(v: &str) -> Self {
        Datum::Text(v.into())
    }
}

impl From<String> for Datum {
    fn from(v: String) -> Self {
        Datum::Text(v.into())
    }
}

impl From<Decimal> for Datum {
    fn from(v: Decimal) -> Self {
        Datum::Numeric(v)
    }
}

impl<T: Into<Datum>> From<Option<T>> for Datum {
    fn from(v: Option<T>) -> Self {
        v.map_or(Datum::Null, Into::into)
    }
}

impl std::fmt::Debug for Datum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Datum::Null => f.write_str("NULL"),
            Datum::Bool(v) => write!(f, "{v}"),
            Datum::Int(v) => write!(f, "{v}"),
            Datum::Float4(v) => write!(f, "{v}f4"),
            Datum::Float8(v) => write!(f, "{v}f8"),
            Datum::Numeric(v) => write!(f, "{v}n"),
            Datum::Text(v) => write!(f, "{v:?}"),
            Datum::Char(v) => write!(f, "c{v:?}"),
            Datum::Bytea(v) => write!(f, "x{v:02x?}"),
            Datum::Date(v) => write!(f, "date({v})"),
            Datum::Time(v) => write!(f, "time({v})"),
            Datum::Timestamp(v) => write!(f, "timestamp({v})"),
            Datum::TimestampTz(v) => write!(f, "timestamptz({v})"),
            Datum::Interval(v) => write!(f, "interval({v:?})"),
            Datum::Uuid(v) => write!(f, "uuid({v:02x?})"),
            Datum::Array(v) => write!(f, "{:?}", v.elements()),
            Datum::Record(v) => write!(f, "row{v:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Datum;

    #[test]
    fn a_datum_stays_small() {
        assert!(std::mem::size_of::<Datum>() <= 24, "batches and rows are sized by this");
        assert_eq!(std::mem::size_of::<crate::Result<Datum>>(), 24);
    }
}
