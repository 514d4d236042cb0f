//! Set-returning functions: one in FROM or in a SELECT list, or several of a SELECT list that step together.

use async_trait::async_trait;
use meridian_datum::{
    Batch, Column, DataType, Datum, ResolvedFunction, Result, SqlError, SqlState, lookup_operator,
};
use meridian_plan::physical::{SetFunction, TableFunction};

use super::cluster::cluster_function;
use super::{BATCH_ROWS, Operator, virtual_rows};
use crate::context::Ctx;
use crate::eval::Row;

/// Yields the rows of a set-returning function.
pub(super) struct TableFunctionOp<'a> {
    ctx: Ctx<'a>,
    plan: &'a TableFunction,
    types: &'a [DataType],
    /// One for each function.
    rows: Option<Vec<Rows>>,
    ordinal: i64,
}

enum Rows {
    Series(Series),
    List(std::vec::IntoIter<Vec<Datum>>),
}

impl Rows {
    fn next(&mut self, ctx: Ctx<'_>) -> Result<Option<Vec<Datum>>> {
        match self {
            Rows::Series(series) => Ok(series.take(ctx)?.map(|d| vec![d])),
            Rows::List(rows) => Ok(rows.next()),
        }
    }
}

/// `generate_series`.
struct Series {
    next: Option<Datum>,
    stop: Datum,
    step: Datum,
    descending: bool,
    add: ResolvedFunction,
}

fn zero_step() -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "step size cannot equal zero")
}

impl Series {
    fn new(ty: &DataType, args: &[Datum]) -> Result<Option<Series>> {
        let [start, stop, step] = args else {
            return Err(SqlError::internal("generate_series is planned with three arguments"));
        };
        if args.iter().any(Datum::is_null) {
            return Ok(None);
        }
        let (step_type, zero) = match step {
            Datum::Int(_) => (ty.clone(), Datum::Int(0)),
            Datum::Numeric(_) => (ty.clone(), Datum::Numeric(meridian_datum::Decimal::from_parts(0, 0))),
            _ => (DataType::Interval, Datum::Interval(meridian_datum::Interval::default())),
        };
        let descending = match step.cmp(&zero) {
            std::cmp::Ordering::Equal => return Err(zero_step()),
            order => order.is_lt(),
        };
        // 64-bit addition for every integer type: the end of the range ends the series.
        let (left, step_type) =
            if step_type.is_integer() { (DataType::Int8, DataType::Int8) } else { (ty.clone(), step_type) };
        let add = lookup_operator("+", Some(&left), &step_type)?;
        Ok(Some(Series {
            next: Some(start.clone()),
            stop: stop.clone(),
            step: step.clone(),
            descending,
            add,
        }))
    }

    fn take(&mut self, ctx: Ctx<'_>) -> Result<Option<Datum>> {
        let Some(value) = self.next.take() else { return Ok(None) };
        let past = if self.descending { value < self.stop } else { value > self.stop };
        if past {
            return Ok(None);
        }
        self.next = match (&value, &self.step) {
            (Datum::Int(v), Datum::Int(s)) => v.checked_add(*s).map(Datum::Int),
            _ => Some(self.add.call(&ctx.stmt.eval, &[value.clone(), self.step.clone()])?),
        };
        Ok(Some(value))
    }
}

/// Arrays side by side, padded with NULL.
fn unnest(arrays: &[Datum]) -> Vec<Vec<Datum>> {
    let elements: Vec<&[Datum]> =
        arrays.iter().map(|a| a.as_array().map_or(&[][..], |a| a.elements())).collect();
    let len = elements.iter().map(|e| e.len()).max().unwrap_or(0);
    (0..len).map(|i| elements.iter().map(|e| e.get(i).cloned().unwrap_or(Datum::Null)).collect()).collect()
}

fn subscripts(array: &Datum, dimension: Option<i64>) -> Vec<Vec<Datum>> {
    let (Some(array), Some(dimension)) = (array.as_array(), dimension) else { return Vec::new() };
    let Some(d) = usize::try_from(dimension - 1).ok().and_then(|i| array.dimensions().get(i)) else {
        return Vec::new();
    };
    let lower = i64::from(d.lower);
    (lower..lower + i64::from(d.len)).map(|i| vec![Datum::Int(i)]).collect()
}

