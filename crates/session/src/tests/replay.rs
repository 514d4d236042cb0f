//! Blocks that lose a conflict and are run again: what the client sees, and what it does not.
//!
//! `Block` is a session in a block that is wounded at a moment of the test's choice, as an older transaction would do;
//! another session changes rows before the block goes on.

use meridian_kv_api::{KvError, RetryReason};

use super::{TextSink, World, error_text};
use crate::{BindParams, Flow, Session, TransactionStatus};

const NO_PARAMS: BindParams<'static> =
    BindParams { parameter_formats: &[], parameters: &[], result_formats: &[] };

async fn simple(session: &mut Session, sql: &str) -> String {
    let mut sink = TextSink::default();
    match session.simple_query(sql, &mut sink).await {
        Ok(_) => sink.out,
        Err(e) => sink.out + &error_text(&e),
    }
}

struct Block {
    world: World,
    session: Session,
    other: Session,
}

impl Block {
    async fn new() -> Block {
        let world = World::new().await;
        let (mut session, other) = (world.session().await, world.session().await);
        simple(&mut session, "create table t (a int primary key, b int)").await;
        simple(&mut session, "insert into t select g, g from generate_series(1, 10) g").await;
        simple(&mut session, "create table u (id uuid, at timestamptz)").await;
        Block { world, session, other }
    }

    /// A statement that must succeed.
    async fn run(&mut self, sql: &str) -> String {
        let out = simple(&mut self.session, sql).await;
        assert!(!out.contains("ERROR"), "{sql}: {out}");
        out
    }

    /// A COPY whose data comes in pieces; what the client is told at its end.
    async fn copy(&mut self, sql: &str, pieces: &[&[u8]]) -> String {
        self.begin_copy(sql).await;
        for piece in pieces {
            self.copy_data(piece).await;
        }
        self.copy_done().await
    }

    async fn begin_copy(&mut self, sql: &str) {
        let mut sink = TextSink::default();
        assert_eq!(self.session.simple_query(sql, &mut sink).await, Ok(Flow::CopyIn));
    }

    async fn copy_data(&mut self, piece: &[u8]) {
        let mut sink = TextSink::default();
        self.session.copy_data(piece, &mut sink).await.unwrap();
        assert_eq!(sink.out, "", "data is not answered");
    }

    async fn copy_done(&mut self) -> String {
        let mut sink = TextSink::default();
        match self.session.copy_done(&mut sink).await {
            Ok(_) => sink.out,
            Err(e) => sink.out + &error_text(&e),
        }
    }

    /// The next commit meets a conflict.
    fn fail_commit(&self) {
        self.world.kv.fail_next_commit(KvError::Retry { reason: RetryReason::LocksLost });
    }

    /// An older transaction takes the block's locks and changes rows.
    async fn wound(&mut self, change: &str) {
        let id = self.session.attempt_id().expect("the block has begun");
        assert!(self.world.kv.wound(id), "the block is open");
        let out = simple(&mut self.other, change).await;
        assert!(!out.contains("ERROR"), "{change}: {out}");
    }

    fn count(&self, name: &str) -> u64 {
        let counters = self.world.factory.counters();
        counters.iter().find(|(n, _)| n == name).expect("it is counted").1
    }

    /// The client was told of no conflict.
    fn hidden(&self) {
        assert!(self.count("retried_blocks") > 0, "it was run again");
        assert_eq!((self.count("retried_blocks_changed"), self.count("serialization_failures")), (0, 0));
    }
}

#[tokio::test]
async fn a_wounded_block_goes_on_under_its_age_and_nobody_notices() {
    let mut block = Block::new().await;
    block.run("begin").await;
    assert_eq!(block.run("select b from t where a = 2").await, "[b]\n2\nSELECT 1\n");
    block.run("update t set b = b + 1 where a = 1").await;
    let age = block.session.attempt_id().unwrap().first_start;
    block.wound("update t set b = b + 10 where a = 1").await;
    assert_eq!(block.run("update t set b = b + 1 where a = 3 returning b").await, "[b]\n4\nUPDATE 1\n");
    assert_eq!(block.session.attempt_id().unwrap().first_start, age, "wound-wait rests on it");
    block.wound("update t set b = b + 100 where a = 1").await;
    block.run("commit").await;
    assert_eq!(block.run("select b from t where a in (1, 3) order by a").await, "[b]\n112\n4\nSELECT 2\n");
    block.hidden();
}

