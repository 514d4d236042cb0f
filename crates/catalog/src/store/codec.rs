//! Descriptors as bytes: protobuf messages whose tags are frozen.
//!
//! The messages are written by hand rather than generated, so that a conversion is total both ways and a field that is
//! added to a descriptor does not compile until it has a tag here. Enumerations have explicit ordinals, of which 0 is
//! never one: a missing field is an error and not the first variant.

use bytes::Bytes;
use meridian_datum::{DataType, SqlError, decode_values, encode_values};
use meridian_types::Timestamp;
use prost::Message;

use crate::descriptor::{
    CheckDesc, ColumnDesc, DatabaseDesc, Direction, ExpressionDesc, Identity, IndexColumn, IndexDesc,
    IndexState, Interleave, SchemaDesc, TableDesc,
};
use crate::ids::{ColumnId, DatabaseId, IndexId, SchemaId, TableId};
use crate::snapshot::TableStatistics;
use crate::store::CatalogVersion;

/// The form of the records. A reader refuses any other.
const FORMAT: u32 = 1;

/// Any descriptor.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Descriptor {
    Database(DatabaseDesc),
    Schema(SchemaDesc),
    Table(Box<TableDesc>),
}

/// What could not be understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("{0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("format {0} is not known")]
    Format(u32),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("what is missing: {0}")]
    Missed(#[from] SqlError),
    #[error("{field} has the unknown value {value}")]
    Unknown { field: &'static str, value: u64 },
}

#[derive(Clone, PartialEq, Message)]
struct DescriptorRecord {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, optional, tag = "2")]
    database: Option<DatabaseRecord>,
    #[prost(message, optional, tag = "3")]
    schema: Option<SchemaRecord>,
    #[prost(message, optional, boxed, tag = "4")]
    table: Option<Box<TableRecord>>,
}

#[derive(Clone, PartialEq, Message)]
struct DatabaseRecord {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    owner: String,
}

#[derive(Clone, PartialEq, Message)]
struct SchemaRecord {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(uint32, tag = "2")]
    database: u32,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    owner: String,
}

#[derive(Clone, PartialEq, Message)]
struct TableRecord {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(uint32, tag = "2")]
    storage: u32,
    #[prost(uint32, tag = "3")]
    schema: u32,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "5")]
    owner: String,
    #[prost(message, repeated, tag = "6")]
    columns: Vec<ColumnRecord>,
    #[prost(message, optional, tag = "7")]
    primary: Option<IndexRecord>,
    #[prost(message, repeated, tag = "8")]
    indexes: Vec<IndexRecord>,
    #[prost(message, repeated, tag = "9")]
    checks: Vec<CheckRecord>,
    #[prost(message, optional, tag = "10")]
    interleave: Option<InterleaveRecord>,
    #[prost(message, repeated, tag = "11")]
    storage_parameters: Vec<ParameterRecord>,
    #[prost(uint32, tag = "12")]
    next_column: u32,
    #[prost(uint32, tag = "13")]
    next_index: u32,
    #[prost(uint64, tag = "14")]
    version: u64,
    #[prost(fixed64, tag = "15")]
    valid_from: u64,
    #[prost(fixed64, optional, tag = "16")]
    dropped_at: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct ColumnRecord {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(string, tag = "2")]
    name: String,
    /// `pg_type.oid`.
    #[prost(uint32, tag = "3")]
    type_oid: u32,
    /// `pg_attribute.atttypmod`.
    #[prost(sint32, tag = "4")]
    type_modifier: i32,
    #[prost(bool, tag = "5")]
    nullable: bool,
    #[prost(string, optional, tag = "6")]
    default: Option<String>,
    /// 0 none, 1 always, 2 by default.
    #[prost(uint32, tag = "7")]
    identity: u32,
    #[prost(bool, tag = "8")]
    hidden: bool,
    /// A list of one value, as rows are encoded.
    #[prost(bytes = "vec", optional, tag = "9")]
    missing: Option<Vec<u8>>,
    #[prost(bool, tag = "10")]
    refuses_null: bool,
}

