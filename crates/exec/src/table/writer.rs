//! From rows to keys and values.

use bytes::Bytes;
use meridian_catalog::{CatalogSnapshot, Direction, IndexDesc, IndexId, IndexState, TableDesc};
use meridian_datum::{Datum, Result, encode_row};
use meridian_keys::KeyBuilder;
use meridian_kv_api::KvWrite;
use meridian_types::Key;

use super::key::{Prefix, is_exact_in_key, push_datum};
use super::reader::key_columns;

/// Makes the keys and values of one index from whole rows (one datum per column of the table, by ordinal).
#[derive(Clone, Debug)]
pub(crate) struct IndexWriter {
    prefix: Prefix,
    /// The key: ordinals in order; for a secondary index the primary key's rest follows the first `own` ones.
    key: Vec<(usize, Direction)>,
    own: usize,
    pub(crate) unique: bool,
    is_primary: bool,
    /// Column ids and ordinals of the value, ascending by id; for a unique entry, `suffix` is merged in when the key
    /// lacks it.
    value: Vec<(u32, usize)>,
    value_with_suffix: Vec<(u32, usize)>,
    pub(crate) state: IndexState,
    pub(crate) name: String,
    pub(crate) id: IndexId,
}

impl IndexWriter {
    /// A writer of an index.
    pub(crate) fn new(
        catalog: &CatalogSnapshot,
        table: &TableDesc,
        index: &IndexDesc,
    ) -> Result<IndexWriter> {
        let prefix = Prefix::of(catalog, table, index)?;
        let key = key_columns(table, index);
        let own = index.columns.len();
        let is_primary = index.id == IndexId::PRIMARY;
        let mut value = Vec::new();
        let mut value_with_suffix = Vec::new();
        for (ordinal, column) in table.columns.iter().enumerate() {
            let position = key.iter().position(|(o, _)| *o == ordinal);
            let inexact = position.is_some() && !is_exact_in_key(&column.ty);
            let stored = if is_primary { position.is_none() } else { index.storing.contains(&column.id) };
            let in_suffix = position.is_some_and(|p| p >= own);
            if inexact || stored {
                value.push((column.id.0, ordinal));
            }
            if inexact || stored || in_suffix {
                value_with_suffix.push((column.id.0, ordinal));
            }
        }
        Ok(IndexWriter {
            prefix,
            key,
            own,
            unique: index.unique,
            is_primary,
            value,
            value_with_suffix,
            state: index.state,
            name: index.name.clone(),
            id: index.id,
        })
    }

    /// Ordinals of the index's own columns.
    pub(crate) fn own_columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.key[..self.own].iter().map(|(o, _)| *o)
    }

    /// Whether the row takes part in uniqueness: it has no NULL in the index's columns.
    pub(crate) fn is_constrained(&self, row: &[Datum]) -> bool {
        self.unique && self.own_columns().all(|o| !row[o].is_null())
    }

    /// The key of a row.
    pub(crate) fn key(&self, row: &[Datum]) -> Result<Key> {
        let mut key = self.prefix.start();
        let columns = if self.is_primary || self.is_constrained(row) { self.own } else { self.key.len() };
        self.push_columns(&mut key, row, columns)?;
        Ok(key.finish())
    }

    fn push_columns(&self, key: &mut KeyBuilder, row: &[Datum], columns: usize) -> Result<()> {
        for (position, (ordinal, direction)) in self.key[..columns].iter().enumerate() {
            self.prefix.before_column(key, position);
            push_datum(key, &row[*ordinal], *direction)?;
        }
        Ok(())
    }

    /// The key of a row given its own columns' values in key order.
    pub(crate) fn key_of_values(&self, values: &[Datum]) -> Result<Key> {
        let mut key = self.prefix.start();
        for (position, (value, (_, direction))) in values.iter().zip(&self.key).enumerate() {
            self.prefix.before_column(&mut key, position);
            push_datum(&mut key, value, *direction)?;
        }
        Ok(key.finish())
    }

    /// The value of a row.
    pub(crate) fn value(&self, row: &[Datum]) -> Bytes {
        let columns =
            if !self.is_primary && self.is_constrained(row) { &self.value_with_suffix } else { &self.value };
        let mut out = Vec::with_capacity(16 + columns.len() * 10);
        encode_row(columns.iter().map(|(id, ordinal)| (*id, &row[*ordinal])), &mut out);
        Bytes::from(out)
    }

    /// Whether an update of these ordinals leaves key and value as they are.
    pub(crate) fn is_untouched_by(&self, changed: &[usize]) -> bool {
        let in_key = self.key.iter().any(|(o, _)| changed.contains(o));
        !in_key && !self.value_with_suffix.iter().any(|(_, o)| changed.contains(o))
    }
}

