//! Recording a history while it happens.

use std::io::{self, Write};

use meridian_history::{Event, EventKind, RecordedOp};
use parking_lot::Mutex;

/// Where events go, in the order in which they happened.
///
/// One lock orders them: an invocation is written before its request leaves, an end after its answer came.
pub struct Recorder {
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    next: u64,
    error: Option<io::Error>,
}

impl Recorder {
    /// Writes to `out`.
    pub fn new(out: Box<dyn Write + Send>) -> Recorder {
        Recorder { state: Mutex::new(State { out, next: 0, error: None }) }
    }

    pub(crate) fn event(&self, kind: EventKind, process: u64, operations: &[RecordedOp]) {
        let mut state = self.state.lock();
        let index = state.next;
        state.next += 1;
        let event = Event { index, kind, process, operations };
        if let Err(error) = writeln!(state.out, "{event}") {
            state.error.get_or_insert(error);
        }
    }

    /// Everything is written.
    ///
    /// # Errors
    /// Some of it could not be.
    pub fn finish(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        match state.error.take() {
            Some(error) => Err(error),
            None => state.out.flush(),
        }
    }
}
