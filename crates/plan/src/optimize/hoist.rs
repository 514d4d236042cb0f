//! `key = (SELECT ...)`: the subquery is run before the table is read, so that its value can bound the scan.
//!
//! The bounds of a scan are values that are known when it begins. A scalar subquery that does not depend on the table's
//! row is such a value once it stands in a row of its own, which the scan follows as a lateral join does.

use crate::expr::Expr;
use crate::logical::{ColId, ColSet, Get, Rel, UnplannedKind};
use crate::physical::JoinKind;

/// The table filtered by `conds`, with subqueries that an index could use in front of it.
pub(super) fn scalar_keys(get: Box<Get>, conds: Vec<Expr>) -> Rel {
    let own = ColSet::from_cols(get.cols.iter().copied());
    let leading: Vec<ColId> =
        get.table.all_indexes().map(|i| get.col(get.table.ordinal(i.columns[0].column))).collect();
    let mut values: Vec<(ColId, Expr)> = Vec::new();
    let conds: Vec<Expr> = conds.into_iter().map(|c| take_scalar(c, &own, &leading, &mut values)).collect();
    let table = Rel::Get(get);
    if values.is_empty() {
        return table.filter(conds);
    }
    let row = Rel::Project { input: Box::new(Rel::single_row()), exprs: values };
    // Other subqueries stay above: below the join they would be run for the same one row anyway.
    let (below, above): (Vec<_>, Vec<_>) = conds.into_iter().partition(|c| !c.has_subquery());
    let join = Rel::Join {
        kind: JoinKind::Inner,
        left: Box::new(row),
        right: Box::new(table.filter(below)),
        on: Vec::new(),
        lateral: true,
    };
    join.filter(above)
}

/// Replaces the subquery of a comparison with an index's first column by a column.
fn take_scalar(mut c: Expr, own: &ColSet, leading: &[ColId], values: &mut Vec<(ColId, Expr)>) -> Expr {
    let Expr::Call { function, args } = &mut c else { return c };
    let [a, b] = args.as_mut_slice() else { return c };
    if !matches!(function.def.name, "=" | "<" | "<=" | ">" | ">=") {
        return c;
    }
    let is_key = |e: &Expr| match super::strip_relabel(e) {
        Expr::Column { index, .. } => leading.contains(index),
        _ => false,
    };
    let side = if is_key(a) {
        b
    } else if is_key(b) {
        a
    } else {
        return c;
    };
    if side.cols().intersects(own) {
        return c;
    }
    if let Expr::Unplanned(u) = side
        && u.kind == UnplannedKind::Scalar
    {
        let (id, ty) = (u.cols[0], u.ty.clone());
        let value = std::mem::replace(side, Expr::column(id, ty));
        if !values.iter().any(|(k, _)| *k == id) {
            values.push((id, value));
        }
    }
    c
}
