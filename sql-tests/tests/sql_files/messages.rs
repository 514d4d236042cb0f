//! Several statements of one message, and COPY FROM STDIN, over the wire: what loses a conflict is run again unnoticed,
//! and a message is one serializable transaction.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use meridian_sql_tests::{Cluster, ClusterKind, connect, eventually};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::retries::{metric, number};

const LOCKS: &str = "SELECT count(*) FROM meridian.locks WHERE granted";
const WAITERS: &str = "SELECT count(*) FROM meridian.locks WHERE NOT granted";

/// The first column of all rows of a message.
async fn rows(client: &Client, message: &str) -> Vec<String> {
    let answer = client.simple_query(message).await.unwrap();
    let value = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap().to_owned()),
        _ => None,
    };
    answer.into_iter().filter_map(value).collect()
}

async fn until(watcher: &Client, what: &str, sql: &str, at_least: i64) {
    eventually(what, Duration::from_secs(30), || async { number(watcher, sql).await >= at_least }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_copies_that_lose_a_conflict_are_run_again_unnoticed() {
    let cluster = Cluster::start(ClusterKind::Demo, "messages").await;
    let url = cluster.url(1);
    let client = connect(&url).await.unwrap();
    let older = connect(&url).await.unwrap();
    let watcher = connect(&url).await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL);
             INSERT INTO t SELECT x, x FROM generate_series(1, 10) g(x)",
        )
        .await
        .unwrap();

    // The message has locked row 1 and waits for row 2 when an older transaction wants row 1.
    older.batch_execute("BEGIN; SELECT n FROM t WHERE id = 2 FOR UPDATE").await.unwrap();
    let message = "UPDATE t SET n = n + 1 WHERE id = 1; SELECT n FROM t WHERE id = 3; UPDATE t SET n = n + 1 WHERE id = 2; \
                   SELECT n FROM t WHERE id = 1";
    {
        let mut running = pin!(rows(&client, message));
        tokio::select! {
            answer = &mut running => panic!("it does not wait: {answer:?}"),
            () = until(&watcher, "the message waits", WAITERS, 1) => {}
        }
        older.batch_execute("UPDATE t SET n = n + 100 WHERE id = 1; COMMIT").await.unwrap();
        assert_eq!(running.await, ["3", "102"], "as if the older one had come first");
    }
    assert!(metric(&cluster, "retried_blocks") >= 1);
    assert_eq!(metric(&cluster, "serialization_failures"), 0);

    // Write skew: each reads the row that the other one writes. What the message has read changes, and it was not sent.
    older.batch_execute("BEGIN; SELECT n FROM t WHERE id = 5").await.unwrap();
    {
        let mut running =
            pin!(rows(&client, "SELECT n FROM t WHERE id = 4; UPDATE t SET n = 0 WHERE id = 5"));
        tokio::select! {
            answer = &mut running => panic!("it does not wait: {answer:?}"),
            () = until(&watcher, "the message waits", WAITERS, 1) => {}
        }
        older.batch_execute("UPDATE t SET n = 0 WHERE id = 4; COMMIT").await.unwrap();
        assert_eq!(running.await, ["0"], "it reads what the older one wrote");
    }
    assert_eq!(metric(&cluster, "serialization_failures"), 0);

    // A COPY has locked the rows that it brings when an older transaction wants one of them.
    let before = metric(&cluster, "retried_blocks");
    older.batch_execute("BEGIN; SELECT n FROM t WHERE id = 10").await.unwrap();
    let mut copy = pin!(client.copy_in("COPY t FROM STDIN").await.unwrap());
    let held = number(&watcher, LOCKS).await;
    for start in [10_000, 11_024] {
        let lines: String = (start..start + 1024).map(|id| format!("{id}\t{id}\n")).collect();
        copy.send(Bytes::from(lines)).await.unwrap();
        copy.flush().await.unwrap();
    }
    until(&watcher, "rows are copied", LOCKS, held + 1).await;
    older
        .batch_execute("UPDATE t SET n = 0 WHERE id = 10000; UPDATE t SET n = 110 WHERE id = 10; COMMIT")
        .await
        .unwrap();
    assert_eq!(copy.finish().await.unwrap(), 2_048);
    let copied = "SELECT sum(n) FROM t WHERE id >= 10000";
    assert_eq!(number(&client, &format!("SELECT ({copied})::bigint")).await, (10_000..12_048).sum::<i64>());
    assert!(metric(&cluster, "retried_blocks") > before, "the copy was wounded");
    assert_eq!(metric(&cluster, "serialization_failures"), 0);
}
