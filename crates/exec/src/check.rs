//! Whether a table and its indexes agree, at one timestamp.
//!
//! Every row has exactly one entry in every index (none where the index is partial and its condition is not true of the
//! row), made of the row's own values, and every entry has its row. Rows and
//! entries are compared as multisets: sums of hashes of what the rows' entries should be, and of what the entries are.
//! That needs one pass over each, in any order, and no memory; only where the sums differ is the culprit looked for.
//! Two independent hashes of 64 bits make it as good as impossible that a difference goes unnoticed by chance.

use std::hash::{DefaultHasher, Hash, Hasher};

use meridian_catalog::{CatalogSnapshot, IndexDesc, IndexId, TableDesc};
use meridian_datum::{Datum, Result, SqlError, SqlState, to_text};
use meridian_kv_api::{KvTxn, KvWrite, Locking, ScanRequest};
use meridian_types::{Key, Span, limits};

use crate::context::Statement;
use crate::table::{Decoded, IndexReader, IndexWriter, Prefix};

/// A multiset of entries, as far as telling two of them apart goes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Fingerprint {
    count: u64,
    sums: [u64; 2],
}

impl Fingerprint {
    fn add(&mut self, key: &Key, value: &[u8]) {
        self.count += 1;
        for (seed, sum) in self.sums.iter_mut().enumerate() {
            let mut hasher = DefaultHasher::new();
            (seed, key.as_bytes(), value).hash(&mut hasher);
            *sum = sum.wrapping_add(hasher.finish());
        }
    }
}

/// What is wrong with an index.
#[derive(Debug)]
pub(crate) enum Disagreement {
    /// A row (all columns) whose entry is not there, or is another row's.
    NoEntry(Vec<Datum>),
    /// An entry (the columns of its index and of the primary key, by ordinal) whose row is not there, or has other
    /// values.
    NoRow(Vec<(usize, Datum)>),
}

/// Compares a table with some of its indexes in a transaction.
pub(crate) struct Check<'a> {
    statement: &'a Statement,
    txn: &'a dyn KvTxn,
    table: &'a TableDesc,
    rows: IndexReader,
    row_span: Span,
    indexes: Vec<Index<'a>>,
}

struct Index<'a> {
    desc: &'a IndexDesc,
    writer: IndexWriter,
    span: Span,
    expected: Fingerprint,
}

fn span_of(catalog: &CatalogSnapshot, table: &TableDesc, index: &IndexDesc) -> Result<Span> {
    Ok(Span::prefix(&Prefix::of(catalog, table, index)?.start().finish()))
}

