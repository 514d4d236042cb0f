//! Which part of an index a set of conditions leaves.
//!
//! The columns of an index are walked in order. A column that a condition fixes (equality, a list, NULL) narrows the span
//! and lets the next column narrow it further; a column that conditions bound ends the walk. Conditions that the span
//! expresses exactly are dropped from the filter.

use meridian_catalog::{IndexDesc, TableDesc};
use meridian_datum::{DataType, Datum};

use crate::expr::Expr;
use crate::logical::{ColId, ColSet, Get};
use crate::optimize::strip_relabel;
use crate::physical::{SpanBound, SpanKey, SpanRange, Spans};

/// Most spans that lists and disjunctions are multiplied out to; beyond, the filter does the rest.
const SPANS_MAX: usize = 4_096;

/// What a condition says about one column.
#[derive(Clone, Debug)]
enum Fact {
    Equal(Expr),
    In(Vec<Expr>),
    AnyOf(Expr),
    Null,
    NotNull,
    Lower(Expr, bool),
    Upper(Expr, bool),
}

/// A condition and what it says.
struct Known<'a> {
    col: ColId,
    fact: Fact,
    /// Position among the conditions.
    cond: usize,
    exact: bool,
    _expr: &'a Expr,
}

/// The spans of an index.
pub(super) struct IndexSpans {
    pub(super) spans: Spans,
    /// Conditions that the spans express.
    pub(super) consumed: Vec<usize>,
    /// Columns fixed to one value each, from the first on.
    pub(super) fixed: usize,
    /// The part of the rows that is read.
    pub(super) selectivity: f64,
    /// A whole unique key is fixed: one row per span.
    pub(super) points: bool,
}

/// The spans of `index` under the conditions.
///
/// In the conditions, the index's expressions are columns.
pub(super) fn spans(get: &Get, index: &IndexDesc, conds: &[Expr]) -> IndexSpans {
    let table = &get.table;
    let cols: Vec<ColId> = get.cols.iter().chain(&get.virtuals).copied().collect();
    let cols = cols.as_slice();
    let own = ColSet::from_cols(cols.iter().copied());
    let known = facts(conds, &own);
    let keys: Vec<usize> = index_key(table, index);
    let direct = walk(table, index, cols, &keys, &known);
    if direct.fixed > 0 || !matches!(direct.spans, Spans::All) {
        return direct;
    }
    disjunction(table, index, cols, &keys, conds, &own).unwrap_or(direct)
}

/// The columns that order an index's entries: its own, and for a secondary index those of the primary key.
pub(super) fn index_key(table: &TableDesc, index: &IndexDesc) -> Vec<usize> {
    table.index_ordinals(index)
}

fn facts<'a>(conds: &'a [Expr], own: &ColSet) -> Vec<Known<'a>> {
    let mut out = Vec::new();
    for (cond, e) in conds.iter().enumerate() {
        for (col, fact, exact) in facts_of(e, own) {
            out.push(Known { col, fact, cond, exact, _expr: e });
        }
    }
    out
}

/// What one condition says about columns.
fn facts_of(e: &Expr, own: &ColSet) -> Vec<(ColId, Fact, bool)> {
    let column = |e: &Expr| match strip_relabel(e) {
        Expr::Column { index, ty } if own.contains(*index) => Some((*index, ty.clone())),
        _ => None,
    };
    let value = |e: &Expr| is_value(e) && !e.cols().intersects(own);
    match e {
        Expr::Call { function, args } if args.len() == 2 => {
            let flipped = |op: &str| match op {
                "<" => ">",
                "<=" => ">=",
                ">" => "<",
                ">=" => "<=",
                _ => "=",
            };
            let op = function.def.name;
            if !matches!(op, "=" | "<" | "<=" | ">" | ">=") || !comparable(function) {
                return Vec::new();
            }
            for (a, b, op) in [(&args[0], &args[1], op), (&args[1], &args[0], flipped(op))] {
                if let Some((c, ty)) = column(a)
                    && value(b)
                {
                    let exact = !matches!(ty, DataType::Char(_));
                    let v = b.clone();
                    let fact = match op {
                        "=" => Fact::Equal(v),
                        "<" => Fact::Upper(v, false),
                        "<=" => Fact::Upper(v, true),
                        ">" => Fact::Lower(v, false),
                        _ => Fact::Lower(v, true),
                    };
                    return vec![(c, fact, exact)];
                }
            }
            Vec::new()
        }
        Expr::InSet { input, set, negated: false, .. } => match column(input) {
            Some((c, ty)) => {
                let from = input.ty();
                let values = set.iter().map(|d| Expr::Const(d.clone(), from.clone())).collect();
                vec![(c, Fact::In(values), !matches!(ty, DataType::Char(_)))]
            }
            None => Vec::new(),
        },
        Expr::AnyAll { all: false, function, left, array }
            if function.def.name == "=" && comparable(function) =>
        {
            match column(left) {
                Some((c, ty)) if value(array) => {
                    vec![(c, Fact::AnyOf((**array).clone()), !matches!(ty, DataType::Char(_)))]
                }
                _ => Vec::new(),
            }
        }
        Expr::IsNull { input, negated } => match column(input) {
            Some((c, _)) => vec![(c, if *negated { Fact::NotNull } else { Fact::Null }, true)],
            None => Vec::new(),
        },
        Expr::Column { index, ty: DataType::Bool } if own.contains(*index) => {
            vec![(*index, Fact::Equal(Expr::bool(true)), true)]
        }
        Expr::Not(inner) => match &**inner {
            Expr::Column { index, ty: DataType::Bool } if own.contains(*index) => {
                vec![(*index, Fact::Equal(Expr::bool(false)), true)]
            }
            _ => Vec::new(),
        },
        Expr::Or(arms) => same_column_list(arms, own),
        _ => Vec::new(),
    }
}

