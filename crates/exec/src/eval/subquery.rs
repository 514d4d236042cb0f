//! Subqueries: run before the expression that holds them is evaluated.
//!
//! A subquery without arguments runs once per statement. One with arguments runs once per distinct list of arguments;
//! answers are kept in a bounded cache. The key of both is the address of the subquery within the statement's plan,
//! which does not move while the statement runs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use meridian_datum::{ArrayValue, Batch, Datum, Result, SqlError, SqlState};
use meridian_plan::Expr;
use meridian_plan::expr::{Subquery, SubqueryComparison, SubqueryKind};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{Row, Scope};
use crate::context::Ctx;
use crate::ops;

/// Answers of the subqueries of some expressions.
#[derive(Debug, Default)]
pub struct Resolved {
    answers: Vec<(usize, Answer)>,
}

#[derive(Debug)]
enum Answer {
    /// The same for every row.
    Constant(Result<Datum>),
    /// By row of the batch.
    Rows(Vec<Result<Datum>>),
}

impl Resolved {
    /// No subqueries.
    pub const fn none() -> Self {
        Resolved { answers: Vec::new() }
    }
}

/// Most answers of correlated subqueries that one statement keeps.
const CACHE_ENTRIES_MAX: usize = 65_536;

/// A subquery by address, and its arguments.
type ValueKey = (usize, Vec<Datum>);

/// Answers kept for the statement.
#[derive(Debug, Default)]
pub(crate) struct SubqueryCache {
    /// Rows of subqueries without arguments.
    rows: Mutex<HashMap<usize, Arc<SubqueryRows>>>,
    /// Values of subqueries with arguments.
    values: Mutex<HashMap<ValueKey, Result<Datum>>>,
}

/// What a subquery yielded.
#[derive(Debug)]
struct SubqueryRows {
    rows: Vec<Vec<Datum>>,
    /// Rows without NULLs, for comparisons by equality; NULLs beside them.
    set: Option<HashSet<Vec<Datum>>>,
    has_null: bool,
}

fn address(s: &Subquery) -> usize {
    std::ptr::from_ref(s) as usize
}

/// Calls `f` with the outermost subqueries in an expression.
fn for_each_subquery<'e>(e: &'e Expr, f: &mut dyn FnMut(&'e Subquery)) {
    match e {
        Expr::Subquery(s) => f(s),
        Expr::Const(..) | Expr::Column { .. } | Expr::Param { .. } | Expr::Outer { .. } => {}
        other => other.for_each_child(&mut |c| for_each_subquery(c, f)),
    }
}

