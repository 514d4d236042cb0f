//! Expressions over positions; subqueries planned.

use std::sync::Arc;

use meridian_datum::{DataType, Result};

use super::{Ask, Lowerer, arrange, lost_column, position};
use crate::expr::{Expr, Subquery, SubqueryComparison, SubqueryKind};
use crate::logical::{ColId, ColSet, Unplanned, UnplannedKind};

impl Lowerer<'_> {
    /// The expression over rows of these columns. What is not among them comes from an enclosing row.
    pub(super) fn expr(&mut self, e: &Expr, cols: &[ColId]) -> Result<Expr> {
        let mut copy = e.clone();
        self.place(&mut copy, cols)?;
        Ok(copy)
    }

    /// Turns identities into positions, in place: a copy at each level would cost the square of the depth.
    fn place(&mut self, e: &mut Expr, cols: &[ColId]) -> Result<()> {
        match e {
            Expr::Column { index, ty } => *e = self.column(*index, ty, cols)?,
            Expr::Unplanned(u) => *e = self.subquery(u, cols)?,
            _ => {
                let mut outcome = Ok(());
                e.for_each_child_mut(&mut |c| {
                    if outcome.is_ok() {
                        outcome = self.place(c, cols);
                    }
                });
                outcome?;
            }
        }
        Ok(())
    }

    pub(super) fn exprs(&mut self, list: &[Expr], cols: &[ColId]) -> Result<Vec<Expr>> {
        list.iter().map(|e| self.expr(e, cols)).collect()
    }

    /// The conjunction of conditions; `None` when there are none.
    pub(super) fn conjunction(&mut self, conds: &[Expr], cols: &[ColId]) -> Result<Option<Expr>> {
        if conds.is_empty() {
            return Ok(None);
        }
        let parts = self.exprs(conds, cols)?;
        Ok(Some(crate::bind::conjunction(parts)))
    }

    fn column(&mut self, c: ColId, ty: &DataType, cols: &[ColId]) -> Result<Expr> {
        if let Some(i) = position(cols, c) {
            return Ok(Expr::column(i, ty.clone()));
        }
        let frame = self.frames.last_mut().ok_or_else(|| lost_column(c))?;
        let index = match frame.iter().position(|(k, _)| *k == c) {
            Some(i) => i,
            None => {
                frame.push((c, ty.clone()));
                frame.len() - 1
            }
        };
        Ok(Expr::Outer { index, ty: ty.clone() })
    }

    /// The arguments of a frame that is done, as expressions over the enclosing row.
    pub(super) fn frame_args(&mut self, frame: Vec<(ColId, DataType)>, cols: &[ColId]) -> Result<Vec<Expr>> {
        frame.into_iter().map(|(c, ty)| self.column(c, &ty, cols)).collect()
    }

    fn subquery(&mut self, u: &Unplanned, cols: &[ColId]) -> Result<Expr> {
        let rel = crate::optimize::optimize(u.rel.clone(), self.snapshot);
        let exists = u.kind == UnplannedKind::Exists;
        let wanted: &[ColId] = if exists { &[] } else { &u.cols };
        self.frames.push(Vec::new());
        let mut ask = Ask::columns(ColSet::from_cols(wanted.iter().copied()));
        if exists {
            ask.limit = Some(Expr::Const(meridian_datum::Datum::Int(1), DataType::Int8));
        }
        let lowered = self.rel(&rel, ask);
        let frame = self.frames.pop().expect("pushed above");
        let lowered = lowered?;
        let plan = Arc::new(if exists { lowered.plan } else { arrange(lowered, wanted)? });
        let args = self.frame_args(frame, cols)?;
        let kind = match u.kind {
            UnplannedKind::Scalar => SubqueryKind::Scalar,
            UnplannedKind::Exists => SubqueryKind::Exists,
            UnplannedKind::Array => SubqueryKind::Array,
            UnplannedKind::Any => SubqueryKind::Any(self.comparison(u, cols)?),
            UnplannedKind::All => SubqueryKind::All(self.comparison(u, cols)?),
        };
        Ok(Expr::Subquery(Box::new(Subquery { kind, plan, args, ty: u.ty.clone() })))
    }

    fn comparison(&mut self, u: &Unplanned, cols: &[ColId]) -> Result<SubqueryComparison> {
        let left = self.exprs(&u.left, cols)?;
        let both: Vec<ColId> = u.left_cols.iter().chain(&u.cols).copied().collect();
        let condition = u.condition.as_ref().expect("ANY and ALL have a comparison");
        let condition = self.expr(condition, &both)?;
        Ok(SubqueryComparison { left, condition, is_equality: u.is_equality })
    }
}

impl Lowerer<'_> {
    /// An expression over a row of these columns alone.
    pub(crate) fn expr_over(&mut self, e: &Expr, cols: &[ColId]) -> Result<Expr> {
        self.expr(e, cols)
    }

    /// An expression over no row.
    pub(crate) fn expr_alone(&mut self, e: &Expr) -> Result<Expr> {
        self.expr(e, &[])
    }
}
