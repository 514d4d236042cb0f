//! What a shard writes into its log, and the records that applying it leaves behind.

use bytes::Bytes;
use meridian_types::{Ballot, GroupId, Key, NodeId, Span, Timestamp, TxnId};

use crate::codec::{CodecError, Decoder, Encoder};
use crate::{Outcome, Write};

/// A log entry's content. The tags are persisted and frozen.
///
/// Each is encoded with the ballot of the leader that made it, its *origin*, which stays when a later leader proposes the
/// entry again. Paxos alone lets an entry that an earlier leader left with a minority be chosen after a later leader has
/// come and gone without seeing it; its timestamp would then lie below what that leader has shown. So a leader begins
/// with [`Command::Lead`], serves once that is applied, and whatever of an older origin follows in the log is void: it
/// can't have been chosen before, since the leader saw in phase 1 all that could have been, and placed it before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// A transaction of this shard alone commits at `s`.
    Commit { txn: TxnId, s: Timestamp, writes: Vec<Write>, staged_chunks: u32 },
    /// A part of a big transaction's writes.
    Stage { txn: TxnId, chunk: u32, staged: StagedChunk },
    /// A participant prepares.
    Prepare(PrepareRecord),
    /// The coordinator decides to commit at `s`.
    Decide { txn: TxnId, s: Timestamp, writes: Vec<Write>, staged_chunks: u32, participants: Vec<Key> },
    /// A participant learns the outcome.
    Resolve { txn: TxnId, outcome: Outcome },
    /// Nobody had decided, and nobody will: a later commit of this transaction fails. `at` says for how long to
    /// remember.
    AbortRecord { txn: TxnId, at: Timestamp },
    /// Every participant has applied.
    Forget { txn: TxnId },
    /// Drops the staged chunks of a transaction that did not prepare.
    Rollback { txn: TxnId },
    /// Keys at or above `at` become `new_group`, whose timestamps start above `floor`.
    Split { at: Key, new_group: GroupId, floor: Timestamp },
    /// Entries of older origin are void from here on.
    Lead,
    /// Reads below the horizon are refused from here on, so that versions that only they could see may go.
    Collect { horizon: Timestamp },
    /// Versions at a timestamp of the past.
    Fill { at: Timestamp, writes: Vec<Write> },
}

const COMMIT: u8 = 1;
const STAGE: u8 = 2;
const PREPARE: u8 = 3;
const DECIDE: u8 = 4;
const RESOLVE: u8 = 5;
const ABORT_RECORD: u8 = 6;
const FORGET: u8 = 7;
const ROLLBACK: u8 = 8;
const SPLIT: u8 = 9;
const LEAD: u8 = 10;
const COLLECT: u8 = 11;
const FILL: u8 = 12;

/// A chunk of staged writes with the span that its transaction has locked for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StagedChunk {
    pub(crate) lock: Span,
    pub(crate) writes: Vec<Write>,
}

/// What a participant promises: it will apply these writes at whatever timestamp at or above `prepare_ts` the
/// coordinator decides, or drop them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PrepareRecord {
    pub(crate) txn: TxnId,
    pub(crate) prepare_ts: Timestamp,
    /// The gateway's bound, needed to vote again after a change of leader.
    pub(crate) max_ts: Timestamp,
    pub(crate) coordinator: Key,
    pub(crate) writes: Vec<Write>,
    pub(crate) staged_chunks: u32,
}

/// How a transaction ended, and whom to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OutcomeRecord {
    pub(crate) txn: TxnId,
    pub(crate) outcome: Outcome,
    /// Not empty while the record waits for [`Command::Forget`].
    pub(crate) participants: Vec<Key>,
}

fn size_of_writes(writes: &[Write]) -> usize {
    writes.iter().map(|w| w.key.as_bytes().len() + w.value.as_ref().map_or(0, Bytes::len) + 8).sum()
}

impl Command {
    pub(crate) fn encode(&self, origin: Ballot) -> Bytes {
        let writes = match self {
            Command::Commit { writes, .. }
            | Command::Decide { writes, .. }
            | Command::Fill { writes, .. } => writes,
            Command::Stage { staged, .. } => &staged.writes,
            Command::Prepare(record) => &record.writes,
            _ => &Vec::new(),
        };
        let mut e = Encoder::with_capacity(64 + size_of_writes(writes));
        e.varint(origin.round).varint(u64::from(origin.node.get()));
        match self {
            Command::Commit { txn, s, writes, staged_chunks } => {
                e.u8(COMMIT).txn(txn).timestamp(*s).varint(u64::from(*staged_chunks)).writes(writes);
            }
            Command::Stage { txn, chunk, staged } => {
                e.u8(STAGE).txn(txn).varint(u64::from(*chunk)).span(&staged.lock).writes(&staged.writes);
            }
            Command::Prepare(record) => record.encode_fields(e.u8(PREPARE)),
            Command::Decide { txn, s, writes, staged_chunks, participants } => {
                e.u8(DECIDE).txn(txn).timestamp(*s).varint(u64::from(*staged_chunks));
                e.keys(participants).writes(writes);
            }
            Command::Resolve { txn, outcome } => {
                e.u8(RESOLVE).txn(txn).outcome(*outcome);
            }
            Command::AbortRecord { txn, at } => {
                e.u8(ABORT_RECORD).txn(txn).timestamp(*at);
            }
            Command::Forget { txn } => {
                e.u8(FORGET).txn(txn);
            }
            Command::Rollback { txn } => {
                e.u8(ROLLBACK).txn(txn);
            }
            Command::Split { at, new_group, floor } => {
                e.u8(SPLIT).key(at).varint(new_group.get()).timestamp(*floor);
            }
            Command::Lead => {
                e.u8(LEAD);
            }
            Command::Collect { horizon } => {
                e.u8(COLLECT).timestamp(*horizon);
            }
            Command::Fill { at, writes } => {
                e.u8(FILL).timestamp(*at).writes(writes);
            }
        }
        e.finish()
    }

