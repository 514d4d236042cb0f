//! Where a partial index may stand in for the table: the conditions of the rows that are asked for imply its own.
//!
//! Implication is looked for conjunct by conjunct, and it must hold for every value of the parameters, since plans are
//! kept. What is known, as in PostgreSQL: the same expression; `x > 10` implies `x > 5`; a comparison of `x` implies
//! `x IS NOT NULL`; what a list implies element by element; what each arm of a disjunction implies. Anything else is taken
//! not to follow.

use std::cmp::Ordering;

use meridian_catalog::{CatalogSnapshot, IndexDesc, TableDesc};
use meridian_datum::{DataType, Datum, Result};

use crate::expr::Expr;
use crate::logical::{ColId, Get, Order};
use crate::optimize::strip_relabel;
use crate::same::same_expr;

/// The columns of a table in a statement.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) table: &'a TableDesc,
    pub(crate) cols: &'a [ColId],
}

impl<'a> Row<'a> {
    pub(super) fn of(get: &'a Get) -> Self {
        Row { table: &get.table, cols: &get.cols }
    }
}

/// The conjuncts of an index's condition; none for an index of all rows.
pub(crate) fn predicate(snapshot: &CatalogSnapshot, row: Row<'_>, index: &IndexDesc) -> Result<Vec<Expr>> {
    let Some(mut condition) = crate::bind::index_predicate(snapshot, row.table, index)? else {
        return Ok(Vec::new());
    };
    place(&mut condition, row.cols);
    Ok(match condition {
        Expr::And(parts) => parts,
        single => vec![single],
    })
}

/// The expressions of an index's key.
pub(crate) fn expressions(snapshot: &CatalogSnapshot, row: Row<'_>, index: &IndexDesc) -> Result<Vec<Expr>> {
    let mut found = crate::bind::index_expressions(snapshot, row.table, index)?;
    found.iter_mut().for_each(|e| place(e, row.cols));
    Ok(found)
}

/// The expressions of all indexes of a table with their identities, in order.
pub(super) fn virtuals(snapshot: &CatalogSnapshot, get: &Get) -> Result<Vec<(ColId, Expr)>> {
    let mut out = Vec::new();
    for index in &get.table.indexes {
        out.extend(expressions(snapshot, Row::of(get), index)?);
    }
    Ok(get.virtuals.iter().copied().zip(out).collect())
}

/// Puts columns in the places of expressions that an index has among its columns.
pub(super) fn substitute(e: &mut Expr, virtuals: &[(ColId, Expr)]) {
    if let Some((col, known)) = virtuals.iter().find(|(_, known)| same_expr(e, known)) {
        *e = Expr::column(*col, known.ty());
        return;
    }
    e.for_each_child_mut(&mut |c| substitute(c, virtuals));
}

/// An order in which an index's own identities stand for expressions that other indexes have, too.
pub(super) fn order_of(order: &[Order], virtuals: &[(ColId, Expr)], own: &[(ColId, Expr)]) -> Vec<Order> {
    let own_col = |col: ColId| {
        let (_, e) = virtuals.iter().find(|(c, _)| *c == col)?;
        own.iter().find(|(_, known)| same_expr(known, e)).map(|(c, _)| *c)
    };
    order.iter().map(|o| Order { col: own_col(o.col).unwrap_or(o.col), ..*o }).collect()
}

/// Turns ordinals into identities.
fn place(e: &mut Expr, cols: &[ColId]) {
    if let Expr::Column { index, .. } = e {
        *index = cols[*index];
    }
    e.for_each_child_mut(&mut |c| place(c, cols));
}

/// Whether every row for which all of `conds` are true makes all of `wanted` true.
pub(crate) fn all_implied(row: Row<'_>, conds: &[Expr], wanted: &[Expr]) -> bool {
    wanted.iter().all(|w| implied(row, conds, w))
}

/// The same of one condition.
pub(super) fn implied(row: Row<'_>, conds: &[Expr], wanted: &Expr) -> bool {
    match wanted {
        Expr::Const(Datum::Bool(true), _) => return true,
        Expr::And(parts) => return all_implied(row, conds, parts),
        Expr::IsNull { input, negated: true } if is_not_null(row, input) => return true,
        _ => {}
    }
    if conds.iter().any(|c| implies(row, c, wanted)) {
        return true;
    }
    match wanted {
        Expr::Or(arms) => arms.iter().any(|arm| implied(row, conds, arm)),
        _ => false,
    }
}

fn is_not_null(row: Row<'_>, e: &Expr) -> bool {
    match e {
        Expr::Column { index, .. } => {
            row.cols.iter().position(|c| c == index).is_some_and(|o| !row.table.columns[o].nullable)
        }
        _ => false,
    }
}

/// Whether one condition makes another one true.
fn implies(row: Row<'_>, cond: &Expr, wanted: &Expr) -> bool {
    if same_expr(cond, wanted) {
        return true;
    }
    match (cond, wanted) {
        (Expr::And(parts), _) => implied(row, parts, wanted),
        (Expr::Or(arms), _) => arms.iter().all(|arm| implied(row, std::slice::from_ref(arm), wanted)),
        (_, Expr::IsNull { input, negated: true }) => forbids_null(cond, input),
        // x = true, x IS TRUE, and x.
        (_, Expr::IsBool { input, value: true, negated: false }) => implies(row, cond, input),
        (Expr::IsBool { input, value: true, negated: false }, _) => implies(row, input, wanted),
        (Expr::IsBool { input, value: false, negated: false }, Expr::Not(inner)) => same_expr(input, inner),
        (Expr::Not(inner), Expr::IsBool { input, value: false, negated: false }) => same_expr(inner, input),
        _ => match (Test::of(cond), Test::of(wanted)) {
            (Some(known), Some(test)) => same_expr(known.input, test.input) && known.is_within(&test),
            (Some(Test { input, kind: Kind::Compare("=", Datum::Bool(true)) }), None) => {
                same_expr(input, wanted)
            }
            _ => false,
        },
    }
}

