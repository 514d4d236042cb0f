//! Beats: one message per pair of nodes in place of what every idle group would send. See `meridian_shard::beats`.
//!
//! ```text
//!   housekeeping --100 ms--> leaders with nothing to do join --> Beat to every peer ------> their replicas rest
//!   Awake --join--> Joining --every member has answered--> Leading --anything but a read--> Awake
//!   Awake <--------- anything but a read, leave, gap, silence ---------- Following
//! ```
//! Invariant: a cell's `rest` says where its group is listed, and changes under the cell's lock; the lists are locked
//! after the cell, never before it. A cell is taken out of its list, and has taken over what the beats carried, before
//! its replica is told anything that is not harmless.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use meridian_paxos::Now;
use meridian_rpc::peer::PeerMessage;
use meridian_shard::Input;
use meridian_shard::beats::{Beat, BeatAnswer, Following, Leading, Standing};
use meridian_types::{Duration, GroupId, NodeId, Slot, Timestamp, limits};
use parking_lot::Mutex;

use crate::cell::{Cell, Core, Phase};
use crate::inner::Inner;

/// A group rests after this time without a command: long enough that a trickle of commits does not make it join and
/// leave all the time.
const IDLE: Duration = Duration::from_millis(2_000);

/// How far closed timestamps of resting groups lag behind the clock, as those of others do.
const CLOSE_LAG: Duration = Duration::from_millis(100);

/// Votes are extended once in so many rounds of beats.
const ASK_EVERY: u64 = 5;

/// An answer that is due for this long ends the stream: what is left of the leases then suffices to extend each one by
/// itself.
const ANSWER_PATIENCE: Duration = Duration::from_millis(1_000);

const _: () = assert!(
    2 * ANSWER_PATIENCE.as_nanos() <= limits::LEASE_RENEW_BELOW.as_nanos(),
    "a group that is roused must have time to extend its lease"
);

/// Where a replica is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rest {
    /// Nowhere: it runs by itself.
    Awake,
    /// Listed as leading; it still runs by itself, because some member has not answered.
    Joining,
    /// Listed as leading, and at rest.
    Leading,
    /// At rest under the leader on this node.
    Following(NodeId),
}

/// The lists of a node.
pub(crate) struct Resting {
    leading: Mutex<Leading>,
    following: Mutex<Following>,
}

impl Resting {
    pub(crate) fn new(first_stream: u64) -> Self {
        Resting {
            leading: Mutex::new(Leading::new(limits::LEASE, first_stream)),
            following: Mutex::default(),
        }
    }
}

impl Inner {
    /// Lets a replica that is about to be told `input` know what the beats carried, and rouses it where that does not
    /// suffice. To be called before every step.
    pub(crate) fn before_step(&self, cell: &Cell, core: &mut Core, input: &Input, now: Now) {
        match core.rest {
            Rest::Awake => {}
            _ if !input.is_harmless() => self.wake(cell, core, now),
            Rest::Joining => {}
            Rest::Leading | Rest::Following(_) => {
                self.take_over(core, now);
                if core.rest == Rest::Leading && !core.replica.holds_lease(now) {
                    self.wake(cell, core, now);
                }
            }
        }
    }

    /// Takes over what the beats carried, if the replica rests.
    pub(crate) fn take_over(&self, core: &mut Core, now: Now) {
        let group = core.replica.descriptor().group;
        match core.rest {
            Rest::Awake | Rest::Joining => {}
            Rest::Leading => {
                if let Some(carried) = self.resting.leading.lock().carried(group) {
                    core.replica.take_over_leading(&carried, now);
                }
            }
            Rest::Following(leader) => {
                if let Some(carried) = self.resting.following.lock().carried(leader, group) {
                    core.replica.take_over_following(&carried);
                }
            }
        }
    }

    /// The replica runs by itself again. Whoever calls steps it afterwards, which sets its timer.
    pub(crate) fn wake(&self, cell: &Cell, core: &mut Core, now: Now) {
        match core.rest {
            Rest::Awake => return,
            Rest::Joining | Rest::Leading => {
                if let Some(carried) = self.resting.leading.lock().leave(cell.group) {
                    core.replica.take_over_leading(&carried, now);
                }
            }
            Rest::Following(leader) => {
                if let Some(carried) = self.resting.following.lock().leave(leader, cell.group, true) {
                    core.replica.take_over_following(&carried);
                }
            }
        }
        core.rest = Rest::Awake;
        core.idle_since = now.mono;
        core.replica.rouse();
        cell.rests.store(false, Ordering::Release);
    }

    /// Wakes replicas, and lets them go on.
    fn rouse(self: &Arc<Self>, groups: impl IntoIterator<Item = GroupId>) {
        for group in groups {
            let Some(cell) = self.cell(group) else { continue };
            let mut core = cell.core.lock();
            self.wake(&cell, &mut core, self.clock.now());
            drop(core);
            self.step(&cell, Input::Tick);
        }
    }

