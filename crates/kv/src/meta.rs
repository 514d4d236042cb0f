//! The shard map in the system keyspace: one record per shard, keyed by the shard's end.
//!
//! All of the map lies in the root shard, group 1, which begins at the smallest key and is never split below the end
//! of the map. It is found by asking the nodes, everything else from there. Records follow the truth, which is
//! in the shards themselves: a split is done when the shard's log says so, and its records are written afterwards.
//! In between, a lookup finds the parent's record, whose shard answers `WrongShard`; see `repair`.

use bytes::{BufMut, Bytes};
use meridian_keys::{SystemKey, meta_lookup_span, meta_span};
use meridian_kv_api::KvError;
use meridian_paxos::MemberKind;
use meridian_shard::{ReadMode, ReadOp, ReadResult, Request, Response, ShardDescriptor};
use meridian_types::{GroupId, Key, NodeId, Span, limits::SCAN_PAGE_BYTES};

use crate::call::{Failure, Resend, Tries, unexpected};
use crate::gateway::Core;
use crate::limits::META_PAGE_ROWS;
use crate::router::{Route, Router};

/// The group that holds the shard map.
pub const ROOT_GROUP: GroupId = GroupId::new(1);

/// Format of a record. Persisted.
const VERSION: u8 = 1;

/// A descriptor as the value of its record: version, group, generation, replicas, start, end; integers big-endian.
pub fn encode_descriptor(descriptor: &ShardDescriptor) -> Bytes {
    let span = &descriptor.span;
    let mut out = Vec::with_capacity(64 + span.start.as_bytes().len());
    out.put_u8(VERSION);
    out.put_u64(descriptor.group.get());
    out.put_u64(descriptor.generation);
    out.put_u32(descriptor.replicas.len() as u32);
    for (node, kind) in &descriptor.replicas {
        out.put_u32(node.get());
        out.put_u8(kind_code(*kind));
    }
    put_bytes(&mut out, span.start.as_bytes());
    match &span.end {
        None => out.put_u8(0),
        Some(end) => {
            out.put_u8(1);
            put_bytes(&mut out, end.as_bytes());
        }
    }
    out.into()
}

/// The inverse of [`encode_descriptor`].
pub fn decode_descriptor(bytes: &[u8]) -> Result<ShardDescriptor, KvError> {
    let mut at = bytes;
    let descriptor = parse(&mut at).filter(|_| at.is_empty());
    descriptor.ok_or_else(|| KvError::Internal {
        detail: format!("malformed shard record of {} bytes", bytes.len()),
    })
}

fn parse(at: &mut &[u8]) -> Option<ShardDescriptor> {
    if take(at, 1)? != [VERSION] {
        return None;
    }
    let group = GroupId::new(u64::from_be_bytes(take(at, 8)?.try_into().ok()?));
    let generation = u64::from_be_bytes(take(at, 8)?.try_into().ok()?);
    let count = take_u32(at)?;
    let mut replicas = Vec::new();
    for _ in 0..count {
        replicas.push((NodeId::new(take_u32(at)?), kind_of(take(at, 1)?[0])?));
    }
    let start = take_bytes(at)?;
    let end = match take(at, 1)? {
        [0] => None,
        [1] => Some(take_bytes(at)?),
        _ => return None,
    };
    Some(ShardDescriptor { group, span: Span::new(start, end), generation, replicas })
}

fn kind_code(kind: MemberKind) -> u8 {
    match kind {
        MemberKind::Voter => 1,
        MemberKind::ReadOnly => 2,
        MemberKind::Witness => 3,
        MemberKind::Observer => 4,
    }
}

fn kind_of(code: u8) -> Option<MemberKind> {
    match code {
        1 => Some(MemberKind::Voter),
        2 => Some(MemberKind::ReadOnly),
        3 => Some(MemberKind::Witness),
        4 => Some(MemberKind::Observer),
        _ => None,
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

fn take<'a>(at: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = at.split_at_checked(len)?;
    *at = rest;
    Some(head)
}

fn take_u32(at: &mut &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(take(at, 4)?.try_into().ok()?))
}

fn take_bytes(at: &mut &[u8]) -> Option<Key> {
    let len = take_u32(at)? as usize;
    take(at, len).map(Key::copy_from)
}

/// What is looked for in the shard map.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'a> {
    /// The shard that holds a key.
    Key(&'a Key),
    /// The shard that holds the keys just before an end (of a span that is read backwards).
    Before(Option<&'a Key>),
}

impl Wanted<'_> {
    fn cached(self, router: &Router) -> Option<Route> {
        match self {
            Wanted::Key(key) => router.route(key),
            Wanted::Before(end) => router.route_before(end),
        }
    }

    /// True when a shard with this span is what is looked for.
    pub(crate) fn is_held_by(self, span: &Span) -> bool {
        match self {
            Wanted::Key(key) => span.contains(key.as_bytes()),
            Wanted::Before(Some(end)) => span.start < *end && span.end.as_ref().is_none_or(|e| e >= end),
            Wanted::Before(None) => span.end.is_none(),
        }
    }

    /// The part of the shard map that begins with the record of the wanted shard.
    fn records(self) -> Span {
        match self {
            Wanted::Key(key) => meta_lookup_span(key),
            Wanted::Before(end) => Span::new(SystemKey::Meta { end: end.cloned() }.encode(), meta_span().end),
        }
    }
}

