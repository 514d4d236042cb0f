//! Commit: who takes part, and the case in which only one shard does.
//!
//! ```text
//!   nothing written ----------------------> EndReads everywhere: did the read locks stand until now?
//!   one shard, read and written ----------> (Stage*) Commit
//!   several, or not before a given time --> (Stage*) `two_phase`
//! ```
//! Big writes may be staged ahead of the commit, so that what bounds its timestamp need not outlast the staging.

//! A shard that was asked for locks but never answered has told the transaction nothing: it takes no part, and is told
//! to forget.

use std::sync::Arc;

use futures::future::{join_all, try_join_all};
use futures::stream::{self, StreamExt, TryStreamExt};
use meridian_kv_api::{KvError, RetryReason, WriteBuffer, write_bytes};
use meridian_shard::{AbortReason, Outcome, Registration, Request, Response, ShardError, TxnRef, Write};
use meridian_types::{Key, Span, Timestamp, TxnId};

use crate::call::{Failure, Resend, Tries, unexpected};
use crate::gateway::Core;
use crate::limits::{CHUNK_BYTES, OUTCOME_WITHIN, STAGES_IN_FLIGHT};
use crate::patience::Patience;
use crate::router::Shard;
use crate::two_phase::TwoPhase;
use crate::txn::Touched;

/// Where the commit timestamp has to lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    pub(crate) min: Timestamp,
    pub(crate) max: Timestamp,
}

impl Bounds {
    /// Anywhere.
    pub(crate) const NONE: Bounds = Bounds { min: Timestamp::ZERO, max: Timestamp::MAX };
}

/// A shard's part in a commit.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) shard: Arc<Shard>,
    pub(crate) registration: Option<Registration>,
    /// A written key, by which the shard is found again; `None` where it was only read.
    pub(crate) key: Option<Key>,
    /// The writes that are not staged.
    pub(crate) writes: Vec<Write>,
    /// Their size.
    pub(crate) bytes: usize,
    /// Chunks staged.
    pub(crate) staged: u32,
}

impl Part {
    fn new(shard: Arc<Shard>, registration: Option<Registration>) -> Self {
        Part { shard, registration, key: None, writes: Vec::new(), bytes: 0, staged: 0 }
    }

    fn add(&mut self, mut writes: Vec<Write>) {
        self.bytes += writes.iter().map(|w| write_bytes(&w.key, w.value.as_ref())).sum::<usize>();
        if self.key.is_none() {
            self.key = writes.first().map(|w| w.key.clone());
        }
        if self.writes.is_empty() {
            self.writes = writes;
        } else {
            self.writes.append(&mut writes);
        }
    }

    /// True when its writes do not fit into one message.
    fn is_big(&self) -> bool {
        self.bytes > CHUNK_BYTES
    }

    pub(crate) fn txn(&self, id: TxnId) -> TxnRef {
        TxnRef { id, registration: self.registration }
    }

    pub(crate) fn touched(&self) -> Touched {
        Touched { shard: Arc::clone(&self.shard), registration: self.registration }
    }
}

/// A transaction whose big writes are staged.
#[derive(Debug)]
pub(crate) struct Sent {
    parts: Vec<Part>,
    unanswered: Vec<Touched>,
}

impl Core {
    /// Stages what a commit could not carry.
    pub(crate) async fn send_ahead(
        &self,
        id: TxnId,
        buffer: WriteBuffer,
        touched: impl IntoIterator<Item = Touched>,
        patience: &Patience,
    ) -> Result<Sent, KvError> {
        let (read, unanswered): (Vec<_>, Vec<_>) =
            touched.into_iter().partition(|t| t.registration.is_some());
        let writes = buffer.into_writes().map(|(key, value)| Write { key, value }).collect();
        let mut parts = self.parts(writes, &read, &mut Tries::new()).await?;
        for part in parts.iter().filter(|part| part.is_big()) {
            // Before it is asked: should nobody wait for the answer, it is told of the end.
            self.live.touch(id, part.touched());
        }
        try_join_all(parts.iter_mut().map(|part| self.stage(id, part, patience))).await?;
        Ok(Sent { parts, unanswered })
    }

