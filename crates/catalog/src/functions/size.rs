//! Sizes.
//!
//! The catalog does not know how many bytes the shards hold. What it answers is an estimate: the rows that ANALYZE
//! counted times the width of their columns.

use meridian_datum::{DataType, Datum, Result, SqlError, SqlState};

use super::visible::resolve_class;
use super::{CatalogFunction, Scope};
use crate::descriptor::{IndexDesc, TableDesc};
use crate::ids::DatabaseId;
use crate::objects::Object;

/// Width that is assumed of a value without fixed length, as PostgreSQL's planner does.
const VARIABLE_WIDTH: i64 = 32;
/// Key prefix and timestamp of one version.
const ROW_OVERHEAD: i64 = 24;

fn width(ty: &DataType) -> i64 {
    let len = i64::from(ty.len());
    if len > 0 { len } else { VARIABLE_WIDTH }
}

fn rows(table: &TableDesc, scope: Scope<'_>) -> i64 {
    scope.snapshot.statistics(table.id).map_or(0, |s| s.rows as i64)
}

fn table_bytes(table: &TableDesc, scope: Scope<'_>) -> i64 {
    rows(table, scope) * (ROW_OVERHEAD + table.columns.iter().map(|c| width(&c.ty)).sum::<i64>())
}

fn index_bytes(table: &TableDesc, index: &IndexDesc, scope: Scope<'_>) -> i64 {
    let columns = index.columns.iter().map(|c| c.column).chain(index.storing.iter().copied());
    let key: i64 = columns.map(|c| width(table.part_type(table.ordinal(c)))).sum();
    let row_key: i64 = table.key_ordinals().iter().map(|o| width(&table.columns[*o].ty)).sum();
    rows(table, scope) * (ROW_OVERHEAD + key + row_key)
}

fn indexes_bytes(table: &TableDesc, scope: Scope<'_>) -> i64 {
    table.indexes.iter().map(|i| index_bytes(table, i, scope)).sum()
}

fn database_bytes(id: Option<DatabaseId>, scope: Scope<'_>) -> i64 {
    let inside = |t: &TableDesc| {
        let schema = scope.snapshot.schema_by_id(t.schema);
        id.is_none_or(|id| schema.is_some_and(|s| s.database == id))
    };
    let tables = scope.snapshot.tables().filter(|t| inside(t));
    tables.map(|t| table_bytes(t, scope) + indexes_bytes(t, scope)).sum()
}

pub(super) fn evaluate(function: CatalogFunction, args: &[Datum], scope: Scope<'_>) -> Result<Datum> {
    use CatalogFunction as F;
    let of = |f: &dyn Fn(Object<'_>) -> i64| Ok(resolve_class(&args[0], scope)?.map(f).into());
    match function {
        F::RelationSize => of(&|o| match o {
            Object::Table(t) => table_bytes(t, scope),
            Object::Index(t, i) if i.id == t.primary.id => 0,
            Object::Index(t, i) => index_bytes(t, i, scope),
            Object::Virtual(_) => 0,
        }),
        F::IndexesSize => of(&|o| match o {
            Object::Table(t) => indexes_bytes(t, scope),
            Object::Index(..) | Object::Virtual(_) => 0,
        }),
        F::TotalRelationSize => of(&|o| match o {
            Object::Table(t) => table_bytes(t, scope) + indexes_bytes(t, scope),
            Object::Index(t, i) => index_bytes(t, i, scope),
            Object::Virtual(_) => 0,
        }),
        F::DatabaseSize => {
            let database = match &args[0] {
                Datum::Int(oid) => scope.snapshot.databases().find(|d| i64::from(d.id.0) == *oid),
                name => {
                    let name = name.as_str().unwrap_or_default();
                    let found = scope.snapshot.database(name);
                    if found.is_none() {
                        let message = format!("database \"{name}\" does not exist");
                        return Err(SqlError::new(SqlState::INVALID_CATALOG_NAME, message));
                    }
                    found
                }
            };
            Ok(database.map(|d| database_bytes(Some(d.id), scope)).into())
        }
        F::TablespaceSize => Ok(Datum::Int(database_bytes(None, scope))),
        F::SizePretty => {
            let bytes = match &args[0] {
                Datum::Numeric(n) => {
                    n.to_string().split('.').next().and_then(|s| s.parse().ok()).unwrap_or(i64::MAX)
                }
                other => other.as_int().unwrap_or_default(),
            };
            Ok(Datum::from(pretty(bytes)))
        }
        other => panic!("{other:?} is not about sizes"),
    }
}

/// PostgreSQL's `pg_size_pretty`: a unit takes over at 10240 of the one below, rounded half up.
fn pretty(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    const LIMIT: u64 = 10 * 1024;
    let sign = if bytes < 0 { "-" } else { "" };
    let mut size = bytes.unsigned_abs();
    if size < LIMIT {
        return format!("{sign}{size} bytes");
    }
    // One more bit is kept than is shown, for rounding.
    size >>= 9;
    let mut unit = 1;
    while size >= 2 * LIMIT - 1 && unit + 1 < UNITS.len() {
        size >>= 10;
        unit += 1;
    }
    format!("{sign}{} {}", size.div_ceil(2), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::pretty;

    #[test]
    fn sizes_read_like_postgres() {
        // Answers of PostgreSQL 15.
        for (bytes, shown) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (-10_240, "-10 kB"),
            (10_485_247, "10239 kB"),
            (10_485_248, "10 MB"),
            (1_000_000_000_000, "931 GB"),
            (i64::MAX, "8192 PB"),
        ] {
            assert_eq!(pretty(bytes), shown);
        }
    }
}
