//! The byte codec of everything that this crate persists: log commands, prepare and outcome records, staged chunks and
//! descriptors.
//!
//! Numbers are unsigned LEB128 varints, except timestamps (8 bytes, big-endian: they are never small). Byte strings are a
//! length and the bytes; decoding shares them with the input instead of copying. Every top-level record starts with a
//! format byte, so that a later version can tell what it reads. The golden tests pin the bytes.

use bytes::{Buf, Bytes};
use meridian_paxos::MemberKind;
use meridian_types::{GroupId, Key, NodeId, Span, Timestamp, TxnId};

use crate::{Outcome, ShardDescriptor, Write};

/// The format of every record here.
pub(crate) const FORMAT: u8 = 1;

/// Bytes that are no record of this format: corruption, or a newer version's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodecError {
    /// The record ends in the middle of a field.
    #[error("record is cut short")]
    Short,
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// A tag, format or number that is not in use.
    #[error("unknown tag {0}")]
    Tag(u8),
}

#[derive(Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(FORMAT);
        Encoder { bytes }
    }

    pub(crate) fn finish(self) -> Bytes {
        self.bytes.into()
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    pub(crate) fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
        self
    }

    pub(crate) fn timestamp(&mut self, t: Timestamp) -> &mut Self {
        self.bytes.extend_from_slice(&t.as_nanos().to_be_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    pub(crate) fn key(&mut self, key: &Key) -> &mut Self {
        self.bytes(key.as_bytes())
    }

    pub(crate) fn keys(&mut self, keys: &[Key]) -> &mut Self {
        self.varint(keys.len() as u64);
        keys.iter().fold(self, |e, key| e.key(key))
    }

    pub(crate) fn txn(&mut self, txn: &TxnId) -> &mut Self {
        self.timestamp(txn.first_start).varint(u64::from(txn.node.get())).varint(txn.seq)
    }

    pub(crate) fn span(&mut self, span: &Span) -> &mut Self {
        self.key(&span.start);
        match &span.end {
            Some(end) => self.u8(1).key(end),
            None => self.u8(0),
        }
    }

    pub(crate) fn writes(&mut self, writes: &[Write]) -> &mut Self {
        self.varint(writes.len() as u64);
        for write in writes {
            self.key(&write.key);
            match &write.value {
                Some(value) => self.u8(1).bytes(value),
                None => self.u8(0),
            };
        }
        self
    }

    pub(crate) fn outcome(&mut self, outcome: Outcome) -> &mut Self {
        match outcome {
            Outcome::Committed(s) => self.u8(1).timestamp(s),
            Outcome::Aborted => self.u8(2),
        }
    }
}

pub(crate) struct Decoder {
    bytes: Bytes,
}

type Decoded<T> = Result<T, CodecError>;

impl Decoder {
    pub(crate) fn new(mut bytes: Bytes) -> Decoded<Self> {
        match bytes.first() {
            Some(&FORMAT) => {
                bytes.advance(1);
                Ok(Decoder { bytes })
            }
            Some(&other) => Err(CodecError::Tag(other)),
            None => Err(CodecError::Short),
        }
    }

    pub(crate) fn finish<T>(self, value: T) -> Decoded<T> {
        if self.bytes.is_empty() { Ok(value) } else { Err(CodecError::Trailing(self.bytes.len())) }
    }

    pub(crate) fn u8(&mut self) -> Decoded<u8> {
        let value = *self.bytes.first().ok_or(CodecError::Short)?;
        self.bytes.advance(1);
        Ok(value)
    }

    pub(crate) fn varint(&mut self) -> Decoded<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(CodecError::Tag(0xff))
    }

    pub(crate) fn varint32(&mut self) -> Decoded<u32> {
        u32::try_from(self.varint()?).map_err(|_| CodecError::Tag(0xff))
    }

    pub(crate) fn timestamp(&mut self) -> Decoded<Timestamp> {
        if self.bytes.len() < 8 {
            return Err(CodecError::Short);
        }
        Ok(Timestamp::from_nanos(self.bytes.get_u64()))
    }

    pub(crate) fn bytes(&mut self) -> Decoded<Bytes> {
        let len = usize::try_from(self.varint()?).map_err(|_| CodecError::Short)?;
        if self.bytes.len() < len {
            return Err(CodecError::Short);
        }
        Ok(self.bytes.split_to(len))
    }

    pub(crate) fn key(&mut self) -> Decoded<Key> {
        self.bytes().map(Key::new)
    }

    /// A count of items of which each takes at least one byte: a wrong one can't make us allocate more than we read.
    fn count(&mut self) -> Decoded<usize> {
        let count = usize::try_from(self.varint()?).map_err(|_| CodecError::Short)?;
        if count > self.bytes.len() { Err(CodecError::Short) } else { Ok(count) }
    }

    pub(crate) fn keys(&mut self) -> Decoded<Vec<Key>> {
        let count = self.count()?;
        (0..count).map(|_| self.key()).collect()
    }

    pub(crate) fn txn(&mut self) -> Decoded<TxnId> {
        let first_start = self.timestamp()?;
        let node = NodeId::new(self.varint32()?);
        Ok(TxnId { first_start, node, seq: self.varint()? })
    }

    pub(crate) fn span(&mut self) -> Decoded<Span> {
        let start = self.key()?;
        let end = if self.flag()? { Some(self.key()?) } else { None };
        Ok(Span::new(start, end))
    }

    pub(crate) fn flag(&mut self) -> Decoded<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(CodecError::Tag(other)),
        }
    }

    pub(crate) fn writes(&mut self) -> Decoded<Vec<Write>> {
        let count = self.count()?;
        let mut writes = Vec::with_capacity(count);
        for _ in 0..count {
            let key = self.key()?;
            let value = if self.flag()? { Some(self.bytes()?) } else { None };
            writes.push(Write { key, value });
        }
        Ok(writes)
    }

    pub(crate) fn outcome(&mut self) -> Decoded<Outcome> {
        match self.u8()? {
            1 => Ok(Outcome::Committed(self.timestamp()?)),
            2 => Ok(Outcome::Aborted),
            other => Err(CodecError::Tag(other)),
        }
    }
}

fn kind_tag(kind: MemberKind) -> u8 {
    match kind {
        MemberKind::Voter => 1,
        MemberKind::ReadOnly => 2,
        MemberKind::Witness => 3,
        MemberKind::Observer => 4,
    }
}

impl ShardDescriptor {
    /// The bytes of a descriptor, as kept beside a replica's data and in the shard map.
    pub fn encode(&self) -> Bytes {
        let mut e = Encoder::with_capacity(64);
        e.varint(self.group.get())
            .span(&self.span)
            .varint(self.generation)
            .varint(self.replicas.len() as u64);
        for (node, kind) in &self.replicas {
            e.varint(u64::from(node.get())).u8(kind_tag(*kind));
        }
        e.finish()
    }

    /// The descriptor of [`ShardDescriptor::encode`].
    pub fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut d = Decoder::new(bytes)?;
        let group = GroupId::new(d.varint()?);
        let span = d.span()?;
        let generation = d.varint()?;
        let mut replicas = Vec::new();
        for _ in 0..d.count()? {
            let node = NodeId::new(d.varint32()?);
            let kind = match d.u8()? {
                1 => MemberKind::Voter,
                2 => MemberKind::ReadOnly,
                3 => MemberKind::Witness,
                4 => MemberKind::Observer,
                other => return Err(CodecError::Tag(other)),
            };
            replicas.push((node, kind));
        }
        d.finish(ShardDescriptor { group, span, generation, replicas })
    }
}
