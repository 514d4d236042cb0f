//! Operators: each pulls batches from its inputs and yields batches.
//!
//! Operators borrow their plan and never copy it; the whole tree lives inside one future that borrows the statement
//! (see [`crate::run`]). Batches have at most a few thousand rows and are never empty, so that `None` alone means the end.

mod advisory;
mod aggregate;
mod apply;
mod cluster;
mod filter;
mod groups;
mod hash_join;
mod jobs;
mod join;
mod lookup;
mod recursive;
mod scan;
mod set_op;
mod sort;
mod source;
mod table_function;
mod window;

use async_trait::async_trait;
use meridian_datum::{Batch, Result};
use meridian_plan::{Operator as Op, Plan};

use crate::context::Ctx;
use crate::dml;

pub(crate) use cluster::virtual_rows;
pub(crate) use filter::{keep, project};
pub(crate) use source::cte_rows;

/// Rows that an operator gathers before it hands them on.
pub(crate) const BATCH_ROWS: usize = 1024;

/// A running operator.
#[async_trait]
pub(crate) trait Operator: Send + Sync {
    /// The next rows; `None` at the end, and from then on. A batch is never empty.
    async fn next(&mut self) -> Result<Option<Batch>>;
}

/// An operator that runs.
pub(crate) type BoxOperator<'a> = Box<dyn Operator + 'a>;

/// Starts an operator.
pub(crate) fn build<'a>(ctx: Ctx<'a>, plan: &'a Plan) -> Result<BoxOperator<'a>> {
    Ok(match &plan.op {
        Op::Scan(scan) => Box::new(scan::ScanOp::new(ctx, scan)?),
        Op::IndexJoin(join) => Box::new(lookup::IndexJoinOp::new(ctx, join)?),
        Op::LookupJoin(join) => Box::new(lookup::LookupJoinOp::new(ctx, join)?),
        Op::HashJoin(join) => Box::new(hash_join::HashJoinOp::new(ctx, join)?),
        Op::NestedLoopJoin(join) => Box::new(join::NestedLoopOp::new(ctx, join)?),
        Op::Apply(apply) => Box::new(apply::ApplyOp::new(ctx, apply)?),
        Op::Filter { input, condition } => {
            Box::new(filter::FilterOp::new(build(ctx, input)?, ctx, condition))
        }
        Op::Project { input, exprs } => Box::new(filter::ProjectOp::new(build(ctx, input)?, ctx, exprs)),
        Op::Aggregate(aggregate) => Box::new(aggregate::AggregateOp::new(ctx, aggregate)?),
        Op::Distinct { input } => Box::new(set_op::DistinctOp::new(ctx, build(ctx, input)?, &plan.types)),
        Op::DistinctOn { input, keys } => Box::new(set_op::DistinctOnOp::new(build(ctx, input)?, keys)),
        Op::Sort { input, keys } => Box::new(sort::SortOp::new(ctx, build(ctx, input)?, keys)),
        Op::TopN { input, keys, limit, offset } => {
            Box::new(sort::TopNOp::new(ctx, build(ctx, input)?, keys, limit, offset.as_ref()))
        }
        Op::Limit { input, limit, offset } => {
            Box::new(filter::LimitOp::new(ctx, build(ctx, input)?, limit.as_ref(), offset.as_ref()))
        }
        Op::SetOp { kind, all, left, right } => Box::new(set_op::SetOperation::new(
            ctx,
            *kind,
            *all,
            build(ctx, left)?,
            build(ctx, right)?,
            &plan.types,
        )),
        Op::Window(window) => Box::new(window::WindowOp::new(ctx, window, &plan.types)?),
        Op::Values { rows } => Box::new(source::ValuesOp::new(ctx, rows, &plan.types)),
        Op::TableFunction(function) => {
            Box::new(table_function::TableFunctionOp::new(ctx, function, &plan.types))
        }
        Op::VirtualScan { table, columns, filter } => {
            Box::new(source::VirtualScanOp::new(ctx, table, columns, filter.as_ref()))
        }
        Op::CteScan { index } => Box::new(source::CteScanOp::new(ctx, *index)),
        Op::RecursiveUnion(union) => Box::new(recursive::RecursiveOp::new(ctx, union, &plan.types)?),
        Op::WorkScan { index } => Box::new(recursive::WorkScanOp::new(ctx.work_rows(*index))),
        Op::Modify(modify) => {
            let is_top = matches!(&ctx.stmt.planned.plan, meridian_plan::StatementPlan::Query(top) if std::ptr::eq(top, plan));
            Box::new(dml::ModifyOp::new(ctx, modify, is_top)?)
        }
    })
}

/// An input whose first rows may be read before they are asked for.
pub(crate) struct Ahead<'a> {
    input: BoxOperator<'a>,
    first: Option<Batch>,
}

impl<'a> Ahead<'a> {
    pub(crate) fn of(input: BoxOperator<'a>) -> Self {
        Ahead { input, first: None }
    }

    /// The next rows; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Batch>> {
        match self.first.take() {
            Some(batch) => Ok(Some(batch)),
            None => self.input.next().await,
        }
    }

    /// Awaits `other`, and reads the first rows meanwhile: inputs on different nodes cost one round trip together, however
    /// many they are. Statements that write or lock read one input after the other, so that they act in an order.
    pub(crate) async fn beside<T>(
        &mut self,
        ctx: Ctx<'_>,
        other: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if !ctx.stmt.planned.is_read_only {
            return other.await;
        }
        let read = async {
            self.first = self.input.next().await?;
            Ok(())
        };
        let ((), answer) = futures::future::try_join(read, other).await?;
        Ok(answer)
    }
}

/// All rows of an operator, within the statement's memory.
pub(crate) async fn collect(
    mut input: BoxOperator<'_>,
    memory: &mut crate::memory::Reservation,
    ctx: Ctx<'_>,
) -> Result<Vec<Batch>> {
    let mut out = Vec::new();
    while let Some(batch) = input.next().await? {
        ctx.stmt.checkpoint().await?;
        memory.grow(batch.heap_size())?;
        out.push(batch);
    }
    Ok(out)
}

/// Batches of the same types as one.
pub(crate) fn concat(batches: Vec<Batch>) -> Option<Batch> {
    let mut batches = batches.into_iter();
    let mut out = batches.next()?;
    for b in batches {
        out.append(&b);
    }
    Some(out)
}

/// Hands out a large batch in pieces.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    batch: Batch,
    next: usize,
}

impl Pieces {
    /// Pieces of a batch.
    pub(crate) fn of(batch: Batch) -> Self {
        Pieces { batch, next: 0 }
    }

    /// The next piece.
    pub(crate) fn next(&mut self) -> Option<Batch> {
        let from = self.next;
        let to = (from + BATCH_ROWS).min(self.batch.len());
        if from == to {
            return None;
        }
        self.next = to;
        if from == 0 && to == self.batch.len() {
            self.next = 0;
            return Some(std::mem::take(&mut self.batch));
        }
        Some(self.batch.slice(from..to))
    }
}
