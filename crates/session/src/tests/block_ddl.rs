//! Schema changes in transaction blocks on tables with rows, beside writers that know nothing of them.

use super::jobs::{keys, settle, table};
use super::{World, run_block};
use crate::session::Session;

/// Runs what must not fail.
async fn run(session: &mut Session, sql: &str) -> String {
    let out = run_block(session, sql).await;
    assert!(!out.contains("ERROR"), "{sql}: {out}");
    out
}

/// A table of four rows, and two sessions.
async fn world() -> (World, Session, Session) {
    let world = World::new().await;
    let (mut a, b) = (world.session().await, world.session().await);
    run(&mut a, "create table t (id int primary key, a int, n int not null default 0)").await;
    run(&mut a, "insert into t select g, g * 10 from generate_series(1, 4) g").await;
    (world, a, b)
}

/// Runs `block` in a block, lets `writer` come to its lock on the old schema, and commits; what the writer was told.
async fn beside(a: &mut Session, b: &mut Session, block: &str, writer: &str) -> String {
    run(a, &format!("begin; {block}")).await;
    // The writer is planned on the old schema and waits for the block before the commit begins.
    let (told, _) = tokio::join!(run_block(b, writer), run(a, "commit"));
    run(a, "select meridian.check_table('t')").await;
    told
}

#[tokio::test]
async fn what_a_block_has_checked_holds_for_writers_on_the_old_schema() {
    let (_world, mut a, mut b) = world().await;
    let told =
        beside(&mut a, &mut b, "alter table t alter a set not null", "insert into t values (5, null)").await;
    assert!(told.contains("23502"), "{told}");
    let told =
        beside(&mut a, &mut b, "alter table t add constraint k check (a < 100)", "update t set a = a * 10")
            .await;
    assert!(told.contains("23514"), "{told}");
    run(&mut a, "alter table t add constraint v check (n < 5) not valid").await;
    let told =
        beside(&mut a, &mut b, "alter table t validate constraint v", "update t set n = n + 1 where id = 2")
            .await;
    assert_eq!(told, "UPDATE 1\n");
    assert_eq!(
        run(&mut b, "select sum(a), sum(n), count(*) from t").await,
        "[sum | sum | count]\n100 | 1 | 4\nSELECT 1\n"
    );
}

#[tokio::test]
async fn writers_on_the_old_schema_do_not_miss_an_index_of_a_block() {
    let (_world, mut a, mut b) = world().await;
    let told =
        beside(&mut a, &mut b, "create unique index i on t (a)", "insert into t values (5, 50), (6, 40)")
            .await;
    assert!(told.contains("23505") && told.contains("\"i\""), "{told}");
    let told =
        beside(&mut a, &mut b, "create index j on t (n) include (a)", "insert into t values (7, 70, 7)")
            .await;
    assert_eq!(told, "INSERT 0 1\n");
    let told =
        beside(&mut a, &mut b, "alter table t add unique (n, id)", "update t set n = 8 where id = 7").await;
    assert_eq!(told, "UPDATE 1\n");
    let told =
        beside(&mut a, &mut b, "create index k on t ((a + n)) where n > 0", "delete from t where id = 7")
            .await;
    assert_eq!(told, "DELETE 1\n");
    assert_eq!(run(&mut b, "select id from t where a = 40").await, "[id]\n4\nSELECT 1\n");
    assert_eq!(run(&mut b, "select count(*) from t where n = 8").await, "[count]\n0\nSELECT 1\n");
}

/// Rows without a key of the user's are inserted without a read: their locks are taken by the commit itself, which is under
/// way when the block announces its activation.
#[tokio::test]
async fn commits_that_wait_for_a_block_do_not_hold_its_activation_up() {
    let (_world, mut a, mut b) = world().await;
    run(&mut a, "create table u (a int)").await;
    run(&mut a, "insert into u values (1), (2)").await;
    for (block, told) in [
        ("create index on u (a)", "INSERT 0 1\n"),
        ("alter table u add column b int default 1", "INSERT 0 1\n"),
        ("alter table u add constraint k check (a < 3)", "23514"),
    ] {
        run(&mut a, &format!("begin; {block}")).await;
        let (writer, _) = tokio::join!(run_block(&mut b, "insert into u values (7)"), run(&mut a, "commit"));
        assert!(writer.contains(told), "{block}: {writer}");
        run(&mut a, "select meridian.check_table('u'); delete from u where a = 7").await;
    }
}

