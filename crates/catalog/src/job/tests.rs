use meridian_kv_api::{Kv, MemoryKv, ReadWriteOptions};

use super::*;
use crate::descriptor::{CheckDesc, ColumnDesc, IndexDesc, IndexState, TableDesc};
use crate::ids::ColumnId;

fn job() -> Job {
    Job {
        id: JobId::new(7),
        work: JobWork::AddIndexes { first: IndexId(3), count: 1 },
        transition: None,
        table: Some(TableId(100)),
        table_name: "t".into(),
        statement: "create index on t (a)".into(),
        session: JobSession {
            user: "root".into(),
            database: "defaultdb".into(),
            search_path: "public".into(),
            time_zone: "UTC".into(),
            date_style: "ISO, MDY".into(),
        },
        state: JobState::Running,
        wish: JobWish::Run,
        phase: JobPhase::Backfill,
        rows_done: 10,
        rows_total: Some(20),
        created: Timestamp::from_nanos(1),
        started: Some(Timestamp::from_nanos(2)),
        finished: None,
        start_at: None,
        runner: NodeId::new(2),
        claim: 1,
        lease_end: Timestamp::from_nanos(30),
        rest: vec![
            Span::new(Key::copy_from(b"a"), Some(Key::copy_from(b"b"))),
            Span::new(Key::copy_from(b"c"), None),
        ],
        error: None,
    }
}

#[test]
fn records_round_trip() {
    let works = [
        JobWork::Statement,
        JobWork::AddIndexes { first: IndexId(2), count: 1 },
        JobWork::AddIndexes { first: IndexId(2), count: 3 },
        JobWork::Rewrite { old: TableId(1), new: TableId(2), first_index: IndexId(4) },
        JobWork::Alter,
        JobWork::Clean { storage: TableId(1), index: None, forget: true },
        JobWork::Clean { storage: TableId(1), index: Some(IndexId(9)), forget: false },
    ];
    let error = SqlError::new(SqlState::UNIQUE_VIOLATION, "m")
        .with_detail("d")
        .with_table("public", "t")
        .with_constraint("c");
    for work in works {
        let transition = (work == JobWork::Alter).then(|| Box::new(transition()));
        let job = Job { work, transition, start_at: Some(Timestamp::from_nanos(5)), ..job() };
        assert_eq!(codec::decode(job.id, &codec::encode(&job)), Ok(job.clone()));
        let ended = job.ended(Timestamp::from_nanos(9), Some(&error));
        assert_eq!(codec::decode(job.id, &codec::encode(&ended)), Ok(ended.clone()));
        assert_eq!(ended.error.unwrap().to_sql(), error, "the client of another node gets the same error");
    }
    assert!(codec::decode(JobId::new(7), b"\x08\x09").is_err(), "unknown work");
}

fn transition() -> Transition {
    let before = crate::fixture::orders();
    let mut after = before.clone();
    after.version += 1;
    after.columns[3].nullable = false;
    let id = ColumnId(after.next_column);
    after.columns.push(ColumnDesc { id, name: "due".into(), nullable: false, ..before.columns[2].clone() });
    after.next_column += 1;
    let mut unique = IndexDesc { id: IndexId(after.next_index), ..before.indexes[0].clone() };
    (unique.name, unique.unique, unique.state) = ("orders_due_key".into(), true, IndexState::Public);
    unique.columns[0].column = id;
    after.next_index += 1;
    after.indexes = vec![unique];
    let (name, expr) = ("c".into(), "due > placed".into());
    after.checks.push(CheckDesc { oid: 900, name, expr, validated: true });
    Transition { before, after }
}

#[test]
fn between_two_schemas_writers_heed_what_readers_do_not_rely_on() {
    let change = transition();
    let Transition { before, after } = &change;
    let enforced = change.enforced();
    enforced.assert_invariants();
    assert_eq!(enforced.version, before.version + 1);
    let [note, due] = &enforced.columns[3..] else { panic!("a column was added") };
    assert!(note.nullable && !note.accepts_null() && !note.hidden);
    assert!(due.nullable && !due.accepts_null() && due.hidden);
    assert!(before.columns[3].accepts_null() && !after.columns[3].accepts_null());
    let states: Vec<IndexState> = enforced.indexes.iter().map(|i| i.state).collect();
    assert_eq!(states, [IndexState::Public, IndexState::WriteOnly], "what goes is still there");
    assert_eq!(enforced.checks.iter().map(|c| c.validated).collect::<Vec<_>>(), [false]);
    assert_eq!(change.checks().map(|c| c.oid).collect::<Vec<_>>(), [900]);
    assert_eq!(change.new_indexes(), [after.indexes[0].id]);
    assert_eq!(change.dropped_indexes(), [before.indexes[0].id]);
    let made = change.end(&enforced, true);
    assert_eq!(made, TableDesc { version: before.version + 2, ..after.clone() });
    let undone = change.end(&enforced, false);
    let TableDesc { next_column, next_index, .. } = *after;
    assert_eq!(undone, TableDesc { version: before.version + 2, next_column, next_index, ..before.clone() });
}

#[test]
fn a_check_that_was_not_validated_is_to_be_met_and_one_that_is_added_so_is_not() {
    let mut before = crate::fixture::orders();
    let check = |oid, validated| CheckDesc { oid, name: "c".into(), expr: "id > 0".into(), validated };
    before.checks = vec![check(1, true), check(2, false), check(3, false)];
    let after = TableDesc {
        checks: vec![check(1, true), check(2, true), check(3, false), check(4, false)],
        ..before.clone()
    };
    let change = Transition { before, after };
    assert_eq!(change.checks().map(|c| c.oid).collect::<Vec<_>>(), [2]);
    let enforced = change.enforced();
    let states: Vec<_> = enforced.checks.iter().map(|c| (c.oid, c.validated)).collect();
    assert_eq!(states, [(1, true), (2, false), (3, false), (4, false)]);
}

#[test]
fn a_job_is_adopted_when_its_lease_is_surely_over() {
    let at = Timestamp::from_nanos;
    assert!(!job().is_adoptable(at(30)), "the lease includes its end");
    assert!(job().is_adoptable(at(31)));
    let soon = at(50) + START_AHEAD;
    let queued = Job { state: JobState::Queued, start_at: Some(soon), ..job() };
    assert!(!queued.is_adoptable(at(49)));
    assert!(queued.is_adoptable(at(50)));
    assert!(!Job { state: JobState::Paused, ..job() }.is_adoptable(Timestamp::MAX));
    assert!(!job().ended(at(1), None).is_adoptable(Timestamp::MAX));
}

#[tokio::test]
async fn a_runner_whose_claim_is_over_writes_nothing() {
    let kv = MemoryKv::new();
    let put = async |job: Job| {
        let txn = kv.begin(ReadWriteOptions::default());
        job.put(&*txn).await?;
        txn.commit().await?;
        Ok::<(), CatalogError>(())
    };
    put(job()).await.unwrap();
    put(Job { claim: 2, ..job() }).await.unwrap();
    assert!(matches!(put(job()).await, Err(CatalogError::Outdated { .. })));
    put(Job { claim: 2, state: JobState::Failed, ..job() }).await.unwrap();
    assert!(matches!(put(Job { claim: 2, ..job() }).await, Err(CatalogError::Outdated { .. })));
    let txn = kv.begin(ReadWriteOptions::default());
    assert_eq!(Job::all(&*txn).await.unwrap().len(), 1);
}
