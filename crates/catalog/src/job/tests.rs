use meridian_kv_api::{Kv, MemoryKv, ReadWriteOptions};

use super::*;

fn job() -> Job {
    Job {
        id: JobId::new(7),
        work: JobWork::AddIndexes { first: IndexId(3), count: 1 },
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
        JobWork::Clean { storage: TableId(1), index: None, forget: true },
        JobWork::Clean { storage: TableId(1), index: Some(IndexId(9)), forget: false },
    ];
    let error = SqlError::new(SqlState::UNIQUE_VIOLATION, "m")
        .with_detail("d")
        .with_table("public", "t")
        .with_constraint("c");
    for work in works {
        let job = Job { work, start_at: Some(Timestamp::from_nanos(5)), ..job() };
        assert_eq!(codec::decode(job.id, &codec::encode(&job)), Ok(job.clone()));
        let ended = job.ended(Timestamp::from_nanos(9), Some(&error));
        assert_eq!(codec::decode(job.id, &codec::encode(&ended)), Ok(ended.clone()));
        assert_eq!(ended.error.unwrap().to_sql(), error, "the client of another node gets the same error");
    }
    assert!(codec::decode(JobId::new(7), b"\x08\x09").is_err(), "unknown work");
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
