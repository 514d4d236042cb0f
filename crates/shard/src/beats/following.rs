//! The side of the other members.

use std::collections::BTreeMap;

use meridian_paxos::{FollowerBeats, LeaseGrant};
use meridian_types::{Duration, GroupId, NodeId, Timestamp};

use super::{Beat, BeatAnswer, FollowerCarried, Join};
use crate::Now;

#[derive(Debug)]
struct Stream {
    id: u64,
    /// Sequence of the next beat.
    next: u64,
    heard: Timestamp,
    /// How far the votes in it were extended last.
    vote_end: Option<Timestamp>,
    closed: Timestamp,
    groups: BTreeMap<GroupId, Join>,
    left: Vec<GroupId>,
    /// It has a gap: nothing is granted any more, and it goes when its groups have left.
    broken: bool,
}

/// Where a beat finds the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is the next one. The groups of its `leaves` are to be roused, then those of its `joins` asked, then
    /// [`Following::finish`].
    InStep,
    /// It is not. These groups are to be roused; then the beat is to be shown again.
    Broken(Vec<GroupId>),
    /// It is not, and there is nothing to rouse: [`Following::out_of_step`] is the answer.
    Lost,
}

/// The groups on a node that rest under leaders elsewhere, by the leader's node.
///
/// Invariant: a group is here only while its replica rests at the ballot and slot of its join.
#[derive(Debug, Default)]
pub struct Following {
    streams: BTreeMap<NodeId, Stream>,
}

impl Following {
    /// A beat came.
    pub fn begin(&mut self, from: NodeId, beat: &Beat, mono: Timestamp) -> Standing {
        if let Some(stream) = self.streams.get_mut(&from) {
            if stream.id == beat.stream && stream.next == beat.sequence && !stream.broken {
                stream.next += 1;
                stream.heard = mono;
                return Standing::InStep;
            }
            stream.broken = true;
            if !stream.groups.is_empty() {
                return Standing::Broken(stream.groups.keys().copied().collect());
            }
            self.streams.remove(&from);
        }
        if beat.sequence != 0 {
            return Standing::Lost;
        }
        let stream = Stream {
            id: beat.stream,
            next: 1,
            heard: mono,
            vote_end: None,
            closed: Timestamp::ZERO,
            groups: BTreeMap::new(),
            left: Vec::new(),
            broken: false,
        };
        self.streams.insert(from, stream);
        Standing::InStep
    }

    /// The answer to a beat that is out of step.
    pub fn out_of_step(beat: &Beat) -> BeatAnswer {
        BeatAnswer {
            stream: beat.stream,
            sequence: beat.sequence,
            in_step: false,
            lease: None,
            left: Vec::new(),
        }
    }

    /// The replica rests where `join` says. False when the stream has ended meanwhile.
    pub fn join(&mut self, from: NodeId, join: Join) -> bool {
        let Some(stream) = self.streams.get_mut(&from).filter(|s| !s.broken) else { return false };
        stream.left.retain(|g| *g != join.group);
        let former = stream.groups.insert(join.group, join);
        assert!(former.is_none(), "group {} rests twice", join.group);
        true
    }

    /// The replica does not stand where the leader says.
    pub fn decline(&mut self, from: NodeId, group: GroupId) {
        if let Some(stream) = self.streams.get_mut(&from) {
            stream.left.push(group);
        }
    }

    /// Ends a beat that was in step: from here on it counts for every group in the stream. `may_grant` is false while
    /// this node must not vote.
    pub fn finish(&mut self, from: NodeId, beat: &Beat, now: Now, may_grant: bool) -> Option<BeatAnswer> {
        let stream = self.streams.get_mut(&from)?;
        if stream.broken || stream.id != beat.stream {
            return beat.lease.map(|_| Self::out_of_step(beat));
        }
        stream.closed = stream.closed.max(beat.closed.unwrap_or_default());
        let request = beat.lease?;
        let tt = now.tt.filter(|_| may_grant);
        let lease = tt.map(|tt| {
            let end = tt.latest() + request.length;
            stream.vote_end = stream.vote_end.max(Some(end));
            LeaseGrant { leader_earliest: request.leader_earliest, length: request.length }
        });
        let left = std::mem::take(&mut stream.left);
        Some(BeatAnswer { stream: stream.id, sequence: beat.sequence, in_step: true, lease, left })
    }

    /// What the beats have carried for `group`.
    pub fn carried(&self, from: NodeId, group: GroupId) -> Option<FollowerCarried> {
        let stream = self.streams.get(&from)?;
        let join = stream.groups.get(&group)?;
        let beats = FollowerBeats { ballot: join.ballot, vote_end: stream.vote_end, heard: stream.heard };
        Some(FollowerCarried { beats, closed: stream.closed, through: join.through })
    }

    /// `group` rests no more: its replica is about to go on by itself. With `tell` the leader hears of it.
    pub fn leave(&mut self, from: NodeId, group: GroupId, tell: bool) -> Option<FollowerCarried> {
        let carried = self.carried(from, group)?;
        let stream = self.streams.get_mut(&from)?;
        stream.groups.remove(&group);
        if tell {
            stream.left.push(group);
        }
        Some(carried)
    }

    /// Breaks the streams that were silent for `patience`. Their groups are to be roused.
    pub fn silent(&mut self, mono: Timestamp, patience: Duration) -> Vec<GroupId> {
        let mut groups = Vec::new();
        for stream in self.streams.values_mut() {
            if mono.since(stream.heard) >= patience && !stream.groups.is_empty() {
                stream.broken = true;
                groups.extend(stream.groups.keys());
            }
        }
        groups
    }

    /// How many groups rest here under other nodes.
    pub fn len(&self) -> usize {
        self.streams.values().map(|s| s.groups.len()).sum()
    }

    /// True when none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
