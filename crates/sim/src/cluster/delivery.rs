//! Messages between nodes and gateways, and where each of them goes when it arrives.

use meridian_paxos::{Envelope, Message};
use meridian_shard::{ClosedTimestamp, Input, Request, RequestId, Response, ShardError};
use meridian_types::{GroupId, NodeId, Slot, Span};

use super::checker::Broken;
use super::client::Route;
use super::node::Origin;
use super::planted::DriverBug;
use super::schema::Mail;
use super::snapshots::Snapshot;
use super::trace::Note;
use super::world::{Cluster, Event};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Address {
    Node(NodeId),
    Client(usize),
}

#[derive(Clone, Debug)]
pub(super) enum Packet {
    Paxos {
        group: GroupId,
        from: NodeId,
        message: Message,
    },
    Request {
        group: GroupId,
        origin: Origin,
        request: Request,
    },
    Answer {
        call: u64,
        group: GroupId,
        answer: Result<Response, ShardError>,
    },
    /// All groups that a node leads, in one message per pair of nodes.
    Closed {
        closings: Vec<(GroupId, ClosedTimestamp)>,
    },
    /// The sender was talked to about a group that it does not have.
    Unknown {
        group: GroupId,
        from: NodeId,
    },
    /// The receiver is no member of the group, by a descriptor of this generation.
    NotMember {
        group: GroupId,
        generation: u64,
    },
    Snapshot(Box<Snapshot>),
    /// From one gateway to another.
    Mail {
        from: usize,
        mail: Mail,
    },
    /// A snapshot of the group would take the sender past a split of its replica, which covers `span`.
    Narrows {
        group: GroupId,
        from: NodeId,
        span: Span,
    },
}

impl Packet {
    pub(super) fn name(&self) -> (&'static str, GroupId) {
        match self {
            Packet::Paxos { group, message, .. } => (message_name(message), *group),
            Packet::Request { group, .. } => ("request", *group),
            Packet::Answer { group, .. } => ("answer", *group),
            Packet::Closed { .. } => ("closed", GroupId::new(0)),
            Packet::Mail { .. } => ("mail", GroupId::new(0)),
            Packet::Unknown { group, .. } => ("unknown", *group),
            Packet::Snapshot(snapshot) => ("snapshot", snapshot.main.descriptor.group),
            Packet::NotMember { group, .. } => ("not-member", *group),
            Packet::Narrows { group, .. } => ("narrows", *group),
        }
    }
}

fn message_name(message: &Message) -> &'static str {
    match message {
        Message::Prepare { .. } => "prepare",
        Message::Promise { .. } => "promise",
        Message::Refuse { .. } => "refuse",
        Message::Accept { .. } => "accept",
        Message::Accepted { .. } => "accepted",
        Message::CatchUp { .. } => "catch-up",
        Message::Learn { .. } => "learn",
        Message::Known { .. } => "known",
        Message::Settled { .. } => "settled",
        Message::NeedSnapshot { .. } => "need-snapshot",
        Message::HandOver { .. } => "hand-over",
        Message::ReleaseVote { .. } => "release-vote",
    }
}

impl Cluster {
    pub(super) fn new_call(&mut self) -> u64 {
        self.next_call += 1;
        self.next_call
    }

    pub(super) fn send_request(
        &mut self,
        from: Address,
        call: u64,
        group: GroupId,
        route: Route,
        request: Request,
    ) {
        let members = &self.members[&group].replicas;
        let random = if self.rng.chance(1, 100) {
            NodeId::new(self.rng.below(u64::from(self.setup.weather.nodes)) as u32 + 1)
        } else {
            members[self.rng.below(members.len() as u64) as usize].0
        };
        let to = match route {
            Route::Leader if !self.rng.chance(1, 30) => self.leader_guess(group).unwrap_or(random),
            Route::Leader | Route::Any => random,
            Route::Node(node) => node,
        };
        let origin = Origin { from, call };
        self.send(from, Address::Node(to), Packet::Request { group, origin, request }, false);
    }

    pub(super) fn send(&mut self, from: Address, to: Address, packet: Packet, may_duplicate: bool) {
        let arrivals = self.network.arrivals(from, to, may_duplicate, &self.setup.weather, &mut self.rng);
        if let Some(again) = arrivals.again {
            self.scheduler.after(again, Event::Deliver { to, packet: packet.clone() });
        }
        if let Some(first) = arrivals.first {
            self.scheduler.after(first, Event::Deliver { to, packet });
        }
    }

