//! Anomalies in words.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::anomaly::{Anomaly, Cycle, Dependency, Edge};
use crate::history::{History, Key, Operation, Outcome, Seen, TxnIndex, Value};

/// Anomalies of one kind that are written out.
const SHOWN: usize = 5;

/// Elements of a list that are written out, from its end.
const ELEMENTS: usize = 12;

pub(crate) fn all(history: &History, anomalies: &[Anomaly]) -> String {
    let mut kinds: BTreeMap<String, Vec<&Anomaly>> = BTreeMap::new();
    for anomaly in anomalies {
        kinds.entry(anomaly.name()).or_default().push(anomaly);
    }
    let mut text = String::new();
    for (name, anomalies) in kinds {
        for anomaly in anomalies.iter().take(SHOWN) {
            let _ = writeln!(text, "{name}: {}", one(history, anomaly));
        }
        if anomalies.len() > SHOWN {
            let _ = writeln!(text, "{name}: {} more", anomalies.len() - SHOWN);
        }
    }
    text
}

fn one(history: &History, anomaly: &Anomaly) -> String {
    let name = |key: &Key| history.key_name(*key).to_string();
    let (sentence, involved) = match anomaly {
        Anomaly::Internal { txn, key } => {
            (format!("{txn} read {} other than its own operations before it left it", name(key)), vec![*txn])
        }
        Anomaly::Unwritten { reader, key, value } => {
            (format!("{reader} read {value} from {}, which nobody wrote", name(key)), vec![*reader])
        }
        Anomaly::AbortedRead { reader, writer, key, value } => (
            format!("{reader} read {value} from {}, which {writer} wrote, which did not happen", name(key)),
            vec![*reader, *writer],
        ),
        Anomaly::IntermediateRead { reader, writer, key, value } => (
            format!("{reader} read {value} from {}, after which {writer} wrote to it again", name(key)),
            vec![*reader, *writer],
        ),
        Anomaly::DuplicateElement { reader, key, value } => {
            (format!("{reader} read {} with {value} in it twice", name(key)), vec![*reader])
        }
        Anomaly::IncompatibleOrder { first, second, key } => (
            format!("{first} and {second} read {} as lists of which neither begins the other", name(key)),
            vec![*first, *second],
        ),
        Anomaly::LostUpdate { first, second, key } => (
            format!("{first} and {second} read the same version of {} and both replaced it", name(key)),
            vec![*first, *second],
        ),
        Anomaly::LostWrite { writer, reader, key, value } => (
            format!(
                "{writer} was told that its append of {value} to {} committed, and {reader}, which began later, did not see it",
                name(key)
            ),
            vec![*writer, *reader],
        ),
        Anomaly::Cycle(cycle) => return of_cycle(history, cycle),
    };
    format!("{sentence}{}", listing(history, involved))
}

fn of_cycle(history: &History, cycle: &Cycle) -> String {
    let mut text =
        format!("a cycle of {}{}", cycle.edges.len(), listing(history, cycle.edges.iter().map(|e| e.from)));
    for edge in &cycle.edges {
        let _ = write!(text, "\n  {} -> {}: {}", edge.from, edge.to, reason(history, edge));
    }
    text
}

fn listing(history: &History, transactions: impl IntoIterator<Item = TxnIndex>) -> String {
    let mut text = String::new();
    for txn in transactions {
        let transaction = history.transaction(txn);
        let outcome = match transaction.outcome {
            Outcome::Committed => "committed",
            Outcome::Aborted => "aborted",
            Outcome::Unknown => "unknown",
        };
        let end = transaction.completed.map_or("no end".into(), |at| at.to_string());
        let (line, began) = (transaction.line, transaction.invoked);
        let _ = write!(text, "\n  {txn} (line {line}, {outcome}, events {began} to {end}):");
        for operation in history.operations(txn) {
            let _ = write!(text, " {}", operation_text(history, operation));
        }
    }
    text
}

fn operation_text(history: &History, operation: &Operation) -> String {
    match operation {
        Operation::Append(key, value) => format!("[:append {} {value}]", history.key_name(*key)),
        Operation::Write(key, value) => format!("[:w {} {value}]", history.key_name(*key)),
        Operation::Read(key, seen) => format!("[:r {} {}]", history.key_name(*key), seen_text(history, seen)),
    }
}

fn seen_text(history: &History, seen: &Seen) -> String {
    match seen {
        Seen::Unknown => "?".into(),
        Seen::Nothing => "nil".into(),
        Seen::Value(value) => value.to_string(),
        Seen::List(range) => {
            let list = history.list(range);
            let skipped = list.len().saturating_sub(ELEMENTS);
            let shown: Vec<String> = list[skipped..].iter().map(Value::to_string).collect();
            let dots = if skipped > 0 { format!("...{skipped} more... ") } else { String::new() };
            format!("[{dots}{}]", shown.join(" "))
        }
    }
}

fn reason(history: &History, edge: &Edge) -> String {
    let Edge { from, to, dependency } = edge;
    match dependency {
        Dependency::WriteWrite(key) => format!(
            "ww, {from} wrote {} to {} and {to} wrote {} after it",
            written(history, *from, *key),
            history.key_name(*key),
            written(history, *to, *key),
        ),
        Dependency::WriteRead(key) => format!(
            "wr, {to} read {} from {}, which {from} wrote",
            read(history, *to, *key),
            history.key_name(*key),
        ),
        Dependency::ReadWrite(key) => format!(
            "rw, {from} read {} from {}, without {}, which {to} wrote",
            read(history, *from, *key),
            history.key_name(*key),
            written(history, *to, *key),
        ),
        Dependency::WriteWriteInTime(key) => format!(
            "ww, {from} wrote {} to {}, which was seen before {}, which {to} wrote, was met",
            written(history, *from, *key),
            history.key_name(*key),
            written(history, *to, *key),
        ),
        Dependency::ReadWriteInTime(key) => format!(
            "rw, {from} read {} from {}, which was seen before {}, which {to} wrote, was met",
            read(history, *from, *key),
            history.key_name(*key),
            written(history, *to, *key),
        ),
        Dependency::RealTime => format!("rt, {from} had ended before {to} began"),
    }
}

fn written(history: &History, txn: TxnIndex, key: Key) -> String {
    let values = history.operations(txn).iter().filter_map(|operation| match operation {
        Operation::Append(k, value) | Operation::Write(k, value) if *k == key => Some(value.to_string()),
        Operation::Append(..) | Operation::Write(..) | Operation::Read(..) => None,
    });
    values.collect::<Vec<_>>().join(", ")
}

fn read(history: &History, txn: TxnIndex, key: Key) -> String {
    let seen = history.operations(txn).iter().find_map(|operation| match operation {
        Operation::Read(k, seen) if *k == key => Some(seen_text(history, seen)),
        Operation::Append(..) | Operation::Write(..) | Operation::Read(..) => None,
    });
    seen.unwrap_or_else(|| "nothing".into())
}

impl std::fmt::Display for TxnIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "T{}", self.0)
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
