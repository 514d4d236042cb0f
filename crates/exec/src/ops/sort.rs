//! Sort and TopN.

use std::cmp::Ordering;

use async_trait::async_trait;
use meridian_datum::{Batch, Result};
use meridian_plan::Expr;
use meridian_plan::physical::SortKey;

use super::filter::{limit_value, offset_value};
use super::{BoxOperator, Operator, Pieces, collect, concat};
use crate::context::Ctx;
use crate::memory::Reservation;

/// The order of two rows under sort keys.
pub(super) fn compare(keys: &[SortKey], a: &Batch, row_a: usize, b: &Batch, row_b: usize) -> Ordering {
    for key in keys {
        let (x, y) = (a.column(key.column), b.column(key.column));
        let order = match (x.is_null(row_a), y.is_null(row_b)) {
            (true, true) => Ordering::Equal,
            (true, false) if key.nulls_first => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if key.nulls_first => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if key.descending => y.cmp_rows(row_b, x, row_a),
            (false, false) => x.cmp_rows(row_a, y, row_b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// The rows of a batch in order.
pub(super) fn sorted_rows(keys: &[SortKey], batch: &Batch) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..batch.len() as u32).collect();
    rows.sort_by(|&a, &b| compare(keys, batch, a as usize, batch, b as usize));
    rows
}

/// Sorts all rows, stably.
pub(super) struct SortOp<'a> {
    input: Option<BoxOperator<'a>>,
    ctx: Ctx<'a>,
    keys: &'a [SortKey],
    memory: Reservation,
    out: Pieces,
}

impl<'a> SortOp<'a> {
    pub(super) fn new(ctx: Ctx<'a>, input: BoxOperator<'a>, keys: &'a [SortKey]) -> Self {
        SortOp {
            input: Some(input),
            ctx,
            keys,
            memory: ctx.stmt.memory.reservation(),
            out: Pieces::default(),
        }
    }
}

#[async_trait]
impl Operator for SortOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        if let Some(input) = self.input.take()
            && let Some(all) = concat(collect(input, &mut self.memory, self.ctx).await?)
        {
            let rows = sorted_rows(self.keys, &all);
            self.out = Pieces::of(all.gather(&rows));
        }
        Ok(self.out.next())
    }
}

/// Sorts and keeps the first rows.
pub(super) struct TopNOp<'a> {
    input: Option<BoxOperator<'a>>,
    ctx: Ctx<'a>,
    keys: &'a [SortKey],
    limit: &'a Expr,
    offset: Option<&'a Expr>,
    out: Pieces,
}

impl<'a> TopNOp<'a> {
    pub(super) fn new(
        ctx: Ctx<'a>,
        input: BoxOperator<'a>,
        keys: &'a [SortKey],
        limit: &'a Expr,
        offset: Option<&'a Expr>,
    ) -> Self {
        TopNOp { input: Some(input), ctx, keys, limit, offset, out: Pieces::default() }
    }

    async fn run(&self, mut input: BoxOperator<'_>) -> Result<Option<Batch>> {
        let offset = usize::try_from(offset_value(self.ctx, self.offset).await?).unwrap_or(usize::MAX);
        let limit = limit_value(self.ctx, Some(self.limit)).await?;
        let limit = limit.map_or(usize::MAX, |l| usize::try_from(l).unwrap_or(usize::MAX));
        let wanted = offset.saturating_add(limit);
        if limit == 0 {
            return Ok(None);
        }
        let mut memory = self.ctx.stmt.memory.reservation();
        let mut kept: Option<Batch> = None;
        while let Some(batch) = input.next().await? {
            self.ctx.stmt.checkpoint().await?;
            let all = match kept.take() {
                None => batch,
                Some(mut k) => {
                    k.append(&batch);
                    k
                }
            };
            // Sorting costs more than holding a few rows too many, so the excess may grow before it is cut.
            kept = Some(if all.len() > wanted.saturating_mul(2).saturating_add(1024) {
                let mut rows = sorted_rows(self.keys, &all);
                rows.truncate(wanted);
                all.gather(&rows)
            } else {
                memory.grow(batch_growth(&all))?;
                all
            });
        }
        let Some(all) = kept else { return Ok(None) };
        let mut rows = sorted_rows(self.keys, &all);
        rows.truncate(wanted);
        rows.drain(..offset.min(rows.len()));
        Ok(Some(all.gather(&rows)))
    }
}

fn batch_growth(batch: &Batch) -> usize {
    batch.heap_size().min(1 << 16)
}

#[async_trait]
impl Operator for TopNOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        if let Some(input) = self.input.take()
            && let Some(batch) = self.run(input).await?
        {
            self.out = Pieces::of(batch);
        }
        Ok(self.out.next())
    }
}