    /// Lists a leader that has had nothing to do for a while. The caller holds the cell's lock.
    pub(crate) fn consider_rest(&self, cell: &Cell, core: &mut Core, now: Now) {
        if core.rest != Rest::Awake || core.phase != Phase::Serving {
            return;
        }
        let last = core.replica.last_slot();
        if core.idle_at != last {
            core.idle_at = last;
            core.idle_since = now.mono;
        }
        if now.mono.since(core.idle_since) < IDLE {
            return;
        }
        let Some(point) = core.replica.resting_point(now) else { return };
        let mut leading = self.resting.leading.lock();
        leading.join(cell.group, point, core.replica.others());
        core.rest = Rest::Joining;
        if leading.is_confirmed(cell.group) {
            drop(leading);
            self.rest(cell, core);
        }
    }

    fn rest(&self, cell: &Cell, core: &mut Core) {
        core.replica.rest();
        core.rest = Rest::Leading;
        cell.rests.store(true, Ordering::Release);
    }

    /// Sends a beat to every peer.
    pub(crate) fn send_beats(self: &Arc<Self>, round: u64) {
        self.counters.beat_rounds.add(1);
        let now = self.clock.now();
        let peers = self.peers();
        let mut rouse = Vec::new();
        let mut beats = Vec::with_capacity(peers.len());
        {
            let mut leading = self.resting.leading.lock();
            for peer in leading.overdue(now.mono, ANSWER_PATIENCE) {
                rouse.extend(leading.lose(peer));
            }
            let soon = now.tt.map_or(Timestamp::ZERO, |tt| tt.latest() + ANSWER_PATIENCE);
            rouse.extend(leading.running_out(soon));
            leading.begin_round(now, CLOSE_LAG);
            let ask = round.is_multiple_of(ASK_EVERY);
            beats.extend(peers.into_iter().map(|peer| (peer, leading.beat(peer, ask, now.mono))));
        }
        for (peer, beat) in beats {
            if !self.try_send(peer, PeerMessage::Beat(beat)) {
                rouse.extend(self.resting.leading.lock().lose(peer));
            }
        }
        rouse.extend(self.resting.following.lock().silent(now.mono, limits::LEASE));
        self.rouse(rouse);
    }

    pub(crate) fn on_beat(self: &Arc<Self>, from: NodeId, beat: &Beat) {
        loop {
            let standing = self.resting.following.lock().begin(from, beat, self.clock.mono());
            match standing {
                Standing::InStep => break,
                Standing::Broken(groups) => self.rouse(groups),
                Standing::Lost => {
                    return self.send(from, PeerMessage::BeatAnswer(Following::out_of_step(beat)));
                }
            }
        }
        self.rouse(beat.leaves.iter().copied());
        for join in &beat.joins {
            let cell = self.cell(join.group);
            let rests = cell.is_some_and(|cell| {
                let mut core = cell.core.lock();
                let rests = core.rest == Rest::Awake
                    && core.phase == Phase::Serving
                    && core.replica.stands_at(join.ballot, join.through, self.clock.now())
                    && self.resting.following.lock().join(from, *join);
                if rests {
                    core.rest = Rest::Following(from);
                    core.replica.rest();
                    cell.rests.store(true, Ordering::Release);
                }
                rests
            });
            if !rests {
                self.resting.following.lock().decline(from, join.group);
            }
        }
        let may_grant = !self.is_disk_failed() && !self.is_stopped();
        let answer = self.resting.following.lock().finish(from, beat, self.clock.now(), may_grant);
        if let Some(answer) = answer {
            self.send(from, PeerMessage::BeatAnswer(answer));
        }
    }

    pub(crate) fn on_beat_answer(self: &Arc<Self>, from: NodeId, answer: &BeatAnswer) {
        let settled = self.resting.leading.lock().answer(from, answer);
        for group in settled.resting {
            let Some(cell) = self.cell(group) else { continue };
            let mut core = cell.core.lock();
            let now = self.clock.now();
            if core.rest != Rest::Joining || !self.resting.leading.lock().is_confirmed(group) {
                continue;
            }
            if core.replica.resting_point(now).is_some_and(|p| p.through == core.idle_at) {
                self.rest(&cell, &mut core);
            } else {
                self.wake(&cell, &mut core, now);
            }
        }
        self.rouse(settled.rouse);
    }

    /// The connection to a peer is gone.
    pub(crate) fn beats_lost(self: &Arc<Self>, peer: NodeId) {
        let lost = self.resting.leading.lock().lose(peer);
        self.rouse(lost);
    }

    /// Groups at rest on this node: those that it leads (or is about to), and the others.
    pub(crate) fn resting_groups(&self) -> (usize, usize) {
        (self.resting.leading.lock().len(), self.resting.following.lock().len())
    }
}

/// Where a cell's idle time is counted from at first.
pub(crate) const NEVER_IDLE: Slot = Slot::ZERO;