impl Core {
    /// The shard of a key.
    pub(crate) async fn route(&self, key: &Key, tries: &mut Tries) -> Result<Route, KvError> {
        self.find(Wanted::Key(key), tries).await
    }

    /// The shard of the keys just before `end`.
    pub(crate) async fn route_before(&self, end: Option<&Key>, tries: &mut Tries) -> Result<Route, KvError> {
        self.find(Wanted::Before(end), tries).await
    }

    async fn find(&self, wanted: Wanted<'_>, tries: &mut Tries) -> Result<Route, KvError> {
        loop {
            if let Some(route) = wanted.cached(&self.router) {
                return Ok(route);
            }
            // A future on the heap keeps those of the cached case small.
            Box::pin(self.look_up(wanted, tries)).await?;
        }
    }

    /// Reads the part of the shard map that is wanted into the cache.
    async fn look_up(&self, wanted: Wanted<'_>, tries: &mut Tries) -> Result<(), KvError> {
        let lookup = self.router.lookup.try_lock();
        let _only_one = match lookup {
            Ok(guard) => guard,
            Err(_) => tries.wait_for(self.router.lookup.lock(), "the shard map can't be read").await?,
        };
        if wanted.cached(&self.router).is_some() {
            return Ok(());
        }
        let root = self.router.root();
        let map = Span::new(Key::MIN, meta_span().end);
        if wanted.is_held_by(&map) && wanted.is_held_by(&root.descriptor.span) {
            self.router.learn(&root.descriptor);
            return Ok(());
        }
        let page = self.meta_page(wanted.records(), tries).await?;
        let is_mapped = page.first().is_some_and(|first| wanted.is_held_by(&first.span));
        if !is_mapped && wanted.is_held_by(&root.descriptor.span) {
            // A cluster whose map is not written yet consists of the root shard.
            self.router.learn(&root.descriptor);
            return Ok(());
        }
        for descriptor in &page {
            self.router.learn(descriptor);
        }
        if wanted.cached(&self.router).is_some() {
            return Ok(());
        }
        // The record is older than what the cache knows of its group: a split was not written to the map (yet).
        let stale = if is_mapped { &page[0] } else { &root.descriptor };
        if !self.repair(wanted, stale).await {
            tries.pause(self, "the shard map has no shard for a key").await?;
        }
        Ok(())
    }

    /// One page of the shard map, as new as its leader has it.
    pub(crate) async fn meta_page(
        &self,
        span: Span,
        tries: &mut Tries,
    ) -> Result<Vec<ShardDescriptor>, KvError> {
        let (limit_rows, limit_bytes) = (META_PAGE_ROWS, SCAN_PAGE_BYTES);
        let op = ReadOp::Scan { span, reverse: false, limit_rows, limit_bytes };
        let make = || Request::Read { mode: ReadMode::Strong, ops: vec![op.clone()] };
        loop {
            let root = self.router.root();
            match self.ask(&root, tries, Resend::Always, &make).await {
                Ok(Response::Read { results, .. }) => {
                    return match results.into_iter().next() {
                        Some(ReadResult::Rows { rows, .. }) => {
                            rows.iter().map(|(_, value)| decode_descriptor(value)).collect()
                        }
                        other => Err(unexpected("Read of the shard map", &other)),
                    };
                }
                Ok(other) => return Err(unexpected("Read of the shard map", &other)),
                Err(Failure::Moved) => tries.pause(self, "the shard map can't be read").await?,
                Err(failure) => return Err(failure.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_golden_bytes_and_round_trip() {
        let key = |s: &str| Key::copy_from(s.as_bytes());
        let d = ShardDescriptor {
            group: GroupId::new(7),
            span: Span::new(key("a"), Some(key("mm"))),
            generation: 258,
            replicas: vec![(NodeId::new(1), MemberKind::Voter), (NodeId::new(3), MemberKind::ReadOnly)],
        };
        let golden = b"\x01\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\x01\x02\0\0\0\x02\0\0\0\x01\x01\0\0\0\x03\x02\
            \0\0\0\x01a\x01\0\0\0\x02mm";
        assert_eq!(encode_descriptor(&d).as_ref(), golden);
        assert_eq!(decode_descriptor(golden), Ok(d.clone()));
        let last = ShardDescriptor { span: Span::ALL, replicas: Vec::new(), ..d };
        assert_eq!(decode_descriptor(&encode_descriptor(&last)), Ok(last));
        for cut in 0..golden.len() {
            assert!(decode_descriptor(&golden[..cut]).is_err(), "cut at {cut}");
        }
        assert!(decode_descriptor(&[golden.as_slice(), b"x"].concat()).is_err(), "trailing byte");
    }
}
