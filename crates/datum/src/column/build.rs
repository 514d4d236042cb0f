//! [`Column`]: building, reading, picking rows.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::ops::Range;

use crate::column::{TextVector, Vector};
use crate::compare::compare_f64;
use crate::datum::Datum;
use crate::types::DataType;

/// Which datum an integer column's values are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IntKind {
    /// [`Datum::Int`]
    Int,
    /// [`Datum::Date`]
    Date,
    /// [`Datum::Time`]
    Time,
    /// [`Datum::Timestamp`]
    Timestamp,
    /// [`Datum::TimestampTz`]
    TimestampTz,
}

impl IntKind {
    /// The datum of a value of this kind.
    pub fn datum(self, value: i64) -> Datum {
        match self {
            IntKind::Int => Datum::Int(value),
            IntKind::Date => Datum::Date(value as i32),
            IntKind::Time => Datum::Time(value),
            IntKind::Timestamp => Datum::Timestamp(value),
            IntKind::TimestampTz => Datum::TimestampTz(value),
        }
    }

    fn value(self, datum: &Datum) -> Option<i64> {
        match (self, datum) {
            (_, Datum::Null) => None,
            (IntKind::Int, Datum::Int(v))
            | (IntKind::Time, Datum::Time(v))
            | (IntKind::Timestamp, Datum::Timestamp(v))
            | (IntKind::TimestampTz, Datum::TimestampTz(v)) => Some(*v),
            (IntKind::Date, Datum::Date(v)) => Some(i64::from(*v)),
            (kind, other) => panic!("a column of {kind:?} was given {other:?}"),
        }
    }
}

/// The values of one expression or table column for a batch of rows.
#[derive(Clone, Debug)]
pub enum Column {
    /// `boolean`
    Bool(Vector<bool>),
    /// Integers, identifiers, dates, times and timestamps.
    Int(IntKind, Vector<i64>),
    /// `double precision`
    Float8(Vector<f64>),
    /// `text`, `varchar`, `name`, `json`, untyped literals
    Text(TextVector),
    /// Every other type.
    Datum(Vec<Datum>),
}

impl Column {
    /// An empty column for values of a type, with room for `rows`.
    pub fn with_capacity(data_type: &DataType, rows: usize) -> Column {
        use DataType as D;
        match data_type {
            D::Bool => Column::Bool(Vector::with_capacity(rows)),
            D::Int2
            | D::Int4
            | D::Int8
            | D::Oid
            | D::RegClass
            | D::RegType
            | D::RegProc
            | D::RegNamespace => Column::Int(IntKind::Int, Vector::with_capacity(rows)),
            D::Date => Column::Int(IntKind::Date, Vector::with_capacity(rows)),
            D::Time => Column::Int(IntKind::Time, Vector::with_capacity(rows)),
            D::Timestamp => Column::Int(IntKind::Timestamp, Vector::with_capacity(rows)),
            D::TimestampTz => Column::Int(IntKind::TimestampTz, Vector::with_capacity(rows)),
            D::Float8 => Column::Float8(Vector::with_capacity(rows)),
            D::Text | D::Varchar(_) | D::Name | D::InternalChar | D::Json | D::Unknown => {
                Column::Text(TextVector::with_capacity(rows))
            }
            D::Float4
            | D::Numeric(_)
            | D::Char(_)
            | D::Bytea
            | D::Interval
            | D::Uuid
            | D::Int2Vector
            | D::OidVector
            | D::Array(_)
            | D::Record
            | D::Void => Column::Datum(Vec::with_capacity(rows)),
        }
    }

    /// An empty column for values of a type.
    pub fn new(data_type: &DataType) -> Column {
        Column::with_capacity(data_type, 0)
    }

    /// A column of the values.
    pub fn from_datums(data_type: &DataType, values: impl IntoIterator<Item = Datum>) -> Column {
        let values = values.into_iter();
        let mut column = Column::with_capacity(data_type, values.size_hint().0);
        for v in values {
            column.push(v);
        }
        column
    }

    /// The same value in every row.
    pub fn constant(data_type: &DataType, value: &Datum, rows: usize) -> Column {
        let mut column = Column::with_capacity(data_type, rows);
        for _ in 0..rows {
            column.push_ref(value);
        }
        column
    }

