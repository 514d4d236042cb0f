//! Logical plans become physical ones: identities turn into positions, tables into scans of the index that costs least,
//! joins into the algorithm that does.
//!
//! Lowering goes top-down with what is asked of each operator, so that nothing is computed that nobody reads: the
//! columns needed, an order that would spare a sort, and how many rows are wanted at most.

mod access;
mod expr;
mod join;
mod modify;
pub(crate) mod partial;
mod point;
mod rel;
mod spans;

use std::sync::Arc;

use meridian_catalog::CatalogSnapshot;
use meridian_datum::{DataType, Result, SqlError};

use crate::expr::Expr;
use crate::logical::{ColId, ColSet, Order, Rel};
use crate::optimize::Estimator;
use crate::physical::{Operator, Plan};

pub(crate) use point::{is_single_operation, shorten};

/// What the operator above wants.
#[derive(Clone, Debug, Default)]
struct Ask {
    /// Columns that must be put out.
    needed: ColSet,
    /// An order that would be of use.
    order: Vec<Order>,
    /// Without the order a sort is needed; otherwise it only spares a hash table.
    must_sort: bool,
    /// Rows wanted, as an expression without input.
    limit: Option<Expr>,
}

impl Ask {
    fn columns(needed: ColSet) -> Self {
        Ask { needed, ..Ask::default() }
    }
}

/// A physical plan with the identities of its columns.
struct Lowered {
    plan: Plan,
    cols: Vec<ColId>,
    /// The asked order is the plan's.
    ordered: bool,
}

/// The state of lowering.
pub(crate) struct Lowerer<'a> {
    snapshot: &'a CatalogSnapshot,
    est: Estimator<'a>,
    /// Per enclosing subquery: the columns of outer rows that its plan reads.
    frames: Vec<Vec<(ColId, DataType)>>,
    /// Expected rows of common table expressions.
    cte_rows: Vec<f64>,
}

impl<'a> Lowerer<'a> {
    pub(crate) fn new(snapshot: &'a CatalogSnapshot) -> Self {
        Lowerer { snapshot, est: Estimator { snapshot }, frames: Vec::new(), cte_rows: Vec::new() }
    }

    /// A whole query: exactly the columns asked for, in order.
    pub(crate) fn query(&mut self, rel: Rel, cols: &[ColId]) -> Result<Plan> {
        let rel = crate::optimize::optimize(rel, self.snapshot);
        let needed = ColSet::from_cols(cols.iter().copied());
        let lowered = self.rel(&rel, Ask::columns(needed))?;
        arrange(lowered, cols)
    }

    /// A common table expression, which later ones and the statement may read.
    pub(crate) fn cte(&mut self, rel: Rel) -> Result<Plan> {
        let cols = rel.cols();
        let plan = self.query(rel, &cols)?;
        self.cte_rows.push(plan.rows);
        Ok(plan)
    }
}

/// The plan with exactly these columns in this order.
fn arrange(lowered: Lowered, cols: &[ColId]) -> Result<Plan> {
    if lowered.cols == cols {
        return Ok(lowered.plan);
    }
    let mut exprs = Vec::with_capacity(cols.len());
    for c in cols {
        let index = position(&lowered.cols, *c).ok_or_else(|| lost_column(*c))?;
        exprs.push(Expr::column(index, lowered.plan.types[index].clone()));
    }
    let rows = lowered.plan.rows;
    // A projection below can be rearranged in place, unless that would compute a volatile column twice or never.
    Ok(match lowered.plan.op {
        Operator::Project { input, exprs: below } if !below.iter().any(Expr::is_volatile) => {
            let exprs: Vec<Expr> = exprs
                .into_iter()
                .map(|e| match e {
                    Expr::Column { index, .. } => below[index].clone(),
                    other => other,
                })
                .collect();
            project(*input, exprs, rows)
        }
        op => project(Plan { op, types: lowered.plan.types, rows }, exprs, rows),
    })
}

/// A column that an operator was asked for and does not put out: a bug of a rewriting, which must not cost more than its
/// statement.
fn lost_column(c: ColId) -> SqlError {
    SqlError::internal(format!("column {c} of the plan is lost"))
}

fn project(input: Plan, exprs: Vec<Expr>, rows: f64) -> Plan {
    let types = exprs.iter().map(Expr::ty).collect();
    plan(Operator::Project { input: Box::new(input), exprs }, types, rows)
}

fn plan(op: Operator, types: Vec<DataType>, rows: f64) -> Plan {
    Plan { op, types: Arc::from(types), rows }
}

fn position(cols: &[ColId], c: ColId) -> Option<usize> {
    cols.iter().position(|k| *k == c)
}
