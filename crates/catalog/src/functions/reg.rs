//! Names of objects as numbers and back: `regclass`, `regtype`, `regproc`, `regnamespace`.

use meridian_datum::{DataType, Datum, Result, SqlError, SqlState};

use super::define::quote_ident;
use super::session::effective_path;
use super::{CatalogFunction, Scope, SessionInfo, visible};
use crate::objects;
use crate::pg_catalog::{role_oid, schema_name, schema_oid};
use crate::procs;
use crate::snapshot::{CatalogSnapshot, Relation};

/// What a name is looked up in.
#[derive(Clone, Copy)]
struct Names<'a> {
    snapshot: &'a CatalogSnapshot,
    database: &'a str,
    search_path: &'a [String],
    user: &'a str,
}

/// The oid that a text means as a value of an oid-like type: a number, `-`, or a name.
///
/// # Errors
/// What PostgreSQL says of a name that does not exist: 42P01, 42704, 42883, 3F000.
pub fn parse_reg(
    snapshot: &CatalogSnapshot,
    database: &str,
    search_path: &[String],
    user: &str,
    text: &str,
    to: &DataType,
) -> Result<u32> {
    let names = Names { snapshot, database, search_path, user };
    names.parse(text, to)?.ok_or_else(|| undefined(text, to))
}

/// The function that casts a text to an oid-like type.
///
/// # Panics
/// For any other type.
pub fn reg_input(to: &DataType) -> CatalogFunction {
    match to {
        DataType::RegClass => CatalogFunction::RegclassIn,
        DataType::RegType => CatalogFunction::RegtypeIn,
        DataType::RegProc => CatalogFunction::RegprocIn,
        DataType::RegNamespace => CatalogFunction::RegnamespaceIn,
        other => panic!("{other} is no type of names"),
    }
}

/// The function that casts an oid-like type to a text.
///
/// # Panics
/// For any other type.
pub fn reg_output(from: &DataType) -> CatalogFunction {
    match from {
        DataType::RegClass => CatalogFunction::RegclassOut,
        DataType::RegType => CatalogFunction::RegtypeOut,
        DataType::RegProc => CatalogFunction::RegprocOut,
        DataType::RegNamespace => CatalogFunction::RegnamespaceOut,
        other => panic!("{other} is no type of names"),
    }
}

/// The text of an oid-like value, as results show it.
pub fn reg_text(oid: u32, ty: &DataType, snapshot: &CatalogSnapshot, session: &dyn SessionInfo) -> String {
    let scope = Scope { snapshot, session };
    let found = match ty {
        _ if oid == 0 => Some("-".to_owned()),
        DataType::RegClass => class_text(oid, scope),
        DataType::RegType => crate::pg_catalog::type_name(oid),
        DataType::RegProc => procs::by_oid(oid).map(|p| quote_ident(p.name)),
        DataType::RegNamespace => schema_name(snapshot, oid).map(|n| quote_ident(&n)),
        _ => None,
    };
    found.unwrap_or_else(|| oid.to_string())
}

fn class_text(oid: u32, scope: Scope<'_>) -> Option<String> {
    let Some(object) = objects::relation(scope.snapshot, oid) else {
        let (table, sequence) = objects::identity_sequence(scope.snapshot, oid)?;
        let schema = scope.snapshot.schema_name(table);
        let name = quote_ident(&sequence.name);
        let on_path = search_schemas(scope).iter().any(|s| s == schema);
        return Some(if on_path { name } else { format!("{}.{name}", quote_ident(schema)) });
    };
    let name = quote_ident(object.name());
    if visible::is_visible(&object, scope) {
        return Some(name);
    }
    Some(format!("{}.{name}", quote_ident(object.schema_name(scope.snapshot))))
}

pub(super) fn evaluate(function: CatalogFunction, args: &[Datum], scope: Scope<'_>) -> Result<Datum> {
    use CatalogFunction as F;
    let output = |ty: &DataType| {
        let oid = args[0].as_int().unwrap_or_default() as u32;
        Ok(Datum::from(reg_text(oid, ty, scope.snapshot, scope.session)))
    };
    let path = scope.session.search_path();
    let user = scope.session.user();
    let names = Names {
        snapshot: scope.snapshot,
        database: scope.session.database(),
        search_path: &path,
        user: &user,
    };
    let text = || args[0].as_str().unwrap_or_default();
    let input = |ty: &DataType| {
        let oid = names.parse(text(), ty)?.ok_or_else(|| undefined(text(), ty))?;
        Ok(Datum::Int(i64::from(oid)))
    };
    // Unlike the casts, these take no numbers, and answer NULL for what does not exist.
    let search = |ty: &DataType| {
        let text = text();
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Datum::Null);
        }
        Ok(names.parse(text, ty)?.map(i64::from).into())
    };
    match function {
        F::ToRegclass => search(&DataType::RegClass),
        F::ToRegtype => search(&DataType::RegType),
        F::ToRegproc => search(&DataType::RegProc),
        F::ToRegnamespace => search(&DataType::RegNamespace),
        F::ToRegrole => {
            let name = split_name(text())?.pop().unwrap_or_default();
            let known = crate::pg_catalog::role_names(scope).contains(&name);
            Ok(known.then(|| i64::from(role_oid(&name))).into())
        }
        F::RegclassIn => input(&DataType::RegClass),
        F::RegtypeIn => input(&DataType::RegType),
        F::RegprocIn => input(&DataType::RegProc),
        F::RegnamespaceIn => input(&DataType::RegNamespace),
        F::RegclassOut => output(&DataType::RegClass),
        F::RegtypeOut => output(&DataType::RegType),
        F::RegprocOut => output(&DataType::RegProc),
        F::RegnamespaceOut => output(&DataType::RegNamespace),
        other => panic!("{other:?} is no function of names"),
    }
}

