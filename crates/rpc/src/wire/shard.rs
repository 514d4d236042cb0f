//! Requests to shards and their answers.

use meridian_shard::{
    AbortReason, LockMode, Outcome, ReadMode, ReadOp, ReadResult, Registration, Request, Response,
    ShardError, TxnRef, UnfitReason, Vote, WaitPolicy, Write,
};
use meridian_types::{GroupId, Key, NodeId, Slot, Timestamp};

use super::proto::{request as q, response as r, shard_error as e};
use super::{WireError, all, each, maybe, need, proto};

fn ts(ns: u64) -> Timestamp {
    Timestamp::from_nanos(ns)
}

fn size(n: u64, field: &'static str) -> Result<usize, WireError> {
    usize::try_from(n).map_err(|_| WireError::OutOfRange { field })
}

impl From<Registration> for proto::Registration {
    fn from(r: Registration) -> Self {
        proto::Registration { ballot: Some(r.ballot.into()), number: r.number }
    }
}

impl TryFrom<proto::Registration> for Registration {
    type Error = WireError;
    fn try_from(r: proto::Registration) -> Result<Self, WireError> {
        Ok(Registration { ballot: need(r.ballot, "registration.ballot")?.into(), number: r.number })
    }
}

impl From<TxnRef> for proto::TxnRef {
    fn from(t: TxnRef) -> Self {
        proto::TxnRef { id: Some(t.id.into()), registration: t.registration.map(Into::into) }
    }
}

impl TryFrom<proto::TxnRef> for TxnRef {
    type Error = WireError;
    fn try_from(t: proto::TxnRef) -> Result<Self, WireError> {
        Ok(TxnRef { id: need(t.id, "txn.id")?.into(), registration: maybe(t.registration)? })
    }
}

fn txn(t: Option<proto::TxnRef>, field: &'static str) -> Result<TxnRef, WireError> {
    need(t, field)?.try_into()
}

impl From<LockMode> for proto::LockMode {
    fn from(m: LockMode) -> Self {
        match m {
            LockMode::Shared => proto::LockMode::Shared,
            LockMode::Exclusive => proto::LockMode::Exclusive,
        }
    }
}

impl TryFrom<proto::LockMode> for LockMode {
    type Error = WireError;
    fn try_from(m: proto::LockMode) -> Result<Self, WireError> {
        match m {
            proto::LockMode::Shared => Ok(LockMode::Shared),
            proto::LockMode::Exclusive => Ok(LockMode::Exclusive),
            proto::LockMode::Unspecified => Err(WireError::Missing { field: "lock_mode" }),
        }
    }
}

impl From<WaitPolicy> for proto::WaitPolicy {
    fn from(w: WaitPolicy) -> Self {
        match w {
            WaitPolicy::Wait => proto::WaitPolicy::Wait,
            WaitPolicy::NoWait => proto::WaitPolicy::NoWait,
            WaitPolicy::SkipLocked => proto::WaitPolicy::SkipLocked,
        }
    }
}

impl TryFrom<proto::WaitPolicy> for WaitPolicy {
    type Error = WireError;
    fn try_from(w: proto::WaitPolicy) -> Result<Self, WireError> {
        match w {
            proto::WaitPolicy::Wait => Ok(WaitPolicy::Wait),
            proto::WaitPolicy::NoWait => Ok(WaitPolicy::NoWait),
            proto::WaitPolicy::SkipLocked => Ok(WaitPolicy::SkipLocked),
            proto::WaitPolicy::Unspecified => Err(WireError::Missing { field: "wait_policy" }),
        }
    }
}

impl From<ReadMode> for proto::ReadMode {
    fn from(m: ReadMode) -> Self {
        use proto::read_mode::{Kind as K, Locking};
        let kind = match m {
            ReadMode::Locking { txn, mode, wait } => K::Locking(Locking {
                txn: Some(txn.into()),
                mode: proto::LockMode::from(mode).into(),
                wait: proto::WaitPolicy::from(wait).into(),
            }),
            ReadMode::Strong => K::Strong(proto::Empty {}),
            ReadMode::At(at) => K::At(at.as_nanos()),
        };
        proto::ReadMode { kind: Some(kind) }
    }
}