#[tokio::test]
async fn a_commit_that_conflicts_runs_the_block_again() {
    let mut block = Block::new().await;
    block.run("begin; update t set b = 0 where a = 1").await;
    block.world.kv.fail_next_commit(KvError::Retry { reason: RetryReason::LocksLost });
    assert_eq!(block.run("commit").await, "COMMIT\n");
    assert_eq!(block.session.status(), TransactionStatus::Idle);
    assert_eq!(block.run("select b from t where a = 1").await, "[b]\n0\nSELECT 1\n");
    block.hidden();
}

#[tokio::test]
async fn what_was_read_and_has_changed_is_a_conflict_for_the_client() {
    let mut block = Block::new().await;
    for (read, change) in [
        ("select b from t where a = 1", "update t set b = b + 1 where a = 1"),
        ("select count(*) from t", "insert into t values (11, 0)"),
        ("update t set b = 0 where b > 100", "update t set b = 101 where a = 5"),
        ("insert into t values (20, 0) on conflict do nothing", "insert into t values (20, 1)"),
    ] {
        block.run("begin").await;
        block.run(read).await;
        block.wound(change).await;
        let out = simple(&mut block.session, "update t set b = 0 where a = 7").await;
        assert!(out.starts_with("ERROR 40001") && out.contains("answered differently"), "{read}: {out}");
        assert_eq!(block.session.status(), TransactionStatus::Failed);
        // Nothing brings the block back: what it has shown is not what it would commit.
        let out = simple(&mut block.session, "select 1").await;
        assert!(out.starts_with("ERROR 25P02"), "{out}");
        assert_eq!(block.run("commit").await, "ROLLBACK\n");
    }
    assert_eq!(block.count("retried_blocks_changed"), 4);
    // The same at COMMIT, and with a savepoint.
    block.run("begin; savepoint s").await;
    block.run("select b from t where a = 1").await;
    block.wound("update t set b = b + 1 where a = 1").await;
    let out = simple(&mut block.session, "select b from t where a = 2").await;
    assert!(out.starts_with("ERROR 40001"), "{out}");
    let out = simple(&mut block.session, "rollback to s").await;
    assert!(out.starts_with("ERROR 3B001"), "{out}");
    block.run("rollback").await;
    block.run("begin").await;
    block.run("select b from t where a = 1").await;
    block.wound("update t set b = b + 1 where a = 1").await;
    let out = simple(&mut block.session, "commit").await;
    assert!(out.starts_with("ERROR 40001"), "{out}");
    assert_eq!(block.session.status(), TransactionStatus::Idle);
}

#[tokio::test]
async fn savepoints_settings_and_errors_are_met_again() {
    let mut block = Block::new().await;
    block.run("begin; set local application_name = 'first'").await;
    block.run("insert into t values (11, 11); savepoint s; insert into t values (12, 12)").await;
    let out = simple(&mut block.session, "insert into t values (1, 1)").await;
    assert!(out.starts_with("ERROR 23505"), "{out}");
    block.run("rollback to s; set local application_name = 'second'").await;
    // An error that is none of the data's is not met again, and what came before it in its savepoint is undone.
    block.run("savepoint x; insert into t values (13, 13)").await;
    simple(&mut block.other, "begin; select b from t where a = 9 for update").await;
    let out = simple(&mut block.session, "select b from t where a = 9 for update nowait").await;
    assert!(out.starts_with("ERROR 55P03"), "{out}");
    simple(&mut block.other, "commit").await;
    block.run("rollback to x; release s").await;
    block.wound("update t set b = 0 where a = 5").await;
    assert!(block.run("show application_name").await.contains("second"));
    block.run("commit").await;
    assert_eq!(block.run("select a from t where a > 10").await, "[a]\n11\nSELECT 1\n");
    block.hidden();
}

#[tokio::test]
async fn volatile_functions_say_the_same_again() {
    let mut block = Block::new().await;
    block.run("begin").await;
    let shown = block.run("insert into u values (gen_random_uuid(), now()) returning id, at").await;
    block.run("select random(), statement_timestamp()").await;
    block.wound("update t set b = 0 where a = 5").await;
    block.run("commit").await;
    let stored = block.run("select id, at from u").await;
    assert_eq!(shown.lines().nth(1), stored.lines().nth(1));
    block.hidden();
    // The clock has gone on, and that was seen.
    block.run("begin; update t set b = 1 where a = 1").await;
    block.run("select clock_timestamp()").await;
    block.wound("update t set b = 0 where a = 5").await;
    let out = simple(&mut block.session, "commit").await;
    assert!(out.starts_with("ERROR 40001"), "{out}");
}

