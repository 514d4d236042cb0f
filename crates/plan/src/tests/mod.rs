//! Golden tests: statements with their plans or errors.
//!
//! `golden/*.txt` hold blocks of a statement, a line `----`, and what planning it gives: EXPLAIN's lines, or
//! `ERROR code: message` with position, detail and hint. `UPDATE=1` rewrites them; the difference is to be reviewed.

mod fixture;
mod template;
mod units;

use std::fmt::Write;

use fixture::Fixture;

fn answer(f: &Fixture, sql: &str) -> String {
    match f.plan(sql) {
        Ok(p) => {
            let mut out = String::new();
            for n in &p.notices {
                let _ = writeln!(out, "NOTICE: {n}");
            }
            if let crate::StatementPlan::Ddl(d) = &p.plan {
                let _ = writeln!(out, "{}", fixture::ddl(d));
                return out;
            }
            for line in crate::explain::explain(&p, false, &f.snapshot) {
                let _ = writeln!(out, "{line}");
            }
            let _ = writeln!(out, "{}", fixture::footer(&p));
            out
        }
        Err(e) => fixture::error(&e),
    }
}

fn golden(name: &str) {
    let path = format!("{}/src/tests/golden/{name}.txt", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    let f = Fixture::new();
    let mut out = String::new();
    let mut failed = Vec::new();
    for block in text.split("\n\n").map(str::trim_end).filter(|b| !b.trim().is_empty()) {
        let (sql, expected) = block.split_once("\n----").unwrap_or((block, ""));
        if sql.trim_start().starts_with("#") && !sql.contains('\n') {
            let _ = write!(out, "{}\n\n", sql.trim());
            continue;
        }
        let statement: String = sql.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n");
        let got = without_addresses(&answer(&f, &statement));
        if got.trim() != expected.trim() {
            failed.push(format!("{sql}\nexpected:\n{}\ngot:\n{got}", expected.trim()));
        }
        let _ = write!(out, "{}\n----\n{}\n\n", sql.trim(), got.trim_end());
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{}\n", out.trim_end())).unwrap();
        return;
    }
    assert!(failed.is_empty(), "{} of {name} differ:\n\n{}", failed.len(), failed.join("\n\n"));
}

/// The addresses of functions differ from build to build.
fn without_addresses(text: &str) -> String {
    let line = |l: &str| match l.find("eval: 0x") {
        Some(at) => format!("{}eval: _,", &l[..at]),
        None => l.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn access_paths() {
    golden("access");
}

#[test]
fn partial_indexes() {
    golden("partial");
}

#[test]
fn expression_indexes() {
    golden("expression");
}

#[test]
fn joins() {
    golden("joins");
}

#[test]
fn subqueries() {
    golden("subqueries");
}

#[test]
fn queries() {
    golden("queries");
}

#[test]
fn writes() {
    golden("writes");
}

#[test]
fn schema_changes() {
    golden("ddl");
}

#[test]
fn explained_schema_changes() {
    golden("explain_ddl");
}

#[test]
fn errors() {
    golden("errors");
}

#[test]
fn types() {
    golden("types");
}

/// Statements of ordinary length whose trees are deep, or whose walk could double with each level. The server has a stack
/// for what is let through; a test's thread has not.
#[test]
fn long_chains_are_planned_or_refused() {
    stacker::grow(crate::planner::DEEP_STACK, || {
        let f = Fixture::new();
        let casts = format!("SELECT '1'{}", "::int::text".repeat(100));
        assert_eq!(f.plan(&casts).unwrap().columns.unwrap()[0].name, "text");
        let list = |n: usize, item: &dyn Fn(usize) -> String, between: &str| {
            (0..n).map(item).collect::<Vec<_>>().join(between)
        };
        let joins = |n| format!("SELECT 1 FROM {}", list(n, &|i| format!("customers t{i}"), ", "));
        let ctes = |n: usize, mention: &dyn Fn(usize) -> String| {
            let queries = list(n, &|i| format!(", c{} AS NOT MATERIALIZED ({})", i + 1, mention(i)), "");
            format!("WITH c0 AS (SELECT 1 AS a){queries} SELECT * FROM c{n}")
        };
        let twice = |i: usize| format!("SELECT x.a FROM c{i} x, c{i} y");
        let union = |i: usize| format!("SELECT a FROM c{i} UNION ALL SELECT a FROM c{i}");
        let once = |i: usize| format!("SELECT a + 1 AS a FROM c{i}");
        let shapes: [(&str, &dyn Fn(usize) -> String, usize, usize); 12] = [
            (
                "postfix operators",
                &|n| format!("SELECT id{} FROM customers", " NOTNULL".repeat(n)),
                3_500,
                9_000,
            ),
            (
                "memberships",
                &|n| format!("SELECT vip{} FROM customers", " IN (true)".repeat(n)),
                3_500,
                9_000,
            ),
            ("dimensions", &|n| format!("SELECT '{{}}'::int{}", "[]".repeat(n)), 3_500, 9_000),
            ("unions", &|n| format!("{}SELECT 1", "SELECT 1 UNION ALL ".repeat(n)), 1_500, 3_000),
            ("wide unions", &|n| format!("{}SELECT 1, 1", "SELECT 1, 1 UNION ".repeat(n)), 1_000, 3_000),
            ("sums", &|n| format!("SELECT 1{} FROM customers", " + id".repeat(n)), 3_500, 5_000),
            ("parentheses", &|n| format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n)), 240, 1_000),
            (
                "arms",
                &|n| format!("SELECT CASE {} END FROM customers", "WHEN id = 1 THEN 2 ".repeat(n)),
                9_000,
                usize::MAX,
            ),
            ("items of FROM", &joins, 100, 1_000),
            ("joins twice in each", &|n| ctes(n, &twice), 6, 30),
            ("unions twice in each", &|n| ctes(n, &union), 8, 30),
            ("queries above each other", &|n| ctes(n, &once), 500, 5_000),
        ];
        for (what, text, planned, refused) in shapes {
            if let Err(e) = f.plan(&text(planned)) {
                panic!("{planned} {what}: {e:?}");
            }
            if refused < usize::MAX {
                let e = f.plan(&text(refused)).unwrap_err();
                assert_eq!(e.state, meridian_datum::SqlState::STATEMENT_TOO_COMPLEX, "{refused} {what}");
            }
        }
    });
}