    /// The origin and the command.
    pub(crate) fn decode(bytes: Bytes) -> Result<(Ballot, Self), CodecError> {
        let mut d = Decoder::new(bytes)?;
        let origin = Ballot::new(d.varint()?, NodeId::new(d.varint32()?));
        let command = match d.u8()? {
            COMMIT => {
                let (txn, s, staged_chunks) = (d.txn()?, d.timestamp()?, d.varint32()?);
                Command::Commit { txn, s, writes: d.writes()?, staged_chunks }
            }
            STAGE => {
                let (txn, chunk) = (d.txn()?, d.varint32()?);
                Command::Stage { txn, chunk, staged: StagedChunk { lock: d.span()?, writes: d.writes()? } }
            }
            PREPARE => Command::Prepare(PrepareRecord::decode_fields(&mut d)?),
            DECIDE => {
                let (txn, s, staged_chunks, participants) =
                    (d.txn()?, d.timestamp()?, d.varint32()?, d.keys()?);
                Command::Decide { txn, s, writes: d.writes()?, staged_chunks, participants }
            }
            RESOLVE => Command::Resolve { txn: d.txn()?, outcome: d.outcome()? },
            ABORT_RECORD => Command::AbortRecord { txn: d.txn()?, at: d.timestamp()? },
            FORGET => Command::Forget { txn: d.txn()? },
            ROLLBACK => Command::Rollback { txn: d.txn()? },
            SPLIT => {
                Command::Split { at: d.key()?, new_group: GroupId::new(d.varint()?), floor: d.timestamp()? }
            }
            LEAD => Command::Lead,
            COLLECT => Command::Collect { horizon: d.timestamp()? },
            FILL => Command::Fill { at: d.timestamp()?, writes: d.writes()? },
            other => return Err(CodecError::Tag(other)),
        };
        d.finish((origin, command))
    }

    /// True for what a replica without data passes over.
    pub(crate) fn concerns_data(&self) -> bool {
        match self {
            Command::Commit { .. }
            | Command::Decide { .. }
            | Command::Resolve { .. }
            | Command::Fill { .. }
            | Command::Stage { .. }
            | Command::Prepare(_)
            | Command::AbortRecord { .. }
            | Command::Forget { .. }
            | Command::Rollback { .. } => true,
            Command::Split { .. } | Command::Lead | Command::Collect { .. } => false,
        }
    }

    /// Applied only once TrueTime is after this (commit wait).
    pub(crate) fn gate(&self) -> Option<Timestamp> {
        match self {
            Command::Commit { s, .. }
            | Command::Decide { s, .. }
            | Command::Resolve { outcome: Outcome::Committed(s), .. }
            | Command::Fill { at: s, .. } => Some(*s),
            Command::Stage { .. }
            | Command::Prepare(_)
            | Command::Resolve { outcome: Outcome::Aborted, .. }
            | Command::AbortRecord { .. }
            | Command::Forget { .. }
            | Command::Rollback { .. }
            | Command::Split { .. }
            | Command::Lead
            | Command::Collect { .. } => None,
        }
    }
}

impl PrepareRecord {
    fn encode_fields(&self, e: &mut Encoder) {
        e.txn(&self.txn).timestamp(self.prepare_ts).timestamp(self.max_ts).key(&self.coordinator);
        e.varint(u64::from(self.staged_chunks)).writes(&self.writes);
    }

    fn decode_fields(d: &mut Decoder) -> Result<Self, CodecError> {
        let (txn, prepare_ts, max_ts, coordinator) = (d.txn()?, d.timestamp()?, d.timestamp()?, d.key()?);
        let staged_chunks = d.varint32()?;
        Ok(PrepareRecord { txn, prepare_ts, max_ts, coordinator, writes: d.writes()?, staged_chunks })
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut e = Encoder::with_capacity(64 + size_of_writes(&self.writes));
        self.encode_fields(&mut e);
        e.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut d = Decoder::new(bytes)?;
        let record = Self::decode_fields(&mut d)?;
        d.finish(record)
    }
}

impl StagedChunk {
    pub(crate) fn encode(&self) -> Bytes {
        let mut e = Encoder::with_capacity(64 + size_of_writes(&self.writes));
        e.span(&self.lock).writes(&self.writes);
        e.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut d = Decoder::new(bytes)?;
        let chunk = StagedChunk { lock: d.span()?, writes: d.writes()? };
        d.finish(chunk)
    }
}

impl OutcomeRecord {
    pub(crate) fn encode(&self) -> Bytes {
        let mut e = Encoder::with_capacity(48);
        e.txn(&self.txn).outcome(self.outcome).keys(&self.participants);
        e.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut d = Decoder::new(bytes)?;
        let record = OutcomeRecord { txn: d.txn()?, outcome: d.outcome()?, participants: d.keys()? };
        d.finish(record)
    }
}

#[cfg(test)]
mod tests;
