//! CREATE, DROP and TRUNCATE.

use meridian_catalog::{Direction, Relation, SchemaId, TableDesc, TableRef};
use meridian_datum::{DataType, Result, SqlError, SqlState};
use sqlparser::ast::{self, CreateTableOptions, ObjectType, SqlOption, Statement};

use super::definition::{Definition, ROW_ID, choose_name, key_type, plain_columns};
use super::scope::Scope;
use super::{At, Binder, name_of, names_of, position_of, undefined_table};
use crate::ddl::{CreateTable, Ddl, NewColumn, NewIndex, NewInterleave};
use crate::logical::Rel;
use crate::lower::Lowerer;
use crate::parse::{Hooks, is_mere_name};

/// A schema change with its command tag.
pub(crate) type BoundDdl = (Ddl, &'static str);

impl Binder<'_> {
    /// A statement that changes the schema; `None` for other statements.
    pub(crate) fn ddl(&mut self, s: &Statement, hooks: &Hooks) -> Result<Option<BoundDdl>> {
        Ok(Some(match s {
            Statement::CreateTable(c) => self.create_table(c, hooks)?,
            Statement::CreateIndex(c) => (self.create_index(c)?, "CREATE INDEX"),
            Statement::AlterTable(a) => (self.alter_table(a)?, "ALTER TABLE"),
            Statement::AlterIndex { name, operation } => (self.alter_index(name, operation)?, "ALTER INDEX"),
            Statement::Drop { object_type, if_exists, names, cascade, .. } => {
                self.drop(*object_type, *if_exists, names, *cascade)?
            }
            Statement::Truncate(t) => (self.truncate(t)?, "TRUNCATE TABLE"),
            Statement::CreateSchema { schema_name, if_not_exists, .. } => {
                (self.create_schema(schema_name, *if_not_exists)?, "CREATE SCHEMA")
            }
            _ => return Ok(None),
        }))
    }

    /// The schema in which a new relation goes, and its name.
    fn new_name(&self, name: &ast::ObjectName) -> Result<(SchemaId, String)> {
        let parts = names_of(name)?;
        let ctx = self.ctx;
        let (schema, relation) = match parts.as_slice() {
            [r] => (None, r),
            [s, r] => (Some(s), r),
            [d, s, r] if d == ctx.database => (Some(s), r),
            _ => {
                let full = parts.join(".");
                return Err(SqlError::unsupported(format!("cross-database reference to \"{full}\"")));
            }
        };
        let found = match schema {
            None => ctx.snapshot.creation_schema(ctx.database, ctx.search_path, ctx.user),
            Some(s) => ctx.snapshot.database(ctx.database).and_then(|d| ctx.snapshot.schema(d.id, s)),
        };
        match (found, schema) {
            (Some(s), _) => Ok((s.id, relation.clone())),
            (None, None) => {
                let message = "no schema has been selected to create in";
                Err(SqlError::new(SqlState::INVALID_SCHEMA_NAME, message).at(position_of(name)))
            }
            (None, Some(s)) if ctx.snapshot.has_schema(ctx.database, s) => {
                let message = format!("permission denied for schema {s}");
                Err(SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, message))
            }
            (None, Some(s)) => {
                let message = format!("schema \"{s}\" does not exist");
                Err(SqlError::new(SqlState::INVALID_SCHEMA_NAME, message).at(position_of(name)))
            }
        }
    }

    fn already_exists(&mut self, name: &str, if_not_exists: bool) -> Result<Ddl> {
        let message = format!("relation \"{name}\" already exists");
        if if_not_exists {
            self.notices.push(format!("{message}, skipping"));
            return Ok(Ddl::Nothing);
        }
        Err(SqlError::new(SqlState::DUPLICATE_TABLE, message))
    }

    fn create_table(&mut self, c: &ast::CreateTable, hooks: &Hooks) -> Result<BoundDdl> {
        refuse_table_options(c)?;
        let tag = if c.query.is_some() { "CREATE TABLE AS" } else { "CREATE TABLE" };
        let (schema, name) = self.new_name(&c.name)?;
        if self.ctx.snapshot.relation_in(schema, &name).is_some() {
            return Ok((self.already_exists(&name, c.if_not_exists)?, tag));
        }
        let mut d =
            Definition { table: name.clone(), taken: self.relation_names(schema), ..Definition::default() };
        d.taken.push(name.clone());
        let query = match &c.query {
            Some(q) => Some(self.table_as(q, c, &mut d)?),
            None => {
                self.define(c, &mut d)?;
                None
            }
        };
        let primary = match d.primary.take() {
            Some(p) => p,
            None => hidden_key(&mut d),
        };
        let interleave = match &hooks.interleave {
            Some(i) => Some(self.interleave(i, &d, &primary)?),
            None => None,
        };
        let table = Box::new(CreateTable {
            schema,
            name,
            columns: d.columns,
            primary,
            indexes: d.indexes,
            checks: d.checks,
            interleave,
            storage_parameters: storage_parameters(&c.table_options)?,
            if_not_exists: c.if_not_exists,
        });
        Ok((
            match query {
                None => Ddl::CreateTable(table),
                Some(query) => Ddl::CreateTableAs {
                    table,
                    query: Box::new(query),
                    with_data: c.with_data.as_ref().is_none_or(|w| w.data),
                },
            },
            tag,
        ))
    }

    /// Columns first and constraints after them, so that checks may name any column.
    fn define(&mut self, c: &ast::CreateTable, d: &mut Definition) -> Result<()> {
        if let Some(bare) = c.columns.iter().find(|c| is_mere_name(c)) {
            let message = format!("syntax error: column \"{}\" has no type", name_of(&bare.name));
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(super::pos(bare.name.span)));
        }
        let mut checks = Vec::new();
        for col in &c.columns {
            let mut col = col.clone();
            let (own, later): (Vec<_>, Vec<_>) =
                col.options.drain(..).partition(|o| !matches!(o.option, ast::ColumnOption::Check(_)));
            col.options = own;
            checks.extend(later);
            self.column_def(&col, d)?;
        }
        for o in checks {
            if let ast::ColumnOption::Check(k) = &o.option {
                self.check(o.name.as_ref().or(k.name.as_ref()).map(name_of), &k.expr, false, d)?;
            }
        }
        // The primary key before unique constraints: it makes columns NOT NULL.
        for k in c.constraints.iter().filter(|k| matches!(k, ast::TableConstraint::PrimaryKey(_))) {
            self.constraint(k, false, d)?;
        }
        for k in c.constraints.iter().filter(|k| !matches!(k, ast::TableConstraint::PrimaryKey(_))) {
            self.constraint(k, false, d)?;
        }
        Ok(())
    }

    fn table_as(
        &mut self,
        q: &ast::Query,
        c: &ast::CreateTable,
        d: &mut Definition,
    ) -> Result<crate::physical::Plan> {
        if let Some(typed) = c.columns.iter().find(|c| !is_mere_name(c)) {
            let message =
                format!("syntax error: column \"{}\" has its type from the query", name_of(&typed.name));
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(super::pos(typed.name.span)));
        }
        if !c.constraints.is_empty() {
            let message = "syntax error: a table that is made by a query has no constraints";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
        }
        let scope = Scope::default();
        let bound = self.query(q, &scope)?;
        if c.columns.len() > bound.columns.len() {
            let message = "too many column names were specified";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
        }
        for (i, col) in bound.columns.iter().enumerate() {
            let name = c.columns.get(i).map_or_else(|| col.name.clone(), |n| name_of(&n.name));
            if d.columns.iter().any(|k| k.name == name) {
                let message = format!("column \"{name}\" specified more than once");
                return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
            }
            super::definition::room_for_column(i)?;
            let ty = col.ty.clone();
            d.columns.push(NewColumn {
                name,
                ty,
                nullable: true,
                default: None,
                identity: None,
                hidden: false,
            });
        }
        let cols: Vec<_> = bound.columns.iter().map(|c| c.col).collect();
        if self.ctes.iter().any(Rel::has_modify) {
            return Err(SqlError::unsupported("CREATE TABLE AS with a query that writes"));
        }
        Lowerer::new(self.ctx.snapshot).query(bound.rel, &cols)
    }

    fn relation_names(&self, schema: SchemaId) -> Vec<String> {
        let tables = self.ctx.snapshot.tables().filter(|t| t.schema == schema);
        tables
            .flat_map(|t| std::iter::once(t.name.clone()).chain(t.all_indexes().map(|i| i.name.clone())))
            .collect()
    }

    fn interleave(
        &mut self,
        i: &crate::parse::InterleaveClause,
        d: &Definition,
        primary: &NewIndex,
    ) -> Result<NewInterleave> {
        let parent = self.stored_table(&i.parent, i.position)?;
        let invalid =
            |message: String| SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message).at(i.position);
        let shared = parent.key_ordinals();
        if shared.len() >= primary.columns.len() || parent.has_row_id() {
            return Err(invalid(format!(
                "the primary key of \"{}\" must begin with the whole primary key of its parent \"{}\" and go on",
                d.table, parent.name
            )));
        }
        for ((o, direction), k) in primary.columns.iter().zip(&parent.primary.columns) {
            let (mine, theirs) = (&d.columns[*o], &parent.columns[parent.ordinal(k.column)]);
            if !mine.ty.same_type(&theirs.ty) || *direction != k.direction || mine.name != theirs.name {
                return Err(invalid(format!(
                    "column \"{}\" of the primary key must be column \"{}\" of the parent \"{}\", of the same type",
                    mine.name, theirs.name, parent.name
                )));
            }
        }
        Ok(NewInterleave { parent: parent.id, shared_columns: shared.len(), cascade: i.cascade })
    }

    fn create_index(&mut self, c: &ast::CreateIndex) -> Result<Ddl> {
        let parts = names_of(&c.table_name)?;
        let table = self.stored_table(&parts, position_of(&c.table_name))?;
        match &c.using {
            None | Some(ast::IndexType::BTree) => {}
            Some(other) => {
                return Err(SqlError::unsupported(format!(
                    "access method \"{}\"",
                    other.to_string().to_lowercase()
                )));
            }
        }
        if c.nulls_distinct == Some(false) {
            return Err(SqlError::unsupported("NULLS NOT DISTINCT"));
        }
        if !c.with.is_empty() || !c.index_options.is_empty() || !c.alter_options.is_empty() {
            return Err(SqlError::unsupported("a storage parameter of an index"));
        }
        let d = definition_of(&table, self.relation_names(table.schema));
        let (columns, expressions) = self.index_key(&c.columns, &d)?;
        for column in columns.iter().filter_map(|(o, _)| d.columns.get(*o)) {
            key_type(&column.ty)?;
        }
        let storing = plain_columns(&c.include, &d)?;
        let name = match &c.name {
            Some(n) => names_of(n)?.pop().unwrap_or_default(),
            None => {
                let names: Vec<String> = columns
                    .iter()
                    .map(|(o, _)| *o)
                    .chain(storing.iter().copied())
                    .map(|o| match o.checked_sub(d.columns.len()) {
                        Some(e) => expressions[e].name.clone(),
                        None => d.columns[o].name.clone(),
                    })
                    .collect();
                choose_name(&table.name, &names, "idx", &|n| d.taken.iter().any(|t| t == n))
            }
        };
        if self.ctx.snapshot.relation_in(table.schema, &name).is_some() {
            return self.already_exists(&name, c.if_not_exists);
        }
        let predicate = c.predicate.as_ref().map(|e| self.index_predicate(e, &d)).transpose()?;
        let index = NewIndex {
            name,
            unique: c.unique,
            is_constraint: false,
            columns,
            expressions,
            storing,
            predicate,
        };
        Ok(Ddl::CreateIndex { table, index, more: Vec::new(), if_not_exists: c.if_not_exists })
    }

    fn drop(
        &mut self,
        kind: ObjectType,
        if_exists: bool,
        names: &[ast::ObjectName],
        cascade: bool,
    ) -> Result<BoundDdl> {
        match kind {
            ObjectType::Table => Ok((self.drop_tables(names, if_exists, cascade)?, "DROP TABLE")),
            ObjectType::Index => Ok((self.drop_indexes(names, if_exists)?, "DROP INDEX")),
            ObjectType::Schema => Ok((self.drop_schemas(names, if_exists, cascade)?, "DROP SCHEMA")),
            ObjectType::Database => Ok((self.drop_database(names, if_exists)?, "DROP DATABASE")),
            // There are none of these, so that dropping one that may be missing is done already.
            ObjectType::View => self.drop_missing("view", "DROP VIEW", names, if_exists),
            ObjectType::MaterializedView => {
                self.drop_missing("materialized view", "DROP MATERIALIZED VIEW", names, if_exists)
            }
            ObjectType::Sequence => self.drop_missing("sequence", "DROP SEQUENCE", names, if_exists),
            ObjectType::Type => self.drop_missing("type", "DROP TYPE", names, if_exists),
            other => Err(SqlError::unsupported(format!("DROP {other}"))),
        }
    }

    fn drop_missing(
        &mut self,
        kind: &str,
        tag: &'static str,
        names: &[ast::ObjectName],
        if_exists: bool,
    ) -> Result<BoundDdl> {
        for n in names {
            let name = names_of(n)?.join(".");
            let message = format!("{kind} \"{name}\" does not exist");
            if !if_exists {
                let state =
                    if kind == "type" { SqlState::UNDEFINED_OBJECT } else { SqlState::UNDEFINED_TABLE };
                return Err(SqlError::new(state, message));
            }
            self.notices.push(format!("{message}, skipping"));
        }
        Ok((Ddl::Nothing, tag))
    }

    fn drop_tables(&mut self, names: &[ast::ObjectName], if_exists: bool, cascade: bool) -> Result<Ddl> {
        let mut tables: Vec<TableRef> = Vec::new();
        for n in names {
            let parts = names_of(n)?;
            match self.find_relation(&parts)? {
                Some(Relation::Table(t)) => {
                    if !tables.iter().any(|k| k.id == t.id) {
                        tables.push(t);
                    }
                }
                Some(Relation::Virtual(v)) => {
                    let message = format!("permission denied: \"{}\" is a system catalog", v.name);
                    return Err(SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, message));
                }
                Some(Relation::Index(..)) => {
                    let name = parts.last().map_or("", String::as_str);
                    return Err(SqlError::new(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!("\"{name}\" is not a table"),
                    )
                    .with_hint("Use DROP INDEX to remove an index."));
                }
                None => {
                    let message = format!("table \"{}\" does not exist", parts.join("."));
                    if !if_exists {
                        return Err(SqlError::new(SqlState::UNDEFINED_TABLE, message));
                    }
                    self.notices.push(format!("{message}, skipping"));
                }
            }
        }
        let all = self.with_children(tables, cascade)?;
        Ok(if all.is_empty() { Ddl::Nothing } else { Ddl::DropTable { tables: all } })
    }

    /// The tables with those interleaved in them, children first.
    fn with_children(&self, tables: Vec<TableRef>, cascade: bool) -> Result<Vec<TableRef>> {
        let mut all = tables.clone();
        let mut next = 0;
        while next < all.len() {
            let parent = all[next].clone();
            for child in self.ctx.snapshot.children(parent.id) {
                if all.iter().any(|t| t.id == child.id) {
                    continue;
                }
                if !cascade {
                    let message =
                        format!("cannot drop table {} because other objects depend on it", parent.name);
                    return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                        .with_detail(format!("table {} is interleaved in table {}", child.name, parent.name))
                        .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
                }
                all.push(child.clone());
            }
            next += 1;
        }
        let depth = |t: &TableRef| {
            let mut n = 0;
            let mut at = t.interleave;
            while let Some(i) = at {
                n += 1;
                at = self.ctx.snapshot.table(i.parent).and_then(|p| p.interleave);
            }
            n
        };
        all.sort_by_key(|t| std::cmp::Reverse(depth(t)));
        Ok(all)
    }

    fn drop_indexes(&mut self, names: &[ast::ObjectName], if_exists: bool) -> Result<Ddl> {
        let mut indexes = Vec::new();
        for n in names {
            let parts = names_of(n)?;
            match self.find_relation(&parts)? {
                Some(Relation::Index(t, id)) => {
                    let index = t.index(id).expect("a relation's index is its table's");
                    if index.constraint_oid.is_some() {
                        let message = format!(
                            "cannot drop index {0} because constraint {0} on table {1} requires it",
                            index.name, t.name
                        );
                        return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                            .with_hint(format!(
                                "You can drop constraint {} on table {} instead.",
                                index.name, t.name
                            )));
                    }
                    indexes.push((t, id));
                }
                Some(_) => {
                    let name = parts.last().map_or("", String::as_str);
                    return Err(SqlError::new(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!("\"{name}\" is not an index"),
                    )
                    .with_hint("Use DROP TABLE to remove a table."));
                }
                None => {
                    let message = format!("index \"{}\" does not exist", parts.join("."));
                    if !if_exists {
                        return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message));
                    }
                    self.notices.push(format!("{message}, skipping"));
                }
            }
        }
        Ok(if indexes.is_empty() { Ddl::Nothing } else { Ddl::DropIndex { indexes } })
    }

    fn drop_schemas(&mut self, names: &[ast::ObjectName], if_exists: bool, cascade: bool) -> Result<Ddl> {
        let snapshot = self.ctx.snapshot;
        let mut schemas = Vec::new();
        let mut tables = Vec::new();
        for n in names {
            let name = names_of(n)?.pop().unwrap_or_default();
            let found = snapshot.database(self.ctx.database).and_then(|d| snapshot.schema(d.id, &name));
            let Some(schema) = found else {
                let message = format!("schema \"{name}\" does not exist");
                if !if_exists {
                    return Err(SqlError::new(SqlState::INVALID_SCHEMA_NAME, message));
                }
                self.notices.push(format!("{message}, skipping"));
                continue;
            };
            let inside: Vec<TableRef> =
                snapshot.tables().filter(|t| t.schema == schema.id).cloned().collect();
            if !inside.is_empty() && !cascade {
                let message = format!("cannot drop schema {name} because other objects depend on it");
                return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                    .with_detail(format!("table {} depends on schema {name}", inside[0].name))
                    .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            tables.extend(self.with_children(inside, cascade)?);
            schemas.push(schema.id);
        }
        Ok(if schemas.is_empty() { Ddl::Nothing } else { Ddl::DropSchema { schemas, tables } })
    }

    fn drop_database(&mut self, names: &[ast::ObjectName], if_exists: bool) -> Result<Ddl> {
        let [name] = names else { return Err(SqlError::unsupported("DROP DATABASE of several databases")) };
        let name = names_of(name)?.pop().unwrap_or_default();
        if name == self.ctx.database {
            let message = "cannot drop the currently open database";
            return Err(SqlError::new(SqlState::OBJECT_IN_USE, message));
        }
        match self.ctx.snapshot.database(&name) {
            Some(d) => Ok(Ddl::DropDatabase { database: d.id }),
            None if if_exists => {
                self.notices.push(format!("database \"{name}\" does not exist, skipping"));
                Ok(Ddl::Nothing)
            }
            None => {
                let message = format!("database \"{name}\" does not exist");
                Err(SqlError::new(SqlState::INVALID_CATALOG_NAME, message))
            }
        }
    }

    fn truncate(&mut self, t: &ast::Truncate) -> Result<Ddl> {
        if t.partitions.is_some() || t.on_cluster.is_some() {
            return Err(SqlError::unsupported("this form of TRUNCATE"));
        }
        let mut tables = Vec::new();
        for n in &t.table_names {
            let parts = names_of(&n.name)?;
            match self.find_relation(&parts)? {
                Some(Relation::Table(table)) => tables.push(table),
                None if t.if_exists => {}
                None => return Err(undefined_table(&parts).at(position_of(&n.name))),
                Some(_) => {
                    let name = parts.last().map_or("", String::as_str);
                    return Err(SqlError::new(
                        SqlState::WRONG_OBJECT_TYPE,
                        format!("\"{name}\" is not a table"),
                    ));
                }
            }
        }
        let cascade = matches!(t.cascade, Some(ast::CascadeOption::Cascade));
        let tables = self.with_children(tables, cascade).map_err(|e| {
            SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot truncate a table with interleaved tables in it",
            )
            .with_detail(e.detail.clone().unwrap_or_default())
            .with_hint("Truncate the interleaved tables at the same time, or use TRUNCATE ... CASCADE.")
        })?;
        Ok(if tables.is_empty() { Ddl::Nothing } else { Ddl::Truncate { tables } })
    }

    fn create_schema(&mut self, name: &ast::SchemaName, if_not_exists: bool) -> Result<Ddl> {
        let ast::SchemaName::Simple(name) = name else {
            return Err(SqlError::unsupported("CREATE SCHEMA AUTHORIZATION"));
        };
        let name = names_of(name)?.pop().unwrap_or_default();
        if name.starts_with("pg_") {
            return Err(SqlError::new(
                SqlState::RESERVED_NAME,
                format!("unacceptable schema name \"{name}\""),
            )
            .with_detail("The prefix \"pg_\" is reserved for system schemas."));
        }
        if self.ctx.snapshot.has_schema(self.ctx.database, &name) {
            let message = format!("schema \"{name}\" already exists");
            if if_not_exists {
                self.notices.push(format!("{message}, skipping"));
                return Ok(Ddl::Nothing);
            }
            return Err(SqlError::new(SqlState::DUPLICATE_SCHEMA, message));
        }
        let database = self.ctx.snapshot.database(self.ctx.database).map(|d| d.id).ok_or_else(|| {
            let message = format!("database \"{}\" does not exist", self.ctx.database);
            SqlError::new(SqlState::INVALID_CATALOG_NAME, message)
        })?;
        Ok(Ddl::CreateSchema { database, name })
    }

    pub(super) fn create_database(&mut self, name: &str, if_not_exists: bool) -> Result<Ddl> {
        if self.ctx.snapshot.database(name).is_some() {
            let message = format!("database \"{name}\" already exists");
            if if_not_exists {
                self.notices.push(format!("{message}, skipping"));
                return Ok(Ddl::Nothing);
            }
            return Err(SqlError::new(SqlState::DUPLICATE_DATABASE, message));
        }
        Ok(Ddl::CreateDatabase { name: name.to_owned() })
    }
}