#[tokio::test]
async fn writers_on_the_old_schema_do_not_miss_a_rewrite_of_a_block() {
    let (world, mut a, mut b) = world().await;
    run(&mut a, "create index i on t (n)").await;
    let before = table(&world, "t").await.storage;
    let told = beside(
        &mut a,
        &mut b,
        "alter table t alter a type text using 'a' || a; insert into t values (5, 'new')",
        "update t set n = n + 1 where id < 3",
    )
    .await;
    assert_eq!(told, "UPDATE 2\n");
    let rows = "[id | a | n]\n1 | a10 | 1\n2 | a20 | 1\n3 | a30 | 0\n4 | a40 | 0\n5 | new | 0\nSELECT 5\n";
    assert_eq!(run(&mut b, "select * from t order by id").await, rows);
    assert_eq!(run(&mut b, "select count(*) from t where n = 1").await, "[count]\n2\nSELECT 1\n");
    settle(&world).await;
    assert_eq!(keys(&world, before).await, 0, "the old storage is removed");
    assert_eq!(run(&mut b, "select * from t order by id").await, rows);
}

#[tokio::test]
async fn what_is_rewritten_twice_in_a_block_leaves_one_storage() {
    let (world, mut a, _) = world().await;
    let before = table(&world, "t").await.storage;
    run(&mut a, "begin; alter table t alter a type bigint; update t set n = 3 where id = 1").await;
    run(&mut a, "alter table t alter a type text; commit").await;
    settle(&world).await;
    let after = table(&world, "t").await.storage;
    let mut left = 0;
    for storage in before.0..after.0 {
        left += keys(&world, meridian_catalog::TableId(storage)).await;
    }
    assert_eq!((left, keys(&world, after).await), (0, 4));
    assert_eq!(
        run(&mut a, "select a, n from t where id < 3 order by id").await,
        "[a | n]\n10 | 3\n20 | 0\nSELECT 2\n"
    );
}

#[tokio::test]
async fn a_failed_change_in_a_block_leaves_the_old_schema() {
    let (world, mut a, mut b) = world().await;
    run(&mut a, "insert into t values (5, null), (6, 10)").await;
    let before = table(&world, "t").await;
    for (change, state, says) in [
        (
            "alter table t alter a set not null",
            "23502",
            "column \"a\" of relation \"t\" contains null values",
        ),
        (
            "alter table t add check (a > 10)",
            "23514",
            "check constraint \"t_a_check\" of relation \"t\" is violated by some row",
        ),
        ("create unique index on t (a)", "23505", "Key (a)=(10) is duplicated."),
        ("alter table t add unique (a)", "23505", "Key (a)=(10) is duplicated."),
        ("alter table t alter n type int using 1 / (n - n)", "22012", "division by zero"),
        (
            "alter table t add column c int not null",
            "23502",
            "column \"c\" of relation \"t\" contains null values",
        ),
    ] {
        let told = run_block(&mut a, &format!("begin; savepoint s; {change}")).await;
        assert!(told.contains(state) && told.contains(says), "{change}: {told}");
        run(&mut a, "rollback to s; update t set n = n + 1 where id = 1; commit").await;
        assert_eq!(table(&world, "t").await, before, "{change}");
    }
    run(&mut a, "select meridian.check_table('t')").await;
    assert_eq!(run(&mut b, "select n from t where id = 1").await, "[n]\n6\nSELECT 1\n");
}

#[tokio::test]
async fn going_back_to_a_savepoint_undoes_what_the_catalog_was() {
    let (_world, mut a, mut b) = world().await;
    run(&mut a, "begin; savepoint s; alter table t add column c int; update t set c = 1; rollback to s")
        .await;
    assert_eq!(
        run(&mut a, "select * from t where id = 1").await,
        "[id | a | n]\n1 | 10 | 0\nSELECT 1\n(T)\n"
    );
    run(&mut a, "alter table t add column d text; savepoint s; alter table t drop column d; rollback to s")
        .await;
    run(&mut a, "update t set d = 'x'; commit").await;
    assert_eq!(
        run(&mut b, "select * from t where id = 1").await,
        "[id | a | n | d]\n1 | 10 | 0 | x\nSELECT 1\n"
    );
    // Two catalogs of the same version, one after the other.
    run(&mut a, "begin; savepoint s; create table u (x int); insert into u values (1); rollback to s").await;
    run(&mut a, "create table u (x text); insert into u values ('one'); commit").await;
    assert_eq!(run(&mut b, "select * from u").await, "[x]\none\nSELECT 1\n");
}

