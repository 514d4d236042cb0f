//! What every engine must do, as a test-suite that takes the engine as an argument.
//!
//! Each engine's crate calls [`run`] from a test with a function that makes an empty engine. The last part is a
//! differential test: a seeded history of batches is applied to the engine and to a plain ordered map, and both are
//! compared by every operation of the seam, with snapshots taken along the way checked at the end. Failures name the
//! seed.

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_types::{Key, SeededRng, Span};

use crate::{Cursor, Durability, Engine, Family, Reader, StorageError, WriteBatch};

const SEEDS: u64 = 12;
const BATCHES_PER_SEED: u64 = 60;

type Model = BTreeMap<(Family, Vec<u8>), Vec<u8>>;

/// Runs every check.
///
/// # Panics
/// When the engine deviates from the seam's contract.
pub fn run<E: Engine>(make: &mut dyn FnMut() -> E) {
    batches_apply_in_order(&make());
    families_are_separate(&make());
    cursors_respect_their_span(&make());
    snapshots_are_frozen(&make());
    for seed in 0..SEEDS {
        matches_an_ordered_map(&make(), seed);
    }
}

fn ok<T>(result: Result<T, StorageError>) -> T {
    result.expect("the engine is healthy in this test")
}

fn key(text: &str) -> Key {
    Key::copy_from(text.as_bytes())
}

fn span(start: &str, end: &str) -> Span {
    Span::new(key(start), Some(key(end)))
}

fn fill(engine: &dyn Engine, family: Family, keys: &[&str]) {
    let mut batch = WriteBatch::new();
    for k in keys {
        batch.put(family, Bytes::copy_from_slice(k.as_bytes()), Bytes::copy_from_slice(k.as_bytes()));
    }
    ok(engine.write(batch, Durability::Buffered));
}

fn batches_apply_in_order(engine: &dyn Engine) {
    let mut batch = WriteBatch::new();
    batch.put(Family::Data, &b"a"[..], &b"1"[..]);
    batch.delete(Family::Data, &b"a"[..]);
    batch.put(Family::Data, &b"a"[..], &b"2"[..]);
    batch.put(Family::Data, &b"b"[..], &b"1"[..]);
    batch.delete_span(Family::Data, span("b", "c"));
    batch.put(Family::Data, &b"c"[..], &b""[..]);
    ok(engine.write(batch, Durability::Synced));
    assert_eq!(
        ok(engine.get(Family::Data, b"a")).as_deref(),
        Some(&b"2"[..]),
        "the last put of a batch wins"
    );
    assert_eq!(
        ok(engine.get(Family::Data, b"b")),
        None,
        "a span deletion removes what its batch put before it"
    );
    assert_eq!(ok(engine.get(Family::Data, b"c")).as_deref(), Some(&b""[..]), "an empty value is a value");
    ok(engine.write(WriteBatch::new(), Durability::Synced));
    ok(engine.sync());
}

fn families_are_separate(engine: &dyn Engine) {
    for family in Family::ALL {
        let mut batch = WriteBatch::new();
        batch.put(family, &b"k"[..], family.name().as_bytes());
        ok(engine.write(batch, Durability::Buffered));
    }
    let mut batch = WriteBatch::new();
    batch.delete_span(Family::State, Span::ALL);
    ok(engine.write(batch, Durability::Buffered));
    for family in Family::ALL {
        let found = ok(engine.get(family, b"k"));
        let expected = (family != Family::State).then_some(family.name().as_bytes());
        assert_eq!(found.as_deref(), expected, "family {} is its own keyspace", family.name());
    }
}

