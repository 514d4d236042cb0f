//! The scheduler loop: nodes, gateways, network, faults and the recovery that crosses shards.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use meridian_paxos::{Envelope, MemberKind, Message, PersistToken};
use meridian_shard::{
    ClosedTimestamp, Input, Outputs, Recovery, Replica, Request, RequestId, Response, Serve, ShardDescriptor,
    ShardError,
};
use meridian_storage::{Durability, Engine, Family, MemoryEngine, Reader};
use meridian_types::{Ballot, Duration, GroupId, Key, NodeId, SeededRng, Slot, Span, Timestamp, TxnId};

use super::checker::{self, Broken, Op, Truth};
use super::client::{Client, Route, World, key};
use super::node::{Node, Origin};
use super::{Stats, TxnConfig};
use crate::{Scheduler, SimClock};

/// Absolute time at the start of a run.
pub(super) const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000_000);
/// Gateways work, undisturbed, for this long before the first fault.
const GRACE: Duration = Duration::from_millis(800);
/// After the run everything heals, and all that is undecided must be decided within this time.
const HEALING: Duration = Duration::from_secs(20);
const NODES: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Address {
    Node(NodeId),
    Client(usize),
}

#[derive(Clone, Debug)]
enum Packet {
    Paxos { group: GroupId, from: NodeId, message: Message },
    Request { group: GroupId, origin: Origin, request: Request },
    Answer { call: u64, group: GroupId, answer: Result<Response, ShardError> },
    Closed { group: GroupId, closed: ClosedTimestamp },
}

#[derive(Debug)]
enum Event {
    Deliver {
        to: Address,
        packet: Packet,
    },
    Wake {
        node: NodeId,
        incarnation: u64,
        group: GroupId,
    },
    Synced {
        node: NodeId,
        incarnation: u64,
        group: GroupId,
        token: Option<PersistToken>,
        send: Vec<Envelope>,
    },
    Confirm {
        node: NodeId,
        incarnation: u64,
        group: GroupId,
        slot: Slot,
    },
    Serve {
        node: NodeId,
        incarnation: u64,
        group: GroupId,
        serve: Serve,
    },
    Client {
        client: usize,
    },
    Housekeeping {
        node: NodeId,
    },
    Fault,
    Heal,
    Restart {
        node: NodeId,
    },
}

/// What a node itself waits for.
#[derive(Clone, Debug)]
enum NodeCall {
    Ask { txn: TxnId, here: Key },
    Tell { txn: TxnId, here: Key },
    Close { group: GroupId },
    Ignore,
}

pub(super) struct Cluster {
    config: TxnConfig,
    rng: SeededRng,
    scheduler: Scheduler<Event>,
    nodes: BTreeMap<NodeId, Node>,
    clients: Vec<Client>,
    /// Start of each shard, as of the first replica that applied a split.
    shards: BTreeMap<Key, GroupId>,
    next_group: u64,
    guess: BTreeMap<GroupId, NodeId>,
    cut: BTreeSet<(Address, Address)>,
    next_call: u64,
    node_calls: BTreeMap<u64, (NodeId, NodeCall)>,
    tells: BTreeMap<(NodeId, TxnId), BTreeSet<u64>>,
    history: Vec<Op>,
    stats: Stats,
    is_over: bool,
    healed: bool,
}

