//! Disks that stand still, or are full, when told to.

use std::sync::Arc;

use bytes::Bytes;
use meridian_storage::{
    Cursor, Durability, Engine, Family, MemoryEngine, Mutation, Reader, StorageError, WriteBatch,
};
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

/// An engine that has no room for what is put into some families.
pub(super) struct Cramped {
    engine: Arc<MemoryEngine>,
    full: Mutex<Vec<Family>>,
}

impl Cramped {
    pub(super) fn new(engine: Arc<MemoryEngine>) -> Self {
        Cramped { engine, full: Mutex::default() }
    }

    pub(super) fn set_full(&self, full: &[Family]) {
        *self.full.lock() = full.to_vec();
    }
}

impl Reader for Cramped {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.engine.get(family, key)
    }

    fn cursor<'a>(&'a self, family: Family, span: &Span) -> Box<dyn Cursor + 'a> {
        self.engine.cursor(family, span)
    }
}

impl Engine for Cramped {
    fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StorageError> {
        let full = self.full.lock();
        let is_put = |m: &Mutation| matches!(m, Mutation::Put { family, .. } if full.contains(family));
        if batch.mutations().iter().any(is_put) {
            return Err(StorageError::NoSpace { detail: "injected".to_owned() });
        }
        drop(full);
        self.engine.write(batch, durability)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.engine.sync()
    }

    fn snapshot(&self) -> Box<dyn Reader + '_> {
        self.engine.snapshot()
    }
}