#[derive(Clone, PartialEq, Message)]
struct IndexRecord {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(uint32, tag = "2")]
    oid: u32,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(bool, tag = "4")]
    unique: bool,
    #[prost(uint32, optional, tag = "5")]
    constraint_oid: Option<u32>,
    #[prost(message, repeated, tag = "6")]
    columns: Vec<IndexColumnRecord>,
    #[prost(uint32, repeated, tag = "7")]
    storing: Vec<u32>,
    /// 1 write only, 2 public, 3 delete only.
    #[prost(uint32, tag = "8")]
    state: u32,
    #[prost(string, optional, tag = "9")]
    predicate: Option<String>,
    #[prost(message, repeated, tag = "10")]
    expressions: Vec<ExpressionRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct ExpressionRecord {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    text: String,
    #[prost(uint32, tag = "4")]
    type_oid: u32,
    #[prost(int32, tag = "5")]
    type_modifier: i32,
    #[prost(bool, tag = "6")]
    is_call: bool,
}

#[derive(Clone, PartialEq, Message)]
struct IndexColumnRecord {
    #[prost(uint32, tag = "1")]
    column: u32,
    /// 1 ascending, 2 descending.
    #[prost(uint32, tag = "2")]
    direction: u32,
}

#[derive(Clone, PartialEq, Message)]
struct CheckRecord {
    #[prost(uint32, tag = "1")]
    oid: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    expr: String,
    #[prost(bool, tag = "4")]
    validated: bool,
}

#[derive(Clone, PartialEq, Message)]
struct InterleaveRecord {
    #[prost(uint32, tag = "1")]
    parent: u32,
    #[prost(uint32, tag = "2")]
    shared_columns: u32,
    #[prost(bool, tag = "3")]
    cascade: bool,
}

