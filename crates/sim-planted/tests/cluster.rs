//! Every planted bug of the shard, the clock and the driver must be found within a stated number of seeds, and by the
//! checker that it is for.

use meridian_paxos::Planted as Paxos;
use meridian_shard::Planted as Shard;
use meridian_sim::cluster::{
    Broken, DriverBug, Fault, Faults, Load, Options, Planted, SchemaBug, Violation, run,
};
use meridian_truetime::Planted as Clock;
use meridian_types::Duration;

/// Bugs that concern neither members nor garbage are hunted without these: seeds were counted before there were any, and
/// before there were witnesses and changes of the schema.
fn hunt(bug: Planted, load: Option<Load>, seeds: u64) -> Box<Violation> {
    let late = [Fault::Members, Fault::Collect, Fault::Witness, Fault::Schema, Fault::Reset];
    let faults = late.into_iter().fold(Faults::all(), Faults::without);
    hunt_under(faults, bug, load, seeds)
}

/// Runs seeds until one fails, which it must do because of the bug.
fn hunt_under(faults: Faults, bug: Planted, load: Option<Load>, seeds: u64) -> Box<Violation> {
    let options = Options { faults, load, planted: Some(bug), ..Options::default() };
    let found = (0..seeds).find_map(|seed| run(seed, &options).err());
    let found = found.unwrap_or_else(|| panic!("{bug:?} was not found in {seeds} seeds"));
    println!("{bug:?}: {found}");
    let without = run(found.seed, &Options { planted: None, ..options });
    assert!(without.is_ok(), "seed {} fails without the bug, too", found.seed);
    found
}

/// Many gateways on few keys, so that they meet.
fn shard(bug: Shard, seeds: u64) -> Box<Violation> {
    let busy = Load { clients: 12, keys: 9, pause: Duration::from_millis(4) };
    hunt(Planted::Shard(bug), Some(busy), seeds)
}

/// A read, a write or an order that no serial execution has.
fn is_anomaly(violation: &Violation) -> bool {
    matches!(
        violation.broken,
        Broken::WrongRead { .. } | Broken::RealTime { .. } | Broken::Lost { .. } | Broken::NotAtomic { .. }
    )
}

fn asserts(violation: &Violation, part: &str) -> bool {
    matches!(&violation.broken, Broken::Assertion { message } if message.contains(part))
}

fn breaks_replicas(violation: &Violation) -> bool {
    matches!(violation.broken, Broken::EffectsDiffer { .. } | Broken::ReplicasDiffer { .. })
}

#[test]
fn a_commit_without_commit_wait_is_found_within_20_seeds() {
    let found = shard(Shard::SkipCommitWait, 20);
    assert!(is_anomaly(&found), "{found}");
}

#[test]
fn a_read_below_a_prepared_transaction_is_found_within_20_seeds() {
    let found = shard(Shard::ReadBelowPrepared, 20);
    assert!(is_anomaly(&found), "{found}");
}

#[test]
fn a_follower_that_ignores_the_closed_timestamp_is_found_within_20_seeds() {
    let found = shard(Shard::IgnoreClosed, 20);
    assert!(is_anomaly(&found), "{found}");
}

#[test]
fn a_timestamp_closed_without_what_is_in_flight_is_found_within_40_seeds() {
    let found = shard(Shard::CloseInFlight, 40);
    assert!(is_anomaly(&found), "{found}");
}

#[test]
fn a_wounded_prepared_transaction_is_found_within_40_seeds() {
    let found = shard(Shard::WoundPrepared, 40);
    assert!(asserts(&found, "prepared") || is_anomaly(&found), "{found}");
}

#[test]
fn a_commit_without_its_locks_is_found_within_40_seeds() {
    let found = shard(Shard::ForgetRegistration, 40);
    assert!(is_anomaly(&found), "{found}");
}

#[test]
fn a_decision_after_a_recorded_abort_is_found_within_60_seeds() {
    let found = shard(Shard::LateDecide, 60);
    assert!(matches!(found.broken, Broken::Undead { .. }) || is_anomaly(&found), "{found}");
}

#[test]
fn an_abort_that_is_answered_and_not_recorded_is_found_within_60_seeds() {
    let found = shard(Shard::AbortUnrecorded, 60);
    assert!(matches!(found.broken, Broken::Undead { .. }) || is_anomaly(&found), "{found}");
}

#[test]
fn prepared_transactions_that_a_new_leader_does_not_lock_are_found_within_40_seeds() {
    let found = shard(Shard::ForgetPrepared, 40);
    assert!(asserts(&found, "prepared") || is_anomaly(&found), "{found}");
}

