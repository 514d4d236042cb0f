//! Jobs of schema changes: what is left behind is removed, what a dead node has begun is ended by another.

use meridian_catalog::{
    CatalogCache, CatalogChange, CatalogStore, IndexId, IndexState, Job, JobPhase, JobSession, JobState,
    JobWish, JobWork, TableDesc, TableId,
};
use meridian_keys::JobId;
use meridian_kv_api::{Kv, KvTxn, Locking, ReadBound, ReadOnlyOptions, ReadWriteOptions, ScanRequest};
use meridian_types::{NodeId, Timestamp};

use super::{World, run_block};
use crate::session::Session;

async fn run(session: &mut Session, sql: &str) -> String {
    let out = run_block(session, sql).await;
    assert!(!out.contains("ERROR"), "{sql}: {out}");
    out
}

fn snapshot(world: &World) -> Box<dyn KvTxn> {
    world.kv.begin_read_only(ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false })
}

/// Lets the node run what jobs it finds until none is left open; all jobs then.
pub(super) async fn settle(world: &World) -> Vec<Job> {
    let services = world.factory.job_services().unwrap();
    loop {
        let adopted = services.adopt_jobs(usize::MAX).await.unwrap();
        let is_idle = adopted.is_empty();
        for job in adopted {
            world.factory.clone().run_adopted(services.clone(), job).await;
        }
        let jobs = Job::all(&*snapshot(world)).await.unwrap();
        if jobs.iter().all(|j| j.state.is_over()) {
            return jobs;
        }
        assert!(!is_idle, "nobody takes up {jobs:?}");
    }
}

/// All jobs.
pub(super) async fn all(world: &World) -> Vec<Job> {
    Job::all(&*snapshot(world)).await.unwrap()
}

pub(super) async fn job(world: &World, id: JobId) -> Job {
    Job::get(&*snapshot(world), id, Locking::SHARED).await.unwrap().expect("the job is there")
}

/// Keys of a storage, all indexes included.
pub(super) async fn keys(world: &World, storage: TableId) -> usize {
    let span = meridian_keys::table_span(meridian_keys::TableId::new(u64::from(storage.0)));
    let (txn, mut keys, mut rest) = (snapshot(world), 0, Some(span));
    while let Some(span) = rest {
        let request = ScanRequest { span, reverse: false, limit: 10_000, locking: Locking::SHARED };
        let page = txn.scan(request).await.unwrap();
        keys += page.rows.len();
        rest = page.resume;
    }
    keys
}

fn catalog(world: &World) -> &CatalogCache {
    &world.factory.shared.catalog
}

pub(super) async fn table(world: &World, name: &str) -> TableDesc {
    let guard = catalog(world).acquire().await.unwrap();
    let found = guard.snapshot().tables().find(|t| t.name == name);
    TableDesc::clone(found.unwrap_or_else(|| panic!("there is no table {name}")))
}

pub(super) const LEFT_BEHIND: JobId = JobId::new(900);

/// The record of a node that has died.
pub(super) fn left_behind(work: JobWork, wish: JobWish, desc: &TableDesc) -> Job {
    Job {
        id: LEFT_BEHIND,
        work,
        transition: None,
        table: Some(desc.id),
        table_name: desc.name.clone(),
        statement: String::new(),
        session: JobSession::default(),
        state: JobState::Running,
        wish,
        phase: JobPhase::Waiting,
        rows_done: 0,
        rows_total: None,
        created: Timestamp::from_nanos(1),
        started: Some(Timestamp::from_nanos(1)),
        finished: None,
        start_at: None,
        runner: NodeId::new(9),
        claim: 1,
        lease_end: Timestamp::from_nanos(2),
        rest: Vec::new(),
        error: None,
    }
}

