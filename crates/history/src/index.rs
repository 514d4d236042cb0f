//! A history by key: who wrote what, and what each transaction saw of others.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::anomaly::Anomaly;
use crate::edn::HistoryError;
use crate::history::{History, Key, Operation, Outcome, Seen, TxnIndex, Value};

/// A value that a transaction gave to a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) value: Value,
    pub(crate) txn: TxnIndex,
    /// Whether the transaction left the key with it.
    pub(crate) is_last: bool,
}

/// What a committed transaction saw on a key before its own operations on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ExternalRead {
    pub(crate) txn: TxnIndex,
    /// Never unknown.
    pub(crate) seen: Seen,
}

/// All of one key.
///
/// Invariant: `written` is sorted by value, without repetition; `reads` by transaction, at most one each.
#[derive(Default, Debug)]
pub(crate) struct KeyIndex {
    pub(crate) is_list: bool,
    is_register: bool,
    pub(crate) written: Vec<Written>,
    pub(crate) reads: Vec<ExternalRead>,
    /// The longest list that a committed transaction saw, its own appends included.
    pub(crate) longest: Option<(TxnIndex, Range<usize>)>,
}

impl KeyIndex {
    /// Who wrote a value.
    pub(crate) fn writer(&self, value: Value) -> Option<&Written> {
        let at = self.written.binary_search_by_key(&value, |w| w.value).ok()?;
        Some(&self.written[at])
    }

    /// What a transaction saw before its own operations.
    pub(crate) fn read_of(&self, txn: TxnIndex) -> Option<&Seen> {
        let at = self.reads.binary_search_by_key(&txn, |r| r.txn).ok()?;
        Some(&self.reads[at].seen)
    }
}

/// A history by key, with what followed about transactions of unknown outcome.
pub(crate) struct Index {
    pub(crate) keys: Vec<KeyIndex>,
    /// Which transactions certainly happened: those whose commit was answered, and those whose writes were read.
    pub(crate) happened: Vec<bool>,
}

impl Index {
    pub(crate) fn keys(&self) -> impl Iterator<Item = (Key, &KeyIndex)> {
        (0..).map(Key).zip(&self.keys)
    }

    pub(crate) fn key(&self, key: Key) -> &KeyIndex {
        &self.keys[key.0 as usize]
    }
}

/// What a transaction knows of a key while its operations are walked through.
#[derive(Default)]
struct View {
    /// What was there before it; `None` until a read has told.
    before: Option<Seen>,
    own: Vec<Value>,
}

/// Sorts a history by key and checks each transaction against itself.
pub(crate) fn index(history: &History, anomalies: &mut Vec<Anomaly>) -> Result<Index, HistoryError> {
    let mut keys: Vec<KeyIndex> = Vec::new();
    keys.resize_with(history.key_names.len(), KeyIndex::default);
    let mut happened = vec![false; history.transactions.len()];
    for (txn, transaction) in history.transactions() {
        happened[txn.at()] = transaction.outcome == Outcome::Committed;
        walk(history, txn, &mut keys, anomalies);
    }
    for (i, key) in keys.iter_mut().enumerate() {
        if key.is_list && key.is_register {
            return Err(HistoryError::Mixed { key: history.key_names[i].clone() });
        }
        key.written.sort_unstable_by_key(|w| (w.value, w.txn));
        if let Some(twice) = key.written.windows(2).find(|w| w[0].value == w[1].value) {
            return Err(HistoryError::WrittenTwice {
                line: history.transaction(twice[1].txn).line,
                key: history.key_names[i].clone(),
                value: twice[1].value.0,
            });
        }
    }
    for key in &keys {
        mark_observed(history, key, &mut happened);
    }
    Ok(Index { keys, happened })
}

/// Whoever wrote what a committed transaction read has happened, whatever its own client knows.
fn mark_observed(history: &History, key: &KeyIndex, happened: &mut [bool]) {
    let mut mark = |value: Value| {
        if let Some(written) = key.writer(value)
            && history.transaction(written.txn).outcome == Outcome::Unknown
        {
            happened[written.txn.at()] = true;
        }
    };
    if let Some((_, range)) = &key.longest {
        history.list(range).iter().for_each(|v| mark(*v));
    }
    for read in &key.reads {
        if let Seen::Value(value) = read.seen {
            mark(value);
        }
    }
}

fn walk(history: &History, txn: TxnIndex, keys: &mut [KeyIndex], anomalies: &mut Vec<Anomaly>) {
    let mut views: BTreeMap<Key, View> = BTreeMap::new();
    for operation in history.operations(txn) {
        match operation {
            Operation::Append(key, value) => {
                keys[key.0 as usize].is_list = true;
                views.entry(*key).or_default().own.push(*value);
            }
            Operation::Write(key, value) => {
                keys[key.0 as usize].is_register = true;
                views.entry(*key).or_default().own.push(*value);
            }
            Operation::Read(key, seen) => {
                let index = &mut keys[key.0 as usize];
                let agrees = match seen {
                    Seen::Unknown => continue,
                    Seen::Value(_) => {
                        index.is_register = true;
                        read_register(views.entry(*key).or_default(), seen)
                    }
                    Seen::List(range) => {
                        index.is_list = true;
                        if index.longest.as_ref().is_none_or(|(_, l)| l.len() < range.len()) {
                            index.longest = Some((txn, range.clone()));
                        }
                        read_list(history, views.entry(*key).or_default(), range)
                    }
                    // Nothing after an own write is wrong for either kind.
                    Seen::Nothing => read_register(views.entry(*key).or_default(), seen),
                };
                if !agrees {
                    anomalies.push(Anomaly::Internal { txn, key: *key });
                }
            }
        }
    }
    for (key, view) in views {
        let index = &mut keys[key.0 as usize];
        let last = view.own.len();
        index.written.extend((1..).zip(view.own).map(|(i, value)| Written {
            value,
            txn,
            is_last: i == last,
        }));
        if let Some(seen) = view.before {
            index.reads.push(ExternalRead { txn, seen });
        }
    }
}

fn read_register(view: &mut View, seen: &Seen) -> bool {
    match (view.own.last(), &view.before) {
        (Some(own), _) => *seen == Seen::Value(*own),
        (None, Some(before)) => before == seen,
        (None, None) => {
            view.before = Some(seen.clone());
            true
        }
    }
}

fn read_list(history: &History, view: &mut View, range: &Range<usize>) -> bool {
    let list = history.list(range);
    let Some(before) = list.strip_suffix(view.own.as_slice()) else { return false };
    match &view.before {
        Some(Seen::List(known)) => history.list(known) == before,
        Some(_) => before.is_empty(),
        None => {
            let before = range.start..range.start + before.len();
            view.before = Some(if before.is_empty() { Seen::Nothing } else { Seen::List(before) });
            true
        }
    }
}