impl<'a> Ctx<'a> {
    /// Answers the subqueries of expressions over a batch.
    pub async fn resolve<'e>(
        &self,
        exprs: impl IntoIterator<Item = &'e Expr>,
        batch: &Batch,
    ) -> Result<Resolved> {
        let mut found: SmallVec<[&Subquery; 2]> = SmallVec::new();
        for e in exprs {
            for_each_subquery(e, &mut |s| found.push(s));
        }
        let mut out = Resolved::none();
        for s in found {
            let answer = if s.args.is_empty() && !has_left(s) {
                Answer::Constant(self.answer(s, Row::None).await)
            } else {
                let mut rows = Vec::with_capacity(batch.len());
                for row in 0..batch.len() {
                    rows.push(self.answer(s, Row::Batch(batch, row)).await);
                }
                Answer::Rows(rows)
            };
            self.stmt.cancel.check()?;
            out.answers.push((address(s), answer));
        }
        Ok(out)
    }

    /// Answers the subqueries of expressions over one row.
    pub async fn resolve_row<'e>(
        &self,
        exprs: impl IntoIterator<Item = &'e Expr>,
        row: Row<'_>,
    ) -> Result<Resolved> {
        let mut found: SmallVec<[&Subquery; 2]> = SmallVec::new();
        for e in exprs {
            for_each_subquery(e, &mut |s| found.push(s));
        }
        let mut out = Resolved::none();
        for s in found {
            let answer = Box::pin(self.answer(s, row)).await;
            out.answers.push((address(s), Answer::Constant(answer)));
        }
        Ok(out)
    }

    /// The value of a subquery for one row.
    async fn answer(&self, s: &Subquery, row: Row<'_>) -> Result<Datum> {
        let mut inputs: SmallVec<[&Expr; 4]> = s.args.iter().collect();
        if let SubqueryKind::Any(c) | SubqueryKind::All(c) = &s.kind {
            inputs.extend(&c.left);
        }
        let resolved = if inputs.iter().any(|e| e.has_subquery()) {
            Box::pin(self.resolve_row(inputs.iter().copied(), row)).await?
        } else {
            Resolved::none()
        };
        let scope = self.scope_with(&resolved);
        let key = inputs.iter().map(|e| scope.datum(e, row)).collect::<Result<Vec<Datum>>>()?;
        let (args, left) = key.split_at(s.args.len());
        if s.args.is_empty() {
            let rows = self.constant_rows(s).await?;
            return self.value_of(s, &rows, left);
        }
        let cached = self.stmt.subqueries.values.lock().get(&(address(s), key.clone())).cloned();
        if let Some(value) = cached {
            return value;
        }
        let rows = self.run_subquery(s, args).await?;
        let value = self.value_of(s, &rows, left);
        let mut cache = self.stmt.subqueries.values.lock();
        if cache.len() >= CACHE_ENTRIES_MAX {
            cache.clear();
        }
        cache.insert((address(s), key), value.clone());
        value
    }

    async fn constant_rows(&self, s: &Subquery) -> Result<Arc<SubqueryRows>> {
        let known = self.stmt.subqueries.rows.lock().get(&address(s)).cloned();
        if let Some(rows) = known {
            return Ok(rows);
        }
        let rows = Arc::new(self.run_subquery(s, &[]).await?);
        self.stmt.subqueries.rows.lock().insert(address(s), rows.clone());
        Ok(rows)
    }

    /// Runs a subquery as far as its kind needs rows.
    async fn run_subquery(&self, s: &Subquery, args: &[Datum]) -> Result<SubqueryRows> {
        let ctx = Ctx { stmt: self.stmt, outer: args, work: None };
        let enough = match s.kind {
            SubqueryKind::Exists => 1,
            SubqueryKind::Scalar => 2,
            _ => usize::MAX,
        };
        let mut memory = self.stmt.memory.reservation();
        let mut rows = Vec::new();
        let mut op = ops::build(ctx, &s.plan)?;
        while rows.len() < enough
            && let Some(batch) = op.next().await?
        {
            memory.grow(batch.heap_size() + batch.len() * 48)?;
            rows.extend((0..batch.len().min(enough)).map(|r| batch.row(r)));
        }
        let has_null = rows.iter().any(|r| r.iter().any(Datum::is_null));
        let is_equality = match &s.kind {
            SubqueryKind::Any(c) | SubqueryKind::All(c) => c.is_equality,
            _ => false,
        };
        let set = (is_equality && rows.len() > 4)
            .then(|| rows.iter().filter(|r| !r.iter().any(Datum::is_null)).cloned().collect());
        Ok(SubqueryRows { rows, set, has_null })
    }

    fn value_of(&self, s: &Subquery, rows: &SubqueryRows, left: &[Datum]) -> Result<Datum> {
        match &s.kind {
            SubqueryKind::Exists => Ok(Datum::Bool(!rows.rows.is_empty())),
            SubqueryKind::Scalar => match rows.rows.as_slice() {
                [] => Ok(Datum::Null),
                [row] => Ok(row[0].clone()),
                _ => Err(SqlError::new(
                    SqlState::CARDINALITY_VIOLATION,
                    "more than one row returned by a subquery used as an expression",
                )),
            },
            SubqueryKind::Array => {
                let element = s.ty.element().expect("ARRAY(subquery) has an array type");
                let values = rows.rows.iter().map(|r| r[0].clone()).collect();
                Ok(Datum::Array(Arc::new(ArrayValue::new(element, values))))
            }
            SubqueryKind::Any(c) => self.quantified(c, rows, left, true),
            SubqueryKind::All(c) => self.quantified(c, rows, left, false),
        }
    }

    /// ANY is decided by a true comparison, ALL by a false one.
    fn quantified(
        &self,
        c: &SubqueryComparison,
        rows: &SubqueryRows,
        left: &[Datum],
        any: bool,
    ) -> Result<Datum> {
        if rows.rows.is_empty() {
            return Ok(Datum::Bool(!any));
        }
        let left_null = left.iter().any(Datum::is_null);
        if any
            && !left_null
            && let Some(set) = &rows.set
        {
            if set.contains(left) {
                return Ok(Datum::Bool(true));
            }
            if !rows.has_null || left.len() == 1 {
                return Ok(if rows.has_null { Datum::Null } else { Datum::Bool(false) });
            }
        }
        let scope = self.scope();
        let mut unknown = false;
        for row in &rows.rows {
            match scope.datum(&c.condition, Row::Pair(left, row))?.as_bool() {
                Some(b) if b == any => return Ok(Datum::Bool(any)),
                Some(_) => {}
                None => unknown = true,
            }
        }
        Ok(if unknown { Datum::Null } else { Datum::Bool(!any) })
    }
}

fn has_left(s: &Subquery) -> bool {
    match &s.kind {
        SubqueryKind::Any(c) | SubqueryKind::All(c) => c.left.iter().any(|e| !e.is_row_independent()),
        _ => false,
    }
}

impl Scope<'_> {
    /// The value that [`Ctx::resolve`] found.
    ///
    /// # Panics
    /// When the expression was not resolved: its operator evaluates subqueries without resolving them.
    pub(super) fn subquery_value(&self, s: &Subquery, row: Row<'_>) -> Result<Datum> {
        let wanted = address(s);
        let answer = self.resolved.answers.iter().find(|(at, _)| *at == wanted);
        match &answer.expect("a subquery is resolved before its expression is evaluated").1 {
            Answer::Constant(value) => value.clone(),
            Answer::Rows(rows) => match row {
                Row::Batch(_, r) => rows[r].clone(),
                _ => panic!("answers by row belong to a batch"),
            },
        }
    }
}
