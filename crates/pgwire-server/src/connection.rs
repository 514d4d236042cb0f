//! One connection: a loop over its messages.

use bytes::BytesMut;
use meridian_datum::{SqlError, SqlState};
use meridian_session::{BindParams, Flow, Format, ResultSink, Session, TransactionStatus};
use pgwire::messages::PgWireFrontendMessage as Message;
use pgwire::messages::extendedquery::{Bind, Close, Describe, Execute, Parse};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use crate::encode;
use crate::errors::protocol_violation;
use crate::frames::{FrameError, Frames};
use crate::sink::WireSink;

/// What the connection expects next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Any message.
    Normal,
    /// After an error in the extended protocol: everything up to Sync is skipped.
    SkipToSync,
    /// COPY FROM STDIN of a simple query: at the end ReadyForQuery follows.
    CopySimple,
    /// COPY FROM STDIN of the extended protocol: at the end the client sends Sync.
    CopyExtended,
}

/// How the loop goes on after a message.
enum Next {
    Continue,
    Close,
}

/// A connection after start-up.
pub(crate) struct Connection<'s, R, W> {
    reader: R,
    sink: WireSink<W>,
    session: &'s mut Session,
    input: BytesMut,
    frames: Frames,
    mode: Mode,
    /// While the client has been told to go on and has not: until when it may be silent, and what comes then.
    idle: Option<(Instant, SqlError)>,
}

impl<'s, R, W> Connection<'s, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send,
{
    pub(crate) fn new(reader: R, sink: WireSink<W>, session: &'s mut Session, input: BytesMut) -> Self {
        Connection { reader, sink, session, input, frames: Frames::new(), mode: Mode::Normal, idle: None }
    }

    /// Serves the client until it leaves, breaks the protocol, or `shutdown` resolves while the session is idle.
    pub(crate) async fn run(&mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        self.rest();
        loop {
            let message = match self.frames.next(&mut self.input) {
                Ok(Some(message)) => message,
                Ok(None) => {
                    // Input is used up: whatever was answered so far may go, unless a Sync is still to come.
                    let silence = self.idle.as_ref().map(|(until, _)| *until);
                    let read = self.reader.read_buf(&mut self.input);
                    tokio::select! {
                        biased;
                        n = read => match n {
                            Ok(0) | Err(_) => return,
                            Ok(_) => continue,
                        },
                        () = &mut shutdown => {
                            self.sink.fatal(&admin_shutdown()).await;
                            return;
                        }
                        () = silent_until(silence) => {
                            let (_, error) = self.idle.take().expect("silence has an end");
                            self.sink.fatal(&error).await;
                            return;
                        }
                    }
                }
                Err(FrameError::BadBody { tag, error }) => match self.refuse(tag, error).await {
                    Next::Continue => continue,
                    Next::Close => return,
                },
                Err(FrameError::Broken(error)) => {
                    self.sink.fatal(&error).await;
                    return;
                }
            };
            self.idle = None;
            match self.handle(message).await {
                Next::Continue => {}
                Next::Close => return,
            }
        }
    }

    /// Tells the client that the session has broken.
    pub(crate) async fn abandon(&mut self) {
        self.sink.fatal(&SqlError::internal("the session met an internal error and ends")).await;
    }

    /// A message whose inside is wrong fails as a statement does: in the extended protocol until Sync, otherwise at once.
    async fn refuse(&mut self, tag: u8, error: SqlError) -> Next {
        self.idle = None;
        match self.mode {
            Mode::CopySimple | Mode::CopyExtended => {
                self.session.refuse().await;
                return self.end_copy(Err(error)).await;
            }
            // Sync ends the skipping before its inside is looked at.
            Mode::SkipToSync if tag != b'S' => return Next::Continue,
            Mode::SkipToSync | Mode::Normal => {}
        }
        self.session.refuse().await;
        self.sink.error(&error);
        if matches!(tag, b'P' | b'B' | b'E' | b'D' | b'C' | b'H') {
            self.mode = Mode::SkipToSync;
            return if self.flush_failed().await { Next::Close } else { Next::Continue };
        }
        self.mode = Mode::Normal;
        self.finish().await
    }