/// `a = 1 OR a = 2` is a list.
fn same_column_list(arms: &[Expr], own: &ColSet) -> Vec<(ColId, Fact, bool)> {
    let mut values = Vec::with_capacity(arms.len());
    let mut column = None;
    for a in arms {
        match facts_of(a, own).as_slice() {
            [(c, fact, true)] if column.is_none_or(|k| k == *c) => {
                column = Some(*c);
                match fact {
                    Fact::Equal(v) => values.push(v.clone()),
                    Fact::In(list) => values.extend(list.iter().cloned()),
                    _ => return Vec::new(),
                }
            }
            _ => return Vec::new(),
        }
    }
    column.map(|c| vec![(c, Fact::In(values), true)]).unwrap_or_default()
}

/// Values that the executor can compute before it reads: no rows, no subqueries, and the same for the whole scan.
fn is_value(e: &Expr) -> bool {
    !e.is_volatile() && !e.has_subquery()
}

/// Both sides have the representation of the column, so that the value's encoding is the column's.
fn comparable(function: &meridian_datum::ResolvedFunction) -> bool {
    let integer = |t: &DataType| t.is_integer() || matches!(t, DataType::Oid);
    let text = |t: &DataType| matches!(t, DataType::Text | DataType::Varchar(_) | DataType::Name);
    let [a, b] = function.arg_types.as_slice() else { return false };
    a.same_type(b) && !matches!(a, DataType::Record) || integer(a) && integer(b) || text(a) && text(b)
}

/// A prefix of key values under construction.
type Prefix = Vec<SpanKey>;

