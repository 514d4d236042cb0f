//! Reading events: a parser for the part of EDN that histories use.
//!
//! It works on bytes and builds operations as it goes, since a history of a million transactions is a few hundred
//! megabytes. What it does not need (times, errors, nested values) it skips form by form.

use std::collections::BTreeMap;

use crate::history::{History, Key, Operation, Outcome, Seen, Transaction, Value};
use crate::record::EventKind;

/// Why a text is no history.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HistoryError {
    /// It is not EDN, or not of the expected shape.
    #[error("line {line}: expected {expected}")]
    Syntax {
        /// The line, from 1.
        line: u32,
        /// What should have been there.
        expected: &'static str,
    },
    /// A process began a transaction while it had one.
    #[error("line {line}: process {process} has a transaction already")]
    Overlap {
        /// The line, from 1.
        line: u32,
        /// The process.
        process: i64,
    },
    /// An end without a beginning.
    #[error("line {line}: process {process} has no transaction that could end")]
    NotInvoked {
        /// The line, from 1.
        line: u32,
        /// The process.
        process: i64,
    },
    /// Two operations gave one key the same value, so that a read of it would not say whose it saw.
    #[error("line {line}: {value} was given to key {key} before")]
    WrittenTwice {
        /// The line of the later transaction.
        line: u32,
        /// The key.
        key: String,
        /// The value.
        value: i64,
    },
    /// A key is used as a list and as a register.
    #[error("key {key} is used as a list and as a register")]
    Mixed {
        /// The key.
        key: String,
    },
    /// More than the indexes hold.
    #[error("the history is too long: at most 2,000,000,000 events")]
    TooLong,
}

/// Indexes are 32 bits wide, and graph nodes need a few for each event.
const MAX_EVENTS: usize = 2_000_000_000;

impl History {
    /// Reads a history.
    ///
    /// # Errors
    /// The text is no history; see [`HistoryError`].
    pub fn parse(text: &[u8]) -> Result<History, HistoryError> {
        let mut builder = Builder::default();
        let mut cursor = Cursor { text, at: 0, line: 1 };
        // One vector around everything is fine too.
        let mut depth = 0;
        loop {
            match cursor.peek() {
                None if depth == 0 => break,
                Some(b'[') if depth == 0 => {
                    cursor.at += 1;
                    depth = 1;
                }
                Some(b']') if depth == 1 => {
                    cursor.at += 1;
                    depth = 0;
                }
                Some(b'{') => builder.event(&mut cursor)?,
                _ => return Err(cursor.expected("an event")),
            }
        }
        Ok(builder.finish())
    }
}

/// An operation before it is known whether its transaction's reads count.
type Operations = Vec<Operation>;

struct Open {
    txn: usize,
    operations: Operations,
}

#[derive(Default)]
struct Builder {
    history: History,
    keys: BTreeMap<Vec<u8>, Key>,
    open: BTreeMap<i64, Open>,
}

impl Builder {
    fn event(&mut self, cursor: &mut Cursor<'_>) -> Result<(), HistoryError> {
        let mut kind = None;
        // Histories written by hand leave the process out: they have one transaction at a time.
        let mut process = Some(-1);
        // What is not a client's says what it likes in its value, and may say so before it says who it is: the value is
        // passed over at first.
        let mut value = None;
        cursor.take(b'{', "an event")?;
        while !cursor.closes(b'}') {
            match cursor.keyword()? {
                b"type" => kind = Some(cursor.kind()?),
                b"process" => process = cursor.process()?,
                b"value" if cursor.peek() == Some(b'[') => {
                    value = Some(Cursor { ..*cursor });
                    cursor.skip()?;
                }
                _ => cursor.skip()?,
            }
        }
        let line = cursor.line;
        let kind = kind.ok_or_else(|| cursor.expected(":type"))?;
        let Some(process) = process else { return Ok(()) };
        let operations = match &mut value {
            Some(cursor) => Some(self.operations(cursor)?),
            None => None,
        };
        let position = self.history.events;
        if position as usize >= MAX_EVENTS {
            return Err(HistoryError::TooLong);
        }
        self.history.events += 1;
        if kind == EventKind::Invoke {
            if self.open.contains_key(&process) {
                return Err(HistoryError::Overlap { line, process });
            }
            let operations = operations.ok_or_else(|| cursor.expected(":value with operations"))?;
            let txn = self.history.transactions.len();
            self.history.transactions.push(Transaction {
                invoked: position,
                completed: None,
                line,
                outcome: Outcome::Unknown,
                operations: 0..0,
            });
            self.open.insert(process, Open { txn, operations });
            return Ok(());
        }
        let open = self.open.remove(&process).ok_or(HistoryError::NotInvoked { line, process })?;
        let txn = &mut self.history.transactions[open.txn];
        txn.line = line;
        let (outcome, operations) = match kind {
            EventKind::Ok => (Outcome::Committed, operations.unwrap_or(open.operations)),
            EventKind::Fail => (Outcome::Aborted, forget_reads(open.operations)),
            EventKind::Info | EventKind::Invoke => (Outcome::Unknown, forget_reads(open.operations)),
        };
        txn.outcome = outcome;
        if outcome != Outcome::Unknown {
            txn.completed = Some(position);
        }
        self.close(open.txn, operations);
        Ok(())
    }

