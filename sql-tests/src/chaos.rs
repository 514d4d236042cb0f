//! Faults on real processes while a workload runs, and what came of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meridian_history::{History, check};
use meridian_workload::{Counts, Options, Recorder, Running, by_name, places};

use tokio_postgres::Client;

use crate::{Cluster, ClusterKind, connect, eventually};

/// What is done to a cluster. Nodes are processes 0 to 2, time masters 3 to 5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// SIGKILL of the node that leads most shards.
    KillLeader,
    /// SIGKILL of any node.
    KillAny,
    /// SIGKILL of all nodes at once.
    KillAll,
    /// SIGSTOP of the node that leads most shards, for longer than a lease.
    PauseLeader,
    /// A time master stops.
    StopMaster,
    /// A time master is half a second off and says that it is not.
    LyingMaster,
    /// The node that leads most shards and the others do not hear each other.
    CutLeader,
    /// The node that leads most shards hears no other node, and is heard.
    DeafLeader,
    /// The node that leads most shards is heard by no other node, and hears them.
    MuteLeader,
    /// The node that leads most shards and one other do not hear each other; the third hears both.
    BridgeLeader,
}

/// Those that need nothing but processes.
pub const FAULTS: [Fault; 6] = [
    Fault::KillLeader,
    Fault::PauseLeader,
    Fault::KillAny,
    Fault::LyingMaster,
    Fault::KillAll,
    Fault::StopMaster,
];

/// Those of the network between the nodes, which must be in namespaces of their own. Clients and time masters reach every
/// node all the while.
pub const NETWORK_FAULTS: [Fault; 4] =
    [Fault::CutLeader, Fault::DeafLeader, Fault::BridgeLeader, Fault::MuteLeader];

const CLIENTS: u64 = 6;

/// A transaction is given up after this time, so that clients of a paused node go elsewhere.
const LIMIT: Duration = Duration::from_secs(4);

/// Longer than a lease of three seconds and an election.
const PAUSE: Duration = Duration::from_secs(5);

/// How many transactions committed before a fault counts as over.
const PROGRESS: u64 = 20;

/// The length of a lease.
const LEASE: Duration = Duration::from_secs(3);

/// Two lease lengths: SQL works again by then (a bound on correctness, measured on demand).
pub const FAILOVER_BOUND: Duration = Duration::from_secs(6);

/// Where the history goes.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The node (from 0) that leads most shards.
pub fn leader(cluster: &Cluster) -> usize {
    (0..3).max_by_key(|node| cluster.led_shards(*node)).unwrap()
}

/// Waits until a workload gets on.
pub async fn eventually_progress(running: &Running) {
    let before = running.counts().ok;
    eventually("transactions commit again", Duration::from_secs(90), || async {
        running.counts().ok >= before + PROGRESS
    })
    .await;
}

/// Injects a fault, lets it last while transactions go on where they can, and heals it.
async fn inject(cluster: &mut Cluster, running: &Running, fault: Fault, any: usize) {
    let victim = match fault {
        Fault::KillLeader
        | Fault::PauseLeader
        | Fault::CutLeader
        | Fault::DeafLeader
        | Fault::MuteLeader
        | Fault::BridgeLeader => leader(cluster),
        Fault::KillAny | Fault::KillAll => any % 3,
        Fault::StopMaster | Fault::LyingMaster => 3 + any % 3,
    };
    match fault {
        Fault::KillLeader | Fault::KillAny => {
            cluster.kill(victim);
            eventually_progress(running).await;
            cluster.restart(victim);
            cluster.wait_ready(victim).await;
        }
        Fault::KillAll => {
            (0..3).for_each(|node| cluster.kill(node));
            (0..3).for_each(|node| cluster.restart(node));
            cluster.wait_ready(victim).await;
        }
        Fault::PauseLeader => {
            cluster.signal(victim, "STOP");
            tokio::time::sleep(PAUSE).await;
            cluster.signal(victim, "CONT");
        }
        Fault::StopMaster => {
            cluster.kill(victim);
            eventually_progress(running).await;
            cluster.restart(victim);
        }
        Fault::LyingMaster => {
            cluster.kill(victim);
            cluster.restart_with(victim, &["--offset", "500ms"]);
            tokio::time::sleep(Duration::from_secs(2)).await;
            eventually_progress(running).await;
            cluster.kill(victim);
            cluster.restart(victim);
        }
        Fault::CutLeader | Fault::DeafLeader | Fault::MuteLeader | Fault::BridgeLeader => {
            cut(cluster, fault, victim);
            eventually_progress(running).await;
            // Longer than the leases that the victim held.
            tokio::time::sleep(PAUSE).await;
            eventually_progress(running).await;
            cluster.network().expect("nodes have namespaces").heal();
            for node in 0..3 {
                cluster.wait_ready(node).await;
            }
        }
    }
    eventually_progress(running).await;
}

