//! Definitions as SQL text, in the words of PostgreSQL's `ruleutils.c`: dumps, ORMs and psql parse them.

use std::fmt::Write;

use meridian_datum::{Datum, Result, SqlError, SqlState};

use super::reg::split_name;
use super::visible::{find_relation, is_visible};
use super::{CatalogFunction, Scope};
use crate::descriptor::{Direction, IndexDesc, TableDesc, TableRef};
use crate::ids::ColumnId;
use crate::objects::{self, Object};
use crate::pg_catalog::constraints::{self, Kind};
use crate::snapshot::Relation;

#[rustfmt::skip]
/// Words that `quote_ident` quotes: PostgreSQL 15's keywords but for the unreserved ones, sorted.
const KEYWORDS: &[&str] = &[
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "between",
    "bigint", "binary", "bit", "boolean", "both", "case", "cast", "char", "character", "check", "coalesce",
    "collate", "collation", "column", "concurrently", "constraint", "create", "cross", "current_catalog",
    "current_date", "current_role", "current_schema", "current_time", "current_timestamp", "current_user",
    "dec", "decimal", "default", "deferrable", "desc", "distinct", "do", "else", "end", "except", "exists",
    "extract", "false", "fetch", "float", "for", "foreign", "freeze", "from", "full", "grant", "greatest",
    "group", "grouping", "having", "ilike", "in", "initially", "inner", "inout", "int", "integer",
    "intersect", "interval", "into", "is", "isnull", "join", "lateral", "leading", "least", "left", "like",
    "limit", "localtime", "localtimestamp", "national", "natural", "nchar", "none", "normalize", "not",
    "notnull", "null", "nullif", "numeric", "offset", "on", "only", "or", "order", "out", "outer", "overlaps",
    "overlay", "placing", "position", "precision", "primary", "real", "references", "returning", "right",
    "row", "select", "session_user", "setof", "similar", "smallint", "some", "substring", "symmetric",
    "table", "tablesample", "then", "time", "timestamp", "to", "trailing", "treat", "trim", "true", "union",
    "unique", "user", "using", "values", "varchar", "variadic", "verbose", "when", "where", "window", "with",
    "xmlattributes", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces", "xmlparse",
    "xmlpi", "xmlroot", "xmlserialize", "xmltable",
];

/// A name as SQL text, in quotes where it needs them.
pub fn quote_ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && KEYWORDS.binary_search(&name).is_err();
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

pub(super) fn evaluate(function: CatalogFunction, args: &[Datum], scope: Scope<'_>) -> Result<Datum> {
    use CatalogFunction as F;
    let oid = || args[0].as_int().unwrap_or_default() as u32;
    match function {
        F::GetIndexdef => {
            let Some(Object::Index(table, index)) = objects::relation(scope.snapshot, oid()) else {
                return Ok(Datum::Null);
            };
            let column = args.get(1).and_then(Datum::as_int).unwrap_or(0);
            if column != 0 {
                return Ok(index_column(table, index, column).into());
            }
            let pretty = args.get(2).and_then(Datum::as_bool).unwrap_or(false);
            let qualify = !pretty || !is_visible(&Object::Table(table), scope);
            Ok(Datum::from(index_def(table, index, qualify.then(|| scope.snapshot.schema_name(table)))))
        }
        F::GetConstraintdef => {
            let pretty = args.get(1).and_then(Datum::as_bool).unwrap_or(false);
            let found = constraints::by_oid(scope.snapshot, oid());
            Ok(found.map(|(table, kind)| constraint_def(table, &kind, pretty, scope)).into())
        }
        F::GetSerialSequence => serial_sequence(args, scope),
        other => panic!("{other:?} defines nothing"),
    }
}

/// A column's name, or an expression as it stands among the columns of an index.
fn column_name(table: &TableDesc, id: ColumnId) -> String {
    match table.expressions().find(|e| e.id == id) {
        Some(e) => e.definition(),
        None => quote_ident(&table.columns[table.ordinal(id)].name),
    }
}

