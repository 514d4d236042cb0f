//! Scans of a span at one timestamp, in pages.

use bytes::Bytes;
use meridian_keys::version;
use meridian_storage::{Cursor, Family, Reader, StorageError};
use meridian_types::{Key, Span, Timestamp};

use crate::{STEPS_BEFORE_SEEK, corrupt, split, value_of};

/// What to scan.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions<'a> {
    /// The user keys.
    pub span: &'a Span,
    /// The timestamp of the read.
    pub at: Timestamp,
    /// Descending order of keys.
    pub reverse: bool,
    /// At most this many rows.
    pub limit_rows: usize,
    /// Stop once this many bytes of keys and values are collected; at least one row is returned.
    pub limit_bytes: usize,
}

/// Rows of a scan, in its order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The rows. They share one allocation, which lives as long as any of them.
    pub rows: Vec<(Key, Bytes)>,
    /// What is left of the span, `None` when the scan is complete. May hold no rows.
    pub resume: Option<Span>,
}

/// Reads one page of the rows that a read at `options.at` sees.
pub fn scan<R: Reader + ?Sized>(reader: &R, options: &ScanOptions<'_>) -> Result<Page, StorageError> {
    if options.span.is_empty() {
        return Ok(Page { rows: Vec::new(), resume: None });
    }
    if options.limit_rows == 0 {
        return Ok(Page { rows: Vec::new(), resume: Some(options.span.clone()) });
    }
    let mut cursor = reader.cursor(Family::Data, &version::versions_in(options.span));
    scan_with(&mut *cursor, options)
}

/// Reads one page by a cursor over the versions of the span.
pub(crate) fn scan_with(cursor: &mut dyn Cursor, options: &ScanOptions<'_>) -> Result<Page, StorageError> {
    let mut page = PageBuilder::new(options);
    if options.reverse {
        backward(cursor, &mut page)?;
    } else {
        forward(cursor, &mut page)?;
    }
    Ok(page.finish())
}

/// Visits rows in ascending order. At the top of the loop the cursor is on the newest version of a row.
fn forward(cursor: &mut dyn Cursor, page: &mut PageBuilder<'_>) -> Result<(), StorageError> {
    let at = page.options.at;
    let mut row = Vec::new();
    let mut more = cursor.first()?;
    'rows: while more {
        let (prefix, mut commit) = split(cursor)?;
        row.clear();
        row.extend_from_slice(prefix);
        let mut steps = 0;
        while commit > at {
            more =
                if steps < STEPS_BEFORE_SEEK { cursor.next()? } else { seek_version(cursor, &mut row, at)? };
            steps += 1;
            if !more || !cursor.key().starts_with(&row) {
                continue 'rows;
            }
            commit = split(cursor)?.1;
        }
        if let Some(value) = value_of(cursor)? {
            page.push(&row, value).map_err(|what| corrupt(cursor.key(), &what))?;
            if page.is_full() {
                return Ok(());
            }
        }
        more = skip_forward(cursor, &mut row)?;
    }
    Ok(())
}

/// Visits rows in descending order. At the top of the loop the cursor is on the oldest version of a row, and moves
/// towards newer ones; the last that is not too new is the one.
fn backward(cursor: &mut dyn Cursor, page: &mut PageBuilder<'_>) -> Result<(), StorageError> {
    let at = page.options.at;
    let mut row = Vec::new();
    let mut visible = Vec::new();
    let mut more = cursor.last()?;
    while more {
        let (prefix, mut commit) = split(cursor)?;
        row.clear();
        row.extend_from_slice(prefix);
        let mut found = false;
        let mut in_row = true;
        let mut steps = 0;
        while in_row && commit <= at {
            found = take_visible(cursor, &mut visible)?;
            if steps == STEPS_BEFORE_SEEK {
                more = seek_version(cursor, &mut row, at)?;
                assert!(more && cursor.key().starts_with(&row), "a version that was there is gone");
                found = take_visible(cursor, &mut visible)?;
                break;
            }
            steps += 1;
            more = cursor.prev()?;
            in_row = more && cursor.key().starts_with(&row);
            if in_row {
                commit = split(cursor)?.1;
            }
        }
        if found {
            page.push(&row, &visible).map_err(|what| corrupt(cursor.key(), &what))?;
            if page.is_full() {
                return Ok(());
            }
        }
        if in_row {
            more = skip_backward(cursor, &row)?;
        }
    }
    Ok(())
}

/// Copies the value under the cursor; false where it is a tombstone.
fn take_visible(cursor: &dyn Cursor, visible: &mut Vec<u8>) -> Result<bool, StorageError> {
    visible.clear();
    let value = value_of(cursor)?;
    visible.extend_from_slice(value.unwrap_or_default());
    Ok(value.is_some())
}

/// Seeks to the newest version of `row` at or below `at`.
fn seek_version(cursor: &mut dyn Cursor, row: &mut Vec<u8>, at: Timestamp) -> Result<bool, StorageError> {
    let len = row.len();
    version::push_timestamp(row, at);
    let more = cursor.seek(row);
    row.truncate(len);
    more
}

/// Moves from a version of `row` to the newest version of the next one. Leaves `row` undefined.
pub(crate) fn skip_forward(cursor: &mut dyn Cursor, row: &mut [u8]) -> Result<bool, StorageError> {
    for _ in 0..STEPS_BEFORE_SEEK {
        if !cursor.next()? {
            return Ok(false);
        }
        if !cursor.key().starts_with(row) {
            return Ok(true);
        }
    }
    version::make_row_end(row);
    cursor.seek(row)
}

/// Moves from a version of `row` to the oldest version of the row before.
fn skip_backward(cursor: &mut dyn Cursor, row: &[u8]) -> Result<bool, StorageError> {
    for _ in 0..STEPS_BEFORE_SEEK {
        if !cursor.prev()? {
            return Ok(false);
        }
        if !cursor.key().starts_with(row) {
            return Ok(true);
        }
    }
    cursor.seek_before(row)
}

/// Collects rows in one buffer, that is cut into shared slices at the end.
struct PageBuilder<'a> {
    options: &'a ScanOptions<'a>,
    arena: Vec<u8>,
    /// Where each row's key ends, and where its value ends (and so the next key starts).
    ends: Vec<(usize, usize)>,
    full: bool,
}

impl<'a> PageBuilder<'a> {
    fn new(options: &'a ScanOptions<'a>) -> Self {
        PageBuilder { options, arena: Vec::new(), ends: Vec::new(), full: false }
    }

    fn push(&mut self, row: &[u8], value: &[u8]) -> Result<(), String> {
        version::push_user_key(&mut self.arena, row).map_err(|e| e.to_string())?;
        let key_end = self.arena.len();
        self.arena.extend_from_slice(value);
        self.ends.push((key_end, self.arena.len()));
        self.full =
            self.ends.len() >= self.options.limit_rows || self.arena.len() >= self.options.limit_bytes;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.full
    }

    fn finish(self) -> Page {
        let arena = Bytes::from(self.arena);
        let mut rows = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        for (key_end, value_end) in self.ends {
            rows.push((Key::new(arena.slice(start..key_end)), arena.slice(key_end..value_end)));
            start = value_end;
        }
        let span = self.options.span;
        let resume = match rows.last() {
            Some((last, _)) if self.full && self.options.reverse => {
                Some(Span::new(span.start.clone(), Some(Key::copy_from(last.as_bytes()))))
            }
            Some((last, _)) if self.full => Some(Span::new(last.next(), span.end.clone())),
            _ => None,
        };
        Page { rows, resume: resume.filter(|rest| !rest.is_empty()) }
    }
}
