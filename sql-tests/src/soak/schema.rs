//! The schema as the soak knows it, and as a node shows it.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Error};

use super::texts;

/// Something that changes make, alter and drop.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Object {
    /// A table besides the fixed ones.
    Table(String),
    /// A column of a table.
    Column(String, String),
    /// An index of a table.
    Index(String, String),
    /// A CHECK constraint of a table.
    Check(String, String),
}

/// What is known of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fact {
    /// It is there.
    Table,
    Column {
        ty: String,
        nullable: bool,
        has_default: bool,
    },
    Index {
        unique: bool,
        /// It belongs to a UNIQUE constraint.
        is_constraint: bool,
        /// Columns, and expressions as PostgreSQL prints them.
        key: Vec<String>,
        include: Vec<String>,
        /// Which rows it has entries of.
        predicate: Option<String>,
    },
    Check {
        condition: String,
        validated: bool,
    },
}

/// All objects but primary keys.
pub(super) type Schema = BTreeMap<Object, Fact>;

/// The tables whose columns and indexes are followed.
pub(super) const TABLES: [&str; 4] = ["item", "side", "bank_0", "bank_1"];

/// What stands in the parentheses that the text begins with, split at its commas, and what follows them.
fn list(text: &str) -> (Vec<String>, &str) {
    let (mut depth, mut items, mut from) = (0, Vec::new(), 1);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 || depth == 1 && c == ',' {
            items.push(text[from..at].trim().to_owned());
            from = at + 1;
        }
        if depth == 0 {
            return (items, text[from..].trim_start());
        }
    }
    (items, "")
}

/// `(a, lower(b)) INCLUDE (c) WHERE (a > 1)` in its three parts.
fn parts(definition: &str) -> (Vec<String>, Vec<String>, Option<String>) {
    let text = definition.split_once(" USING btree ").map_or(definition, |(_, rest)| rest);
    let (key, rest) = list(text);
    let (include, rest) = rest.strip_prefix("INCLUDE ").map_or((Vec::new(), rest), list);
    (key, include, rest.strip_prefix("WHERE ").map(str::to_owned))
}

/// The schema as a node shows it.
pub(super) async fn observe(client: &Client) -> Result<Schema, Error> {
    let mut schema = Schema::new();
    let tables = TABLES.map(|t| format!("'{t}'")).join(", ");
    let scratch = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'scratch%'";
    for row in texts(client, scratch).await? {
        schema.insert(Object::Table(row[0].clone()), Fact::Table);
    }
    let sql = format!(
        "SELECT table_name, column_name, data_type, is_nullable, column_default IS NOT NULL
         FROM information_schema.columns WHERE table_schema = 'public' AND table_name IN ({tables})"
    );
    for row in texts(client, &sql).await? {
        let [table, name, ty, nullable, default] = &row[..] else { unreachable!("five columns") };
        // Its default tells nothing: the soak changes it where a change is to be outwaited.
        let has_default = default == "t" && name != "id";
        let fact = Fact::Column { ty: ty.clone(), nullable: nullable == "YES", has_default };
        schema.insert(Object::Column(table.clone(), name.clone()), fact);
    }
    let sql = format!(
        "SELECT tablename, indexname, indexdef FROM pg_indexes
         WHERE schemaname = 'public' AND tablename IN ({tables}) AND indexname NOT LIKE '%_pkey'"
    );
    for row in texts(client, &sql).await? {
        let (key, include, predicate) = parts(&row[2]);
        let unique = row[2].starts_with("CREATE UNIQUE");
        let fact = Fact::Index { unique, is_constraint: false, key, include, predicate };
        schema.insert(Object::Index(row[0].clone(), row[1].clone()), fact);
    }
    let sql = format!(
        "SELECT r.relname, c.conname, c.contype, c.convalidated, pg_get_constraintdef(c.oid)
         FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid
         WHERE r.relname IN ({tables}) AND c.contype IN ('c', 'u')"
    );
    for row in texts(client, &sql).await? {
        let [table, name, kind, validated, definition] = &row[..] else { unreachable!("five columns") };
        if kind == "u" {
            let index = schema.get_mut(&Object::Index(table.clone(), name.clone()));
            if let Some(Fact::Index { is_constraint, .. }) = index {
                *is_constraint = true;
            }
            continue;
        }
        let condition = definition.trim_start_matches("CHECK (").trim_end_matches(" NOT VALID");
        let condition = condition.strip_suffix(')').unwrap_or(condition);
        let condition = condition.trim_matches(|c| c == '(' || c == ')').to_owned();
        let fact = Fact::Check { condition, validated: validated == "t" };
        schema.insert(Object::Check(table.clone(), name.clone()), fact);
    }
    Ok(schema)
}

/// Where two schemas differ, for people.
pub(super) fn differences(expected: &Schema, found: &Schema) -> Vec<String> {
    let objects = expected.keys().chain(found.keys().filter(|o| !expected.contains_key(o)));
    objects
        .filter(|o| expected.get(o) != found.get(o))
        .map(|o| format!("{o:?} should be {:?}, and is {:?}", expected.get(o), found.get(o)))
        .collect()
}

/// What must hold for the rows of a schema, as counts of rows that break it, with what they break.
pub(super) fn conditions(schema: &Schema) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (object, fact) in schema {
        match (object, fact) {
            (Object::Column(table, name), Fact::Column { nullable: false, .. }) => {
                all.push((
                    format!("{table}.{name} is not null"),
                    format!("SELECT count(*) FROM {table} WHERE {name} IS NULL"),
                ));
            }
            (Object::Check(table, name), Fact::Check { condition, validated: true }) => {
                all.push((name.clone(), format!("SELECT count(*) FROM {table} WHERE NOT ({condition})")));
            }
            (Object::Index(table, name), Fact::Index { unique: true, key, predicate, .. }) => {
                let key = key.join(", ");
                let rows = predicate.as_ref().map_or_else(|| table.clone(), |p| format!("{table} WHERE {p}"));
                all.push((
                    name.clone(),
                    format!(
                        "SELECT count(*) FROM (SELECT {key} FROM {rows} GROUP BY {key} HAVING count(*) > 1) d"
                    ),
                ));
            }
            _ => {}
        }
    }
    all
}
