//! INSERT, UPDATE, DELETE: constraints, index maintenance, RETURNING.
//!
//! A statement sees the table as it was before it: UPDATE and DELETE read all their rows before they write the first,
//! and so does an INSERT whose query reads the table that it fills. Constraints of the rows are checked in memory,
//! uniqueness by one read per batch of rows that locks what it looks at.

mod constraints;
mod delete;
mod insert;
mod update;
mod upsert;

use std::sync::Arc;

use async_trait::async_trait;
use meridian_catalog::TableDesc;
use meridian_datum::{Batch, Datum, Result};
use meridian_plan::Expr;
use meridian_plan::modify::{Modify, ModifyAction};

use crate::context::Ctx;
use crate::ops::{Operator, Pieces, project};
use crate::table::TableWriter;

pub(crate) use constraints::{Constraints, duplicate_key, key_text};
pub(crate) use insert::Inserter;
pub(crate) use update::assign;

/// Rows written by one call of the store.
pub(crate) const WRITE_ROWS: usize = 1024;

/// A row: one datum per column of its table.
pub(crate) type TableRow = Vec<Datum>;

/// Writes, and yields the rows of RETURNING.
pub(crate) struct ModifyOp<'a> {
    ctx: Ctx<'a>,
    plan: &'a Modify,
    /// The statement's own write, whose rows its command tag counts.
    is_top: bool,
    is_done: bool,
    out: Vec<Batch>,
    pieces: Pieces,
}

/// What a write works with.
pub(crate) struct Target<'a> {
    pub(crate) ctx: Ctx<'a>,
    pub(crate) plan: &'a Modify,
    pub(crate) writer: Arc<TableWriter>,
    pub(crate) constraints: Constraints<'a>,
}

impl<'a> Target<'a> {
    pub(crate) fn new(ctx: Ctx<'a>, plan: &'a Modify) -> Result<Self> {
        Ok(Self::with_writer(ctx, plan, Arc::new(TableWriter::new(&ctx.stmt.catalog, &plan.table)?)))
    }

    /// A target on a catalog that has changes of the statement's own transaction.
    pub(crate) fn on(
        ctx: Ctx<'a>,
        plan: &'a Modify,
        catalog: &meridian_catalog::CatalogSnapshot,
    ) -> Result<Self> {
        Ok(Self::with_writer(ctx, plan, Arc::new(TableWriter::new(catalog, &plan.table)?)))
    }

    /// A target whose codecs were made before.
    pub(crate) fn with_writer(ctx: Ctx<'a>, plan: &'a Modify, writer: Arc<TableWriter>) -> Self {
        Target { ctx, plan, writer, constraints: Constraints::new(&plan.table, &plan.checks) }
    }

    /// The rows of RETURNING over rows of the table.
    pub(crate) async fn returning(&self, rows: &[TableRow], out: &mut Vec<Batch>) -> Result<()> {
        let Some(exprs) = &self.plan.returning else { return Ok(()) };
        if rows.is_empty() {
            return Ok(());
        }
        out.push(project(self.ctx, exprs, &table_batch(&self.plan.table, rows)).await?);
        Ok(())
    }

    /// The rows of RETURNING over a batch.
    pub(crate) async fn returning_batch(&self, batch: &Batch, out: &mut Vec<Batch>) -> Result<()> {
        let Some(exprs) = &self.plan.returning else { return Ok(()) };
        if !batch.is_empty() {
            out.push(project(self.ctx, exprs, batch).await?);
        }
        Ok(())
    }
}

/// Rows of a table as a batch of all its columns.
pub(crate) fn table_batch(table: &TableDesc, rows: &[TableRow]) -> Batch {
    let mut batch = Batch::with_capacity(table.columns.iter().map(|c| &c.ty), rows.len());
    for row in rows {
        batch.push_row(row);
    }
    batch
}

/// Evaluates a row of expressions that see no input.
pub(crate) async fn literal_row(ctx: Ctx<'_>, exprs: &[Expr]) -> Result<TableRow> {
    let resolved = ctx.resolve_row(exprs, crate::eval::Row::None).await?;
    let scope = ctx.scope_with(&resolved);
    exprs.iter().map(|e| scope.datum(e, crate::eval::Row::None)).collect()
}

impl<'a> ModifyOp<'a> {
    pub(crate) fn new(ctx: Ctx<'a>, plan: &'a Modify, is_top: bool) -> Result<Self> {
        Ok(ModifyOp { ctx, plan, is_top, is_done: false, out: Vec::new(), pieces: Pieces::default() })
    }

    async fn run(&mut self) -> Result<()> {
        let target = Target::new(self.ctx, self.plan)?;
        let affected = match &self.plan.action {
            ModifyAction::Insert { source, on_conflict } => {
                insert::run(&target, source, on_conflict.as_ref(), &mut self.out).await?
            }
            ModifyAction::Update { input, assignments } => {
                update::run(&target, input, assignments, &mut self.out).await?
            }
            ModifyAction::Delete { input } => delete::run(&target, input, &mut self.out).await?,
        };
        if self.is_top {
            self.ctx.stmt.add_affected(affected);
        }
        self.out.reverse();
        Ok(())
    }
}

#[async_trait]
impl Operator for ModifyOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        if !std::mem::replace(&mut self.is_done, true) {
            self.run().await?;
        }
        loop {
            if let Some(piece) = self.pieces.next() {
                return Ok(Some(piece));
            }
            match self.out.pop() {
                Some(batch) => self.pieces = Pieces::of(batch),
                None => return Ok(None),
            }
        }
    }
}