impl Cluster {
    pub(super) fn new(seed: u64, config: TxnConfig) -> Self {
        let mut rng = SeededRng::new(seed);
        let mut nodes = BTreeMap::new();
        let replicas: Vec<_> = (1..=NODES).map(|n| (NodeId::new(n), MemberKind::Voter)).collect();
        let third = config.keys / 3;
        let borders = [Key::MIN, key(third), key(2 * third)];
        let mut shards = BTreeMap::new();
        let mut descriptors = Vec::new();
        for (i, start) in borders.iter().enumerate() {
            let group = GroupId::new(i as u64 + 1);
            let span = Span::new(start.clone(), borders.get(i + 1).cloned());
            shards.insert(start.clone(), group);
            descriptors.push(ShardDescriptor { group, span, generation: 1, replicas: replicas.clone() });
        }
        for (id, _) in &replicas {
            let engine = MemoryEngine::new();
            for descriptor in &descriptors {
                let batch = meridian_shard::initial_state(descriptor, Timestamp::ZERO);
                engine.write(batch, Durability::Synced).expect("memory takes writes");
            }
            let clock = SimClock::new(config.clock, &mut rng);
            let mut node = Node {
                id: *id,
                incarnation: 0,
                is_up: true,
                clock,
                engine,
                logs: BTreeMap::new(),
                replicas: BTreeMap::new(),
                origins: BTreeMap::new(),
                next_request: 0,
                disk_busy_until: START,
                out: Outputs::default(),
            };
            for descriptor in &descriptors {
                node.open(descriptor.group, &config, START, &mut rng);
            }
            nodes.insert(*id, node);
        }
        let clients = (0..config.clients).map(|i| Client::new(i as u32)).collect();
        Cluster {
            config,
            rng,
            scheduler: Scheduler::new(START),
            nodes,
            clients,
            shards,
            next_group: 10,
            guess: BTreeMap::new(),
            cut: BTreeSet::new(),
            next_call: 0,
            node_calls: BTreeMap::new(),
            tells: BTreeMap::new(),
            history: Vec::new(),
            stats: Stats::default(),
            is_over: false,
            healed: false,
        }
    }

    pub(super) fn run(mut self, time: Duration, at: &Cell<Timestamp>) -> Result<Stats, Broken> {
        let end = START + time;
        for node in 1..=NODES {
            let node = NodeId::new(node);
            self.scheduler.after(Duration::from_millis(50), Event::Housekeeping { node });
            for group in self.nodes[&node].replicas.keys().copied().collect::<Vec<_>>() {
                let input =
                    if group.get() % 3 == u64::from(node.get()) % 3 { Input::Campaign } else { Input::Tick };
                self.step(node, group, input);
            }
        }
        for client in 0..self.clients.len() {
            self.scheduler.after(Duration::from_millis(100), Event::Client { client });
        }
        if self.config.faults {
            self.scheduler.after(GRACE, Event::Fault);
        }
        self.run_until(end, at);
        self.heal_everything();
        self.run_until(end + HEALING, at);
        self.check()
    }

    fn run_until(&mut self, end: Timestamp, at: &Cell<Timestamp>) {
        while let Some(event) = self.scheduler.next_until(end) {
            at.set(self.scheduler.now());
            self.stats.events += 1;
            let mix = self.scheduler.now().as_nanos() ^ self.stats.events;
            self.stats.digest =
                self.stats.digest.rotate_left(5).wrapping_add(mix).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver { to, packet } => self.deliver(to, packet),
            Event::Wake { node, incarnation, group } => {
                if self.lives(node, incarnation) {
                    if let Some(hosted) = self.node(node).replicas.get_mut(&group) {
                        hosted.wake_at = None;
                    }
                    self.step(node, group, Input::Tick);
                }
            }
            Event::Synced { node, incarnation, group, token, send } => {
                if self.lives(node, incarnation) {
                    if let Some(token) = token {
                        self.node(node).logs.entry(group).or_default().complete(token);
                    }
                    self.send_all(send);
                    if let Some(token) = token {
                        self.step(node, group, Input::Persisted(token));
                    }
                }
            }
            Event::Confirm { node, incarnation, group, slot } => {
                if self.lives(node, incarnation) {
                    self.step(node, group, Input::Applied(slot));
                }
            }
            Event::Serve { node, incarnation, group, serve } => {
                if self.lives(node, incarnation) {
                    let answer =
                        meridian_shard::serve(&self.node(node).engine, &serve).expect("memory can be read");
                    self.reply(node, group, serve.id, Ok(answer));
                }
            }
            Event::Client { client } => self.with_client(client, |client, world| client.wake(world)),
            Event::Housekeeping { node } => self.housekeeping(node),
            Event::Fault => self.fault(),
            Event::Heal => self.cut.clear(),
            Event::Restart { node } => self.restart(node),
        }
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("nodes are fixed")
    }

    fn lives(&self, node: NodeId, incarnation: u64) -> bool {
        let node = &self.nodes[&node];
        node.is_up && node.incarnation == incarnation
    }

    /// Steps a replica and carries out what it asks for.
    fn step(&mut self, id: NodeId, group: GroupId, input: Input) {
        let at = self.scheduler.now();
        let node = self.nodes.get_mut(&id).expect("nodes are fixed");
        let now = node.now(at);
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
        self.carry_out(id, group, &mut out);
        self.node(id).out = out;
        self.schedule_wake(id, group);
    }

