//! Cursors over raw iterators.
//!
//! ```text
//!   Data, span of one row --> prefix iterator (asks bloom filters)
//!   Data, row after row ----> prefix iterator without bounds, moved from row to row
//!                                   | a move that a prefix iterator can't make:
//!                                   v backwards, or (within the span of one row) to another prefix
//!   everything else -------> total-order iterator
//! ```

use meridian_keys::version;
use meridian_storage::{Cursor, Family, StorageError};
use meridian_types::Span;
use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions, Snapshot};

use crate::engine::RocksEngine;
use crate::storage_error;

type RawIterator<'a> = DBRawIteratorWithThreadMode<'a, DB>;

/// What a cursor reads.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// The engine as it is when the iterator is made.
    Latest(&'a RocksEngine),
    /// A snapshot.
    Snapshot(&'a RocksEngine, &'a Snapshot<'a>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Only keys with the row prefix of the span's start are met.
    Row,
    /// Only keys with the row prefix of the key that was sought last are met.
    EachRow,
    Total,
}

/// Invariant: the iterator's bounds are the span's, so that RocksDB never shows a key outside.
pub(crate) struct RocksCursor<'a> {
    source: Source<'a>,
    family: Family,
    span: Span,
    order: Order,
    iterator: Option<RawIterator<'a>>,
}

impl<'a> RocksCursor<'a> {
    pub(crate) fn new(source: Source<'a>, family: Family, span: &Span) -> Self {
        let order =
            if family == Family::Data && version::is_one_row(span) { Order::Row } else { Order::Total };
        // RocksDB takes bounds that are the wrong way round for a mistake; here such a span just holds no key.
        let iterator = (!span.is_empty()).then(|| open(source, family, span, order));
        RocksCursor { source, family, span: span.clone(), order, iterator }
    }

    /// A cursor that is moved from row to row.
    pub(crate) fn rows(source: Source<'a>) -> Self {
        let (family, span, order) = (Family::Data, Span::ALL, Order::EachRow);
        let iterator = Some(open(source, family, &span, order));
        RocksCursor { source, family, span, order, iterator }
    }

    /// A prefix iterator misses keys in moves other than forwards from its own prefix: goes on with a total-order one,
    /// which is not on a key.
    fn make_total(&mut self) {
        if self.order != Order::Total {
            self.order = Order::Total;
            self.iterator = Some(open(self.source, self.family, &self.span, Order::Total));
        }
    }

    fn move_to(&mut self, f: impl FnOnce(&mut RawIterator<'a>, &Span)) -> Result<bool, StorageError> {
        let Some(iterator) = &mut self.iterator else {
            return Ok(false);
        };
        f(iterator, &self.span);
        if iterator.valid() {
            return Ok(true);
        }
        iterator.status().map_err(storage_error)?;
        Ok(false)
    }

    fn current(&self) -> &RawIterator<'a> {
        self.iterator.as_ref().expect("the cursor is not on a key")
    }
}

fn open<'a>(source: Source<'a>, family: Family, span: &Span, order: Order) -> RawIterator<'a> {
    let mut options = ReadOptions::default();
    if order != Order::EachRow {
        options.set_iterate_lower_bound(span.start.as_bytes());
    }
    if let Some(end) = &span.end {
        options.set_iterate_upper_bound(end.as_bytes());
    }
    options.set_total_order_seek(order == Order::Total);
    options.set_prefix_same_as_start(order != Order::Total);
    match source {
        Source::Latest(engine) => engine.db().raw_iterator_cf_opt(engine.handle(family), options),
        Source::Snapshot(engine, snapshot) => snapshot.raw_iterator_cf_opt(engine.handle(family), options),
    }
}

impl Cursor for RocksCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<bool, StorageError> {
        let same_row = || version::row_prefix(key) == version::row_prefix(self.span.start.as_bytes());
        if key > self.span.start.as_bytes() && self.order == Order::Row && !same_row() {
            self.make_total();
        }
        self.move_to(|iterator, span| iterator.seek(key.max(span.start.as_bytes())))
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<bool, StorageError> {
        self.make_total();
        self.move_to(|iterator, span| {
            let beyond = span.end.as_ref().is_some_and(|end| end.as_bytes() <= key);
            if beyond {
                return iterator.seek_to_last();
            }
            iterator.seek_for_prev(key);
            if iterator.key() == Some(key) {
                iterator.prev();
            }
        })
    }

    fn first(&mut self) -> Result<bool, StorageError> {
        self.move_to(|iterator, span| iterator.seek(span.start.as_bytes()))
    }

    fn last(&mut self) -> Result<bool, StorageError> {
        self.make_total();
        self.move_to(|iterator, _| iterator.seek_to_last())
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        assert!(self.current().valid(), "the cursor is not on a key");
        self.move_to(|iterator, _| iterator.next())
    }

    fn prev(&mut self) -> Result<bool, StorageError> {
        if self.order != Order::Total {
            let key = self.key().to_vec();
            return self.seek_before(&key);
        }
        assert!(self.current().valid(), "the cursor is not on a key");
        self.move_to(|iterator, _| iterator.prev())
    }

    fn key(&self) -> &[u8] {
        self.current().key().expect("the cursor is not on a key")
    }

    fn value(&self) -> &[u8] {
        self.current().value().expect("the cursor is not on a key")
    }
}
