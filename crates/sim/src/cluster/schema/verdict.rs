//! What must be true of the catalog, the rows and the entries in the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use meridian_types::{Key, Timestamp};

use super::super::checker::{Broken, Op, Truth, found_at};
use super::super::client::key;
use super::{Index, Record, entries_of, entry_key, record_key};

type Versions = Vec<(Timestamp, Option<Bytes>)>;

/// The versions of the catalog that came into force, in order.
fn timeline(truth: &Truth) -> Vec<Record> {
    let stored = truth.get(&record_key()).map(Vec::as_slice).unwrap_or_default();
    let stored = stored.iter().map(|(_, value)| Record::decode(value.as_deref()));
    std::iter::once(Record::FIRST).chain(stored).collect()
}

/// Checks commits against the versions that they were planned on, and each public index against the rows.
pub(in super::super) fn check(history: &[Op], truth: &Truth) -> Result<(), Broken> {
    let timeline = timeline(truth);
    for pair in timeline.windows(2) {
        assert!(pair[0].version + 1 == pair[1].version, "versions follow each other: {pair:?}");
        assert!(pair[0].valid_from < pair[1].valid_from, "they come into force in order: {pair:?}");
    }
    let until = |version: u64| timeline.iter().find(|r| r.version == version + 1).map(|r| r.valid_from);
    for op in history {
        let Op::Write { txn, writes, planned: Some(planned), .. } = op else { continue };
        let Some(s) = found_at(truth, *txn, writes)? else { continue };
        let record = timeline.iter().find(|r| r.version == *planned);
        let from = record.expect("what was planned on was stored").valid_from;
        if s < from || until(*planned).is_some_and(|until| s >= until) {
            return Err(Broken::WrongVersion { txn: *txn, at: s, version: *planned });
        }
    }
    for record in timeline.iter().filter(|r| r.index == Index::Public) {
        check_index(*record, until(record.version), truth)?;
    }
    Ok(())
}

fn value_at(versions: &Versions, at: Timestamp) -> Option<&Bytes> {
    let below = versions.partition_point(|(s, _)| *s <= at);
    versions[..below].last().and_then(|(_, value)| value.as_ref())
}

/// The entries of an index are those of the rows, at every timestamp at which it was public.
fn check_index(record: Record, until: Option<Timestamp>, truth: &Truth) -> Result<(), Broken> {
    let until = until.unwrap_or(Timestamp::MAX);
    let none = Versions::new();
    let span = entries_of(record.number);
    let entries: BTreeMap<&Key, &Versions> = truth.range(span.start.clone()..).collect();
    let entries: BTreeMap<&Key, &Versions> =
        entries.into_iter().take_while(|(key, _)| span.contains(key.as_bytes())).collect();
    let rows: Vec<(Key, &Versions)> = (0..).map(key).map_while(|k| truth.get(&k).map(|v| (k, v))).collect();
    // Between two of these moments nothing changes.
    let changes = entries.values().copied().chain(rows.iter().map(|(_, v)| *v)).flatten().map(|(s, _)| *s);
    let mut moments: Vec<Timestamp> = changes.filter(|s| *s > record.valid_from && *s < until).collect();
    moments.push(record.valid_from);
    moments.sort_unstable();
    moments.dedup();
    for at in moments {
        let wanted: BTreeMap<Key, Bytes> = rows
            .iter()
            .filter_map(|(k, v)| {
                Some((entry_key(record.number, value_at(v, at)?), Bytes::copy_from_slice(k.as_bytes())))
            })
            .collect();
        for (entry, row) in &wanted {
            if value_at(entries.get(entry).copied().unwrap_or(&none), at) != Some(row) {
                return Err(Broken::IndexDiffers { entry: entry.clone(), at, is_missing: true });
            }
        }
        let extra = entries.iter().find(|(k, v)| value_at(v, at).is_some() && !wanted.contains_key(**k));
        if let Some((entry, _)) = extra {
            return Err(Broken::IndexDiffers { entry: (*entry).clone(), at, is_missing: false });
        }
    }
    Ok(())
}
