//! A history in memory.

use std::ops::Range;

/// A key, as an index into the history's names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key(pub(crate) u32);

/// A value that was appended or written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Value(pub i64);

/// A transaction, by the order of invocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TxnIndex(pub(crate) u32);

impl TxnIndex {
    pub(crate) fn at(self) -> usize {
        self.0 as usize
    }
}

/// What the client learned of its transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was told that the transaction committed.
    Committed,
    /// The transaction certainly did not happen.
    Aborted,
    /// Either.
    Unknown,
}

/// What a read saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The client did not learn it.
    Unknown,
    /// Nothing: a register without a value, a list without elements.
    Nothing,
    /// A register's value.
    Value(Value),
    /// A list: a range of the history's elements.
    List(Range<usize>),
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Puts a value at the end of a list.
    Append(Key, Value),
    /// Sets a register.
    Write(Key, Value),
    /// Reads a list or a register.
    Read(Key, Seen),
}

/// One transaction.
///
/// Invariant: `invoked < completed` where there is an end; positions are unique over the history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// The position of its invocation among the events.
    pub invoked: u32,
    /// The position of its end; `None` while nobody was told.
    pub completed: Option<u32>,
    /// The line of its last event, from 1.
    pub line: u32,
    /// What the client learned.
    pub outcome: Outcome,
    /// Its operations: a range of the history's.
    pub(crate) operations: Range<usize>,
}

/// A history: transactions in the order of their invocations.
#[derive(Clone, Default, Debug)]
pub struct History {
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) elements: Vec<Value>,
    pub(crate) key_names: Vec<String>,
    pub(crate) events: u32,
}

impl History {
    /// The transactions with their indexes.
    pub fn transactions(&self) -> impl Iterator<Item = (TxnIndex, &Transaction)> {
        (0..).map(TxnIndex).zip(&self.transactions)
    }

    /// How many operations there are in all.
    pub fn operation_count(&self) -> usize {
        self.operations.len()
    }

    /// The name of a key as the history has it.
    pub fn key_name(&self, key: Key) -> &str {
        &self.key_names[key.0 as usize]
    }

    pub(crate) fn transaction(&self, txn: TxnIndex) -> &Transaction {
        &self.transactions[txn.at()]
    }

    pub(crate) fn operations(&self, txn: TxnIndex) -> &[Operation] {
        &self.operations[self.transactions[txn.at()].operations.clone()]
    }

    pub(crate) fn list(&self, range: &Range<usize>) -> &[Value] {
        &self.elements[range.clone()]
    }
}
