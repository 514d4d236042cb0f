//! Logical plans: what the binder makes and the optimizer turns.
//!
//! Columns have identities ([`ColId`]) that are unique within a statement, so that operators can be moved about without
//! renumbering. A column that a subquery mentions and does not produce is free in it: that is all there is to
//! correlation. [`crate::lower`] turns identities into positions and free columns into arguments.

use std::collections::HashMap;
use std::sync::Arc;

use meridian_catalog::{IndexId, TableRef, VirtualTable};
use meridian_datum::DataType;
use meridian_kv_api::Locking;

use crate::expr::Expr;
use crate::physical::{AggregateCall, JoinKind, SetFunction, SetOpKind, WindowCall};

/// The identity of a column within a statement.
pub(crate) type ColId = usize;

/// A relational operator.
#[derive(Clone, Debug)]
pub(crate) enum Rel {
    /// A table's rows; `cols` has one identity per column of the table.
    Get(Box<Get>),
    /// A virtual table's rows; one identity per column.
    Virtual { table: Arc<VirtualTable>, cols: Vec<ColId> },
    /// Rows of expressions without input.
    Values { cols: Vec<ColId>, rows: Vec<Vec<Expr>> },
    /// A set-returning function.
    Function { function: SetFunction, args: Vec<Expr>, ordinality: bool, cols: Vec<ColId> },
    /// A common table expression that is run once.
    Cte { index: usize, cols: Vec<ColId>, types: Vec<DataType> },
    /// A recursive query: rows of `base`, and of `step` run over the rows that were new the last time, until there are none.
    Recursive(Box<LogicalRecursive>),
    /// Inside of `step`: those rows.
    Work { index: usize, cols: Vec<ColId>, types: Vec<DataType> },
    /// Rows for which all conditions are true.
    Filter { input: Box<Rel>, conds: Vec<Expr> },
    /// Exactly these columns.
    Project { input: Box<Rel>, exprs: Vec<(ColId, Expr)> },
    /// A join; `on` is a conjunction.
    Join { kind: JoinKind, left: Box<Rel>, right: Box<Rel>, on: Vec<Expr>, lateral: bool },
    /// Groups: keys, then aggregates.
    Aggregate(Box<LogicalAggregate>),
    /// The input's columns, then the functions'.
    Window { input: Box<Rel>, partition: Vec<ColId>, order: Vec<Order>, functions: Vec<(ColId, WindowCall)> },
    /// Distinct rows.
    Distinct { input: Box<Rel> },
    /// The first row of each group of equal keys.
    DistinctOn { input: Box<Rel>, keys: Vec<ColId>, order: Vec<Order> },
    /// Sorted rows.
    Sort { input: Box<Rel>, keys: Vec<Order> },
    /// LIMIT and OFFSET.
    Limit { input: Box<Rel>, limit: Option<Expr>, offset: Option<Expr> },
    /// UNION, INTERSECT, EXCEPT; the inputs' columns are listed in the order of `cols`.
    SetOp(Box<LogicalSetOp>),
    /// A write.
    Modify(Box<LogicalModify>),
}

/// A table in FROM, or the target of a write.
#[derive(Clone, Debug)]
pub(crate) struct Get {
    pub(crate) table: TableRef,
    pub(crate) cols: Vec<ColId>,
    /// Identities of the indexes' expressions. Only lowering speaks of them: no operator above asks for one.
    pub(crate) virtuals: Vec<ColId>,
    pub(crate) locking: Locking,
    pub(crate) for_update: bool,
}

impl Get {
    /// The identity of a column or of an index's expression, by ordinal.
    pub(crate) fn col(&self, ordinal: usize) -> ColId {
        match ordinal.checked_sub(self.cols.len()) {
            None => self.cols[ordinal],
            Some(at) => self.virtuals[at],
        }
    }