/// The state in which a node leaves a change that dies after its first step.
async fn leave_behind(world: &World, work: JobWork, wish: JobWish, desc: TableDesc) {
    let job = left_behind(work, wish, &desc);
    commit_change(world, [CatalogChange::ReplaceTable(Box::new(desc)), CatalogChange::SetJob(Box::new(job))])
        .await;
}

/// Changes descriptors at once.
pub(super) async fn commit_change(world: &World, changes: [CatalogChange; 2]) {
    let txn = world.kv.begin(ReadWriteOptions::default());
    CatalogStore::apply(&*txn, changes).await.unwrap();
    txn.commit().await.unwrap();
    catalog(world).refresh().await.unwrap();
}

/// Table `t` with 2500 rows, and the descriptor with an index on `b` that is write-only.
async fn half_an_index(world: &World, s: &mut Session) -> TableDesc {
    run(s, "create table t (id int primary key, a int, b int)").await;
    run(s, "insert into t select g, g, g from generate_series(1, 2500) g").await;
    let mut desc = table(world, "t").await;
    let mut index = desc.primary.clone();
    index.id = IndexId(desc.next_index);
    index.name = "t_b".into();
    index.unique = false;
    index.constraint_oid = None;
    index.columns[0].column = desc.columns[2].id;
    index.state = IndexState::WriteOnly;
    desc.indexes.push(index);
    desc.next_index += 1;
    desc.version += 1;
    desc
}

#[tokio::test]
async fn a_job_that_is_seen_before_its_change_is_in_force_waits_for_that() {
    let world = World::new().await;
    let mut s = world.session().await;
    let desc = half_an_index(&world, &mut s).await;
    let now = world.kv.now().unwrap();
    let at = now.latest() + meridian_types::Duration::from_millis(300);
    let txn = world.kv.begin(ReadWriteOptions::default());
    CatalogStore::announce(&*txn, at, now.earliest()).await.unwrap();
    txn.commit().await.unwrap();
    let work = JobWork::AddIndexes { first: desc.indexes.last().unwrap().id, count: 1 };
    let left = left_behind(work, JobWish::Run, &desc);
    let desc = TableDesc { valid_from: at, ..desc };
    let txn = world.kv.begin(ReadWriteOptions::default());
    let changes = [CatalogChange::ReplaceTable(Box::new(desc)), CatalogChange::SetJob(Box::new(left))];
    CatalogStore::apply(&*txn, changes).await.unwrap();
    CatalogStore::activate_at(&*txn, at, world.kv.now().unwrap().earliest()).await.unwrap();
    txn.limit_commit_timestamp(at.prev());
    txn.commit().await.unwrap();
    settle(&world).await;
    let ended = job(&world, LEFT_BEHIND).await;
    assert_eq!((ended.state, ended.rows_done), (JobState::Succeeded, 2500), "{:?}", ended.error);
    let index = table(&world, "t").await.indexes.pop().unwrap();
    assert_eq!(index.state, IndexState::Public);
}

