//! The rows of `information_schema`, after the view definitions of PostgreSQL's `information_schema.sql`.

use meridian_datum::{DataType, Datum};

use crate::descriptor::{ColumnDesc, Identity};
use crate::pg_catalog::Context;
use crate::pg_catalog::constraints::{self, Kind};
use crate::pg_catalog::maker::{Maker, int, text, yes_no};
use crate::pg_catalog::relations::{columns, shown_default};
use crate::pg_catalog::{Rows, role_names};
use crate::snapshot::VIRTUAL_SCHEMAS;
use crate::virtual_table::{VirtualTable, virtual_tables};

/// The rows of one table.
pub(crate) fn rows(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    match table.name {
        "tables" => tables(ctx, table),
        "columns" => all_columns(ctx, table),
        "schemata" => schemata(ctx, table),
        "table_constraints" => table_constraints(ctx, table),
        "check_constraints" => check_constraints(ctx, table),
        "key_column_usage" => key_column_usage(ctx, table),
        "constraint_column_usage" => constraint_column_usage(ctx, table),
        "constraint_table_usage" => constraint_table_usage(ctx, table),
        "referential_constraints" => referential_constraints(ctx, table),
        "table_privileges" | "role_table_grants" => table_privileges(ctx, table),
        "column_privileges" | "role_column_grants" => column_privileges(ctx, table),
        "views" => views(ctx, table),
        "information_schema_catalog_name" => one(table, "catalog_name", [catalog(ctx)]),
        "enabled_roles" => enabled_roles(ctx, table),
        "character_sets" => character_sets(ctx, table),
        // The rest lists objects that cannot exist here, and built-in functions, which PostgreSQL lists and nobody
        // looks for.
        _ => Vec::new(),
    }
}

fn one<const N: usize>(table: &VirtualTable, columns: &str, values: [Datum; N]) -> Rows {
    let mut rows = Maker::new(table, columns);
    rows.push(values);
    rows.finish()
}

fn catalog(ctx: Context<'_>) -> Datum {
    text(ctx.scope.session.database())
}

fn tables(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows =
        Maker::new(table, "table_catalog table_schema table_name table_type is_insertable_into is_typed");
    for (t, schema) in ctx.tables() {
        let kind = text("BASE TABLE");
        rows.push([catalog(ctx), text(&*schema.name), text(&*t.name), kind, yes_no(true), yes_no(false)]);
    }
    for v in virtual_tables() {
        let kind = text(if v.is_view { "VIEW" } else { "BASE TABLE" });
        rows.push([catalog(ctx), text(v.schema), text(v.name), kind, yes_no(false), yes_no(false)]);
    }
    rows.finish()
}

fn views(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "table_catalog table_schema table_name check_option is_updatable is_insertable_into is_trigger_updatable \
         is_trigger_deletable is_trigger_insertable_into",
    );
    let no = || yes_no(false);
    for v in virtual_tables().filter(|v| v.is_view) {
        rows.push([catalog(ctx), text(v.schema), text(v.name), text("NONE"), no(), no(), no(), no(), no()]);
    }
    rows.finish()
}

/// What `information_schema.columns` says of a type.
struct Shape {
    name: Datum,
    length: Datum,
    octets: Datum,
    precision: Datum,
    radix: Datum,
    scale: Datum,
    fraction: Datum,
}