    /// The ordinal of an identity.
    pub(crate) fn ordinal(&self, col: ColId) -> Option<usize> {
        self.cols.iter().chain(&self.virtuals).position(|c| *c == col)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct LogicalAggregate {
    pub(crate) input: Rel,
    pub(crate) keys: Vec<(ColId, Expr)>,
    pub(crate) sets: Option<Vec<Vec<usize>>>,
    pub(crate) aggs: Vec<(ColId, AggregateCall)>,
}

#[derive(Clone, Debug)]
pub(crate) struct LogicalSetOp {
    pub(crate) kind: SetOpKind,
    pub(crate) all: bool,
    pub(crate) left: Rel,
    pub(crate) right: Rel,
    pub(crate) left_cols: Vec<ColId>,
    pub(crate) right_cols: Vec<ColId>,
    pub(crate) cols: Vec<ColId>,
}

/// A recursive query; the inputs' columns are listed in the order of `cols`.
#[derive(Clone, Debug)]
pub(crate) struct LogicalRecursive {
    /// What [`Rel::Work`] calls it.
    pub(crate) index: usize,
    /// `UNION ALL`; otherwise a row that was there before is not new.
    pub(crate) all: bool,
    pub(crate) base: Rel,
    pub(crate) step: Rel,
    pub(crate) base_cols: Vec<ColId>,
    pub(crate) step_cols: Vec<ColId>,
    pub(crate) cols: Vec<ColId>,
    pub(crate) types: Vec<DataType>,
}

/// One key of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    pub(crate) col: ColId,
    pub(crate) descending: bool,
    pub(crate) nulls_first: bool,
}

/// A write, with the identities under which its expressions see rows.
#[derive(Clone, Debug)]
pub(crate) struct LogicalModify {
    pub(crate) table: TableRef,
    pub(crate) action: LogicalAction,
    /// The row as it will be (for DELETE, as it was).
    pub(crate) new_cols: Vec<ColId>,
    pub(crate) checks: Vec<(String, Expr)>,
    /// Output columns.
    pub(crate) returning: Option<Vec<(ColId, Expr)>>,
}

#[derive(Clone, Debug)]
pub(crate) enum LogicalAction {
    Insert {
        input: Rel,
        /// One expression per column of the table, over the input.
        row: Vec<Expr>,
        on_conflict: Option<LogicalConflict>,
    },
    Update {
        input: Rel,
        /// The old row's identities in the input.
        old_cols: Vec<ColId>,
        assignments: Vec<(usize, Expr)>,
    },
    Delete {
        input: Rel,
        old_cols: Vec<ColId>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct LogicalConflict {
    pub(crate) arbiters: Option<Vec<IndexId>>,
    /// DO UPDATE.
    pub(crate) update: Option<LogicalConflictUpdate>,
}

#[derive(Clone, Debug)]
pub(crate) struct LogicalConflictUpdate {
    pub(crate) old_cols: Vec<ColId>,
    pub(crate) excluded_cols: Vec<ColId>,
    pub(crate) assignments: Vec<(usize, Expr)>,
    pub(crate) filter: Option<Expr>,
}

/// A subquery that is not planned yet.
#[derive(Clone, Debug)]
pub struct Unplanned {
    pub(crate) kind: UnplannedKind,
    pub(crate) rel: Rel,
    /// The columns of the result, in order.
    pub(crate) cols: Vec<ColId>,
    /// The left side of ANY and ALL.
    pub(crate) left: Vec<Expr>,
    /// The identities under which `condition` sees the left side.
    pub(crate) left_cols: Vec<ColId>,
    /// The comparison of ANY and ALL.
    pub(crate) condition: Option<Expr>,
    /// `condition` is equality, column by column, of equal types.
    pub(crate) is_equality: bool,
    pub(crate) ty: DataType,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UnplannedKind {
    Scalar,
    Exists,
    Any,
    All,
    Array,
}

/// A set of columns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ColSet(Vec<u64>);

impl ColSet {
    pub(crate) fn new() -> Self {
        ColSet(Vec::new())
    }

    pub(crate) fn from_cols(cols: impl IntoIterator<Item = ColId>) -> Self {
        let mut s = ColSet::new();
        s.extend(cols);
        s
    }

    pub(crate) fn insert(&mut self, c: ColId) {
        let word = c / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (c % 64);
    }

    pub(crate) fn extend(&mut self, cols: impl IntoIterator<Item = ColId>) {
        for c in cols {
            self.insert(c);
        }
    }

    pub(crate) fn contains(&self, c: ColId) -> bool {
        self.0.get(c / 64).is_some_and(|w| w & (1 << (c % 64)) != 0)
    }

    pub(crate) fn union(&mut self, other: &ColSet) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }

    pub(crate) fn is_subset(&self, other: &ColSet) -> bool {
        self.0.iter().enumerate().all(|(i, w)| w & !other.0.get(i).copied().unwrap_or(0) == 0)
    }

    pub(crate) fn intersects(&self, other: &ColSet) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = ColId> + '_ {
        self.0
            .iter()
            .enumerate()
            .flat_map(|(i, w)| (0..64).filter(move |b| w & (1 << b) != 0).map(move |b| i * 64 + b))
    }
}

impl Expr {
    /// Adds the columns that the expression reads, with those that are free in its subqueries.
    pub(crate) fn collect_cols(&self, out: &mut ColSet) {
        match self {
            Expr::Column { index, .. } => out.insert(*index),
            Expr::Unplanned(u) => {
                u.left.iter().for_each(|e| e.collect_cols(out));
                let mut free = u.rel.free_cols();
                if let Some(c) = &u.condition {
                    let mut in_condition = ColSet::new();
                    c.collect_cols(&mut in_condition);
                    let own = ColSet::from_cols(u.left_cols.iter().chain(&u.cols).copied());
                    for c in in_condition.iter().filter(|c| !own.contains(*c)) {
                        free.insert(c);
                    }
                }
                out.union(&free);
            }
            _ => self.for_each_child(&mut |c| c.collect_cols(out)),
        }
    }

