//! Timeouts over the wire: each ends what it says, and nothing else. The other session keeps its lock for as long as the
//! test wants, so that no wait ends by luck. Both are at one node: of transactions that begin at different ones within epsilon,
//! the second one may count as the older, and take the lock.

use std::time::Duration;

use meridian_sql_tests::{Cluster, ClusterKind, connect, eventually};
use tokio_postgres::{Client, Error, NoTls};

fn code(error: &Error) -> &str {
    error.code().map_or("none", |code| code.code())
}

fn message(error: &Error) -> &str {
    error.as_db_error().map_or("none", |db| db.message())
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn cluster(name: &str) -> Cluster {
    let cluster = Cluster::start(ClusterKind::Demo, name).await;
    let client = connect(&cluster.url(0)).await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL);
             CREATE INDEX t_n ON t (n);
             INSERT INTO t SELECT x, x FROM generate_series(1, 10) g(x)",
        )
        .await
        .unwrap();
    cluster
}

/// On the node that leads and on one that does not, statements that wait for a lock end with their timeout, and so do
/// commits that wait for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_locks_end_with_their_timeouts() {
    let cluster = cluster("lock-timeouts").await;
    for node in 0..2 {
        let holder = connect(&cluster.url(node)).await.unwrap();
        let other = connect(&cluster.url(node)).await.unwrap();
        holder.batch_execute("BEGIN; UPDATE t SET n = n WHERE id = 1").await.unwrap();
        holder.batch_execute("SELECT n FROM t WHERE n BETWEEN 50 AND 60").await.unwrap();
        for (setting, expected, said) in [
            ("lock_timeout", "55P03", "canceling statement due to lock timeout"),
            ("statement_timeout", "57014", "canceling statement due to statement timeout"),
        ] {
            other.batch_execute(&format!("SET {setting} = '60ms'")).await.unwrap();
            let waits = [
                // A locking read, by the short path and through the executor.
                "UPDATE t SET n = 0 WHERE id = 1",
                "UPDATE t SET n = 0 WHERE id + 0 = 1",
                "SELECT n FROM t WHERE id = 1 FOR UPDATE",
                // Nobody holds the row, but its index entry lies in a span that was read: the commit waits.
                "INSERT INTO t VALUES (55, 55)",
            ];
            for sql in waits {
                let error = other.batch_execute(sql).await.unwrap_err();
                assert_eq!((code(&error), message(&error)), (expected, said), "{setting}: {sql}");
            }
            // In a block: the error fails it; a savepoint brings it back, with the locks that it had.
            other.batch_execute("BEGIN; SELECT n FROM t WHERE id = 2 FOR UPDATE; SAVEPOINT s").await.unwrap();
            let error = other.batch_execute("DELETE FROM t WHERE id = 1").await.unwrap_err();
            assert_eq!(code(&error), expected);
            let error = other.batch_execute("SELECT 1").await.unwrap_err();
            assert_eq!(code(&error), "25P02");
            other.batch_execute("ROLLBACK TO s; UPDATE t SET n = 22 WHERE id = 2; COMMIT").await.unwrap();
            assert_eq!(count(&other, "SELECT n::bigint FROM t WHERE id = 2").await, 22);
            // At COMMIT of a block, which then is gone.
            other.batch_execute("BEGIN; INSERT INTO t VALUES (55, 55)").await.unwrap();
            let error = other.batch_execute("COMMIT").await.unwrap_err();
            assert_eq!((code(&error), message(&error)), (expected, said), "{setting}: COMMIT");
            other.batch_execute(&format!("RESET {setting}")).await.unwrap();
            assert_eq!(count(&other, "SELECT count(*) FROM t WHERE id = 55").await, 0, "it had no effect");
        }
        // A lock that comes in time is no error, and SET LOCAL ends with its block.
        other.batch_execute("BEGIN; SET LOCAL lock_timeout = '20ms'; COMMIT; BEGIN; SELECT 1").await.unwrap();
        let waiting =
            tokio::spawn(async move { other.batch_execute("DELETE FROM t WHERE id = 1; COMMIT").await });
        let waits = "SELECT count(*) FROM meridian.locks WHERE NOT granted";
        let watcher = connect(&cluster.url(2)).await.unwrap();
        eventually("the other one waits", Duration::from_secs(30), || async {
            count(&watcher, waits).await > 0
        })
        .await;
        holder.batch_execute("COMMIT").await.unwrap();
        waiting.await.unwrap().unwrap();
        holder.batch_execute("INSERT INTO t VALUES (1, 1)").await.unwrap();
    }
}

