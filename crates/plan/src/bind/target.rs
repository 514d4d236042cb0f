//! What INSERT, UPDATE and DELETE share: the target table, defaults, checks, RETURNING.

use meridian_catalog::{ColumnDesc, TableRef};
use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::ast;

use super::expr::{Clause, Cx, position};
use super::from::table_columns;
use super::query::OutCol;
use super::scope::{FromScope, Scope, ScopeTable};
use super::{At, Binder, BoundQuery, name_of, names_of, pos, position_of};
use crate::expr::Expr;
use crate::logical::{ColId, LogicalModify, Rel};

impl Binder<'_> {
    /// A write, at the top of a statement or in WITH.
    pub(crate) fn write(&mut self, s: &ast::Statement, scope: &Scope<'_>) -> Result<BoundQuery> {
        match s {
            ast::Statement::Insert(i) => self.insert(i, scope),
            ast::Statement::Update(u) => self.update(u, scope),
            ast::Statement::Delete(d) => self.delete(d, scope),
            ast::Statement::Merge { .. } => Err(SqlError::unsupported("MERGE")),
            _ => Err(SqlError::unsupported("this statement inside a query")),
        }
    }

    pub(super) fn target(&mut self, name: &ast::ObjectName) -> Result<TableRef> {
        let parts = names_of(name)?;
        let at = position_of(name);
        let table = self.stored_table(&parts, at).map_err(|e| {
            if e.state == SqlState::INSUFFICIENT_PRIVILEGE {
                let what = parts.last().map_or("", String::as_str);
                SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, format!("permission denied for table {what}"))
            } else {
                e
            }
        })?;
        self.note_table(&table);
        Ok(table)
    }

    /// The scope of a target table under its alias.
    pub(super) fn target_scope(&self, table: &TableRef, alias: Option<String>, cols: &[ColId]) -> FromScope {
        let schema = alias.is_none().then(|| self.ctx.snapshot.schema_name(table).into());
        FromScope::of_table(ScopeTable {
            alias: alias.unwrap_or_else(|| table.name.clone()).into(),
            schema,
            columns: table_columns(table, cols),
            invisible: false,
        })
    }

    /// A column of the target by name.
    pub(super) fn target_column(&self, table: &TableRef, ident: &ast::Ident) -> Result<usize> {
        let name = name_of(ident);
        match table.column_by_name(&name) {
            Some((i, c)) if !c.hidden => Ok(i),
            _ => {
                let message = format!("column \"{name}\" of relation \"{}\" does not exist", table.name);
                Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(pos(ident.span)))
            }
        }
    }

    /// A column's default, of the column's type; NULL where there is none.
    pub(super) fn default_of(&mut self, column: &ColumnDesc) -> Result<Expr> {
        let Some(text) = &column.default else { return Ok(Expr::null(column.ty.clone())) };
        let ast = crate::parse::parse_expression(text)?;
        self.default_expr(&ast, column)
    }

    /// A default as written, coerced to the column's type.
    pub(super) fn default_expr(&mut self, ast: &ast::Expr, column: &ColumnDesc) -> Result<Expr> {
        let scope = Scope::default();
        let bound = self.expr(ast, &mut Cx::new(&scope, Clause::Default))?;
        let from = bound.ty();
        self.assign(bound, &column.name, &column.ty, position(ast)).map_err(|e| {
            if e.state == SqlState::DATATYPE_MISMATCH {
                let message = format!(
                    "column \"{}\" is of type {} but default expression is of type {from}",
                    column.name,
                    column.ty.without_modifier()
                );
                SqlError::new(SqlState::DATATYPE_MISMATCH, message)
                    .with_hint("You will need to rewrite or cast the expression.")
            } else {
                e
            }
        })
    }

    /// The table's checks over a row, in order of name.
    pub(super) fn checks(&mut self, table: &TableRef, cols: &[ColId]) -> Result<Vec<(String, Expr)>> {
        let mut out = Vec::with_capacity(table.checks.len());
        for check in &table.checks {
            let ast = crate::parse::parse_expression(&check.expr)?;
            let scope = Scope { from: self.target_scope(table, None, cols), ..Scope::default() };
            let condition = self.condition(&ast, &mut Cx::new(&scope, Clause::Check))?;
            out.push((check.name.clone(), condition));
        }
        out.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(out)
    }

    /// RETURNING over the target's new row and other tables.
    pub(super) fn returning(
        &mut self,
        list: Option<&[ast::SelectItem]>,
        from: FromScope,
        parent: &Scope<'_>,
    ) -> Result<(Option<Vec<(ColId, Expr)>>, Vec<OutCol>)> {
        let Some(list) = list else { return Ok((None, Vec::new())) };
        let mut scope = Scope::child(parent);
        scope.from = from;
        let mut exprs = Vec::with_capacity(list.len());
        let mut columns = Vec::with_capacity(list.len());
        for (named, origin) in self.returning_list(list, &scope)? {
            let col = self.new_col();
            columns.push(OutCol::typed(named.name, col, named.expr.ty(), origin));
            exprs.push((col, named.expr));
        }
        Ok((Some(exprs), columns))
    }

    /// The finished write.
    pub(super) fn modify(&mut self, m: LogicalModify, columns: Vec<OutCol>) -> BoundQuery {
        BoundQuery { rel: Rel::Modify(Box::new(m)), columns }
    }
}

impl Binder<'_> {
    /// A condition kept as text, over all columns of its table.
    pub(crate) fn table_condition(&mut self, table: &TableRef, ast: &ast::Expr) -> Result<Expr> {
        let cols = self.new_cols(table.columns.len());
        let scope = Scope { from: self.target_scope(table, None, &cols), ..Scope::default() };
        let bound = self.condition(ast, &mut Cx::new(&scope, Clause::Check))?;
        crate::lower::Lowerer::new(self.ctx.snapshot).expr_over(&bound, &cols)
    }

    /// Object identifiers with names (`regclass` and its kin) leave a statement as their names, which only the catalog
    /// knows.
    pub(crate) fn name_objects(&mut self, bound: &mut BoundQuery) -> Result<()> {
        let named = |c: &OutCol| c.ty.is_oid_like() && c.ty != meridian_datum::DataType::Oid;
        if !bound.columns.iter().any(named) {
            return Ok(());
        }
        let mut exprs = Vec::with_capacity(bound.columns.len());
        for c in &mut bound.columns {
            let plain = Expr::column(c.col, c.ty.clone());
            if named(c) {
                let e = self.coerce(
                    plain,
                    &meridian_datum::DataType::Text,
                    meridian_datum::CastContext::Explicit,
                    0,
                )?;
                c.col = self.new_col();
                c.ty = e.ty();
                exprs.push((c.col, e));
            } else if !exprs.iter().any(|(k, _)| *k == c.col) {
                exprs.push((c.col, plain));
            }
        }
        let rel = std::mem::replace(&mut bound.rel, Rel::single_row());
        bound.rel = Rel::Project { input: Box::new(rel), exprs };
        Ok(())
    }
}
