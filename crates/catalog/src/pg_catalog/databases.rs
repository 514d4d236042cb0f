//! Databases, schemas, roles and tablespaces.

use meridian_datum::Datum;

use super::maker::{Maker, flag, int, oid, text};
use super::types::encoding;
use super::{Context, ROOT_OID, Rows, role_names, role_oid};
use crate::snapshot::VIRTUAL_SCHEMAS;
use crate::virtual_table::VirtualTable;

/// `pg_default`, where everything lies.
const DEFAULT_TABLESPACE: u32 = 1663;

pub(super) fn pg_database(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "oid datname datdba encoding datlocprovider datallowconn datconnlimit dattablespace datcollate datctype",
    );
    for d in ctx.scope.snapshot.databases() {
        rows.push([
            oid(d.id.oid()),
            text(&*d.name),
            oid(role_oid(&d.owner)),
            encoding(),
            text("c"),
            flag(true),
            int(-1),
            oid(DEFAULT_TABLESPACE),
            text("C"),
            text("C.UTF-8"),
        ]);
    }
    rows.finish()
}

pub(super) fn pg_namespace(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "oid nspname nspowner");
    for (name, id) in VIRTUAL_SCHEMAS {
        rows.push([oid(*id), text(*name), oid(ROOT_OID)]);
    }
    for s in ctx.schemas() {
        rows.push([oid(s.id.oid()), text(&*s.name), oid(role_oid(&s.owner))]);
    }
    rows.finish()
}

pub(super) fn pg_tablespace(table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "oid spcname spcowner");
    rows.push([oid(DEFAULT_TABLESPACE), text("pg_default"), oid(ROOT_OID)]);
    rows.finish()
}

/// `pg_roles` and `pg_authid`: nobody is denied anything.
pub(super) fn roles(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "oid rolname rolsuper rolinherit rolcreaterole rolcreatedb rolcanlogin rolreplication rolbypassrls \
         rolconnlimit rolpassword",
    );
    let yes = || flag(true);
    for name in role_names(ctx.scope) {
        let password = if table.is_view { text("********") } else { Datum::Null };
        rows.push([
            oid(role_oid(&name)),
            text(name),
            yes(),
            yes(),
            yes(),
            yes(),
            yes(),
            flag(false),
            yes(),
            int(-1),
            password,
        ]);
    }
    rows.finish()
}

/// `pg_user` and `pg_shadow`.
pub(super) fn users(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "usename usesysid usecreatedb usesuper userepl usebypassrls passwd");
    for name in role_names(ctx.scope) {
        let id = oid(role_oid(&name));
        rows.push([text(name), id, flag(true), flag(true), flag(false), flag(true), text("********")]);
    }
    rows.finish()
}

/// `pg_stat_database`: which databases there are; nobody counts by database.
pub(super) fn pg_stat_database(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "datid datname");
    for d in ctx.scope.snapshot.databases() {
        rows.push([oid(d.id.oid()), text(&*d.name)]);
    }
    rows.finish()
}
