//! From rows to keys and values.

use std::borrow::Cow;

use bytes::Bytes;
use meridian_catalog::{CatalogSnapshot, Direction, IndexDesc, IndexId, IndexState, TableDesc};
use meridian_datum::{Datum, Result, encode_row_with_nulls};
use meridian_keys::KeyBuilder;
use meridian_kv_api::KvWrite;
use meridian_types::Key;

use super::key::{Prefix, is_exact_in_key, push_datum};
use super::reader::key_columns;
use super::stored::Stored;

/// A column of a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct ValuePart {
    id: u32,
    ordinal: usize,
    /// A row without the column reads as what is missing, so that NULL is written.
    keeps_null: bool,
}

/// Makes the keys and values of one index from whole rows (one datum per column of the table, by ordinal).
#[derive(Clone, Debug)]
pub(crate) struct IndexWriter {
    prefix: Prefix,
    /// The key: ordinals in order; for a secondary index the primary key's rest follows the first `own` ones.
    key: Vec<(usize, Direction)>,
    own: usize,
    pub(crate) unique: bool,
    is_primary: bool,
    /// The parts of the value, ascending by id; for a unique entry, `suffix` is merged in when the key lacks it.
    value: Vec<ValuePart>,
    value_with_suffix: Vec<ValuePart>,
    stored: Stored,
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
        for ordinal in 0..table.columns.len() + table.expressions().count() {
            let id = table.part_id(ordinal);
            let position = key.iter().position(|(o, _)| *o == ordinal);
            let inexact = position.is_some() && !is_exact_in_key(table.part_type(ordinal));
            let is_kept = if is_primary { position.is_none() } else { index.storing.contains(&id) };
            let is_kept = is_kept && ordinal < table.columns.len();
            let in_suffix = position.is_some_and(|p| p >= own);
            let column = table.columns.get(ordinal);
            let keeps_null = is_primary && column.is_some_and(|c| c.missing.is_some());
            let part = ValuePart { id: id.0, ordinal, keeps_null };
            if inexact || is_kept {
                value.push(part);
            }
            if inexact || is_kept || in_suffix {
                value_with_suffix.push(part);
            }
        }
        // Ids of expressions and of columns that were added later may alternate.
        value.sort_unstable();
        value_with_suffix.sort_unstable();
        Ok(IndexWriter {
            prefix,
            key,
            own,
            unique: index.unique,
            is_primary,
            value,
            value_with_suffix,
            stored: Stored::of(catalog, table, index)?,
            state: index.state,
            name: index.name.clone(),
            id: index.id,
        })
    }

    /// Ordinals of the index's own columns.
    pub(crate) fn own_columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.key[..self.own].iter().map(|(o, _)| *o)
    }

    /// Ordinals on which it depends whether two rows conflict: the index's own columns, and those that its condition and its
    /// expressions read.
    pub(crate) fn constraining_columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.own_columns().chain(self.stored_reads())
    }

    fn stored_reads(&self) -> impl Iterator<Item = usize> + '_ {
        self.stored.condition_reads().iter().chain(self.stored.expressions_read()).copied()
    }

    /// Whether the row gets an entry.
    ///
    /// # Errors
    /// Those of the index's condition: such a row cannot be written.
    fn covers(&self, row: &[Datum]) -> Result<bool> {
        self.stored.covers(row)
    }

    /// The key of the entry of a row that is there, if it has one. A row on which the condition or an expression fails has
    /// none: it is older than the index, which will not become readable while the row is there.
    pub(crate) fn existing_key(&self, row: &[Datum]) -> Result<Option<Key>> {
        if !self.covers(row).unwrap_or(false) {
            return Ok(None);
        }
        let Ok(full) = self.full(row) else { return Ok(None) };
        self.key_of_full(&full).map(Some)
    }

    /// The row with the values of the index's expressions, by ordinal.
    ///
    /// # Errors
    /// Those of the expressions: such a row cannot be written.
    pub(crate) fn full<'r>(&self, row: &'r [Datum]) -> Result<Cow<'r, [Datum]>> {
        self.stored.full(row)
    }

    /// Whether the key of a full row is its alone: the index is unique and the row has no NULL in its columns.
    fn is_whole(&self, full: &[Datum]) -> bool {
        self.unique && self.own_columns().all(|o| !full[o].is_null())
    }

    /// Whether the row takes part in uniqueness: it gets an entry, and has no NULL in the index's columns.
    ///
    /// # Errors
    /// Those of the index's condition and expressions.
    pub(crate) fn is_constrained(&self, row: &[Datum]) -> Result<bool> {
        Ok(self.unique && self.covers(row)? && self.is_whole(&self.full(row)?))
    }

    /// The key of a row that takes part in uniqueness.
    ///
    /// # Errors
    /// Those of the index's condition and expressions.
    pub(crate) fn constrained_key(&self, row: &[Datum]) -> Result<Option<Key>> {
        if !self.unique || !self.covers(row)? {
            return Ok(None);
        }
        let full = self.full(row)?;
        if self.is_whole(&full) { self.key_of_full(&full).map(Some) } else { Ok(None) }
    }

    /// The same of a row that is there; `None` where the condition or an expression fails.
    pub(crate) fn existing_constrained_key(&self, row: &[Datum]) -> Option<Key> {
        self.constrained_key(row).unwrap_or(None)
    }

    /// The key of a row's entry.
    pub(crate) fn key(&self, row: &[Datum]) -> Result<Key> {
        self.key_of_full(&self.full(row)?)
    }

    fn key_of_full(&self, full: &[Datum]) -> Result<Key> {
        let mut key = self.prefix.start();
        let columns = if self.is_primary || self.is_whole(full) { self.own } else { self.key.len() };
        self.push_columns(&mut key, full, columns)?;
        Ok(key.finish())
    }

    fn push_columns(&self, key: &mut KeyBuilder, full: &[Datum], columns: usize) -> Result<()> {
        for (position, (ordinal, direction)) in self.key[..columns].iter().enumerate() {
            self.prefix.before_column(key, position);
            push_datum(key, &full[*ordinal], *direction)?;
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

    /// The value of a full row's entry.
    fn value(&self, full: &[Datum]) -> Bytes {
        let columns =
            if !self.is_primary && self.is_whole(full) { &self.value_with_suffix } else { &self.value };
        let mut out = Vec::with_capacity(16 + columns.len() * 10);
        encode_row_with_nulls(columns.iter().map(|p| (p.id, &full[p.ordinal], p.keeps_null)), &mut out);
        Bytes::from(out)
    }

    /// The write of a row's entry, if it gets one.
    ///
    /// # Errors
    /// Those of the index's condition and expressions.
    pub(crate) fn entry(&self, row: &[Datum]) -> Result<Option<KvWrite>> {
        if !self.covers(row)? {
            return Ok(None);
        }
        let full = self.full(row)?;
        Ok(Some(KvWrite { key: self.key_of_full(&full)?, value: Some(self.value(&full)) }))
    }

    /// Whether an update of these ordinals leaves the entry as it is.
    pub(crate) fn is_untouched_by(&self, changed: &[usize]) -> bool {
        let in_key = self.key.iter().any(|(o, _)| changed.contains(o));
        let decides = self.stored_reads().any(|o| changed.contains(&o));
        !in_key && !decides && !self.value_with_suffix.iter().any(|p| changed.contains(&p.ordinal))
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
            out.extend(index.entry(row)?);
        }
        Ok(())
    }

    /// The writes that remove a row.
    pub(crate) fn delete(&self, primary_key: Key, row: &[Datum], out: &mut Vec<KvWrite>) -> Result<()> {
        out.push(KvWrite { key: primary_key, value: None });
        for index in &self.secondary {
            out.extend(index.existing_key(row)?.map(|key| KvWrite { key, value: None }));
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
            let old_key = index.existing_key(old)?;
            let entry = if index.state == IndexState::DeleteOnly { None } else { index.entry(new)? };
            if old_key.is_some() && old_key.as_ref() != entry.as_ref().map(|e| &e.key) {
                out.extend(old_key.map(|key| KvWrite { key, value: None }));
            }
            out.extend(entry);
        }
        Ok(())
    }
}
