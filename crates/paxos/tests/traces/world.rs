//! A cluster that a script drives, one command at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use meridian_paxos::{
    Command, Config, Envelope, HardState, Input, LogEntry, MemberKind, Membership, Now, Outputs, Persist,
    PersistToken, Recovered, Replica,
};
use meridian_types::{Duration, GroupId, NodeId, Slot, Timestamp, TtInterval};

use crate::render;

#[derive(Default)]
pub(crate) struct World {
    at: Timestamp,
    initial: Membership,
    nodes: BTreeMap<NodeId, Node>,
    flight: VecDeque<Envelope>,
    cut: BTreeSet<(NodeId, NodeId)>,
    lines: Vec<String>,
    out: Outputs,
}

struct Node {
    replica: Option<Replica>,
    hard: HardState,
    entries: BTreeMap<Slot, LogEntry>,
    truncated: Slot,
    applied: Slot,
    membership: Membership,
    is_slow: bool,
    is_unsure: bool,
    writes: VecDeque<(PersistToken, Vec<Persist>)>,
    waiting: VecDeque<(PersistToken, Vec<Envelope>)>,
}

fn node(word: &str) -> NodeId {
    NodeId::new(word.strip_prefix('n').unwrap().parse().unwrap())
}

fn slot(word: &str) -> Slot {
    Slot::new(word.parse().unwrap())
}

fn members<'a>(words: impl Iterator<Item = &'a str>) -> Membership {
    Membership::new(words.map(|word| match word.split_once(':') {
        Some((id, "readonly")) => (node(id), MemberKind::ReadOnly),
        Some((id, "witness")) => (node(id), MemberKind::Witness),
        Some((id, "observer")) => (node(id), MemberKind::Observer),
        Some((_, kind)) => panic!("unknown kind of member: {kind}"),
        None => (node(word), MemberKind::Voter),
    }))
}

fn duration(word: &str) -> Duration {
    Duration::from_millis(word.strip_suffix("ms").unwrap().parse().unwrap())
}

impl World {
    /// Runs one command and returns what happened.
    pub(crate) fn execute(&mut self, line: &str) -> Vec<String> {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap();
        let mut next = || words.next().unwrap_or_else(|| panic!("{line}: a word is missing"));
        match command {
            "cluster" => self.cluster(members(words)),
            "join" => self.join(node(next())),
            "campaign" => self.step(node(next()), Input::Campaign),
            "propose" => {
                let to = node(next());
                let commands = words.map(|w| Command::Normal(Bytes::copy_from_slice(w.as_bytes())));
                self.step(to, Input::Propose(commands.collect()));
            }
            "members" => {
                let to = node(next());
                self.step(to, Input::Propose(vec![Command::Membership(members(words))]));
            }
            "handover" => {
                let from = node(next());
                let to = node(next());
                let floor = Timestamp::ZERO + duration(next());
                self.step(from, Input::HandOver { to, floor });
            }
            "deliver" => self.deliver(),
            "lose" => {
                for lost in std::mem::take(&mut self.flight) {
                    self.lines.push(format!("lost {}", envelope(&lost)));
                }
            }
            "advance" => self.advance(duration(next())),
            "quietly" => {
                assert_eq!(next(), "advance");
                let before = self.lines.len();
                self.advance(duration(next()));
                let is_news =
                    |l: &String| l.contains("LEADS") || l.contains("FOLLOWS") || l.contains("chosen =");
                let news: Vec<_> = self.lines.split_off(before).into_iter().filter(is_news).collect();
                self.lines.extend(news);
            }
            "cut" => {
                let (a, b) = (node(next()), node(next()));
                self.cut.extend([(a, b), (b, a)]);
            }
            "isolate" => {
                let a = node(next());
                self.cut.extend(self.nodes.keys().filter(|b| **b != a).flat_map(|b| [(a, *b), (*b, a)]));
            }
            "heal" => self.cut.clear(),
            "disk" => {
                let id = node(next());
                let is_slow = next() == "slow";
                self.nodes.get_mut(&id).unwrap().is_slow = is_slow;
                self.fsync(id);
            }
            "disk-failed" => self.step(node(next()), Input::StorageFailed),
            "clock" => {
                let id = node(next());
                self.nodes.get_mut(&id).unwrap().is_unsure = next() == "unsure";
            }
            "crash" => self.crash(node(next())),
            "restart" => self.start(node(next())),
            "truncate" => self.step(node(next()), Input::Truncate(slot(next()))),
            "snapshot" => self.snapshot(node(next()), node(next())),
            "status" => self.status(),
            other => panic!("unknown command {other}"),
        }
        std::mem::take(&mut self.lines)
    }

