//! The in-memory engine: for simulation and for tests of everything above the seam.
//!
//! Each family is a persistent (structure-sharing) ordered map, so a snapshot is a few reference counts and readers
//! never wait for writers. The engine knows what a disk would know: `durable` is the state at the last sync, and
//! `buffered` are the batches since. [`MemoryEngine::crash`] rebuilds the engine as a machine would find it after a
//! power loss: everything durable, plus a *prefix* of the buffered batches, never a later one without an earlier one
//! and never a part of a batch.
//!
//! ```text
//!   durable ──apply──> b1 ──> b2 ──> b3 (visible)
//!                │      │      │
//!   crash(0) ────┘  (1)─┘  (2)─┘
//! ```
//! Invariants: `visible = durable + buffered`; a synced write or a sync leaves `buffered` empty; after an injected
//! [`Fault::Io`] on a synced write no later write succeeds (what a failed fsync left behind is not known: the batch may
//! or may not survive a crash, and so is kept at the end of the crash prefix while readers do not see it).
//!
//! It is deterministic: no clock, no randomness, no map whose order depends on addresses.

use std::collections::VecDeque;
use std::ops::Bound;

use bytes::Bytes;
use meridian_types::Span;
use parking_lot::{Mutex, RwLock};
use rpds::RedBlackTreeMapSync;

use crate::{Cursor, Durability, Engine, Family, Mutation, Reader, StorageError, WriteBatch};

/// Buffered batches that are remembered one by one. Beyond it the oldest counts as durable, as a disk engine would
/// have flushed it, so that an engine that is never synced does not remember its whole history.
const BUFFERED_BATCHES_MAX: usize = 16_384;

/// How much of what was buffered a crash spares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CrashPoint {
    /// This many of the oldest buffered batches survive; more than there are means all of them.
    pub surviving_batches: usize,
}

impl CrashPoint {
    /// Nothing that was not synced survives.
    pub const NOTHING_BUFFERED: CrashPoint = CrashPoint { surviving_batches: 0 };
    /// Everything survives, as after the crash of the process alone.
    pub const EVERYTHING: CrashPoint = CrashPoint { surviving_batches: usize::MAX };
}

/// What an injected fault looks like to the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The device is full: the write has no effect, later ones may succeed.
    NoSpace,
    /// The device failed. On a synced write (or a sync) the engine refuses every later write.
    Io,
}

type Map = RedBlackTreeMapSync<Bytes, Bytes>;

#[derive(Clone)]
struct Families([Map; Family::COUNT]);

impl Families {
    fn new() -> Self {
        Families(std::array::from_fn(|_| Map::new_sync()))
    }

    fn map(&self, family: Family) -> &Map {
        &self.0[family as usize]
    }

    fn apply(&mut self, mutation: Mutation) {
        match mutation {
            Mutation::Put { family, key, value } => self.0[family as usize].insert_mut(key, value),
            Mutation::Delete { family, key } => {
                self.0[family as usize].remove_mut(&key[..]);
            }
            Mutation::DeleteSpan { family, span } => {
                if span.is_empty() {
                    return;
                }
                let map = &mut self.0[family as usize];
                let keys: Vec<Bytes> = map.range::<[u8], _>(bounds(&span)).map(|(k, _)| k.clone()).collect();
                for key in keys {
                    map.remove_mut(&key[..]);
                }
            }
        }
    }

    fn apply_all(&mut self, mutations: impl IntoIterator<Item = Mutation>) {
        mutations.into_iter().for_each(|m| self.apply(m));
    }
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

fn bounds(span: &Span) -> Bounds<'_> {
    let end = span.end.as_ref().map_or(Bound::Unbounded, |e| Bound::Excluded(e.as_bytes()));
    (Bound::Included(span.start.as_bytes()), end)
}

struct Disk {
    durable: Families,
    buffered: VecDeque<Vec<Mutation>>,
    indeterminate: Option<Vec<Mutation>>,
    next_fault: Option<Fault>,
    failed: bool,
}

