//! The listener: accepting, limiting and ending connections.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures::FutureExt;
use meridian_datum::{SqlError, SqlState};
use meridian_session::{ResultSink, SessionFactory, SessionParams};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::auth;
use crate::cancel::CancelRegistry;
use crate::connection::Connection;
use crate::encode;
use crate::sink::WireSink;
use crate::startup::{Encryption, Opening, negotiate};
use crate::tls::{PgSecurity, certified_user};

/// A client has this long to send its start-up packet, as in PostgreSQL (`authentication_timeout`).
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections that wait in the kernel to be accepted: enough for a burst of ten thousand clients.
const LISTEN_BACKLOG: u32 = 4_096;

/// How the server listens.
#[derive(Clone)]
pub struct PgServerOptions {
    /// The address of the SQL port.
    pub listen: SocketAddr,
    /// Sessions at once; further clients get 53300.
    pub max_connections: usize,
    /// Without it any user with any password is let in, in clear text.
    pub security: Option<Arc<PgSecurity>>,
}

/// The SQL port of a node: bound early, so that a port that is taken is known at once, and served once the node can.
pub struct PgServer {
    listener: TcpListener,
    max_connections: usize,
    security: Option<Arc<PgSecurity>>,
    open: Arc<AtomicUsize>,
}

/// What a client is connected by.
pub trait SqlStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Where it comes from.
    type Reader: AsyncRead + Send + Unpin;
    /// Where it goes to.
    type Writer: AsyncWrite + Send + Unpin;

    /// Lets both directions be used at once.
    fn halves(self) -> (Self::Reader, Self::Writer);
}

impl SqlStream for TcpStream {
    type Reader = tokio::net::tcp::OwnedReadHalf;
    type Writer = tokio::net::tcp::OwnedWriteHalf;

    fn halves(self) -> (Self::Reader, Self::Writer) {
        self.into_split()
    }
}

/// A client in this process.
impl SqlStream for DuplexStream {
    type Reader = ReadHalf<DuplexStream>;
    type Writer = WriteHalf<DuplexStream>;

    fn halves(self) -> (Self::Reader, Self::Writer) {
        tokio::io::split(self)
    }
}

/// In clear text or encrypted.
type Stream<S> = Either<S, TlsStream<S>>;

/// Serves single connections, however they have come about.
#[derive(Clone)]
pub struct PgService {
    shared: Arc<Shared>,
}

impl PgService {
    /// A service without a listener, for clients in this process: in clear text, any number of them.
    pub fn new(sessions: SessionFactory, shutdown: CancellationToken) -> Self {
        let shared = Shared {
            sessions,
            cancels: CancelRegistry::default(),
            open: Arc::default(),
            max_connections: usize::MAX,
            security: None,
            shutdown,
        };
        PgService { shared: Arc::new(shared) }
    }

    /// Serves one client until it leaves or the service shuts down.
    pub async fn serve(&self, stream: impl SqlStream, peer: SocketAddr) {
        self.shared.connection(stream, peer).await;
    }
}

struct Shared {
    sessions: SessionFactory,
    cancels: CancelRegistry,
    open: Arc<AtomicUsize>,
    max_connections: usize,
    security: Option<Arc<PgSecurity>>,
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
        let (max_connections, security) = (options.max_connections, options.security.clone());
        Ok(PgServer { listener, max_connections, security, open: Arc::default() })
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
            security: self.security,
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
                    if let Err(error) = stream.set_nodelay(true) {
                        debug!(%error, %peer, "client left at once");
                        continue;
                    }
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
    async fn connection<S: SqlStream>(&self, stream: S, peer: SocketAddr) {
        let number = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let _guard = OpenGuard(&self.open);
        let mut input = BytesMut::with_capacity(8 << 10);
        let opening = self.open(stream, peer, number, &mut input);
        let Ok(Some((stream, opening))) = tokio::time::timeout(STARTUP_TIMEOUT, opening).await else {
            return;
        };
        match (opening, stream) {
            (Ok(Opening::Session(params)), Either::Left(stream)) => {
                let (reader, writer) = stream.halves();
                self.session(reader, WireSink::new(writer), peer, params, input).await;
            }
            (Ok(Opening::Session(params)), Either::Right(stream)) => {
                let (reader, writer) = tokio::io::split(stream);
                self.session(reader, WireSink::new(writer), peer, params, input).await;
            }
            (Ok(Opening::Cancel { pid, secret }), _) => self.cancels.cancel(pid, secret),
            (Ok(Opening::Encrypt | Opening::Gone), _) => {}
            (Err(error), stream) => WireSink::new(stream).fatal(&error).await,
        }
    }