    fn schedule_wake(&mut self, id: NodeId, group: GroupId) {
        let at = self.scheduler.now();
        let node = self.nodes.get_mut(&id).expect("nodes are fixed");
        let incarnation = node.incarnation;
        let Some(hosted) = node.replicas.get_mut(&group) else { return };
        let Some(wake) = hosted.replica.next_wake() else { return };
        let wake = node.clock.when(wake).max(at + Duration::from_micros(1));
        if hosted.wake_at.is_none_or(|w| w > wake || w < at) {
            hosted.wake_at = Some(wake);
            self.scheduler.at(wake, Event::Wake { node: id, incarnation, group });
        }
    }

    fn carry_out(&mut self, id: NodeId, group: GroupId, out: &mut Outputs) {
        let at = self.scheduler.now();
        let incarnation = self.nodes[&id].incarnation;
        self.send_all(std::mem::take(&mut out.send));
        let send = std::mem::take(&mut out.send_after_persist);
        if !out.persist.is_empty() || !send.is_empty() {
            let token = (!out.persist.is_empty()).then_some(out.token);
            let sync = Duration::from_micros(50 + self.rng.below(1_500));
            let writes = std::mem::take(&mut out.persist);
            let node = self.node(id);
            if let Some(token) = token {
                node.logs.entry(group).or_default().write(token, writes);
            }
            let done = if token.is_some() {
                node.disk_busy_until.max(at) + sync
            } else {
                node.disk_busy_until.max(at)
            };
            node.disk_busy_until = done;
            self.scheduler.at(done, Event::Synced { node: id, incarnation, group, token, send });
        }
        for apply in std::mem::take(&mut out.apply) {
            self.node(id).engine.write(apply.batch, Durability::Buffered).expect("memory takes writes");
            let lag = Duration::from_micros(if self.rng.chance(1, 10) { self.rng.below(3_000) } else { 10 });
            self.scheduler.after(lag, Event::Confirm { node: id, incarnation, group, slot: apply.slot });
        }
        for serve in std::mem::take(&mut out.serve) {
            let lag = Duration::from_micros(self.rng.below(1_000));
            self.scheduler.after(lag, Event::Serve { node: id, incarnation, group, serve });
        }
        for (request, answer) in std::mem::take(&mut out.replies) {
            self.reply(id, group, request, answer);
        }
        if out.leading.take() == Some(true) {
            self.guess.insert(group, id);
        }
        for create in std::mem::take(&mut out.create) {
            let right = create.descriptor.group;
            self.shards.insert(create.descriptor.span.start.clone(), right);
            let config = self.config.clone();
            let node = self.nodes.get_mut(&id).expect("nodes are fixed");
            node.open(right, &config, at, &mut self.rng);
            self.step(id, right, if create.campaign { Input::Campaign } else { Input::Tick });
        }
        for recovery in std::mem::take(&mut out.recovery) {
            self.recover(id, recovery);
        }
        for at in std::mem::take(&mut out.close_requests) {
            self.node_call(id, group, Request::CloseTimestamp { at }, NodeCall::Close { group });
        }
        assert!(out.snapshot_to.is_empty(), "no log is truncated, so nobody needs a snapshot");
    }

    fn recover(&mut self, id: NodeId, recovery: Recovery) {
        match recovery {
            Recovery::AskOutcome { id: txn, coordinator, here } => {
                let group = self.group_of(&coordinator);
                let request = Request::QueryOutcome { id: txn, key: coordinator, abort_unknown: true };
                self.node_call(id, group, request, NodeCall::Ask { txn, here });
            }
            Recovery::TellParticipants { id: txn, outcome, participants, here } => {
                self.tells.remove(&(id, txn));
                for key in participants {
                    let group = self.group_of(&key);
                    let what = NodeCall::Tell { txn, here: here.clone() };
                    let call = self.node_call(id, group, Request::Resolve { id: txn, outcome }, what);
                    self.tells.entry((id, txn)).or_default().insert(call);
                }
            }
        }
    }

    fn group_of(&self, key: &Key) -> GroupId {
        *self.shards.range::<Key, _>(..=key).next_back().expect("some shard holds every key").1
    }