fn shape(ty: &DataType) -> Shape {
    const TEXT_OCTETS: i64 = 1 << 30;
    const OCTETS_PER_CHARACTER: u32 = 4;
    let null = || Datum::Null;
    let (length, octets) = match ty {
        DataType::Varchar(Some(n)) | DataType::Char(Some(n)) => (int(*n), int(n * OCTETS_PER_CHARACTER)),
        DataType::Text | DataType::Varchar(None) | DataType::Char(None) => (null(), int(TEXT_OCTETS)),
        _ => (null(), null()),
    };
    let (precision, radix, scale) = match ty {
        DataType::Int2 => (int(16), int(2), int(0)),
        DataType::Int4 => (int(32), int(2), int(0)),
        DataType::Int8 => (int(64), int(2), int(0)),
        DataType::Float4 => (int(24), int(2), null()),
        DataType::Float8 => (int(53), int(2), null()),
        DataType::Numeric(Some(m)) => (int(m.precision), int(10), int(m.scale)),
        DataType::Numeric(None) => (null(), int(10), null()),
        _ => (null(), null(), null()),
    };
    let fraction = match ty {
        DataType::Date => int(0),
        DataType::Time | DataType::Timestamp | DataType::TimestampTz | DataType::Interval => int(6),
        _ => null(),
    };
    let name = if matches!(ty, DataType::Array(_)) {
        text("ARRAY")
    } else {
        text(ty.without_modifier().to_string())
    };
    Shape { name, length, octets, precision, radix, scale, fraction }
}

/// A column of any relation, as this view sees it.
struct Column<'a> {
    schema: &'a str,
    table: &'a str,
    name: &'a str,
    number: i64,
    ty: &'a DataType,
    /// Of a table with storage.
    desc: Option<&'a ColumnDesc>,
}

fn all_columns(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "table_catalog table_schema table_name column_name ordinal_position column_default is_nullable data_type \
         character_maximum_length character_octet_length numeric_precision numeric_precision_radix numeric_scale \
         datetime_precision collation_catalog collation_schema collation_name udt_catalog udt_schema udt_name \
         dtd_identifier is_self_referencing is_identity identity_generation identity_start identity_increment \
         identity_maximum identity_minimum identity_cycle is_generated is_updatable",
    );
    for (t, schema) in ctx.tables() {
        for c in columns(t) {
            let number = i64::from(c.id.0);
            let column = Column {
                schema: &schema.name,
                table: &t.name,
                name: &c.name,
                number,
                ty: &c.ty,
                desc: Some(c),
            };
            push_column(&mut rows, ctx, &column);
        }
    }
    for v in virtual_tables() {
        for (at, c) in v.columns.iter().enumerate() {
            let number = at as i64 + 1;
            let column =
                Column { schema: v.schema, table: v.name, name: c.name, number, ty: &c.ty, desc: None };
            push_column(&mut rows, ctx, &column);
        }
    }
    rows.finish()
}

fn push_column(rows: &mut Maker, ctx: Context<'_>, c: &Column<'_>) {
    let shape = shape(c.ty);
    // Only a collation that is not the default shows; `name` has one.
    let collated = *c.ty == DataType::Name;
    let if_collated = |d: Datum| if collated { d } else { Datum::Null };
    let identity = c.desc.and_then(|d| d.identity);
    let if_identity = |s: String| if identity.is_some() { text(s) } else { Datum::Null };
    let maximum = match c.ty {
        DataType::Int2 => i64::from(i16::MAX),
        DataType::Int4 => i64::from(i32::MAX),
        _ => i64::MAX,
    };
    rows.push([
        catalog(ctx),
        text(c.schema),
        text(c.table),
        text(c.name),
        int(c.number),
        c.desc.and_then(shown_default).map_or(Datum::Null, text),
        yes_no(c.desc.is_none_or(|d| d.nullable)),
        shape.name,
        shape.length,
        shape.octets,
        shape.precision,
        shape.radix,
        shape.scale,
        shape.fraction,
        if_collated(catalog(ctx)),
        if_collated(text("pg_catalog")),
        if_collated(text("C")),
        catalog(ctx),
        text("pg_catalog"),
        text(c.ty.pg_name()),
        text(c.number.to_string()),
        yes_no(false),
        yes_no(identity.is_some()),
        match identity {
            None => Datum::Null,
            Some(Identity::Always) => text("ALWAYS"),
            Some(Identity::ByDefault) => text("BY DEFAULT"),
        },
        if_identity("1".to_owned()),
        if_identity("1".to_owned()),
        if_identity(maximum.to_string()),
        if_identity("1".to_owned()),
        yes_no(false),
        text("NEVER"),
        yes_no(c.desc.is_some()),
    ]);
}

