//! The data engine with a memory of rows in demand.
//!
//! A point read of the engine makes an iterator over memtables and files, which is most of what a read by key costs.
//! Rows that were read lately are remembered here by their newest version, and a read at or above its timestamp needs
//! nothing else. All writes of the node's data go through this engine, which brings what it remembers up to date
//! before a write returns.
//!
//! ```text
//!   reader                             writer
//!     recall(row) -> ticket 7
//!     reads version 10 from files        writes version 20 to the engine
//!                                        stripe: remembered? replace; ticket 8
//!     remember(7, row, version 10)
//!       -> 7 is not 8: forgotten
//! ```
//! Invariants: a remembered version is the newest of its row, but for writes that have not returned yet: whoever reads at
//! a timestamp that such a write may reach waits for it before asking (I-8). Older versions, snapshots and scans are never
//! answered from here. What compaction drops does not matter: a row's newest version goes only when it is a tombstone,
//! and then reads the same.
//!
//! Memory is bounded: each stripe has a young and an old half, rows in demand move to the young one, and the old one is
//! dropped when that is full.

use std::collections::HashMap;

use bytes::Bytes;
use meridian_keys::version;
use meridian_storage::{
    Cursor, Durability, Engine, Family, Mutation, Reader, Recall, StorageError, Ticket, WriteBatch,
};
use meridian_types::{Span, Timestamp};
use parking_lot::Mutex;
use std::sync::Arc;

/// Parts with a lock of their own.
const STRIPES: usize = 64;

/// A larger row is not remembered: reading it costs more than finding it.
const STORED_BYTES_MAX: usize = 4 << 10;

/// What an entry takes besides its key and value: the table's slot, two allocations.
const ENTRY_BYTES: usize = 96;

/// A row's newest version.
struct Entry {
    at: Timestamp,
    stored: Bytes,
}

type Rows = HashMap<Box<[u8]>, Entry>;

#[derive(Default)]
struct Stripe {
    /// Counts writes to rows of this stripe.
    ticket: u64,
    young: Rows,
    young_bytes: usize,
    old: Rows,
}

impl Stripe {
    fn recall(&mut self, row: &[u8], half: usize) -> Recall {
        if let Some(entry) = self.young.get(row) {
            return Recall::Newest { at: entry.at, stored: entry.stored.clone() };
        }
        let Some((row, entry)) = self.old.remove_entry(row) else {
            return Recall::Unknown(Some(Ticket(self.ticket)));
        };
        let found = Recall::Newest { at: entry.at, stored: entry.stored.clone() };
        drop(self.insert(row, entry, half));
        found
    }

    /// Returns what is to be dropped, better without the lock.
    fn insert(&mut self, row: Box<[u8]>, entry: Entry, half: usize) -> Rows {
        self.young_bytes += row.len() + entry.stored.len() + ENTRY_BYTES;
        self.young.insert(row, entry);
        if self.young_bytes <= half {
            return Rows::new();
        }
        self.young_bytes = 0;
        std::mem::replace(&mut self.old, std::mem::take(&mut self.young))
    }

    fn entry(&mut self, row: &[u8]) -> Option<&mut Entry> {
        match self.young.get_mut(row) {
            Some(entry) => Some(entry),
            None => self.old.get_mut(row),
        }
    }

    fn forget(&mut self, row: &[u8]) {
        self.young.remove(row);
        self.old.remove(row);
    }
}

/// See the module's documentation.
pub(crate) struct RowCache {
    engine: Arc<dyn Engine>,
    stripes: Vec<Mutex<Stripe>>,
    /// Bytes of half a stripe.
    half: usize,
}

impl RowCache {
    /// In front of `engine`, which nobody else may write data to. Keeps up to so many bytes.
    pub(crate) fn new(engine: Arc<dyn Engine>, bytes: usize) -> Self {
        let stripes = std::iter::repeat_with(Mutex::default).take(STRIPES).collect();
        RowCache { engine, stripes, half: bytes / STRIPES / 2 }
    }

    fn stripe(&self, row: &[u8]) -> &Mutex<Stripe> {
        &self.stripes[crc32c::crc32c(row) as usize % STRIPES]
    }

    /// Brings what is remembered up to date with a batch that was written, or of which that is not known.
    fn note(&self, batch: &WriteBatch, is_written: bool) {
        for mutation in batch.mutations() {
            match mutation {
                Mutation::Put { family: Family::Data, key, value } => {
                    self.note_version(key, is_written.then_some(value));
                }
                Mutation::Delete { family: Family::Data, key } => self.note_version(key, None),
                Mutation::DeleteSpan { family: Family::Data, .. } => self.forget_all(),
                Mutation::Put { .. } | Mutation::Delete { .. } | Mutation::DeleteSpan { .. } => {}
            }
        }
    }

