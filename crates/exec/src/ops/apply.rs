//! LATERAL: the right side is run for every left row.

use async_trait::async_trait;
use meridian_datum::{Batch, Column, Datum, Result};
use meridian_plan::physical::{Apply, JoinKind};

use super::filter::keep;
use super::{BoxOperator, Operator, Pieces, build};
use crate::context::Ctx;
use crate::eval::Row;

/// Runs the right side for every left row.
pub(super) struct ApplyOp<'a> {
    ctx: Ctx<'a>,
    apply: &'a Apply,
    left: BoxOperator<'a>,
    batch: Batch,
    row: usize,
    out: Pieces,
}

impl<'a> ApplyOp<'a> {
    pub(super) fn new(ctx: Ctx<'a>, apply: &'a Apply) -> Result<Self> {
        let left = build(ctx, &apply.left)?;
        Ok(ApplyOp { ctx, apply, left, batch: Batch::default(), row: 0, out: Pieces::default() })
    }

    /// The output for one left row.
    async fn run(&self, row: usize) -> Result<Batch> {
        let at = Row::Batch(&self.batch, row);
        let resolved = self.ctx.resolve_row(&self.apply.args, at).await?;
        let scope = self.ctx.scope_with(&resolved);
        let args = self.apply.args.iter().map(|e| scope.datum(e, at)).collect::<Result<Vec<Datum>>>()?;
        let inner = Ctx { outer: &args, ..self.ctx };
        let mut right = build(inner, &self.apply.right)?;
        let mut out: Option<Batch> = None;
        let mut memory = self.ctx.stmt.memory.reservation();
        while let Some(batch) = right.next().await? {
            let repeated = vec![row as u32; batch.len()];
            let len = batch.len();
            let mut columns: Vec<Column> = self.batch.columns().iter().map(|c| c.gather(&repeated)).collect();
            columns.extend(batch.into_columns());
            let mut pairs = Batch::new(columns, len);
            if let Some(on) = &self.apply.on {
                pairs = keep(self.ctx, on, pairs).await?;
            }
            memory.grow(pairs.heap_size())?;
            match &mut out {
                None => out = Some(pairs),
                Some(out) => out.append(&pairs),
            }
        }
        match out {
            Some(out) if !out.is_empty() => Ok(out),
            _ if self.apply.kind == JoinKind::Left => {
                let mut columns: Vec<Column> =
                    self.batch.columns().iter().map(|c| c.gather(&[row as u32])).collect();
                columns.extend(self.apply.right.types.iter().map(|t| Column::constant(t, &Datum::Null, 1)));
                Ok(Batch::new(columns, 1))
            }
            _ => Ok(Batch::default()),
        }
    }
}

#[async_trait]
impl Operator for ApplyOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            if let Some(piece) = self.out.next() {
                return Ok(Some(piece));
            }
            self.ctx.stmt.checkpoint().await?;
            if self.row == self.batch.len() {
                let Some(batch) = self.left.next().await? else { return Ok(None) };
                self.batch = batch;
                self.row = 0;
            }
            self.row += 1;
            self.out = Pieces::of(self.run(self.row - 1).await?);
        }
    }
}
