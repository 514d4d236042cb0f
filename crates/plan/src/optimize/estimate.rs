//! Guesses about numbers of rows.
//!
//! Where ANALYZE has counted, tables have their counts; otherwise a table is taken to be large enough for an index to be
//! worth using. Selectivities are PostgreSQL's defaults for columns without statistics.

use meridian_catalog::{CatalogSnapshot, TableDesc};
use meridian_datum::Datum;

use crate::expr::Expr;
use crate::logical::{ColSet, Get, Rel};
use crate::physical::{JoinKind, SetOpKind};

/// Rows of a table that nobody has counted.
const UNKNOWN_ROWS: f64 = 10_000.0;
/// Equality with a column of unknown distinct values.
const EQUALITY: f64 = 0.005;
/// An inequality.
const RANGE: f64 = 1.0 / 3.0;
/// A pattern.
const PATTERN: f64 = 0.05;

/// Estimates rows of logical plans.
pub(crate) struct Estimator<'a> {
    pub(crate) snapshot: &'a CatalogSnapshot,
}

impl Estimator<'_> {
    /// Rows of a table.
    pub(crate) fn table_rows(&self, table: &TableDesc) -> f64 {
        self.snapshot.statistics(table.id).map_or(UNKNOWN_ROWS, |s| s.rows.max(1.0))
    }

    /// Rows that an operator yields.
    pub(crate) fn rows(&self, rel: &Rel) -> f64 {
        match rel {
            Rel::Get(g) => self.table_rows(&g.table),
            Rel::Virtual { .. } => 100.0,
            Rel::Values { rows, .. } => rows.len() as f64,
            Rel::Function { .. } => 100.0,
            Rel::Cte { .. } => 1_000.0,
            Rel::Work { .. } => 10.0,
            Rel::Recursive(r) => recursive_rows(self.rows(&r.base)),
            Rel::Filter { input, conds } => {
                let base = self.rows(input);
                (base * self.combined(conds, input, base)).max(1.0)
            }
            Rel::Project { input, .. } | Rel::Sort { input, .. } | Rel::Window { input, .. } => {
                self.rows(input)
            }
            Rel::Join { kind, left, right, on, .. } => {
                let (l, r) = (self.rows(left), self.rows(right));
                self.join_rows(*kind, l, r, on, left, right)
            }
            Rel::Aggregate(a) if a.keys.is_empty() => 1.0,
            Rel::Aggregate(a) => (self.rows(&a.input) / 10.0).max(1.0),
            Rel::Distinct { input } | Rel::DistinctOn { input, .. } => (self.rows(input) / 10.0).max(1.0),
            Rel::Limit { input, limit, .. } => {
                let rows = self.rows(input);
                match limit.as_ref().and_then(Expr::as_const) {
                    Some(Datum::Int(n)) => rows.min(*n as f64),
                    _ => rows.min(100.0),
                }
            }
            Rel::SetOp(s) => match s.kind {
                SetOpKind::Union => self.rows(&s.left) + self.rows(&s.right),
                SetOpKind::Intersect => self.rows(&s.left).min(self.rows(&s.right)),
                SetOpKind::Except => self.rows(&s.left),
            },
            Rel::Modify(_) => 1.0,
        }
    }

    /// Rows of a join.
    pub(crate) fn join_rows(
        &self,
        kind: JoinKind,
        l: f64,
        r: f64,
        on: &[Expr],
        left: &Rel,
        right: &Rel,
    ) -> f64 {
        let mut rows = l * r;
        for c in on {
            rows *= match equality_columns(c) {
                Some(_) if self.covers_unique_key(on, left) => 1.0 / l.max(1.0),
                Some(_) if self.covers_unique_key(on, right) => 1.0 / r.max(1.0),
                // The side with more values has each of the other's about once.
                Some(_) => 1.0 / l.max(r).max(1.0),
                None => selectivity(c),
            };
            if equality_columns(c).is_some() && rows <= l.min(r) {
                break;
            }
        }
        match kind {
            JoinKind::Inner => rows.max(1.0),
            JoinKind::Left => rows.max(l),
            JoinKind::Right => rows.max(r),
            JoinKind::Full => rows.max(l + r),
            JoinKind::Semi | JoinKind::Anti | JoinKind::NullAwareAnti => (l * 0.5).max(1.0),
        }
    }

    /// Whether the equalities in `on` fix a whole unique key of the relation.
    pub(crate) fn covers_unique_key(&self, on: &[Expr], rel: &Rel) -> bool {
        let Some(get) = base_table(rel) else { return false };
        let mut fixed = ColSet::new();
        for (a, b) in on.iter().filter_map(equality_columns) {
            fixed.insert(a);
            fixed.insert(b);
        }
        get.table
            .all_indexes()
            .filter(|i| i.unique && i.predicate.is_none())
            .any(|i| get.table.index_ordinals(i).iter().all(|o| fixed.contains(get.col(*o))))
    }

    fn combined(&self, conds: &[Expr], input: &Rel, base: f64) -> f64 {
        if let Rel::Get(g) = input
            && fixes_unique_key(g, conds)
        {
            return 1.0 / base.max(1.0);
        }
        conds.iter().map(selectivity).product()
    }
}

