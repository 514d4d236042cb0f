//! Clean runs of whole clusters under faults: no seed may break a promise.
//!
//! Seeds that once failed are kept with what they showed. Whatever changes what a seed does (the gateway of the simulation, a new
//! event) takes that from them, and leaves seeds like others.

use meridian_sim::cluster::{Fault, Faults, Load, Options, Stats, run};
use meridian_types::Duration;

fn runs(seeds: std::ops::Range<u64>, options: &Options) -> Vec<Stats> {
    seeds.map(|seed| run(seed, options).unwrap_or_else(|violation| panic!("{violation}")).stats).collect()
}

/// What seeds were recorded with before members changed, garbage was collected, members were witnesses, and schemas changed.
fn without_late_faults() -> Options {
    let late = [Fault::Members, Fault::Collect, Fault::Witness, Fault::Schema, Fault::Reset];
    let faults = late.into_iter().fold(Faults::all(), Faults::without);
    Options { faults, ..Options::default() }
}

fn busy() -> Load {
    Load { clients: 16, keys: 6, pause: Duration::from_millis(4) }
}

#[test]
fn clusters_under_every_fault_reach_every_mechanism() {
    let stats = runs(0..60, &Options { time: Duration::from_secs(10), ..Options::default() });
    let sum = |f: fn(&Stats) -> u64| stats.iter().map(f).sum::<u64>();
    // A mechanism that no run reaches is not tested.
    assert!(sum(|s| s.commits) > 1_000);
    assert!(sum(|s| s.distributed) > 100);
    assert!(sum(|s| s.aborts) > 100);
    assert!(sum(|s| s.unknown) > 10);
    assert!(sum(|s| s.strong_reads) > 300);
    assert!(sum(|s| s.snapshot_reads) > 300);
    assert!(sum(|s| s.follower_reads) > 100);
    assert!(sum(|s| s.overlay_reads) > 300);
    assert!(sum(|s| s.leaders) > 300);
    assert!(sum(|s| s.crashes) > 50);
    assert!(sum(|s| s.splits) > 20);
    assert!(sum(|s| s.snapshots) > 10);
    assert!(sum(|s| s.recoveries) > 10);
    assert!(sum(|s| s.members_added) > 20);
    assert!(sum(|s| s.members_promoted) > 0);
    assert!(sum(|s| s.members_demoted) > 10);
    assert!(sum(|s| s.members_removed) > 20);
    assert!(sum(|s| s.changes_judged) > 20);
    assert!(sum(|s| s.replicas_removed) > 20);
    assert!(sum(|s| s.witnesses_cut) > 500);
    assert!(sum(|s| s.schema_changes) > 40);
    assert!(sum(|s| s.backfills) > 10);
    assert!(sum(|s| s.swept) > 1_000);
    assert!(stats.iter().any(|s| s.clocks_are_void), "no clock was disturbed enough");
    assert!(stats.iter().any(|s| !s.clocks_are_void), "every clock was disturbed too much");
}

#[test]
fn many_gateways_on_few_keys() {
    let options = Options { load: Some(busy()), time: Duration::from_secs(8), ..Options::default() };
    runs(1_000..1_010, &options);
}

#[test]
fn a_calm_cluster_commits() {
    let load = Some(Load { clients: 6, keys: 24, pause: Duration::from_millis(4) });
    let options = Options { faults: Faults::NONE, load, time: Duration::from_secs(8), ..Options::default() };
    for stats in runs(2_000..2_006, &options) {
        assert!(stats.commits > 100, "{stats:?}");
        assert!(stats.aborts < stats.commits, "{stats:?}");
        assert!(!stats.clocks_are_void, "{stats:?}");
    }
}

#[test]
fn a_seed_gives_the_same_trace_byte_for_byte() {
    for seed in 42..46 {
        let options = Options { record: true, time: Duration::from_secs(6), ..Options::default() };
        let first = run(seed, &options).expect("the run is clean");
        let again = run(seed, &options).expect("the run is clean");
        assert!(first.trace.as_ref().is_some_and(|text| text.lines().count() > 1_000));
        assert!(first == again, "seed {seed} gave two traces");
        let silent = run(seed, &Options { record: false, ..options }).expect("the run is clean");
        assert_eq!(silent.stats, first.stats, "keeping the trace changes the run");
    }
}

