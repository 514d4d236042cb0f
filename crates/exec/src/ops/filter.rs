//! Filter, Project and Limit.

use async_trait::async_trait;
use meridian_datum::{Batch, Result, SqlError, SqlState};
use meridian_plan::Expr;

use super::{BoxOperator, Operator};
use crate::context::Ctx;

/// Keeps the rows for which a condition is true.
pub(super) struct FilterOp<'a> {
    input: BoxOperator<'a>,
    ctx: Ctx<'a>,
    condition: &'a Expr,
}

impl<'a> FilterOp<'a> {
    pub(super) fn new(input: BoxOperator<'a>, ctx: Ctx<'a>, condition: &'a Expr) -> Self {
        FilterOp { input, ctx, condition }
    }
}

/// The rows of a batch for which a condition is true.
pub(crate) async fn keep(ctx: Ctx<'_>, condition: &Expr, batch: Batch) -> Result<Batch> {
    let resolved = ctx.resolve([condition], &batch).await?;
    let rows = ctx.scope_with(&resolved).filter(condition, &batch)?;
    Ok(if rows.len() == batch.len() { batch } else { batch.gather(&rows) })
}

#[async_trait]
impl Operator for FilterOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        while let Some(batch) = self.input.next().await? {
            self.ctx.stmt.checkpoint().await?;
            let kept = keep(self.ctx, self.condition, batch).await?;
            if !kept.is_empty() {
                return Ok(Some(kept));
            }
        }
        Ok(None)
    }
}

/// Computes columns.
pub(super) struct ProjectOp<'a> {
    input: BoxOperator<'a>,
    ctx: Ctx<'a>,
    exprs: &'a [Expr],
}

impl<'a> ProjectOp<'a> {
    pub(super) fn new(input: BoxOperator<'a>, ctx: Ctx<'a>, exprs: &'a [Expr]) -> Self {
        ProjectOp { input, ctx, exprs }
    }
}

/// The columns of expressions over a batch.
pub(crate) async fn project(ctx: Ctx<'_>, exprs: &[Expr], batch: &Batch) -> Result<Batch> {
    let resolved = ctx.resolve(exprs, batch).await?;
    let scope = ctx.scope_with(&resolved);
    let columns = exprs.iter().map(|e| scope.column(e, batch)).collect::<Result<Vec<_>>>()?;
    Ok(Batch::new(columns, batch.len()))
}

#[async_trait]
impl Operator for ProjectOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        match self.input.next().await? {
            None => Ok(None),
            Some(batch) => Ok(Some(project(self.ctx, self.exprs, &batch).await?)),
        }
    }
}

/// The value of LIMIT; `None` is no limit.
pub(super) async fn limit_value(ctx: Ctx<'_>, e: Option<&Expr>) -> Result<Option<u64>> {
    let Some(e) = e else { return Ok(None) };
    let Some(n) = ctx.constant(e).await?.as_int() else { return Ok(None) };
    u64::try_from(n)
        .map(Some)
        .map_err(|_| SqlError::new(SqlState::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE, "LIMIT must not be negative"))
}

/// The value of OFFSET.
pub(super) async fn offset_value(ctx: Ctx<'_>, e: Option<&Expr>) -> Result<u64> {
    let Some(e) = e else { return Ok(0) };
    let n = ctx.constant(e).await?.as_int().unwrap_or(0);
    u64::try_from(n).map_err(|_| {
        SqlError::new(SqlState::INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE, "OFFSET must not be negative")
    })
}

/// LIMIT and OFFSET.
pub(super) struct LimitOp<'a> {
    input: BoxOperator<'a>,
    ctx: Ctx<'a>,
    limit: Option<&'a Expr>,
    offset: Option<&'a Expr>,
    /// Rows still to drop and to pass, once evaluated.
    left: Option<(u64, u64)>,
}

impl<'a> LimitOp<'a> {
    pub(super) fn new(
        ctx: Ctx<'a>,
        input: BoxOperator<'a>,
        limit: Option<&'a Expr>,
        offset: Option<&'a Expr>,
    ) -> Self {
        LimitOp { input, ctx, limit, offset, left: None }
    }
}

#[async_trait]
impl Operator for LimitOp<'_> {
    async fn next(&mut self) -> Result<Option<Batch>> {
        let (mut skip, mut pass) = match self.left {
            Some(left) => left,
            None => {
                let pass = limit_value(self.ctx, self.limit).await?.unwrap_or(u64::MAX);
                (offset_value(self.ctx, self.offset).await?, pass)
            }
        };
        let mut out = None;
        while pass > 0 {
            let Some(batch) = self.input.next().await? else { break };
            let from = skip.min(batch.len() as u64);
            let to = (from + pass.min(u64::MAX - from)).min(batch.len() as u64);
            skip -= from;
            if from == to {
                continue;
            }
            pass -= to - from;
            let whole = from == 0 && to == batch.len() as u64;
            out = Some(if whole { batch } else { batch.slice(from as usize..to as usize) });
            break;
        }
        self.left = Some((skip, if out.is_none() { 0 } else { pass }));
        Ok(out)
    }
}