#[tokio::test]
async fn an_index_is_a_job_and_leaves_nothing_behind() {
    let world = World::new().await;
    let mut s = world.session().await;
    run(&mut s, "create table t (id int primary key, a int)").await;
    run(&mut s, "insert into t select g, g / 2 from generate_series(1, 3000) g").await;
    let storage = table(&world, "t").await.storage;
    run(&mut s, "create index t_a on t (a)").await;
    assert_eq!(keys(&world, storage).await, 6000);
    let seen = run(
        &mut s,
        "select kind, description, state, progress, phase, rows_done, rows_total, error from meridian.jobs",
    )
    .await;
    let row = "add index | create index t_a on t (a) | succeeded | 1 | backfill | 3000 | 3000 | NULL\n";
    assert!(seen.contains(row), "{seen}");

    let failed = run_block(&mut s, "create unique index t_u on t (a)").await;
    assert!(failed.contains("23505") && failed.contains("is duplicated"), "{failed}");
    assert_eq!(table(&world, "t").await.indexes.len(), 1, "the table is as it was");
    settle(&world).await;
    assert_eq!(keys(&world, storage).await, 6000, "no entry is left");
    let seen =
        run(&mut s, "select state, error from meridian.schema_changes order by job_id desc limit 1").await;
    assert!(seen.contains("failed") && seen.contains("23505"), "{seen}");

    run(&mut s, "drop index t_a").await;
    settle(&world).await;
    assert_eq!(keys(&world, storage).await, 3000);
    run(&mut s, "alter table t add constraint t_k unique (id, a)").await;
    run(&mut s, "alter table t drop column a").await;
    settle(&world).await;
    assert_eq!(keys(&world, storage).await, 3000, "the entries of a dropped column's indexes go too");
    run(&mut s, "begin; drop table t; rollback").await;
    settle(&world).await;
    assert_eq!(keys(&world, storage).await, 3000, "a change that is rolled back has no job");
    run(&mut s, "begin; drop table t; commit").await;
    settle(&world).await;
    assert_eq!(keys(&world, storage).await, 0);
    assert_eq!(catalog(&world).acquire().await.unwrap().snapshot().dropped_tables().count(), 0);
}

#[tokio::test]
async fn interleaved_tables_are_cleaned_with_and_without_their_parents() {
    let world = World::new().await;
    let mut s = world.session().await;
    for drop in ["drop table c; drop table p", "drop table p, c"] {
        run(&mut s, "create table p (id int primary key)").await;
        run(&mut s, "create table c (id int, n int, primary key (id, n)) interleave in parent p").await;
        run(&mut s, "insert into p values (1), (2)").await;
        run(&mut s, "insert into c values (1, 1), (1, 2), (2, 1)").await;
        let storage = table(&world, "p").await.storage;
        assert_eq!(keys(&world, storage).await, 5);
        if drop.contains(';') {
            run(&mut s, "drop table c").await;
            settle(&world).await;
            assert_eq!(keys(&world, storage).await, 2);
            run(&mut s, "drop table p").await;
        } else {
            run(&mut s, drop).await;
        }
        settle(&world).await;
        assert_eq!(keys(&world, storage).await, 0);
    }
}

#[tokio::test]
async fn an_index_of_a_dead_node_is_completed() {
    let world = World::new().await;
    let mut s = world.session().await;
    let desc = half_an_index(&world, &mut s).await;
    leave_behind(
        &world,
        JobWork::AddIndexes { first: desc.indexes[0].id, count: 1 },
        JobWish::Run,
        desc.clone(),
    )
    .await;
    settle(&world).await;
    let job = job(&world, LEFT_BEHIND).await;
    assert_eq!((job.state, job.claim, job.runner), (JobState::Succeeded, 2, NodeId::new(1)));
    assert_eq!(table(&world, "t").await.indexes[0].state, IndexState::Public);
    assert_eq!(keys(&world, desc.storage).await, 5000);
    assert_eq!(run(&mut s, "select id from t where b = 77").await, "[id]\n77\nSELECT 1\n");
}

#[tokio::test]
async fn several_indexes_are_filled_with_one_read_of_the_table() {
    let world = World::new().await;
    let mut s = world.session().await;
    let mut desc = half_an_index(&world, &mut s).await;
    let mut second = desc.indexes[0].clone();
    second.id = IndexId(desc.next_index);
    second.name = "t_ab".into();
    second.columns[0].column = desc.columns[1].id;
    desc.indexes.push(second);
    desc.next_index += 1;
    let work = JobWork::AddIndexes { first: desc.indexes[0].id, count: 2 };
    leave_behind(&world, work, JobWish::Run, desc.clone()).await;
    settle(&world).await;
    let ended = job(&world, LEFT_BEHIND).await;
    // Rows are counted as they are read.
    assert_eq!((ended.state, ended.phase, ended.rows_done), (JobState::Succeeded, JobPhase::Backfill, 2500));
    assert_eq!(keys(&world, desc.storage).await, 7500);
    assert!(table(&world, "t").await.indexes.iter().all(|i| i.state == IndexState::Public));
    run(&mut s, "select meridian.check_table('t')").await;
}

