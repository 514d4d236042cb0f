//! The replicas, their drivers, the clients and the faults.

use std::cell::Cell;
use std::collections::VecDeque;

use bytes::Bytes;
use meridian_paxos::{
    Command, Config, Envelope, Input, MemberKind, Membership, Now, Outputs, PersistToken, Replica, RoleChange,
};
use meridian_types::{Duration, GroupId, NodeId, SeededRng, Slot, Timestamp};

use super::checker::{Broken, Checker};
use super::config::Weather;
use super::disk::Disk;
use super::network::Network;
use super::{SimConfig, Stats};
use crate::{ErraticClock, Scheduler};

/// Absolute time at the start of a run.
pub(super) const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

/// Shorter than in production, so that a run sees many leaders.
const LEASE: Duration = Duration::from_millis(600);

/// How long a healed group may take to elect, to choose and to catch up.
const HEALING: Duration = Duration::from_secs(8);

/// More events than this at one moment mean that time stands still.
const EVENTS_AT_ONCE_MAX: u32 = 10_000;

#[derive(Debug)]
enum Event {
    Deliver(Envelope),
    Wake { node: NodeId, life: u64 },
    Durable { node: NodeId, life: u64, token: PersistToken },
    Applied { node: NodeId, life: u64, slot: Slot },
    Snapshot { to: NodeId, life: u64, applied: Slot },
    Propose,
    Fault,
    Crash(NodeId),
    Isolate(NodeId),
    Restart(NodeId),
    Housekeeping,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    /// Counts starts, so that events of an earlier life are dropped.
    life: u64,
    replica: Option<Replica>,
    clock: ErraticClock,
    disk: Disk,
    durable: PersistToken,
    waiting: VecDeque<(PersistToken, Vec<Envelope>)>,
    next_slot: Slot,
    wake_at: Timestamp,
    leading: Option<Leading>,
}

/// What the shard of a leader knows.
#[derive(Clone, Copy, Debug)]
struct Leading {
    ready_at: Slot,
    /// The greatest timestamp assigned, or the floor.
    last: Timestamp,
    is_handing_over: bool,
}

pub(super) struct Cluster {
    config: SimConfig,
    weather: Weather,
    rng: SeededRng,
    events: Scheduler<Event>,
    nodes: Vec<Node>,
    network: Network,
    checker: Checker,
    stats: Stats,
    out: Outputs,
    proposals: u64,
    is_healed: bool,
}

impl Cluster {
    pub(super) fn new(seed: u64, config: SimConfig) -> Self {
        let mut rng = SeededRng::new(seed);
        let weather = Weather::new(&config, &mut rng);
        let ids = || (1..=config.nodes).map(NodeId::new);
        let initial = Membership::of_voters(ids());
        let nodes = ids().map(|id| Node {
            id,
            life: 0,
            replica: None,
            clock: ErraticClock::new(config.clock, &mut rng),
            disk: Disk::default(),
            durable: PersistToken::default(),
            waiting: VecDeque::new(),
            next_slot: Slot::new(1),
            wake_at: Timestamp::MAX,
            leading: None,
        });
        let nodes = nodes.collect();
        Cluster {
            config,
            weather,
            rng,
            events: Scheduler::new(START),
            nodes,
            network: Network::default(),
            checker: Checker::new(initial),
            stats: Stats::default(),
            out: Outputs::default(),
            proposals: 0,
            is_healed: false,
        }
    }

    pub(super) fn run(&mut self, time: Duration, at: &Cell<Timestamp>) -> Result<Stats, Broken> {
        for i in 0..self.nodes.len() {
            self.start(i);
        }
        self.step(0, Input::Campaign)?;
        self.events.after(Duration::from_millis(1), Event::Propose);
        self.events.after(Duration::from_millis(50), Event::Housekeeping);
        if self.config.faults {
            self.events.after(Duration::from_millis(300), Event::Fault);
        }
        self.run_until(START + time, at)?;
        self.heal();
        let chosen = self.checker.last();
        self.run_until(START + time + HEALING, at)?;
        self.check_healed(chosen)?;
        self.stats.slots = self.checker.last().get();
        self.stats.reconfigurations = self.checker.reconfigurations();
        Ok(self.stats)
    }

