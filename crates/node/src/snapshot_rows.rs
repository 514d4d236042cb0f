//! Rows of groups in the data engine: reading them out, and putting a received set in their place.
//!
//! A received snapshot is first kept aside, chunk by chunk; then a mark says that it is complete; then the group's rows
//! are erased and the chunks put in their place; then mark and chunks go. Batches become durable in order, so after a
//! crash either the mark is missing, and the chunks are dropped with the old rows intact, or it is there, and the rest
//! is done again. The log is not touched, so no promise is forgotten.
//!
//! ```text
//!   chunk* -> mark -> erase, chunk rows* -> sync
//!   ^ crash: drop     ^ crash: do again
//! ```

use bytes::{Buf, BufMut, Bytes};
use meridian_keys::{local, version};
use meridian_mvcc::erase_span;
use meridian_rpc::peer::SnapshotRow;
use meridian_storage::{Durability, Engine, Family, Reader, StorageError, WriteBatch};
use meridian_types::{GroupId, Key, Span};

/// Bytes of one chunk, about.
const CHUNK_BYTES: usize = 256 << 10;

/// Where a group's rows are.
fn parts(group: GroupId, span: &Span) -> [(Family, Span); 3] {
    let own = local::group_span(group);
    [(Family::State, own.clone()), (Family::Staged, own), (Family::Data, version::versions_in(span))]
}

/// Where a chunk begins.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The part it is in; beyond the last one at the end.
    part: usize,
    /// Where to go on in that part.
    from: Option<Vec<u8>>,
}

/// What a snapshot has of a group.
pub(crate) enum Contents {
    /// All its rows.
    Rows(GroupId, Span),
    /// These.
    Given(Vec<SnapshotRow>),
}

/// All rows of some groups, in chunks.
pub(crate) struct Chunks<'a> {
    reader: &'a dyn Reader,
    parts: Vec<(Family, Span)>,
    /// They come last.
    given: Vec<SnapshotRow>,
    /// Where the next one begins. The same place gives the same chunk.
    pub(crate) at: Place,
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(reader: &'a dyn Reader, contents: Vec<Contents>) -> Self {
        let mut chunks = Chunks { reader, parts: Vec::new(), given: Vec::new(), at: Place::default() };
        for group in contents {
            match group {
                Contents::Rows(group, span) => chunks.parts.extend(parts(group, &span)),
                Contents::Given(rows) => chunks.given.extend(rows),
            }
        }
        chunks
    }

    /// The next one, and whether it is the last, which may be empty; `None` after that.
    pub(crate) fn next(&mut self) -> Result<Option<(Vec<SnapshotRow>, bool)>, StorageError> {
        if self.at.part > self.parts.len() {
            return Ok(None);
        }
        let mut rows = Vec::new();
        let mut bytes = 0;
        while let Some((family, part)) = self.parts.get(self.at.part) {
            let mut cursor = self.reader.cursor(*family, part);
            let mut more = match self.at.from.take() {
                Some(from) => cursor.seek(&from)?,
                None => cursor.first()?,
            };
            while more {
                let (key, value) =
                    (Bytes::copy_from_slice(cursor.key()), Bytes::copy_from_slice(cursor.value()));
                if bytes > 0 && bytes + key.len() + value.len() > CHUNK_BYTES {
                    self.at.from = Some(key.to_vec());
                    return Ok(Some((rows, false)));
                }
                bytes += key.len() + value.len();
                rows.push(SnapshotRow { family: *family as u32, key, value });
                more = cursor.next()?;
            }
            self.at.part += 1;
        }
        self.at.part += 1;
        rows.extend(self.given.iter().cloned());
        Ok(Some((rows, true)))
    }
}

/// Drops what was received of a snapshot so far.
pub(crate) fn discard(engine: &dyn Engine, group: GroupId) -> Result<(), StorageError> {
    let mut batch = WriteBatch::new();
    batch.delete_span(Family::Node, local::snapshot_chunks(group));
    engine.write(batch, Durability::Buffered)
}

/// Keeps one chunk aside.
pub(crate) fn keep_chunk(
    engine: &dyn Engine,
    group: GroupId,
    sequence: u32,
    rows: &[SnapshotRow],
) -> Result<(), StorageError> {
    let mut batch = WriteBatch::new();
    batch.put(Family::Node, local::snapshot_chunk(group, sequence), encode_rows(rows));
    engine.write(batch, Durability::Buffered)
}

/// What makes room for a snapshot: all that a group has in a span. Its mark keeps one row for each.
fn erasure_row((group, span): &(GroupId, Span)) -> SnapshotRow {
    let mut key = group.get().to_be_bytes().to_vec();
    key.extend_from_slice(span.start.as_bytes());
    SnapshotRow {
        family: u32::from(span.end.is_some()),
        key: key.into(),
        value: span.end.clone().map(Key::into_bytes).unwrap_or_default(),
    }
}