    fn node_call(&mut self, from: NodeId, group: GroupId, request: Request, what: NodeCall) -> u64 {
        self.next_call += 1;
        let call = self.next_call;
        self.node_calls.insert(call, (from, what));
        self.send_request(Address::Node(from), call, group, Route::Leader, request);
        call
    }

    fn node_answer(&mut self, call: u64, answer: Result<Response, ShardError>) {
        let Some((node, what)) = self.node_calls.remove(&call) else { return };
        match (what, answer) {
            (NodeCall::Ask { txn, here }, Ok(Response::Outcome(Some(outcome)))) => {
                self.stats.recoveries += 1;
                let group = self.group_of(&here);
                self.node_call(node, group, Request::Resolve { id: txn, outcome }, NodeCall::Ignore);
            }
            (NodeCall::Tell { txn, here }, Ok(Response::Done)) => {
                let Some(open) = self.tells.get_mut(&(node, txn)) else { return };
                open.remove(&call);
                if open.is_empty() {
                    self.tells.remove(&(node, txn));
                    let group = self.group_of(&here);
                    self.node_call(node, group, Request::Forget { id: txn }, NodeCall::Ignore);
                }
            }
            (NodeCall::Close { group }, Ok(Response::Closed { closed, through })) => {
                let closed = ClosedTimestamp { ballot: Ballot::ZERO, closed, through };
                self.step(node, group, Input::Closed(closed));
            }
            // Recovery tries again by its own timers.
            _ => {}
        }
    }

    fn send_request(&mut self, from: Address, call: u64, group: GroupId, route: Route, request: Request) {
        let random = NodeId::new(self.rng.below(u64::from(NODES)) as u32 + 1);
        let to = match route {
            Route::Leader if !self.rng.chance(1, 30) => self.guess.get(&group).copied().unwrap_or(random),
            Route::Leader | Route::Any => random,
            Route::Node(node) => node,
        };
        let origin = Origin { from, call };
        self.send(from, Address::Node(to), Packet::Request { group, origin, request }, false);
    }

    fn send(&mut self, from: Address, to: Address, packet: Packet, may_duplicate: bool) {
        let hostile = self.config.faults && !self.healed;
        if self.cut.contains(&(from, to)) || (hostile && self.rng.chance(self.config.loss, 1_000)) {
            return;
        }
        let delay = |rng: &mut SeededRng, config: &TxnConfig| {
            if from == to {
                Duration::from_micros(10)
            } else if hostile && rng.chance(config.straggling, 1_000) {
                Duration::from_micros(rng.below(1_500_000))
            } else {
                Duration::from_micros(100 + rng.below(2_000))
            }
        };
        if may_duplicate && hostile && self.rng.chance(self.config.duplication, 1_000) {
            let again = delay(&mut self.rng, &self.config);
            self.scheduler.after(again, Event::Deliver { to, packet: packet.clone() });
        }
        let first = delay(&mut self.rng, &self.config);
        self.scheduler.after(first, Event::Deliver { to, packet });
    }

    fn send_all(&mut self, envelopes: Vec<Envelope>) {
        for Envelope { group, from, to, message } in envelopes {
            self.send(Address::Node(from), Address::Node(to), Packet::Paxos { group, from, message }, true);
        }
    }

    fn deliver(&mut self, to: Address, packet: Packet) {
        match (to, packet) {
            (Address::Node(node), Packet::Paxos { group, from, message }) => {
                self.step(node, group, Input::Paxos { from, message });
            }
            (Address::Node(id), Packet::Request { group, origin, request }) => {
                let node = self.node(id);
                if !node.is_up {
                    return;
                }
                node.next_request += 1;
                let request_id = RequestId(node.next_request);
                node.origins.insert(request_id, origin);
                self.step(id, group, Input::Request { id: request_id, request });
            }
            (Address::Node(node), Packet::Closed { group, closed }) => {
                self.step(node, group, Input::Closed(closed))
            }
            (Address::Node(_), Packet::Answer { call, group, answer }) => {
                self.learn_leader(group, &answer);
                self.node_answer(call, answer);
            }
            (Address::Client(client), Packet::Answer { call, group, answer }) => {
                self.learn_leader(group, &answer);
                self.with_client(client, |client, world| client.answer(call, answer, world));
            }
            (to, packet) => panic!("{to:?} got {packet:?}"),
        }
    }