    async fn flush_failed(&mut self) -> bool {
        self.sink.flush().await.is_err()
    }

    async fn handle(&mut self, message: Message) -> Next {
        match (self.mode, message) {
            (_, Message::Terminate(_)) => return Next::Close,
            (Mode::CopySimple | Mode::CopyExtended, message) => return self.handle_copy(message).await,
            (_, Message::Sync(_)) => {
                self.mode = Mode::Normal;
                if let Err(error) = self.session.sync(&mut self.sink).await {
                    self.sink.error(&error);
                }
                return self.finish().await;
            }
            (Mode::SkipToSync, _) => {}
            // Left over from a COPY that failed: the client had not heard of it yet.
            (Mode::Normal, Message::CopyData(_) | Message::CopyDone(_) | Message::CopyFail(_)) => {}
            (Mode::Normal, Message::Query(query)) => {
                let result = self.session.simple_query(&query.query, &mut self.sink).await;
                return self.after_simple(result).await;
            }
            (Mode::Normal, Message::Flush(_)) => {
                if self.flush_failed().await {
                    return Next::Close;
                }
            }
            (Mode::Normal, message) => {
                let result = self.extended(message).await;
                // An error goes out at once, as in PostgreSQL: a client may wait for an answer before it sends Sync.
                let failed = result.is_err();
                if let Err(error) = result {
                    self.sink.error(&error);
                    self.mode = Mode::SkipToSync;
                }
                if (failed || self.sink.is_full()) && self.flush_failed().await {
                    return Next::Close;
                }
            }
        }
        Next::Continue
    }

    /// The messages of the extended protocol but Flush and Sync.
    async fn extended(&mut self, message: Message) -> Result<(), SqlError> {
        match message {
            Message::Parse(parse) => self.parse(parse).await,
            Message::Bind(bind) => self.bind(bind).await,
            Message::Describe(describe) => self.describe(&describe),
            Message::Execute(execute) => self.execute(&execute).await,
            Message::Close(close) => self.close(&close),
            Message::Query(_)
            | Message::Flush(_)
            | Message::Sync(_)
            | Message::Terminate(_)
            | Message::CopyData(_)
            | Message::CopyDone(_)
            | Message::CopyFail(_) => unreachable!("handled by the caller"),
            Message::SslNegotiation(_)
            | Message::Startup(_)
            | Message::CancelRequest(_)
            | Message::PasswordMessageFamily(_)
            | Message::PortalSuspended(_) => Err(protocol_violation("unexpected message after startup")),
        }
    }

    async fn parse(&mut self, parse: Parse) -> Result<(), SqlError> {
        let name = parse.name.as_deref().unwrap_or("");
        self.session.parse(name, &parse.query, &parse.type_oids).await?;
        encode::empty(self.sink.buffer(), b'1');
        Ok(())
    }

    async fn bind(&mut self, bind: Bind) -> Result<(), SqlError> {
        let parameter_formats = formats(&bind.parameter_format_codes)?;
        let result_formats = formats(&bind.result_column_format_codes)?;
        let parameters: Vec<Option<&[u8]>> = bind.parameters.iter().map(|p| p.as_deref()).collect();
        let params = BindParams {
            parameter_formats: &parameter_formats,
            parameters: &parameters,
            result_formats: &result_formats,
        };
        let portal = bind.portal_name.as_deref().unwrap_or("");
        let statement = bind.statement_name.as_deref().unwrap_or("");
        self.session.bind(portal, statement, params).await?;
        encode::empty(self.sink.buffer(), b'2');
        Ok(())
    }

