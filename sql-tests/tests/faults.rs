//! Real processes under kill -9, and bad input: nothing acknowledged is lost, nothing else is harmed.

#![allow(clippy::unwrap_used)]

#[path = "faults/advisory.rs"]
mod advisory;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meridian_sql_tests::{Cluster, ClusterKind, chaos, connect, eventually, meridian_binary, soak};
use tokio_postgres::{Client, Error};

const ACCOUNTS: i32 = 20;
const OPENING: i64 = 1_000;

async fn single_i64(client: &Client, sql: &str) -> Result<i64, Error> {
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// Tables of the bank: accounts, and a journal with one row per acknowledged transfer.
async fn create_bank(client: &Client) {
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
struct Load {
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
    fn start(urls: Vec<String>) -> Load {
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

    fn count(&self) -> usize {
        self.acknowledged.all().len()
    }

    async fn stop(self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.acknowledged.all()
    }
}

/// The sum of the accounts is what it was, every account agrees with the journal, and every acknowledged transfer is in
/// the journal.
async fn check_bank(client: &Client, acknowledged: &[i64]) {
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

/// The nodes that have a replica of any shard, as node `asked` (from 0) knows them; `None` where it does not answer.
async fn homes(cluster: &Cluster, asked: usize) -> Option<std::collections::BTreeSet<Vec<i64>>> {
    let client = connect(&cluster.url(asked)).await.ok()?;
    let rows = client.query("SELECT replicas FROM meridian.shards", &[]).await.ok()?;
    let sorted = |row: &tokio_postgres::Row| {
        let mut replicas: Vec<i64> = row.get(0);
        replicas.sort();
        replicas
    };
    Some(rows.iter().map(sorted).collect())
}

/// Waits until every shard has three replicas, none of them on `lost`, and answers where they are.
async fn await_replacement(cluster: &Cluster, asked: usize, lost: i64) -> Vec<i64> {
    let seen = Mutex::new(None);
    eventually("every shard has three replicas, on nodes that live", Duration::from_secs(90), || async {
        let Some(homes) = homes(cluster, asked).await else { return false };
        let is_whole = homes.iter().all(|nodes| nodes.len() == 3 && !nodes.contains(&lost));
        *seen.lock().unwrap() = homes.first().filter(|_| is_whole && homes.len() == 1).cloned();
        seen.lock().unwrap().is_some()
    })
    .await;
    seen.into_inner().unwrap().unwrap()
}

/// A node loses its folder under load and starts again with the same flags. It must not vote as the node that it was,
/// whose promises it does not know: it joins as a new one and takes the other's place everywhere, the shard map's own
/// shard included, without anybody's help. That it really votes shows when one of the others is killed next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_folder_joins_as_a_new_one_and_replaces_itself() {
    let mut cluster = Cluster::start(ClusterKind::Processes, "lost-folder").await;
    let first = cluster.init_again(0).expect("init says the same when it is repeated");
    create_bank(&connect(&cluster.url(0)).await.unwrap()).await;
    let load = Load::start((0..3).map(|i| cluster.url(i)).collect());
    eventually("load is under way", Duration::from_secs(30), || async { load.count() > 20 }).await;

    let victim = chaos::leader(&cluster);
    let (other, third) = ((victim + 1) % 3, (victim + 2) % 3);
    cluster.kill(victim);
    std::fs::remove_dir_all(cluster.folder(victim)).unwrap();
    cluster.restart(victim);
    let homes = await_replacement(&cluster, other, victim as i64 + 1).await;
    assert!(homes.iter().any(|node| *node > 3), "no replica is on a new node: {homes:?}");
    cluster.wait_ready(victim).await;

    // Two of three voters are left, and one of them is the new node.
    cluster.kill(third);
    let at_kill = load.count();
    eventually("writes go on with the new voter", Duration::from_secs(60), || async {
        load.count() > at_kill + 20
    })
    .await;
    cluster.restart(third);
    cluster.wait_ready(third).await;
    let acknowledged = load.stop().await;
    for node in 0..3 {
        check_bank(&connect(&cluster.url(node)).await.unwrap(), &acknowledged).await;
    }
    assert_eq!(cluster.init_again(other).as_deref(), Some(first.as_str()), "it is the same cluster");
}

/// Waits for a process that ends by itself.
async fn end_of(cluster: &mut Cluster, process: usize) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(status) = cluster.ended(process) {
            return status;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "process {process} goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_decommissioned_alive_and_dead() {
    let mut cluster = Cluster::start(ClusterKind::Processes, "decommission").await;
    let client = connect(&cluster.url(0)).await.unwrap();
    create_bank(&client).await;
    let load = Load::start((0..3).map(|i| cluster.url(i)).collect());
    eventually("load is under way", Duration::from_secs(30), || async { load.count() > 20 }).await;
    let refused = cluster.decommission(0, 2).await.expect_err("nobody can take its replicas");
    assert!(refused.contains("start another node first"), "{refused}");

    let fourth = cluster.add_node();
    cluster.wait_ready(fourth).await;
    let told = cluster.decommission(0, 2).await.unwrap();
    assert!(told.contains("decommissioned: node 2"), "{told}");
    assert_eq!(end_of(&mut cluster, 1).await, 0, "a node that has left stops");
    cluster.restart(1);
    assert_eq!(end_of(&mut cluster, 1).await, 1, "and does not come back");
    assert!(cluster.log(1).contains("this node was decommissioned"));

    let fifth = cluster.add_node();
    cluster.wait_ready(fifth).await;
    cluster.kill(2);
    let told = cluster.decommission(fourth, 3).await.unwrap();
    assert!(told.contains("decommissioned: node 3"), "{told}");
    for node in [0, fourth, fifth] {
        let client = connect(&cluster.url(node)).await.unwrap();
        eventually("the others are known, and nobody else", Duration::from_secs(30), || async {
            let known = client.query("SELECT node_id FROM meridian.nodes ORDER BY 1", &[]).await.unwrap();
            known.iter().map(|row| row.get::<_, i32>(0)).eq([1, 4, 5])
        })
        .await;
    }
    let homes = "SELECT count(*) FROM meridian.shards WHERE 2 = ANY (replicas) OR 3 = ANY (replicas)";
    assert_eq!(single_i64(&client, homes).await.unwrap(), 0);
    let acknowledged = load.stop().await;
    for node in [0, fourth, fifth] {
        check_bank(&connect(&cluster.url(node)).await.unwrap(), &acknowledged).await;
    }
}

/// Flips a bit of every occurrence of `needle` in the files of a folder with one of these extensions; how many there were.
fn damage(folder: &std::path::Path, extension: &str, needle: &[u8]) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != extension) {
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let places: Vec<usize> =
            bytes.windows(needle.len()).enumerate().filter(|(_, w)| *w == needle).map(|(i, _)| i).collect();
        places.iter().for_each(|at| bytes[*at] ^= 0x20);
        found += places.len();
        if !places.is_empty() {
            std::fs::write(&path, bytes).unwrap();
        }
    }
    found
}

/// Bytes that no compression shortens.
const NEEDLE: &str = "qZ7kV0xPw3LbT9eJ";

/// A record in the middle of a stopped node's files goes bad: in the log, where it means that the node does not know its
/// promises, and in the data, which is noticed when it is read. Each is reported and rebuilt, and nothing wrong is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_records_are_reported_and_rebuilt_and_never_served() {
    let mut cluster = Cluster::start(ClusterKind::Processes, "damage").await;
    let client = connect(&cluster.url(0)).await.unwrap();
    client
        .batch_execute(&format!(
            "CREATE TABLE note (id int PRIMARY KEY, body text); INSERT INTO note VALUES (1, '{NEEDLE}')"
        ))
        .await
        .unwrap();
    create_bank(&client).await;
    let load = Load::start((0..3).map(|i| cluster.url(i)).collect());
    eventually("records follow the one that will be damaged", Duration::from_secs(30), || async {
        load.count() > 100
    })
    .await;

    // The log.
    let (first, second) = (1, 2);
    cluster.kill(first);
    assert!(damage(&cluster.folder(first).join("log"), "log", NEEDLE.as_bytes()) > 0, "no record to damage");
    cluster.restart(first);
    cluster.wait_ready(first).await;
    await_replacement(&cluster, 0, first as i64 + 1).await;
    assert!(cluster.log(first).contains("is damaged at byte"), "the damage is not reported");

    // The data. What the write-ahead log of the data has goes into files at a start.
    cluster.kill(second);
    cluster.restart(second);
    cluster.wait_ready(second).await;
    cluster.kill(second);
    assert!(damage(&cluster.folder(second).join("data"), "sst", NEEDLE.as_bytes()) > 0, "no block to damage");
    cluster.restart(second);
    cluster.wait_ready(second).await;
    let read = "SELECT body FROM note AS OF SYSTEM TIME '-1ms' WHERE id = 1";
    eventually("the damage is met, and nothing wrong is served", Duration::from_secs(60), || async {
        let Ok(client) = connect(&cluster.url(second)).await else { return false };
        if let Ok(row) = client.query_one(read, &[]).await {
            assert_eq!(row.get::<_, &str>(0), NEEDLE);
        }
        cluster.metric(second, "meridian_disk_failed") == Some(1)
    })
    .await;
    assert!(cluster.log(second).contains("the data is damaged"), "the damage is not reported");
    cluster.kill(second);
    cluster.restart(second);
    cluster.wait_ready(second).await;
    eventually("the data is there again", Duration::from_secs(60), || async {
        cluster.metric(second, "meridian_snapshots_installed_total") >= Some(2)
            && cluster.metric(second, "meridian_replicas") == cluster.metric(0, "meridian_replicas")
    })
    .await;
    assert_eq!(cluster.metric(second, "meridian_disk_failed"), Some(0));

    let acknowledged = load.stop().await;
    for node in 0..3 {
        let client = connect(&cluster.url(node)).await.unwrap();
        check_bank(&client, &acknowledged).await;
        let body: String = client.query_one(read, &[]).await.unwrap().get(0);
        assert_eq!(body, NEEDLE);
    }
}

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

