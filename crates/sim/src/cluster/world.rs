//! The scheduler loop: nodes, gateways, and what a driver does with the outputs of a replica.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use meridian_paxos::{Envelope, PersistToken};
use meridian_shard::{ClosedTimestamp, Input, Outputs, Request, Serve, ShardDescriptor, ShardError};
use meridian_storage::{Durability, Engine};
use meridian_truetime::MasterModel;
use meridian_types::{Duration, GroupId, Key, NodeId, SeededRng, Slot, Timestamp, TxnId};

use super::Stats;
use super::calls::NodeCall;
use super::checker::{Broken, Op};
use super::client::{Client, World};
use super::delivery::{Address, Packet};
use super::members::descriptors;
use super::monitor::Monitor;
use super::network::Network;
use super::node::{Node, Setup, new_node};
use super::options::{Fault, Options, Weather};
use super::planted::DriverBug;
use super::trace::{Note, Trace};
use crate::Scheduler;
use crate::clock::{MASTERS, Poll};

/// Absolute time at the start of a run.
pub(super) const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000_000);
/// Gateways work, undisturbed, for this long before the first fault.
const GRACE: Duration = Duration::from_millis(1_500);
/// More events than this at one moment mean that time stands still.
const EVENTS_AT_ONCE_MAX: u32 = 20_000;
/// The drift bound of the clocks.
pub(super) const DRIFT_PPM: u64 = 200;

/// Names a life of a node, or of a replica there: events of an earlier one are dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) node: NodeId,
    pub(super) incarnation: u64,
    /// Of one replica, for what is about one.
    born: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Event {
    Deliver { to: Address, packet: Packet },
    Wake { life: Life, group: GroupId },
    Synced { life: Life, group: GroupId, token: Option<PersistToken>, send: Vec<Envelope> },
    Confirm { life: Life, group: GroupId, slot: Slot },
    Serve { life: Life, group: GroupId, serve: Serve },
    Client { client: usize },
    Erase { life: Life, group: GroupId },
    Housekeeping { node: NodeId },
    Poll { life: Life, master: u32 },
    PollDone { life: Life, poll: Poll },
    Fault,
    HealNetwork,
    HealMasters,
    HealOscillator { node: NodeId },
    Restart { node: NodeId },
    Awake { node: NodeId },
    Falter { node: NodeId },
}

pub(super) struct Cluster {
    pub(super) setup: Setup,
    limits: (u64, Duration),
    pub(super) rng: SeededRng,
    pub(super) scheduler: Scheduler<Event>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) clients: Vec<Client>,
    /// Start of each shard, as of the first replica that applied a split.
    pub(super) shards: BTreeMap<Key, GroupId>,
    /// The newest descriptor of each group that any replica has made known.
    pub(super) members: BTreeMap<GroupId, ShardDescriptor>,
    /// Versions that some node has dropped as garbage, raw.
    pub(super) swept: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) next_group: u64,
    pub(super) guess: BTreeMap<GroupId, NodeId>,
    pub(super) network: Network,
    pub(super) masters: Vec<MasterModel>,
    /// No master may go wrong before this moment: samples of the last one that did may still be in use.
    pub(super) masters_busy_until: Timestamp,
    pub(super) next_call: u64,
    /// When each gateway is to be woken next.
    timers: Vec<Option<Timestamp>>,
    /// The gateway that changes the schema, and how many changes there were.
    changing: (Option<usize>, u64),
    pub(super) node_calls: BTreeMap<u64, (NodeId, NodeCall)>,
    pub(super) tells: BTreeMap<(NodeId, TxnId), BTreeSet<u64>>,
    pub(super) history: Vec<Op>,
    pub(super) monitor: Monitor,
    pub(super) trace: Trace,
    pub(super) stats: Stats,
    pub(super) broken: Option<Broken>,
    pub(super) is_over: bool,
    pub(super) healed: bool,
}