impl<'a> TableFunctionOp<'a> {
    pub(super) fn new(ctx: Ctx<'a>, plan: &'a TableFunction, types: &'a [DataType]) -> Self {
        TableFunctionOp { ctx, plan, types, rows: None, ordinal: 0 }
    }

    /// The rows of each function.
    async fn start(&self) -> Result<Vec<Rows>> {
        let resolved = self.ctx.resolve_row(&self.plan.args, Row::None).await?;
        let scope = self.ctx.scope_with(&resolved);
        let args = self.plan.args.iter().map(|e| scope.datum(e, Row::None)).collect::<Result<Vec<_>>>()?;
        let types: Vec<DataType> = self.plan.args.iter().map(meridian_plan::Expr::ty).collect();
        let mut calls = Vec::new();
        let typed: Vec<(Datum, DataType)> = args.into_iter().zip(types).collect();
        self.plan.function.each(&typed, &mut |function, own| calls.push((function, own)));
        let mut all = Vec::with_capacity(calls.len());
        for (function, own) in calls {
            let (args, types): (Vec<Datum>, Vec<DataType>) = own.iter().cloned().unzip();
            all.push(self.call(function, &args, &types).await?);
        }
        Ok(all)
    }

    async fn call(&self, function: &SetFunction, args: &[Datum], types: &[DataType]) -> Result<Rows> {
        let rows = match function {
            SetFunction::GenerateSeries(ty) => {
                return Ok(match Series::new(ty, args)? {
                    Some(series) => Rows::Series(series),
                    None => Rows::List(Vec::new().into_iter()),
                });
            }
            SetFunction::GenerateSubscripts => subscripts(&args[0], args[1].as_int()),
            SetFunction::Unnest => unnest(args),
            SetFunction::UnnestCall(function) => {
                let array = function.call(&self.ctx.stmt.eval, args)?;
                unnest(&[array])
            }
            SetFunction::Scalar(e) => {
                let resolved = self.ctx.resolve_row([e], Row::None).await?;
                vec![vec![self.ctx.scope_with(&resolved).datum(e, Row::None)?]]
            }
            SetFunction::Empty => Vec::new(),
            SetFunction::Virtual(table) => virtual_rows(self.ctx.stmt, table).await?,
            SetFunction::Cluster(function) => {
                vec![vec![cluster_function(self.ctx.stmt, *function, args, types).await?]]
            }
            SetFunction::Lockstep(_) => {
                return Err(SqlError::internal("functions that step together stand side by side"));
            }
        };
        Ok(Rows::List(rows.into_iter()))
    }

    fn take(&mut self) -> Result<Option<Vec<Datum>>> {
        let ctx = self.ctx;
        match self.rows.as_mut().expect("the function has started").as_mut_slice() {
            [only] => only.next(ctx),
            several => {
                let mut row = Vec::with_capacity(several.len());
                let mut is_end = true;
                for rows in several {
                    match rows.next(ctx)? {
                        Some(value) => {
                            is_end = false;
                            row.extend(value);
                        }
                        // In a SELECT list a function has one column.
                        None => row.push(Datum::Null),
                    }
                }
                Ok((!is_end).then_some(row))
            }
        }
    }
}

#[async_trait]
impl Operator for TableFunctionOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        if self.rows.is_none() {
            self.rows = Some(self.start().await?);
        }
        self.ctx.stmt.checkpoint().await?;
        let mut out = Batch::with_capacity(self.types, BATCH_ROWS);
        while out.len() < BATCH_ROWS {
            let Some(mut row) = self.take()? else { break };
            if self.plan.ordinality {
                self.ordinal += 1;
                row.push(Datum::Int(self.ordinal));
            }
            out.push_with(|columns: &mut [Column]| {
                for (c, d) in columns.iter_mut().zip(row) {
                    c.push(d);
                }
                Ok::<(), SqlError>(())
            })?;
        }
        Ok((!out.is_empty()).then_some(out))
    }
}
