//! Conditions move towards the tables.

use std::collections::HashMap;

use meridian_datum::Datum;

use super::estimate::Estimator;
use super::{hoist, join_order, unnest};
use crate::expr::Expr;
use crate::logical::{ColId, ColSet, LogicalAction, Rel};
use crate::physical::JoinKind;

/// The same rows as `rel` filtered by `conds`, which are over its output.
pub(super) fn push_down(rel: Rel, conds: Vec<Expr>, est: &Estimator<'_>) -> Rel {
    match rel {
        Rel::Filter { input, conds: more } => {
            let mut conds = conds;
            conds.extend(more.into_iter().flat_map(split));
            push_down(*input, conds, est)
        }
        Rel::Project { input, exprs } => project(*input, exprs, conds, est),
        Rel::Join { kind: JoinKind::Inner, left, right, on, lateral: false } => {
            let rel = Rel::Join { kind: JoinKind::Inner, left, right, on, lateral: false };
            join_order::inner_joins(rel, conds, est)
        }
        Rel::Join { kind, left, right, on, lateral } => {
            let (conds, semis) = unnest::take(conds);
            let rel = join(kind, *left, *right, on, lateral, conds, est);
            unnest::apply(rel, semis, est)
        }
        Rel::Aggregate(mut a) => {
            let keys: HashMap<ColId, Expr> = a.keys.iter().cloned().collect();
            let key_cols = ColSet::from_cols(keys.keys().copied());
            let own = ColSet::from_cols(a.aggs.iter().map(|(c, _)| *c));
            let movable = |c: &Expr| {
                a.sets.is_none()
                    && !keys.is_empty()
                    && !c.is_volatile()
                    && !c.cols().intersects(&own)
                    && c.cols().intersects(&key_cols)
            };
            let (mut below, above): (Vec<_>, Vec<_>) = conds.into_iter().partition(movable);
            below.iter_mut().for_each(|c| c.substitute(&keys));
            let input = std::mem::replace(&mut a.input, Rel::single_row());
            a.input = push_down(input, below, est);
            filter_above(Rel::Aggregate(a), above, est)
        }
        Rel::Distinct { input } => {
            let (below, above) = split_volatile(conds);
            filter_above(Rel::Distinct { input: Box::new(push_down(*input, below, est)) }, above, est)
        }
        Rel::DistinctOn { input, keys, order } => {
            let key_cols = ColSet::from_cols(keys.iter().copied());
            let movable = |c: &Expr| !c.is_volatile() && !c.has_subquery() && c.cols().is_subset(&key_cols);
            let (below, above): (Vec<_>, Vec<_>) = conds.into_iter().partition(movable);
            let input = Box::new(push_down(*input, below, est));
            filter_above(Rel::DistinctOn { input, keys, order }, above, est)
        }
        Rel::Sort { input, keys } => Rel::Sort { input: Box::new(push_down(*input, conds, est)), keys },
        Rel::SetOp(mut s) => {
            let (below, above) = split_volatile(conds);
            let types: HashMap<ColId, meridian_datum::DataType> =
                Rel::SetOp(s.clone()).typed_cols().into_iter().collect();
            let side = |to: &[ColId]| -> HashMap<ColId, Expr> {
                s.cols.iter().zip(to).map(|(c, t)| (*c, Expr::column(*t, types[c].clone()))).collect()
            };
            let (lmap, rmap) = (side(&s.left_cols), side(&s.right_cols));
            let moved = |map: &HashMap<ColId, Expr>| -> Vec<Expr> {
                below
                    .iter()
                    .cloned()
                    .map(|mut c| {
                        c.substitute(map);
                        c
                    })
                    .collect()
            };
            let (l, r) = (moved(&lmap), moved(&rmap));
            s.left = push_down(std::mem::replace(&mut s.left, Rel::single_row()), l, est);
            s.right = push_down(std::mem::replace(&mut s.right, Rel::single_row()), r, est);
            filter_above(Rel::SetOp(s), above, est)
        }
        Rel::Modify(mut m) => {
            match &mut m.action {
                LogicalAction::Insert { input, .. }
                | LogicalAction::Update { input, .. }
                | LogicalAction::Delete { input, .. } => {
                    let taken = std::mem::replace(input, Rel::single_row());
                    *input = push_down(taken, Vec::new(), est);
                }
            }
            filter_above(Rel::Modify(m), conds, est)
        }
        Rel::Get(get) => {
            let conds = conds.into_iter().flat_map(split).collect();
            let (conds, semis) = unnest::take(conds);
            unnest::apply(hoist::scalar_keys(get, conds), semis, est)
        }
        mut other => {
            other.for_each_input_mut(&mut |r| {
                let taken = std::mem::replace(r, Rel::single_row());
                *r = push_down(taken, Vec::new(), est);
            });
            filter_above(other, conds, est)
        }
    }
}

