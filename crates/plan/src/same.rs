//! Structural equality of expressions.

use meridian_datum::Datum;

use crate::expr::Expr;

/// Equal values that print differently (`0` and `0.0`, `0` and `-0`) are not the same.
fn same_datum(a: &Datum, b: &Datum) -> bool {
    match (a, b) {
        (Datum::Numeric(x), Datum::Numeric(y)) => x == y && x.scale() == y.scale(),
        (Datum::Float4(x), Datum::Float4(y)) => x.to_bits() == y.to_bits(),
        (Datum::Float8(x), Datum::Float8(y)) => x.to_bits() == y.to_bits(),
        _ => a == b,
    }
}

/// Whether two expressions are written alike, so that they have the same value. Volatile calls and subqueries are never
/// the same as anything.
pub(crate) fn same_expr(a: &Expr, b: &Expr) -> bool {
    use Expr as E;
    let list = |x: &[Expr], y: &[Expr]| x.len() == y.len() && x.iter().zip(y).all(|(p, q)| same_expr(p, q));
    match (a, b) {
        (E::Const(v, t), E::Const(w, u)) => t == u && same_datum(v, w),
        (E::Column { index: i, .. }, E::Column { index: j, .. })
        | (E::Outer { index: i, .. }, E::Outer { index: j, .. })
        | (E::Param { index: i, .. }, E::Param { index: j, .. }) => i == j,
        (E::Call { function: f, args: x }, E::Call { function: g, args: y }) => {
            std::ptr::eq(f.def, g.def)
                && f.def.volatility != meridian_datum::Volatility::Volatile
                && f.result_type == g.result_type
                && list(x, y)
        }
        (E::Session { function: f, args: x }, E::Session { function: g, args: y }) => {
            f == g && !f.is_volatile() && list(x, y)
        }
        (E::Cast { input: x, from: f, to: t, .. }, E::Cast { input: y, from: g, to: u, .. }) => {
            f == g && t == u && same_expr(x, y)
        }
        (E::And(x), E::And(y)) | (E::Or(x), E::Or(y)) | (E::Row(x), E::Row(y)) => list(x, y),
        (E::Not(x), E::Not(y)) => same_expr(x, y),
        (E::IsNull { input: x, negated: n }, E::IsNull { input: y, negated: m }) => n == m && same_expr(x, y),
        (E::IsBool { input: x, value: v, negated: n }, E::IsBool { input: y, value: w, negated: m }) => {
            v == w && n == m && same_expr(x, y)
        }
        (
            E::IsDistinct { left: a, right: b, negated: n },
            E::IsDistinct { left: c, right: d, negated: m },
        ) => n == m && same_expr(a, c) && same_expr(b, d),
        (E::Case { branches: x, otherwise: o, .. }, E::Case { branches: y, otherwise: p, .. }) => {
            x.len() == y.len()
                && x.iter().zip(y).all(|((a, b), (c, d))| same_expr(a, c) && same_expr(b, d))
                && same_expr(o, p)
        }
        (E::Coalesce { args: x, .. }, E::Coalesce { args: y, .. })
        | (E::Array { elements: x, .. }, E::Array { elements: y, .. }) => list(x, y),
        (E::Extremum { greatest: g, args: x, .. }, E::Extremum { greatest: h, args: y, .. }) => {
            g == h && list(x, y)
        }
        (E::NullIf { value: a, equal: b }, E::NullIf { value: c, equal: d }) => {
            same_expr(a, c) && same_expr(b, d)
        }
        (
            E::InSet { input: x, set: s, has_null: h, negated: n },
            E::InSet { input: y, set: t, has_null: i, negated: m },
        ) => h == i && n == m && s == t && same_expr(x, y),
        (
            E::AnyAll { all: a, function: f, left: l, array: r },
            E::AnyAll { all: b, function: g, left: m, array: s },
        ) => a == b && std::ptr::eq(f.def, g.def) && same_expr(l, m) && same_expr(r, s),
        (E::Subscript { array: a, subscripts: s, .. }, E::Subscript { array: b, subscripts: t, .. }) => {
            same_expr(a, b) && list(s, t)
        }
        _ => false,
    }
}