    /// The columns that the expression reads.
    pub(crate) fn cols(&self) -> ColSet {
        let mut s = ColSet::new();
        self.collect_cols(&mut s);
        s
    }

    /// Replaces columns, in subqueries too.
    pub(crate) fn substitute(&mut self, map: &HashMap<ColId, Expr>) {
        match self {
            Expr::Column { index, .. } => {
                if let Some(e) = map.get(index) {
                    *self = e.clone();
                }
            }
            Expr::Unplanned(u) => {
                u.left.iter_mut().for_each(|e| e.substitute(map));
                if let Some(c) = &mut u.condition {
                    c.substitute(map);
                }
                u.rel.for_each_expr_mut(&mut |e| e.substitute(map));
            }
            _ => self.for_each_child_mut(&mut |c| c.substitute(map)),
        }
    }
}

impl Rel {
    /// One row without columns: SELECT without FROM.
    pub(crate) fn single_row() -> Rel {
        Rel::Values { cols: Vec::new(), rows: vec![Vec::new()] }
    }

    pub(crate) fn filter(self, conds: Vec<Expr>) -> Rel {
        if conds.is_empty() { self } else { Rel::Filter { input: Box::new(self), conds } }
    }

    /// The output columns, in order.
    pub(crate) fn cols(&self) -> Vec<ColId> {
        match self {
            Rel::Get(g) => g.cols.clone(),
            Rel::Virtual { cols, .. }
            | Rel::Values { cols, .. }
            | Rel::Function { cols, .. }
            | Rel::Cte { cols, .. }
            | Rel::Work { cols, .. } => cols.clone(),
            Rel::Recursive(r) => r.cols.clone(),
            Rel::Filter { input, .. }
            | Rel::Distinct { input }
            | Rel::DistinctOn { input, .. }
            | Rel::Sort { input, .. }
            | Rel::Limit { input, .. } => input.cols(),
            Rel::Project { exprs, .. } => exprs.iter().map(|(c, _)| *c).collect(),
            Rel::Join { kind, left, right, .. } => {
                let mut cols = left.cols();
                if kind.emits_right() {
                    cols.extend(right.cols());
                }
                cols
            }
            Rel::Aggregate(a) => {
                a.keys.iter().map(|(c, _)| *c).chain(a.aggs.iter().map(|(c, _)| *c)).collect()
            }
            Rel::Window { input, functions, .. } => {
                let mut cols = input.cols();
                cols.extend(functions.iter().map(|(c, _)| *c));
                cols
            }
            Rel::SetOp(s) => s.cols.clone(),
            Rel::Modify(m) => m.returning.iter().flatten().map(|(c, _)| *c).collect(),
        }
    }

