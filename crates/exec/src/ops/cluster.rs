//! Tables and functions of the `meridian` schema, and virtual tables in general.

use meridian_catalog::{ClusterTable, Relation, SessionTable, TableRef, VirtualSource, VirtualTable};
use meridian_datum::{ArrayValue, CastContext, DataType, Datum, Result, SqlError, SqlState, cast};
use meridian_kv_api::{ClockInfo, ShardInfo};
use meridian_plan::physical::ClusterFunction;
use meridian_types::{Key, NodeId, Timestamp};
use std::sync::Arc;

use crate::context::Statement;
use crate::table::IndexWriter;

/// The rows of a virtual table, all columns in order.
pub(crate) async fn virtual_rows(stmt: &Statement, table: &VirtualTable) -> Result<Vec<Vec<Datum>>> {
    let rows = match table.source {
        VirtualSource::Catalog => meridian_catalog::virtual_rows(table, &stmt.catalog, &*stmt.session)?,
        VirtualSource::Session(SessionTable::Settings) => stmt.session.settings_rows(table),
        VirtualSource::Session(t) => stmt.session.session_rows(t, table),
        VirtualSource::Cluster(t) => cluster_rows(stmt, t).await?,
    };
    // A source may know fewer columns than the table has; what it does not know is NULL.
    let width = table.columns.len();
    Ok(rows
        .into_iter()
        .map(|mut row| {
            row.resize(width, Datum::Null);
            row
        })
        .collect())
}

pub(super) fn int(v: u64) -> Datum {
    Datum::Int(v as i64)
}

pub(super) fn text(v: impl AsRef<str>) -> Datum {
    Datum::from(v.as_ref())
}

fn key(k: &Key) -> Datum {
    Datum::from(meridian_keys::Pretty(k.as_bytes()).to_string())
}

fn opt_key(k: Option<&Key>) -> Datum {
    k.map_or(Datum::Null, key)
}

/// A timestamp as decimal nanoseconds, the form that AS OF SYSTEM TIME takes.
fn nanos(t: Timestamp) -> Datum {
    int(t.as_nanos())
}

/// A timestamp as SQL sees it.
pub(crate) fn timestamptz(t: Timestamp) -> Datum {
    const EPOCH_MICROS: i64 = 946_684_800_000_000;
    Datum::TimestampTz((t.as_nanos() / 1000) as i64 - EPOCH_MICROS)
}

fn table_of(stmt: &Statement, start: &Key) -> Datum {
    let Ok(parsed) = meridian_keys::IndexKey::parse(start.as_bytes()) else { return Datum::Null };
    let storage = parsed.table.get();
    let table = stmt.catalog.tables().find(|t| u64::from(t.storage.0) == storage);
    table.map_or(Datum::Null, |t| text(&t.name))
}

fn shard_row(stmt: &Statement, s: ShardInfo) -> Vec<Datum> {
    let replicas = s.replicas.iter().map(|n| Datum::Int(i64::from(n.get()))).collect();
    vec![
        int(s.group),
        key(&s.start),
        opt_key(s.end.as_ref()),
        table_of(stmt, &s.start),
        int(s.generation),
        Datum::Array(Arc::new(ArrayValue::new(DataType::Int8, replicas))),
        s.leader.map_or(Datum::Null, |n| Datum::Int(i64::from(n.get()))),
    ]
}

fn replica_rows(s: &ShardInfo) -> Vec<Vec<Datum>> {
    let row = |(node, kind): (&meridian_types::NodeId, &&'static str)| {
        vec![int(s.group), Datum::Int(i64::from(node.get())), text(kind), (s.leader == Some(*node)).into()]
    };
    s.replicas.iter().zip(&s.kinds).map(row).collect()
}

fn clock_rows(c: ClockInfo) -> Vec<Vec<Datum>> {
    let mut head = vec![Datum::Int(i64::from(c.node.get()))];
    match c.interval {
        Some((earliest, latest, epsilon)) => head.extend([nanos(earliest), nanos(latest), int(epsilon)]),
        None => head.extend([Datum::Null, Datum::Null, Datum::Null]),
    }
    head.push(if c.unsure.is_empty() { Datum::Null } else { text(&c.unsure) });
    let mut tail: Vec<Datum> = match c.parts {
        Some(parts) => vec![int(parts.masters_ns), int(parts.network_ns), int(parts.drift_ns)],
        None => vec![Datum::Null; 3],
    };
    tail.push(int(c.drift_faults));
    if c.sources.is_empty() {
        head.extend(vec![Datum::Null; 9]);
        head.extend(tail);
        return vec![head];
    }
    c.sources
        .iter()
        .map(|s| {
            let mut row = head.clone();
            let reason = if s.reason.is_empty() { Datum::Null } else { text(&s.reason) };
            row.extend([
                text(&s.master),
                Datum::Int(s.low_ns),
                Datum::Int(s.high_ns),
                s.accepted.into(),
                reason,
                int(s.round_trip_ns),
                int(s.uncertainty_ns),
                int(s.age_ns),
                int(s.failures),
            ]);
            row.extend(tail.iter().cloned());
            row
        })
        .collect()
}

fn truetime_row(stmt: &Statement) -> Result<Vec<Datum>> {
    let now = stmt.kv.now().map_err(crate::kv_error::sql_error)?;
    Ok(vec![nanos(now.earliest()), nanos(now.latest()), int(now.epsilon().as_nanos())])
}

