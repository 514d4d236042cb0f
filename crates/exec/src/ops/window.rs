//! Window functions. The input is sorted by partition and order; all of it is held while its functions are computed.

use std::ops::Range;

use async_trait::async_trait;
use meridian_datum::{
    AggregateFn, Batch, Column, DataType, Datum, Decimal, Interval, Result, SqlError, SqlState,
};
use meridian_plan::physical::{FrameBound, FrameUnit, Window, WindowCall, WindowFrame, WindowFunction};

use super::filter::project;
use super::{BoxOperator, Operator, Pieces, build, collect, concat};
use crate::context::Ctx;
use crate::memory::Reservation;

/// Appends one column per window function to its input.
pub(super) struct WindowOp<'a> {
    ctx: Ctx<'a>,
    plan: &'a Window,
    input: Option<BoxOperator<'a>>,
    memory: Reservation,
    out: Pieces,
}

impl<'a> WindowOp<'a> {
    pub(super) fn new(ctx: Ctx<'a>, plan: &'a Window, _types: &'a [DataType]) -> Result<Self> {
        let input = Some(build(ctx, &plan.input)?);
        Ok(WindowOp { ctx, plan, input, memory: ctx.stmt.memory.reservation(), out: Pieces::default() })
    }
}

/// The rows of one partition.
struct Partition {
    rows: Range<usize>,
    /// Where each group of peers ends, by row.
    peers: Vec<Range<usize>>,
    /// The number of each row's peer group.
    group_of: Vec<usize>,
}

fn equal_on(batch: &Batch, columns: impl Iterator<Item = usize>, a: usize, b: usize) -> bool {
    let mut columns = columns;
    columns.all(|c| batch.column(c).cmp_rows(a, batch.column(c), b).is_eq())
}

fn partitions(plan: &Window, batch: &Batch) -> Vec<Partition> {
    let mut out = Vec::new();
    let mut start = 0;
    while start < batch.len() {
        let mut end = start + 1;
        while end < batch.len() && equal_on(batch, plan.partition_by.iter().copied(), start, end) {
            end += 1;
        }
        let mut peers: Vec<Range<usize>> = Vec::new();
        let mut group_of = Vec::with_capacity(end - start);
        for row in start..end {
            let same = row > start && equal_on(batch, plan.order_by.iter().map(|k| k.column), row - 1, row);
            match peers.last_mut() {
                Some(p) if same => p.end = row + 1,
                _ => peers.push(row..row + 1),
            }
            group_of.push(peers.len() - 1);
        }
        out.push(Partition { rows: start..end, peers, group_of });
        start = end;
    }
    out
}

/// The offsets of a frame, evaluated.
struct Frame<'a> {
    plan: &'a WindowFrame,
    start: usize,
    end: usize,
    /// RANGE with distances.
    range: Option<RangeValues<'a>>,
}

/// What a frame with distances compares, row by row.
struct RangeValues<'a> {
    /// The ORDER BY value.
    key: &'a Column,
    start: Option<&'a Column>,
    end: Option<&'a Column>,
    descending: bool,
}

async fn frame<'a>(
    ctx: Ctx<'_>,
    plan: &'a WindowFrame,
    values: &'a [Column],
    descending: bool,
) -> Result<Frame<'a>> {
    let mut offsets = [0, 0];
    for (offset, bound) in offsets.iter_mut().zip([&plan.start, &plan.end]) {
        let (FrameBound::Preceding(e) | FrameBound::Following(e)) = bound else { continue };
        let which = if std::ptr::eq(bound, &plan.start) { "starting" } else { "ending" };
        let value = ctx.constant(e).await?;
        if plan.unit == FrameUnit::Range {
            check_distance(&value, which)?;
            continue;
        }
        let count = value.as_int().ok_or_else(|| null_offset(which))?;
        *offset = usize::try_from(count).map_err(|_| {
            let message = format!("frame {which} offset must not be negative");
            SqlError::new(SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE, message)
        })?;
    }
    let has_distance = |b: &FrameBound| matches!(b, FrameBound::Preceding(_) | FrameBound::Following(_));
    let range = values.split_first().map(|(key, edges)| {
        let mut edges = edges.iter();
        let start = has_distance(&plan.start).then(|| edges.next()).flatten();
        let end = has_distance(&plan.end).then(|| edges.next()).flatten();
        RangeValues { key, start, end, descending }
    });
    Ok(Frame { plan, start: offsets[0], end: offsets[1], range })
}

fn null_offset(which: &str) -> SqlError {
    SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, format!("frame {which} offset must not be null"))
}