/// The columns of a stored table, as if they were to be made.
pub(super) fn new_columns(table: &TableDesc) -> Vec<NewColumn> {
    table
        .columns
        .iter()
        .map(|c| NewColumn {
            name: c.name.clone(),
            ty: c.ty.clone(),
            nullable: c.nullable,
            default: c.default.clone(),
            identity: c.identity,
            hidden: c.hidden,
        })
        .collect()
}

/// What a stored table is, as a definition that can be added to.
pub(super) fn definition_of(table: &TableDesc, taken: Vec<String>) -> Definition {
    let columns = new_columns(table);
    let constraints = table
        .checks
        .iter()
        .map(|c| c.name.clone())
        .chain(table.all_indexes().filter(|i| i.constraint_oid.is_some()).map(|i| i.name.clone()))
        .collect();
    Definition { table: table.name.clone(), columns, taken, constraints, ..Definition::default() }
}

/// The row id of a table without a primary key.
fn hidden_key(d: &mut Definition) -> NewIndex {
    let mut name = "rowid".to_owned();
    while d.columns.iter().any(|c| c.name == name) {
        name.push('_');
    }
    d.columns.push(NewColumn {
        name,
        ty: DataType::Int8,
        nullable: false,
        default: Some(ROW_ID.to_owned()),
        identity: None,
        hidden: true,
    });
    let taken = |n: &str| d.taken.iter().any(|t| t == n);
    NewIndex {
        name: choose_name(&d.table, &[], "rowid", &taken),
        unique: true,
        is_constraint: false,
        columns: vec![(d.columns.len() - 1, Direction::Ascending)],
        storing: Vec::new(),
        predicate: None,
        expressions: Vec::new(),
    }
}

