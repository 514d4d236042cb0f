//! Nodes that come and go for good.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use meridian_sql_tests::{Cluster, ClusterKind, chaos, connect, eventually};

use super::bank::{Load, check_bank, create_bank, single_i64};

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
pub(super) async fn await_replacement(cluster: &Cluster, asked: usize, lost: i64) -> Vec<i64> {
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
