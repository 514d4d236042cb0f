//! Column and constraint definitions of CREATE TABLE and ALTER TABLE.

use meridian_catalog::{ColumnDesc, ColumnId, Direction, Identity};
use meridian_datum::{DataType, Result, SqlError, SqlState};
use sqlparser::ast::{self, ColumnOption, GeneratedAs};

use super::expr::{Clause, Cx};
use super::scope::{FromScope, Scope, ScopeColumn, ScopeTable};
use super::{At, Binder, name_of, names_of, pos};
use crate::ddl::{NewCheck, NewColumn, NewExpression, NewIndex};
use crate::expr::Expr;
use crate::lower::Lowerer;

/// A table under definition: columns and what constrains them.
#[derive(Debug, Default)]
pub(super) struct Definition {
    pub(super) table: String,
    pub(super) columns: Vec<NewColumn>,
    pub(super) primary: Option<NewIndex>,
    pub(super) indexes: Vec<NewIndex>,
    pub(super) checks: Vec<NewCheck>,
    /// Names of relations that are taken: by the schema, and by this definition.
    pub(super) taken: Vec<String>,
    /// Names of constraints that are taken.
    pub(super) constraints: Vec<String>,
}

/// The default of columns whose values nobody gives.
pub(super) const ROW_ID: &str = "unique_rowid()";

/// Columns of a table, as in PostgreSQL.
const TABLE_COLUMNS_MAX: usize = 1_600;

/// Refuses a column too many.
pub(super) fn room_for_column(present: usize) -> Result<()> {
    if present < TABLE_COLUMNS_MAX {
        return Ok(());
    }
    let message = format!("tables can have at most {TABLE_COLUMNS_MAX} columns");
    Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, message))
}

