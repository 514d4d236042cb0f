//! Disks that stand still, or are full, when told to.

use std::sync::Arc;

use bytes::Bytes;
use meridian_storage::{
    Cursor, Durability, Engine, Family, MemoryEngine, Mutation, Reader, StorageError, WriteBatch,
};
use meridian_types::Span;
use parking_lot::{Condvar, Mutex};

/// An engine that makes nothing durable while its gate is shut, so that whoever asks for that waits; and that has no
/// room for what is put into families that are said to be full.
pub(super) struct Troubled {
    engine: Arc<MemoryEngine>,
    shut: Mutex<bool>,
    changed: Condvar,
    full: Mutex<Vec<Family>>,
}

impl Troubled {
    pub(super) fn new(engine: Arc<MemoryEngine>) -> Self {
        Troubled { engine, shut: Mutex::new(false), changed: Condvar::new(), full: Mutex::default() }
    }

    pub(super) fn set_shut(&self, shut: bool) {
        *self.shut.lock() = shut;
        self.changed.notify_all();
    }

    pub(super) fn set_full(&self, full: &[Family]) {
        *self.full.lock() = full.to_vec();
    }

    fn pass(&self) {
        let mut shut = self.shut.lock();
        while *shut {
            self.changed.wait(&mut shut);
        }
    }
}

impl Reader for Troubled {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.engine.get(family, key)
    }

    fn cursor<'a>(&'a self, family: Family, span: &Span) -> Box<dyn Cursor + 'a> {
        self.engine.cursor(family, span)
    }
}

impl Engine for Troubled {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StorageError> {
        let is_full = |family: &Family| self.full.lock().contains(family);
        if batch.mutations().iter().any(|m| matches!(m, Mutation::Put { family, .. } if is_full(family))) {
            return Err(StorageError::NoSpace { detail: "injected".to_owned() });
        }
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
