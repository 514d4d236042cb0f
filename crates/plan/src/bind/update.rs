//! UPDATE and DELETE.

use meridian_catalog::{Identity, TableRef};
use meridian_datum::{Result, SqlError, SqlState};
use meridian_kv_api::Locking;
use sqlparser::ast::{self, AssignmentTarget, FromTable, TableFactor, UpdateTableFromKind};

use super::expr::{Clause, Cx, position, strip_nested};
use super::from::conjuncts;
use super::func::is_row_constructor;
use super::insert::is_default;
use super::scope::{FromScope, Scope};
use super::{At, Binder, BoundQuery, name_of, position_of};
use crate::expr::Expr;
use crate::logical::{ColId, LogicalAction, LogicalModify, Rel};
use crate::physical::JoinKind;

impl Binder<'_> {
    pub(super) fn update(&mut self, u: &ast::Update, parent: &Scope<'_>) -> Result<BoundQuery> {
        if u.or.is_some() || u.limit.is_some() || !u.order_by.is_empty() || u.output.is_some() {
            return Err(SqlError::unsupported("this form of UPDATE"));
        }
        if !u.table.joins.is_empty() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error: UPDATE of a join"));
        }
        let (table, alias) = self.write_target(&u.table.relation)?;
        let (mut rel, old_cols) = self.locked_target(&table);
        let target = self.target_scope(&table, alias.clone(), &old_cols);
        let from = match &u.from {
            None => &[][..],
            Some(UpdateTableFromKind::BeforeSet(f) | UpdateTableFromKind::AfterSet(f)) => f,
        };
        let (joined, others) = self.join_others(rel, &target, from, parent)?;
        rel = joined;
        let mut scope = Scope::child(parent);
        scope.from = target.join(others.clone())?;
        let assignments = self.assignments(&table, &u.assignments, &scope)?;
        if let Some(w) = &u.selection {
            let condition = self.condition(w, &mut Cx::new(&scope, Clause::Where))?;
            rel = rel.filter(conjuncts(condition));
        }
        let new_cols = self.new_cols(table.columns.len());
        let checks = self.checks(&table, &new_cols)?;
        let visible = self.target_scope(&table, alias, &new_cols).join(others)?;
        let (returning, out) = self.returning(u.returning.as_deref(), visible, parent)?;
        let action = LogicalAction::Update { input: rel, old_cols, assignments };
        Ok(self.modify(LogicalModify { table, action, new_cols, checks, returning }, out))
    }

    pub(super) fn delete(&mut self, d: &ast::Delete, parent: &Scope<'_>) -> Result<BoundQuery> {
        if !d.tables.is_empty() || !d.order_by.is_empty() || d.limit.is_some() || d.output.is_some() {
            return Err(SqlError::unsupported("this form of DELETE"));
        }
        let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &d.from;
        let [only] = tables.as_slice() else {
            return Err(SqlError::unsupported("DELETE from several tables"));
        };
        if !only.joins.is_empty() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error: DELETE from a join"));
        }
        let (table, alias) = self.write_target(&only.relation)?;
        let (rel, old_cols) = self.locked_target(&table);
        let target = self.target_scope(&table, alias, &old_cols);
        let using = d.using.as_deref().unwrap_or(&[]);
        let (mut rel, others) = self.join_others(rel, &target, using, parent)?;
        let mut scope = Scope::child(parent);
        scope.from = target.join(others)?;
        if let Some(w) = &d.selection {
            let condition = self.condition(w, &mut Cx::new(&scope, Clause::Where))?;
            rel = rel.filter(conjuncts(condition));
        }
        let visible = std::mem::take(&mut scope.from);
        let (returning, out) = self.returning(d.returning.as_deref(), visible, parent)?;
        let new_cols = old_cols.clone();
        let action = LogicalAction::Delete { input: rel, old_cols };
        Ok(self.modify(LogicalModify { table, action, new_cols, checks: Vec::new(), returning }, out))
    }

    fn write_target(&mut self, t: &TableFactor) -> Result<(TableRef, Option<String>)> {
        let TableFactor::Table { name, alias, args: None, .. } = t else {
            return Err(SqlError::unsupported("a write to something other than a table"));
        };
        Ok((self.target(name)?, alias.as_ref().map(|a| name_of(&a.name))))
    }

    /// The target's rows, locked for the write that follows.
    fn locked_target(&mut self, table: &TableRef) -> (Rel, Vec<ColId>) {
        let mut get = self.get(table, Locking::EXCLUSIVE);
        get.for_update = true;
        let cols = get.cols.clone();
        (Rel::Get(Box::new(get)), cols)
    }

    /// The tables of FROM or USING beside the target.
    fn join_others(
        &mut self,
        target: Rel,
        names: &FromScope,
        items: &[ast::TableWithJoins],
        parent: &Scope<'_>,
    ) -> Result<(Rel, FromScope)> {
        if items.is_empty() {
            return Ok((target, FromScope::default()));
        }
        let others = self.bind_from_clause(items, parent)?;
        names.clone().join(others.scope.clone())?;
        let rel = Rel::Join {
            kind: JoinKind::Inner,
            left: Box::new(target),
            right: Box::new(others.rel),
            on: Vec::new(),
            lateral: false,
        };
        Ok((rel, others.scope))
    }

    /// `SET a = 1, (b, c) = (2, 3)`: ordinals with their values.
    pub(super) fn assignments(
        &mut self,
        table: &TableRef,
        list: &[ast::Assignment],
        scope: &Scope<'_>,
    ) -> Result<Vec<(usize, Expr)>> {
        let mut out: Vec<(usize, Expr)> = Vec::with_capacity(list.len());
        for a in list {
            match &a.target {
                AssignmentTarget::ColumnName(name) => {
                    let value = self.assignment(table, name, &a.value, scope)?;
                    push_assignment(table, &mut out, value)?;
                }
                AssignmentTarget::Tuple(names) => {
                    if let ast::Expr::Subquery(q) = strip_nested(&a.value) {
                        for value in self.assign_row(table, names, q, position(&a.value), scope)? {
                            push_assignment(table, &mut out, value)?;
                        }
                        continue;
                    }
                    let items = row_items(&a.value)?;
                    let values = items.as_deref().unwrap_or(std::slice::from_ref(&a.value));
                    if values.len() != names.len() {
                        return Err(row_mismatch(names));
                    }
                    for (n, v) in names.iter().zip(values) {
                        let value = self.assignment(table, n, v, scope)?;
                        push_assignment(table, &mut out, value)?;
                    }
                }
            }
        }
        Ok(out)
    }

    /// `(a, b) = (SELECT x, y ...)`
    fn assign_row(
        &mut self,
        table: &TableRef,
        names: &[ast::ObjectName],
        q: &ast::Query,
        at: u32,
        scope: &Scope<'_>,
    ) -> Result<Vec<(usize, Expr)>> {
        let values = self.row_of_subquery(q, &mut Cx::new(scope, Clause::UpdateSource))?;
        if values.len() != names.len() {
            return Err(row_mismatch(names));
        }
        let mut out = Vec::with_capacity(names.len());
        for (name, value) in names.iter().zip(values) {
            let ordinal = self.assigned_column(table, name)?;
            refuse_generated(table, ordinal, name)?;
            let column = &table.columns[ordinal];
            out.push((ordinal, self.assign(value, &column.name, &column.ty, at)?));
        }
        Ok(out)
    }

    /// The column that an assignment names.
    fn assigned_column(&mut self, table: &TableRef, name: &ast::ObjectName) -> Result<usize> {
        let Some(ident) = name.0.first().and_then(|p| p.as_ident()) else {
            return Err(SqlError::unsupported("this assignment target"));
        };
        let ordinal = self.target_column(table, ident)?;
        if name.0.len() > 1 {
            return Err(SqlError::unsupported("assignment to a part of a column").at(position_of(name)));
        }
        Ok(ordinal)
    }

    fn assignment(
        &mut self,
        table: &TableRef,
        name: &ast::ObjectName,
        value: &ast::Expr,
        scope: &Scope<'_>,
    ) -> Result<(usize, Expr)> {
        let ordinal = self.assigned_column(table, name)?;
        let column = &table.columns[ordinal];
        if is_default(value) {
            return Ok((ordinal, self.default_of(column)?));
        }
        refuse_generated(table, ordinal, name)?;
        let bound = self.expr(value, &mut Cx::new(scope, Clause::UpdateSource))?;
        Ok((ordinal, self.assign(bound, &column.name, &column.ty, position(value))?))
    }
}

