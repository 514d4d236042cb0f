//! Atomic batches.

use bytes::Bytes;
use meridian_types::Span;

use crate::Family;

/// One change of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// Sets a key.
    Put {
        /// Where.
        family: Family,
        /// The key.
        key: Bytes,
        /// The new value.
        value: Bytes,
    },
    /// Removes a key; removing what is not there is no error.
    Delete {
        /// Where.
        family: Family,
        /// The key.
        key: Bytes,
    },
    /// Removes every key of a span.
    DeleteSpan {
        /// Where.
        family: Family,
        /// The keys.
        span: Span,
    },
}

/// Changes that take effect together, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WriteBatch {
    mutations: Vec<Mutation>,
    bytes: usize,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for so many more changes.
    pub fn reserve(&mut self, changes: usize) {
        self.mutations.reserve(changes);
    }

    /// Sets a key.
    pub fn put(&mut self, family: Family, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.mutations.push(Mutation::Put { family, key, value });
    }

    /// Removes a key.
    pub fn delete(&mut self, family: Family, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.mutations.push(Mutation::Delete { family, key });
    }

    /// Removes every key of a span.
    pub fn delete_span(&mut self, family: Family, span: Span) {
        self.mutations.push(Mutation::DeleteSpan { family, span });
    }

    /// Appends all of `other`.
    pub fn append(&mut self, mut other: WriteBatch) {
        self.bytes += other.bytes;
        self.mutations.append(&mut other.mutations);
    }

    /// The changes in order.
    pub fn mutations(&self) -> &[Mutation] {
        &self.mutations
    }

    /// The changes in order, by value.
    pub fn into_mutations(self) -> Vec<Mutation> {
        self.mutations
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.mutations.is_empty()
    }
}