/// A filter with what can become a join taken out of it.
pub(super) fn filter_above(rel: Rel, conds: Vec<Expr>, est: &Estimator<'_>) -> Rel {
    let conds: Vec<Expr> = conds.into_iter().flat_map(split).collect();
    if conds.is_empty() {
        return rel;
    }
    let (conds, semis) = unnest::take(conds);
    unnest::apply(rel.filter(conds), semis, est)
}

/// The parts of a conjunction; what is always true is dropped, and a common part of all arms of a disjunction is drawn
/// out of it.
pub(super) fn split(e: Expr) -> Vec<Expr> {
    match e {
        Expr::And(parts) => parts.into_iter().flat_map(split).collect(),
        Expr::Const(Datum::Bool(true), _) => Vec::new(),
        Expr::Or(arms) => factor(arms),
        other => vec![other],
    }
}

/// `(a AND b) OR (a AND c)` is `a AND (b OR c)`.
fn factor(arms: Vec<Expr>) -> Vec<Expr> {
    use crate::same::same_expr;
    let parts = |e: &Expr| -> Vec<Expr> {
        match e {
            Expr::And(p) => p.clone(),
            other => vec![other.clone()],
        }
    };
    let lists: Vec<Vec<Expr>> = arms.iter().map(parts).collect();
    let common: Vec<Expr> = lists[0]
        .iter()
        .filter(|c| lists[1..].iter().all(|l| l.iter().any(|x| same_expr(x, c))))
        .cloned()
        .collect();
    if common.is_empty() {
        return vec![Expr::Or(arms)];
    }
    let rest: Vec<Expr> = lists
        .into_iter()
        .map(|l| {
            let left = l.into_iter().filter(|x| !common.iter().any(|c| same_expr(x, c))).collect();
            crate::bind::conjunction(left)
        })
        .collect();
    let mut out = common;
    let or = crate::bind::disjunction(rest);
    if !matches!(or, Expr::Const(Datum::Bool(true), _)) {
        out.push(or);
    }
    out
}

fn split_volatile(conds: Vec<Expr>) -> (Vec<Expr>, Vec<Expr>) {
    conds.into_iter().partition(|c| !c.is_volatile())
}

fn project(input: Rel, exprs: Vec<(ColId, Expr)>, conds: Vec<Expr>, est: &Estimator<'_>) -> Rel {
    let map: HashMap<ColId, Expr> = exprs.iter().cloned().collect();
    let fixed =
        ColSet::from_cols(exprs.iter().filter(|(_, e)| e.is_volatile() || e.has_subquery()).map(|(c, _)| *c));
    let (mut below, above): (Vec<_>, Vec<_>) =
        conds.into_iter().partition(|c| !c.is_volatile() && !c.cols().intersects(&fixed));
    below.iter_mut().for_each(|c| c.substitute(&map));
    let rel = Rel::Project { input: Box::new(push_down(input, below, est)), exprs };
    filter_above(rel, above, est)
}

