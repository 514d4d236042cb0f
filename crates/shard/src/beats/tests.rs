use std::collections::BTreeMap;

use meridian_paxos::RestingPoint;
use meridian_types::{Ballot, Duration, NodeId, SeededRng, TtInterval};

use super::*;
use crate::Now;

const LENGTH: Duration = Duration::from_millis(3_000);
const LAG: Duration = Duration::from_millis(100);
const LEADER: NodeId = NodeId::new(1);

fn ms(t: u64) -> Timestamp {
    Timestamp::from_nanos(t * 1_000_000)
}

fn at(t: u64) -> Now {
    Now { mono: ms(t), tt: Some(TtInterval::new(ms(t - 2), ms(t + 2))) }
}

fn group(n: u64) -> GroupId {
    GroupId::new(n)
}

fn point(now: Now) -> RestingPoint {
    let lease_end = now.tt.unwrap().earliest() + Duration::from_millis(2_000);
    RestingPoint { ballot: Ballot::new(4, LEADER), through: Slot::new(9), lease_end }
}

/// One leader's node and its followers, all of whose replicas stand where the leader says.
struct Pair {
    leading: Leading,
    following: BTreeMap<NodeId, Following>,
}

impl Pair {
    fn new(followers: u32) -> Self {
        let following = (2..2 + followers).map(|n| (NodeId::new(n), Following::default())).collect();
        Pair { leading: Leading::new(LENGTH, 100), following }
    }

    fn join(&mut self, id: u64, t: u64) {
        let others: Vec<NodeId> = self.following.keys().copied().collect();
        self.leading.join(group(id), point(at(t)), others.into_iter());
    }

    /// Delivers one beat to one follower; the answer, if one is asked for.
    fn deliver(&mut self, to: NodeId, beat: &Beat, t: u64) -> Option<BeatAnswer> {
        let following = self.following.get_mut(&to).unwrap();
        loop {
            match following.begin(LEADER, beat, ms(t)) {
                Standing::InStep => break,
                Standing::Lost => return Some(Following::out_of_step(beat)),
                Standing::Broken(groups) => {
                    for group in groups {
                        following.leave(LEADER, group, false);
                    }
                }
            }
        }
        for group in &beat.leaves {
            following.leave(LEADER, *group, false);
        }
        for join in &beat.joins {
            assert!(following.join(LEADER, *join));
        }
        following.finish(LEADER, beat, at(t), true)
    }

    fn round(&mut self, t: u64) -> Settled {
        self.leading.begin_round(at(t), LAG);
        let mut all = Settled::default();
        for to in self.following.keys().copied().collect::<Vec<_>>() {
            let beat = self.leading.beat(to, true, ms(t));
            if let Some(answer) = self.deliver(to, &beat, t) {
                let settled = self.leading.answer(to, &answer);
                all.resting.extend(settled.resting);
                all.rouse.extend(settled.rouse);
            }
        }
        all
    }
}

#[test]
fn a_group_rests_when_every_member_has_answered_and_one_beat_extends_all() {
    let mut pair = Pair::new(2);
    for id in 0..1_000 {
        pair.join(id, 10_000);
    }
    assert_eq!(pair.round(10_000).resting.len(), 1_000);
    // A beat says nothing of the groups that it is for.
    pair.leading.begin_round(at(10_500), LAG);
    let beat = pair.leading.beat(NodeId::new(2), true, ms(10_500));
    assert!(beat.joins.is_empty() && beat.leaves.is_empty());
    let answer = pair.deliver(NodeId::new(2), &beat, 10_510).unwrap();
    assert_eq!(pair.leading.answer(NodeId::new(2), &answer), Settled::default());
    let carried = pair.leading.carried(group(7)).unwrap();
    assert_eq!(carried.beats.own, Some((ms(10_498) + LENGTH, ms(10_502) + LENGTH)));
    let expected = [(NodeId::new(2), ms(10_498) + LENGTH), (NodeId::new(3), ms(9_998) + LENGTH)];
    assert_eq!(carried.beats.votes, expected);
    assert_eq!(carried.closed, ms(10_398));
    let followed = pair.following[&NodeId::new(2)].carried(LEADER, group(7)).unwrap();
    assert_eq!(followed.beats.vote_end, Some(ms(10_512) + LENGTH), "the voter counts from its own latest");
    assert_eq!((followed.closed, followed.through), (ms(10_398), Slot::new(9)));
}

