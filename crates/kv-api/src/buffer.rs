//! The write buffer of a read-write transaction: what it has written and nobody else sees yet.
//!
//! The buffer is overlaid on the transaction's own reads, so that it sees its writes before they exist anywhere else.
//! Savepoints are positions in an undo log that is kept only once the first savepoint was taken: most transactions
//! take none and then pay nothing for them.
//!
//! Invariant: `bytes` is the sum of [`write_bytes`] over the map.

use std::collections::BTreeMap;
use std::collections::btree_map::{Entry, Range};
use std::ops::Bound;

use bytes::Bytes;
use meridian_types::{Key, Span, limits};

use crate::{KvError, KvWrite, Savepoint, ScanPage};

/// Bytes of keys and values that one transaction may write unless it is told otherwise. The gateway holds them in memory until commit, and every
/// written shard's leader holds its part until it is applied; beyond this a load should be cut into transactions.
pub const TXN_BYTES_MAX: usize = 256 << 20;

/// What a buffered write costs beside its key and value: map node, undo record, message framing.
const WRITE_OVERHEAD: usize = 64;

/// The size of one write, as counted against [`TXN_BYTES_MAX`] and against the size of a log entry.
pub fn write_bytes(key: &Key, value: Option<&Bytes>) -> usize {
    key.as_bytes().len() + value.map_or(0, Bytes::len) + WRITE_OVERHEAD
}

/// Buffered writes with undo marks.
#[derive(Debug)]
pub struct WriteBuffer {
    map: BTreeMap<Key, Option<Bytes>>,
    /// What each write replaced: `None` where the key was not in the buffer.
    undo: Vec<(Key, Option<Option<Bytes>>)>,
    has_marks: bool,
    bytes: usize,
    bytes_max: usize,
}

impl Default for WriteBuffer {
    fn default() -> Self {
        WriteBuffer {
            map: BTreeMap::new(),
            undo: Vec::new(),
            has_marks: false,
            bytes: 0,
            bytes_max: TXN_BYTES_MAX,
        }
    }
}