    /// The output columns as a set.
    pub(crate) fn col_set(&self) -> ColSet {
        ColSet::from_cols(self.cols())
    }

    /// Calls `f` with the direct inputs.
    pub(crate) fn for_each_input<'a>(&'a self, f: &mut dyn FnMut(&'a Rel)) {
        match self {
            Rel::Get(_)
            | Rel::Virtual { .. }
            | Rel::Values { .. }
            | Rel::Function { .. }
            | Rel::Cte { .. }
            | Rel::Work { .. } => {}
            Rel::Filter { input, .. }
            | Rel::Project { input, .. }
            | Rel::Window { input, .. }
            | Rel::Distinct { input }
            | Rel::DistinctOn { input, .. }
            | Rel::Sort { input, .. }
            | Rel::Limit { input, .. } => f(input),
            Rel::Join { left, right, .. } => {
                f(left);
                f(right);
            }
            Rel::Aggregate(a) => f(&a.input),
            Rel::SetOp(s) => {
                f(&s.left);
                f(&s.right);
            }
            Rel::Recursive(r) => {
                f(&r.base);
                f(&r.step);
            }
            Rel::Modify(m) => match &m.action {
                LogicalAction::Insert { input, .. }
                | LogicalAction::Update { input, .. }
                | LogicalAction::Delete { input, .. } => f(input),
            },
        }
    }

    /// Calls `f` with the direct inputs, mutably.
    pub(crate) fn for_each_input_mut(&mut self, f: &mut dyn FnMut(&mut Rel)) {
        match self {
            Rel::Get(_)
            | Rel::Virtual { .. }
            | Rel::Values { .. }
            | Rel::Function { .. }
            | Rel::Cte { .. }
            | Rel::Work { .. } => {}
            Rel::Filter { input, .. }
            | Rel::Project { input, .. }
            | Rel::Window { input, .. }
            | Rel::Distinct { input }
            | Rel::DistinctOn { input, .. }
            | Rel::Sort { input, .. }
            | Rel::Limit { input, .. } => f(input),
            Rel::Join { left, right, .. } => {
                f(left);
                f(right);
            }
            Rel::Aggregate(a) => f(&mut a.input),
            Rel::SetOp(s) => {
                f(&mut s.left);
                f(&mut s.right);
            }
            Rel::Recursive(r) => {
                f(&mut r.base);
                f(&mut r.step);
            }
            Rel::Modify(m) => match &mut m.action {
                LogicalAction::Insert { input, .. }
                | LogicalAction::Update { input, .. }
                | LogicalAction::Delete { input, .. } => f(input),
            },
        }
    }

    /// Calls `f` with every expression of this operator alone.
    pub(crate) fn for_each_own_expr<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        match self {
            Rel::Get(_)
            | Rel::Virtual { .. }
            | Rel::Cte { .. }
            | Rel::Work { .. }
            | Rel::Recursive(_)
            | Rel::Distinct { .. }
            | Rel::DistinctOn { .. }
            | Rel::Sort { .. }
            | Rel::SetOp(_) => {}
            Rel::Values { rows, .. } => rows.iter().flatten().for_each(f),
            Rel::Function { function, args, .. } => {
                if let SetFunction::Scalar(e) = function {
                    f(e);
                }
                args.iter().for_each(f);
            }
            Rel::Filter { conds, .. } => conds.iter().for_each(f),
            Rel::Project { exprs, .. } => exprs.iter().for_each(|(_, e)| f(e)),
            Rel::Join { on, .. } => on.iter().for_each(f),
            Rel::Aggregate(a) => {
                a.keys.iter().for_each(|(_, e)| f(e));
                for (_, c) in &a.aggs {
                    c.args.iter().for_each(&mut *f);
                    c.order_args.iter().for_each(&mut *f);
                    c.filter.iter().for_each(&mut *f);
                }
            }
            Rel::Window { functions, .. } => {
                for (_, w) in functions {
                    w.args.iter().for_each(&mut *f);
                    w.filter.iter().for_each(&mut *f);
                }
            }
            Rel::Limit { limit, offset, .. } => {
                limit.iter().for_each(&mut *f);
                offset.iter().for_each(f);
            }
            Rel::Modify(m) => {
                m.checks.iter().for_each(|(_, e)| f(e));
                m.returning.iter().flatten().for_each(|(_, e)| f(e));
                match &m.action {
                    LogicalAction::Insert { row, on_conflict, .. } => {
                        row.iter().for_each(&mut *f);
                        if let Some(u) = on_conflict.as_ref().and_then(|c| c.update.as_ref()) {
                            u.assignments.iter().for_each(|(_, e)| f(e));
                            u.filter.iter().for_each(f);
                        }
                    }
                    LogicalAction::Update { assignments, .. } => assignments.iter().for_each(|(_, e)| f(e)),
                    LogicalAction::Delete { .. } => {}
                }
            }
        }
    }