/// An engine in memory.
pub struct MemoryEngine {
    /// Held by writers for the whole of a write, so that batches become visible in the order they became buffered.
    disk: Mutex<Disk>,
    visible: RwLock<Families>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::from_durable(Families::new())
    }

    fn from_durable(durable: Families) -> Self {
        let disk = Disk {
            durable: durable.clone(),
            buffered: VecDeque::new(),
            indeterminate: None,
            next_fault: None,
            failed: false,
        };
        MemoryEngine { disk: Mutex::new(disk), visible: RwLock::new(durable) }
    }

    /// The engine as it would be found after the machine crashed at this moment. `self` is left as it is, so that a
    /// test can compare several crash points.
    pub fn crash(&self, at: CrashPoint) -> MemoryEngine {
        let disk = self.disk.lock();
        let mut found = disk.durable.clone();
        let maybe = disk.buffered.iter().chain(&disk.indeterminate);
        for batch in maybe.take(at.surviving_batches) {
            found.apply_all(batch.iter().cloned());
        }
        Self::from_durable(found)
    }

    /// How many batches a crash could lose at this moment.
    pub fn buffered_batches(&self) -> usize {
        let disk = self.disk.lock();
        disk.buffered.len() + usize::from(disk.indeterminate.is_some())
    }

    /// Makes the next write or sync fail.
    pub fn fail_next_write(&self, fault: Fault) {
        self.disk.lock().next_fault = Some(fault);
    }

    /// Keys in a family, for tests and metrics.
    pub fn len(&self, family: Family) -> usize {
        self.visible.read().map(family).size()
    }

    /// True when a family holds no key.
    pub fn is_empty(&self, family: Family) -> bool {
        self.len(family) == 0
    }

    fn snapshot_families(&self) -> Families {
        self.visible.read().clone()
    }
}

impl Disk {
    /// Refuses what an engine with a failed device, or one about to fail, refuses. `batch` is what an fsync that fails
    /// may have left behind.
    fn admit(&mut self, batch: Option<&WriteBatch>, durability: Durability) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Io { detail: "an earlier write failed".to_owned() });
        }
        match self.next_fault.take() {
            None => Ok(()),
            Some(Fault::NoSpace) => Err(StorageError::NoSpace { detail: "injected".to_owned() }),
            Some(Fault::Io) => {
                if durability == Durability::Synced {
                    self.failed = true;
                    self.indeterminate = batch.map(|b| b.mutations().to_vec());
                }
                Err(StorageError::Io { detail: "injected".to_owned() })
            }
        }
    }

    fn make_durable(&mut self, visible: &Families) {
        self.durable = visible.clone();
        self.buffered.clear();
    }
}

impl Engine for MemoryEngine {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StorageError> {
        let mut disk = self.disk.lock();
        disk.admit(Some(&batch), durability)?;
        let mutations = batch.into_mutations();
        let mut visible = self.visible.write();
        match durability {
            Durability::Synced => {
                visible.apply_all(mutations);
                disk.make_durable(&visible);
            }
            Durability::Buffered => {
                if disk.buffered.len() == BUFFERED_BATCHES_MAX {
                    let oldest = disk.buffered.pop_front().expect("a full queue has a front");
                    disk.durable.apply_all(oldest);
                }
                visible.apply_all(mutations.iter().cloned());
                disk.buffered.push_back(mutations);
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut disk = self.disk.lock();
        disk.admit(None, Durability::Synced)?;
        let visible = self.visible.read();
        disk.make_durable(&visible);
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn Reader + '_> {
        Box::new(MemorySnapshot(self.snapshot_families()))
    }
}

impl Reader for MemoryEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.visible.read().map(family).get(key).cloned())
    }

    fn cursor<'a>(&'a self, family: Family, span: &Span) -> Box<dyn Cursor + 'a> {
        let map = self.visible.read().map(family).clone();
        Box::new(MemoryCursor::new(map, span))
    }
}

