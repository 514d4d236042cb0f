//! Evaluation of whole batches.
//!
//! An expression is evaluated on a [`View`]: a batch, or some of its rows. Columns of a view with picked rows are
//! gathered when they are mentioned and not before, so that a lazily evaluated branch costs what its rows cost.
//! AND, OR, CASE and COALESCE evaluate each argument on the rows that still need it: `x <> 0 AND 1 / x > 2` never
//! divides by zero.

use std::borrow::Cow;

use meridian_datum::{Batch, Column, DataType, Datum, Nulls, Operand, Result, Vector, cast_column};
use meridian_plan::Expr;
use smallvec::SmallVec;

use super::Scope;
use super::scalar::{Row, in_set, is_null};

/// Some rows of a batch.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The rows' home.
    pub batch: &'a Batch,
    /// Which; `None` is all.
    pub rows: Option<&'a [u32]>,
}

impl<'a> View<'a> {
    /// All rows of a batch.
    pub fn all(batch: &'a Batch) -> Self {
        View { batch, rows: None }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.map_or(self.batch.len(), <[u32]>::len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn home(&self, row: usize) -> usize {
        self.rows.map_or(row, |r| r[row] as usize)
    }

    /// The rows of the batch that rows of this view are.
    fn narrow(&self, rows: &[u32]) -> Vec<u32> {
        match self.rows {
            None => rows.to_vec(),
            Some(mine) => rows.iter().map(|&r| mine[r as usize]).collect(),
        }
    }
}

/// The value of an expression for the rows of a view.
#[derive(Debug)]
pub enum Values<'a> {
    /// One per row.
    Column(Cow<'a, Column>),
    /// The same in every row.
    Constant(Datum),
}

impl Values<'_> {
    /// As an argument of a function.
    pub fn operand(&self) -> Operand<'_> {
        match self {
            Values::Column(c) => Operand::Column(c),
            Values::Constant(d) => Operand::Constant(d),
        }
    }

    /// As a column of `rows` rows.
    pub fn into_column(self, ty: &DataType, rows: usize) -> Column {
        match self {
            Values::Column(c) => c.into_owned(),
            Values::Constant(d) => Column::constant(ty, &d, rows),
        }
    }

    /// The value of a row.
    pub fn get(&self, row: usize) -> Datum {
        match self {
            Values::Column(c) => c.get(row),
            Values::Constant(d) => d.clone(),
        }
    }

    fn bool_at(&self, row: usize) -> Option<bool> {
        match self {
            Values::Constant(d) => d.as_bool(),
            Values::Column(c) => match c.as_ref() {
                Column::Bool(v) => v.get(row),
                other => other.get(row).as_bool(),
            },
        }
    }
}

fn owned<'a>(column: Column) -> Values<'a> {
    Values::Column(Cow::Owned(column))
}

