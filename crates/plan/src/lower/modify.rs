//! Writes.

use meridian_catalog::TableRef;
use meridian_datum::Result;

use super::{Ask, Lowered, Lowerer, arrange, plan};
use crate::expr::Expr;
use crate::logical::{ColId, ColSet, LogicalAction, LogicalConflict, LogicalModify, Rel};
use crate::modify::{Check, ConflictAction, InsertSource, Modify, ModifyAction, OnConflict};
use crate::physical::{Operator, Plan};

impl Lowerer<'_> {
    pub(super) fn modify(&mut self, m: &LogicalModify) -> Result<Lowered> {
        let mut checks = Vec::with_capacity(m.checks.len());
        for (name, c) in &m.checks {
            checks.push(Check { name: name.clone(), condition: self.expr(c, &m.new_cols)? });
        }
        // RETURNING sees the new row and what the input has besides the old one.
        let mut visible = m.new_cols.clone();
        let mut rows = 1.0;
        let action = match &m.action {
            LogicalAction::Insert { input, row, on_conflict } => {
                let source = self.insert_source(input, row)?;
                if let InsertSource::Query { input, .. } = &source {
                    rows = input.rows;
                }
                let on_conflict = on_conflict.as_ref().map(|c| self.conflict(c)).transpose()?;
                ModifyAction::Insert { source, on_conflict }
            }
            LogicalAction::Update { input, old_cols, assignments } => {
                let mut extra = self.extra_cols(m, input, old_cols);
                let mut used = ColSet::new();
                assignments.iter().for_each(|(_, e)| e.collect_cols(&mut used));
                add_used(input, old_cols, &used, &mut extra);
                let input = self.write_input(input, old_cols, &extra)?;
                rows = input.rows;
                let cols: Vec<ColId> = old_cols.iter().chain(&extra).copied().collect();
                let mut out = Vec::with_capacity(assignments.len());
                for (o, e) in assignments {
                    out.push((*o, self.expr(e, &cols)?));
                }
                visible.extend(&extra);
                ModifyAction::Update { input, assignments: out }
            }
            LogicalAction::Delete { input, old_cols } => {
                let extra = self.extra_cols(m, input, old_cols);
                let input = self.write_input(input, old_cols, &extra)?;
                rows = input.rows;
                visible.extend(&extra);
                ModifyAction::Delete { input }
            }
        };
        let returning = match &m.returning {
            Some(r) => Some(r.iter().map(|(_, e)| self.expr(e, &visible)).collect::<Result<Vec<_>>>()?),
            None => None,
        };
        let types = returning.iter().flatten().map(Expr::ty).collect();
        let cols = m.returning.iter().flatten().map(|(c, _)| *c).collect();
        let node = Modify {
            table: m.table.clone(),
            action,
            checks,
            returning,
            parent: self.parent_of(&m.table),
            children: self.snapshot.children(m.table.id).cloned().collect(),
        };
        Ok(Lowered { plan: plan(Operator::Modify(Box::new(node)), types, rows), cols, ordered: false })
    }

    fn parent_of(&self, table: &TableRef) -> Option<TableRef> {
        table.interleave.and_then(|i| self.snapshot.table(i.parent).cloned())
    }

    fn insert_source(&mut self, input: &Rel, row: &[Expr]) -> Result<InsertSource> {
        if let Rel::Values { cols, rows } = input {
            let mut out = Vec::with_capacity(rows.len());
            for values in rows {
                let mut full = Vec::with_capacity(row.len());
                for e in row {
                    // A column of the list, or an expression of its own (a default).
                    full.push(match e {
                        Expr::Column { index, .. } if cols.contains(index) => {
                            let at = super::position(cols, *index).expect("found just above");
                            self.expr(&values[at], &[])?
                        }
                        other => self.expr(other, &[])?,
                    });
                }
                out.push(full);
            }
            return Ok(InsertSource::Rows(out));
        }
        let mut needed = ColSet::new();
        row.iter().for_each(|e| e.collect_cols(&mut needed));
        let lowered = self.rel(input, Ask::columns(needed))?;
        let row = self.exprs(row, &lowered.cols)?;
        Ok(InsertSource::Query { input: lowered.plan, row })
    }

    fn conflict(&mut self, c: &LogicalConflict) -> Result<OnConflict> {
        let action = match &c.update {
            None => ConflictAction::Nothing,
            Some(u) => {
                let cols: Vec<ColId> = u.old_cols.iter().chain(&u.excluded_cols).copied().collect();
                let mut assignments = Vec::with_capacity(u.assignments.len());
                for (o, e) in &u.assignments {
                    assignments.push((*o, self.expr(e, &cols)?));
                }
                let filter = u.filter.as_ref().map(|f| self.expr(f, &cols)).transpose()?;
                ConflictAction::Update { assignments, filter }
            }
        };
        Ok(OnConflict { arbiters: c.arbiters.clone(), action })
    }

    /// Columns of other tables that RETURNING reads.
    fn extra_cols(&self, m: &LogicalModify, input: &Rel, old_cols: &[ColId]) -> Vec<ColId> {
        let mut used = ColSet::new();
        m.returning.iter().flatten().for_each(|(_, e)| e.collect_cols(&mut used));
        let mut extra = Vec::new();
        add_used(input, old_cols, &used, &mut extra);
        extra
    }

    /// The rows to change: all columns of the table, then the others.
    fn write_input(&mut self, input: &Rel, old_cols: &[ColId], extra: &[ColId]) -> Result<Plan> {
        let cols: Vec<ColId> = old_cols.iter().chain(extra).copied().collect();
        let lowered = self.rel(input, Ask::columns(ColSet::from_cols(cols.iter().copied())))?;
        arrange(lowered, &cols)
    }
}

fn add_used(input: &Rel, old_cols: &[ColId], used: &ColSet, extra: &mut Vec<ColId>) {
    for c in input.cols() {
        if used.contains(c) && !old_cols.contains(&c) && !extra.contains(&c) {
            extra.push(c);
        }
    }
}
