//! The edge where Postgres clients connect.
//!
//! The crate accepts connections, speaks protocol v3 and drives one [`meridian_session::Session`] per connection. It
//! knows nothing of SQL, transactions or storage. Message formats are the `pgwire` crate's; buffering and flushing are
//! ours, because its stock handlers flush after every message: here everything up to Sync (or the end of a simple
//! query) goes out in one packet.
//!
//! ```text
//!  socket -> Frames (length-checked, field-checked, decoded)
//!              -> Connection: one match over messages
//!                   -> Session::{simple_query, parse, bind, execute, sync, ...}
//!                        -> WireSink (ResultSink): DataRows written straight into the output buffer
//!  socket <- flush at Sync, Flush, end of a simple query, or when the buffer is full
//! ```
//!
//! With certificates, sessions are encrypted, and clients are known by a certificate of their own or by SCRAM-SHA-256
//! (`tls`, `auth`); without, anybody is let in.
//!
//! In the extended protocol an error makes the connection skip messages until Sync, as the protocol demands. A message
//! whose inside is wrong is such an error (08P01). After a frame whose length or type is wrong the stream can't be trusted
//! any more: that is answered and the connection closed; nothing else is harmed.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod auth;
mod bodies;
mod cancel;
mod connection;
pub mod encode;
mod errors;
mod frames;
mod server;
mod sink;
mod startup;
mod tls;

pub use server::{PgServer, PgServerOptions, PgService, SqlStream};
pub use tls::{CertificateError, PgSecurity};