#[tokio::test]
async fn unique_constraints_of_one_statement_are_one_job() {
    let world = World::new().await;
    let mut s = world.session().await;
    run(&mut s, "create table t (id int primary key, a int, b int, c int)").await;
    run(&mut s, "insert into t select g, g, -g, g / 2 from generate_series(1, 3000) g").await;
    let storage = table(&world, "t").await.storage;
    run(&mut s, "alter table t add unique (a), add constraint t_b unique (b) include (c)").await;
    let jobs = run(&mut s, "select kind, phase, rows_done from meridian.jobs").await;
    assert_eq!(jobs, "[kind | phase | rows_done]\nadd index | validation | 3000\nSELECT 1\n");
    assert_eq!(keys(&world, storage).await, 9000);
    run(&mut s, "select meridian.check_table('t')").await;

    let before = table(&world, "t").await;
    let failed = run_block(&mut s, "alter table t add unique (a, b), add constraint t_c unique (c)").await;
    assert!(failed.contains("23505") && failed.contains("t_c"), "{failed}");
    settle(&world).await;
    assert_eq!(table(&world, "t").await.indexes, before.indexes, "both are undone");
    assert_eq!(keys(&world, storage).await, 9000, "no entry is left");
}

#[tokio::test]
async fn a_cancelled_index_of_a_dead_node_is_removed() {
    let world = World::new().await;
    let mut s = world.session().await;
    let desc = half_an_index(&world, &mut s).await;
    let before = table(&world, "t").await;
    leave_behind(
        &world,
        JobWork::AddIndexes { first: desc.indexes[0].id, count: 1 },
        JobWish::Cancel,
        desc.clone(),
    )
    .await;
    run(&mut s, "insert into t values (0, 0, 0)").await;
    assert_eq!(keys(&world, desc.storage).await, 2502, "writers maintain the index");
    settle(&world).await;
    assert_eq!(job(&world, LEFT_BEHIND).await.state, JobState::Cancelled);
    assert_eq!(keys(&world, desc.storage).await, 2501, "and no entry is left");
    let after = table(&world, "t").await;
    let TableDesc { version, valid_from, next_index, .. } = after;
    assert_eq!(after, TableDesc { version, valid_from, next_index, ..before }, "exactly the old schema");
}

#[tokio::test]
async fn a_rewrite_of_a_dead_node_is_undone() {
    let world = World::new().await;
    let mut s = world.session().await;
    run(&mut s, "create table t (id int primary key, a int)").await;
    run(&mut s, "insert into t values (1, 1)").await;
    let before = table(&world, "t").await;
    let mut desc = before.clone();
    desc.version += 1;
    desc.storage_parameters.push(("meridian_rewriting".into(), "on".into()));
    let work =
        JobWork::Rewrite { old: desc.storage, new: TableId(999_999), first_index: IndexId(desc.next_index) };
    leave_behind(&world, work, JobWish::Run, desc).await;
    settle(&world).await;
    assert_eq!(job(&world, LEFT_BEHIND).await.state, JobState::Failed);
    run(&mut s, "insert into t values (2, 2)").await;
    let after = table(&world, "t").await;
    let TableDesc { version, valid_from, .. } = after;
    assert_eq!(after, TableDesc { version, valid_from, ..before }, "exactly the old schema");
}

