//! Reads: under locks, strong without locks, and at a timestamp on any replica; and the doing of them.
//!
//! A read is let go only when its result can't change any more; then it is served outside of the replica's lock.
//!
//! ```text
//!   mode      where     at                       waits for
//!   Locking   leader    newest                   locks
//!   Strong    leader    greatest applied commit  prepared transactions on its keys (their commit may be answered
//!                                                already), commits in flight on its keys at or below it or the
//!                                                closed timestamp (a follower may have shown them already)
//!   At(t)     leader    t, floor raised to it    prepared ones that may commit at or below t, commits in flight likewise
//!   At(t)     follower  t                        closed >= t, applied through it; prepared ones likewise
//! ```
//! **I-8** Reads at `t` see exactly the transactions with `s <= t`.

use bytes::Bytes;
use meridian_locks::{Need, Target};
use meridian_mvcc::{Rows, ScanOptions};
use meridian_storage::{Reader, StorageError};
use meridian_types::{Duration, Key, Span, Timestamp, TxnId};

use crate::leader::Work;
use crate::planted::Planted;
use crate::replica::{Replica, Step};
use crate::timestamp::FUTURE_MAX;
use crate::{ClosedTimestamp, Now, ReadOp, ReadResult, RequestId, Response, Serve, ShardError};

/// Closed timestamps that wait for their slots. More are merged into the last: an apply that lags this far behind gains
/// nothing from finer steps.
const CLOSINGS_MAX: usize = 16;

/// A leader that did not answer a question for a closed timestamp is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// A read that waits until it can be served.
#[derive(Debug)]
pub(crate) struct WaitingRead {
    pub(crate) id: RequestId,
    pub(crate) ops: Vec<ReadOp>,
    /// `None` for a strong read.
    pub(crate) at: Option<Timestamp>,
    pub(crate) deadline: Timestamp,
    /// It waits for something that no input announces (a lease), so it looks again after a while.
    pub(crate) polls: bool,
}

/// The latest question to the leader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    at: Timestamp,
    again: Timestamp,
}

enum Verdict {
    Serve(Timestamp),
    Wait,
    /// Wait, and look again without being told.
    Poll,
    /// Wait for the leader to close this.
    Ask(Timestamp),
    Refuse(ShardError),
}

/// True when all that is read lies in the span.
pub(crate) fn ops_inside(ops: &[ReadOp], span: &Span) -> bool {
    ops.iter().all(|op| match op {
        ReadOp::Get(key) => span.contains(key.as_bytes()),
        ReadOp::Scan { span: scanned, .. } => span.contains_span(scanned),
    })
}

impl Replica {
    /// The timestamp at which a strong read of `ops` may be done at once, straight from the data engine: the path of a
    /// point read that meets nobody. It changes nothing and allocates nothing. `None` means: send it as a request.
    pub fn try_strong_read(&self, ops: &[ReadOp], now: Now) -> Option<Timestamp> {
        if !ops_inside(ops, &self.state.descriptor.span) {
            return None;
        }
        match self.judge_strong(ops, now) {
            Verdict::Serve(t) => Some(t),
            _ => None,
        }
    }

    fn judge_strong(&self, ops: &[ReadOp], now: Now) -> Verdict {
        let leads = self.paxos.leadership(now).is_some();
        let Some(leader) = self.leader.as_ref().filter(|_| leads) else {
            return Verdict::Refuse(self.not_leader());
        };
        if !leader.serving {
            return Verdict::Poll;
        }
        // Nothing was committed between the newest commit and a horizon above it, and below that one nothing can be read.
        let t = self.state.shown.max(self.state.gc_horizon);
        assert!(t <= leader.floor, "a later commit could get {t} or less");
        // A follower may have shown a commit at or below the closed timestamp that is still in flight here; a strong read
        // that begins after that must see it, too.
        if self.is_blocked(ops, t.max(leader.closed), Timestamp::MAX) {
            Verdict::Wait
        } else {
            Verdict::Serve(t)
        }
    }