    fn cluster(&mut self, membership: Membership) {
        self.at = Timestamp::ZERO + Duration::from_millis(10_000);
        self.initial = membership.clone();
        for (id, _) in &membership.members {
            self.nodes.insert(*id, Node::new(membership.clone()));
            self.start(*id);
        }
    }

    /// A node that knows nothing of the group yet.
    fn join(&mut self, id: NodeId) {
        self.nodes.insert(id, Node::new(Membership::default()));
        self.start(id);
    }

    fn now(&self, id: NodeId) -> Now {
        let precision = Duration::from_millis(1);
        let tt = TtInterval::new(self.at.saturating_sub(precision), self.at + precision);
        Now { mono: self.at, tt: (!self.nodes[&id].is_unsure).then_some(tt) }
    }

    fn start(&mut self, id: NodeId) {
        let now = self.now(id);
        let node = self.nodes.get_mut(&id).unwrap();
        let recovered = Recovered {
            hard: node.hard.clone(),
            truncated: node.truncated,
            entries: node.entries.values().cloned().collect(),
            membership: node.membership.clone(),
            applied: node.applied,
        };
        let config = Config::new(GroupId::new(1), id, u64::from(id.get()));
        node.replica = Some(Replica::new(config, recovered, now));
    }

    /// Loses the process and what it had not written; the data engine keeps what it applied.
    fn crash(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.replica = None;
        node.writes.clear();
        node.waiting.clear();
    }

    fn step(&mut self, id: NodeId, input: Input) {
        let now = self.now(id);
        let mut out = std::mem::take(&mut self.out);
        let Some(replica) = self.nodes.get_mut(&id).unwrap().replica.as_mut() else { return };
        replica.step(input, now, &mut out);
        replica.check_invariants();
        self.outputs(id, &mut out);
        self.out = out;
    }

    fn outputs(&mut self, id: NodeId, out: &mut Outputs) {
        if let Some(change) = &out.role_change {
            self.lines.push(format!("n{id} {}", render::role(change)));
        }
        if !out.proposed.is_empty() {
            let slots: Vec<_> = out.proposed.iter().map(|s| s.to_string()).collect();
            self.lines.push(format!("n{id} proposed at {}", slots.join(" ")));
        }
        self.lines.extend(out.persist.iter().map(|p| format!("n{id} {}", render::persist(p))));
        self.flight.extend(out.send.drain(..));
        let node = self.nodes.get_mut(&id).unwrap();
        node.writes.push_back((out.token, std::mem::take(&mut out.persist)));
        node.waiting.push_back((out.token, std::mem::take(&mut out.send_after_persist)));
        let mut applied = None;
        for entry in out.chosen.drain(..) {
            if let Command::Membership(m) = &entry.command {
                node.membership = m.clone();
            }
            node.applied = entry.slot;
            applied = Some(entry.slot);
            self.lines.push(format!("n{id} chosen {} = {}", entry.slot, render::command(&entry.command)));
        }
        self.lines.extend(out.snapshot_to.iter().map(|to| format!("n{id} streams a snapshot to n{to}")));
        if let Some(applied) = applied {
            self.step(id, Input::Applied(applied));
        }
    }

