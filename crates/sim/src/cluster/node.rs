//! A simulated node: its clock, engines and replicas.

use std::collections::{BTreeMap, VecDeque};

use meridian_paxos::{Command, HardState, LogEntry, MemberKind, Membership, Persist, PersistToken};
use meridian_shard::{Config, Now, Outputs, Recovered, Replica, RequestId, ShardDescriptor};
use meridian_storage::{CrashPoint, Durability, Engine, MemoryEngine};
use meridian_types::{Duration, GroupId, NodeId, SeededRng, Slot, Span, Timestamp};

use super::delivery::Address;
use super::options::{Clocks, Weather};
use super::world::{DRIFT_PPM, Event, START};
use crate::clock::{DisciplinedNode, ErraticClock, NodeClock, Oscillator};

/// One group's part of the log engine.
#[derive(Debug, Default)]
pub(super) struct Log {
    hard: HardState,
    truncated: Slot,
    /// The generation by which the node left the group last.
    removed_at: u64,
    entries: BTreeMap<Slot, LogEntry>,
    under_way: VecDeque<(PersistToken, Vec<Persist>)>,
}

impl Log {
    pub(super) fn write(&mut self, token: PersistToken, writes: Vec<Persist>) {
        self.under_way.push_back((token, writes));
    }

    pub(super) fn complete(&mut self, token: PersistToken) {
        while self.under_way.front().is_some_and(|(t, _)| *t <= token) {
            self.complete_first();
        }
    }

    fn complete_first(&mut self) {
        let Some((_, writes)) = self.under_way.pop_front() else { return };
        for write in writes {
            match write {
                Persist::HardState(hard) => self.hard = hard,
                Persist::Entries(entries) => self.entries.extend(entries.into_iter().map(|e| (e.slot, e))),
                Persist::Truncate(slot) => self.truncate(slot),
            }
        }
    }

    /// A replica that begins with a snapshot has no log below it; what it promised stays.
    pub(super) fn truncate(&mut self, slot: Slot) {
        self.entries = self.entries.split_off(&slot.next());
        self.truncated = self.truncated.max(slot);
    }

    /// What is durable of the entries up to a slot, where they were not cut off yet.
    pub(super) fn through(&self, slot: Slot) -> impl Iterator<Item = &LogEntry> {
        self.entries.range(..=slot).map(|(_, entry)| entry)
    }

    /// True when something is durable in the slot, or was applied and cut off.
    pub(super) fn holds(&self, slot: Slot) -> bool {
        slot <= self.truncated || self.entries.contains_key(&slot)
    }

    /// True when the entry is here, and known as chosen, after a restart, too; or was applied and cut off.
    pub(super) fn knows(&self, entry: &LogEntry) -> bool {
        let held = self.entries.get(&entry.slot);
        entry.slot <= self.truncated
            || entry.slot <= self.hard.commit && held.is_some_and(|held| held.command == entry.command)
    }

    /// True when a restart finds these members in force, which were chosen at `since` or, where that was applied before the
    /// last start of whoever tells, earlier.
    pub(super) fn knows_members(&self, members: &Membership, since: Slot) -> bool {
        let is_theirs = |entry: &LogEntry| matches!(&entry.command, Command::Membership(m) if m == members);
        let commit = self.hard.commit;
        self.truncated.max(commit) >= since || self.entries.range(..=commit).any(|(_, e)| is_theirs(e))
    }

    /// Entries go; what was promised stays.
    pub(super) fn forget(&mut self, generation: u64) {
        self.removed_at = self.removed_at.max(generation);
        self.hard.commit = Slot::ZERO;
        self.truncated = Slot::ZERO;
        self.entries.clear();
        self.under_way.clear();
    }

    /// True when a replica that is not here yet may begin with this descriptor.
    pub(super) fn may_begin(&self, descriptor: &ShardDescriptor) -> bool {
        descriptor.generation > self.removed_at
    }

    fn crash(&mut self, rng: &mut SeededRng) {
        let survivors = if rng.chance(1, 2) { 0 } else { rng.below(self.under_way.len() as u64 + 1) };
        for _ in 0..survivors {
            self.complete_first();
        }
        self.under_way.clear();
    }
}

/// Who waits for the answer to a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) from: Address,
    pub(super) call: u64,
}

#[derive(Debug)]
pub(super) struct Hosted {
    pub(super) replica: Replica,
    /// Names this one among all that the node has had of the group.
    pub(super) born: u64,
    /// A wake-up is scheduled for this moment.
    pub(super) wake_at: Option<Timestamp>,
}

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) incarnation: u64,
    pub(super) is_up: bool,
    /// Nothing happens on it before this moment.
    pub(super) asleep_until: Timestamp,
    /// What has come since, in order.
    pub(super) held: Vec<Event>,
    pub(super) clock: NodeClock,
    /// Its clock was disturbed beyond the bounds.
    pub(super) is_clock_disturbed: bool,
    /// A majority of the masters lied to it, which it can't notice.
    pub(super) is_misled: bool,
    pub(super) engine: MemoryEngine,
    pub(super) logs: BTreeMap<GroupId, Log>,
    pub(super) replicas: BTreeMap<GroupId, Hosted>,
    /// What replicas that were removed had, until it is erased.
    pub(super) erasing: BTreeMap<GroupId, (Span, u64)>,
    pub(super) births: u64,
    pub(super) origins: BTreeMap<RequestId, Origin>,
    pub(super) next_request: u64,
    /// When a group that is not here was reported last.
    pub(super) reported: BTreeMap<GroupId, Timestamp>,
    pub(super) disk_busy_until: Timestamp,
    pub(super) out: Outputs,
}