    /// True when something that may yet commit at or below `t` touches `ops`. Of prepared transactions those count that
    /// prepared at or below `prepared_by`.
    fn is_blocked(&self, ops: &[ReadOp], t: Timestamp, prepared_by: Timestamp) -> bool {
        if !self.config.has(Planted::ReadBelowPrepared)
            && ops.iter().any(|op| self.state.prepared_blocks(op, prepared_by))
        {
            return true;
        }
        let flights = self.leader.iter().flat_map(|l| l.in_flight.values());
        flights.filter(|f| f.ts.is_some_and(|ts| ts <= t)).any(|f| ops.iter().any(|op| f.blocks(op, t)))
    }

    pub(crate) fn not_leader(&self) -> ShardError {
        let leader = self.paxos.leader_hint().filter(|node| *node != self.config.paxos.node);
        ShardError::NotLeader { group: self.state.group, leader }
    }

    /// A read without locks: `at` is `None` for a strong one.
    pub(crate) fn read(&mut self, id: RequestId, at: Option<Timestamp>, ops: Vec<ReadOp>, cx: &mut Step<'_>) {
        let patience = if at.is_some() { self.config.read_patience } else { self.config.stall_patience };
        let read = WaitingRead { id, ops, at, deadline: cx.now.mono + patience, polls: false };
        if let Some(read) = self.try_read(read, cx) {
            if self.reads.len() >= self.config.waiters_max {
                return cx.reply(read.id, Err(ShardError::Overloaded));
            }
            self.reads.push(read);
        }
    }

    /// Looks again at every read that waits.
    pub(crate) fn retry_reads(&mut self, cx: &mut Step<'_>) {
        if self.reads.is_empty() {
            return;
        }
        for read in std::mem::take(&mut self.reads) {
            if let Some(read) = self.try_read(read, cx) {
                self.reads.push(read);
            }
        }
    }

    /// Serves or refuses the read, or gives it back.
    fn try_read(&mut self, mut read: WaitingRead, cx: &mut Step<'_>) -> Option<WaitingRead> {
        if !ops_inside(&read.ops, &self.state.descriptor.span) {
            let descriptor = self.state.descriptor.clone();
            cx.reply(read.id, Err(ShardError::WrongShard { descriptor }));
            return None;
        }
        let verdict = match read.at {
            None => self.judge_strong(&read.ops, cx.now),
            Some(at) if at < self.state.gc_horizon => {
                Verdict::Refuse(ShardError::BelowHorizon { at, horizon: self.state.gc_horizon })
            }
            Some(at) if self.leader.is_some() && self.paxos.leadership(cx.now).is_some() => {
                self.judge_at_leader(&read.ops, at, cx.now)
            }
            Some(at) => self.judge_at_follower(&read.ops, at),
        };
        read.polls = false;
        match verdict {
            Verdict::Serve(at) => {
                cx.out.serve.push(Serve::at(read.id, read.ops, at));
                return None;
            }
            Verdict::Refuse(error) => {
                cx.reply(read.id, Err(error));
                return None;
            }
            Verdict::Ask(at) => self.ask_to_close(at, cx),
            Verdict::Poll => read.polls = true,
            Verdict::Wait => {}
        }
        if cx.now.mono >= read.deadline {
            let error = if self.leader.is_some() { ShardError::Overloaded } else { self.not_leader() };
            cx.reply(read.id, Err(error));
            return None;
        }
        Some(read)
    }

    fn judge_at_leader(&mut self, ops: &[ReadOp], at: Timestamp, now: Now) -> Verdict {
        let Some(tt) = now.tt else { return Verdict::Poll };
        if at > tt.latest() + FUTURE_MAX {
            return Verdict::Refuse(ShardError::InFuture { at });
        }
        if !self.leader.as_ref().is_some_and(|l| l.serving) || !self.raise_floor(at, now) {
            return Verdict::Poll;
        }
        if self.is_blocked(ops, at, at) { Verdict::Wait } else { Verdict::Serve(at) }
    }

    fn judge_at_follower(&mut self, ops: &[ReadOp], at: Timestamp) -> Verdict {
        if self.config.has(Planted::IgnoreClosed) {
            return Verdict::Serve(at);
        }
        if at <= self.closed {
            return if self.is_blocked(ops, at, at) { Verdict::Wait } else { Verdict::Serve(at) };
        }
        if self.closings.iter().any(|c| c.closed >= at) { Verdict::Wait } else { Verdict::Ask(at) }
    }