#[test]
fn the_number_of_steps_ends_the_faults() {
    let options = Options { steps: 3_000, ..Options::default() };
    let short = run(7, &options).expect("the run is clean").stats;
    let long = run(7, &Options { steps: 30_000, ..options }).expect("the run is clean").stats;
    assert!(short.events >= 3_000 && short.time < long.time, "{short:?} and {long:?}");
}

/// A suspended machine holds a lease by a clock that stands still and that nobody reads.
#[test]
fn a_suspended_leader_is_no_second_one() {
    runs(100_127..100_128, &without_late_faults());
}

/// A split was applied by a minority, and the log that holds it truncated: snapshots of the left half must bring the right
/// one along, or it never has a quorum, and what was to be decided there stays undecided.
#[test]
fn a_snapshot_past_a_split_brings_the_right_half_along() {
    for seed in [32, 64] {
        let stats = runs(seed..seed + 1, &without_late_faults());
        assert!(stats[0].heirs > 0, "{stats:?}");
    }
}

/// The run ends while an engine holds a slot that its replica has not heard of.
#[test]
fn replicas_are_compared_at_the_slots_that_their_engines_hold() {
    runs(920_001_845..920_001_846, &without_late_faults());
}

/// Both with little else, and with as much as the planted bugs are hunted with.
#[test]
fn schemas_change_and_witnesses_vote_under_load() {
    let with = |kinds: &[Fault]| kinds.iter().copied().fold(Faults::NONE, Faults::with);
    let busy = Some(Load { clients: 12, keys: 24, pause: Duration::from_millis(4) });
    let faults = [Fault::Schema, Fault::Loss, Fault::Partition, Fault::Pause, Fault::Crash, Fault::HandOver];
    let options = Options { faults: with(&faults), load: busy, ..Options::default() };
    let stats = runs(0..12, &options);
    assert!(stats.iter().map(|s| s.backfills).sum::<u64>() > 10, "{stats:?}");
    let faults = [
        Fault::Witness,
        Fault::Members,
        Fault::Split,
        Fault::Crash,
        Fault::Partition,
        Fault::Pause,
        Fault::Snapshot,
        Fault::Loss,
        Fault::HandOver,
    ];
    let stats = runs(0..70, &Options { faults: with(&faults), ..Options::default() });
    let sum = |f: fn(&Stats) -> u64| stats.iter().map(f).sum::<u64>();
    assert!(sum(|s| s.witnesses_cut) > 500 && sum(|s| s.witnesses_added) > 2, "{stats:?}");
}

/// What voters and leaders had told about the log once was lost, and a witness that was behind never got its snapshot.
#[test]
fn a_witness_hears_again_what_it_may_skip() {
    runs(500_006..500_007, &Options::default());
}

/// An observer let go of what was not settled after a leader had decided to make it a witness, and before it heard of that.
#[test]
fn an_observer_keeps_what_a_witness_has_to() {
    runs(12_100_359..12_100_360, &Options::default());
}

/// A commit outlived two announcements of which the first came to nothing; and a clock beyond its bounds looked at the
/// catalog of the past.
#[test]
fn slow_commits_and_wrong_clocks_meet_schema_changes() {
    for seed in [800_058, 800_009] {
        runs(seed..seed + 1, &Options::default());
    }
}

/// It was behind its removal, took itself for a witness still, and refused data for entries that nobody would call settled.
#[test]
fn a_former_witness_takes_data_for_what_it_kept() {
    runs(910_962..910_963, &Options::default());
}

/// The same, come back as a member without data: nobody called anything settled where there was no witness any more.
#[test]
fn a_former_witness_without_data_is_told_what_it_need_not_keep() {
    runs(500_365..500_366, &Options::default());
}

/// Each kind alone, so that a replay with a list of faults means what it says.
#[test]
fn every_fault_alone() {
    for (i, (fault, _)) in Fault::ALL.iter().enumerate() {
        let options =
            Options { faults: Faults::NONE.with(*fault), time: Duration::from_secs(6), ..Options::default() };
        let seeds = 3_000 + 10 * i as u64;
        let stats = runs(seeds..seeds + 4, &options);
        let crashes = stats.iter().map(|s| s.crashes).sum::<u64>();
        assert_eq!(crashes > 0, *fault == Fault::Crash, "{fault:?}");
    }
}