    /// Everything up to the session: encryption, the start-up packet, who the client is. `None` when there is nobody to
    /// answer any more.
    async fn open<S: SqlStream>(
        &self,
        stream: S,
        peer: SocketAddr,
        number: usize,
        input: &mut BytesMut,
    ) -> Option<(Stream<S>, Result<Opening, SqlError>)> {
        let mut stream = stream;
        let Some(security) = &self.security else {
            let opening = match negotiate(&mut stream, input, Encryption::Declined).await {
                Ok(Opening::Session(_)) if number > self.max_connections => Err(too_many_connections()),
                opening => opening,
            };
            return Some((Either::Left(stream), opening));
        };
        match negotiate(&mut stream, input, Encryption::Demanded).await {
            Ok(Opening::Encrypt) => {}
            opening => return Some((Either::Left(stream), opening)),
        }
        let mut stream = match security.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => {
                info!(%error, %peer, "no encrypted connection came about");
                return None;
            }
        };
        let opening = match negotiate(&mut stream, input, Encryption::On).await {
            Ok(Opening::Session(_)) if number > self.max_connections => Err(too_many_connections()),
            Ok(Opening::Session(params)) => {
                match self.authenticate(security, &mut stream, input, &params.user).await {
                    Ok(Some(())) => Ok(Opening::Session(params)),
                    Ok(None) => return None,
                    Err(error) => {
                        info!(%peer, user = params.user, error = &*error.message, "client was not let in");
                        Err(error)
                    }
                }
            }
            opening => opening,
        };
        Some((Either::Right(stream), opening))
    }

    /// Lets the user in with a certificate of that name, or with the password.
    async fn authenticate<S: SqlStream>(
        &self,
        security: &PgSecurity,
        stream: &mut TlsStream<S>,
        input: &mut BytesMut,
        user: &str,
    ) -> Result<Option<()>, SqlError> {
        let role = self.sessions.role(user).await?;
        if certified_user(stream).is_some_and(|name| name == user) {
            return match role {
                Some(_) => Ok(Some(())),
                None => Err(SqlError::new(
                    SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                    format!("role \"{user}\" does not exist"),
                )),
            };
        }
        let verifier = role.as_ref().and_then(|r| r.verifier.as_deref());
        auth::authenticate(stream, input, security, user, verifier).await
    }

    async fn session<R, W>(
        &self,
        reader: R,
        mut sink: WireSink<W>,
        peer: SocketAddr,
        mut params: SessionParams,
        input: BytesMut,
    ) where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin + Send,
    {
        let pid = self.cancels.next_pid();
        params.client_address = Some(peer);
        params.backend_pid = pid;
        let mut session = match self.sessions.open(params).await {
            Ok(session) => session,
            Err(error) => return sink.fatal(&error).await,
        };
        let registered = self.cancels.register(pid, session.cancel_handle());
        greet(&mut sink, &session, registered.pid, registered.secret);
        if sink.flush().await.is_ok() {
            let shutdown = self.shutdown.clone().cancelled_owned();
            let mut connection = Connection::new(reader, sink, &mut session, input);
            // A bug in one statement ends one session, with an answer; the panic hook has reported the place.
            if AssertUnwindSafe(connection.run(shutdown)).catch_unwind().await.is_err() {
                connection.abandon().await;
            }
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
