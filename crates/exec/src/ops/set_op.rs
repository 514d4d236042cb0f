//! DISTINCT, DISTINCT ON, UNION, INTERSECT and EXCEPT.

use async_trait::async_trait;
use meridian_datum::{Batch, DataType, Result};
use meridian_plan::physical::SetOpKind;

use super::groups::{GroupTable, columns_of};
use super::{Ahead, BoxOperator, Operator};
use crate::context::Ctx;
use crate::memory::Reservation;

/// Passes every distinct row once.
pub(super) struct Deduplicator {
    seen: GroupTable,
    memory: Reservation,
    accounted: usize,
}

impl Deduplicator {
    pub(super) fn new(ctx: Ctx<'_>, types: &[DataType]) -> Self {
        Deduplicator { seen: GroupTable::new(types), memory: ctx.stmt.memory.reservation(), accounted: 0 }
    }

    /// The rows not seen before.
    pub(super) fn pass(&mut self, batch: Batch) -> Result<Batch> {
        let columns = columns_of(&batch);
        let fresh: Vec<u32> =
            (0..batch.len()).filter(|&r| self.seen.insert(&columns, r).1).map(|r| r as u32).collect();
        let size = self.seen.heap_size();
        self.memory.grow(size.saturating_sub(self.accounted))?;
        self.accounted = self.accounted.max(size);
        Ok(if fresh.len() == batch.len() { batch } else { batch.gather(&fresh) })
    }
}

/// DISTINCT.
pub(super) struct DistinctOp<'a> {
    input: BoxOperator<'a>,
    ctx: Ctx<'a>,
    seen: Deduplicator,
}

impl<'a> DistinctOp<'a> {
    pub(super) fn new(ctx: Ctx<'a>, input: BoxOperator<'a>, types: &[DataType]) -> Self {
        DistinctOp { input, ctx, seen: Deduplicator::new(ctx, types) }
    }
}

#[async_trait]
impl Operator for DistinctOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        while let Some(batch) = self.input.next().await? {
            self.ctx.stmt.checkpoint().await?;
            let fresh = self.seen.pass(batch)?;
            if !fresh.is_empty() {
                return Ok(Some(fresh));
            }
        }
        Ok(None)
    }
}

/// DISTINCT ON: the first row of every run of equal keys.
pub(super) struct DistinctOnOp<'a> {
    input: BoxOperator<'a>,
    keys: &'a [usize],
    /// The keys of the last row seen, as a batch of one row.
    last: Option<Batch>,
}

impl<'a> DistinctOnOp<'a> {
    pub(super) fn new(input: BoxOperator<'a>, keys: &'a [usize]) -> Self {
        DistinctOnOp { input, keys, last: None }
    }
}

#[async_trait]
impl Operator for DistinctOnOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        while let Some(batch) = self.input.next().await? {
            let same = |a: &Batch, ra: usize, rb: usize, projected: bool| {
                self.keys.iter().enumerate().all(|(i, &k)| {
                    let left = a.column(if projected { i } else { k });
                    left.cmp_rows(ra, batch.column(k), rb).is_eq()
                })
            };
            let mut rows = Vec::new();
            for row in 0..batch.len() {
                let repeated = if row == 0 {
                    self.last.as_ref().is_some_and(|l| same(l, 0, 0, true))
                } else {
                    same(&batch, row - 1, row, false)
                };
                if !repeated {
                    rows.push(row as u32);
                }
            }
            self.last = Some(batch.slice(batch.len() - 1..batch.len()).project(self.keys));
            if !rows.is_empty() {
                return Ok(Some(batch.gather(&rows)));
            }
        }
        Ok(None)
    }
}

/// UNION, INTERSECT, EXCEPT.
pub(super) struct SetOperation<'a> {
    ctx: Ctx<'a>,
    kind: SetOpKind,
    left: Ahead<'a>,
    right: Ahead<'a>,
    /// No input has been read.
    is_new: bool,
    seen: Option<Deduplicator>,
    /// How often each row of the right input is still to be matched.
    counts: Option<(GroupTable, Vec<u64>)>,
    all: bool,
    left_done: bool,
    types: &'a [DataType],
}

impl<'a> SetOperation<'a> {
    pub(super) fn new(
        ctx: Ctx<'a>,
        kind: SetOpKind,
        all: bool,
        left: BoxOperator<'a>,
        right: BoxOperator<'a>,
        types: &'a [DataType],
    ) -> Self {
        let seen = (!all).then(|| Deduplicator::new(ctx, types));
        let (left, right) = (Ahead::of(left), Ahead::of(right));
        SetOperation {
            ctx,
            kind,
            left,
            right,
            is_new: true,
            seen,
            counts: None,
            all,
            left_done: false,
            types,
        }
    }

    async fn union(&mut self) -> Result<Option<Batch>> {
        loop {
            self.ctx.stmt.checkpoint().await?;
            let next = if self.left_done {
                self.right.next().await?
            } else if std::mem::take(&mut self.is_new) {
                self.right.beside(self.ctx, self.left.next()).await?
            } else {
                self.left.next().await?
            };
            let Some(batch) = next else {
                if std::mem::replace(&mut self.left_done, true) {
                    return Ok(None);
                }
                continue;
            };
            let batch = match &mut self.seen {
                Some(seen) => seen.pass(batch)?,
                None => batch,
            };
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
    }

    async fn count_right(&mut self) -> Result<()> {
        let counts = counts_of(self.ctx, &mut self.right, self.types);
        self.counts = Some(self.left.beside(self.ctx, counts).await?);
        Ok(())
    }
}

/// How often each row of an input is in it.
async fn counts_of(
    ctx: Ctx<'_>,
    input: &mut Ahead<'_>,
    types: &[DataType],
) -> Result<(GroupTable, Vec<u64>)> {
    let mut memory = ctx.stmt.memory.reservation();
    let mut table = GroupTable::new(types);
    let mut counts: Vec<u64> = Vec::new();
    while let Some(batch) = input.next().await? {
        ctx.stmt.checkpoint().await?;
        let columns = columns_of(&batch);
        for row in 0..batch.len() {
            let (group, is_new) = table.insert(&columns, row);
            if is_new {
                counts.push(0);
            }
            counts[group as usize] += 1;
        }
        memory.grow(batch.heap_size())?;
    }
    Ok((table, counts))
}

#[async_trait]
impl Operator for SetOperation<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        if self.kind == SetOpKind::Union {
            return self.union().await;
        }
        if self.counts.is_none() {
            self.count_right().await?;
        }
        while let Some(batch) = self.left.next().await? {
            self.ctx.stmt.checkpoint().await?;
            let (table, counts) = self.counts.as_mut().expect("the right input is counted");
            let columns = columns_of(&batch);
            let mut rows = Vec::new();
            for row in 0..batch.len() {
                let matched = match table.find(&columns, row) {
                    Some(g) if !self.all => counts[g as usize] > 0,
                    Some(g) if counts[g as usize] > 0 => {
                        counts[g as usize] -= 1;
                        true
                    }
                    _ => false,
                };
                if matched == (self.kind == SetOpKind::Intersect) {
                    rows.push(row as u32);
                }
            }
            let mut out = batch.gather(&rows);
            if let Some(seen) = &mut self.seen {
                out = seen.pass(out)?;
            }
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
        Ok(None)
    }
}
