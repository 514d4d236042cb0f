//! Visibility and privileges.
//!
//! There are no grants: every role may do everything. What these functions tell apart is whether the object exists.

use meridian_datum::{DataType, Datum, Result, SqlError, SqlState};

use super::reg::{parse_reg, search_schemas};
use super::{CatalogFunction, Scope};
use crate::objects::{self, Object};
use crate::pg_catalog::{schema_name, type_name};
use crate::procs;
use crate::snapshot::Relation;

/// Whether an unqualified name finds the relation: its schema is on the path, and none before has the name.
pub(super) fn is_visible(object: &Object<'_>, scope: Scope<'_>) -> bool {
    let own = object.schema_name(scope.snapshot);
    let name = object.name();
    for schema in search_schemas(scope) {
        if schema == own {
            return true;
        }
        let taken = scope.snapshot.resolve(scope.session.database(), &[], "", Some(&schema), name);
        if taken.is_some() {
            return false;
        }
    }
    false
}

fn oid(d: &Datum) -> u32 {
    d.as_int().unwrap_or_default() as u32
}

fn exists(found: bool) -> Datum {
    if found { Datum::Bool(true) } else { Datum::Null }
}

/// An argument that is a name or an oid. A name that does not exist is an error, an oid that does not exist is NULL.
fn class(d: &Datum, scope: Scope<'_>) -> Result<Option<u32>> {
    match d {
        Datum::Int(oid) => {
            let oid = *oid as u32;
            Ok(objects::relation(scope.snapshot, oid).is_some().then_some(oid))
        }
        other => {
            let path = scope.session.search_path();
            let (snapshot, session) = (scope.snapshot, scope.session);
            let text = other.as_str().unwrap_or_default();
            parse_reg(snapshot, session.database(), &path, &session.user(), text, &DataType::RegClass)
                .map(Some)
        }
    }
}

fn column_exists(class: u32, column: &Datum, scope: Scope<'_>) -> Result<Datum> {
    let Some(object) = objects::relation(scope.snapshot, class) else { return Ok(Datum::Null) };
    let has = |number: i64, name: Option<&str>| match object {
        Object::Table(t) => {
            t.columns.iter().any(|c| name.map_or(i64::from(c.id.0) == number, |n| c.name == n))
        }
        Object::Virtual(v) => match name {
            Some(n) => v.columns.iter().any(|c| c.name == n),
            None => number > 0 && number <= v.columns.len() as i64,
        },
        Object::Index(..) => false,
    };
    match column {
        Datum::Int(number) => Ok(exists(has(*number, None))),
        other => {
            let name = other.as_str().unwrap_or_default();
            if has(0, Some(name)) {
                return Ok(Datum::Bool(true));
            }
            let message = format!("column \"{name}\" of relation \"{}\" does not exist", object.name());
            Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message))
        }
    }
}

pub(super) fn evaluate(function: CatalogFunction, args: &[Datum], scope: Scope<'_>) -> Result<Datum> {
    use CatalogFunction as F;
    let snapshot = scope.snapshot;
    Ok(match function {
        F::TableIsVisible => objects::relation(snapshot, oid(&args[0])).map(|o| is_visible(&o, scope)).into(),
        F::TypeIsVisible => exists(type_name(oid(&args[0])).is_some()),
        F::FunctionIsVisible => exists(procs::by_oid(oid(&args[0])).is_some()),
        // The relation is the last argument but one; a role may come before it.
        F::TablePrivilege => exists(class(&args[args.len() - 2], scope)?.is_some()),
        F::ColumnPrivilege => match class(&args[args.len() - 3], scope)? {
            Some(class) => column_exists(class, &args[args.len() - 2], scope)?,
            None => Datum::Null,
        },
        F::SchemaPrivilege => match &args[args.len() - 2] {
            Datum::Int(oid) => exists(schema_name(snapshot, *oid as u32).is_some()),
            name => {
                let name = name.as_str().unwrap_or_default();
                if !snapshot.has_schema(scope.session.database(), name) {
                    let message = format!("schema \"{name}\" does not exist");
                    return Err(SqlError::new(SqlState::INVALID_SCHEMA_NAME, message));
                }
                Datum::Bool(true)
            }
        },
        F::DatabasePrivilege => match &args[args.len() - 2] {
            Datum::Int(oid) => exists(snapshot.databases().any(|d| i64::from(d.id.0) == *oid)),
            name => {
                let name = name.as_str().unwrap_or_default();
                if snapshot.database(name).is_none() {
                    let message = format!("database \"{name}\" does not exist");
                    return Err(SqlError::new(SqlState::INVALID_CATALOG_NAME, message));
                }
                Datum::Bool(true)
            }
        },
        other => panic!("{other:?} is not about privileges"),
    })
}

/// The table behind a name or an oid, for functions that are about tables.
pub(super) fn resolve_class<'a>(d: &Datum, scope: Scope<'a>) -> Result<Option<Object<'a>>> {
    Ok(class(d, scope)?.and_then(|oid| objects::relation(scope.snapshot, oid)))
}

/// Whether a name resolves at all; used where PostgreSQL reports a missing relation.
pub(super) fn find_relation(scope: Scope<'_>, schema: Option<&str>, name: &str) -> Option<Relation> {
    let path = scope.session.search_path();
    let session = scope.session;
    scope.snapshot.resolve(session.database(), &path, &session.user(), schema, name)
}
