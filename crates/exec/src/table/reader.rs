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

/// Columns of the primary key that an entry of a unique index has in its value; in its key where the entry takes no part
/// in uniqueness, since it has a NULL.
#[derive(Clone, Debug)]
struct Suffix {
    /// Key columns before it.
    own: usize,
    /// What is left to be read from the value where the key has the suffix.
    values: RowDecoder,
}

/// Reads chosen columns of the rows of one index.
#[derive(Clone, Debug)]
pub(crate) struct IndexReader {
    prefix: Prefix,
    parts: SmallVec<[KeyPart; 4]>,
    /// Key columns up to the last one that is wanted; the rest is not decoded.
    parts_needed: usize,
    /// Where some of what is wanted may be in the key or in the value.
    suffix: Option<Suffix>,
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
    /// A reader of `columns` (ordinals; those of expressions are the index's own).
    pub(crate) fn new(
        catalog: &CatalogSnapshot,
        table: &TableDesc,
        index: &IndexDesc,
        columns: &[usize],
    ) -> Result<IndexReader> {
        let prefix = Prefix::of(catalog, table, index)?;
        let is_primary = index.id == IndexId::PRIMARY;
        let own = index.columns.len();
        let has_suffix = !is_primary && index.unique;
        let mut parts: SmallVec<[KeyPart; 4]> = SmallVec::new();
        let mut in_key = vec![false; columns.len()];
        let mut in_suffix = vec![false; columns.len()];
        for (position, (ordinal, direction)) in key_columns(table, index).into_iter().enumerate() {
            let ty = table.part_type(ordinal);
            let output = columns.iter().position(|&c| c == ordinal).filter(|_| is_exact_in_key(ty));
            if let Some(at) = output {
                let place = if has_suffix && position >= own { &mut in_suffix } else { &mut in_key };
                place[at] = true;
            }
            parts.push(KeyPart { ty: ty.clone(), direction, output });
        }
        let values_of = |is_in_value: &dyn Fn(usize) -> bool| {
            let wanted = columns.iter().enumerate().filter(|(at, _)| is_in_value(*at));
            let mut wanted: Vec<_> = wanted
                .map(|(at, &ordinal)| (table.part_id(ordinal).0, table.part_type(ordinal).clone(), at))
                .collect();
            wanted.sort_by_key(|(id, _, _)| *id);
            wanted
        };
        let in_values = values_of(&|at| !in_key[at]);
        // Entries of other indexes have what a row reads as.
        let missing = |id: u32| {
            let column = table.columns.iter().find(|c| is_primary && c.id.0 == id)?;
            column.missing.clone()
        };
        let suffix = in_suffix
            .contains(&true)
            .then(|| Suffix { own, values: RowDecoder::new(values_of(&|at| !in_key[at] && !in_suffix[at])) });
        let always = if has_suffix { &parts[..own] } else { &parts[..] };
        let last = always.iter().rposition(|p| p.output.is_some()).map_or(0, |p| p + 1);
        // Only behind all of its own columns it shows whether a key has a suffix.
        let parts_needed = if suffix.is_some() { own } else { last };
        let types = columns.iter().map(|&c| table.part_type(c).clone()).collect();
        let has_children =
            is_primary && (prefix.is_interleaved() || catalog.children(table.id).next().is_some());
        let needs_values = !in_values.is_empty();
        Ok(IndexReader {
            prefix,
            parts,
            parts_needed,
            suffix,
            has_children,
            values: RowDecoder::new(in_values).with_missing(missing),
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
                if let Some(suffix) = self.suffix.as_ref().filter(|_| !reader.is_at_end()) {
                    for part in &self.parts[suffix.own..] {
                        match part.output {
                            Some(at) => read_into(&mut reader, &part.ty, part.direction, &mut columns[at])?,
                            None => {
                                reader.skip_value(key_direction(part.direction).0).map_err(corrupted)?;
                            }
                        }
                    }
                    return suffix.values.decode_columns(value, columns);
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
            if let Some(suffix) = self.suffix.as_ref().filter(|_| !reader.is_at_end()) {
                for part in &self.parts[suffix.own..] {
                    match part.output {
                        Some(at) => row[at] = read_datum(&mut reader, &part.ty, part.direction)?,
                        None => reader.skip_value(key_direction(part.direction).0).map_err(corrupted)?,
                    }
                }
                suffix.values.decode_datums(value, &mut row)?;
                return Ok(row);
            }
        }
        if self.needs_values {
            self.values.decode_datums(value, &mut row)?;
        }
        Ok(row)
    }
}