async fn cluster_rows(stmt: &Statement, table: ClusterTable) -> Result<Vec<Vec<Datum>>> {
    let cluster = &stmt.cluster;
    Ok(match table {
        ClusterTable::Nodes => stmt
            .wait(cluster.nodes())
            .await?
            .into_iter()
            .map(|n| {
                vec![
                    Datum::Int(i64::from(n.node.get())),
                    text(n.address),
                    text(n.sql_address),
                    text(n.http_address),
                    text(n.region),
                    text(n.zone),
                    n.is_live.into(),
                    text(n.version),
                ]
            })
            .collect(),
        ClusterTable::Shards => {
            stmt.wait(cluster.shards()).await?.into_iter().map(|s| shard_row(stmt, s)).collect()
        }
        ClusterTable::Replicas => stmt.wait(cluster.shards()).await?.iter().flat_map(replica_rows).collect(),
        ClusterTable::Leases => stmt
            .wait(cluster.leases())
            .await?
            .into_iter()
            .map(|l| {
                vec![
                    int(l.group),
                    Datum::Int(i64::from(l.leader.get())),
                    int(l.round),
                    timestamptz(l.lease_end),
                    timestamptz(l.safe_time),
                    int(l.committed),
                    int(l.applied),
                ]
            })
            .collect(),
        ClusterTable::Locks => stmt
            .wait(cluster.locks())
            .await?
            .into_iter()
            .map(|l| {
                let span = [int(l.group), key(&l.start), opt_key(l.end.as_ref())];
                span.into_iter().chain([text(l.txn), text(l.mode), l.granted.into()]).collect()
            })
            .collect(),
        ClusterTable::Transactions => stmt
            .wait(cluster.transactions())
            .await?
            .into_iter()
            .map(|t| {
                let gateway = Datum::Int(i64::from(t.gateway.get()));
                vec![text(t.txn), gateway, timestamptz(t.started), int(t.buffered_bytes)]
            })
            .collect(),
        ClusterTable::Clock => stmt.wait(cluster.clocks()).await?.into_iter().flat_map(clock_rows).collect(),
        ClusterTable::TrueTime => vec![truetime_row(stmt)?],
        ClusterTable::Sessions => stmt.session.cluster_sessions(),
        ClusterTable::Jobs => super::jobs::job_rows(stmt).await?,
        ClusterTable::SchemaChanges => super::jobs::schema_change_rows(stmt).await?,
        ClusterTable::AdvisoryLocks => super::advisory::rows(stmt).await?,
        ClusterTable::Statements | ClusterTable::Settings => stmt.session.cluster_table(table),
    })
}

fn integer(d: &Datum, what: &str) -> Result<u64> {
    let value = match d {
        Datum::Int(v) => u64::try_from(*v).ok(),
        _ => None,
    };
    value.ok_or_else(|| SqlError::invalid_parameter(format!("{what} must be a number that is not negative")))
}

/// A table by its name as text, qualified or not.
fn find_table(stmt: &Statement, name: &Datum) -> Result<TableRef> {
    let Some(name) = name.as_str() else {
        return Err(SqlError::invalid_parameter("a table's name is needed"));
    };
    let (schema, table) = match name.split_once('.') {
        Some((s, t)) => (Some(s), t),
        None => (None, name),
    };
    match stmt.session.resolve(&stmt.catalog, schema, table) {
        Some(Relation::Table(t)) => Ok(t),
        _ => Err(SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))),
    }
}

fn node(value: &Datum) -> Result<NodeId> {
    let node = u32::try_from(integer(value, "the node")?);
    node.map(NodeId::new).map_err(|_| SqlError::invalid_parameter("no such node"))
}

/// Calls a function that changes the cluster.
pub(super) async fn cluster_function(
    stmt: &Statement,
    function: ClusterFunction,
    args: &[Datum],
    types: &[DataType],
) -> Result<Datum> {
    match function {
        ClusterFunction::Advisory(call) => return super::advisory::call(stmt, call, args).await,
        ClusterFunction::SplitAt => {
            let table = find_table(stmt, args.first().unwrap_or(&Datum::Null))?;
            let writer = IndexWriter::new(&stmt.catalog, &table, &table.primary)?;
            let columns = table.key_ordinals();
            if args.len() < 2 || args.len() - 1 > columns.len() {
                let message =
                    format!("split_at needs 1 to {} key values of table \"{}\"", columns.len(), table.name);
                return Err(SqlError::invalid_parameter(message));
            }
            let mut values = Vec::with_capacity(args.len() - 1);
            for ((value, from), &ordinal) in args[1..].iter().zip(&types[1..]).zip(&columns) {
                let to = &table.columns[ordinal].ty;
                values.push(cast(&stmt.eval, value.clone(), from, to, CastContext::Explicit)?);
            }
            let at = writer.key_of_values(&values)?;
            stmt.wait(stmt.cluster.split_at(at)).await?;
        }
        ClusterFunction::CheckTable => {
            let table = find_table(stmt, args.first().unwrap_or(&Datum::Null))?;
            crate::check::check_table(stmt, &table).await?;
        }
        ClusterFunction::TransferLeader => {
            let group = integer(&args[0], "the shard")?;
            stmt.wait(stmt.cluster.transfer_leader(group, node(&args[1])?)).await?;
        }
        ClusterFunction::MergeAt => return Err(SqlError::unsupported("merging shards by hand")),
        ClusterFunction::MoveReplica => {
            let group = integer(&args[0], "the shard")?;
            let (from, to) = (node(&args[1])?, node(&args[2])?);
            stmt.wait(stmt.cluster.move_replica(group, from, to)).await?;
        }
        ClusterFunction::ChangeReplica(change) => {
            let group = integer(&args[0], "the shard")?;
            stmt.wait(stmt.cluster.change_replica(group, node(&args[1])?, change)).await?;
        }
    }
    Ok(Datum::Bool(true))
}
