//! Tables without storage: `pg_catalog`, `information_schema` and `meridian`.
//!
//! Their columns are declared in text files beside this module, one table per paragraph, so that they can be laid
//! beside PostgreSQL's. Where a table's rows come from is a property of the table; the rows that follow from the
//! catalog alone are made by [`virtual_rows`](crate::virtual_rows), the others by whoever knows the cluster or the
//! session.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

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
    /// `meridian.replicas`
    Replicas,
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
    /// `pg_catalog.pg_locks`, as far as it shows advisory locks
    AdvisoryLocks,
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
    /// Whether it is listed as a view (`relkind` v) rather than a table: as PostgreSQL has it.
    pub is_view: bool,
    /// Its columns.
    pub columns: Vec<VirtualColumn>,
    /// Where its rows come from.
    pub source: VirtualSource,
}

const DECLARATIONS: &[(&str, &str)] = &[
    ("pg_catalog", include_str!("pg_catalog.txt")),
    ("information_schema", include_str!("information_schema.txt")),
    ("meridian", include_str!("meridian.txt")),
];

type Tables = BTreeMap<(&'static str, &'static str), Arc<VirtualTable>>;

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let all = DECLARATIONS.iter().flat_map(|(schema, text)| parse(schema, text));
        all.map(|t| ((t.schema, t.name), Arc::new(t))).collect()
    })
}

/// The virtual table with this name.
pub fn virtual_table(schema: &str, name: &str) -> Option<Arc<VirtualTable>> {
    tables().get(&(schema, name)).cloned()
}

/// All virtual tables, by schema and name.
pub fn virtual_tables() -> impl Iterator<Item = &'static Arc<VirtualTable>> {
    tables().values()
}

/// Reads a declaration file: a line `oid relkind name`, then indented lines of `column type` separated by commas.
fn parse(schema: &'static str, text: &'static str) -> Vec<VirtualTable> {
    let mut out: Vec<VirtualTable> = Vec::new();
    let mut columns = String::new();
    let finish = |out: &mut Vec<VirtualTable>, columns: &mut String| {
        if let Some(table) = out.last_mut() {
            table.columns = parse_columns(columns);
        }
        columns.clear();
    };
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        if let Some(more) = line.strip_prefix("    ") {
            columns.push_str(more);
            columns.push(' ');
            continue;
        }
        finish(&mut out, &mut columns);
        let mut words = line.split(' ');
        let oid = words.next().and_then(|w| w.parse().ok()).expect("a declaration begins with an oid");
        let is_view = words.next().expect("a declaration has a relkind") == "v";
        let name = words.next().expect("a declaration has a name");
        out.push(VirtualTable {
            oid,
            schema,
            name,
            is_view,
            columns: Vec::new(),
            source: source(schema, name),
        });
    }
    finish(&mut out, &mut columns);
    out
}

fn parse_columns(text: &str) -> Vec<VirtualColumn> {
    text.split(',')
        .map(|column| {
            let (name, ty) = column.trim().split_once(' ').expect("a column has a name and a type");
            // The declarations live as long as the program, but their lines were joined; so the name is leaked once.
            VirtualColumn { name: String::leak(name.to_owned()), ty: parse_type(ty) }
        })
        .collect()
}

fn parse_type(name: &str) -> DataType {
    let name = name.trim();
    match name.strip_suffix("[]") {
        Some(element) => DataType::array(parse_type(element)),
        None => DataType::from_name(name).expect("a declared type exists"),
    }
}

fn source(schema: &str, name: &str) -> VirtualSource {
    use ClusterTable as C;
    use VirtualSource::{Catalog, Cluster, Session};
    match (schema, name) {
        ("pg_catalog", "pg_settings") => Session(SessionTable::Settings),
        ("pg_catalog", "pg_stat_activity") => Session(SessionTable::Activity),
        ("pg_catalog", "pg_prepared_statements") => Session(SessionTable::PreparedStatements),
        ("pg_catalog", "pg_locks") => Cluster(C::AdvisoryLocks),
        ("meridian", "nodes") => Cluster(C::Nodes),
        ("meridian", "shards") => Cluster(C::Shards),
        ("meridian", "replicas") => Cluster(C::Replicas),
        ("meridian", "leases") => Cluster(C::Leases),
        ("meridian", "locks") => Cluster(C::Locks),
        ("meridian", "transactions") => Cluster(C::Transactions),
        ("meridian", "sessions") => Cluster(C::Sessions),
        ("meridian", "statements") => Cluster(C::Statements),
        ("meridian", "schema_changes") => Cluster(C::SchemaChanges),
        ("meridian", "jobs") => Cluster(C::Jobs),
        ("meridian", "clock") => Cluster(C::Clock),
        ("meridian", "settings") => Cluster(C::Settings),
        ("meridian", "truetime") => Cluster(C::TrueTime),
        _ => Catalog,
    }
}
