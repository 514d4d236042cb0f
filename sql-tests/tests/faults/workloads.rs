//! Workloads whose histories are judged, under faults.

use std::time::{Duration, Instant};

use meridian_sql_tests::{Cluster, ClusterKind, chaos};

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
