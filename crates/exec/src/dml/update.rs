//! UPDATE.

use std::collections::{HashMap, HashSet};

use meridian_datum::{Batch, Column, Datum, Result};
use meridian_kv_api::{KvWrite, Locking};
use meridian_plan::{Expr, Plan};
use meridian_types::Key;

use super::insert::check_parents;
use super::{TableRow, Target, WRITE_ROWS, duplicate_key};
use crate::eval::{Row, Scope};
use crate::ops;

/// The new row of an old one; `row` is what the assignments see.
pub(crate) fn assign(
    scope: Scope<'_>,
    old: &[Datum],
    assignments: &[(usize, Expr)],
    row: Row<'_>,
) -> Result<TableRow> {
    let mut new = old.to_vec();
    for (ordinal, e) in assignments {
        new[*ordinal] = scope.datum(e, row)?;
    }
    Ok(new)
}

/// Rows to be changed: old ones, new ones, and for RETURNING what else the input had.
#[derive(Default)]
struct Changes {
    old: Vec<TableRow>,
    new: Vec<TableRow>,
    rest: Vec<Vec<Datum>>,
}

/// Runs an UPDATE; returns how many rows were changed.
pub(super) async fn run(
    target: &Target<'_>,
    input: &Plan,
    assignments: &[(usize, Expr)],
    out: &mut Vec<Batch>,
) -> Result<u64> {
    let mut memory = target.ctx.stmt.memory.reservation();
    let changes = read(target, input, assignments, &mut memory).await?;
    let changed: Vec<usize> = assignments.iter().map(|(o, _)| *o).collect();
    for chunk in changes.new.chunks(WRITE_ROWS) {
        target.ctx.stmt.checkpoint().await?;
        target.constraints.check(target.ctx, chunk).await?;
    }
    write(target, &changes.old, &changes.new, &changed).await?;
    if target.plan.returning.is_some() && !changes.new.is_empty() {
        let types = input.types.as_ref();
        let mut batch = Batch::with_capacity(types, changes.new.len());
        for (new, rest) in changes.new.iter().zip(&changes.rest) {
            batch.push_with(|columns: &mut [Column]| {
                for (c, d) in columns.iter_mut().zip(new.iter().chain(rest)) {
                    c.push_ref(d);
                }
                Ok::<(), meridian_datum::SqlError>(())
            })?;
        }
        target.returning_batch(&batch, out).await?;
    }
    Ok(changes.new.len() as u64)
}

async fn read(
    target: &Target<'_>,
    input: &Plan,
    assignments: &[(usize, Expr)],
    memory: &mut crate::memory::Reservation,
) -> Result<Changes> {
    let width = target.plan.table.columns.len();
    let keeps_rest = target.plan.returning.is_some() && input.types.len() > width;
    // Only a join can bring a row twice.
    let may_repeat = input.types.len() > width;
    let mut seen: HashSet<Key> = HashSet::new();
    let mut changes = Changes::default();
    let mut op = ops::build(target.ctx, input)?;
    let exprs: Vec<&Expr> = assignments.iter().map(|(_, e)| e).collect();
    while let Some(batch) = op.next().await? {
        target.ctx.stmt.checkpoint().await?;
        memory.grow(2 * batch.heap_size() + batch.len() * width * 48)?;
        let resolved = target.ctx.resolve(exprs.iter().copied(), &batch).await?;
        let scope = target.ctx.scope_with(&resolved);
        let values = exprs.iter().map(|e| scope.column(e, &batch)).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.len() {
            let mut old = batch.row(row);
            let rest = old.split_off(width);
            if may_repeat && !seen.insert(target.writer.primary.key(&old)?) {
                continue;
            }
            let mut new = old.clone();
            for ((ordinal, _), column) in assignments.iter().zip(&values) {
                new[*ordinal] = column.get(row);
            }
            changes.old.push(old);
            changes.new.push(new);
            changes.rest.push(if keeps_rest { rest } else { Vec::new() });
        }
    }
    Ok(changes)
}

/// Writes changed rows: uniqueness first, then removals, then additions, so that rows may trade keys.
pub(super) async fn write(
    target: &Target<'_>,
    old: &[TableRow],
    new: &[TableRow],
    changed: &[usize],
) -> Result<()> {
    check_unique(target, old, new, changed).await?;
    let moves = target.writer.primary.own_columns().any(|o| changed.contains(&o));
    if moves {
        check_parents(target, new).await?;
        super::delete::refuse_children(target, old, new).await?;
    }
    let stmt = target.ctx.stmt;
    let mut additions: Vec<KvWrite> = Vec::new();
    for (old, new) in old.chunks(WRITE_ROWS).zip(new.chunks(WRITE_ROWS)) {
        stmt.checkpoint().await?;
        let mut writes = Vec::with_capacity(old.len());
        for (old, new) in old.iter().zip(new) {
            target.writer.update(old, new, changed, &mut writes)?;
        }
        let (removals, puts): (Vec<_>, Vec<_>) = writes.into_iter().partition(|w| w.value.is_none());
        if removals.is_empty() && additions.is_empty() {
            // No key moves, so nothing can be removed after it was added.
            stmt.wait(stmt.txn.write(puts)).await?;
        } else {
            stmt.wait(stmt.txn.write(removals)).await?;
            additions.extend(puts);
        }
    }
    if additions.is_empty() { Ok(()) } else { stmt.wait(stmt.txn.write(additions)).await }
}

async fn check_unique(
    target: &Target<'_>,
    old: &[TableRow],
    new: &[TableRow],
    changed: &[usize],
) -> Result<()> {
    let stmt = target.ctx.stmt;
    for index in target.writer.unique_indexes() {
        if !index.constraining_columns().any(|o| changed.contains(&o)) {
            continue;
        }
        let mut vacated: HashSet<Key> = HashSet::new();
        let mut taken: HashMap<Key, usize> = HashMap::new();
        for (at, (old, new)) in old.iter().zip(new).enumerate() {
            let old_key = index.existing_constrained_key(old);
            if let Some(key) = index.constrained_key(new)?
                && taken.insert(key, at).is_some()
            {
                return Err(duplicate_key(stmt, &target.plan.table, index, new));
            }
            vacated.extend(old_key);
        }
        let mut keys: Vec<(Key, usize)> = taken.into_iter().filter(|(k, _)| !vacated.contains(k)).collect();
        keys.sort_unstable();
        for chunk in keys.chunks(WRITE_ROWS) {
            let wanted = chunk.iter().map(|(k, _)| k.clone()).collect();
            let found = stmt.wait(stmt.txn.multi_get(wanted, Locking::EXCLUSIVE)).await?;
            if let Some(at) = found.iter().position(Option::is_some) {
                return Err(duplicate_key(stmt, &target.plan.table, index, &new[chunk[at].1]));
            }
        }
    }
    Ok(())
}
