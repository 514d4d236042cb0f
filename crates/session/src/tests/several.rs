//! Several statements of one message are one serializable transaction.

use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures::poll;
use meridian_datum::{Batch, EvalContext, SqlError};
use meridian_kv_api::{KvError, RetryReason};
use tokio::sync::Semaphore;

use super::{TextSink, World, error_text};
use crate::{
    BindParams, CommandTag, CopyHeader, ResultSink, RowDescription, Session, Severity, SinkClosed,
    TransactionStatus,
};

const NO_PARAMS: BindParams<'static> =
    BindParams { parameter_formats: &[], parameters: &[], result_formats: &[] };

/// A sink that is sent after every batch, each time when the test gives a permit.
struct Gate {
    text: TextSink,
    permits: Arc<Semaphore>,
}

impl Gate {
    fn new() -> (Gate, Arc<Semaphore>) {
        let permits = Arc::new(Semaphore::new(0));
        (Gate { text: TextSink::default(), permits: permits.clone() }, permits)
    }
}

#[async_trait]
impl ResultSink for Gate {
    fn describe(&mut self, rows: &RowDescription) {
        self.text.describe(rows);
    }

    fn batch(&mut self, rows: &RowDescription, batch: &Batch, context: &EvalContext) -> Result<(), SqlError> {
        self.text.batch(rows, batch, context)
    }

    fn complete(&mut self, tag: CommandTag) {
        self.text.complete(tag);
    }

    fn empty_query(&mut self) {
        self.text.empty_query();
    }

    fn suspended(&mut self) {
        self.text.suspended();
    }

    fn notice(&mut self, severity: Severity, notice: &SqlError) {
        self.text.notice(severity, notice);
    }

    fn parameter_status(&mut self, name: &str, value: &str) {
        self.text.parameter_status(name, value);
    }

    fn copy_in(&mut self, header: CopyHeader) {
        self.text.copy_in(header);
    }

    fn copy_out(&mut self, header: CopyHeader) {
        self.text.copy_out(header);
    }

    fn copy_data(&mut self, data: &[u8]) {
        self.text.copy_data(data);
    }

    fn copy_out_done(&mut self) {}

    fn position(&self) -> u64 {
        self.text.position()
    }

    fn rewind(&mut self, position: u64) -> bool {
        self.text.rewind(position)
    }

    fn appended(&self, position: u64) -> Option<&[u8]> {
        self.text.appended(position)
    }

    fn is_full(&self) -> bool {
        true
    }

    async fn flush(&mut self) -> Result<(), SinkClosed> {
        self.permits.acquire().await.expect("the gate is open for ever").forget();
        self.text.flush().await
    }
}

async fn run(session: &mut Session, sql: &str) -> String {
    let mut sink = TextSink::default();
    match session.simple_query(sql, &mut sink).await {
        Ok(_) => sink.out,
        Err(e) => sink.out + &error_text(&e),
    }
}

/// A world with a table of ten rows `(g, g)`, and two sessions.
async fn world() -> (World, Session, Session) {
    let world = World::new().await;
    let (mut a, b) = (world.session().await, world.session().await);
    run(&mut a, "create table t (a int primary key, b int)").await;
    run(&mut a, "insert into t select g, g from generate_series(1, 10) g").await;
    (world, a, b)
}

fn count(world: &World, name: &str) -> u64 {
    let counters = world.factory.counters();
    counters.iter().find(|(n, _)| n == name).expect("it is counted").1
}

/// Each reads the row that the other one writes.
#[tokio::test]
async fn reads_before_a_write_allow_no_write_skew() {
    let (world, mut a, mut b) = world().await;
    assert_eq!(run(&mut b, "begin; select b from t where a = 2").await, "BEGIN\n[b]\n2\nSELECT 1\n");
    {
        let mut message = pin!(run(&mut a, "select b from t where a = 1; update t set b = 0 where a = 2"));
        assert!(poll!(&mut message).is_pending(), "it waits for the older reader of the second row");
        // The older one takes the lock of the first row, and what the message had read of it no longer holds.
        run(&mut b, "update t set b = 0 where a = 1").await;
        assert_eq!(run(&mut b, "commit").await, "COMMIT\n");
        assert_eq!(message.await, "[b]\n0\nSELECT 1\nUPDATE 1\n", "it has seen nothing of the first attempt");
    }
    assert_eq!(run(&mut a, "select b from t where a < 3").await, "[b]\n0\n0\nSELECT 2\n");
    assert_eq!(count(&world, "serialization_failures"), 0);
}