    /// Ends a transaction whose big writes are staged.
    pub(crate) async fn commit_sent(
        self: &Arc<Core>,
        id: TxnId,
        sent: Sent,
        bounds: Bounds,
        patience: &Patience,
    ) -> Result<Timestamp, KvError> {
        let Sent { mut parts, unanswered } = sent;
        let result = self.commit_parts(id, &mut parts, bounds, patience).await;
        let result = result.map_err(|failure| self.give_up(id, &parts, failure));
        self.roll_back(id, unanswered);
        result
    }

    /// Ends a transaction with everything that it wrote taking effect, or nothing.
    pub(crate) async fn commit(
        self: &Arc<Core>,
        id: TxnId,
        buffer: WriteBuffer,
        touched: impl IntoIterator<Item = Touched>,
        bounds: Bounds,
        patience: &Patience,
    ) -> Result<Option<Timestamp>, KvError> {
        let (read, unanswered): (Vec<_>, Vec<_>) =
            touched.into_iter().partition(|t| t.registration.is_some());
        let result = if buffer.is_empty() {
            self.end_reads(id, &read, patience).await.map(|()| None)
        } else {
            let writes = buffer.into_writes().map(|(key, value)| Write { key, value }).collect();
            self.commit_writes(id, writes, &read, bounds, patience).await.map(Some)
        };
        self.roll_back(id, unanswered);
        result
    }

    async fn end_reads(&self, id: TxnId, read: &[Touched], patience: &Patience) -> Result<(), KvError> {
        let asks = read.iter().map(|Touched { shard, registration }| async {
            let txn = TxnRef { id, registration: *registration };
            let make = || Request::EndReads { txn };
            match self.ask(shard, &mut Tries::with(patience), Resend::Always, &make).await {
                Ok(_) => Ok(()),
                Err(failure) => Err(KvError::from(failure)),
            }
        });
        let ended: Result<(), KvError> = join_all(asks).await.into_iter().collect();
        if ended == Err(KvError::Stopped) {
            self.roll_back(id, read.iter().cloned());
        }
        ended
    }

    async fn commit_writes(
        self: &Arc<Core>,
        id: TxnId,
        mut writes: Vec<Write>,
        read: &[Touched],
        bounds: Bounds,
        patience: &Patience,
    ) -> Result<Timestamp, KvError> {
        let mut tries = Tries::with(patience);
        loop {
            let parts = patience.unless_stopped(self.parts(writes, read, &mut tries)).await;
            let mut parts = match parts {
                Ok(Ok(parts)) => parts,
                Ok(Err(error)) | Err(error) => {
                    self.roll_back(id, read.iter().cloned());
                    return Err(error);
                }
            };
            match (self.commit_parts(id, &mut parts, bounds, patience).await, &mut parts[..]) {
                (Ok(commit_ts), _) => return Ok(commit_ts),
                // Nothing was locked here before, so that nothing was lost by the move.
                (Err(Failure::Moved), [part]) if part.staged == 0 && part.registration.is_none() => {
                    tries.pause(self, "the shard of a commit keeps moving").await?;
                    writes = std::mem::take(&mut part.writes);
                }
                (Err(failure), _) => return Err(self.give_up(id, &parts, failure)),
            }
        }
    }

    /// Commits in one phase or in two, which leave no parts behind and tell the participants how it ended.
    async fn commit_parts(
        self: &Arc<Core>,
        id: TxnId,
        parts: &mut Vec<Part>,
        bounds: Bounds,
        patience: &Patience,
    ) -> Result<Timestamp, Failure> {
        // The second phase alone chooses a timestamp from a window.
        if let [part] = &mut parts[..]
            && bounds.min == Timestamp::ZERO
        {
            return self.commit_one(id, part, bounds.max, patience).await;
        }
        let parts = std::mem::take(parts);
        let two_phase = TwoPhase::new(Arc::clone(self), id, parts, bounds, patience.clone());
        // To the end even if the client goes: a participant left prepared blocks others until it recovers.
        self.detached(two_phase.run()).await.map_err(Failure::GaveUp)
    }

