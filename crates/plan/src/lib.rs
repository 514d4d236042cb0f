//! From SQL text to a physical plan.
//!
//! ```text
//!   text --parse--> syntax tree --bind--> logical plan --optimize--> logical plan --lower--> physical plan
//!                                (names, types)      (conditions, joins)          (indexes, algorithms, positions)
//! ```
//!
//! The crate is pure: it reads a [`CatalogSnapshot`] and nothing else, so that equal inputs give equal plans. It knows
//! nothing of shards, of time or of transactions; it tells the executor which index spans a statement reads and how it
//! locks them.
//!
//! A plan holds the table descriptors that it was made from. It is good for as long as the snapshot's version, for any
//! parameters; sessions keep it by text, parameter types, search path, user, database and time zone.
//!
//! Statements that touch one row by primary key have forms of their own ([`StatementPlan::PointSelect`] and its kin),
//! which need no operators.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bind;
pub mod ddl;
mod explain;
pub mod expr;
mod logical;
mod lower;
pub mod modify;
mod optimize;
mod parse;
pub mod physical;
pub mod planned;
mod planner;
mod same;
pub mod session;
mod template;

use meridian_catalog::CatalogSnapshot;
use meridian_datum::{DataType, EvalContext};

pub use bind::{index_expressions, index_predicate};
pub use expr::Expr;
pub use logical::Unplanned;
pub use parse::{ParsedStatement, SQL_BYTES_MAX, parse};
pub use physical::{Operator, Plan};
pub use planned::{CommandTag, OutputColumn, PlannedStatement, StatementPlan};
pub use planner::{plan_check, plan_statement};
pub use template::{Literal, Template};

/// What planning depends on besides the statement.
#[derive(Clone, Debug)]
pub struct PlanContext<'a> {
    /// The catalog.
    pub snapshot: &'a CatalogSnapshot,
    /// The current database's name.
    pub database: &'a str,
    /// The session's user; `$user` in the search path.
    pub user: &'a str,
    /// The schemas that unqualified names are looked for in, in order.
    pub search_path: &'a [String],
    /// Parameter types that the client declared; [`DataType::Unknown`] or absent ones are inferred.
    pub param_types: &'a [DataType],
    /// For folding constants and reading literals: the time zone, and the times for literals like `'today'`.
    pub eval: &'a EvalContext,
}

#[cfg(test)]
mod tests;