/// A workload that runs, with everything that it does on record.
pub struct UnderWatch {
    /// The workload.
    pub running: Running,
    name: &'static str,
    seed: u64,
    buffer: Buffer,
}

impl UnderWatch {
    /// Makes the tables of a workload anew and starts it.
    pub async fn start(cluster: &Cluster, name: &'static str, seed: u64) -> UnderWatch {
        let workload = by_name(name).unwrap();
        let urls: Vec<String> = (0..3).map(|node| cluster.url(node)).collect();
        let places = places(&urls);
        meridian_workload::setup(workload.as_ref(), &places).await.unwrap();
        let buffer = Buffer::default();
        let recorder = Recorder::new(Box::new(buffer.clone()));
        let options = Options { places, clients: CLIENTS, seed, limit: LIMIT };
        let running = meridian_workload::start(workload, options, Some(recorder));
        UnderWatch { running, name, seed, buffer }
    }

    /// Ends it and answers everything that was seen and must not be, and how often which errors were met. The history of
    /// a run with an anomaly is kept, and named.
    pub async fn finish(self, what: &str) -> (Vec<String>, BTreeMap<String, u64>) {
        let UnderWatch { running, name, seed, buffer } = self;
        let summary = running.finish().await.unwrap();
        let mut wrong = summary.violations;
        let text = buffer.0.lock().unwrap().clone();
        let history = History::parse(&text).unwrap();
        let checked = check(&history).unwrap();
        if !checked.is_valid() {
            let path = std::env::temp_dir()
                .join(format!("meridian-anomaly-{name}-{seed}-{}.edn", std::process::id()));
            std::fs::write(&path, &text).unwrap();
            wrong.push(format!("{}\n{}", path.display(), checked.explanation()));
        }
        let wrong = wrong.into_iter().map(|w| format!("{name}, seed {seed}, {what}: {w}")).collect();
        (wrong, summary.codes)
    }
}

/// Cuts ways between a node and the others, as a fault of the network says.
fn cut(cluster: &mut Cluster, fault: Fault, victim: usize) {
    let network = cluster.network().expect("nodes have namespaces");
    let others: &[usize] = match fault {
        Fault::BridgeLeader => &[1],
        _ => &[1, 2],
    };
    for other in others.iter().map(|step| (victim + step) % 3) {
        if fault != Fault::MuteLeader {
            network.cut(other, victim);
        }
        if fault != Fault::DeafLeader {
            network.cut(victim, other);
        }
    }
}

/// Runs a workload under faults, one after the other, prints the share of transactions that succeeded under each, and
/// answers everything that was seen and must not be.
pub async fn run(cluster: &mut Cluster, name: &'static str, faults: &[Fault], seed: u64) -> Vec<String> {
    let watched = UnderWatch::start(cluster, name, seed).await;
    let running = &watched.running;
    let mut before = Counts::default();
    let report = |what: &str, running: &Running, before: &mut Counts| {
        let counts = running.counts();
        let here = counts.since(before);
        *before = counts;
        println!(
            "{name:<12} {what:<12} {:6.2}% of {:6} succeeded, {} of unknown outcome",
            here.share(),
            here.total(),
            here.unknown
        );
    };
    eventually_progress(running).await;
    report("calm", running, &mut before);
    for (i, fault) in faults.iter().enumerate() {
        inject(cluster, running, *fault, seed as usize + i).await;
        report(&format!("{fault:?}"), running, &mut before);
    }
    watched.finish(&format!("{faults:?}")).await.0
}