fn walk(
    table: &TableDesc,
    index: &IndexDesc,
    cols: &[ColId],
    keys: &[usize],
    known: &[Known<'_>],
) -> IndexSpans {
    let mut prefixes: Vec<Prefix> = vec![Vec::new()];
    let mut consumed = Vec::new();
    let mut selectivity = 1.0;
    let mut fixed = 0;
    let mut single = true;
    let mut has_null = false;
    let mut depth = 0;
    for ordinal in keys {
        let col = cols[*ordinal];
        let on_col = || known.iter().filter(move |k| k.col == col);
        let equal = on_col().find(|k| matches!(k.fact, Fact::Equal(_)));
        let list = on_col().find(|k| match &k.fact {
            Fact::In(v) => prefixes.len().saturating_mul(v.len()) <= SPANS_MAX,
            Fact::AnyOf(_) => true,
            _ => false,
        });
        let null = on_col().find(|k| matches!(k.fact, Fact::Null));
        let Some(k) = equal.or(null).or(list) else { break };
        match &k.fact {
            Fact::Equal(v) => {
                prefixes.iter_mut().for_each(|p| p.push(SpanKey::Value(v.clone())));
                selectivity *= 0.005;
            }
            Fact::Null => {
                prefixes.iter_mut().for_each(|p| p.push(SpanKey::Null));
                selectivity *= 0.005;
                has_null = true;
            }
            Fact::AnyOf(a) => {
                prefixes.iter_mut().for_each(|p| p.push(SpanKey::AnyOf(a.clone())));
                selectivity *= 0.05;
                single = false;
            }
            Fact::In(values) => {
                selectivity *= (values.len() as f64 * 0.005).min(1.0);
                single &= values.len() == 1;
                prefixes = prefixes
                    .iter()
                    .flat_map(|p| {
                        values.iter().map(|v| {
                            let mut p = p.clone();
                            p.push(SpanKey::Value(v.clone()));
                            p
                        })
                    })
                    .collect();
            }
            Fact::NotNull | Fact::Lower(..) | Fact::Upper(..) => unreachable!("not searched for above"),
        }
        if k.exact {
            consumed.push(k.cond);
        }
        depth += 1;
        if single {
            fixed = depth;
        }
    }
    if prefixes.is_empty() {
        return IndexSpans { spans: Spans::Empty, consumed, fixed, selectivity: 0.0, points: false };
    }
    let points = depth == keys.len() && index.unique && !has_null;
    if points {
        let selectivity = prefixes.len() as f64 * 1e-9;
        return IndexSpans { spans: Spans::Points(prefixes), consumed, fixed, selectivity, points };
    }
    let (lower, upper) = match keys.get(depth) {
        Some(ordinal) => bounds(cols[*ordinal], known, &mut consumed, &mut selectivity),
        None => (SpanBound::Unbounded, SpanBound::Unbounded),
    };
    let open = |b: &SpanBound| matches!(b, SpanBound::Unbounded);
    let _ = table;
    if depth == 0 && open(&lower) && open(&upper) {
        return IndexSpans { spans: Spans::All, consumed, fixed: 0, selectivity: 1.0, points: false };
    }
    let ranges = prefixes
        .into_iter()
        .map(|equal| SpanRange { equal, lower: lower.clone(), upper: upper.clone() })
        .collect();
    IndexSpans { spans: Spans::Ranges(ranges), consumed, fixed, selectivity, points: false }
}

/// The bounds of the column after the fixed ones.
fn bounds(
    col: ColId,
    known: &[Known<'_>],
    consumed: &mut Vec<usize>,
    selectivity: &mut f64,
) -> (SpanBound, SpanBound) {
    let (mut lower, mut upper) = (SpanBound::Unbounded, SpanBound::Unbounded);
    let bound = |v: &Expr, inclusive: bool| {
        if inclusive { SpanBound::Included(v.clone()) } else { SpanBound::Excluded(v.clone()) }
    };
    for k in known.iter().filter(|k| k.col == col) {
        let side = match &k.fact {
            Fact::Lower(v, inclusive) if matches!(lower, SpanBound::Unbounded) => {
                lower = bound(v, *inclusive);
                true
            }
            Fact::Upper(v, inclusive) if matches!(upper, SpanBound::Unbounded) => {
                upper = bound(v, *inclusive);
                true
            }
            _ => false,
        };
        if side {
            *selectivity *= 1.0 / 3.0;
            if k.exact {
                consumed.push(k.cond);
            }
        }
    }
    // A bound on either side already leaves NULLs out.
    let bounded = !matches!((&lower, &upper), (SpanBound::Unbounded, SpanBound::Unbounded));
    if let Some(k) = known.iter().find(|k| k.col == col && matches!(k.fact, Fact::NotNull)) {
        consumed.push(k.cond);
        if !bounded {
            lower = SpanBound::NotNull;
        }
    }
    (lower, upper)
}

/// `(a = 1 AND b = 2) OR a = 3`: the union of the arms' spans. Every arm must narrow the index; the conditions stay in
/// the filter.
fn disjunction(
    table: &TableDesc,
    index: &IndexDesc,
    cols: &[ColId],
    keys: &[usize],
    conds: &[Expr],
    own: &ColSet,
) -> Option<IndexSpans> {
    for c in conds {
        let Expr::Or(arms) = c else { continue };
        let mut ranges: Vec<SpanRange> = Vec::new();
        let mut selectivity = 0.0;
        let narrowed = arms.iter().all(|arm| {
            let parts = match arm {
                Expr::And(p) => p.as_slice(),
                single => std::slice::from_ref(single),
            };
            let known = facts(parts, own);
            let s = walk(table, index, cols, keys, &known);
            selectivity += s.selectivity;
            match s.spans {
                Spans::All => false,
                Spans::Empty => true,
                Spans::Ranges(r) => {
                    ranges.extend(r);
                    true
                }
                Spans::Points(p) => {
                    ranges.extend(p.into_iter().map(|equal| SpanRange {
                        equal,
                        lower: SpanBound::Unbounded,
                        upper: SpanBound::Unbounded,
                    }));
                    true
                }
            }
        });
        if narrowed && ranges.len() <= SPANS_MAX {
            let spans = if ranges.is_empty() { Spans::Empty } else { Spans::Ranges(ranges) };
            let selectivity = f64::min(selectivity, 1.0);
            return Some(IndexSpans { spans, consumed: Vec::new(), fixed: 0, selectivity, points: false });
        }
    }
    None
}

/// Whether a constant condition rules out every row.
pub(super) fn never(conds: &[Expr]) -> bool {
    conds.iter().any(|c| matches!(c, Expr::Const(Datum::Bool(false) | Datum::Null, _)))
}
