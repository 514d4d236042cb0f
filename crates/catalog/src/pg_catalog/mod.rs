//! The rows of `pg_catalog` that follow from the catalog snapshot.
//!
//! Every maker returns complete rows in the order of the declared columns; a test holds them against the declared
//! types. What this database cannot have (triggers, rules, inheritance, enums, extensions, publications, ...) are
//! tables without rows, since clients join them whether or not there is anything.

pub(crate) mod constraints;
mod databases;
pub(crate) mod maker;
pub(crate) mod relations;
mod routines;
#[cfg(test)]
mod tests;
mod types;

use std::sync::Arc;

use meridian_datum::{DataType, Datum, Result, SqlError};

use self::maker::constant;
use crate::descriptor::{SchemaDesc, TableRef};
use crate::functions::{Scope, SessionInfo};
use crate::ids::DatabaseId;
use crate::information_schema;
use crate::objects::derived_oid;
use crate::snapshot::{CatalogSnapshot, VIRTUAL_SCHEMAS};
use crate::virtual_table::{VirtualSource, VirtualTable};

/// `pg_class` in `pg_class`.
pub(crate) const CLASS_OID: u32 = 1259;
/// The schema of built-in objects.
pub(crate) const PG_CATALOG: u32 = 11;
/// The role of whom everything is: PostgreSQL's bootstrap superuser.
const ROOT_OID: u32 = 10;

/// Rows in the order of the table's columns.
pub type Rows = Vec<Vec<Datum>>;

/// What rows are made from.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) scope: Scope<'a>,
    database: Option<DatabaseId>,
}

impl<'a> Context<'a> {
    /// The schemas of the session's database, without the virtual ones.
    pub(crate) fn schemas(self) -> impl Iterator<Item = &'a Arc<SchemaDesc>> {
        self.scope.snapshot.schemas().filter(move |s| Some(s.database) == self.database)
    }

    /// The tables of the session's database with their schemas.
    pub(crate) fn tables(self) -> impl Iterator<Item = (&'a TableRef, &'a Arc<SchemaDesc>)> {
        let snapshot = self.scope.snapshot;
        snapshot.tables().filter_map(move |t| {
            let schema = snapshot.schema_by_id(t.schema)?;
            (Some(schema.database) == self.database).then_some((t, schema))
        })
    }

    /// The oid of a virtual table's schema.
    pub(crate) fn virtual_schema(self, table: &VirtualTable) -> u32 {
        let found = VIRTUAL_SCHEMAS.iter().find(|(name, _)| *name == table.schema);
        found.map(|(_, oid)| *oid).expect("virtual tables lie in virtual schemas")
    }
}

/// The rows of a table whose source is the catalog, as the session's database shows them.
///
/// # Errors
/// `XX000` when the table has another source.
pub fn virtual_rows(
    table: &VirtualTable,
    snapshot: &CatalogSnapshot,
    session: &dyn SessionInfo,
) -> Result<Rows> {
    if table.source != VirtualSource::Catalog {
        return Err(SqlError::internal(format!("{} is not made from the catalog", table.name)));
    }
    let database = snapshot.database(session.database()).map(|d| d.id);
    let ctx = Context { scope: Scope { snapshot, session }, database };
    if table.schema == "information_schema" {
        return Ok(information_schema::rows(ctx, table));
    }
    Ok(match table.name {
        "pg_class" => relations::pg_class(ctx, table),
        "pg_attribute" => relations::pg_attribute(ctx, table),
        "pg_attrdef" => relations::pg_attrdef(ctx, table),
        "pg_sequence" => relations::pg_sequence(ctx, table),
        "pg_index" => relations::pg_index(ctx, table),
        "pg_indexes" => relations::pg_indexes(ctx, table),
        "pg_tables" => relations::pg_tables(ctx, table),
        "pg_views" => relations::pg_views(table),
        "pg_stat_all_tables" => relations::pg_stat_tables(ctx, table, true, true),
        "pg_stat_user_tables" => relations::pg_stat_tables(ctx, table, true, false),
        "pg_stat_sys_tables" => relations::pg_stat_tables(ctx, table, false, true),
        "pg_statio_all_tables" | "pg_statio_user_tables" => relations::pg_statio_tables(ctx, table),
        "pg_stat_all_indexes"
        | "pg_stat_user_indexes"
        | "pg_statio_all_indexes"
        | "pg_statio_user_indexes" => relations::pg_stat_indexes(ctx, table),
        "pg_constraint" => constraints::pg_constraint(ctx, table),
        "pg_type" => constant("pg_type", || types::pg_type(table)),
        "pg_cast" => constant("pg_cast", || types::pg_cast(table)),
        "pg_collation" => types::pg_collation(table),
        "pg_opclass" => types::pg_opclass(table),
        "pg_opfamily" => types::pg_opfamily(table),
        "pg_proc" => constant("pg_proc", || routines::pg_proc(table)),
        "pg_operator" => constant("pg_operator", || routines::pg_operator(table)),
        "pg_language" => routines::pg_language(table),
        "pg_am" => routines::pg_am(table),
        "pg_database" => databases::pg_database(ctx, table),
        "pg_stat_database" => databases::pg_stat_database(ctx, table),
        "pg_namespace" => databases::pg_namespace(ctx, table),
        "pg_tablespace" => databases::pg_tablespace(table),
        "pg_roles" | "pg_authid" => databases::roles(ctx, table),
        "pg_user" | "pg_shadow" => databases::users(ctx, table),
        // The rest lists objects that cannot exist here.
        _ => Vec::new(),
    })
}

