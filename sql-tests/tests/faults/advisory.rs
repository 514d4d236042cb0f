//! Advisory locks between nodes: they are handed over, and they end with their session and with their node.

use std::time::Duration;

use meridian_sql_tests::{Cluster, ClusterKind, connect, eventually};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error};

const LOCK: &str = "SELECT pg_advisory_lock(42)";

fn code(error: &Error) -> &str {
    error.code().map_or("none", |code| code.code())
}

/// A session on a node asks for the lock; returns once others see it wait.
async fn waiter(cluster: &Cluster, node: usize, at: usize) -> JoinHandle<Result<Client, Error>> {
    let client = connect(&cluster.url(node)).await.unwrap();
    let waits = tokio::spawn(async move { client.batch_execute(LOCK).await.map(|()| client) });
    let onlooker = connect(&cluster.url(at)).await.unwrap();
    eventually("somebody waits", Duration::from_secs(30), || async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE objid = 42 AND NOT granted";
        matches!(onlooker.query_one(waiting, &[]).await, Ok(row) if row.get::<_, i64>(0) == 1)
    })
    .await;
    waits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn advisory_locks_hold_between_nodes_and_end_with_theirs() {
    let mut cluster = Cluster::start(ClusterKind::Processes, "advisory").await;
    let holder = connect(&cluster.url(1)).await.unwrap();
    holder.batch_execute("CREATE TABLE log (who text)").await.unwrap();
    holder.batch_execute(LOCK).await.unwrap();

    // Handed over.
    let waits = waiter(&cluster, 2, 0).await;
    assert!(!waits.is_finished());
    let given = holder.query_one("SELECT pg_advisory_unlock(42)", &[]).await.unwrap();
    assert!(given.get::<_, bool>(0));
    let second = waits.await.unwrap().unwrap();
    let free = holder.query_one("SELECT pg_try_advisory_lock(42)", &[]).await.unwrap();
    assert!(!free.get::<_, bool>(0), "node 3 has it");

    // A connection that is closed gives it up.
    let waits = waiter(&cluster, 1, 0).await;
    drop(second);
    let holder = waits.await.unwrap().unwrap();

    // A node that stands still loses it, and can do nothing under it afterwards.
    let waits = waiter(&cluster, 2, 0).await;
    cluster.signal(1, "STOP");
    let second = waits.await.unwrap().unwrap();
    second.batch_execute("INSERT INTO log VALUES ('second')").await.unwrap();
    let late = tokio::spawn(async move {
        let late = holder.batch_execute("INSERT INTO log VALUES ('late')").await;
        (late, holder)
    });
    cluster.signal(1, "CONT");
    let (late, holder) = late.await.unwrap();
    let late = late.expect_err("it wrote under a lock that another session has");
    if !holder.is_closed() {
        assert_eq!(code(&late), "55000", "{late}");
        holder
            .batch_execute("SELECT pg_advisory_unlock_all(); INSERT INTO log VALUES ('after')")
            .await
            .unwrap();
    }

    // A node that is killed loses it.
    let waits = waiter(&cluster, 0, 1).await;
    cluster.kill(2);
    let third = waits.await.unwrap().unwrap();
    let log = third.query("SELECT who FROM log WHERE who <> 'after'", &[]).await.unwrap();
    let log: Vec<&str> = log.iter().map(|row| row.get(0)).collect();
    assert_eq!(log, ["second"]);
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(third.query_one(held, &[]).await.unwrap().get::<_, i64>(0), 1, "only its own");
    drop(second);
}