    fn describe(&mut self, describe: &Describe) -> Result<(), SqlError> {
        use bytes::BufMut;
        let name = describe.name.as_deref().unwrap_or("");
        let rows = match describe.target_type {
            b'S' => {
                let description = self.session.describe_statement(name)?;
                let out = self.sink.buffer();
                let start = encode::begin(out, b't');
                out.put_u16(description.parameters.len() as u16);
                for data_type in description.parameters.iter() {
                    out.put_u32(data_type.oid());
                }
                encode::end(out, start);
                description.rows
            }
            b'P' => self.session.describe_portal(name)?,
            other => return Err(protocol_violation(format!("invalid DESCRIBE message subtype {other}"))),
        };
        match rows {
            Some(rows) => encode::row_description(self.sink.buffer(), &rows),
            None => encode::empty(self.sink.buffer(), b'n'),
        }
        Ok(())
    }

    async fn execute(&mut self, execute: &Execute) -> Result<(), SqlError> {
        let portal = execute.name.as_deref().unwrap_or("");
        // Zero and negative counts mean "all rows".
        let max_rows = u32::try_from(execute.max_rows).unwrap_or(0);
        match self.session.execute(portal, max_rows, &mut self.sink).await? {
            Flow::Done => {}
            Flow::CopyIn => {
                self.mode = Mode::CopyExtended;
                // The client waits for this before it sends data; when it is gone, the next read says so.
                let _gone = self.sink.flush().await;
            }
        }
        Ok(())
    }

    fn close(&mut self, close: &Close) -> Result<(), SqlError> {
        let name = close.name.as_deref().unwrap_or("");
        match close.target_type {
            b'S' => self.session.close_statement(name),
            b'P' => self.session.close_portal(name),
            other => return Err(protocol_violation(format!("invalid CLOSE message subtype {other}"))),
        }
        encode::empty(self.sink.buffer(), b'3');
        Ok(())
    }

    async fn handle_copy(&mut self, message: Message) -> Next {
        let result = match message {
            Message::CopyData(data) => match self.session.copy_data(&data.data, &mut self.sink).await {
                Ok(()) => return Next::Continue,
                Err(error) => Err(error),
            },
            Message::CopyDone(_) => self.session.copy_done(&mut self.sink).await,
            Message::CopyFail(fail) => self.session.copy_fail(&fail.message, &mut self.sink).await,
            // The protocol has the server ignore these while it copies.
            Message::Flush(_) | Message::Sync(_) => return Next::Continue,
            _ => {
                let error = protocol_violation("unexpected message type during COPY from stdin");
                self.session.refuse().await;
                Err(error)
            }
        };
        self.end_copy(result).await
    }

    /// COPY FROM STDIN has its end, or its error.
    async fn end_copy(&mut self, result: Result<Flow, SqlError>) -> Next {
        let simple = self.mode == Mode::CopySimple;
        self.mode = Mode::Normal;
        if simple {
            return self.after_simple(result).await;
        }
        match result {
            Ok(Flow::Done) => {}
            Ok(Flow::CopyIn) => self.mode = Mode::CopyExtended,
            Err(error) => {
                self.sink.error(&error);
                self.mode = Mode::SkipToSync;
            }
        }
        if self.flush_failed().await { Next::Close } else { Next::Continue }
    }

    async fn after_simple(&mut self, result: Result<Flow, SqlError>) -> Next {
        match result {
            Ok(Flow::Done) => {}
            Ok(Flow::CopyIn) => {
                self.mode = Mode::CopySimple;
                return if self.flush_failed().await { Next::Close } else { Next::Continue };
            }
            Err(error) => self.sink.error(&error),
        }
        self.finish().await
    }

    async fn finish(&mut self) -> Next {
        let status: TransactionStatus = self.session.status();
        self.sink.ready(status);
        self.rest();
        if self.flush_failed().await { Next::Close } else { Next::Continue }
    }

    /// The client is to move: the idle timeouts begin to count.
    fn rest(&mut self) {
        self.idle = self.session.idle_timeout().map(|(timeout, error)| (Instant::now() + timeout, error));
    }
}

async fn silent_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn formats(codes: &[i16]) -> Result<Vec<Format>, SqlError> {
    let format = |code: &i16| match code {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        other => {
            Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("unsupported format code: {other}")))
        }
    };
    codes.iter().map(format).collect()
}

fn admin_shutdown() -> SqlError {
    SqlError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}
