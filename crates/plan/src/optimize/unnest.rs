//! EXISTS and IN become joins.
//!
//! `EXISTS (q)` keeps a row when `q` has one: a semi join with `q`, if what `q` says about the outer row can be drawn out
//! of it into the join's condition. `x IN (q)` is the same with `x = column` added. Their negations are anti joins; that
//! of IN must heed NULLs unless neither side can be one.

use std::collections::HashMap;

use super::estimate::Estimator;
use super::push_down::push_down;
use crate::expr::Expr;
use crate::logical::{ColId, ColSet, Rel, Unplanned, UnplannedKind};
use crate::physical::JoinKind;

/// A semi or anti join that stands for a condition.
pub(super) struct SemiJoin {
    kind: JoinKind,
    right: Rel,
    on: Vec<Expr>,
}

/// Takes the conditions that can become joins.
pub(super) fn take(conds: Vec<Expr>) -> (Vec<Expr>, Vec<SemiJoin>) {
    let mut rest = Vec::with_capacity(conds.len());
    let mut semis = Vec::new();
    for c in conds {
        match semi_join(&c) {
            Some(s) => semis.push(s),
            None => rest.push(c),
        }
    }
    (rest, semis)
}

/// Joins them to the rows.
pub(super) fn apply(rel: Rel, semis: Vec<SemiJoin>, est: &Estimator<'_>) -> Rel {
    semis.into_iter().fold(rel, |left, s| {
        let rcols = s.right.col_set();
        let (to_right, on): (Vec<_>, Vec<_>) = s.on.into_iter().partition(|c| {
            let cols = c.cols();
            s.kind != JoinKind::NullAwareAnti && !cols.is_empty() && cols.is_subset(&rcols)
        });
        let right = Box::new(push_down(s.right, to_right, est));
        Rel::Join { kind: s.kind, left: Box::new(left), right, on, lateral: false }
    })
}

fn semi_join(c: &Expr) -> Option<SemiJoin> {
    match c {
        Expr::Unplanned(u) => positive(u),
        Expr::Not(inner) => match &**inner {
            Expr::Unplanned(u) => negative(u),
            _ => None,
        },
        _ => None,
    }
}

fn positive(u: &Unplanned) -> Option<SemiJoin> {
    let (right, on) = match u.kind {
        UnplannedKind::Exists => decorrelate(u.rel.clone(), &[], true)?,
        UnplannedKind::Any => {
            let mut condition = u.condition.clone()?;
            if u.left.iter().any(|l| l.has_subquery() || l.is_volatile()) {
                return None;
            }
            condition.substitute(&left_map(u));
            let (right, mut on) = decorrelate(u.rel.clone(), &u.cols, true)?;
            on.extend(super::push_down::split(condition));
            (right, on)
        }
        UnplannedKind::Scalar | UnplannedKind::All | UnplannedKind::Array => return None,
    };
    Some(SemiJoin { kind: JoinKind::Semi, right, on })
}

fn negative(u: &Unplanned) -> Option<SemiJoin> {
    match u.kind {
        UnplannedKind::Exists => {
            let (right, on) = decorrelate(u.rel.clone(), &[], true)?;
            Some(SemiJoin { kind: JoinKind::Anti, right, on })
        }
        UnplannedKind::Any => {
            // A NULL anywhere makes NOT IN reject the row, which the null-aware join knows only for one equality
            // and a right side that is the same for all rows.
            if !u.is_equality || u.left.len() != 1 || !u.rel.free_cols().is_empty() {
                return None;
            }
            if u.left[0].has_subquery() || u.left[0].is_volatile() {
                return None;
            }
            let mut condition = u.condition.clone()?;
            condition.substitute(&left_map(u));
            Some(SemiJoin { kind: JoinKind::NullAwareAnti, right: u.rel.clone(), on: vec![condition] })
        }
        UnplannedKind::Scalar | UnplannedKind::All | UnplannedKind::Array => None,
    }
}

