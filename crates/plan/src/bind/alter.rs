//! ALTER TABLE and ALTER INDEX.

use meridian_catalog::{CheckDesc, IndexId, Relation, TableRef};
use meridian_datum::{CastContext, DataType, Result, SqlError, SqlState};
use sqlparser::ast::{self, AlterColumnOperation, AlterTableOperation};

use super::ddl::{check_parameter, definition_of};
use super::definition::{Definition, key_type, row_scope};
use super::expr::{Clause, Cx, position};
use super::stored::{plain_ident, reads_column};
use super::{At, Binder, name_of, names_of, pos, position_of, undefined_table};
use crate::ddl::{AlterAction, Ddl, NewColumn, RenamedText};
use crate::lower::Lowerer;
use crate::parse::{AlterSyntax, TableName};

impl Binder<'_> {
    pub(super) fn alter_table(&mut self, a: &ast::AlterTable) -> Result<Ddl> {
        let parts = names_of(&a.name)?;
        let Some(table) = self.altered(&parts, position_of(&a.name), a.if_exists)? else {
            return Ok(Ddl::Nothing);
        };
        let taken = self
            .ctx
            .snapshot
            .tables()
            .filter(|t| t.schema == table.schema)
            .flat_map(|t| std::iter::once(t.name.clone()).chain(t.all_indexes().map(|i| i.name.clone())))
            .collect();
        let mut d = definition_of(&table, taken);
        let mut actions = Vec::with_capacity(a.operations.len());
        for op in &a.operations {
            self.alter_action(&table, op, &mut d, &mut actions)?;
        }
        Ok(if actions.is_empty() { Ddl::Nothing } else { Ddl::AlterTable { table, actions } })
    }

    fn altered(&mut self, parts: &[String], at: u32, if_exists: bool) -> Result<Option<TableRef>> {
        match self.find_relation(parts)? {
            None if if_exists => {
                self.notices.push(format!("relation \"{}\" does not exist, skipping", parts.join(".")));
                Ok(None)
            }
            None => Err(undefined_table(parts).at(at)),
            Some(_) => self.stored_table(parts, at).map(Some),
        }
    }

    /// The actions that sqlparser does not read.
    pub(crate) fn alter_command(
        &mut self,
        name: &TableName,
        if_exists: bool,
        action: &AlterSyntax,
    ) -> Result<Ddl> {
        let Some(table) = self.altered(&name.parts, name.position, if_exists)? else {
            return Ok(Ddl::Nothing);
        };
        let action = match action {
            AlterSyntax::SetParameters(list) => {
                for (n, v) in list {
                    check_parameter(n, v.as_deref())?;
                }
                AlterAction::SetStorageParameters(list.clone())
            }
            AlterSyntax::SetSchema(name) => {
                let snapshot = self.ctx.snapshot;
                let schema = snapshot.database(self.ctx.database).and_then(|d| snapshot.schema(d.id, name));
                let Some(schema) = schema else {
                    let message = format!("schema \"{name}\" does not exist");
                    return Err(SqlError::new(SqlState::INVALID_SCHEMA_NAME, message));
                };
                if schema.id != table.schema && snapshot.relation_in(schema.id, &table.name).is_some() {
                    let message = format!("relation \"{}\" already exists in schema \"{name}\"", table.name);
                    return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
                }
                AlterAction::SetSchema { schema: schema.id }
            }
        };
        Ok(Ddl::AlterTable { table, actions: vec![action] })
    }

    fn alter_action(
        &mut self,
        table: &TableRef,
        op: &AlterTableOperation,
        d: &mut Definition,
        out: &mut Vec<AlterAction>,
    ) -> Result<()> {
        use AlterTableOperation as O;
        match op {
            O::AddColumn { if_not_exists, column_def, .. } => {
                self.add_column(table, column_def, *if_not_exists, d, out)
            }
            O::DropColumn { column_names, if_exists, drop_behavior, .. } => {
                let cascade = matches!(drop_behavior, Some(ast::DropBehavior::Cascade));
                for n in column_names {
                    self.drop_column(table, n, *if_exists, cascade, d, out)?;
                }
                Ok(())
            }
            O::AddConstraint { constraint, not_valid } => {
                let (indexes, checks) = (d.indexes.len(), d.checks.len());
                if table.primary.constraint_oid.is_some()
                    && matches!(constraint, ast::TableConstraint::PrimaryKey(_))
                {
                    let message =
                        format!("multiple primary keys for table \"{}\" are not allowed", table.name);
                    return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message));
                }
                self.constraint(constraint, *not_valid, d)?;
                out.extend(d.primary.take().map(|index| AlterAction::AddPrimaryKey { index }));
                out.extend(d.indexes.drain(indexes..).map(|index| AlterAction::AddUnique { index }));
                out.extend(d.checks.drain(checks..).map(AlterAction::AddCheck));
                Ok(())
            }
            O::DropConstraint { if_exists, name, .. } => {
                out.extend(self.drop_constraint(table, &name_of(name), *if_exists)?);
                Ok(())
            }
            O::RenameTable { table_name } => {
                let (ast::RenameTableNameKind::To(name) | ast::RenameTableNameKind::As(name)) = table_name;
                let name = names_of(name)?.pop().unwrap_or_default();
                if d.taken.contains(&name) {
                    let message = format!("relation \"{name}\" already exists");
                    return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
                }
                out.push(AlterAction::RenameTable { name });
                Ok(())
            }
            O::RenameColumn { old_column_name, new_column_name } => {
                let column = self.target_column(table, old_column_name)?;
                let name = name_of(new_column_name);
                if d.columns.iter().any(|c| c.name == name) {
                    let message = format!("column \"{name}\" of relation \"{}\" already exists", table.name);
                    return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
                }
                let from = &table.columns[column].name;
                let (checks, indexes) =
                    (renamed_checks(table, from, &name)?, renamed_texts(table, from, &name)?);
                d.columns[column].name.clone_from(&name);
                out.push(AlterAction::RenameColumn { column, name, checks, indexes });
                Ok(())
            }
            O::RenameConstraint { old_name, new_name } => {
                let (from, to) = (name_of(old_name), name_of(new_name));
                if !d.constraints.contains(&from) {
                    return Err(no_constraint(table, &from));
                }
                if d.constraints.contains(&to) || d.taken.contains(&to) {
                    let message =
                        format!("constraint \"{to}\" for relation \"{}\" already exists", table.name);
                    return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, message));
                }
                out.push(AlterAction::RenameConstraint { from, to });
                Ok(())
            }
            O::ValidateConstraint { name } => {
                let name = name_of(name);
                let check = table
                    .checks
                    .iter()
                    .find(|c| c.name == name)
                    .ok_or_else(|| no_constraint(table, &name))?;
                let ast = crate::parse::parse_expression(&check.expr)?;
                let (condition, _) = self.row_condition(&ast, &table.name, &d.columns)?;
                out.push(AlterAction::ValidateCheck { name, condition });
                Ok(())
            }
            O::AlterColumn { column_name, op } => self.alter_column(table, column_name, op, d, out),
            O::OwnerTo { new_owner } => Err(SqlError::unsupported(format!("OWNER TO {new_owner}"))),
            other => Err(SqlError::unsupported(format!("ALTER TABLE {other}"))),
        }
    }

    fn add_column(
        &mut self,
        table: &TableRef,
        c: &ast::ColumnDef,
        if_not_exists: bool,
        d: &mut Definition,
        out: &mut Vec<AlterAction>,
    ) -> Result<()> {
        let name = name_of(&c.name);
        if d.columns.iter().any(|k| k.name == name) {
            let message = format!("column \"{name}\" of relation \"{}\" already exists", table.name);
            if if_not_exists {
                self.notices.push(format!("{message}, skipping"));
                return Ok(());
            }
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        if c.options.iter().any(|o| matches!(o.option, ast::ColumnOption::PrimaryKey(_))) {
            return Err(SqlError::unsupported("ADD COLUMN with a primary key"));
        }
        let (indexes, checks) = (d.indexes.len(), d.checks.len());
        self.column_def(c, d)?;
        let column = d.columns.last().expect("column_def has added it").clone();
        let default = match &column.default {
            Some(text) => {
                let ast = crate::parse::parse_expression(text)?;
                Some(self.default_value(&ast, &column)?)
            }
            None => None,
        };
        out.push(AlterAction::AddColumn { column, default });
        out.extend(d.indexes.drain(indexes..).map(|index| AlterAction::AddUnique { index }));
        out.extend(d.checks.drain(checks..).map(AlterAction::AddCheck));
        Ok(())
    }

    fn drop_column(
        &mut self,
        table: &TableRef,
        ident: &ast::Ident,
        if_exists: bool,
        cascade: bool,
        d: &mut Definition,
        out: &mut Vec<AlterAction>,
    ) -> Result<()> {
        let name = name_of(ident);
        let Some((ordinal, column)) = table.column_by_name(&name).filter(|(_, c)| !c.hidden) else {
            let message = format!("column \"{name}\" of relation \"{}\" does not exist", table.name);
            if if_exists {
                self.notices.push(format!("{message}, skipping"));
                return Ok(());
            }
            return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(pos(ident.span)));
        };
        let _ = cascade;
        if table.primary.columns.iter().any(|c| c.column == column.id) {
            return Err(SqlError::unsupported("dropping a column of the primary key"));
        }
        let mut indexes: Vec<IndexId> = Vec::new();
        for i in &table.indexes {
            if i.columns.iter().any(|c| c.column == column.id)
                || i.storing.contains(&column.id)
                || reads_column(self.ctx.snapshot, table, i, ordinal)?
            {
                indexes.push(i.id);
            }
        }
        let mut checks = Vec::new();
        for k in &table.checks {
            let ast = crate::parse::parse_expression(&k.expr)?;
            let (_, used) =
                self.row_condition(&ast, &table.name, &definition_of(table, Vec::new()).columns)?;
            if used.contains(&ordinal) {
                checks.push(k.name.clone());
            }
        }
        d.constraints.retain(|c| !checks.contains(c));
        out.push(AlterAction::DropColumn { column: ordinal, indexes, checks });
        Ok(())
    }

    fn drop_constraint(
        &mut self,
        table: &TableRef,
        name: &str,
        if_exists: bool,
    ) -> Result<Option<AlterAction>> {
        if table.checks.iter().any(|c| c.name == name) {
            return Ok(Some(AlterAction::DropCheck { name: name.to_owned() }));
        }
        if let Some(i) = table.indexes.iter().find(|i| i.name == name && i.constraint_oid.is_some()) {
            return Ok(Some(AlterAction::DropUnique { index: i.id }));
        }
        if table.primary.name == name && table.primary.constraint_oid.is_some() {
            return Err(SqlError::unsupported("dropping a primary key"));
        }
        if if_exists {
            let message =
                format!("constraint \"{name}\" of relation \"{}\" does not exist, skipping", table.name);
            self.notices.push(message);
            return Ok(None);
        }
        Err(no_constraint(table, name))
    }

    fn alter_column(
        &mut self,
        table: &TableRef,
        ident: &ast::Ident,
        op: &AlterColumnOperation,
        d: &mut Definition,
        out: &mut Vec<AlterAction>,
    ) -> Result<()> {
        let column = self.target_column(table, ident)?;
        match op {
            AlterColumnOperation::SetNotNull => {
                d.columns[column].nullable = false;
                out.push(AlterAction::SetNullable { column, nullable: false });
            }
            AlterColumnOperation::DropNotNull => {
                if table.primary.columns.iter().any(|c| c.column == table.columns[column].id) {
                    let message = format!("column \"{}\" is in a primary key", table.columns[column].name);
                    return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message));
                }
                d.columns[column].nullable = true;
                out.push(AlterAction::SetNullable { column, nullable: true });
            }
            AlterColumnOperation::SetDefault { value } => {
                self.default_value(value, &d.columns[column])?;
                out.push(AlterAction::SetDefault { column, default: Some(value.to_string()) });
            }
            AlterColumnOperation::DropDefault => out.push(AlterAction::SetDefault { column, default: None }),
            AlterColumnOperation::SetDataType { data_type, using, .. } => {
                out.push(self.set_type(table, column, data_type, using.as_ref(), d)?);
            }
            AlterColumnOperation::AddGenerated { .. } => return Err(SqlError::unsupported("ADD GENERATED")),
        }
        Ok(())
    }

    fn set_type(
        &mut self,
        table: &TableRef,
        column: usize,
        data_type: &ast::DataType,
        using: Option<&ast::Expr>,
        d: &mut Definition,
    ) -> Result<AlterAction> {
        let ty = self.data_type(data_type)?;
        let desc = &table.columns[column];
        let in_key = table.all_indexes().any(|i| i.columns.iter().any(|c| c.column == desc.id));
        if in_key {
            return Err(SqlError::unsupported("changing the type of a column that is in an index"));
        }
        for i in &table.indexes {
            if reads_column(self.ctx.snapshot, table, i, column)? {
                let what =
                    "changing the type of a column that is in an expression or the predicate of an index";
                return Err(SqlError::unsupported(what));
            }
        }
        let cols = self.new_cols(d.columns.len());
        let scope = row_scope(&table.name, &d.columns, &cols);
        let (bound, at) = match using {
            Some(e) => (self.expr(e, &mut Cx::new(&scope, Clause::Transform))?, position(e)),
            None => (crate::Expr::column(cols[column], desc.ty.clone()), 0),
        };
        let from = bound.ty();
        let cast = self.coerce(bound, &ty, CastContext::Assignment, at).map_err(|e| {
            if e.state != SqlState::CANNOT_COERCE {
                return e;
            }
            let what = if using.is_some() { "result of USING clause for column" } else { "column" };
            let message = format!("{what} \"{}\" cannot be cast automatically to type {ty}", desc.name);
            SqlError::new(SqlState::DATATYPE_MISMATCH, message)
                .with_hint(format!("You might need to specify \"USING {}::{ty}\".", desc.name))
        })?;
        let _ = from;
        self.check_default_as(&d.columns[column], &ty)?;
        let using = Lowerer::new(self.ctx.snapshot).expr_over(&cast, &cols)?;
        d.columns[column].ty = ty.clone();
        key_type(&d.columns[column].ty).or(Ok::<(), SqlError>(()))?;
        Ok(AlterAction::SetType { column, ty, using })
    }

    /// Whether a column's default can be one of another type.
    fn check_default_as(&mut self, column: &NewColumn, ty: &DataType) -> Result<()> {
        let Some(text) = column.default.as_deref().filter(|_| column.identity.is_none()) else {
            return Ok(());
        };
        let ast = crate::parse::parse_expression(text)?;
        // As it is stored: of the column's type so far.
        let bound = self.default_bound(&ast, column)?;
        self.coerce(bound, ty, CastContext::Assignment, 0).map(drop).map_err(|e| {
            if e.state != SqlState::CANNOT_COERCE {
                return e;
            }
            let name = &column.name;
            let message = format!("default for column \"{name}\" cannot be cast automatically to type {ty}");
            SqlError::new(SqlState::DATATYPE_MISMATCH, message)
        })
    }

    pub(super) fn alter_index(
        &mut self,
        name: &ast::ObjectName,
        op: &ast::AlterIndexOperation,
    ) -> Result<Ddl> {
        let parts = names_of(name)?;
        let Some(Relation::Index(table, index)) = self.find_relation(&parts)? else {
            return Err(undefined_table(&parts).at(position_of(name)));
        };
        let ast::AlterIndexOperation::RenameIndex { index_name } = op;
        let name = names_of(index_name)?.pop().unwrap_or_default();
        if self.ctx.snapshot.relation_in(table.schema, &name).is_some() {
            let message = format!("relation \"{name}\" already exists");
            return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
        }
        Ok(Ddl::RenameIndex { table, index, name })
    }
}

