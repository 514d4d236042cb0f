//! Values in keys.

use meridian_catalog::{CatalogSnapshot, Direction, IndexDesc, IndexId, TableDesc};
use meridian_datum::{Column, DataType, Datum, Decimal, IntKind, Result, SqlError};
use meridian_keys::{self as keys, KeyBuilder, KeyReader, Nulls};
use smallvec::{SmallVec, smallvec};

use super::corrupted;

/// The direction of a key column in the terms of the key encoding, and where its NULLs go.
pub(crate) fn key_direction(d: Direction) -> (keys::Direction, Nulls) {
    match d {
        Direction::Ascending => (keys::Direction::Ascending, Nulls::Last),
        Direction::Descending => (keys::Direction::Descending, Nulls::First),
    }
}

/// Whether a key gives back exactly the value that was put in.
pub(crate) fn is_exact_in_key(ty: &DataType) -> bool {
    match ty {
        DataType::Float4
        | DataType::Float8
        | DataType::Numeric(_)
        | DataType::Char(_)
        | DataType::Interval
        | DataType::Int2Vector
        | DataType::OidVector
        | DataType::Array(_)
        | DataType::Record
        | DataType::Json
        | DataType::Void => false,
        DataType::Bool
        | DataType::Int2
        | DataType::Int4
        | DataType::Int8
        | DataType::Text
        | DataType::Varchar(_)
        | DataType::Bytea
        | DataType::Date
        | DataType::Time
        | DataType::Timestamp
        | DataType::TimestampTz
        | DataType::Uuid
        | DataType::Name
        | DataType::InternalChar
        | DataType::Oid
        | DataType::RegClass
        | DataType::RegType
        | DataType::RegProc
        | DataType::RegNamespace
        | DataType::Unknown => true,
    }
}

fn key_decimal(d: &Decimal) -> keys::Decimal {
    if d.is_nan() {
        return keys::Decimal::NaN;
    }
    let Some((coefficient, scale)) = d.parts() else {
        return if d.signum() < 0 { keys::Decimal::NegInfinity } else { keys::Decimal::PosInfinity };
    };
    let text = coefficient.to_string();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.as_str()),
    };
    let digits: Vec<u8> = digits.bytes().map(|b| b - b'0').collect();
    keys::Decimal::finite(negative, &digits, i64::from(scale))
}