impl TryFrom<proto::ReadMode> for ReadMode {
    type Error = WireError;
    fn try_from(m: proto::ReadMode) -> Result<Self, WireError> {
        use proto::read_mode::Kind as K;
        Ok(match need(m.kind, "read_mode.kind")? {
            K::Locking(l) => ReadMode::Locking {
                mode: l.mode().try_into()?,
                wait: l.wait().try_into()?,
                txn: txn(l.txn, "read_mode.txn")?,
            },
            K::Strong(_) => ReadMode::Strong,
            K::At(at) => ReadMode::At(ts(at)),
        })
    }
}

impl From<ReadOp> for proto::ReadOp {
    fn from(op: ReadOp) -> Self {
        use proto::read_op::{Kind as K, Scan};
        let kind = match op {
            ReadOp::Get(key) => K::Get(key.into_bytes()),
            ReadOp::Scan { span, reverse, limit_rows, limit_bytes } => K::Scan(Scan {
                span: Some(span.into()),
                reverse,
                limit_rows: limit_rows as u64,
                limit_bytes: limit_bytes as u64,
            }),
        };
        proto::ReadOp { kind: Some(kind) }
    }
}

impl TryFrom<proto::ReadOp> for ReadOp {
    type Error = WireError;
    fn try_from(op: proto::ReadOp) -> Result<Self, WireError> {
        use proto::read_op::Kind as K;
        Ok(match need(op.kind, "read_op.kind")? {
            K::Get(key) => ReadOp::Get(Key::new(key)),
            K::Scan(s) => ReadOp::Scan {
                span: need(s.span, "scan.span")?.into(),
                reverse: s.reverse,
                limit_rows: size(s.limit_rows, "scan.limit_rows")?,
                limit_bytes: size(s.limit_bytes, "scan.limit_bytes")?,
            },
        })
    }
}

impl From<ReadResult> for proto::ReadResult {
    fn from(r: ReadResult) -> Self {
        use proto::read_result::{Kind as K, Rows, Value};
        let kind = match r {
            ReadResult::Value(value) => K::Value(Value { value }),
            ReadResult::Rows { rows, resume } => K::Rows(Rows {
                rows: rows
                    .into_iter()
                    .map(|(key, value)| proto::KeyValue { key: key.into_bytes(), value })
                    .collect(),
                resume: resume.map(Into::into),
            }),
        };
        proto::ReadResult { kind: Some(kind) }
    }
}

impl TryFrom<proto::ReadResult> for ReadResult {
    type Error = WireError;
    fn try_from(r: proto::ReadResult) -> Result<Self, WireError> {
        use proto::read_result::Kind as K;
        Ok(match need(r.kind, "read_result.kind")? {
            K::Value(v) => ReadResult::Value(v.value),
            K::Rows(r) => ReadResult::Rows {
                rows: r.rows.into_iter().map(|kv| (Key::new(kv.key), kv.value)).collect(),
                resume: r.resume.map(Into::into),
            },
        })
    }
}

impl From<Write> for proto::Write {
    fn from(w: Write) -> Self {
        proto::Write { key: w.key.into_bytes(), value: w.value }
    }
}

impl From<proto::Write> for Write {
    fn from(w: proto::Write) -> Self {
        Write { key: Key::new(w.key), value: w.value }
    }
}

impl From<Vote> for proto::Vote {
    fn from(v: Vote) -> Self {
        proto::Vote { prepare_ts: v.prepare_ts.as_nanos(), max_ts: v.max_ts.as_nanos() }
    }
}

impl From<proto::Vote> for Vote {
    fn from(v: proto::Vote) -> Self {
        Vote { prepare_ts: ts(v.prepare_ts), max_ts: ts(v.max_ts) }
    }
}

impl From<Outcome> for proto::Outcome {
    fn from(o: Outcome) -> Self {
        use proto::outcome::Kind as K;
        let kind = match o {
            Outcome::Committed(at) => K::Committed(at.as_nanos()),
            Outcome::Aborted => K::Aborted(proto::Empty {}),
        };
        proto::Outcome { kind: Some(kind) }
    }
}

impl TryFrom<proto::Outcome> for Outcome {
    type Error = WireError;
    fn try_from(o: proto::Outcome) -> Result<Self, WireError> {
        use proto::outcome::Kind as K;
        Ok(match need(o.kind, "outcome.kind")? {
            K::Committed(at) => Outcome::Committed(ts(at)),
            K::Aborted(_) => Outcome::Aborted,
        })
    }
}

