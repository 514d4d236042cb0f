//! Rows by column name.
//!
//! System tables are wide and mostly constant: a maker fills the columns that it names and leaves the rest at what
//! PostgreSQL has there for want of anything to say. In tables that is zero, false or the empty `"char"` for types of
//! fixed length, which are never NULL there, and NULL for the others; in views it is NULL.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use meridian_datum::{ArrayValue, DataType, Datum};

use super::Rows;
use crate::virtual_table::VirtualTable;

/// Builds the rows of one table.
pub(crate) struct Maker {
    defaults: Vec<Datum>,
    at: Vec<usize>,
    rows: Rows,
}

impl Maker {
    /// A maker that is given values for `columns`, names separated by blanks.
    ///
    /// # Panics
    /// When the table has no such column.
    pub(crate) fn new(table: &VirtualTable, columns: &str) -> Maker {
        let at = |name: &str| {
            let found = table.columns.iter().position(|c| c.name == name);
            found.unwrap_or_else(|| panic!("{} has no column {name}", table.name))
        };
        let default = |ty: &DataType| if table.is_view { Datum::Null } else { zero(ty) };
        Maker {
            defaults: table.columns.iter().map(|c| default(&c.ty)).collect(),
            at: columns.split_whitespace().map(at).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When there are not as many values as columns were named.
    pub(crate) fn push<const N: usize>(&mut self, values: [Datum; N]) {
        assert_eq!(N, self.at.len(), "a row has a value per named column");
        let mut row = self.defaults.clone();
        for (at, value) in self.at.iter().zip(values) {
            row[*at] = value;
        }
        self.rows.push(row);
    }

    pub(crate) fn finish(self) -> Rows {
        self.rows
    }
}

/// Rows that depend on nothing, made once: introspection asks for them with every query.
pub(crate) fn constant(what: &'static str, make: impl FnOnce() -> Rows) -> Rows {
    static KNOWN: Mutex<BTreeMap<&'static str, Arc<Rows>>> = Mutex::new(BTreeMap::new());
    let known = KNOWN.lock().get(what).cloned();
    // Two threads may both make them; either result serves.
    let rows = known.unwrap_or_else(|| {
        let rows = Arc::new(make());
        KNOWN.lock().insert(what, Arc::clone(&rows));
        rows
    });
    rows.as_ref().clone()
}

fn zero(ty: &DataType) -> Datum {
    match ty {
        DataType::Bool => Datum::Bool(false),
        DataType::InternalChar => Datum::from(""),
        DataType::Float4 => Datum::Float4(0.0),
        DataType::Float8 => Datum::Float8(0.0),
        t if t.is_integer() || t.is_oid_like() => Datum::Int(0),
        _ => Datum::Null,
    }
}

pub(crate) fn oid(v: u32) -> Datum {
    Datum::Int(i64::from(v))
}

pub(crate) fn int(v: impl TryInto<i64>) -> Datum {
    Datum::Int(v.try_into().unwrap_or(i64::MAX))
}

pub(crate) fn text(v: impl Into<Arc<str>>) -> Datum {
    Datum::Text(v.into())
}

pub(crate) fn flag(v: bool) -> Datum {
    Datum::Bool(v)
}

pub(crate) fn yes_no(v: bool) -> Datum {
    Datum::from(if v { "YES" } else { "NO" })
}

pub(crate) fn ints(element: DataType, values: impl IntoIterator<Item = i64>) -> Datum {
    Datum::Array(Arc::new(ArrayValue::new(element, values.into_iter().map(Datum::Int).collect())))
}

pub(crate) fn texts(values: impl IntoIterator<Item = String>) -> Datum {
    Datum::Array(Arc::new(ArrayValue::new(DataType::Text, values.into_iter().map(Datum::from).collect())))
}

/// `int2vector` and `oidvector`.
pub(crate) fn vector(element: DataType, values: impl IntoIterator<Item = i64>) -> Datum {
    Datum::Array(Arc::new(ArrayValue::vector(element, values.into_iter().map(Datum::Int).collect())))
}