fn erasure_of(row: SnapshotRow) -> Option<(GroupId, Span)> {
    let (group, start) = row.key.split_first_chunk::<8>()?;
    let span = Span::new(Key::copy_from(start), (row.family == 1).then(|| Key::new(row.value)));
    Some((GroupId::new(u64::from_be_bytes(*group)), span))
}

/// Puts the chunks in the place of what is in `erase`. `write` may wait for room: what was begun can't be left halfway.
pub(crate) fn install(
    engine: &dyn Engine,
    group: GroupId,
    erase: &[(GroupId, Span)],
    write: &dyn Fn(&WriteBatch) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let rows: Vec<SnapshotRow> = erase.iter().map(erasure_row).collect();
    let mut batch = WriteBatch::new();
    batch.put(Family::Node, local::snapshot_complete(group), encode_rows(&rows));
    write(&batch)?;
    put_in_place(engine, group, erase, write)
}

fn put_in_place(
    engine: &dyn Engine,
    group: GroupId,
    erase: &[(GroupId, Span)],
    write: &dyn Fn(&WriteBatch) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut batch = WriteBatch::new();
    for (group, span) in erase {
        batch.delete_span(Family::State, local::group_span(*group));
        batch.delete_span(Family::Staged, local::group_span(*group));
        erase_span(&mut batch, span);
    }
    write(&batch)?;
    let mut cursor = engine.cursor(Family::Node, &local::snapshot_chunks(group));
    let mut more = cursor.first()?;
    while more {
        let mut batch = WriteBatch::new();
        for row in decode_rows(cursor.value()).ok_or_else(|| corrupt(cursor.key()))? {
            batch.put(family_of(row.family).ok_or_else(|| corrupt(cursor.key()))?, row.key, row.value);
        }
        write(&batch)?;
        more = cursor.next()?;
    }
    drop(cursor);
    let mut batch = WriteBatch::new();
    batch.delete_span(Family::Node, local::snapshot_chunks(group));
    batch.delete(Family::Node, local::snapshot_complete(group));
    write(&batch)?;
    engine.sync()
}

/// Finishes or drops what a crash left unfinished.
pub(crate) fn recover(engine: &dyn Engine) -> Result<(), StorageError> {
    let mut complete = Vec::new();
    let mut cursor = engine.cursor(Family::Node, &local::snapshots_complete());
    let mut more = cursor.first()?;
    while more {
        let key = cursor.key();
        let group = local::decode_snapshot_complete(key).map_err(|_| corrupt(key))?;
        let rows = decode_rows(cursor.value()).ok_or_else(|| corrupt(key))?;
        complete.push((group, rows));
        more = cursor.next()?;
    }
    drop(cursor);
    for (group, rows) in complete {
        let erase: Option<Vec<_>> = rows.into_iter().map(erasure_of).collect();
        let erase = erase.ok_or_else(|| corrupt(&local::snapshot_complete(group)))?;
        tracing::info!(group = group.get(), "an interrupted snapshot is installed");
        put_in_place(engine, group, &erase, &|batch| engine.write_kept(batch, Durability::Buffered))?;
    }
    let mut batch = WriteBatch::new();
    batch.delete_span(Family::Node, local::all_snapshot_chunks());
    engine.write(batch, Durability::Buffered)
}

/// True for what may be part of a snapshot of these groups.
pub(crate) fn are_sound(rows: &[SnapshotRow], groups: &[(GroupId, Span)]) -> bool {
    let parts: Vec<_> = groups.iter().flat_map(|(group, span)| parts(*group, span)).collect();
    rows.iter().all(|row| parts.iter().any(|(f, part)| *f as u32 == row.family && part.contains(&row.key)))
}

fn family_of(ordinal: u32) -> Option<Family> {
    Family::ALL.into_iter().find(|f| *f as u32 == ordinal)
}

fn corrupt(key: &[u8]) -> StorageError {
    StorageError::Corruption { detail: format!("snapshot chunk at {}", key.escape_ascii()) }
}

/// `crc32c` of the rest, then per row: family, lengths, key, value. Little-endian.
fn encode_rows(rows: &[SnapshotRow]) -> Bytes {
    let size = rows.iter().map(|r| 9 + r.key.len() + r.value.len()).sum::<usize>();
    let mut out = Vec::with_capacity(4 + size);
    out.put_u32_le(0);
    for row in rows {
        out.put_u8(u8::try_from(row.family).expect("families are few"));
        out.put_u32_le(u32::try_from(row.key.len()).expect("a key fits into 4 GiB"));
        out.put_u32_le(u32::try_from(row.value.len()).expect("a value fits into 4 GiB"));
        out.put_slice(&row.key);
        out.put_slice(&row.value);
    }
    let sum = crc32c::crc32c(&out[4..]);
    out[..4].copy_from_slice(&sum.to_le_bytes());
    out.into()
}

