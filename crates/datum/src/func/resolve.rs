//! Overload resolution (PostgreSQL manual, chapter 10).

use crate::error::{Result, SqlError};
use crate::func::ResolvedFunction;
use crate::types::DataType;

/// The function that a call means. Untyped literals have [`DataType::Unknown`].
pub fn lookup_function(name: &str, args: &[DataType]) -> Result<ResolvedFunction> {
    let _ = args;
    Err(SqlError::unsupported(name))
}

/// The operator that an expression means; `left` is `None` for a prefix operator. Comparisons, arithmetic, `||`, `~~`
/// (LIKE), `!~~`, `~~*`, `!~~*`, `~`, `!~`, `~*`, `!~*`, `&`, `|`, `#`, `<<`, `>>`, `@>`, `<@`, `&&`.
pub fn lookup_operator(symbol: &str, left: Option<&DataType>, right: &DataType) -> Result<ResolvedFunction> {
    let _ = (left, right);
    Err(SqlError::unsupported(symbol))
}

/// The one type of the branches of a CASE, COALESCE, GREATEST, VALUES, ARRAY or UNION (manual, 10.5). `context` is the
/// word of the error message: "CASE types integer and text cannot be matched".
pub fn resolve_common_type(context: &str, types: &[DataType]) -> Result<DataType> {
    let _ = types;
    Err(SqlError::unsupported(context))
}