    /// `None`: the version may or may not be there.
    fn note_version(&self, key: &[u8], stored: Option<&Bytes>) {
        let Ok((row, at)) = version::split(key) else { return self.forget_all() };
        let mut stripe = self.stripe(row).lock();
        stripe.ticket += 1;
        match stored {
            Some(stored) if stored.len() <= STORED_BYTES_MAX => {
                if let Some(entry) = stripe.entry(row).filter(|e| e.at <= at) {
                    // A copy: the batch's bytes may be a part of something much larger.
                    *entry = Entry { at, stored: Bytes::copy_from_slice(stored) };
                }
            }
            _ => stripe.forget(row),
        }
    }

    fn forget_all(&self) {
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            *stripe = Stripe { ticket: stripe.ticket + 1, ..Stripe::default() };
        }
    }
}

impl Reader for RowCache {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.engine.get(family, key)
    }

    fn cursor<'a>(&'a self, family: Family, span: &Span) -> Box<dyn Cursor + 'a> {
        self.engine.cursor(family, span)
    }

    fn rows<'a>(&'a self) -> Box<dyn Cursor + 'a> {
        self.engine.rows()
    }

    fn recall(&self, row: &[u8]) -> Recall {
        self.stripe(row).lock().recall(row, self.half)
    }

    fn remember(&self, ticket: Ticket, row: &[u8], at: Timestamp, stored: &[u8]) {
        if stored.len() > STORED_BYTES_MAX {
            return;
        }
        let entry = Entry { at, stored: Bytes::copy_from_slice(stored) };
        let row: Box<[u8]> = row.into();
        let mut stripe = self.stripe(&row).lock();
        if stripe.ticket == ticket.0 {
            let dropped = stripe.insert(row, entry, self.half);
            drop(stripe);
            drop(dropped);
        }
    }
}

impl Engine for RowCache {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StorageError> {
        self.write_kept(&batch, durability)
    }

    fn write_kept(&self, batch: &WriteBatch, durability: Durability) -> Result<(), StorageError> {
        let written = self.engine.write_kept(batch, durability);
        self.note(batch, written.is_ok());
        written
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.engine.sync()
    }

    fn snapshot(&self) -> Box<dyn Reader + '_> {
        self.engine.snapshot()
    }
}

#[cfg(test)]
mod tests {
    use meridian_storage::MemoryEngine;
    use meridian_types::Key;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn ts(n: u64) -> Timestamp {
        Timestamp::from_nanos(n)
    }

    fn put(cache: &RowCache, key: &[u8], at: u64, value: &[u8]) {
        let mut batch = WriteBatch::new();
        meridian_mvcc::put_version(&mut batch, key, ts(at), value);
        cache.write(batch, Durability::Buffered).unwrap();
    }

    fn value(reader: &dyn Reader, key: &[u8], at: u64) -> Option<(Timestamp, Bytes)> {
        meridian_mvcc::get(reader, key, ts(at)).unwrap()
    }

    fn row(key: &[u8]) -> Vec<u8> {
        let mut row = Vec::new();
        version::push_row_prefix(&mut row, key);
        row
    }

    #[test]
    fn a_read_row_is_remembered_and_a_write_replaces_it() {
        let cache = RowCache::new(Arc::new(MemoryEngine::default()), 1 << 20);
        put(&cache, b"a", 10, b"x");
        assert!(matches!(cache.recall(&row(b"a")), Recall::Unknown(Some(_))));
        assert_eq!(value(&cache, b"a", 50), Some((ts(10), Bytes::from("x"))));
        assert!(matches!(cache.recall(&row(b"a")), Recall::Newest { at, .. } if at == ts(10)));
        put(&cache, b"a", 20, b"y");
        assert!(matches!(cache.recall(&row(b"a")), Recall::Newest { at, .. } if at == ts(20)));
        assert_eq!(
            value(&cache, b"a", 19),
            Some((ts(10), Bytes::from("x"))),
            "the older version is asked for"
        );
        assert_eq!(value(&cache, b"a", 20), Some((ts(20), Bytes::from("y"))));
        assert_eq!(value(&cache, b"a", 9), None);
    }

