//! Columns that are added with a default: rows that are older than the column read as if they had it, and are not touched.

use super::jobs::table;
use super::{World, run_block};
use crate::session::Session;

/// Runs what must not fail.
async fn run(session: &mut Session, sql: &str) -> String {
    let out = run_block(session, sql).await;
    assert!(!out.contains("ERROR"), "{sql}: {out}");
    out
}

async fn world() -> (World, Session) {
    let world = World::new().await;
    let mut a = world.session().await;
    run(&mut a, "create table t (id int primary key, a int)").await;
    run(&mut a, "insert into t select g, g * 10 from generate_series(1, 4) g").await;
    (world, a)
}

#[tokio::test]
async fn old_rows_have_the_default_and_null_is_another_value() {
    let (world, mut a) = world().await;
    let storage = table(&world, "t").await.storage;
    run(&mut a, "alter table t add column b text default 'old' || 'er', add column c numeric(6, 2) not null default 1.5").await;
    assert_eq!(table(&world, "t").await.storage, storage, "no row has moved");
    run(&mut a, "update t set b = null where id = 2; update t set a = 31 where id = 3").await;
    run(&mut a, "insert into t values (5, 50, null, 2); insert into t values (6, 60)").await;
    let rows = "[id | a | b | c]\n1 | 10 | older | 1.50\n2 | 20 | NULL | 1.50\n3 | 31 | older | 1.50\n4 | 40 | older | 1.50\n\
                5 | 50 | NULL | 2.00\n6 | 60 | older | 1.50\nSELECT 6\n";
    for query in [
        "select * from t order by id",
        "with t as materialized (select * from t) select * from t order by id",
    ] {
        assert_eq!(run(&mut a, query).await, rows);
    }
    // By key, by condition, through indexes made later, and out of COPY.
    assert_eq!(run(&mut a, "select b from t where id = 1").await, "[b]\nolder\nSELECT 1\n");
    assert_eq!(run(&mut a, "select b from t where id = 5").await, "[b]\nNULL\nSELECT 1\n");
    assert_eq!(run(&mut a, "select count(*) from t where b is null").await, "[count]\n2\nSELECT 1\n");
    run(&mut a, "create index on t (b); create index on t (a) include (b, c); create index on t (c) where b = 'older'").await;
    run(&mut a, "select meridian.check_table('t')").await;
    assert_eq!(run(&mut a, "select id from t where b is null order by id").await, "[id]\n2\n5\nSELECT 2\n");
    assert_eq!(run(&mut a, "select b, c from t where a = 10").await, "[b | c]\nolder | 1.50\nSELECT 1\n");
    run(&mut a, "update t set b = null where id = 1; delete from t where b = 'older' and id = 4").await;
    run(&mut a, "select meridian.check_table('t')").await;
    assert_eq!(run(&mut a, "select count(b), count(*) from t").await, "[count | count]\n2 | 5\nSELECT 1\n");
}

#[tokio::test]
async fn what_is_missing_stays_when_the_default_changes_and_goes_with_a_rewrite() {
    let (world, mut a) = world().await;
    run(&mut a, "alter table t add column b int default 7").await;
    run(
        &mut a,
        "alter table t alter b set default 8, add column c int default 9; insert into t (id) values (5)",
    )
    .await;
    run(&mut a, "alter table t alter b drop default, rename column b to bb").await;
    run(&mut a, "insert into t (id) values (6)").await;
    let rows = "[id | bb | c]\n4 | 7 | 9\n5 | 8 | 9\n6 | NULL | 9\nSELECT 3\n";
    let query = "select id, bb, c from t where id > 3 order by id";
    assert_eq!(run(&mut a, query).await, rows);
    let is_missing =
        |desc: &meridian_catalog::TableDesc| desc.columns.iter().filter(|c| c.missing.is_some()).count();
    assert_eq!(is_missing(&table(&world, "t").await), 2);
    run(&mut a, "alter table t alter a type text").await;
    assert_eq!(is_missing(&table(&world, "t").await), 0);
    assert_eq!(run(&mut a, query).await, rows);
    // A column of the same name later is another one.
    run(&mut a, "alter table t drop column c").await;
    run(&mut a, "alter table t add column c int").await;
    assert_eq!(run(&mut a, "select c from t where id = 4").await, "[c]\nNULL\nSELECT 1\n");
}

#[tokio::test]
async fn conditions_hold_for_what_is_missing() {
    let (world, mut a) = world().await;
    let before = table(&world, "t").await;
    for (change, state) in [
        ("alter table t add column b int default 5 check (b > 5)", "23514"),
        ("alter table t add column b int default 5 unique", "23505"),
        ("alter table t add column b int not null default null", "23502"),
        ("alter table t add column b int default 1 / 0", "22012"),
        ("begin; alter table t add column b int default 5 check (b > 5)", "23514"),
        ("begin; alter table t add column b int default 5 unique", "23505"),
    ] {
        let told = run_block(&mut a, change).await;
        assert!(told.contains(state), "{change}: {told}");
        run(&mut a, "rollback").await;
        let now = table(&world, "t").await;
        assert_eq!(now.columns, before.columns, "{change}");
    }
    run(&mut a, "alter table t add column b int not null default 5 check (b > 4)").await;
    run(&mut a, "alter table t add column u uuid default gen_random_uuid()").await;
    assert_eq!(
        run(&mut a, "select count(distinct u), sum(b) from t").await,
        "[count | sum]\n4 | 20\nSELECT 1\n"
    );
    // A default that does not differ from row to row is the one of the moment.
    run(&mut a, "alter table t add column at timestamptz default now()").await;
    assert_eq!(run(&mut a, "select count(distinct at) from t").await, "[count]\n1\nSELECT 1\n");
}

#[tokio::test]
async fn in_a_block_beside_a_writer_on_the_old_schema() {
    let (world, mut a) = world().await;
    let mut b = world.session().await;
    run(&mut a, "begin; alter table t add column b text default 'b'; update t set b = null where id = 1")
        .await;
    assert_eq!(
        run(&mut a, "select b from t where id < 3 order by id").await,
        "[b]\nNULL\nb\nSELECT 2\n(T)\n"
    );
    let writer = "update t set a = a + 1; insert into t values (5, 50)";
    let (told, _) = tokio::join!(run(&mut b, writer), run(&mut a, "commit"));
    assert_eq!(told, "UPDATE 4\nINSERT 0 1\n");
    let rows = "[id | a | b]\n1 | 11 | NULL\n2 | 21 | b\n3 | 31 | b\n4 | 41 | b\n5 | 50 | b\nSELECT 5\n";
    assert_eq!(run(&mut b, "select * from t order by id").await, rows);
}

#[tokio::test]
async fn the_past_knows_neither_the_column_nor_its_default() {
    let (_world, mut a) = world().await;
    let shown = run(&mut a, "show commit_timestamp").await;
    let before = shown.lines().find(|l| l.ends_with("+00")).unwrap().to_owned();
    run(&mut a, "alter table t add column b int default 5").await;
    let old = run(&mut a, &format!("select * from t as of system time '{before}' where id = 1")).await;
    assert_eq!(old, "[id | a]\n1 | 10\nSELECT 1\n");
    let shown = "select attname, atthasmissing, attmissingval from pg_attribute \
                 where attrelid = 't'::regclass and attnum > 1 order by attnum";
    let expected = "[attname | atthasmissing | attmissingval]\na | f | NULL\nb | t | {5}\nSELECT 2\n";
    assert_eq!(run(&mut a, shown).await, expected);
}