impl<'a> Check<'a> {
    /// Of these indexes.
    pub(crate) fn new(
        statement: &'a Statement,
        txn: &'a dyn KvTxn,
        table: &'a TableDesc,
        indexes: impl Iterator<Item = &'a IndexDesc>,
    ) -> Result<Self> {
        let catalog = &statement.catalog;
        let all: Vec<usize> = (0..table.columns.len()).collect();
        let index = |desc: &'a IndexDesc| {
            let writer = IndexWriter::new(catalog, table, desc)?;
            let span = span_of(catalog, table, desc)?;
            Ok(Index { desc, writer, span, expected: Fingerprint::default() })
        };
        Ok(Check {
            statement,
            txn,
            table,
            rows: IndexReader::new(catalog, table, &table.primary, &all)?,
            row_span: span_of(catalog, table, &table.primary)?,
            indexes: indexes.map(index).collect::<Result<_>>()?,
        })
    }

    /// The first disagreement that is found, with its index. `heed` hears of every page, and may stop the check.
    pub(crate) async fn run(
        mut self,
        mut heed: impl FnMut(u64) -> Result<()>,
    ) -> Result<Option<(IndexId, Disagreement)>> {
        let mut rest = Some(self.row_span.clone());
        while let Some(span) = rest {
            let (page, next) = self.page(span).await?;
            heed(page.len() as u64)?;
            for row in self.rows_of(&page)? {
                for index in &mut self.indexes {
                    if let Some(KvWrite { key, value: Some(value) }) = index.writer.entry(&row)? {
                        index.expected.add(&key, &value);
                    }
                }
            }
            rest = next;
        }
        for index in &self.indexes {
            let mut found = Fingerprint::default();
            let mut rest = Some(index.span.clone());
            while let Some(span) = rest {
                let (page, next) = self.page(span).await?;
                heed(0)?;
                page.iter().for_each(|(key, value)| found.add(key, value));
                rest = next;
            }
            if found != index.expected {
                return Ok(Some((index.desc.id, self.culprit(index).await?)));
            }
        }
        Ok(None)
    }

    async fn page(&self, span: Span) -> Result<(Vec<(Key, bytes::Bytes)>, Option<Span>)> {
        self.statement.checkpoint().await?;
        let limit = limits::SCAN_PAGE_ROWS;
        let request = ScanRequest { span, reverse: false, limit, locking: Locking::SHARED };
        let page = self.statement.wait(self.txn.scan(request)).await?;
        Ok((page.rows, page.resume))
    }

    fn rows_of(&self, page: &[(Key, bytes::Bytes)]) -> Result<Vec<Vec<Datum>>> {
        let mut batch = self.rows.batch(page.len());
        for (key, value) in page {
            let _: Decoded = self.rows.read(key.as_bytes(), value, &mut batch)?;
        }
        Ok((0..batch.len()).map(|r| batch.row(r)).collect())
    }

    async fn values(&self, keys: Vec<Key>) -> Result<Vec<Option<bytes::Bytes>>> {
        self.statement.wait(self.txn.multi_get(keys, Locking::SHARED)).await
    }

    /// Looks for the row or the entry by which an index and its table differ.
    async fn culprit(&self, index: &Index<'_>) -> Result<Disagreement> {
        let mut rest = Some(self.row_span.clone());
        while let Some(span) = rest {
            let (page, next) = self.page(span).await?;
            let mut rows = self.rows_of(&page)?;
            let existing = rows.iter().map(|row| index.writer.existing_key(row));
            let existing = existing.collect::<Result<Vec<_>>>()?;
            let mut has_entry = existing.iter().map(Option::is_some);
            rows.retain(|_| has_entry.next() == Some(true));
            let keys = existing.into_iter().flatten().collect();
            let found = self.values(keys).await?;
            for (row, found) in rows.into_iter().zip(found) {
                if found != index.writer.entry(&row)?.and_then(|e| e.value) {
                    return Ok(Disagreement::NoEntry(row));
                }
            }
            rest = next;
        }
        let mut columns = self.table.index_ordinals(index.desc);
        columns.extend(self.table.key_ordinals());
        let reader = IndexReader::new(&self.statement.catalog, self.table, index.desc, &columns)?;
        let primary = IndexWriter::new(&self.statement.catalog, self.table, &self.table.primary)?;
        let own = index.desc.columns.len();
        let mut rest = Some(index.span.clone());
        while let Some(span) = rest {
            let (page, next) = self.page(span).await?;
            let entries =
                page.iter().map(|(k, v)| reader.read_row(k.as_bytes(), v)).collect::<Result<Vec<_>>>()?;
            let keys =
                entries.iter().map(|e| primary.key_of_values(&e[own..])).collect::<Result<Vec<_>>>()?;
            let found = self.values(keys.clone()).await?;
            for (((entry, primary_key), value), (key, _)) in
                entries.into_iter().zip(keys).zip(found).zip(&page)
            {
                let row = match value {
                    None => None,
                    Some(value) => self.rows_of(&[(primary_key, value)])?.pop(),
                };
                let is_own = row.is_some_and(|row| {
                    index.writer.existing_key(&row).is_ok_and(|k| k.as_ref() == Some(key))
                });
                if !is_own {
                    return Ok(Disagreement::NoRow(columns.iter().copied().zip(entry).collect()));
                }
            }
            rest = next;
        }
        Err(SqlError::internal("the sums of an index and its table differ, and each row and entry agrees"))
    }
}

/// `meridian.check_table`: fails with XX002 where an index and the table disagree.
pub(crate) async fn check_table(statement: &Statement, table: &TableDesc) -> Result<()> {
    let indexes = table.indexes.iter().filter(|i| i.state == meridian_catalog::IndexState::Public);
    let check = Check::new(statement, &*statement.txn, table, indexes)?;
    let Some((id, disagreement)) = check.run(|_| Ok(())).await? else { return Ok(()) };
    let name = table.index(id).map_or("", |i| i.name.as_str());
    let text = |ordinal: usize, value: &Datum| {
        format!("{}={}", table.part_name(ordinal), to_text(&statement.eval, value, table.part_type(ordinal)))
    };
    let detail = match disagreement {
        Disagreement::NoEntry(row) => {
            let key: Vec<String> = table.key_ordinals().iter().map(|&o| text(o, &row[o])).collect();
            format!("The row with {} has no entry, or one that differs.", key.join(", "))
        }
        Disagreement::NoRow(entry) => {
            let entry: Vec<String> = entry.iter().map(|(o, value)| text(*o, value)).collect();
            format!("The entry with {} has no row.", entry.join(", "))
        }
    };
    let message = format!("index \"{name}\" does not agree with table \"{}\"", table.name);
    Err(SqlError::new(SqlState::INDEX_CORRUPTED, message)
        .with_detail(detail)
        .with_table(statement.catalog.schema_name(table), table.name.clone())
        .with_constraint(name))
}
