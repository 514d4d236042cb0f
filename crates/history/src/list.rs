//! Lists: the longest read is the order of versions, and every other read must be a beginning of it.

use std::collections::BTreeMap;

use crate::anomaly::{Anomaly, Dependency};
use crate::fan::fan;
use crate::graph::{GraphBuilder, Node};
use crate::history::{History, Key, Outcome, Seen, TxnIndex, Value};
use crate::index::{ExternalRead, Index, KeyIndex};

/// Adds the dependencies over one list, and reports reads that no order explains.
pub(crate) fn analyse(
    history: &History,
    index: &Index,
    key: Key,
    graph: &mut GraphBuilder,
    anomalies: &mut Vec<Anomaly>,
) {
    let all = index.key(key);
    let order: &[Value] = all.longest.as_ref().map_or(&[], |(_, range)| history.list(range));
    let reader = all.longest.as_ref().map(|(txn, _)| *txn);
    if let Some(reader) = reader
        && !elements_are_sound(history, all, key, order, reader, anomalies)
    {
        return;
    }
    let reads = matching_reads(history, all, key, order, anomalies);
    intermediate_reads(all, key, order, &reads, anomalies);
    lost_updates(all, key, &reads, anomalies);
    dependencies(index, all, key, order, &reads, graph);
    lost_writes(history, index, key, order, anomalies);
}

/// Reports elements that should not be there. False when an element is there twice, so that it has no place.
fn elements_are_sound(
    history: &History,
    all: &KeyIndex,
    key: Key,
    order: &[Value],
    reader: TxnIndex,
    anomalies: &mut Vec<Anomaly>,
) -> bool {
    for value in order {
        match all.writer(*value) {
            None => anomalies.push(Anomaly::Unwritten { reader, key, value: *value }),
            Some(written) if history.transaction(written.txn).outcome == Outcome::Aborted => {
                anomalies.push(Anomaly::AbortedRead { reader, writer: written.txn, key, value: *value });
            }
            Some(_) => {}
        }
    }
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]);
    if let Some(pair) = twice {
        anomalies.push(Anomaly::DuplicateElement { reader, key, value: pair[0] });
    }
    twice.is_none()
}

/// The reads that fit the order, each with how many elements it saw.
fn matching_reads(
    history: &History,
    all: &KeyIndex,
    key: Key,
    order: &[Value],
    anomalies: &mut Vec<Anomaly>,
) -> Vec<(TxnIndex, usize)> {
    let mut reads = Vec::with_capacity(all.reads.len());
    for ExternalRead { txn, seen } in &all.reads {
        let list: &[Value] = match seen {
            Seen::List(range) => history.list(range),
            Seen::Nothing | Seen::Unknown | Seen::Value(_) => &[],
        };
        match (order.starts_with(list), &all.longest) {
            (true, _) => reads.push((*txn, list.len())),
            (false, Some((first, _))) => {
                anomalies.push(Anomaly::IncompatibleOrder { first: *first, second: *txn, key });
                for value in list.iter().filter(|v| all.writer(**v).is_none()) {
                    anomalies.push(Anomaly::Unwritten { reader: *txn, key, value: *value });
                }
            }
            (false, None) => unreachable!("a list that was read is not longer than the longest"),
        }
    }
    reads
}

fn intermediate_reads(
    all: &KeyIndex,
    key: Key,
    order: &[Value],
    reads: &[(TxnIndex, usize)],
    anomalies: &mut Vec<Anomaly>,
) {
    for (reader, seen) in reads.iter().filter(|(_, seen)| *seen > 0) {
        let value = order[seen - 1];
        if let Some(written) = all.writer(value)
            && !written.is_last
            && written.txn != *reader
        {
            anomalies.push(Anomaly::IntermediateRead { reader: *reader, writer: written.txn, key, value });
        }
    }
}

fn lost_updates(all: &KeyIndex, key: Key, reads: &[(TxnIndex, usize)], anomalies: &mut Vec<Anomaly>) {
    let mut writers: Vec<TxnIndex> = all.written.iter().map(|w| w.txn).collect();
    writers.sort_unstable();
    let mut updaters: BTreeMap<usize, TxnIndex> = BTreeMap::new();
    for (txn, seen) in reads.iter().filter(|(txn, _)| writers.binary_search(txn).is_ok()) {
        if let Some(first) = updaters.insert(*seen, *txn) {
            anomalies.push(Anomaly::LostUpdate { first, second: *txn, key });
        }
    }
}

/// Write-write along the order, write-read to who saw a version last, read-write to who wrote the next one. Appends that
/// nobody saw come after all that were seen.
fn dependencies(
    index: &Index,
    all: &KeyIndex,
    key: Key,
    order: &[Value],
    reads: &[(TxnIndex, usize)],
    graph: &mut GraphBuilder,
) {
    let writer = |value: Value| all.writer(value).map(|w| w.txn).filter(|txn| index.happened[txn.at()]);
    let writers: Vec<Option<TxnIndex>> = order.iter().map(|value| writer(*value)).collect();
    for pair in writers.windows(2) {
        if let [Some(before), Some(after)] = pair {
            graph.depend(*before, Node::from(*after), Dependency::WriteWrite(key));
        }
    }
    let mut at_end: Vec<(TxnIndex, Dependency)> = Vec::new();
    at_end.extend(writers.last().copied().flatten().map(|txn| (txn, Dependency::WriteWrite(key))));
    for (reader, seen) in reads {
        if let Some(Some(writer)) = seen.checked_sub(1).map(|last| writers[last]) {
            graph.depend(writer, Node::from(*reader), Dependency::WriteRead(key));
        }
        match writers.get(*seen) {
            Some(Some(next)) => graph.depend(*reader, Node::from(*next), Dependency::ReadWrite(key)),
            Some(None) => {}
            None => at_end.push((*reader, Dependency::ReadWrite(key))),
        }
    }
    let mut observed = order.to_vec();
    observed.sort_unstable();
    let unseen =
        |w: &&crate::index::Written| index.happened[w.txn.at()] && observed.binary_search(&w.value).is_err();
    let mut later: Vec<TxnIndex> = all.written.iter().filter(unseen).map(|w| w.txn).collect();
    later.sort_unstable();
    later.dedup();
    fan(graph, &at_end, &later);
}

/// Acknowledged appends that are in no read, although one began after they had been answered.
fn lost_writes(history: &History, index: &Index, key: Key, order: &[Value], anomalies: &mut Vec<Anomaly>) {
    let all = index.key(key);
    let latest = all.reads.iter().max_by_key(|read| history.transaction(read.txn).invoked);
    let Some(latest) = latest else { return };
    let began = history.transaction(latest.txn).invoked;
    let mut observed = order.to_vec();
    observed.sort_unstable();
    for written in &all.written {
        let writer = history.transaction(written.txn);
        if writer.outcome == Outcome::Committed
            && writer.completed.is_some_and(|completed| completed < began)
            && observed.binary_search(&written.value).is_err()
        {
            let (writer, reader, value) = (written.txn, latest.txn, written.value);
            anomalies.push(Anomaly::LostWrite { writer, reader, key, value });
        }
    }
}