    fn ask_to_close(&mut self, at: Timestamp, cx: &mut Step<'_>) {
        let now = cx.now.mono;
        if self.asked.is_some_and(|asked| asked.at >= at && asked.again > now) {
            return;
        }
        self.asked = Some(Asked { at, again: now + ASK_AGAIN });
        cx.out.close_requests.push(at);
    }

    /// A leader closed a timestamp.
    pub(crate) fn learn_closed(&mut self, closed: ClosedTimestamp) {
        let newest = self.closings.last().map_or(self.closed, |c| c.closed);
        if closed.closed <= newest {
            return;
        }
        if self.closings.len() >= CLOSINGS_MAX {
            self.closings.pop();
        }
        self.closings.push(closed);
        self.ripen_closings();
    }

    /// Takes up the closed timestamps whose slots are applied.
    pub(crate) fn ripen_closings(&mut self) {
        let confirmed = self.state.confirmed;
        let ripe = self.closings.iter().rposition(|c| c.through <= confirmed);
        if let Some(ripe) = ripe {
            self.closed = self.closed.max(self.closings[ripe].closed);
            self.closings.drain(..=ripe);
        }
    }

    pub(crate) fn close_for_reader(&mut self, id: RequestId, at: Timestamp, cx: &mut Step<'_>) {
        let latest = cx.now.tt.map_or(Timestamp::ZERO, |tt| tt.latest());
        if at > latest + FUTURE_MAX {
            return cx.reply(id, Err(ShardError::InFuture { at }));
        }
        match self.close(at, cx.now) {
            Some(c) => cx.reply(id, Ok(Response::Closed { closed: c.closed, through: c.through })),
            None => cx.reply(id, Err(ShardError::Overloaded)),
        }
    }

    /// A locking read that holds its locks; `overlay` has what is newer than the data engine, by position in `ops`.
    pub(crate) fn serve_locked(
        &mut self,
        id: RequestId,
        txn: TxnId,
        ops: Vec<ReadOp>,
        overlay: Vec<(usize, Option<Bytes>)>,
        skip: Vec<Key>,
        cx: &mut Step<'_>,
    ) {
        let registration = self.leader_mut().registration(&txn);
        assert!(registration.is_some(), "{txn} reads under locks and is not registered");
        cx.out.serve.push(Serve { id, ops, at: Timestamp::MAX, registration, overlay, skip });
    }

    /// SKIP LOCKED: locks those rows of the page that are free, row by row, and leaves out the others. The rest of the
    /// span is not locked: such a statement asks for some rows, not for all.
    pub(crate) fn skip_locked(&mut self, id: RequestId, work: Work, cx: &mut Step<'_>) {
        let Work::Read { txn, mode, ops, .. } = work else { unreachable!("only reads skip") };
        // What is in flight counts as locked.
        let mut skip = self.overlaid_keys(&ops);
        for op in &ops {
            match op {
                ReadOp::Get(key) => {
                    if !skip.contains(key) && !self.lock_if_free(txn.id, key, mode) {
                        skip.push(key.clone());
                    }
                }
                ReadOp::Scan { span, reverse, limit_rows, .. } => {
                    let mut rest = Some(span.clone());
                    let mut locked = 0;
                    while let Some(span) = rest.take().filter(|_| locked < *limit_rows) {
                        let options = ScanOptions {
                            span: &span,
                            at: Timestamp::MAX,
                            reverse: *reverse,
                            limit_rows: *limit_rows,
                            limit_bytes: meridian_types::limits::SCAN_PAGE_BYTES,
                        };
                        let page =
                            meridian_mvcc::scan(cx.reader, &options).expect("the data engine can be read");
                        for (key, _) in page.rows {
                            if locked == *limit_rows {
                                break;
                            }
                            if skip.contains(&key) {
                                continue;
                            }
                            if self.lock_if_free(txn.id, &key, mode) {
                                locked += 1;
                            } else {
                                skip.push(key);
                            }
                        }
                        rest = page.resume;
                    }
                }
            }
        }
        self.serve_locked(id, txn.id, ops, Vec::new(), skip, cx);
    }

