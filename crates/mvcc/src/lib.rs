//! Multi-version reads and writes over a [`Reader`].
//!
//! A row is a user key with all its versions, which lie next to each other, newest first (see
//! [`meridian_keys::version`]). A version is a value or a tombstone, told apart by the first byte of what is stored.
//! Only committed versions are ever written, so a read at `t` looks at nothing but timestamps: the row's newest version
//! at or below `t`, or none where that is a tombstone.
//!
//! ```text
//!              newest                        oldest
//!   row a      90: -        40: "x"   10: "w"            read at 50 sees "x"; at 95 nothing
//!   row b      70: "y"                                   read at 50 sees nothing
//!   cursor     ------------------------------------->
//! ```
//! The crate knows nothing of locks, of safe time or of who may read when: a caller reads at `t` only once no commit at
//! or below `t` can come any more (I-8), and not below the garbage-collection horizon.
//!
//! Cost: a point read is one seek ([`Rows`] spares many of them a cursor each), bounded to its row so that an engine can ask its bloom filter,
//! and none where the reader remembers the row. A scan steps over the
//! versions it does not want, and seeks past them where there are many (`STEPS_BEFORE_SEEK`), so that its cost grows
//! with the rows, not with their history. All rows of a page share one allocation.
//!
//! Versioned storage as in Spanner (OSDI 2012), section 4; the layout of keys in `meridian-keys`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod garbage;
mod scan;

pub use garbage::Garbage;
pub use scan::{Page, ScanOptions, scan};

use bytes::Bytes;
use meridian_keys::version;
use meridian_storage::{Cursor, Family, Reader, Recall, StorageError, WriteBatch};
use meridian_types::{Span, Timestamp};

/// So many versions are stepped over before a seek: a step costs a tenth of a seek, and most rows have few versions.
const STEPS_BEFORE_SEEK: u32 = 8;

/// First byte of a stored tombstone, which is all of it.
const TOMBSTONE: u8 = 0x00;
/// First byte of a stored value.
const VALUE: u8 = 0x01;

/// A row's versions with their commit timestamps, newest first; `None` is a tombstone.
pub type Versions = Vec<(Timestamp, Option<Bytes>)>;

/// The newest version of `key` at or below `at`, with its commit timestamp; `None` where there is none or it is a
/// tombstone.
pub fn get<R: Reader + ?Sized>(
    reader: &R,
    key: &[u8],
    at: Timestamp,
) -> Result<Option<(Timestamp, Bytes)>, StorageError> {
    let mut row = Vec::new();
    version::push_row_prefix(&mut row, key);
    let ticket = match reader.recall(&row) {
        Recall::Newest { at: commit, stored } if commit <= at => {
            return Ok(parse(&stored, &row)?.map(|_| (commit, stored.slice(1..))));
        }
        Recall::Newest { .. } => None,
        Recall::Unknown(ticket) => ticket,
    };
    // A reader that remembers wants the newest version, which is mostly the one that is asked for.
    let from = if ticket.is_some() { Timestamp::MAX } else { at };
    let mut cursor = reader.cursor(Family::Data, &version::versions_from(key, from));
    if !cursor.first()? {
        return Ok(None);
    }
    let (_, mut commit) = split(&*cursor)?;
    if let Some(ticket) = ticket {
        reader.remember(ticket, &row, commit, cursor.value());
    }
    if commit > at {
        assert!(ticket.is_some(), "the newest version at or below {at} is at {commit}");
        version::push_timestamp(&mut row, at);
        if !cursor.seek(&row)? {
            return Ok(None);
        }
        (_, commit) = split(&*cursor)?;
        assert!(commit <= at, "the newest version at or below {at} is at {commit}");
    }
    Ok(value_of(&*cursor)?.map(|value| (commit, Bytes::copy_from_slice(value))))
}

/// Looks at one row after another, as [`get`] does at one; cheaper for many, because the cursor is made once.
pub struct Rows<'a> {
    cursor: Box<dyn Cursor + 'a>,
}

impl<'a> Rows<'a> {
    /// Of what the reader shows.
    pub fn new<R: Reader + ?Sized>(reader: &'a R) -> Self {
        Rows { cursor: reader.rows() }
    }

    /// As [`get`].
    pub fn get(&mut self, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Bytes)>, StorageError> {
        let versions = version::versions_from(key, at);
        if !self.cursor.seek(versions.start.as_bytes())? || !versions.contains(self.cursor.key()) {
            return Ok(None);
        }
        let (_, commit) = split(&*self.cursor)?;
        assert!(commit <= at, "the newest version at or below {at} is at {commit}");
        Ok(value_of(&*self.cursor)?.map(|value| (commit, Bytes::copy_from_slice(value))))
    }
}