/// Makes all writes of a row.
#[derive(Clone, Debug)]
pub(crate) struct TableWriter {
    /// The primary index.
    pub(crate) primary: IndexWriter,
    /// The secondary indexes.
    pub(crate) secondary: Vec<IndexWriter>,
}

impl TableWriter {
    /// A writer of a table.
    ///
    /// # Errors
    /// 40001 while a schema change rewrites the table.
    pub(crate) fn new(catalog: &CatalogSnapshot, table: &TableDesc) -> Result<TableWriter> {
        crate::ddl::check_writable(table)?;
        Self::of_any(catalog, table)
    }

    /// A writer for the schema change that has locked the table.
    pub(crate) fn of_any(catalog: &CatalogSnapshot, table: &TableDesc) -> Result<TableWriter> {
        Ok(TableWriter {
            primary: IndexWriter::new(catalog, table, &table.primary)?,
            secondary: table
                .indexes
                .iter()
                .map(|i| IndexWriter::new(catalog, table, i))
                .collect::<Result<_>>()?,
        })
    }

    /// The unique indexes in order of creation, the primary one first.
    pub(crate) fn unique_indexes(&self) -> impl Iterator<Item = &IndexWriter> {
        std::iter::once(&self.primary)
            .chain(self.secondary.iter().filter(|i| i.unique && i.state != IndexState::DeleteOnly))
    }

    /// The writes of a row that did not exist. `primary_key` is the key of its primary row.
    pub(crate) fn insert(&self, primary_key: Key, row: &[Datum], out: &mut Vec<KvWrite>) -> Result<()> {
        out.push(KvWrite { key: primary_key, value: Some(self.primary.value(row)) });
        for index in self.secondary.iter().filter(|i| i.state != IndexState::DeleteOnly) {
            out.push(KvWrite { key: index.key(row)?, value: Some(index.value(row)) });
        }
        Ok(())
    }

    /// The writes that remove a row.
    pub(crate) fn delete(&self, primary_key: Key, row: &[Datum], out: &mut Vec<KvWrite>) -> Result<()> {
        out.push(KvWrite { key: primary_key, value: None });
        for index in &self.secondary {
            out.push(KvWrite { key: index.key(row)?, value: None });
        }
        Ok(())
    }

    /// The writes that change a row; `changed` lists the ordinals that may differ.
    pub(crate) fn update(
        &self,
        old: &[Datum],
        new: &[Datum],
        changed: &[usize],
        out: &mut Vec<KvWrite>,
    ) -> Result<()> {
        for index in std::iter::once(&self.primary).chain(&self.secondary) {
            if index.is_untouched_by(changed) {
                continue;
            }
            let old_key = index.key(old)?;
            if index.state == IndexState::DeleteOnly {
                out.push(KvWrite { key: old_key, value: None });
                continue;
            }
            let key = index.key(new)?;
            if key != old_key {
                out.push(KvWrite { key: old_key, value: None });
            }
            out.push(KvWrite { key, value: Some(index.value(new)) });
        }
        Ok(())
    }
}
