use meridian_datum::{DataType, Datum, SqlState};

use super::reg::split_name;
use super::*;
use crate::fixture::{
    APP, BALANCE_CHECK, CUSTOMERS, CUSTOMERS_EMAIL_KEY, CUSTOMERS_PKEY, LOG, ORDERS, ORDERS_PLACED_IDX,
    TestSession, session, snapshot,
};

fn type_of(d: &Datum) -> DataType {
    match d {
        Datum::Int(_) => DataType::Oid,
        Datum::Bool(_) => DataType::Bool,
        Datum::Numeric(_) => DataType::Numeric(None),
        _ => DataType::Text,
    }
}

fn try_call(session: &TestSession, name: &str, args: &[Datum]) -> Result<Datum> {
    let types: Vec<DataType> = args.iter().map(type_of).collect();
    let (function, _) = lookup_catalog_function(name, &types).expect("the function exists");
    evaluate(function, args, &snapshot(), session)
}

fn call(name: &str, args: &[Datum]) -> String {
    let public = session(&["$user", "public"]);
    match try_call(&public, name, args).unwrap() {
        Datum::Text(s) => s.to_string(),
        other => format!("{other:?}"),
    }
}

fn n(v: u32) -> Datum {
    Datum::Int(i64::from(v))
}

fn s(v: &str) -> Datum {
    Datum::from(v)
}

#[test]
fn answers() {
    let yes = || Datum::Bool(true);
    let cases: Vec<(&str, Vec<Datum>, &str)> = vec![
        ("version", vec![], concat!("PostgreSQL 15.0 (Meridian ", env!("CARGO_PKG_VERSION"), ")")),
        ("current_database", vec![], "defaultdb"),
        ("current_schema", vec![], "public"),
        ("current_schemas", vec![yes()], "[\"pg_catalog\", \"public\"]"),
        ("current_schemas", vec![Datum::Bool(false)], "[\"public\"]"),
        ("current_user", vec![], "root"),
        ("session_user", vec![], "alice"),
        ("pg_backend_pid", vec![], "77"),
        ("inet_client_addr", vec![], "127.0.0.1"),
        ("inet_server_port", vec![], "NULL"),
        ("pg_encoding_to_char", vec![n(6)], "UTF8"),
        ("pg_encoding_to_char", vec![n(99)], ""),
        ("pg_char_to_encoding", vec![s("utf-8")], "6"),
        ("pg_is_in_recovery", vec![], "false"),
        ("pg_get_userbyid", vec![n(10)], "root"),
        ("pg_get_userbyid", vec![n(11)], "unknown (OID=11)"),
        ("format_type", vec![n(1043), Datum::Int(44)], "character varying(40)"),
        ("format_type", vec![n(1042), Datum::Int(-1)], "bpchar"),
        ("format_type", vec![n(1042), Datum::Null], "character"),
        ("format_type", vec![n(1007), Datum::Null], "integer[]"),
        ("format_type", vec![n(0), Datum::Null], "-"),
        ("format_type", vec![n(3), Datum::Null], "???"),
        ("format_type", vec![Datum::Null, Datum::Null], "NULL"),
        ("pg_get_expr", vec![s("1 + 1"), n(CUSTOMERS.0)], "1 + 1"),
        (
            "pg_get_indexdef",
            vec![n(CUSTOMERS_PKEY)],
            "CREATE UNIQUE INDEX customers_pkey ON app.customers USING btree (id)",
        ),
        (
            "pg_get_indexdef",
            vec![n(ORDERS_PLACED_IDX), Datum::Int(0), yes()],
            "CREATE INDEX orders_placed_idx ON app.orders USING btree (placed DESC) INCLUDE (note)",
        ),
        ("pg_get_indexdef", vec![n(ORDERS_PLACED_IDX), Datum::Int(1), yes()], "placed"),
        ("pg_get_indexdef", vec![n(ORDERS_PLACED_IDX), Datum::Int(2), yes()], "note"),
        ("pg_get_indexdef", vec![n(ORDERS_PLACED_IDX), Datum::Int(3), yes()], "NULL"),
        ("pg_get_indexdef", vec![n(CUSTOMERS.0)], "NULL"),
        ("pg_get_constraintdef", vec![n(16_403)], "PRIMARY KEY (id)"),
        ("pg_get_constraintdef", vec![n(16_405), yes()], "UNIQUE (email)"),
        ("pg_get_constraintdef", vec![n(BALANCE_CHECK)], "CHECK ((balance >= 0))"),
        ("pg_get_constraintdef", vec![n(BALANCE_CHECK), yes()], "CHECK (balance >= 0)"),
        ("pg_get_viewdef", vec![n(CUSTOMERS.0)], "NULL"),
        ("pg_get_serial_sequence", vec![s("app.customers"), s("id")], "app.customers_id_seq"),
        ("pg_get_serial_sequence", vec![s("app.customers"), s("email")], "NULL"),
        ("obj_description", vec![n(CUSTOMERS.0), s("pg_class")], "NULL"),
        ("pg_table_is_visible", vec![n(CUSTOMERS.0)], "false"),
        ("pg_table_is_visible", vec![n(LOG.0)], "true"),
        ("pg_table_is_visible", vec![n(1259)], "true"),
        ("pg_table_is_visible", vec![n(1)], "NULL"),
        ("has_table_privilege", vec![s("app.customers"), s("select")], "true"),
        ("has_table_privilege", vec![s("root"), n(CUSTOMERS.0), s("select")], "true"),
        ("has_table_privilege", vec![n(1), s("select")], "NULL"),
        ("has_column_privilege", vec![s("app.customers"), s("Tags"), s("select")], "true"),
        ("has_schema_privilege", vec![s("app"), s("usage")], "true"),
        ("has_database_privilege", vec![s("defaultdb"), s("connect")], "true"),
        ("pg_has_role", vec![s("root"), s("member")], "true"),
        ("to_regclass", vec![s("app.customers")], "16401"),
        ("to_regclass", vec![s("customers")], "NULL"),
        ("to_regclass", vec![s("16401")], "NULL"),
        ("to_regtype", vec![s("numeric(10, 2)[]")], "1231"),
        ("to_regtype", vec![s("timestamp without  time zone")], "1114"),
        ("to_regtype", vec![s("pg_catalog.int4")], "23"),
        ("to_regtype", vec![s("\"char\"")], "18"),
        ("to_regtype", vec![s("hstore")], "NULL"),
        ("to_regnamespace", vec![s("app")], "16400"),
        ("to_regrole", vec![s("root")], "10"),
        ("to_regrole", vec![s("nobody")], "NULL"),
        ("pg_size_pretty", vec![Datum::Int(12_345)], "12 kB"),
        ("pg_relation_is_updatable", vec![n(CUSTOMERS.0), yes()], "28"),
        ("pg_relation_is_updatable", vec![n(1259), yes()], "0"),
        (
            "pg_describe_object",
            vec![n(1259), n(CUSTOMERS.0), Datum::Int(2)],
            "column email of table customers",
        ),
        ("pg_describe_object", vec![n(2615), n(APP.0), Datum::Int(0)], "schema app"),
        ("pg_index_column_has_property", vec![n(ORDERS_PLACED_IDX), Datum::Int(1), s("desc")], "true"),
        (
            "pg_index_column_has_property",
            vec![n(CUSTOMERS_EMAIL_KEY), Datum::Int(1), s("nulls_last")],
            "true",
        ),
    ];
    for (name, args, expected) in cases {
        assert_eq!(call(name, &args), expected, "{name}{args:?}");
    }
}

