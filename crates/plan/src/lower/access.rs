//! How a table is read: by which index, which part of it, and whether its rows must be fetched besides.

use meridian_catalog::{Direction, IndexDesc, IndexState};
use meridian_datum::{DataType, Result};

use super::partial::{self, Row, all_implied, implied};
use super::spans::{self, IndexSpans, index_key};
use super::{Ask, Lowered, Lowerer, plan};
use crate::expr::Expr;
use crate::logical::{ColId, ColSet, Get, Order};
use crate::physical::{IndexJoin, Operator, Scan, SpanBound, SpanKey, Spans};

/// What fetching the row of an index entry costs, in rows read in order.
const FETCH_COST: f64 = 4.0;
/// What sorting a row costs.
const SORT_COST: f64 = 1.0;

/// A way to read a table.
struct Path<'t> {
    index: &'t IndexDesc,
    /// The part of the index; it consumes what the index's own condition says, too.
    spans: IndexSpans,
    /// The conditions, with the index's expressions as columns.
    conds: Vec<Expr>,
    covering: bool,
    /// The asked order comes out, forwards or backwards.
    order: Option<bool>,
    rows: f64,
    cost: f64,
}

impl Lowerer<'_> {
    pub(super) fn table(&mut self, get: &Get, conds: &[Expr], ask: Ask) -> Result<Lowered> {
        let total = self.est.table_rows(&get.table);
        let virtuals = partial::virtuals(self.snapshot, get)?;
        let mut best: Option<Path<'_>> = None;
        for index in get.table.all_indexes().filter(|i| i.state == IndexState::Public) {
            let predicate = partial::predicate(self.snapshot, Row::of(get), index)?;
            if !all_implied(Row::of(get), conds, &predicate) {
                continue;
            }
            let own = index_key(&get.table, index);
            let is_own = |(col, _): &&(ColId, Expr)| get.ordinal(*col).is_some_and(|o| own.contains(&o));
            let own: Vec<(ColId, Expr)> = virtuals.iter().filter(is_own).cloned().collect();
            let order = partial::order_of(&ask.order, &virtuals, &own);
            let path = self.path(get, (index, &predicate, &own), conds, (&ask, &order), total);
            if best.as_ref().is_none_or(|b| path.cost < b.cost) {
                best = Some(path);
            }
        }
        let best = best.expect("a table has a primary index");
        self.read(get, conds, &ask, best)
    }

    fn path<'t>(
        &self,
        get: &'t Get,
        (index, predicate, virtuals): (&'t IndexDesc, &[Expr], &[(ColId, Expr)]),
        written: &[Expr],
        (ask, order): (&Ask, &[Order]),
        total: f64,
    ) -> Path<'t> {
        let mut conds = written.to_vec();
        if !virtuals.is_empty() {
            conds.iter_mut().for_each(|c| partial::substitute(c, virtuals));
        }
        let mut spans = spans::spans(get, index, &conds);
        let total = total * predicate.iter().map(crate::optimize::selectivity).product::<f64>();
        let is_said = |i: &usize| !predicate.is_empty() && implied(Row::of(get), predicate, &written[*i]);
        let said: Vec<usize> = (0..conds.len()).filter(is_said).collect();
        // What an entry must have: the conditions that its being there says are not looked at again.
        let mut read = ask.needed.clone();
        let asked = conds.iter().enumerate().filter(|(i, _)| !said.contains(i));
        asked.for_each(|(_, c)| c.collect_cols(&mut read));
        spans.consumed.extend(said);
        if spans::never(&conds) {
            spans.spans = Spans::Empty;
        }
        let primary = index.id == get.table.primary.id;
        let stored = stored_columns(get, index);
        let covering = primary || read_ordinals(get, &read).iter().all(|o| stored.contains(o));
        // FOR UPDATE locks the row itself.
        let covering = covering && (primary || !get.for_update);
        let order = ordering(get, index, &spans, order);
        let mut rows = if spans.points {
            match &spans.spans {
                Spans::Points(p) => p.len() as f64,
                _ => 1.0,
            }
        } else {
            (total * spans.selectivity).max(1.0)
        };
        if matches!(spans.spans, Spans::Empty) {
            rows = 0.0;
        }
        let mut read_rows = rows;
        let sorted = ask.order.is_empty() || order.is_some();
        if let Some(limit) = ask.limit.as_ref().filter(|_| sorted) {
            let wanted = match limit.as_const() {
                Some(meridian_datum::Datum::Int(n)) => *n as f64,
                _ => 100.0,
            };
            // A filter makes the scan go on for longer.
            let rest: f64 = conds
                .iter()
                .enumerate()
                .filter(|(i, _)| !spans.consumed.contains(i))
                .map(|(_, c)| crate::optimize::selectivity(c))
                .product();
            read_rows = read_rows.min(wanted / rest.max(0.001));
        }
        let mut cost = read_rows * if covering { 1.0 } else { 1.0 + FETCH_COST };
        if ask.must_sort && order.is_none() {
            cost += rows * SORT_COST * rows.max(2.0).log2() / 4.0;
        }
        // Between equals the primary index is the one whose rows are whole.
        if !primary {
            cost += 0.5;
        }
        Path { index, spans, conds, covering, order, rows, cost }
    }

    fn read(&mut self, get: &Get, conds: &[Expr], ask: &Ask, path: Path<'_>) -> Result<Lowered> {
        // What is left to be looked at: as the index has it, and as it was written.
        let is_left =
            |i: &usize| !path.spans.consumed.contains(i) || matches!(path.spans.spans, Spans::Empty);
        let left: Vec<(Expr, Expr)> =
            (0..conds.len()).filter(is_left).map(|i| (path.conds[i].clone(), conds[i].clone())).collect();
        let residual: Vec<Expr> = left.iter().map(|(c, _)| c.clone()).collect();
        let ordered = path.order.is_some();
        let limit = match &ask.limit {
            Some(l) if ask.order.is_empty() || ordered => Some(self.expr(l, &[])?),
            _ => None,
        };
        let spans = self.spans(path.spans.spans)?;
        let reverse = path.order == Some(true);
        let factor: f64 = residual.iter().map(crate::optimize::selectivity).product();
        let rows = (path.rows * factor).max(if path.rows == 0.0 { 0.0 } else { 1.0 });
        let is_primary = path.index.id == get.table.primary.id;
        if path.covering {
            let wanted = read_ordinals(get, &needed_after(ask, &residual));
            let cols: Vec<_> = wanted.iter().map(|o| get.col(*o)).collect();
            let filter = self.conjunction(&residual, &cols)?;
            let scan = Scan {
                table: get.table.clone(),
                index: path.index.id,
                spans,
                columns: wanted.clone(),
                filter,
                reverse,
                ordered,
                limit,
                locking: get.locking,
                for_update: get.for_update,
            };
            let plan = plan(Operator::Scan(Box::new(scan)), types_of(get, &wanted), rows);
            return Ok(Lowered { plan, cols, ordered });
        }
        assert!(!is_primary, "the primary index has every column");
        // Conditions on the entry's columns spare fetching rows.
        let stored = stored_columns(get, path.index);
        let stored_set = ColSet::from_cols(stored.iter().map(|o| get.col(*o)));
        let own = ColSet::from_cols(get.cols.iter().chain(&get.virtuals).copied());
        let on_entry = |c: &Expr| c.cols().iter().all(|k| !own.contains(k) || stored_set.contains(k));
        let (mut entry_conds, mut row_conds) = (Vec::new(), Vec::new());
        for (c, written) in left {
            if on_entry(&c) && !c.has_subquery() { entry_conds.push(c) } else { row_conds.push(written) }
        }
        let wanted = read_ordinals(get, &needed_after(ask, &row_conds));
        let mut entry = get.table.key_ordinals();
        let key_width = entry.len();
        for c in &entry_conds {
            for k in c.cols().iter() {
                if let Some(o) = get.ordinal(k)
                    && !entry.contains(&o)
                {
                    entry.push(o);
                }
            }
        }
        let entry_cols: Vec<_> = entry.iter().map(|o| get.col(*o)).collect();
        let filter = self.conjunction(&entry_conds, &entry_cols)?;
        let entry_limit = if row_conds.is_empty() { limit.clone() } else { None };
        let scan = Scan {
            table: get.table.clone(),
            index: path.index.id,
            spans,
            columns: entry.clone(),
            filter,
            reverse,
            ordered,
            limit: entry_limit,
            locking: get.locking,
            for_update: get.for_update,
        };
        let input = plan(Operator::Scan(Box::new(scan)), types_of(get, &entry), path.rows);
        let cols: Vec<_> = wanted.iter().map(|o| get.cols[*o]).collect();
        let filter = self.conjunction(&row_conds, &cols)?;
        let join = IndexJoin {
            input,
            table: get.table.clone(),
            key: (0..key_width).collect(),
            columns: wanted.clone(),
            filter,
            locking: get.locking,
            for_update: get.for_update,
        };
        let plan = plan(Operator::IndexJoin(Box::new(join)), types_of(get, &wanted), rows);
        Ok(Lowered { plan, cols, ordered })
    }

    /// Span values see no row of the scan: what they read comes from enclosing rows.
    fn spans(&mut self, spans: Spans) -> Result<Spans> {
        Ok(match spans {
            Spans::All => Spans::All,
            Spans::Empty => Spans::Empty,
            Spans::Points(points) => Spans::Points(
                points
                    .into_iter()
                    .map(|p| p.into_iter().map(|k| self.key(k)).collect())
                    .collect::<Result<_>>()?,
            ),
            Spans::Ranges(ranges) => {
                let mut out = Vec::with_capacity(ranges.len());
                for mut r in ranges {
                    r.equal = r.equal.into_iter().map(|k| self.key(k)).collect::<Result<_>>()?;
                    r.lower = self.bound(r.lower)?;
                    r.upper = self.bound(r.upper)?;
                    out.push(r);
                }
                Spans::Ranges(out)
            }
        })
    }

    fn key(&mut self, k: SpanKey) -> Result<SpanKey> {
        Ok(match k {
            SpanKey::Value(e) => SpanKey::Value(self.expr(&e, &[])?),
            SpanKey::AnyOf(e) => SpanKey::AnyOf(self.expr(&e, &[])?),
            SpanKey::Null => SpanKey::Null,
        })
    }

    fn bound(&mut self, b: SpanBound) -> Result<SpanBound> {
        Ok(match b {
            SpanBound::Included(e) => SpanBound::Included(self.expr(&e, &[])?),
            SpanBound::Excluded(e) => SpanBound::Excluded(self.expr(&e, &[])?),
            other => other,
        })
    }
}