/// One column of an index, counted from 1, included ones after the key's.
fn index_column(table: &TableDesc, index: &IndexDesc, number: i64) -> Option<String> {
    let mut ids = index.columns.iter().map(|c| c.column).chain(index.storing.iter().copied());
    let at = usize::try_from(number.checked_sub(1)?).ok()?;
    let id = ids.nth(at)?;
    // Alone, an expression needs no parentheses.
    let expression = index.expressions.iter().find(|e| e.id == id);
    Some(expression.map_or_else(|| column_name(table, id), |e| e.text.clone()))
}

/// `CREATE INDEX` as PostgreSQL prints it; NULLs come first in descending columns and last in others, which is the
/// default there too.
pub(crate) fn index_def(table: &TableDesc, index: &IndexDesc, schema: Option<&str>) -> String {
    let unique = if index.unique { "UNIQUE " } else { "" };
    let mut out = format!("CREATE {unique}INDEX {} ON ", quote_ident(&index.name));
    if let Some(schema) = schema {
        let _ = write!(out, "{}.", quote_ident(schema));
    }
    let key: Vec<String> = index
        .columns
        .iter()
        .map(|c| {
            let order = if c.direction == Direction::Descending { " DESC" } else { "" };
            format!("{}{order}", column_name(table, c.column))
        })
        .collect();
    let _ = write!(out, "{} USING btree ({})", quote_ident(&table.name), key.join(", "));
    out.push_str(&include(table, index));
    if let Some(predicate) = &index.predicate {
        let _ = write!(out, " WHERE {predicate}");
    }
    out
}

fn include(table: &TableDesc, index: &IndexDesc) -> String {
    if index.storing.is_empty() {
        return String::new();
    }
    format!(" INCLUDE ({})", names(table, &index.storing))
}

fn names(table: &TableDesc, columns: &[ColumnId]) -> String {
    columns.iter().map(|c| column_name(table, *c)).collect::<Vec<_>>().join(", ")
}

fn constraint_def(table: &TableRef, kind: &Kind<'_>, pretty: bool, scope: Scope<'_>) -> String {
    match kind {
        Kind::Primary(index) | Kind::Unique(index) => {
            let word = if matches!(kind, Kind::Primary(_)) { "PRIMARY KEY" } else { "UNIQUE" };
            let key: Vec<ColumnId> = index.columns.iter().map(|c| c.column).collect();
            format!("{word} ({}){}", names(table, &key), include(table, index))
        }
        Kind::Check(check) => {
            let valid = if check.validated { "" } else { " NOT VALID" };
            if pretty {
                format!("CHECK ({}){valid}", check.expr)
            } else {
                format!("CHECK (({})){valid}", check.expr)
            }
        }
        Kind::Parent { parent, columns, referenced, cascade } => {
            let mut target = quote_ident(&parent.name);
            if !pretty || !is_visible(&Object::Table(parent), scope) {
                target = format!("{}.{target}", quote_ident(scope.snapshot.schema_name(parent)));
            }
            let action = if *cascade { " ON DELETE CASCADE" } else { "" };
            let (from, to) = (names(table, columns), names(parent, referenced));
            format!("FOREIGN KEY ({from}) REFERENCES {target}({to}){action}")
        }
    }
}

/// The generator of an identity column. A serial column has a default and nothing else.
fn serial_sequence(args: &[Datum], scope: Scope<'_>) -> Result<Datum> {
    let text = args[0].as_str().unwrap_or_default();
    let mut parts = split_name(text)?;
    let name = parts.pop().unwrap_or_default();
    let schema = parts.pop();
    let missing = || SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{text}\" does not exist"));
    let relation = find_relation(scope, schema.as_deref(), &name).ok_or_else(missing)?;
    let column = args[1].as_str().unwrap_or_default();
    if let Relation::Table(t) = &relation
        && let Some(s) = objects::identity_sequences(t).find(|s| s.column.name == column)
    {
        let schema = quote_ident(scope.snapshot.schema_name(t));
        return Ok(Datum::from(format!("{schema}.{}", quote_ident(&s.name))));
    }
    let exists = match &relation {
        Relation::Table(t) => t.column_by_name(column).is_some(),
        Relation::Virtual(v) => v.columns.iter().any(|c| c.name == column),
        Relation::Index(..) => false,
    };
    if exists {
        return Ok(Datum::Null);
    }
    let message = format!("column \"{column}\" of relation \"{name}\" does not exist");
    Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message))
}
