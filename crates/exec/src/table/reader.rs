//! From keys and values to columns.

use meridian_catalog::{CatalogSnapshot, Direction, IndexDesc, IndexId, TableDesc};
use meridian_datum::{Batch, DataType, Datum, Result, RowDecoder};
use meridian_keys::{IndexKey, KeyReader};
use smallvec::SmallVec;

use super::corrupted;
use super::key::{Prefix, is_exact_in_key, key_direction, read_datum, read_into};

/// One column of a key, in key order.
#[derive(Clone, Debug)]
struct KeyPart {
    ty: DataType,
    direction: Direction,
    /// Where it goes in the output, if it is wanted and exact in the key.
    output: Option<usize>,
}

/// Reads chosen columns of the rows of one index.
#[derive(Clone, Debug)]
pub(crate) struct IndexReader {
    prefix: Prefix,
    parts: SmallVec<[KeyPart; 4]>,
    /// Key columns up to the last one that is wanted; the rest is not decoded.
    parts_needed: usize,
    /// Children's rows may lie between the rows.
    has_children: bool,
    values: RowDecoder,
    types: Vec<DataType>,
    needs_values: bool,
}

/// What a key turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decoded {
    /// A row of the index.
    Row,
    /// A row of another table that is interleaved with it.
    Foreign,
}

/// The columns of an index's keys in order: the index's own, then for a secondary index those of the primary key that
/// are not among them.
pub(crate) fn key_columns(table: &TableDesc, index: &IndexDesc) -> Vec<(usize, Direction)> {
    let mut columns: Vec<(usize, Direction)> =
        index.columns.iter().map(|c| (table.ordinal(c.column), c.direction)).collect();
    if index.id != IndexId::PRIMARY {
        for c in &table.primary.columns {
            let ordinal = table.ordinal(c.column);
            if !columns.iter().any(|(o, _)| *o == ordinal) {
                columns.push((ordinal, Direction::Ascending));
            }
        }
    }
    columns
}

impl IndexReader {
    /// A reader of `columns` (ordinals).
    pub(crate) fn new(
        catalog: &CatalogSnapshot,
        table: &TableDesc,
        index: &IndexDesc,
        columns: &[usize],
    ) -> Result<IndexReader> {
        let prefix = Prefix::of(catalog, table, index)?;
        let is_primary = index.id == IndexId::PRIMARY;
        // The primary key columns of a unique entry may be in the value: both places are decoded, the key's winning.
        let suffix_in_value = !is_primary && index.unique;
        let mut parts: SmallVec<[KeyPart; 4]> = SmallVec::new();
        let mut in_values = Vec::new();
        let mut found = vec![false; columns.len()];
        for (position, (ordinal, direction)) in key_columns(table, index).into_iter().enumerate() {
            let column = &table.columns[ordinal];
            let from_key =
                is_exact_in_key(&column.ty) && !(suffix_in_value && position >= index.columns.len());
            let output = columns.iter().position(|&c| c == ordinal).filter(|_| from_key);
            if let Some(o) = output {
                found[o] = true;
            }
            parts.push(KeyPart { ty: column.ty.clone(), direction, output });
        }
        for (at, &ordinal) in columns.iter().enumerate() {
            if !found[at] {
                let column = &table.columns[ordinal];
                in_values.push((column.id.0, column.ty.clone(), at));
            }
        }
        in_values.sort_by_key(|(id, _, _)| *id);
        let parts_needed = parts.iter().rposition(|p| p.output.is_some()).map_or(0, |p| p + 1);
        let types = columns.iter().map(|&c| table.columns[c].ty.clone()).collect();
        let has_children =
            is_primary && (prefix.is_interleaved() || catalog.children(table.id).next().is_some());
        let needs_values = !in_values.is_empty();
        Ok(IndexReader {
            prefix,
            parts,
            parts_needed,
            has_children,
            values: RowDecoder::new(in_values),
            types,
            needs_values,
        })
    }

    /// An empty batch of the columns read.
    pub(crate) fn batch(&self, rows: usize) -> Batch {
        Batch::with_capacity(&self.types, rows)
    }

    /// Whether the key is a row of this index, which it may not be where tables are interleaved.
    fn classify(&self, key: &[u8]) -> Result<Decoded> {
        let mut reader = IndexKey::parse(key).map_err(corrupted)?.columns;
        for (position, part) in self.parts.iter().enumerate() {
            if !self.prefix.enter(&mut reader, position)? {
                return Ok(Decoded::Foreign);
            }
            reader.skip_value(key_direction(part.direction).0).map_err(corrupted)?;
        }
        Ok(if reader.is_at_end() { Decoded::Row } else { Decoded::Foreign })
    }

    fn columns<'k>(&self, key: &'k [u8]) -> Result<KeyReader<'k>> {
        Ok(IndexKey::parse(key).map_err(corrupted)?.columns)
    }

    /// Appends a row to a batch made by [`IndexReader::batch`].
    pub(crate) fn read(&self, key: &[u8], value: &[u8], out: &mut Batch) -> Result<Decoded> {
        if self.has_children && self.classify(key)? == Decoded::Foreign {
            return Ok(Decoded::Foreign);
        }
        if self.types.is_empty() {
            out.push_empty_row();
            return Ok(Decoded::Row);
        }
        out.push_with(|columns| {
            if self.parts_needed > 0 {
                let mut reader = self.columns(key)?;
                for (position, part) in self.parts[..self.parts_needed].iter().enumerate() {
                    self.prefix.enter(&mut reader, position)?;
                    match part.output {
                        Some(at) => read_into(&mut reader, &part.ty, part.direction, &mut columns[at])?,
                        None => reader.skip_value(key_direction(part.direction).0).map_err(corrupted)?,
                    }
                }
            }
            if self.needs_values { self.values.decode_columns(value, columns) } else { Ok(()) }
        })?;
        Ok(Decoded::Row)
    }

    /// The columns of one row.
    pub(crate) fn read_row(&self, key: &[u8], value: &[u8]) -> Result<Vec<Datum>> {
        let mut row = vec![Datum::Null; self.types.len()];
        if self.parts_needed > 0 {
            let mut reader = self.columns(key)?;
            for (position, part) in self.parts[..self.parts_needed].iter().enumerate() {
                self.prefix.enter(&mut reader, position)?;
                match part.output {
                    Some(at) => row[at] = read_datum(&mut reader, &part.ty, part.direction)?,
                    None => reader.skip_value(key_direction(part.direction).0).map_err(corrupted)?,
                }
            }
        }
        if self.needs_values {
            self.values.decode_datums(value, &mut row)?;
        }
        Ok(row)
    }
}
