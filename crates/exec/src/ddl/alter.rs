//! ALTER TABLE: what the table becomes, and what must happen to its rows.

use std::sync::Arc;

use meridian_catalog::{
    CatalogChange, CatalogSnapshot, CheckDesc, ColumnDesc, ColumnId, IndexId, IndexState, TableDesc, TableId,
    TableRef,
};
use meridian_datum::{Batch, Column, Datum, Result, SqlError, SqlState};
use meridian_plan::ddl::{AlterAction, NewColumn, RenamedText, only_unique, writers_wait};
use meridian_plan::{Expr, PlannedStatement};

use super::{DdlServices, constrain, create, index, next_version, rewrite};
use crate::context::{Ctx, Statement};

/// What becomes of a table.
#[derive(Clone, Debug)]
pub(super) struct Alteration {
    /// The table as it will be, one version further.
    pub(super) table: TableDesc,
    /// Every column that the table had or that the statement adds: the row that expressions see.
    slots: Vec<Slot>,
    /// Rows move to another storage.
    pub(super) rewrites: bool,
    /// Conditions that every row must meet.
    checks: Vec<(String, Expr)>,
    /// Slots that must not be NULL in any row.
    not_null: Vec<usize>,
    /// Indexes whose entries are to be written, where rows do not move.
    pub(super) new_indexes: Vec<IndexId>,
    /// Indexes that go.
    pub(super) dropped_indexes: Vec<IndexId>,
}

#[derive(Clone, Debug)]
struct Slot {
    /// `None` once it is dropped.
    column: Option<ColumnDesc>,
    /// The value of an added column.
    default: Option<Expr>,
    is_added: bool,
    /// The value after ALTER TYPE.
    using: Option<Expr>,
}

impl Alteration {
    /// No row has to be looked at.
    pub(super) fn is_metadata_only(&self) -> bool {
        !self.rewrites && self.checks.is_empty() && self.not_null.is_empty() && self.new_indexes.is_empty()
    }

    /// The new descriptor, and the removal of what belonged to the old one alone: its storage where the rows move.
    pub(super) async fn changes(
        &self,
        services: &DdlServices,
        old: &TableDesc,
    ) -> Result<Vec<CatalogChange>> {
        let mut changes = vec![CatalogChange::ReplaceTable(Box::new(self.table.clone()))];
        if self.rewrites {
            changes.push(services.clean_storage_later(old).await?);
            return Ok(changes);
        }
        for id in &self.dropped_indexes {
            changes.push(services.clean_table_later(old, Some(*id)).await?);
        }
        Ok(changes)
    }

    /// Rows are looked at, or moved. In a transaction block that needs their locks.
    pub(super) fn needs_lock(&self) -> bool {
        self.rewrites || !self.checks.is_empty() || !self.not_null.is_empty()
    }

    /// Rows of the old table as rows of the new one, checked.
    pub(super) async fn map(&self, ctx: Ctx<'_>, old: Batch) -> Result<Batch> {
        let len = old.len();
        let mut columns: Vec<Column> = old.into_columns();
        for slot in self.slots.iter().filter(|s| s.is_added) {
            let column = slot.column.as_ref().expect("an added column is not dropped by the same statement");
            columns.push(match (&column.missing, &slot.default) {
                (Some(value), _) => Column::constant(&column.ty, value, len),
                (None, None) => Column::constant(&column.ty, &Datum::Null, len),
                (None, Some(e)) => {
                    // A volatile default (a random id) differs from row to row.
                    let scope = ctx.scope();
                    scope.column(e, &Batch::new(columns.clone(), len))?
                }
            });
        }
        let slots = Batch::new(columns, len);
        self.check(ctx, &slots)?;
        let mut out = Vec::with_capacity(self.table.columns.len());
        for (i, slot) in self.slots.iter().enumerate().filter(|(_, s)| s.column.is_some()) {
            out.push(match &slot.using {
                None => slots.column(i).clone(),
                Some(e) => ctx.scope().column(e, &slots)?,
            });
        }
        Ok(Batch::new(out, len))
    }

    fn check(&self, ctx: Ctx<'_>, slots: &Batch) -> Result<()> {
        for &slot in &self.not_null {
            let column = slots.column(slot);
            if (0..slots.len()).any(|r| column.is_null(r)) {
                let name = self.slots[slot].column.as_ref().map_or("", |c| c.name.as_str());
                return Err(has_nulls(ctx.stmt, &self.table, name));
            }
        }
        for (name, condition) in &self.checks {
            let result = ctx.scope().column(condition, slots)?;
            if (0..slots.len()).any(|r| result.get(r).as_bool() == Some(false)) {
                return Err(is_violated(ctx.stmt, &self.table, name));
            }
        }
        Ok(())
    }
}

