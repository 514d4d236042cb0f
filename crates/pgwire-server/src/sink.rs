//! Where a session's results become protocol messages.

use async_trait::async_trait;
use bytes::{BufMut, BytesMut};
use meridian_datum::{Batch, EvalContext, SqlError};
use meridian_session::{
    CommandTag, CopyHeader, ResultSink, RowDescription, Severity, SinkClosed, TransactionStatus,
};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::encode;
use crate::errors::{write_error, write_notice};

/// A producer is asked to flush above this many buffered bytes, so that a large result streams.
const FULL_BYTES: usize = 256 << 10;

/// A buffer that grew beyond this for one result is given back afterwards.
const KEEP_BYTES: usize = 64 << 10;

/// The output side of a connection.
pub(crate) struct WireSink<W> {
    writer: W,
    buffer: BytesMut,
    flushed: u64,
}

impl<W: AsyncWrite + Unpin + Send> WireSink<W> {
    pub(crate) fn new(writer: W) -> Self {
        WireSink { writer, buffer: BytesMut::with_capacity(4096), flushed: 0 }
    }

    /// The buffer, for messages that no session produces.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    pub(crate) fn error(&mut self, error: &SqlError) {
        write_error(&mut self.buffer, "ERROR", error);
    }

    pub(crate) fn ready(&mut self, status: TransactionStatus) {
        self.buffer.put_slice(&[b'Z', 0, 0, 0, 5, status.byte()]);
    }

    /// Sends an error after which the connection ends, ignoring a client that is gone.
    pub(crate) async fn fatal(&mut self, error: &SqlError) {
        write_error(&mut self.buffer, "FATAL", error);
        let _gone = ResultSink::flush(self).await;
        let _gone = self.writer.shutdown().await;
    }
}

#[async_trait]
impl<W: AsyncWrite + Unpin + Send> ResultSink for WireSink<W> {
    fn describe(&mut self, rows: &RowDescription) {
        encode::row_description(&mut self.buffer, rows);
    }

    fn batch(&mut self, rows: &RowDescription, batch: &Batch, context: &EvalContext) -> Result<(), SqlError> {
        encode::data_rows(&mut self.buffer, rows, batch, context)
    }

    fn complete(&mut self, tag: CommandTag) {
        let start = encode::begin(&mut self.buffer, b'C');
        tag.write(&mut self.buffer).expect("a buffer takes any tag");
        self.buffer.put_u8(0);
        encode::end(&mut self.buffer, start);
    }

    fn empty_query(&mut self) {
        encode::empty(&mut self.buffer, b'I');
    }

    fn suspended(&mut self) {
        encode::empty(&mut self.buffer, b's');
    }

    fn notice(&mut self, severity: Severity, notice: &SqlError) {
        write_notice(&mut self.buffer, severity.name(), notice);
    }

    fn parameter_status(&mut self, name: &str, value: &str) {
        let start = encode::begin(&mut self.buffer, b'S');
        encode::cstring(&mut self.buffer, name);
        encode::cstring(&mut self.buffer, value);
        encode::end(&mut self.buffer, start);
    }

    fn copy_in(&mut self, header: CopyHeader) {
        copy_response(&mut self.buffer, b'G', header);
    }

    fn copy_out(&mut self, header: CopyHeader) {
        copy_response(&mut self.buffer, b'H', header);
    }

    fn copy_data(&mut self, data: &[u8]) {
        let start = encode::begin(&mut self.buffer, b'd');
        self.buffer.put_slice(data);
        encode::end(&mut self.buffer, start);
    }

    fn copy_out_done(&mut self) {
        encode::empty(&mut self.buffer, b'c');
    }

    fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    fn rewind(&mut self, position: u64) -> bool {
        let Some(keep) = position.checked_sub(self.flushed) else { return false };
        assert!(keep <= self.buffer.len() as u64, "rewind to a position that was never reached");
        self.buffer.truncate(keep as usize);
        true
    }

    fn appended(&self, position: u64) -> Option<&[u8]> {
        let from = position.checked_sub(self.flushed)?;
        Some(&self.buffer[from as usize..])
    }

    fn is_full(&self) -> bool {
        self.buffer.len() >= FULL_BYTES
    }

    async fn flush(&mut self) -> Result<(), SinkClosed> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.writer.write_all(&self.buffer).await.map_err(|_| SinkClosed)?;
        self.flushed += self.buffer.len() as u64;
        if self.buffer.capacity() > KEEP_BYTES {
            self.buffer = BytesMut::with_capacity(4096);
        } else {
            self.buffer.clear();
        }
        Ok(())
    }
}

fn copy_response(out: &mut BytesMut, tag: u8, header: CopyHeader) {
    let start = encode::begin(out, tag);
    let format = u8::from(header.is_binary);
    out.put_u8(format);
    out.put_u16(header.columns);
    for _ in 0..header.columns {
        out.put_u16(u16::from(format));
    }
    encode::end(out, start);
}
