//! Window functions: gathered while the select list and ORDER BY are bound, computed after grouping.

use std::collections::HashMap;
use std::sync::Arc;

use meridian_datum::{CastContext, DataType, Datum, Result, SqlError, SqlState, is_aggregate};
use sqlparser::ast::{self, WindowFrameBound, WindowFrameUnits, WindowType};

use super::expr::{Clause, Cx, position};
use super::func::{CallSyntax, is_window_function};
use super::order::direction;
use super::types::{needs_equality, needs_order};
use super::{At, Binder, COUNT, name_of, pos};
use crate::expr::Expr;
use crate::logical::{ColId, Order, Rel};
use crate::physical::{FrameBound, FrameUnit, WindowCall, WindowFrame, WindowFunction};
use crate::same::same_expr;

/// The window functions of a query level, by partitioning and order.
#[derive(Debug, Default)]
pub(crate) struct Windows(Vec<WindowGroup>);

#[derive(Debug)]
struct WindowGroup {
    partition: Vec<Expr>,
    order: Vec<(Expr, bool, bool)>,
    functions: Vec<(ColId, WindowCall)>,
}

impl Windows {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts every expression through `f`.
    pub(super) fn rewrite(&mut self, f: &mut dyn FnMut(Expr) -> Result<Expr>) -> Result<()> {
        let mut apply = |e: &mut Expr| -> Result<()> {
            *e = f(std::mem::replace(e, Expr::null(DataType::Unknown)))?;
            Ok(())
        };
        for g in &mut self.0 {
            g.partition.iter_mut().try_for_each(&mut apply)?;
            g.order.iter_mut().try_for_each(|(e, _, _)| apply(e))?;
            for (_, c) in &mut g.functions {
                c.args.iter_mut().try_for_each(&mut apply)?;
                c.filter.iter_mut().try_for_each(&mut apply)?;
            }
        }
        Ok(())
    }
}

fn find<'w>(name: &ast::Ident, windows: &'w HashMap<String, ast::WindowSpec>) -> Result<&'w ast::WindowSpec> {
    windows.get(&name_of(name)).ok_or_else(|| {
        let message = format!("window \"{}\" does not exist", name_of(name));
        SqlError::new(SqlState::UNDEFINED_OBJECT, message).at(pos(name.span))
    })
}

/// A window's definition with what it takes from the window that it names. It may add an order and a frame, and take
/// nothing back. `in_over`: the definition stands in an OVER clause.
pub(super) fn complete(
    spec: &ast::WindowSpec,
    windows: &HashMap<String, ast::WindowSpec>,
    in_over: bool,
) -> Result<ast::WindowSpec> {
    let Some(ident) = &spec.window_name else { return Ok(spec.clone()) };
    let (base, name) = (find(ident, windows)?, name_of(ident));
    let refuse = |message: String| Err(SqlError::new(SqlState::WINDOWING_ERROR, message).at(pos(ident.span)));
    if !spec.partition_by.is_empty() {
        return refuse(format!("cannot override PARTITION BY clause of window \"{name}\""));
    }
    if !spec.order_by.is_empty() && !base.order_by.is_empty() {
        return refuse(format!("cannot override ORDER BY clause of window \"{name}\""));
    }
    if base.window_frame.is_some() {
        let error = refuse(format!("cannot copy window \"{name}\" because it has a frame clause"));
        let adds_nothing = spec.order_by.is_empty() && spec.window_frame.is_none();
        return error.map_err(|e: SqlError| {
            if in_over && adds_nothing { e.with_hint("Omit the parentheses in this OVER clause.") } else { e }
        });
    }
    let order_by = if spec.order_by.is_empty() { &base.order_by } else { &spec.order_by };
    Ok(ast::WindowSpec {
        window_name: None,
        partition_by: base.partition_by.clone(),
        order_by: order_by.clone(),
        window_frame: spec.window_frame.clone(),
    })
}