impl Cluster {
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let mut rng = SeededRng::new(seed);
        let weather = Weather::new(options, &mut rng);
        let setup = Setup {
            weather: weather.clone(),
            #[cfg(feature = "planted-bugs")]
            planted: options.planted,
        };
        let descriptors = descriptors(&weather);
        let nodes = (1..=weather.nodes).map(NodeId::new);
        let nodes = nodes.map(|id| (id, new_node(id, &setup, &descriptors, &mut rng))).collect();
        let us = Duration::from_micros;
        let masters = (0..MASTERS).map(|_| MasterModel::gps(us(20 + rng.below(500)))).collect();
        Cluster {
            limits: (options.steps, options.time),
            scheduler: Scheduler::new(START),
            nodes,
            clients: (0..weather.load.clients).map(|i| Client::new(i as u32)).collect(),
            shards: descriptors.iter().map(|d| (d.span.start.clone(), d.group)).collect(),
            members: descriptors.into_iter().map(|d| (d.group, d)).collect(),
            swept: BTreeMap::new(),
            next_group: 10,
            guess: BTreeMap::new(),
            network: Network::default(),
            masters,
            masters_busy_until: START,
            next_call: 0,
            timers: vec![None; weather.load.clients],
            changing: (None, 0),
            node_calls: BTreeMap::new(),
            tells: BTreeMap::new(),
            history: Vec::new(),
            monitor: Monitor::default(),
            trace: Trace::new(options.record),
            stats: Stats::default(),
            broken: None,
            is_over: false,
            healed: false,
            setup,
            rng,
        }
    }

    pub(super) fn weather(&self) -> &Weather {
        &self.setup.weather
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.setup.weather.faults.has(fault) && !self.healed
    }

    pub(super) fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.setup.weather.nodes).map(NodeId::new)
    }

    /// The whole run. `at` is kept current, for whoever catches a panic.
    pub(super) fn run(&mut self, at: &Cell<Timestamp>) -> Result<Stats, Broken> {
        self.begin();
        let (steps, time) = self.limits;
        self.run_until(START + time, steps, at)?;
        self.heal_everything();
        self.settle(at)?;
        self.check()?;
        self.stats.digest = self.trace.digest();
        self.stats.time = self.scheduler.now().since(START);
        self.stats.clocks_are_void = self.monitor.clocks_are_void;
        Ok(self.stats)
    }

    pub(super) fn into_trace(self) -> Option<String> {
        self.trace.into_text()
    }

    fn begin(&mut self) {
        for node in self.node_ids() {
            self.scheduler.after(Duration::from_millis(50), Event::Housekeeping { node });
            self.begin_polls(node);
            for group in self.nodes[&node].replicas.keys().copied().collect::<Vec<_>>() {
                let first = self.members[&group].replicas[0].0 == node;
                self.step(node, group, if first { Input::Campaign } else { Input::Tick });
            }
        }
        for client in 0..self.clients.len() {
            self.scheduler.after(Duration::from_millis(100), Event::Client { client });
        }
        self.scheduler.after(GRACE, Event::Fault);
    }

    /// Runs to `end`, or for so many steps, or until something is broken.
    pub(super) fn run_until(
        &mut self,
        end: Timestamp,
        steps: u64,
        at: &Cell<Timestamp>,
    ) -> Result<(), Broken> {
        let last = self.stats.events.saturating_add(steps);
        let mut at_once = 0;
        while self.stats.events < last {
            let Some(event) = self.scheduler.next_until(end) else { break };
            at_once = if at.replace(self.scheduler.now()) == self.scheduler.now() { at_once + 1 } else { 0 };
            if at_once > EVENTS_AT_ONCE_MAX {
                return Err(Broken::Spinning);
            }
            self.stats.events += 1;
            self.handle(event);
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        match self.sleeper(&event) {
            Some(node) => self.hold(node, event),
            None => self.carry(event),
        }
    }

    /// Keeps what happens to a node that stands still, in order: a disk completes what it was given first.
    fn hold(&mut self, id: NodeId, event: Event) {
        let node = self.node(id);
        node.held.push(event);
        if node.held.len() == 1 {
            let until = node.asleep_until;
            self.scheduler.at(until, Event::Awake { node: id });
        }
    }

    /// What was held happens, unless the node still stands still.
    pub(super) fn awake(&mut self, id: NodeId) {
        let now = self.scheduler.now();
        let node = self.node(id);
        if node.held.is_empty() {
            return;
        }
        if node.asleep_until > now {
            let until = node.asleep_until;
            return self.scheduler.at(until, Event::Awake { node: id });
        }
        std::mem::take(&mut node.held).into_iter().for_each(|event| self.carry(event));
    }

    fn carry(&mut self, event: Event) {
        if let Some(note) = self.note(&event) {
            self.trace.note(self.scheduler.now(), note);
        }
        match event {
            Event::Deliver { to, packet } => self.deliver(to, packet),
            Event::Wake { life, group } if self.lives_here(life, group) => {
                if let Some(hosted) = self.node(life.node).replicas.get_mut(&group) {
                    hosted.wake_at = None;
                }
                self.step(life.node, group, Input::Tick);
            }
            Event::Synced { life, group, token, send } if self.lives_here(life, group) => {
                if let Some(token) = token {
                    self.node(life.node).logs.entry(group).or_default().complete(token);
                }
                self.send_all(send);
                if let Some(token) = token {
                    self.step(life.node, group, Input::Persisted(token));
                }
            }
            Event::Confirm { life, group, slot } if self.lives_here(life, group) => {
                self.step(life.node, group, Input::Applied(slot));
            }
            Event::Serve { life, group, serve } if self.lives_here(life, group) => {
                let node = &self.nodes[&life.node];
                let answer = meridian_shard::serve(&node.engine, &serve).expect("memory can be read");
                // The horizon may have risen since the read was let in, and what it needed be gone.
                let horizon = node.replicas[&group].replica.gc_horizon();
                let passed = serve.at < horizon && !self.has_bug(DriverBug::ReadPassedByHorizon);
                let too_late = ShardError::BelowHorizon { at: serve.at, horizon };
                let answer = if passed { Err(too_late) } else { Ok(answer) };
                self.reply(life.node, group, serve.id, answer);
            }
            Event::Erase { life, group } if self.lives(life) => self.erase(life.node, group),
            Event::Poll { life, master } if self.lives(life) => self.poll(life, master),
            Event::PollDone { life, poll } if self.lives(life) => self.poll_done(life.node, poll),
            Event::Wake { .. }
            | Event::Synced { .. }
            | Event::Confirm { .. }
            | Event::Serve { .. }
            | Event::Erase { .. }
            | Event::Poll { .. }
            | Event::PollDone { .. } => {}
            Event::Client { client } => {
                self.timers[client].take_if(|at| *at <= self.scheduler.now());
                self.with_client(client, |client, world| client.wake(world));
            }
            Event::Housekeeping { node } => self.housekeeping(node),
            Event::Fault => self.fault(),
            Event::HealNetwork => self.network.heal(),
            Event::HealMasters => self.heal_masters(),
            Event::HealOscillator { node } => self.heal_oscillator(node),
            Event::Restart { node } => self.restart(node),
            Event::Awake { node } => self.awake(node),
            Event::Falter { node } => self.pause(node, 4_000_000),
        }
    }

    fn note(&self, event: &Event) -> Option<Note> {
        let note = match event {
            Event::Deliver { to, packet } => {
                let (what, group) = packet.name();
                Note::Deliver { to: *to, what, group }
            }
            Event::Wake { life, group } => Note::Wake { node: life.node.get(), group: *group },
            Event::Synced { life, group, token, .. } => {
                Note::Synced { node: life.node.get(), group: *group, token: token.map_or(0, |t| t.0) }
            }
            Event::Confirm { life, group, slot } => {
                Note::Confirm { node: life.node.get(), group: *group, slot: *slot }
            }
            Event::Serve { life, group, serve } => {
                Note::Serve { node: life.node.get(), group: *group, request: serve.id.0 }
            }
            Event::Client { client } => Note::Client { client: *client },
            Event::Housekeeping { node } => Note::Housekeeping { node: node.get() },
            Event::Poll { life, master } => Note::Poll { node: life.node.get(), master: *master },
            Event::Restart { node } => Note::Restart { node: node.get() },
            Event::Erase { life, group } => Note::Erase { node: life.node.get(), group: *group },
            // These say what they do when they do it.
            Event::PollDone { .. }
            | Event::Fault
            | Event::HealNetwork
            | Event::HealMasters
            | Event::HealOscillator { .. }
            | Event::Awake { .. }
            | Event::Falter { .. } => return None,
        };
        Some(note)
    }

    /// The node that would take up the event and stands still, or has not taken up yet what came before.
    fn sleeper(&self, event: &Event) -> Option<NodeId> {
        let node = match event {
            Event::Deliver { to: Address::Node(node), .. } | Event::Housekeeping { node } => node,
            Event::Wake { life, .. }
            | Event::Synced { life, .. }
            | Event::Confirm { life, .. }
            | Event::Serve { life, .. }
            | Event::Erase { life, .. }
            | Event::Poll { life, .. }
            | Event::PollDone { life, .. } => &life.node,
            Event::Deliver { to: Address::Client(_), .. }
            | Event::Client { .. }
            | Event::Fault
            | Event::HealNetwork
            | Event::HealMasters
            | Event::HealOscillator { .. }
            | Event::Restart { .. }
            | Event::Awake { .. }
            | Event::Falter { .. } => return None,
        };
        let sleeper = &self.nodes[node];
        (sleeper.asleep_until > self.scheduler.now() || !sleeper.held.is_empty()).then_some(*node)
    }

    pub(super) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("nodes are fixed")
    }

    fn lives(&self, life: Life) -> bool {
        let node = &self.nodes[&life.node];
        node.is_up && node.incarnation == life.incarnation
    }

    /// True while the replica is there that the event was meant for.
    fn lives_here(&self, life: Life, group: GroupId) -> bool {
        let born = self.nodes[&life.node].replicas.get(&group).map(|hosted| hosted.born);
        self.lives(life) && born == life.born
    }

    pub(super) fn life(&self, node: NodeId) -> Life {
        Life { node, incarnation: self.nodes[&node].incarnation, born: None }
    }

    fn life_of(&self, node: NodeId, group: GroupId) -> Life {
        let born = self.nodes[&node].replicas.get(&group).map(|hosted| hosted.born);
        Life { born, ..self.life(node) }
    }

    pub(super) fn fail(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
    }

    /// Steps a replica and carries out what it asks for.
    pub(super) fn step(&mut self, id: NodeId, group: GroupId, input: Input) {
        let at = self.scheduler.now();
        let node = self.nodes.get_mut(&id).expect("nodes are fixed");
        let now = node.now(at);
        if let Err(broken) = self.monitor.reading(id, now, at, node.is_clock_disturbed) {
            return self.fail(broken);
        }
        let mut out = std::mem::take(&mut node.out);
        let Some(hosted) = node.replicas.get_mut(&group).filter(|_| node.is_up) else {
            node.out = out;
            if let Input::Request { id: request, .. } = input {
                self.reply(id, group, request, Err(ShardError::UnknownGroup { group }));
            }
            return;
        };
        hosted.replica.step(input, now, &node.engine, &mut out);
        hosted.replica.check_invariants();
        let nodes = &self.nodes;
        let holds = |other: NodeId| {
            let other = &nodes[&other];
            let now = other.now(at);
            // The clock of a suspended machine is wrong before anybody reads it there.
            let is_wrong = now.tt.is_some_and(|tt| at < tt.earliest() || tt.latest() < at);
            let hosted = other.replicas.get(&group).filter(|_| other.is_up);
            !is_wrong && hosted.is_some_and(|h| h.replica.lease_end(now).is_some())
        };
        match self.monitor.stepped(id, group, &nodes[&id].replicas[&group].replica, now, holds) {
            Ok(true) => {
                self.stats.leaders += 1;
                self.trace.note(at, Note::Leads { node: id.get(), group });
            }
            Ok(false) => {}
            Err(broken) => self.fail(broken),
        }
        self.learn_members(id, group);
        self.carry_out(id, group, &mut out);
        self.node(id).out = out;
        self.schedule_wake(id, group);
    }

    fn schedule_wake(&mut self, id: NodeId, group: GroupId) {
        let at = self.scheduler.now();
        let life = self.life_of(id, group);
        let node = self.nodes.get_mut(&id).expect("nodes are fixed");
        let Some(hosted) = node.replicas.get_mut(&group) else { return };
        let Some(wake) = hosted.replica.next_wake() else { return };
        let wake = node.clock.when(wake).max(at + Duration::from_micros(1));
        if hosted.wake_at.is_none_or(|w| w > wake || w < at) {
            hosted.wake_at = Some(wake);
            self.scheduler.at(wake, Event::Wake { life, group });
        }
    }

    fn carry_out(&mut self, id: NodeId, group: GroupId, out: &mut Outputs) {
        let at = self.scheduler.now();
        let life = self.life_of(id, group);
        self.send_all(std::mem::take(&mut out.send));
        self.witness_cuts(id, group, &out.persist);
        let send = std::mem::take(&mut out.send_after_persist);
        if !out.persist.is_empty() || !send.is_empty() {
            let token = (!out.persist.is_empty()).then_some(out.token);
            let sync = Duration::from_micros(50 + self.rng.below(self.weather().fsync_us));
            let writes = std::mem::take(&mut out.persist);
            let node = self.node(id);
            if let Some(token) = token {
                node.logs.entry(group).or_default().write(token, writes);
            }
            let begins = node.disk_busy_until.max(at);
            let done = if token.is_some() { begins + sync } else { begins };
            node.disk_busy_until = done;
            self.scheduler.at(done, Event::Synced { life, group, token, send });
        }
        // What a witness applies is less than what others do.
        let holds_data = self.nodes[&id].replicas[&group].replica.holds_data();
        for apply in std::mem::take(&mut out.apply) {
            let judged = match holds_data {
                true => self.monitor.applied(id, group, apply.slot, &apply.batch),
                false => Ok(0),
            };
            match judged {
                Ok(effect) => {
                    self.trace.note(at, Note::Applied { node: id.get(), group, slot: apply.slot, effect });
                }
                Err(broken) => self.fail(broken),
            }
            self.node(id).engine.write(apply.batch, Durability::Buffered).expect("memory takes writes");
            let lag = Duration::from_micros(if self.rng.chance(1, 10) { self.rng.below(3_000) } else { 10 });
            self.scheduler.after(lag, Event::Confirm { life, group, slot: apply.slot });
        }
        for serve in std::mem::take(&mut out.serve) {
            self.stats.overlay_reads += u64::from(!serve.overlay.is_empty());
            // Now and then a disk takes its time, and the horizon may pass the read meanwhile.
            let slow = self.weather().faults.has(Fault::Collect) && self.rng.chance(1, 20);
            let lag = Duration::from_micros(self.rng.below(if slow { 200_000 } else { 1_000 }));
            self.scheduler.after(lag, Event::Serve { life, group, serve });
        }
        for (request, answer) in std::mem::take(&mut out.replies) {
            self.reply(id, group, request, answer);
        }
        if out.leading.take() == Some(true) {
            self.guess.insert(group, id);
        }
        for create in std::mem::take(&mut out.create) {
            let (right, descriptor) = (create.descriptor.group, create.descriptor);
            self.shards.insert(descriptor.span.start.clone(), right);
            self.members.entry(right).or_insert(descriptor);
            // Before it takes part in anything: what counts as a member of a quorum must not be lost in a crash.
            self.node(id).engine.sync().expect("memory can be synced");
            self.open(id, right);
            // A replica that was taught goes through what its group did after its removal, too.
            let child = &self.nodes[&id].replicas[&right].replica;
            if child.is_removed() {
                let generation = child.descriptor().generation;
                self.remove_replica(id, right, generation);
                continue;
            }
            self.step(id, right, if create.campaign { Input::Campaign } else { Input::Tick });
        }
        for recovery in std::mem::take(&mut out.recovery) {
            self.recover(id, recovery);
        }
        for at in std::mem::take(&mut out.close_requests) {
            self.node_call(id, group, Request::CloseTimestamp { at }, NodeCall::Close { group });
        }
        for to in std::mem::take(&mut out.snapshot_to) {
            self.send_snapshot(id, group, to, None);
        }
        if std::mem::take(&mut out.removed) {
            let generation = self.nodes[&id].replicas[&group].replica.descriptor().generation;
            self.remove_replica(id, group, generation);
        }
    }

    pub(super) fn open(&mut self, id: NodeId, group: GroupId) {
        let at = self.scheduler.now();
        let node = self.nodes.get_mut(&id).expect("nodes are fixed");
        node.open(group, &self.setup, at, &mut self.rng);
    }

    pub(super) fn group_of(&self, key: &Key) -> GroupId {
        *self.shards.range::<Key, _>(..=key).next_back().expect("some shard holds every key").1
    }

    pub(super) fn leader_guess(&self, group: GroupId) -> Option<NodeId> {
        self.guess.get(&group).copied()
    }

    pub(super) fn with_client(&mut self, index: usize, act: impl FnOnce(&mut Client, &mut World<'_>)) {
        let now = self.scheduler.now();
        let id = NodeId::new(index as u32 % self.weather().nodes + 1);
        let node = &self.nodes[&id];
        let read = self.monitor.reading(id, node.now(now), now, node.is_clock_disturbed);
        let mut outbox = Vec::new();
        let mut mail = Vec::new();
        let mut timer = None;
        let has_schema = self.setup.weather.faults.has(Fault::Schema);
        let clients = self.setup.weather.load.clients;
        let schema_bug = self.setup.schema_bug();
        let mut world = World {
            now,
            tt: node.clock.tt(now),
            rng: &mut self.rng,
            shards: &self.shards,
            history: &mut self.history,
            stats: &mut self.stats,
            next_call: &mut self.next_call,
            outbox: &mut outbox,
            mail: &mut mail,
            changing: &mut self.changing,
            clients,
            has_schema,
            schema_bug,
            timer: &mut timer,
            keys: self.setup.weather.load.keys,
            pause: self.setup.weather.load.pause,
            vanishes: self.setup.weather.faults.has(Fault::Vanish) && !self.healed,
            is_over: self.is_over,
        };
        act(&mut self.clients[index], &mut world);
        for (to, mail) in mail {
            let packet = Packet::Mail { from: index, mail };
            self.send(Address::Client(index), Address::Client(to), packet, true);
        }
        for (call, group, route, request) in outbox {
            self.send_request(Address::Client(index), call, group, route, request);
        }
        if let Some(at) = timer {
            // Schema leases never rest, so that every answer would wake the gateway once more for ever.
            let pending = self.timers[index].filter(|_| has_schema);
            if pending.is_none_or(|pending| pending > at || pending <= now) {
                self.timers[index] = Some(at);
                self.scheduler.at(at, Event::Client { client: index });
            }
        }
        if let Err(broken) = read {
            self.fail(broken);
        }
    }

    /// What a node does now and then: broadcasts closed timestamps and syncs its data engine.
    fn housekeeping(&mut self, id: NodeId) {
        self.scheduler.after(Duration::from_millis(50), Event::Housekeeping { node: id });
        if !self.nodes[&id].is_up {
            return;
        }
        let at = self.scheduler.now();
        let node = self.node(id);
        let now = node.now(at);
        let mut by_peer: BTreeMap<NodeId, Vec<(GroupId, ClosedTimestamp)>> = BTreeMap::new();
        let mut durable = Vec::new();
        for (group, hosted) in &mut node.replicas {
            if let Some(closed) = hosted.replica.closed_for_broadcast(now) {
                for (peer, _) in hosted.replica.descriptor().replicas.iter().filter(|(peer, _)| *peer != id) {
                    by_peer.entry(*peer).or_default().push((*group, closed));
                }
            }
            durable.push((*group, hosted.replica.applied_slot()));
        }
        for (peer, closings) in by_peer {
            self.send(Address::Node(id), Address::Node(peer), Packet::Closed { closings }, true);
        }
        if self.weather().faults.has(Fault::Collect) && self.rng.chance(1, 3) {
            self.sweep(id);
        }
        if self.rng.chance(1, 4) {
            self.node(id).engine.sync().expect("memory can be synced");
            for (group, slot) in durable {
                self.step(id, group, Input::DataDurable(slot));
            }
        }
    }
}
