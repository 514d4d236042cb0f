//! The catalog in the store.
//!
//! Descriptors lie in the system keyspace and are read and written by ordinary transactions, so that they are
//! replicated, locked and time-travelled by the same code as rows:
//!
//! ```text
//!   Descriptor(id)          one descriptor (protobuf, see `codec`)
//!   Name { parent, name }   who bears a name: databases under 0, schemas under their database,
//!                           tables and indexes under their schema
//!   CatalogVersion          counts transactions that changed anything; when the last one takes effect
//!   CatalogFence            when the next one shall take effect (docs/decisions/0014)
//!   Statistics { table, 0 } what ANALYZE found out
//!   Job(id)                 what a change has still to do (see `job`)
//! ```
//! Invariants: every descriptor that is not dropped has its name record, and every name record its descriptor; equal
//! versions mean equal contents. Both hold because a change takes the exclusive lock of the version first, which makes
//! schema changes serial; they are rare, and statements read the catalog from a [`CatalogCache`](crate::CatalogCache).
//!
//! This module does not know of schema leases or of rows: whoever changes a descriptor publishes the version
//! afterwards, and whoever drops a table writes the job that removes its rows.

mod codec;
mod error;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use meridian_keys::{DescriptorId, SystemKey, TableId as KeyTableId};
use meridian_kv_api::{Cluster, KvError, KvTxn, KvWrite, Locking, ScanRequest};
use meridian_types::{Key, Span, Timestamp, limits};

pub(crate) use codec::{CodecError, Descriptor};
pub use error::{CatalogError, ObjectKind};

use crate::descriptor::{DatabaseDesc, SchemaDesc, TableDesc};
use crate::ids::{DatabaseId, FIRST_USER_OID, IndexId, SchemaId, TableId};
use crate::job::Job;
use crate::snapshot::{CatalogSnapshot, TableStatistics};

/// The database that tools insist on; its oid is PostgreSQL's.
pub const POSTGRES_DATABASE: DatabaseId = DatabaseId(5);
/// The database of clients that ask for none.
pub const DEFAULT_DATABASE: DatabaseId = DatabaseId(50);

/// The owner of what [`CatalogStore::bootstrap`] makes.
const ROOT: &str = "root";
/// The counter of [`Cluster::allocate_id`] that numbers catalog objects.
const COUNTER: &str = "descriptor";

/// One change of the catalog.
#[derive(Clone, PartialEq, Debug)]
pub enum CatalogChange {
    /// A new database.
    CreateDatabase(DatabaseDesc),
    /// The same database under another name or owner.
    ReplaceDatabase(DatabaseDesc),
    /// The database goes; its schemas must be gone or go in the same transaction.
    DropDatabase(DatabaseId),
    /// A new schema.
    CreateSchema(SchemaDesc),
    /// The same schema under another name or owner.
    ReplaceSchema(SchemaDesc),
    /// The schema goes; its tables must be gone or go in the same transaction.
    DropSchema(SchemaId),
    /// A new table with its indexes.
    CreateTable(Box<TableDesc>),
    /// The next version of a table: `version` must be one above the stored one's. Names of the table and its indexes
    /// follow. A descriptor with `dropped_at` gives its names up.
    ReplaceTable(Box<TableDesc>),
    /// Forgets a dropped table, once its rows are gone. No error where it is forgotten already.
    RemoveTable(TableId),
    /// What ANALYZE found out.
    SetStatistics(TableId, TableStatistics),
    /// A job, new or further on.
    SetJob(Box<Job>),
}

/// The stored version of the catalog.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CatalogVersion {
    /// Counts changes.
    pub version: u64,
    /// When it takes effect. Its record is committed before that; transactions below it use what stood at `before`.
    /// Zero, or in the past, for a version that took effect with its commit.
    pub valid_from: Timestamp,
    /// A timestamp at which the version before it stood.
    pub before: Timestamp,
}

/// What a node has to know to plan: the version, and what is announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CatalogState {
    /// The version.
    pub stored: CatalogVersion,
    /// The latest activation that was announced. Once it has passed and the version is still another one's, nothing
    /// will come of it.
    pub fence: Option<Timestamp>,
}

/// The catalog in the store. Has no state of its own.
#[derive(Clone, Copy, Debug)]
pub struct CatalogStore;

impl CatalogStore {
    /// The version at the transaction's snapshot; 0 before bootstrap.
    pub async fn version(txn: &dyn KvTxn) -> Result<CatalogVersion, CatalogError> {
        Self::read_version(txn, Locking::SHARED).await
    }

