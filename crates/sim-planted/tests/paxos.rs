//! Every planted bug of the Paxos core must be found within a stated number of seeds.

use meridian_paxos::Planted;
use meridian_sim::paxos::{Broken, SimConfig, Violation, run};
use meridian_types::Duration;

const TIME: Duration = Duration::from_secs(20);

/// Runs seeds until one fails.
fn hunt(bug: Planted, nodes: u32, seeds: u64) -> Violation {
    let config = SimConfig { planted: Some(bug), ..SimConfig::hostile(nodes) };
    let found = (0..seeds).find_map(|seed| run(seed, TIME, &config).err());
    let found = found.unwrap_or_else(|| panic!("{bug:?} was not found in {seeds} seeds"));
    println!("{bug:?}: {found}");
    found
}

fn breaks_agreement(violation: &Violation) -> bool {
    match &violation.broken {
        Broken::TwoCommands { .. } => true,
        Broken::Assertion { message } => message.contains("I-2") || message.contains("would go back"),
        _ => false,
    }
}

fn breaks_lease(violation: &Violation) -> bool {
    matches!(violation.broken, Broken::TwoLeaders { .. } | Broken::TimestampWentBack { .. })
}

#[test]
fn an_answer_before_it_is_durable_is_found_within_100_seeds() {
    let found = hunt(Planted::AnswerBeforeDurable, 3, 100);
    assert!(breaks_agreement(&found) || breaks_lease(&found), "{found}");
}

#[test]
fn an_own_accept_counted_before_it_is_durable_is_found_within_400_seeds() {
    assert!(breaks_agreement(&hunt(Planted::CountOwnBeforeDurable, 3, 400)));
}

#[test]
fn a_second_lease_vote_is_found_within_50_seeds() {
    assert!(breaks_lease(&hunt(Planted::IgnoreLeaseVote, 3, 50)));
}

#[test]
fn the_wrong_value_in_phase_1_is_found_within_400_seeds() {
    assert!(breaks_agreement(&hunt(Planted::AdoptLowestBallot, 3, 400)));
}

#[test]
fn a_restart_without_abstention_is_found_within_100_seeds() {
    assert!(breaks_lease(&hunt(Planted::NoAbstention, 3, 100)));
}

#[test]
fn a_commit_at_any_ballot_is_found_within_50_seeds() {
    assert!(breaks_agreement(&hunt(Planted::CommitAnyBallot, 3, 50)));
}

#[test]
fn a_forgotten_floor_is_found_within_50_seeds() {
    assert!(breaks_lease(&hunt(Planted::ForgetFloor, 3, 50)));
}

#[test]
fn a_change_of_many_members_at_once_is_found_within_400_seeds() {
    let config =
        SimConfig { planted: Some(Planted::ManyMembersAtOnce), reconfigure: true, ..SimConfig::hostile(5) };
    let found = (0..400).find_map(|seed| run(seed, TIME, &config).err()).expect("found within 400 seeds");
    println!("{found}");
    // A leader that hears of members chosen without it shows two leaders as well.
    let has_rival =
        matches!(&found.broken, Broken::Assertion { message } if message.contains("without its leader"));
    assert!(has_rival || breaks_agreement(&found) || breaks_lease(&found), "{found}");
}
