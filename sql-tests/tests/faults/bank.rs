//! Whose money it is: transfers between accounts while nodes are killed, and what must hold of them at any time.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meridian_sql_tests::{Cluster, ClusterKind, chaos, connect, eventually};
use tokio_postgres::{Client, Error};

const ACCOUNTS: i32 = 20;
const OPENING: i64 = 1_000;

pub(super) async fn single_i64(client: &Client, sql: &str) -> Result<i64, Error> {
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// Tables of the bank: accounts, and a journal with one row per acknowledged transfer.
pub(super) async fn create_bank(client: &Client) {
    client
        .batch_execute(&format!(
            "CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
             CREATE TABLE journal (id bigint PRIMARY KEY, source int, target int, amount bigint);
             INSERT INTO account SELECT x, {OPENING} FROM generate_series(0, {}) g(x)",
            ACCOUNTS - 1
        ))
        .await
        .unwrap();
}

/// One transfer with its journal row. The id makes a repeated attempt visible.
async fn transfer(client: &mut Client, id: i64) -> Result<(), Error> {
    let source = (id * 7 % i64::from(ACCOUNTS)) as i32;
    let target = (id * 13 + 1) as i32 % ACCOUNTS;
    let txn = client.transaction().await?;
    txn.execute("UPDATE account SET balance = balance - 5 WHERE id = $1", &[&source]).await?;
    txn.execute("UPDATE account SET balance = balance + 5 WHERE id = $1", &[&target]).await?;
    txn.execute("INSERT INTO journal VALUES ($1, $2, $3, 5)", &[&id, &source, &target]).await?;
    txn.commit().await
}

/// Writers against all nodes that note every acknowledged transfer.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Acknowledged>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// The ids whose commit was answered.
#[derive(Default)]
struct Acknowledged(Mutex<Vec<i64>>);

impl Acknowledged {
    fn add(&self, id: i64) {
        self.0.lock().unwrap().push(id);
    }

    fn all(&self) -> Vec<i64> {
        self.0.lock().unwrap().clone()
    }
}

impl Load {
    pub(super) fn start(urls: Vec<String>) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Acknowledged::default());
        let next = Arc::new(AtomicI64::new(1));
        let writer = |url: String| {
            let (stop, acknowledged, next) = (stop.clone(), acknowledged.clone(), next.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(mut client) = connect(&url).await else {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    };
                    while !stop.load(Ordering::Relaxed) && !client.is_closed() {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        if transfer(&mut client, id).await.is_ok() {
                            acknowledged.add(id);
                        }
                    }
                }
            })
        };
        let tasks = urls.into_iter().map(writer).collect();
        Load { stop, acknowledged, tasks }
    }

    pub(super) fn count(&self) -> usize {
        self.acknowledged.all().len()
    }

    pub(super) async fn stop(self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.acknowledged.all()
    }
}

/// The sum of the accounts is what it was, every account agrees with the journal, and every acknowledged transfer is in
/// the journal.
pub(super) async fn check_bank(client: &Client, acknowledged: &[i64]) {
    let sum = single_i64(client, "SELECT sum(balance)::bigint FROM account").await.unwrap();
    assert_eq!(sum, OPENING * i64::from(ACCOUNTS), "money was made or lost");
    let rows = client.query("SELECT id FROM journal", &[]).await.unwrap();
    let journal: std::collections::BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    let lost: Vec<i64> = acknowledged.iter().copied().filter(|id| !journal.contains(id)).collect();
    assert!(lost.is_empty(), "acknowledged transfers are lost: {lost:?}");
    let wrong = client
        .query(
            "SELECT a.id, a.balance,
                    (SELECT coalesce(sum(amount), 0) FROM journal WHERE target = a.id)
                  - (SELECT coalesce(sum(amount), 0) FROM journal WHERE source = a.id) AS moved
             FROM account a",
            &[],
        )
        .await
        .unwrap();
    for row in wrong {
        let (id, balance): (i32, i64) = (row.get(0), row.get(1));
        let moved = single_i64(
            client,
            &format!(
                "SELECT (coalesce(sum(CASE WHEN target = {id} THEN amount ELSE 0 END), 0)
                       - coalesce(sum(CASE WHEN source = {id} THEN amount ELSE 0 END), 0))::bigint FROM journal"
            ),
        )
        .await
        .unwrap();
        assert_eq!(balance, OPENING + moved, "account {id} disagrees with the journal");
    }
}

/// Each node is killed in turn under load, the leader of everything first; the others go on, and it comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_any_node_under_load_loses_nothing() {
    let mut cluster = Cluster::start(ClusterKind::Processes, "kill").await;
    create_bank(&connect(&cluster.url(0)).await.unwrap()).await;
    let load = Load::start((0..3).map(|i| cluster.url(i)).collect());
    for victim in 0..3 {
        let before = load.count();
        eventually("load is under way", Duration::from_secs(30), || async { load.count() > before + 20 })
            .await;
        cluster.kill(victim);
        let at_kill = load.count();
        eventually("writes go on without the node", Duration::from_secs(30), || async {
            load.count() > at_kill + 20
        })
        .await;
        cluster.restart(victim);
        cluster.wait_ready(victim).await;
    }
    // A node that is drained leads nothing, and the load goes on.
    eventually("a drained node leads nothing", Duration::from_secs(30), || {
        cluster.drain(chaos::leader(&cluster))
    })
    .await;
    let drained = load.count();
    eventually("writes go on", Duration::from_secs(30), || async { load.count() > drained + 20 }).await;
    let acknowledged = load.stop().await;
    for node in 0..3 {
        check_bank(&connect(&cluster.url(node)).await.unwrap(), &acknowledged).await;
    }
}

/// All nodes are killed at once, and started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_all_nodes_loses_nothing() {
    let mut cluster = Cluster::start(ClusterKind::Processes, "killall").await;
    create_bank(&connect(&cluster.url(0)).await.unwrap()).await;
    let load = Load::start((0..3).map(|i| cluster.url(i)).collect());
    eventually("load is under way", Duration::from_secs(30), || async { load.count() > 100 }).await;
    for node in 0..3 {
        cluster.kill(node);
    }
    let acknowledged = load.stop().await;
    for node in 0..3 {
        cluster.restart(node);
    }
    for node in 0..3 {
        cluster.wait_ready(node).await;
    }
    check_bank(&connect(&cluster.url(1)).await.unwrap(), &acknowledged).await;
}