#[tokio::test]
async fn portals_go_on_where_they_were() {
    let mut block = Block::new().await;
    block.run("begin").await;
    let s = &mut block.session;
    let mut sink = TextSink::default();
    s.parse("q", "select a from t order by a", &[]).await.unwrap();
    s.bind("p", "q", NO_PARAMS).await.unwrap();
    s.execute("p", 3, &mut sink).await.unwrap();
    s.bind("later", "q", NO_PARAMS).await.unwrap();
    s.sync(&mut sink).await.unwrap();
    block.run("savepoint x").await;
    block.run("update t set b = b + 1 where a = 1").await;
    block.wound("update t set b = b + 10 where a = 1").await;
    block.run("update t set b = b + 1 where a = 2").await;
    let s = &mut block.session;
    sink.out.clear();
    s.execute("p", 3, &mut sink).await.unwrap();
    assert_eq!(sink.out, "4\n5\n6\nSUSPENDED\n");
    sink.out.clear();
    s.execute("later", 2, &mut sink).await.unwrap();
    assert_eq!(sink.out, "1\n2\nSUSPENDED\n");
    // A portal that ran to its end, asked again, is at its end.
    s.bind("whole", "q", NO_PARAMS).await.unwrap();
    s.execute("whole", 0, &mut sink).await.unwrap();
    s.execute("whole", 0, &mut sink).await.unwrap();
    s.sync(&mut sink).await.unwrap();
    block.wound("update t set b = b + 10 where a = 1").await;
    block.run("commit").await;
    assert_eq!(block.run("select b from t where a <= 2 order by a").await, "[b]\n22\n3\nSELECT 2\n");
    block.hidden();
    // Rows that were fetched and have changed.
    block.run("begin; update t set b = 0 where a = 3").await;
    let s = &mut block.session;
    s.bind("p", "q", NO_PARAMS).await.unwrap();
    s.execute("p", 3, &mut sink).await.unwrap();
    block.wound("delete from t where a = 1").await;
    let s = &mut block.session;
    s.bind("r", "q", NO_PARAMS).await.unwrap();
    let e = s.execute("r", 3, &mut sink).await.unwrap_err();
    assert_eq!(e.state.code(), "40001");
    s.sync(&mut sink).await.unwrap();
    assert_eq!(s.status(), TransactionStatus::Failed);
}