fn schemata(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "catalog_name schema_name schema_owner");
    for (name, _) in VIRTUAL_SCHEMAS {
        rows.push([catalog(ctx), text(*name), text("root")]);
    }
    for s in ctx.schemas() {
        rows.push([catalog(ctx), text(&*s.name), text(&*s.owner)]);
    }
    rows.finish()
}

/// A constraint as these views see it; PostgreSQL 15 shows NOT NULL as a check without name of its own.
struct Shown<'a> {
    schema: &'a str,
    table: &'a str,
    name: String,
    word: &'static str,
    clause: Option<String>,
}

fn shown(ctx: Context<'_>) -> Vec<Shown<'_>> {
    let mut out = Vec::new();
    for (t, schema) in ctx.tables() {
        for c in constraints::of(ctx.scope.snapshot, t) {
            let (word, clause) = match &c.kind {
                Kind::Primary(_) => ("PRIMARY KEY", None),
                Kind::Unique(_) => ("UNIQUE", None),
                Kind::Check(check) => ("CHECK", Some(format!("(({}))", check.expr))),
                Kind::Parent { .. } => ("FOREIGN KEY", None),
            };
            out.push(Shown { schema: &schema.name, table: &t.name, name: c.name, word, clause });
        }
        for c in columns(t).filter(|c| !c.nullable) {
            let name = format!("{}_{}_{}_not_null", schema.id.oid(), t.id.oid(), c.id.0);
            let clause = Some(format!("{} IS NOT NULL", c.name));
            out.push(Shown { schema: &schema.name, table: &t.name, name, word: "CHECK", clause });
        }
    }
    out
}

fn table_constraints(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name constraint_type \
         is_deferrable initially_deferred enforced nulls_distinct",
    );
    for s in shown(ctx) {
        let distinct = if s.word == "UNIQUE" { yes_no(true) } else { Datum::Null };
        rows.push([
            catalog(ctx),
            text(s.schema),
            text(s.name),
            catalog(ctx),
            text(s.schema),
            text(s.table),
            text(s.word),
            yes_no(false),
            yes_no(false),
            yes_no(true),
            distinct,
        ]);
    }
    rows.finish()
}

fn check_constraints(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "constraint_catalog constraint_schema constraint_name check_clause");
    for s in shown(ctx) {
        if let Some(clause) = s.clause {
            rows.push([catalog(ctx), text(s.schema), text(s.name), text(clause)]);
        }
    }
    rows.finish()
}

fn key_column_usage(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name column_name \
         ordinal_position position_in_unique_constraint",
    );
    for (t, schema) in ctx.tables() {
        for c in constraints::of(ctx.scope.snapshot, t) {
            if matches!(c.kind, Kind::Check(_)) {
                continue;
            }
            let references = matches!(c.kind, Kind::Parent { .. });
            for (at, id) in c.kind.columns(t).into_iter().enumerate() {
                rows.push([
                    catalog(ctx),
                    text(&*schema.name),
                    text(&*c.name),
                    catalog(ctx),
                    text(&*schema.name),
                    text(&*t.name),
                    text(&*t.columns[t.ordinal(id)].name),
                    int(at + 1),
                    if references { int(at + 1) } else { Datum::Null },
                ]);
            }
        }
    }
    rows.finish()
}