impl Binder<'_> {
    /// Reads a column with its options; constraints go to the definition.
    pub(super) fn column_def(&mut self, c: &ast::ColumnDef, d: &mut Definition) -> Result<()> {
        let name = name_of(&c.name);
        let at = pos(c.name.span);
        if d.columns.iter().any(|k| k.name == name) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message).at(at));
        }
        let (ty, serial) = self.column_type(&c.data_type)?;
        if matches!(ty, DataType::Unknown | DataType::Record | DataType::Void) {
            let message = format!("column \"{name}\" has pseudo-type {ty}");
            return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message).at(at));
        }
        let mut column = NewColumn { name, ty, nullable: true, default: None, identity: None, hidden: false };
        if serial {
            column.nullable = false;
            column.default = Some(ROW_ID.to_owned());
        }
        let ordinal = d.columns.len();
        room_for_column(ordinal)?;
        let mut said_null = false;
        d.columns.push(column);
        for o in &c.options {
            self.column_option(o, ordinal, &mut said_null, d)?;
        }
        if said_null && !d.columns[ordinal].nullable {
            let message = format!(
                "conflicting NULL/NOT NULL declarations for column \"{}\" of table \"{}\"",
                d.columns[ordinal].name, d.table
            );
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
        }
        Ok(())
    }

    fn column_option(
        &mut self,
        o: &ast::ColumnOptionDef,
        ordinal: usize,
        said_null: &mut bool,
        d: &mut Definition,
    ) -> Result<()> {
        let name = o.name.as_ref().map(name_of);
        match &o.option {
            ColumnOption::Null => *said_null = true,
            ColumnOption::NotNull => d.columns[ordinal].nullable = false,
            ColumnOption::Default(e) => {
                if d.columns[ordinal].default.is_some() {
                    let message = format!(
                        "multiple default values specified for column \"{}\" of table \"{}\"",
                        d.columns[ordinal].name, d.table
                    );
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
                }
                self.check_default(e, &d.columns[ordinal])?;
                d.columns[ordinal].default = Some(e.to_string());
            }
            ColumnOption::PrimaryKey(p) => {
                refuse_deferrable(p.characteristics.as_ref())?;
                self.primary_key(name, &[(ordinal, Direction::Ascending)], &[], d)?;
            }
            ColumnOption::Unique(u) => {
                refuse_deferrable(u.characteristics.as_ref())?;
                refuse_nulls_not_distinct(&u.nulls_distinct)?;
                self.unique(name, &[(ordinal, Direction::Ascending)], &[], d)?;
            }
            ColumnOption::Check(c) => self.check(name, &c.expr, false, d)?,
            ColumnOption::ForeignKey(_) => return Err(SqlError::unsupported("a FOREIGN KEY constraint")),
            ColumnOption::Generated { generated_as, generation_expr, sequence_options, .. } => {
                if generation_expr.is_some() || *generated_as == GeneratedAs::ExpStored {
                    return Err(SqlError::unsupported("a generated column"));
                }
                if sequence_options.as_ref().is_some_and(|s| !s.is_empty()) {
                    return Err(SqlError::unsupported("a sequence option of an identity column"));
                }
                let column = &mut d.columns[ordinal];
                if !column.ty.is_integer() {
                    let message = "identity column type must be smallint, integer, or bigint";
                    return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
                }
                column.identity = Some(if *generated_as == GeneratedAs::Always {
                    Identity::Always
                } else {
                    Identity::ByDefault
                });
                column.nullable = false;
                column.default = Some(ROW_ID.to_owned());
                // Values that are unique without coordination need 64 bits.
                column.ty = DataType::Int8;
            }
            ColumnOption::Collation(c) => {
                let last = names_of(c)?.pop().unwrap_or_default();
                if !matches!(last.to_ascii_lowercase().as_str(), "c" | "posix" | "default" | "ucs_basic") {
                    let message = format!("collation \"{last}\" for encoding \"UTF8\" does not exist");
                    return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message));
                }
            }
            other => return Err(SqlError::unsupported(format!("column option {other}"))),
        }
        Ok(())
    }

    /// A column's type; serial types are `bigint` with generated values.
    fn column_type(&mut self, ty: &ast::DataType) -> Result<(DataType, bool)> {
        if let ast::DataType::Custom(name, modifiers) = ty
            && modifiers.is_empty()
            && let [single] = names_of(name)?.as_slice()
            && matches!(
                single.as_str(),
                "serial" | "serial4" | "bigserial" | "serial8" | "smallserial" | "serial2"
            )
        {
            return Ok((DataType::Int8, true));
        }
        Ok((self.data_type(ty)?, false))
    }

    fn check_default(&mut self, e: &ast::Expr, column: &NewColumn) -> Result<()> {
        self.default_value(e, column).map(|_| ())
    }

    /// The default of a column to be, over no row.
    pub(super) fn default_value(&mut self, e: &ast::Expr, column: &NewColumn) -> Result<Expr> {
        let bound = self.default_bound(e, column)?;
        Lowerer::new(self.ctx.snapshot).expr_alone(&bound)
    }

    /// The same, bound.
    pub(super) fn default_bound(&mut self, e: &ast::Expr, column: &NewColumn) -> Result<Expr> {
        let desc = ColumnDesc {
            id: ColumnId(1),
            name: column.name.clone(),
            ty: column.ty.clone(),
            nullable: true,
            refuses_null: false,
            default: None,
            identity: None,
            missing: None,
            hidden: false,
        };
        let scope_error = |e: SqlError| {
            if e.state == SqlState::UNDEFINED_COLUMN {
                let message = "cannot use column reference in DEFAULT expression";
                return SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).at(e.position.unwrap_or(0));
            }
            e
        };
        self.default_expr(e, &desc).map_err(scope_error)
    }

    /// A table constraint.
    pub(super) fn constraint(
        &mut self,
        c: &ast::TableConstraint,
        not_valid: bool,
        d: &mut Definition,
    ) -> Result<()> {
        match c {
            ast::TableConstraint::PrimaryKey(p) => {
                refuse_deferrable(p.characteristics.as_ref())?;
                let columns = key_columns(&p.columns, d)?;
                let storing = plain_columns(&p.include, d)?;
                self.primary_key(p.name.as_ref().map(name_of), &columns, &storing, d)
            }
            ast::TableConstraint::Unique(u) => {
                refuse_deferrable(u.characteristics.as_ref())?;
                refuse_nulls_not_distinct(&u.nulls_distinct)?;
                let columns = key_columns(&u.columns, d)?;
                let storing = plain_columns(&u.include, d)?;
                self.unique(u.name.as_ref().map(name_of), &columns, &storing, d)
            }
            ast::TableConstraint::Check(k) => self.check(k.name.as_ref().map(name_of), &k.expr, not_valid, d),
            ast::TableConstraint::ForeignKey(_) => Err(SqlError::unsupported("a FOREIGN KEY constraint")),
            ast::TableConstraint::Exclude(_) => Err(SqlError::unsupported("an EXCLUDE constraint")),
            other => Err(SqlError::unsupported(format!("constraint {other}"))),
        }
    }

    fn primary_key(
        &mut self,
        name: Option<String>,
        columns: &[(usize, Direction)],
        storing: &[usize],
        d: &mut Definition,
    ) -> Result<()> {
        if d.primary.is_some() {
            let message = format!("multiple primary keys for table \"{}\" are not allowed", d.table);
            return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message));
        }
        if !storing.is_empty() {
            return Err(SqlError::unsupported("INCLUDE in a primary key"));
        }
        for (o, _) in columns {
            d.columns[*o].nullable = false;
            key_type(&d.columns[*o].ty)?;
        }
        let name = self.constraint_name(name, &[], "pkey", d)?;
        d.primary = Some(NewIndex {
            name,
            unique: true,
            is_constraint: true,
            columns: columns.to_vec(),
            storing: Vec::new(),
            predicate: None,
            expressions: Vec::new(),
        });
        Ok(())
    }

    fn unique(
        &mut self,
        name: Option<String>,
        columns: &[(usize, Direction)],
        storing: &[usize],
        d: &mut Definition,
    ) -> Result<()> {
        for (o, _) in columns {
            key_type(&d.columns[*o].ty)?;
        }
        let names: Vec<String> = columns.iter().map(|(o, _)| d.columns[*o].name.clone()).collect();
        let name = self.constraint_name(name, &names, "key", d)?;
        d.indexes.push(NewIndex {
            name,
            unique: true,
            is_constraint: true,
            columns: columns.to_vec(),
            storing: storing.to_vec(),
            predicate: None,
            expressions: Vec::new(),
        });
        Ok(())
    }

    /// A constraint's name: the given one if it is free, or PostgreSQL's choice.
    fn constraint_name(
        &self,
        given: Option<String>,
        columns: &[String],
        label: &str,
        d: &mut Definition,
    ) -> Result<String> {
        let name = match given {
            Some(n) => {
                if d.taken.contains(&n) {
                    let message = format!("relation \"{n}\" already exists");
                    return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
                }
                n
            }
            None => choose_name(&d.table, columns, label, &|n| d.taken.iter().any(|t| t == n)),
        };
        d.taken.push(name.clone());
        d.constraints.push(name.clone());
        Ok(name)
    }

    /// A CHECK constraint over the columns known so far; CREATE TABLE reads checks after all columns.
    pub(super) fn check(
        &mut self,
        name: Option<String>,
        e: &ast::Expr,
        not_valid: bool,
        d: &mut Definition,
    ) -> Result<()> {
        let (condition, used) = self.row_condition(e, &d.table, &d.columns)?;
        let name = match name {
            Some(n) => {
                if d.constraints.contains(&n) {
                    let message = format!("constraint \"{n}\" for relation \"{}\" already exists", d.table);
                    return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, message));
                }
                n
            }
            None => {
                let columns: Vec<String> = match used.as_slice() {
                    [one] => vec![d.columns[*one].name.clone()],
                    _ => Vec::new(),
                };
                choose_name(&d.table, &columns, "check", &|n| d.constraints.iter().any(|t| t == n))
            }
        };
        d.constraints.push(name.clone());
        let expr = super::stored::unqualified(e).to_string();
        d.checks.push(NewCheck { name, expr, condition, not_valid });
        Ok(())
    }

    /// A condition over a row of these columns, and the ordinals that it reads.
    pub(super) fn row_condition(
        &mut self,
        e: &ast::Expr,
        table: &str,
        columns: &[NewColumn],
    ) -> Result<(Expr, Vec<usize>)> {
        let cols = self.new_cols(columns.len());
        let scope = row_scope(table, columns, &cols);
        let condition = self.condition(e, &mut Cx::new(&scope, Clause::Check))?;
        let used = condition.cols();
        let ordinals = (0..cols.len()).filter(|i| used.contains(cols[*i])).collect();
        let lowered = Lowerer::new(self.ctx.snapshot).expr_over(&condition, &cols)?;
        Ok((lowered, ordinals))
    }
}