/// Many gateways that write the same few rows, under leaders that come and go.
fn hot(bug: Shard, seeds: u64) -> Box<Violation> {
    hot_under(&[Fault::Loss, Fault::Partition, Fault::Crash, Fault::Pause, Fault::Reordering], bug, seeds)
}

fn hot_under(faults: &[Fault], bug: Shard, seeds: u64) -> Box<Violation> {
    let faults = faults.iter().copied().fold(Faults::NONE, Faults::with);
    let hot = Load { clients: 24, keys: 4, pause: Duration::from_millis(1) };
    hunt_under(faults, Planted::Shard(bug), Some(hot), seeds)
}

#[test]
fn a_locking_read_that_does_not_see_what_was_locked_before_is_found_within_20_seeds() {
    let found = hot(Shard::ReadUnderOverlay, 20);
    assert!(is_anomaly(&found), "{found}");
}

#[test]
fn a_dependant_that_is_answered_before_what_it_depends_on_is_found_within_200_seeds() {
    let found = hot(Shard::AnswerOnOverlay, 200);
    assert!(is_anomaly(&found), "{found}");
}

#[test]
fn a_dependant_that_outlives_what_it_depends_on_is_found_within_300_seeds() {
    let found = hot_under(&[Fault::Reset], Shard::CountBehindHoles, 300);
    assert!(is_anomaly(&found), "{found}");
}

#[test]
fn an_overlay_that_outlives_its_leader_is_found_within_100_seeds() {
    let found = hot(Shard::KeepOverlay, 100);
    assert!(asserts(&found, "overlay") || is_anomaly(&found), "{found}");
}

#[test]
fn a_dependant_at_or_below_what_it_depends_on_is_found_within_20_seeds() {
    let found = hot(Shard::ForgetReleased, 20);
    assert!(asserts(&found, "I-5") || matches!(found.broken, Broken::TimestampWentBack { .. }), "{found}");
}

#[test]
fn a_lock_beside_a_split_is_found_within_20_seeds() {
    let contended = Load { clients: 24, keys: 12, pause: Duration::from_millis(1) };
    let faults = Faults::NONE.with(Fault::Split).with(Fault::Pause);
    let found = hunt_under(faults, Planted::Shard(Shard::LockBesideSplit), Some(contended), 20);
    assert!(is_anomaly(&found), "{found}");
}

#[test]
fn an_epsilon_that_does_not_grow_is_found_within_10_seeds() {
    let found = hunt(Planted::Clock(Clock::NoDrift), None, 10);
    assert!(matches!(found.broken, Broken::WrongClock { .. }), "{found}");
}

#[test]
fn a_clock_that_believes_one_master_is_found_within_100_seeds() {
    let found = hunt(Planted::Clock(Clock::TrustAnybody), None, 100);
    assert!(matches!(found.broken, Broken::WrongClock { .. }), "{found}");
}

#[test]
fn a_snapshot_without_the_prepared_is_found_within_200_seeds() {
    let found = hunt(Planted::Driver(DriverBug::SnapshotWithoutPrepared), None, 200);
    assert!(breaks_replicas(&found) || is_anomaly(&found) || asserts(&found, "prepared"), "{found}");
}

#[test]
fn a_snapshot_over_old_rows_is_found_within_100_seeds() {
    let found = hunt(Planted::Driver(DriverBug::SnapshotOverOldRows), None, 100);
    assert!(breaks_replicas(&found) || asserts(&found, ""), "{found}");
}

#[test]
fn a_closed_timestamp_without_its_slot_is_found_within_20_seeds() {
    let found = hunt(Planted::Driver(DriverBug::CloseWithoutSlot), None, 20);
    assert!(is_anomaly(&found), "{found}");
}

#[test]
fn a_sweep_above_the_horizon_is_found_within_20_seeds() {
    let faults = Faults::all().without(Fault::Witness).without(Fault::Schema).without(Fault::Reset);
    let found = hunt_under(faults, Planted::Driver(DriverBug::SweepTooMuch), None, 20);
    assert!(is_anomaly(&found) || breaks_replicas(&found), "{found}");
}

#[test]
fn a_read_that_the_horizon_has_passed_is_found_within_20_seeds() {
    let busy = Load { clients: 12, keys: 9, pause: Duration::from_millis(4) };
    let collect = Faults::NONE.with(Fault::Collect);
    let found = hunt_under(collect, Planted::Driver(DriverBug::ReadPassedByHorizon), Some(busy), 20);
    assert!(is_anomaly(&found), "{found}");
}