#[test]
fn an_interleaved_child_refers_to_its_parent() {
    let snapshot = snapshot();
    let table = snapshot.table(ORDERS).unwrap();
    let parent = crate::pg_catalog::constraints::of(&snapshot, table).pop().unwrap();
    assert_eq!(parent.name, "orders_parent_fkey");
    let def = "FOREIGN KEY (customer_id) REFERENCES app.customers(id) ON DELETE CASCADE";
    assert_eq!(call("pg_get_constraintdef", &[n(parent.oid), Datum::Bool(true)]), def);
}

#[test]
fn sizes_follow_statistics() {
    let size = |name: &str, oid: u32| call(name, &[n(oid)]).parse::<i64>().unwrap();
    assert!(size("pg_table_size", CUSTOMERS.0) >= 1000 * 8);
    let total = size("pg_table_size", CUSTOMERS.0) + size("pg_indexes_size", CUSTOMERS.0);
    assert_eq!(size("pg_total_relation_size", CUSTOMERS.0), total);
    assert_eq!(size("pg_table_size", ORDERS.0), 0, "never analyzed");
}

#[test]
fn missing_objects_are_postgres_errors() {
    let public = session(&["public"]);
    let cases: Vec<(&str, Vec<Datum>, SqlState, &str)> = vec![
        (
            "has_table_privilege",
            vec![s("nope"), s("select")],
            SqlState::UNDEFINED_TABLE,
            "relation \"nope\" does not exist",
        ),
        (
            "has_schema_privilege",
            vec![s("nope"), s("usage")],
            SqlState::INVALID_SCHEMA_NAME,
            "schema \"nope\" does not exist",
        ),
        (
            "current_setting",
            vec![s("a.b")],
            SqlState::UNDEFINED_OBJECT,
            "unrecognized configuration parameter \"a.b\"",
        ),
        ("regtypein", vec![s("nope")], SqlState::UNDEFINED_OBJECT, "type \"nope\" does not exist"),
        ("regprocin", vec![s("nope")], SqlState::UNDEFINED_FUNCTION, "function \"nope\" does not exist"),
        ("to_regclass", vec![s("a..b")], SqlState::INVALID_NAME, "invalid name syntax"),
    ];
    for (name, args, state, message) in cases {
        let error = try_call(&public, name, &args).unwrap_err();
        assert_eq!((error.state, &*error.message), (state, message), "{name}");
    }
}

