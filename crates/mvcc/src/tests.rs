use std::collections::BTreeMap;

use meridian_storage::{Durability, Engine, MemoryEngine};
use meridian_types::Key;
use proptest::prelude::*;

use super::*;

type Model = BTreeMap<Vec<u8>, BTreeMap<u64, Option<Vec<u8>>>>;

fn ts(ns: u64) -> Timestamp {
    Timestamp::from_nanos(ns)
}

fn load(model: &Model) -> MemoryEngine {
    let engine = MemoryEngine::new();
    let mut batch = WriteBatch::new();
    for (key, versions) in model {
        for (at, value) in versions {
            write_version(&mut batch, key, ts(*at), value.as_deref());
        }
    }
    engine.write(batch, Durability::Buffered).unwrap();
    engine
}

/// A row of a test: its key, and its versions with their timestamps.
type Row<'a> = (&'a str, &'a [(u64, Option<&'a str>)]);

fn model(rows: &[Row<'_>]) -> Model {
    let version = |(at, value): &(u64, Option<&str>)| (*at, value.map(|v| v.as_bytes().to_vec()));
    rows.iter()
        .map(|(key, versions)| (key.as_bytes().to_vec(), versions.iter().map(version).collect()))
        .collect()
}

fn sees(versions: &BTreeMap<u64, Option<Vec<u8>>>, at: u64) -> Option<(u64, &[u8])> {
    let (commit, value) = versions.range(..=at).next_back()?;
    Some((*commit, value.as_deref()?))
}

static EVERYTHING: Span = Span::ALL;

fn all(at: u64) -> ScanOptions<'static> {
    ScanOptions {
        span: &EVERYTHING,
        at: ts(at),
        reverse: false,
        limit_rows: usize::MAX,
        limit_bytes: usize::MAX,
    }
}

fn keys_of(page: &Page) -> Vec<&str> {
    page.rows.iter().map(|(k, _)| std::str::from_utf8(k.as_bytes()).unwrap()).collect()
}

#[test]
fn a_read_sees_the_newest_version_at_or_below_its_timestamp() {
    let engine =
        load(&model(&[("a", &[(10, Some("w")), (40, Some("x")), (90, None)]), ("ab", &[(70, Some("y"))])]));
    let get = |key: &str, at| {
        let found = super::get(&engine, key.as_bytes(), ts(at)).unwrap();
        found.map(|(commit, value)| (commit.as_nanos(), String::from_utf8(value.to_vec()).unwrap()))
    };
    assert_eq!(get("a", 9), None);
    assert_eq!(get("a", 10), Some((10, "w".to_owned())));
    assert_eq!(get("a", 89), Some((40, "x".to_owned())));
    assert_eq!(get("a", 90), None, "a tombstone hides what is older");
    assert_eq!(get("ab", 69), None, "the neighbour's versions are not seen");
    assert_eq!(get("b", u64::MAX), None);
    assert_eq!(newest_commit(&engine, b"a").unwrap(), Some(ts(90)));
    assert_eq!(newest_commit_at_or_below(&engine, b"a", ts(50)).unwrap(), Some(ts(40)));
    assert_eq!(newest_commit(&engine, b"b").unwrap(), None);
    let history: Vec<u64> = versions(&engine, b"a").unwrap().iter().map(|(at, _)| at.as_nanos()).collect();
    assert_eq!(history, [90, 40, 10]);
}

#[test]
fn pages_resume_where_they_ended() {
    let rows: &[Row<'_>] = &[
        ("a", &[(1, Some("1"))]),
        ("b", &[(1, Some("1")), (2, None)]),
        ("c", &[(1, Some("1"))]),
        ("d", &[(3, Some("1"))]),
        ("e", &[(1, Some("1"))]),
    ];
    let engine = load(&model(rows));
    let page = scan(&engine, &ScanOptions { limit_rows: 2, ..all(2) }).unwrap();
    assert_eq!(keys_of(&page), ["a", "c"]);
    let rest = page.resume.unwrap();
    let page = scan(&engine, &ScanOptions { span: &rest, ..all(2) }).unwrap();
    assert_eq!((keys_of(&page), page.resume.clone()), (vec!["e"], None));
    let page = scan(&engine, &ScanOptions { limit_bytes: 3, reverse: true, ..all(2) }).unwrap();
    assert_eq!(keys_of(&page), ["e", "c"]);
    let rest = page.resume.unwrap();
    assert_eq!(rest, Span::new(Key::MIN, Some(Key::copy_from(b"c"))));
    let page = scan(&engine, &ScanOptions { limit_bytes: 0, span: &rest, reverse: true, ..all(2) }).unwrap();
    assert_eq!(keys_of(&page), ["a"], "at least one row is returned");
    let none = scan(&engine, &ScanOptions { limit_rows: 0, ..all(2) }).unwrap();
    assert_eq!(none, Page { rows: vec![], resume: Some(Span::ALL) });
}