    /// An empty column of the same representation.
    pub fn new_like(&self, rows: usize) -> Column {
        match self {
            Column::Bool(_) => Column::Bool(Vector::with_capacity(rows)),
            Column::Int(kind, _) => Column::Int(*kind, Vector::with_capacity(rows)),
            Column::Float8(_) => Column::Float8(Vector::with_capacity(rows)),
            Column::Text(_) => Column::Text(TextVector::with_capacity(rows)),
            Column::Datum(_) => Column::Datum(Vec::with_capacity(rows)),
        }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        match self {
            Column::Bool(v) => v.len(),
            Column::Int(_, v) => v.len(),
            Column::Float8(v) => v.len(),
            Column::Text(v) => v.len(),
            Column::Datum(v) => v.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the row is NULL.
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Column::Bool(v) => v.nulls.is_null(row),
            Column::Int(_, v) => v.nulls.is_null(row),
            Column::Float8(v) => v.nulls.is_null(row),
            Column::Text(v) => v.nulls().is_null(row),
            Column::Datum(v) => v[row].is_null(),
        }
    }

    /// The row's value.
    pub fn get(&self, row: usize) -> Datum {
        match self {
            Column::Bool(v) => v.get(row).map_or(Datum::Null, Datum::Bool),
            Column::Int(kind, v) => v.get(row).map_or(Datum::Null, |i| kind.datum(i)),
            Column::Float8(v) => v.get(row).map_or(Datum::Null, Datum::Float8),
            Column::Text(v) => v.get(row).map_or(Datum::Null, Datum::from),
            Column::Datum(v) => v[row].clone(),
        }
    }

    /// Appends a value.
    ///
    /// # Panics
    /// When the value is not of the column's representation: the planner has typed the expression wrongly.
    pub fn push(&mut self, value: Datum) {
        match self {
            Column::Datum(v) => v.push(value),
            _ => self.push_ref(&value),
        }
    }

    /// Appends a copy of a value.
    ///
    /// # Panics
    /// When the value is not of the column's representation.
    pub fn push_ref(&mut self, value: &Datum) {
        match self {
            Column::Bool(v) => v.push(value.as_bool()),
            Column::Int(kind, v) => v.push(kind.value(value)),
            Column::Float8(v) => v.push(match value {
                Datum::Null => None,
                Datum::Float8(f) => Some(*f),
                other => panic!("a column of double precision was given {other:?}"),
            }),
            Column::Text(v) => v.push(value.as_str()),
            Column::Datum(v) => v.push(value.clone()),
        }
    }

    /// Appends NULL.
    pub fn push_null(&mut self) {
        self.push_ref(&Datum::Null);
    }

    /// The rows picked, in order; a row may be picked more than once.
    pub fn gather(&self, rows: &[u32]) -> Column {
        match self {
            Column::Bool(v) => Column::Bool(v.gather(rows)),
            Column::Int(kind, v) => Column::Int(*kind, v.gather(rows)),
            Column::Float8(v) => Column::Float8(v.gather(rows)),
            Column::Text(v) => Column::Text(v.gather(rows)),
            Column::Datum(v) => Column::Datum(rows.iter().map(|&r| v[r as usize].clone()).collect()),
        }
    }

    /// The rows picked, with NULL for `None`: the nullable side of an outer join.
    pub fn gather_optional(&self, rows: &[Option<u32>]) -> Column {
        match self {
            Column::Bool(v) => Column::Bool(v.gather_optional(rows)),
            Column::Int(kind, v) => Column::Int(*kind, v.gather_optional(rows)),
            Column::Float8(v) => Column::Float8(v.gather_optional(rows)),
            Column::Text(v) => Column::Text(v.gather_optional(rows)),
            Column::Datum(v) => {
                Column::Datum(rows.iter().map(|r| r.map_or(Datum::Null, |r| v[r as usize].clone())).collect())
            }
        }
    }

    /// Appends the rows of a range of another column of the same representation.
    ///
    /// # Panics
    /// When the representations differ.
    pub fn append_range(&mut self, other: &Column, range: Range<usize>) {
        match (self, other) {
            (Column::Bool(a), Column::Bool(b)) => a.extend(b, range),
            (Column::Int(ka, a), Column::Int(kb, b)) if ka == kb => a.extend(b, range),
            (Column::Float8(a), Column::Float8(b)) => a.extend(b, range),
            (Column::Text(a), Column::Text(b)) => a.extend(b, range),
            (Column::Datum(a), Column::Datum(b)) => a.extend_from_slice(&b[range]),
            _ => panic!("columns of different representations cannot be joined"),
        }
    }