    fn run_until(&mut self, end: Timestamp, at: &Cell<Timestamp>) -> Result<(), Broken> {
        let mut at_once = 0;
        while let Some(event) = self.events.next_until(end) {
            if at.replace(self.events.now()) == self.events.now() {
                at_once += 1;
                if at_once > EVENTS_AT_ONCE_MAX {
                    return Err(Broken::Spinning);
                }
            } else {
                at_once = 0;
            }
            self.stats.events += 1;
            let digest = self.stats.digest ^ self.events.now().as_nanos();
            self.stats.digest = digest.wrapping_mul(0x0100_0000_01b3).rotate_left(5);
            self.handle(event)?;
            self.check_leaders()?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Deliver(envelope) => {
                if self.network.is_cut(envelope.from, envelope.to) {
                    return Ok(());
                }
                self.stats.messages += 1;
                let i = index(envelope.to);
                self.step(i, Input::Receive { from: envelope.from, message: envelope.message })
            }
            Event::Wake { node, life } => {
                let i = index(node);
                if self.nodes[i].life != life || self.nodes[i].wake_at > self.events.now() {
                    return Ok(());
                }
                self.nodes[i].wake_at = Timestamp::MAX;
                self.step(i, Input::Tick)
            }
            Event::Durable { node, life, token } => self.durable(index(node), life, token),
            Event::Applied { node, life, slot } => {
                let i = index(node);
                if self.nodes[i].life != life {
                    return Ok(());
                }
                let node = &mut self.nodes[i];
                node.disk.applied = node.disk.applied.max(slot);
                self.step(i, Input::Applied(slot))
            }
            Event::Snapshot { to, life, applied } => self.install_snapshot(index(to), life, applied),
            Event::Propose => {
                let pause =
                    1 + self.rng.below(if self.is_healed { 50 } else { self.weather.propose_pause_ms });
                self.events.after(Duration::from_millis(pause), Event::Propose);
                self.propose()
            }
            Event::Fault => {
                if self.is_healed {
                    return Ok(());
                }
                let pause = 20 + self.rng.below(self.weather.fault_pause_ms);
                self.events.after(Duration::from_millis(pause), Event::Fault);
                self.fault()
            }
            Event::Crash(node) => {
                if !self.is_healed {
                    self.crash_for_a_while(index(node));
                }
                Ok(())
            }
            Event::Isolate(node) => {
                if !self.is_healed {
                    self.network.isolate(node, self.config.nodes);
                }
                Ok(())
            }
            Event::Restart(node) => {
                if self.nodes[index(node)].replica.is_none() {
                    self.start(index(node));
                }
                Ok(())
            }
            Event::Housekeeping => {
                self.events.after(Duration::from_millis(100), Event::Housekeeping);
                self.housekeeping()
            }
        }
    }

    fn now(&self, i: usize) -> Now {
        let at = self.events.now();
        let clock = &self.nodes[i].clock;
        Now { mono: clock.mono(at), tt: clock.tt(at) }
    }

    /// Starts the process of a node from what its disk holds.
    fn start(&mut self, i: usize) {
        let now = self.now(i);
        let seed = self.rng.next_u64();
        let node = &mut self.nodes[i];
        let mut config = Config::new(GroupId::new(1), node.id, seed);
        config.lease = LEASE;
        config.renew_below = Duration::from_millis(400);
        config.election_spread = Duration::from_millis(75);
        config.retransmit = Duration::from_millis(40);
        config.commit_notify = self.weather.commit_notify;
        config.campaign = Duration::from_millis(300);
        config.hand_over_wait = Duration::from_millis(50);
        #[cfg(feature = "planted-bugs")]
        {
            config.planted = self.config.planted;
        }
        let membership = self.checker.membership_at(node.disk.applied).clone();
        node.life += 1;
        node.durable = PersistToken::default();
        node.next_slot = node.disk.applied.next();
        node.wake_at = Timestamp::MAX;
        node.replica = Some(Replica::new(config, node.disk.recover(membership), now));
        self.schedule_wake(i);
    }

