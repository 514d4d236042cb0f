//! What the wire edge sees of a session: requests in, rows out.
//!
//! The edge decodes protocol messages and calls one method of [`Session`](crate::Session) per message; the session
//! drives the executor and hands typed batches to a [`ResultSink`], which encodes them straight into the connection's
//! buffer. No row is boxed and no value is turned into a string on the way.
//!
//! # Calls
//!
//! ```text
//! let factory = SessionFactory::new(kv, cluster, catalog, ServerSettings::default());
//! let mut session = factory.open(SessionParams { .. }).await?;        // FATAL error -> ErrorResponse and close
//! session.parameter_status(|name, value| ..);                     // ParameterStatus messages of start-up
//! let cancel = session.cancel_handle();                           // CancelRequest calls cancel.cancel()
//!
//! Query            session.simple_query(sql, &mut sink).await     -> Result<Flow>, then ReadyForQuery(status)
//! Parse            session.parse(name, sql, &param_oids).await    -> Result<()>
//! Bind             session.bind(portal, statement, BindParams{..}).await -> Result<()>
//! Describe 'S'     session.describe_statement(name)               -> Result<StatementDescription>
//! Describe 'P'     session.describe_portal(name)                  -> Result<Option<Arc<RowDescription>>>
//! Execute          session.execute(portal, max_rows, &mut sink).await -> Result<Flow>
//! Close            session.close_statement(name) / session.close_portal(name)
//! Sync             session.sync(&mut sink).await                  -> Result<()>, then ReadyForQuery(status)
//! CopyData         session.copy_data(&bytes, &mut sink).await     -> Result<()>
//! CopyDone         session.copy_done(&mut sink).await             -> Result<Flow>
//! CopyFail         session.copy_fail(&message, &mut sink).await   -> Result<Flow> (always an error: 57014)
//! Terminate, EOF   session.terminate().await
//! ```
//!
//! Every method that fails has already put the transaction block in its failed state (or ended the implicit
//! transaction); the edge sends the ErrorResponse and, in the extended protocol, skips to Sync. After an error of
//! `simple_query`, `copy_data` (in a simple query) or `copy_done` it sends ReadyForQuery with [`Session::status`].
//!
//! [`Flow::CopyIn`] means that [`ResultSink::copy_in`] was called and the client will send data: the edge flushes and
//! feeds CopyData; `copy_done` goes on with the rest of the query string.
//!
//! # Commit and Sync
//! Statements outside a block between two Syncs are one implicit transaction, which `sync` commits; that is where a
//! conflict may still surface. The session then runs the statement again and needs the sink to forget what it wrote:
//! [`ResultSink::position`] and [`ResultSink::rewind`].

use std::sync::Arc;

use async_trait::async_trait;
use meridian_datum::{Batch, DataType, EvalContext, SqlError};

/// How a session begins.
#[derive(Clone, Debug, Default)]
pub struct SessionParams {
    /// The role, already authenticated.
    pub user: String,
    /// The database.
    pub database: String,
    /// `application_name`, `client_encoding`, `options` and the other settings of the start-up packet, as sent.
    pub settings: Vec<(String, String)>,
    /// The peer, for `meridian.sessions` and `inet_client_addr()`.
    pub client_address: Option<std::net::SocketAddr>,
    /// `BackendKeyData`'s process id, for `pg_backend_pid()`.
    pub backend_pid: i32,
}

/// The byte of ReadyForQuery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionStatus {
    /// `I`
    Idle,
    /// `T`
    InBlock,
    /// `E`
    Failed,
}

impl TransactionStatus {
    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            TransactionStatus::Idle => b'I',
            TransactionStatus::InBlock => b'T',
            TransactionStatus::Failed => b'E',
        }
    }
}

/// The encoding of a value on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// Text, code 0.
    #[default]
    Text,
    /// Binary, code 1.
    Binary,
}

/// One column of a result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name.
    pub name: Arc<str>,
    /// The table that the column comes from, or 0.
    pub table_oid: u32,
    /// The column's number in that table, or 0.
    pub column_number: i16,
    /// Its type; `oid()`, `len()` and `type_modifier()` give the rest of RowDescription.
    pub data_type: DataType,
    /// Its encoding.
    pub format: Format,
}

/// The columns of a result.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowDescription {
    /// In order.
    pub fields: Vec<Field>,
}

/// The answer to Describe of a statement.
#[derive(Clone, Debug)]
pub struct StatementDescription {
    /// Parameter types in order.
    pub parameters: Arc<[DataType]>,
    /// The columns (formats are all text), or `None` for NoData.
    pub rows: Option<Arc<RowDescription>>,
}

/// What Bind carries.
#[derive(Clone, Copy, Debug)]
pub struct BindParams<'a> {
    /// None (all text), one (for all), or one per parameter.
    pub parameter_formats: &'a [Format],
    /// The values, as sent; `None` is NULL.
    pub parameters: &'a [Option<&'a [u8]>],
    /// None (all text), one (for all), or one per column.
    pub result_formats: &'a [Format],
}