    fn lock_if_free(&mut self, txn: TxnId, key: &Key, mode: crate::LockMode) -> bool {
        let locks = &mut self.leader_mut().locks;
        let need = Need { target: Target::Point(key.clone()), mode: mode.into() };
        !locks.is_blocked(&txn, &need) && locks.try_point(txn, key, mode.into())
    }
}

/// From so many reads in one request on, they share a cursor.
const ROWS_AT_ONCE: usize = 4;

/// From so many reads in one request on, it is worth a look whether there is anything at all between the least and the
/// greatest key: a load into an empty range asks for nothing but rows that are not there.
const LOOK_BETWEEN: usize = 32;

/// True when all reads are of single keys, and no version of any row lies between them.
fn is_nothing_between(reader: &dyn Reader, ops: &[ReadOp]) -> Result<bool, StorageError> {
    let mut ends: Option<(&Key, &Key)> = None;
    for op in ops {
        let ReadOp::Get(key) = op else { return Ok(false) };
        let (least, greatest) = ends.unwrap_or((key, key));
        ends = Some((least.min(key), greatest.max(key)));
    }
    let Some((least, greatest)) = ends else { return Ok(false) };
    meridian_mvcc::is_empty(reader, &Span::new(least.clone(), Some(greatest.next())))
}

/// Does a read that a replica let go. Called by the driver, outside of the replica's lock, on a reader that shows at
/// least what was confirmed then.
pub fn serve(reader: &dyn Reader, serve: &Serve) -> Result<Response, StorageError> {
    let mut results = Vec::with_capacity(serve.ops.len());
    if serve.ops.len() >= LOOK_BETWEEN && is_nothing_between(reader, &serve.ops)? {
        results.resize(serve.ops.len(), ReadResult::Value(None));
    } else {
        let mut rows = (serve.ops.len() >= ROWS_AT_ONCE).then(|| Rows::new(reader));
        for op in &serve.ops {
            results.push(serve_op(reader, rows.as_mut(), serve, op)?);
        }
    }
    for (at, value) in &serve.overlay {
        results[*at] = ReadResult::Value(value.clone());
    }
    let read_ts = if serve.registration.is_some() { Timestamp::ZERO } else { serve.at };
    Ok(Response::Read { results, read_ts, registration: serve.registration })
}

fn serve_op(
    reader: &dyn Reader,
    rows: Option<&mut Rows<'_>>,
    serve: &Serve,
    op: &ReadOp,
) -> Result<ReadResult, StorageError> {
    match op {
        ReadOp::Get(key) if serve.skip.contains(key) => Ok(ReadResult::Value(None)),
        ReadOp::Get(key) => {
            let found = match rows {
                Some(rows) => rows.get(key.as_bytes(), serve.at)?,
                None => meridian_mvcc::get(reader, key.as_bytes(), serve.at)?,
            };
            Ok(ReadResult::Value(found.map(|(_, value)| value)))
        }
        ReadOp::Scan { span, reverse, limit_rows, limit_bytes } => {
            let options = ScanOptions {
                span,
                at: serve.at,
                reverse: *reverse,
                limit_rows: limit_rows + serve.skip.len(),
                limit_bytes: *limit_bytes,
            };
            let page = meridian_mvcc::scan(reader, &options)?;
            if serve.skip.is_empty() {
                return Ok(ReadResult::Rows { rows: page.rows, resume: page.resume });
            }
            let mut rows: Vec<(Key, Bytes)> = page.rows;
            let seen = rows.len();
            rows.retain(|(key, _)| !serve.skip.contains(key));
            let mut resume = page.resume;
            if rows.len() > *limit_rows {
                rows.truncate(*limit_rows);
                resume = rest_after(span, &rows[limit_rows - 1].0, *reverse);
            }
            assert!(rows.len() <= seen, "leaving rows out makes no more of them");
            Ok(ReadResult::Rows { rows, resume })
        }
    }
}

fn rest_after(span: &Span, last: &Key, reverse: bool) -> Option<Span> {
    let rest = if reverse {
        Span::new(span.start.clone(), Some(last.clone()))
    } else {
        Span::new(last.next(), span.end.clone())
    };
    (!rest.is_empty()).then_some(rest)
}
