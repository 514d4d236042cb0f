//! Joins: by key, by hash, by trying all pairs, or by running the right side for every left row.

use meridian_catalog::{IndexDesc, IndexState};
use meridian_datum::{DataType, Result};
use meridian_kv_api::Locking;

use super::access::types_of;
use super::partial::{self, Row, all_implied};
use super::{Ask, Lowered, Lowerer, plan};
use crate::expr::Expr;
use crate::logical::{ColId, ColSet, Get, Rel};
use crate::physical::{Apply, HashJoin, JoinKind, LookupJoin, NestedLoopJoin, Operator};
use crate::same::same_expr;

/// What reading one inner row by key costs, in rows read in order. Lookups are batched, so it is no round trip.
const LOOKUP_COST: f64 = 4.0;

/// An equality between the sides: left expression, right expression.
type Pair = (Expr, Expr);

impl Lowerer<'_> {
    pub(super) fn join(
        &mut self,
        kind: JoinKind,
        left: &Rel,
        right: &Rel,
        on: &[Expr],
        lateral: bool,
        ask: &Ask,
    ) -> Result<Lowered> {
        let mut needed = ask.needed.clone();
        on.iter().for_each(|c| c.collect_cols(&mut needed));
        if lateral {
            return self.apply(kind, left, right, on, needed);
        }
        let (lcols, rcols) = (left.all_cols(), right.all_cols());
        let (pairs, rest) = equalities(on, &lcols, &rcols);
        if let Some(l) = self.lookup(kind, left, right, &pairs, &rest, &needed)? {
            return Ok(l);
        }
        if kind == JoinKind::Inner {
            let swapped: Vec<Pair> = pairs.iter().map(|(l, r)| (r.clone(), l.clone())).collect();
            if let Some(l) = self.lookup(kind, right, left, &swapped, &rest, &needed)? {
                return Ok(l);
            }
        }
        if kind == JoinKind::Semi
            && rest.is_empty()
            && let Some(l) = self.semi_lookup(left, right, &pairs, &ask.needed)?
        {
            return Ok(l);
        }
        let l = self.rel(left, Ask::columns(needed.clone()))?;
        let r = self.rel(right, Ask::columns(needed))?;
        if pairs.is_empty() {
            return self.nested_loop(kind, l, r, on);
        }
        // The smaller side is kept in memory.
        let swap = kind == JoinKind::Inner && l.plan.rows < r.plan.rows;
        let (l, r, pairs) =
            if swap { (r, l, pairs.into_iter().map(|(a, b)| (b, a)).collect()) } else { (l, r, pairs) };
        self.hash(kind, l, r, pairs, &rest)
    }

    fn hash(
        &mut self,
        kind: JoinKind,
        l: Lowered,
        r: Lowered,
        pairs: Vec<Pair>,
        rest: &[Expr],
    ) -> Result<Lowered> {
        let mut left_keys = Vec::with_capacity(pairs.len());
        let mut right_keys = Vec::with_capacity(pairs.len());
        for (a, b) in &pairs {
            left_keys.push(self.expr(a, &l.cols)?);
            right_keys.push(self.expr(b, &r.cols)?);
        }
        let both: Vec<ColId> = l.cols.iter().chain(&r.cols).copied().collect();
        let on = self.conjunction(rest, &both)?;
        let rows = match kind {
            JoinKind::Inner => (l.plan.rows * r.plan.rows / l.plan.rows.max(r.plan.rows).max(1.0)).max(1.0),
            _ => l.plan.rows,
        };
        let (types, cols) = output(kind, &l, &r);
        let node = HashJoin { kind, left: l.plan, right: r.plan, left_keys, right_keys, on };
        Ok(Lowered { plan: plan(Operator::HashJoin(Box::new(node)), types, rows), cols, ordered: false })
    }

    fn nested_loop(&mut self, kind: JoinKind, l: Lowered, r: Lowered, on: &[Expr]) -> Result<Lowered> {
        let both: Vec<ColId> = l.cols.iter().chain(&r.cols).copied().collect();
        let on = self.conjunction(on, &both)?;
        let rows = (l.plan.rows * r.plan.rows).max(1.0);
        let (types, cols) = output(kind, &l, &r);
        let node = NestedLoopJoin { kind, left: l.plan, right: r.plan, on };
        Ok(Lowered {
            plan: plan(Operator::NestedLoopJoin(Box::new(node)), types, rows),
            cols,
            ordered: false,
        })
    }

    fn apply(
        &mut self,
        kind: JoinKind,
        left: &Rel,
        right: &Rel,
        on: &[Expr],
        needed: ColSet,
    ) -> Result<Lowered> {
        let mut left_needed = needed.clone();
        left_needed.union(&right.free_cols());
        let l = self.rel(left, Ask::columns(left_needed))?;
        self.frames.push(Vec::new());
        let r = self.rel(right, Ask::columns(needed));
        let frame = self.frames.pop().expect("pushed above");
        let r = r?;
        let args = self.frame_args(frame, &l.cols)?;
        let both: Vec<ColId> = l.cols.iter().chain(&r.cols).copied().collect();
        let on = self.conjunction(on, &both)?;
        let rows = (l.plan.rows * r.plan.rows).max(1.0);
        let (types, cols) = output(kind, &l, &r);
        let node = Apply { kind, left: l.plan, right: r.plan, args, on };
        Ok(Lowered { plan: plan(Operator::Apply(Box::new(node)), types, rows), cols, ordered: false })
    }

    /// A semi join from the other side: the right side's distinct keys look up the rows of the left, a table with an
    /// index on them. Few keys then read few rows, which matters most where rows are locked as they are read.
    fn semi_lookup(
        &mut self,
        left: &Rel,
        right: &Rel,
        pairs: &[Pair],
        needed: &ColSet,
    ) -> Result<Option<Lowered>> {
        if pairs.is_empty() || !left.free_cols().is_empty() {
            return Ok(None);
        }
        let mut keys: Vec<(ColId, Expr)> = Vec::with_capacity(pairs.len());
        for (_, r) in pairs {
            let Expr::Column { index, .. } = r else { return Ok(None) };
            if !keys.iter().any(|(c, _)| c == index) {
                keys.push((*index, r.clone()));
            }
        }
        if self.est.rows(right) * 2.0 > self.est.rows(left) {
            return Ok(None);
        }
        let project = Rel::Project { input: Box::new(right.clone()), exprs: keys };
        let distinct = Rel::Distinct { input: Box::new(project) };
        let swapped: Vec<Pair> = pairs.iter().map(|(l, r)| (r.clone(), l.clone())).collect();
        self.lookup(JoinKind::Inner, &distinct, left, &swapped, &[], needed)
    }

    /// A join whose inner side is a table with an index on what the rows are joined by, where reading it row by row costs
    /// less than reading all of it.
    fn lookup(
        &mut self,
        kind: JoinKind,
        left: &Rel,
        right: &Rel,
        pairs: &[Pair],
        rest: &[Expr],
        needed: &ColSet,
    ) -> Result<Option<Lowered>> {
        if !matches!(kind, JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti) {
            return Ok(None);
        }
        let (get, conds) = match right {
            Rel::Get(g) => (g, &[][..]),
            Rel::Filter { input, conds } => match &**input {
                Rel::Get(g) => (g, conds.as_slice()),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        if conds.iter().any(Expr::has_subquery) || !self.frames.is_empty() && reads_outer(conds, get) {
            return Ok(None);
        }
        let Some((index, key)) = self.best_index(get, pairs, conds)? else { return Ok(None) };
        let total = self.est.table_rows(&get.table);
        let left_rows = self.est.rows(left);
        let is_point = index.unique && key.len() == index.columns.len();
        let per_row = if is_point { 1.0 } else { (total * 0.005f64.powi(key.len() as i32)).max(1.0) };
        let inner_rows = self.est.rows(right);
        if left_rows * (LOOKUP_COST + per_row) >= inner_rows + left_rows && get.locking == Locking::SHARED {
            return Ok(None);
        }
        let (index_id, key_exprs): (_, Vec<Expr>) = (index.id, key.iter().map(|(e, _)| e.clone()).collect());
        let mut left_needed = needed.clone();
        for e in &key_exprs {
            e.collect_cols(&mut left_needed);
        }
        let l = self.rel(left, Ask::columns(left_needed))?;
        // What the key does not say is checked afterwards.
        let mut on: Vec<Expr> = rest.to_vec();
        for (i, (a, b)) in pairs.iter().enumerate() {
            if !key.iter().any(|(_, p)| *p == Some(i)) {
                on.push(equal(a, b)?);
            }
        }
        on.extend(conds.iter().cloned());
        let mut read = needed.clone();
        on.iter().for_each(|c| c.collect_cols(&mut read));
        let ordinals: Vec<usize> = (0..get.cols.len()).filter(|i| read.contains(get.cols[*i])).collect();
        let inner_cols: Vec<ColId> = ordinals.iter().map(|o| get.cols[*o]).collect();
        let both: Vec<ColId> = l.cols.iter().chain(&inner_cols).copied().collect();
        let key = self.exprs(&key_exprs, &l.cols)?;
        let on = self.conjunction(&on, &both)?;
        let mut types = l.plan.types.to_vec();
        let mut cols = l.cols;
        if kind.emits_right() {
            types.extend(types_of(get, &ordinals));
            cols.extend(inner_cols);
        }
        let rows = (l.plan.rows * per_row).max(1.0);
        let node = LookupJoin {
            input: l.plan,
            kind,
            table: get.table.clone(),
            index: index_id,
            key,
            is_point,
            columns: ordinals,
            on,
            locking: get.locking,
            for_update: get.for_update,
        };
        let plan = plan(Operator::LookupJoin(Box::new(node)), types, rows);
        Ok(Some(Lowered { plan, cols, ordered: false }))
    }

    /// The index whose first columns are most fixed by equalities with the left side or with constants. The key's
    /// expressions come with the pair that each stands for.
    fn best_index<'g>(
        &self,
        get: &'g Get,
        pairs: &[Pair],
        conds: &[Expr],
    ) -> Result<Option<(&'g IndexDesc, Vec<(Expr, Option<usize>)>)>> {
        let own = ColSet::from_cols(get.cols.iter().copied());
        let virtuals = partial::virtuals(self.snapshot, get)?;
        let mut best: Option<(&IndexDesc, Vec<(Expr, Option<usize>)>, bool)> = None;
        for index in get.table.all_indexes().filter(|i| i.state == IndexState::Public) {
            let mut key = Vec::new();
            let mut joined = false;
            for o in get.table.index_ordinals(index) {
                let col = get.col(o);
                let known = virtuals.iter().find(|(c, _)| *c == col).map(|(_, e)| e);
                let is = |e: &Expr| match known {
                    Some(known) => same_expr(e, known),
                    None => {
                        matches!(crate::optimize::strip_relabel(e), Expr::Column { index, .. } if *index == col)
                    }
                };
                let char_typed = matches!(get.table.part_type(o), DataType::Char(_));
                let pair = pairs.iter().position(|(_, r)| is(r)).filter(|_| !char_typed);
                if let Some(p) = pair {
                    key.push((pairs[p].0.clone(), Some(p)));
                    joined = true;
                    continue;
                }
                let constant = conds.iter().find_map(|c| match c {
                    Expr::Call { function, args } if function.def.name == "=" && args.len() == 2 => {
                        let fixed = |e: &Expr| matches!(e, Expr::Const(..) | Expr::Param { .. });
                        if is(&args[0]) && fixed(&args[1]) && !char_typed {
                            Some(args[1].clone())
                        } else {
                            None
                        }
                    }
                    _ => None,
                });
                match constant {
                    Some(e) if !e.cols().intersects(&own) => key.push((e, None)),
                    _ => break,
                }
            }
            if !joined || !self.has_all(get, index, pairs, conds)? {
                continue;
            }
            let whole = index.unique && key.len() == index.columns.len();
            let better = best.as_ref().is_none_or(|(_, k, w)| (whole, key.len()) > (*w, k.len()));
            if better {
                best = Some((index, key, whole));
            }
        }
        Ok(best.map(|(i, k, _)| (i, k)))
    }

    /// Whether an index has an entry for every row that the join may match.
    fn has_all(&self, get: &Get, index: &IndexDesc, pairs: &[Pair], conds: &[Expr]) -> Result<bool> {
        if index.predicate.is_none() {
            return Ok(true);
        }
        let mut known = conds.to_vec();
        for (l, r) in pairs {
            known.push(equal(l, r)?);
        }
        Ok(all_implied(Row::of(get), &known, &partial::predicate(self.snapshot, Row::of(get), index)?))
    }
}

