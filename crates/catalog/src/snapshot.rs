//! The catalog at one timestamp.
//!
//! Immutable and shared: a statement that was planned on a snapshot keeps it by reference, whatever happens to the
//! catalog meanwhile. Names are folded by the parser; look-ups here are exact.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use meridian_types::Timestamp;

use crate::descriptor::{DatabaseDesc, IndexDesc, SchemaDesc, TableDesc, TableRef};
use crate::ids::{DatabaseId, IndexId, SchemaId, TableId};
use crate::virtual_table::{VirtualTable, virtual_table};

/// What a name of the relations' name space means.
#[derive(Clone, Debug)]
pub enum Relation {
    /// A table with storage.
    Table(TableRef),
    /// A table without.
    Virtual(Arc<VirtualTable>),
    /// An index.
    Index(TableRef, IndexId),
}

/// What is known of a table's contents; guides the planner and nothing else.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TableStatistics {
    /// Rows, about.
    pub rows: f64,
}

/// A name within a schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    Table(TableId),
    Index(TableId, IndexId),
}

/// The catalog at one timestamp: immutable and shared.
#[derive(Clone, Debug, Default)]
pub struct CatalogSnapshot {
    version: u64,
    read_at: Timestamp,
    databases: BTreeMap<DatabaseId, Arc<DatabaseDesc>>,
    schemas: BTreeMap<SchemaId, Arc<SchemaDesc>>,
    tables: BTreeMap<TableId, TableRef>,
    names: HashMap<SchemaId, HashMap<String, Named>>,
    statistics: HashMap<TableId, TableStatistics>,
}

/// The schemas that every database has and nobody can change.
pub const VIRTUAL_SCHEMAS: &[(&str, u32)] =
    &[("pg_catalog", 11), ("information_schema", 13_000), ("meridian", 13_001)];

impl CatalogSnapshot {
    /// A snapshot of the given descriptors. Dropped tables may be among them.
    pub fn new(
        version: u64,
        read_at: Timestamp,
        databases: impl IntoIterator<Item = DatabaseDesc>,
        schemas: impl IntoIterator<Item = SchemaDesc>,
        tables: impl IntoIterator<Item = TableDesc>,
    ) -> Self {
        let mut snapshot = CatalogSnapshot { version, read_at, ..CatalogSnapshot::default() };
        for d in databases {
            snapshot.databases.insert(d.id, Arc::new(d));
        }
        for s in schemas {
            snapshot.names.entry(s.id).or_default();
            snapshot.schemas.insert(s.id, Arc::new(s));
        }
        for t in tables {
            t.assert_invariants();
            if t.dropped_at.is_none() {
                let names = snapshot.names.entry(t.schema).or_default();
                names.insert(t.name.clone(), Named::Table(t.id));
                for i in t.all_indexes().filter(|_| !t.has_row_id()).chain(t.indexes.iter()) {
                    names.insert(i.name.clone(), Named::Index(t.id, i.id));
                }
            }
            snapshot.tables.insert(t.id, Arc::new(t));
        }
        snapshot
    }

    /// The same snapshot with statistics.
    pub fn with_statistics(
        mut self,
        statistics: impl IntoIterator<Item = (TableId, TableStatistics)>,
    ) -> Self {
        self.statistics = statistics.into_iter().collect();
        self
    }

    /// Counts changes of the catalog; equal versions mean equal contents.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The timestamp at which it was read.
    pub fn read_at(&self) -> Timestamp {
        self.read_at
    }

    /// All databases in order of id.
    pub fn databases(&self) -> impl Iterator<Item = &Arc<DatabaseDesc>> {
        self.databases.values()
    }