    /// The end of a commit that failed.
    fn give_up(&self, id: TxnId, parts: &[Part], failure: Failure) -> KvError {
        let error = KvError::from(failure);
        if error != KvError::Ambiguous {
            self.roll_back(id, parts.iter().map(Part::touched));
        }
        error
    }

    /// Groups the writes, which are in ascending order of key, by shard, and adds the shards that were only read.
    async fn parts(
        &self,
        writes: Vec<Write>,
        read: &[Touched],
        tries: &mut Tries,
    ) -> Result<Vec<Part>, KvError> {
        let known = |shard: &Shard| {
            read.iter().find(|t| t.shard.group() == shard.group()).and_then(|t| t.registration)
        };
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = writes;
        while let Some(first) = rest.first() {
            let route = self.route(&first.key, tries).await?;
            let end = rest.partition_point(|write| route.span.contains(write.key.as_bytes()));
            assert!(end > 0, "a key was routed to a span that does not hold it");
            let later = rest.split_off(end);
            let mine = std::mem::replace(&mut rest, later);
            match parts.iter_mut().find(|part| part.shard.group() == route.shard.group()) {
                Some(part) => part.add(mine),
                None => {
                    let mut part = Part::new(Arc::clone(&route.shard), known(&route.shard));
                    part.add(mine);
                    parts.push(part);
                }
            }
        }
        for touched in read {
            if parts.iter().all(|part| part.shard.group() != touched.shard.group()) {
                parts.push(Part::new(Arc::clone(&touched.shard), touched.registration));
            }
        }
        assert!(parts.iter().any(|part| part.key.is_some()), "a commit without writes has no parts");
        Ok(parts)
    }

    async fn commit_one(
        &self,
        id: TxnId,
        part: &mut Part,
        max_ts: Timestamp,
        patience: &Patience,
    ) -> Result<Timestamp, Failure> {
        self.stage(id, part, patience).await?;
        let make = || Request::Commit {
            txn: part.txn(id),
            writes: part.writes.clone(),
            staged_chunks: part.staged,
            max_ts,
        };
        let answer = self.ask(&part.shard, &mut Tries::with(patience), Resend::IfRefused, &make).await;
        let key = part.key.as_ref().expect("a shard that commits alone was written");
        self.committed(id, key, answer).await
    }

