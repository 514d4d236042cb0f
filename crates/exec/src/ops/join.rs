//! Joins whose right input is run once and kept: the common part of hash joins and nested loops.
//!
//! For a run of left rows the candidate pairs are listed (by hash of the keys, or all of them), the further condition
//! is evaluated on the pairs as one batch, and the join's kind decides what becomes of rows with and without match.

use async_trait::async_trait;
use meridian_datum::{Batch, Column, DataType, Result};
use meridian_plan::Expr;
use meridian_plan::physical::{JoinKind, NestedLoopJoin};

use super::hash_join::HashKeys;
use super::{Ahead, BoxOperator, Operator, Pieces, build, collect, concat};
use crate::context::Ctx;
use crate::memory::Reservation;

/// Pairs that are looked at together.
const PAIRS_MAX: usize = 4096;

/// A join.
pub(super) struct JoinOp<'a> {
    ctx: Ctx<'a>,
    kind: JoinKind,
    left: Ahead<'a>,
    left_types: &'a [DataType],
    right_input: Option<BoxOperator<'a>>,
    right: Batch,
    right_types: &'a [DataType],
    on: Option<&'a Expr>,
    keys: Option<HashKeys<'a>>,
    /// Right rows that met a left row; of Right and Full joins.
    right_matched: Vec<bool>,
    probe: Option<Probe>,
    out: Pieces,
    left_done: bool,
    memory: Reservation,
}

/// The left batch at hand.
struct Probe {
    batch: Batch,
    keys: Vec<Column>,
    row: usize,
}

/// Pairs of a left and a right row.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    pub(super) left: Vec<u32>,
    pub(super) right: Vec<u32>,
}

/// The columns of the pairs side by side.
pub(super) fn pair_batch(left: &Batch, right: &Batch, pairs: &Pairs) -> Batch {
    let mut columns: Vec<Column> = left.columns().iter().map(|c| c.gather(&pairs.left)).collect();
    columns.extend(right.columns().iter().map(|c| c.gather(&pairs.right)));
    Batch::new(columns, pairs.left.len())
}

/// The pairs for which the condition holds.
pub(super) async fn filter_pairs(
    ctx: Ctx<'_>,
    on: Option<&Expr>,
    left: &Batch,
    right: &Batch,
    pairs: Pairs,
) -> Result<Pairs> {
    let Some(on) = on else { return Ok(pairs) };
    if pairs.left.is_empty() {
        return Ok(pairs);
    }
    let batch = pair_batch(left, right, &pairs);
    let resolved = ctx.resolve([on], &batch).await?;
    let kept = ctx.scope_with(&resolved).filter(on, &batch)?;
    let pick = |v: &[u32]| kept.iter().map(|&k| v[k as usize]).collect();
    Ok(Pairs { left: pick(&pairs.left), right: pick(&pairs.right) })
}