fn cursors_respect_their_span(engine: &dyn Engine) {
    fill(engine, Family::State, &["a", "b", "ba", "c", "d", "e"]);
    let mut cursor = engine.cursor(Family::State, &span("b", "e"));
    let mut moves: Vec<String> = Vec::new();
    let mut note = |name: &str, found: bool, cursor: &dyn Cursor| {
        let at = if found { String::from_utf8_lossy(cursor.key()).into_owned() } else { "-".to_owned() };
        moves.push(format!("{name}={at}"));
    };
    let found = ok(cursor.first());
    note("first", found, &*cursor);
    let found = ok(cursor.next());
    note("next", found, &*cursor);
    let found = ok(cursor.last());
    note("last", found, &*cursor);
    let found = ok(cursor.prev());
    note("prev", found, &*cursor);
    for k in ["", "a", "b", "bb", "d", "dz", "e", "z"] {
        let found = ok(cursor.seek(k.as_bytes()));
        note(&format!("seek({k})"), found, &*cursor);
    }
    for k in ["", "b", "b0", "c", "e", "z"] {
        let found = ok(cursor.seek_before(k.as_bytes()));
        note(&format!("before({k})"), found, &*cursor);
    }
    let found = ok(cursor.next());
    note("next", found, &*cursor);
    let found = ok(cursor.first());
    note("first", found, &*cursor);
    let found = ok(cursor.prev());
    note("prev", found, &*cursor);
    let expected = "first=b next=ba last=d prev=c seek()=b seek(a)=b seek(b)=b seek(bb)=c seek(d)=d seek(dz)=- \
                    seek(e)=- seek(z)=- before()=- before(b)=- before(b0)=b before(c)=ba before(e)=d before(z)=d \
                    next=- first=b prev=-";
    assert_eq!(moves.join(" "), expected);
    drop(cursor);
    let mut empty = engine.cursor(Family::State, &span("c", "c"));
    assert!(!ok(empty.first()) && !ok(empty.last()) && !ok(empty.seek(b"a")), "an empty span has no keys");
    drop(empty);
    let mut inverted = engine.cursor(Family::State, &span("d", "b"));
    assert!(!ok(inverted.first()) && !ok(inverted.last()), "an inverted span has no keys");
    let mut batch = WriteBatch::new();
    batch.delete_span(Family::State, span("d", "b"));
    ok(engine.write(batch, Durability::Buffered));
    assert!(ok(engine.get(Family::State, b"c")).is_some(), "deleting an inverted span deletes nothing");
}

fn snapshots_are_frozen(engine: &dyn Engine) {
    fill(engine, Family::Log, &["a", "b"]);
    let snapshot = engine.snapshot();
    let mut batch = WriteBatch::new();
    batch.delete(Family::Log, &b"a"[..]);
    batch.put(Family::Log, &b"b"[..], &b"changed"[..]);
    batch.put(Family::Log, &b"c"[..], &b"c"[..]);
    ok(engine.write(batch, Durability::Synced));
    assert_eq!(ok(snapshot.get(Family::Log, b"a")).as_deref(), Some(&b"a"[..]));
    assert_eq!(ok(snapshot.get(Family::Log, b"c")), None);
    assert_eq!(ok(engine.get(Family::Log, b"b")).as_deref(), Some(&b"changed"[..]));
    let mut cursor = snapshot.cursor(Family::Log, &Span::ALL);
    assert!(ok(cursor.last()));
    assert_eq!((cursor.key(), cursor.value()), (&b"b"[..], &b"b"[..]));
}

fn random_key(rng: &mut SeededRng) -> Vec<u8> {
    let len = rng.below(5);
    (0..len).map(|_| [0, 1, 0x7f, 0xfe, 0xff][rng.below(5) as usize]).collect()
}

fn random_span(rng: &mut SeededRng) -> Span {
    let start = Key::new(random_key(rng));
    let end = rng.chance(4, 5).then(|| Key::new(random_key(rng)));
    Span::new(start, end)
}

fn random_batch(rng: &mut SeededRng, model: &mut Model) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for _ in 0..rng.below(12) {
        let family = Family::ALL[rng.below(Family::COUNT as u64) as usize];
        let key = random_key(rng);
        match rng.below(10) {
            0 => {
                let span = random_span(rng);
                model.retain(|(f, k), _| *f != family || !span.contains(k));
                batch.delete_span(family, span);
            }
            1..=3 => {
                model.remove(&(family, key.clone()));
                batch.delete(family, key);
            }
            _ => {
                let value = rng.next_u64().to_be_bytes()[..rng.below(9) as usize].to_vec();
                model.insert((family, key.clone()), value.clone());
                batch.put(family, key, value);
            }
        }
    }
    batch
}