impl From<Request> for proto::Request {
    fn from(request: Request) -> Self {
        use q::Kind as K;
        let kind = match request {
            Request::Read { mode, ops } => K::Read(q::Read { mode: Some(mode.into()), ops: each(ops) }),
            Request::Stage { txn, chunk, lock, writes } => K::Stage(q::Stage {
                txn: Some(txn.into()),
                chunk,
                lock: Some(lock.into()),
                writes: each(writes),
            }),
            Request::Commit { txn, writes, staged_chunks, max_ts } => K::Commit(q::Commit {
                txn: Some(txn.into()),
                writes: each(writes),
                staged_chunks,
                max_ts: max_ts.as_nanos(),
            }),
            Request::Prepare { txn, writes, staged_chunks, coordinator, max_ts } => K::Prepare(q::Prepare {
                txn: Some(txn.into()),
                writes: each(writes),
                staged_chunks,
                coordinator: coordinator.into_bytes(),
                max_ts: max_ts.as_nanos(),
            }),
            Request::Decide { txn, writes, staged_chunks, window, participants } => K::Decide(q::Decide {
                txn: Some(txn.into()),
                writes: each(writes),
                staged_chunks,
                window: Some(window.into()),
                participants: participants.into_iter().map(Key::into_bytes).collect(),
            }),
            Request::Resolve { id, outcome, key } => K::Resolve(q::Resolve {
                id: Some(id.into()),
                outcome: Some(outcome.into()),
                key: key.map(Key::into_bytes),
            }),
            Request::Forget { id, key } => {
                K::Forget(q::Forget { id: Some(id.into()), key: key.into_bytes() })
            }
            Request::Rollback { id } => K::Rollback(id.into()),
            Request::CancelWaits { id } => K::CancelWaits(id.into()),
            Request::EndReads { txn } => K::EndReads(txn.into()),
            Request::Heartbeat { ids } => K::Heartbeat(q::Heartbeat { ids: each(ids) }),
            Request::QueryOutcome { id, key, abort_unknown } => {
                K::QueryOutcome(q::QueryOutcome { id: Some(id.into()), key: key.into_bytes(), abort_unknown })
            }
            Request::CloseTimestamp { at } => K::CloseTimestamp(q::CloseTimestamp { at: at.as_nanos() }),
            Request::Split { at, new_group } => {
                K::Split(q::Split { at: at.into_bytes(), new_group: new_group.get() })
            }
            Request::Fill { at, until, writes } => {
                K::Fill(q::Fill { at: at.as_nanos(), until: until.as_nanos(), writes: each(writes) })
            }
            Request::ChangeReplica { node, kind } => {
                let member = kind.map(|kind| (node, kind).into());
                K::ChangeReplica(q::ChangeReplica { node: node.get(), member })
            }
            Request::TransferLeader { to } => K::TransferLeader(q::TransferLeader { to: to.get() }),
        };
        proto::Request { kind: Some(kind) }
    }
}