    /// All schemas with storage, of all databases, in order of id.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<SchemaDesc>> {
        self.schemas.values()
    }

    /// All tables that are not dropped, of all databases, in order of id.
    pub fn tables(&self) -> impl Iterator<Item = &TableRef> {
        self.tables.values().filter(|t| t.dropped_at.is_none())
    }

    /// Tables that wait for their rows to be removed.
    pub fn dropped_tables(&self) -> impl Iterator<Item = &TableRef> {
        self.tables.values().filter(|t| t.dropped_at.is_some())
    }

    /// A database by name.
    pub fn database(&self, name: &str) -> Option<&Arc<DatabaseDesc>> {
        self.databases.values().find(|d| d.name == name)
    }

    /// A schema by name.
    pub fn schema(&self, database: DatabaseId, name: &str) -> Option<&Arc<SchemaDesc>> {
        self.schemas.values().find(|s| s.database == database && s.name == name)
    }

    /// A schema by id.
    pub fn schema_by_id(&self, id: SchemaId) -> Option<&Arc<SchemaDesc>> {
        self.schemas.get(&id)
    }

    /// A table by id, unless it was dropped.
    pub fn table(&self, id: TableId) -> Option<&TableRef> {
        self.tables.get(&id).filter(|t| t.dropped_at.is_none())
    }

    /// A table that is dropped and whose rows are not removed yet.
    pub fn dropped_table(&self, id: TableId) -> Option<&TableRef> {
        self.tables.get(&id).filter(|t| t.dropped_at.is_some())
    }

    /// The name of a table's schema.
    pub fn schema_name(&self, table: &TableDesc) -> &str {
        self.schemas.get(&table.schema).map_or("public", |s| s.name.as_str())
    }

    /// The tables interleaved in a table, in order of id.
    pub fn children(&self, parent: TableId) -> impl Iterator<Item = &TableRef> {
        self.tables().filter(move |t| t.interleave.is_some_and(|i| i.parent == parent))
    }

    /// What is known of a table's contents.
    pub fn statistics(&self, table: TableId) -> Option<TableStatistics> {
        self.statistics.get(&table).copied()
    }

    /// A relation in one schema.
    pub fn relation_in(&self, schema: SchemaId, name: &str) -> Option<Relation> {
        let named = *self.names.get(&schema)?.get(name)?;
        Some(match named {
            Named::Table(id) => Relation::Table(self.tables.get(&id)?.clone()),
            Named::Index(id, index) => Relation::Index(self.tables.get(&id)?.clone(), index),
        })
    }

    /// A relation by name. `schema` is the name's qualifier; without one, `pg_catalog` is searched first and then the
    /// search path, as in PostgreSQL.
    pub fn resolve(
        &self,
        database: &str,
        search_path: &[String],
        user: &str,
        schema: Option<&str>,
        name: &str,
    ) -> Option<Relation> {
        match schema {
            Some(schema) => self.resolve_in(database, schema, name),
            None => {
                let explicit = search_path.iter().any(|s| s == "pg_catalog");
                if !explicit && let Some(v) = virtual_table("pg_catalog", name) {
                    return Some(Relation::Virtual(v));
                }
                search_path.iter().find_map(|s| {
                    let schema = if s == "$user" { user } else { s };
                    self.resolve_in(database, schema, name)
                })
            }
        }
    }

    fn resolve_in(&self, database: &str, schema: &str, name: &str) -> Option<Relation> {
        if let Some(v) = virtual_table(schema, name) {
            return Some(Relation::Virtual(v));
        }
        let database = self.database(database)?.id;
        self.relation_in(self.schema(database, schema)?.id, name)
    }

    /// Whether a schema exists, virtual ones included.
    pub fn has_schema(&self, database: &str, name: &str) -> bool {
        VIRTUAL_SCHEMAS.iter().any(|(n, _)| *n == name)
            || self.database(database).is_some_and(|d| self.schema(d.id, name).is_some())
    }

    /// The schema in which unqualified names are created: the first of the search path that exists.
    pub fn creation_schema(
        &self,
        database: &str,
        search_path: &[String],
        user: &str,
    ) -> Option<&Arc<SchemaDesc>> {
        let database = self.database(database)?.id;
        search_path.iter().find_map(|s| self.schema(database, if s == "$user" { user } else { s }))
    }

    /// The index with this oid and its table.
    pub fn index_by_oid(&self, oid: u32) -> Option<(&TableRef, &IndexDesc)> {
        self.tables().find_map(|t| t.all_indexes().find(|i| i.oid == oid).map(|i| (t, i)))
    }
}
