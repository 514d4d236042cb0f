//! Functions, operators, languages and access methods.

use meridian_datum::{DataType, Datum};

use super::maker::{Maker, flag, int, oid, text, vector};
use super::relations::{BTREE, HEAP};
use super::{PG_CATALOG, ROOT_OID, Rows};
use crate::objects::derived_oid;
use crate::procs;
use crate::virtual_table::VirtualTable;

/// `internal` in `pg_language`.
const INTERNAL: u32 = 12;
/// `heap_tableam_handler` and `bthandler`.
const HEAP_HANDLER: u32 = 3;
const BTREE_HANDLER: u32 = 330;

pub(super) fn pg_proc(table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "oid proname pronamespace proowner prolang procost provariadic prokind proisstrict provolatile proparallel \
         pronargs prorettype proargtypes prosrc",
    );
    for p in procs::all() {
        rows.push([
            oid(p.oid),
            text(p.name),
            oid(PG_CATALOG),
            oid(ROOT_OID),
            oid(INTERNAL),
            Datum::Float4(1.0),
            oid(p.variadic),
            text(p.kind),
            flag(p.strict),
            text(p.volatility),
            text("s"),
            int(p.args.len()),
            oid(p.result),
            vector(DataType::Oid, p.args.iter().map(|a| i64::from(*a))),
            text(p.name),
        ]);
    }
    rows.finish()
}

pub(super) fn pg_operator(table: &VirtualTable) -> Rows {
    let mut rows =
        Maker::new(table, "oid oprname oprnamespace oprowner oprkind oprleft oprright oprresult oprcanhash");
    for o in procs::operators() {
        let (left, right) = match o.args.as_slice() {
            [right] => (0, *right),
            [left, right] => (*left, *right),
            _ => continue,
        };
        let key = [o.name.as_bytes(), &left.to_be_bytes(), &right.to_be_bytes()];
        rows.push([
            oid(derived_oid("operator", &key)),
            text(o.name),
            oid(PG_CATALOG),
            oid(ROOT_OID),
            text(if left == 0 { "l" } else { "b" }),
            oid(left),
            oid(right),
            oid(o.result),
            flag(o.name == "="),
        ]);
    }
    rows.finish()
}

pub(super) fn pg_language(table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "oid lanname lanowner");
    rows.push([oid(INTERNAL), text("internal"), oid(ROOT_OID)]);
    rows.finish()
}

pub(super) fn pg_am(table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "oid amname amhandler amtype");
    rows.push([oid(HEAP), text("heap"), oid(HEAP_HANDLER), text("t")]);
    rows.push([oid(BTREE), text("btree"), oid(BTREE_HANDLER), text("i")]);
    rows.finish()
}