/// 23502 for rows that are there.
#[cold]
pub(super) fn has_nulls(stmt: &Statement, table: &TableDesc, column: &str) -> SqlError {
    let message = format!("column \"{column}\" of relation \"{}\" contains null values", table.name);
    SqlError::new(SqlState::NOT_NULL_VIOLATION, message)
        .with_table(stmt.catalog.schema_name(table), table.name.clone())
        .with_column(column)
}

/// 23514 for rows that are there.
#[cold]
pub(super) fn is_violated(stmt: &Statement, table: &TableDesc, check: &str) -> SqlError {
    let message =
        format!("check constraint \"{check}\" of relation \"{}\" is violated by some row", table.name);
    SqlError::new(SqlState::CHECK_VIOLATION, message)
        .with_table(stmt.catalog.schema_name(table), table.name.clone())
        .with_constraint(check)
}

/// Works out what the actions amount to. Defaults of new columns are evaluated by the statement, once, where they do not
/// differ from row to row.
pub(super) async fn plan(
    services: &DdlServices,
    statement: &Statement,
    table: &TableRef,
    actions: &[AlterAction],
) -> Result<Alteration> {
    let slot = |c: &ColumnDesc| Slot { column: Some(c.clone()), default: None, is_added: false, using: None };
    let mut a = Alteration {
        table: next_version(table),
        slots: table.columns.iter().map(slot).collect(),
        rewrites: false,
        checks: Vec::new(),
        not_null: Vec::new(),
        new_indexes: Vec::new(),
        dropped_indexes: Vec::new(),
    };
    for action in actions {
        a.apply(services, statement, action).await?;
    }
    a.table.columns = a.slots.iter().filter_map(|s| s.column.clone()).collect();
    if a.rewrites {
        a.table.storage = TableId(services.allocate().await?);
        a.table.columns.iter_mut().for_each(|c| c.missing = None);
        // Everything is written anew, so that nothing is left to backfill.
        a.new_indexes.clear();
    }
    Ok(a)
}

impl Alteration {
    fn column_mut(&mut self, slot: usize) -> Result<&mut ColumnDesc> {
        self.slots[slot].column.as_mut().ok_or_else(|| SqlError::internal("a dropped column is altered"))
    }

    /// Column ids by slot, for indexes; a dropped column's place is filled with an id that no index names.
    fn ids(&self) -> Vec<ColumnId> {
        self.slots.iter().map(|s| s.column.as_ref().map_or(ColumnId(0), |c| c.id)).collect()
    }

    async fn apply(
        &mut self,
        services: &DdlServices,
        statement: &Statement,
        action: &AlterAction,
    ) -> Result<()> {
        self.rewrites |= action.rewrites();
        match action {
            AlterAction::AddColumn { column, default } => {
                let missing = match default {
                    Some(e) if !action.rewrites() => {
                        let row = Batch::new(Vec::new(), 1);
                        Some(statement.ctx().scope().column(e, &row)?.get(0)).filter(|value| !value.is_null())
                    }
                    _ => None,
                };
                self.add_column(column, default.as_ref(), missing);
            }
            AlterAction::DropColumn { column, indexes, checks } => {
                self.slots[*column].column = None;
                self.table.indexes.retain(|i| !indexes.contains(&i.id));
                self.table.checks.retain(|c| !checks.contains(&c.name));
                self.dropped_indexes.extend(indexes);
            }
            AlterAction::AddPrimaryKey { index } => {
                for (slot, _) in &index.columns {
                    if self.column_mut(*slot)?.nullable {
                        self.column_mut(*slot)?.nullable = false;
                        self.not_null.push(*slot);
                    }
                }
                let ids = self.ids();
                self.table.primary =
                    create::index(services, index, IndexId::PRIMARY, &ids, IndexState::Public).await?;
                for slot in self.slots.iter_mut().filter(|s| s.column.as_ref().is_some_and(|c| c.hidden)) {
                    slot.column = None;
                }
            }
            AlterAction::AddUnique { index } => {
                let ids = self.ids();
                let id = IndexId(self.table.next_index);
                self.table.next_index += 1;
                self.table.indexes.push(create::index(services, index, id, &ids, IndexState::Public).await?);
                self.new_indexes.push(id);
            }
            AlterAction::AddCheck(new) => {
                let oid = services.allocate().await?;
                let (name, expr) = (new.name.clone(), new.expr.clone());
                self.table.checks.push(CheckDesc {
                    oid,
                    name: name.clone(),
                    expr,
                    validated: !new.not_valid,
                });
                if !new.not_valid {
                    self.checks.push((name, new.condition.clone()));
                }
            }
            AlterAction::ValidateCheck { name, condition } => {
                self.table.checks.iter_mut().filter(|c| c.name == *name).for_each(|c| c.validated = true);
                self.checks.push((name.clone(), condition.clone()));
            }
            AlterAction::DropCheck { name } => self.table.checks.retain(|c| c.name != *name),
            AlterAction::DropUnique { index } => {
                self.table.indexes.retain(|i| i.id != *index);
                self.dropped_indexes.push(*index);
            }
            AlterAction::SetType { column, ty, using } => {
                self.column_mut(*column)?.ty = ty.clone();
                self.slots[*column].using = Some(using.clone());
            }
            AlterAction::SetNullable { column, nullable } => {
                let was = std::mem::replace(&mut self.column_mut(*column)?.nullable, *nullable);
                if was && !nullable {
                    self.not_null.push(*column);
                }
            }
            _ => self.rename(action)?,
        }
        Ok(())
    }

