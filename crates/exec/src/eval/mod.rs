//! Evaluation of bound expressions.
//!
//! Evaluation is synchronous and comes in two shapes, [`vector`] for batches and [`scalar`] for single rows. What an
//! expression needs of the store (subqueries) or of the cluster is fetched before, by [`Ctx::resolve`]: for every
//! subquery in the expression one answer, or one per row of the batch. An answer may be an error; it is raised when and
//! where the value is asked for, so that a branch that is not taken cannot fail.

mod scalar;
mod subquery;
mod vector;

use std::sync::LazyLock;

use meridian_datum::{Datum, EvalContext, Result, TimeZone};
use meridian_plan::Expr;

pub(crate) use scalar::Row;
pub(crate) use subquery::Resolved;
pub(crate) use subquery::SubqueryCache;

use crate::context::{Ctx, Statement};

/// What expressions see besides their row.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// Time zone, times, randomness.
    pub eval: &'a EvalContext,
    /// The statement; absent for expressions that depend on their row alone.
    stmt: Option<&'a Statement>,
    /// Values of the enclosing row.
    pub outer: &'a [Datum],
    /// Answers of subqueries.
    pub resolved: &'a Resolved,
}

static NOTHING_RESOLVED: Resolved = Resolved::none();

impl<'a> Ctx<'a> {
    /// The scope of expressions without subqueries.
    pub fn scope(&self) -> Scope<'a> {
        Scope { eval: &self.stmt.eval, stmt: Some(self.stmt), outer: self.outer, resolved: &NOTHING_RESOLVED }
    }

    /// The scope of expressions whose subqueries were resolved.
    pub fn scope_with<'b>(&self, resolved: &'b Resolved) -> Scope<'b>
    where
        'a: 'b,
    {
        Scope { eval: &self.stmt.eval, stmt: Some(self.stmt), outer: self.outer, resolved }
    }

    /// The value of an expression that sees no row.
    pub async fn constant(&self, e: &Expr) -> Result<Datum> {
        match e {
            Expr::Const(d, _) => Ok(d.clone()),
            Expr::Param { index, .. } => Ok(self.scope().param(*index)),
            _ => {
                let resolved = self.resolve_row([e], Row::None).await?;
                self.scope_with(&resolved).datum(e, Row::None)
            }
        }
    }
}

/// What an immutable function is called with: it looks at none of it.
static UNSET: LazyLock<EvalContext> = LazyLock::new(|| EvalContext::new(TimeZone::Utc, 0, 0));

impl Scope<'static> {
    /// The scope of expressions that depend on nothing but their row.
    pub(crate) fn of_row() -> Self {
        Scope { eval: &UNSET, stmt: None, outer: &[], resolved: &NOTHING_RESOLVED }
    }
}

impl<'a> Scope<'a> {
    /// # Panics
    /// When the scope is that of expressions of a row alone.
    fn stmt(&self) -> &'a Statement {
        self.stmt.expect("an expression that depends on more than its row runs in a statement")
    }

    fn param(&self, index: usize) -> Datum {
        self.stmt().params.get(index).cloned().unwrap_or_default()
    }
}
