//! Reads of rows by key, in batches: index joins and lookup joins.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use meridian_catalog::{CatalogSnapshot, IndexId, TableDesc};
use meridian_datum::{Batch, Column, Datum, Result};
use meridian_kv_api::{Locking, ScanRequest};
use meridian_plan::physical::{IndexJoin, JoinKind, LookupJoin};
use meridian_types::{Key, Span, limits};

use super::filter::{keep, project};
use super::join::{Pairs, filter_pairs, pair_batch};
use super::scan::{POINTS_MAX, index_of};
use super::{BoxOperator, Operator, Pieces, build};
use crate::context::{Ctx, Statement};
use crate::table::{Decoded, IndexReader, IndexWriter};

/// Reads keys, `None` where there is no row; in the order of `keys`.
async fn read_keys(stmt: &Statement, keys: Vec<Key>, locking: Locking) -> Result<Vec<Option<Bytes>>> {
    if keys.len() <= POINTS_MAX {
        return stmt.wait(stmt.txn.multi_get(keys, locking)).await;
    }
    let mut out = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(POINTS_MAX) {
        out.extend(stmt.wait(stmt.txn.multi_get(chunk.to_vec(), locking)).await?);
    }
    Ok(out)
}

/// Reads primary rows of entries.
pub(super) struct IndexJoinOp<'a> {
    ctx: Ctx<'a>,
    plan: &'a IndexJoin,
    input: BoxOperator<'a>,
    writer: IndexWriter,
    reader: IndexReader,
}

impl<'a> IndexJoinOp<'a> {
    pub(super) fn new(ctx: Ctx<'a>, plan: &'a IndexJoin) -> Result<Self> {
        let catalog = &ctx.stmt.catalog;
        Ok(IndexJoinOp {
            ctx,
            plan,
            input: build(ctx, &plan.input)?,
            writer: IndexWriter::new(catalog, &plan.table, &plan.table.primary)?,
            reader: IndexReader::new(catalog, &plan.table, &plan.table.primary, &plan.columns)?,
        })
    }
}

#[async_trait]
impl Operator for IndexJoinOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        while let Some(batch) = self.input.next().await? {
            self.ctx.stmt.checkpoint().await?;
            let mut keys = Vec::with_capacity(batch.len());
            for row in 0..batch.len() {
                let values: Vec<Datum> = self.plan.key.iter().map(|&c| batch.get(c, row)).collect();
                keys.push(self.writer.key_of_values(&values)?);
            }
            let values = read_keys(self.ctx.stmt, keys.clone(), self.plan.locking).await?;
            let mut out = self.reader.batch(keys.len());
            for (key, value) in keys.iter().zip(values) {
                // An entry without row: its row was skipped because it is locked, or the entry is of a row that this
                // transaction deleted.
                if let Some(value) = value {
                    self.reader.read(key.as_bytes(), &value, &mut out)?;
                }
            }
            if let Some(filter) = &self.plan.filter
                && !out.is_empty()
            {
                out = keep(self.ctx, filter, out).await?;
            }
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
        Ok(None)
    }
}

/// The inner side of a lookup join.
struct Inner {
    keys: IndexWriter,
    /// Reads the output columns from the index, where it has them all.
    reader: IndexReader,
    /// Otherwise: reads the primary key from the entry, and the columns from the primary row.
    primary: Option<(IndexWriter, IndexReader)>,
}

impl Inner {
    fn new(
        catalog: &CatalogSnapshot,
        table: &TableDesc,
        id: IndexId,
        columns: &[usize],
        lock: bool,
    ) -> Result<Self> {
        let index = index_of(table, id)?;
        let keys = IndexWriter::new(catalog, table, index)?;
        let has = |ordinal: &usize| {
            let column = table.columns[*ordinal].id;
            index.columns.iter().chain(&table.primary.columns).any(|c| c.column == column)
                || index.storing.contains(&column)
        };
        let covers = id == IndexId::PRIMARY || (!lock && columns.iter().all(has));
        let (reader, primary) = if covers {
            (IndexReader::new(catalog, table, index, columns)?, None)
        } else {
            let writer = IndexWriter::new(catalog, table, &table.primary)?;
            let reader = IndexReader::new(catalog, table, &table.primary, columns)?;
            (IndexReader::new(catalog, table, index, &table.key_ordinals())?, Some((writer, reader)))
        };
        Ok(Inner { keys, reader, primary })
    }