    fn crash(&mut self, i: usize) {
        self.stats.crashes += 1;
        let node = &mut self.nodes[i];
        node.replica = None;
        node.leading = None;
        node.waiting.clear();
        node.life += 1;
        node.disk.crash(&mut self.rng);
        if self.config.blank_returns && self.rng.chance(1, 3) {
            node.disk = Disk::default();
        }
    }

    fn schedule_wake(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        let Some(wake) = node.replica.as_ref().and_then(Replica::next_wake) else { return };
        let at = node.clock.when(wake).max(self.events.now());
        if at < node.wake_at {
            node.wake_at = at;
            self.events.at(at, Event::Wake { node: node.id, life: node.life });
        }
    }

    /// One step of a replica, and what its driver and shard do with the outputs.
    fn step(&mut self, i: usize, input: Input) -> Result<(), Broken> {
        let now = self.now(i);
        let mut out = std::mem::take(&mut self.out);
        let Some(replica) = self.nodes[i].replica.as_mut() else {
            self.out = out;
            return Ok(());
        };
        replica.step(input, now, &mut out);
        replica.check_invariants();
        let result = self.outputs(i, &mut out);
        self.out = out;
        self.schedule_wake(i);
        result
    }

    fn outputs(&mut self, i: usize, out: &mut Outputs) -> Result<(), Broken> {
        for envelope in out.send.drain(..) {
            self.transmit(envelope);
        }
        if !out.persist.is_empty() {
            let worst = if self.is_healed { 1_000 } else { self.weather.fsync_us };
            let delay = self.rng.below(worst);
            let node = &mut self.nodes[i];
            node.disk.write(out.token, std::mem::take(&mut out.persist));
            node.disk.busy_until = node.disk.busy_until.max(self.events.now() + Duration::from_micros(delay));
            let event = Event::Durable { node: node.id, life: node.life, token: out.token };
            self.events.at(node.disk.busy_until, event);
        }
        if !out.send_after_persist.is_empty() {
            self.nodes[i].waiting.push_back((out.token, std::mem::take(&mut out.send_after_persist)));
        }
        if let Some(change) = out.role_change {
            self.role_changed(i, change);
        }
        for entry in out.chosen.drain(..) {
            let node = &mut self.nodes[i];
            if entry.slot != node.next_slot {
                return Err(Broken::OutOfOrder { node: node.id, expected: node.next_slot, slot: entry.slot });
            }
            node.next_slot = entry.slot.next();
            self.checker.chosen(node.id, &entry)?;
            let event = Event::Applied { node: node.id, life: node.life, slot: entry.slot };
            self.events.after(Duration::from_micros(100), event);
        }
        for to in out.snapshot_to.drain(..) {
            let applied = self.nodes[i].disk.applied;
            let target = &self.nodes[index(to)];
            let event = Event::Snapshot { to, life: target.life, applied };
            self.events.after(Duration::from_millis(20 + self.rng.below(100)), event);
        }
        Ok(())
    }

    fn transmit(&mut self, envelope: Envelope) {
        let [first, second] = self.network.deliveries(&self.config, &self.weather, &mut self.rng);
        if let Some(delay) = second {
            self.events.after(delay, Event::Deliver(envelope.clone()));
        }
        if let Some(delay) = first {
            self.events.after(delay, Event::Deliver(envelope));
        }
    }

    fn durable(&mut self, i: usize, life: u64, token: PersistToken) -> Result<(), Broken> {
        let node = &mut self.nodes[i];
        if node.life != life {
            return Ok(());
        }
        node.disk.complete(token);
        node.durable = node.durable.max(token);
        self.step(i, Input::Persisted(token))?;
        loop {
            let node = &mut self.nodes[i];
            let Some((waits_for, _)) = node.waiting.front() else { return Ok(()) };
            if *waits_for > node.durable {
                return Ok(());
            }
            let (_, envelopes) = node.waiting.pop_front().expect("looked at above");
            for envelope in envelopes {
                self.transmit(envelope);
            }
        }
    }

