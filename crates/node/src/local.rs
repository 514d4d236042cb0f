//! The transport between nodes of one process: queues and threads, no serialisation.
//!
//! One thread per ordered pair of nodes takes what is queued and hands it to the receiver, so that a sender never runs
//! the receiver's code and the order of a pair is kept. The same artificial latency, bounds and disconnections as over
//! the network apply, and a test can cut pairs.
//!
//! ```text
//!   cut or stopped --heal / both present--> linked --cut / stop of either--> cut or stopped
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use meridian_rpc::admin::NodeAddress;
use meridian_rpc::peer::{PeerHandler, PeerMessage, SendError, Transport};
use meridian_rpc::{Epoch, LatencyTable, SendQueue};
use meridian_types::NodeId;
use parking_lot::{Mutex, RwLock};

type Links = RwLock<BTreeMap<NodeId, Arc<SendQueue>>>;

struct Port {
    node: NodeId,
    region: String,
    handler: OnceLock<Weak<dyn PeerHandler>>,
    stopped: AtomicBool,
    links: Links,
}

impl Port {
    fn handler(&self) -> Option<Arc<dyn PeerHandler>> {
        if self.stopped.load(Ordering::Acquire) {
            return None;
        }
        self.handler.get()?.upgrade()
    }
}

#[derive(Default)]
struct State {
    ports: BTreeMap<NodeId, Arc<Port>>,
    cut: BTreeSet<(NodeId, NodeId)>,
}

/// Connects the nodes of one process.
pub struct LocalNetwork {
    latency: LatencyTable,
    state: Mutex<State>,
}

impl LocalNetwork {
    /// A network without nodes.
    pub fn new(latency: LatencyTable) -> Arc<Self> {
        Arc::new(LocalNetwork { latency, state: Mutex::default() })
    }

    /// The transport of `node`, linked with every node that is present.
    ///
    /// # Panics
    /// When a transport of this node exists and was not shut down.
    pub fn transport(self: &Arc<Self>, node: NodeId, region: &str) -> Arc<LocalTransport> {
        let port = Arc::new(Port {
            node,
            region: region.to_owned(),
            handler: OnceLock::new(),
            stopped: AtomicBool::new(false),
            links: RwLock::default(),
        });
        let mut state = self.state.lock();
        let former = state.ports.insert(node, port.clone());
        assert!(former.is_none(), "node {node} is on the network already");
        self.link_all(&state);
        Arc::new(LocalTransport { network: self.clone(), port })
    }

    /// Lets nothing pass from `from` to `to` until [`LocalNetwork::heal`].
    pub fn cut(&self, from: NodeId, to: NodeId) {
        let mut state = self.state.lock();
        state.cut.insert((from, to));
        if let Some(port) = state.ports.get(&from)
            && let Some(queue) = port.links.write().remove(&to)
        {
            queue.close();
        }
    }

    /// Cuts every pair of which `node` is a part.
    pub fn isolate(&self, node: NodeId) {
        let others: Vec<NodeId> = self.state.lock().ports.keys().copied().filter(|n| *n != node).collect();
        for other in others {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    /// Links every pair again.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.cut.clear();
        self.link_all(&state);
    }

    fn link_all(&self, state: &State) {
        for from in state.ports.values() {
            for to in state.ports.values() {
                let wanted = from.node != to.node && !state.cut.contains(&(from.node, to.node));
                if wanted && !from.links.read().contains_key(&to.node) {
                    self.link(from, to);
                }
            }
        }
    }

    fn link(&self, from: &Arc<Port>, to: &Arc<Port>) {
        let queue = Arc::new(SendQueue::new());
        queue.set_delay(self.latency.get(&from.region, &to.region));
        let epoch = queue.open();
        from.links.write().insert(to.node, queue.clone());
        let (from, to) = (from.clone(), to.clone());
        // The thread ends when the queue is closed: by a cut, or by the stop of either node.
        std::thread::Builder::new()
            .name(format!("link-{}-{}", from.node, to.node))
            .spawn(move || run_link(&from, &to, &queue, epoch))
            .expect("the operating system has a thread for a link");
    }

    fn remove(&self, port: &Port) {
        let mut state = self.state.lock();
        state.ports.remove(&port.node);
        for queue in std::mem::take(&mut *port.links.write()).into_values() {
            queue.close();
        }
        for other in state.ports.values() {
            if let Some(queue) = other.links.write().remove(&port.node) {
                queue.close();
            }
        }
    }
}

fn run_link(from: &Port, to: &Port, queue: &SendQueue, epoch: Epoch) {
    while let Some(messages) = queue.take_blocking(epoch) {
        if let Some(handler) = to.handler() {
            handler.receive(from.node, messages);
        }
    }
    if let Some(handler) = from.handler() {
        handler.disconnected(to.node);
    }
    if let Some(handler) = to.handler() {
        handler.disconnected(from.node);
    }
}

/// One node's end of a [`LocalNetwork`].
pub struct LocalTransport {
    network: Arc<LocalNetwork>,
    port: Arc<Port>,
}

impl Transport for LocalTransport {
    fn send(&self, to: NodeId, message: PeerMessage) -> Result<(), SendError> {
        match self.port.links.read().get(&to) {
            Some(queue) => queue.push(message),
            None => Err(SendError::Disconnected),
        }
    }

