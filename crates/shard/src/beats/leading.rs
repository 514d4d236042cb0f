//! The side of the node that leads.

use std::collections::{BTreeMap, VecDeque};

use meridian_paxos::{LeaderBeats, LeaseRequest, RestingPoint};
use meridian_types::{Duration, GroupId, NodeId, Timestamp, TtInterval};
use smallvec::SmallVec;

use super::{Beat, BeatAnswer, Join, LeaderCarried};
use crate::Now;

/// One other member of a group.
#[derive(Debug)]
struct Member {
    node: NodeId,
    /// The beat that said so; `None` until it is sent.
    joined: Option<u64>,
    confirmed: bool,
    /// What its vote carried when its stream ended.
    kept: Timestamp,
}

#[derive(Debug)]
struct Group {
    point: RestingPoint,
    members: SmallVec<[Member; 4]>,
}

impl Group {
    fn is_confirmed(&self) -> bool {
        self.members.iter().all(|m| m.confirmed)
    }
}

#[derive(Debug)]
struct Stream {
    id: u64,
    /// Sequence of the next beat.
    next: u64,
    /// Beats that ask for an answer: sequence, and when they were sent.
    unanswered: VecDeque<(u64, Timestamp)>,
    /// The votes in it carry leases to here.
    lease_end: Timestamp,
    /// Confirmed members.
    confirmed: usize,
    joins: Vec<GroupId>,
    leaves: Vec<GroupId>,
    /// Sent and not answered.
    joining: Vec<GroupId>,
}

/// What an answer settled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settled {
    /// Every member rests: so may the leader.
    pub resting: Vec<GroupId>,
    /// These have to go on by themselves.
    pub rouse: Vec<GroupId>,
}

/// The groups that a node leads and that rest, or are about to, and the streams to the other nodes.
///
/// Invariant: a group's `confirmed` member has the group in its stream, unless it has said otherwise in an answer that is
/// still under way; `closed` is below the end of every lease of a group here.
#[derive(Debug)]
pub struct Leading {
    length: Duration,
    next_stream: u64,
    streams: BTreeMap<NodeId, Stream>,
    groups: BTreeMap<GroupId, Group>,
    /// The clock at the last round.
    asked: Option<TtInterval>,
    closed: Timestamp,
    closes: bool,
    /// Groups that are to be roused because a member is in its stream no more, with what its vote carried.
    kept: BTreeMap<GroupId, Timestamp>,
}

impl Leading {
    /// `first_stream` is beyond every stream of earlier incarnations of this node.
    pub fn new(length: Duration, first_stream: u64) -> Self {
        Leading {
            length,
            next_stream: first_stream,
            streams: BTreeMap::new(),
            groups: BTreeMap::new(),
            asked: None,
            closed: Timestamp::ZERO,
            closes: false,
            kept: BTreeMap::new(),
        }
    }

    /// `group` has come to rest at `point` on this node; `others` are its other members.
    ///
    /// # Panics
    /// When it is here already.
    pub fn join(&mut self, group: GroupId, point: RestingPoint, others: impl Iterator<Item = NodeId>) {
        let members: SmallVec<[Member; 4]> = others
            .map(|node| Member { node, joined: None, confirmed: false, kept: Timestamp::ZERO })
            .collect();
        for member in &members {
            let next_stream = &mut self.next_stream;
            let stream = self.streams.entry(member.node).or_insert_with(|| new_stream(next_stream));
            stream.joins.push(group);
        }
        let former = self.groups.insert(group, Group { point, members });
        assert!(former.is_none(), "group {group} rests twice");
    }

    /// Whether all members of `group` rest, in a group of one at once.
    pub fn is_confirmed(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(Group::is_confirmed)
    }

    /// What the beats have carried for `group`.
    pub fn carried(&self, group: GroupId) -> Option<LeaderCarried> {
        let group = self.groups.get(&group)?;
        let own = self.asked.map(|tt| (tt.earliest() + self.length, tt.latest() + self.length));
        let end_of = |m: &Member| {
            let stream = self.streams.get(&m.node).filter(|_| m.confirmed);
            stream.map_or(m.kept, |s| s.lease_end.max(m.kept))
        };
        let votes = group.members.iter().map(|m| (m.node, end_of(m))).collect();
        Some(LeaderCarried { beats: LeaderBeats { own, votes }, closed: self.closed })
    }

    /// `group` rests no more. The next beats say so.
    pub fn leave(&mut self, group: GroupId) -> Option<LeaderCarried> {
        let carried = self.carried(group);
        let left = self.groups.remove(&group)?;
        self.kept.remove(&group);
        for member in left.members {
            let Some(stream) = self.streams.get_mut(&member.node) else { continue };
            stream.joins.retain(|g| *g != group);
            stream.joining.retain(|g| *g != group);
            stream.confirmed -= usize::from(member.confirmed);
            if member.joined.is_some() {
                stream.leaves.push(group);
            }
        }
        carried
    }

    /// Reads the clock for the beats that follow. What they close lies `lag` behind it, and below every lease.
    pub fn begin_round(&mut self, now: Now, lag: Duration) {
        self.closes = now.tt.is_some();
        let Some(tt) = now.tt else { return };
        self.asked = Some(tt);
        let resting = self.streams.values().filter(|s| s.confirmed > 0).map(|s| s.lease_end);
        let joining = self.streams.values().flat_map(|s| s.joins.iter().chain(&s.joining));
        let joining = joining.filter_map(|g| self.groups.get(g)).map(|g| g.point.lease_end);
        let bound = resting.chain(joining).chain(self.kept.values().copied()).min().unwrap_or(Timestamp::MAX);
        self.closed = self.closed.max(tt.earliest().saturating_sub(lag).min(bound.prev()));
    }

