//! What can go wrong with stored descriptors.

use meridian_datum::{SqlError, SqlState};
use meridian_kv_api::KvError;
use meridian_types::Timestamp;

/// The kind of a named object, as error messages call it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectKind {
    /// A database.
    Database,
    /// A schema.
    Schema,
    /// A table or an index.
    Relation,
}

impl ObjectKind {
    fn word(self) -> &'static str {
        match self {
            ObjectKind::Database => "database",
            ObjectKind::Schema => "schema",
            ObjectKind::Relation => "relation",
        }
    }

    fn duplicate(self) -> SqlState {
        match self {
            ObjectKind::Database => SqlState::DUPLICATE_DATABASE,
            ObjectKind::Schema => SqlState::DUPLICATE_SCHEMA,
            ObjectKind::Relation => SqlState::DUPLICATE_TABLE,
        }
    }

    fn undefined(self) -> SqlState {
        match self {
            ObjectKind::Database => SqlState::INVALID_CATALOG_NAME,
            ObjectKind::Schema => SqlState::INVALID_SCHEMA_NAME,
            ObjectKind::Relation => SqlState::UNDEFINED_TABLE,
        }
    }
}

/// Why the stored catalog could not be read or changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CatalogError {
    /// The store failed; a retryable error means that the transaction must be tried again.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// The name is taken: 42P07, 42P06, 42P04.
    #[error("{} \"{name}\" already exists", kind.word())]
    Duplicate {
        /// Of what kind.
        kind: ObjectKind,
        /// The name.
        name: String,
    },
    /// The object to be changed is gone: 42P01, 3F000, 3D000.
    #[error("{} with OID {id} does not exist", kind.word())]
    Gone {
        /// Of what kind.
        kind: ObjectKind,
        /// Which.
        id: u32,
    },
    /// The descriptor was changed since the change was planned; plan it again on a fresh snapshot.
    #[error("descriptor {id} has version {found}, and the change was made for version {expected}")]
    Outdated {
        /// Which.
        id: u32,
        /// What the change replaces.
        expected: u64,
        /// What is stored.
        found: u64,
    },
    /// Another change is announced; the next one may be once that has taken effect.
    #[error("another schema change takes effect at {until}")]
    Fenced {
        /// When.
        until: Timestamp,
    },
    /// A stored record cannot be read.
    #[error("catalog record {key} is corrupt: {detail}")]
    Corrupt {
        /// Under which key.
        key: String,
        /// What was found.
        detail: String,
    },
}

impl CatalogError {
    /// The error for the client. Errors of the store are translated by whoever knows how.
    pub fn into_sql(self, kv: impl FnOnce(KvError) -> SqlError) -> SqlError {
        let message = self.to_string();
        match self {
            CatalogError::Kv(error) => kv(error),
            CatalogError::Duplicate { kind, .. } => SqlError::new(kind.duplicate(), message),
            CatalogError::Gone { kind, .. } => SqlError::new(kind.undefined(), message),
            CatalogError::Outdated { .. } | CatalogError::Fenced { .. } => {
                SqlError::new(SqlState::SERIALIZATION_FAILURE, message)
            }
            CatalogError::Corrupt { .. } => SqlError::internal(message),
        }
    }
}