    fn close(&mut self, txn: usize, operations: Operations) {
        let start = self.history.operations.len();
        self.history.operations.extend(operations);
        self.history.transactions[txn].operations = start..self.history.operations.len();
    }

    fn finish(mut self) -> History {
        for (_, open) in std::mem::take(&mut self.open) {
            self.close(open.txn, forget_reads(open.operations));
        }
        let mut names = vec![String::new(); self.keys.len()];
        for (name, key) in self.keys {
            names[key.0 as usize] = String::from_utf8_lossy(&name).into_owned();
        }
        self.history.key_names = names;
        self.history
    }

    fn operations(&mut self, cursor: &mut Cursor<'_>) -> Result<Operations, HistoryError> {
        let mut operations = Vec::new();
        cursor.take(b'[', "operations")?;
        while !cursor.closes(b']') {
            cursor.take(b'[', "an operation")?;
            let name = cursor.keyword()?;
            let key = self.key(cursor)?;
            operations.push(match name {
                b"append" => Operation::Append(key, Value(cursor.integer()?)),
                b"w" => Operation::Write(key, Value(cursor.integer()?)),
                b"r" => Operation::Read(key, self.seen(cursor)?),
                _ => return Err(cursor.expected(":append, :w or :r")),
            });
            if !cursor.closes(b']') {
                return Err(cursor.expected("the end of an operation"));
            }
        }
        Ok(operations)
    }

    fn key(&mut self, cursor: &mut Cursor<'_>) -> Result<Key, HistoryError> {
        let name = cursor.atom()?;
        if let Some(key) = self.keys.get(name) {
            return Ok(*key);
        }
        let key = Key(u32::try_from(self.keys.len()).map_err(|_| HistoryError::TooLong)?);
        self.keys.insert(name.to_vec(), key);
        Ok(key)
    }

    fn seen(&mut self, cursor: &mut Cursor<'_>) -> Result<Seen, HistoryError> {
        match cursor.peek() {
            Some(b'[') => {
                cursor.at += 1;
                let start = self.history.elements.len();
                while !cursor.closes(b']') {
                    self.history.elements.push(Value(cursor.integer()?));
                }
                let end = self.history.elements.len();
                Ok(if start == end { Seen::Nothing } else { Seen::List(start..end) })
            }
            Some(b'n') => {
                if cursor.atom()? != b"nil" {
                    return Err(cursor.expected("nil, a value or a list"));
                }
                Ok(Seen::Nothing)
            }
            _ => Ok(Seen::Value(Value(cursor.integer()?))),
        }
    }
}

