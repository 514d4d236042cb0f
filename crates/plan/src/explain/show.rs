//! Expressions as text.

use super::Explainer;
use crate::expr::{Expr, SubqueryKind};

/// The expression with columns by name.
pub(super) fn show(x: &Explainer<'_>, e: &Expr, names: &[String]) -> String {
    let sub = |e: &Expr| show(x, e, names);
    match e {
        Expr::Const(d, ty) => x.constant(d, ty),
        Expr::Column { index, .. } => names.get(*index).cloned().unwrap_or_else(|| format!("#{index}")),
        Expr::Outer { index, .. } => format!("@{index}"),
        Expr::Param { index, .. } => format!("${}", index + 1),
        Expr::Call { function, args } => {
            let name = function.def.name;
            let symbolic = !name.starts_with(|c: char| c.is_alphabetic() || c == '_');
            match (symbolic, args.as_slice()) {
                (true, [a, b]) => format!("({} {name} {})", sub(a), sub(b)),
                (true, [a]) => format!("({name} {})", sub(a)),
                _ => format!("{name}({})", list(x, args, names)),
            }
        }
        Expr::Session { function, args } => {
            format!("{}({})", format!("{function:?}").to_lowercase(), list(x, args, names))
        }
        Expr::Cast { input, to, .. } => format!("({})::{to}", sub(input)),
        Expr::And(parts) => joined(x, parts, " AND ", names),
        Expr::Or(parts) => joined(x, parts, " OR ", names),
        Expr::Not(inner) => format!("(NOT {})", sub(inner)),
        Expr::IsNull { input, negated } => format!("({} IS {}NULL)", sub(input), not(*negated)),
        Expr::IsBool { input, value, negated } => {
            format!("({} IS {}{})", sub(input), not(*negated), if *value { "TRUE" } else { "FALSE" })
        }
        Expr::IsDistinct { left, right, negated } => {
            format!("({} IS {}DISTINCT FROM {})", sub(left), not(*negated), sub(right))
        }
        Expr::Case { branches, otherwise, .. } => {
            let arms: Vec<String> =
                branches.iter().map(|(c, v)| format!("WHEN {} THEN {}", sub(c), sub(v))).collect();
            format!("CASE {} ELSE {} END", arms.join(" "), sub(otherwise))
        }
        Expr::Coalesce { args, .. } => format!("COALESCE({})", list(x, args, names)),
        Expr::NullIf { value, equal } => format!("NULLIF({}, {})", sub(value), sub(equal)),
        Expr::Extremum { greatest, args, .. } => {
            format!("{}({})", if *greatest { "GREATEST" } else { "LEAST" }, list(x, args, names))
        }
        Expr::InSet { input, set, negated, .. } => {
            let ty = input.ty();
            let shown: Vec<String> = set.iter().take(8).map(|d| x.constant(d, &ty)).collect();
            let more = if set.len() > 8 { ", ..." } else { "" };
            format!("({} {}IN ({}{more}))", sub(input), not(*negated), shown.join(", "))
        }
        Expr::AnyAll { all, function, left, array } => {
            let quantifier = if *all { "ALL" } else { "ANY" };
            format!("({} {} {quantifier} ({}))", sub(left), function.def.name, sub(array))
        }
        Expr::Array { elements, .. } => format!("ARRAY[{}]", list(x, elements, names)),
        Expr::Subscript { array, subscripts, .. } => {
            format!("{}[{}]", sub(array), list(x, subscripts, names))
        }
        Expr::Row(items) => format!("ROW({})", list(x, items, names)),
        Expr::Subquery(s) => {
            let kind = match s.kind {
                SubqueryKind::Scalar => "SubPlan",
                SubqueryKind::Exists => "EXISTS SubPlan",
                SubqueryKind::Any(_) => "ANY SubPlan",
                SubqueryKind::All(_) => "ALL SubPlan",
                SubqueryKind::Array => "ARRAY SubPlan",
            };
            format!("({kind} [{}])", list(x, &s.args, names))
        }
        Expr::Unplanned(_) => "(subquery)".to_owned(),
    }
}

pub(super) fn list(x: &Explainer<'_>, items: &[Expr], names: &[String]) -> String {
    items.iter().map(|e| show(x, e, names)).collect::<Vec<_>>().join(", ")
}

fn joined(x: &Explainer<'_>, parts: &[Expr], by: &str, names: &[String]) -> String {
    format!("({})", parts.iter().map(|e| show(x, e, names)).collect::<Vec<_>>().join(by))
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}