    async fn read_version(txn: &dyn KvTxn, locking: Locking) -> Result<CatalogVersion, CatalogError> {
        let key = SystemKey::CatalogVersion.encode();
        match txn.get(key.clone(), locking).await? {
            None => Ok(CatalogVersion::default()),
            Some(bytes) => codec::decode_version(&bytes).map_err(|e| corrupt(&key, &e)),
        }
    }

    async fn read_fence(txn: &dyn KvTxn, locking: Locking) -> Result<Option<Timestamp>, CatalogError> {
        let key = SystemKey::CatalogFence.encode();
        let found = txn.get(key.clone(), locking).await?;
        found.map(|bytes| codec::decode_fence(&bytes).map_err(|e| corrupt(&key, &e))).transpose()
    }

    /// The version and the fence at the transaction's snapshot.
    pub async fn state(txn: &dyn KvTxn) -> Result<CatalogState, CatalogError> {
        let fence = Self::read_fence(txn, Locking::SHARED).await?;
        Ok(CatalogState { stored: Self::version(txn).await?, fence })
    }

    /// Announces in a read-write transaction that a version shall take effect at `at`. Only one is announced at a time:
    /// `now`, the earliest that it can be, must be beyond the one before.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`] while it is not.
    pub async fn announce(txn: &dyn KvTxn, at: Timestamp, now: Timestamp) -> Result<(), CatalogError> {
        assert!(at > now, "a version can't take effect in the past");
        if let Some(until) = Self::read_fence(txn, Locking::EXCLUSIVE).await?
            && until >= now
        {
            return Err(CatalogError::Fenced { until });
        }
        put(txn, SystemKey::CatalogFence, codec::encode_fence(at)).await
    }

    /// Makes the version that the transaction has written take effect at `at`, which was announced. The caller makes
    /// sure that the transaction commits below. `before` is a moment after the last version took effect.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`] when another activation was announced since.
    pub async fn activate_at(txn: &dyn KvTxn, at: Timestamp, before: Timestamp) -> Result<(), CatalogError> {
        match Self::read_fence(txn, Locking::SHARED).await? {
            Some(fence) if fence == at => {}
            Some(until) => return Err(CatalogError::Fenced { until }),
            None => return Err(CatalogError::Fenced { until: before }),
        }
        let written = Self::read_version(txn, Locking::EXCLUSIVE).await?;
        assert!(written.valid_from <= before, "a version is replaced before it took effect");
        let stored = CatalogVersion { valid_from: at, before, ..written };
        put(txn, SystemKey::CatalogVersion, codec::encode_version(stored)).await
    }

    /// Reads everything. In a read-only transaction the snapshot carries its timestamp, in a read-write one
    /// [`Timestamp::ZERO`], since that has none before its commit.
    pub async fn load(txn: &dyn KvTxn) -> Result<CatalogSnapshot, CatalogError> {
        let version = Self::version(txn).await?.version;
        let (mut databases, mut schemas, mut tables) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in scan(txn, SystemKey::descriptors()).await? {
            match Descriptor::decode(&value).map_err(|e| corrupt(&key, &e))? {
                Descriptor::Database(d) => databases.push(d),
                Descriptor::Schema(s) => schemas.push(s),
                Descriptor::Table(t) => tables.push(*t),
            }
        }
        let mut statistics = Vec::new();
        for (key, value) in scan(txn, SystemKey::all_statistics()).await? {
            let Ok(SystemKey::Statistics { table, column }) = SystemKey::decode(key.as_bytes()) else {
                return Err(corrupt(&key, &CodecError::Missing("the table")));
            };
            if column.get() == 0 {
                let found = codec::decode_statistics(&value).map_err(|e| corrupt(&key, &e))?;
                let table = u32::try_from(table.get()).map_err(|_| {
                    corrupt(&key, &CodecError::Unknown { field: "table", value: table.get() })
                })?;
                statistics.push((TableId(table), found));
            }
        }
        let read_at = txn.read_timestamp().unwrap_or(Timestamp::ZERO);
        Ok(CatalogSnapshot::new(version, read_at, databases, schemas, tables).with_statistics(statistics))
    }

    /// Makes the databases `defaultdb` and `postgres`, each with the schema `public`. Returns whether there was
    /// anything to do.
    pub async fn bootstrap(txn: &dyn KvTxn) -> Result<bool, CatalogError> {
        if Self::read_version(txn, Locking::EXCLUSIVE).await?.version > 0 {
            return Ok(false);
        }
        let mut changes = Vec::new();
        for (id, public, name) in
            [(POSTGRES_DATABASE, SchemaId(51), "postgres"), (DEFAULT_DATABASE, SchemaId(52), "defaultdb")]
        {
            changes.push(CatalogChange::CreateDatabase(DatabaseDesc {
                id,
                name: name.to_owned(),
                owner: ROOT.to_owned(),
            }));
            changes.push(CatalogChange::CreateSchema(SchemaDesc {
                id: public,
                database: id,
                name: "public".to_owned(),
                owner: ROOT.to_owned(),
            }));
        }
        Self::apply(txn, changes).await?;
        Ok(true)
    }