impl TryFrom<proto::Request> for Request {
    type Error = WireError;
    fn try_from(request: proto::Request) -> Result<Self, WireError> {
        use q::Kind as K;
        Ok(match need(request.kind, "request.kind")? {
            K::Read(m) => Request::Read { mode: need(m.mode, "read.mode")?.try_into()?, ops: all(m.ops)? },
            K::Stage(m) => Request::Stage {
                txn: txn(m.txn, "stage.txn")?,
                chunk: m.chunk,
                lock: need(m.lock, "stage.lock")?.into(),
                writes: each(m.writes),
            },
            K::Commit(m) => Request::Commit {
                txn: txn(m.txn, "commit.txn")?,
                writes: each(m.writes),
                staged_chunks: m.staged_chunks,
                max_ts: ts(m.max_ts),
            },
            K::Prepare(m) => Request::Prepare {
                txn: txn(m.txn, "prepare.txn")?,
                writes: each(m.writes),
                staged_chunks: m.staged_chunks,
                coordinator: Key::new(m.coordinator),
                max_ts: ts(m.max_ts),
            },
            K::Decide(m) => Request::Decide {
                txn: txn(m.txn, "decide.txn")?,
                writes: each(m.writes),
                staged_chunks: m.staged_chunks,
                window: need(m.window, "decide.window")?.into(),
                participants: m.participants.into_iter().map(Key::new).collect(),
            },
            K::Resolve(m) => Request::Resolve {
                id: need(m.id, "resolve.id")?.into(),
                outcome: need(m.outcome, "resolve.outcome")?.try_into()?,
                key: m.key.map(Key::new),
            },
            K::Forget(m) => Request::Forget { id: need(m.id, "forget.id")?.into(), key: Key::new(m.key) },
            K::CancelWaits(id) => Request::CancelWaits { id: id.into() },
            K::Rollback(id) => Request::Rollback { id: id.into() },
            K::EndReads(t) => Request::EndReads { txn: t.try_into()? },
            K::Heartbeat(m) => Request::Heartbeat { ids: each(m.ids) },
            K::QueryOutcome(m) => Request::QueryOutcome {
                id: need(m.id, "query_outcome.id")?.into(),
                key: Key::new(m.key),
                abort_unknown: m.abort_unknown,
            },
            K::CloseTimestamp(m) => Request::CloseTimestamp { at: ts(m.at) },
            K::Split(m) => Request::Split { at: Key::new(m.at), new_group: GroupId::new(m.new_group) },
            K::ChangeReplica(m) => Request::ChangeReplica {
                node: NodeId::new(m.node),
                kind: maybe::<_, (NodeId, meridian_paxos::MemberKind)>(m.member)?.map(|(_, kind)| kind),
            },
            K::Fill(m) => Request::Fill { at: ts(m.at), until: ts(m.until), writes: each(m.writes) },
            K::TransferLeader(m) => Request::TransferLeader { to: NodeId::new(m.to) },
        })
    }
}

impl From<Response> for proto::Response {
    fn from(response: Response) -> Self {
        use r::Kind as K;
        let kind = match response {
            Response::Read { results, read_ts, registration } => K::Read(r::Read {
                results: each(results),
                read_ts: read_ts.as_nanos(),
                registration: registration.map(Into::into),
            }),
            Response::Staged { registration } => K::Staged(registration.into()),
            Response::Committed { commit_ts } => K::Committed(commit_ts.as_nanos()),
            Response::Voted(vote) => K::Voted(vote.into()),
            Response::Outcome(outcome) => K::Outcome(r::OutcomeAnswer { outcome: outcome.map(Into::into) }),
            Response::Closed { closed, through } => {
                K::Closed(r::Closed { closed: closed.as_nanos(), through: through.get() })
            }
            Response::Split { left, right } => {
                K::Split(r::Split { left: Some(left.into()), right: Some(right.into()) })
            }
            Response::Changed { descriptor } => {
                K::Changed(r::Changed { descriptor: Some(descriptor.into()) })
            }
            Response::Done => K::Done(proto::Empty {}),
        };
        proto::Response { kind: Some(kind) }
    }
}

impl TryFrom<proto::Response> for Response {
    type Error = WireError;
    fn try_from(response: proto::Response) -> Result<Self, WireError> {
        use r::Kind as K;
        Ok(match need(response.kind, "response.kind")? {
            K::Read(m) => Response::Read {
                results: all(m.results)?,
                read_ts: ts(m.read_ts),
                registration: maybe(m.registration)?,
            },
            K::Staged(m) => Response::Staged { registration: m.try_into()? },
            K::Committed(at) => Response::Committed { commit_ts: ts(at) },
            K::Voted(vote) => Response::Voted(vote.into()),
            K::Outcome(m) => Response::Outcome(maybe(m.outcome)?),
            K::Closed(m) => Response::Closed { closed: ts(m.closed), through: Slot::new(m.through) },
            K::Split(m) => Response::Split {
                left: need(m.left, "split.left")?.try_into()?,
                right: need(m.right, "split.right")?.try_into()?,
            },
            K::Changed(m) => {
                Response::Changed { descriptor: need(m.descriptor, "changed.descriptor")?.try_into()? }
            }
            K::Done(_) => Response::Done,
        })
    }
}

impl From<AbortReason> for e::AbortReason {
    fn from(reason: AbortReason) -> Self {
        use e::abort_reason::Kind as K;
        let kind = match reason {
            AbortReason::Wounded { by } => K::WoundedBy(by.into()),
            AbortReason::LocksLost => K::LocksLost(proto::Empty {}),
            AbortReason::WouldDeadlock => K::WouldDeadlock(proto::Empty {}),
            AbortReason::NoTimestamp => K::NoTimestamp(proto::Empty {}),
            AbortReason::ByRecovery => K::ByRecovery(proto::Empty {}),
        };
        e::AbortReason { kind: Some(kind) }
    }
}