/// At least as long are the workloads run under faults.
const CHAOS: Duration = Duration::from_secs(60);

/// Every workload under one fault each, and under the next one until a minute is over: nothing is seen that must not be, no acknowledged write is lost, and the
/// histories are strictly serializable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workloads_under_faults_are_strictly_serializable() {
    let mut cluster = Cluster::start(ClusterKind::Processes, "chaos").await;
    let mut wrong = Vec::new();
    let begun = Instant::now();
    let mut round = 0;
    while begun.elapsed() < CHAOS {
        for (i, name) in meridian_workload::NAMES.into_iter().enumerate() {
            let fault = chaos::FAULTS[(i + round) % chaos::FAULTS.len()];
            wrong.extend(chaos::run(&mut cluster, name, &[fault], 1 + round as u64).await);
        }
        round += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The same where the ways between the nodes are cut, around the node that leads most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workloads_under_partitions_are_strictly_serializable() {
    let Some(mut cluster) = Cluster::start_apart("partitions").await else { return };
    let mut wrong = Vec::new();
    for (i, fault) in chaos::NETWORK_FAULTS.into_iter().enumerate() {
        let name = meridian_workload::NAMES[i % meridian_workload::NAMES.len()];
        wrong.extend(chaos::run(&mut cluster, name, &[fault], 1).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

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

fn raw(cluster: &Cluster) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", cluster.pg_port(0))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn startup_packet() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0root\0database\0defaultdb\0\0";
    let mut packet = ((body.len() + 4) as u32).to_be_bytes().to_vec();
    packet.extend_from_slice(body);
    packet
}

/// Reads until ReadyForQuery or the end of the stream.
fn read_answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return all,
            Ok(n) => all.extend_from_slice(&chunk[..n]),
        }
        if all.len() >= 6 && all[all.len() - 6..all.len() - 1] == *b"Z\0\0\0\x05" {
            return all;
        }
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&((body.len() + 4) as u32).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

fn bad_input_leaves_others_alone(cluster: &Cluster) {
    // Garbage instead of a start-up packet, and lengths that lie.
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\0\0\0\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\x08\0\0\0\0",
    ] {
        let mut stream = raw(cluster);
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        read_answer(&mut stream);
    }
    let open = || {
        let mut stream = raw(cluster);
        stream.write_all(&startup_packet()).unwrap();
        assert!(read_answer(&mut stream).ends_with(b"I"), "no ReadyForQuery after start-up");
        stream
    };
    // Invalid UTF-8 is refused, and the connection stays usable.
    let mut stream = open();
    stream.write_all(&message(b'Q', b"SELECT '\xff'\0")).unwrap();
    assert!(contains(&read_answer(&mut stream), b"C22021\0"));
    stream.write_all(&message(b'Q', b"SELECT 41 + 1\0")).unwrap();
    assert!(contains(&read_answer(&mut stream), b"42"));
    // Fields that are not there, counts and lengths that lie: the message fails, and what follows Sync is served.
    let parse = message(b'P', b"\0select $1::int\0\0\0");
    for bad in [
        message(b'Q', b"SELECT 1\0garbage\0"),
        message(b'Q', b"SELECT 1"),
        message(b'P', b""),
        message(b'P', b"x"),
        message(b'P', b"\0select 1\0\xff\xff"),
        message(b'B', b""),
        message(b'B', b"\0\0\0\x7f"),
        message(b'B', b"\0\0\0\0\x7f\xff"),
        message(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfb\0\0"),
        message(b'E', b""),
        message(b'D', b""),
        message(b'D', b"Zx\0"),
        message(b'C', b"P"),
        message(b'S', b"x"),
        message(b'H', b"x"),
    ] {
        let mut stream = open();
        stream.write_all(&[&parse[..], &bad].concat()).unwrap();
        if !matches!(bad[0], b'Q' | b'S') {
            stream.write_all(&message(b'S', b"")).unwrap();
        }
        let answer = read_answer(&mut stream);
        assert!(contains(&answer, b"SERROR\0VERROR\0C08P01\0"), "{}", bad.escape_ascii());
        stream.write_all(&message(b'Q', b"SELECT 41 + 1\0")).unwrap();
        assert!(contains(&read_answer(&mut stream), b"42"), "{}", bad.escape_ascii());
    }
    // A type that no client sends, and a length that can't be: the stream is out of step, and the connection ends.
    for bytes in [message(b'!', b"what"), message(b'p', b"late\0"), vec![b'Q', 0, 0, 0, 1]] {
        let mut stream = open();
        stream.write_all(&bytes).unwrap();
        assert!(contains(&read_answer(&mut stream), b"SFATAL\0VFATAL\0C08P01\0"), "{}", bytes.escape_ascii());
    }
    // An announced gigabyte is refused before it is read.
    let mut stream = open();
    stream.write_all(b"Q\x3f\xff\xff\xff").unwrap();
    assert!(contains(&read_answer(&mut stream), b"C54000\0"));
    // A deep expression and a long statement.
    let mut stream = open();
    let deep = format!("SELECT {}1{}\0", "(".repeat(100_000), ")".repeat(100_000));
    stream.write_all(&message(b'Q', deep.as_bytes())).unwrap();
    assert!(contains(&read_answer(&mut stream), b"C54001\0"));
    let long = format!("SELECT length('{}')\0", "x".repeat(8 << 20));
    stream.write_all(&message(b'Q', long.as_bytes())).unwrap();
    assert!(contains(&read_answer(&mut stream), b"8388608"));
}

/// Statements that grow with a count: how deep a tree they make says nothing about their length.
fn deep_statements() -> Vec<(&'static str, String)> {
    let list = |n: usize, item: &dyn Fn(usize) -> String, between: &str| {
        (0..n).map(item).collect::<Vec<_>>().join(between)
    };
    let nest = |n: usize, open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(n), close.repeat(n))
    };
    let mut all = Vec::new();
    for n in [200, 400, 3_900] {
        all.extend([
            ("sum", format!("SELECT a{} FROM deep", " + a".repeat(n))),
            ("sum in WHERE", format!("SELECT 1 FROM deep WHERE a{} > 0", " + a".repeat(n))),
            ("text", format!("SELECT c{} FROM deep", " || c".repeat(n))),
            ("casts", format!("SELECT a{} FROM deep", "::bigint::int".repeat(n / 2))),
            ("not null", format!("SELECT a{} FROM deep", " NOTNULL".repeat(5 * n))),
            ("in", format!("SELECT b{} FROM deep", " IN (true)".repeat(5 * n))),
            ("ilike", format!("SELECT c{} FROM deep", " ILIKE c".repeat(n))),
            ("array types", format!("SELECT '{{}}'::int{}", "[]".repeat(5 * n))),
            ("is null", format!("SELECT a{} FROM deep", " IS NULL".repeat(n))),
            ("unions", format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(n))),
            ("distinct unions", format!("SELECT a FROM deep{}", " UNION SELECT a FROM deep".repeat(n))),
            ("items", format!("SELECT 1 FROM {}", list(n, &|i| format!("deep d{i}"), ", "))),
            (
                "series",
                format!("SELECT 1 FROM {}", list(n, &|i| format!("generate_series(1, 1) g{i}"), ", ")),
            ),
            (
                "joins",
                format!(
                    "SELECT 1 FROM deep {}",
                    list(n, &|i| format!("JOIN deep d{i} ON d{i}.a = 1 AND true"), " ")
                ),
            ),
            (
                "lateral",
                format!(
                    "SELECT 1 FROM deep d0{}",
                    list(n, &|i| format!(", LATERAL (SELECT d{i}.a) d{}", i + 1), "")
                ),
            ),
            (
                "conditions",
                format!("SELECT 1 FROM deep WHERE {}", list(5 * n, &|i| format!("a = {i} AND b"), " OR ")),
            ),
            (
                "with",
                format!(
                    "WITH c0 AS (SELECT 1 AS a){} SELECT * FROM c{n}",
                    list(n, &|i| format!(", c{} AS (SELECT a FROM c{i})", i + 1), "")
                ),
            ),
            (
                "arms",
                format!("SELECT CASE {} END FROM deep", list(n, &|i| format!("WHEN a = {i} THEN {i}"), " ")),
            ),
            ("columns", format!("SELECT {} FROM deep", list(n, &|i| format!("a AS c{i}"), ", "))),
            ("names", format!("SELECT {} FROM deep", "x".repeat(100 * n))),
        ]);
    }
    for n in [90, 240, 5_000] {
        all.extend([
            ("parentheses", format!("SELECT {} FROM deep", nest(n, "(", "a", ")"))),
            ("calls", format!("SELECT {} FROM deep", nest(n, "abs(", "a", ")"))),
            ("cases", format!("SELECT {} FROM deep", nest(n, "CASE WHEN b THEN a ELSE ", "1", " END"))),
            ("not", format!("SELECT {}b FROM deep", "NOT ".repeat(n))),
            ("subqueries", format!("SELECT {}", nest(n, "(SELECT a + ", "1", " FROM deep)"))),
            (
                "exists",
                format!(
                    "SELECT 1 FROM deep WHERE {}",
                    nest(n, "EXISTS (SELECT 1 FROM deep WHERE ", "b", ")")
                ),
            ),
            ("derived", format!("SELECT * FROM {}", nest(n, "(SELECT * FROM ", "deep", ") x"))),
            ("arrays", format!("SELECT '{}'::int[]", nest(n, "{", "1", "}"))),
            ("brackets", format!("SELECT {}", nest(n, "[", "", "]"))),
            ("patterns", format!("SELECT 'a' ~ '{}'", nest(n, "(", "a", ")"))),
            ("comments", format!("SELECT {} 1", nest(n, "/*", "", "*/"))),
        ]);
    }
    all
}