    /// The rows of a whole key or a key prefix, by distinct key: a batch, and for every key the rows in it.
    async fn fetch(
        &self,
        stmt: &Statement,
        keys: Vec<Key>,
        is_point: bool,
        locking: Locking,
    ) -> Result<(Batch, Vec<Vec<u32>>)> {
        let mut entries: Vec<(usize, Key, Bytes)> = Vec::new();
        if is_point {
            let values = read_keys(stmt, keys.clone(), locking).await?;
            for (at, (key, value)) in keys.iter().zip(values).enumerate() {
                if let Some(value) = value {
                    entries.push((at, key.clone(), value));
                }
            }
        } else {
            for (at, key) in keys.iter().enumerate() {
                let mut rest = Some(Span::prefix(key));
                while let Some(span) = rest {
                    let request =
                        ScanRequest { span, reverse: false, limit: limits::SCAN_PAGE_ROWS, locking };
                    let page = stmt.wait(stmt.txn.scan(request)).await?;
                    entries.extend(page.rows.into_iter().map(|(k, v)| (at, k, v)));
                    rest = page.resume;
                }
            }
        }
        let mut rows = vec![Vec::new(); keys.len()];
        let Some((writer, reader)) = &self.primary else {
            let mut out = self.reader.batch(entries.len());
            for (at, key, value) in &entries {
                if self.reader.read(key.as_bytes(), value, &mut out)? == Decoded::Row {
                    rows[*at].push(out.len() as u32 - 1);
                }
            }
            return Ok((out, rows));
        };
        let mut primary_keys = Vec::with_capacity(entries.len());
        for (_, key, value) in &entries {
            primary_keys.push(writer.key_of_values(&self.reader.read_row(key.as_bytes(), value)?)?);
        }
        let values = read_keys(stmt, primary_keys.clone(), locking).await?;
        let mut out = reader.batch(entries.len());
        for (((at, _, _), key), value) in entries.iter().zip(&primary_keys).zip(values) {
            if let Some(value) = value {
                reader.read(key.as_bytes(), &value, &mut out)?;
                rows[*at].push(out.len() as u32 - 1);
            }
        }
        Ok((out, rows))
    }
}

/// Reads the inner side of a join by key.
pub(super) struct LookupJoinOp<'a> {
    ctx: Ctx<'a>,
    plan: &'a LookupJoin,
    input: BoxOperator<'a>,
    inner: Inner,
    out: Pieces,
}

impl<'a> LookupJoinOp<'a> {
    pub(super) fn new(ctx: Ctx<'a>, plan: &'a LookupJoin) -> Result<Self> {
        let inner = Inner::new(&ctx.stmt.catalog, &plan.table, plan.index, &plan.columns, plan.for_update)?;
        Ok(LookupJoinOp { ctx, plan, input: build(ctx, &plan.input)?, inner, out: Pieces::default() })
    }

    async fn join(&self, left: Batch) -> Result<Batch> {
        let key_values = project(self.ctx, &self.plan.key, &left).await?;
        let mut numbers: HashMap<Key, usize> = HashMap::new();
        let mut keys: Vec<Key> = Vec::new();
        let mut of_row: Vec<Option<usize>> = Vec::with_capacity(left.len());
        for row in 0..left.len() {
            if key_values.columns().iter().any(|c| c.is_null(row)) {
                of_row.push(None);
                continue;
            }
            let key = self.inner.keys.key_of_values(&key_values.row(row))?;
            let next = keys.len();
            let number = *numbers.entry(key.clone()).or_insert(next);
            if number == next {
                keys.push(key);
            }
            of_row.push(Some(number));
        }
        let (right, rows) =
            self.inner.fetch(self.ctx.stmt, keys, self.plan.is_point, self.plan.locking).await?;
        let mut pairs = Pairs::default();
        for (row, number) in of_row.iter().enumerate() {
            if let Some(n) = number {
                pairs.right.extend_from_slice(&rows[*n]);
                pairs.left.resize(pairs.right.len(), row as u32);
            }
        }
        let pairs = filter_pairs(self.ctx, self.plan.on.as_ref(), &left, &right, pairs).await?;
        Ok(self.emit(&left, &right, pairs))
    }

    fn emit(&self, left: &Batch, right: &Batch, pairs: Pairs) -> Batch {
        match self.plan.kind {
            JoinKind::Semi | JoinKind::Anti | JoinKind::NullAwareAnti => {
                let mut matched = vec![false; left.len()];
                for &l in &pairs.left {
                    matched[l as usize] = true;
                }
                let wanted = self.plan.kind == JoinKind::Semi;
                let rows: Vec<u32> =
                    (0..left.len() as u32).filter(|&r| matched[r as usize] == wanted).collect();
                left.gather(&rows)
            }
            JoinKind::Left => {
                let mut lefts = Vec::with_capacity(pairs.left.len());
                let mut rights = Vec::with_capacity(pairs.left.len());
                let mut at = 0;
                for row in 0..left.len() as u32 {
                    let first = at;
                    while at < pairs.left.len() && pairs.left[at] == row {
                        lefts.push(row);
                        rights.push(Some(pairs.right[at]));
                        at += 1;
                    }
                    if at == first {
                        lefts.push(row);
                        rights.push(None);
                    }
                }
                let mut columns: Vec<Column> = left.columns().iter().map(|c| c.gather(&lefts)).collect();
                columns.extend(right.columns().iter().map(|c| c.gather_optional(&rights)));
                Batch::new(columns, lefts.len())
            }
            JoinKind::Inner | JoinKind::Right | JoinKind::Full => pair_batch(left, right, &pairs),
        }
    }
}

#[async_trait]
impl Operator for LookupJoinOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            if let Some(piece) = self.out.next() {
                return Ok(Some(piece));
            }
            self.ctx.stmt.checkpoint().await?;
            let Some(batch) = self.input.next().await? else { return Ok(None) };
            self.out = Pieces::of(self.join(batch).await?);
        }
    }
}