fn no_constraint(table: &TableRef, name: &str) -> SqlError {
    let message = format!("constraint \"{name}\" of relation \"{}\" does not exist", table.name);
    SqlError::new(SqlState::UNDEFINED_OBJECT, message)
}

/// The checks that mention a column, with its name replaced.
fn renamed_checks(table: &TableRef, from: &str, to: &str) -> Result<Vec<(String, String)>> {
    let renamed = |k: &CheckDesc| Ok(renamed(&k.expr, from, to)?.map(|text| (k.name.clone(), text)));
    table.checks.iter().filter_map(|k| renamed(k).transpose()).collect()
}

/// The same of the predicates and the expressions of indexes.
fn renamed_texts(table: &TableRef, from: &str, to: &str) -> Result<Vec<RenamedText>> {
    let mut out = Vec::new();
    for i in &table.indexes {
        if let Some(text) = i.predicate.as_deref().and_then(|t| renamed(t, from, to).transpose()) {
            out.push(RenamedText::Predicate(i.id, text?));
        }
        for e in &i.expressions {
            out.extend(renamed(&e.text, from, to)?.map(|text| RenamedText::Expression(e.id, text)));
        }
    }
    Ok(out)
}

/// An expression's text with a column's name replaced; `None` where it does not mention the column.
fn renamed(text: &str, from: &str, to: &str) -> Result<Option<String>> {
    let mut ast = crate::parse::parse_expression(text)?;
    let mut changed = false;
    let _ = ast::visit_expressions_mut(&mut ast, |e| {
        let ident = match e {
            ast::Expr::Identifier(i) => Some(i),
            ast::Expr::CompoundIdentifier(parts) => parts.last_mut(),
            _ => None,
        };
        if let Some(i) = ident
            && name_of(i) == from
        {
            *i = plain_ident(to);
            changed = true;
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    Ok(changed.then(|| ast.to_string()))
}