/// Whatever a statement's shape, it is answered, and the node that answers it lives on. In both protocols, and at once.
async fn deep_statements_are_answered(cluster: &Cluster) {
    let setup = connect(&cluster.url(0)).await.unwrap();
    let table =
        "CREATE TABLE deep (a int PRIMARY KEY, b bool, c text); INSERT INTO deep VALUES (1, true, 'x')";
    setup.batch_execute(table).await.unwrap();
    let user = |extended: bool| {
        let url = cluster.url(0);
        async move {
            let client = connect(&url).await.unwrap();
            let mut answered = 0;
            for (what, sql) in deep_statements() {
                let result = if extended {
                    client.query(&sql, &[]).await.map(|_| ())
                } else {
                    client.simple_query(&sql).await.map(|_| ())
                };
                let code = result.as_ref().err().map(|e| e.code().map(|c| c.code().to_owned()));
                match code.as_ref().map(Option::as_deref) {
                    None => answered += 1,
                    // Too deep, too many, too long a name to be known, or nonsense.
                    Some(Some(
                        "54001" | "54011" | "54000" | "42703" | "42601" | "22P02" | "2201B" | "42804"
                        | "42883" | "42P18",
                    )) => {}
                    Some(_) => panic!("{what}, {} bytes: {:?}", sql.len(), result.err()),
                }
            }
            answered
        }
    };
    let (simple, extended, other) = tokio::join!(user(false), user(true), user(false));
    assert!(simple > 40 && simple == extended && simple == other, "{simple} {extended} {other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_and_many_connections() {
    let cluster = Cluster::start(ClusterKind::Demo, "bad-input").await;
    bad_input_leaves_others_alone(&cluster);
    deep_statements_are_answered(&cluster).await;
    // Ten thousand connections in all, a thousand at a time; each either works or is refused with 53300.
    let (mut served, mut refused) = (0, 0);
    for _ in 0..10 {
        let attempts = (0..1_000).map(|i| {
            let url = cluster.url(i % 3);
            tokio::spawn(async move {
                match connect(&url).await {
                    Ok(client) => client.simple_query("SELECT 1").await.map(|_| true),
                    Err(error) if error.code().is_some_and(|c| c.code() == "53300") => Ok(false),
                    Err(error) => Err(error),
                }
            })
        });
        for attempt in attempts.collect::<Vec<_>>() {
            match attempt.await.unwrap() {
                Ok(true) => served += 1,
                Ok(false) => refused += 1,
                Err(error) => panic!("a connection failed: {error}"),
            }
        }
    }
    assert_eq!(served + refused, 10_000);
    assert!(served > 0, "nobody was served");
    let client = connect(&cluster.url(0)).await.unwrap();
    assert_eq!(single_i64(&client, "SELECT 1::bigint").await.unwrap(), 1);
}

/// Wrong flags, a taken port, a locked and a foreign data folder: one line, exit status 1 (2 for usage).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_refuses_what_it_must() {
    let cluster = Cluster::start(ClusterKind::Processes, "refuse").await;
    let run = |args: &[String]| {
        let out = Command::new(meridian_binary()).args(args).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let strings = |args: &[&str]| args.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(run(&strings(&["start", "--nonsense"])).0, Some(2));
    assert_eq!(run(&strings(&["demo", "--nodes", "0"])).0, Some(2));
    // The same command line again: its folder is locked and its ports are taken.
    let (code, stderr) = run(cluster.command(0));
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(stderr.trim().lines().filter(|l| l.starts_with("meridian: ")).count(), 1, "{stderr}");
    // A file where the folder should be.
    let file = cluster.data().join("a-file");
    std::fs::write(&file, "x").unwrap();
    let mut command = cluster.command(0).to_vec();
    let data = command.iter().position(|a| a == "--data").unwrap() + 1;
    command[data] = file.display().to_string();
    assert_eq!(run(&command).0, Some(1));
}

/// What a psql user types first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_backslash_commands() {
    if Command::new("psql").arg("--version").output().is_err() {
        println!("skipped: psql is not installed");
        return;
    }
    let cluster = Cluster::start(ClusterKind::Demo, "psql").await;
    let psql = |command: &str| {
        let out = Command::new("psql")
            .args(["-h", "127.0.0.1", "-U", "root", "-d", "defaultdb", "-X", "-v", "ON_ERROR_STOP=1"])
            .args(["-p", &cluster.pg_port(0).to_string(), "-c", command])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&out.stderr));
        text
    };
    psql(
        "CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL, mail varchar(50) UNIQUE, age int DEFAULT 7 CHECK (age > 0))",
    );
    psql("CREATE INDEX person_name ON person (name)");
    let describe = psql("\\d person");
    for part in [
        "Table \"public.person\"",
        "id     | integer               |           | not null | ",
        "name   | text                  |           | not null | ",
        "mail   | character varying(50) |           |          | ",
        "\"person_pkey\" PRIMARY KEY, btree (id)",
        "\"person_mail_key\" UNIQUE CONSTRAINT, btree (mail)",
        "\"person_name\" btree (name)",
        "\"person_age_check\" CHECK (age > 0)",
    ] {
        assert!(describe.contains(part), "no {part:?} in\n{describe}");
    }
    assert!(psql("\\dt").contains("public | person | table | root"));
    let indexes = psql("\\di");
    assert!(indexes.contains("public | person_pkey     | index | root  | person"), "{indexes}");
    assert!(psql("\\l").contains("defaultdb"));
    assert!(psql("\\du").contains("root"));
    assert!(psql("\\dn").contains("public"));
    assert!(psql("\\d").contains("person"));
}

