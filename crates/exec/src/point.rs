//! Statements on one row by its whole primary key: no operators, no optimiser's work, one or two calls of the store.
//!
//! What such a statement needs besides its parameters (codecs, lists of columns) is made once per plan, as
//! [`CompiledPoint`], and kept beside the plan.

use std::sync::Arc;

use meridian_catalog::CatalogSnapshot;
use meridian_datum::{Batch, Datum, Result};
use meridian_kv_api::{KvWrite, LockWait, Locking};
use meridian_plan::modify::{InsertSource, Modify, ModifyAction, PointDelete, PointSelect, PointUpdate};
use meridian_plan::{Expr, StatementPlan};
use meridian_types::Key;
use smallvec::SmallVec;

use crate::context::{Ctx, Statement};
use crate::dml::{self, Constraints, Inserter, Target, duplicate_key, table_batch};
use crate::eval::Row;
use crate::ops;
use crate::table::{IndexReader, TableWriter};

/// The codecs of a point statement.
#[derive(Debug)]
pub struct CompiledPoint {
    /// Reads the columns that the statement needs; absent for INSERT.
    reader: Option<IndexReader>,
    writer: Arc<TableWriter>,
    /// Ordinals that an UPDATE assigns to.
    changed: Vec<usize>,
    /// No assigned column is in a unique secondary index or in the condition of one.
    keeps_unique_keys: bool,
}

impl CompiledPoint {
    /// The codecs of a plan; `None` when it is no point statement.
    pub fn new(plan: &StatementPlan, catalog: &CatalogSnapshot) -> Result<Option<CompiledPoint>> {
        let (table, columns): (_, Option<Vec<usize>>) = match plan {
            StatementPlan::PointSelect(p) => (&p.table, Some(p.columns.clone())),
            StatementPlan::PointUpdate(p) => (&p.table, Some((0..p.table.columns.len()).collect())),
            StatementPlan::PointDelete(p) => (&p.table, Some((0..p.table.columns.len()).collect())),
            StatementPlan::PointInsert(m) => (&m.table, None),
            _ => return Ok(None),
        };
        let writer = match plan {
            // Reads go on while a table is rewritten.
            StatementPlan::PointSelect(_) => TableWriter::of_any(catalog, table)?,
            _ => TableWriter::new(catalog, table)?,
        };
        let changed: Vec<usize> = match plan {
            StatementPlan::PointUpdate(p) => p.assignments.iter().map(|(o, _)| *o).collect(),
            _ => Vec::new(),
        };
        let keeps_unique_keys =
            writer.unique_indexes().all(|i| !i.constraining_columns().any(|o| changed.contains(&o)));
        let reader = match columns {
            Some(columns) => Some(IndexReader::new(catalog, table, &table.primary, &columns)?),
            None => None,
        };
        Ok(Some(CompiledPoint { reader, writer: Arc::new(writer), changed, keeps_unique_keys }))
    }

    fn reader(&self) -> &IndexReader {
        self.reader.as_ref().expect("the statement reads a row")
    }

    /// Runs the statement: its rows, if it has any, and how many rows it wrote.
    pub async fn run(&self, stmt: &Statement) -> Result<(Option<Batch>, u64)> {
        let ctx = stmt.ctx();
        match &stmt.planned.plan {
            StatementPlan::PointSelect(p) => Ok((self.select(ctx, p).await?, 0)),
            StatementPlan::PointUpdate(p) => self.update(ctx, p).await,
            StatementPlan::PointDelete(p) => self.delete(ctx, p).await,
            StatementPlan::PointInsert(m) => Box::pin(self.insert(ctx, m)).await,
            _ => panic!("codecs of a point statement were used for another plan"),
        }
    }

    /// The key; `None` when a value is NULL.
    async fn key(&self, ctx: Ctx<'_>, exprs: &[Expr]) -> Result<Option<Key>> {
        let mut values: SmallVec<[Datum; 4]> = SmallVec::new();
        for e in exprs {
            let value = ctx.constant(e).await?;
            if value.is_null() {
                return Ok(None);
            }
            values.push(value);
        }
        self.writer.primary.key_of_values(&values).map(Some)
    }

    async fn select(&self, ctx: Ctx<'_>, p: &PointSelect) -> Result<Option<Batch>> {
        let Some(key) = self.key(ctx, &p.key).await? else { return Ok(None) };
        let stmt = ctx.stmt;
        let value = if p.locking.wait == LockWait::SkipLocked {
            stmt.wait(stmt.txn.multi_get(vec![key.clone()], p.locking)).await?.pop().flatten()
        } else {
            stmt.wait(stmt.txn.get(key.clone(), p.locking)).await?
        };
        let Some(value) = value else { return Ok(None) };
        let mut batch = self.reader().batch(1);
        self.reader().read(key.as_bytes(), &value, &mut batch)?;
        if let Some(filter) = &p.filter {
            batch = Box::pin(ops::keep(ctx, filter, batch)).await?;
            if batch.is_empty() {
                return Ok(None);
            }
        }
        if p.is_identity {
            Ok(Some(batch))
        } else {
            Box::pin(ops::project(ctx, &p.exprs, &batch)).await.map(Some)
        }
    }

