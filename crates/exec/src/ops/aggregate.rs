//! Hash aggregation.

use std::collections::HashSet;

use async_trait::async_trait;
use meridian_datum::{AggState, Batch, Column, DataType, Datum, Result};
use meridian_plan::physical::{Aggregate, AggregateCall};

use super::filter::project;
use super::groups::GroupTable;
use super::sort::sorted_rows;
use super::{BoxOperator, Operator, Pieces, build};
use crate::context::Ctx;
use crate::memory::Reservation;

/// Groups and aggregates.
pub(super) struct AggregateOp<'a> {
    ctx: Ctx<'a>,
    plan: &'a Aggregate,
    input: Option<BoxOperator<'a>>,
    memory: Reservation,
    out: Vec<Batch>,
    pieces: Pieces,
}

impl<'a> AggregateOp<'a> {
    pub(super) fn new(ctx: Ctx<'a>, plan: &'a Aggregate) -> Result<Self> {
        Ok(AggregateOp {
            ctx,
            plan,
            input: Some(build(ctx, &plan.input)?),
            memory: ctx.stmt.memory.reservation(),
            out: Vec::new(),
            pieces: Pieces::default(),
        })
    }

    async fn run(&mut self, mut input: BoxOperator<'a>) -> Result<()> {
        let key_types: Vec<DataType> = self.plan.group_by.iter().map(meridian_plan::Expr::ty).collect();
        let all: Vec<usize> = (0..key_types.len()).collect();
        let sets = self.plan.grouping_sets.clone().unwrap_or_else(|| vec![all]);
        let mut sets: Vec<GroupingSet<'_>> =
            sets.into_iter().map(|columns| GroupingSet::new(self.plan, &key_types, columns)).collect();
        while let Some(batch) = input.next().await? {
            self.ctx.stmt.checkpoint().await?;
            let keys = project(self.ctx, &self.plan.group_by, &batch).await?.into_columns();
            let mut inputs = Vec::with_capacity(self.plan.aggregates.len());
            for call in &self.plan.aggregates {
                inputs.push(CallInput::evaluate(self.ctx, call, &batch).await?);
            }
            for set in &mut sets {
                let grown = set.feed(&keys, &inputs, batch.len())?;
                self.memory.grow(grown)?;
            }
        }
        for set in sets {
            let batch = set.finish(self.ctx)?;
            if !batch.is_empty() {
                self.out.push(batch);
            }
        }
        self.out.reverse();
        Ok(())
    }
}

#[async_trait]
impl Operator for AggregateOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        if let Some(input) = self.input.take() {
            self.run(input).await?;
        }
        loop {
            if let Some(piece) = self.pieces.next() {
                return Ok(Some(piece));
            }
            match self.out.pop() {
                Some(batch) => self.pieces = Pieces::of(batch),
                None => return Ok(None),
            }
        }
    }
}

/// The evaluated arguments of a call for a batch.
struct CallInput {
    args: Vec<Column>,
    order_args: Vec<Column>,
    /// The rows that pass FILTER; `None` is all.
    rows: Option<Vec<u32>>,
}

impl CallInput {
    async fn evaluate(ctx: Ctx<'_>, call: &AggregateCall, batch: &Batch) -> Result<CallInput> {
        let rows = match &call.filter {
            None => None,
            Some(filter) => {
                let resolved = ctx.resolve([filter], batch).await?;
                Some(ctx.scope_with(&resolved).filter(filter, batch)?)
            }
        };
        // Arguments are evaluated on the rows that pass only: 1 / x with FILTER (WHERE x <> 0).
        let (args, order_args) = match &rows {
            None => (project(ctx, &call.args, batch).await?, project(ctx, &call.order_args, batch).await?),
            Some(rows) => {
                let kept = batch.gather(rows);
                (project(ctx, &call.args, &kept).await?, project(ctx, &call.order_args, &kept).await?)
            }
        };
        Ok(CallInput { args: args.into_columns(), order_args: order_args.into_columns(), rows })
    }
}

/// One aggregate's states, one per group.
struct CallState<'a> {
    call: &'a AggregateCall,
    states: Vec<AggState>,
    distinct: Option<HashSet<(u32, Vec<Datum>)>>,
    /// Rows to be sorted before they are fed: group, order arguments, arguments.
    ordered: Option<(Vec<u32>, Batch)>,
}

impl<'a> CallState<'a> {
    fn new(call: &'a AggregateCall) -> Self {
        let types = call.order_args.iter().chain(&call.args).map(meridian_plan::Expr::ty).collect::<Vec<_>>();
        CallState {
            call,
            states: Vec::new(),
            distinct: call.distinct.then(HashSet::new),
            ordered: (!call.order_by.is_empty()).then(|| (Vec::new(), Batch::with_capacity(&types, 0))),
        }
    }