#[test]
fn a_point_span_is_complete_after_its_row() {
    let engine = load(&model(&[("a", &[(1, Some("1"))])]));
    let span = Span::point(&Key::copy_from(b"a"));
    let page = scan(&engine, &ScanOptions { span: &span, limit_rows: 1, ..all(1) }).unwrap();
    assert_eq!((page.rows.len(), page.resume), (1, None));
}

#[test]
fn corruption_is_reported() {
    let engine = MemoryEngine::new();
    let mut batch = WriteBatch::new();
    batch.put(Family::Data, version::encode(b"a", ts(1)), &b"\x07"[..]);
    batch.put(Family::Data, &b"no version"[..], &b"\x01"[..]);
    engine.write(batch, Durability::Buffered).unwrap();
    let corrupt = |r: Result<_, StorageError>| matches!(r, Err(StorageError::Corruption { .. }));
    assert!(corrupt(super::get(&engine, b"a", ts(1)).map(|_| ())));
    assert!(corrupt(scan(&engine, &all(1)).map(|_| ())));
    assert!(corrupt(scan(&engine, &ScanOptions { reverse: true, ..all(1) }).map(|_| ())));
}

#[test]
fn erasing_a_span_leaves_its_neighbours() {
    let engine = load(&model(&[("a", &[(1, Some("1"))]), ("b", &[(1, Some("1"))]), ("ba", &[(1, None)])]));
    let mut batch = WriteBatch::new();
    erase_span(&mut batch, &Span::new(Key::copy_from(b"b"), Some(Key::copy_from(b"ba"))));
    engine.write(batch, Durability::Buffered).unwrap();
    assert_eq!(keys_of(&scan(&engine, &all(9)).unwrap()), ["a"]);
    assert_eq!(newest_commit(&engine, b"ba").unwrap(), Some(ts(1)));
}

/// Counts what a scan asks of its cursor.
struct Counting<'a>(Box<dyn Cursor + 'a>, std::cell::Cell<u32>);

#[test]
fn long_histories_are_skipped_by_seeks() {
    let mut rows = Model::new();
    for key in [b"a", b"b", b"c"] {
        rows.insert(key.to_vec(), (1..=10_000).map(|at| (at, Some(vec![1]))).collect());
    }
    let engine = load(&rows);
    for reverse in [false, true] {
        for at in [1, 5_000, 10_000] {
            let cursor = engine.cursor(Family::Data, &version::versions_in(&Span::ALL));
            let mut counting = Counting(cursor, std::cell::Cell::new(0));
            let seen = crate::scan::scan_with(&mut counting, &ScanOptions { reverse, ..all(at) }).unwrap();
            assert_eq!(seen.rows.len(), 3);
            assert!(counting.1.get() <= 3 * 2 * (STEPS_BEFORE_SEEK + 2), "{} moves", counting.1.get());
        }
    }
}

impl Counting<'_> {
    fn moved(&mut self) -> &mut dyn Cursor {
        self.1.set(self.1.get() + 1);
        &mut *self.0
    }
}

impl Cursor for Counting<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<bool, StorageError> {
        self.moved().seek(key)
    }
    fn seek_before(&mut self, key: &[u8]) -> Result<bool, StorageError> {
        self.moved().seek_before(key)
    }
    fn first(&mut self) -> Result<bool, StorageError> {
        self.moved().first()
    }
    fn last(&mut self) -> Result<bool, StorageError> {
        self.moved().last()
    }
    fn next(&mut self) -> Result<bool, StorageError> {
        self.moved().next()
    }
    fn prev(&mut self) -> Result<bool, StorageError> {
        self.moved().prev()
    }
    fn key(&self) -> &[u8] {
        self.0.key()
    }
    fn value(&self) -> &[u8] {
        self.0.value()
    }
}

