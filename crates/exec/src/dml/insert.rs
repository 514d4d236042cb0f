//! INSERT.

use std::collections::HashSet;

use meridian_datum::{Batch, Datum, Result, SqlError, SqlState};
use meridian_kv_api::Locking;
use meridian_plan::modify::{InsertSource, OnConflict};
use meridian_plan::{Operator as Op, Plan};
use meridian_types::Key;

use super::{TableRow, Target, WRITE_ROWS, duplicate_key, literal_row, upsert};
use crate::ops;

/// Runs an INSERT; returns how many rows were written.
pub(super) async fn run(
    target: &Target<'_>,
    source: &InsertSource,
    on_conflict: Option<&OnConflict>,
    out: &mut Vec<Batch>,
) -> Result<u64> {
    let mut inserter = Inserter::new(target, on_conflict);
    match source {
        InsertSource::Rows(rows) => {
            for exprs in rows {
                let row = literal_row(target.ctx, exprs).await?;
                inserter.push(row, out).await?;
            }
        }
        InsertSource::Query { input, row } => {
            let mut op = ops::build(target.ctx, input)?;
            let mut memory = target.ctx.stmt.memory.reservation();
            let must_hold = reads_table(input, target);
            let mut held = Vec::new();
            while let Some(batch) = op.next().await? {
                target.ctx.stmt.checkpoint().await?;
                let rows = ops::project(target.ctx, row, &batch).await?;
                if must_hold {
                    memory.grow(rows.heap_size())?;
                    held.push(rows);
                    continue;
                }
                for r in 0..rows.len() {
                    inserter.push(rows.row(r), out).await?;
                }
            }
            for rows in held {
                for r in 0..rows.len() {
                    inserter.push(rows.row(r), out).await?;
                }
            }
        }
    }
    inserter.finish(out).await
}

/// Whether the query may see rows that the statement itself adds. Anything but a source of constant rows is taken to
/// read the table.
fn reads_table(plan: &Plan, target: &Target<'_>) -> bool {
    match &plan.op {
        Op::Values { .. } | Op::VirtualScan { .. } | Op::TableFunction(_) => false,
        Op::Scan(scan) => scan.table.id == target.plan.table.id,
        Op::Project { input, .. } | Op::Filter { input, .. } | Op::Limit { input, .. } => {
            reads_table(input, target)
        }
        _ => true,
    }
}

/// Adds rows in batches.
pub(crate) struct Inserter<'t, 'a> {
    target: &'t Target<'a>,
    on_conflict: Option<&'t OnConflict>,
    rows: Vec<TableRow>,
    upsert: upsert::Touched,
    affected: u64,
}

impl<'t, 'a> Inserter<'t, 'a> {
    pub(crate) fn new(target: &'t Target<'a>, on_conflict: Option<&'t OnConflict>) -> Self {
        Inserter { target, on_conflict, rows: Vec::new(), upsert: upsert::Touched::default(), affected: 0 }
    }

    /// Adds a row; writes when a batch is full.
    pub(crate) async fn push(&mut self, row: TableRow, out: &mut Vec<Batch>) -> Result<()> {
        self.rows.push(row);
        if self.rows.len() >= WRITE_ROWS { self.flush(out).await } else { Ok(()) }
    }

    /// Writes what is left; how many rows were written in all.
    pub(crate) async fn finish(mut self, out: &mut Vec<Batch>) -> Result<u64> {
        self.flush(out).await?;
        Ok(self.affected)
    }

    async fn flush(&mut self, out: &mut Vec<Batch>) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        self.target.ctx.stmt.checkpoint().await?;
        self.target.constraints.check(self.target.ctx, &rows).await?;
        check_parents(self.target, &rows).await?;
        let written = match self.on_conflict {
            None => {
                insert_new(self.target, &rows).await?;
                rows
            }
            Some(on_conflict) => upsert::run(self.target, on_conflict, rows, &mut self.upsert).await?,
        };
        self.affected += written.len() as u64;
        self.target.returning(&written, out).await
    }
}