    fn for_each_own_expr_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        match self {
            Rel::Get(_)
            | Rel::Virtual { .. }
            | Rel::Cte { .. }
            | Rel::Work { .. }
            | Rel::Recursive(_)
            | Rel::Distinct { .. }
            | Rel::DistinctOn { .. }
            | Rel::Sort { .. }
            | Rel::SetOp(_) => {}
            Rel::Values { rows, .. } => rows.iter_mut().flatten().for_each(f),
            Rel::Function { function, args, .. } => {
                if let SetFunction::Scalar(e) = function {
                    f(e);
                }
                args.iter_mut().for_each(f);
            }
            Rel::Filter { conds, .. } => conds.iter_mut().for_each(f),
            Rel::Project { exprs, .. } => exprs.iter_mut().for_each(|(_, e)| f(e)),
            Rel::Join { on, .. } => on.iter_mut().for_each(f),
            Rel::Aggregate(a) => {
                a.keys.iter_mut().for_each(|(_, e)| f(e));
                for (_, c) in &mut a.aggs {
                    c.args.iter_mut().for_each(&mut *f);
                    c.order_args.iter_mut().for_each(&mut *f);
                    c.filter.iter_mut().for_each(&mut *f);
                }
            }
            Rel::Window { functions, .. } => {
                for (_, w) in functions {
                    w.args.iter_mut().for_each(&mut *f);
                    w.filter.iter_mut().for_each(&mut *f);
                }
            }
            Rel::Limit { limit, offset, .. } => {
                limit.iter_mut().for_each(&mut *f);
                offset.iter_mut().for_each(f);
            }
            Rel::Modify(m) => {
                m.checks.iter_mut().for_each(|(_, e)| f(e));
                m.returning.iter_mut().flatten().for_each(|(_, e)| f(e));
                match &mut m.action {
                    LogicalAction::Insert { row, on_conflict, .. } => {
                        row.iter_mut().for_each(&mut *f);
                        if let Some(u) = on_conflict.as_mut().and_then(|c| c.update.as_mut()) {
                            u.assignments.iter_mut().for_each(|(_, e)| f(e));
                            u.filter.iter_mut().for_each(f);
                        }
                    }
                    LogicalAction::Update { assignments, .. } => {
                        assignments.iter_mut().for_each(|(_, e)| f(e))
                    }
                    LogicalAction::Delete { .. } => {}
                }
            }
        }
    }