/// Members and splits above all, and runs that are short of anything else.
fn moving(bug: DriverBug, seeds: u64) -> Box<Violation> {
    let faults = [
        Fault::Members,
        Fault::Split,
        Fault::Crash,
        Fault::Partition,
        Fault::Pause,
        Fault::Snapshot,
        Fault::Loss,
    ];
    let faults = faults.into_iter().fold(Faults::NONE, Faults::with);
    let calm = Load { clients: 3, keys: 12, pause: Duration::from_millis(20) };
    hunt_under(faults, Planted::Driver(bug), Some(calm), seeds)
}

#[test]
fn a_snapshot_in_a_span_that_is_being_erased_is_found_within_400_seeds() {
    let found = moving(DriverBug::ErasesUnderSnapshot, 400);
    let is_lost = asserts(&found, "erasure")
        || asserts(&found, "the log is truncated")
        || matches!(found.broken, Broken::NotDurable { .. });
    assert!(breaks_replicas(&found) || is_anomaly(&found) || is_lost, "{found}");
}

#[test]
fn a_snapshot_from_before_a_removal_is_found_within_1000_seeds() {
    let found = moving(DriverBug::SnapshotFromBefore, 1_000);
    assert!(breaks_replicas(&found) || is_anomaly(&found) || asserts(&found, "I-2"), "{found}");
}

#[test]
fn a_change_of_members_that_is_answered_before_a_quorum_knows_it_is_found_within_40_seeds() {
    let faults = [Fault::Members, Fault::Crash, Fault::Partition, Fault::Pause, Fault::Loss];
    let faults = faults.into_iter().fold(Faults::NONE, Faults::with);
    let found = hunt_under(faults, Planted::Shard(Shard::AnswerUnknownChange), None, 40);
    assert!(matches!(found.broken, Broken::UnknownChange { .. }), "{found}");
}

/// Witnesses, nodes that are away, and logs that are cut.
fn with_witnesses(bug: Paxos, seeds: u64) -> Box<Violation> {
    let faults = [
        Fault::Witness,
        Fault::Crash,
        Fault::Partition,
        Fault::Pause,
        Fault::HandOver,
        Fault::Snapshot,
        Fault::Loss,
    ];
    let faults = faults.into_iter().fold(Faults::NONE, Faults::with);
    hunt_under(faults, Planted::Paxos(bug), None, seeds)
}

#[test]
fn a_witness_that_keeps_nothing_is_found_within_20_seeds() {
    let found = with_witnesses(Paxos::WitnessKeepsNothing, 20);
    assert!(matches!(found.broken, Broken::NotDurable { .. }), "{found}");
}

#[test]
fn a_witness_that_cuts_off_what_a_voter_lacks_is_found_within_100_seeds() {
    let found = with_witnesses(Paxos::WitnessCutsLog, 100);
    assert!(matches!(found.broken, Broken::WitnessForgot { .. }), "{found}");
}

/// Schemas that change while many gateways write.
fn with_schema_changes(bug: SchemaBug, seeds: u64) -> Box<Violation> {
    let faults = [Fault::Schema, Fault::Loss, Fault::Partition, Fault::Pause, Fault::Crash, Fault::HandOver];
    let faults = faults.into_iter().fold(Faults::NONE, Faults::with);
    let busy = Load { clients: 12, keys: 24, pause: Duration::from_millis(4) };
    hunt_under(faults, Planted::Schema(bug), Some(busy), seeds)
}

fn is_wrong_version(violation: &Violation) -> bool {
    matches!(violation.broken, Broken::WrongVersion { .. })
}

fn is_wrong_index(violation: &Violation) -> bool {
    matches!(violation.broken, Broken::IndexDiffers { .. })
}

#[test]
fn a_skipped_schema_barrier_is_found_within_20_seeds() {
    let found = with_schema_changes(SchemaBug::SkippedBarrier, 20);
    assert!(is_wrong_version(&found), "{found}");
}

#[test]
fn an_activation_before_the_last_barrier_is_found_within_20_seeds() {
    let found = with_schema_changes(SchemaBug::ActivationBeforeLastBarrier, 20);
    assert!(is_wrong_version(&found), "{found}");
}

#[test]
fn a_backfill_at_the_wrong_version_is_found_within_20_seeds() {
    let found = with_schema_changes(SchemaBug::BackfillAtWrongVersion, 20);
    assert!(is_wrong_index(&found), "{found}");
}

#[test]
fn a_delete_that_is_not_propagated_is_found_within_20_seeds() {
    let found = with_schema_changes(SchemaBug::DeleteNotPropagated, 20);
    assert!(is_wrong_index(&found), "{found}");
}
