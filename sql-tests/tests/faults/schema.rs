//! Schema changes whose nodes are killed, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meridian_sql_tests::{Cluster, ClusterKind, connect, eventually, soak};

use super::bank::single_i64;

/// The node that builds an index is killed in the middle, under writes; another one completes the index, or an operator
/// cancels it and nothing is left of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schema_changes_survive_their_node() {
    const ROWS: i32 = 50_000;
    let mut cluster = Cluster::start(ClusterKind::Processes, "jobs").await;
    let client = connect(&cluster.url(0)).await.unwrap();
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, a int, b int)").await.unwrap();
    for from in (1..ROWS).step_by(10_000) {
        let to = from + 9_999;
        let insert = format!("INSERT INTO t SELECT g, g % 1000, g FROM generate_series({from}, {to}) g(g)");
        client.batch_execute(&insert).await.unwrap();
    }
    // Rows move between entries all the while.
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, url) = (stop.clone(), cluster.url(0));
        tokio::spawn(async move {
            let (client, mut n) = (connect(&url).await.unwrap(), 0);
            // A connection that is closed answers without a pause: going on would keep the runtime from ending.
            while !stop.load(Ordering::Relaxed) && !client.is_closed() {
                n += 1;
                let id = (n * 7919) % ROWS + 1;
                let change = match n % 3 {
                    0 => format!("UPDATE t SET a = a + 1000, b = 0 - b WHERE id = {id}"),
                    1 => format!("DELETE FROM t WHERE id = {id}"),
                    _ => format!("INSERT INTO t VALUES ({0}, {n}, {0})", ROWS + n),
                };
                // While a leader is gone a statement may fail; the next one is as good.
                let _ = client.batch_execute(&change).await;
            }
            n
        })
    };
    let running = "SELECT job_id FROM meridian.schema_changes WHERE state = 'running' AND rows_done > 0";
    for (statement, is_cancelled) in
        [("CREATE UNIQUE INDEX t_b ON t (b) INCLUDE (a)", false), ("CREATE INDEX t_a ON t (a)", true)]
    {
        let victim = connect(&cluster.url(1)).await.unwrap();
        victim.batch_execute("SET CLUSTER SETTING schema_changes.rest = '300ms'").await.unwrap();
        let change = tokio::spawn(async move { victim.batch_execute(statement).await });
        let begun = Instant::now();
        let id = loop {
            assert!(begun.elapsed() < Duration::from_secs(60), "{statement} does not get under way");
            match client.query_opt(running, &[]).await.unwrap() {
                Some(row) => break row.get::<_, i64>(0),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        cluster.kill(1);
        assert!(change.await.unwrap().is_err(), "the node is gone");
        eventually("the throttle is taken back", Duration::from_secs(30), || async {
            client.batch_execute("SET CLUSTER SETTING schema_changes.rest = DEFAULT").await.is_ok()
        })
        .await;
        if is_cancelled {
            eventually("the job is told", Duration::from_secs(30), || async {
                client.batch_execute(&format!("CANCEL JOB {id}")).await.is_ok()
            })
            .await;
        }
        let expected = if is_cancelled { "cancelled" } else { "succeeded" };
        eventually("another node ends the job", Duration::from_secs(90), || async {
            let end = format!("SELECT state FROM meridian.jobs WHERE job_id = {id}");
            match client.query_one(&end, &[]).await {
                Ok(row) => row.get::<_, &str>(0) == expected,
                Err(_) => false,
            }
        })
        .await;
        cluster.restart(1);
        cluster.wait_ready(1).await;
        client.query("SELECT meridian.check_table('t')", &[]).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 0);
    let indexes =
        client.query("SELECT indexname FROM pg_indexes WHERE tablename = 't' ORDER BY 1", &[]).await;
    let indexes: Vec<String> = indexes.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(indexes, ["t_b", "t_pkey"], "exactly the old schema");
    eventually("nothing is left to be removed", Duration::from_secs(60), || async {
        let open = "SELECT count(*) FROM meridian.jobs WHERE kind = 'clean' AND state <> 'succeeded'";
        single_i64(&client, open).await.is_ok_and(|open| open == 0)
    })
    .await;
    for node in 0..3 {
        let client = connect(&cluster.url(node)).await.unwrap();
        client.query("SELECT meridian.check_table('t')", &[]).await.unwrap();
    }
}

/// Random schema changes under load, some of them cancelled, paused, or with a node killed meanwhile: after each one
/// everything agrees at one timestamp, and at the end nothing acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schema_changes_under_load_leave_everything_right() {
    let mut cluster = Cluster::start(ClusterKind::Processes, "soak").await;
    let wrong = soak(&mut cluster, 1, 12, 2_000).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}