    /// Calls `f` with every expression of the whole tree.
    pub(crate) fn for_each_expr_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        self.for_each_own_expr_mut(f);
        self.for_each_input_mut(&mut |r| r.for_each_expr_mut(f));
    }

    /// Calls `f` with every expression of the whole tree.
    pub(crate) fn for_each_expr<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        self.for_each_own_expr(f);
        self.for_each_input(&mut |r| r.for_each_expr(f));
    }

    /// The columns that the tree reads and does not produce.
    pub(crate) fn free_cols(&self) -> ColSet {
        let mut used = ColSet::new();
        let mut made = ColSet::new();
        self.gather(&mut used, &mut made);
        let mut free = ColSet::new();
        free.extend(used.iter().filter(|c| !made.contains(*c)));
        free
    }

    fn gather(&self, used: &mut ColSet, made: &mut ColSet) {
        self.for_each_own_expr(&mut |e| e.collect_cols(used));
        made.extend(self.cols());
        if let Rel::Modify(m) = self {
            made.extend(m.new_cols.iter().copied());
            if let LogicalAction::Insert {
                on_conflict: Some(LogicalConflict { update: Some(u), .. }), ..
            } = &m.action
            {
                made.extend(u.old_cols.iter().chain(&u.excluded_cols).copied());
            }
        }
        self.for_each_input(&mut |r| r.gather(used, made));
    }

    /// Whether there is a write in the tree.
    pub(crate) fn has_modify(&self) -> bool {
        if matches!(self, Rel::Modify(_)) {
            return true;
        }
        let mut found = false;
        self.for_each_input(&mut |r| found = found || r.has_modify());
        found
    }
}

impl Rel {
    /// Every column that the tree makes, also those that it does not put out.
    pub(crate) fn all_cols(&self) -> ColSet {
        let mut used = ColSet::new();
        let mut made = ColSet::new();
        self.gather(&mut used, &mut made);
        made
    }
}

/// Renaming, for copies of a tree.
impl Rel {
    /// Every column that the tree makes, those of subqueries in its expressions included.
    pub(crate) fn deep_cols(&self) -> ColSet {
        let mut out = self.all_cols();
        fn in_expr(e: &Expr, out: &mut ColSet) {
            if let Expr::Unplanned(u) = e {
                out.union(&u.rel.deep_cols());
                out.extend(u.left_cols.iter().copied());
            }
            e.for_each_child(&mut |c| in_expr(c, out));
        }
        self.for_each_expr(&mut |e| in_expr(e, &mut out));
        out
    }

    /// Gives columns other identities, in expressions and definitions alike.
    pub(crate) fn rename(&mut self, map: &HashMap<ColId, ColId>) {
        fn one(c: &mut ColId, map: &HashMap<ColId, ColId>) {
            if let Some(n) = map.get(c) {
                *c = *n;
            }
        }
        fn many(cols: &mut [ColId], map: &HashMap<ColId, ColId>) {
            cols.iter_mut().for_each(|c| one(c, map));
        }
        fn order(keys: &mut [Order], map: &HashMap<ColId, ColId>) {
            keys.iter_mut().for_each(|k| one(&mut k.col, map));
        }
        match self {
            Rel::Get(g) => many(&mut g.cols, map),
            Rel::Virtual { cols, .. }
            | Rel::Values { cols, .. }
            | Rel::Function { cols, .. }
            | Rel::Cte { cols, .. }
            | Rel::Work { cols, .. } => many(cols, map),
            Rel::Recursive(r) => {
                many(&mut r.cols, map);
                many(&mut r.base_cols, map);
                many(&mut r.step_cols, map);
            }
            Rel::Project { exprs, .. } => exprs.iter_mut().for_each(|(c, _)| one(c, map)),
            Rel::Aggregate(a) => {
                a.keys.iter_mut().for_each(|(c, _)| one(c, map));
                a.aggs.iter_mut().for_each(|(c, _)| one(c, map));
            }
            Rel::Window { partition, order: o, functions, .. } => {
                many(partition, map);
                order(o, map);
                functions.iter_mut().for_each(|(c, _)| one(c, map));
            }
            Rel::DistinctOn { keys, order: o, .. } => {
                many(keys, map);
                order(o, map);
            }
            Rel::Sort { keys, .. } => order(keys, map),
            Rel::SetOp(s) => {
                many(&mut s.cols, map);
                many(&mut s.left_cols, map);
                many(&mut s.right_cols, map);
            }
            Rel::Modify(m) => {
                many(&mut m.new_cols, map);
                m.returning.iter_mut().flatten().for_each(|(c, _)| one(c, map));
                match &mut m.action {
                    LogicalAction::Update { old_cols, .. } | LogicalAction::Delete { old_cols, .. } => {
                        many(old_cols, map);
                    }
                    LogicalAction::Insert { on_conflict, .. } => {
                        if let Some(u) = on_conflict.as_mut().and_then(|c| c.update.as_mut()) {
                            many(&mut u.old_cols, map);
                            many(&mut u.excluded_cols, map);
                        }
                    }
                }
            }
            Rel::Filter { .. } | Rel::Join { .. } | Rel::Distinct { .. } | Rel::Limit { .. } => {}
        }
        self.for_each_own_expr_mut(&mut |e| rename_expr(e, map));
        self.for_each_input_mut(&mut |r| r.rename(map));
    }
}

