//! Latencies of commits and reads, as a client sees them, in the tables of `docs/performance.md`.
//!
//! ```text
//! latency commits URL [ROUNDS]     commits over 1 to 50 shards, as in the Spanner paper's table 4
//! latency reads ROUNDS URL...      reads of one row at each of these nodes: strong, and of the past
//! latency hedges SECONDS URL HTTP PID   reads of the past at this node, while the process PID stands still again and again
//! ```
//! All make a table `latency` of fifty shards, one row in each, led where they were made. A commit is timed alone: the
//! transaction has read and locked its rows before.

#![allow(clippy::unwrap_used, reason = "a developer's tool")]

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use meridian_sql_tests::connect;
use tokio_postgres::Client;

/// Shards, and rows, of the table.
const SHARDS: i32 = 50;

/// Distance of the rows' keys.
const STEP: i32 = 100;

/// Participants of the commits that are timed.
const PARTICIPANTS: [i32; 6] = [1, 2, 5, 10, 25, 50];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["commits", url] => commits(url, 500).await,
        ["commits", url, rounds] => commits(url, rounds.parse().unwrap()).await,
        ["hedges", seconds, url, http, pid] => hedges(seconds.parse().unwrap(), url, http, pid).await,
        ["reads", rounds, ref urls @ ..] if !urls.is_empty() => reads(urls, rounds.parse().unwrap()).await,
        _ => {
            eprintln!(
                "usage: latency commits URL [ROUNDS] | latency reads ROUNDS URL...
             \x20      | latency hedges SECONDS URL HTTP PID"
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// What was measured of one thing.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn add(&mut self, start: Instant) {
        self.0.push(start.elapsed());
    }

    /// Mean, median and 99th percentile in milliseconds, as cells of a table.
    fn cells(&mut self) -> String {
        self.0.sort();
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let at = |percent: usize| ms(self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]);
        let mean = ms(self.0.iter().sum::<Duration>()) / self.0.len() as f64;
        format!("{mean:.2} | {:.2} | {:.2}", at(50), at(99))
    }
}

/// The table, in as many shards as it has rows.
async fn make_table(client: &Client) {
    client.batch_execute("DROP TABLE IF EXISTS latency").await.unwrap();
    client.batch_execute("CREATE TABLE latency (k INT PRIMARY KEY, v INT NOT NULL)").await.unwrap();
    for shard in 1..SHARDS {
        let split = format!("SELECT meridian.split_at('latency', {})", shard * STEP);
        client.batch_execute(&split).await.unwrap();
    }
    let rows: Vec<String> = (0..SHARDS).map(|shard| format!("({}, 0)", shard * STEP)).collect();
    client.batch_execute(&format!("INSERT INTO latency VALUES {}", rows.join(", "))).await.unwrap();
}

async fn epsilon_ms(client: &Client) -> f64 {
    let row = client.query_one("SELECT epsilon FROM meridian.truetime()", &[]).await.unwrap();
    row.get::<_, i64>(0) as f64 / 1e6
}

async fn commits(url: &str, rounds: usize) {
    let client = connect(url).await.unwrap();
    make_table(&client).await;
    let mut round_trip = Times::default();
    let mut epsilon = 0.0;
    for _ in 0..rounds {
        let start = Instant::now();
        client.simple_query("").await.unwrap();
        round_trip.add(start);
        epsilon += epsilon_ms(&client).await / rounds as f64;
    }
    println!("epsilon {epsilon:.2} ms; client's round trip, mean, median, p99: {} ms", round_trip.cells());
    println!("| participants | mean, ms | median | p99 |\n|---|---|---|---|");
    for participants in PARTICIPANTS {
        let keys: Vec<String> = (0..participants).map(|shard| (shard * STEP).to_string()).collect();
        let update = format!("BEGIN; UPDATE latency SET v = v + 1 WHERE k IN ({})", keys.join(", "));
        let mut times = Times::default();
        for _ in 0..rounds {
            client.batch_execute(&update).await.unwrap();
            let start = Instant::now();
            client.batch_execute("COMMIT").await.unwrap();
            times.add(start);
        }
        println!("| {participants} | {} |", times.cells());
    }
}

/// How reads are asked for: what the table calls it, and the setting.
const STALENESS: [(&str, &str); 4] = [
    ("strong", "strong"),
    ("at most 10 s old", "max 10s"),
    ("1 s old", "exact 1s"),
    ("10 s old", "exact 10s"),
];