#[tokio::test]
async fn a_change_that_fails_returns_to_the_old_schema() {
    let world = World::new().await;
    let mut s = world.session().await;
    run(&mut s, "create table t (id int primary key, a text, b int)").await;
    run(&mut s, "insert into t values (1, '1', 5), (2, 'x', 5)").await;
    let before = table(&world, "t").await;
    for (change, code) in [
        ("alter table t alter column a type int using a::int", "22P02"),
        ("alter table t alter column b type text, add check (id < 2)", "23514"),
        ("alter table t add check (id > 0), add unique (b)", "23505"),
        ("alter table t add unique (b)", "23505"),
    ] {
        let failed = run_block(&mut s, change).await;
        assert!(failed.contains(code), "{change}: {failed}");
        settle(&world).await;
        let after = table(&world, "t").await;
        let TableDesc { version, valid_from, next_index, .. } = after;
        assert_eq!(after, TableDesc { version, valid_from, next_index, ..before.clone() }, "{change}");
        assert_eq!(keys(&world, before.storage).await, 2, "{change} leaves no entry");
    }
    run(&mut s, "alter table t add unique (id, b)").await;
    assert_eq!(keys(&world, before.storage).await, 4, "the removal of old entries has harmed no new one");
}

#[tokio::test]
async fn jobs_are_controlled_by_number() {
    let world = World::new().await;
    let mut s = world.session().await;
    assert!(run_block(&mut s, "cancel job 77").await.contains("ERROR 42704: job 77 does not exist"));
    run(&mut s, "create table t (id int primary key, a int)").await;
    run(&mut s, "insert into t values (1, 1)").await;
    run(&mut s, "alter table t alter column a type text").await;
    let jobs = Job::all(&*snapshot(&world)).await.unwrap();
    let rewrite = jobs.iter().find(|j| j.state.is_over()).expect("the change was a job").id;
    let over = run_block(&mut s, &format!("pause job {rewrite}")).await;
    assert!(over.contains(&format!("ERROR 55000: job {rewrite} has succeeded")), "{over}");
    settle(&world).await;
    run(&mut s, "drop table t").await;
    let jobs = Job::all(&*snapshot(&world)).await.unwrap();
    let clean = jobs.iter().find(|j| !j.state.is_over()).expect("rows are to be removed").id;
    let refused = run_block(&mut s, &format!("cancel job {clean}")).await;
    assert!(refused.contains(&format!("ERROR 55000: job {clean} (clean) cannot be cancelled")), "{refused}");
    run(&mut s, &format!("pause job {clean}")).await;
    let services = world.factory.job_services().unwrap();
    assert!(services.adopt_jobs(usize::MAX).await.unwrap().is_empty(), "nobody runs a paused job");
    assert_eq!(job(&world, clean).await.state, JobState::Paused);
    run(&mut s, &format!("resume job {clean}")).await;
    assert!(settle(&world).await.iter().all(|j| j.state == JobState::Succeeded));
}

/// The number in a result of one row.
fn number(out: &str) -> JobId {
    let row = out.lines().nth(1).unwrap_or_else(|| panic!("no row in {out}"));
    JobId::new(row.parse().unwrap_or_else(|_| panic!("no number in {out}")))
}

#[tokio::test]
async fn asynchronous_changes_answer_the_number_of_their_job() {
    let world = World::new().await;
    let mut s = world.session().await;
    run(&mut s, "create table t (id int primary key, a int)").await;
    run(&mut s, "insert into t select g, g / 2 from generate_series(1, 100) g").await;
    run(&mut s, "set schema_change_mode = 'async'").await;
    let added = run(&mut s, "alter table t add column b int").await;
    assert!(added.starts_with("[job_id]\n") && added.ends_with("ALTER TABLE\n"), "{added}");
    let indexed = run(&mut s, "create index t_a on t (a)").await;
    let refused = run(&mut s, "create unique index t_u on t (a)").await;
    let missing = run_block(&mut s, "alter table missing add column b int").await;
    assert!(missing.contains("42P01"), "what cannot be planned is no job: {missing}");
    let seen = run(&mut s, "select statement, state from meridian.schema_changes order by job_id").await;
    assert!(seen.contains("alter table t add column b int | queued\n"), "{seen}");
    settle(&world).await;
    assert_eq!(job(&world, number(&added)).await.state, JobState::Succeeded);
    let indexed = job(&world, number(&indexed)).await;
    assert_eq!((indexed.state, indexed.rows_done), (JobState::Succeeded, 100));
    assert!(
        matches!(indexed.work, JobWork::AddIndexes { count: 1, .. }),
        "the statement has become the change: {indexed:?}"
    );
    let refused = job(&world, number(&refused)).await;
    assert_eq!(refused.state, JobState::Failed);
    assert_eq!(refused.error.unwrap().code, "23505");
    assert_eq!(run(&mut s, "select b from t where a = 7 limit 1").await, "[b]\nNULL\nSELECT 1\n");
}

