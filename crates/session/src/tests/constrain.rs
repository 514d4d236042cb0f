//! ALTER TABLE that asks something of rows: writers heed it before anything relies on it, and nobody waits meanwhile.

use std::time::Duration;

use meridian_catalog::{
    CatalogChange, CheckDesc, ColumnDesc, ColumnId, IndexDesc, IndexId, IndexState, Job, JobPhase, JobState,
    JobWish, JobWork, TableDesc, TableId, Transition,
};
use meridian_kv_api::{Kv, Locking, ReadBound, ReadOnlyOptions, ScanRequest};
use meridian_types::Span;

use super::jobs::{LEFT_BEHIND, commit_change, job, keys, left_behind, settle, table};
use super::{World, run_block};
use crate::session::Session;

/// More rows than a change looks at before it becomes a job.
const ROWS: usize = 6_000;

/// Runs what must not fail.
async fn run(session: &mut Session, sql: &str) -> String {
    let out = run_block(session, sql).await;
    assert!(!out.contains("ERROR"), "{sql}: {out}");
    out
}

/// A table `t (id, a, b)` in which only the last row has no `b`, or a small one.
async fn world(last: &str) -> (World, Session) {
    let world = World::new().await;
    let mut s = world.session().await;
    run(&mut s, "create table t (id int primary key, a int, b int)").await;
    run(&mut s, &format!("insert into t select g, g, g from generate_series(1, {}) g", ROWS - 1)).await;
    run(&mut s, &format!("insert into t values ({ROWS}, {ROWS}, {last})")).await;
    (world, s)
}

/// `b` is to be not NULL and above 0, and there is to be a unique index on `a`.
fn to_be(before: &TableDesc) -> TableDesc {
    let mut after = before.clone();
    after.columns[2].nullable = false;
    let (name, expr) = ("t_b_check".into(), "b > 0".into());
    after.checks.push(CheckDesc { oid: 900_001, name, expr, validated: true });
    let mut unique = IndexDesc { id: IndexId(after.next_index), oid: 900_002, ..after.primary.clone() };
    (unique.name, unique.constraint_oid) = ("t_a_key".into(), Some(900_003));
    unique.columns[0].column = after.columns[1].id;
    after.indexes.push(unique);
    after.next_index += 1;
    after
}

/// The state in which a node leaves such a change when it dies.
async fn leave_behind(
    world: &World,
    after: fn(&TableDesc) -> TableDesc,
    change: impl Fn(Job) -> Job,
) -> Transition {
    let before = table(world, "t").await;
    let transition = Transition { after: after(&before), before };
    let enforced = transition.enforced();
    let job = left_behind(JobWork::Alter, JobWish::Run, &enforced);
    let job = change(Job { transition: Some(Box::new(transition.clone())), ..job });
    commit_change(
        world,
        [CatalogChange::ReplaceTable(Box::new(enforced)), CatalogChange::SetJob(Box::new(job))],
    )
    .await;
    transition
}

/// The table is as it was, but for what counts changes.
async fn assert_unchanged(world: &World, before: &TableDesc) {
    let after = table(world, "t").await;
    let TableDesc { version, valid_from, next_index, next_column, .. } = after;
    assert_eq!(after, TableDesc { version, valid_from, next_index, next_column, ..before.clone() });
}

/// The rows of a storage behind the first 4096.
async fn rows_behind(world: &World, storage: TableId) -> Span {
    let whole = meridian_keys::table_span(meridian_keys::TableId::new(u64::from(storage.0)));
    let txn = world.kv.begin_read_only(ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false });
    let page = async |span| {
        txn.scan(ScanRequest { span, reverse: false, limit: 4_096, locking: Locking::SHARED }).await.unwrap()
    };
    let rest = page(whole).await.resume.expect("there are more rows");
    let last = page(rest.clone()).await.rows.pop().expect("there are rows").0;
    Span::new(rest.start, Some(last.next()))
}