#[test]
fn settings_are_the_sessions() {
    let public = session(&["public"]);
    let set = [s("my.x"), s("1"), Datum::Bool(false)];
    assert_eq!(try_call(&public, "set_config", &set).unwrap().as_str(), Some("1"));
    assert_eq!(try_call(&public, "current_setting", &[s("my.x")]).unwrap().as_str(), Some("1"));
    let missing = [s("my.y"), Datum::Bool(true)];
    assert!(try_call(&public, "current_setting", &missing).unwrap().is_null());
}

#[test]
fn names_read_back() {
    let snapshot = snapshot();
    let public = session(&["$user", "public"]);
    for (ty, text, oid) in [
        (DataType::RegClass, "app.customers", CUSTOMERS.0),
        (DataType::RegClass, "app.orders_placed_idx", ORDERS_PLACED_IDX),
        (DataType::RegClass, "log", LOG.0),
        (DataType::RegClass, "pg_class", 1259),
        (DataType::RegClass, "information_schema.tables", 13425),
        (DataType::RegClass, "-", 0),
        (DataType::RegClass, "4711", 4711),
        (DataType::RegType, "character varying", 1043),
        (DataType::RegType, "integer[]", 1007),
        (DataType::RegProc, "array_in", 750),
        (DataType::RegNamespace, "app", APP.0),
        (DataType::RegNamespace, "pg_catalog", 11),
    ] {
        assert_eq!(
            parse_reg(&snapshot, "defaultdb", &public.path, "root", text, &ty).unwrap(),
            oid,
            "{text}"
        );
        assert_eq!(reg_text(oid, &ty, &snapshot, &public), text);
        let input = evaluate(reg_input(&ty), &[s(text)], &snapshot, &public).unwrap();
        assert_eq!(input.as_int(), Some(i64::from(oid)));
        let output = evaluate(reg_output(&ty), &[n(oid)], &snapshot, &public).unwrap();
        assert_eq!(output.as_str(), Some(text));
    }
    let app = session(&["app"]);
    assert_eq!(reg_text(CUSTOMERS.0, &DataType::RegClass, &snapshot, &app), "customers");
    assert_eq!(reg_text(LOG.0, &DataType::RegClass, &snapshot, &app), "public.log");
}

#[test]
fn identifiers() {
    // Answers of PostgreSQL 15's quote_ident.
    for (name, quoted) in [
        ("abc", "abc"),
        ("a_1", "a_1"),
        ("1a", "\"1a\""),
        ("A", "\"A\""),
        ("a b", "\"a b\""),
        ("a\"b", "\"a\"\"b\""),
        ("select", "\"select\""),
        ("user", "\"user\""),
        ("name", "name"),
        ("value", "value"),
        ("values", "\"values\""),
        ("", "\"\""),
    ] {
        assert_eq!(quote_ident(name), quoted);
    }
    assert_eq!(split_name("a.\"B.c\"").unwrap(), ["a", "B.c"]);
    assert_eq!(split_name(" Ab ").unwrap(), ["ab"]);
    for bad in ["", ".", "a.", "\"a", "\"a\"b"] {
        assert!(split_name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn every_function_is_found_and_typed() {
    for (name, args, result) in signatures() {
        let (function, types) = lookup_catalog_function(name, &args).unwrap();
        assert_eq!(types.len(), args.len());
        assert_eq!(function.result_type(), result, "{name}");
    }
    let (size, types) = lookup_catalog_function("pg_size_pretty", &[DataType::Numeric(None)]).unwrap();
    assert_eq!((size, types), (CatalogFunction::SizePretty, vec![DataType::Numeric(None)]));
    let (_, types) =
        lookup_catalog_function("has_table_privilege", &[DataType::Unknown, DataType::Text]).unwrap();
    assert_eq!(types, [DataType::Text, DataType::Text]);
    assert!(lookup_catalog_function("lower", &[DataType::Text]).is_none());
}