#[tokio::test]
async fn a_job_reads_its_statement_as_the_session_did_that_made_it() {
    let world = World::new().await;
    let mut s = world.session().await;
    run(&mut s, "create table t (id int primary key, d text, z text)").await;
    run(&mut s, "insert into t values (1, '02/01/2026', '2026-01-02 12:00')").await;
    run(&mut s, "set datestyle = 'SQL, DMY'").await;
    run(&mut s, "set timezone = 'Asia/Tokyo'").await;
    run(&mut s, "set schema_change_mode = 'async'").await;
    let types =
        "alter column d type date using d::date, alter column z type timestamptz using z::timestamptz";
    run(&mut s, &format!("alter table t {types}")).await;
    settle(&world).await;
    let mut other = world.session().await;
    run(&mut other, "set timezone = 'UTC'").await;
    let seen = run(&mut other, "select d, z from t").await;
    assert_eq!(seen, "[d | z]\n2026-01-02 | 2026-01-02 03:00:00+00\nSELECT 1\n");
}

#[tokio::test]
async fn scheduled_changes_wait_for_their_time_and_can_be_cancelled() {
    let world = World::new().await;
    let mut s = world.session().await;
    run(&mut s, "create table t (id int primary key)").await;
    for wrong in ["2001-01-01 00:00:00+00", "-10s", "soon"] {
        let refused =
            run_block(&mut s, &format!("alter table t add column a int at timestamp '{wrong}'")).await;
        assert!(refused.contains("22023"), "{refused}");
    }
    let refused = run_block(&mut s, "truncate t at timestamp '2500-01-01 00:00:00+00'").await;
    assert!(refused.contains("0A000"), "{refused}");
    let later = run(&mut s, "alter table t add column a int at timestamp '2500-01-01 00:00:00+00'").await;
    let seen = run(&mut s, "select statement, state, scheduled_at from meridian.schema_changes").await;
    assert!(seen.contains("alter table t add column a int | queued | 2500-01-01 00:00:00+00\n"), "{seen}");
    let services = world.factory.job_services().unwrap();
    assert!(services.adopt_jobs(usize::MAX).await.unwrap().is_empty(), "its time has not come");
    run(&mut s, "alter table t add column b int").await;
    run(&mut s, &format!("cancel job {}", number(&later))).await;
    assert_eq!(job(&world, number(&later)).await.state, JobState::Cancelled);

    let now = world.kv.now().unwrap().latest();
    let at = now + meridian_types::Duration::from_millis(400);
    let soon = run(&mut s, &format!("alter table t add column c int at timestamp '{}'", at.as_nanos())).await;
    settle(&world).await;
    assert_eq!(job(&world, number(&soon)).await.state, JobState::Succeeded);
    assert_eq!(table(&world, "t").await.valid_from, at, "to the nanosecond");
    let before = run(&mut s, &format!("select * from t as of system time {}", at.prev().as_nanos())).await;
    assert_eq!(before, "[id | b]\nSELECT 0\n");
    let after = run(&mut s, &format!("select * from t as of system time {}", at.as_nanos())).await;
    assert_eq!(after, "[id | b | c]\nSELECT 0\n");
}