async fn reads(urls: &[&str], rounds: usize) {
    let first = connect(urls[0]).await.unwrap();
    make_table(&first).await;
    // Reads of the past need a past that has the table.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let leader = "SELECT n.region FROM meridian.shards s JOIN meridian.nodes n ON n.node_id = s.leader
                  WHERE s.table_name LIKE '%latency%' ORDER BY s.start_key LIMIT 1";
    let leader = first.query_opt(leader, &[]).await.unwrap();
    println!("leader's region: {}", leader.map_or("?".to_owned(), |row| row.get::<_, String>(0)));
    println!("| node | read | mean, ms | median | p99 |\n|---|---|---|---|---|");
    for url in urls {
        let client = connect(url).await.unwrap();
        let read = client.prepare("SELECT v FROM latency WHERE k = 0").await.unwrap();
        for (name, setting) in STALENESS {
            client.batch_execute(&format!("SET read_staleness = '{setting}'")).await.unwrap();
            let mut times = Times::default();
            for _ in 0..rounds {
                let start = Instant::now();
                let row = client.query_one(&read, &[]).await.unwrap();
                times.add(start);
                assert_eq!(row.get::<_, i32>(0), 0);
            }
            println!("| {url} | {name} | {} |", times.cells());
        }
    }
}

/// Connections that read, each as often as this, beginning one after another: reads come whether or not others wait.
const READERS: u64 = 8;
const EVERY: Duration = Duration::from_millis(20);
/// So often, for so long, the process stands still: about 2 % of the reads meet it.
const STANDSTILL_EVERY: Duration = Duration::from_secs(1);
const STANDSTILL: Duration = Duration::from_millis(20);

/// Reads at a node without a replica, of what any replica can answer, while one replica stands still now and then.
async fn hedges(seconds: u64, url: &str, http: &str, pid: &str) {
    let first = connect(url).await.unwrap();
    make_table(&first).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!(
        "| hedged_reads | reads | mean, ms | median | p99 | p99.9 | hedged |\n|---|---|---|---|---|---|---|"
    );
    for setting in ["off", "on", "off", "on"] {
        let before = hedged(http);
        let end = Instant::now() + Duration::from_secs(seconds);
        let readers: Vec<_> =
            (0..READERS).map(|n| tokio::spawn(reader(url.to_owned(), setting, n, end))).collect();
        while Instant::now() + STANDSTILL_EVERY < end {
            tokio::time::sleep(STANDSTILL_EVERY - STANDSTILL).await;
            signal(pid, "-STOP");
            tokio::time::sleep(STANDSTILL).await;
            signal(pid, "-CONT");
        }
        let mut times = Times::default();
        for reader in readers {
            times.0.extend(reader.await.unwrap());
        }
        let (reads, cells) = (times.0.len(), times.cells());
        let worst = times.0[reads * 999 / 1000].as_secs_f64() * 1e3;
        let share = (hedged(http) - before) as f64 / reads as f64 * 100.0;
        println!("| {setting} | {reads} | {cells} | {worst:.2} | {share:.1} % |");
    }
}

async fn reader(url: String, setting: &'static str, number: u64, end: Instant) -> Vec<Duration> {
    let client = connect(&url).await.unwrap();
    let settings = format!("SET read_staleness = 'exact 1s'; SET hedged_reads = {setting}");
    client.batch_execute(&settings).await.unwrap();
    let read = client.prepare("SELECT v FROM latency WHERE k = 0").await.unwrap();
    let mut due = Instant::now() + EVERY * u32::try_from(number).unwrap() / READERS as u32;
    let mut times = Vec::new();
    while due < end {
        tokio::time::sleep_until(due.into()).await;
        let row = client.query_one(&read, &[]).await.unwrap();
        // From when it was due: a read that could not be sent in time has waited, too.
        times.push(due.elapsed());
        assert_eq!(row.get::<_, i32>(0), 0);
        due += EVERY;
    }
    times
}

/// Hedges that the node with this HTTP address has sent so far.
fn hedged(http: &str) -> u64 {
    let mut connection = std::net::TcpStream::connect(http).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut metrics = String::new();
    connection.read_to_string(&mut metrics).unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("meridian_hedged_reads_total "));
    line.expect("the node counts hedges").trim().parse().unwrap()
}

fn signal(pid: &str, signal: &str) {
    let done = std::process::Command::new("kill").args([signal, pid]).status().unwrap();
    assert!(done.success(), "kill {signal} {pid}");
}