/// The commit timestamp of the newest version of `key`, tombstones included.
pub fn newest_commit<R: Reader + ?Sized>(reader: &R, key: &[u8]) -> Result<Option<Timestamp>, StorageError> {
    newest_commit_at_or_below(reader, key, Timestamp::MAX)
}

/// The commit timestamp of the newest version of `key` at or below `at`, tombstones included.
pub fn newest_commit_at_or_below<R: Reader + ?Sized>(
    reader: &R,
    key: &[u8],
    at: Timestamp,
) -> Result<Option<Timestamp>, StorageError> {
    let mut cursor = reader.cursor(Family::Data, &version::versions_from(key, at));
    if cursor.first()? { Ok(Some(split(&*cursor)?.1)) } else { Ok(None) }
}

/// The greatest commit timestamp of any version in `span`, tombstones included. Visits every row of the span.
pub fn newest_commit_in<R: Reader + ?Sized>(
    reader: &R,
    span: &Span,
) -> Result<Option<Timestamp>, StorageError> {
    let mut cursor = reader.cursor(Family::Data, &version::versions_in(span));
    let mut row = Vec::new();
    let mut newest = None;
    let mut more = cursor.first()?;
    while more {
        let (prefix, commit) = split(&*cursor)?;
        row.clear();
        row.extend_from_slice(prefix);
        newest = newest.max(Some(commit));
        more = scan::skip_forward(&mut *cursor, &mut row)?;
    }
    Ok(newest)
}

/// True when no row in `span` has any version, tombstones included.
pub fn is_empty<R: Reader + ?Sized>(reader: &R, span: &Span) -> Result<bool, StorageError> {
    Ok(!reader.cursor(Family::Data, &version::versions_in(span)).first()?)
}

/// All versions of `key`, newest first.
pub fn versions<R: Reader + ?Sized>(reader: &R, key: &[u8]) -> Result<Versions, StorageError> {
    let mut cursor = reader.cursor(Family::Data, &version::versions_from(key, Timestamp::MAX));
    let mut all = Vec::new();
    let mut more = cursor.first()?;
    while more {
        let (_, commit) = split(&*cursor)?;
        all.push((commit, value_of(&*cursor)?.map(Bytes::copy_from_slice)));
        more = cursor.next()?;
    }
    Ok(all)
}

/// Writes a value of `key` that was committed at `at`.
pub fn put_version(batch: &mut WriteBatch, key: &[u8], at: Timestamp, value: &[u8]) {
    let mut stored = Vec::with_capacity(1 + value.len());
    stored.push(VALUE);
    stored.extend_from_slice(value);
    batch.put(Family::Data, version::encode(key, at), stored);
}

/// Writes that `key` was deleted at `at`: a tombstone, which hides older versions from reads at or above `at`.
pub fn delete_version(batch: &mut WriteBatch, key: &[u8], at: Timestamp) {
    batch.put(Family::Data, version::encode(key, at), Bytes::from_static(&[TOMBSTONE]));
}

/// Writes a value, or a tombstone for `None`.
pub fn write_version(batch: &mut WriteBatch, key: &[u8], at: Timestamp, value: Option<&[u8]>) {
    match value {
        Some(value) => put_version(batch, key, at, value),
        None => delete_version(batch, key, at),
    }
}

/// Removes every version of every key in `span` without a trace: a replica leaves the node, or is built anew.
pub fn erase_span(batch: &mut WriteBatch, span: &Span) {
    batch.delete_span(Family::Data, version::versions_in(span));
}

/// Splits the version key under the cursor into row prefix and commit timestamp.
fn split(cursor: &dyn Cursor) -> Result<(&[u8], Timestamp), StorageError> {
    version::split(cursor.key()).map_err(|e| corrupt(cursor.key(), &e.to_string()))
}

/// The value under the cursor, `None` for a tombstone.
fn value_of(cursor: &dyn Cursor) -> Result<Option<&[u8]>, StorageError> {
    parse(cursor.value(), cursor.key())
}

/// The value in what is stored for the version (or row) `key`, `None` for a tombstone.
fn parse<'a>(stored: &'a [u8], key: &[u8]) -> Result<Option<&'a [u8]>, StorageError> {
    match stored.split_first() {
        Some((&VALUE, value)) => Ok(Some(value)),
        Some((&TOMBSTONE, [])) => Ok(None),
        _ => Err(corrupt(key, "neither a value nor a tombstone")),
    }
}

#[cold]
fn corrupt(key: &[u8], what: &str) -> StorageError {
    StorageError::Corruption { detail: format!("version k'{}': {what}", key.escape_ascii()) }
}

#[cfg(test)]
mod tests;
