//! Tables, columns and indexes: `pg_class`, `pg_attribute`, `pg_attrdef`, `pg_index` and the views over them.

use meridian_datum::{DataType, Datum, EvalContext, to_text};

use super::maker::{Maker, constant, flag, int, oid, text, texts, vector};
use super::types::{collation_of, opclass_of};
use super::{Context, Rows, role_oid};
use crate::descriptor::{ColumnDesc, Direction, Identity, IndexDesc, IndexState, TableDesc, TableRef};
use crate::functions::index_def;
use crate::ids::{ColumnId, IndexId};
use crate::objects::{derived_oid, identity_sequences, is_listed};
use crate::virtual_table::{VirtualTable, virtual_tables};

/// Access methods.
pub(super) const HEAP: u32 = 2;
pub(super) const BTREE: u32 = 403;

/// Indexes that listings show.
pub(crate) fn listed(table: &TableDesc) -> impl Iterator<Item = &IndexDesc> {
    table.all_indexes().filter(move |i| is_listed(table, i))
}

/// Columns that listings show.
pub(crate) fn columns(table: &TableDesc) -> impl Iterator<Item = &ColumnDesc> {
    table.columns.iter().filter(|c| !c.hidden)
}

/// The default that listings show: an identity column's is not an expression of the user's.
pub(crate) fn shown_default(column: &ColumnDesc) -> Option<&str> {
    column.default.as_deref().filter(|_| column.identity.is_none())
}

/// The oid of a column's default, which has no number of its own.
fn default_oid(table: &TableDesc, column: ColumnId) -> u32 {
    derived_oid("default", &[&table.id.0.to_be_bytes(), &column.0.to_be_bytes()])
}

pub(super) fn pg_class(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "oid relname relnamespace relowner relam relfilenode reltuples relhasindex relpersistence relkind relnatts \
         relchecks relispopulated relreplident reloptions",
    );
    for (t, schema) in ctx.tables() {
        let estimate = ctx.scope.snapshot.statistics(t.id).map_or(-1.0, |s| s.rows as f32);
        let owner = role_oid(&t.owner);
        let options: Vec<String> = t.storage_parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
        rows.push([
            oid(t.id.oid()),
            text(&*t.name),
            oid(schema.id.oid()),
            oid(owner),
            oid(HEAP),
            oid(t.storage.oid()),
            Datum::Float4(estimate),
            flag(listed(t).next().is_some()),
            text("p"),
            text("r"),
            // Numbers of dropped columns count, as in PostgreSQL: attnum goes up to relnatts.
            int(columns(t).map(|c| c.id.0).max().unwrap_or(0)),
            int(t.checks.len()),
            flag(true),
            text("d"),
            if options.is_empty() { Datum::Null } else { texts(options) },
        ]);
        for i in listed(t) {
            rows.push([
                oid(i.oid),
                text(&*i.name),
                oid(schema.id.oid()),
                oid(owner),
                oid(BTREE),
                oid(i.oid),
                Datum::Float4(estimate.max(0.0)),
                flag(false),
                text("p"),
                text("i"),
                int(i.columns.len() + i.storing.len()),
                int(0),
                flag(true),
                text("n"),
                Datum::Null,
            ]);
        }
    }
    for v in virtual_tables() {
        rows.push([
            oid(v.oid),
            text(v.name),
            oid(ctx.virtual_schema(v)),
            oid(role_oid("root")),
            oid(if v.is_view { 0 } else { HEAP }),
            oid(0),
            Datum::Float4(-1.0),
            flag(false),
            text("p"),
            text(if v.is_view { "v" } else { "r" }),
            int(v.columns.len()),
            int(0),
            flag(true),
            text("n"),
            Datum::Null,
        ]);
    }
    rows.finish()
}

/// A row of `pg_attribute` but for its relation.
struct Attribute<'a> {
    name: &'a str,
    ty: &'a DataType,
    number: i64,
    not_null: bool,
    has_default: bool,
    missing: Option<&'a Datum>,
    identity: Option<Identity>,
}

