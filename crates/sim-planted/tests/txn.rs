//! Every planted bug of the shard must be found within a stated number of seeds.

use meridian_shard::Planted;
use meridian_sim::txn::{Broken, TxnConfig, Violation, run};
use meridian_types::Duration;

const TIME: Duration = Duration::from_secs(6);

/// Runs seeds until one fails. Many gateways on few keys, so that they meet.
fn hunt(bug: Planted, seeds: u64) -> Box<Violation> {
    let config = TxnConfig { planted: Some(bug), clients: 12, keys: 9, ..TxnConfig::hostile() };
    let found = (0..seeds).find_map(|seed| run(seed, TIME, &config).err());
    let found = found.unwrap_or_else(|| panic!("{bug:?} was not found in {seeds} seeds"));
    println!("{bug:?}: {found}");
    found
}

/// A read, a write or an order that no serial execution has.
fn is_anomaly(violation: &Violation) -> bool {
    matches!(
        violation.broken,
        Broken::WrongRead { .. } | Broken::RealTime { .. } | Broken::Lost { .. } | Broken::NotAtomic { .. }
    )
}

#[test]
fn a_commit_without_commit_wait_is_found_within_10_seeds() {
    assert!(is_anomaly(&hunt(Planted::SkipCommitWait, 10)));
}

#[test]
fn a_read_below_a_prepared_transaction_is_found_within_10_seeds() {
    assert!(is_anomaly(&hunt(Planted::ReadBelowPrepared, 10)));
}

#[test]
fn a_follower_that_ignores_the_closed_timestamp_is_found_within_10_seeds() {
    assert!(is_anomaly(&hunt(Planted::IgnoreClosed, 10)));
}

#[test]
fn a_wounded_prepared_transaction_is_found_within_20_seeds() {
    let found = hunt(Planted::WoundPrepared, 20);
    let asserted = matches!(&found.broken, Broken::Assertion { message } if message.contains("prepared"));
    assert!(asserted || is_anomaly(&found), "{found}");
}

#[test]
fn a_commit_without_its_locks_is_found_within_20_seeds() {
    assert!(is_anomaly(&hunt(Planted::ForgetRegistration, 20)));
}

#[test]
fn a_decision_after_a_recorded_abort_is_found_within_60_seeds() {
    let found = hunt(Planted::LateDecide, 60);
    let undead = matches!(found.broken, Broken::Undead { .. });
    assert!(undead || is_anomaly(&found), "{found}");
}
