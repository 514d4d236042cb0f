//! INSERT.

use std::collections::HashMap;

use meridian_catalog::{Identity, IndexId, TableRef};
use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::ast::{self, ConflictTarget, OnConflictAction, OnInsert, SetExpr, TableObject};

use super::expr::{Clause, Cx, position};
use super::from::table_columns;
use super::scope::{FromScope, Scope, ScopeTable};
use super::{At, Binder, BoundQuery, name_of, names_of, pos, position_of};
use crate::expr::Expr;
use crate::logical::{ColId, LogicalAction, LogicalConflict, LogicalConflictUpdate, LogicalModify, Rel};

impl Binder<'_> {
    pub(super) fn insert(&mut self, i: &ast::Insert, parent: &Scope<'_>) -> Result<BoundQuery> {
        if i.or.is_some()
            || i.ignore
            || i.overwrite
            || i.replace_into
            || i.partitioned.is_some()
            || i.insert_alias.is_some()
            || !i.assignments.is_empty()
            || i.multi_table_insert_type.is_some()
        {
            return Err(SqlError::unsupported("this form of INSERT"));
        }
        let TableObject::TableName(name) = &i.table else {
            return Err(SqlError::unsupported("INSERT into something other than a table"));
        };
        let table = self.target(name)?;
        let alias = i.table_alias.as_ref().map(|a| name_of(&a.alias));
        let columns = self.insert_columns(&table, &i.columns)?;
        let (input, given) =
            self.insert_source(&table, &columns, !i.columns.is_empty(), i.source.as_deref(), parent)?;
        let row = self.insert_row(&table, given)?;
        let new_cols = self.new_cols(table.columns.len());
        let checks = self.checks(&table, &new_cols)?;
        let on_conflict = match &i.on {
            None => None,
            Some(OnInsert::OnConflict(c)) => Some(self.on_conflict(&table, alias.clone(), c, parent)?),
            Some(_) => return Err(SqlError::unsupported("ON DUPLICATE KEY UPDATE")),
        };
        let scope = self.target_scope(&table, alias, &new_cols);
        let (returning, out) = self.returning(i.returning.as_deref(), scope, parent)?;
        let action = LogicalAction::Insert { input, row, on_conflict };
        Ok(self.modify(LogicalModify { table, action, new_cols, checks, returning }, out))
    }

    /// The ordinals that values are given for.
    fn insert_columns(&self, table: &TableRef, names: &[ast::ObjectName]) -> Result<Vec<(usize, u32)>> {
        if names.is_empty() {
            return Ok((0..table.columns.len())
                .filter(|i| !table.columns[*i].hidden)
                .map(|i| (i, 0))
                .collect());
        }
        let mut out: Vec<(usize, u32)> = Vec::with_capacity(names.len());
        for n in names {
            let [ast::ObjectNamePart::Identifier(ident)] = n.0.as_slice() else {
                return Err(SqlError::unsupported("INSERT into a part of a column").at(position_of(n)));
            };
            let ordinal = self.target_column(table, ident)?;
            if out.iter().any(|(o, _)| *o == ordinal) {
                let message = format!("column \"{}\" specified more than once", name_of(ident));
                return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message).at(pos(ident.span)));
            }
            out.push((ordinal, pos(ident.span)));
        }
        Ok(out)
    }

    /// The rows, and for each given ordinal its value over them.
    fn insert_source(
        &mut self,
        table: &TableRef,
        columns: &[(usize, u32)],
        listed: bool,
        source: Option<&ast::Query>,
        parent: &Scope<'_>,
    ) -> Result<(Rel, Vec<(usize, Expr)>)> {
        let Some(q) = source else { return Ok((Rel::single_row(), Vec::new())) };
        if let SetExpr::Values(v) = &*q.body
            && q.with.is_none()
            && q.order_by.is_none()
            && q.limit_clause.is_none()
            && q.fetch.is_none()
        {
            return self.insert_values(table, columns, listed, v, parent);
        }
        self.target_types = Some(columns.iter().map(|(o, _)| table.columns[*o].ty.clone()).collect());
        let bound = self.query(q, parent);
        self.target_types = None;
        let bound = bound?;
        let at = pos(ast::Spanned::span(q));
        self.check_width(columns, listed, bound.columns.len(), at)?;
        let mut given = Vec::with_capacity(bound.columns.len());
        for ((ordinal, _), c) in columns.iter().zip(&bound.columns) {
            let desc = &table.columns[*ordinal];
            self.refuse_identity(desc)?;
            let value = self.assign(Expr::column(c.col, c.ty.clone()), &desc.name, &desc.ty, at)?;
            given.push((*ordinal, value));
        }
        Ok((bound.rel, given))
    }

    fn check_width(&self, columns: &[(usize, u32)], listed: bool, width: usize, at: u32) -> Result<()> {
        if width > columns.len() {
            let message = "INSERT has more expressions than target columns";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(at));
        }
        if listed && width < columns.len() {
            let message = "INSERT has more target columns than expressions";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(columns[width].1));
        }
        Ok(())
    }

    fn insert_values(
        &mut self,
        table: &TableRef,
        columns: &[(usize, u32)],
        listed: bool,
        v: &ast::Values,
        parent: &Scope<'_>,
    ) -> Result<(Rel, Vec<(usize, Expr)>)> {
        let width = v.rows.first().map_or(0, |r| r.content.len());
        let mut defaults: HashMap<usize, Expr> = HashMap::new();
        let mut rows = Vec::with_capacity(v.rows.len());
        for r in &v.rows {
            if r.content.len() != width {
                let message = "VALUES lists must all be the same length";
                return Err(
                    SqlError::new(SqlState::SYNTAX_ERROR, message).at(r.content.first().map_or(0, position))
                );
            }
            let extra = r.content.get(columns.len()).map_or(0, position);
            self.check_width(columns, listed, width, extra)?;
            let mut row = Vec::with_capacity(width);
            for ((ordinal, _), e) in columns.iter().zip(&r.content) {
                let desc = &table.columns[*ordinal];
                if is_default(e) {
                    let default = match defaults.get(ordinal) {
                        Some(d) => d.clone(),
                        None => {
                            let d = self.default_of(desc)?;
                            defaults.insert(*ordinal, d.clone());
                            d
                        }
                    };
                    row.push(default);
                    continue;
                }
                self.refuse_identity(desc)?;
                let bound = self.expr(e, &mut Cx::new(parent, Clause::Values))?;
                row.push(self.assign(bound, &desc.name, &desc.ty, position(e))?);
            }
            rows.push(row);
        }
        let cols = self.new_cols(width);
        let given = columns
            .iter()
            .zip(&cols)
            .map(|((o, _), c)| (*o, Expr::column(*c, table.columns[*o].ty.clone())))
            .collect();
        Ok((Rel::Values { cols, rows }, given))
    }

    fn refuse_identity(&self, column: &meridian_catalog::ColumnDesc) -> Result<()> {
        if column.identity == Some(Identity::Always) {
            let message = format!("cannot insert a non-DEFAULT value into column \"{}\"", column.name);
            return Err(SqlError::new(SqlState::GENERATED_ALWAYS, message)
                .with_detail(format!(
                    "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
                    column.name
                ))
                .with_hint("Use OVERRIDING SYSTEM VALUE to override."));
        }
        Ok(())
    }

    /// One expression per column of the table: what is given, and defaults.
    fn insert_row(&mut self, table: &TableRef, given: Vec<(usize, Expr)>) -> Result<Vec<Expr>> {
        let mut row: Vec<Option<Expr>> = vec![None; table.columns.len()];
        for (o, e) in given {
            row[o] = Some(e);
        }
        let mut out = Vec::with_capacity(row.len());
        for (e, c) in row.into_iter().zip(&table.columns) {
            out.push(match e {
                Some(e) => e,
                None => self.default_of(c)?,
            });
        }
        Ok(out)
    }

    fn on_conflict(
        &mut self,
        table: &TableRef,
        alias: Option<String>,
        c: &ast::OnConflict,
        parent: &Scope<'_>,
    ) -> Result<LogicalConflict> {
        let arbiters = match &c.conflict_target {
            None => None,
            Some(ConflictTarget::Columns(names)) => Some(self.arbiters(table, alias.clone(), names)?),
            Some(ConflictTarget::OnConstraint(name)) => Some(self.arbiter_by_name(table, name)?),
        };
        let update = match &c.action {
            OnConflictAction::DoNothing => None,
            OnConflictAction::DoUpdate(u) => {
                if arbiters.is_none() {
                    let message = "ON CONFLICT DO UPDATE requires inference specification or constraint name";
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, message)
                        .with_hint("For example, ON CONFLICT (column_name)."));
                }
                Some(self.conflict_update(table, alias, u, parent)?)
            }
        };
        Ok(LogicalConflict { arbiters, update })
    }

    fn arbiter_by_name(&self, table: &TableRef, name: &ast::ObjectName) -> Result<Vec<IndexId>> {
        let parts = names_of(name)?;
        let wanted = parts.last().map_or("", String::as_str);
        match table.all_indexes().find(|i| i.unique && i.constraint_oid.is_some() && i.name == wanted) {
            Some(i) => Ok(vec![i.id]),
            None => {
                let message = format!("constraint \"{wanted}\" for table \"{}\" does not exist", table.name);
                Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message))
            }
        }
    }

    fn conflict_update(
        &mut self,
        table: &TableRef,
        alias: Option<String>,
        u: &ast::DoUpdate,
        parent: &Scope<'_>,
    ) -> Result<LogicalConflictUpdate> {
        let old_cols: Vec<ColId> = self.new_cols(table.columns.len());
        let excluded_cols: Vec<ColId> = self.new_cols(table.columns.len());
        // An unqualified name is ambiguous, since both rows have it.
        let excluded = FromScope::of_table(ScopeTable {
            alias: "excluded".into(),
            schema: None,
            columns: table_columns(table, &excluded_cols),
            invisible: false,
        });
        let mut scope = Scope::child(parent);
        scope.from = self.target_scope(table, alias, &old_cols).join(excluded)?;
        let assignments = self.assignments(table, &u.assignments, &scope)?;
        let filter = match &u.selection {
            Some(w) => Some(self.condition(w, &mut Cx::new(&scope, Clause::Where))?),
            None => None,
        };
        Ok(LogicalConflictUpdate { old_cols, excluded_cols, assignments, filter })
    }
}

/// The word DEFAULT as a value.
pub(super) fn is_default(e: &ast::Expr) -> bool {
    matches!(e, ast::Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
}
