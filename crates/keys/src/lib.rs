//! The keyspace: every key that Meridian stores, and the order-preserving encoding that they are made of.
//!
//! Nobody outside of this crate concatenates key bytes. It knows nothing of rows, schemas or storage engines: it is
//! given ids and primitive values and returns bytes whose order is the order of what they encode.
//!
//! # Replicated keys (what shards own, addressed by key, versioned by MVCC)
//!
//! | bytes | what | value | written by |
//! |---|---|---|---|
//! | `08 01 01 end` / `08 01 02` | [`SystemKey::Meta`]: the shard that ends at `end` / at infinity | shard descriptor | splits, merges, moves |
//! | `08 02 node` | [`SystemKey::Node`]: a member of the cluster | node record | the node itself |
//! | `08 03 id` | [`SystemKey::Descriptor`]: database, schema, table, ... | descriptor | schema changes |
//! | `08 04 parent name` | [`SystemKey::Name`]: name within a parent | descriptor id | schema changes |
//! | `08 05` | [`SystemKey::CatalogVersion`] | counter, activation | schema changes |
//! | `08 06 job` | [`SystemKey::Job`] | job record | the job's runner |
//! | `08 07 name` | [`SystemKey::Setting`] | text | SET CLUSTER SETTING |
//! | `08 08 counter` | [`SystemKey::Counter`]: an id allocator | next free id | allocators |
//! | `08 09 name` | [`SystemKey::Placement`]: a placement policy | policy | operators |
//! | `08 0a name` | [`SystemKey::Role`]: a SQL role | role record | CREATE ROLE |
//! | `08 0b table column` | [`SystemKey::Statistics`] | histogram | ANALYZE |
//! | `08 0c sequence` | [`SystemKey::Sequence`]: state of a SQL sequence | next value | nextval |
//! | `08 0d` | [`SystemKey::CatalogFence`] | timestamp | schema changes |
//! | `08 0f database 01 n8` / `08 0f database 02 n4 n4` | [`SystemKey::AdvisoryLock`] | requests | sessions |
//! | `08 10 node start` | [`SystemKey::LockHolder`]: an incarnation of a node that has advisory locks | end of its lease | the node |
//! | `08 0e folder` | [`SystemKey::Folder`]: the node that a data folder belongs to | node id | the node that admits it |
//! | `80 table index columns` | [`IndexKey`]: a row or an index entry | encoded columns | SQL |
//! | `80 table index columns 05 table index columns` | a row of a child table, interleaved in its parent's row | encoded columns | SQL |
//!
//! `table` and `index` are ordered varints ([`KeyBuilder::push_id`]); `columns` are self-delimiting tagged values
//! ([`ValueTag`]). The child marker `05` is below every column tag, ascending (`10..=7f`) or descending (`80..=ef`), so
//! children sort directly after their parent's row and before the next parent, to any depth.
//!
//! # Versions (storage family Data)
//!
//! `escape(key) 00 01 !commit_timestamp(8)`, see [`version`].
//!
//! # Replica-local keys (storage families Log, State, Staged, Node; not versioned, never leave the node)
//!
//! See [`local`].
//!
//! All of it is persisted: the golden tests pin the bytes, and a change of them is a change of the disk format.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod decimal;
mod error;
mod ids;
mod index;
pub mod local;
mod ordered;
mod pretty;
mod system;
pub mod version;

pub use decimal::Decimal;
pub use error::KeyError;
pub use ids::{ColumnId, DescriptorId, IndexId, JobId, TableId};
pub use index::{CHILD_MARKER, IndexKey, index_span, table_span, user_span};
pub use ordered::{Direction, KeyBuilder, KeyReader, KeyValue, Nulls, ValueTag};
pub use pretty::Pretty;
pub use system::{AdvisoryId, AdvisoryKey, Counter, SystemKey, meta_lookup_span, meta_span, system_span};
