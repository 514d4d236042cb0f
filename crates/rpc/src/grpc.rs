//! The transport between processes: one gRPC stream per ordered pair of nodes.
//!
//! ```text
//!   dialling --connected, Hello--> streaming --broken or closed--> backing off --> dialling
//! ```
//! The stream pulls from the peer's queue when HTTP/2 can take more, so frames grow with load and the queue, not the
//! network buffer, is where the bound is. What was queued when a stream breaks is dropped.
//!
//! Invariant: `disconnected(peer)` is called after every end of a stream from or to the peer, so that nobody waits for
//! an answer that a broken stream took with it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use meridian_types::{ClusterId, NodeId};
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status, Streaming};

use crate::admin::NodeAddress;
use crate::latency::LatencyTable;
use crate::peer::{LIVENESS, PeerHandler, PeerMessage, SendError, Transport};
use crate::queue::{Epoch, SendQueue, Taken};
use crate::security::Security;
use crate::wire::proto::peer_client::PeerClient;
use crate::wire::proto::peer_server::Peer;
use crate::wire::{frame_of, proto};

/// Bytes of the largest frame that is accepted: a frame holds at least one message whatever its size, and a message
/// holds at most one value of 16 MiB, or a promise's log.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// HTTP/2 flow-control window: enough to keep a link of 100 ms busy at 80 MB/s.
pub(crate) const WINDOW_BYTES: u32 = 8 << 20;

/// The first pause after a failed dial; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// The longest pause between dials: a node that comes back is found within it.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// A connection on which nothing answers for this long is broken.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// How long a dial may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Who this node is, for a transport.
#[derive(Clone)]
pub struct GrpcConfig {
    /// The cluster; streams of others are refused.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// Its region, for the latency table.
    pub region: String,
    /// Drawn at random at each start.
    pub incarnation: u64,
    /// Artificial latency.
    pub latency: LatencyTable,
    /// How peers are dialled.
    pub security: Security,
}

struct Link {
    address: String,
    queue: Arc<SendQueue>,
    /// Milliseconds since the transport's start at which the peer was last heard; zero for never.
    heard: AtomicU64,
    /// Dropping it ends the link's task.
    _stop: watch::Sender<()>,
}

/// Streams to and from all other nodes. Its tasks end with [`Transport::shutdown`], or when the peer leaves the address
/// book.
pub struct GrpcTransport {
    config: GrpcConfig,
    started: Instant,
    links: RwLock<BTreeMap<NodeId, Arc<Link>>>,
    handler: OnceLock<Weak<dyn PeerHandler>>,
    runtime: tokio::runtime::Handle,
    stopped: AtomicBool,
    stop: watch::Sender<()>,
    this: Weak<GrpcTransport>,
}

impl GrpcTransport {
    /// A transport without peers, which will stream to them on `runtime`.
    pub fn new(config: GrpcConfig, runtime: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new_cyclic(|this| GrpcTransport {
            config,
            started: Instant::now(),
            links: RwLock::default(),
            handler: OnceLock::new(),
            runtime,
            stopped: AtomicBool::new(false),
            stop: watch::channel(()).0,
            this: this.clone(),
        })
    }

    fn handler(&self) -> Option<Arc<dyn PeerHandler>> {
        if self.stopped.load(Ordering::Acquire) {
            return None;
        }
        self.handler.get()?.upgrade()
    }

    fn disconnected(&self, peer: NodeId) {
        if let Some(handler) = self.handler() {
            handler.disconnected(peer);
        }
    }

    fn hello(&self, to: NodeId) -> proto::Hello {
        let cluster: proto::ClusterId = self.config.cluster.into();
        proto::Hello {
            cluster_high: cluster.high,
            cluster_low: cluster.low,
            from: self.config.node.get(),
            to: to.get(),
            incarnation: self.config.incarnation,
        }
    }

    fn heard(&self, from: NodeId) {
        if let Some(link) = self.links.read().get(&from) {
            let ms = self.started.elapsed().as_millis() as u64;
            link.heard.store(ms.max(1), Ordering::Relaxed);
        }
    }

