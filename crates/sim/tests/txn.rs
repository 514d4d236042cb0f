//! Clean runs of whole transactions under faults: no seed may break a promise.

use meridian_sim::txn::{Stats, TxnConfig, run};
use meridian_types::Duration;

const TIME: Duration = Duration::from_secs(8);

fn runs(seeds: std::ops::Range<u64>, config: &TxnConfig) -> Vec<Stats> {
    seeds.map(|seed| run(seed, TIME, config).unwrap_or_else(|violation| panic!("{violation}"))).collect()
}

#[test]
fn transactions_under_every_fault() {
    let stats = runs(0..40, &TxnConfig::hostile());
    let sum = |f: fn(&Stats) -> u64| stats.iter().map(f).sum::<u64>();
    // A mechanism that no run reaches is not tested.
    assert!(sum(|s| s.commits) > 1_000);
    assert!(sum(|s| s.distributed) > 100);
    assert!(sum(|s| s.aborts) > 100);
    assert!(sum(|s| s.unknown) > 10);
    assert!(sum(|s| s.strong_reads) > 300);
    assert!(sum(|s| s.snapshot_reads) > 300);
    assert!(sum(|s| s.follower_reads) > 100);
    assert!(sum(|s| s.crashes) > 50);
    assert!(sum(|s| s.splits) > 20);
    assert!(sum(|s| s.recoveries) > 10);
}

#[test]
fn many_gateways_on_few_keys() {
    runs(1_000..1_010, &TxnConfig { clients: 16, keys: 6, ..TxnConfig::hostile() });
}

#[test]
fn a_calm_cluster_commits() {
    let stats = runs(2_000..2_003, &TxnConfig::calm());
    for stats in stats {
        assert!(stats.commits > 100, "{stats:?}");
        assert!(stats.aborts < stats.commits, "{stats:?}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    let config = TxnConfig::hostile();
    assert_eq!(run(42, TIME, &config), run(42, TIME, &config));
}