/// A distance is neither NULL nor negative.
fn check_distance(value: &Datum, which: &str) -> Result<()> {
    let is_negative = match value {
        Datum::Null => return Err(null_offset(which)),
        Datum::Numeric(n) => *n < Decimal::from(0i64),
        Datum::Float8(f) => *f < 0.0 || f.is_nan(),
        Datum::Interval(i) => *i < Interval::default(),
        other => panic!("{other:?} is no distance"),
    };
    if is_negative {
        let message = "invalid preceding or following size in window function";
        return Err(SqlError::new(SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE, message));
    }
    Ok(())
}

impl RangeValues<'_> {
    /// The first row whose value is at the edge or behind it; for an end, the first whose value is behind it. Rows without
    /// a value are a frame for each other.
    fn find(&self, p: &Partition, row: usize, is_end: bool) -> Option<usize> {
        let edges = if is_end { self.end } else { self.start }?;
        let peers = &p.peers[p.group_of[row - p.rows.start]];
        if self.key.is_null(row) {
            return Some(if is_end { peers.end } else { peers.start });
        }
        let (mut low, mut high) = (p.rows.start, p.rows.end);
        let null_at = |at: usize| self.key.is_null(at);
        if null_at(low) {
            low += p.peers[0].len();
        } else if null_at(high - 1) {
            high -= p.peers[p.peers.len() - 1].len();
        }
        while low < high {
            let middle = low + (high - low) / 2;
            let order = self.key.cmp_rows(middle, edges, row);
            let order = if self.descending { order.reverse() } else { order };
            if order.is_lt() || (is_end && order.is_eq()) { low = middle + 1 } else { high = middle }
        }
        Some(low)
    }
}

impl Frame<'_> {
    /// The rows of the frame of a row.
    fn rows(&self, p: &Partition, row: usize) -> Range<usize> {
        let start = self.edge(p, row, &self.plan.start, self.start, false);
        let end = self.edge(p, row, &self.plan.end, self.end, true);
        start..end.max(start)
    }

    /// Where the frame starts, or one past where it ends.
    fn edge(&self, p: &Partition, row: usize, bound: &FrameBound, n: usize, is_end: bool) -> usize {
        let (first, last) = (p.rows.start, p.rows.end);
        if self.plan.unit == FrameUnit::Rows {
            return match bound {
                FrameBound::UnboundedPreceding => first,
                FrameBound::UnboundedFollowing => last,
                FrameBound::CurrentRow => row + usize::from(is_end),
                FrameBound::Preceding(_) => {
                    let at = row as i64 - n as i64 + i64::from(is_end);
                    usize::try_from(at).unwrap_or(0).clamp(first, last)
                }
                FrameBound::Following(_) => {
                    row.saturating_add(n).saturating_add(usize::from(is_end)).min(last)
                }
            };
        }
        if let Some(at) = self.range.as_ref().and_then(|r| r.find(p, row, is_end)) {
            return at;
        }
        let group = p.group_of[row - first];
        let edge_of = |g: usize| if is_end { p.peers[g].end } else { p.peers[g].start };
        match bound {
            FrameBound::UnboundedPreceding => first,
            FrameBound::UnboundedFollowing => last,
            FrameBound::CurrentRow => edge_of(group),
            FrameBound::Preceding(_) => match group.checked_sub(n) {
                Some(g) => edge_of(g),
                None => first,
            },
            FrameBound::Following(_) => match group.checked_add(n).filter(|g| *g < p.peers.len()) {
                Some(g) => edge_of(g),
                None => last,
            },
        }
    }
}