    fn role_changed(&mut self, i: usize, change: RoleChange) {
        match change {
            RoleChange::Leading { ready_at, floor, .. } => {
                self.stats.leaders += 1;
                self.nodes[i].leading = Some(Leading { ready_at, last: floor, is_handing_over: false });
            }
            RoleChange::Following { .. } => self.nodes[i].leading = None,
        }
    }

    fn install_snapshot(&mut self, i: usize, life: u64, applied: Slot) -> Result<(), Broken> {
        let node = &mut self.nodes[i];
        let is_useful = node.life == life && node.replica.as_ref().is_some_and(|r| r.commit() < applied);
        if !is_useful {
            return Ok(());
        }
        self.stats.snapshots += 1;
        node.disk.install_snapshot(applied);
        node.next_slot = applied.next();
        let membership = self.checker.membership_at(applied).clone();
        self.step(i, Input::SnapshotInstalled { applied, membership })
    }

    /// A client writes at whoever holds the lease; the leader assigns a timestamp, now and then the greatest possible.
    fn propose(&mut self) -> Result<(), Broken> {
        for i in 0..self.nodes.len() {
            let now = self.now(i);
            let node = &mut self.nodes[i];
            let (Some(replica), Some(leading), Some(tt)) = (&node.replica, &mut node.leading, now.tt) else {
                continue;
            };
            let Some(leadership) = replica.leadership(now) else { continue };
            if leading.is_handing_over || replica.applied() < leading.ready_at {
                continue;
            }
            let least = leading.last.next().max(tt.latest());
            if least >= leadership.lease_end {
                continue;
            }
            let bold = self.rng.chance(1, 20);
            let timestamp = if bold { leadership.lease_end.prev().max(least) } else { least };
            leading.last = timestamp;
            self.checker.assigned(node.id, timestamp)?;
            let commands = (0..1 + self.rng.below(3)).map(|_| {
                self.proposals += 1;
                Command::Normal(Bytes::copy_from_slice(&self.proposals.to_be_bytes()))
            });
            let commands = commands.collect();
            self.step(i, Input::Propose(commands))?;
        }
        Ok(())
    }

    fn housekeeping(&mut self) -> Result<(), Broken> {
        for i in 0..self.nodes.len() {
            if self.nodes[i].replica.is_some() && self.rng.chance(1, 5) {
                let synced = self.nodes[i].disk.sync();
                let kept = self.rng.below(60);
                self.step(i, Input::Truncate(Slot::new(synced.get().saturating_sub(kept))))?;
            }
        }
        Ok(())
    }

    fn fault(&mut self) -> Result<(), Broken> {
        let i = self.rng.below(self.nodes.len() as u64) as usize;
        let leader = (0..self.nodes.len()).find(|i| self.nodes[*i].leading.is_some());
        match self.rng.below(17) {
            0..=2 => self.crash_for_a_while(i),
            3 => self.crash_for_a_while(leader.unwrap_or(i)),
            4 => self.network.split(self.config.nodes, &mut self.rng),
            5 => self.network.fray(self.config.nodes, &mut self.rng),
            6..=7 => {
                let node = self.nodes[leader.unwrap_or(i)].id;
                self.network.isolate(node, self.config.nodes);
            }
            8..=10 => self.network.heal(),
            11..=12 => {
                if let Some(leader) = leader {
                    return self.hand_over(leader, i);
                }
            }
            13 => {
                if let Some(leader) = leader.filter(|_| self.config.reconfigure) {
                    return self.reconfigure(leader, i);
                }
                if self.rng.chance(1, 4) {
                    self.step(i, Input::StorageFailed)?;
                    self.crash_for_a_while(i);
                }
            }
            14 => return self.step(i, Input::Campaign),
            // Power is lost for all at once; who comes back first has only its disk to go by.
            _ => (0..self.nodes.len()).for_each(|i| self.crash_for_a_while(i)),
        }
        Ok(())
    }

    /// Often restarts at once: what a voter has forgotten matters most while others still remember.
    fn crash_for_a_while(&mut self, i: usize) {
        if self.nodes[i].replica.is_none() {
            return;
        }
        self.crash(i);
        let down = if self.rng.chance(2, 3) { self.rng.below(50) } else { self.rng.below(3_000) };
        self.events.after(Duration::from_millis(down), Event::Restart(self.nodes[i].id));
    }

