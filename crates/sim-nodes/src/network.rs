//! The network between nodes: ordered links with delays, which can stall and break.
//!
//! ```text
//!   open --cut--> stalled --LIVENESS passes--> broken --mended--> open
//!                    +-----------mended----------------------------^
//! ```
//! A stalled link keeps what is sent, as a connection does whose packets are lost. Once it has been silent for too long it
//! breaks, which loses everything on it, and both ends are told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

use meridian_rpc::admin::NodeAddress;
use meridian_rpc::peer::{LIVENESS, PeerHandler, PeerMessage, SendError, Transport};
use meridian_types::NodeId;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Messages on one link; more are refused, as by a full queue.
const LINK_MAX: usize = 100_000;

#[derive(Default)]
struct Link {
    /// In the order of sending, each with the millisecond of its arrival.
    messages: VecDeque<(u64, PeerMessage)>,
    /// Since when it is stalled.
    stalled: Option<u64>,
    broken: bool,
}

struct State {
    now: u64,
    rng: SmallRng,
    ports: BTreeMap<NodeId, Option<Weak<dyn PeerHandler>>>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Nodes that stand still take nothing.
    frozen: BTreeSet<NodeId>,
    /// Who is to be told that a connection ended, and whose.
    lost: BTreeSet<(NodeId, NodeId)>,
    delivered: u64,
}

/// What a node is given at one moment.
#[derive(Default)]
pub(crate) struct Arrivals {
    pub(crate) lost: Vec<NodeId>,
    pub(crate) messages: Vec<(NodeId, Vec<PeerMessage>)>,
}

/// Connects the nodes of a [`crate::world::World`].
pub(crate) struct Network {
    state: Mutex<State>,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Network {
            state: Mutex::new(State {
                now: 0,
                rng: SmallRng::seed_from_u64(seed),
                ports: BTreeMap::new(),
                links: BTreeMap::new(),
                cut: BTreeSet::new(),
                frozen: BTreeSet::new(),
                lost: BTreeSet::new(),
                delivered: 0,
            }),
        })
    }

    /// The end of a node that starts.
    pub(crate) fn transport(self: &Arc<Self>, node: NodeId) -> Arc<dyn Transport> {
        let mut state = self.state.lock();
        let others: Vec<NodeId> = state.ports.keys().copied().filter(|n| *n != node).collect();
        state.ports.insert(node, None);
        for other in others {
            state.links.insert((node, other), Link::default());
            state.links.insert((other, node), Link::default());
        }
        Arc::new(End { network: self.clone(), node })
    }

    /// A node is gone, with everything under way to and from it. The others are told.
    pub(crate) fn remove(&self, node: NodeId) {
        let mut state = self.state.lock();
        if state.ports.remove(&node).is_none() {
            return;
        }
        state.frozen.remove(&node);
        state.links.retain(|(from, to), _| *from != node && *to != node);
        let others: Vec<NodeId> = state.ports.keys().copied().collect();
        state.lost.extend(others.into_iter().map(|other| (other, node)));
    }

    /// Nothing passes from `from` to `to` any more.
    pub(crate) fn cut(&self, from: NodeId, to: NodeId) {
        self.state.lock().cut.insert((from, to));
    }

    /// Everything passes again.
    pub(crate) fn mend(&self) {
        self.state.lock().cut.clear();
    }

    /// A node stands still, or goes on.
    pub(crate) fn freeze(&self, node: NodeId, frozen: bool) {
        let mut state = self.state.lock();
        if frozen {
            state.frozen.insert(node);
        } else {
            state.frozen.remove(&node);
        }
    }

    /// True when a question from `from` to `to` is answered at this moment.
    pub(crate) fn is_reachable(&self, from: NodeId, to: NodeId) -> bool {
        let state = self.state.lock();
        let passes = |from, to| !state.cut.contains(&(from, to));
        from == to
            || (state.ports.contains_key(&to)
                && !state.frozen.contains(&to)
                && passes(from, to)
                && passes(to, from))
    }

    /// Messages that arrived so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.state.lock().delivered
    }

    /// The next millisecond: what stalls, breaks or is mended, and what arrives where. Nothing arrives where a node stands
    /// still.
    pub(crate) fn tick(&self, now: u64) -> BTreeMap<NodeId, Arrivals> {
        let liveness = LIVENESS.as_millis();
        let mut state = self.state.lock();
        let State { ports, links, cut, frozen, lost, delivered, .. } = &mut *state;
        let mut arrivals: BTreeMap<NodeId, Arrivals> = BTreeMap::new();
        for (&(from, to), link) in links.iter_mut() {
            let is_stalled = cut.contains(&(from, to)) || frozen.contains(&from) || frozen.contains(&to);
            match (is_stalled, link.stalled) {
                (false, _) => {
                    link.stalled = None;
                    link.broken = false;
                }
                (true, None) => link.stalled = Some(now),
                (true, Some(since)) if !link.broken && now - since > liveness => {
                    link.broken = true;
                    link.messages.clear();
                    lost.insert((from, to));
                    lost.insert((to, from));
                }
                (true, Some(_)) => {}
            }
            if is_stalled {
                continue;
            }
            let mut due = Vec::new();
            while link.messages.front().is_some_and(|(at, _)| *at <= now) {
                due.extend(link.messages.pop_front().map(|(_, message)| message));
            }
            if !due.is_empty() {
                *delivered += due.len() as u64;
                arrivals.entry(to).or_default().messages.push((from, due));
            }
        }
        lost.retain(|(node, _)| ports.contains_key(node));
        // Who stands still hears of it when it goes on.
        for (node, peer) in lost.extract_if(.., |(node, _)| !frozen.contains(node)) {
            arrivals.entry(node).or_default().lost.push(peer);
        }
        state.now = now;
        arrivals
    }

    /// Who takes what arrives at a node.
    pub(crate) fn handler(&self, node: NodeId) -> Option<Arc<dyn PeerHandler>> {
        self.state.lock().ports.get(&node)?.as_ref()?.upgrade()
    }
}

impl State {
    /// Mostly a millisecond or two, now and then much longer.
    fn delay(&mut self) -> u64 {
        if self.rng.random_ratio(1, 500) { self.rng.random_range(5..80) } else { self.rng.random_range(1..3) }
    }
}

/// One node's end.
struct End {
    network: Arc<Network>,
    node: NodeId,
}

impl Transport for End {
    fn send(&self, to: NodeId, message: PeerMessage) -> Result<(), SendError> {
        let mut state = self.network.state.lock();
        let delay = state.delay();
        let now = state.now;
        let link = state.links.get_mut(&(self.node, to)).filter(|link| !link.broken);
        let link = link.ok_or(SendError::Disconnected)?;
        if link.messages.len() >= LINK_MAX {
            return Err(SendError::Full);
        }
        let earliest = link.messages.back().map_or(0, |(at, _)| *at);
        link.messages.push_back(((now + delay).max(earliest), message));
        Ok(())
    }

    fn set_peers(&self, _: &[NodeAddress]) {
        // Nodes find each other by id.
    }

    fn is_live(&self, node: NodeId) -> bool {
        let state = self.network.state.lock();
        node == self.node || state.links.get(&(node, self.node)).is_some_and(|link| !link.broken)
    }

    fn attach(&self, handler: Weak<dyn PeerHandler>) {
        self.network.state.lock().ports.insert(self.node, Some(handler));
    }

    fn shutdown(&self) {
        self.network.remove(self.node);
    }
}