fn matches_an_ordered_map(engine: &dyn Engine, seed: u64) {
    let mut rng = SeededRng::new(seed);
    let mut model = Model::new();
    let mut snapshots = Vec::new();
    for _ in 0..BATCHES_PER_SEED {
        let batch = random_batch(&mut rng, &mut model);
        let durability = if rng.chance(1, 10) { Durability::Synced } else { Durability::Buffered };
        ok(engine.write(batch, durability));
        compare_cursor(engine, &model, &mut rng, seed);
        if rng.chance(1, 10) {
            snapshots.push((engine.snapshot(), model.clone()));
        }
        if rng.chance(1, 20) {
            ok(engine.sync());
        }
    }
    compare_whole(engine, &model, seed);
    for (snapshot, model) in &snapshots {
        compare_whole(&**snapshot, model, seed);
        compare_cursor(&**snapshot, model, &mut rng, seed);
    }
}

fn compare_whole<R: Reader + ?Sized>(reader: &R, model: &Model, seed: u64) {
    for family in Family::ALL {
        let expected: Vec<(Vec<u8>, Vec<u8>)> = model
            .iter()
            .filter(|((f, _), _)| *f == family)
            .map(|((_, k), v)| (k.clone(), v.clone()))
            .collect();
        let mut cursor = reader.cursor(family, &Span::ALL);
        let mut found = Vec::new();
        let mut more = ok(cursor.first());
        while more {
            found.push((cursor.key().to_vec(), cursor.value().to_vec()));
            more = ok(cursor.next());
        }
        assert_eq!(found, expected, "seed {seed}: forward scan of {}", family.name());
        let mut backward = Vec::new();
        let mut more = ok(cursor.last());
        while more {
            backward.push((cursor.key().to_vec(), cursor.value().to_vec()));
            more = ok(cursor.prev());
        }
        backward.reverse();
        assert_eq!(backward, expected, "seed {seed}: backward scan of {}", family.name());
        for (k, v) in &expected {
            assert_eq!(ok(reader.get(family, k)).as_deref(), Some(&v[..]), "seed {seed}: get");
        }
    }
}

/// A walk of random moves of one cursor, compared with the model after each.
fn compare_cursor<R: Reader + ?Sized>(reader: &R, model: &Model, rng: &mut SeededRng, seed: u64) {
    let family = Family::ALL[rng.below(Family::COUNT as u64) as usize];
    let span = random_span(rng);
    let keys: Vec<&[u8]> =
        model.keys().filter(|(f, k)| *f == family && span.contains(k)).map(|(_, k)| &k[..]).collect();
    let mut cursor = reader.cursor(family, &span);
    let mut at: Option<usize> = None;
    for _ in 0..20 {
        let target = random_key(rng);
        let (found, expected) = match (rng.below(6), at) {
            (0, _) => (ok(cursor.first()), (!keys.is_empty()).then_some(0)),
            (1, _) => (ok(cursor.last()), keys.len().checked_sub(1)),
            (2 | 3, Some(i)) if i % 2 == 0 => (ok(cursor.next()), Some(i + 1).filter(|&i| i < keys.len())),
            (2 | 3, Some(i)) => (ok(cursor.prev()), i.checked_sub(1)),
            (4, _) => {
                let i = keys.partition_point(|k| *k < &target[..]);
                (ok(cursor.seek_before(&target)), i.checked_sub(1))
            }
            _ => {
                let i = keys.partition_point(|k| *k < &target[..]);
                (ok(cursor.seek(&target)), Some(i).filter(|&i| i < keys.len()))
            }
        };
        assert_eq!(found, expected.is_some(), "seed {seed}: cursor over {span:?} found a key or not");
        if let Some(i) = expected {
            assert_eq!(cursor.key(), keys[i], "seed {seed}: cursor over {span:?}");
            assert_eq!(cursor.value(), &model[&(family, keys[i].to_vec())][..], "seed {seed}: value");
        }
        at = expected;
    }
}
