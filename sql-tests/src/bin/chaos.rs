//! Faults on real processes, on demand.
//!
//! ```text
//! chaos run [SEED]        every workload under every fault, with the next seed again until five minutes are over;
//!                         status 1 when anything was seen that must not be
//! chaos network [SEED]    the same under faults of the network, where the nodes can be in namespaces of their own
//! chaos failover [ROUNDS] time without writes after SIGKILL of the leader; status 1 beyond two lease lengths
//! chaos drain [ROUNDS]    the longest gap between writes while their leader is drained
//! chaos schema [CHANGES] [SEED]  so many random schema changes under load, with kills; panics when anything is wrong
//! ```

#![allow(clippy::unwrap_used, reason = "a developer's tool")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use meridian_sql_tests::chaos::{FAILOVER_BOUND, FAULTS, Fault, NETWORK_FAULTS, drains, failover, run};
use meridian_sql_tests::{Cluster, ClusterKind, soak};

/// At least as long are the workloads run under faults.
const CHAOS: Duration = Duration::from_secs(300);

/// Schema changes before the tables are made anew.
const CHANGES_OF_A_ROUND: u64 = 25;

/// Rows of the table that most of them are about.
const ROWS: i64 = 40_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = args.get(1).and_then(|n| n.parse::<u64>().ok());
    match args.first().map(String::as_str) {
        Some("run") => {
            let mut cluster = Cluster::start(ClusterKind::Processes, "chaos").await;
            workloads(&mut cluster, &FAULTS, number.unwrap_or(1)).await
        }
        Some("network") => match Cluster::start_apart("chaos").await {
            Some(mut cluster) => workloads(&mut cluster, &NETWORK_FAULTS, number.unwrap_or(1)).await,
            None => ExitCode::SUCCESS,
        },
        Some("failover") => {
            let worst = summary("time without writes", &failover(number.unwrap_or(20) as usize).await);
            ExitCode::from(u8::from(worst > FAILOVER_BOUND))
        }
        Some("drain") => {
            summary("longest gap between writes", &drains(number.unwrap_or(20) as usize).await);
            ExitCode::SUCCESS
        }
        Some("schema") => {
            let seed = args.get(2).and_then(|n| n.parse::<u64>().ok()).unwrap_or(1);
            schema(number.unwrap_or(200), seed).await;
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "usage: chaos run [SEED] | chaos network [SEED] | chaos failover [ROUNDS] | chaos drain [ROUNDS] | \
                 chaos schema [CHANGES] [SEED]"
            );
            ExitCode::from(2)
        }
    }
}

/// Every workload under these faults, with the next seed again until the time is over.
async fn workloads(cluster: &mut Cluster, faults: &[Fault], first: u64) -> ExitCode {
    let mut wrong = Vec::new();
    let begun = Instant::now();
    let mut seed = first;
    while begun.elapsed() < CHAOS {
        println!("seed {seed}");
        for name in meridian_workload::NAMES {
            wrong.extend(run(cluster, name, faults, seed).await);
        }
        seed += 1;
    }
    println!("{:.0?} of workloads under faults", begun.elapsed());
    wrong.iter().for_each(|w| println!("WRONG: {w}"));
    println!("{}", if wrong.is_empty() { "nothing wrong was seen" } else { "something is WRONG" });
    ExitCode::from(u8::from(!wrong.is_empty()))
}

/// Schema changes under load, with new tables every now and then, so that histories stay short.
async fn schema(changes: u64, seed: u64) {
    let mut cluster = Cluster::start(ClusterKind::Processes, "schema").await;
    let begun = Instant::now();
    let mut made = 0;
    for round in 0.. {
        let some = CHANGES_OF_A_ROUND.min(changes - made);
        if some == 0 {
            break;
        }
        println!("seed {}: {some} changes", seed + round);
        let wrong = soak(&mut cluster, seed + round, some, ROWS).await;
        // A panic keeps the logs and the data.
        assert!(wrong.is_empty(), "something is WRONG: {wrong:#?}");
        made += some;
    }
    println!("{made} schema changes under load in {:.0?}: nothing wrong was seen", begun.elapsed());
}

/// Prints and returns the worst of sorted times.
fn summary(what: &str, sorted: &[Duration]) -> Duration {
    let worst = *sorted.last().unwrap();
    println!("{what}: median {:.2?}, worst {worst:.2?} of {}", sorted[sorted.len() / 2], sorted.len());
    worst
}