fn reads_outer(conds: &[Expr], get: &Get) -> bool {
    let own = ColSet::from_cols(get.cols.iter().copied());
    conds.iter().any(|c| !c.cols().is_subset(&own))
}

/// Equalities between the sides whose values hash alike, and the other conditions.
fn equalities(on: &[Expr], left: &ColSet, right: &ColSet) -> (Vec<Pair>, Vec<Expr>) {
    let mut pairs = Vec::new();
    let mut rest = Vec::new();
    for c in on {
        if let Expr::Call { function, args } = c
            && function.def.name == "="
            && args.len() == 2
            && hashable(&function.arg_types)
            && !c.has_subquery()
        {
            let (a, b) = (args[0].cols(), args[1].cols());
            let side = |x: &ColSet, own: &ColSet, other: &ColSet| x.intersects(own) && !x.intersects(other);
            if side(&a, left, right) && side(&b, right, left) {
                pairs.push((args[0].clone(), args[1].clone()));
                continue;
            }
            if side(&b, left, right) && side(&a, right, left) {
                pairs.push((args[1].clone(), args[0].clone()));
                continue;
            }
        }
        rest.push(c.clone());
    }
    (pairs, rest)
}

/// Both arguments have one representation, so that equal values hash alike.
fn hashable(types: &[DataType]) -> bool {
    let integer = |t: &DataType| t.is_integer() || t.is_oid_like();
    let text = |t: &DataType| matches!(t, DataType::Text | DataType::Varchar(_) | DataType::Name);
    matches!(types, [a, b] if a.same_type(b) || integer(a) && integer(b) || text(a) && text(b))
}

/// `a = b` again, for a pair that the key of a lookup does not cover.
fn equal(a: &Expr, b: &Expr) -> Result<Expr> {
    let function = meridian_datum::lookup_operator("=", Some(&a.ty()), &b.ty())?;
    Ok(Expr::Call { function: std::sync::Arc::new(function), args: vec![a.clone(), b.clone()] })
}

fn output(kind: JoinKind, l: &Lowered, r: &Lowered) -> (Vec<DataType>, Vec<ColId>) {
    let mut types = l.plan.types.to_vec();
    let mut cols = l.cols.clone();
    if kind.emits_right() {
        types.extend(r.plan.types.iter().cloned());
        cols.extend(r.cols.iter().copied());
    }
    (types, cols)
}