    pub(super) fn send_all(&mut self, envelopes: Vec<Envelope>) {
        for Envelope { group, from, to, message } in envelopes {
            self.check_durable(from, group, &message);
            self.send(Address::Node(from), Address::Node(to), Packet::Paxos { group, from, message }, true);
        }
    }

    /// I-3: what is acknowledged as accepted is durable, or was applied and cut off.
    fn check_durable(&mut self, from: NodeId, group: GroupId, message: &Message) {
        let Message::Accepted { slots: Some((first, last)), .. } = message else { return };
        let log = self.nodes[&from].logs.get(&group);
        let is_durable = |slot| log.is_some_and(|log| log.holds(slot));
        let missing = (first.get()..=last.get()).map(Slot::new).find(|slot| !is_durable(*slot));
        if let Some(slot) = missing {
            self.fail(Broken::NotDurable { group, node: from, slot });
        }
    }

    pub(super) fn deliver(&mut self, to: Address, packet: Packet) {
        match (to, packet) {
            (Address::Node(node), packet) if !self.nodes[&node].is_up => drop(packet),
            (Address::Node(node), Packet::Paxos { group, from, message }) => {
                if self.meet_stranger(node, group, from, &message) {
                    return;
                }
                if self.nodes[&node].replicas.contains_key(&group) {
                    self.step(node, group, Input::Paxos { from, message });
                } else {
                    self.report_unknown(node, group, from);
                }
            }
            (Address::Node(id), Packet::Request { group, origin, request }) => {
                let node = self.node(id);
                node.next_request += 1;
                let request_id = RequestId(node.next_request);
                node.origins.insert(request_id, origin);
                self.step(id, group, Input::Request { id: request_id, request });
            }
            (Address::Node(node), Packet::Closed { closings }) => {
                for (group, mut closed) in closings {
                    if self.has_bug(DriverBug::CloseWithoutSlot) {
                        closed.through = Slot::ZERO;
                    }
                    self.step(node, group, Input::Closed(closed));
                }
            }
            (Address::Node(node), Packet::Unknown { group, from }) => self.on_unknown(node, group, from),
            (Address::Node(node), Packet::NotMember { group, generation }) => {
                self.on_not_member(node, group, generation);
            }
            (Address::Node(node), Packet::Narrows { group, from, span }) => {
                self.send_snapshot(node, group, from, Some(span));
            }
            (Address::Node(node), Packet::Snapshot(snapshot)) => self.install_snapshot(node, *snapshot),
            (Address::Node(_), Packet::Answer { call, group, answer }) => {
                self.learn_leader(group, &answer);
                self.node_answer(call, answer);
            }
            (Address::Client(client), Packet::Answer { call, group, answer }) => {
                self.learn_leader(group, &answer);
                self.with_client(client, |client, world| client.answer(call, answer, world));
            }
            (Address::Client(client), Packet::Mail { from, mail }) => {
                self.with_client(client, |client, world| client.mail(from, mail, world));
            }
            (Address::Node(node), Packet::Mail { .. }) => panic!("node {node} is no gateway"),
            (to @ Address::Client(_), packet) => panic!("{to:?} got {packet:?}"),
        }
    }

    fn learn_leader(&mut self, group: GroupId, answer: &Result<Response, ShardError>) {
        match answer {
            Err(ShardError::NotLeader { leader: Some(leader), .. }) => self.guess.insert(group, *leader),
            // A late answer may name a node that has been removed since.
            Err(ShardError::NotLeader { leader: None, .. } | ShardError::UnknownGroup { .. }) => {
                self.guess.remove(&group)
            }
            _ => None,
        };
    }

    pub(super) fn reply(
        &mut self,
        node: NodeId,
        group: GroupId,
        request: RequestId,
        answer: Result<Response, ShardError>,
    ) {
        let note = Note::Reply { node: node.get(), group, request: request.0, is_ok: answer.is_ok() };
        self.trace.note(self.scheduler.now(), note);
        if let Ok(Response::Changed { descriptor }) = &answer {
            self.judge_change(node, group, descriptor);
        }
        let Some(origin) = self.node(node).origins.remove(&request) else { return };
        let packet = Packet::Answer { call: origin.call, group, answer };
        self.send(Address::Node(node), origin.from, packet, true);
    }
}