/// The columns that a constraint needs to exist: its own, and of a foreign key the referenced ones.
fn constraint_column_usage(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "table_catalog table_schema table_name column_name constraint_catalog constraint_schema constraint_name",
    );
    for (t, schema) in ctx.tables() {
        for c in constraints::of(ctx.scope.snapshot, t) {
            let (target, ids) = match &c.kind {
                Kind::Parent { parent, referenced, .. } => (*parent, referenced.clone()),
                own => (t, own.columns(t)),
            };
            for id in ids {
                rows.push([
                    catalog(ctx),
                    text(ctx.scope.snapshot.schema_name(target)),
                    text(&*target.name),
                    text(&*target.columns[target.ordinal(id)].name),
                    catalog(ctx),
                    text(&*schema.name),
                    text(&*c.name),
                ]);
            }
        }
    }
    rows.finish()
}

fn constraint_table_usage(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "table_catalog table_schema table_name constraint_catalog constraint_schema constraint_name",
    );
    for (t, schema) in ctx.tables() {
        for c in constraints::of(ctx.scope.snapshot, t) {
            let target = match &c.kind {
                Kind::Parent { parent, .. } => parent,
                Kind::Check(_) => continue,
                Kind::Primary(_) | Kind::Unique(_) => t,
            };
            let target_schema = text(ctx.scope.snapshot.schema_name(target));
            let own_schema = text(&*schema.name);
            rows.push([
                catalog(ctx),
                target_schema,
                text(&*target.name),
                catalog(ctx),
                own_schema,
                text(c.name),
            ]);
        }
    }
    rows.finish()
}

fn referential_constraints(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "constraint_catalog constraint_schema constraint_name unique_constraint_catalog unique_constraint_schema \
         unique_constraint_name match_option update_rule delete_rule",
    );
    for (t, schema) in ctx.tables() {
        for c in constraints::of(ctx.scope.snapshot, t) {
            let Kind::Parent { parent, cascade, .. } = c.kind else { continue };
            rows.push([
                catalog(ctx),
                text(&*schema.name),
                text(&*c.name),
                catalog(ctx),
                text(ctx.scope.snapshot.schema_name(parent)),
                text(&*parent.primary.name),
                text("NONE"),
                text("NO ACTION"),
                text(if cascade { "CASCADE" } else { "NO ACTION" }),
            ]);
        }
    }
    rows.finish()
}

fn table_privileges(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    const PRIVILEGES: [&str; 7] =
        ["INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"];
    let mut rows = Maker::new(
        table,
        "grantor grantee table_catalog table_schema table_name privilege_type is_grantable with_hierarchy",
    );
    for (t, schema) in ctx.tables() {
        for privilege in PRIVILEGES {
            rows.push([
                text(&*t.owner),
                text(&*t.owner),
                catalog(ctx),
                text(&*schema.name),
                text(&*t.name),
                text(privilege),
                yes_no(true),
                yes_no(privilege == "SELECT"),
            ]);
        }
    }
    rows.finish()
}

fn column_privileges(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    const PRIVILEGES: [&str; 4] = ["INSERT", "SELECT", "UPDATE", "REFERENCES"];
    let mut rows = Maker::new(
        table,
        "grantor grantee table_catalog table_schema table_name column_name privilege_type is_grantable",
    );
    for (t, schema) in ctx.tables() {
        for c in columns(t) {
            for privilege in PRIVILEGES {
                rows.push([
                    text(&*t.owner),
                    text(&*t.owner),
                    catalog(ctx),
                    text(&*schema.name),
                    text(&*t.name),
                    text(&*c.name),
                    text(privilege),
                    yes_no(true),
                ]);
            }
        }
    }
    rows.finish()
}

fn enabled_roles(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "role_name");
    for name in role_names(ctx.scope) {
        rows.push([text(name)]);
    }
    rows.finish()
}

fn character_sets(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let columns = "character_set_name character_repertoire form_of_use default_collate_catalog \
                   default_collate_schema default_collate_name";
    one(
        table,
        columns,
        [text("UTF8"), text("UCS"), text("UTF8"), catalog(ctx), text("pg_catalog"), text("default")],
    )
}