/// A statement's time covers its retries, its rows, and what the extended protocol leaves to Sync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_end_with_their_timeout() {
    let cluster = cluster("statement-timeout").await;
    let client = connect(&cluster.url(1)).await.unwrap();
    client.batch_execute("SET statement_timeout = '50ms'").await.unwrap();
    let endless = "SELECT count(*) FROM generate_series(1, 100000000) a CROSS JOIN t b CROSS JOIN t c";
    let error = client.batch_execute(endless).await.unwrap_err();
    assert_eq!(code(&error), "57014");
    let error = client.query(endless, &[]).await.unwrap_err();
    assert_eq!(code(&error), "57014");
    // Each statement of a string has its own time, and what came before it in the string is undone.
    let error = client.batch_execute(&format!("INSERT INTO t VALUES (77, 77); {endless}")).await.unwrap_err();
    assert_eq!(code(&error), "57014");
    client.batch_execute("SET statement_timeout = 0").await.unwrap();
    assert_eq!(count(&client, "SELECT count(*) FROM t WHERE id = 77").await, 0);
    let holder = connect(&cluster.url(1)).await.unwrap();
    holder.batch_execute("BEGIN; SELECT n FROM t WHERE n BETWEEN 50 AND 60").await.unwrap();
    client.batch_execute("SET statement_timeout = '60ms'").await.unwrap();
    // The extended protocol: the conflict shows at Sync.
    let error = client.execute("INSERT INTO t VALUES ($1, 55)", &[&55]).await.unwrap_err();
    assert_eq!(code(&error), "57014");
    holder.batch_execute("COMMIT").await.unwrap();
    client.execute("INSERT INTO t VALUES ($1, 55)", &[&55]).await.unwrap();
}

/// The end of a connection on which nobody says anything, as the client sees it.
async fn end_of(url: &str, sql: &str) -> (Error, Client) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    (connection.await.unwrap().unwrap_err(), client)
}

/// Idle sessions are ended with PostgreSQL's words, and what they had locked is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_sessions_are_ended() {
    let cluster = cluster("idle").await;
    let url = cluster.url(1);
    let idle = "SET idle_in_transaction_session_timeout = '200ms'; BEGIN; UPDATE t SET n = 0 WHERE id = 1";
    let (error, client) = end_of(&url, idle).await;
    let said = "terminating connection due to idle-in-transaction timeout";
    assert_eq!((code(&error), message(&error)), ("25P03", said));
    assert!(client.batch_execute("COMMIT").await.is_err(), "the connection is closed");
    // A failed block is idle in a transaction, too.
    let (error, _client) = {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute("SET idle_in_transaction_session_timeout = '200ms'; BEGIN").await.unwrap();
        client.batch_execute("SELECT 1/0").await.unwrap_err();
        (connection.await.unwrap().unwrap_err(), client)
    };
    assert_eq!(code(&error), "25P03");
    let (error, _client) = end_of(&url, "SET idle_session_timeout = '200ms'").await;
    let said = "terminating connection due to idle-session timeout";
    assert_eq!((code(&error), message(&error)), ("57P05", said));
    // The lock of the first session is free, what it wrote is undone, and a statement that takes longer than the timeout
    // is not idle.
    let client = connect(&url).await.unwrap();
    client.batch_execute("SET idle_session_timeout = '200ms'").await.unwrap();
    let held = connect(&cluster.url(0)).await.unwrap();
    held.batch_execute("SET idle_in_transaction_session_timeout = '1s'; BEGIN; DELETE FROM t WHERE id = 1")
        .await
        .unwrap();
    assert_eq!(client.execute("UPDATE t SET n = n + 1 WHERE id = 1", &[]).await.unwrap(), 1);
    assert_eq!(count(&client, "SELECT n::bigint FROM t WHERE id = 1").await, 2);
}