    #[test]
    fn what_was_overwritten_while_it_was_read_is_not_remembered() {
        let cache = RowCache::new(Arc::new(MemoryEngine::default()), 1 << 20);
        put(&cache, b"a", 10, b"x");
        let Recall::Unknown(Some(ticket)) = cache.recall(&row(b"a")) else { panic!("it was not read yet") };
        put(&cache, b"a", 20, b"y");
        cache.remember(ticket, &row(b"a"), ts(10), b"\x01x");
        assert_eq!(value(&cache, b"a", 50), Some((ts(20), Bytes::from("y"))));
    }

    #[test]
    fn an_erased_span_is_forgotten() {
        let cache = RowCache::new(Arc::new(MemoryEngine::default()), 1 << 20);
        put(&cache, b"a", 10, b"x");
        assert!(value(&cache, b"a", 50).is_some());
        let mut batch = WriteBatch::new();
        meridian_mvcc::erase_span(&mut batch, &Span::ALL);
        cache.write(batch, Durability::Buffered).unwrap();
        assert_eq!(value(&cache, b"a", 50), None);
    }

    #[test]
    fn memory_is_bounded_and_rows_in_demand_stay() {
        let cache = RowCache::new(Arc::new(MemoryEngine::default()), 64 * 2 * 1024);
        put(&cache, b"hot", 10, b"x");
        for i in 0..4_000u32 {
            put(&cache, &i.to_be_bytes(), 10, &[7; 100]);
            assert!(value(&cache, &i.to_be_bytes(), 50).is_some());
            assert!(value(&cache, b"hot", 50).is_some());
        }
        let rows = |stripe: &Mutex<Stripe>| {
            let stripe = stripe.lock();
            stripe.young.len() + stripe.old.len()
        };
        let kept: usize = cache.stripes.iter().map(rows).sum();
        assert!((64..1_000).contains(&kept), "{kept} rows of some 200 bytes in 128 KiB");
        assert!(matches!(cache.recall(&row(b"hot")), Recall::Newest { .. }));
    }

    /// Whatever is written and read, the cache answers as the engine does.
    #[test]
    fn it_reads_as_the_engine_behind_it() {
        for seed in 0..50 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::default());
            let cache = RowCache::new(engine.clone(), 16 << 10);
            let key = |rng: &mut SmallRng| vec![rng.random_range(0..3u8); rng.random_range(1..4)];
            let mut pending: Vec<(Ticket, Vec<u8>, Timestamp, Vec<u8>)> = Vec::new();
            for now in 1..2_000u64 {
                let k = key(&mut rng);
                match rng.random_range(0..100) {
                    0..40 => {
                        let at = rng.random_range(now.saturating_sub(20)..=now);
                        assert_eq!(value(&cache, &k, at), value(&*engine, &k, at), "seed {seed}, {now}");
                        assert_eq!(value(&cache, &k, u64::MAX), value(&*engine, &k, u64::MAX), "seed {seed}");
                    }
                    // A reader that stops between its look at the engine and telling the cache of it.
                    40..50 => {
                        let newest = meridian_mvcc::versions(&*engine, &k).unwrap().into_iter().next();
                        if let (Recall::Unknown(Some(ticket)), Some((at, value))) =
                            (cache.recall(&row(&k)), newest)
                        {
                            let stored = value.map_or(vec![0], |v| [&[1], &v[..]].concat());
                            pending.push((ticket, row(&k), at, stored));
                        }
                    }
                    50..60 => {
                        for (ticket, row, at, stored) in pending.drain(..) {
                            cache.remember(ticket, &row, at, &stored);
                        }
                    }
                    60..96 => {
                        let mut batch = WriteBatch::new();
                        for k in [k, key(&mut rng)] {
                            let value = now.to_be_bytes();
                            let value = rng.random_bool(0.8).then_some(&value[..]);
                            meridian_mvcc::write_version(&mut batch, &k, ts(now), value);
                        }
                        cache.write(batch, Durability::Buffered).unwrap();
                    }
                    96..98 => {
                        let mut batch = WriteBatch::new();
                        batch.delete(Family::Data, version::encode(&k, ts(now - 1)));
                        cache.write(batch, Durability::Buffered).unwrap();
                    }
                    _ => {
                        let mut batch = WriteBatch::new();
                        let span = Span::new(Key::new(vec![1]), Some(Key::new(vec![2])));
                        meridian_mvcc::erase_span(&mut batch, &span);
                        cache.write(batch, Durability::Buffered).unwrap();
                    }
                }
            }
        }
    }
}