    /// What the answer to a `Commit` or `Decide` says, or, where it is missing, what the shard says afterwards.
    pub(crate) async fn committed(
        &self,
        id: TxnId,
        key: &Key,
        answer: Result<Response, Failure>,
    ) -> Result<Timestamp, Failure> {
        match answer {
            Ok(Response::Committed { commit_ts }) => Ok(commit_ts),
            Ok(other) => Err(Failure::GaveUp(unexpected("a commit", &other))),
            Err(Failure::Refused(ShardError::AlreadyDecided { outcome: Outcome::Committed(commit_ts) })) => {
                self.wait_past(commit_ts).await;
                Ok(commit_ts)
            }
            Err(Failure::Unanswered | Failure::Refused(ShardError::OutcomeUnknown)) => {
                let asked = tokio::time::timeout(OUTCOME_WITHIN, self.learn_outcome(id, key)).await;
                asked.unwrap_or(Err(Failure::GaveUp(KvError::Ambiguous)))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Asks how a transaction ended until somebody knows. Asking decides: a shard that has no record logs an abort.
    async fn learn_outcome(&self, id: TxnId, key: &Key) -> Result<Timestamp, Failure> {
        let mut tries = Tries::within(OUTCOME_WITHIN);
        let make = || Request::QueryOutcome { id, key: key.clone(), abort_unknown: true };
        loop {
            match self.ask_key(key, &mut tries, Resend::Always, &make).await {
                Ok(Response::Outcome(Some(Outcome::Committed(commit_ts)))) => {
                    // Whoever logged the commit may have died in its commit wait.
                    self.wait_past(commit_ts).await;
                    return Ok(commit_ts);
                }
                Ok(Response::Outcome(Some(Outcome::Aborted))) => {
                    return Err(Failure::Refused(ShardError::Aborted { reason: AbortReason::ByRecovery }));
                }
                Ok(Response::Outcome(None))
                | Err(Failure::Refused(_) | Failure::Moved | Failure::Unanswered) => {}
                Ok(other) => return Err(Failure::GaveUp(unexpected("QueryOutcome", &other))),
                Err(Failure::GaveUp(_)) => return Err(Failure::GaveUp(KvError::Ambiguous)),
            }
            if tries.pause(self, "the outcome of a commit is not known").await.is_err() {
                return Err(Failure::GaveUp(KvError::Ambiguous));
            }
        }
    }

    /// Replicates a big part's writes ahead of its commit, all but the last chunk of them. The first chunk goes alone
    /// where the shard does not know the transaction yet, since its answer has the registration for the others.
    pub(crate) async fn stage(&self, id: TxnId, part: &mut Part, patience: &Patience) -> Result<(), Failure> {
        if !part.is_big() || part.staged > 0 {
            return Ok(());
        }
        let mut chunks = cut(std::mem::take(&mut part.writes));
        part.bytes = 0;
        part.add(chunks.pop().expect("a part above the limit has writes"));
        part.staged =
            u32::try_from(chunks.len()).expect("a transaction's size limit keeps the number of chunks small");
        let mut chunks = chunks.into_iter().zip(0..);
        if part.registration.is_none()
            && let Some((writes, chunk)) = chunks.next()
        {
            part.registration = Some(self.stage_chunk(id, part, chunk, writes, patience).await?);
        }
        // Staged chunks are lost with the locks that cover them, which need heartbeats while other parts are staged.
        self.live.touch(id, part.touched());
        let part = &*part;
        let staged = chunks.map(|(writes, chunk)| self.stage_chunk(id, part, chunk, writes, patience));
        let staged = stream::iter(staged);
        staged.buffer_unordered(STAGES_IN_FLIGHT).try_for_each(|_| async { Ok(()) }).await
    }

    async fn stage_chunk(
        &self,
        id: TxnId,
        part: &Part,
        chunk: u32,
        writes: Vec<Write>,
        patience: &Patience,
    ) -> Result<Registration, Failure> {
        let (first, last) = (writes.first(), writes.last());
        let (first, last) = first.zip(last).expect("a chunk has writes");
        let lock = Span::new(first.key.clone(), Some(last.key.next()));
        let make = || Request::Stage { txn: part.txn(id), chunk, lock: lock.clone(), writes: writes.clone() };
        match self.ask(&part.shard, &mut Tries::with(patience), Resend::Always, &make).await? {
            Response::Staged { registration }
                if part.registration.is_none_or(|known| known == registration) =>
            {
                Ok(registration)
            }
            Response::Staged { .. } => {
                Err(Failure::GaveUp(KvError::Retry { reason: RetryReason::LocksLost }))
            }
            other => Err(Failure::GaveUp(unexpected("Stage", &other))),
        }
    }
}

/// Cuts writes into chunks of at most [`CHUNK_BYTES`]; a single greater write is a chunk of its own.
fn cut(writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut chunks: Vec<Vec<Write>> = Vec::new();
    let mut room = 0;
    for write in writes {
        let bytes = write_bytes(&write.key, write.value.as_ref());
        match chunks.last_mut() {
            Some(chunk) if bytes <= room => {
                room -= bytes;
                chunk.push(write);
            }
            _ => {
                room = CHUNK_BYTES.saturating_sub(bytes);
                chunks.push(vec![write]);
            }
        }
    }
    chunks
}