/// Appends a value.
///
/// # Errors
/// 0A000 for types that no key can hold.
pub(crate) fn push_datum(key: &mut KeyBuilder, value: &Datum, direction: Direction) -> Result<()> {
    let (d, nulls) = key_direction(direction);
    match value {
        Datum::Null => key.push_null(d, nulls),
        Datum::Bool(v) => key.push_bool(*v, d),
        Datum::Int(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => key.push_int(*v, d),
        Datum::Date(v) => key.push_int(i64::from(*v), d),
        Datum::Float4(v) => key.push_float(f64::from(*v), d),
        Datum::Float8(v) => key.push_float(*v, d),
        Datum::Numeric(v) => key.push_decimal(&key_decimal(v), d),
        Datum::Text(v) => key.push_bytes(v.as_bytes(), d),
        Datum::Char(v) => key.push_bytes(meridian_datum::compare::trim_blanks(v).as_bytes(), d),
        Datum::Bytea(v) => key.push_bytes(v, d),
        Datum::Interval(v) => key.push_int128(v.span(), d),
        Datum::Uuid(v) => key.push_uuid(u128::from_be_bytes(*v), d),
        Datum::Array(_) | Datum::Record(_) => {
            return Err(SqlError::unsupported("an array or row in an index key"));
        }
    }
    Ok(())
}

/// Reads a value of a type that keys hold exactly.
pub(crate) fn read_datum(key: &mut KeyReader<'_>, ty: &DataType, direction: Direction) -> Result<Datum> {
    let (d, _) = key_direction(direction);
    if key.read_null(d).map_err(corrupted)? {
        return Ok(Datum::Null);
    }
    Ok(match ty {
        DataType::Bool => Datum::Bool(key.read_bool(d).map_err(corrupted)?),
        DataType::Date => Datum::Date(key.read_int(d).map_err(corrupted)? as i32),
        DataType::Time => Datum::Time(key.read_int(d).map_err(corrupted)?),
        DataType::Timestamp => Datum::Timestamp(key.read_int(d).map_err(corrupted)?),
        DataType::TimestampTz => Datum::TimestampTz(key.read_int(d).map_err(corrupted)?),
        DataType::Bytea => Datum::bytea(key.read_bytes(d).map_err(corrupted)?),
        DataType::Uuid => Datum::Uuid(key.read_uuid(d).map_err(corrupted)?.to_be_bytes()),
        t if t.is_string() => Datum::text(read_string(key, d)?),
        _ => Datum::Int(key.read_int(d).map_err(corrupted)?),
    })
}

fn read_string(key: &mut KeyReader<'_>, d: keys::Direction) -> Result<String> {
    let bytes = key.read_bytes(d).map_err(corrupted)?;
    String::from_utf8(bytes).map_err(|_| SqlError::internal("a key's text is not UTF-8"))
}

/// Reads a value of a type that keys hold exactly onto a column of that type.
pub(crate) fn read_into(
    key: &mut KeyReader<'_>,
    ty: &DataType,
    direction: Direction,
    column: &mut Column,
) -> Result<()> {
    let (d, _) = key_direction(direction);
    match column {
        Column::Int(kind, v) if *kind == IntKind::Int || *kind == IntKind::TimestampTz => {
            let null = key.read_null(d).map_err(corrupted)?;
            v.push(if null { None } else { Some(key.read_int(d).map_err(corrupted)?) });
        }
        Column::Text(v) => {
            if key.read_null(d).map_err(corrupted)? {
                v.push(None);
            } else {
                v.push(Some(&read_string(key, d)?));
            }
        }
        other => other.push(read_datum(key, ty, direction)?),
    }
    Ok(())
}

/// The ids along the path to an index: the table's own, or for an interleaved table those of its ancestors too.
#[derive(Clone, Debug)]
pub(crate) struct Prefix {
    levels: SmallVec<[Level; 1]>,
    index: keys::IndexId,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    table: keys::TableId,
    /// Key columns above this level.
    columns_before: usize,
}

fn storage_id(table: &TableDesc) -> keys::TableId {
    keys::TableId::new(u64::from(table.storage.0))
}

impl Prefix {
    /// The path to an index of a table. Secondary indexes are never interleaved.
    pub(crate) fn of(catalog: &CatalogSnapshot, table: &TableDesc, index: &IndexDesc) -> Result<Prefix> {
        let index_id = keys::IndexId::new(index.id.0);
        let mut levels: SmallVec<[Level; 1]> =
            smallvec![Level { table: storage_id(table), columns_before: 0 }];
        if index.id == IndexId::PRIMARY {
            let mut interleave = table.interleave;
            while let Some(i) = interleave {
                let parent = catalog.table(i.parent).ok_or_else(|| {
                    SqlError::internal("the parent of an interleaved table is not in the catalog")
                })?;
                levels[0].columns_before = i.shared_columns;
                levels.insert(0, Level { table: storage_id(parent), columns_before: 0 });
                interleave = parent.interleave;
            }
        }
        Ok(Prefix { levels, index: index_id })
    }

    /// A key without columns.
    pub(crate) fn start(&self) -> KeyBuilder {
        KeyBuilder::index(self.levels[0].table, self.index)
    }

    /// To be called before column `position` is appended.
    pub(crate) fn before_column(&self, key: &mut KeyBuilder, position: usize) {
        for level in &self.levels[1..] {
            if level.columns_before == position {
                key.push_child(level.table, self.index);
            }
        }
    }

    /// To be called before column `position` is read. False when the key is not of this index but of an ancestor, or
    /// of another table on its way.
    pub(crate) fn enter(&self, key: &mut KeyReader<'_>, position: usize) -> Result<bool> {
        for level in &self.levels[1..] {
            if level.columns_before == position
                && key.read_child().map_err(corrupted)? != Some((level.table, self.index))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether rows of other tables may lie between this index's.
    pub(crate) fn is_interleaved(&self) -> bool {
        self.levels.len() > 1
    }
}