impl Node {
    pub(super) fn now(&self, at: Timestamp) -> Now {
        Now { mono: self.clock.mono(at), tt: self.clock.tt(at) }
    }

    /// Loads the replica of a group that the data engine knows.
    pub(super) fn open(&mut self, group: GroupId, setup: &Setup, at: Timestamp, rng: &mut SeededRng) {
        let Some(mut recovered) = meridian_shard::recover(&self.engine, group).expect("memory can be read")
        else {
            return;
        };
        let log = self.logs.entry(group).or_default();
        fill_in(&mut recovered, log);
        let config = shard_config(group, self.id, setup, rng);
        let replica = Replica::new(config, recovered, self.now(at));
        self.births += 1;
        self.replicas.insert(group, Hosted { replica, born: self.births, wake_at: None });
    }

    pub(super) fn crash(&mut self, rng: &mut SeededRng) {
        self.is_up = false;
        self.incarnation += 1;
        self.replicas.clear();
        self.erasing.clear();
        self.origins.clear();
        self.reported.clear();
        if let NodeClock::Disciplined(clock) = &mut self.clock {
            clock.restart();
        }
        self.logs.values_mut().for_each(|log| log.crash(rng));
        let surviving_batches = rng.below(self.engine.buffered_batches() as u64 + 1) as usize;
        self.engine = self.engine.crash(CrashPoint { surviving_batches });
    }
}

fn fill_in(recovered: &mut Recovered, log: &Log) {
    recovered.hard = log.hard.clone();
    recovered.truncated = log.truncated;
    recovered.entries = log.entries.values().cloned().collect();
}

/// What all replicas of a run have in common.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) weather: Weather,
    #[cfg(feature = "planted-bugs")]
    pub(super) planted: Option<super::Planted>,
}

fn shard_config(group: GroupId, node: NodeId, setup: &Setup, rng: &mut SeededRng) -> Config {
    let mut shard = Config::new(group, node, rng.next_u64());
    shard.releases_at_proposal = true;
    shard.paxos.lease = Duration::from_millis(1_000);
    shard.paxos.renew_below = Duration::from_millis(600);
    shard.paxos.retransmit = Duration::from_millis(100);
    shard.paxos.campaign = Duration::from_millis(500);
    shard.paxos.election_spread = Duration::from_millis(200);
    shard.close_lag = Duration::from_millis(60);
    shard.recovery_after = Duration::from_millis(400);
    shard.recovery_pause_max = Duration::from_millis(1_600);
    shard.log_retain = setup.weather.log_retain;
    #[cfg(feature = "planted-bugs")]
    match setup.planted {
        Some(super::Planted::Shard(bug)) => shard.planted = Some(bug),
        Some(super::Planted::Paxos(bug)) => shard.paxos.planted = Some(bug),
        Some(super::Planted::Clock(_) | super::Planted::Driver(_) | super::Planted::Schema(_)) | None => {}
    }
    shard
}

/// A node as it is at the start of a run.
pub(super) fn new_node(
    id: NodeId,
    setup: &Setup,
    descriptors: &[ShardDescriptor],
    rng: &mut SeededRng,
) -> Node {
    let clock = match setup.weather.clocks {
        Clocks::Erratic(config) => NodeClock::Erratic(ErraticClock::new(config, rng)),
        Clocks::Disciplined => {
            let oscillator = Oscillator::new(DRIFT_PPM, rng);
            #[cfg(feature = "planted-bugs")]
            let node = DisciplinedNode::new(oscillator, setup.planted.and_then(super::Planted::clock));
            #[cfg(not(feature = "planted-bugs"))]
            let node = DisciplinedNode::new(oscillator);
            NodeClock::Disciplined(Box::new(node))
        }
    };
    let mut node = Node {
        id,
        incarnation: 0,
        is_up: true,
        asleep_until: Timestamp::ZERO,
        held: Vec::new(),
        clock,
        is_clock_disturbed: false,
        is_misled: false,
        engine: MemoryEngine::new(),
        logs: BTreeMap::new(),
        replicas: BTreeMap::new(),
        erasing: BTreeMap::new(),
        births: 0,
        origins: BTreeMap::new(),
        next_request: 0,
        reported: BTreeMap::new(),
        disk_busy_until: START,
        out: Outputs::default(),
    };
    for descriptor in descriptors.iter().filter(|d| d.replicas.iter().any(|(member, _)| *member == id)) {
        let has_data = |(member, kind): &(NodeId, MemberKind)| *member == id && kind.holds_data();
        let holds_data = descriptor.replicas.iter().any(has_data);
        let batch = meridian_shard::initial_state(descriptor, Timestamp::ZERO, holds_data);
        node.engine.write(batch, Durability::Synced).expect("memory takes writes");
        node.open(descriptor.group, setup, START, rng);
    }
    node
}