/// The names of a row of columns to be.
pub(super) fn row_scope(table: &str, columns: &[NewColumn], cols: &[usize]) -> Scope<'static> {
    let columns = columns
        .iter()
        .zip(cols)
        .map(|(c, id)| ScopeColumn {
            name: c.name.as_str().into(),
            expr: Expr::column(*id, c.ty.clone()),
            hidden: c.hidden,
            origin: (0, 0),
        })
        .collect();
    let table = ScopeTable { alias: table.into(), schema: None, columns, invisible: false };
    Scope { from: FromScope::of_table(table), ..Scope::default() }
}

/// `t_a_b_key`, cut to the length of names and numbered until it is free.
pub(super) fn choose_name(
    table: &str,
    columns: &[String],
    label: &str,
    taken: &dyn Fn(&str) -> bool,
) -> String {
    let mut base = table.to_owned();
    if !columns.is_empty() {
        base.push('_');
        base.push_str(&columns.join("_"));
    }
    let room = super::NAME_BYTES_MAX - label.len() - 1;
    while base.len() > room {
        base.pop();
    }
    let first = format!("{base}_{label}");
    if !taken(&first) {
        return first;
    }
    (1u32..)
        .map(|i| format!("{base}_{label}{i}"))
        .find(|n| !taken(n))
        .expect("there are more numbers than names")
}