impl Scope<'_> {
    /// The column of an expression over a batch.
    pub fn column(&self, e: &Expr, batch: &Batch) -> Result<Column> {
        Ok(self.values(e, View::all(batch))?.into_column(&e.ty(), batch.len()))
    }

    /// The rows of a batch for which a condition is true.
    pub fn filter(&self, condition: &Expr, batch: &Batch) -> Result<Vec<u32>> {
        let Expr::And(parts) = condition else {
            return self.true_rows(condition, View::all(batch));
        };
        let mut rows: Option<Vec<u32>> = None;
        for part in parts {
            let view = View { batch, rows: rows.as_deref() };
            if view.is_empty() {
                break;
            }
            let kept = self.true_rows(part, view)?;
            rows = Some(view.narrow(&kept));
        }
        Ok(rows.unwrap_or_else(|| (0..batch.len() as u32).collect()))
    }

    /// The rows of a view (numbered within it) for which a condition is true.
    fn true_rows(&self, condition: &Expr, view: View<'_>) -> Result<Vec<u32>> {
        Ok(match self.values(condition, view)? {
            Values::Column(c) => c.true_rows(),
            Values::Constant(d) if d.as_bool() == Some(true) => (0..view.len() as u32).collect(),
            Values::Constant(_) => Vec::new(),
        })
    }

    /// The value of an expression for the rows of a view.
    pub fn values<'b>(&self, e: &Expr, view: View<'b>) -> Result<Values<'b>> {
        let len = view.len();
        match e {
            Expr::Const(d, _) => Ok(Values::Constant(d.clone())),
            Expr::Param { index, .. } => Ok(Values::Constant(self.param(*index))),
            Expr::Outer { index, .. } => Ok(Values::Constant(self.outer[*index].clone())),
            Expr::Column { index, .. } => {
                let column = view.batch.column(*index);
                Ok(Values::Column(match view.rows {
                    None => Cow::Borrowed(column),
                    Some(rows) => Cow::Owned(column.gather(rows)),
                }))
            }
            Expr::Call { function, args } => {
                let args: SmallVec<[Values<'b>; 3]> =
                    args.iter().map(|a| self.values(a, view)).collect::<Result<_>>()?;
                let operands: SmallVec<[Operand<'_>; 3]> = args.iter().map(Values::operand).collect();
                Ok(owned(function.call_columns(self.eval, &operands, len)?))
            }
            Expr::Cast { input, from, to, context } => Ok(match self.values(input, view)? {
                Values::Constant(d) if len > 0 => {
                    Values::Constant(meridian_datum::cast(self.eval, d, from, to, *context)?)
                }
                Values::Constant(_) => owned(Column::new(to)),
                Values::Column(c) => owned(cast_column(self.eval, &c, from, to, *context)?),
            }),
            Expr::And(args) => self.kleene_column(args, view, false).map(owned),
            Expr::Or(args) => self.kleene_column(args, view, true).map(owned),
            Expr::Not(input) => Ok(match self.values(input, view)? {
                Values::Constant(d) => Values::Constant(d.as_bool().map_or(Datum::Null, |b| Datum::Bool(!b))),
                Values::Column(c) => owned(negate(c.into_owned())),
            }),
            Expr::IsNull { input, negated } => Ok(match self.values(input, view)? {
                Values::Constant(d) => Values::Constant(Datum::Bool(is_null(&d, *negated))),
                Values::Column(c) => owned(null_test(&c, *negated)),
            }),
            Expr::IsBool { input, value, negated } => {
                let v = self.values(input, view)?;
                let bits = (0..len).map(|r| (v.bool_at(r) == Some(*value)) != *negated).collect();
                Ok(owned(Column::Bool(Vector::from_values(bits))))
            }
            Expr::Case { branches, otherwise, ty } => {
                self.case_column(branches, otherwise, ty, view).map(owned)
            }
            Expr::Coalesce { args, ty } => self.coalesce_column(args, ty, view).map(owned),
            Expr::InSet { input, set, has_null, negated } => {
                let v = self.values(input, view)?;
                let mut out = Vector::with_capacity(len);
                for row in 0..len {
                    out.push(in_set(&v.get(row), set, *has_null, *negated).as_bool());
                }
                Ok(owned(Column::Bool(out)))
            }
            _ => self.row_by_row(e, view).map(owned),
        }
    }

    fn row_by_row(&self, e: &Expr, view: View<'_>) -> Result<Column> {
        let mut out = Column::with_capacity(&e.ty(), view.len());
        for row in 0..view.len() {
            out.push(self.datum(e, Row::Batch(view.batch, view.home(row)))?);
        }
        Ok(out)
    }

    /// AND (`decisive` is false) and OR (`decisive` is true): arguments are evaluated on the undecided rows.
    fn kleene_column(&self, args: &[Expr], view: View<'_>, decisive: bool) -> Result<Column> {
        let len = view.len();
        let mut values = vec![!decisive; len];
        let mut unknown = vec![false; len];
        let mut open: Option<Vec<u32>> = None;
        for a in args {
            let part_rows = open.as_ref().map(|o| view.narrow(o));
            let part = match &part_rows {
                None => view,
                Some(rows) => View { batch: view.batch, rows: Some(rows) },
            };
            if part.is_empty() {
                break;
            }
            let v = self.values(a, part)?;
            let mut still_open = Vec::with_capacity(part.len());
            for row in 0..part.len() {
                let at = open.as_ref().map_or(row, |o| o[row] as usize);
                match v.bool_at(row) {
                    Some(b) if b == decisive => {
                        values[at] = decisive;
                        unknown[at] = false;
                        continue;
                    }
                    Some(_) => {}
                    None => unknown[at] = true,
                }
                still_open.push(at as u32);
            }
            open = Some(still_open);
        }
        let mut nulls = Nulls::none(len);
        for (row, _) in unknown.iter().enumerate().filter(|(_, u)| **u) {
            nulls.set_null(row);
        }
        Ok(Column::Bool(Vector::new(values, nulls)))
    }

    fn case_column(
        &self,
        branches: &[(Expr, Expr)],
        otherwise: &Expr,
        ty: &DataType,
        view: View<'_>,
    ) -> Result<Column> {
        let mut parts = Parts::new(view.len());
        let mut open: Vec<u32> = (0..view.len() as u32).collect();
        for (condition, value) in branches {
            if open.is_empty() {
                break;
            }
            let home = view.narrow(&open);
            let hits = self.true_rows(condition, View { batch: view.batch, rows: Some(&home) })?;
            if hits.is_empty() {
                continue;
            }
            let taken: Vec<u32> = hits.iter().map(|&h| open[h as usize]).collect();
            let home = view.narrow(&taken);
            parts.add(self.values(value, View { batch: view.batch, rows: Some(&home) })?, ty, &taken);
            let mut hit = hits.iter().peekable();
            let mut at = 0;
            open.retain(|_| {
                let is_hit = hit.next_if(|&&h| h == at).is_some();
                at += 1;
                !is_hit
            });
        }
        if !open.is_empty() {
            let home = view.narrow(&open);
            parts.add(self.values(otherwise, View { batch: view.batch, rows: Some(&home) })?, ty, &open);
        }
        Ok(parts.assemble(ty))
    }

    fn coalesce_column(&self, args: &[Expr], ty: &DataType, view: View<'_>) -> Result<Column> {
        let mut parts = Parts::new(view.len());
        let mut open: Vec<u32> = (0..view.len() as u32).collect();
        for a in args {
            if open.is_empty() {
                break;
            }
            let home = view.narrow(&open);
            let v =
                self.values(a, View { batch: view.batch, rows: Some(&home) })?.into_column(ty, open.len());
            let is_null = |i: usize| v.is_null(i);
            let null_rows = (0..open.len()).filter(|&i| is_null(i)).map(|i| open[i]).collect();
            parts.add(Values::Column(Cow::Owned(v)), ty, &open);
            open = null_rows;
        }
        Ok(parts.assemble(ty))
    }
}