struct MemorySnapshot(Families);

impl Reader for MemorySnapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.map(family).get(key).cloned())
    }

    fn cursor<'a>(&'a self, family: Family, span: &Span) -> Box<dyn Cursor + 'a> {
        Box::new(MemoryCursor::new(self.0.map(family).clone(), span))
    }
}

/// Owns its version of the map, so that it needs no lock while it moves.
struct MemoryCursor {
    map: Map,
    span: Span,
    at: Option<(Bytes, Bytes)>,
}

impl MemoryCursor {
    fn new(map: Map, span: &Span) -> Self {
        MemoryCursor { map, span: span.clone(), at: None }
    }

    fn lower(&self) -> Bound<&[u8]> {
        bounds(&self.span).0
    }

    fn upper(&self) -> Bound<&[u8]> {
        bounds(&self.span).1
    }

    fn forward(&self, from: Bound<&[u8]>) -> Option<(Bytes, Bytes)> {
        let start = match from {
            Bound::Included(k) | Bound::Excluded(k) if k < self.span.start.as_bytes() => self.lower(),
            from => from,
        };
        let beyond = match (start, self.upper()) {
            (Bound::Included(s) | Bound::Excluded(s), Bound::Excluded(e)) => s >= e,
            _ => false,
        };
        if beyond {
            return None;
        }
        let (key, value) = self.map.range::<[u8], _>((start, self.upper())).next()?;
        Some((key.clone(), value.clone()))
    }

    fn backward(&self, before: Option<&[u8]>) -> Option<(Bytes, Bytes)> {
        let end = match (before, self.upper()) {
            (Some(k), Bound::Excluded(e)) => Bound::Excluded(k.min(e)),
            (Some(k), _) => Bound::Excluded(k),
            (None, upper) => upper,
        };
        if matches!(end, Bound::Excluded(e) if e <= self.span.start.as_bytes()) {
            return None;
        }
        let (key, value) = self.map.range::<[u8], _>((self.lower(), end)).next_back()?;
        Some((key.clone(), value.clone()))
    }

    fn current(&self) -> &(Bytes, Bytes) {
        self.at.as_ref().expect("the cursor is not on a key")
    }

    fn land(&mut self, at: Option<(Bytes, Bytes)>) -> Result<bool, StorageError> {
        self.at = at;
        Ok(self.at.is_some())
    }
}

impl Cursor for MemoryCursor {
    fn seek(&mut self, key: &[u8]) -> Result<bool, StorageError> {
        self.land(self.forward(Bound::Included(key)))
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<bool, StorageError> {
        self.land(self.backward(Some(key)))
    }

    fn first(&mut self) -> Result<bool, StorageError> {
        self.land(self.forward(self.lower()))
    }

    fn last(&mut self) -> Result<bool, StorageError> {
        self.land(self.backward(None))
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        self.land(self.forward(Bound::Excluded(&self.current().0)))
    }

    fn prev(&mut self) -> Result<bool, StorageError> {
        self.land(self.backward(Some(&self.current().0)))
    }

    fn key(&self) -> &[u8] {
        &self.current().0
    }

    fn value(&self) -> &[u8] {
        &self.current().1
    }
}

#[cfg(test)]
mod tests {
    use meridian_types::Key;

    use super::*;

    fn put(key: &'static str, value: &'static str) -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.put(Family::State, key.as_bytes(), value.as_bytes());
        batch
    }

    fn has(engine: &MemoryEngine, key: &str) -> bool {
        engine.get(Family::State, key.as_bytes()).unwrap().is_some()
    }

    #[test]
    fn conforms() {
        crate::conformance::run(&mut || MemoryEngine::new());
    }