    /// Buffers the changes in a read-write transaction and returns the version that its commit makes. Several calls in
    /// one transaction count as several changes. The version takes effect with the commit, or together with the one
    /// before it where that is yet to; see [`CatalogStore::activate_at`].
    pub async fn apply(
        txn: &dyn KvTxn,
        changes: impl IntoIterator<Item = CatalogChange>,
    ) -> Result<u64, CatalogError> {
        let mut stored = Self::read_version(txn, Locking::EXCLUSIVE).await?;
        stored.version += 1;
        for change in changes {
            apply_one(txn, change).await?;
        }
        put(txn, SystemKey::CatalogVersion, codec::encode_version(stored)).await?;
        Ok(stored.version)
    }

    /// A fresh object identifier for a database, schema, table, index or constraint. The counter may start anywhere;
    /// identifiers start at [`FIRST_USER_OID`] as in PostgreSQL, whose tools take lower ones for built-in objects.
    pub async fn allocate_oid(cluster: &dyn Cluster) -> Result<u32, CatalogError> {
        let n = cluster.allocate_id(COUNTER).await?;
        let oid = u64::from(FIRST_USER_OID).checked_add(n).and_then(|oid| u32::try_from(oid).ok());
        oid.ok_or_else(|| {
            CatalogError::Kv(KvError::Internal { detail: format!("object identifiers are used up at {n}") })
        })
    }
}

/// A name that a descriptor bears.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Borne {
    kind: ObjectKind,
    parent: u32,
    name: String,
    index: Option<IndexId>,
}

impl Borne {
    fn key(&self) -> SystemKey {
        SystemKey::Name { parent: DescriptorId::new(u64::from(self.parent)), name: self.name.clone() }
    }
}

fn names_of(descriptor: &Descriptor) -> Vec<Borne> {
    let one = |kind, parent, name: &String| vec![Borne { kind, parent, name: name.clone(), index: None }];
    match descriptor {
        Descriptor::Database(d) => one(ObjectKind::Database, 0, &d.name),
        Descriptor::Schema(s) => one(ObjectKind::Schema, s.database.0, &s.name),
        Descriptor::Table(t) if t.dropped_at.is_some() => Vec::new(),
        Descriptor::Table(t) => {
            let mut names = one(ObjectKind::Relation, t.schema.0, &t.name);
            // The primary index of a table without primary key is nobody's to see.
            let indexes = t.all_indexes().filter(|i| i.id != IndexId::PRIMARY || !t.has_row_id());
            names.extend(indexes.map(|i| Borne {
                kind: ObjectKind::Relation,
                parent: t.schema.0,
                name: i.name.clone(),
                index: Some(i.id),
            }));
            names
        }
    }
}

