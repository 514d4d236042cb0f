use std::collections::BTreeSet;

use meridian_datum::{DataType, Datum};

use super::*;
use crate::fixture::{
    CUSTOMERS, CUSTOMERS_EMAIL_KEY, CUSTOMERS_PKEY, LOG, ORDERS, ORDERS_PLACED_IDX, session, snapshot,
};
use crate::virtual_table::{virtual_table, virtual_tables};

fn fits(value: &Datum, ty: &DataType) -> bool {
    match value {
        Datum::Null => true,
        Datum::Bool(_) => *ty == DataType::Bool,
        Datum::Int(_) => ty.is_integer() || ty.is_oid_like(),
        Datum::Text(_) => ty.is_string() && !matches!(ty, DataType::Char(_)),
        Datum::Float4(_) => *ty == DataType::Float4,
        Datum::Float8(_) => *ty == DataType::Float8,
        Datum::Array(a) => ty.element().is_some_and(|e| e.same_type(a.element_type())),
        _ => false,
    }
}

/// The named columns of the rows whose first named column is `key`.
fn select(table: &str, columns: &str, key: i64) -> Vec<String> {
    let (schema, name) = table.split_once('.').unwrap_or(("pg_catalog", table));
    let t = virtual_table(schema, name).unwrap();
    let at: Vec<usize> = columns
        .split_whitespace()
        .map(|c| t.columns.iter().position(|d| d.name == c).expect("a column of the table"))
        .collect();
    virtual_rows(&t, &snapshot(), &session(&["public"]))
        .unwrap()
        .into_iter()
        .filter(|r| matches!(r[at[0]], Datum::Int(v) if v == key))
        .map(|r| at[1..].iter().map(|i| format!("{:?}", r[*i])).collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn every_row_fits_its_table() {
    for t in virtual_tables().filter(|t| t.source == VirtualSource::Catalog) {
        for row in virtual_rows(t, &snapshot(), &session(&["public"])).unwrap() {
            assert_eq!(row.len(), t.columns.len(), "{}.{}", t.schema, t.name);
            for (value, column) in row.iter().zip(&t.columns) {
                assert!(
                    fits(value, &column.ty),
                    "{}.{} is {value:?}, not {}",
                    t.name,
                    column.name,
                    column.ty
                );
            }
        }
    }
}

#[test]
fn oids_are_unique_per_table() {
    for name in ["pg_class", "pg_type", "pg_proc", "pg_operator", "pg_constraint", "pg_namespace", "pg_cast"]
    {
        let t = virtual_table("pg_catalog", name).unwrap();
        let rows = virtual_rows(&t, &snapshot(), &session(&["public"])).unwrap();
        let oids: BTreeSet<i64> = rows.iter().filter_map(|r| r[0].as_int()).collect();
        assert_eq!(oids.len(), rows.len(), "{name}");
        assert!(!rows.is_empty(), "{name}");
    }
}

#[test]
fn relations() {
    let class = |oid: u32| {
        select("pg_class", "oid relname relkind relnatts relchecks relhasindex reltuples", oid.into())
    };
    assert_eq!(class(CUSTOMERS.0), ["\"customers\" \"r\" 5 1 true 1000f4"]);
    assert_eq!(class(ORDERS.0), ["\"orders\" \"r\" 4 0 true -1f4"]);
    assert_eq!(class(CUSTOMERS_PKEY), ["\"customers_pkey\" \"i\" 1 0 false 1000f4"]);
    assert_eq!(class(LOG.0), ["\"log\" \"r\" 1 0 false -1f4"], "the hidden key does not show");
    assert_eq!(class(16_421), [""; 0]);
    assert_eq!(class(1259), ["\"pg_class\" \"r\" 33 0 false -1f4"]);
}

#[test]
fn attributes() {
    let columns =
        "attrelid attname attnum atttypid atttypmod attnotnull atthasdef attidentity attndims attcollation";
    assert_eq!(
        select("pg_attribute", columns, CUSTOMERS.0.into()),
        [
            "\"id\" 1 20 -1 true false \"d\" 0 0",
            "\"email\" 2 25 -1 true false \"\" 0 100",
            "\"balance\" 3 1700 786438 false true \"\" 0 0",
            "\"Tags\" 5 1009 -1 false false \"\" 1 100",
        ]
    );
    assert_eq!(
        select("pg_attribute", "attrelid attname attnum", ORDERS_PLACED_IDX.into()),
        ["\"placed\" 1", "\"note\" 2"]
    );
    assert_eq!(select("pg_attrdef", "adrelid adnum adbin", CUSTOMERS.0.into()), ["3 \"0\""]);
}

/// An identity column's generator is found by name and by number, as SQLAlchemy asks for it.
#[test]
fn identity_generators() {
    let columns = "seqtypid seqstart seqincrement seqmax seqmin seqcache seqcycle seqrelid";
    let t = virtual_table("pg_catalog", "pg_sequence").unwrap();
    let rows = virtual_rows(&t, &snapshot(), &session(&["public"])).unwrap();
    assert_eq!(rows.len(), 1, "there is one identity column");
    let oid = rows[0][0].as_int().unwrap();
    assert_eq!(select("pg_sequence", columns, 20), [format!("1 1 {} 1 1 false {oid}", i64::MAX)]);
    let class = |text: &str| {
        let path = ["public".to_owned()];
        crate::parse_reg(&snapshot(), "defaultdb", &path, "root", text, &DataType::RegClass).ok()
    };
    assert_eq!(class("app.customers_id_seq").map(i64::from), Some(oid));
    assert_eq!(class("customers_id_seq"), None, "its schema is not on the path");
}

#[test]
fn indexes() {
    let columns =
        "indexrelid indrelid indisunique indisprimary indisvalid indnkeyatts indkey indclass indoption";
    let index = |oid: u32| select("pg_index", columns, oid.into());
    // int8_ops 3124, text_ops 3126, date_ops 3122 as in PostgreSQL 15.
    assert_eq!(index(CUSTOMERS_PKEY), ["16401 true true true 1 [1] [3124] [0]"]);
    assert_eq!(index(CUSTOMERS_EMAIL_KEY), ["16401 true false true 1 [2] [3126] [0]"]);
    assert_eq!(index(ORDERS_PLACED_IDX), ["16410 false false true 1 [3, 4] [3122] [3]"]);
}

#[test]
fn constraints_of_a_table() {
    let columns = "conrelid conname contype convalidated conindid confrelid confdeltype conkey confkey";
    assert_eq!(
        select("pg_constraint", columns, CUSTOMERS.0.into()),
        [
            "\"customers_pkey\" \"p\" true 16402 0 \" \" [1] NULL",
            "\"customers_email_key\" \"u\" true 16404 0 \" \" [2] NULL",
            "\"customers_balance_check\" \"c\" true 0 0 \" \" [3] NULL",
        ]
    );
    assert_eq!(
        select("pg_constraint", columns, ORDERS.0.into()),
        [
            "\"orders_pkey\" \"p\" true 16411 0 \" \" [1, 2] NULL",
            "\"orders_parent_fkey\" \"f\" true 16402 16401 \"c\" [1] [1]",
        ]
    );
}

#[test]
fn types_are_postgres_15s() {
    let columns =
        "oid typname typtype typcategory typelem typarray typinput typsend typlen typalign typcollation";
    let ty = |oid: i64| select("pg_type", columns, oid);
    // Rows of a PostgreSQL 15 catalog.
    assert_eq!(ty(23), ["\"int4\" \"b\" \"N\" 0 1007 42 2407 4 \"i\" 0"]);
    assert_eq!(ty(1007), ["\"_int4\" \"b\" \"A\" 23 0 750 2401 -1 \"i\" 0"]);
    assert_eq!(ty(1043), ["\"varchar\" \"b\" \"S\" 0 1015 1046 2433 -1 \"i\" 100"]);
    assert_eq!(select("pg_type", "oid typname typtype", 2281), ["\"internal\" \"p\""]);
}

#[test]
fn functions_and_databases() {
    let procs = |name: &str| crate::procs::by_name(name).map(|p| (p.kind, p.arguments())).collect::<Vec<_>>();
    assert_eq!(procs("array_in"), [("f", "cstring, oid, integer".to_owned())]);
    assert!(procs("count").iter().all(|(kind, _)| *kind == "a"));
    assert!(!procs("lower").is_empty());
    assert_eq!(select("pg_database", "oid datname encoding datallowconn", 5), ["\"postgres\" 6 true"]);
    assert_eq!(select("pg_roles", "oid rolname rolsuper", 10), ["\"root\" true"]);
    assert_eq!(select("pg_namespace", "oid nspname", 11), ["\"pg_catalog\""]);
    assert_eq!(select("pg_namespace", "oid nspname", 51), [""; 0], "another database's schema");
}

#[test]
fn information_schema_columns() {
    let t = virtual_table("information_schema", "columns").unwrap();
    let at = |name: &str| t.columns.iter().position(|c| c.name == name).unwrap();
    let names =
        ["column_name", "ordinal_position", "data_type", "udt_name", "is_nullable", "numeric_precision"];
    let rows = virtual_rows(&t, &snapshot(), &session(&["public"])).unwrap();
    let shown: Vec<String> = rows
        .iter()
        .filter(|r| matches!(r[at("table_name")].as_str(), Some("customers" | "orders")))
        .map(|r| names.iter().map(|n| format!("{:?}", r[at(n)])).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        shown,
        [
            "\"id\" 1 \"bigint\" \"int8\" \"NO\" 64",
            "\"email\" 2 \"text\" \"text\" \"NO\" NULL",
            "\"balance\" 3 \"numeric\" \"numeric\" \"YES\" 12",
            "\"Tags\" 5 \"ARRAY\" \"_text\" \"YES\" NULL",
            "\"customer_id\" 1 \"bigint\" \"int8\" \"NO\" 64",
            "\"id\" 2 \"integer\" \"int4\" \"NO\" 32",
            "\"placed\" 3 \"date\" \"date\" \"YES\" NULL",
            "\"note\" 4 \"character varying\" \"varchar\" \"YES\" NULL",
        ]
    );
}