#[test]
fn a_grant_does_not_count_for_a_group_that_left_before_it() {
    let mut pair = Pair::new(2);
    pair.join(7, 10_000);
    assert_eq!(pair.round(10_000).resting, [group(7)]);
    let voter = NodeId::new(2);
    let carried = pair.following.get_mut(&voter).unwrap().leave(LEADER, group(7), true).unwrap();
    assert_eq!(carried.beats.vote_end, Some(ms(10_002) + LENGTH));
    assert_eq!(pair.round(11_000).rouse, [group(7)]);
    let votes = pair.leading.leave(group(7)).unwrap().beats.votes;
    assert_eq!(votes[0], (voter, ms(9_998) + LENGTH), "only what was granted while it was there");
    assert_eq!(votes[1], (NodeId::new(3), ms(10_998) + LENGTH));
}

#[test]
fn a_lost_beat_or_answer_ends_the_stream_on_both_sides() {
    for lose_answer in [false, true] {
        let mut pair = Pair::new(1);
        let voter = NodeId::new(2);
        pair.join(7, 10_000);
        pair.round(10_000);
        pair.leading.begin_round(at(10_100), LAG);
        let beat = pair.leading.beat(voter, true, ms(10_100));
        if lose_answer {
            pair.deliver(voter, &beat, 10_100);
        }
        assert_eq!(pair.round(10_200).rouse, [group(7)], "answer lost: {lose_answer}");
        let carried = pair.leading.leave(group(7)).unwrap();
        assert_eq!(carried.beats.votes, [(voter, ms(9_998) + LENGTH)]);
        // A new stream begins, and the group may join again.
        pair.join(7, 10_300);
        assert_eq!(pair.round(10_300).resting, [group(7)]);
    }
}

#[test]
fn a_restarted_follower_answers_that_it_has_lost_the_stream() {
    let mut pair = Pair::new(1);
    pair.join(7, 10_000);
    pair.round(10_000);
    *pair.following.get_mut(&NodeId::new(2)).unwrap() = Following::default();
    assert_eq!(pair.round(10_100).rouse, [group(7)]);
}

#[test]
fn a_follower_without_a_sure_clock_extends_nothing() {
    let mut pair = Pair::new(1);
    let voter = NodeId::new(2);
    pair.join(7, 10_000);
    pair.round(10_000);
    pair.leading.begin_round(at(10_100), LAG);
    let beat = pair.leading.beat(voter, true, ms(10_100));
    let following = pair.following.get_mut(&voter).unwrap();
    assert_eq!(following.begin(LEADER, &beat, ms(10_100)), Standing::InStep);
    let unsure = Now { tt: None, ..at(10_100) };
    let answer = following.finish(LEADER, &beat, unsure, true).unwrap();
    assert_eq!(answer.lease, None);
    let before = following.carried(LEADER, group(7)).unwrap().beats.vote_end;
    assert_eq!(before, Some(ms(10_002) + LENGTH));
    pair.leading.answer(voter, &answer);
    assert_eq!(pair.leading.carried(group(7)).unwrap().beats.votes, [(voter, ms(9_998) + LENGTH)]);
    assert_eq!(pair.leading.running_out(ms(13_000)), [group(7)]);
    assert_eq!(pair.leading.running_out(ms(12_900)), []);
}

#[test]
fn a_leader_without_a_sure_clock_asks_for_nothing_and_closes_nothing() {
    let mut pair = Pair::new(1);
    pair.join(7, 10_000);
    pair.round(10_000);
    pair.leading.begin_round(Now { tt: None, ..at(10_100) }, LAG);
    let beat = pair.leading.beat(NodeId::new(2), true, ms(10_100));
    assert_eq!((beat.lease, beat.closed), (None, None));
}