async fn apply_one(txn: &dyn KvTxn, change: CatalogChange) -> Result<(), CatalogError> {
    match change {
        CatalogChange::CreateDatabase(d) => create(txn, Descriptor::Database(d)).await,
        CatalogChange::CreateSchema(s) => create(txn, Descriptor::Schema(s)).await,
        CatalogChange::CreateTable(t) => create(txn, Descriptor::Table(t)).await,
        CatalogChange::ReplaceDatabase(d) => {
            let old = read(txn, ObjectKind::Database, d.id.0).await?;
            replace(txn, &old, Descriptor::Database(d)).await
        }
        CatalogChange::ReplaceSchema(s) => {
            let old = read(txn, ObjectKind::Schema, s.id.0).await?;
            replace(txn, &old, Descriptor::Schema(s)).await
        }
        CatalogChange::ReplaceTable(t) => {
            let old = read(txn, ObjectKind::Relation, t.id.0).await?;
            if let Descriptor::Table(stored) = &old
                && stored.version + 1 != t.version
            {
                let expected = t.version.saturating_sub(1);
                return Err(CatalogError::Outdated { id: t.id.0, expected, found: stored.version });
            }
            replace(txn, &old, Descriptor::Table(t)).await
        }
        CatalogChange::DropDatabase(id) => {
            let old = read(txn, ObjectKind::Database, id.0).await?;
            remove(txn, &old).await
        }
        CatalogChange::DropSchema(id) => {
            let old = read(txn, ObjectKind::Schema, id.0).await?;
            remove(txn, &old).await
        }
        CatalogChange::RemoveTable(id) => match read(txn, ObjectKind::Relation, id.0).await {
            Ok(old) => {
                delete(txn, statistics_key(id)).await?;
                remove(txn, &old).await
            }
            Err(CatalogError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        },
        CatalogChange::SetJob(job) => job.put(txn).await,
        CatalogChange::SetStatistics(id, found) => {
            match read(txn, ObjectKind::Relation, id.0).await {
                Ok(_) => put(txn, statistics_key(id), codec::encode_statistics(found)).await,
                // It was dropped while its rows were counted.
                Err(CatalogError::Gone { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        }
    }
}

fn statistics_key(id: TableId) -> SystemKey {
    SystemKey::Statistics { table: KeyTableId::new(u64::from(id.0)), column: meridian_keys::ColumnId::new(0) }
}

fn descriptor_key(id: u32) -> SystemKey {
    SystemKey::Descriptor(DescriptorId::new(u64::from(id)))
}

/// The stored descriptor, which must be of the kind.
async fn read(txn: &dyn KvTxn, kind: ObjectKind, id: u32) -> Result<Descriptor, CatalogError> {
    let key = descriptor_key(id).encode();
    let Some(bytes) = txn.get(key.clone(), Locking::EXCLUSIVE).await? else {
        return Err(CatalogError::Gone { kind, id });
    };
    let found = Descriptor::decode(&bytes).map_err(|e| corrupt(&key, &e))?;
    match (kind, &found) {
        (ObjectKind::Database, Descriptor::Database(_))
        | (ObjectKind::Schema, Descriptor::Schema(_))
        | (ObjectKind::Relation, Descriptor::Table(_)) => Ok(found),
        _ => Err(CatalogError::Gone { kind, id }),
    }
}

async fn create(txn: &dyn KvTxn, descriptor: Descriptor) -> Result<(), CatalogError> {
    let key = descriptor_key(descriptor.id());
    assert!(
        txn.get(key.encode(), Locking::EXCLUSIVE).await?.is_none(),
        "descriptor {} exists: identifiers are never used twice",
        descriptor.id()
    );
    claim(txn, &descriptor, &names_of(&descriptor)).await?;
    put(txn, key, descriptor.encode()).await
}

async fn replace(txn: &dyn KvTxn, old: &Descriptor, new: Descriptor) -> Result<(), CatalogError> {
    let (before, after) = (names_of(old), names_of(&new));
    for name in before.iter().filter(|n| !after.contains(n)) {
        delete(txn, name.key()).await?;
    }
    let added: Vec<Borne> = after.into_iter().filter(|n| !before.contains(n)).collect();
    claim(txn, &new, &added).await?;
    put(txn, descriptor_key(new.id()), new.encode()).await
}

async fn remove(txn: &dyn KvTxn, old: &Descriptor) -> Result<(), CatalogError> {
    for name in names_of(old) {
        delete(txn, name.key()).await?;
    }
    delete(txn, descriptor_key(old.id())).await
}

/// Takes names that must be free.
async fn claim(txn: &dyn KvTxn, descriptor: &Descriptor, names: &[Borne]) -> Result<(), CatalogError> {
    for name in names {
        if txn.get(name.key().encode(), Locking::EXCLUSIVE).await?.is_some() {
            return Err(CatalogError::Duplicate { kind: name.kind, name: name.name.clone() });
        }
        put(txn, name.key(), codec::encode_name(descriptor.id(), name.index)).await?;
    }
    Ok(())
}

async fn put(txn: &dyn KvTxn, key: SystemKey, value: Bytes) -> Result<(), CatalogError> {
    Ok(txn.write(vec![KvWrite { key: key.encode(), value: Some(value) }]).await?)
}

async fn delete(txn: &dyn KvTxn, key: SystemKey) -> Result<(), CatalogError> {
    Ok(txn.write(vec![KvWrite { key: key.encode(), value: None }]).await?)
}

async fn scan(txn: &dyn KvTxn, span: Span) -> Result<Vec<(Key, Bytes)>, CatalogError> {
    let mut rows = Vec::new();
    let mut rest = Some(span);
    while let Some(span) = rest {
        let request =
            ScanRequest { span, reverse: false, limit: limits::SCAN_PAGE_ROWS, locking: Locking::SHARED };
        let page = txn.scan(request).await?;
        rows.extend(page.rows);
        rest = page.resume;
    }
    Ok(rows)
}

fn corrupt(key: &Key, error: &CodecError) -> CatalogError {
    CatalogError::Corrupt {
        key: meridian_keys::Pretty(key.as_bytes()).to_string(),
        detail: error.to_string(),
    }
}
