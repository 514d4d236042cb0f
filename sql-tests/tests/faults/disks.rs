//! Disks: records that go bad, and no room.

use std::process::Command;
use std::time::Duration;

use meridian_sql_tests::{Cluster, ClusterKind, connect, eventually};

use super::bank::{Load, check_bank, create_bank, single_i64};
use super::members::await_replacement;

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
