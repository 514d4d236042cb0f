//! The order of inner joins: greedy, smallest intermediate result first.
//!
//! A tree of inner joins and filters is taken apart into inputs and conditions. Conditions on one input go down into it;
//! equalities with constants spread along equalities between columns. Then inputs are joined one after the other: next
//! comes the one that a condition connects to what is joined already and that makes the fewest rows; a cross product
//! only when nothing is connected.

use super::estimate::{Estimator, equality_columns, strip_relabel};
use super::push_down::{filter_above, push_down, split};
use super::unnest;
use crate::expr::Expr;
use crate::logical::{ColId, ColSet, Rel};
use crate::physical::JoinKind;
use crate::same::same_expr;

/// An input of the joins.
struct Leaf {
    rel: Rel,
    cols: ColSet,
    rows: f64,
}

/// Orders a tree of inner joins, filtered by `conds`.
pub(super) fn inner_joins(rel: Rel, conds: Vec<Expr>, est: &Estimator<'_>) -> Rel {
    let mut inputs = Vec::new();
    let mut all: Vec<Expr> = conds.into_iter().flat_map(split).collect();
    flatten(rel, &mut inputs, &mut all);
    let (all, semis) = unnest::take(all);
    let mut all = all;
    spread_constants(&mut all);
    let cols: Vec<ColSet> = inputs.iter().map(Rel::col_set).collect();
    let mut own: Vec<Vec<Expr>> = inputs.iter().map(|_| Vec::new()).collect();
    let mut joins = Vec::new();
    let mut above = Vec::new();
    for c in all {
        let used = c.cols();
        let touched: Vec<usize> = (0..cols.len()).filter(|i| used.intersects(&cols[*i])).collect();
        match touched.as_slice() {
            [one] if !c.is_volatile() => own[*one].push(c),
            [] => above.push(c),
            _ if c.has_subquery() || c.is_volatile() => above.push(c),
            _ => joins.push(c),
        }
    }
    let leaves: Vec<Leaf> = inputs
        .into_iter()
        .zip(own)
        .zip(cols)
        .map(|((rel, conds), cols)| {
            let rel = push_down(rel, conds, est);
            Leaf { rows: est.rows(&rel), rel, cols }
        })
        .collect();
    let rel = order(leaves, joins, est);
    unnest::apply(filter_above(rel, above, est), semis, est)
}

fn flatten(rel: Rel, inputs: &mut Vec<Rel>, conds: &mut Vec<Expr>) {
    match rel {
        Rel::Join { kind: JoinKind::Inner, left, right, on, lateral: false } => {
            conds.extend(on.into_iter().flat_map(split));
            flatten(*left, inputs, conds);
            flatten(*right, inputs, conds);
        }
        Rel::Filter { input, conds: more } if !matches!(*input, Rel::Modify(_)) => {
            conds.extend(more.into_iter().flat_map(split));
            flatten(*input, inputs, conds);
        }
        other => inputs.push(other),
    }
}

/// From `a = b` and `a = 1` follows `b = 1`.
fn spread_constants(conds: &mut Vec<Expr>) {
    let pairs: Vec<(ColId, ColId, Expr)> =
        conds.iter().filter_map(|c| equality_columns(c).map(|(a, b)| (a, b, c.clone()))).collect();
    if pairs.is_empty() {
        return;
    }
    // Bounded: each round spreads one step along the equalities.
    for _ in 0..pairs.len().min(16) {
        let mut added = Vec::new();
        for c in conds.iter() {
            let Expr::Call { function, args } = c else { continue };
            if function.def.name != "=" || args.len() != 2 {
                continue;
            }
            let (Expr::Column { index, ty }, value @ (Expr::Const(..) | Expr::Param { .. })) =
                (&args[0], &args[1])
            else {
                continue;
            };
            for (a, b, pair) in &pairs {
                let other = if a == index {
                    *b
                } else if b == index {
                    *a
                } else {
                    continue;
                };
                let Expr::Call { args: sides, .. } = pair else { continue };
                let same_types =
                    sides.iter().all(|s| matches!(s, Expr::Column { ty: t, .. } if t.same_type(ty)));
                if !same_types {
                    continue;
                }
                let other_ty = sides
                    .iter()
                    .find_map(|s| match strip_relabel(s) {
                        Expr::Column { index, ty } if *index == other => Some(ty.clone()),
                        _ => None,
                    })
                    .unwrap_or_else(|| ty.clone());
                let implied = Expr::Call {
                    function: function.clone(),
                    args: vec![Expr::column(other, other_ty), value.clone()],
                };
                if !conds.iter().chain(&added).any(|k| same_expr(k, &implied)) {
                    added.push(implied);
                }
            }
        }
        if added.is_empty() {
            return;
        }
        conds.extend(added);
    }
}

fn order(leaves: Vec<Leaf>, joins: Vec<Expr>, est: &Estimator<'_>) -> Rel {
    let mut rest = leaves;
    let first = smallest(&rest);
    let mut acc = rest.swap_remove(first);
    let mut joins: Vec<(Expr, ColSet)> = joins
        .into_iter()
        .map(|c| {
            let cols = c.cols();
            (c, cols)
        })
        .collect();
    while !rest.is_empty() {
        let next = pick(&acc, &rest, &joins, est);
        let leaf = rest.swap_remove(next);
        let mut cols = acc.cols.clone();
        cols.union(&leaf.cols);
        // A condition is due once every input that it reads and that takes part here is joined.
        let pending = |c: &ColSet| rest.iter().any(|l| c.intersects(&l.cols));
        let (due, later): (Vec<_>, Vec<_>) = joins.into_iter().partition(|(_, c)| !pending(c));
        joins = later;
        let on: Vec<Expr> = due.into_iter().map(|(c, _)| c).collect();
        let rows = est.join_rows(JoinKind::Inner, acc.rows, leaf.rows, &on, &acc.rel, &leaf.rel);
        let rel = Rel::Join {
            kind: JoinKind::Inner,
            left: Box::new(acc.rel),
            right: Box::new(leaf.rel),
            on,
            lateral: false,
        };
        acc = Leaf { rel, cols, rows };
    }
    acc.rel.filter(joins.into_iter().map(|(c, _)| c).collect())
}

fn smallest(leaves: &[Leaf]) -> usize {
    (0..leaves.len())
        .min_by(|a, b| leaves[*a].rows.total_cmp(&leaves[*b].rows).then(a.cmp(b)))
        .expect("a join has inputs")
}

/// The next input: connected if any is, and with the fewest rows after the join.
fn pick(acc: &Leaf, rest: &[Leaf], joins: &[(Expr, ColSet)], est: &Estimator<'_>) -> usize {
    let mut best: Option<(usize, bool, f64)> = None;
    for (i, leaf) in rest.iter().enumerate() {
        let usable: Vec<Expr> = joins
            .iter()
            .filter(|(_, c)| {
                c.intersects(&leaf.cols)
                    && c.intersects(&acc.cols)
                    && !rest.iter().enumerate().any(|(j, l)| j != i && c.intersects(&l.cols))
            })
            .map(|(c, _)| c.clone())
            .collect();
        let connected = usable.iter().any(|c| equality_columns(c).is_some()) || !usable.is_empty();
        let rows = est.join_rows(JoinKind::Inner, acc.rows, leaf.rows, &usable, &acc.rel, &leaf.rel);
        let better = match best {
            None => true,
            Some((_, c, r)) => connected && !c || connected == c && rows < r,
        };
        if better {
            best = Some((i, connected, rows));
        }
    }
    best.expect("called with inputs left").0
}
