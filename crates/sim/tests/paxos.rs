//! Clean runs of the simulated Paxos group: no seed may break an invariant.

use meridian_sim::paxos::{Broken, SimConfig, run};
use meridian_types::Duration;

const TIME: Duration = Duration::from_secs(20);

fn runs(seeds: std::ops::Range<u64>, config: &SimConfig) {
    for seed in seeds {
        if let Err(violation) = run(seed, TIME, config) {
            panic!("{violation}");
        }
    }
}

#[test]
fn three_replicas_under_every_fault() {
    runs(0..60, &SimConfig::hostile(3));
}

#[test]
fn five_replicas_under_every_fault() {
    runs(1_000..1_030, &SimConfig::hostile(5));
}

#[test]
fn five_replicas_with_members_that_come_and_go() {
    runs(2_000..2_040, &SimConfig { reconfigure: true, ..SimConfig::hostile(5) });
}

#[test]
fn a_group_of_one() {
    runs(3_000..3_005, &SimConfig::hostile(1));
}

#[test]
fn a_calm_group_keeps_its_leader() {
    for nodes in [1, 3, 5] {
        let stats = run(7, TIME, &SimConfig::calm(nodes)).unwrap();
        assert_eq!(stats.leaders, 1, "{nodes} nodes changed their leader without a fault");
        assert!(stats.slots > 1_000, "{nodes} nodes chose only {} slots", stats.slots);
    }
}

/// Why a node id belongs to one data folder: a voter that comes back without what it had promised breaks the group.
#[test]
fn a_voter_that_comes_back_blank_is_found_within_10_seeds() {
    let config = SimConfig { blank_returns: true, ..SimConfig::hostile(3) };
    let found = (4_000..4_010).find_map(|seed| run(seed, TIME, &config).err());
    let found = found.expect("a blank voter does no harm");
    let is_unsafe = match &found.broken {
        Broken::TwoCommands { .. } | Broken::TwoLeaders { .. } | Broken::TimestampWentBack { .. } => true,
        Broken::Assertion { message } => message.contains("I-2"),
        _ => false,
    };
    assert!(is_unsafe, "{found}");
}

#[test]
fn a_seed_replays_exactly() {
    let config = SimConfig { reconfigure: true, ..SimConfig::hostile(5) };
    assert_eq!(run(42, TIME, &config), run(42, TIME, &config));
}

#[test]
fn hostile_runs_reach_every_mechanism() {
    let config = SimConfig { reconfigure: true, ..SimConfig::hostile(5) };
    let stats: Vec<_> = (0..20).map(|seed| run(seed, TIME, &config).unwrap()).collect();
    let sum = |f: fn(&meridian_sim::paxos::Stats) -> u64| stats.iter().map(f).sum::<u64>();
    assert!(sum(|s| s.leaders) > 50);
    assert!(sum(|s| s.hand_overs) > 10);
    assert!(sum(|s| s.reconfigurations) > 10);
    assert!(sum(|s| s.snapshots) > 5);
    assert!(sum(|s| s.crashes) > 50);
}
