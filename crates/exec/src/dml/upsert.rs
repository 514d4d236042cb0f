//! INSERT ... ON CONFLICT.

use std::collections::HashSet;

use bytes::Bytes;
use meridian_catalog::IndexId;
use meridian_datum::{Datum, Result, SqlError, SqlState};
use meridian_kv_api::Locking;
use meridian_plan::Expr;
use meridian_plan::modify::{ConflictAction, OnConflict};
use meridian_types::Key;

use super::insert::insert_new;
use super::{TableRow, Target, update};
use crate::eval::Row;
use crate::table::{IndexReader, IndexWriter};

/// Unique keys of rows that this statement has added or changed.
#[derive(Default)]
pub(super) struct Touched {
    keys: HashSet<Key>,
}

/// A proposed row meets an existing one.
struct Conflict<'t> {
    index: &'t IndexWriter,
    key: Key,
    value: Option<Bytes>,
}

/// Adds rows or resolves their conflicts; returns the rows that were added or changed.
pub(super) async fn run(
    target: &Target<'_>,
    on_conflict: &OnConflict,
    rows: Vec<TableRow>,
    touched: &mut Touched,
) -> Result<Vec<TableRow>> {
    let found = existing(target, on_conflict, &rows).await?;
    let mut written = Vec::new();
    let mut fresh: Vec<TableRow> = Vec::new();
    for (row, conflicts) in rows.into_iter().zip(found) {
        let mut own_conflict = false;
        for c in &conflicts {
            own_conflict |= touched.keys.contains(&c.key);
        }
        let conflict = conflicts.iter().find(|c| c.value.is_some());
        if own_conflict || conflict.is_some() {
            match &on_conflict.action {
                ConflictAction::Nothing => {}
                ConflictAction::Update { .. } if own_conflict => return Err(second_time()),
                ConflictAction::Update { assignments, filter } => {
                    let conflict = conflict.expect("a row of the table conflicts");
                    // Rows added so far must be seen by the checks of the one that changes.
                    flush(target, &mut fresh).await?;
                    let changed = change(target, conflict, &row, assignments, filter.as_ref()).await?;
                    if let Some(new) = changed {
                        remember(target, &new, touched)?;
                        written.push(new);
                    }
                }
            }
            continue;
        }
        remember(target, &row, touched)?;
        written.push(row.clone());
        fresh.push(row);
    }
    flush(target, &mut fresh).await?;
    Ok(written)
}

async fn flush(target: &Target<'_>, fresh: &mut Vec<TableRow>) -> Result<()> {
    if !fresh.is_empty() {
        insert_new(target, fresh).await?;
        fresh.clear();
    }
    Ok(())
}

fn remember(target: &Target<'_>, row: &TableRow, touched: &mut Touched) -> Result<()> {
    for index in target.writer.unique_indexes() {
        touched.keys.extend(index.constrained_key(row)?);
    }
    Ok(())
}

fn is_arbiter(on_conflict: &OnConflict, id: IndexId) -> bool {
    on_conflict.arbiters.as_ref().is_none_or(|a| a.contains(&id))
}

/// For every row what lies at its keys in the arbiter indexes.
async fn existing<'t>(
    target: &'t Target<'_>,
    on_conflict: &OnConflict,
    rows: &[TableRow],
) -> Result<Vec<Vec<Conflict<'t>>>> {
    let stmt = target.ctx.stmt;
    let mut keys = Vec::new();
    let mut out: Vec<Vec<Conflict<'t>>> = Vec::with_capacity(rows.len());
    for row in rows {
        let mut conflicts = Vec::new();
        for index in target.writer.unique_indexes() {
            if is_arbiter(on_conflict, index.id)
                && let Some(key) = index.constrained_key(row)?
            {
                keys.push(key.clone());
                conflicts.push(Conflict { index, key, value: None });
            }
        }
        out.push(conflicts);
    }
    if keys.is_empty() {
        return Ok(out);
    }
    let values = stmt.wait(stmt.txn.multi_get(keys, Locking::EXCLUSIVE)).await?;
    for (conflict, value) in out.iter_mut().flatten().zip(values) {
        conflict.value = value;
    }
    Ok(out)
}

/// The row behind a conflicting key.
async fn existing_row(target: &Target<'_>, conflict: &Conflict<'_>) -> Result<TableRow> {
    let stmt = target.ctx.stmt;
    let table = &target.plan.table;
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let primary = IndexReader::new(&stmt.catalog, table, &table.primary, &all)?;
    let value = conflict.value.as_ref().expect("the key is taken");
    if conflict.index.id == IndexId::PRIMARY {
        return primary.read_row(conflict.key.as_bytes(), value);
    }
    let index = table.index(conflict.index.id).expect("the index is the table's");
    let entry = IndexReader::new(&stmt.catalog, table, index, &table.key_ordinals())?;
    let key = target.writer.primary.key_of_values(&entry.read_row(conflict.key.as_bytes(), value)?)?;
    let row = stmt.wait(stmt.txn.get(key.clone(), Locking::EXCLUSIVE)).await?;
    let Some(row) = row else {
        return Err(SqlError::new(
            SqlState::INDEX_CORRUPTED,
            format!("index \"{}\" has an entry without row", index.name),
        ));
    };
    primary.read_row(key.as_bytes(), &row)
}

/// DO UPDATE of one row; `None` when its WHERE left the row alone.
async fn change(
    target: &Target<'_>,
    conflict: &Conflict<'_>,
    proposed: &TableRow,
    assignments: &[(usize, Expr)],
    filter: Option<&Expr>,
) -> Result<Option<TableRow>> {
    let old = existing_row(target, conflict).await?;
    let both: Vec<Datum> = old.iter().chain(proposed).cloned().collect();
    let row = Row::Values(&both);
    let exprs = assignments.iter().map(|(_, e)| e).chain(filter);
    let resolved = target.ctx.resolve_row(exprs, row).await?;
    let scope = target.ctx.scope_with(&resolved);
    if let Some(filter) = filter
        && scope.datum(filter, row)?.as_bool() != Some(true)
    {
        return Ok(None);
    }
    let new = update::assign(scope, &old, assignments, row)?;
    let changed: Vec<usize> = assignments.iter().map(|(o, _)| *o).collect();
    target.constraints.check(target.ctx, std::slice::from_ref(&new)).await?;
    update::write(target, std::slice::from_ref(&old), std::slice::from_ref(&new), &changed).await?;
    Ok(Some(new))
}

#[cold]
fn second_time() -> SqlError {
    SqlError::new(
        SqlState::CARDINALITY_VIOLATION,
        "ON CONFLICT DO UPDATE command cannot affect row a second time",
    )
    .with_hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
}
