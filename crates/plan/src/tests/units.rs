//! Properties that EXPLAIN does not show.

use meridian_datum::SqlState;

use super::fixture::Fixture;
use crate::planned::{AsOf, StatementPlan};
use crate::session::SessionStatement;
use crate::{CommandTag, parse};

#[test]
fn nesting_is_refused_before_it_recurses() {
    for sql in [
        format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("SELECT {}", vec!["1"; 100_000].join("+")),
        format!("SELECT {}", vec!["true"; 100_000].join(" AND ")),
        format!("SELECT {} true", "NOT ".repeat(100_000)),
        format!("SELECT {}1", "- ".repeat(100_000)),
        vec!["SELECT 1"; 50_000].join(" UNION "),
        format!("SELECT {} 1 {}", "CASE WHEN true THEN ".repeat(10_000), "END ".repeat(10_000)),
    ] {
        let e = parse(&sql).unwrap_err();
        assert_eq!(e.state, SqlState::STATEMENT_TOO_COMPLEX, "{}: {e}", &sql[..40]);
    }
}

#[test]
fn what_is_allowed_fits_a_small_stack() {
    let statements = [
        format!("SELECT {}1{}", "(".repeat(90), ")".repeat(90)),
        format!("SELECT {}", vec!["1"; 800].join("+")),
        format!("SELECT aid FROM accounts WHERE {}", vec!["aid + 1 = 1"; 3_000].join(" OR ")),
        format!("SELECT aid FROM accounts WHERE aid IN ({})", vec!["1"; 20_000].join(",")),
        format!("INSERT INTO customers VALUES {}", vec!["(1, 'x', 'y', true)"; 5_000].join(",")),
    ];
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            let f = Fixture::new();
            for sql in &statements {
                f.plan(sql).unwrap();
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn statements_are_taken_apart() {
    let parsed = parse("SELECT 1; ; insert into t values ('a;b');\n BEGIN ;").unwrap();
    let texts: Vec<&str> = parsed.iter().map(|p| &*p.text).collect();
    assert_eq!(texts, ["SELECT 1", "insert into t values ('a;b')", "BEGIN"]);
    assert!(parse("").unwrap().is_empty());
    assert!(parse(" ;; -- nothing\n").unwrap().is_empty());
}

#[test]
fn positions_count_characters_in_the_whole_text() {
    let f = Fixture::new();
    let parsed = parse("SELECT 'é';\nSELECT\n  'ü', nope FROM customers").unwrap();
    let e = crate::plan_statement(&f.ctx(), &parsed[1]).unwrap_err();
    assert_eq!(e.position, Some(27));
}

#[test]
fn points_are_short() {
    let f = Fixture::new();
    let plan = |sql: &str| f.plan(sql).unwrap().plan;
    assert!(matches!(plan("SELECT abalance FROM accounts WHERE aid = $1"), StatementPlan::PointSelect(_)));
    assert!(matches!(plan("SELECT * FROM accounts WHERE aid = 7 FOR UPDATE"), StatementPlan::PointSelect(_)));
    assert!(matches!(
        plan("UPDATE accounts SET abalance = abalance + $1 WHERE aid = $2"),
        StatementPlan::PointUpdate(_)
    ));
    assert!(matches!(plan("DELETE FROM accounts WHERE aid = $1"), StatementPlan::PointDelete(_)));
    assert!(matches!(plan("INSERT INTO accounts VALUES ($1, 2, 3, 'x')"), StatementPlan::PointInsert(_)));
    assert!(matches!(plan("INSERT INTO log VALUES (now(), 'x')"), StatementPlan::PointInsert(_)));
    assert!(matches!(plan("UPDATE accounts SET aid = 1 WHERE aid = 2"), StatementPlan::Query(_)));
    assert!(matches!(plan("SELECT abalance FROM accounts WHERE aid IN (1, 2)"), StatementPlan::Query(_)));
    // Rows interleaved in a deleted one must follow it.
    assert!(matches!(plan("DELETE FROM orders WHERE id = 1"), StatementPlan::Query(_)));
}

#[test]
fn tags_and_flags() {
    let f = Fixture::new();
    let p = f.plan("SELECT abalance FROM accounts WHERE aid = $1").unwrap();
    assert!(p.is_read_only && p.single_operation && p.cacheable);
    assert_eq!(p.columns.as_ref().unwrap()[0].origin, (16_400, 3));
    assert_eq!(p.tag, CommandTag::Select);
    assert!(!f.plan("SELECT 1 FROM accounts FOR UPDATE").unwrap().is_read_only);
    assert!(!f.plan("SELECT 'today'::date").unwrap().cacheable);
    assert!(!f.plan("WITH x AS (DELETE FROM log RETURNING note) SELECT * FROM x").unwrap().is_read_only);
    assert_eq!(f.plan("CREATE TABLE t (a int)").unwrap().tag, CommandTag::Plain("CREATE TABLE"));
}

#[test]
fn commands_of_the_session() {
    use SessionStatement as S;
    let f = Fixture::new();
    let session = |sql: &str| match f.plan(sql).unwrap().plan {
        StatementPlan::Session(s) => *s,
        other => panic!("{other:?}"),
    };
    let S::Begin(m) = session("begin isolation level repeatable read, read only") else { panic!() };
    assert_eq!(m.read_only, Some(true));
    let S::Set { name, value, local } = session("SET LOCAL search_path TO a, \"B\", 'c'") else { panic!() };
    assert_eq!((name.as_str(), value.as_deref(), local), ("search_path", Some("a, B, c"), true));
    let S::Set { value, .. } = session("set statement_timeout = default") else { panic!() };
    assert_eq!(value, None);
    let S::Show(name) = session("SHOW TRANSACTION ISOLATION LEVEL") else { panic!() };
    assert_eq!(name, "transaction_isolation");
    assert!(matches!(session("VACUUM (ANALYZE) accounts"), S::Maintenance { analyze: true, .. }));
    assert!(matches!(session("vacuum analyze accounts"), S::Maintenance { analyze: true, .. }));
    let S::Prepare { types, statement, .. } = session("PREPARE q (int, text) AS SELECT $1, $2") else {
        panic!()
    };
    assert_eq!(types.len(), 2);
    assert!(statement.text.contains("SELECT"));
    let S::Execute { args, .. } = session("EXECUTE q (1 + 1, 'x')") else { panic!() };
    assert_eq!(args.len(), 2);
    let S::Copy(_) = session("COPY accounts (aid, bid) FROM STDIN WITH (FORMAT csv, HEADER true)") else {
        panic!()
    };
    let S::Copy(_) = session("copy (select 1) to stdout") else { panic!() };
    let S::SetTransaction(m) = session("SET TRANSACTION AS OF SYSTEM TIME '-10s'") else { panic!() };
    assert_eq!(m.as_of, Some(AsOf::Ago(10_000_000_000)));
}

#[test]
fn as_of_names_a_moment() {
    let f = Fixture::new();
    let as_of = |text: &str| f.plan(&format!("SELECT * FROM log AS OF SYSTEM TIME {text}")).unwrap().as_of;
    let at = |n| Some(AsOf::At(meridian_types::Timestamp::from_nanos(n)));
    assert_eq!(as_of("'-10s'"), Some(AsOf::Ago(10_000_000_000)));
    assert_eq!(as_of("1700000000000000001"), at(1_700_000_000_000_000_001));
    assert_eq!(as_of("'1970-01-01 00:00:01.123456789+00'"), at(1_123_456_789));
}
