//! SQL values and types in PostgreSQL 15's semantics.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agg;
pub mod array;
pub mod calendar;
pub mod cast;
pub mod column;
pub mod compare;
mod context;
mod date_style;
mod datum;
pub mod decimal;
mod error;
pub mod format;
pub mod func;
pub mod interval;
pub mod key;
pub mod row;
mod state;
mod timezone;
mod types;

pub use agg::{AggState, AggregateFn, is_aggregate, lookup_aggregate};
pub use array::{ArrayValue, Dimension};
pub use cast::{CastContext, can_cast, cast, cast_column};
pub use column::{Batch, Column, IntKind, Nulls, TextVector, Vector};
pub use context::EvalContext;
pub use date_style::{DateFormat, DateOrder, DateStyle};
pub use datum::Datum;
pub use decimal::Decimal;
pub use error::{Result, SqlError, SqlErrorFields};
pub use format::{parse_binary, parse_text, to_text, write_binary, write_text};
pub use func::{
    FunctionDef, Operand, ResolvedFunction, ScalarFn, Ty, Volatility, lookup_function, lookup_operator,
    resolve_common_type,
};
pub use interval::Interval;
pub use key::{is_key_type, key_is_exact, push_key, read_key};
pub use row::{RowDecoder, decode_values, encode_row, encode_row_with_nulls, encode_values};
pub use state::SqlState;
pub use timezone::TimeZone;
pub use types::{DataType, NumericMod, TypeCategory, TypeInfo};