    #[test]
    fn crash_spares_a_prefix_of_the_buffered_batches() {
        let engine = MemoryEngine::new();
        engine.write(put("a", "1"), Durability::Buffered).unwrap();
        engine.write(put("b", "1"), Durability::Synced).unwrap();
        engine.write(put("c", "1"), Durability::Buffered).unwrap();
        engine.write(put("d", "1"), Durability::Buffered).unwrap();
        let survivors = |n| {
            let found = engine.crash(CrashPoint { surviving_batches: n });
            ["a", "b", "c", "d"].map(|k| has(&found, k))
        };
        assert_eq!(survivors(0), [true, true, false, false]);
        assert_eq!(survivors(1), [true, true, true, false]);
        assert_eq!(survivors(2), [true, true, true, true]);
        assert_eq!(survivors(9), [true, true, true, true]);
        engine.sync().unwrap();
        assert_eq!(engine.buffered_batches(), 0);
        assert_eq!(survivors(0), [true, true, true, true]);
    }

    #[test]
    fn crash_keeps_buffered_span_deletions_in_order() {
        let engine = MemoryEngine::new();
        engine.write(put("a", "1"), Durability::Synced).unwrap();
        let mut wipe = WriteBatch::new();
        wipe.delete_span(Family::State, Span::ALL);
        engine.write(wipe, Durability::Buffered).unwrap();
        engine.write(put("a", "2"), Durability::Buffered).unwrap();
        let value = |n| {
            let found = engine.crash(CrashPoint { surviving_batches: n });
            found.get(Family::State, b"a").unwrap()
        };
        assert_eq!(value(0).as_deref(), Some(&b"1"[..]));
        assert_eq!(value(1), None);
        assert_eq!(value(2).as_deref(), Some(&b"2"[..]));
    }

    #[test]
    fn an_engine_that_never_syncs_forgets_its_oldest_batches_into_the_durable_state() {
        let engine = MemoryEngine::new();
        for i in 0..BUFFERED_BATCHES_MAX + 3 {
            let mut batch = WriteBatch::new();
            batch.put(Family::State, i.to_be_bytes().to_vec(), &b""[..]);
            engine.write(batch, Durability::Buffered).unwrap();
        }
        assert_eq!(engine.buffered_batches(), BUFFERED_BATCHES_MAX);
        assert_eq!(engine.crash(CrashPoint::NOTHING_BUFFERED).len(Family::State), 3);
    }

    #[test]
    fn a_full_device_refuses_one_write_and_goes_on() {
        let engine = MemoryEngine::new();
        engine.fail_next_write(Fault::NoSpace);
        let refused = engine.write(put("a", "1"), Durability::Synced);
        assert!(matches!(refused, Err(StorageError::NoSpace { .. })));
        assert!(!has(&engine, "a"));
        engine.write(put("b", "1"), Durability::Synced).unwrap();
        assert!(has(&engine, "b"));
    }

    #[test]
    fn a_failed_synced_write_is_sticky_and_its_batch_is_indeterminate() {
        let engine = MemoryEngine::new();
        engine.fail_next_write(Fault::Io);
        assert!(matches!(engine.write(put("a", "1"), Durability::Synced), Err(StorageError::Io { .. })));
        assert!(matches!(engine.write(put("b", "1"), Durability::Buffered), Err(StorageError::Io { .. })));
        assert!(matches!(engine.sync(), Err(StorageError::Io { .. })));
        assert!(!has(&engine, "a"));
        assert!(!has(&engine.crash(CrashPoint::NOTHING_BUFFERED), "a"));
        let lucky = engine.crash(CrashPoint::EVERYTHING);
        assert!(has(&lucky, "a"));
        lucky.write(put("c", "1"), Durability::Synced).unwrap();
    }

    #[test]
    #[should_panic(expected = "the cursor is not on a key")]
    fn a_cursor_beside_a_key_shows_none() {
        let engine = MemoryEngine::new();
        let span = Span::prefix(&Key::copy_from(b"x"));
        let mut cursor = engine.cursor(Family::State, &span);
        assert!(!cursor.first().unwrap());
        let _ = cursor.key();
    }
}