impl<'a> JoinOp<'a> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        ctx: Ctx<'a>,
        kind: JoinKind,
        left: &'a meridian_plan::Plan,
        right: &'a meridian_plan::Plan,
        on: Option<&'a Expr>,
        keys: Option<HashKeys<'a>>,
    ) -> Result<Self> {
        Ok(JoinOp {
            ctx,
            kind,
            left: Ahead::of(build(ctx, left)?),
            left_types: &left.types,
            right_input: Some(build(ctx, right)?),
            right: Batch::default(),
            right_types: &right.types,
            on,
            keys,
            right_matched: Vec::new(),
            probe: None,
            out: Pieces::default(),
            left_done: false,
            memory: ctx.stmt.memory.reservation(),
        })
    }

    async fn read_right(&mut self, input: BoxOperator<'a>) -> Result<()> {
        let right = collect(input, &mut self.memory, self.ctx);
        let batches = self.left.beside(self.ctx, right).await?;
        self.right = concat(batches).unwrap_or_else(|| Batch::with_capacity(self.right_types, 0));
        if let Some(keys) = &mut self.keys {
            keys.read(self.ctx, &self.right).await?;
        }
        if matches!(self.kind, JoinKind::Right | JoinKind::Full) {
            self.right_matched = vec![false; self.right.len()];
        }
        Ok(())
    }

    /// The candidate pairs of left rows from `probe.row` on, until there are enough; moves `probe.row`.
    fn candidates(&self, probe: &mut Probe) -> Pairs {
        let mut pairs = Pairs::default();
        while probe.row < probe.batch.len() && pairs.left.len() < PAIRS_MAX {
            let row = probe.row;
            match &self.keys {
                Some(keys) => keys.candidates(&probe.keys, row, &mut pairs.right),
                None => pairs.right.extend(0..self.right.len() as u32),
            }
            pairs.left.resize(pairs.right.len(), row as u32);
            probe.row += 1;
        }
        pairs
    }

    /// What the left rows `from..to` yield, given the pairs that hold.
    fn emit(&mut self, left: &Batch, from: usize, to: usize, pairs: Pairs) -> Batch {
        if !self.right_matched.is_empty() {
            for &r in &pairs.right {
                self.right_matched[r as usize] = true;
            }
        }
        match self.kind {
            JoinKind::Inner | JoinKind::Right => pair_batch(left, &self.right, &pairs),
            JoinKind::Left | JoinKind::Full => {
                let mut lefts = Vec::with_capacity(pairs.left.len() + to - from);
                let mut rights = Vec::with_capacity(lefts.capacity());
                let mut at = 0;
                for row in from as u32..to as u32 {
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
                columns.extend(self.right.columns().iter().map(|c| c.gather_optional(&rights)));
                Batch::new(columns, lefts.len())
            }
            JoinKind::Semi | JoinKind::Anti | JoinKind::NullAwareAnti => {
                let mut matched = vec![false; to - from];
                for &l in &pairs.left {
                    matched[l as usize - from] = true;
                }
                let wanted = self.kind == JoinKind::Semi;
                let rows: Vec<u32> =
                    (from..to).filter(|r| matched[r - from] == wanted).map(|r| r as u32).collect();
                left.gather(&rows)
            }
        }
    }

    /// For `NOT IN`: adds the pairs whose comparison is NULL, since they keep a left row out as a match would.
    fn add_unknown(&self, probe: &Probe, from: usize, pairs: &mut Pairs) {
        let Some(keys) = &self.keys else { return };
        for row in from..probe.row {
            keys.unknown(&probe.keys, row, self.right.len(), &mut pairs.right);
            pairs.left.resize(pairs.right.len(), row as u32);
        }
    }

    fn unmatched_right(&mut self) -> Option<Batch> {
        let rows: Vec<u32> =
            (0..self.right_matched.len()).filter(|&r| !self.right_matched[r]).map(|r| r as u32).collect();
        self.right_matched.clear();
        if rows.is_empty() {
            return None;
        }
        let mut columns: Vec<Column> = self
            .left_types
            .iter()
            .map(|t| Column::constant(t, &meridian_datum::Datum::Null, rows.len()))
            .collect();
        columns.extend(self.right.columns().iter().map(|c| c.gather(&rows)));
        Some(Batch::new(columns, rows.len()))
    }

    async fn next_left(&mut self) -> Result<bool> {
        let Some(batch) = self.left.next().await? else { return Ok(false) };
        let keys = match &self.keys {
            Some(keys) => keys.left_columns(self.ctx, &batch).await?,
            None => Vec::new(),
        };
        self.probe = Some(Probe { batch, keys, row: 0 });
        Ok(true)
    }
}

#[async_trait]
impl Operator for JoinOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        if let Some(input) = self.right_input.take() {
            self.read_right(input).await?;
        }
        loop {
            if let Some(piece) = self.out.next() {
                return Ok(Some(piece));
            }
            self.ctx.stmt.checkpoint().await?;
            let Some(mut probe) = self.probe.take() else {
                if self.left_done || !self.next_left().await? {
                    self.left_done = true;
                    match self.unmatched_right() {
                        Some(rest) => self.out = Pieces::of(rest),
                        None => return Ok(None),
                    }
                }
                continue;
            };
            if probe.row == probe.batch.len() {
                continue;
            }
            let from = probe.row;
            let mut pairs = self.candidates(&mut probe);
            if self.kind == JoinKind::NullAwareAnti {
                self.add_unknown(&probe, from, &mut pairs);
            }
            let pairs = filter_pairs(self.ctx, self.on, &probe.batch, &self.right, pairs).await?;
            let out = self.emit(&probe.batch, from, probe.row, pairs);
            self.out = Pieces::of(out);
            self.probe = Some(probe);
        }
    }
}

/// A join on any condition.
pub(super) struct NestedLoopOp;

impl NestedLoopOp {
    #[allow(clippy::new_ret_no_self)]
    pub(super) fn new<'a>(ctx: Ctx<'a>, join: &'a NestedLoopJoin) -> Result<JoinOp<'a>> {
        JoinOp::new(ctx, join.kind, &join.left, &join.right, join.on.as_ref(), None)
    }
}