fn rename_expr(e: &mut Expr, map: &HashMap<ColId, ColId>) {
    match e {
        Expr::Column { index, .. } => {
            if let Some(n) = map.get(index) {
                *index = *n;
            }
        }
        Expr::Unplanned(u) => {
            u.left.iter_mut().for_each(|l| rename_expr(l, map));
            u.condition.iter_mut().for_each(|c| rename_expr(c, map));
            for c in u.cols.iter_mut().chain(&mut u.left_cols) {
                if let Some(n) = map.get(c) {
                    *c = *n;
                }
            }
            u.rel.rename(map);
        }
        _ => e.for_each_child_mut(&mut |c| rename_expr(c, map)),
    }
}

impl Rel {
    /// The output columns with their types.
    pub(crate) fn typed_cols(&self) -> Vec<(ColId, DataType)> {
        match self {
            Rel::Get(g) => g.cols.iter().zip(&g.table.columns).map(|(c, d)| (*c, d.ty.clone())).collect(),
            Rel::Virtual { table, cols } => {
                cols.iter().zip(&table.columns).map(|(c, d)| (*c, d.ty.clone())).collect()
            }
            Rel::Values { cols, rows } => cols
                .iter()
                .enumerate()
                .map(|(i, c)| (*c, rows.first().map_or(DataType::Text, |r| r[i].ty())))
                .collect(),
            Rel::Function { function, args, ordinality, cols } => {
                let mut types = function.output_types(args);
                if *ordinality {
                    types.push(DataType::Int8);
                }
                cols.iter().copied().zip(types).collect()
            }
            Rel::Cte { cols, types, .. } | Rel::Work { cols, types, .. } => {
                cols.iter().copied().zip(types.iter().cloned()).collect()
            }
            Rel::Recursive(r) => r.cols.iter().copied().zip(r.types.iter().cloned()).collect(),
            Rel::Filter { input, .. }
            | Rel::Distinct { input }
            | Rel::DistinctOn { input, .. }
            | Rel::Sort { input, .. }
            | Rel::Limit { input, .. } => input.typed_cols(),
            Rel::Project { exprs, .. } => exprs.iter().map(|(c, e)| (*c, e.ty())).collect(),
            Rel::Join { kind, left, right, .. } => {
                let mut cols = left.typed_cols();
                if kind.emits_right() {
                    cols.extend(right.typed_cols());
                }
                cols
            }
            Rel::Aggregate(a) => a
                .keys
                .iter()
                .map(|(c, e)| (*c, e.ty()))
                .chain(a.aggs.iter().map(|(c, g)| (*c, g.function.result_type.clone())))
                .collect(),
            Rel::Window { input, functions, .. } => {
                let mut cols = input.typed_cols();
                cols.extend(functions.iter().map(|(c, f)| (*c, f.ty.clone())));
                cols
            }
            Rel::SetOp(s) => {
                let left: HashMap<ColId, DataType> = s.left.typed_cols().into_iter().collect();
                s.cols
                    .iter()
                    .zip(&s.left_cols)
                    .map(|(c, l)| {
                        (*c, left.get(l).cloned().expect("a set operation names its input's columns"))
                    })
                    .collect()
            }
            Rel::Modify(m) => m.returning.iter().flatten().map(|(c, e)| (*c, e.ty())).collect(),
        }
    }
}