    /// The old row, locked, if it is there and passes the filter.
    async fn old_row(&self, ctx: Ctx<'_>, key: &Key, filter: Option<&Expr>) -> Result<Option<Vec<Datum>>> {
        let stmt = ctx.stmt;
        let Some(value) = stmt.wait(stmt.txn.get(key.clone(), Locking::EXCLUSIVE)).await? else {
            return Ok(None);
        };
        let old = self.reader().read_row(key.as_bytes(), &value)?;
        if let Some(filter) = filter {
            let resolved = ctx.resolve_row([filter], Row::Values(&old)).await?;
            let passes = ctx.scope_with(&resolved).datum(filter, Row::Values(&old))?;
            if passes.as_bool() != Some(true) {
                return Ok(None);
            }
        }
        Ok(Some(old))
    }

    async fn update(&self, ctx: Ctx<'_>, p: &PointUpdate) -> Result<(Option<Batch>, u64)> {
        let Some(key) = self.key(ctx, &p.key).await? else { return Ok((None, 0)) };
        let Some(old) = self.old_row(ctx, &key, p.filter.as_ref()).await? else { return Ok((None, 0)) };
        let row = Row::Values(&old);
        let resolved = ctx.resolve_row(p.assignments.iter().map(|(_, e)| e), row).await?;
        let new = dml::assign(ctx.scope_with(&resolved), &old, &p.assignments, row)?;
        let new = [new];
        Box::pin(Constraints::new(&p.table, &p.checks).check(ctx, &new)).await?;
        let stmt = ctx.stmt;
        if !self.keeps_unique_keys {
            Box::pin(self.check_unique(ctx, p, &old, &new[0])).await?;
        }
        let mut writes = Vec::with_capacity(1 + 2 * self.writer.secondary.len());
        self.writer.update(&old, &new[0], &self.changed, &mut writes)?;
        stmt.wait(stmt.txn.write(writes)).await?;
        let rows = match &p.returning {
            None => None,
            Some(exprs) => Some(Box::pin(ops::project(ctx, exprs, &table_batch(&p.table, &new))).await?),
        };
        Ok((rows, 1))
    }

    async fn check_unique(&self, ctx: Ctx<'_>, p: &PointUpdate, old: &[Datum], new: &[Datum]) -> Result<()> {
        let stmt = ctx.stmt;
        for index in self.writer.unique_indexes() {
            let may_conflict = index.constraining_columns().any(|o| self.changed.contains(&o));
            if !may_conflict {
                continue;
            }
            let Some(key) = index.constrained_key(new)? else { continue };
            let is_own = index.existing_constrained_key(old).is_some_and(|old| old == key);
            if !is_own && stmt.wait(stmt.txn.get(key, Locking::EXCLUSIVE)).await?.is_some() {
                return Err(duplicate_key(stmt, &p.table, index, new));
            }
        }
        Ok(())
    }

    async fn delete(&self, ctx: Ctx<'_>, p: &PointDelete) -> Result<(Option<Batch>, u64)> {
        let Some(key) = self.key(ctx, &p.key).await? else { return Ok((None, 0)) };
        let Some(old) = self.old_row(ctx, &key, p.filter.as_ref()).await? else { return Ok((None, 0)) };
        let stmt = ctx.stmt;
        let mut writes: Vec<KvWrite> = Vec::with_capacity(1 + self.writer.secondary.len());
        self.writer.delete(key, &old, &mut writes)?;
        stmt.wait(stmt.txn.write(writes)).await?;
        let rows = match &p.returning {
            None => None,
            Some(exprs) => Some(Box::pin(ops::project(ctx, exprs, &table_batch(&p.table, &[old]))).await?),
        };
        Ok((rows, 1))
    }

    async fn insert(&self, ctx: Ctx<'_>, m: &Modify) -> Result<(Option<Batch>, u64)> {
        let ModifyAction::Insert { source: InsertSource::Rows(rows), on_conflict } = &m.action else {
            panic!("a point insert has literal rows");
        };
        let target = Target::with_writer(ctx, m, self.writer.clone());
        let mut out = Vec::new();
        let mut inserter = Inserter::new(&target, on_conflict.as_ref());
        for exprs in rows {
            let row = dml::literal_row(ctx, exprs).await?;
            inserter.push(row, &mut out).await?;
        }
        let affected = inserter.finish(&mut out).await?;
        Ok((ops::concat(out), affected))
    }
}