/// Rows of a recursive query, of which nobody knows how often it recurs: ten times, as PostgreSQL has it.
pub(crate) fn recursive_rows(base: f64) -> f64 {
    base * 10.0
}

/// The table under filters.
fn base_table(rel: &Rel) -> Option<&Get> {
    match rel {
        Rel::Get(g) => Some(g),
        Rel::Filter { input, .. } => base_table(input),
        _ => None,
    }
}

fn fixes_unique_key(g: &Get, conds: &[Expr]) -> bool {
    let own = ColSet::from_cols(g.cols.iter().copied());
    let mut fixed = ColSet::new();
    for c in conds {
        if let Expr::Call { function, args } = c
            && function.def.name == "="
            && args.len() == 2
        {
            for (a, b) in [(&args[0], &args[1]), (&args[1], &args[0])] {
                if let Expr::Column { index, .. } = strip_relabel(a)
                    && !b.cols().intersects(&own)
                {
                    fixed.insert(*index);
                }
            }
        }
    }
    g.table
        .all_indexes()
        .filter(|i| i.unique && i.predicate.is_none())
        .any(|i| g.table.index_ordinals(i).iter().all(|o| fixed.contains(g.col(*o))))
}

/// `column = column`.
pub(crate) fn equality_columns(e: &Expr) -> Option<(usize, usize)> {
    let Expr::Call { function, args } = e else { return None };
    if function.def.name != "=" || args.len() != 2 {
        return None;
    }
    match (strip_relabel(&args[0]), strip_relabel(&args[1])) {
        (Expr::Column { index: a, .. }, Expr::Column { index: b, .. }) => Some((*a, *b)),
        _ => None,
    }
}

/// The expression under casts that change no value and no order: between string types, and to wider integers.
pub(crate) fn strip_relabel(e: &Expr) -> &Expr {
    use meridian_datum::DataType as T;
    match e {
        Expr::Cast { input, from, to, .. } => {
            let text = |t: &T| matches!(t, T::Text | T::Varchar(None) | T::Name);
            let source = |t: &T| matches!(t, T::Text | T::Varchar(_) | T::Name);
            let rank = |t: &T| match t {
                T::Int2 => 1,
                T::Int4 | T::Oid => 2,
                T::Int8 => 3,
                _ => 0,
            };
            let widens = rank(from) > 0 && rank(to) >= rank(from);
            if source(from) && text(to) || widens { strip_relabel(input) } else { e }
        }
        _ => e,
    }
}

/// The part of rows that a condition keeps.
pub(crate) fn selectivity(e: &Expr) -> f64 {
    match e {
        Expr::Const(Datum::Bool(true), _) => 1.0,
        Expr::Const(..) => 0.0,
        Expr::Call { function, .. } => match function.def.name {
            "=" => EQUALITY,
            "<>" => 1.0 - EQUALITY,
            "<" | "<=" | ">" | ">=" => RANGE,
            "~~" | "~~*" | "~" | "~*" => PATTERN,
            _ => RANGE,
        },
        Expr::And(parts) => parts.iter().map(selectivity).product(),
        Expr::Or(parts) => parts.iter().map(selectivity).sum::<f64>().min(1.0),
        Expr::Not(inner) => 1.0 - selectivity(inner),
        Expr::InSet { set, negated, .. } => {
            let inside = (set.len() as f64 * EQUALITY).min(1.0);
            if *negated { 1.0 - inside } else { inside }
        }
        Expr::AnyAll { .. } => (10.0 * EQUALITY).min(1.0),
        Expr::IsNull { negated, .. } => {
            if *negated {
                1.0 - EQUALITY
            } else {
                EQUALITY
            }
        }
        Expr::IsBool { .. } | Expr::Column { .. } => 0.5,
        _ => RANGE,
    }
}
