//! A disk that stands still when told to.

use std::sync::Arc;

use bytes::Bytes;
use meridian_storage::{Cursor, Durability, Engine, Family, MemoryEngine, Reader, StorageError, WriteBatch};
use meridian_types::Span;
use parking_lot::{Condvar, Mutex};

/// An engine that makes nothing durable while its gate is shut: whoever asks for that waits.
pub(super) struct Gated {
    engine: Arc<MemoryEngine>,
    shut: Mutex<bool>,
    changed: Condvar,
}

impl Gated {
    pub(super) fn new(engine: Arc<MemoryEngine>) -> Self {
        Gated { engine, shut: Mutex::new(false), changed: Condvar::new() }
    }

    pub(super) fn set(&self, shut: bool) {
        *self.shut.lock() = shut;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut shut = self.shut.lock();
        while *shut {
            self.changed.wait(&mut shut);
        }
    }
}

impl Reader for Gated {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.engine.get(family, key)
    }

    fn cursor<'a>(&'a self, family: Family, span: &Span) -> Box<dyn Cursor + 'a> {
        self.engine.cursor(family, span)
    }
}

impl Engine for Gated {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StorageError> {
        if durability == Durability::Synced {
            self.pass();
        }
        self.engine.write(batch, durability)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.pass();
        self.engine.sync()
    }

    fn snapshot(&self) -> Box<dyn Reader + '_> {
        self.engine.snapshot()
    }
}