    /// Completes the writes of a node whose disk is not slow.
    fn fsync(&mut self, id: NodeId) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.is_slow || node.replica.is_none() || node.writes.is_empty() {
            return false;
        }
        let mut last = None;
        for (token, writes) in node.writes.drain(..) {
            for write in writes {
                last = Some(token);
                match write {
                    Persist::HardState(hard) => node.hard = hard,
                    Persist::Entries(e) => node.entries.extend(e.into_iter().map(|e| (e.slot, e))),
                    Persist::Truncate(slot) => {
                        node.entries = node.entries.split_off(&slot.next());
                        node.truncated = slot;
                    }
                }
            }
        }
        for (_, messages) in std::mem::take(&mut node.waiting) {
            self.flight.extend(messages);
        }
        if let Some(token) = last {
            self.step(id, Input::Persisted(token));
        }
        true
    }

    /// Writes and delivers until nothing moves any more.
    fn deliver(&mut self) {
        loop {
            let ids: Vec<_> = self.nodes.keys().copied().collect();
            let has_written = ids.into_iter().filter(|id| self.fsync(*id)).count() > 0;
            let Some(message) = self.flight.pop_front() else {
                if has_written {
                    continue;
                }
                return;
            };
            let is_down = self.nodes.get(&message.to).is_none_or(|n| n.replica.is_none());
            if is_down || self.cut.contains(&(message.from, message.to)) {
                self.lines.push(format!("lost {}", envelope(&message)));
                continue;
            }
            self.lines.push(envelope(&message));
            self.step(message.to, Input::Receive { from: message.from, message: message.message });
        }
    }

    /// Lets time pass; replicas are woken when they ask, and messages take no time.
    fn advance(&mut self, time: Duration) {
        let end = self.at + time;
        self.deliver();
        loop {
            let wakes = self.nodes.iter().filter_map(|(id, n)| Some((n.replica.as_ref()?.next_wake()?, *id)));
            let Some((wake, id)) = wakes.min().filter(|(wake, _)| *wake <= end) else { break };
            self.at = self.at.max(wake);
            let before = self.lines.len();
            self.step(id, Input::Tick);
            self.deliver();
            if self.lines.len() > before {
                self.lines.insert(before, format!("-- {} ms", render::ms(self.at)));
            }
        }
        self.at = end;
    }

    /// The driver's snapshot stream, in one go.
    fn snapshot(&mut self, from: NodeId, to: NodeId) {
        let applied = self.nodes[&from].applied;
        let membership = self.nodes[&from].membership.clone();
        let node = self.nodes.get_mut(&to).unwrap();
        node.applied = applied;
        node.membership = membership.clone();
        self.step(to, Input::SnapshotInstalled { applied, membership });
    }

    fn status(&mut self) {
        for (id, n) in &self.nodes {
            let Some(replica) = &n.replica else {
                self.lines.push(format!("n{id} down"));
                continue;
            };
            let now = self.now(*id);
            let role = replica.leadership(now).map_or_else(
                || replica.leader_hint().map_or("follows nobody".into(), |l| format!("follows n{l}")),
                |l| format!("leads {} until {}", l.ballot, render::ms(l.lease_end)),
            );
            let (commit, last, promised) = (replica.commit(), replica.last_slot(), replica.promised());
            let members = render::membership(replica.membership());
            self.lines.push(format!(
                "n{id} {role}, promised {promised}, log {}..{last}, commit {commit}, members {members}",
                replica.truncated()
            ));
        }
    }
}

impl Node {
    fn new(membership: Membership) -> Self {
        Node {
            replica: None,
            hard: HardState::default(),
            entries: BTreeMap::new(),
            truncated: Slot::ZERO,
            applied: Slot::ZERO,
            membership,
            is_slow: false,
            is_unsure: false,
            writes: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }
}

fn envelope(e: &Envelope) -> String {
    format!("n{} -> n{} {}", e.from, e.to, render::message(&e.message))
}