/// With certificates: who is let in where, and that nobody else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_passwords_keep_strangers_out() {
    if Command::new("psql").arg("--version").output().is_err() {
        println!("skipped: psql is not installed");
        return;
    }
    let mut cluster = Cluster::start(ClusterKind::Secure, "secure").await;
    let certs = cluster.certs().display().to_string();
    let psql = |node: usize, user: &str, more: &str, password: &str, sql: &str| {
        let target = format!(
            "host=localhost port={} dbname=defaultdb user={user} sslrootcert={certs}/ca.crt {more}",
            cluster.pg_port(node)
        );
        let out = Command::new("psql")
            .args(["-X", "-w", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, &target])
            .env("PGPASSWORD", password)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() {
            Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
        } else {
            Err(error)
        }
    };
    let verified = "sslmode=verify-full";
    let holder = |user: &str| {
        format!("sslmode=verify-full sslcert={certs}/client.{user}.crt sslkey={certs}/client.{user}.key")
    };
    let refused = |result: Result<String, String>, why: &str| {
        let error = result.expect_err(why);
        assert!(error.contains(why), "expected {why:?}, got {error}");
    };
    // Nobody has a password at first: root comes with a certificate, and gives out passwords.
    refused(
        psql(0, "root", verified, "guess", "SELECT 1"),
        "password authentication failed for user \"root\"",
    );
    let made = psql(0, "root", &holder("root"), "", "CREATE USER ann SUPERUSER PASSWORD 'pencil'");
    assert_eq!(made.as_deref(), Ok("CREATE ROLE"));
    psql(1, "root", &holder("root"), "", "ALTER USER root PASSWORD 'geheim'").unwrap();
    psql(1, "root", &holder("root"), "", "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (7)")
        .unwrap();
    // Passwords count on every node, bound to the channel.
    let bound = "sslmode=verify-full channel_binding=require";
    assert_eq!(psql(2, "root", bound, "geheim", "SELECT current_user").as_deref(), Ok("root"));
    assert_eq!(psql(2, "ann", bound, "pencil", "SELECT a FROM t").as_deref(), Ok("7"));
    refused(
        psql(0, "ann", verified, "geheim", "SELECT 1"),
        "password authentication failed for user \"ann\"",
    );
    refused(
        psql(0, "bob", verified, "geheim", "SELECT 1"),
        "password authentication failed for user \"bob\"",
    );
    // A certificate is good for its own user only.
    assert_eq!(psql(0, "ann", &holder("ann"), "", "SELECT current_user").as_deref(), Ok("ann"));
    refused(psql(0, "root", &holder("ann"), "pencil", "SELECT 1"), "password authentication failed");
    refused(psql(0, "root", "sslmode=disable", "geheim", "SELECT 1"), "encrypted connections only");
    // Operators and peers: with certificates of the right names only.
    let status = |certs: Option<&str>| {
        let mut args = vec!["status".to_owned(), "--json".into(), "--host".into(), cluster.host(0)];
        args.extend(certs.iter().flat_map(|dir| ["--certs".to_owned(), (*dir).to_owned()]));
        Command::new(meridian_binary()).args(args).output().unwrap()
    };
    assert!(status(Some(&certs)).status.success());
    assert!(!status(None).status.success(), "a stranger was answered");
    let anns = cluster.data().join("anns");
    std::fs::create_dir(&anns).unwrap();
    for (from, to) in [("ca.crt", "ca.crt"), ("client.ann.crt", "node.crt"), ("client.ann.key", "node.key")] {
        std::fs::copy(cluster.certs().join(from), anns.join(to)).unwrap();
    }
    let ann = status(Some(&anns.display().to_string()));
    let error = String::from_utf8_lossy(&ann.stderr).into_owned();
    assert!(!ann.status.success() && error.contains("may not do this"), "{error}");
    // A node does not start with the certificate of a user, nor with a key that others can read.
    let start = |dir: &std::path::Path| {
        let mut command = cluster.command(0).to_vec();
        let at = command.iter().position(|a| a == "--certs").unwrap() + 1;
        command[at] = dir.display().to_string();
        let out = Command::new(meridian_binary()).args(command).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, error) = start(&anns);
    assert!(code == Some(1) && error.contains("common name must be \"node\", but is \"ann\""), "{error}");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(anns.join("node.key"), open).unwrap();
    let (code, error) = start(&anns);
    assert!(code == Some(1) && error.contains("others can read this key"), "{error}");
    // A dropped role is out at once.
    assert_eq!(psql(0, "root", bound, "geheim", "DROP USER ann").as_deref(), Ok("DROP ROLE"));
    refused(psql(1, "ann", &holder("ann"), "", "SELECT 1"), "role \"ann\" does not exist");
    refused(psql(1, "ann", verified, "pencil", "SELECT 1"), "password authentication failed");
    // Peers find each other again.
    cluster.kill(2);
    cluster.restart(2);
    cluster.wait_ready(2).await;
}