fn decode_rows(bytes: &[u8]) -> Option<Vec<SnapshotRow>> {
    let (sum, body) = bytes.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != crc32c::crc32c(body) {
        return None;
    }
    let mut rest = Bytes::copy_from_slice(body);
    let mut rows = Vec::new();
    while rest.has_remaining() {
        if rest.remaining() < 9 {
            return None;
        }
        let family = u32::from(rest.get_u8());
        let (key_len, value_len) = (rest.get_u32_le() as usize, rest.get_u32_le() as usize);
        if rest.remaining() < key_len + value_len {
            return None;
        }
        rows.push(SnapshotRow { family, key: rest.split_to(key_len), value: rest.split_to(value_len) });
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use meridian_mvcc::{get, put_version};
    use meridian_storage::{CrashPoint, MemoryEngine};
    use meridian_types::Timestamp;

    use super::*;

    const GROUP: GroupId = GroupId::new(4);

    fn span() -> Span {
        Span::new(Key::copy_from(b"b"), Some(Key::copy_from(b"m")))
    }

    fn engine(value: &[u8]) -> MemoryEngine {
        let engine = MemoryEngine::new();
        let mut batch = WriteBatch::new();
        batch.put(Family::State, local::applied(GROUP), Bytes::copy_from_slice(value));
        batch.put(Family::State, local::applied(GroupId::new(5)), Bytes::from_static(b"other"));
        for key in ["a", "b", "c", "m"] {
            put_version(&mut batch, key.as_bytes(), Timestamp::from_nanos(5), value);
        }
        engine.write(batch, Durability::Synced).unwrap();
        engine
    }

    fn value(engine: &MemoryEngine, key: &str) -> Option<Bytes> {
        get(engine, key.as_bytes(), Timestamp::MAX).unwrap().map(|(_, v)| v)
    }

    fn copy(from: &MemoryEngine, to: &MemoryEngine) -> u32 {
        let mut sequence = 0;
        let groups = [(GROUP, span())];
        let mut chunks = Chunks::new(from, vec![Contents::Rows(GROUP, span())]);
        while let Some((rows, last)) = chunks.next().unwrap() {
            assert!(are_sound(&rows, &groups));
            keep_chunk(to, GROUP, sequence, &rows).unwrap();
            sequence += 1;
            assert_eq!(last, chunks.at.part > chunks.parts.len());
        }
        sequence
    }

    #[test]
    fn a_snapshot_replaces_the_span_and_the_state_of_its_group_alone() {
        let (from, to) = (engine(b"new"), engine(b"old"));
        let mut batch = WriteBatch::new();
        put_version(&mut batch, b"d", Timestamp::from_nanos(5), b"gone");
        to.write(batch, Durability::Synced).unwrap();
        copy(&from, &to);
        install(&to, GROUP, &[(GROUP, span())], &|b| to.write_kept(b, Durability::Buffered)).unwrap();
        let found: Vec<_> = ["a", "b", "c", "d", "m"].iter().map(|k| value(&to, k)).collect();
        let expect = |s: &'static str| Some(Bytes::from_static(s.as_bytes()));
        assert_eq!(found, [expect("old"), expect("new"), expect("new"), None, expect("old")]);
        assert_eq!(to.get(Family::State, &local::applied(GROUP)).unwrap(), expect("new"));
        assert_eq!(to.get(Family::State, &local::applied(GroupId::new(5))).unwrap(), expect("other"));
    }

    /// Whatever prefix of the batches survives, recovery finds the old rows or the new ones, never a mixture.
    #[test]
    fn a_crash_anywhere_leaves_the_old_rows_or_the_new_ones() {
        let from = engine(b"new");
        let mut seen = [0, 0];
        for surviving_batches in 0..8 {
            let to = engine(b"old");
            copy(&from, &to);
            // Everything but the sync at the end.
            let unsynced = Unsynced(&to);
            install(&unsynced, GROUP, &[(GROUP, span())], &|b| unsynced.write_kept(b, Durability::Buffered))
                .unwrap();
            let to = to.crash(CrashPoint { surviving_batches });
            recover(&to).unwrap();
            let values: Vec<_> = ["b", "c"].iter().map(|k| value(&to, k)).collect();
            let state = to.get(Family::State, &local::applied(GROUP)).unwrap();
            assert!(
                values.iter().all(|v| *v == state),
                "after {surviving_batches}: {values:?} and {state:?}"
            );
            seen[usize::from(state == Some(Bytes::from_static(b"new")))] += 1;
            let rest = to.cursor(Family::Node, &Span::ALL).first().unwrap();
            assert!(!rest, "something is left aside after {surviving_batches}");
        }
        assert!(seen[0] > 0 && seen[1] > 0, "both outcomes are met: {seen:?}");
    }

    struct Unsynced<'a>(&'a MemoryEngine);

    impl Reader for Unsynced<'_> {
        fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
            self.0.get(family, key)
        }
        fn cursor<'a>(&'a self, family: Family, span: &Span) -> Box<dyn meridian_storage::Cursor + 'a> {
            self.0.cursor(family, span)
        }
    }

    impl Engine for Unsynced<'_> {
        fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StorageError> {
            self.0.write(batch, durability)
        }
        fn sync(&self) -> Result<(), StorageError> {
            Ok(())
        }
        fn snapshot(&self) -> Box<dyn Reader + '_> {
            self.0.snapshot()
        }
    }
}