impl WriteBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        WriteBuffer::default()
    }

    /// Refuses writes beyond this size from now on; what was taken stays.
    pub fn limit_bytes(&mut self, max: usize) {
        self.bytes_max = max;
    }

    /// True when nothing is written.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// How many keys are written.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// The size of all writes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds writes; the last one of a key counts. All or none of them are taken.
    pub fn write(&mut self, writes: Vec<KvWrite>) -> Result<(), KvError> {
        let mut added = 0;
        for w in &writes {
            check("key", w.key.as_bytes().len(), limits::KEY_BYTES_MAX)?;
            check("value", w.value.as_ref().map_or(0, Bytes::len), limits::VALUE_BYTES_MAX)?;
            added += write_bytes(&w.key, w.value.as_ref());
        }
        check("transaction", self.bytes + added, self.bytes_max)?;
        for KvWrite { key, value } in writes {
            self.put(key, value);
        }
        Ok(())
    }

    fn put(&mut self, key: Key, value: Option<Bytes>) {
        self.bytes += write_bytes(&key, value.as_ref());
        let undo_key = self.has_marks.then(|| key.clone());
        let old = match self.map.entry(key) {
            Entry::Vacant(slot) => {
                slot.insert(value);
                None
            }
            Entry::Occupied(mut slot) => {
                self.bytes -= write_bytes(slot.key(), slot.get().as_ref());
                Some(slot.insert(value))
            }
        };
        if let Some(key) = undo_key {
            self.undo.push((key, old));
        }
    }

    /// A mark to which [`WriteBuffer::rollback_to`] returns.
    pub fn savepoint(&mut self) -> Savepoint {
        self.has_marks = true;
        Savepoint(self.undo.len())
    }

    /// Undoes the writes after the mark, which stays valid.
    ///
    /// # Panics
    /// When the mark is not of this buffer, or was itself undone.
    pub fn rollback_to(&mut self, mark: Savepoint) {
        assert!(
            mark.0 <= self.undo.len(),
            "savepoint {} lies beyond {} buffered writes",
            mark.0,
            self.undo.len()
        );
        while self.undo.len() > mark.0 {
            let (key, old) = self.undo.pop().expect("the log is longer than the mark");
            let size = |v: &Option<Bytes>| write_bytes(&key, v.as_ref());
            let written = self.map.get(&key).expect("an undo record names a buffered key");
            self.bytes -= size(written);
            match old {
                Some(value) => {
                    self.bytes += size(&value);
                    self.map.insert(key, value);
                }
                None => {
                    self.map.remove(&key);
                }
            }
        }
    }

    /// What the transaction wrote to `key`: `Some(None)` is a deletion, `None` means not written.
    pub fn get(&self, key: &Key) -> Option<&Option<Bytes>> {
        if self.map.is_empty() { None } else { self.map.get(key) }
    }

    /// The writes in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Option<Bytes>)> {
        self.map.iter()
    }

    /// The writes in ascending order, taken out.
    pub fn into_writes(self) -> impl Iterator<Item = (Key, Option<Bytes>)> {
        self.map.into_iter()
    }

    /// The writes in a span, in ascending order.
    pub fn range(&self, span: &Span) -> Range<'_, Key, Option<Bytes>> {
        if span.is_empty() {
            return self
                .map
                .range::<Key, _>((Bound::Included(&span.start), Bound::Excluded(&span.start.next())));
        }
        let end = span.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        self.map.range::<Key, _>((Bound::Included(&span.start), end))
    }

    /// Lays the buffer over a page that the store answered for `span`: buffered values replace and add rows, buffered
    /// deletions remove them, and the page is cut to `limit` rows.
    pub fn overlay(&self, page: ScanPage, span: &Span, reverse: bool, limit: usize) -> ScanPage {
        let ScanPage { rows, mut resume } = page;
        let covered = covered(span, resume.as_ref(), reverse);
        if self.map.is_empty() || covered.is_empty() || self.range(&covered).next().is_none() {
            return ScanPage { rows, resume };
        }
        let mine = self.range(&covered).map(|(k, v)| (k, v.as_ref()));
        let mut rows =
            if reverse { merge(rows, mine.rev(), |a, b| a > b) } else { merge(rows, mine, |a, b| a < b) };
        if rows.len() > limit {
            rows.truncate(limit);
            resume = Some(match rows.last() {
                Some((last, _)) if reverse => Span::new(span.start.clone(), Some(last.clone())),
                Some((last, _)) => Span::new(last.next(), span.end.clone()),
                None => span.clone(),
            });
        }
        ScanPage { rows, resume }
    }
}

/// The part of `span` that a page speaks for, given what it left over.
fn covered(span: &Span, resume: Option<&Span>, reverse: bool) -> Span {
    match resume {
        None => span.clone(),
        Some(rest) if reverse => {
            Span::new(rest.end.clone().expect("the rest of a descending scan has an end"), span.end.clone())
        }
        Some(rest) => Span::new(span.start.clone(), Some(rest.start.clone())),
    }
}

/// Merges two sequences that are both ascending under `before`; where keys meet, the buffer wins.
fn merge<'a>(
    stored: Vec<(Key, Bytes)>,
    mine: impl Iterator<Item = (&'a Key, Option<&'a Bytes>)>,
    before: impl Fn(&Key, &Key) -> bool,
) -> Vec<(Key, Bytes)> {
    let mut out = Vec::with_capacity(stored.len());
    let mut stored = stored.into_iter().peekable();
    for (key, value) in mine {
        while let Some(row) = stored.next_if(|(k, _)| before(k, key)) {
            out.push(row);
        }
        stored.next_if(|(k, _)| k == key);
        if let Some(value) = value {
            out.push((key.clone(), value.clone()));
        }
    }
    out.extend(stored);
    out
}

fn check(what: &'static str, size: usize, limit: usize) -> Result<(), KvError> {
    if size > limit { Err(KvError::TooLarge { what, size, limit }) } else { Ok(()) }
}
