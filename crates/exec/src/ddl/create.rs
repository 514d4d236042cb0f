//! CREATE TABLE: descriptors, first rows, first shards.

use std::sync::Arc;

use meridian_catalog::{
    CatalogSnapshot, CheckDesc, ColumnDesc, ColumnId, ExpressionDesc, IndexColumn, IndexDesc, IndexId,
    IndexState, Interleave, TableDesc, TableId,
};
use meridian_datum::{DataType, Datum, Result, SqlError};
use meridian_keys::KeyBuilder;
use meridian_plan::Plan;
use meridian_plan::ddl::{CreateTable, NewColumn, NewIndex};
use meridian_plan::modify::{InsertSource, Modify, ModifyAction};
use meridian_types::Key;

use super::DdlServices;
use crate::context::Statement;
use crate::dml::{Inserter, Target};
use crate::kv_error::sql_error;
use crate::ops;
use crate::table::{Prefix, push_datum};

pub(super) fn column(new: &NewColumn, id: u32) -> ColumnDesc {
    ColumnDesc {
        id: ColumnId(id),
        name: new.name.clone(),
        ty: new.ty.clone(),
        nullable: new.nullable,
        refuses_null: false,
        default: new.default.clone(),
        identity: new.identity,
        missing: None,
        hidden: new.hidden,
    }
}

/// An index of a table; its columns are ordinals of `columns`, which end in the index's expressions.
pub(super) async fn index(
    services: &DdlServices,
    new: &NewIndex,
    id: IndexId,
    columns: &[ColumnId],
    state: IndexState,
) -> Result<IndexDesc> {
    let constraint_oid = if new.is_constraint { Some(services.allocate().await?) } else { None };
    Ok(IndexDesc {
        id,
        oid: services.allocate().await?,
        name: new.name.clone(),
        unique: new.unique,
        constraint_oid,
        columns: new
            .columns
            .iter()
            .map(|(ordinal, direction)| IndexColumn { column: columns[*ordinal], direction: *direction })
            .collect(),
        storing: new.storing.iter().map(|o| columns[*o]).collect(),
        predicate: new.predicate.clone(),
        expressions: new
            .expressions
            .iter()
            .zip(&columns[columns.len() - new.expressions.len()..])
            .map(|(e, id)| ExpressionDesc {
                id: *id,
                name: e.name.clone(),
                text: e.text.clone(),
                ty: e.ty.clone(),
                is_call: e.is_call,
            })
            .collect(),
        state,
        memo: Default::default(),
    })
}

/// The descriptor of a table to be made.
pub(super) async fn table(services: &DdlServices, new: &CreateTable) -> Result<TableDesc> {
    let id = TableId(services.allocate().await?);
    let columns: Vec<ColumnDesc> = new.columns.iter().zip(1..).map(|(c, id)| column(c, id)).collect();
    let ids: Vec<ColumnId> = columns.iter().map(|c| c.id).collect();
    let primary = index(services, &new.primary, IndexId::PRIMARY, &ids, IndexState::Public).await?;
    let mut indexes = Vec::with_capacity(new.indexes.len());
    for (i, n) in new.indexes.iter().zip(2..) {
        indexes.push(index(services, i, IndexId(n), &ids, IndexState::Public).await?);
    }
    let mut checks = Vec::with_capacity(new.checks.len());
    for c in &new.checks {
        let oid = services.allocate().await?;
        checks.push(CheckDesc { oid, name: c.name.clone(), expr: c.expr.clone(), validated: !c.not_valid });
    }
    Ok(TableDesc {
        id,
        storage: id,
        schema: new.schema,
        name: new.name.clone(),
        owner: services.owner.to_string(),
        next_column: columns.len() as u32 + 1,
        next_index: indexes.len() as u32 + 2,
        columns,
        primary,
        indexes,
        checks,
        interleave: new.interleave.as_ref().map(|i| Interleave {
            parent: i.parent,
            shared_columns: i.shared_columns,
            cascade: i.cascade,
        }),
        storage_parameters: new.storage_parameters.clone(),
        version: 1,
        valid_from: services.timestamp()?,
        dropped_at: None,
    })
}

/// Fills a table that the transaction has made with the rows of a query; how many they were.
pub(super) async fn fill(
    statement: &Statement,
    catalog: Arc<CatalogSnapshot>,
    table: TableId,
    query: &Plan,
) -> Result<u64> {
    let table =
        catalog.table(table).ok_or_else(|| SqlError::internal("a table was made and is not there"))?.clone();
    let width = table.columns.len();
    let modify = Modify {
        table: table.clone(),
        action: ModifyAction::Insert { source: InsertSource::Rows(Vec::new()), on_conflict: None },
        checks: Vec::new(),
        returning: None,
        parent: None,
        children: Vec::new(),
    };
    let ctx = statement.ctx();
    let target = Target::on(statement.ctx(), &modify, &catalog)?;
    let mut inserter = Inserter::new(&target, None);
    let mut rows = ops::build(ctx, query)?;
    let mut none = Vec::new();
    while let Some(batch) = rows.next().await? {
        statement.checkpoint().await?;
        for r in 0..batch.len() {
            let mut row = batch.row(r);
            // The hidden row id comes last.
            while row.len() < width {
                row.push(Datum::Int(unique_row_id(&statement.eval)));
            }
            inserter.push(row, &mut none).await?;
        }
    }
    inserter.finish(&mut none).await
}

/// A number for a hidden row id: random, so that rows of parallel writers spread and never meet.
fn unique_row_id(eval: &meridian_datum::EvalContext) -> i64 {
    (eval.next_random() >> 1) as i64
}

/// Integers that tables of several shards are split at: so many apart. Benchmarks and applications number rows from 1,
/// and a shard of this many rows of ordinary size is worth having.
const INTEGERS_PER_SHARD: i64 = 100_000;

/// Splits a fresh table into as many shards as the setting says.
pub(super) async fn split(services: &DdlServices, table: &TableDesc) -> Result<()> {
    let shards = services.shards_per_table;
    if shards <= 1 || table.interleave.is_some() {
        return Ok(());
    }
    let guard = services.catalog.acquire().await.map_err(sql_error)?;
    let prefix = Prefix::of(guard.snapshot(), table, &table.primary)?;
    let mut at: Vec<Key> = vec![prefix.start().finish()];
    let first = &table.primary.columns[0];
    let ty = &table.columns[table.ordinal(first.column)].ty;
    for i in 1..shards {
        let value = match ty {
            t if t.is_integer() && !table.has_row_id() => Datum::Int(INTEGERS_PER_SHARD * i as i64),
            t if t.is_integer() => Datum::Int((i64::MAX / shards as i64) * i as i64),
            DataType::Uuid => {
                let mut uuid = [0u8; 16];
                uuid[..2].copy_from_slice(&((i * 65_536 / shards) as u16).to_be_bytes());
                Datum::Uuid(uuid)
            }
            _ => break,
        };
        let mut key: KeyBuilder = prefix.start();
        push_datum(&mut key, &value, first.direction)?;
        at.push(key.finish());
    }
    for key in at {
        services.cancel.guard(services.cluster.split_at(key)).await?.map_err(sql_error)?;
    }
    Ok(())
}