impl Names<'_> {
    fn parse(&self, text: &str, to: &DataType) -> Result<Option<u32>> {
        let text = text.trim();
        if text == "-" {
            return Ok(Some(0));
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse() {
                Ok(oid) => Ok(Some(oid)),
                Err(_) => Err(SqlError::literal_out_of_range(text, "oid")),
            };
        }
        match to {
            DataType::RegClass => self.class(text),
            DataType::RegType => parse_type(text),
            DataType::RegProc => {
                let mut parts = split_name(text)?;
                let name = parts.pop().unwrap_or_default();
                let qualified = parts.pop();
                if qualified.is_some_and(|s| s != "pg_catalog") {
                    return Ok(None);
                }
                Ok(procs::by_name(&name).next().map(|p| p.oid))
            }
            DataType::RegNamespace => {
                let name = split_name(text)?.pop().unwrap_or_default();
                Ok(schema_oid(self.snapshot, self.database, &name))
            }
            other => Err(SqlError::invalid_text(&other.to_string(), text)),
        }
    }

    fn class(&self, text: &str) -> Result<Option<u32>> {
        let parts = split_name(text)?;
        let (schema, name) = match parts.as_slice() {
            [name] => (None, name),
            [schema, name] => (Some(schema.as_str()), name),
            [database, schema, name] if database == self.database => (Some(schema.as_str()), name),
            _ => {
                return Err(SqlError::unsupported("cross-database references"));
            }
        };
        let found = self.snapshot.resolve(self.database, self.search_path, self.user, schema, name);
        Ok(match found {
            Some(Relation::Table(t)) => Some(t.id.oid()),
            Some(Relation::Virtual(v)) => Some(v.oid),
            Some(Relation::Index(t, id)) => Some(t.index(id).map_or(0, |i| i.oid)),
            None => self.identity_sequence(schema, name),
        })
    }

    /// The generator of an identity column, where no relation has the name.
    fn identity_sequence(&self, schema: Option<&str>, name: &str) -> Option<u32> {
        let database = self.snapshot.database(self.database)?.id;
        let path = self.search_path.iter().map(|s| if s == "$user" { self.user } else { s.as_str() });
        let schemas: Vec<&str> = schema.map_or_else(|| path.collect(), |s| vec![s]);
        schemas.into_iter().find_map(|s| {
            let schema = self.snapshot.schema(database, s)?.id;
            let mut tables = self.snapshot.tables().filter(|t| t.schema == schema);
            tables.find_map(|t| objects::identity_sequences(t).find(|q| q.name == name).map(|q| q.oid))
        })
    }
}

fn undefined(text: &str, to: &DataType) -> SqlError {
    let (state, what) = match to {
        DataType::RegClass => (SqlState::UNDEFINED_TABLE, "relation"),
        DataType::RegType => (SqlState::UNDEFINED_OBJECT, "type"),
        DataType::RegProc => (SqlState::UNDEFINED_FUNCTION, "function"),
        _ => (SqlState::INVALID_SCHEMA_NAME, "schema"),
    };
    SqlError::new(state, format!("{what} \"{}\" does not exist", text.trim()))
}

/// Splits a possibly qualified and quoted name and folds what is not quoted.
pub(crate) fn split_name(text: &str) -> Result<Vec<String>> {
    let invalid = || SqlError::new(SqlState::INVALID_NAME, "invalid name syntax");
    let mut parts = Vec::new();
    let mut chars = text.trim().chars().peekable();
    loop {
        let mut part = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    Some('"') if chars.next_if_eq(&'"').is_some() => part.push('"'),
                    Some('"') => break,
                    Some(c) => part.push(c),
                    None => return Err(invalid()),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != '.' && *c != '"') {
                part.extend(c.to_lowercase());
            }
            part.truncate(part.trim_end().len());
        }
        if part.is_empty() {
            return Err(invalid());
        }
        parts.push(part);
        match chars.next() {
            None => return Ok(parts),
            Some('.') => {}
            Some(_) => return Err(invalid()),
        }
    }
}

/// The oid of a type's name with modifiers and brackets: `numeric(10,2)[]`, `pg_catalog.int4`.
fn parse_type(text: &str) -> Result<Option<u32>> {
    let mut base = text.trim();
    let mut is_array = false;
    while let Some(rest) = base.strip_suffix(']') {
        let Some(open) = rest.rfind('[') else { return Ok(None) };
        base = rest[..open].trim_end();
        is_array = true;
    }
    let mut name = base.to_lowercase();
    if let (Some(open), Some(close)) = (name.find('('), name.rfind(')')) {
        if close < open {
            return Ok(None);
        }
        name.replace_range(open..=close, "");
    }
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
    let found = match DataType::from_name(name) {
        Some(t) => Some(t),
        None => match split_name(base)?.as_slice() {
            [name] => DataType::from_name(name),
            [schema, name] if schema == "pg_catalog" => DataType::from_name(name),
            _ => None,
        },
    };
    Ok(found.map(|t| if is_array && !t.is_array() { DataType::array(t).oid() } else { t.oid() }))
}

/// The schemas that unqualified names are searched in, `pg_catalog` included.
pub(super) fn search_schemas(scope: Scope<'_>) -> Vec<String> {
    let mut path = effective_path(scope.snapshot, scope.session);
    if !path.iter().any(|s| s == "pg_catalog") {
        path.insert(0, "pg_catalog".to_owned());
    }
    path
}