    fn connect(&self, peer: NodeId, address: &NodeAddress) -> Arc<Link> {
        let (stop, stopped) = watch::channel(());
        let queue = Arc::new(SendQueue::new());
        queue.set_delay(self.config.latency.get(&self.config.region, &address.region));
        // The task is owned by the link: it ends when the link's sender is dropped.
        self.runtime.spawn(run_link(
            self.this.clone(),
            peer,
            (address.address.clone(), self.config.security.clone()),
            queue.clone(),
            stopped,
        ));
        Arc::new(Link { address: address.address.clone(), queue, heard: AtomicU64::new(0), _stop: stop })
    }

    /// Reads one incoming stream to its end.
    async fn read_stream(self: Arc<Self>, mut frames: Streaming<proto::Frame>) -> Result<(), Status> {
        let mut stop = self.stop.subscribe();
        let first = frames.message().await?.ok_or_else(|| Status::invalid_argument("empty stream"))?;
        let from = self.check_hello(first.hello.as_ref())?;
        tracing::debug!(peer = from.get(), "stream from peer");
        let mut frame = first;
        let result = loop {
            self.heard(from);
            let messages: Result<Vec<PeerMessage>, _> =
                frame.messages.into_iter().map(PeerMessage::try_from).collect();
            match messages {
                Ok(messages) if messages.is_empty() => {}
                Ok(messages) => match self.handler() {
                    Some(handler) => handler.receive(from, messages),
                    None => break Err(Status::unavailable("node is not serving")),
                },
                Err(error) => {
                    tracing::error!(peer = from.get(), %error, "malformed frame");
                    break Err(Status::invalid_argument(error.to_string()));
                }
            }
            frame = tokio::select! {
                next = frames.message() => match next {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status),
                },
                _ = stop.changed() => break Err(Status::unavailable("node is stopping")),
            };
        };
        self.disconnected(from);
        result
    }

    fn check_hello(&self, hello: Option<&proto::Hello>) -> Result<NodeId, Status> {
        let hello = hello.ok_or_else(|| Status::invalid_argument("first frame has no hello"))?;
        let mine = self.hello(self.config.node);
        if (hello.cluster_high, hello.cluster_low) != (mine.cluster_high, mine.cluster_low) {
            return Err(Status::failed_precondition("peer belongs to another cluster"));
        }
        if hello.to != self.config.node.get() {
            return Err(Status::failed_precondition("stream is meant for another node"));
        }
        Ok(NodeId::new(hello.from))
    }
}

impl Transport for GrpcTransport {
    fn send(&self, to: NodeId, message: PeerMessage) -> Result<(), SendError> {
        match self.links.read().get(&to) {
            Some(link) => link.queue.push(message),
            None => Err(SendError::Disconnected),
        }
    }

    fn set_peers(&self, peers: &[NodeAddress]) {
        if self.stopped.load(Ordering::Acquire) {
            return;
        }
        let mut links = self.links.write();
        links.retain(|node, link| {
            let stays = peers.iter().any(|p| p.node == *node && p.address == link.address);
            if !stays {
                link.queue.close();
            }
            stays
        });
        for peer in peers.iter().filter(|p| p.node != self.config.node) {
            links.entry(peer.node).or_insert_with(|| self.connect(peer.node, peer));
        }
    }

    fn is_live(&self, node: NodeId) -> bool {
        if node == self.config.node {
            return true;
        }
        let links = self.links.read();
        let Some(link) = links.get(&node) else { return false };
        let heard = link.heard.load(Ordering::Relaxed);
        let now = self.started.elapsed().as_millis() as u64;
        heard != 0 && now.saturating_sub(heard) <= LIVENESS.as_millis()
    }

    fn attach(&self, handler: Weak<dyn PeerHandler>) {
        assert!(self.handler.set(handler).is_ok(), "a transport has one handler");
    }

    fn shutdown(&self) {
        self.stopped.store(true, Ordering::Release);
        for link in std::mem::take(&mut *self.links.write()).into_values() {
            link.queue.close();
        }
        self.stop.send_replace(());
    }
}