/// Joins other than plain inner ones.
fn join(
    kind: JoinKind,
    left: Rel,
    right: Rel,
    on: Vec<Expr>,
    lateral: bool,
    conds: Vec<Expr>,
    est: &Estimator<'_>,
) -> Rel {
    let on: Vec<Expr> = on.into_iter().flat_map(split).collect();
    // The sides of a plan have no order, so a right join is a left join.
    if kind == JoinKind::Right {
        return join(JoinKind::Left, right, left, on, lateral, conds, est);
    }
    let (lcols, rcols) = (left.col_set(), right.col_set());
    let only = |c: &Expr, own: &ColSet, other: &ColSet| {
        let cols = c.cols();
        cols.intersects(own) && !cols.intersects(other) && !c.is_volatile()
    };
    let rejects = |cols: &ColSet| conds.iter().any(|c| rejects_nulls(c, cols));
    let stronger = match kind {
        JoinKind::Left if rejects(&rcols) => Some(JoinKind::Inner),
        JoinKind::Full => match (rejects(&lcols), rejects(&rcols)) {
            (true, true) => Some(JoinKind::Inner),
            (true, false) => Some(JoinKind::Left),
            (false, true) => Some(JoinKind::Right),
            (false, false) => None,
        },
        _ => None,
    };
    if let Some(kind) = stronger {
        let rel = Rel::Join { kind, left: Box::new(left), right: Box::new(right), on, lateral };
        return push_down(rel, conds, est);
    }
    match kind {
        JoinKind::Inner => {
            // Lateral: the right side depends on the left, so that the order stands.
            let mut all = conds;
            all.extend(on);
            let (to_left, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| only(c, &lcols, &rcols));
            let (to_right, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(|c| only(c, &rcols, &lcols));
            let (on, above) = subqueries_apart(rest);
            let left = Box::new(push_down(left, to_left, est));
            let right = Box::new(push_down(right, to_right, est));
            filter_above(Rel::Join { kind, left, right, on, lateral }, above, est)
        }
        JoinKind::Left => {
            let (to_left, above): (Vec<_>, Vec<_>) = conds.into_iter().partition(|c| only(c, &lcols, &rcols));
            let (to_right, on): (Vec<_>, Vec<_>) = on.into_iter().partition(|c| only(c, &rcols, &lcols));
            let left = Box::new(push_down(left, to_left, est));
            let right = Box::new(push_down(right, to_right, est));
            filter_above(Rel::Join { kind, left, right, on, lateral }, above, est)
        }
        JoinKind::Full | JoinKind::Right => {
            let left = Box::new(push_down(left, Vec::new(), est));
            let right = Box::new(push_down(right, Vec::new(), est));
            filter_above(Rel::Join { kind, left, right, on, lateral }, conds, est)
        }
        JoinKind::Semi | JoinKind::Anti | JoinKind::NullAwareAnti => {
            let (mut to_left, above) = split_volatile(conds);
            let mut on = on;
            let mut to_right = Vec::new();
            if kind != JoinKind::NullAwareAnti {
                (to_right, on) = on.into_iter().partition(|c| only(c, &rcols, &lcols));
            }
            if kind == JoinKind::Semi {
                let (more, rest): (Vec<_>, Vec<_>) = on.into_iter().partition(|c| only(c, &lcols, &rcols));
                to_left.extend(more);
                on = rest;
            }
            let left = Box::new(push_down(left, to_left, est));
            let right = Box::new(push_down(right, to_right, est));
            filter_above(Rel::Join { kind, left, right, on, lateral }, above, est)
        }
    }
}

/// Conditions with subqueries stay above joins, where they can become joins of their own.
fn subqueries_apart(conds: Vec<Expr>) -> (Vec<Expr>, Vec<Expr>) {
    conds.into_iter().partition(|c| !c.has_subquery())
}

/// Whether a condition can't be true where all of `cols` are NULL.
pub(super) fn rejects_nulls(c: &Expr, cols: &ColSet) -> bool {
    match c {
        Expr::And(parts) => parts.iter().any(|p| rejects_nulls(p, cols)),
        Expr::Or(parts) => parts.iter().all(|p| rejects_nulls(p, cols)),
        Expr::IsNull { input, negated: true } => is_null_on(input, cols),
        Expr::IsBool { input, negated: false, .. } => is_null_on(input, cols),
        Expr::Not(inner) => is_null_on(inner, cols),
        other => is_null_on(other, cols),
    }
}

/// Whether an expression is NULL wherever all of `cols` are.
fn is_null_on(e: &Expr, cols: &ColSet) -> bool {
    match e {
        Expr::Column { index, .. } => cols.contains(*index),
        Expr::Call { function, args } => function.def.strict && args.iter().any(|a| is_null_on(a, cols)),
        Expr::Cast { input, .. } | Expr::Not(input) => is_null_on(input, cols),
        Expr::InSet { input, .. } => is_null_on(input, cols),
        Expr::AnyAll { function, left, all: false, .. } => function.def.strict && is_null_on(left, cols),
        _ => false,
    }
}