    fn add_column(&mut self, new: &NewColumn, default: Option<&Expr>, missing: Option<Datum>) {
        let id = self.table.next_column;
        self.table.next_column += 1;
        // What is missing is not NULL.
        let may_be_null = missing.is_none();
        self.slots.push(Slot {
            column: Some(ColumnDesc { missing, ..create::column(new, id) }),
            default: default.cloned(),
            is_added: true,
            using: None,
        });
        if !new.nullable && may_be_null {
            self.not_null.push(self.slots.len() - 1);
        }
    }

    fn rename_in_index(&mut self, renamed: &RenamedText) {
        for index in &mut self.table.indexes {
            match renamed {
                RenamedText::Predicate(id, text) if index.id == *id => index.predicate = Some(text.clone()),
                RenamedText::Predicate(..) => {}
                RenamedText::Expression(id, text) => {
                    let named = index.expressions.iter_mut().filter(|e| e.id == *id);
                    named.for_each(|e| e.text.clone_from(text));
                }
            }
        }
    }

    /// Actions that change names and texts only.
    fn rename(&mut self, action: &AlterAction) -> Result<()> {
        match action {
            AlterAction::RenameTable { name } => self.table.name = name.clone(),
            AlterAction::RenameColumn { column, name, checks, indexes } => {
                self.column_mut(*column)?.name = name.clone();
                for (check, text) in checks {
                    self.table
                        .checks
                        .iter_mut()
                        .filter(|c| c.name == *check)
                        .for_each(|c| c.expr = text.clone());
                }
                for renamed in indexes {
                    self.rename_in_index(renamed);
                }
            }
            AlterAction::RenameConstraint { from, to } => {
                let indexes = std::iter::once(&mut self.table.primary).chain(&mut self.table.indexes);
                indexes.filter(|i| i.name == *from).for_each(|i| i.name = to.clone());
                self.table.checks.iter_mut().filter(|c| c.name == *from).for_each(|c| c.name = to.clone());
            }
            AlterAction::SetDefault { column, default } => {
                self.column_mut(*column)?.default = default.clone()
            }
            AlterAction::SetStorageParameters(parameters) => {
                for (name, value) in parameters {
                    self.table.storage_parameters.retain(|(n, _)| n != name);
                    self.table.storage_parameters.extend(value.iter().map(|v| (name.clone(), v.clone())));
                }
            }
            AlterAction::SetSchema { schema } => self.table.schema = *schema,
            other => return Err(SqlError::internal(format!("{other:?} is not a change of names"))),
        }
        Ok(())
    }
}

/// ALTER TABLE while the table is in use.
pub(super) async fn online(
    services: &DdlServices,
    table: &TableRef,
    actions: &[AlterAction],
    planned: &Arc<PlannedStatement>,
) -> Result<()> {
    super::check_writable(table)?;
    // Unique constraints alone are indexes, which need no lock.
    if let Some(indexes) = only_unique(actions) {
        return index::create(services, table, &indexes).await;
    }
    let alteration = plan(services, &services.reading(planned).await?, table, actions).await?;
    if alteration.is_metadata_only() {
        let changes = alteration.changes(services, table).await?;
        return services.change(changes).await.map(drop);
    }
    if writers_wait(actions) {
        return rewrite::online(services, table, alteration, planned).await;
    }
    constrain::online(services, table, alteration, planned).await
}

/// What ALTER TABLE does to rows, within the statement's transaction.
pub(super) async fn rows_in_transaction(
    statement: &Statement,
    catalog: Arc<CatalogSnapshot>,
    old: &TableRef,
    alteration: &Alteration,
) -> Result<()> {
    if alteration.needs_lock() {
        rewrite::in_transaction(statement, &catalog, old, alteration).await?;
    }
    index::backfill_in_transaction(statement, &catalog, &alteration.table, &alteration.new_indexes).await
}