/// An ORDER BY expression of a window, with its direction and the place of NULLs.
type OrderKey = (Expr, bool, bool);

/// For RANGE with an offset: what values of a type are compared as, and the type of distances between them. Integers are
/// compared as numerics, so that no sum is beyond their type; dates plus intervals are timestamps.
fn range_types(key: &DataType) -> Result<(DataType, DataType)> {
    use DataType as T;
    Ok(match key {
        T::Int2 | T::Int4 | T::Int8 | T::Numeric(_) => (T::Numeric(None), T::Numeric(None)),
        T::Float4 | T::Float8 => (T::Float8, T::Float8),
        T::Date | T::Timestamp => (T::Timestamp, T::Interval),
        T::TimestampTz => (T::TimestampTz, T::Interval),
        T::Interval => (T::Interval, T::Interval),
        other => {
            let message =
                format!("RANGE with offset PRECEDING/FOLLOWING is not supported for column type {other}");
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        }
    })
}

impl Binder<'_> {
    pub(super) fn window_function(
        &mut self,
        call: &CallSyntax<'_>,
        over: &WindowType,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let at = call.position;
        if cx.windows.is_none() {
            let message = match cx.clause {
                Clause::AggregateArgument => {
                    "aggregate function calls cannot contain window function calls".to_owned()
                }
                c => format!("window functions are not allowed in {}", c.name()),
            };
            let state = if cx.clause == Clause::AggregateArgument {
                SqlState::GROUPING_ERROR
            } else {
                SqlState::WINDOWING_ERROR
            };
            return Err(SqlError::new(state, message).at(at));
        }
        if call.distinct {
            let message = "DISTINCT is not implemented for window functions";
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).at(at));
        }
        if !call.order_by.is_empty() {
            let message = "aggregate ORDER BY is not implemented for window functions";
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).at(at));
        }
        let spec = self.window_spec(over, cx)?;
        // Arguments may hold aggregates of this level, but no window functions.
        let (function, args, ty) = self.window_call(call, cx)?;
        let filter = match call.filter {
            Some(f) => Some(self.condition(f, &mut Cx::new(cx.scope, Clause::Filter))?),
            None => None,
        };
        if filter.is_some() && !matches!(function, WindowFunction::Aggregate(_)) {
            let message = "FILTER is not implemented for non-aggregate window functions";
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).at(at));
        }
        let mut wcx = Cx::new(cx.scope, Clause::WindowDefinition);
        wcx.aggregates = cx.aggregates.as_deref_mut();
        let mut partition = Vec::with_capacity(spec.partition_by.len());
        for e in &spec.partition_by {
            let key = self.typed_expr(e, &mut wcx)?;
            needs_equality(&key.ty(), position(e))?;
            partition.push(key);
        }
        let mut order = Vec::with_capacity(spec.order_by.len());
        for k in &spec.order_by {
            let (descending, nulls_first) = direction(&k.options);
            let key = self.typed_expr(&k.expr, &mut wcx)?;
            needs_order(&key.ty(), position(&k.expr))?;
            order.push((key, descending, nulls_first));
        }
        let frame = self.frame(spec.window_frame.as_ref(), &order, cx)?;
        if frame.unit == FrameUnit::Groups && order.is_empty() {
            let message = "GROUPS mode requires an ORDER BY clause";
            return Err(SqlError::new(SqlState::WINDOWING_ERROR, message).at(at));
        }
        let col = self.new_col();
        let mut args = args;
        let range = self.range_values(&frame, &order)?;
        let frame_args = range.len();
        args.extend(range);
        let call = WindowCall { function, args, frame_args, filter, frame, ty: ty.clone() };
        let windows = cx.windows.as_mut().expect("checked above");
        let same = |g: &&mut WindowGroup| {
            g.partition.len() == partition.len()
                && g.partition.iter().zip(&partition).all(|(a, b)| same_expr(a, b))
                && g.order.len() == order.len()
                && g.order.iter().zip(&order).all(|(a, b)| a.1 == b.1 && a.2 == b.2 && same_expr(&a.0, &b.0))
        };
        match windows.0.iter_mut().find(same) {
            Some(g) => g.functions.push((col, call)),
            None => windows.0.push(WindowGroup { partition, order, functions: vec![(col, call)] }),
        }
        Ok(Expr::column(col, ty))
    }

    fn window_spec(&self, over: &WindowType, cx: &Cx<'_, '_>) -> Result<ast::WindowSpec> {
        match over {
            WindowType::NamedWindow(name) => find(name, &cx.scope.windows).cloned(),
            WindowType::WindowSpec(spec) => complete(spec, &cx.scope.windows, true),
        }
    }

    fn window_call(
        &mut self,
        call: &CallSyntax<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Result<(WindowFunction, Vec<Expr>, DataType)> {
        use WindowFunction as W;
        let at = call.position;
        if is_aggregate(&call.name) {
            let bound = self.window_aggregate(call, cx)?;
            return Ok(bound);
        }
        if !is_window_function(&call.name) {
            let message = format!(
                "OVER specified, but {} is not a window function nor an aggregate function",
                call.name
            );
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(at));
        }
        let mut args = Vec::with_capacity(call.args.len());
        for a in &call.args {
            let mut acx = Cx::new(cx.scope, cx.clause);
            acx.aggregates = cx.aggregates.as_deref_mut();
            args.push((self.typed_expr(a, &mut acx)?, position(a)));
        }
        let expect = |low: usize, high: usize| -> Result<()> {
            if (low..=high).contains(&args.len()) {
                return Ok(());
            }
            let types: Vec<String> = args.iter().map(|(a, _)| a.ty().to_string()).collect();
            let message = format!("function {}({}) does not exist", call.name, types.join(", "));
            Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(at))
        };
        let first = args.first().map(|(a, _)| a.ty());
        let (function, ty) = match call.name.as_str() {
            "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" => {
                expect(0, 0)?;
                match call.name.as_str() {
                    "row_number" => (W::RowNumber, DataType::Int8),
                    "rank" => (W::Rank, DataType::Int8),
                    "dense_rank" => (W::DenseRank, DataType::Int8),
                    "percent_rank" => (W::PercentRank, DataType::Float8),
                    _ => (W::CumeDist, DataType::Float8),
                }
            }
            "ntile" => {
                expect(1, 1)?;
                (W::Ntile, DataType::Int4)
            }
            "first_value" | "last_value" => {
                expect(1, 1)?;
                let w = if call.name == "first_value" { W::FirstValue } else { W::LastValue };
                (w, first.clone().unwrap_or(DataType::Text))
            }
            "nth_value" => {
                expect(2, 2)?;
                (W::NthValue, first.clone().unwrap_or(DataType::Text))
            }
            _ => {
                expect(1, 3)?;
                let w = if call.name == "lag" { W::Lag } else { W::Lead };
                (w, first.clone().unwrap_or(DataType::Text))
            }
        };
        let args = self.window_args(&function, args, &ty)?;
        Ok((function, args, ty))
    }

    fn window_args(
        &mut self,
        f: &WindowFunction,
        args: Vec<(Expr, u32)>,
        ty: &DataType,
    ) -> Result<Vec<Expr>> {
        let mut out: Vec<Expr> = Vec::with_capacity(3);
        let counts = matches!(f, WindowFunction::Ntile);
        let shifts = matches!(f, WindowFunction::Lag | WindowFunction::Lead);
        for (i, (a, p)) in args.into_iter().enumerate() {
            out.push(match i {
                0 if counts => self.coerce(a, &DataType::Int4, CastContext::Implicit, p)?,
                0 => a,
                1 => self.coerce(a, &DataType::Int4, CastContext::Implicit, p)?,
                _ => self.coerce(a, ty, CastContext::Implicit, p)?,
            });
        }
        if shifts {
            if out.len() == 1 {
                out.push(Expr::Const(Datum::Int(1), DataType::Int4));
            }
            if out.len() == 2 {
                out.push(Expr::null(ty.clone()));
            }
        }
        Ok(out)
    }

    fn window_aggregate(
        &mut self,
        call: &CallSyntax<'_>,
        cx: &mut Cx<'_, '_>,
    ) -> Result<(WindowFunction, Vec<Expr>, DataType)> {
        let mut args = Vec::with_capacity(call.args.len());
        for a in &call.args {
            let mut acx = Cx::new(cx.scope, cx.clause);
            acx.aggregates = cx.aggregates.as_deref_mut();
            args.push((self.expr(a, &mut acx)?, position(a)));
        }
        let types: Vec<DataType> = args.iter().map(|(a, _)| a.ty()).collect();
        let function = meridian_datum::lookup_aggregate(&call.name, &types).at(call.position)?;
        let mut cast = Vec::with_capacity(args.len());
        for ((a, p), t) in args.into_iter().zip(&function.arg_types) {
            cast.push(self.coerce(a, t, CastContext::Implicit, p)?);
        }
        let ty = function.result_type.clone();
        Ok((WindowFunction::Aggregate(Arc::new(function)), cast, ty))
    }

    fn frame(
        &mut self,
        frame: Option<&ast::WindowFrame>,
        order: &[OrderKey],
        cx: &Cx<'_, '_>,
    ) -> Result<WindowFrame> {
        let Some(f) = frame else {
            return Ok(WindowFrame {
                unit: FrameUnit::Range,
                start: FrameBound::UnboundedPreceding,
                end: FrameBound::CurrentRow,
            });
        };
        let unit = match f.units {
            WindowFrameUnits::Rows => FrameUnit::Rows,
            WindowFrameUnits::Range => FrameUnit::Range,
            WindowFrameUnits::Groups => FrameUnit::Groups,
        };
        let start = self.frame_bound(&f.start_bound, unit, order, cx)?;
        let end = match &f.end_bound {
            Some(b) => self.frame_bound(b, unit, order, cx)?,
            None => FrameBound::CurrentRow,
        };
        let wrong = |m: &'static str| Err(SqlError::new(SqlState::WINDOWING_ERROR, m));
        match (&start, &end) {
            (FrameBound::UnboundedFollowing, _) => wrong("frame start cannot be UNBOUNDED FOLLOWING"),
            (_, FrameBound::UnboundedPreceding) => wrong("frame end cannot be UNBOUNDED PRECEDING"),
            (FrameBound::CurrentRow, FrameBound::Preceding(_)) => {
                wrong("frame starting from current row cannot have preceding rows")
            }
            (FrameBound::Following(_), FrameBound::Preceding(_) | FrameBound::CurrentRow) => {
                wrong("frame starting from following row cannot have preceding rows")
            }
            _ => Ok(WindowFrame { unit, start, end }),
        }
    }

    fn frame_bound(
        &mut self,
        b: &WindowFrameBound,
        unit: FrameUnit,
        order: &[OrderKey],
        cx: &Cx<'_, '_>,
    ) -> Result<FrameBound> {
        let offset = |b: &mut Self, e: &ast::Expr| -> Result<Expr> {
            let at = position(e);
            let bound = b.expr(e, &mut Cx::new(cx.scope, Clause::WindowDefinition))?;
            if !bound.cols().is_empty() {
                let unit = match unit {
                    FrameUnit::Rows => "ROWS",
                    FrameUnit::Groups => "GROUPS",
                    FrameUnit::Range => "RANGE",
                };
                let message = format!("argument of {unit} must not contain variables");
                return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message).at(at));
            }
            if unit != FrameUnit::Range {
                return b.coerce(bound, &COUNT, CastContext::Assignment, at);
            }
            let [(key, ..)] = order else {
                let message = "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column";
                return Err(SqlError::new(SqlState::WINDOWING_ERROR, message).at(at));
            };
            let (_, distance) = range_types(&key.ty()).at(at)?;
            let (key, given) = (key.ty(), bound.ty());
            b.coerce(bound, &distance, CastContext::Implicit, at).map_err(|_| {
                let message = format!(
                    "RANGE with offset PRECEDING/FOLLOWING is not supported for column type {key} and offset type {given}"
                );
                SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                    .with_hint("Cast the offset value to an appropriate type.")
                    .at(at)
            })
        };
        Ok(match b {
            WindowFrameBound::CurrentRow => FrameBound::CurrentRow,
            WindowFrameBound::Preceding(None) => FrameBound::UnboundedPreceding,
            WindowFrameBound::Following(None) => FrameBound::UnboundedFollowing,
            WindowFrameBound::Preceding(Some(e)) => FrameBound::Preceding(offset(self, e)?),
            WindowFrameBound::Following(Some(e)) => FrameBound::Following(offset(self, e)?),
        })
    }

    /// What a frame with distances compares: the ORDER BY value, and the values at which it starts and ends.
    fn range_values(&mut self, frame: &WindowFrame, order: &[OrderKey]) -> Result<Vec<Expr>> {
        let edges = [&frame.start, &frame.end].into_iter().filter_map(|bound| match bound {
            FrameBound::Preceding(distance) => Some((distance, true)),
            FrameBound::Following(distance) => Some((distance, false)),
            _ => None,
        });
        let edges: Vec<(&Expr, bool)> = edges.collect();
        if frame.unit != FrameUnit::Range || edges.is_empty() {
            return Ok(Vec::new());
        }
        let [(key, descending, _)] = order else {
            return Err(SqlError::internal("a frame with distances has one order"));
        };
        let (compared, distance_type) = range_types(&key.ty())?;
        let key = self.coerce(key.clone(), &compared, CastContext::Explicit, 0)?;
        let mut out = vec![key.clone()];
        for (distance, preceding) in edges {
            let symbol = if preceding == *descending { "+" } else { "-" };
            let distance = self.coerce(distance.clone(), &distance_type, CastContext::Explicit, 0)?;
            let edge = self.operator(symbol, key.clone(), distance, 0)?;
            out.push(self.coerce(edge, &compared, CastContext::Explicit, 0)?);
        }
        Ok(out)
    }

    /// Computes the window functions of a level above its rows.
    pub(super) fn window_rel(&mut self, mut rel: Rel, windows: Windows) -> Result<Rel> {
        for g in windows.0 {
            let mut extra: Vec<(ColId, Expr)> = Vec::new();
            let mut id_of = |b: &mut Self, e: Expr| match e {
                Expr::Column { index, .. } => index,
                other => {
                    let id = b.new_col();
                    extra.push((id, other));
                    id
                }
            };
            let partition: Vec<ColId> = g.partition.into_iter().map(|e| id_of(self, e)).collect();
            let order: Vec<Order> = g
                .order
                .into_iter()
                .map(|(e, descending, nulls_first)| Order { col: id_of(self, e), descending, nulls_first })
                .collect();
            if !extra.is_empty() {
                let mut exprs: Vec<(ColId, Expr)> =
                    rel.typed_cols().into_iter().map(|(c, t)| (c, Expr::column(c, t))).collect();
                exprs.extend(extra);
                rel = Rel::Project { input: Box::new(rel), exprs };
            }
            let mut keys: Vec<Order> =
                partition.iter().map(|c| Order { col: *c, descending: false, nulls_first: false }).collect();
            for o in &order {
                if !keys.iter().any(|k| k.col == o.col) {
                    keys.push(*o);
                }
            }
            if !keys.is_empty() {
                rel = Rel::Sort { input: Box::new(rel), keys };
            }
            rel = Rel::Window { input: Box::new(rel), partition, order, functions: g.functions };
        }
        Ok(rel)
    }
}
