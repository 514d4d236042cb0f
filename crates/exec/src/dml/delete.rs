//! DELETE, and what follows a row that is interleaved in.

use std::collections::HashSet;

use meridian_catalog::TableRef;
use meridian_datum::{Batch, Result, SqlError, SqlState};
use meridian_kv_api::{KvWrite, Locking, ScanRequest};
use meridian_plan::Plan;
use meridian_types::{Key, Span, limits};

use super::constraints::key_text;
use super::{TableRow, Target, WRITE_ROWS};
use crate::context::Statement;
use crate::ops;
use crate::table::{Decoded, IndexReader, TableWriter};

/// Runs a DELETE; returns how many rows were removed.
pub(super) async fn run(target: &Target<'_>, input: &Plan, out: &mut Vec<Batch>) -> Result<u64> {
    let stmt = target.ctx.stmt;
    let width = target.plan.table.columns.len();
    let may_repeat = input.types.len() > width;
    let mut memory = stmt.memory.reservation();
    let mut seen: HashSet<Key> = HashSet::new();
    let mut batches = Vec::new();
    let mut op = ops::build(target.ctx, input)?;
    while let Some(batch) = op.next().await? {
        stmt.checkpoint().await?;
        memory.grow(batch.heap_size())?;
        batches.push(batch);
    }
    drop(op);
    let mut removed = 0;
    for batch in batches {
        stmt.checkpoint().await?;
        let mut kept = Vec::with_capacity(batch.len());
        let mut rows = Vec::with_capacity(batch.len());
        for r in 0..batch.len() {
            let mut row = batch.row(r);
            row.truncate(width);
            if may_repeat && !seen.insert(target.writer.primary.key(&row)?) {
                continue;
            }
            kept.push(r as u32);
            rows.push(row);
        }
        remove(target, &rows).await?;
        removed += rows.len() as u64;
        target.returning_batch(&batch.gather(&kept), out).await?;
    }
    Ok(removed)
}

/// Removes rows with all their entries.
async fn remove(target: &Target<'_>, rows: &[TableRow]) -> Result<()> {
    let stmt = target.ctx.stmt;
    for chunk in rows.chunks(WRITE_ROWS) {
        let mut writes = Vec::with_capacity(chunk.len() * (1 + target.writer.secondary.len()));
        for row in chunk {
            let key = target.writer.primary.key(row)?;
            if !target.plan.children.is_empty() {
                remove_children(target, &key, row, &mut writes).await?;
            }
            target.writer.delete(key, row, &mut writes)?;
        }
        stmt.wait(stmt.txn.write(writes)).await?;
    }
    Ok(())
}

/// Every table below these, in order of depth.
fn descendants(stmt: &Statement, children: &[TableRef]) -> Vec<TableRef> {
    let mut all: Vec<TableRef> = children.to_vec();
    let mut at = 0;
    while at < all.len() {
        let below: Vec<TableRef> = stmt.catalog.children(all[at].id).cloned().collect();
        for t in below {
            if !all.iter().any(|a| a.id == t.id) {
                all.push(t);
            }
        }
        at += 1;
    }
    all
}

/// Removes the rows interleaved in a row, or refuses where the table says so.
async fn remove_children(
    target: &Target<'_>,
    key: &Key,
    row: &TableRow,
    writes: &mut Vec<KvWrite>,
) -> Result<()> {
    let stmt = target.ctx.stmt;
    for child in descendants(stmt, &target.plan.children) {
        let cascade = child.interleave.is_some_and(|i| i.cascade);
        for (child_key, child_row) in rows_below(stmt, key, &child).await? {
            if !cascade {
                return Err(still_referenced(target, row, &child));
            }
            TableWriter::new(&stmt.catalog, &child)?.delete(child_key, &child_row, writes)?;
        }
    }
    Ok(())
}

/// The rows of a table whose keys lie below a row's key.
async fn rows_below(stmt: &Statement, key: &Key, table: &TableRef) -> Result<Vec<(Key, TableRow)>> {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let reader = IndexReader::new(&stmt.catalog, table, &table.primary, &all)?;
    let mut out = Vec::new();
    let mut rest = Some(Span::prefix(key));
    while let Some(span) = rest {
        let limit = limits::SCAN_PAGE_ROWS;
        let request = ScanRequest { span, reverse: false, limit, locking: Locking::EXCLUSIVE };
        let page = stmt.wait(stmt.txn.scan(request)).await?;
        for (k, value) in page.rows {
            let mut batch = reader.batch(1);
            if reader.read(k.as_bytes(), &value, &mut batch)? == Decoded::Row {
                out.push((k, batch.row(0)));
            }
        }
        rest = page.resume;
    }
    Ok(out)
}

/// A row that moves to another key must not leave children behind.
pub(super) async fn refuse_children(target: &Target<'_>, old: &[TableRow], new: &[TableRow]) -> Result<()> {
    let stmt = target.ctx.stmt;
    if target.plan.children.is_empty() {
        return Ok(());
    }
    for (old, new) in old.iter().zip(new) {
        let key = target.writer.primary.key(old)?;
        if key == target.writer.primary.key(new)? {
            continue;
        }
        for child in descendants(stmt, &target.plan.children) {
            if !rows_below(stmt, &key, &child).await?.is_empty() {
                return Err(still_referenced(target, old, &child));
            }
        }
    }
    Ok(())
}

#[cold]
fn still_referenced(target: &Target<'_>, row: &TableRow, child: &TableRef) -> SqlError {
    let table = &target.plan.table;
    let message = format!(
        "update or delete on table \"{}\" violates interleaving of table \"{}\"",
        table.name, child.name
    );
    let key = key_text(target.ctx.stmt, table, &target.writer.primary, row);
    SqlError::new(SqlState::FOREIGN_KEY_VIOLATION, message)
        .with_detail(format!("{key} is still referenced from table \"{}\".", child.name))
        .with_table(target.ctx.stmt.catalog.schema_name(table), table.name.clone())
}