/// What was sent can't be taken back.
#[tokio::test]
async fn reads_before_a_write_that_were_sent_hold_or_are_a_conflict() {
    let (world, mut a, mut b) = world().await;
    run(&mut b, "begin; select b from t where a = 2").await;
    {
        let (mut sink, permits) = Gate::new();
        permits.add_permits(1);
        let sql = "select b from t where b < 2 order by b; update t set b = 0 where a = 2";
        let mut message = pin!(a.simple_query(sql, &mut sink));
        assert!(poll!(&mut message).is_pending(), "it waits for the older reader of the second row");
        run(&mut b, "update t set b = 0 where a = 1").await;
        assert_eq!(run(&mut b, "commit").await, "COMMIT\n");
        let e = message.await.expect_err("the first row was 1 and is 0");
        assert_eq!(e.state.code(), "40001");
    }
    assert_eq!(run(&mut a, "select b from t where a < 3").await, "[b]\n0\n2\nSELECT 2\n");
    assert_eq!(count(&world, "serialization_failures"), 1);
}

#[tokio::test]
async fn reads_alone_have_one_snapshot_and_no_locks() {
    let (_world, mut a, mut b) = world().await;
    let (mut sink, permits) = Gate::new();
    {
        let select = "select b from t where b in (1, 2, 3, 7) and a < 3 order by b";
        let mut message = Box::pin(async {
            let sql = format!("{select}; set application_name = 'x'; {select}; {select}");
            a.simple_query(&sql, &mut sink).await
        });
        assert!(poll!(&mut message).is_pending(), "the rows of the first one are being sent");
        assert_eq!(run(&mut b, "update t set b = 7 where a = 1").await, "UPDATE 1\n", "nobody has locks");
        permits.add_permits(1);
        assert!(poll!(&mut message).is_pending(), "the rows of the second one are being sent");
        assert_eq!(run(&mut b, "delete from t").await, "DELETE 10\n");
        permits.add_permits(2);
        message.await.unwrap();
    }
    assert_eq!(sink.text.out.matches("[b]\n1\n2\nSELECT 2\n").count(), 3, "{}", sink.text.out);
    assert_eq!(
        run(&mut a, "select count(*) from t; select count(*) from t").await.matches("\n0\n").count(),
        2
    );
}

/// What follows COMMIT is another transaction, and BEGIN makes a block of what came before.
#[tokio::test]
async fn only_what_the_transaction_itself_may_write_makes_its_reads_lock() {
    let (_world, mut a, mut b) = world().await;
    for (message, locks) in [
        ("select b from t order by b; update t set b = 1 where a = 99", true),
        (
            "select b from t order by b; with d as (delete from t where a = 99 returning a) select * from d",
            true,
        ),
        ("select b from t order by b; select b from t where a = 99 for update", true),
        ("select b from t order by b; begin; select b from t where a = 1; rollback", true),
        ("select b from t order by b; explain analyze delete from t where a = 99", true),
        ("select b from t order by b; explain delete from t", false),
        ("select b from t order by b; commit; update t set b = 1 where a = 99", false),
        ("select b from t order by b; show all", false),
        ("prepare p as select 1; prepare q as delete from t where a = 99", false),
        ("select b from t order by b; execute p", false),
        ("select b from t order by b; execute q", true),
        ("set default_transaction_read_only = on", false),
        ("select b from t order by b; select b from t order by b", false),
    ] {
        let (mut sink, permits) = Gate::new();
        let mut running = Box::pin(a.simple_query(message, &mut sink));
        if !message.starts_with("select") {
            permits.add_permits(9);
            running.await.unwrap();
            continue;
        }
        assert!(poll!(&mut running).is_pending(), "the rows of the first one are being sent");
        {
            let mut write = pin!(run(&mut b, "update t set b = b + 1 where a = 1"));
            let waits = poll!(&mut write).is_pending();
            assert_eq!(waits, locks, "{message}");
            permits.add_permits(99);
            running.await.unwrap();
            if waits {
                assert_eq!(write.await, "UPDATE 1\n");
            }
        }
    }
}

