//! Streams between transports over real sockets.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use meridian_rpc::admin::*;
use meridian_rpc::peer::{PeerHandler, PeerMessage, SendError, Transport};
use meridian_rpc::*;
use meridian_shard::LockStatus;
use meridian_types::{ClusterId, GroupId, NodeId, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

#[derive(Debug, PartialEq)]
enum Event {
    Received(NodeId, Vec<PeerMessage>),
    Disconnected(NodeId),
}

struct Recorder(mpsc::UnboundedSender<Event>);

impl PeerHandler for Recorder {
    fn receive(&self, from: NodeId, messages: Vec<PeerMessage>) {
        self.0.send(Event::Received(from, messages)).ok();
    }

    fn disconnected(&self, peer: NodeId) {
        self.0.send(Event::Disconnected(peer)).ok();
    }
}

struct NoAdmin;

#[async_trait]
impl AdminHandler for NoAdmin {
    async fn init(&self) -> Result<InitReply, AdminError> {
        Err(AdminError::AlreadyInitialised)
    }
    async fn join(&self, request: JoinRequest) -> Result<JoinReply, AdminError> {
        Ok(JoinReply { cluster: request.cluster, node: None, nodes: vec![request.node] })
    }
    async fn bootstrap(&self, _: BootstrapRequest) -> Result<(), AdminError> {
        Err(AdminError::WrongCluster)
    }
    async fn set_peers(&self, _: Vec<NodeAddress>) -> Result<(), AdminError> {
        Ok(())
    }
    async fn node_status(&self) -> Result<NodeStatus, AdminError> {
        Ok(NodeStatus { sessions: 3, ..NodeStatus::default() })
    }
    async fn locks(&self, _: usize) -> Result<Vec<LockStatus>, AdminError> {
        Err(AdminError::NotInitialised)
    }
    async fn transactions(&self, _: usize) -> Result<Vec<TransactionStatus>, AdminError> {
        Ok(Vec::new())
    }
    async fn publish_catalog(&self, version: u64) -> Result<(), AdminError> {
        Err(AdminError::Failed { detail: version.to_string() })
    }
    async fn drain(&self) -> Result<u64, AdminError> {
        Ok(7)
    }
    async fn decommission(&self, node: Option<NodeId>) -> Result<Departure, AdminError> {
        Ok(Departure { node: node.unwrap_or_default(), replicas_left: 3, is_out: false })
    }
}

struct FixedTime;

#[async_trait]
impl TimeService for FixedTime {
    async fn now(&self) -> Option<TimeReading> {
        let uncertainty = meridian_types::Duration::from_millis(1);
        Some(TimeReading { time: Timestamp::from_nanos(42), uncertainty })
    }
}

struct Node {
    transport: Arc<GrpcTransport>,
    address: NodeAddress,
    events: mpsc::UnboundedReceiver<Event>,
    _handler: Arc<Recorder>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

async fn start(node: u32, cluster: u128) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let transport = GrpcTransport::new(
        GrpcConfig {
            cluster: ClusterId::new(cluster),
            node: NodeId::new(node),
            region: String::new(),
            incarnation: u64::from(node),
            latency: LatencyTable::none(),
            security: Security::none(),
        },
        tokio::runtime::Handle::current(),
    );
    let (sender, events) = mpsc::unbounded_channel();
    let handler = Arc::new(Recorder(sender));
    let weak: Weak<Recorder> = Arc::downgrade(&handler);
    transport.attach(weak);
    let endpoint = Arc::new(PeerEndpoint::default());
    endpoint.set(transport.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let time: Arc<dyn TimeService> = Arc::new(FixedTime);
    let services = NodeServices { peers: endpoint, admin: Arc::new(NoAdmin), time: Some(time) };
    tokio::spawn(async move {
        let stop = async move { drop(stopped.await) };
        serve_node(listener, services, &Security::none(), stop).await
    });
    let address = NodeAddress { node: NodeId::new(node), address, ..NodeAddress::default() };
    Node { transport, address, events, _handler: handler, _stop: stop }
}

fn message(n: u64) -> PeerMessage {
    PeerMessage::UnknownGroup { group: GroupId::new(n) }
}

/// Sends until the link is up.
async fn send(node: &Node, to: u32, message: PeerMessage) {
    while node.transport.send(NodeId::new(to), message.clone()) == Err(SendError::Disconnected) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn receive(node: &mut Node, count: usize) -> Vec<PeerMessage> {
    let mut all = Vec::new();
    while all.len() < count {
        match node.events.recv().await.unwrap() {
            Event::Received(_, messages) => all.extend(messages),
            Event::Disconnected(_) => {}
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_in_order_in_both_directions() {
    let (mut a, mut b) = (start(1, 5).await, start(2, 5).await);
    let peers = [a.address.clone(), b.address.clone()];
    a.transport.set_peers(&peers);
    b.transport.set_peers(&peers);
    for n in 0..1_000 {
        send(&a, 2, message(n)).await;
        send(&b, 1, message(n)).await;
    }
    let expected: Vec<PeerMessage> = (0..1_000).map(message).collect();
    assert_eq!(receive(&mut b, 1_000).await, expected);
    assert_eq!(receive(&mut a, 1_000).await, expected);
    assert!(a.transport.is_live(NodeId::new(2)));
    assert!(!a.transport.is_live(NodeId::new(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stops_is_reported_and_found_again() {
    let (mut a, b) = (start(1, 5).await, start(2, 5).await);
    a.transport.set_peers(std::slice::from_ref(&b.address));
    send(&a, 2, message(1)).await;
    let mut b = b;
    assert_eq!(receive(&mut b, 1).await, [message(1)]);
    b.transport.shutdown();
    assert_eq!(a.events.recv().await, Some(Event::Disconnected(NodeId::new(2))));
    let mut c = start(2, 5).await;
    a.transport.set_peers(std::slice::from_ref(&c.address));
    send(&a, 2, message(2)).await;
    assert_eq!(receive(&mut c, 1).await, [message(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_is_refused() {
    let (mut a, mut b) = (start(1, 5).await, start(2, 6).await);
    a.transport.set_peers(std::slice::from_ref(&b.address));
    send(&a, 2, message(1)).await;
    assert_eq!(a.events.recv().await, Some(Event::Disconnected(NodeId::new(2))));
    assert!(b.events.try_recv().is_err(), "nothing may arrive from another cluster");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administration_and_time_are_answered() {
    let node = start(1, 5).await;
    let client = AdminClient::new(&node.address.address, &Security::none(), Duration::from_secs(10)).unwrap();
    assert_eq!(client.init().await, Err(AdminError::AlreadyInitialised));
    assert_eq!(client.locks(1).await, Err(AdminError::NotInitialised));
    assert_eq!(client.publish_catalog(9).await, Err(AdminError::Failed { detail: "9".into() }));
    assert_eq!(client.drain().await, Ok(7));
    let departure = Departure { node: NodeId::new(4), replicas_left: 3, is_out: false };
    assert_eq!(client.decommission(Some(NodeId::new(4))).await, Ok(departure));
    assert_eq!(client.node_status().await.map(|s| s.sessions), Ok(3));
    let me = NodeAddress { region: "eu".into(), ..node.address.clone() };
    let reply = client.join(JoinRequest { node: me.clone(), cluster: Some(ClusterId::new(1 << 100)) }).await;
    assert_eq!(reply, Ok(JoinReply { cluster: Some(ClusterId::new(1 << 100)), node: None, nodes: vec![me] }));
    let mut time = TimeClient::new(&node.address.address, Security::none());
    assert_eq!(time.poll().await.map(|r| r.time), Ok(Timestamp::from_nanos(42)));
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = AdminClient::new(&address, &Security::none(), Duration::from_secs(10)).unwrap();
    assert!(matches!(client.drain().await, Err(AdminError::Unreachable { .. })));
    assert!(TimeClient::new(&address, Security::none()).poll().await.is_err());
}
