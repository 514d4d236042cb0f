//! Casts: which exist in which context (`pg_cast`), and what they do.
//!
//! A cast to a type with a modifier is a cast to the type followed by a fit to the modifier: `varchar(n)` and `char(n)`
//! refuse what is too long, but cut it off where the cast was written out, as the SQL standard wants it.

mod convert;
mod rules;

use crate::column::{Column, IntKind, Vector};
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::Result;
use crate::types::DataType;

pub(crate) use convert::date_to_timestamp;
pub use rules::can_cast;

/// Where a cast stands. Each context allows what the one before it allows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CastContext {
    /// Inserted by overload resolution.
    Implicit,
    /// The value of INSERT or UPDATE, for the type of its column.
    Assignment,
    /// Written: `CAST(x AS t)`, `x::t`.
    Explicit,
}

/// Casts a value, including the length or precision that `to` states. Whether the cast may stand where it stands is
/// [`can_cast`]'s question; here a cast that exists in no context is the error 42846.
pub fn cast(
    ctx: &EvalContext,
    value: Datum,
    from: &DataType,
    to: &DataType,
    context: CastContext,
) -> Result<Datum> {
    if value.is_null() {
        return Ok(Datum::Null);
    }
    let converted = if from.same_type(to) { value } else { convert::convert(ctx, value, from, to, context)? };
    if to.type_modifier() < 0 || from == to {
        return Ok(converted);
    }
    convert::fit(converted, to, context)
}

/// Whether a cast leaves every value as it is: the planner may drop it, the executor passes the column through.
pub fn is_no_op(from: &DataType, to: &DataType) -> bool {
    use DataType as D;
    if from == to {
        return true;
    }
    match (from, to) {
        (D::Int2, D::Int4 | D::Int8) | (D::Int4, D::Int8) | (D::Oid, D::Int8) => true,
        (D::Text | D::Varchar(_) | D::Name, D::Text | D::Varchar(None)) => true,
        (D::Varchar(Some(a)), D::Varchar(Some(b))) => a <= b,
        (D::Numeric(_), D::Numeric(None)) | (D::Char(_), D::Char(None)) => true,
        (a, b) => a.is_oid_like() && b.is_oid_like(),
    }
}

/// Casts a column, with a fast path where the representation stays.
pub fn cast_column(
    ctx: &EvalContext,
    column: &Column,
    from: &DataType,
    to: &DataType,
    context: CastContext,
) -> Result<Column> {
    if is_no_op(from, to) {
        return Ok(column.clone());
    }
    if let (Column::Int(IntKind::Int, v), DataType::Float8) = (column, to) {
        let values = v.values.iter().map(|i| *i as f64).collect();
        return Ok(Column::Float8(Vector::new(values, v.nulls.clone())));
    }
    let mut out = Column::with_capacity(to, column.len());
    for row in 0..column.len() {
        out.push(cast(ctx, column.get(row), from, to, context)?);
    }
    Ok(out)
}