impl WindowOp<'_> {
    async fn run(&mut self, input: BoxOperator<'_>) -> Result<Option<Batch>> {
        let Some(mut batch) = concat(collect(input, &mut self.memory, self.ctx).await?) else {
            return Ok(None);
        };
        let partitions = partitions(self.plan, &batch);
        let mut added = Vec::with_capacity(self.plan.functions.len());
        for call in &self.plan.functions {
            added.push(self.call(call, &batch, &partitions).await?);
        }
        for column in added {
            batch.push_column(column);
        }
        Ok(Some(batch))
    }

    async fn call(&self, call: &WindowCall, batch: &Batch, partitions: &[Partition]) -> Result<Column> {
        let mut args = project(self.ctx, &call.args, batch).await?.into_columns();
        let values = args.split_off(args.len() - call.frame_args);
        let passes = match &call.filter {
            None => None,
            Some(filter) => {
                let resolved = self.ctx.resolve([filter], batch).await?;
                let mut passes = vec![false; batch.len()];
                for r in self.ctx.scope_with(&resolved).filter(filter, batch)? {
                    passes[r as usize] = true;
                }
                Some(passes)
            }
        };
        let descending = self.plan.order_by.first().is_some_and(|k| k.descending);
        let frame = frame(self.ctx, &call.frame, &values, descending).await?;
        let mut out = Column::with_capacity(&call.ty, batch.len());
        for p in partitions {
            self.ctx.stmt.checkpoint().await?;
            if let WindowFunction::Aggregate(function) = &call.function {
                self.aggregate(function, &args, passes.as_deref(), p, &frame, &mut out)?;
                continue;
            }
            for row in p.rows.clone() {
                out.push(value(&call.function, &args, p, row, &frame)?);
            }
        }
        Ok(out)
    }

    fn aggregate(
        &self,
        function: &AggregateFn,
        args: &[Column],
        passes: Option<&[bool]>,
        p: &Partition,
        frame: &Frame<'_>,
        out: &mut Column,
    ) -> Result<()> {
        let columns: Vec<&Column> = args.iter().collect();
        let len = args.first().map_or(p.rows.end, Column::len);
        let mut state = function.init();
        let mut fed = p.rows.start..p.rows.start;
        let mut last: Option<(Range<usize>, Datum)> = None;
        for row in p.rows.clone() {
            let rows = frame.rows(p, row);
            if let Some((range, value)) = &last
                && *range == rows
            {
                out.push_ref(value);
                continue;
            }
            // A frame that only grows at its end goes on from the state it had; any other starts again.
            if rows.start != fed.start || rows.end < fed.end {
                state = function.init();
                fed = rows.start..rows.start;
            }
            let fresh: Vec<u32> =
                (fed.end..rows.end).filter(|&r| passes.is_none_or(|f| f[r])).map(|r| r as u32).collect();
            function.update_batch(&mut state, &columns, Some(&fresh), len)?;
            fed = rows.clone();
            let value = function.finish(&self.ctx.stmt.eval, &state)?;
            out.push_ref(&value);
            last = Some((rows, value));
        }
        Ok(())
    }
}

fn positive(d: Datum, function: &str) -> Result<Option<i64>> {
    match d.as_int() {
        Some(n) if n <= 0 => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("argument of {function} must be greater than zero"),
        )),
        n => Ok(n),
    }
}

fn ntile(n: i64, p: &Partition, row: usize) -> i64 {
    let (len, at) = (p.rows.len() as i64, (row - p.rows.start) as i64);
    let (size, larger) = (len / n, len % n);
    let in_larger = larger * (size + 1);
    if at < in_larger { at / (size + 1) + 1 } else { larger + (at - in_larger) / size.max(1) + 1 }
}

fn value(f: &WindowFunction, args: &[Column], p: &Partition, row: usize, frame: &Frame<'_>) -> Result<Datum> {
    let at = row - p.rows.start;
    let group = p.group_of[at];
    let rank = p.peers[group].start - p.rows.start + 1;
    Ok(match f {
        WindowFunction::RowNumber => Datum::Int(at as i64 + 1),
        WindowFunction::Rank => Datum::Int(rank as i64),
        WindowFunction::DenseRank => Datum::Int(group as i64 + 1),
        WindowFunction::PercentRank => {
            let others = p.rows.len() - 1;
            Datum::Float8(if others == 0 { 0.0 } else { (rank - 1) as f64 / others as f64 })
        }
        WindowFunction::CumeDist => {
            Datum::Float8((p.peers[group].end - p.rows.start) as f64 / p.rows.len() as f64)
        }
        WindowFunction::Ntile => match positive(args[0].get(row), "ntile")? {
            None => Datum::Null,
            Some(n) => Datum::Int(ntile(n, p, row)),
        },
        WindowFunction::Lag | WindowFunction::Lead => {
            let Some(offset) = args[1].get(row).as_int() else { return Ok(Datum::Null) };
            let offset = if matches!(f, WindowFunction::Lag) { offset.checked_neg() } else { Some(offset) };
            let target =
                offset.and_then(|o| (row as i64).checked_add(o)).and_then(|t| usize::try_from(t).ok());
            match target.filter(|t| p.rows.contains(t)) {
                Some(t) => args[0].get(t),
                None => args[2].get(row),
            }
        }
        WindowFunction::FirstValue => {
            let rows = frame.rows(p, row);
            if rows.is_empty() { Datum::Null } else { args[0].get(rows.start) }
        }
        WindowFunction::LastValue => {
            let rows = frame.rows(p, row);
            if rows.is_empty() { Datum::Null } else { args[0].get(rows.end - 1) }
        }
        WindowFunction::NthValue => {
            let rows = frame.rows(p, row);
            match positive(args[1].get(row), "nth_value")?.and_then(|n| usize::try_from(n - 1).ok()) {
                Some(n) if n < rows.len() => args[0].get(rows.start + n),
                _ => Datum::Null,
            }
        }
        WindowFunction::Aggregate(_) => panic!("aggregates are computed by partition"),
    })
}

#[async_trait]
impl Operator for WindowOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        if let Some(input) = self.input.take()
            && let Some(batch) = self.run(input).await?
        {
            self.out = Pieces::of(batch);
        }
        Ok(self.out.next())
    }
}
