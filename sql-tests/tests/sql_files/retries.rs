//! Hidden retries over the wire: a block is wounded by an older transaction, and the client does not notice unless what it
//! has read has changed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use meridian_sql_tests::{Cluster, ClusterKind, connect};
use tokio_postgres::Client;

pub(crate) async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// A counter of `/metrics`, summed over the nodes.
pub(crate) fn metric(cluster: &Cluster, name: &str) -> u64 {
    let of_node = |node| {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.http_port(node))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("meridian_{name}_total ")));
        line.unwrap_or_else(|| panic!("{name} is not in {page}")).parse::<u64>().unwrap()
    };
    (0..3).map(of_node).sum()
}

/// A session whose transaction is older than all that begin later, and that wounds whoever holds row 1.
struct Older(Client);

impl Older {
    async fn begin(url: &str) -> Older {
        let client = connect(url).await.unwrap();
        client.batch_execute("BEGIN; SELECT n FROM t WHERE id = 10").await.unwrap();
        Older(client)
    }

    async fn wound(&self, change: &str) {
        self.0
            .batch_execute(&format!("UPDATE t SET n = n + 100 WHERE id = 1; {change}; COMMIT"))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wounded_block_is_run_again_unnoticed() {
    let cluster = Cluster::start(ClusterKind::Demo, "retries").await;
    let url = cluster.url(1);
    let mut client = connect(&url).await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL);
             CREATE TABLE ids (id uuid PRIMARY KEY);
             INSERT INTO t SELECT x, x FROM generate_series(1, 10) g(x)",
        )
        .await
        .unwrap();

    // Simple queries, with a savepoint and an error on the way.
    let older = Older::begin(&url).await;
    client.batch_execute("BEGIN; UPDATE t SET n = n + 1 WHERE id = 1; SAVEPOINT s").await.unwrap();
    let error = client.batch_execute("INSERT INTO t VALUES (2, 0)").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "23505");
    client.batch_execute("ROLLBACK TO s").await.unwrap();
    older.wound("SELECT 1").await;
    client.batch_execute("UPDATE t SET n = n + 1 WHERE id = 3; COMMIT").await.unwrap();
    assert_eq!(number(&client, "SELECT n::bigint FROM t WHERE id = 1").await, 102);
    assert_eq!(number(&client, "SELECT n::bigint FROM t WHERE id = 3").await, 4);

    // The extended protocol: rows that were shown, a volatile function, a portal that was fetched in parts.
    let older = Older::begin(&url).await;
    let txn = client.transaction().await.unwrap();
    let seen: i32 = txn.query_one("SELECT n FROM t WHERE id = $1", &[&3]).await.unwrap().get(0);
    assert_eq!(seen, 4);
    let statement = "INSERT INTO ids VALUES (gen_random_uuid()) RETURNING id::text";
    let id: String = txn.query_one(statement, &[]).await.unwrap().get(0);
    let portal = txn.bind("SELECT id FROM t ORDER BY id", &[]).await.unwrap();
    let first: Vec<i32> = txn.query_portal(&portal, 4).await.unwrap().iter().map(|row| row.get(0)).collect();
    txn.execute("UPDATE t SET n = n + 1 WHERE id = $1", &[&1]).await.unwrap();
    older.wound("SELECT 1").await;
    txn.execute("UPDATE t SET n = n + 1 WHERE id = $1", &[&4]).await.unwrap();
    let then: Vec<i32> = txn.query_portal(&portal, 0).await.unwrap().iter().map(|row| row.get(0)).collect();
    txn.commit().await.unwrap();
    assert_eq!([first, then].concat(), (1..=10).collect::<Vec<i32>>());
    assert_eq!(number(&client, "SELECT n::bigint FROM t WHERE id = 1").await, 203);
    let stored = format!("SELECT count(*) FROM ids WHERE id = '{id}'");
    assert_eq!(number(&client, &stored).await, 1, "what was shown is what is stored");
    let (again, changed) = (metric(&cluster, "retried_blocks"), metric(&cluster, "retried_blocks_changed"));
    assert!(again >= 2, "the blocks were wounded and run again, {again} times");
    assert_eq!((changed, metric(&cluster, "serialization_failures")), (0, 0));

    // A row that was read has changed: the client hears of it, and nothing of the block is left.
    let older = Older::begin(&url).await;
    let txn = client.transaction().await.unwrap();
    let seen: i32 = txn.query_one("SELECT n FROM t WHERE id = $1", &[&1]).await.unwrap().get(0);
    assert_eq!(seen, 203);
    txn.execute("UPDATE t SET n = 0 WHERE id = $1", &[&5]).await.unwrap();
    older.wound("SELECT 1").await;
    let error = txn.execute("UPDATE t SET n = 0 WHERE id = $1", &[&6]).await.unwrap_err();
    let db = error.as_db_error().unwrap();
    assert_eq!(db.code().code(), "40001");
    assert!(db.detail().is_some_and(|detail| detail.contains("answered differently")), "{db:?}");
    txn.rollback().await.unwrap();
    assert_eq!(number(&client, "SELECT n::bigint FROM t WHERE id = 5").await, 5);
    assert!(metric(&cluster, "retried_blocks_changed") >= 1);
    assert_eq!(metric(&cluster, "serialization_failures"), 1);

    // Switched off.
    let older = Older::begin(&url).await;
    client
        .batch_execute("SET transparent_retries = off; BEGIN; UPDATE t SET n = 0 WHERE id = 1")
        .await
        .unwrap();
    older.wound("SELECT 1").await;
    let error = client.batch_execute("COMMIT").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "40001");
    assert_eq!(number(&client, "SELECT n::bigint FROM t WHERE id = 1").await, 403);
}