/// A small file system of its own, mounted where root may; unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&path)
            .output();
        mounted.is_ok_and(|out| out.status.success()).then_some(SmallDisk(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A full disk: writes wait for room, other reads go on, and when room is there everything goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_makes_writes_wait_and_loses_nothing() {
    let name = format!("meridian-small-disk-{}", std::process::id());
    let Some(disk) = SmallDisk::mount(std::env::temp_dir().join(name), "192m") else {
        println!("skipped: a small file system can't be mounted here (needs root)");
        return;
    };
    let cluster = Cluster::start_in(ClusterKind::Demo, &disk.0).await;
    let client = connect(&cluster.url(0)).await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE blob (id int PRIMARY KEY, body bytea);
             CREATE TABLE other (id int PRIMARY KEY);
             INSERT INTO other VALUES (1)",
        )
        .await
        .unwrap();
    let body = vec![7u8; 256 << 10];
    let mut acknowledged = 0;
    loop {
        let insert =
            async { client.execute("INSERT INTO blob VALUES ($1, $2)", &[&acknowledged, &body]).await };
        match tokio::time::timeout(Duration::from_secs(5), insert).await {
            Ok(Ok(_)) => acknowledged += 1,
            // Refused, or still waiting: the disk is full either way.
            Ok(Err(_)) | Err(_) => break,
        }
        assert!(acknowledged < 2_000, "the disk does not fill");
    }
    let reader = connect(&cluster.url(0)).await.unwrap();
    assert_eq!(single_i64(&reader, "SELECT id::bigint FROM other WHERE id = 1").await.unwrap(), 1);
    let grown = Command::new("mount").args(["-o", "remount,size=2g"]).arg(&disk.0).status().unwrap();
    assert!(grown.success());
    eventually("writes go on without a restart", Duration::from_secs(60), || async {
        match connect(&cluster.url(1)).await {
            Ok(client) => {
                client.execute("INSERT INTO other VALUES (2) ON CONFLICT DO NOTHING", &[]).await.is_ok()
            }
            Err(_) => false,
        }
    })
    .await;
    let count = single_i64(&reader, "SELECT count(*) FROM blob").await.unwrap();
    assert!(count >= i64::from(acknowledged), "{count} rows of {acknowledged} acknowledged");
}