    fn feed(&mut self, input: &CallInput, groups: &[u32], len: usize) -> Result<usize> {
        let picked: Vec<u32>;
        let groups = match &input.rows {
            None => groups,
            Some(rows) => {
                picked = rows.iter().map(|&r| groups[r as usize]).collect();
                &picked
            }
        };
        let _ = len;
        let mut grown = 0;
        let mut args: Vec<Column> = Vec::new();
        let mut order_args: Vec<Column> = Vec::new();
        let mut fresh_groups: Vec<u32> = Vec::new();
        let is_distinct = self.distinct.is_some();
        if let Some(seen) = &mut self.distinct {
            let mut rows = Vec::new();
            for (row, &group) in groups.iter().enumerate() {
                let key: Vec<Datum> = input.args.iter().map(|c| c.get(row)).collect();
                let size = 64 + key.iter().map(|d| d.heap_size() + 24).sum::<usize>();
                if seen.insert((group, key)) {
                    rows.push(row as u32);
                    grown += size;
                }
            }
            args = input.args.iter().map(|c| c.gather(&rows)).collect();
            order_args = input.order_args.iter().map(|c| c.gather(&rows)).collect();
            fresh_groups = rows.iter().map(|&r| groups[r as usize]).collect();
        }
        let (args, order_args, groups): (Vec<&Column>, Vec<&Column>, &[u32]) = if is_distinct {
            (args.iter().collect(), order_args.iter().collect(), &fresh_groups)
        } else {
            (input.args.iter().collect(), input.order_args.iter().collect(), groups)
        };
        if let Some((held_groups, held)) = &mut self.ordered {
            held_groups.extend_from_slice(groups);
            let columns = order_args.iter().chain(&args).map(|c| (*c).clone()).collect();
            let batch = Batch::new(columns, groups.len());
            grown += batch.heap_size() + groups.len() * 4;
            held.append(&batch);
            return Ok(grown);
        }
        self.call.function.update_groups(&mut self.states, groups, &args)?;
        Ok(grown)
    }

    fn finish(mut self, ctx: Ctx<'_>) -> Result<Column> {
        if let Some((groups, batch)) = self.ordered.take() {
            let rows = sorted_rows(&self.call.order_by, &batch);
            let sorted = batch.gather(&rows);
            let groups: Vec<u32> = rows.iter().map(|&r| groups[r as usize]).collect();
            let args: Vec<&Column> = sorted.columns()[self.call.order_args.len()..].iter().collect();
            self.call.function.update_groups(&mut self.states, &groups, &args)?;
        }
        let mut out = Column::with_capacity(&self.call.function.result_type, self.states.len());
        for state in &self.states {
            out.push(self.call.function.finish(&ctx.stmt.eval, state)?);
        }
        Ok(out)
    }
}

/// The groups of one grouping set.
struct GroupingSet<'a> {
    /// Positions in GROUP BY that take part.
    columns: Vec<usize>,
    key_types: &'a [DataType],
    groups: GroupTable,
    calls: Vec<CallState<'a>>,
    accounted: usize,
}

impl<'a> GroupingSet<'a> {
    fn new(plan: &'a Aggregate, key_types: &'a [DataType], columns: Vec<usize>) -> Self {
        let groups = GroupTable::new(columns.iter().map(|&c| &key_types[c]));
        let mut set = GroupingSet {
            columns,
            key_types,
            groups,
            calls: plan.aggregates.iter().map(CallState::new).collect(),
            accounted: 0,
        };
        if set.columns.is_empty() {
            // The group of all rows exists even without any.
            set.groups.insert(&[], 0);
            set.add_states();
        }
        set
    }

    fn add_states(&mut self) {
        for call in &mut self.calls {
            call.states.push(call.call.function.init());
        }
    }

    fn feed(&mut self, keys: &[Column], inputs: &[CallInput], len: usize) -> Result<usize> {
        let columns: Vec<&Column> = self.columns.iter().map(|&c| &keys[c]).collect();
        let mut numbers = Vec::with_capacity(len);
        if columns.is_empty() {
            numbers.resize(len, 0);
        } else {
            for row in 0..len {
                let (group, is_new) = self.groups.insert(&columns, row);
                if is_new {
                    self.add_states();
                }
                numbers.push(group);
            }
        }
        let mut grown = 0;
        for (call, input) in self.calls.iter_mut().zip(inputs) {
            grown += call.feed(input, &numbers, len)?;
        }
        let size = self.groups.heap_size() + self.groups.len() * self.calls.len() * size_of::<AggState>();
        grown += size.saturating_sub(self.accounted);
        self.accounted = self.accounted.max(size);
        Ok(grown)
    }

    fn finish(self, ctx: Ctx<'_>) -> Result<Batch> {
        let len = self.groups.len();
        let mut held = self.groups.into_keys().into_iter();
        let mut columns: Vec<Option<Column>> = self.key_types.iter().map(|_| None).collect();
        for &c in &self.columns {
            columns[c] = held.next();
        }
        let mut out: Vec<Column> = columns
            .into_iter()
            .zip(self.key_types)
            .map(|(c, t)| c.unwrap_or_else(|| Column::constant(t, &Datum::Null, len)))
            .collect();
        for call in self.calls {
            out.push(call.finish(ctx)?);
        }
        Ok(Batch::new(out, len))
    }
}
