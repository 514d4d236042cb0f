//! Transactions and schema changes in time: each transaction runs on one version of every table that it uses, the past
//! has the schema of its moment, and what a change does not touch goes on.

use super::{World, run_block};
use crate::session::Session;

/// Runs what must not fail.
async fn run(session: &mut Session, sql: &str) -> String {
    let out = run_block(session, sql).await;
    assert!(!out.contains("ERROR"), "{sql}: {out}");
    out
}

/// The timestamp of the session's last commit, as AS OF SYSTEM TIME takes it.
async fn committed(session: &mut Session) -> String {
    let shown = run(session, "show commit_timestamp").await;
    let line = shown.lines().find(|l| l.ends_with("+00"));
    format!("'{}'", line.unwrap_or_else(|| panic!("no timestamp in {shown}")))
}

#[tokio::test]
async fn the_past_has_the_schema_of_its_moment() {
    let world = World::new().await;
    let mut s = world.session().await;
    run(&mut s, "create table t (id int primary key, a int)").await;
    run(&mut s, "insert into t values (1, 10)").await;
    let first = committed(&mut s).await;
    run(&mut s, "alter table t rename column a to b").await;
    run(&mut s, "alter table t add column c text default 'x'").await;
    run(&mut s, "update t set b = 11").await;
    let second = committed(&mut s).await;
    run(&mut s, "drop table t").await;

    let old = run(&mut s, &format!("select * from t as of system time {first}")).await;
    assert_eq!(old, "[id | a]\n1 | 10\nSELECT 1\n");
    let newer = run(&mut s, &format!("select * from t as of system time {second}")).await;
    assert_eq!(newer, "[id | b | c]\n1 | 11 | x\nSELECT 1\n");
    let gone = run_block(&mut s, &format!("select b from t as of system time {first}")).await;
    assert!(gone.contains("42703"), "{gone}");
    assert!(run_block(&mut s, "select * from t").await.contains("42P01"));

    run(&mut s, &format!("begin transaction as of system time {first}")).await;
    assert_eq!(run(&mut s, "select a from t").await, "[a]\n10\nSELECT 1\n(T)\n");
    run(&mut s, "commit").await;
}

#[tokio::test]
async fn a_block_goes_on_when_others_change_what_it_does_not_use() {
    let world = World::new().await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    run(&mut a, "create table t (id int primary key)").await;
    run(&mut a, "create table u (id int primary key)").await;
    run(&mut a, "begin; insert into u values (1)").await;
    run(&mut b, "alter table t add column a int").await;
    run(&mut b, "insert into t values (1, 5)").await;
    // What the block uses from here on, it uses as it is by now.
    assert_eq!(run(&mut a, "select a from t").await, "[a]\n5\nSELECT 1\n(T)\n");
    assert_eq!(run(&mut a, "commit").await, "COMMIT\n");
}

#[tokio::test]
async fn a_block_that_spans_a_change_of_its_table_is_planned_anew_or_refused() {
    let world = World::new().await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    run(&mut a, "create table t (id int primary key)").await;
    for (retries, block, refused) in [
        ("off", "begin; insert into t values (1)", true),
        ("off", "begin; select * from t", true),
        ("on", "begin; insert into t values (2)", false),
        // It has shown rows of the old shape.
        ("on", "begin; select * from t", true),
    ] {
        run(&mut a, &format!("set transparent_retries = {retries}")).await;
        run(&mut a, block).await;
        run(&mut b, "alter table t add column a int default 7").await;
        let outcome = run_block(&mut a, "commit").await;
        assert_eq!(outcome.contains("40001"), refused, "{retries}: {block}: {outcome}");
        if !refused {
            assert_eq!(run(&mut b, "select * from t").await, "[id | a]\n2 | 7\nSELECT 1\n");
        }
        run(&mut b, "alter table t drop column a").await;
    }
    assert_eq!(run(&mut a, "select * from t").await, "[id]\n2\nSELECT 1\n");
}

#[tokio::test]
async fn single_statements_do_not_notice_changes() {
    let world = World::new().await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    run(&mut a, "create table t (id int primary key, a int)").await;
    let writes = async {
        for i in 0..400 {
            run(&mut a, &format!("insert into t values ({i}, 1)")).await;
            tokio::time::sleep(std::time::Duration::from_micros(500)).await;
        }
    };
    let changes = async {
        for (from, to) in [("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")] {
            run(&mut b, &format!("alter table t rename column {from} to {to}")).await;
        }
    };
    tokio::join!(writes, changes);
    assert_eq!(run(&mut a, "select count(a), sum(a) from t").await, "[count | sum]\n400 | 400\nSELECT 1\n");
}

#[tokio::test]
async fn a_block_changes_the_schema_and_its_rows_together() {
    let world = World::new().await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    run(&mut a, "create table t (id int primary key)").await;
    run(&mut a, "begin; alter table t add column a int; insert into t values (1, 7)").await;
    assert_eq!(run(&mut b, "select * from t").await, "[id]\nSELECT 0\n");
    run(&mut a, "commit").await;
    assert_eq!(run(&mut b, "select * from t").await, "[id | a]\n1 | 7\nSELECT 1\n");
    run(&mut a, "begin; alter table t drop column a; rollback").await;
    assert_eq!(run(&mut b, "select a from t").await, "[a]\n7\nSELECT 1\n");
}

#[tokio::test]
async fn what_a_block_did_to_rows_outlasts_writers_on_the_old_schema() {
    let world = World::new().await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    run(&mut a, "create table t (id int primary key, n int not null)").await;
    run(&mut a, "insert into t values (1, 0)").await;
    run(&mut a, "begin; alter table t add column a int; update t set a = 7").await;
    // Planned on the old schema, it waits for the row, and would write the row without the column between the commit
    // and the activation if it could.
    let writer = async { run(&mut b, "update t set n = n + 1").await };
    let (_, written) = tokio::join!(run(&mut a, "commit"), writer);
    assert_eq!(written, "UPDATE 1\n");
    assert_eq!(run(&mut a, "select * from t").await, "[id | n | a]\n1 | 1 | 7\nSELECT 1\n");
}