/// The oid of a role.
pub(crate) fn role_oid(name: &str) -> u32 {
    if name == "root" { ROOT_OID } else { derived_oid("role", &[name.as_bytes()]) }
}

/// The roles that anything is known of: `root`, those that were made, the session's, and owners. Sorted.
pub(crate) fn role_names(scope: Scope<'_>) -> Vec<String> {
    let session = scope.session;
    let mut names = vec!["root".to_owned(), session.session_user().to_owned(), session.user().into_owned()];
    names.extend(session.roles());
    names.extend(scope.snapshot.databases().map(|d| d.owner.clone()));
    names.extend(scope.snapshot.schemas().map(|s| s.owner.clone()));
    names.extend(scope.snapshot.tables().map(|t| t.owner.clone()));
    names.sort();
    names.dedup();
    names
}

/// The role with this oid.
pub(crate) fn role_name(scope: Scope<'_>, oid: u32) -> Option<String> {
    if oid == ROOT_OID {
        return Some("root".to_owned());
    }
    role_names(scope).into_iter().find(|n| role_oid(n) == oid)
}

/// The oid of a schema of a database.
pub(crate) fn schema_oid(snapshot: &CatalogSnapshot, database: &str, name: &str) -> Option<u32> {
    if let Some((_, oid)) = VIRTUAL_SCHEMAS.iter().find(|(n, _)| *n == name) {
        return Some(*oid);
    }
    let database = snapshot.database(database)?.id;
    snapshot.schema(database, name).map(|s| s.id.oid())
}

/// The schema with this oid.
pub(crate) fn schema_name(snapshot: &CatalogSnapshot, oid: u32) -> Option<String> {
    if let Some((name, _)) = VIRTUAL_SCHEMAS.iter().find(|(_, o)| *o == oid) {
        return Some((*name).to_owned());
    }
    snapshot.schemas().find(|s| s.id.oid() == oid).map(|s| s.name.clone())
}

/// Types that stand in signatures only.
const PSEUDO_TYPES: &[(u32, &str)] = &[
    (2275, "cstring"),
    (2276, "\"any\""),
    (2277, "anyarray"),
    (2281, "internal"),
    (2283, "anyelement"),
    (2776, "anynonarray"),
    (269, "table_am_handler"),
    (325, "index_am_handler"),
];

/// The SQL name of a type.
pub(crate) fn type_name(oid: u32) -> Option<String> {
    if let Some(t) = DataType::from_oid(oid, -1) {
        return Some(t.to_string());
    }
    PSEUDO_TYPES.iter().find(|(o, _)| *o == oid).map(|(_, name)| (*name).to_owned())
}

/// The SQL name of a type that exists.
pub(crate) fn type_text(oid: u32) -> String {
    type_name(oid).unwrap_or_else(|| "???".to_owned())
}