/// Kills the leader `rounds` times while writers write at the other nodes, and answers how long nobody could, sorted.
pub async fn failover(rounds: usize) -> Vec<Duration> {
    let mut cluster = Cluster::start(ClusterKind::Processes, "failover").await;
    let client = connect(&cluster.url(0)).await.unwrap();
    create_beat(&client).await;
    let mut gaps = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let victim = leader_of(&cluster, round % 3, "beat").await;
        cluster.kill(victim);
        let killed = Instant::now();
        let writers = (0..3).filter(|node| *node != victim).map(|node| {
            let url = cluster.url(node);
            Box::pin(async move {
                loop {
                    if let Ok(client) = connect(&url).await
                        && client
                            .execute("UPDATE beat SET n = n + 1 WHERE id = $1", &[&(node as i32)])
                            .await
                            .is_ok()
                    {
                        return killed.elapsed();
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        });
        let mut writers = writers.collect::<Vec<_>>().into_iter();
        let (a, b) = (writers.next().unwrap(), writers.next().unwrap());
        // SQL works again when it does at every node that is left.
        let (a, b) = tokio::join!(a, b);
        println!("round {round}: node {} killed, writes at the others after {a:.2?} and {b:.2?}", victim + 1);
        gaps.push(a.max(b));
        cluster.restart(victim);
        cluster.wait_ready(victim).await;
        // A node that came back votes for nobody for a lease length. Until then the next kill would be the loss of a
        // second of three voters, and two leases are promised for the loss of one.
        tokio::time::sleep(LEASE).await;
    }
    gaps.sort();
    gaps
}

/// The longest time between two writes that one client got answered while the leader of what it writes was drained,
/// by round, sorted. The client writes at another node without a pause.
pub async fn drains(rounds: usize) -> Vec<Duration> {
    let cluster = Cluster::start(ClusterKind::Processes, "drain").await;
    let client = connect(&cluster.url(0)).await.unwrap();
    create_beat(&client).await;
    let mut gaps = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let victim = leader_of(&cluster, round % 3, "beat").await;
        let writer = connect(&cluster.url((victim + 1) % 3)).await.unwrap();
        let update = writer.prepare("UPDATE beat SET n = n + 1 WHERE id = 0").await.unwrap();
        let mut drain = std::pin::pin!(cluster.drain(victim));
        let (mut last, mut longest, mut after) = (Instant::now(), Duration::ZERO, 0);
        let mut drained = None;
        while after < PROGRESS {
            tokio::select! {
                done = &mut drain, if drained.is_none() => drained = Some(done),
                written = writer.execute(&update, &[]) => {
                    if written.is_ok() {
                        longest = longest.max(last.elapsed());
                        last = Instant::now();
                        after += u64::from(drained.is_some());
                    }
                }
            }
        }
        println!(
            "round {round}: node {} drained ({}), longest gap {longest:.2?}",
            victim + 1,
            drained == Some(true)
        );
        gaps.push(longest);
    }
    gaps.sort();
    gaps
}

/// A table with a row per node, in a shard of its own, whose leader can be told.
pub async fn create_beat(client: &Client) {
    client.batch_execute("CREATE TABLE beat (id int PRIMARY KEY, n bigint)").await.unwrap();
    client.batch_execute("SELECT meridian.split_at('beat', 0)").await.unwrap();
    client.batch_execute("INSERT INTO beat VALUES (0, 0), (1, 0), (2, 0)").await.unwrap();
}

/// The node (from 0) that leads the shard of a table, as another node knows it.
pub async fn leader_of(cluster: &Cluster, asked: usize, table: &str) -> usize {
    let client = connect(&cluster.url(asked)).await.unwrap();
    let rows =
        client.query("SELECT leader FROM meridian.shards WHERE table_name = $1", &[&table]).await.unwrap();
    let leaders: Vec<i32> = rows.iter().filter_map(|row| row.get::<_, Option<i32>>(0)).collect();
    match leaders[..] {
        [node] => usize::try_from(node).unwrap() - 1,
        _ => panic!("{} leaders of {table} are known at node {}", leaders.len(), asked + 1),
    }
}