fn push_attribute(rows: &mut Maker, relation: u32, a: &Attribute<'_>) {
    let is_array = matches!(a.ty, DataType::Array(_));
    let info = a.ty.info();
    let align = if is_array && info.align != 'd' { 'i' } else { info.align };
    rows.push([
        oid(relation),
        text(a.name),
        oid(a.ty.oid()),
        int(-1),
        int(a.ty.len()),
        int(a.number),
        int(i64::from(is_array)),
        int(-1),
        int(a.ty.type_modifier()),
        flag(!is_array && info.by_value),
        text(align.to_string()),
        text(if is_array { 'x' } else { info.storage }.to_string()),
        flag(a.not_null),
        flag(a.has_default),
        flag(a.missing.is_some()),
        a.missing.map_or(Datum::Null, |value| missing_value(value, a.ty)),
        text(match a.identity {
            None => "",
            Some(Identity::Always) => "a",
            Some(Identity::ByDefault) => "d",
        }),
        flag(true),
        oid(collation_of(a.ty)),
    ]);
}

/// An array of the one value, in text.
fn missing_value(value: &Datum, ty: &DataType) -> Datum {
    texts([to_text(&EvalContext::default(), value, ty)])
}

const ATTRIBUTE: &str = "attrelid attname atttypid attstattarget attlen attnum attndims attcacheoff atttypmod \
    attbyval attalign attstorage attnotnull atthasdef atthasmissing attmissingval attidentity attislocal attcollation";

pub(super) fn pg_attribute(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, ATTRIBUTE);
    for (t, _) in ctx.tables() {
        for c in columns(t) {
            let attribute = Attribute {
                name: &c.name,
                ty: &c.ty,
                number: i64::from(c.id.0),
                not_null: !c.nullable,
                has_default: shown_default(c).is_some(),
                missing: c.missing.as_ref(),
                identity: c.identity,
            };
            push_attribute(&mut rows, t.id.oid(), &attribute);
        }
        for i in listed(t) {
            let ids = i.columns.iter().map(|c| c.column).chain(i.storing.iter().copied());
            for (at, id) in ids.enumerate() {
                let number = at as i64 + 1;
                let (name, ty) = match i.expressions.iter().find(|e| e.id == id) {
                    Some(e) => (e.name.as_str(), &e.ty),
                    None => {
                        let c = &t.columns[t.ordinal(id)];
                        (c.name.as_str(), &c.ty)
                    }
                };
                let attribute = Attribute {
                    name,
                    ty,
                    number,
                    not_null: false,
                    has_default: false,
                    missing: None,
                    identity: None,
                };
                push_attribute(&mut rows, i.oid, &attribute);
            }
        }
    }
    let mut rows = rows.finish();
    rows.extend(constant("columns of virtual tables", || virtual_attributes(table)));
    rows
}

fn virtual_attributes(table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, ATTRIBUTE);
    for v in virtual_tables() {
        for (at, c) in v.columns.iter().enumerate() {
            let number = at as i64 + 1;
            let attribute = Attribute {
                name: c.name,
                ty: &c.ty,
                number,
                not_null: false,
                has_default: false,
                missing: None,
                identity: None,
            };
            push_attribute(&mut rows, v.oid, &attribute);
        }
    }
    rows.finish()
}

pub(super) fn pg_attrdef(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "oid adrelid adnum adbin");
    for (t, _) in ctx.tables() {
        for c in columns(t) {
            if let Some(default) = shown_default(c) {
                rows.push([oid(default_oid(t, c.id)), oid(t.id.oid()), int(c.id.0), text(default)]);
            }
        }
    }
    rows.finish()
}

/// What identity columns draw from, as far as it can be said in the terms of sequences: any positive number, each once.
pub(super) fn pg_sequence(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows =
        Maker::new(table, "seqrelid seqtypid seqstart seqincrement seqmax seqmin seqcache seqcycle");
    for (t, _) in ctx.tables() {
        for s in identity_sequences(t) {
            let ty = oid(s.column.ty.oid());
            rows.push([oid(s.oid), ty, int(1), int(1), int(i64::MAX), int(1), int(1), flag(false)]);
        }
    }
    rows.finish()
}

/// `indoption`: bit 0 descending, bit 1 NULLs first.
fn index_option(direction: Direction) -> i64 {
    match direction {
        Direction::Ascending => 0,
        Direction::Descending => 3,
    }
}