/// Adds rows none of which may exist.
pub(crate) async fn insert_new(target: &Target<'_>, rows: &[TableRow]) -> Result<()> {
    let stmt = target.ctx.stmt;
    let table = &target.plan.table;
    let mut writes = Vec::with_capacity(rows.len() * (1 + target.writer.secondary.len()));
    let mut keys: Vec<Key> = Vec::with_capacity(rows.len());
    let mut owners = Vec::with_capacity(rows.len());
    let has_row_id = table.has_row_id();
    for (at, row) in rows.iter().enumerate() {
        let primary_key = target.writer.primary.key(row)?;
        for index in target.writer.unique_indexes() {
            let is_primary = index.id == meridian_catalog::IndexId::PRIMARY;
            let key = match is_primary {
                // A row id is drawn fresh and cannot be there already.
                true if has_row_id => None,
                true => Some(primary_key.clone()),
                false => index.constrained_key(row)?,
            };
            owners.extend(key.is_some().then_some((at, index)));
            keys.extend(key);
        }
        target.writer.insert(primary_key, row, &mut writes)?;
    }
    if let [_] = keys.as_slice() {
        let key = keys.pop().expect("there is one key");
        if stmt.wait(stmt.txn.get(key, Locking::EXCLUSIVE)).await?.is_some() {
            return Err(duplicate_key(stmt, table, owners[0].1, &rows[owners[0].0]));
        }
    } else if !keys.is_empty() {
        let mut seen: HashSet<&Key> = HashSet::with_capacity(keys.len());
        let twice = keys.iter().position(|k| !seen.insert(k));
        let found = stmt.wait(stmt.txn.multi_get(keys.clone(), Locking::EXCLUSIVE)).await?;
        let exists = found.iter().position(Option::is_some);
        let first = match (exists, twice) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if let Some(at) = first {
            let (row, index) = owners[at];
            return Err(duplicate_key(stmt, table, index, &rows[row]));
        }
    }
    stmt.wait(stmt.txn.write(writes)).await
}

/// Rows of an interleaved table need their parent.
pub(super) async fn check_parents(target: &Target<'_>, rows: &[TableRow]) -> Result<()> {
    let (Some(parent), Some(interleave)) = (&target.plan.parent, target.plan.table.interleave) else {
        return Ok(());
    };
    let stmt = target.ctx.stmt;
    let writer = crate::table::IndexWriter::new(&stmt.catalog, parent, &parent.primary)?;
    let shared = &target.plan.table.key_ordinals()[..interleave.shared_columns];
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        let values: Vec<Datum> = shared.iter().map(|&o| row[o].clone()).collect();
        keys.push(writer.key_of_values(&values)?);
    }
    let mut distinct = keys.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let found = stmt.wait(stmt.txn.multi_get(distinct.clone(), Locking::SHARED)).await?;
    let Some(missing) = distinct.iter().zip(&found).find(|(_, v)| v.is_none()).map(|(k, _)| k) else {
        return Ok(());
    };
    let row = keys.iter().position(|k| k == missing).expect("every distinct key is some row's");
    Err(orphan(target, parent, shared, &rows[row]))
}

#[cold]
fn orphan(
    target: &Target<'_>,
    parent: &meridian_catalog::TableDesc,
    shared: &[usize],
    row: &[Datum],
) -> SqlError {
    let table = &target.plan.table;
    let eval = &target.ctx.stmt.eval;
    let names: Vec<&str> = shared.iter().map(|&o| table.columns[o].name.as_str()).collect();
    let values: Vec<String> =
        shared.iter().map(|&o| meridian_datum::to_text(eval, &row[o], &table.columns[o].ty)).collect();
    let message = format!(
        "insert or update on table \"{}\" violates interleaving in parent \"{}\"",
        table.name, parent.name
    );
    SqlError::new(SqlState::FOREIGN_KEY_VIOLATION, message)
        .with_detail(format!(
            "Key ({})=({}) is not present in table \"{}\".",
            names.join(", "),
            values.join(", "),
            parent.name
        ))
        .with_table(target.ctx.stmt.catalog.schema_name(table), table.name.clone())
}