#[test]
fn nothing_is_closed_beyond_the_lease_of_a_group_that_waits_for_answers() {
    let mut pair = Pair::new(1);
    pair.join(7, 10_000);
    pair.leading.begin_round(at(20_000), LAG);
    let beat = pair.leading.beat(NodeId::new(2), true, ms(20_000));
    assert_eq!(beat.closed, Some(point(at(10_000)).lease_end.prev()));
}

#[test]
fn silence_breaks_a_stream() {
    let mut pair = Pair::new(1);
    pair.join(7, 10_000);
    pair.round(10_000);
    let following = pair.following.get_mut(&NodeId::new(2)).unwrap();
    assert_eq!(following.silent(ms(12_000), LENGTH), []);
    assert_eq!(following.silent(ms(13_000), LENGTH), [group(7)]);
    assert_eq!(pair.leading.overdue(ms(99_000), LENGTH), [], "everything was answered");
    pair.leading.beat(NodeId::new(2), true, ms(14_000));
    assert_eq!(pair.leading.overdue(ms(17_000), LENGTH), [NodeId::new(2)]);
}

/// Random joins, leaves on either side, lost messages and restarts. At every moment, what the leader may count of a
/// voter's vote is covered by how far the voter has extended it, and by nothing that the voter has given away.
#[test]
fn what_a_leader_counts_is_what_a_voter_gave() {
    for seed in 0..300 {
        let mut rng = SeededRng::new(seed);
        let mut pair = Pair::new(2);
        // How far each voter's vote for a group runs when the group is not in a stream.
        let mut votes: BTreeMap<(NodeId, GroupId), Timestamp> = BTreeMap::new();
        let mut rests: BTreeMap<GroupId, LeaderCarried> = BTreeMap::new();
        let mut t = 10_000;
        for _ in 0..400 {
            t += rng.below(60);
            let id = rng.below(5);
            match rng.below(8) {
                0 if !rests.contains_key(&group(id)) => {
                    pair.join(id, t);
                    rests.insert(group(id), LeaderCarried::default());
                }
                1 => {
                    pair.leading.leave(group(id));
                    rests.remove(&group(id));
                }
                2 => {
                    let voter = NodeId::new(2 + rng.below(2) as u32);
                    let left = pair.following.get_mut(&voter).unwrap().leave(LEADER, group(id), true);
                    if let Some(end) = left.and_then(|c| c.beats.vote_end) {
                        let vote = votes.entry((voter, group(id))).or_default();
                        *vote = end.max(*vote);
                    }
                }
                _ => {
                    pair.leading.begin_round(at(t), LAG);
                    for to in [NodeId::new(2), NodeId::new(3)] {
                        let beat = pair.leading.beat(to, rng.below(2) == 0, ms(t));
                        if rng.below(20) == 0 {
                            continue;
                        }
                        // Whatever the beat rouses has taken over its vote before.
                        let following = &pair.following[&to];
                        for g in 0..5 {
                            let end = following.carried(LEADER, group(g)).and_then(|c| c.beats.vote_end);
                            let vote = votes.entry((to, group(g))).or_default();
                            *vote = end.unwrap_or_default().max(*vote);
                        }
                        let answer = pair.deliver(to, &beat, t + rng.below(5));
                        let Some(answer) = answer.filter(|_| rng.below(20) > 0) else { continue };
                        for roused in pair.leading.answer(to, &answer).rouse {
                            pair.leading.leave(roused);
                            rests.remove(&roused);
                        }
                    }
                }
            }
            for g in rests.keys() {
                for (voter, counted) in pair.leading.carried(*g).unwrap().beats.votes {
                    let now = pair.following[&voter].carried(LEADER, *g).and_then(|c| c.beats.vote_end);
                    let left = votes.get(&(voter, *g)).copied().unwrap_or_default();
                    let given = now.unwrap_or_default().max(left);
                    assert!(
                        counted <= given,
                        "seed {seed}: {g} counts {counted} of {voter}, who gave {given}"
                    );
                }
            }
        }
    }
}