/// The key of a constraint as written, as ordinals.
pub(super) fn key_columns(columns: &[ast::IndexColumn], d: &Definition) -> Result<Vec<(usize, Direction)>> {
    let mut out: Vec<(usize, Direction)> = Vec::with_capacity(columns.len());
    for c in columns {
        let ast::Expr::Identifier(i) = &c.column.expr else {
            return Err(SqlError::unsupported("a constraint on an expression"));
        };
        key_column(i, c, d, &mut out)?;
    }
    Ok(out)
}

fn key_column(
    name: &ast::Ident,
    c: &ast::IndexColumn,
    d: &Definition,
    out: &mut Vec<(usize, Direction)>,
) -> Result<()> {
    let ordinal = ordinal_of(name, d)?;
    if out.iter().any(|(o, _)| *o == ordinal) {
        let message = format!("column \"{}\" appears twice in primary key constraint", name_of(name));
        return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message).at(pos(name.span)));
    }
    out.push((ordinal, key_order(c)?));
    Ok(())
}

/// The order of a key's column; NULLs lie where they do by default.
fn key_order(c: &ast::IndexColumn) -> Result<Direction> {
    if let Some(class) = &c.operator_class {
        return Err(SqlError::unsupported(format!("operator class {class}")));
    }
    let (descending, nulls_first) = super::order::direction(&c.column.options);
    if nulls_first != descending {
        return Err(SqlError::unsupported("NULLS FIRST and NULLS LAST against the direction of an index"));
    }
    Ok(if descending { Direction::Descending } else { Direction::Ascending })
}

impl Binder<'_> {
    /// The key of an index as written: ordinals, those behind the table's columns being the expressions'.
    pub(super) fn index_key(
        &mut self,
        columns: &[ast::IndexColumn],
        d: &Definition,
    ) -> Result<(Vec<(usize, Direction)>, Vec<NewExpression>)> {
        let mut key = Vec::with_capacity(columns.len());
        let mut expressions: Vec<NewExpression> = Vec::new();
        for c in columns {
            if let ast::Expr::Identifier(i) = super::expr::strip_nested(&c.column.expr) {
                key_column(i, c, d, &mut key)?;
                continue;
            }
            let order = key_order(c)?;
            key.push((d.columns.len() + expressions.len(), order));
            expressions.push(self.index_expression(&c.column.expr, d)?);
        }
        // PostgreSQL numbers names that come again.
        let mut names: Vec<String> =
            key.iter().filter_map(|(o, _)| Some(d.columns.get(*o)?.name.clone())).collect();
        for e in &mut expressions {
            let base = e.name.clone();
            let numbered = (1u32..).map(|n| format!("{base}{n}"));
            e.name = std::iter::once(base.clone())
                .chain(numbered)
                .find(|n| !names.contains(n))
                .expect("there are more numbers than names");
            names.push(e.name.clone());
        }
        Ok((key, expressions))
    }
}

pub(super) fn plain_columns(names: &[ast::Ident], d: &Definition) -> Result<Vec<usize>> {
    names.iter().map(|i| ordinal_of(i, d)).collect()
}

fn ordinal_of(i: &ast::Ident, d: &Definition) -> Result<usize> {
    let name = name_of(i);
    d.columns.iter().position(|c| c.name == name && !c.hidden).ok_or_else(|| {
        let message = format!("column \"{name}\" named in key does not exist");
        SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(pos(i.span))
    })
}

/// Types that keys are made of.
pub(super) fn key_type(ty: &DataType) -> Result<()> {
    if ty.is_array() {
        return Err(SqlError::unsupported(format!("type {ty} in a key")));
    }
    if !ty.is_comparable() {
        let message = format!("data type {ty} has no default operator class for access method \"btree\"");
        return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message).with_hint(
            "You must specify an operator class for the index or define a default operator class for the data type.",
        ));
    }
    Ok(())
}

fn refuse_deferrable(c: Option<&ast::ConstraintCharacteristics>) -> Result<()> {
    match c {
        Some(c) if c.deferrable == Some(true) || c.initially == Some(ast::DeferrableInitial::Deferred) => {
            Err(SqlError::unsupported("a DEFERRABLE constraint"))
        }
        _ => Ok(()),
    }
}

fn refuse_nulls_not_distinct(n: &ast::NullsDistinctOption) -> Result<()> {
    match n {
        ast::NullsDistinctOption::NotDistinct => Err(SqlError::unsupported("NULLS NOT DISTINCT")),
        _ => Ok(()),
    }
}