/// A column whose values are always generated takes no other.
fn refuse_generated(table: &TableRef, ordinal: usize, name: &ast::ObjectName) -> Result<()> {
    let column = &table.columns[ordinal];
    if column.identity != Some(Identity::Always) {
        return Ok(());
    }
    let message = format!("column \"{}\" can only be updated to DEFAULT", column.name);
    let detail = format!("Column \"{}\" is an identity column defined as GENERATED ALWAYS.", column.name);
    Err(SqlError::new(SqlState::GENERATED_ALWAYS, message).with_detail(detail).at(position_of(name)))
}

/// The items of `(1, 2)` and of `ROW(1, 2)`; `None` for anything else.
fn row_items(e: &ast::Expr) -> Result<Option<Vec<ast::Expr>>> {
    match strip_nested(e) {
        ast::Expr::Tuple(values) => Ok(Some(values.clone())),
        ast::Expr::Function(f) if is_row_constructor(f) => {
            Ok(Some(super::func::call_syntax(f)?.args.into_iter().cloned().collect()))
        }
        _ => Ok(None),
    }
}

fn row_mismatch(names: &[ast::ObjectName]) -> SqlError {
    let message = "number of columns does not match number of values";
    SqlError::new(SqlState::SYNTAX_ERROR, message).at(names.first().map_or(0, position_of))
}

fn push_assignment(table: &TableRef, out: &mut Vec<(usize, Expr)>, value: (usize, Expr)) -> Result<()> {
    if out.iter().any(|(o, _)| *o == value.0) {
        let name = &table.columns[value.0].name;
        let message = format!("multiple assignments to same column \"{name}\"");
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
    }
    out.push(value);
    Ok(())
}