    /// Appends all rows of another column.
    pub fn append(&mut self, other: &Column) {
        self.append_range(other, 0..other.len());
    }

    /// A copy of the rows of a range.
    pub fn slice(&self, range: Range<usize>) -> Column {
        let mut out = self.new_like(range.len());
        out.append_range(self, range);
        out
    }

    /// The columns one after another.
    ///
    /// # Panics
    /// When there are none, or their representations differ.
    pub fn concat(columns: &[&Column]) -> Column {
        let mut out = columns[0].new_like(columns.iter().map(|c| c.len()).sum());
        for c in columns {
            out.append(c);
        }
        out
    }

    /// Drops the rows from `len` on.
    pub fn truncate(&mut self, len: usize) {
        match self {
            Column::Bool(v) => v.truncate(len),
            Column::Int(_, v) => v.truncate(len),
            Column::Float8(v) => v.truncate(len),
            Column::Text(v) => v.truncate(len),
            Column::Datum(v) => v.truncate(len),
        }
    }

    /// The order of one row against a row of another column of the same type; NULL is above all, as in
    /// [`Datum::cmp`].
    pub fn cmp_rows(&self, row: usize, other: &Column, other_row: usize) -> Ordering {
        fn nulls_last<T>(a: Option<T>, b: Option<T>, f: impl FnOnce(T, T) -> Ordering) -> Ordering {
            match (a, b) {
                (Some(a), Some(b)) => f(a, b),
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
            }
        }
        match (self, other) {
            (Column::Int(_, a), Column::Int(_, b)) => {
                nulls_last(a.get(row), b.get(other_row), |a, b| a.cmp(&b))
            }
            (Column::Text(a), Column::Text(b)) => {
                nulls_last(a.get(row), b.get(other_row), |a, b| a.as_bytes().cmp(b.as_bytes()))
            }
            (Column::Float8(a), Column::Float8(b)) => nulls_last(a.get(row), b.get(other_row), compare_f64),
            (Column::Datum(a), Column::Datum(b)) => a[row].cmp(&b[other_row]),
            _ => self.get(row).cmp(&other.get(other_row)),
        }
    }

    /// Feeds the row's value to a hasher, consistently with equality of [`Datum`] within one column type.
    pub fn hash_row<H: Hasher>(&self, row: usize, state: &mut H) {
        match self {
            Column::Int(_, v) => match v.get(row) {
                Some(i) => state.write_i64(i),
                None => state.write_u8(u8::MAX),
            },
            Column::Text(v) => match v.get(row) {
                Some(s) => {
                    state.write(s.as_bytes());
                    state.write_u8(0xff);
                }
                None => state.write_u8(0xfe),
            },
            Column::Datum(v) => v[row].hash(state),
            Column::Bool(_) | Column::Float8(_) => self.get(row).hash(state),
        }
    }

    /// The rows in which a boolean column is true (not false, not NULL).
    ///
    /// # Panics
    /// When the column is not boolean.
    pub fn true_rows(&self) -> Vec<u32> {
        let Column::Bool(v) = self else { panic!("a filter must be boolean") };
        let mut rows = Vec::with_capacity(v.len());
        if v.nulls.any() {
            rows.extend((0..v.len()).filter(|&r| v.values[r] && !v.nulls.is_null(r)).map(|r| r as u32));
        } else {
            rows.extend((0..v.len()).filter(|&r| v.values[r]).map(|r| r as u32));
        }
        rows
    }

    /// Bytes on the heap, approximately; for memory limits.
    pub fn heap_size(&self) -> usize {
        match self {
            Column::Bool(v) => v.values.len(),
            Column::Int(_, v) => v.values.len() * 8,
            Column::Float8(v) => v.values.len() * 8,
            Column::Text(v) => v.heap_size(),
            Column::Datum(v) => v.iter().map(|d| d.heap_size() + size_of::<Datum>()).sum(),
        }
    }
}
