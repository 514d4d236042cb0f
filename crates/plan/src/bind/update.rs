//! UPDATE and DELETE.

use meridian_catalog::{Identity, TableRef};
use meridian_datum::{Result, SqlError, SqlState};
use meridian_kv_api::Locking;
use sqlparser::ast::{self, AssignmentTarget, FromTable, TableFactor, UpdateTableFromKind};

use super::expr::{Clause, Cx, position, strip_nested};
use super::from::conjuncts;
use super::insert::is_default;
use super::scope::{FromScope, Scope};
use super::{At, Binder, BoundQuery, name_of, names_of, position_of};
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
                    let values = match strip_nested(&a.value) {
                        ast::Expr::Tuple(values) => values.as_slice(),
                        ast::Expr::Function(f) if names_of(&f.name)? == ["row"] => {
                            return Err(SqlError::unsupported("ROW(...) as the source of an assignment"));
                        }
                        ast::Expr::Subquery(_) => {
                            return Err(SqlError::unsupported("a subquery as the source of several columns"));
                        }
                        single => std::slice::from_ref(single),
                    };
                    if values.len() != names.len() {
                        let message = "number of columns does not match number of values";
                        return Err(SqlError::new(SqlState::SYNTAX_ERROR, message)
                            .at(names.first().map_or(0, position_of)));
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

    fn assignment(
        &mut self,
        table: &TableRef,
        name: &ast::ObjectName,
        value: &ast::Expr,
        scope: &Scope<'_>,
    ) -> Result<(usize, Expr)> {
        let Some(ident) = name.0.first().and_then(|p| p.as_ident()) else {
            return Err(SqlError::unsupported("this assignment target"));
        };
        let ordinal = self.target_column(table, ident)?;
        if name.0.len() > 1 {
            return Err(SqlError::unsupported("assignment to a part of a column").at(position_of(name)));
        }
        let column = &table.columns[ordinal];
        if is_default(value) {
            return Ok((ordinal, self.default_of(column)?));
        }
        if column.identity == Some(Identity::Always) {
            let message = format!("column \"{}\" can only be updated to DEFAULT", column.name);
            return Err(SqlError::new(SqlState::GENERATED_ALWAYS, message)
                .with_detail(format!(
                    "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
                    column.name
                ))
                .at(position_of(name)));
        }
        let bound = self.expr(value, &mut Cx::new(scope, Clause::UpdateSource))?;
        Ok((ordinal, self.assign(bound, &column.name, &column.ty, position(value))?))
    }
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