/// Results of branches, to be put into one column.
struct Parts {
    columns: Vec<Column>,
    /// Where each row's value is: part and row in it. A later part overrides an earlier one.
    places: Vec<(u32, u32)>,
}

const NOWHERE: u32 = u32::MAX;

impl Parts {
    fn new(len: usize) -> Self {
        Parts { columns: Vec::new(), places: vec![(NOWHERE, 0); len] }
    }

    fn add(&mut self, values: Values<'_>, ty: &DataType, rows: &[u32]) {
        let part = self.columns.len() as u32;
        self.columns.push(values.into_column(ty, rows.len()));
        for (i, &row) in rows.iter().enumerate() {
            self.places[row as usize] = (part, i as u32);
        }
    }

    fn assemble(mut self, ty: &DataType) -> Column {
        if self.columns.len() == 1 && self.places.iter().enumerate().all(|(i, p)| *p == (0, i as u32)) {
            return self.columns.swap_remove(0);
        }
        let mut out = Column::with_capacity(ty, self.places.len());
        for (part, row) in self.places {
            if part == NOWHERE {
                out.push_null();
            } else {
                out.append_range(&self.columns[part as usize], row as usize..row as usize + 1);
            }
        }
        out
    }
}

fn negate(column: Column) -> Column {
    match column {
        Column::Bool(mut v) => {
            for b in &mut v.values {
                *b = !*b;
            }
            Column::Bool(v)
        }
        other => {
            let mut out = Vector::with_capacity(other.len());
            for row in 0..other.len() {
                out.push(other.get(row).as_bool().map(|b| !b));
            }
            Column::Bool(out)
        }
    }
}

fn null_test(column: &Column, negated: bool) -> Column {
    let bits = match column {
        Column::Datum(values) => values.iter().map(|d| is_null(d, negated)).collect(),
        other => (0..other.len()).map(|r| other.is_null(r) != negated).collect(),
    };
    Column::Bool(Vector::from_values(bits))
}
