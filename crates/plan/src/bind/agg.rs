//! Aggregates: gathered while the expressions of a query are bound, and checked against GROUP BY afterwards.

use std::sync::Arc;

use meridian_datum::{CastContext, DataType, Result, SqlError, SqlState, lookup_aggregate};

use super::expr::{Clause, Cx, position};
use super::func::CallSyntax;
use super::types::{needs_equality, needs_order};
use super::{At, Binder};
use crate::expr::Expr;
use crate::logical::{ColId, ColSet};
use crate::physical::{AggregateCall, SortKey};
use crate::same::same_expr;

/// The aggregates of a query level.
#[derive(Debug, Default)]
pub(crate) struct Aggregates {
    pub(crate) calls: Vec<(ColId, AggregateCall)>,
}

impl Binder<'_> {
    pub(super) fn aggregate(&mut self, call: &CallSyntax<'_>, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let at = call.position;
        if cx.aggregates.is_none() {
            return Err(misplaced(cx.clause).at(at));
        }
        let bound = self.aggregate_call(call, cx)?;
        let ty = bound.function.result_type.clone();
        let aggregates = cx.aggregates.as_mut().expect("checked above");
        let known = aggregates.calls.iter().find(|(_, c)| same_call(c, &bound)).map(|(id, _)| *id);
        let id = match known {
            Some(id) => id,
            None => {
                let id = self.new_col();
                aggregates.calls.push((id, bound));
                id
            }
        };
        Ok(Expr::column(id, ty))
    }

    /// Binds name, arguments, DISTINCT, ORDER BY and FILTER of an aggregate call.
    pub(super) fn aggregate_call(&mut self, call: &CallSyntax<'_>, cx: &Cx<'_, '_>) -> Result<AggregateCall> {
        let at = call.position;
        if self.in_aggregate > 0 {
            let message = "aggregate function calls cannot be nested";
            return Err(SqlError::new(SqlState::GROUPING_ERROR, message).at(at));
        }
        self.in_aggregate += 1;
        let result = self.aggregate_parts(call, cx);
        self.in_aggregate -= 1;
        result
    }

    fn aggregate_parts(&mut self, call: &CallSyntax<'_>, cx: &Cx<'_, '_>) -> Result<AggregateCall> {
        let at = call.position;
        let mut inner = Cx::new(cx.scope, Clause::AggregateArgument);
        let mut args = Vec::with_capacity(call.args.len());
        for a in &call.args {
            args.push((self.expr(a, &mut inner)?, position(a)));
        }
        if call.args.is_empty() && !call.star {
            let message = format!("{}(*) must be used to call a parameterless aggregate function", call.name);
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(at));
        }
        if call.star && call.name != "count" {
            let message = format!("function {}() does not exist", call.name);
            return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(at));
        }
        let types: Vec<DataType> = args.iter().map(|(a, _)| a.ty()).collect();
        let function = lookup_aggregate(&call.name, &types).at(at)?;
        if call.distinct {
            args.iter().try_for_each(|(a, p)| needs_equality(&a.ty(), *p))?;
        }
        let mut cast = Vec::with_capacity(args.len());
        for ((a, p), t) in args.into_iter().zip(&function.arg_types) {
            cast.push(if *t == DataType::Unknown {
                self.settle(a)?
            } else {
                self.coerce(a, t, CastContext::Implicit, p)?
            });
        }
        let mut order_args: Vec<Expr> = Vec::new();
        let mut order_by = Vec::new();
        for key in call.order_by {
            let e = self.typed_expr(&key.expr, &mut inner)?;
            needs_order(&e.ty(), position(&key.expr))?;
            let (descending, nulls_first) = super::order::direction(&key.options);
            let column = order_args.len();
            order_args.push(e);
            order_by.push(SortKey { column, descending, nulls_first });
        }
        if call.distinct && !order_args.iter().all(|o| cast.iter().any(|a| same_expr(a, o))) {
            let message = "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list";
            return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message).at(at));
        }
        let filter = match call.filter {
            Some(f) => Some(self.condition(f, &mut Cx::new(cx.scope, Clause::Filter))?),
            None => None,
        };
        Ok(AggregateCall {
            function: Arc::new(function),
            name: call.name.as_str().into(),
            args: cast,
            distinct: call.distinct,
            filter,
            order_by,
            order_args,
        })
    }

    /// Replaces group expressions in `e` by their columns, and refuses ungrouped columns of this level.
    /// `own` are the columns of the level's FROM, `since` is where its references begin in the record.
    pub(super) fn grouped(
        &self,
        mut e: Expr,
        keys: &[(ColId, Expr)],
        allowed: &ColSet,
        own: &ColSet,
        since: usize,
    ) -> Result<Expr> {
        replace_keys(&mut e, keys);
        let used = e.cols();
        let bad = used.iter().find(|c| own.contains(*c) && !allowed.contains(*c));
        match bad {
            None => Ok(e),
            Some(c) => Err(self.ungrouped(c, since)),
        }
    }

    fn ungrouped(&self, col: ColId, since: usize) -> SqlError {
        let reference =
            self.col_refs[since.min(self.col_refs.len())..].iter().find(|r| r.col == col && !r.in_aggregate);
        let Some(r) = reference else {
            return SqlError::new(SqlState::GROUPING_ERROR, "a column must appear in the GROUP BY clause");
        };
        let name = if r.table.is_empty() { r.name.to_string() } else { format!("{}.{}", r.table, r.name) };
        let message = format!(
            "column \"{name}\" must appear in the GROUP BY clause or be used in an aggregate function"
        );
        SqlError::new(SqlState::GROUPING_ERROR, message).at(r.position)
    }
}

/// Replaces the outermost parts of an expression that equal a group key.
fn replace_keys(e: &mut Expr, keys: &[(ColId, Expr)]) {
    if let Some((id, key)) = keys.iter().find(|(_, k)| same_expr(k, e)) {
        *e = Expr::column(*id, key.ty());
        return;
    }
    if let Expr::Unplanned(u) = e {
        // Inside a subquery only plain columns can be keys, and those keep their identity.
        u.left.iter_mut().for_each(|l| replace_keys(l, keys));
        return;
    }
    e.for_each_child_mut(&mut |c| replace_keys(c, keys));
}

fn same_call(a: &AggregateCall, b: &AggregateCall) -> bool {
    let same_list =
        |x: &[Expr], y: &[Expr]| x.len() == y.len() && x.iter().zip(y).all(|(p, q)| same_expr(p, q));
    let same_filter = match (&a.filter, &b.filter) {
        (None, None) => true,
        (Some(x), Some(y)) => same_expr(x, y),
        _ => false,
    };
    a.name == b.name
        && a.distinct == b.distinct
        && same_filter
        && a.order_by == b.order_by
        && same_list(&a.args, &b.args)
        && same_list(&a.order_args, &b.order_args)
        && !a.args.iter().any(Expr::is_volatile)
}

/// The error of an aggregate in a clause that has none.
fn misplaced(clause: Clause) -> SqlError {
    if matches!(clause, Clause::AggregateArgument | Clause::Filter) {
        return SqlError::new(SqlState::GROUPING_ERROR, "aggregate function calls cannot be nested");
    }
    let message = format!("aggregate functions are not allowed in {}", clause.name());
    SqlError::new(SqlState::GROUPING_ERROR, message)
}
