//! Scalar functions and operators: their registry, PostgreSQL's overload resolution, and their code.
//!
//! One function is one row of a table: name, argument types, result type, strictness, volatility, code. The planner
//! looks a call up once ([`lookup_function`], [`lookup_operator`]), casts the arguments to the types that the
//! resolution chose, and keeps the [`ResolvedFunction`]; the executor calls it for datums or for columns.
//!
//! Functions know nothing of catalogs and sessions: `current_user`, `pg_get_indexdef` and their kin belong to whoever
//! has those.

mod access;
mod array;
mod compare;
mod date_part;
mod datetime;
mod encode;
mod float;
mod format;
mod integer;
mod json;
mod md5;
mod numeric;
mod pattern;
mod picture;
mod registry;
mod resolve;
mod string;
mod to_char;
mod to_date;
mod to_number;

pub(crate) use crate::format::natural_type as untyped;
pub(crate) use datetime::{add_spans, divided};
pub(crate) use float::apply as float_op;
pub(crate) use pattern::{LikePattern, operator_regex};
pub use registry::{FunctionDef, Operand, ResolvedFunction, ScalarFn, Ty, Volatility};
pub use resolve::{
    all_functions, all_operators, is_function, lookup_function, lookup_operator, resolve_common_type,
};

/// Every table of functions.
const FUNCTION_TABLES: &[&[FunctionDef]] = &[
    array::FUNCTIONS,
    datetime::FUNCTIONS,
    date_part::FUNCTIONS,
    encode::FUNCTIONS,
    float::FUNCTIONS,
    format::FUNCTIONS,
    integer::FUNCTIONS,
    json::FUNCTIONS,
    numeric::FUNCTIONS,
    pattern::FUNCTIONS,
    string::FUNCTIONS,
    to_char::FUNCTIONS,
    to_date::FUNCTIONS,
    to_number::FUNCTIONS,
];

/// Every table of operators.
const OPERATOR_TABLES: &[&[FunctionDef]] = &[
    array::OPERATORS,
    compare::OPERATORS,
    datetime::OPERATORS,
    float::OPERATORS,
    integer::OPERATORS,
    numeric::OPERATORS,
    pattern::OPERATORS,
    string::OPERATORS,
];
