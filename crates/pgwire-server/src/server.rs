//! The listener: accepting, limiting and ending connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use meridian_datum::{SqlError, SqlState};
use meridian_session::{ResultSink, SessionFactory, SessionParams};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::cancel::CancelRegistry;
use crate::connection::Connection;
use crate::encode;
use crate::sink::WireSink;
use crate::startup::{Opening, negotiate};

/// A client has this long to send its start-up packet, as in PostgreSQL (`authentication_timeout`).
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections that wait in the kernel to be accepted: enough for a burst of ten thousand clients.
const LISTEN_BACKLOG: u32 = 4_096;

/// How the server listens.
#[derive(Clone, Debug)]
pub struct PgServerOptions {
    /// The address of the SQL port.
    pub listen: SocketAddr,
    /// Sessions at once; further clients get 53300.
    pub max_connections: usize,
}

/// The SQL port of a node: bound early, so that a port that is taken is known at once, and served once the node can.
pub struct PgServer {
    listener: TcpListener,
    max_connections: usize,
    open: Arc<AtomicUsize>,
}

struct Shared {
    sessions: SessionFactory,
    cancels: CancelRegistry,
    open: Arc<AtomicUsize>,
    max_connections: usize,
    shutdown: CancellationToken,
}

impl PgServer {
    /// Binds the port.
    ///
    /// # Errors
    /// The address is taken or not this machine's.
    pub fn bind(options: &PgServerOptions) -> std::io::Result<PgServer> {
        let socket = if options.listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(options.listen)?;
        let listener = socket.listen(LISTEN_BACKLOG)?;
        Ok(PgServer { listener, max_connections: options.max_connections, open: Arc::default() })
    }

    /// The address that was bound.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Sessions open at this moment.
    pub fn open_sessions(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let open = self.open.clone();
        move || open.load(Ordering::Relaxed)
    }

    /// Serves until `shutdown` is cancelled, then ends idle sessions and returns. Each connection is a task that owns its
    /// session and ends with its client.
    pub async fn serve(self, sessions: SessionFactory, shutdown: CancellationToken) {
        let shared = Arc::new(Shared {
            sessions,
            cancels: CancelRegistry::default(),
            open: self.open,
            max_connections: self.max_connections,
            shutdown: shutdown.clone(),
        });
        info!(address = ?self.listener.local_addr().ok(), "accepting SQL connections");
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let shared = shared.clone();
                    tokio::spawn(async move { shared.connection(stream, peer).await });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: accepting again at once would spin.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// Counts a connection while it lives.
struct OpenGuard<'a>(&'a AtomicUsize);

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    async fn connection(&self, mut stream: TcpStream, peer: SocketAddr) {
        let number = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let _guard = OpenGuard(&self.open);
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, %peer, "client left at once");
            return;
        }
        let mut input = BytesMut::with_capacity(8 << 10);
        let opening = tokio::time::timeout(STARTUP_TIMEOUT, negotiate(&mut stream, &mut input));
        let opening = match opening.await {
            Ok(Ok(Opening::Session(_))) if number > self.max_connections => Err(too_many_connections()),
            Ok(opening) => opening,
            Err(_elapsed) => return,
        };
        match opening {
            Ok(Opening::Session(params)) => self.session(stream, peer, params, input).await,
            Ok(Opening::Cancel { pid, secret }) => self.cancels.cancel(pid, secret),
            Ok(Opening::Gone) => {}
            Err(error) => WireSink::new(stream).fatal(&error).await,
        }
    }

    async fn session(&self, stream: TcpStream, peer: SocketAddr, mut params: SessionParams, input: BytesMut) {
        let pid = self.cancels.next_pid();
        params.client_address = Some(peer);
        params.backend_pid = pid;
        let (reader, writer) = stream.into_split();
        let mut sink = WireSink::new(writer);
        let mut session = match self.sessions.open(params).await {
            Ok(session) => session,
            Err(error) => return sink.fatal(&error).await,
        };
        let registered = self.cancels.register(pid, session.cancel_handle());
        greet(&mut sink, &session, registered.pid, registered.secret);
        if sink.flush().await.is_ok() {
            let shutdown = self.shutdown.clone().cancelled_owned();
            Connection::new(reader, sink, &mut session, input).run(shutdown).await;
        }
        session.terminate().await;
    }
}

/// AuthenticationOk, ParameterStatus, BackendKeyData, ReadyForQuery.
fn greet<W>(sink: &mut WireSink<W>, session: &meridian_session::Session, pid: i32, secret: i32)
where
    W: tokio::io::AsyncWrite + Unpin + Send,
{
    let out = sink.buffer();
    let start = encode::begin(out, b'R');
    out.put_i32(0);
    encode::end(out, start);
    session.parameter_status(|name, value| sink.parameter_status(name, value));
    let out = sink.buffer();
    let start = encode::begin(out, b'K');
    out.put_i32(pid);
    out.put_i32(secret);
    encode::end(out, start);
    sink.ready(session.status());
}

fn too_many_connections() -> SqlError {
    SqlError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
        .with_hint("Raise max_connections, or put a connection pool in front.")
}