/// Keeps one outgoing stream up until the link is dropped.
async fn run_link(
    transport: Weak<GrpcTransport>,
    peer: NodeId,
    (address, security): (String, Security),
    queue: Arc<SendQueue>,
    mut stop: watch::Receiver<()>,
) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let Some(hello) = transport.upgrade().map(|t| t.hello(peer)) else { return };
        let streamed = tokio::select! {
            streamed = stream_to(&address, &security, hello, &queue) => streamed,
            _ = stop.changed() => return,
        };
        queue.close();
        match streamed {
            Ok(()) => backoff = BACKOFF_MIN,
            Err(error) => tracing::debug!(peer = peer.get(), %error, "no stream to peer"),
        }
        match transport.upgrade() {
            Some(transport) => transport.disconnected(peer),
            None => return,
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            _ = stop.changed() => return,
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Dials, and streams until the connection breaks. `Ok` when a stream had been established.
async fn stream_to(
    address: &str,
    security: &Security,
    hello: proto::Hello,
    queue: &Arc<SendQueue>,
) -> Result<(), DialError> {
    let channel = endpoint(address, security)?.connect().await?;
    let mut client = PeerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let epoch = queue.open();
    let outgoing = Outgoing { hello: Some(hello), queue: queue.clone(), epoch, timer: None };
    let mut incoming = client.exchange(outgoing).await?.into_inner();
    // The response side carries nothing; its end is the end of the stream.
    while let Ok(Some(_)) = incoming.message().await {}
    Ok(())
}

/// Why no stream came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("connection failed: {0:?}")]
    Transport(#[from] tonic::transport::Error),
    #[error("refused: {0}")]
    Status(#[from] Status),
}

/// How nodes dial each other.
pub(crate) fn endpoint(address: &str, security: &Security) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("{}://{address}", security.scheme()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    match security.client() {
        Some(tls) => endpoint.tls_config(tls),
        None => Ok(endpoint),
    }
}

/// The frames of one stream, pulled from the queue.
struct Outgoing {
    hello: Option<proto::Hello>,
    queue: Arc<SendQueue>,
    epoch: Epoch,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stream for Outgoing {
    type Item = proto::Frame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<proto::Frame>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(frame_of(Some(hello), Vec::new())));
        }
        loop {
            if let Some(timer) = &mut self.timer {
                std::task::ready!(timer.as_mut().poll(cx));
                self.timer = None;
            }
            match std::task::ready!(self.queue.poll_take(self.epoch, cx)) {
                Taken::Messages(messages) => return Poll::Ready(Some(frame_of(None, messages))),
                Taken::NotBefore(due) => self.timer = Some(Box::pin(tokio::time::sleep_until(due.into()))),
                Taken::Empty | Taken::Closed => return Poll::Ready(None),
            }
        }
    }
}

/// Where a server finds the transport. A server listens before its node knows who it is, so the transport comes later;
/// streams that come before it are refused and dialled again.
#[derive(Default)]
pub struct PeerEndpoint {
    transport: OnceLock<Arc<GrpcTransport>>,
}

impl PeerEndpoint {
    /// Streams are accepted from here on.
    pub fn set(&self, transport: Arc<GrpcTransport>) {
        assert!(self.transport.set(transport).is_ok(), "an endpoint has one transport");
    }
}

/// The server side of the streams.
pub(crate) struct PeerService(pub(crate) Arc<PeerEndpoint>);

#[tonic::async_trait]
impl Peer for PeerService {
    type ExchangeStream = ReceiverStream<Result<proto::Frame, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<proto::Frame>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let Some(transport) = self.0.transport.get().cloned() else {
            return Err(Status::unavailable("node is not a member yet"));
        };
        let (answer, answers) = mpsc::channel(1);
        // The task ends with the stream it reads, or when the transport shuts down.
        tokio::spawn(async move {
            if let Err(status) = transport.read_stream(request.into_inner()).await {
                // The peer may be gone already.
                answer.send(Err(status)).await.ok();
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}