fn index_row(rows: &mut Maker, t: &TableRef, i: &IndexDesc) {
    let ty = |c: ColumnId| t.part_type(t.ordinal(c));
    // An expression has no number.
    let number = |c: ColumnId| if i.expressions.iter().any(|e| e.id == c) { 0 } else { i64::from(c.0) };
    let expressions: Vec<&str> = i.expressions.iter().map(|e| e.text.as_str()).collect();
    let key = || i.columns.iter().map(|c| c.column);
    rows.push([
        oid(i.oid),
        oid(t.id.oid()),
        int(i.columns.len() + i.storing.len()),
        int(i.columns.len()),
        flag(i.unique),
        flag(i.id == IndexId::PRIMARY),
        flag(true),
        flag(i.state == IndexState::Public),
        flag(i.state != IndexState::DeleteOnly),
        flag(true),
        vector(DataType::Int2, key().chain(i.storing.iter().copied()).map(number)),
        vector(DataType::Oid, key().map(|c| i64::from(collation_of(ty(c))))),
        vector(DataType::Oid, key().map(|c| i64::from(opclass_of(ty(c))))),
        vector(DataType::Int2, i.columns.iter().map(|c| index_option(c.direction))),
        if expressions.is_empty() { Datum::Null } else { text(expressions.join(", ")) },
        i.predicate.as_deref().map_or(Datum::Null, text),
    ]);
}

pub(super) fn pg_index(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "indexrelid indrelid indnatts indnkeyatts indisunique indisprimary indimmediate indisvalid indisready \
         indislive indkey indcollation indclass indoption indexprs \
         indpred",
    );
    for (t, _) in ctx.tables() {
        for i in listed(t) {
            index_row(&mut rows, t, i);
        }
    }
    rows.finish()
}

pub(super) fn pg_tables(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows =
        Maker::new(table, "schemaname tablename tableowner hasindexes hasrules hastriggers rowsecurity");
    let no = || flag(false);
    for (t, schema) in ctx.tables() {
        let has_index = flag(listed(t).next().is_some());
        rows.push([text(&*schema.name), text(&*t.name), text(&*t.owner), has_index, no(), no(), no()]);
    }
    for v in virtual_tables().filter(|v| !v.is_view) {
        rows.push([text(v.schema), text(v.name), text("root"), no(), no(), no(), no()]);
    }
    rows.finish()
}

pub(super) fn pg_views(table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "schemaname viewname viewowner");
    for v in virtual_tables().filter(|v| v.is_view) {
        rows.push([text(v.schema), text(v.name), text("root")]);
    }
    rows.finish()
}

pub(super) fn pg_indexes(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "schemaname tablename indexname indexdef");
    for (t, schema) in ctx.tables() {
        for i in listed(t) {
            let def = index_def(t, i, Some(&schema.name));
            rows.push([text(&*schema.name), text(&*t.name), text(&*i.name), text(def)]);
        }
    }
    rows.finish()
}

/// The statistics views name relations and leave what nobody counts NULL.
pub(super) fn pg_stat_tables(ctx: Context<'_>, table: &VirtualTable, user: bool, system: bool) -> Rows {
    let mut rows = Maker::new(table, "relid schemaname relname n_live_tup");
    if user {
        for (t, schema) in ctx.tables() {
            let live = ctx.scope.snapshot.statistics(t.id).map(|s| s.rows as i64);
            rows.push([oid(t.id.oid()), text(&*schema.name), text(&*t.name), live.into()]);
        }
    }
    if system {
        for v in virtual_tables().filter(|v| !v.is_view) {
            rows.push([oid(v.oid), text(v.schema), text(v.name), Datum::Null]);
        }
    }
    rows.finish()
}

/// `pg_statio_*_tables`.
pub(super) fn pg_statio_tables(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "relid schemaname relname");
    for (t, schema) in ctx.tables() {
        rows.push([oid(t.id.oid()), text(&*schema.name), text(&*t.name)]);
    }
    rows.finish()
}

/// `pg_stat_*_indexes` and `pg_statio_*_indexes`.
pub(super) fn pg_stat_indexes(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "relid indexrelid schemaname relname indexrelname");
    for (t, schema) in ctx.tables() {
        for i in listed(t) {
            rows.push([oid(t.id.oid()), oid(i.oid), text(&*schema.name), text(&*t.name), text(&*i.name)]);
        }
    }
    rows.finish()
}