/// The plan of a later statement is another one than before the message ran.
#[tokio::test]
async fn a_write_that_was_not_foreseen_runs_the_reads_again_under_locks() {
    let (world, mut a, mut b) = world().await;
    run(&mut a, "prepare p as select b from t where a = 2").await;
    let message = "select b from t where b < 2 order by b; deallocate p; \
                   prepare p as update t set b = 0 where a = 2 returning a; execute p";
    let (mut sink, permits) = Gate::new();
    {
        let mut running = pin!(a.simple_query(message, &mut sink));
        assert!(poll!(&mut running).is_pending(), "the rows of the first one are being sent");
        run(&mut b, "insert into t values (11, 11)").await;
        permits.add_permits(9);
        running.await.expect("what was read is as it was");
    }
    assert!(sink.text.out.ends_with("[a]\n2\nUPDATE 1\n"), "{}", sink.text.out);
    assert_eq!(count(&world, "retried_blocks"), 1, "the first read had no locks");
    // The same, where what was read has changed.
    run(&mut a, "deallocate p; prepare p as select b from t where a = 2").await;
    let (mut sink, permits) = Gate::new();
    let mut running = pin!(a.simple_query(message, &mut sink));
    assert!(poll!(&mut running).is_pending(), "the rows of the first one are being sent");
    run(&mut b, "update t set b = 0 where a = 1").await;
    permits.add_permits(9);
    assert_eq!(running.await.expect_err("the first row was 1 and is 0").state.code(), "40001");
}

#[tokio::test]
async fn a_session_that_reads_stale_does_not_in_a_message_that_writes() {
    let (_world, mut a, mut b) = world().await;
    run(&mut b, "set read_staleness = 'exact 1h'").await;
    let out = run(&mut b, "update t set b = 5 where a = 1; select b from t where a = 1").await;
    assert_eq!(out, "UPDATE 1\n[b]\n5\nSELECT 1\n");
    let out = run(&mut b, "select b from t where a = 1; update t set b = 6 where a = 1").await;
    assert_eq!(out, "[b]\n5\nSELECT 1\nUPDATE 1\n");
    assert_eq!(run(&mut a, "select b from t where a = 1").await, "[b]\n6\nSELECT 1\n");
}

/// Parse, Bind and Execute, with what the edge says in between.
async fn execute(session: &mut Session, sql: &str, sink: &mut TextSink) -> Result<(), SqlError> {
    session.parse("", sql, &[]).await?;
    session.bind("", "", NO_PARAMS).await?;
    sink.out.push_str("(bound)\n");
    session.execute("", 0, sink).await.map(|_| ())
}

/// A pipeline up to Sync: what the client sees.
async fn pipeline(session: &mut Session, statements: &[&str]) -> String {
    let mut sink = TextSink::default();
    let mut result = Ok(());
    for sql in statements {
        result = execute(session, sql, &mut sink).await;
        if result.is_err() {
            break;
        }
    }
    let synced = session.sync(&mut sink).await;
    match result.and(synced) {
        Ok(()) => sink.out,
        Err(e) => sink.out + &error_text(&e),
    }
}

fn lost() -> KvError {
    KvError::Retry { reason: RetryReason::LocksLost }
}