fn refuse_table_options(c: &ast::CreateTable) -> Result<()> {
    let what = if c.temporary {
        "a temporary table"
    } else if c.unlogged {
        "an unlogged table"
    } else if c.or_replace {
        "CREATE OR REPLACE TABLE"
    } else if c.external {
        "an external table"
    } else if c.like.is_some() {
        "CREATE TABLE ... LIKE"
    } else if c.inherits.is_some() {
        "INHERITS"
    } else if c.partition_of.is_some() || c.partition_by.is_some() {
        "a partitioned table"
    } else if c.on_commit.is_some() {
        "ON COMMIT"
    } else if c.clone.is_some() || c.on_cluster.is_some() || c.primary_key.is_some() || c.order_by.is_some() {
        "this form of CREATE TABLE"
    } else {
        return Ok(());
    };
    Err(SqlError::unsupported(what))
}

/// `WITH (fillfactor = 100)`: kept for the catalog's listings; the store lays rows out by itself.
fn storage_parameters(options: &CreateTableOptions) -> Result<Vec<(String, String)>> {
    let list = match options {
        CreateTableOptions::None => return Ok(Vec::new()),
        CreateTableOptions::With(list) => list,
        _ => return Err(SqlError::unsupported("table options other than WITH")),
    };
    let mut out = Vec::with_capacity(list.len());
    for o in list {
        let SqlOption::KeyValue { key, value } = o else {
            return Err(SqlError::unsupported(format!("storage parameter {o}")));
        };
        let name = name_of(key);
        let text = value.to_string().trim_matches('\'').to_owned();
        check_parameter(&name, Some(&text))?;
        out.push((name, text));
    }
    Ok(out)
}

/// The storage parameters that are accepted: those of PostgreSQL's tables that say how rows are laid out and cleaned up.
pub(super) fn check_parameter(name: &str, value: Option<&str>) -> Result<()> {
    let known = name == "fillfactor"
        || name == "parallel_workers"
        || name == "toast_tuple_target"
        || name == "vacuum_truncate"
        || name.starts_with("autovacuum_")
        || name.starts_with("toast.autovacuum_");
    if !known {
        let message = format!("unrecognized parameter \"{name}\"");
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    if name == "fillfactor"
        && let Some(v) = value
    {
        let n: i64 = v.parse().map_err(|_| {
            SqlError::invalid_parameter(format!("invalid value for integer option \"fillfactor\": {v}"))
        })?;
        if !(10..=100).contains(&n) {
            return Err(SqlError::invalid_parameter(format!(
                "value {v} out of bounds for option \"fillfactor\""
            ))
            .with_detail("Valid values are between \"10\" and \"100\"."));
        }
    }
    Ok(())
}
