//! Statements that touch one row by its primary key leave the operators behind.

use std::sync::Arc;

use crate::expr::Expr;
use crate::modify::{InsertSource, Modify, ModifyAction, PointDelete, PointSelect, PointUpdate};
use crate::physical::{Operator, Plan, Scan, SpanKey, Spans};
use crate::planned::StatementPlan;

/// The plan in its shortest form.
pub(crate) fn shorten(plan: Plan) -> StatementPlan {
    match plan.op {
        Operator::Scan(scan) if point_key(&scan).is_some() => {
            let exprs = identity(&scan, &plan.types);
            point_select(*scan, exprs, true)
        }
        Operator::Project { input, exprs } => match input.op {
            Operator::Scan(scan) if point_key(&scan).is_some() && !exprs.iter().any(Expr::has_subquery) => {
                point_select(*scan, exprs, false)
            }
            op => {
                let input = Box::new(Plan { op, types: input.types, rows: input.rows });
                StatementPlan::Query(Plan {
                    op: Operator::Project { input, exprs },
                    types: plan.types,
                    rows: plan.rows,
                })
            }
        },
        Operator::Modify(m) => modify(*m, plan.types, plan.rows),
        op => StatementPlan::Query(Plan { op, types: plan.types, rows: plan.rows }),
    }
}

fn identity(scan: &Scan, types: &Arc<[meridian_datum::DataType]>) -> Vec<Expr> {
    scan.columns.iter().enumerate().map(|(i, _)| Expr::column(i, types[i].clone())).collect()
}

/// The only key of a scan of one row by primary key.
fn point_key(scan: &Scan) -> Option<Vec<Expr>> {
    if scan.index != scan.table.primary.id || scan.filter.as_ref().is_some_and(Expr::has_subquery) {
        return None;
    }
    let Spans::Points(points) = &scan.spans else { return None };
    let [key] = points.as_slice() else { return None };
    key.iter()
        .map(|k| match k {
            SpanKey::Value(e) => Some(e.clone()),
            SpanKey::AnyOf(_) | SpanKey::Null => None,
        })
        .collect()
}

fn point_select(scan: Scan, exprs: Vec<Expr>, is_identity: bool) -> StatementPlan {
    let key = point_key(&scan).expect("the caller has looked");
    StatementPlan::PointSelect(Box::new(PointSelect {
        table: scan.table,
        key,
        columns: scan.columns,
        filter: scan.filter,
        exprs,
        is_identity,
        locking: scan.locking,
        for_update: scan.for_update,
    }))
}

fn modify(m: Modify, types: Arc<[meridian_datum::DataType]>, rows: f64) -> StatementPlan {
    if !is_point(&m) {
        return StatementPlan::Query(Plan { op: Operator::Modify(Box::new(m)), types, rows });
    }
    match m.action {
        ModifyAction::Insert { .. } => StatementPlan::PointInsert(Box::new(m)),
        ModifyAction::Update { input, assignments } => {
            let Operator::Scan(scan) = input.op else { unreachable!("is_point has looked") };
            let key = point_key(&scan).expect("is_point has looked");
            StatementPlan::PointUpdate(Box::new(PointUpdate {
                table: m.table,
                key,
                filter: scan.filter,
                assignments,
                checks: m.checks,
                returning: m.returning,
            }))
        }
        ModifyAction::Delete { input } => {
            let Operator::Scan(scan) = input.op else { unreachable!("is_point has looked") };
            let key = point_key(&scan).expect("is_point has looked");
            StatementPlan::PointDelete(Box::new(PointDelete {
                table: m.table,
                key,
                filter: scan.filter,
                returning: m.returning,
            }))
        }
    }
}

fn is_point(m: &Modify) -> bool {
    let plain = |e: &Expr| !e.has_subquery();
    let returning = m.returning.iter().flatten().all(plain);
    let whole_row = |p: &Plan| match &p.op {
        // The old row, all of it and nothing else.
        Operator::Scan(s) => {
            point_key(s).is_some()
                && s.columns.len() == m.table.columns.len()
                && s.columns.iter().enumerate().all(|(i, o)| i == *o)
        }
        _ => false,
    };
    returning
        && match &m.action {
            ModifyAction::Insert { source: InsertSource::Rows(rows), on_conflict } => {
                rows.iter().flatten().all(plain) && on_conflict.is_none() && m.parent.is_none()
            }
            ModifyAction::Insert { .. } => false,
            ModifyAction::Update { input, assignments } => {
                let keys = m.table.key_ordinals();
                whole_row(input) && assignments.iter().all(|(o, e)| plain(e) && !keys.contains(o))
            }
            ModifyAction::Delete { input } => whole_row(input) && m.children.is_empty(),
        }
}

/// Whether everything that a read-only statement reads lies in one operation of the store.
pub(crate) fn is_single_operation(plan: &StatementPlan) -> bool {
    match plan {
        StatementPlan::PointSelect(_) => true,
        StatementPlan::Query(p) => is_single_read(p),
        _ => false,
    }
}

fn is_single_read(p: &Plan) -> bool {
    match &p.op {
        Operator::Scan(s) => {
            let one = match &s.spans {
                Spans::All | Spans::Points(_) => true,
                Spans::Ranges(r) => {
                    r.len() == 1 && r.iter().all(|r| r.equal.iter().all(|k| !matches!(k, SpanKey::AnyOf(_))))
                }
                Spans::Empty => true,
            };
            // A secondary entry whose row is read as well is a second operation.
            one && !s.filter.as_ref().is_some_and(Expr::has_subquery)
        }
        Operator::Filter { input, condition } => !condition.has_subquery() && is_single_read(input),
        Operator::Project { input, exprs } => !exprs.iter().any(Expr::has_subquery) && is_single_read(input),
        Operator::Aggregate(a) => {
            let mut exprs =
                a.group_by.iter().chain(a.aggregates.iter().flat_map(|c| c.args.iter().chain(&c.filter)));
            !exprs.any(Expr::has_subquery) && is_single_read(&a.input)
        }
        Operator::Distinct { input }
        | Operator::DistinctOn { input, .. }
        | Operator::Sort { input, .. }
        | Operator::TopN { input, .. }
        | Operator::Limit { input, .. } => is_single_read(input),
        Operator::Window(w) => is_single_read(&w.input),
        _ => false,
    }
}