/// The columns to put out: what is asked for and what conditions that remain read.
fn needed_after(ask: &Ask, residual: &[Expr]) -> ColSet {
    let mut out = ask.needed.clone();
    residual.iter().for_each(|c| c.collect_cols(&mut out));
    out
}

fn read_ordinals(get: &Get, read: &ColSet) -> Vec<usize> {
    (0..get.cols.len() + get.virtuals.len()).filter(|o| read.contains(get.col(*o))).collect()
}

/// The columns that an entry of a secondary index has.
fn stored_columns(get: &Get, index: &IndexDesc) -> Vec<usize> {
    let mut out = get.table.index_ordinals(index);
    out.extend(get.table.key_ordinals());
    out.extend(index.storing.iter().map(|c| get.table.ordinal(*c)));
    out
}

pub(super) fn types_of(get: &Get, ordinals: &[usize]) -> Vec<DataType> {
    ordinals.iter().map(|o| get.table.part_type(*o).clone()).collect()
}

/// Whether reading the spans yields the asked order: `Some(reverse)`.
fn ordering(get: &Get, index: &IndexDesc, spans: &IndexSpans, wanted: &[Order]) -> Option<bool> {
    if wanted.is_empty() {
        return None;
    }
    let mut columns: Vec<(usize, bool)> = index
        .columns
        .iter()
        .map(|c| (get.table.ordinal(c.column), c.direction == Direction::Descending))
        .collect();
    let unique_at = if index.unique { columns.len() } else { usize::MAX };
    let key = get.table.key_ordinals();
    // Entries of an index that is not unique end in the primary key, whose direction is sure only when ascending.
    if !index.unique {
        for (k, c) in key.iter().zip(&get.table.primary.columns) {
            if c.direction == Direction::Descending {
                break;
            }
            if !columns.iter().any(|(o, _)| o == k) {
                columns.push((*k, false));
            }
        }
    }
    let fixed: Vec<usize> = columns[..spans.fixed].iter().map(|(o, _)| *o).collect();
    let mut next = columns.iter().enumerate().filter(|(_, (o, _))| !fixed.contains(o));
    let mut reverse = None;
    let mut seen = spans.fixed;
    for w in wanted {
        let ordinal = get.ordinal(w.col)?;
        if fixed.contains(&ordinal) {
            continue;
        }
        // After a whole key that can't be NULL, rows are told apart and further keys decide nothing.
        let whole = seen >= unique_at
            && index.columns.iter().all(|c| !get.table.is_nullable(get.table.ordinal(c.column)));
        if whole {
            break;
        }
        let (_, (o, descending)) = next.next()?;
        if *o != ordinal {
            return None;
        }
        let backwards = *descending != w.descending;
        if *reverse.get_or_insert(backwards) != backwards {
            return None;
        }
        // Indexes keep NULLs last where they ascend.
        if get.table.is_nullable(ordinal) && w.nulls_first != w.descending {
            return None;
        }
        seen += 1;
    }
    Some(reverse.unwrap_or(false))
}