    fn learn_leader(&mut self, group: GroupId, answer: &Result<Response, ShardError>) {
        if let Err(ShardError::NotLeader { leader, .. }) = answer {
            match leader {
                Some(leader) => self.guess.insert(group, *leader),
                None => self.guess.remove(&group),
            };
        }
    }

    fn reply(
        &mut self,
        node: NodeId,
        group: GroupId,
        request: RequestId,
        answer: Result<Response, ShardError>,
    ) {
        let Some(origin) = self.node(node).origins.remove(&request) else { return };
        let packet = Packet::Answer { call: origin.call, group, answer };
        self.send(Address::Node(node), origin.from, packet, true);
    }

    fn with_client(&mut self, index: usize, act: impl FnOnce(&mut Client, &mut World<'_>)) {
        let now = self.scheduler.now();
        let node = &self.nodes[&NodeId::new(index as u32 % NODES + 1)];
        let mut outbox = Vec::new();
        let mut timer = None;
        let mut world = World {
            now,
            tt: node.clock.tt(now),
            rng: &mut self.rng,
            shards: &self.shards,
            history: &mut self.history,
            stats: &mut self.stats,
            next_call: &mut self.next_call,
            outbox: &mut outbox,
            timer: &mut timer,
            keys: self.config.keys,
            vanishes: self.config.faults && !self.healed,
            is_over: self.is_over,
        };
        act(&mut self.clients[index], &mut world);
        for (call, group, route, request) in outbox {
            self.send_request(Address::Client(index), call, group, route, request);
        }
        if let Some(at) = timer {
            self.scheduler.at(at, Event::Client { client: index });
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
        let mut closings = Vec::new();
        let mut durable = Vec::new();
        for (group, hosted) in &mut node.replicas {
            closings.extend(hosted.replica.closed_for_broadcast(now).map(|closed| (*group, closed)));
            durable.push((*group, hosted.replica.applied_slot()));
        }
        for (group, closed) in closings {
            for peer in (1..=NODES).map(NodeId::new).filter(|n| *n != id) {
                self.send(Address::Node(id), Address::Node(peer), Packet::Closed { group, closed }, true);
            }
        }
        if self.rng.chance(1, 4) {
            self.node(id).engine.sync().expect("memory can be synced");
            for (group, slot) in durable {
                self.step(id, group, Input::DataDurable(slot));
            }
        }
    }

    fn fault(&mut self) {
        if self.healed {
            return;
        }
        let next = Duration::from_micros(100_000 + self.rng.below(700_000));
        self.scheduler.after(next, Event::Fault);
        let victim = NodeId::new(self.rng.below(u64::from(NODES)) as u32 + 1);
        match self.rng.below(10) {
            0..=2 => self.crash(victim),
            3 | 4 => {
                let both = self.rng.chance(2, 3);
                for peer in (1..=NODES).map(NodeId::new).filter(|n| *n != victim) {
                    self.cut.insert((Address::Node(victim), Address::Node(peer)));
                    if both {
                        self.cut.insert((Address::Node(peer), Address::Node(victim)));
                    }
                }
                let heals = Duration::from_micros(self.rng.below(1_800_000));
                self.scheduler.after(heals, Event::Heal);
            }
            5..=7 => {
                let groups: Vec<GroupId> = self.shards.values().copied().collect();
                let group = groups[self.rng.below(groups.len() as u64) as usize];
                self.stats.hand_overs += 1;
                let from = self.guess.get(&group).copied().unwrap_or(victim);
                self.node_call(from, group, Request::TransferLeader { to: victim }, NodeCall::Ignore);
            }
            _ => self.split(victim),
        }
    }

    fn split(&mut self, from: NodeId) {
        if self.shards.len() >= 8 {
            return;
        }
        let at = key(self.rng.below(self.config.keys));
        let group = self.group_of(&at);
        let new_group = GroupId::new(self.next_group);
        self.next_group += 1;
        self.stats.splits += 1;
        self.node_call(from, group, Request::Split { at, new_group }, NodeCall::Ignore);
    }

    fn crash(&mut self, id: NodeId) {
        if !self.nodes[&id].is_up {
            return;
        }
        self.stats.crashes += 1;
        let node = self.nodes.get_mut(&id).expect("nodes are fixed");
        node.crash(&mut self.rng);
        self.node_calls.retain(|_, (node, _)| *node != id);
        self.tells.retain(|(node, _), _| *node != id);
        let downtime = Duration::from_micros(50_000 + self.rng.below(900_000));
        self.scheduler.after(downtime, Event::Restart { node: id });
    }

    fn restart(&mut self, id: NodeId) {
        let at = self.scheduler.now();
        let config = self.config.clone();
        let node = self.nodes.get_mut(&id).expect("nodes are fixed");
        if node.is_up {
            return;
        }
        node.is_up = true;
        node.disk_busy_until = at;
        for group in (1..self.next_group).map(GroupId::new) {
            node.open(group, &config, at, &mut self.rng);
        }
        for group in self.nodes[&id].replicas.keys().copied().collect::<Vec<_>>() {
            self.step(id, group, Input::Tick);
        }
    }

    fn heal_everything(&mut self) {
        self.healed = true;
        self.is_over = true;
        self.cut.clear();
        for node in 1..=NODES {
            self.restart(NodeId::new(node));
        }
    }

    /// Everything has had time to settle: compares what is left with what was told.
    fn check(mut self) -> Result<Stats, Broken> {
        assert!(self.clients.iter().all(Client::is_idle), "a gateway hangs");
        let at = self.scheduler.now();
        for group in self.shards.values().copied().collect::<Vec<_>>() {
            let leads = |node: &Node| {
                // A leader whose clock is unsure at this very moment is as good as another.
                let now = node.now(at);
                let leads = |r: &Replica| {
                    if now.tt.is_some() { r.status(now).is_leader } else { r.leader_hint() == Some(node.id) }
                };
                node.replicas.get(&group).is_some_and(|hosted| leads(&hosted.replica))
            };
            if !self.nodes.values().any(leads) {
                return Err(Broken::Stuck { group });
            }
            self.check_replicas(group)?;
        }
        let truth = self.truth();
        checker::check(&std::mem::take(&mut self.history), &truth)?;
        Ok(self.stats)
    }

    fn check_replicas(&self, group: GroupId) -> Result<(), Broken> {
        let mut known: BTreeMap<Slot, (NodeId, Rows)> = BTreeMap::new();
        for node in self.nodes.values() {
            let Some(hosted) = node.replicas.get(&group) else { continue };
            let status = hosted.replica.status(node.now(self.scheduler.now()));
            if status.prepared > 0 || !node.engine.is_empty(Family::Staged) {
                return Err(Broken::Undecided { group, node: node.id, count: status.prepared });
            }
            let data = meridian_keys::version::versions_in(&status.descriptor.span);
            let mut bytes = dump(&node.engine, Family::Data, &data);
            bytes.extend(dump(&node.engine, Family::State, &meridian_keys::local::group_span(group)));
            match known.get(&status.applied) {
                Some((other, expected)) if *expected != bytes => {
                    let nodes = (*other, node.id);
                    return Err(Broken::ReplicasDiffer { group, slot: status.applied, nodes });
                }
                Some(_) => {}
                None => {
                    known.insert(status.applied, (node.id, bytes));
                }
            }
        }
        Ok(())
    }

    /// All versions, from the replicas that have applied the most.
    fn truth(&self) -> Truth {
        let mut truth = Truth::new();
        for (start, group) in &self.shards {
            let newest =
                self.nodes.values().filter_map(|n| Some((n.replicas.get(group)?.replica.applied_slot(), n)));
            let (_, node) = newest.max_by_key(|(slot, _)| *slot).expect("every group lives somewhere");
            for n in 0..self.config.keys {
                let key = key(n);
                if self.group_of(&key) == *group && *start <= key {
                    let mut versions =
                        meridian_mvcc::versions(&node.engine, key.as_bytes()).expect("memory can be read");
                    versions.reverse();
                    truth.insert(key, versions);
                }
            }
        }
        truth
    }
}

/// Keys and values, raw.
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn dump(engine: &MemoryEngine, family: Family, span: &Span) -> Rows {
    let mut cursor = engine.cursor(family, span);
    let mut all = Vec::new();
    let mut more = cursor.first().expect("memory can be read");
    while more {
        all.push((cursor.key().to_vec(), cursor.value().to_vec()));
        more = cursor.next().expect("memory can be read");
    }
    all
}
