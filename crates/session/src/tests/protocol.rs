//! The extended protocol, retries and cancellation.

use meridian_datum::DataType;
use meridian_kv_api::{KvError, RetryReason};

use super::{TextSink, World, error_text};
use crate::{BindParams, Flow, Format, Session, TransactionStatus};

const NO_PARAMS: BindParams<'static> =
    BindParams { parameter_formats: &[], parameters: &[], result_formats: &[] };

async fn simple(session: &mut Session, sql: &str) -> String {
    let mut sink = TextSink::default();
    match session.simple_query(sql, &mut sink).await {
        Ok(_) => sink.out,
        Err(e) => sink.out + &error_text(&e),
    }
}

async fn table(world: &World) -> Session {
    let mut s = world.session().await;
    simple(&mut s, "create table t (a int primary key, b text)").await;
    simple(&mut s, "insert into t select g, 'v' || g from generate_series(1, 10) g").await;
    s
}

/// Bind, Execute and Sync of a statement with text parameters.
async fn run(session: &mut Session, name: &str, params: &[Option<&[u8]>]) -> Result<String, String> {
    let mut sink = TextSink::default();
    let outcome = async {
        session.bind("", name, BindParams { parameters: params, ..NO_PARAMS }).await?;
        session.execute("", 0, &mut sink).await
    };
    let result = outcome.await;
    let synced = session.sync(&mut sink).await;
    match result.and(synced.map(|()| Flow::Done)) {
        Ok(_) => Ok(sink.out),
        Err(e) => Err(error_text(&e)),
    }
}

#[tokio::test]
async fn a_prepared_statement_runs_with_parameters() {
    let world = World::new().await;
    let mut s = table(&world).await;
    s.parse("q", "select b from t where a = $1", &[]).await.unwrap();
    let d = s.describe_statement("q").unwrap();
    assert_eq!(&*d.parameters, &[DataType::Int4]);
    assert_eq!(d.rows.unwrap().fields[0].data_type, DataType::Text);
    assert_eq!(run(&mut s, "q", &[Some(b"3")]).await.unwrap(), "v3\nSELECT 1\n");
    assert_eq!(run(&mut s, "q", &[None]).await.unwrap(), "SELECT 0\n");
    assert_eq!(s.status(), TransactionStatus::Idle);
    let e = run(&mut s, "q", &[Some(b"x")]).await.unwrap_err();
    assert!(e.contains("22P02"), "{e}");
    let e = run(&mut s, "q", &[]).await.unwrap_err();
    assert!(e.contains("08P01"), "{e}");
    let e = run(&mut s, "nothing", &[]).await.unwrap_err();
    assert!(e.contains("26000"), "{e}");
}

#[tokio::test]
async fn a_portal_outlives_its_statement() {
    let world = World::new().await;
    let mut s = table(&world).await;
    s.parse("q", "select b from t where a = 2", &[]).await.unwrap();
    s.bind("p", "q", NO_PARAMS).await.unwrap();
    s.close_statement("q");
    s.parse("q", "select b from t where a = 3", &[]).await.unwrap();
    let mut sink = TextSink::default();
    s.execute("p", 0, &mut sink).await.unwrap();
    s.sync(&mut sink).await.unwrap();
    assert_eq!(sink.out, "v2\nSELECT 1\n", "the portal runs the statement that it was bound to");
}

#[tokio::test]
async fn binary_parameters_and_result_formats() {
    let world = World::new().await;
    let mut s = table(&world).await;
    s.parse("", "select a, b from t where a = $1", &[23]).await.unwrap();
    let bind = BindParams {
        parameter_formats: &[Format::Binary],
        parameters: &[Some(&[0, 0, 0, 4])],
        result_formats: &[Format::Binary],
    };
    s.bind("p", "", bind).await.unwrap();
    let rows = s.describe_portal("p").unwrap().unwrap();
    assert!(rows.fields.iter().all(|f| f.format == Format::Binary));
    let mut sink = TextSink::default();
    s.execute("p", 0, &mut sink).await.unwrap();
    s.sync(&mut sink).await.unwrap();
    assert_eq!(sink.out, "4 | v4\nSELECT 1\n");
}

