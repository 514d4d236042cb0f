//! Operators without input: VALUES, virtual tables, common table expressions.

use async_trait::async_trait;
use meridian_catalog::VirtualTable;
use meridian_datum::{Batch, Column, DataType, Result};
use meridian_plan::Expr;

use super::filter::keep;
use super::{BATCH_ROWS, Operator, Pieces, build, collect, virtual_rows};
use crate::context::Ctx;
use crate::eval::Row;

/// Constant rows.
pub(super) struct ValuesOp<'a> {
    ctx: Ctx<'a>,
    rows: &'a [Vec<Expr>],
    types: &'a [DataType],
}

impl<'a> ValuesOp<'a> {
    pub(super) fn new(ctx: Ctx<'a>, rows: &'a [Vec<Expr>], types: &'a [DataType]) -> Self {
        ValuesOp { ctx, rows, types }
    }
}

#[async_trait]
impl Operator for ValuesOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        let (chunk, rest) = self.rows.split_at(self.rows.len().min(BATCH_ROWS));
        self.rows = rest;
        if chunk.is_empty() {
            return Ok(None);
        }
        let mut out = Batch::with_capacity(self.types, chunk.len());
        for row in chunk {
            if row.is_empty() {
                out.push_empty_row();
                continue;
            }
            let resolved = self.ctx.resolve_row(row, Row::None).await?;
            let scope = self.ctx.scope_with(&resolved);
            out.push_with(|columns: &mut [Column]| {
                for (e, c) in row.iter().zip(columns) {
                    c.push(scope.datum(e, Row::None)?);
                }
                Ok::<(), meridian_datum::SqlError>(())
            })?;
        }
        Ok(Some(out))
    }
}

/// A catalog or cluster table.
pub(super) struct VirtualScanOp<'a> {
    ctx: Ctx<'a>,
    table: &'a VirtualTable,
    columns: &'a [usize],
    filter: Option<&'a Expr>,
    rows: Option<Pieces>,
}

impl<'a> VirtualScanOp<'a> {
    pub(super) fn new(
        ctx: Ctx<'a>,
        table: &'a VirtualTable,
        columns: &'a [usize],
        filter: Option<&'a Expr>,
    ) -> Self {
        VirtualScanOp { ctx, table, columns, filter, rows: None }
    }
}

#[async_trait]
impl Operator for VirtualScanOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        if self.rows.is_none() {
            let rows = virtual_rows(self.ctx.stmt, self.table).await?;
            let types = self.columns.iter().map(|&c| &self.table.columns[c].ty);
            let mut batch = Batch::with_capacity(types, rows.len());
            for row in &rows {
                if self.columns.is_empty() {
                    batch.push_empty_row();
                    continue;
                }
                batch.push_with(|out: &mut [Column]| {
                    for (c, &at) in out.iter_mut().zip(self.columns) {
                        c.push_ref(&row[at]);
                    }
                    Ok::<(), meridian_datum::SqlError>(())
                })?;
            }
            if let Some(filter) = self.filter
                && !batch.is_empty()
            {
                batch = keep(self.ctx, filter, batch).await?;
            }
            self.rows = Some(Pieces::of(batch));
        }
        Ok(self.rows.as_mut().and_then(Pieces::next))
    }
}

/// The rows of a WITH query that is run once.
pub(super) struct CteScanOp<'a> {
    ctx: Ctx<'a>,
    index: usize,
    next: usize,
}

impl<'a> CteScanOp<'a> {
    pub(super) fn new(ctx: Ctx<'a>, index: usize) -> Self {
        CteScanOp { ctx, index, next: 0 }
    }
}

/// Runs a WITH query unless it has been.
pub(crate) async fn cte_rows(ctx: Ctx<'_>, index: usize) -> Result<&[Batch]> {
    let stmt = ctx.stmt;
    let run = async {
        let top = Ctx { stmt, outer: &[], work: None };
        // What the rows take stays accounted until the statement ends; its account dies with it.
        let mut memory = stmt.memory.reservation();
        collect(build(top, &stmt.planned.ctes[index])?, &mut memory, top).await
    };
    Ok(stmt.ctes[index].get_or_try_init(|| run).await?)
}

#[async_trait]
impl Operator for CteScanOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        let rows = cte_rows(self.ctx, self.index).await?;
        self.next += 1;
        Ok(rows.get(self.next - 1).cloned())
    }
}