    fn hand_over(&mut self, leader: usize, to: usize) -> Result<(), Broken> {
        if to != leader && self.rng.chance(1, 4) {
            let soon = Duration::from_micros(self.rng.below(20_000));
            self.events.after(soon, Event::Crash(self.nodes[to].id));
        }
        let now = self.now(leader);
        let to = self.nodes[to].id;
        let node = &mut self.nodes[leader];
        let (Some(replica), Some(leading)) = (&node.replica, &mut node.leading) else { return Ok(()) };
        // The boldest promise is what the successor must not miss.
        if let Some(leadership) = replica.leadership(now)
            && replica.applied() >= leading.ready_at
            && leading.last < leadership.lease_end.prev()
        {
            leading.last = leadership.lease_end.prev();
            self.checker.assigned(node.id, leading.last)?;
        }
        leading.is_handing_over = true;
        let floor = leading.last;
        self.stats.hand_overs += 1;
        self.step(leader, Input::HandOver { to, floor })
    }

    /// Moves one random member to another role; the group keeps two voting members at least.
    fn reconfigure(&mut self, leader: usize, i: usize) -> Result<(), Broken> {
        let Some(replica) = &self.nodes[leader].replica else { return Ok(()) };
        let mut members = replica.membership().members.clone();
        let node = self.nodes[i].id;
        members.retain(|(n, _)| *n != node);
        let kinds = [
            Some(MemberKind::Voter),
            Some(MemberKind::Voter),
            Some(MemberKind::Witness),
            Some(MemberKind::ReadOnly),
            None,
        ];
        if let Some(kind) = kinds[self.rng.below(kinds.len() as u64) as usize] {
            members.push((node, kind));
        }
        // Now and then a change that quorums do not survive, which the leader must refuse.
        if self.rng.chance(1, 4) {
            let other = NodeId::new(self.rng.below(u64::from(self.config.nodes)) as u32 + 1);
            match members.iter_mut().find(|(n, _)| *n == other) {
                Some(member) => member.1 = MemberKind::ReadOnly,
                None => members.push((other, MemberKind::Voter)),
            }
        }
        let next = Membership::new(members);
        if next.voting().count() < 2 {
            return Ok(());
        }
        // Whether the new quorums respect the old leader's lease shows when nobody hears of it any more.
        if self.rng.chance(1, 5) {
            let soon = Duration::from_micros(self.rng.below(100_000));
            self.events.after(soon, Event::Isolate(self.nodes[leader].id));
        }
        self.step(leader, Input::Propose(vec![Command::Membership(next)]))
    }

    fn check_leaders(&self) -> Result<(), Broken> {
        let leads = |i: &usize| {
            let replica = self.nodes[*i].replica.as_ref();
            self.nodes[*i].leading.is_some() && replica.is_some_and(|r| r.leadership(self.now(*i)).is_some())
        };
        self.checker.leading((0..self.nodes.len()).filter(leads).map(|i| self.nodes[i].id))
    }

    fn heal(&mut self) {
        self.is_healed = true;
        self.network.heal();
        self.network.is_reliable = true;
        for i in 0..self.nodes.len() {
            if self.nodes[i].replica.is_none() {
                self.start(i);
            }
        }
    }

    fn check_healed(&self, before: Slot) -> Result<(), Broken> {
        let chosen = self.checker.last();
        if chosen <= before {
            return Err(Broken::NoProgress { chosen });
        }
        let membership = self.checker.membership_at(chosen);
        for node in self.nodes.iter().filter(|n| membership.kind(n.id).is_some()) {
            let commit = node.replica.as_ref().map_or(Slot::ZERO, Replica::commit);
            if commit.get() + 20 < chosen.get() {
                return Err(Broken::LeftBehind { node: node.id, commit, chosen });
            }
        }
        Ok(())
    }
}

fn index(node: NodeId) -> usize {
    node.get() as usize - 1
}
