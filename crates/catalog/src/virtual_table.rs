//! Tables without storage: `pg_catalog`, `information_schema` and `meridian`.

use meridian_datum::DataType;

/// A column of a virtual table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualColumn {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub ty: DataType,
}

/// Where a virtual table's rows come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VirtualSource {
    /// From the catalog snapshot alone: [`crate::virtual_rows`].
    Catalog,
    /// From the `Cluster` trait; the executor knows how, by the table's name.
    Cluster(ClusterTable),
    /// From the session that runs the statement (its settings).
    Session(SessionTable),
}

/// The tables of the `meridian` schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterTable {
    /// `meridian.nodes`
    Nodes,
    /// `meridian.shards`
    Shards,
    /// `meridian.leases`
    Leases,
    /// `meridian.locks`
    Locks,
    /// `meridian.transactions`
    Transactions,
    /// `meridian.sessions`
    Sessions,
    /// `meridian.statements`
    Statements,
    /// `meridian.schema_changes`
    SchemaChanges,
    /// `meridian.jobs`
    Jobs,
    /// `meridian.clock`
    Clock,
    /// `meridian.settings`
    Settings,
    /// `meridian.truetime()`
    TrueTime,
}

/// Tables that show the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionTable {
    /// `pg_catalog.pg_settings`
    Settings,
    /// `pg_catalog.pg_stat_activity`
    Activity,
    /// `pg_catalog.pg_prepared_statements`
    PreparedStatements,
}

/// A virtual table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualTable {
    /// Its oid; that of PostgreSQL where it has the table.
    pub oid: u32,
    /// Its schema.
    pub schema: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its columns.
    pub columns: Vec<VirtualColumn>,
    /// Where its rows come from.
    pub source: VirtualSource,
}
