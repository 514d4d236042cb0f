//! Scalar functions and operators: their registry, PostgreSQL's overload resolution, and their code.
//!
//! One function is one row of a table: name, argument types, result type, strictness, volatility, code. The planner
//! looks a call up once ([`lookup_function`], [`lookup_operator`]), casts the arguments to the types that the
//! resolution chose, and keeps the [`ResolvedFunction`]; the executor calls it for datums or for columns.

mod registry;
mod resolve;

pub use registry::{FunctionDef, Operand, ResolvedFunction, ScalarFn, Ty, Volatility};
pub use resolve::{lookup_function, lookup_operator, resolve_common_type};