/// The tag of CommandComplete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandTag {
    /// `SELECT n`
    Select(u64),
    /// `INSERT 0 n`
    Insert(u64),
    /// `UPDATE n`
    Update(u64),
    /// `DELETE n`
    Delete(u64),
    /// `COPY n`
    Copy(u64),
    /// `FETCH n`
    Fetch(u64),
    /// `MOVE n`
    Move(u64),
    /// A tag without a count: `BEGIN`, `CREATE TABLE`.
    Plain(&'static str),
}

impl CommandTag {
    /// The count, where there is one.
    pub fn rows(self) -> u64 {
        match self {
            CommandTag::Select(n)
            | CommandTag::Insert(n)
            | CommandTag::Update(n)
            | CommandTag::Delete(n)
            | CommandTag::Copy(n)
            | CommandTag::Fetch(n)
            | CommandTag::Move(n) => n,
            CommandTag::Plain(_) => 0,
        }
    }

    /// Appends the tag's text.
    pub fn write(self, out: &mut impl std::fmt::Write) -> std::fmt::Result {
        match self {
            CommandTag::Select(n) => write!(out, "SELECT {n}"),
            CommandTag::Insert(n) => write!(out, "INSERT 0 {n}"),
            CommandTag::Update(n) => write!(out, "UPDATE {n}"),
            CommandTag::Delete(n) => write!(out, "DELETE {n}"),
            CommandTag::Copy(n) => write!(out, "COPY {n}"),
            CommandTag::Fetch(n) => write!(out, "FETCH {n}"),
            CommandTag::Move(n) => write!(out, "MOVE {n}"),
            CommandTag::Plain(s) => out.write_str(s),
        }
    }
}

impl std::fmt::Display for CommandTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.write(f)
    }
}

/// How loud a notice is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// `NOTICE`
    Notice,
    /// `WARNING`
    Warning,
    /// `INFO`
    Info,
}

impl Severity {
    /// As in NoticeResponse's fields S and V.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
            Severity::Info => "INFO",
        }
    }
}

/// The header of CopyInResponse and CopyOutResponse. The overall format and those of all columns are the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyHeader {
    /// How many columns.
    pub columns: u16,
    /// The binary format.
    pub is_binary: bool,
}

/// What a statement needs of the edge next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// The request is answered.
    Done,
    /// The client was told to send COPY data.
    CopyIn,
}

/// The client went away while results were being sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the client closed the connection")]
pub struct SinkClosed;

/// Where results go. The methods but `flush` append protocol messages to a buffer and return at once.
#[async_trait]
pub trait ResultSink: Send {
    /// RowDescription. Called in simple queries only; in the extended protocol the client asks with Describe.
    fn describe(&mut self, rows: &RowDescription);

    /// DataRows. `rows` has one field per column of `batch`, with the format that the client asked for; `context` has
    /// the session's time zone and output settings.
    ///
    /// # Errors
    /// A value that cannot be encoded; it fails the statement.
    fn batch(&mut self, rows: &RowDescription, batch: &Batch, context: &EvalContext) -> Result<(), SqlError>;

    /// CommandComplete.
    fn complete(&mut self, tag: CommandTag);

    /// EmptyQueryResponse.
    fn empty_query(&mut self);

    /// PortalSuspended.
    fn suspended(&mut self);

    /// NoticeResponse with the fields of an error.
    fn notice(&mut self, severity: Severity, notice: &SqlError);

    /// ParameterStatus.
    fn parameter_status(&mut self, name: &str, value: &str);

    /// CopyInResponse.
    fn copy_in(&mut self, header: CopyHeader);

    /// CopyOutResponse.
    fn copy_out(&mut self, header: CopyHeader);

    /// CopyData: whole lines.
    fn copy_data(&mut self, data: &[u8]);

    /// CopyDone of COPY TO.
    fn copy_out_done(&mut self);

    /// Bytes appended since the connection began, flushed ones included.
    fn position(&self) -> u64;

    /// Drops what was appended from `position` on. False, and nothing dropped, when a part of it has been flushed:
    /// the statement can then not be run again unnoticed.
    fn rewind(&mut self, position: u64) -> bool;

    /// The bytes appended from `position` on: when a transaction is run again, a digest of them is compared. `None` when a part
    /// of them has been flushed.
    fn appended(&self, position: u64) -> Option<&[u8]>;

    /// True when so much is buffered that the producer should call [`ResultSink::flush`] before it goes on.
    fn is_full(&self) -> bool;

    /// Sends the buffer, waiting for the client to take it.
    ///
    /// # Errors
    /// The client is gone.
    async fn flush(&mut self) -> Result<(), SinkClosed>;
}
