//! COPY FROM STDIN as the session sees it: data between the statement and its completion.
//!
//! What the client sends is kept (`copied`) while the transaction can be run again. When the copy meets a conflict, what
//! came before it in its transaction is run again, and the data fed again; when it has ended, it is a step of the journal.
//! Rows are parsed and written in the same order however the data is cut, so that the same data meets the same error.

use meridian_datum::{SqlError, SqlState};
use meridian_exec::copy::CopyIn;
use meridian_exec::is_retry;

use crate::api::{CommandTag, Flow, ResultSink};
use crate::copied::Copied;
use crate::digest::Digesting;
use crate::journal::{Action, Call, Ending, Lost, Seed, Step};
use crate::session::Session;

/// A copy under way, as it would be made again.
pub(crate) struct KeptCopy {
    call: Call,
    seed: Seed,
    data: Copied,
    /// How many bytes may be kept.
    limit: usize,
}

fn not_copying() -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, "COPY data was sent without COPY")
}

impl Session {
    /// A COPY has begun that is a step of the journal.
    pub(crate) fn keep_copy(&mut self, call: Call, seed: Seed) {
        let data = Copied::new(self.shared.copied.clone());
        let limit = self.settings.lock().effective().copy_retry_limit;
        let earlier = self.transaction.as_ref().map_or(0, |t| t.journal.copied_bytes());
        let limit = limit.saturating_sub(earlier);
        self.copy.as_mut().expect("COPY has begun").kept = Some(KeptCopy { call, seed, data, limit });
    }

    /// CopyData.
    ///
    /// # Errors
    /// What the rows fail with. In a simple query the edge then sends the error and ReadyForQuery, and drops the rest of
    /// the data; in the extended protocol it skips to Sync.
    pub async fn copy_data(&mut self, data: &[u8], sink: &mut dyn ResultSink) -> Result<(), SqlError> {
        self.keep_data(data);
        let Some(copy) = &mut self.copy else { return Err(not_copying()) };
        let mut result = copy.input.feed(data).await;
        if let Err(e) = result {
            result = Err(self.confirmed(e).await);
        }
        if result.as_ref().is_err_and(is_retry) {
            result = Box::pin(self.go_on_after_conflict(result, sink)).await;
        }
        if let Err(e) = &result {
            let kept = self.copy.as_mut().and_then(|copy| copy.kept.take());
            self.note_copy(kept, Err(e), sink);
            self.note_error(e);
            self.fail().await;
            self.note_idle();
        }
        result
    }

    /// Keeps a piece, or gives up keeping.
    fn keep_data(&mut self, data: &[u8]) {
        let Some(copy) = &mut self.copy else { return };
        let Some(kept) = &mut copy.kept else { return };
        if !kept.data.push(data, kept.limit) {
            copy.kept = None;
            self.lose_journal(Lost::CopyTooLong);
        }
    }

    /// The copy under way met a conflict: it is made again with what has come so far.
    async fn go_on_after_conflict(
        &mut self,
        result: Result<(), SqlError>,
        sink: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let mut copy = self.copy.take().expect("COPY is under way");
        let result = match (result, &copy.kept) {
            (Err(conflict), Some(kept)) => self.copy_again(conflict, kept, sink).await,
            (result, _) => return self.explain(result),
        };
        // Even when it fails: what it had copied is the step that failed.
        let result = result.map(|input| copy.input = input);
        self.copy = Some(copy);
        result
    }

    /// The end of a copy, which is made again where it met a conflict.
    async fn finish_copy(
        &mut self,
        mut finished: Result<u64, SqlError>,
        kept: &KeptCopy,
        sink: &mut dyn ResultSink,
    ) -> Result<u64, SqlError> {
        loop {
            match finished {
                Err(e) if is_retry(&e) => {
                    let input = self.copy_again(e, kept, sink).await?;
                    finished = input.finish().await;
                    if let Err(e) = finished {
                        finished = Err(self.confirmed(e).await);
                    }
                }
                other => return other,
            }
        }
    }

