use super::*;

const L: Duration = Duration::from_secs(3);

fn tt(earliest_ms: u64, latest_ms: u64) -> Option<TtInterval> {
    Some(TtInterval::new(
        Timestamp::ZERO + Duration::from_millis(earliest_ms),
        Timestamp::ZERO + Duration::from_millis(latest_ms),
    ))
}

fn ballot(round: u64, node: u32) -> Ballot {
    Ballot::new(round, NodeId::new(node))
}

fn ask(voter: &mut LeaseVoter, ballot: Ballot, at: Option<TtInterval>) -> bool {
    voter.observe(at);
    let request = LeaseRequest { leader_earliest: Timestamp::ZERO, length: L };
    voter.grant(ballot, request, at).is_some()
}

#[test]
fn single_vote_until_the_end_has_surely_passed() {
    let mut voter = LeaseVoter::new(L, None, false);
    assert!(ask(&mut voter, ballot(1, 1), tt(1_000, 1_010)));
    // The vote ends at 4010 ms: `earliest` must be beyond, not `latest`.
    assert!(!ask(&mut voter, ballot(2, 2), tt(4_000, 4_020)));
    assert!(!ask(&mut voter, ballot(2, 2), tt(4_010, 4_030)));
    assert!(!ask(&mut voter, ballot(2, 2), None));
    assert!(ask(&mut voter, ballot(2, 2), tt(4_011, 4_031)));
    assert!(!ask(&mut voter, ballot(1, 1), tt(4_012, 4_032)));
}

#[test]
fn the_holder_extends_and_its_vote_never_shrinks() {
    let mut voter = LeaseVoter::new(L, None, false);
    assert!(ask(&mut voter, ballot(1, 1), tt(1_000, 1_400)));
    assert!(ask(&mut voter, ballot(2, 1), tt(1_100, 1_110)));
    assert_eq!(voter.durable().map(|(_, end)| end), tt(0, 4_400).map(|t| t.latest()));
}

#[test]
fn a_restarted_voter_abstains_for_a_whole_length() {
    let forgotten = (ballot(1, 1), Timestamp::ZERO);
    let mut voter = LeaseVoter::new(L, Some(forgotten), true);
    assert!(!ask(&mut voter, ballot(1, 1), None));
    assert!(!ask(&mut voter, ballot(1, 1), tt(1_000, 1_010)));
    assert_eq!(voter.blocked_by(NodeId::new(2), tt(2_000, 2_010)).map(|b| b.0), Some(NodeId::new(1)));
    assert!(!ask(&mut voter, ballot(2, 2), tt(4_010, 4_020)));
    assert!(ask(&mut voter, ballot(2, 2), tt(4_011, 4_021)));
}

#[test]
fn a_longer_lease_than_configured_is_refused() {
    let mut voter = LeaseVoter::new(L, None, false);
    let request = LeaseRequest { leader_earliest: Timestamp::ZERO, length: Duration::from_secs(4) };
    assert_eq!(voter.grant(ballot(1, 1), request, tt(1, 2)), None);
}

#[test]
fn a_released_vote_goes_to_the_successor_alone_even_if_it_gives_up() {
    let mut voter = LeaseVoter::new(L, None, false);
    assert!(ask(&mut voter, ballot(1, 1), tt(1_000, 1_010)));
    voter.release_to(ballot(1, 1), NodeId::new(2));
    assert!(!ask(&mut voter, ballot(2, 3), tt(1_100, 1_110)));
    assert!(!ask(&mut voter, ballot(1, 1), tt(1_100, 1_110)));
    assert!(ask(&mut voter, ballot(2, 2), tt(1_100, 1_110)));
    voter.void(ballot(2, 2));
    assert!(!ask(&mut voter, ballot(3, 3), tt(1_200, 1_210)));
    assert!(ask(&mut voter, ballot(3, 3), tt(4_011, 4_021)));
}

#[test]
fn a_second_hand_over_passes_the_reservation_on() {
    let mut voter = LeaseVoter::new(L, None, false);
    assert!(ask(&mut voter, ballot(1, 1), tt(1_000, 1_010)));
    voter.release_to(ballot(1, 1), NodeId::new(2));
    assert!(ask(&mut voter, ballot(2, 2), tt(1_100, 1_110)));
    voter.release_to(ballot(2, 2), NodeId::new(3));
    assert!(!ask(&mut voter, ballot(3, 2), tt(1_200, 1_210)));
    assert!(ask(&mut voter, ballot(3, 3), tt(1_200, 1_210)));
}

#[test]
fn a_stale_release_frees_nothing() {
    let mut voter = LeaseVoter::new(L, None, false);
    assert!(ask(&mut voter, ballot(3, 1), tt(1_000, 1_010)));
    voter.release_to(ballot(1, 1), NodeId::new(2));
    assert!(!ask(&mut voter, ballot(4, 2), tt(1_100, 1_110)));
}