/// Whether a condition is not true where `e` is NULL.
fn forbids_null(cond: &Expr, e: &Expr) -> bool {
    match cond {
        Expr::AnyAll { all: false, function, left, .. } => function.def.strict && is_null_with(left, e),
        Expr::InSet { input, .. } | Expr::Not(input) | Expr::IsBool { input, negated: false, .. } => {
            is_null_with(input, e)
        }
        _ => is_null_with(cond, e),
    }
}

/// Whether a value is NULL wherever `e` is.
fn is_null_with(value: &Expr, e: &Expr) -> bool {
    if same_expr(value, e) {
        return true;
    }
    match value {
        Expr::Call { function, args } => function.def.strict && args.iter().any(|a| is_null_with(a, e)),
        Expr::Cast { input, .. } | Expr::Not(input) => is_null_with(input, e),
        _ => false,
    }
}

/// A comparison with a constant of the same representation, or with one of several.
struct Test<'a> {
    input: &'a Expr,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Compare(&'static str, &'a Datum),
    OneOf(&'a [Datum]),
}

impl<'a> Test<'a> {
    fn of(e: &'a Expr) -> Option<Test<'a>> {
        match e {
            Expr::Call { function, args } if args.len() == 2 => {
                let op = function.def.name;
                let flipped = match op {
                    "<" => ">",
                    "<=" => ">=",
                    ">" => "<",
                    ">=" => "<=",
                    "=" | "<>" => op,
                    _ => return None,
                };
                let [a, b] = function.arg_types.as_slice() else { return None };
                if !comparable(a, b) {
                    return None;
                }
                match (&args[0], &args[1]) {
                    (_, Expr::Const(v, _)) if !v.is_null() => {
                        Some(Test { input: strip_relabel(&args[0]), kind: Kind::Compare(op, v) })
                    }
                    (Expr::Const(v, _), _) if !v.is_null() => {
                        Some(Test { input: strip_relabel(&args[1]), kind: Kind::Compare(flipped, v) })
                    }
                    _ => None,
                }
            }
            Expr::InSet { input, set, negated: false, .. } if ordered(&input.ty()) => {
                Some(Test { input: strip_relabel(input), kind: Kind::OneOf(set) })
            }
            _ => None,
        }
    }

    /// Whether a value, not NULL, passes.
    fn passes(&self, v: &Datum) -> bool {
        match self.kind {
            Kind::OneOf(set) => set.iter().any(|s| comparison(v, s) == Some(Ordering::Equal)),
            Kind::Compare(op, bound) => comparison(v, bound).is_some_and(|c| match op {
                "=" => c.is_eq(),
                "<>" => c.is_ne(),
                "<" => c.is_lt(),
                "<=" => c.is_le(),
                ">" => c.is_gt(),
                ">=" => c.is_ge(),
                other => panic!("{other} is no comparison"),
            }),
        }
    }

    /// Whether whatever passes this test passes the other one of the same expression.
    fn is_within(&self, other: &Test<'_>) -> bool {
        let (op, v) = match self.kind {
            Kind::OneOf(set) => return set.iter().all(|v| other.passes(v)),
            Kind::Compare("=", v) => return other.passes(v),
            Kind::Compare(op, v) => (op, v),
        };
        let Kind::Compare(wanted, w) = other.kind else { return false };
        let Some(c) = comparison(v, w) else { return false };
        match (op, wanted) {
            (">", ">" | ">=") | (">=", ">=") => c.is_ge(),
            (">=", ">") => c.is_gt(),
            ("<", "<" | "<=") | ("<=", "<=") => c.is_le(),
            ("<=", "<") => c.is_lt(),
            (">", "<>") => c.is_ge(),
            (">=", "<>") => c.is_gt(),
            ("<", "<>") => c.is_le(),
            ("<=", "<>") => c.is_lt(),
            ("<>", "<>") => c.is_eq(),
            _ => false,
        }
    }
}

/// Both sides compare as their datums do.
fn comparable(a: &DataType, b: &DataType) -> bool {
    let integer = |t: &DataType| t.is_integer();
    ordered(a) && (a.same_type(b) || integer(a) && integer(b))
}

/// Types whose datums are in the order of their comparison operators.
fn ordered(ty: &DataType) -> bool {
    matches!(
        ty,
        DataType::Bool
            | DataType::Int2
            | DataType::Int4
            | DataType::Int8
            | DataType::Numeric(_)
            | DataType::Text
            | DataType::Varchar(_)
            | DataType::Date
            | DataType::Time
            | DataType::Timestamp
            | DataType::TimestampTz
            | DataType::Uuid
            | DataType::Bytea
    )
}

/// Values of one representation.
fn comparison(a: &Datum, b: &Datum) -> Option<Ordering> {
    (std::mem::discriminant(a) == std::mem::discriminant(b)).then(|| a.cmp(b))
}