#[tokio::test]
async fn a_portal_is_suspended_and_resumed() {
    let world = World::new().await;
    let mut s = table(&world).await;
    s.parse("q", "select a from t order by a", &[]).await.unwrap();
    s.bind("p", "q", NO_PARAMS).await.unwrap();
    let mut sink = TextSink::default();
    s.execute("p", 4, &mut sink).await.unwrap();
    assert_eq!(sink.out, "1\n2\n3\n4\nSUSPENDED\n");
    sink.out.clear();
    s.execute("p", 5, &mut sink).await.unwrap();
    s.execute("p", 5, &mut sink).await.unwrap();
    assert_eq!(sink.out, "5\n6\n7\n8\n9\nSUSPENDED\n10\nSELECT 1\n");
    s.sync(&mut sink).await.unwrap();
    assert!(s.describe_portal("p").is_err(), "portals end with their transaction");
}

#[tokio::test]
async fn statements_up_to_sync_are_one_transaction() {
    let world = World::new().await;
    let mut s = table(&world).await;
    s.parse("i", "insert into t values ($1, 'new')", &[]).await.unwrap();
    let mut sink = TextSink::default();
    for (value, ok) in [(b"11", true), (b"12", true), (b"11", false)] {
        s.bind("", "i", BindParams { parameters: &[Some(value)], ..NO_PARAMS }).await.unwrap();
        assert_eq!(s.execute("", 0, &mut sink).await.is_ok(), ok);
    }
    s.sync(&mut sink).await.unwrap();
    assert_eq!(simple(&mut s, "select count(*) from t").await, "[count]\n10\nSELECT 1\n");
}

#[tokio::test]
async fn a_conflicting_commit_runs_the_statement_again_and_nobody_notices() {
    let world = World::new().await;
    let mut s = table(&world).await;
    let retry = KvError::Retry { reason: RetryReason::LocksLost };
    world.kv.fail_next_commit(retry.clone());
    assert_eq!(
        simple(&mut s, "update t set b = b || '!' where a = 1 returning b").await,
        "[b]\nv1!\nUPDATE 1\n"
    );
    s.parse("u", "update t set b = b || '?' where a = $1 returning b", &[]).await.unwrap();
    world.kv.fail_next_commit(retry.clone());
    assert_eq!(run(&mut s, "u", &[Some(b"1")]).await.unwrap(), "v1!?\nUPDATE 1\n");
    // Without the means to run it again the client hears of it.
    simple(&mut s, "begin; set local transparent_retries = off").await;
    simple(&mut s, "delete from t where a = 1").await;
    world.kv.fail_next_commit(retry);
    assert!(simple(&mut s, "commit").await.starts_with("ERROR 40001"));
    assert_eq!(s.status(), TransactionStatus::Idle);
    world.kv.fail_next_commit(KvError::Ambiguous);
    let out = simple(&mut s, "delete from t where a = 1").await;
    assert!(out.starts_with("ERROR 40003"), "{out}");
}

#[tokio::test]
async fn a_cached_plan_follows_the_catalog() {
    let world = World::new().await;
    let mut s = table(&world).await;
    s.parse("one", "select b from t where a = 1", &[]).await.unwrap();
    s.parse("all", "select * from t where a = 1", &[]).await.unwrap();
    simple(&mut s, "alter table t add column c int").await;
    assert_eq!(run(&mut s, "one", &[]).await.unwrap(), "v1\nSELECT 1\n");
    let e = run(&mut s, "all", &[]).await.unwrap_err();
    assert!(e.contains("0A000: cached plan must not change result type"), "{e}");
}

#[tokio::test]
async fn a_statement_is_cancelled_and_times_out() {
    let world = World::new().await;
    let mut s = world.session().await;
    let cancel = s.cancel_handle();
    let (done, wait) = tokio::sync::oneshot::channel::<()>();
    let canceller = tokio::spawn(async move {
        wait.await.unwrap();
        cancel.cancel();
    });
    simple(&mut s, "create table t (a int primary key)").await;
    let mut other = world.session().await;
    simple(&mut other, "begin; insert into t values (1)").await;
    let mut waiting = Box::pin(simple(&mut s, "insert into t values (1)"));
    assert!(futures::poll!(&mut waiting).is_pending(), "the row is locked");
    done.send(()).unwrap();
    canceller.await.unwrap();
    let out = waiting.await;
    assert!(out.starts_with("ERROR 57014: canceling statement due to user request"), "{out}");
    simple(&mut s, "set statement_timeout = 1").await;
    let out = simple(&mut s, "select count(*) from generate_series(1, 100000000)").await;
    assert!(out.contains("ERROR 57014: canceling statement due to statement timeout"), "{out}");
}