#[tokio::test]
async fn a_change_beyond_the_limit_of_a_transaction_is_refused_with_the_way_out() {
    let (world, mut a, _) = world().await;
    run(&mut a, "set cluster setting transactions.bytes_max = '16MB'").await;
    run(&mut a, "create table wide (id int primary key, a text)").await;
    for half in ["1, 1500", "1501, 3000"] {
        run(&mut a, &format!("insert into wide select g, repeat('x', 6000) from generate_series({half}) g"))
            .await;
    }
    let before = table(&world, "wide").await;
    for change in
        ["create index on wide (id) include (a)", "alter table wide alter a type text using a || 'x'"]
    {
        let told = run_block(&mut a, &format!("begin; {change}")).await;
        assert!(told.contains("54000") && told.contains("outside of a transaction block"), "{told}");
        run(&mut a, "rollback").await;
        assert_eq!(table(&world, "wide").await, before);
    }
}

/// Writers go on at full speed while blocks change the table in every way that looks at rows.
#[tokio::test]
async fn blocks_of_changes_lose_no_write() {
    let (world, mut a, mut b) = world().await;
    let mut c = world.session().await;
    let done = std::cell::Cell::new(false);
    let changes = async {
        for _ in 0..3 {
            for change in [
                "create unique index i on t (id, n); create index j on t (n)",
                "alter table t add constraint k check (n >= 0), alter a set not null",
                "alter table t alter a type bigint; drop index j",
                "alter table t add column c text default 'c', drop constraint k; drop index i",
                "alter table t alter a type int, alter a drop not null, drop column c",
            ] {
                let block =
                    format!("begin; {change}; insert into t values (-1, 1, 1); delete from t where id = -1");
                loop {
                    let out = run_block(&mut a, &block).await + &run_block(&mut a, "commit").await;
                    if !out.contains("ERROR") {
                        break;
                    }
                    assert!(out.contains("40001"), "{change}: {out}");
                }
                run(&mut a, "select meridian.check_table('t')").await;
            }
        }
        done.set(true);
    };
    let updates = async {
        let mut count = 0;
        while !done.get() {
            run(&mut b, "update t set n = n + 1 where id = 1").await;
            count += 1;
            tokio::task::yield_now().await;
        }
        count
    };
    // A table that grows without end takes ever longer to rewrite within a transaction.
    let inserts = async {
        let mut count = 0;
        while !done.get() && count < 300 {
            run(&mut c, &format!("insert into t (id, a) values ({}, 0)", 10 + count)).await;
            count += 1;
            tokio::task::yield_now().await;
        }
        count
    };
    let ((), updated, inserted) = tokio::join!(changes, updates, inserts);
    assert!(updated > 10 && inserted > 10, "{updated} {inserted}");
    let expected = format!("[n | count]\n{updated} | {}\nSELECT 1\n", inserted + 4);
    let shown = run(&mut a, "select (select n from t where id = 1) as n, count(*) from t").await;
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn indexes_of_one_message_are_made_together() {
    let (world, mut a, mut b) = world().await;
    let tags = "CREATE INDEX\nCREATE INDEX\nCREATE INDEX\n";
    let three = "create index i on t (a); create index j on t (n) where a > 10; create unique index on t (a, (n + 1))";
    assert_eq!(run(&mut a, three).await, tags);
    let jobs =
        "select description, rows_done, rows_total from meridian.jobs where description like 'create%'";
    assert_eq!(
        run(&mut a, jobs).await,
        format!("[description | rows_done | rows_total]\n{three} | 4 | 4\nSELECT 1\n")
    );
    run(&mut a, "drop index i, j, t_a_expr_idx").await;
    assert_eq!(run(&mut a, &format!("begin; {three}; commit")).await, format!("BEGIN\n{tags}COMMIT\n"));
    run(&mut a, "select meridian.check_table('t'); drop index i, j, t_a_expr_idx").await;
    // All or none, and what is not of their kind ends the run.
    run(&mut a, "create table u (a int, b int); insert into u values (1, 1), (1, 2)").await;
    let told = run_block(&mut a, "create index on u (a); create unique index v on u (a)").await;
    assert!(told.contains("23505") && table(&world, "u").await.indexes.is_empty(), "{told}");
    let told = run_block(
        &mut a,
        "create index on u (a); create index on u (a); create index on t (a); create index on u (c)",
    )
    .await;
    assert!(told.starts_with(tags) && told.contains("42703"), "{told}");
    let names: Vec<String> = table(&world, "u").await.indexes.iter().map(|i| i.name.clone()).collect();
    assert_eq!(names, ["u_a_idx", "u_a_idx1"]);
    assert_eq!(run(&mut b, "select count(*) from u where a = 1").await, "[count]\n2\nSELECT 1\n");
}
