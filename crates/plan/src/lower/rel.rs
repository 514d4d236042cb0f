//! Operators, but for joins and writes.

use meridian_datum::{DataType, Datum, Result};

use super::{Ask, Lowered, Lowerer, plan, position, project};
use crate::expr::Expr;
use crate::logical::{ColId, ColSet, LogicalAggregate, LogicalRecursive, LogicalSetOp, Order, Rel};
use crate::physical::{
    Aggregate, AggregateCall, FrameBound, Operator, RecursiveUnion, SetOpKind, SortKey, TableFunction,
    Window, WindowCall,
};
use crate::same::same_expr;

impl Lowerer<'_> {
    pub(super) fn rel(&mut self, rel: &Rel, ask: Ask) -> Result<Lowered> {
        match rel {
            Rel::Get(g) => self.table(g, &[], ask),
            Rel::Filter { input, conds } => self.filter(input, conds, ask),
            Rel::Virtual { table, cols } => Ok(self.virtual_scan(table, cols, &ask.needed)),
            Rel::Values { cols, rows } => self.values(cols, rows, &ask.needed),
            Rel::Function { function, args, ordinality, cols } => {
                let types = rel.typed_cols().into_iter().map(|(_, t)| t).collect();
                let function = match function {
                    crate::physical::SetFunction::Scalar(e) => {
                        crate::physical::SetFunction::Scalar(self.expr(e, &[])?)
                    }
                    other => other.clone(),
                };
                let args = self.exprs(args, &[])?;
                let f = TableFunction { function, args, ordinality: *ordinality };
                let plan = plan(Operator::TableFunction(Box::new(f)), types, 100.0);
                Ok(Lowered { plan, cols: cols.clone(), ordered: false })
            }
            Rel::Cte { index, cols, types } => {
                let rows = self.cte_rows.get(*index).copied().unwrap_or(1_000.0);
                let plan = plan(Operator::CteScan { index: *index }, types.clone(), rows);
                Ok(Lowered { plan, cols: cols.clone(), ordered: false })
            }
            Rel::Recursive(r) => self.recursive(r),
            Rel::Work { index, cols, types } => {
                let plan = plan(Operator::WorkScan { index: *index }, types.clone(), 10.0);
                Ok(Lowered { plan, cols: cols.clone(), ordered: false })
            }
            Rel::Project { input, exprs } => self.project(input, exprs, ask),
            Rel::Join { kind, left, right, on, lateral } => self.join(*kind, left, right, on, *lateral, &ask),
            Rel::Aggregate(a) => self.aggregate(a, &ask),
            Rel::Window { input, partition, order, functions } => {
                self.window(input, partition, order, functions, &ask)
            }
            Rel::Distinct { input } => {
                // All columns tell rows apart, also those that nobody reads above.
                let lowered = self.rel(input, Ask::columns(input.col_set()))?;
                let rows = self.est.rows(rel);
                let types = lowered.plan.types.to_vec();
                let plan = plan(Operator::Distinct { input: Box::new(lowered.plan) }, types, rows);
                Ok(Lowered { plan, cols: lowered.cols, ordered: false })
            }
            Rel::DistinctOn { input, keys, order } => self.distinct_on(input, keys, order, ask),
            Rel::Sort { input, keys } => self.sort(input, keys, ask),
            Rel::Limit { input, limit, offset } => self.limit(input, limit.as_ref(), offset.as_ref(), ask),
            Rel::SetOp(s) => self.set_op(s, rel),
            Rel::Modify(m) => self.modify(m),
        }
    }

    fn filter(&mut self, input: &Rel, conds: &[Expr], ask: Ask) -> Result<Lowered> {
        if let Rel::Get(g) = input {
            return self.table(g, conds, ask);
        }
        let mut needed = ask.needed.clone();
        conds.iter().for_each(|c| c.collect_cols(&mut needed));
        let lowered = self.rel(input, Ask { needed, limit: None, ..ask })?;
        let selectivity: f64 = conds.iter().map(crate::optimize::selectivity).product();
        let rows = (lowered.plan.rows * selectivity).max(1.0);
        let condition = self.conjunction(conds, &lowered.cols)?.expect("a filter has conditions");
        let types = lowered.plan.types.to_vec();
        let plan = match lowered.plan.op {
            // Virtual tables filter as they are made.
            Operator::VirtualScan { table, columns, filter: None } if !condition.has_subquery() => {
                plan(Operator::VirtualScan { table, columns, filter: Some(condition) }, types, rows)
            }
            _ => plan(Operator::Filter { input: Box::new(lowered.plan), condition }, types, rows),
        };
        Ok(Lowered { plan, cols: lowered.cols, ordered: lowered.ordered })
    }

    fn virtual_scan(
        &mut self,
        table: &std::sync::Arc<meridian_catalog::VirtualTable>,
        cols: &[ColId],
        needed: &ColSet,
    ) -> Lowered {
        let columns: Vec<usize> = (0..cols.len()).filter(|i| needed.contains(cols[*i])).collect();
        let types = columns.iter().map(|i| table.columns[*i].ty.clone()).collect();
        let out = columns.iter().map(|i| cols[*i]).collect();
        let op = Operator::VirtualScan { table: table.clone(), columns, filter: None };
        Lowered { plan: plan(op, types, 100.0), cols: out, ordered: false }
    }

    fn values(&mut self, cols: &[ColId], rows: &[Vec<Expr>], needed: &ColSet) -> Result<Lowered> {
        let keep: Vec<usize> = (0..cols.len()).filter(|i| needed.contains(cols[*i])).collect();
        let mut out = Vec::with_capacity(rows.len());
        for r in rows {
            out.push(keep.iter().map(|i| self.expr(&r[*i], &[])).collect::<Result<Vec<_>>>()?);
        }
        let types: Vec<DataType> =
            keep.iter().map(|i| rows.first().map_or(DataType::Text, |r| r[*i].ty())).collect();
        let count = rows.len() as f64;
        let cols = keep.iter().map(|i| cols[*i]).collect();
        Ok(Lowered { plan: plan(Operator::Values { rows: out }, types, count), cols, ordered: false })
    }

    fn project(&mut self, input: &Rel, exprs: &[(ColId, Expr)], ask: Ask) -> Result<Lowered> {
        let kept: Vec<&(ColId, Expr)> =
            exprs.iter().filter(|(c, e)| ask.needed.contains(*c) || e.is_volatile()).collect();
        let mut needed = ColSet::new();
        kept.iter().for_each(|(_, e)| e.collect_cols(&mut needed));
        // An order by plain columns is the input's order, and so may be one by what an index has among its columns.
        let mut order: Option<Vec<Order>> = Some(Vec::with_capacity(ask.order.len()));
        for o in &ask.order {
            let col = match exprs.iter().find(|(c, _)| *c == o.col) {
                Some((_, Expr::Column { index, .. })) => Some(*index),
                Some((_, e)) => self.indexed_expression(input, e)?,
                None => None,
            };
            order = order.zip(col).map(|(mut order, col)| {
                order.push(Order { col, ..*o });
                order
            });
        }
        let below = Ask {
            needed,
            order: order.clone().unwrap_or_default(),
            limit: ask.limit.clone().filter(|_| order.is_some()),
            ..ask
        };
        let lowered = self.rel(input, below)?;
        let cols: Vec<ColId> = kept.iter().map(|(c, _)| *c).collect();
        let ordered = lowered.ordered && order.is_some();
        let pass = kept.len() == lowered.cols.len()
            && kept
                .iter()
                .zip(&lowered.cols)
                .all(|((_, e), c)| matches!(e, Expr::Column { index, .. } if index == c));
        if pass {
            return Ok(Lowered { plan: lowered.plan, cols, ordered });
        }
        let rows = lowered.plan.rows;
        let exprs = kept.iter().map(|(_, e)| self.expr(e, &lowered.cols)).collect::<Result<Vec<_>>>()?;
        Ok(Lowered { plan: project(lowered.plan, exprs, rows), cols, ordered })
    }

    /// The identity under which the indexes of a table that is read know an expression.
    fn indexed_expression(&self, input: &Rel, e: &Expr) -> Result<Option<ColId>> {
        let get = match input {
            Rel::Get(get) => get,
            Rel::Filter { input, .. } => match &**input {
                Rel::Get(get) => get,
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let known = super::partial::virtuals(self.snapshot, get)?;
        Ok(known.into_iter().find(|(_, known)| same_expr(known, e)).map(|(col, _)| col))
    }

    fn aggregate(&mut self, a: &LogicalAggregate, ask: &Ask) -> Result<Lowered> {
        if let Some(l) = self.extremum_by_index(a)? {
            return Ok(l);
        }
        let aggs: Vec<&(ColId, AggregateCall)> =
            a.aggs.iter().filter(|(c, _)| ask.needed.contains(*c)).collect();
        let mut needed = ColSet::new();
        a.keys.iter().for_each(|(_, e)| e.collect_cols(&mut needed));
        for (_, c) in &aggs {
            c.args.iter().chain(&c.order_args).chain(&c.filter).for_each(|e| e.collect_cols(&mut needed));
        }
        // Groups that arrive one after the other need no table.
        let key_order: Option<Vec<Order>> = a
            .keys
            .iter()
            .map(|(_, e)| match e {
                Expr::Column { index, .. } => {
                    Some(Order { col: *index, descending: false, nulls_first: false })
                }
                _ => None,
            })
            .collect();
        let order = match (&a.sets, key_order) {
            (None, Some(o)) => o,
            _ => Vec::new(),
        };
        let wants_order = !order.is_empty();
        let input = self.rel(&a.input, Ask { needed, order, ..Ask::default() })?;
        let mut group_by = Vec::with_capacity(a.keys.len());
        for (_, e) in &a.keys {
            group_by.push(self.expr(e, &input.cols)?);
        }
        let mut calls = Vec::with_capacity(aggs.len());
        for (_, c) in &aggs {
            calls.push(AggregateCall {
                function: c.function.clone(),
                name: c.name.clone(),
                args: self.exprs(&c.args, &input.cols)?,
                distinct: c.distinct,
                filter: c.filter.as_ref().map(|f| self.expr(f, &input.cols)).transpose()?,
                order_by: c.order_by.clone(),
                order_args: self.exprs(&c.order_args, &input.cols)?,
            });
        }
        let mut types: Vec<DataType> = group_by.iter().map(Expr::ty).collect();
        types.extend(calls.iter().map(|c| c.function.result_type.clone()));
        let cols = a.keys.iter().map(|(c, _)| *c).chain(aggs.iter().map(|(c, _)| *c)).collect();
        let rows = if a.keys.is_empty() { 1.0 } else { (input.plan.rows / 10.0).max(1.0) };
        let node = Aggregate {
            input_sorted: wants_order && input.ordered,
            input: input.plan,
            group_by,
            grouping_sets: a.sets.clone(),
            aggregates: calls,
        };
        Ok(Lowered { plan: plan(Operator::Aggregate(Box::new(node)), types, rows), cols, ordered: false })
    }

    /// `min(x)` and `max(x)` of a whole table read one end of an index.
    fn extremum_by_index(&mut self, a: &LogicalAggregate) -> Result<Option<Lowered>> {
        let [(col, call)] = a.aggs.as_slice() else { return Ok(None) };
        let descending = match &*call.name {
            "max" => true,
            "min" => false,
            _ => return Ok(None),
        };
        if !a.keys.is_empty() || a.sets.is_some() || call.filter.is_some() {
            return Ok(None);
        }
        let [Expr::Column { index: arg, ty }] = call.args.as_slice() else { return Ok(None) };
        let (get, conds) = match &a.input {
            Rel::Get(g) => (g, &[][..]),
            Rel::Filter { input, conds } => match &**input {
                Rel::Get(g) => (g, conds.as_slice()),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Some(ordinal) = position(&get.cols, *arg) else { return Ok(None) };
        let mut conds = conds.to_vec();
        if get.table.columns[ordinal].nullable {
            conds.push(Expr::IsNull { input: Box::new(Expr::column(*arg, ty.clone())), negated: true });
        }
        let order = vec![Order { col: *arg, descending, nulls_first: descending }];
        let one = Expr::Const(Datum::Int(1), DataType::Int8);
        let ask = Ask { needed: ColSet::from_cols([*arg]), order, must_sort: true, limit: Some(one.clone()) };
        let scan = self.table(get, &conds, ask)?;
        if !scan.ordered {
            return Ok(None);
        }
        // One row at most goes into the aggregate, which makes NULL of none.
        let types = scan.plan.types.to_vec();
        let cols = scan.cols.clone();
        let limited =
            plan(Operator::Limit { input: Box::new(scan.plan), limit: Some(one), offset: None }, types, 1.0);
        let mut lowered_call = call.clone();
        lowered_call.args = self.exprs(&call.args, &cols)?;
        let types = vec![call.function.result_type.clone()];
        let node = Aggregate {
            input: limited,
            group_by: Vec::new(),
            grouping_sets: None,
            aggregates: vec![lowered_call],
            input_sorted: false,
        };
        let plan = plan(Operator::Aggregate(Box::new(node)), types, 1.0);
        Ok(Some(Lowered { plan, cols: vec![*col], ordered: false }))
    }

    fn window(
        &mut self,
        input: &Rel,
        partition: &[ColId],
        order: &[Order],
        functions: &[(ColId, WindowCall)],
        ask: &Ask,
    ) -> Result<Lowered> {
        let mut needed = ask.needed.clone();
        needed.extend(partition.iter().copied().chain(order.iter().map(|o| o.col)));
        for (_, f) in functions {
            f.args.iter().chain(&f.filter).for_each(|e| e.collect_cols(&mut needed));
        }
        let input = self.rel(input, Ask::columns(needed))?;
        let at = |c: ColId| position(&input.cols, c).expect("asked for above");
        let partition_by = partition.iter().map(|c| at(*c)).collect();
        let order_by = order
            .iter()
            .map(|o| SortKey { column: at(o.col), descending: o.descending, nulls_first: o.nulls_first })
            .collect();
        let mut calls = Vec::with_capacity(functions.len());
        for (_, f) in functions {
            let mut call = f.clone();
            call.args = self.exprs(&f.args, &input.cols)?;
            call.filter = f.filter.as_ref().map(|e| self.expr(e, &input.cols)).transpose()?;
            for bound in [&mut call.frame.start, &mut call.frame.end] {
                if let FrameBound::Preceding(e) | FrameBound::Following(e) = bound {
                    *e = self.expr(e, &[])?;
                }
            }
            calls.push(call);
        }
        let mut types = input.plan.types.to_vec();
        types.extend(functions.iter().map(|(_, f)| f.ty.clone()));
        let mut cols = input.cols;
        cols.extend(functions.iter().map(|(c, _)| *c));
        let rows = input.plan.rows;
        let node = Window { input: input.plan, partition_by, order_by, functions: calls };
        Ok(Lowered { plan: plan(Operator::Window(Box::new(node)), types, rows), cols, ordered: false })
    }

    fn distinct_on(&mut self, input: &Rel, keys: &[ColId], order: &[Order], ask: Ask) -> Result<Lowered> {
        let mut needed = ask.needed;
        needed.extend(keys.iter().copied().chain(order.iter().map(|o| o.col)));
        let lowered = self.rel(input, Ask { needed, order: order.to_vec(), must_sort: true, limit: None })?;
        let lowered = sorted(lowered, order);
        let keys = keys.iter().map(|c| position(&lowered.cols, *c).expect("asked for above")).collect();
        let types = lowered.plan.types.to_vec();
        let rows = (lowered.plan.rows / 10.0).max(1.0);
        let plan = plan(Operator::DistinctOn { input: Box::new(lowered.plan), keys }, types, rows);
        Ok(Lowered { plan, cols: lowered.cols, ordered: false })
    }

    fn sort(&mut self, input: &Rel, keys: &[Order], ask: Ask) -> Result<Lowered> {
        let mut needed = ask.needed;
        needed.extend(keys.iter().map(|k| k.col));
        let below = Ask { needed, order: keys.to_vec(), must_sort: true, limit: ask.limit };
        let lowered = self.rel(input, below)?;
        let ordered = ask.order.is_empty() || ask.order == keys;
        Ok(Lowered { ordered, ..sorted(lowered, keys) })
    }

    fn limit(
        &mut self,
        input: &Rel,
        limit: Option<&Expr>,
        offset: Option<&Expr>,
        ask: Ask,
    ) -> Result<Lowered> {
        let wanted = match (limit, offset) {
            (Some(l), None) => Some(l.clone()),
            (Some(Expr::Const(Datum::Int(l), t)), Some(Expr::Const(Datum::Int(o), _))) => {
                Some(Expr::Const(Datum::Int(l.saturating_add(*o)), t.clone()))
            }
            _ => None,
        };
        let below = Ask { limit: wanted, ..ask };
        let lowered = self.rel(input, below)?;
        let limit = limit.map(|e| self.expr(e, &[])).transpose()?;
        let offset = offset.map(|e| self.expr(e, &[])).transpose()?;
        let rows = match &limit {
            Some(Expr::Const(Datum::Int(n), _)) => lowered.plan.rows.min(*n as f64),
            _ => lowered.plan.rows,
        };
        let types = lowered.plan.types.to_vec();
        let op = match (lowered.plan.op, limit) {
            (Operator::Sort { input, keys }, Some(limit)) => Operator::TopN { input, keys, limit, offset },
            (op, limit) => {
                let input = super::Plan { op, types: lowered.plan.types, rows: lowered.plan.rows };
                Operator::Limit { input: Box::new(input), limit, offset }
            }
        };
        Ok(Lowered { plan: plan(op, types, rows), cols: lowered.cols, ordered: lowered.ordered })
    }

    /// An input whose columns are counted by their places.
    fn side(&mut self, r: &Rel, cols: &[ColId]) -> Result<super::Plan> {
        let lowered = self.rel(r, Ask::columns(ColSet::from_cols(cols.iter().copied())))?;
        super::arrange(lowered, cols)
    }

    fn recursive(&mut self, r: &LogicalRecursive) -> Result<Lowered> {
        let base = self.side(&r.base, &r.base_cols)?;
        let step = self.side(&r.step, &r.step_cols)?;
        let rows = crate::optimize::recursive_rows(base.rows);
        let union = RecursiveUnion { index: r.index, all: r.all, base, step };
        let plan = plan(Operator::RecursiveUnion(Box::new(union)), r.types.clone(), rows);
        Ok(Lowered { plan, cols: r.cols.clone(), ordered: false })
    }

    fn set_op(&mut self, s: &LogicalSetOp, rel: &Rel) -> Result<Lowered> {
        let left = self.side(&s.left, &s.left_cols)?;
        let right = self.side(&s.right, &s.right_cols)?;
        let types = left.types.to_vec();
        let rows = match s.kind {
            SetOpKind::Union => left.rows + right.rows,
            SetOpKind::Intersect => left.rows.min(right.rows),
            SetOpKind::Except => left.rows,
        };
        let op = Operator::SetOp { kind: s.kind, all: s.all, left: Box::new(left), right: Box::new(right) };
        let _ = rel;
        Ok(Lowered { plan: plan(op, types, rows), cols: s.cols.clone(), ordered: false })
    }
}

/// The plan, sorted if it is not already.
fn sorted(lowered: Lowered, keys: &[Order]) -> Lowered {
    if lowered.ordered {
        return lowered;
    }
    let keys = keys
        .iter()
        .map(|k| SortKey {
            column: position(&lowered.cols, k.col).expect("a sort asks for its keys"),
            descending: k.descending,
            nulls_first: k.nulls_first,
        })
        .collect();
    let (types, rows) = (lowered.plan.types.to_vec(), lowered.plan.rows);
    let plan = plan(Operator::Sort { input: Box::new(lowered.plan), keys }, types, rows);
    Lowered { plan, cols: lowered.cols, ordered: true }
}
