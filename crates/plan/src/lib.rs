//! From SQL text to a physical plan.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ddl;
pub mod expr;
mod logical;
pub mod modify;
pub mod physical;
pub mod planned;
pub mod session;
pub mod statement;

use std::sync::Arc;

use meridian_catalog::CatalogSnapshot;
use meridian_datum::{DataType, EvalContext, SqlError};

pub use expr::Expr;
pub use logical::Unplanned;
pub use physical::{Operator, Plan};
pub use planned::{CommandTag, OutputColumn, PlannedStatement, StatementPlan};
pub use statement::ParsedStatement;

/// What planning depends on besides the statement.
#[derive(Clone, Debug)]
pub struct PlanContext<'a> {
    /// The catalog.
    pub snapshot: &'a Arc<CatalogSnapshot>,
    /// The current database's name.
    pub database: &'a str,
    /// The session's user; `$user` in the search path.
    pub user: &'a str,
    /// The schemas that unqualified names are looked for in, in order.
    pub search_path: &'a [String],
    /// Parameter types that the client declared; [`DataType::Unknown`] or absent ones are inferred.
    pub param_types: &'a [DataType],
    /// For folding immutable constants and reading literals: time zone and date style. Times in it are not used.
    pub eval: &'a EvalContext,
}

/// Parses a query string into its statements.
pub fn parse(sql: &str) -> Result<Vec<ParsedStatement>, SqlError> {
    let _ = sql;
    Err(SqlError::unsupported("parsing"))
}

/// Plans one statement.
pub fn plan_statement(ctx: &PlanContext<'_>, statement: &ParsedStatement) -> Result<PlannedStatement, SqlError> {
    let _ = (ctx, statement);
    Err(SqlError::unsupported("planning"))
}
