//! What a statement has sent, as one number.
//!
//! A transaction that is run again unnoticed must answer what it answered before. [`Digesting`] stands between
//! a statement and the edge's sink and digests every byte that the statement appends, however often the buffer is sent
//! meanwhile. Run again, the statement writes into the same sink, and what it wrote is digested and dropped. Digests are
//! 64 bits of SipHash: two different answers pass for the same once in 2^64.
//!
//! Invariant: bytes below `from` are in `hash`; those from it on are still in the buffer.

use std::hash::{DefaultHasher, Hasher};

use async_trait::async_trait;
use meridian_datum::{Batch, EvalContext, SqlError};

use crate::api::{CommandTag, CopyHeader, ResultSink, RowDescription, Severity, SinkClosed};

/// A sink that digests what passes through it.
pub(crate) struct Digesting<'a> {
    inner: &'a mut dyn ResultSink,
    from: u64,
    /// Fed byte by byte in effect: where the buffer was sent in between makes no difference.
    hash: DefaultHasher,
    is_rehearsal: bool,
}

impl<'a> Digesting<'a> {
    /// What is sent for the first time: everything goes on to the edge.
    pub(crate) fn recording(inner: &'a mut dyn ResultSink) -> Self {
        let from = inner.position();
        Digesting { inner, from, hash: DefaultHasher::new(), is_rehearsal: false }
    }

    /// What was sent before: nothing goes on.
    pub(crate) fn rehearsing(inner: &'a mut dyn ResultSink) -> Self {
        Digesting { is_rehearsal: true, ..Digesting::recording(inner) }
    }

    fn fold(&mut self) {
        self.hash.write(self.inner.appended(self.from).expect("what is not digested is still buffered"));
        if self.is_rehearsal {
            let dropped = self.inner.rewind(self.from);
            assert!(dropped, "nothing is sent while a statement is rehearsed");
        }
        self.from = self.inner.position();
    }

    /// The digest of all that was sent, and of how it ended.
    pub(crate) fn finish<T>(mut self, result: &Result<T, SqlError>) -> u64 {
        self.fold();
        if let Err(e) = result {
            self.hash.write(e.state.code().as_bytes());
            self.hash.write(e.message.as_bytes());
            self.hash.write(e.detail.as_deref().unwrap_or("").as_bytes());
        }
        self.hash.finish()
    }
}

/// The digest of an answer that is no error.
pub(crate) fn digest_of(sent: &[u8]) -> u64 {
    let mut hash = DefaultHasher::new();
    hash.write(sent);
    hash.finish()
}

#[async_trait]
impl ResultSink for Digesting<'_> {
    fn describe(&mut self, rows: &RowDescription) {
        self.inner.describe(rows);
    }

    fn batch(&mut self, rows: &RowDescription, batch: &Batch, context: &EvalContext) -> Result<(), SqlError> {
        self.inner.batch(rows, batch, context)
    }

    fn complete(&mut self, tag: CommandTag) {
        self.inner.complete(tag);
    }

    fn empty_query(&mut self) {
        self.inner.empty_query();
    }

    fn suspended(&mut self) {
        self.inner.suspended();
    }

    fn notice(&mut self, severity: Severity, notice: &SqlError) {
        self.inner.notice(severity, notice);
    }

    fn parameter_status(&mut self, name: &str, value: &str) {
        self.inner.parameter_status(name, value);
    }

    fn copy_in(&mut self, header: CopyHeader) {
        self.inner.copy_in(header);
    }

    fn copy_out(&mut self, header: CopyHeader) {
        self.inner.copy_out(header);
    }

    fn copy_data(&mut self, data: &[u8]) {
        self.inner.copy_data(data);
    }

    fn copy_out_done(&mut self) {
        self.inner.copy_out_done();
    }

    fn position(&self) -> u64 {
        self.inner.position()
    }

    fn rewind(&mut self, position: u64) -> bool {
        position >= self.from && self.inner.rewind(position)
    }

    fn appended(&self, position: u64) -> Option<&[u8]> {
        self.inner.appended(position)
    }

    fn is_full(&self) -> bool {
        self.inner.is_full()
    }

    async fn flush(&mut self) -> Result<(), SinkClosed> {
        self.fold();
        if !self.is_rehearsal {
            self.inner.flush().await?;
            self.from = self.inner.position();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::TextSink;

    async fn digest(flush_after: usize) -> u64 {
        let mut sink = TextSink::default();
        sink.complete(CommandTag::Plain("before"));
        let mut digesting = Digesting::recording(&mut sink);
        for n in 0..5 {
            digesting.complete(CommandTag::Select(n));
            if n as usize == flush_after {
                digesting.flush().await.unwrap();
            }
        }
        digesting.finish(&Ok(()))
    }

    #[tokio::test]
    async fn the_digest_does_not_depend_on_when_the_buffer_was_sent() {
        let whole = digest(usize::MAX).await;
        for n in 0..5 {
            assert_eq!(digest(n).await, whole, "sent after message {n}");
        }
    }

    #[tokio::test]
    async fn a_rehearsal_sends_nothing_and_digests_the_same() {
        let mut sink = TextSink::default();
        sink.complete(CommandTag::Plain("before"));
        let before = sink.out.clone();
        let mut rehearsal = Digesting::rehearsing(&mut sink);
        for n in 0..5 {
            rehearsal.complete(CommandTag::Select(n));
            rehearsal.flush().await.unwrap();
        }
        assert_eq!(rehearsal.finish(&Ok(())), digest(usize::MAX).await);
        assert_eq!((sink.out, sink.flushed), (before, 0));
    }

    #[tokio::test]
    async fn different_answers_have_different_digests() {
        let outcomes = [Ok(()), Err(SqlError::unsupported("this")), Err(SqlError::unsupported("that"))];
        let digests = outcomes.map(|o| Digesting::recording(&mut TextSink::default()).finish(&o));
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
    }
}