    /// Runs the transaction again, and the copy under way up to where it was.
    async fn copy_again(
        &mut self,
        mut conflict: SqlError,
        kept: &KeptCopy,
        sink: &mut dyn ResultSink,
    ) -> Result<CopyIn, SqlError> {
        loop {
            kept.call.plan.note_retry();
            self.run_block_again(conflict, sink).await?;
            match self.copy_in_again(&kept.call, kept.seed, &kept.data, sink).await {
                Ok(input) => return Ok(input),
                Err(e) => match self.confirmed(e).await {
                    e if is_retry(&e) => conflict = e,
                    e => return Err(e),
                },
            }
        }
    }

    /// Begins a copy that was begun before, and feeds it what was kept. The client is not asked for data again.
    pub(crate) async fn copy_in_again(
        &mut self,
        call: &Call,
        seed: Seed,
        data: &Copied,
        sink: &mut dyn ResultSink,
    ) -> Result<CopyIn, SqlError> {
        let plan = self.refresh(&call.plan)?;
        let call = Call { plan, ..call.clone() };
        let mut dropped = Digesting::rehearsing(sink);
        let begun = self.run_call(&call, seed, &mut dropped).await;
        dropped.finish(&begun);
        begun?;
        let mut input = self.copy.take().expect("COPY has begun").input;
        for piece in data.pieces() {
            input.feed(piece).await?;
        }
        Ok(input)
    }

    /// CopyDone: completes the COPY and goes on with the query string.
    ///
    /// # Errors
    /// What the last rows or the following statements fail with.
    pub async fn copy_done(&mut self, sink: &mut dyn ResultSink) -> Result<Flow, SqlError> {
        let Some(copy) = self.copy.take() else { return Err(not_copying()) };
        let (kept, rest, is_simple) = (copy.kept, copy.rest, copy.is_simple);
        let mut finished = Box::pin(copy.input.finish()).await;
        if let Err(e) = finished {
            finished = Err(self.confirmed(e).await);
        }
        let result = match &kept {
            Some(kept) => Box::pin(self.finish_copy(finished, kept, sink)).await,
            None => self.explain(finished),
        };
        self.note_copy(kept, result.as_ref().copied(), sink);
        let result = match result {
            Ok(_) if rest.is_empty() => Ok(Flow::Done),
            Ok(_) => Box::pin(self.run_several(rest, sink)).await,
            Err(e) => Err(e),
        };
        if is_simple {
            return self.end_request(result, sink).await;
        }
        if let Err(e) = &result {
            self.note_error(e);
            self.fail().await;
        }
        result
    }

    /// A copy has ended: tells the client how many rows it was, and the journal how it came about.
    fn note_copy(
        &mut self,
        kept: Option<KeptCopy>,
        result: Result<u64, &SqlError>,
        sink: &mut dyn ResultSink,
    ) {
        let mut recording = Digesting::recording(sink);
        if let Ok(rows) = result {
            self.complete(&mut recording, CommandTag::Copy(rows));
        }
        let result = result.map_err(Clone::clone);
        let answer = recording.finish(&result);
        // A conflict is what running it again is for; it is no ending to be met again.
        if let Some(KeptCopy { call, seed, data, .. }) =
            kept.filter(|_| !result.as_ref().is_err_and(is_retry))
        {
            let ending = Ending::of(&result);
            self.note_step(Step { action: Action::Copy { call, data }, seed, answer, ending });
        }
    }

    /// CopyFail: always an error.
    ///
    /// # Errors
    /// 57014 with the client's words.
    pub async fn copy_fail(&mut self, message: &str, sink: &mut dyn ResultSink) -> Result<Flow, SqlError> {
        let error = SqlError::new(SqlState::QUERY_CANCELED, format!("COPY from stdin failed: {message}"));
        let kept = self.copy.take().and_then(|copy| copy.kept);
        self.note_copy(kept, Err(&error), sink);
        self.fail().await;
        self.note_idle();
        Err(error)
    }
}
