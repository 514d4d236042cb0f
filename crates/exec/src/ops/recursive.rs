//! `WITH RECURSIVE`.
//!
//! Each run of the step is gathered before its rows go on, since the next run reads them; between two runs the operator
//! rests, so that a query that needs only the first rows of an endless recursion ends.

use std::collections::VecDeque;

use async_trait::async_trait;
use meridian_datum::{Batch, DataType, Result};
use meridian_plan::physical::RecursiveUnion;

use super::set_op::Deduplicator;
use super::{BoxOperator, Operator, build};
use crate::context::{Ctx, Work};
use crate::memory::Reservation;

/// Rows of the base, and of the step over the rows that were added last.
pub(super) struct RecursiveOp<'a> {
    ctx: Ctx<'a>,
    union: &'a RecursiveUnion,
    /// The base, until it has ended.
    base: Option<BoxOperator<'a>>,
    /// Every row so far, for UNION without ALL.
    seen: Option<Deduplicator>,
    /// What the next run of the step will read.
    added: Vec<Batch>,
    added_memory: Reservation,
    /// What the last run gave and has not gone on yet.
    out: VecDeque<Batch>,
}

impl<'a> RecursiveOp<'a> {
    pub(super) fn new(ctx: Ctx<'a>, union: &'a RecursiveUnion, types: &[DataType]) -> Result<Self> {
        Ok(RecursiveOp {
            ctx,
            union,
            base: Some(build(ctx, &union.base)?),
            seen: (!union.all).then(|| Deduplicator::new(ctx, types)),
            added: Vec::new(),
            added_memory: ctx.stmt.memory.reservation(),
            out: VecDeque::new(),
        })
    }

    /// The rows of a batch that are new.
    fn fresh(&mut self, batch: Batch) -> Result<Option<Batch>> {
        let fresh = match &mut self.seen {
            Some(seen) => seen.pass(batch)?,
            None => batch,
        };
        if fresh.is_empty() {
            return Ok(None);
        }
        self.added_memory.grow(fresh.heap_size())?;
        self.added.push(fresh.clone());
        Ok(Some(fresh))
    }

    /// Runs the step once.
    async fn step(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.added);
        // The rows of this run are accounted until it ends, those of the next from now on.
        let _held = std::mem::replace(&mut self.added_memory, self.ctx.stmt.memory.reservation());
        let work = Work { index: self.union.index, rows: &rows, parent: self.ctx.work };
        let ctx = Ctx { work: Some(&work), ..self.ctx };
        let mut step = build(ctx, &self.union.step)?;
        while let Some(batch) = step.next().await? {
            self.ctx.stmt.checkpoint().await?;
            if let Some(fresh) = self.fresh(batch)? {
                self.out.push_back(fresh);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Operator for RecursiveOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        while let Some(base) = &mut self.base {
            match base.next().await? {
                Some(batch) => {
                    if let Some(fresh) = self.fresh(batch)? {
                        return Ok(Some(fresh));
                    }
                }
                None => self.base = None,
            }
        }
        loop {
            if let Some(batch) = self.out.pop_front() {
                return Ok(Some(batch));
            }
            if self.added.is_empty() {
                return Ok(None);
            }
            self.ctx.stmt.checkpoint().await?;
            self.step().await?;
        }
    }
}

/// The rows that the last step added.
pub(super) struct WorkScanOp<'a> {
    rows: std::slice::Iter<'a, Batch>,
}

impl<'a> WorkScanOp<'a> {
    pub(super) fn new(rows: &'a [Batch]) -> Self {
        WorkScanOp { rows: rows.iter() }
    }
}

#[async_trait]
impl Operator for WorkScanOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        Ok(self.rows.next().cloned())
    }
}
