//! Writing events.

use std::fmt;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// The client is about to ask.
    Invoke,
    /// It was told that the transaction committed.
    Ok,
    /// It knows that the transaction did not happen.
    Fail,
    /// It does not know.
    Info,
}

/// One operation as the client saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordedOp {
    /// An append to a list.
    Append(u64, i64),
    /// A read of a list; `None` before it is answered.
    ReadList(u64, Option<Vec<i64>>),
    /// A write of a register.
    Write(u64, i64),
    /// A read of a register; `None` before it is answered and for a register that nobody wrote.
    ReadRegister(u64, Option<i64>),
}

/// One event. `Display` gives its line, without the end of line.
///
/// An invocation must be recorded before the request leaves, an end after the answer came: then the order of lines
/// never claims more about real time than is true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// Its number.
    pub index: u64,
    /// What happened.
    pub kind: EventKind,
    /// Whose transaction it is.
    pub process: u64,
    /// What the transaction consists of.
    pub operations: &'a [RecordedOp],
}

impl fmt::Display for RecordedOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordedOp::Append(key, value) => write!(f, "[:append {key} {value}]"),
            RecordedOp::Write(key, value) => write!(f, "[:w {key} {value}]"),
            RecordedOp::ReadList(key, None) | RecordedOp::ReadRegister(key, None) => {
                write!(f, "[:r {key} nil]")
            }
            RecordedOp::ReadRegister(key, Some(value)) => write!(f, "[:r {key} {value}]"),
            RecordedOp::ReadList(key, Some(list)) => {
                write!(f, "[:r {key} [")?;
                for (i, value) in list.iter().enumerate() {
                    write!(f, "{}{value}", if i > 0 { " " } else { "" })?;
                }
                f.write_str("]]")
            }
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            EventKind::Invoke => "invoke",
            EventKind::Ok => "ok",
            EventKind::Fail => "fail",
            EventKind::Info => "info",
        };
        let (index, process) = (self.index, self.process);
        write!(f, "{{:index {index}, :type :{kind}, :process {process}, :f :txn, :value [")?;
        for (i, operation) in self.operations.iter().enumerate() {
            write!(f, "{}{operation}", if i > 0 { " " } else { "" })?;
        }
        f.write_str("]}")
    }
}