/// Until a job is in a phase.
async fn until(world: &World, phase: JobPhase) {
    let is_there = |job: &Job| job.phase == phase && job.state == JobState::Running;
    while !super::jobs::all(world).await.iter().any(is_there) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn writers_go_on_while_rows_are_looked_at_and_heed_the_constraint() {
    let (world, mut s) = world("1").await;
    let (mut a, mut b) = (world.session().await, world.session().await);
    run(&mut b, "set cluster setting schema_changes.rest = '200ms'").await;
    run(&mut b, "alter table t add constraint v check (a >= 0) not valid").await;
    for (change, row, refused) in [
        (
            "alter table t alter b set not null",
            "(0, 0, null)",
            "null value in column \"b\" of relation \"t\" violates not-null",
        ),
        (
            "alter table t add constraint k check (b > 0)",
            "(0, 0, -1)",
            "new row for relation \"t\" violates check constraint \"k\"",
        ),
        ("alter table t validate constraint v", "(0, -1, 1)", "\"v\""),
        ("alter table t add column c int default 5, add check (c > b - 6000)", "(0, 1, 9000)", "\"t_check\""),
    ] {
        let writes = async {
            until(&world, JobPhase::Constraints).await;
            let failed = run_block(&mut a, &format!("insert into t values {row}")).await;
            assert!(failed.contains(refused), "{failed}");
            let mut written = 0;
            while super::jobs::all(&world).await.iter().any(|job| !job.state.is_over()) {
                run(&mut a, "update t set a = a + 1 where id = 5").await;
                written += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            written
        };
        let (_, written) = tokio::join!(run(&mut s, change), writes);
        assert!(written > 20, "{change}: {written} writes meanwhile");
    }
    let seen = run(&mut s, "select convalidated from pg_constraint where contype = 'c'").await;
    assert_eq!(seen, "[convalidated]\nt\nt\nt\nSELECT 3\n");
    assert_eq!(run(&mut s, "select c from t where id = 5").await, "[c]\n5\nSELECT 1\n");
    let jobs =
        run(&mut s, "select kind, state, phase, rows_done from meridian.jobs where kind = 'alter table'")
            .await;
    assert_eq!(jobs.matches("alter table | succeeded | constraints | 6000\n").count(), 4, "{jobs}");
}

#[tokio::test]
async fn a_violation_restores_the_old_schema() {
    for (last, change, error) in [
        (
            "null",
            "alter table t alter b set not null",
            "ERROR 23502: column \"b\" of relation \"t\" contains null values\n",
        ),
        (
            "-1",
            "alter table t add constraint k check (b > 0)",
            "ERROR 23514: check constraint \"k\" of relation \"t\" is violated by some row\n",
        ),
        ("0", "alter table t add check (1 / b > -5)", "ERROR 22012: division by zero\n"),
        (
            "1",
            "alter table t add check (b > 0), add unique (b)",
            "ERROR 23505: could not create unique index \"t_b_key\"\nDETAIL: Key (b)=(1) is duplicated.\n",
        ),
        (
            "1",
            "alter table t add column c int default 3 unique, alter b set not null",
            "ERROR 23505: could not create unique index \"t_c_key\"\nDETAIL: Key (c)=(3) is duplicated.\n",
        ),
    ] {
        let (world, mut s) = world(last).await;
        let before = table(&world, "t").await;
        assert_eq!(run_block(&mut s, change).await, error);
        let jobs = settle(&world).await;
        assert!(
            jobs.iter().any(|j| j.work == JobWork::Alter && j.state == JobState::Failed),
            "{change}: {jobs:?}"
        );
        assert!(jobs.iter().all(|j| j.transition.is_none()), "what is over has no aim");
        assert_unchanged(&world, &before).await;
        assert_eq!(keys(&world, before.storage).await, ROWS, "{change} leaves no entry");
        run(&mut s, "insert into t values (0, 0, null)").await;
    }
}

#[tokio::test]
async fn a_mistake_that_shows_at_once_disturbs_no_writer() {
    let (world, mut s) = world("1").await;
    let before = table(&world, "t").await;
    for (change, code) in [
        ("alter table t add column c int not null", "23502"),
        ("alter table t add column c int default 1 check (c > 1)", "23514"),
        ("alter table t add check (a > 1)", "23514"),
    ] {
        let failed = run_block(&mut s, change).await;
        assert!(failed.contains(code), "{change}: {failed}");
        assert_eq!(table(&world, "t").await, before, "not even for a moment");
    }
    run(&mut s, "truncate t").await;
    run(&mut s, "alter table t add column c int not null").await;
    assert!(run_block(&mut s, "insert into t values (1, 1, 1)").await.contains("23502"));
}

#[tokio::test]
async fn between_the_schemas_nothing_is_relied_on() {
    let (world, mut s) = world("null").await;
    leave_behind(&world, to_be, |job| job).await;
    let nullable = "select is_nullable from information_schema.columns where column_name = 'b'";
    assert_eq!(run(&mut s, nullable).await, "[is_nullable]\nYES\nSELECT 1\n");
    let attribute = "select attnotnull from pg_attribute where attrelid = 't'::regclass and attname = 'b'";
    assert_eq!(run(&mut s, attribute).await, "[attnotnull]\nf\nSELECT 1\n");
    assert_eq!(run(&mut s, "select count(*) from t where b is null").await, "[count]\n1\nSELECT 1\n");
    assert_eq!(
        run(&mut s, "select id from t order by b desc limit 1").await,
        format!("[id]\n{ROWS}\nSELECT 1\n")
    );
    let seen =
        run(&mut s, "select conname, convalidated from pg_constraint where conname = 't_b_check'").await;
    assert_eq!(seen, "[conname | convalidated]\nt_b_check | f\nSELECT 1\n");
    for write in [
        "insert into t values (0, 0, null)",
        "update t set b = null where id = 1",
        "insert into t values (1, 0, 1) on conflict (id) do update set b = null",
    ] {
        let failed = run_block(&mut s, write).await;
        assert!(
            failed.contains("23502") && failed.contains("violates not-null constraint"),
            "{write}: {failed}"
        );
    }
    assert!(
        run_block(&mut s, "update t set a = 7 where id = 6000").await.contains("23502"),
        "it is a new row"
    );
    let failed = settle(&world).await.into_iter().find(|j| j.id == LEFT_BEHIND).unwrap();
    assert_eq!((failed.state, failed.error.unwrap().code.as_str()), (JobState::Failed, "23502"));
    run(&mut s, "update t set a = 7 where id = 6000").await;
}

#[tokio::test]
async fn the_change_of_a_dead_node_goes_on_where_it_stood() {
    let (world, mut s) = world("null").await;
    let before = table(&world, "t").await;
    run(&mut s, "update t set b = 1 where id = 6000").await;
    // Rows up to 4096 have been looked at, and the record says so.
    let rest = rows_behind(&world, before.storage).await;
    leave_behind(&world, to_be, |job| {
        let (phase, rest) = (JobPhase::Constraints, vec![rest.clone()]);
        Job { phase, rest, rows_done: 4_096, ..job }
    })
    .await;
    run(&mut s, "insert into t values (9000, 9000, 1)").await;
    settle(&world).await;
    let ended = job(&world, LEFT_BEHIND).await;
    assert_eq!((ended.state, ended.claim), (JobState::Succeeded, 2), "{:?}", ended.error);
    assert!(ended.transition.is_none());
    let made = table(&world, "t").await;
    assert!(!made.columns[2].nullable && made.checks[0].validated);
    assert_eq!(made.indexes[0].state, IndexState::Public);
    run(&mut s, "select meridian.check_table('t')").await;
    assert_eq!(keys(&world, made.storage).await, 2 * (ROWS + 1));
}

#[tokio::test]
async fn a_cancelled_change_is_undone_and_a_paused_one_goes_on() {
    let (world, mut s) = world("1").await;
    let transition = leave_behind(&world, to_be, |job| job).await;
    run(&mut s, "pause job 900").await;
    assert_eq!(job(&world, LEFT_BEHIND).await.wish, JobWish::Pause);
    let services = world.factory.job_services().unwrap();
    for job in services.adopt_jobs(usize::MAX).await.unwrap() {
        world.factory.clone().run_adopted(services.clone(), job).await;
    }
    assert_eq!(job(&world, LEFT_BEHIND).await.state, JobState::Paused);
    assert!(
        run_block(&mut s, "insert into t values (0, 0, -1)").await.contains("23514"),
        "writers heed it still"
    );
    run(&mut s, "cancel job 900").await;
    settle(&world).await;
    assert_eq!(job(&world, LEFT_BEHIND).await.state, JobState::Cancelled);
    assert_unchanged(&world, &transition.before).await;
    assert_eq!(keys(&world, transition.before.storage).await, ROWS);
    run(&mut s, "insert into t values (0, 0, -1)").await;
}

#[tokio::test]
async fn a_client_that_cancels_its_statement_undoes_it() {
    let (world, mut s) = world("1").await;
    let before = table(&world, "t").await;
    let mut b = world.session().await;
    run(&mut b, "set cluster setting schema_changes.rest = '400ms'").await;
    let cancel = s.cancel_handle();
    let interrupt = async {
        until(&world, JobPhase::Constraints).await;
        cancel.cancel();
    };
    let (failed, ()) = tokio::join!(run_block(&mut s, "alter table t alter b set not null"), interrupt);
    assert!(failed.contains("57014"), "{failed}");
    settle(&world).await;
    assert_unchanged(&world, &before).await;
}

#[tokio::test]
async fn a_column_that_is_added_with_a_constraint_shows_only_when_it_is_made() {
    fn to_have(before: &TableDesc) -> TableDesc {
        let mut after = before.clone();
        let (id, missing) = (ColumnId(after.next_column), Some(meridian_datum::Datum::Int(5)));
        let (name, default) = ("c".to_owned(), Some("5".to_owned()));
        after.columns.push(ColumnDesc { id, name, default, missing, ..before.columns[2].clone() });
        after.next_column += 1;
        let (name, expr) = ("t_c_check".into(), "c > 0 AND c < b + 7000".into());
        after.checks.push(CheckDesc { oid: 900_001, name, expr, validated: true });
        after
    }
    let (world, mut s) = world("1").await;
    leave_behind(&world, to_have, |job| job).await;
    run(&mut s, "insert into t values (0, 0, 0)").await;
    assert!(run_block(&mut s, "insert into t values (-1, 0, -7000)").await.contains("t_c_check"));
    assert_eq!(run(&mut s, "select * from t where id = 0").await, "[id | a | b]\n0 | 0 | 0\nSELECT 1\n");
    assert_eq!(
        run(&mut s, "update t set a = 1 where id = 1 returning *").await,
        "[id | a | b]\n1 | 1 | 1\nUPDATE 1\n"
    );
    settle(&world).await;
    assert_eq!(job(&world, LEFT_BEHIND).await.state, JobState::Succeeded);
    let rows = run(&mut s, "select * from t where id in (0, 1, 2) order by id").await;
    assert_eq!(rows, "[id | a | b | c]\n0 | 0 | 0 | 5\n1 | 1 | 1 | 5\n2 | 2 | 2 | 5\nSELECT 3\n");
}

#[tokio::test]
async fn the_past_has_each_schema_at_its_time() {
    let (world, mut s) = world("1").await;
    let now = |world: &World| world.kv.now().unwrap().latest().as_nanos();
    let first = now(&world);
    leave_behind(&world, to_be, |job| job).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = now(&world);
    run(&mut s, "insert into t values (0, 0, 1)").await;
    settle(&world).await;
    let read =
        |at: u64| format!("select count(*), count(b) filter (where b is null) from t as of system time {at}");
    assert_eq!(run(&mut s, &read(first)).await, "[count | count]\n6000 | 0\nSELECT 1\n");
    assert_eq!(run(&mut s, &read(second)).await, "[count | count]\n6000 | 0\nSELECT 1\n");
    let catalog = "select convalidated from pg_constraint where conname = 't_b_check'";
    assert_eq!(run(&mut s, catalog).await, "[convalidated]\nt\nSELECT 1\n");
}