    /// The next beat for `peer`. With `ask` it asks for an extension; so does every one with something to settle.
    pub fn beat(&mut self, peer: NodeId, ask: bool, mono: Timestamp) -> Beat {
        let next_stream = &mut self.next_stream;
        let stream = self.streams.entry(peer).or_insert_with(|| new_stream(next_stream));
        let sequence = stream.next;
        stream.next += 1;
        let mut joins = Vec::with_capacity(stream.joins.len());
        for id in std::mem::take(&mut stream.joins) {
            let group = self.groups.get_mut(&id).expect("what joins is here");
            let member = group.members.iter_mut().find(|m| m.node == peer).expect("it joins as a member");
            member.joined = Some(sequence);
            let RestingPoint { ballot, through, .. } = group.point;
            joins.push(Join { group: id, ballot, through });
            stream.joining.push(id);
        }
        let is_asking = self.closes && (ask || !joins.is_empty());
        let request = |tt: TtInterval| LeaseRequest { leader_earliest: tt.earliest(), length: self.length };
        let lease = self.asked.filter(|_| is_asking).map(request);
        if lease.is_some() {
            stream.unanswered.push_back((sequence, mono));
        }
        Beat {
            stream: stream.id,
            sequence,
            lease,
            closed: self.closes.then_some(self.closed),
            leaves: std::mem::take(&mut stream.leaves),
            joins,
        }
    }

    /// Takes an answer.
    pub fn answer(&mut self, from: NodeId, answer: &BeatAnswer) -> Settled {
        let mut settled = Settled::default();
        let Some(stream) = self.streams.get_mut(&from).filter(|s| s.id == answer.stream) else {
            return settled;
        };
        let is_next = stream.unanswered.front().is_some_and(|(s, _)| *s == answer.sequence);
        if !answer.in_step || !is_next {
            settled.rouse = self.lose(from);
            return settled;
        }
        stream.unanswered.pop_front();
        let is_answered = |m: &Member| m.node == from && m.joined.is_some_and(|at| at <= answer.sequence);
        // Before the grant is counted: it is not for those that left.
        for id in &answer.left {
            let members = self.groups.get_mut(id).map(|g| &mut g.members);
            let Some(member) = members.and_then(|m| m.iter_mut().find(|m| is_answered(m))) else { continue };
            if std::mem::take(&mut member.confirmed) {
                stream.confirmed -= 1;
                member.kept = member.kept.max(stream.lease_end);
                self.kept.insert(*id, member.kept);
            }
            settled.rouse.push(*id);
        }
        if let Some(grant) = answer.lease {
            stream.lease_end = stream.lease_end.max(grant.leader_earliest + grant.length);
        }
        for id in std::mem::take(&mut stream.joining) {
            let group = self.groups.get_mut(&id).expect("what joins is here");
            let member = group.members.iter_mut().find(|m| is_answered(m));
            match member {
                None => stream.joining.push(id),
                Some(_) if settled.rouse.contains(&id) => {}
                Some(_) if answer.lease.is_none() => settled.rouse.push(id),
                Some(member) => {
                    member.confirmed = true;
                    stream.confirmed += 1;
                    if group.is_confirmed() {
                        settled.resting.push(id);
                    }
                }
            }
        }
        settled
    }

    /// Ends the stream to `peer`. The groups in it have to go on by themselves.
    pub fn lose(&mut self, peer: NodeId) -> Vec<GroupId> {
        let Some(stream) = self.streams.remove(&peer) else { return Vec::new() };
        let mut lost = Vec::new();
        for (id, group) in &mut self.groups {
            if let Some(member) = group.members.iter_mut().find(|m| m.node == peer) {
                if member.confirmed {
                    member.kept = member.kept.max(stream.lease_end);
                    self.kept.insert(*id, member.kept);
                }
                member.confirmed = false;
                member.joined = None;
                lost.push(*id);
            }
        }
        lost
    }

    /// The peers that leave an answer due for `patience`. Votes that are not extended must not hold up their groups.
    pub fn overdue(&self, mono: Timestamp, patience: Duration) -> Vec<NodeId> {
        let is_late = |s: &Stream| s.unanswered.front().is_some_and(|(_, at)| mono.since(*at) >= patience);
        self.streams.iter().filter(|(_, s)| is_late(s)).map(|(n, _)| *n).collect()
    }

    /// The groups whose lease ends before `t` unless it is extended: something keeps their voters from granting.
    pub fn running_out(&self, t: Timestamp) -> Vec<GroupId> {
        let short = |n: &NodeId| self.streams.get(n).is_none_or(|s| s.lease_end < t);
        if self.streams.values().all(|s| s.confirmed == 0 || s.lease_end >= t) {
            return Vec::new();
        }
        let is_short = |g: &Group| g.members.iter().any(|m| m.confirmed && short(&m.node));
        self.groups.iter().filter(|(_, g)| is_short(g)).map(|(id, _)| *id).collect()
    }

    /// How many groups rest or are about to.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// True when no group rests.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

fn new_stream(next: &mut u64) -> Stream {
    let id = *next;
    *next += 1;
    Stream {
        id,
        next: 0,
        unanswered: VecDeque::new(),
        lease_end: Timestamp::ZERO,
        confirmed: 0,
        joins: Vec::new(),
        leaves: Vec::new(),
        joining: Vec::new(),
    }
}
