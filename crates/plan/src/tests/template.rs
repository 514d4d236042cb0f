//! Texts that share a plan.

use meridian_datum::DataType;

use super::fixture::Fixture;
use crate::planned::StatementPlan;
use crate::{Literal, ParsedStatement, Template};

fn parametrised(sql: &str) -> Option<ParsedStatement> {
    let parsed = crate::parse(sql).unwrap();
    Template::of(sql)?.parametrise(&parsed[0])
}

#[test]
fn texts_that_differ_in_literals_share_a_template() {
    let a = Template::of("UPDATE accounts SET abalance = abalance + -42 WHERE aid = 7;").unwrap();
    let b = Template::of("UPDATE accounts SET abalance = abalance + -2147483647 WHERE aid = 0;").unwrap();
    assert_eq!(a.text, b.text);
    assert_eq!(a.literals, [Literal::Int(42), Literal::Int(7)]);
    assert_eq!(a.types, [DataType::Int4, DataType::Int4]);
    let c = Template::of("UPDATE accounts SET abalance = abalance + -42 WHERE aid = 3000000000;").unwrap();
    assert_ne!(a.text, c.text, "another type of literal is another statement");
    let s = Template::of("SELECT 'it''s', 'é', \"a'1\" FROM t1 WHERE x = 'é' AND y = 5").unwrap();
    let text = |t: &str| Literal::Text(t.to_owned());
    assert_eq!(s.literals, [text("it's"), text("é"), text("é"), Literal::Int(5)]);
}

#[test]
fn texts_out_of_the_ordinary_have_none() {
    for sql in [
        "SELECT 1 -- x",
        "SELECT /* 1 */ 1",
        "SELECT E'a\\n', 1",
        "SELECT U&'a', 1",
        "SELECT $1, 1",
        "SELECT $$a$$, 1",
        "SELECT 0x1f",
        "SELECT 1e5, 1",
        "SELECT 1_000, 1",
        "SELECT .5, 1",
        "SELECT 'open, 1",
        "SELECT 'a\\', 1",
        "SELECT x FROM t",
        "BEGIN",
        "SELECT 1\x01",
    ] {
        assert_eq!(Template::of(sql), None, "{sql}");
    }
}

#[test]
fn literals_that_are_no_expressions_are_not_replaced() {
    for sql in [
        "SELECT abalance::varchar(3) FROM accounts WHERE aid = 1",
        "SELECT date '2020-01-01' FROM accounts WHERE aid = 1",
        "SELECT interval '1' day FROM accounts WHERE aid = 1",
        "SELECT abalance FROM accounts WHERE aid = 1 ORDER BY 1",
        "SELECT abalance FROM accounts WHERE aid = 1 GROUP BY 1",
        "SELECT abalance FROM accounts WHERE aid = 1 LIMIT 1",
        "SELECT DISTINCT abalance FROM accounts WHERE aid = 1",
        "SELECT abalance FROM accounts AS OF SYSTEM TIME '-1s' WHERE aid = 1",
    ] {
        assert!(parametrised(sql).is_none(), "{sql}");
    }
}

#[test]
fn a_template_plans_as_its_texts_do() {
    let f = Fixture::new();
    for (sql, types) in [
        ("SELECT abalance FROM accounts WHERE aid = 7", vec![DataType::Int4]),
        ("UPDATE accounts SET abalance = abalance + -5 WHERE aid = 7", vec![DataType::Int4, DataType::Int4]),
        ("DELETE FROM accounts WHERE aid = '7'", vec![DataType::Int4]),
    ] {
        let template = Template::of(sql).unwrap();
        let statement = parametrised(sql).unwrap();
        let mut ctx = f.ctx();
        ctx.param_types = &template.types;
        let planned = crate::plan_statement(&ctx, &statement).unwrap();
        assert_eq!(planned.param_types, types, "{sql}");
        let literal = f.plan(sql).unwrap();
        assert_eq!(planned.columns, literal.columns, "{sql}");
        assert_eq!(
            std::mem::discriminant(&planned.plan),
            std::mem::discriminant(&literal.plan),
            "{sql}: a point statement stays one"
        );
        assert!(!matches!(planned.plan, StatementPlan::Query(_)), "{sql}");
    }
}
