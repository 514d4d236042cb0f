//! The type of an expression or a column.

use std::fmt;

/// Precision and scale of `NUMERIC(p, s)`.
///
/// Invariant: `1 <= precision <= 1000`, `-1000 <= scale <= 1000`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NumericMod {
    /// Total digits.
    pub precision: u16,
    /// Digits after the point; negative values round before it.
    pub scale: i16,
}

/// A SQL type with its modifier.
///
/// Equality is that of type *and* modifier; [`DataType::same_type`] ignores the modifier.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataType {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`, `numeric(p, s)`
    Numeric(Option<NumericMod>),
    /// `text`
    Text,
    /// `character varying`, `character varying(n)`
    Varchar(Option<u32>),
    /// `character(n)`; without a length it is `bpchar`
    Char(Option<u32>),
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `time without time zone`
    Time,
    /// `timestamp without time zone`
    Timestamp,
    /// `timestamp with time zone`
    TimestampTz,
    /// `interval`
    Interval,
    /// `uuid`
    Uuid,
    /// `json`: a text that is checked and kept as it was written; there is no equality of it
    Json,
    /// `name`: the catalog's identifiers, at most 63 bytes
    Name,
    /// `"char"`: one byte of the catalog
    InternalChar,
    /// `oid`
    Oid,
    /// `regclass`
    RegClass,
    /// `regtype`
    RegType,
    /// `regproc`
    RegProc,
    /// `regnamespace`
    RegNamespace,
    /// `int2vector`: an array of the catalog that counts from 0 and prints without braces
    Int2Vector,
    /// `oidvector`
    OidVector,
    /// An untyped literal or parameter, before its context has decided.
    Unknown,
    /// `element[]`
    Array(Box<DataType>),
    /// An anonymous row.
    Record,
    /// The result of a function that returns nothing.
    Void,
}

impl DataType {
    /// `element[]`.
    pub fn array(element: DataType) -> DataType {
        DataType::Array(Box::new(element))
    }

    /// `numeric(precision, scale)`.
    pub fn numeric(precision: u16, scale: i16) -> DataType {
        DataType::Numeric(Some(NumericMod { precision, scale }))
    }

    /// Equal but for the modifier: `varchar(3)` and `varchar`.
    pub fn same_type(&self, other: &DataType) -> bool {
        match (self, other) {
            (DataType::Numeric(_), DataType::Numeric(_))
            | (DataType::Varchar(_), DataType::Varchar(_))
            | (DataType::Char(_), DataType::Char(_)) => true,
            (DataType::Array(a), DataType::Array(b)) => a.same_type(b),
            _ => self == other,
        }
    }

    /// The type without its modifier.
    pub fn without_modifier(&self) -> DataType {
        match self {
            DataType::Numeric(_) => DataType::Numeric(None),
            DataType::Varchar(_) => DataType::Varchar(None),
            DataType::Char(_) => DataType::Char(None),
            DataType::Array(e) => DataType::array(e.without_modifier()),
            other => other.clone(),
        }
    }

    /// The element type of an array or of the catalog's vectors.
    pub fn element(&self) -> Option<DataType> {
        match self {
            DataType::Array(e) => Some((**e).clone()),
            DataType::Int2Vector => Some(DataType::Int2),
            DataType::OidVector => Some(DataType::Oid),
            _ => None,
        }
    }

    /// `smallint`, `integer`, `bigint`.
    pub fn is_integer(&self) -> bool {
        matches!(self, DataType::Int2 | DataType::Int4 | DataType::Int8)
    }

    /// Any type that numbers are computed in.
    pub fn is_number(&self) -> bool {
        self.is_integer() || matches!(self, DataType::Float4 | DataType::Float8 | DataType::Numeric(_))
    }

    /// Any type whose value is a string: `text`, `varchar`, `char`, `name`, an untyped literal.
    pub fn is_string(&self) -> bool {
        matches!(
            self,
            DataType::Text
                | DataType::Varchar(_)
                | DataType::Char(_)
                | DataType::Name
                | DataType::InternalChar
                | DataType::Unknown
        )
    }

    /// The types whose value is an object identifier.
    pub fn is_oid_like(&self) -> bool {
        matches!(
            self,
            DataType::Oid
                | DataType::RegClass
                | DataType::RegType
                | DataType::RegProc
                | DataType::RegNamespace
        )
    }

    /// Whether values can be compared: `json` has neither equality nor order, nor has an array of it.
    pub fn is_comparable(&self) -> bool {
        match self {
            DataType::Json => false,
            DataType::Array(e) => e.is_comparable(),
            _ => true,
        }
    }

    /// Arrays, and the catalog's vectors.
    pub fn is_array(&self) -> bool {
        matches!(self, DataType::Array(_) | DataType::Int2Vector | DataType::OidVector)
    }
}

impl fmt::Display for DataType {
    /// PostgreSQL's `format_type`: `character varying(3)`, `numeric(10,2)`, `integer[]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataType::Numeric(Some(m)) => write!(f, "numeric({},{})", m.precision, m.scale),
            DataType::Varchar(Some(n)) => write!(f, "character varying({n})"),
            DataType::Char(Some(n)) => write!(f, "character({n})"),
            DataType::Array(e) => write!(f, "{e}[]"),
            _ => f.write_str(self.info().sql_name),
        }
    }
}

impl fmt::Debug for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