#[tokio::test]
async fn cursors_go_on_where_they_were() {
    let mut block = Block::new().await;
    block
        .run("begin; declare held cursor with hold for select a from t order by a; commit; fetch 2 from held")
        .await;
    block.run("begin").await;
    block.run("declare c cursor for select a from t where a > 1 order by a").await;
    block.run("declare s scroll cursor for select b from t order by a").await;
    assert_eq!(block.run("fetch 2 from c").await, "[a]\n2\n3\nFETCH 2\n");
    assert_eq!(block.run("fetch 3 from s").await, "[b]\n1\n2\n3\nFETCH 3\n");
    assert_eq!(block.run("fetch 1 from held").await, "[a]\n3\nFETCH 1\n");
    block.run("declare gone cursor for select 1; close gone").await;
    block.run("update t set b = b where a = 9").await;
    block.wound("update t set b = b + 10 where a = 9").await;
    assert_eq!(block.run("fetch 2 from c").await, "[a]\n4\n5\nFETCH 2\n");
    assert_eq!(block.run("fetch backward 1 from s").await, "[b]\n2\nFETCH 1\n");
    assert_eq!(block.run("fetch 1 from held").await, "[a]\n4\nFETCH 1\n", "its place is that of no attempt");
    let mut sink = TextSink::default();
    block.session.execute("c", 1, &mut sink).await.unwrap();
    block.session.sync(&mut sink).await.unwrap();
    assert_eq!(sink.out, "6\nSUSPENDED\n");
    block.wound("update t set b = b + 10 where a = 9").await;
    block.run("commit").await;
    assert_eq!(block.run("fetch 1 from held").await, "[a]\n5\nFETCH 1\n");
    block.hidden();
    // Rows that were fetched and have changed.
    block.run("begin; declare c cursor for select b from t order by a for update").await;
    block.run("fetch 2 from c").await;
    block.wound("update t set b = b + 10 where a = 2").await;
    let out = simple(&mut block.session, "commit").await;
    assert!(out.starts_with("ERROR 40001") && out.contains("answered differently"), "{out}");
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_not_run_again() {
    let mut block = Block::new().await;
    block.run("begin; update t set b = b + 1 where a = 1").await;
    block.world.kv.fail_next_commit(KvError::Ambiguous);
    let out = simple(&mut block.session, "commit").await;
    assert!(out.starts_with("ERROR 40003"), "{out}");
    assert_eq!((block.count("retried_blocks"), block.count("retried_statements")), (0, 0));
    assert_eq!(block.session.status(), TransactionStatus::Idle);
}

#[tokio::test]
async fn what_is_not_run_again_says_why() {
    let mut block = Block::new().await;
    for (begin, statement, why) in [
        ("begin; set local transparent_retries = off", "update t set b = 1 where a = 1", "retries are off"),
        (
            "begin; set local transparent_retry_limit = '1kB'",
            "update t set b = 1 where a in (1, 2, 3, 4)",
            "too long",
        ),
        ("begin", "create table v (a int)", "changes the schema"),
    ] {
        block.run(begin).await;
        block.run("update t set b = 1 where a = 2").await;
        block.run(statement).await;
        block.wound("select 1").await;
        let out = simple(&mut block.session, "commit").await;
        assert!(out.starts_with("ERROR 40001") && out.contains(why), "{begin}; {statement}: {out}");
    }
    block.run("begin; set local copy_retry_limit = '100kB'").await;
    block.copy("copy t from stdin", &[b"30\t30\n"]).await;
    block.copy("copy t from stdin", &[b"31\t31\n"]).await;
    block.wound("select 1").await;
    let out = simple(&mut block.session, "commit").await;
    assert!(out.starts_with("ERROR 40001") && out.contains("copy_retry_limit"), "{out}");
    // A statement that was never run is not looked at again.
    block.run("begin; update t set b = 1 where a = 1; savepoint s").await;
    let out = simple(&mut block.session, "select nonsense").await;
    assert!(out.starts_with("ERROR 42703"), "{out}");
    block.run("rollback to s").await;
    block.wound("select 1").await;
    let out = simple(&mut block.session, "commit").await;
    assert!(out.starts_with("ERROR 40001") && out.contains("was refused"), "{out}");
    assert_eq!(block.count("retried_blocks"), 0);
    assert_eq!(block.count("serialization_failures"), 5);
    // A statement of its own, too, is not run again when that is switched off.
    block.run("set transparent_retries = off").await;
    block.world.kv.fail_next_commit(KvError::Retry { reason: RetryReason::LocksLost });
    let out = simple(&mut block.session, "delete from t where a = 1").await;
    assert!(out.starts_with("ERROR 40001"), "{out}");
}

#[tokio::test]
async fn a_query_string_that_begins_a_block_is_its_first_step_on() {
    let mut block = Block::new().await;
    // What ran before BEGIN is part of the transaction and not of the journal.
    block.run("insert into t values (11, 11); begin; update t set b = 1 where a = 1").await;
    block.wound("select 1").await;
    let out = simple(&mut block.session, "commit").await;
    assert!(out.starts_with("ERROR 40001"), "{out}");
    block.run("begin; insert into t values (11, 11); commit and chain; update t set b = 5 where a = 1").await;
    block.wound("select 1").await;
    block.run("commit").await;
    assert_eq!(block.run("select b from t where a in (1, 11)").await, "[b]\n5\n11\nSELECT 2\n");
    assert_eq!((block.count("retried_blocks"), block.count("serialization_failures")), (1, 1));
}

#[tokio::test]
async fn several_statements_of_one_message_are_run_again() {
    let mut block = Block::new().await;
    let several =
        "update t set b = b + 1 where a = 1; select b from t where a = 1; insert into t values (11, 11)";
    let answer = "UPDATE 1\n[b]\n2\nSELECT 1\nINSERT 0 1\n";
    block.fail_commit();
    assert_eq!(block.run(several).await, answer);
    assert_eq!(block.session.status(), TransactionStatus::Idle);
    assert_eq!(block.run("select b from t where a in (1, 11)").await, "[b]\n2\n11\nSELECT 2\n", "once each");
    // What follows a COMMIT in the message is a transaction of its own, and so is what comes before it.
    block.fail_commit();
    block.run("delete from t where a = 11; commit; insert into t values (11, 0)").await;
    block.fail_commit();
    block.run("set application_name = 'x'; update t set b = b + 1 where a = 11").await;
    assert_eq!(block.run("select b from t where a = 11").await, "[b]\n1\nSELECT 1\n");
    assert!(block.run("show application_name").await.contains('x'));
    // TRUNCATE leaves the schema alone.
    block.fail_commit();
    block.run("truncate u; insert into u values (gen_random_uuid(), now())").await;
    assert_eq!(block.run("select count(*) from u").await, "[count]\n1\nSELECT 1\n");
    assert_eq!(block.count("retried_blocks"), 4);
    block.hidden();
    // An error of one of them undoes all.
    let out = simple(&mut block.session, "update t set b = 0; insert into t values (1, 1)").await;
    assert!(out.starts_with("UPDATE 11\nERROR 23505"), "{out}");
    assert_eq!(block.run("select b from t where a = 2").await, "[b]\n2\nSELECT 1\n");
    // Switched off, and with a schema change.
    for (several, why) in [
        ("set transparent_retries = off; update t set b = 0; select 1", "retries are off"),
        ("update t set b = 0; create table w (a int)", "changes the schema"),
    ] {
        block.fail_commit();
        let out = simple(&mut block.session, several).await;
        assert!(out.contains("ERROR 40001") && out.contains(why), "{several}: {out}");
    }
    assert_eq!(block.run("select count(*) from t where b = 0").await, "[count]\n0\nSELECT 1\n");
}

#[tokio::test]
async fn several_statements_whose_answers_change_are_a_conflict() {
    let mut block = Block::new().await;
    // A COPY among them stops the message, so that another transaction can come between.
    block
        .begin_copy(
            "update t set b = 5 where a = 1; select b from t where a = 2 for update; copy t from stdin",
        )
        .await;
    block.wound("update t set b = 20 where a = 2").await;
    block.session.copy_data(b"11\t11\n", &mut TextSink::default()).await.unwrap();
    let out = block.copy_done().await;
    assert!(out.starts_with("ERROR 40001") && out.contains("answered differently"), "{out}");
    assert_eq!(out.matches("answered differently").count(), 1, "the reason is given once: {out}");
    assert_eq!(block.session.status(), TransactionStatus::Idle);
    assert_eq!(block.run("select b from t where a in (1, 2, 11)").await, "[b]\n1\n20\nSELECT 2\n");
    assert_eq!((block.count("retried_blocks_changed"), block.count("serialization_failures")), (1, 1));
}

#[tokio::test]
async fn a_copy_is_made_again_with_the_data_that_came() {
    let mut block = Block::new().await;
    // By itself: wounded between its pieces, and at its commit.
    block.begin_copy("copy t from stdin").await;
    block.copy_data(b"11\t11\n1").await;
    block.wound("update t set b = 5 where a = 5").await;
    block.copy_data(b"2\t12\n").await;
    block.fail_commit();
    assert_eq!(block.copy_done().await, "COPY 2\n");
    assert_eq!(block.run("select b from t where a > 10 order by a").await, "[b]\n11\n12\nSELECT 2\n");
    assert_eq!(block.count("retried_blocks"), 2);
    // In a block, as a step before the one that meets the conflict, and with statements behind it in its message.
    block.run("begin; truncate t; insert into t values (1, 1)").await;
    let rows: Vec<u8> = (2..3000).flat_map(|n| format!("{n}\t{n}\n").into_bytes()).collect();
    let pieces: Vec<&[u8]> = rows.chunks(1000).collect();
    block.begin_copy("copy t from stdin; select sum(b) from t").await;
    for piece in &pieces {
        block.copy_data(piece).await;
    }
    block.wound("select 1").await;
    assert_eq!(block.copy_done().await, "COPY 2998\n[sum]\n4498500\nSELECT 1\n");
    block.wound("insert into t values (4000, 4000)").await;
    block.run("update t set b = 0 where a = 7").await;
    block.wound("select 1").await;
    block.run("commit").await;
    assert_eq!(
        block.run("select count(*), sum(b) from t").await,
        "[count | sum]\n2999 | 4498493\nSELECT 1\n"
    );
    block.hidden();
}

#[tokio::test]
async fn a_copy_that_failed_is_met_again() {
    let mut block = Block::new().await;
    block.run("begin; update t set b = 0 where a = 1; savepoint s").await;
    block.begin_copy("copy t from stdin").await;
    block.copy_data(b"11\t11\n").await;
    block.copy_data(b"5\t5\n").await;
    let out = block.copy_done().await;
    assert!(out.starts_with("ERROR 23505"), "{out}");
    block.run("rollback to s").await;
    block.begin_copy("copy t from stdin").await;
    block.copy_data(b"12\t12\n").await;
    let e = block.session.copy_fail("the client has no more", &mut TextSink::default()).await.unwrap_err();
    assert_eq!(e.state.code(), "57014");
    block.run("rollback to s").await;
    block.begin_copy("copy t from stdin").await;
    let e = block.session.copy_data(b"x\t1\n", &mut TextSink::default()).await.unwrap_err();
    assert_eq!(e.state.code(), "22P02");
    block.run("rollback to s").await;
    block.wound("select 1").await;
    block.run("commit").await;
    assert_eq!(block.run("select a from t where a > 10 or b = 0").await, "[a]\n1\nSELECT 1\n");
    block.hidden();
    // The row that was in its way is gone: it would not fail again.
    block.run("begin; update t set b = 0 where a = 1; savepoint s").await;
    let out = block.copy("copy t from stdin", &[b"5\t5\n"]).await;
    assert!(out.starts_with("ERROR 23505"), "{out}");
    block.run("rollback to s").await;
    block.wound("delete from t where a = 5").await;
    let out = simple(&mut block.session, "commit").await;
    assert!(out.starts_with("ERROR 40001") && out.contains("answered differently"), "{out}");
}

#[tokio::test]
async fn a_copy_of_the_extended_protocol_is_made_again_at_sync() {
    let mut block = Block::new().await;
    let mut sink = TextSink::default();
    let s = &mut block.session;
    s.parse("", "copy t from stdin", &[]).await.unwrap();
    s.bind("", "", NO_PARAMS).await.unwrap();
    assert_eq!(s.execute("", 0, &mut sink).await, Ok(Flow::CopyIn));
    s.copy_data(b"11\t11\n", &mut sink).await.unwrap();
    assert_eq!(s.copy_done(&mut sink).await, Ok(Flow::Done));
    block.fail_commit();
    block.session.sync(&mut sink).await.unwrap();
    assert_eq!(sink.out, "COPY IN 2\nCOPY 1\n");
    assert_eq!(block.run("select b from t where a = 11").await, "[b]\n11\nSELECT 1\n");
    block.hidden();
}

/// An error rests on rows that were read, and these may be of a commit that is lost.
#[tokio::test]
async fn an_error_is_told_once_what_it_rests_on_stands() {
    let mut block = Block::new().await;
    let lost = || KvError::Retry { reason: RetryReason::LocksLost };
    let duplicate = "ERROR 23505: duplicate key value violates unique constraint \"t_pkey\"";
    for (n, (begin, sql)) in [
        ("", "insert into t values (1, 1)"),
        ("", "update t set b = 0 where a = 1; insert into t values (1, 1)"),
        ("begin", "insert into t values (1, 1)"),
    ]
    .into_iter()
    .enumerate()
    {
        block.run(begin).await;
        block.world.kv.fail_next_confirmation(lost());
        let out = simple(&mut block.session, sql).await;
        assert!(out.contains(duplicate), "{out}");
        assert_eq!(block.count("retried_statements") + block.count("retried_blocks"), n as u64 + 1, "{sql}");
        block.run("rollback").await;
    }
    // A block that goes on from a savepoint has its COMMIT to learn it from.
    block.run("begin; savepoint s").await;
    block.world.kv.fail_next_confirmation(lost());
    assert!(simple(&mut block.session, "insert into t values (1, 1)").await.contains(duplicate));
    block.run("rollback to s; insert into t values (11, 11); commit").await;
    assert_eq!(block.count("retried_statements") + block.count("retried_blocks"), 3);
    // What was to fail then fails now.
    block.begin_copy("copy t from stdin").await;
    let mut sink = TextSink::default();
    let fed = block.session.copy_data(b"12\t12\n11\t11\n", &mut sink).await;
    let out = match fed {
        Ok(()) => block.copy_done().await,
        Err(e) => error_text(&e),
    };
    assert!(out.contains(duplicate), "{out}");
    assert_eq!(block.count("retried_statements") + block.count("retried_blocks"), 4);
    block.hidden();
    assert_eq!(block.run("select count(*) from t where b > 0").await, "[count]\n11\nSELECT 1\n");
    // An error that is met again says the same; one that can't be is a conflict.
    block.run("set transparent_retries = off").await;
    block.world.kv.fail_next_confirmation(lost());
    let out = simple(&mut block.session, "insert into t values (1, 1)").await;
    assert!(out.starts_with("ERROR 40001"), "{out}");
}
