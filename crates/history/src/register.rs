//! Registers: versions are ordered where a transaction read one and wrote the next, and by real time.
//!
//! Real time orders versions because it orders transactions: when one that left a key at `x` had ended before another
//! that met or made `y` there began, then `x` came before `y` in every strictly serial order. Only neighbours in that
//! order are compared: the ended transactions that no other ended one follows.

use std::collections::BTreeMap;

use crate::anomaly::{Anomaly, Dependency};
use crate::fan::fan;
use crate::graph::{GraphBuilder, Node};
use crate::history::{History, Key, Outcome, Seen, TxnIndex, Value};
use crate::index::{ExternalRead, Index, KeyIndex};

/// A version: nothing, or a value.
type Version = Option<Value>;

/// What a transaction did with one key: the version it met, and the one that it left.
#[derive(Clone, Copy)]
struct Touch {
    txn: TxnIndex,
    met: Version,
    left: Version,
}

/// Adds the dependencies over one register, and reports reads that no order explains.
pub(crate) fn analyse(
    history: &History,
    index: &Index,
    key: Key,
    graph: &mut GraphBuilder,
    anomalies: &mut Vec<Anomaly>,
) {
    let all = index.key(key);
    let mut readers: BTreeMap<Version, Vec<TxnIndex>> = BTreeMap::new();
    for ExternalRead { txn, seen } in &all.reads {
        let version = version(seen);
        if let Some(value) = version {
            check_read(history, all, key, *txn, value, anomalies);
        }
        readers.entry(version).or_default().push(*txn);
    }
    let touches = touches(index, all);
    lost_updates(&touches, all, key, anomalies);
    let writer = |v: Value| all.writer(v).filter(|w| w.is_last && index.happened[w.txn.at()]).map(|w| w.txn);
    for (version, readers) in &readers {
        if let Some(writer) = version.and_then(writer) {
            for reader in readers {
                graph.depend(writer, Node::from(*reader), Dependency::WriteRead(key));
            }
        }
    }
    let mut order = |successors: Successors, ww: Dependency, rw: Dependency| {
        for (version, next) in successors {
            let mut before: Vec<(TxnIndex, Dependency)> = Vec::new();
            before.extend(version.and_then(writer).map(|txn| (txn, ww)));
            let readers = readers.get(&version).into_iter().flatten();
            before.extend(readers.map(|reader| (*reader, rw)));
            let mut next: Vec<TxnIndex> = next.into_iter().filter_map(writer).collect();
            next.sort_unstable();
            next.dedup();
            fan(graph, &before, &next);
        }
    };
    let certain = successors_by_operations(&touches);
    let in_time = successors_in_time(history, &touches);
    order(certain, Dependency::WriteWrite(key), Dependency::ReadWrite(key));
    order(in_time, Dependency::WriteWriteInTime(key), Dependency::ReadWriteInTime(key));
}

fn version(seen: &Seen) -> Version {
    match seen {
        Seen::Value(value) => Some(*value),
        Seen::Nothing | Seen::Unknown | Seen::List(_) => None,
    }
}

fn check_read(
    history: &History,
    all: &KeyIndex,
    key: Key,
    reader: TxnIndex,
    value: Value,
    anomalies: &mut Vec<Anomaly>,
) {
    let Some(written) = all.writer(value) else {
        anomalies.push(Anomaly::Unwritten { reader, key, value });
        return;
    };
    let writer = written.txn;
    if history.transaction(writer).outcome == Outcome::Aborted {
        anomalies.push(Anomaly::AbortedRead { reader, writer, key, value });
    } else if !written.is_last && writer != reader {
        anomalies.push(Anomaly::IntermediateRead { reader, writer, key, value });
    }
}

/// What each transaction that happened did with the key, by transaction.
fn touches(index: &Index, all: &KeyIndex) -> Vec<Touch> {
    let mut touches: BTreeMap<TxnIndex, Touch> = BTreeMap::new();
    for written in all.written.iter().filter(|w| w.is_last && index.happened[w.txn.at()]) {
        let (txn, version) = (written.txn, Some(written.value));
        touches.insert(txn, Touch { txn, met: version, left: version });
    }
    for ExternalRead { txn, seen } in &all.reads {
        let met = version(seen);
        touches.entry(*txn).or_insert(Touch { txn: *txn, met, left: met }).met = met;
    }
    touches.into_values().collect()
}

fn lost_updates(touches: &[Touch], all: &KeyIndex, key: Key, anomalies: &mut Vec<Anomaly>) {
    let mut updaters: BTreeMap<Version, TxnIndex> = BTreeMap::new();
    for Touch { txn, met, left } in touches.iter().copied() {
        if met != left
            && all.read_of(txn).is_some()
            && let Some(first) = updaters.insert(met, txn)
        {
            anomalies.push(Anomaly::LostUpdate { first, second: txn, key });
        }
    }
}

/// For each version values that come later.
type Successors = BTreeMap<Version, Vec<Value>>;

fn add(successors: &mut Successors, before: Version, after: Version) {
    if let Some(value) = after.filter(|_| before != after) {
        successors.entry(before).or_default().push(value);
    }
}

/// Nothing was there before anything was written, and who read one version and wrote another put it later.
fn successors_by_operations(touches: &[Touch]) -> Successors {
    let mut successors = Successors::new();
    for touch in touches {
        add(&mut successors, None, touch.left);
        if touch.met.is_some() {
            add(&mut successors, touch.met, touch.left);
        }
    }
    successors
}

/// The version that one transaction left comes before the one that a later transaction met.
fn successors_in_time(history: &History, touches: &[Touch]) -> Successors {
    let mut successors = Successors::new();
    let mut happenings: Vec<(u32, bool, &Touch)> = Vec::with_capacity(2 * touches.len());
    for touch in touches {
        let transaction = history.transaction(touch.txn);
        happenings.push((transaction.invoked, false, touch));
        happenings.extend(transaction.completed.map(|at| (at, true, touch)));
    }
    happenings.sort_unstable_by_key(|(at, ..)| *at);
    // Ended transactions with their ends, none of which ended before another of them began.
    let mut frontier: Vec<(u32, &Touch)> = Vec::new();
    for (at, is_end, touch) in happenings {
        if is_end {
            let invoked = history.transaction(touch.txn).invoked;
            frontier.retain(|(ended, _)| *ended > invoked);
            frontier.push((at, touch));
        } else {
            for (_, before) in frontier.iter().filter(|(_, before)| before.left.is_some()) {
                add(&mut successors, before.left, touch.met);
            }
        }
    }
    for values in successors.values_mut() {
        values.sort_unstable();
        values.dedup();
    }
    successors
}