#[tokio::test]
async fn a_pipeline_whose_commit_conflicts_is_run_again() {
    let (world, mut a, _b) = world().await;
    let statements = [
        "update t set b = b + 1 where a = 1 returning b, random() > 2",
        "select b from t where a = 1",
        "insert into t values (11, 11)",
    ];
    world.kv.fail_next_commit(lost());
    let out = pipeline(&mut a, &statements).await;
    assert_eq!(out, "(bound)\n2 | f\nUPDATE 1\n(bound)\n2\nSELECT 1\n(bound)\nINSERT 0 1\n");
    assert_eq!(a.status(), TransactionStatus::Idle);
    assert_eq!((count(&world, "retried_blocks"), count(&world, "serialization_failures")), (1, 0));
    assert_eq!(
        run(&mut a, "select b from t where a in (1, 11)").await,
        "[b]\n2\n11\nSELECT 2\n",
        "once each"
    );
    // A single statement is run again as a whole, and may answer otherwise.
    world.kv.fail_next_commit(lost());
    let out = pipeline(&mut a, &["update t set b = b + 1 where a = 1 returning b"]).await;
    assert_eq!(out, "(bound)\n3\nUPDATE 1\n");
    assert_eq!((count(&world, "retried_blocks"), count(&world, "retried_statements")), (1, 1));
    // Switched off.
    run(&mut a, "set transparent_retries = off").await;
    world.kv.fail_next_commit(lost());
    let out = pipeline(&mut a, &statements[..2]).await;
    assert!(out.contains("ERROR 40001") && out.contains("retries are off"), "{out}");
    assert_eq!(run(&mut a, "select b from t where a = 1").await, "[b]\n3\nSELECT 1\n");
}

#[tokio::test]
async fn a_pipeline_that_meets_a_conflict_in_the_middle_goes_on() {
    let (world, mut a, mut b) = world().await;
    let mut sink = TextSink::default();
    execute(&mut a, "update t set b = 5 where a = 1", &mut sink).await.unwrap();
    execute(&mut a, "update t set b = 6 where a = 2", &mut sink).await.unwrap();
    assert!(world.kv.wound(a.attempt_id().unwrap()));
    run(&mut b, "update t set b = b + 10 where a in (1, 3)").await;
    execute(&mut a, "update t set b = b + 1 where a = 3 returning b", &mut sink).await.unwrap();
    a.sync(&mut sink).await.unwrap();
    assert_eq!(sink.out, "(bound)\nUPDATE 1\n(bound)\nUPDATE 1\n(bound)\n14\nUPDATE 1\n");
    assert_eq!(count(&world, "serialization_failures"), 0);
    // What has been answered and has changed is a conflict.
    let mut sink = TextSink::default();
    execute(&mut a, "select b from t where a = 3 for update", &mut sink).await.unwrap();
    execute(&mut a, "update t set b = 6 where a = 2", &mut sink).await.unwrap();
    assert!(world.kv.wound(a.attempt_id().unwrap()));
    run(&mut b, "update t set b = 0 where a = 3").await;
    let e = execute(&mut a, "update t set b = b + 1 where a = 3", &mut sink).await.unwrap_err();
    assert_eq!(e.state.code(), "40001");
    a.sync(&mut sink).await.unwrap();
    assert_eq!((a.status(), count(&world, "serialization_failures")), (TransactionStatus::Idle, 1));
}

#[tokio::test]
async fn reads_of_a_pipeline_are_made_again_under_locks_by_its_first_write() {
    let (world, mut a, mut b) = world().await;
    let reads = ["select b from t where a = 1", "select count(*) from t"];
    let out = pipeline(&mut a, &[reads[0], reads[1], "update t set b = 0 where a = 2"]).await;
    assert_eq!(out, "(bound)\n1\nSELECT 1\n(bound)\n10\nSELECT 1\n(bound)\nUPDATE 1\n");
    assert_eq!((count(&world, "retried_blocks"), count(&world, "serialization_failures")), (1, 0));
    assert_eq!(pipeline(&mut a, &reads).await.matches("SELECT 1").count(), 2);
    assert_eq!(count(&world, "retried_blocks"), 1, "reads alone need no locks");
    // Each reads the row that the other one writes.
    let mut sink = TextSink::default();
    execute(&mut a, reads[0], &mut sink).await.unwrap();
    let out = pipeline(&mut b, &["select b from t where a = 3", "update t set b = 0 where a = 1"]).await;
    assert!(out.ends_with("UPDATE 1\n"), "{out}");
    let e = execute(&mut a, "update t set b = 0 where a = 3", &mut sink).await.unwrap_err();
    assert_eq!(e.state.code(), "40001", "the first row was 1 and is 0");
    a.sync(&mut sink).await.unwrap();
    assert_eq!(run(&mut a, "select b from t where a = 3").await, "[b]\n3\nSELECT 1\n");
}