fn some_key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(b'k'), Just(0xff)], 0..4)
}

fn some_model() -> impl Strategy<Value = Model> {
    let value = proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..4));
    let few = proptest::collection::btree_map(0u64..60, value.clone(), 1..4);
    let many = proptest::collection::btree_map(0u64..60, value, 1..40);
    proptest::collection::btree_map(some_key(), prop_oneof![3 => few, 1 => many], 0..12)
}

fn scan_of_model(model: &Model, span: &Span, at: u64, reverse: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows: Vec<(Vec<u8>, Vec<u8>)> = model
        .iter()
        .filter(|(key, _)| span.contains(key))
        .filter_map(|(key, versions)| Some((key.clone(), sees(versions, at)?.1.to_vec())))
        .collect();
    if reverse {
        rows.reverse();
    }
    rows
}

proptest! {
    #[test]
    fn gets_match_the_model(model in some_model(), key in some_key(), at in 0u64..64) {
        let engine = load(&model);
        let mut rows = Rows::new(&engine);
        for key in model.keys().chain([&key]) {
            let found = super::get(&engine, key, ts(at)).unwrap();
            let found = found.as_ref().map(|(commit, value)| (commit.as_nanos(), &value[..]));
            prop_assert_eq!(found, model.get(key).and_then(|versions| sees(versions, at)));
            prop_assert_eq!(rows.get(key, ts(at)), super::get(&engine, key, ts(at)));
            let newest = model.get(key).and_then(|v| v.keys().next_back()).map(|at| ts(*at));
            prop_assert_eq!(newest_commit(&engine, key).unwrap(), newest);
        }
    }

    #[test]
    fn scans_match_the_model(
        model in some_model(),
        start in some_key(),
        end in proptest::option::of(some_key()),
        at in 0u64..64,
        reverse: bool,
        limit_rows in 1usize..6,
        limit_bytes in 0usize..20,
    ) {
        let engine = load(&model);
        let span = Span::new(Key::new(start), end.map(Key::new));
        let mut rows = Vec::new();
        let mut rest = Some(span.clone());
        while let Some(span) = rest {
            let options = ScanOptions { span: &span, at: ts(at), reverse, limit_rows, limit_bytes };
            let page = scan(&engine, &options).unwrap();
            prop_assert!(page.rows.len() <= limit_rows);
            prop_assert!(page.resume.is_none() || !page.rows.is_empty(), "a page makes progress");
            let bytes: usize = page.rows.iter().map(|(k, v)| k.as_bytes().len() + v.len()).sum();
            let last = page.rows.last().map_or(0, |(k, v)| k.as_bytes().len() + v.len());
            prop_assert!(page.rows.len() <= 1 || bytes - last < limit_bytes);
            rows.extend(page.rows.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.to_vec())));
            rest = page.resume;
        }
        prop_assert_eq!(rows, scan_of_model(&model, &span, at, reverse));
        let newest = model.iter().filter(|(k, _)| span.contains(k)).flat_map(|(_, v)| v.keys()).max().map(|at| ts(*at));
        prop_assert_eq!(newest_commit_in(&engine, &span).unwrap(), newest);
        prop_assert_eq!(is_empty(&engine, &span).unwrap(), newest.is_none());
    }

    #[test]
    fn garbage_is_never_seen(model in some_model(), horizon in 0u64..64, at in 0u64..64) {
        let engine = load(&model);
        let mut garbage = Garbage::new(ts(horizon));
        let mut batch = WriteBatch::new();
        let mut cursor = engine.cursor(Family::Data, &Span::ALL);
        let mut more = cursor.first().unwrap();
        while more {
            if garbage.is_garbage(cursor.key()) {
                batch.delete(Family::Data, cursor.key().to_vec());
            }
            more = cursor.next().unwrap();
        }
        drop(cursor);
        engine.write(batch, Durability::Buffered).unwrap();
        let at = at.max(horizon);
        let page = scan(&engine, &all(at)).unwrap();
        let rows: Vec<_> = page.rows.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.to_vec())).collect();
        prop_assert_eq!(rows, scan_of_model(&model, &Span::ALL, at, false));
    }
}
