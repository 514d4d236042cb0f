//! What time has ended: leases of processes that stood still, and versions beyond their retention.

use std::time::{Duration, Instant};

use meridian_sql_tests::{Cluster, ClusterKind, chaos, connect, eventually};
use tokio_postgres::{Client, Error};

use super::bank::single_i64;

/// Adds one to the counter of `create_beat`.
async fn add_one(client: &Client) -> Result<(), Error> {
    client.execute("UPDATE beat SET n = n + 1 WHERE id = 0", &[]).await.map(drop)
}

/// A leader stands still until others lead, and finds statements waiting for it when it goes on. Its lease is over: no
/// read is older than what was answered before it was asked for, and no write is lost or laid over another, be it that of
/// a transaction whose locks the leader still believes in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stood_still_serves_nothing_after_its_lease() {
    const READERS: usize = 8;
    let cluster = Cluster::start(ClusterKind::Processes, "pause").await;
    chaos::create_beat(&connect(&cluster.url(0)).await.unwrap()).await;
    let read = "SELECT n FROM beat WHERE id = 0";
    let (mut answered, mut unknown) = (0, 0);
    for round in 0..2 {
        let victim = chaos::leader_of(&cluster, round, "beat").await;
        let mut clients = Vec::new();
        for _ in 0..READERS + 2 {
            clients.push(connect(&cluster.url(victim)).await.unwrap());
        }
        let mut writer = connect(&cluster.url((victim + 1) % 3)).await.unwrap();
        add_one(&writer).await.unwrap();
        answered += 1;
        let (holder, adder) = (clients.pop().unwrap(), clients.pop().unwrap());
        for client in &clients {
            assert_eq!(single_i64(client, read).await.unwrap(), answered + unknown);
        }
        holder.batch_execute("BEGIN").await.unwrap();
        let held = single_i64(&holder, &format!("{read} FOR UPDATE")).await.unwrap();

        cluster.signal(victim, "STOP");
        let before = answered;
        let begun = Instant::now();
        while answered < before + 5 {
            assert!(begun.elapsed() < Duration::from_secs(60), "nobody else leads");
            match add_one(&writer).await {
                Ok(()) => answered += 1,
                Err(_) => unknown += 1,
            }
            if writer.is_closed() {
                writer = connect(&cluster.url((victim + 1) % 3)).await.unwrap();
            }
        }
        // From here on these are under way, and wait in the sockets of a process that stands still.
        let shown = answered;
        let readers = clients.into_iter().map(|client| async move { single_i64(&client, read).await });
        let readers: Vec<_> = readers.map(tokio::spawn).collect();
        let adder = tokio::spawn(async move { add_one(&adder).await });
        let holder = tokio::spawn(async move {
            let write = format!("UPDATE beat SET n = {} WHERE id = 0; COMMIT", held + 1);
            holder.batch_execute(&write).await
        });
        add_one(&writer).await.unwrap();
        answered += 1;
        cluster.signal(victim, "CONT");
        for reader in readers {
            if let Ok(n) = reader.await.unwrap() {
                assert!(n >= shown, "a read saw {n} after {shown} had been answered");
            }
        }
        match adder.await.unwrap() {
            Ok(()) => answered += 1,
            Err(_) => unknown += 1,
        }
        let held = holder.await.unwrap();
        assert!(held.is_err(), "a transaction committed above writes that it had locked out");
        cluster.wait_ready(victim).await;
        for node in 0..3 {
            let n = single_i64(&connect(&cluster.url(node)).await.unwrap(), read).await.unwrap();
            assert!((answered..=answered + unknown).contains(&n), "{n} of {answered} and perhaps {unknown}");
        }
        // What was unknown is known now.
        answered = single_i64(&writer, read).await.unwrap();
        unknown = 0;
    }
}

/// The retention is a setting of the cluster: it reaches nodes where it was not set, and reads below the horizon say so.
#[tokio::test(flavor = "multi_thread")]
async fn versions_beyond_their_retention_cannot_be_read() {
    let cluster = Cluster::start(ClusterKind::Demo, "retention").await;
    let client = connect(&cluster.url(1)).await.unwrap();
    client
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)")
        .await
        .unwrap();
    client.batch_execute("UPDATE t SET n = 2 WHERE id = 1").await.unwrap();
    let old: String = client.query_one("SHOW commit_timestamp", &[]).await.unwrap().get(0);
    client.batch_execute("UPDATE t SET n = 3 WHERE id = 1").await.unwrap();
    let read = format!("SELECT n FROM t AS OF SYSTEM TIME '{old}'");
    assert_eq!(client.query_one(&read, &[]).await.unwrap().get::<_, i32>(0), 2);

    let refused = client.batch_execute("SET CLUSTER SETTING gc.ttl = 'soon'").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "22023");
    let refused = client.batch_execute("SET CLUSTER SETTING gc.tll = '1s'").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42704");
    client.batch_execute("SET CLUSTER SETTING gc.ttl = '10s'").await.unwrap();
    for node in 0..3 {
        let client = connect(&cluster.url(node)).await.unwrap();
        eventually("reads below the horizon are refused", Duration::from_secs(60), || async {
            let refused = client.query(&read, &[]).await.err();
            refused.is_some_and(|e| e.code().is_some_and(|code| code.code() == "72000"))
        })
        .await;
        assert_eq!(client.query_one("SELECT n FROM t", &[]).await.unwrap().get::<_, i32>(0), 3);
        let setting = "SELECT value FROM meridian.settings WHERE name = 'gc.ttl'";
        eventually("the setting is known", Duration::from_secs(30), || async {
            client.query_one(setting, &[]).await.unwrap().get::<_, &str>(0) == "10s"
        })
        .await;
    }
}