    fn set_peers(&self, _: &[NodeAddress]) {
        // Nodes of one process find each other by id.
    }

    fn is_live(&self, node: NodeId) -> bool {
        node == self.port.node || self.port.links.read().contains_key(&node)
    }

    fn attach(&self, handler: Weak<dyn PeerHandler>) {
        assert!(self.port.handler.set(handler).is_ok(), "a transport has one handler");
    }

    fn shutdown(&self) {
        if !self.port.stopped.swap(true, Ordering::AcqRel) {
            self.network.remove(&self.port);
        }
    }
}

impl Drop for LocalTransport {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use meridian_types::GroupId;

    use super::*;

    struct Recorder(mpsc::Sender<Result<(NodeId, PeerMessage), NodeId>>);

    impl PeerHandler for Recorder {
        fn receive(&self, from: NodeId, messages: Vec<PeerMessage>) {
            for message in messages {
                self.0.send(Ok((from, message))).ok();
            }
        }

        fn disconnected(&self, peer: NodeId) {
            self.0.send(Err(peer)).ok();
        }
    }

    type Events = mpsc::Receiver<Result<(NodeId, PeerMessage), NodeId>>;

    fn node(network: &Arc<LocalNetwork>, n: u32) -> (Arc<LocalTransport>, Arc<Recorder>, Events) {
        let transport = network.transport(NodeId::new(n), "r");
        let (sender, events) = mpsc::channel();
        let recorder = Arc::new(Recorder(sender));
        let weak: Weak<Recorder> = Arc::downgrade(&recorder);
        transport.attach(weak);
        (transport, recorder, events)
    }

    fn message(n: u64) -> PeerMessage {
        PeerMessage::UnknownGroup { group: GroupId::new(n) }
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn messages_pass_in_order_until_cut_and_again_after_healing() {
        let network = LocalNetwork::new(LatencyTable::none());
        let (n1, n2) = (NodeId::new(1), NodeId::new(2));
        let (a, _ra, _ea) = node(&network, 1);
        let (_b, _rb, events) = node(&network, 2);
        for n in 0..100 {
            a.send(n2, message(n)).unwrap();
        }
        for n in 0..100 {
            assert_eq!(events.recv_timeout(PATIENCE).unwrap(), Ok((n1, message(n))));
        }
        network.cut(n1, n2);
        assert_eq!(a.send(n2, message(1)), Err(SendError::Disconnected));
        assert_eq!(events.recv_timeout(PATIENCE).unwrap(), Err(n1));
        network.heal();
        a.send(n2, message(2)).unwrap();
        assert_eq!(events.recv_timeout(PATIENCE).unwrap(), Ok((n1, message(2))));
    }

    #[test]
    fn a_stopped_node_is_reported_and_its_successor_is_linked() {
        let network = LocalNetwork::new(LatencyTable::none());
        let (a, _ra, ea) = node(&network, 1);
        let (b, _rb, _eb) = node(&network, 2);
        b.shutdown();
        assert_eq!(ea.recv_timeout(PATIENCE).unwrap(), Err(NodeId::new(2)));
        assert!(!a.is_live(NodeId::new(2)));
        let (_b, _rb, events) = node(&network, 2);
        a.send(NodeId::new(2), message(7)).unwrap();
        assert_eq!(events.recv_timeout(PATIENCE).unwrap(), Ok((NodeId::new(1), message(7))));
    }
}