#[derive(Clone, PartialEq, Message)]
struct ParameterRecord {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct NameRecord {
    #[prost(uint32, tag = "1")]
    descriptor: u32,
    /// The index of that table; absent when the name is the descriptor's own.
    #[prost(uint32, optional, tag = "2")]
    index: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct VersionRecord {
    #[prost(uint64, tag = "1")]
    version: u64,
    /// Absent (0) for a version that took effect with its commit.
    #[prost(fixed64, tag = "2")]
    valid_from: u64,
    #[prost(fixed64, tag = "3")]
    before: u64,
}

#[derive(Clone, PartialEq, Message)]
struct FenceRecord {
    #[prost(fixed64, tag = "1")]
    at: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StatisticsRecord {
    #[prost(double, tag = "1")]
    rows: f64,
}

impl Descriptor {
    /// The object identifier under which it is stored.
    pub(crate) fn id(&self) -> u32 {
        match self {
            Descriptor::Database(d) => d.id.0,
            Descriptor::Schema(s) => s.id.0,
            Descriptor::Table(t) => t.id.0,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut record = DescriptorRecord { format: FORMAT, ..Default::default() };
        match self {
            Descriptor::Database(d) => {
                record.database =
                    Some(DatabaseRecord { id: d.id.0, name: d.name.clone(), owner: d.owner.clone() });
            }
            Descriptor::Schema(s) => {
                record.schema = Some(SchemaRecord {
                    id: s.id.0,
                    database: s.database.0,
                    name: s.name.clone(),
                    owner: s.owner.clone(),
                });
            }
            Descriptor::Table(t) => {
                t.assert_invariants();
                record.table = Some(Box::new(table_record(t)));
            }
        }
        record.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Descriptor, CodecError> {
        let record = DescriptorRecord::decode(bytes)?;
        if record.format != FORMAT {
            return Err(CodecError::Format(record.format));
        }
        match (record.database, record.schema, record.table) {
            (Some(d), None, None) => {
                Ok(Descriptor::Database(DatabaseDesc { id: DatabaseId(d.id), name: d.name, owner: d.owner }))
            }
            (None, Some(s), None) => Ok(Descriptor::Schema(SchemaDesc {
                id: SchemaId(s.id),
                database: DatabaseId(s.database),
                name: s.name,
                owner: s.owner,
            })),
            (None, None, Some(t)) => Ok(Descriptor::Table(Box::new(table_desc(*t)?))),
            _ => Err(CodecError::Missing("the one descriptor")),
        }
    }
}

fn table_record(t: &TableDesc) -> TableRecord {
    TableRecord {
        id: t.id.0,
        storage: t.storage.0,
        schema: t.schema.0,
        name: t.name.clone(),
        owner: t.owner.clone(),
        columns: t.columns.iter().map(column_record).collect(),
        primary: Some(index_record(&t.primary)),
        indexes: t.indexes.iter().map(index_record).collect(),
        checks: t
            .checks
            .iter()
            .map(|c| CheckRecord {
                oid: c.oid,
                name: c.name.clone(),
                expr: c.expr.clone(),
                validated: c.validated,
            })
            .collect(),
        interleave: t.interleave.map(|i| InterleaveRecord {
            parent: i.parent.0,
            shared_columns: u32::try_from(i.shared_columns).expect("a key has few columns"),
            cascade: i.cascade,
        }),
        storage_parameters: t
            .storage_parameters
            .iter()
            .map(|(name, value)| ParameterRecord { name: name.clone(), value: value.clone() })
            .collect(),
        next_column: t.next_column,
        next_index: t.next_index,
        version: t.version,
        valid_from: t.valid_from.as_nanos(),
        dropped_at: t.dropped_at.map(Timestamp::as_nanos),
    }
}

fn column_record(c: &ColumnDesc) -> ColumnRecord {
    ColumnRecord {
        id: c.id.0,
        name: c.name.clone(),
        type_oid: c.ty.oid(),
        type_modifier: c.ty.type_modifier(),
        nullable: c.nullable,
        refuses_null: c.refuses_null,
        default: c.default.clone(),
        identity: match c.identity {
            None => 0,
            Some(Identity::Always) => 1,
            Some(Identity::ByDefault) => 2,
        },
        hidden: c.hidden,
        missing: c.missing.as_ref().map(|value| {
            let mut bytes = Vec::new();
            encode_values(std::slice::from_ref(value), &mut bytes);
            bytes
        }),
    }
}

fn index_record(i: &IndexDesc) -> IndexRecord {
    IndexRecord {
        id: i.id.0,
        oid: i.oid,
        name: i.name.clone(),
        unique: i.unique,
        constraint_oid: i.constraint_oid,
        columns: i
            .columns
            .iter()
            .map(|c| IndexColumnRecord {
                column: c.column.0,
                direction: match c.direction {
                    Direction::Ascending => 1,
                    Direction::Descending => 2,
                },
            })
            .collect(),
        storing: i.storing.iter().map(|c| c.0).collect(),
        state: match i.state {
            IndexState::WriteOnly => 1,
            IndexState::Public => 2,
            IndexState::DeleteOnly => 3,
        },
        predicate: i.predicate.clone(),
        expressions: i.expressions.iter().map(expression_record).collect(),
    }
}

fn expression_record(e: &ExpressionDesc) -> ExpressionRecord {
    ExpressionRecord {
        id: e.id.0,
        name: e.name.clone(),
        text: e.text.clone(),
        type_oid: e.ty.oid(),
        type_modifier: e.ty.type_modifier(),
        is_call: e.is_call,
    }
}

fn expression_desc(e: ExpressionRecord) -> Result<ExpressionDesc, CodecError> {
    let ty = data_type(e.type_oid, e.type_modifier)?;
    Ok(ExpressionDesc { id: ColumnId(e.id), name: e.name, text: e.text, ty, is_call: e.is_call })
}

fn data_type(oid: u32, modifier: i32) -> Result<DataType, CodecError> {
    DataType::from_oid(oid, modifier).ok_or(CodecError::Unknown { field: "type", value: u64::from(oid) })
}

fn table_desc(t: TableRecord) -> Result<TableDesc, CodecError> {
    let desc = TableDesc {
        id: TableId(t.id),
        storage: TableId(t.storage),
        schema: SchemaId(t.schema),
        name: t.name,
        owner: t.owner,
        columns: t.columns.into_iter().map(column_desc).collect::<Result<_, _>>()?,
        primary: index_desc(t.primary.ok_or(CodecError::Missing("the primary index"))?)?,
        indexes: t.indexes.into_iter().map(index_desc).collect::<Result<_, _>>()?,
        checks: t
            .checks
            .into_iter()
            .map(|c| CheckDesc { oid: c.oid, name: c.name, expr: c.expr, validated: c.validated })
            .collect(),
        interleave: t.interleave.map(|i| Interleave {
            parent: TableId(i.parent),
            shared_columns: i.shared_columns as usize,
            cascade: i.cascade,
        }),
        storage_parameters: t.storage_parameters.into_iter().map(|p| (p.name, p.value)).collect(),
        next_column: t.next_column,
        next_index: t.next_index,
        version: t.version,
        valid_from: Timestamp::from_nanos(t.valid_from),
        dropped_at: t.dropped_at.map(Timestamp::from_nanos),
    };
    desc.assert_invariants();
    Ok(desc)
}

fn column_desc(c: ColumnRecord) -> Result<ColumnDesc, CodecError> {
    let ty = data_type(c.type_oid, c.type_modifier)?;
    let identity = match c.identity {
        0 => None,
        1 => Some(Identity::Always),
        2 => Some(Identity::ByDefault),
        value => return Err(CodecError::Unknown { field: "identity", value: u64::from(value) }),
    };
    let missing = match c.missing {
        None => None,
        Some(bytes) => decode_values(&bytes, std::slice::from_ref(&ty))?.pop(),
    };
    Ok(ColumnDesc {
        id: ColumnId(c.id),
        name: c.name,
        ty,
        nullable: c.nullable,
        refuses_null: c.refuses_null,
        default: c.default,
        identity,
        missing,
        hidden: c.hidden,
    })
}

fn index_desc(i: IndexRecord) -> Result<IndexDesc, CodecError> {
    let column = |c: IndexColumnRecord| {
        let direction = match c.direction {
            1 => Direction::Ascending,
            2 => Direction::Descending,
            value => return Err(CodecError::Unknown { field: "direction", value: u64::from(value) }),
        };
        Ok(IndexColumn { column: ColumnId(c.column), direction })
    };
    let state = match i.state {
        1 => IndexState::WriteOnly,
        2 => IndexState::Public,
        3 => IndexState::DeleteOnly,
        value => return Err(CodecError::Unknown { field: "index state", value: u64::from(value) }),
    };
    Ok(IndexDesc {
        id: IndexId(i.id),
        oid: i.oid,
        name: i.name,
        unique: i.unique,
        constraint_oid: i.constraint_oid,
        columns: i.columns.into_iter().map(column).collect::<Result<_, _>>()?,
        storing: i.storing.into_iter().map(ColumnId).collect(),
        predicate: i.predicate,
        expressions: i.expressions.into_iter().map(expression_desc).collect::<Result<_, _>>()?,
        state,
        memo: Default::default(),
    })
}

/// What a name stands for, as stored beside it.
pub(crate) fn encode_name(descriptor: u32, index: Option<IndexId>) -> Bytes {
    NameRecord { descriptor, index: index.map(|i| i.0) }.encode_to_vec().into()
}

pub(crate) fn encode_version(v: CatalogVersion) -> Bytes {
    let record = VersionRecord {
        version: v.version,
        valid_from: v.valid_from.as_nanos(),
        before: v.before.as_nanos(),
    };
    record.encode_to_vec().into()
}

pub(crate) fn decode_version(bytes: &[u8]) -> Result<CatalogVersion, CodecError> {
    let record = VersionRecord::decode(bytes)?;
    Ok(CatalogVersion {
        version: record.version,
        valid_from: Timestamp::from_nanos(record.valid_from),
        before: Timestamp::from_nanos(record.before),
    })
}

pub(crate) fn encode_fence(at: Timestamp) -> Bytes {
    FenceRecord { at: at.as_nanos() }.encode_to_vec().into()
}

pub(crate) fn decode_fence(bytes: &[u8]) -> Result<Timestamp, CodecError> {
    Ok(Timestamp::from_nanos(FenceRecord::decode(bytes)?.at))
}

pub(crate) fn encode_statistics(s: TableStatistics) -> Bytes {
    StatisticsRecord { rows: s.rows }.encode_to_vec().into()
}

pub(crate) fn decode_statistics(bytes: &[u8]) -> Result<TableStatistics, CodecError> {
    Ok(TableStatistics { rows: StatisticsRecord::decode(bytes)?.rows })
}
