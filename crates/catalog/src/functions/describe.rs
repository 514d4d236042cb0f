//! Objects in words.

use std::sync::Arc;

use meridian_datum::{ArrayValue, DataType, Datum, Result};

use super::visible::resolve_class;
use super::{CatalogFunction, Scope};
use crate::descriptor::{Direction, IndexDesc};
use crate::objects::{self, Object};
use crate::pg_catalog::{CLASS_OID, role_name, schema_name, type_name, type_text};
use crate::procs;

pub(super) fn array(element: DataType, elements: Vec<Datum>) -> Datum {
    Datum::Array(Arc::new(ArrayValue::new(element, elements)))
}

/// What may be done to a table: 4 update, 8 insert, 16 delete (`1 << CmdType`).
const ALL_EVENTS: i64 = 28;

pub(super) fn evaluate(function: CatalogFunction, args: &[Datum], scope: Scope<'_>) -> Result<Datum> {
    use CatalogFunction as F;
    let oid = || args[0].as_int().unwrap_or_default() as u32;
    let is_table = || {
        Ok::<_, meridian_datum::SqlError>(matches!(resolve_class(&args[0], scope)?, Some(Object::Table(_))))
    };
    Ok(match function {
        F::GetUserbyid => {
            let oid = oid();
            Datum::from(role_name(scope, oid).unwrap_or_else(|| format!("unknown (OID={oid})")))
        }
        F::GetFunctionResult => procs::by_oid(oid()).map(|p| type_text(p.result)).into(),
        F::GetFunctionArguments => procs::by_oid(oid()).map(procs::Proc::arguments).into(),
        F::FormatType => format_type(args),
        F::RelationFilenode => match resolve_class(&args[0], scope)? {
            Some(Object::Table(t)) => Datum::Int(i64::from(t.storage.0)),
            Some(Object::Index(_, i)) => Datum::Int(i64::from(i.oid)),
            Some(Object::Virtual(_)) | None => Datum::Null,
        },
        F::RelationIsUpdatable => Datum::Int(if is_table()? { ALL_EVENTS } else { 0 }),
        F::ColumnIsUpdatable => Datum::Bool(is_table()?),
        F::DescribeObject => describe(args, scope),
        F::IndexColumnProperty => index_column_property(args, scope)?,
        other => panic!("{other:?} describes nothing"),
    })
}

fn format_type(args: &[Datum]) -> Datum {
    let Some(oid) = args[0].as_int() else { return Datum::Null };
    let oid = oid as u32;
    let modifier = args[1].as_int();
    let text = match DataType::from_oid(oid, modifier.map_or(-1, |m| m as i32)) {
        // With an explicit -1, which columns have, the bare name is not SQL's `character`, whose length is 1.
        Some(DataType::Char(None)) if modifier.is_some() => "bpchar".to_owned(),
        Some(t) => t.to_string(),
        None if oid == 0 => "-".to_owned(),
        None => type_name(oid).unwrap_or_else(|| "???".to_owned()),
    };
    Datum::from(text)
}

fn describe(args: &[Datum], scope: Scope<'_>) -> Datum {
    let part = |i: usize| args[i].as_int().unwrap_or_default();
    let (class, oid, column) = (part(0) as u32, part(1) as u32, part(2));
    if class == CLASS_OID {
        let Some(object) = objects::relation(scope.snapshot, oid) else { return Datum::Null };
        let word = match object {
            Object::Table(_) => "table",
            Object::Index(..) => "index",
            Object::Virtual(v) if v.is_view => "view",
            Object::Virtual(_) => "table",
        };
        if column > 0
            && let Object::Table(t) = object
            && let Some(c) = t.columns.iter().find(|c| i64::from(c.id.0) == column)
        {
            return Datum::from(format!("column {} of {word} {}", c.name, t.name));
        }
        return Datum::from(format!("{word} {}", object.name()));
    }
    if let Some(name) = schema_name(scope.snapshot, oid) {
        return Datum::from(format!("schema {name}"));
    }
    type_name(oid).map(|name| format!("type {name}")).into()
}

fn index_column_property(args: &[Datum], scope: Scope<'_>) -> Result<Datum> {
    let Some(Object::Index(_, index)) = resolve_class(&args[0], scope)? else { return Ok(Datum::Null) };
    let number = args[1].as_int().unwrap_or_default();
    let property = args[2].as_str().unwrap_or_default().to_lowercase();
    Ok(usize::try_from(number - 1).ok().and_then(|at| property_of(index, at, &property)).into())
}

fn property_of(index: &IndexDesc, at: usize, property: &str) -> Option<bool> {
    let Some(column) = index.columns.get(at) else {
        // An included column is kept for reading and has no order.
        let included = at < index.columns.len() + index.storing.len();
        return match property {
            "orderable" | "distance_orderable" | "search_array" | "search_nulls" if included => Some(false),
            "returnable" if included => Some(true),
            _ => None,
        };
    };
    let descending = column.direction == Direction::Descending;
    match property {
        "asc" | "nulls_last" => Some(!descending),
        "desc" | "nulls_first" => Some(descending),
        "orderable" | "returnable" | "search_array" | "search_nulls" => Some(true),
        "distance_orderable" => Some(false),
        _ => None,
    }
}