/// Nobody was told what the reads of a transaction that did not commit saw.
fn forget_reads(mut operations: Operations) -> Operations {
    for operation in &mut operations {
        if let Operation::Read(_, seen) = operation {
            *seen = Seen::Unknown;
        }
    }
    operations
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Cursor<'a> {
    fn expected(&self, expected: &'static str) -> HistoryError {
        HistoryError::Syntax { line: self.line, expected }
    }

    /// The next byte that means something.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.get(self.at)? {
                b'\n' => {
                    self.line += 1;
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' | b',' => self.at += 1,
                b';' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                }
                byte => return Some(byte),
            }
        }
    }

    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), HistoryError> {
        if self.peek() != Some(byte) {
            return Err(self.expected(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn closes(&mut self, byte: u8) -> bool {
        let closes = self.peek() == Some(byte);
        self.at += usize::from(closes);
        closes
    }

    /// A number, name or keyword, as it is written.
    fn atom(&mut self) -> Result<&'a [u8], HistoryError> {
        self.peek();
        let rest = &self.text[self.at..];
        let ends = |b: &u8| b.is_ascii_whitespace() || b",()[]{}\";".contains(b);
        let len = rest.iter().position(ends).unwrap_or(rest.len());
        if len == 0 {
            return Err(self.expected("a number, a name or a keyword"));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn keyword(&mut self) -> Result<&'a [u8], HistoryError> {
        self.take(b':', "a keyword")?;
        self.atom()
    }

    fn integer(&mut self) -> Result<i64, HistoryError> {
        let atom = self.atom()?;
        let text = std::str::from_utf8(atom).map_err(|_| self.expected("an integer"))?;
        text.parse().map_err(|_| self.expected("an integer"))
    }

    fn kind(&mut self) -> Result<EventKind, HistoryError> {
        match self.keyword()? {
            b"invoke" => Ok(EventKind::Invoke),
            b"ok" => Ok(EventKind::Ok),
            b"fail" => Ok(EventKind::Fail),
            b"info" => Ok(EventKind::Info),
            _ => Err(self.expected(":invoke, :ok, :fail or :info")),
        }
    }

    /// `None` for a process that is no client.
    fn process(&mut self) -> Result<Option<i64>, HistoryError> {
        match self.peek() {
            Some(b'0'..=b'9' | b'-') => Ok(Some(self.integer()?)),
            _ => self.skip().map(|()| None),
        }
    }

    /// Passes over one form, whatever it is. Nesting is counted, not followed, so that no input can exhaust the stack.
    fn skip(&mut self) -> Result<(), HistoryError> {
        let mut open = 0usize;
        loop {
            match self.peek().ok_or_else(|| self.expected("a value"))? {
                b'[' | b'{' | b'(' => {
                    self.at += 1;
                    open += 1;
                }
                b']' | b'}' | b')' => {
                    open = open.checked_sub(1).ok_or_else(|| self.expected("a value"))?;
                    self.at += 1;
                }
                b'"' => self.skip_string()?,
                // A tag or a set: what follows is the form.
                b'#' => {
                    self.at += 1;
                    if !matches!(self.text.get(self.at), Some(b'{')) {
                        self.atom()?;
                    }
                    continue;
                }
                _ => drop(self.atom()?),
            }
            if open == 0 {
                return Ok(());
            }
        }
    }

    fn skip_string(&mut self) -> Result<(), HistoryError> {
        self.at += 1;
        loop {
            match self.text.get(self.at).ok_or_else(|| self.expected("the end of a string"))? {
                b'"' => break,
                b'\\' => self.at += 1,
                b'\n' => self.line += 1,
                _ => {}
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Event, RecordedOp};

    #[test]
    fn what_is_not_needed_is_skipped() {
        let text = br#"; a comment
            [{:type :invoke, :value [[:r :x nil]], :process 1, :time 12.5 :error {:a ["x } \" ]" #inst "1"] :b #{1 2}}}
             {:type :info :f :kill :value ["n1" {:why 3}] :process :nemesis}
             {:type :ok, :process 1, :value [[:r :x [1 2]]]}]"#;
        let history = History::parse(text).unwrap();
        assert_eq!(history.transactions.len(), 1);
        assert_eq!(history.key_names, [":x"]);
        assert_eq!(history.operations, [Operation::Read(Key(0), Seen::List(0..2))]);
        assert_eq!(history.transactions[0].completed, Some(1));
    }

    #[test]
    fn malformed_text_is_refused_with_its_line() {
        for (text, line) in [
            ("{:type :invoke :value [[:r 1 nil]]}\n{:type :invoke :value [[:r 1 nil]]}", 2),
            ("\n{:type :ok :value [[:r 1 nil]]}", 2),
            ("{:type :invoke :value [[:zap 1 2]]}", 1),
            ("{:type :invoke :value [[:append 1 x]]}", 1),
            ("{:value [[:append 1 2]]}", 1),
            ("{:type :invoke :value [[:append 1 2]", 1),
            ("\n\nhello", 3),
        ] {
            let error = History::parse(text.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with(&format!("line {line}: ")), "{text}: {error}");
        }
    }

    fn operation() -> impl Strategy<Value = RecordedOp> {
        prop_oneof![
            (0..9u64, any::<i64>()).prop_map(|(k, v)| RecordedOp::Append(k, v)),
            (10..19u64, any::<i64>()).prop_map(|(k, v)| RecordedOp::Write(k, v)),
            (0..9u64, proptest::collection::vec(any::<i64>(), 0..4))
                .prop_map(|(k, l)| RecordedOp::ReadList(k, Some(l))),
            (10..19u64, any::<Option<i64>>()).prop_map(|(k, v)| RecordedOp::ReadRegister(k, v)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(operations in proptest::collection::vec(operation(), 0..8)) {
            let invoke = Event { index: 0, kind: EventKind::Invoke, process: 4, operations: &operations };
            let ok = Event { index: 1, kind: EventKind::Ok, ..invoke.clone() };
            let history = History::parse(format!("{invoke}\n{ok}\n").as_bytes()).unwrap();
            prop_assert_eq!(history.operations.len(), operations.len());
            for (read, written) in history.operations.iter().zip(&operations) {
                let same = match (read, written) {
                    (Operation::Append(k, v), RecordedOp::Append(key, value))
                    | (Operation::Write(k, v), RecordedOp::Write(key, value)) =>
                        history.key_name(*k) == key.to_string() && v.0 == *value,
                    (Operation::Read(k, Seen::Value(v)), RecordedOp::ReadRegister(key, Some(value))) =>
                        history.key_name(*k) == key.to_string() && v.0 == *value,
                    (Operation::Read(_, Seen::Nothing), RecordedOp::ReadRegister(_, None)) => true,
                    (Operation::Read(_, Seen::Nothing), RecordedOp::ReadList(_, Some(list))) => list.is_empty(),
                    (Operation::Read(_, Seen::List(range)), RecordedOp::ReadList(_, Some(list))) =>
                        history.list(range).iter().map(|v| v.0).eq(list.iter().copied()),
                    _ => false,
                };
                prop_assert!(same, "{:?} from {}", read, written);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}:a-z0-9 \"\\\\#;\n]{0,60}") {
            let _ = History::parse(text.as_bytes());
        }
    }
}