impl TryFrom<e::AbortReason> for AbortReason {
    type Error = WireError;
    fn try_from(reason: e::AbortReason) -> Result<Self, WireError> {
        use e::abort_reason::Kind as K;
        Ok(match need(reason.kind, "abort_reason.kind")? {
            K::WoundedBy(by) => AbortReason::Wounded { by: by.into() },
            K::LocksLost(_) => AbortReason::LocksLost,
            K::WouldDeadlock(_) => AbortReason::WouldDeadlock,
            K::NoTimestamp(_) => AbortReason::NoTimestamp,
            K::ByRecovery(_) => AbortReason::ByRecovery,
        })
    }
}

impl From<ShardError> for proto::ShardError {
    fn from(error: ShardError) -> Self {
        use e::Kind as K;
        let kind = match error {
            ShardError::NotLeader { group, leader } => {
                K::NotLeader(e::NotLeader { group: group.get(), leader: leader.map(NodeId::get) })
            }
            ShardError::WrongShard { descriptor } => K::WrongShard(descriptor.into()),
            ShardError::UnknownGroup { group } => K::UnknownGroup(group.get()),
            ShardError::Aborted { reason } => K::Aborted(reason.into()),
            ShardError::WouldBlock => K::WouldBlock(proto::Empty {}),
            ShardError::LockTimeout => K::LockTimeout(proto::Empty {}),
            ShardError::AlreadyDecided { outcome } => K::AlreadyDecided(outcome.into()),
            ShardError::OutcomeUnknown => K::OutcomeUnknown(proto::Empty {}),
            ShardError::BelowHorizon { at, horizon } => {
                K::BelowHorizon(e::BelowHorizon { at: at.as_nanos(), horizon: horizon.as_nanos() })
            }
            ShardError::Overloaded => K::Overloaded(proto::Empty {}),
            ShardError::UnsoundChange => K::UnsoundChange(proto::Empty {}),
            ShardError::InFuture { at } => K::InFuture(at.as_nanos()),
            ShardError::Unfit { reason } => K::Unfit(
                match reason {
                    UnfitReason::Clock => e::UnfitReason::Clock,
                    UnfitReason::Disk => e::UnfitReason::Disk,
                }
                .into(),
            ),
        };
        proto::ShardError { kind: Some(kind) }
    }
}

impl TryFrom<proto::ShardError> for ShardError {
    type Error = WireError;
    fn try_from(error: proto::ShardError) -> Result<Self, WireError> {
        use e::Kind as K;
        Ok(match need(error.kind, "shard_error.kind")? {
            K::NotLeader(m) => {
                ShardError::NotLeader { group: GroupId::new(m.group), leader: m.leader.map(NodeId::new) }
            }
            K::WrongShard(d) => ShardError::WrongShard { descriptor: d.try_into()? },
            K::UnknownGroup(g) => ShardError::UnknownGroup { group: GroupId::new(g) },
            K::Aborted(reason) => ShardError::Aborted { reason: reason.try_into()? },
            K::WouldBlock(_) => ShardError::WouldBlock,
            K::LockTimeout(_) => ShardError::LockTimeout,
            K::AlreadyDecided(o) => ShardError::AlreadyDecided { outcome: o.try_into()? },
            K::OutcomeUnknown(_) => ShardError::OutcomeUnknown,
            K::BelowHorizon(m) => ShardError::BelowHorizon { at: ts(m.at), horizon: ts(m.horizon) },
            K::Overloaded(_) => ShardError::Overloaded,
            K::UnsoundChange(_) => ShardError::UnsoundChange,
            K::InFuture(at) => ShardError::InFuture { at: ts(at) },
            K::Unfit(reason) => ShardError::Unfit {
                reason: match e::UnfitReason::try_from(reason) {
                    Ok(e::UnfitReason::Clock) => UnfitReason::Clock,
                    Ok(e::UnfitReason::Disk) => UnfitReason::Disk,
                    Ok(e::UnfitReason::Unspecified) | Err(_) => {
                        return Err(WireError::Missing { field: "shard_error.unfit" });
                    }
                },
            },
        })
    }
}