fn left_map(u: &Unplanned) -> HashMap<ColId, Expr> {
    u.left_cols.iter().copied().zip(u.left.iter().cloned()).collect()
}

/// The relation without reference to outer columns, and the conditions that referred to them. `keep` are output columns
/// that must stay. `as_set`: only whether there are rows counts, not how many nor in what order.
fn decorrelate(rel: Rel, keep: &[ColId], as_set: bool) -> Option<(Rel, Vec<Expr>)> {
    let free = rel.free_cols();
    if free.is_empty() {
        return Some((rel, Vec::new()));
    }
    match rel {
        Rel::Filter { input, conds } => {
            let below = kept_below(keep, &conds);
            let (input, mut pulled) = decorrelate(*input, &below, as_set)?;
            let mut stay = Vec::new();
            for c in conds.into_iter().flat_map(super::push_down::split) {
                if c.cols().intersects(&free) {
                    if c.has_subquery() || c.is_volatile() {
                        return None;
                    }
                    pulled.push(c);
                } else {
                    stay.push(c);
                }
            }
            Some((input.filter(stay), pulled))
        }
        Rel::Project { input, exprs } => {
            let kept: Vec<(ColId, Expr)> = exprs.into_iter().filter(|(c, _)| keep.contains(c)).collect();
            if kept.iter().any(|(_, e)| e.cols().intersects(&free)) {
                return None;
            }
            let mut inner_keep = ColSet::new();
            kept.iter().for_each(|(_, e)| e.collect_cols(&mut inner_keep));
            let inner_keep: Vec<ColId> = inner_keep.iter().collect();
            let (input, pulled) = decorrelate(*input, &inner_keep, as_set)?;
            if kept.is_empty() {
                return Some((input, pulled));
            }
            // What the pulled conditions read must pass through.
            let mut exprs = kept;
            let mut used = ColSet::new();
            pulled.iter().for_each(|c| c.collect_cols(&mut used));
            for (c, t) in input.typed_cols() {
                if used.contains(c) && !exprs.iter().any(|(id, _)| *id == c) {
                    exprs.push((c, Expr::column(c, t)));
                }
            }
            Some((Rel::Project { input: Box::new(input), exprs }, pulled))
        }
        Rel::Join { kind: JoinKind::Inner, left, right, on, lateral: false } => {
            let below = kept_below(keep, &on);
            let (left, mut pulled) = decorrelate(*left, &below, as_set)?;
            let (right, more) = decorrelate(*right, &below, as_set)?;
            pulled.extend(more);
            let mut stay = Vec::new();
            for c in on.into_iter().flat_map(super::push_down::split) {
                if c.cols().intersects(&free) {
                    if c.has_subquery() || c.is_volatile() {
                        return None;
                    }
                    pulled.push(c);
                } else {
                    stay.push(c);
                }
            }
            let rel = Rel::Join {
                kind: JoinKind::Inner,
                left: Box::new(left),
                right: Box::new(right),
                on: stay,
                lateral: false,
            };
            Some((rel, pulled))
        }
        Rel::Sort { input, .. } | Rel::Distinct { input } if as_set => decorrelate(*input, keep, as_set),
        Rel::Limit { input, limit, offset: None }
            if as_set && keep.is_empty() && is_positive(limit.as_ref()) =>
        {
            decorrelate(*input, keep, as_set)
        }
        _ => None,
    }
}

/// The columns that must come out below conditions: those wanted above, and those that the conditions read.
fn kept_below(keep: &[ColId], conds: &[Expr]) -> Vec<ColId> {
    let mut cols = ColSet::from_cols(keep.iter().copied());
    conds.iter().for_each(|c| c.collect_cols(&mut cols));
    cols.iter().collect()
}

fn is_positive(limit: Option<&Expr>) -> bool {
    matches!(limit.and_then(Expr::as_const), Some(meridian_datum::Datum::Int(n)) if *n > 0)
}
