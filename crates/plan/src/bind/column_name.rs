//! What an unnamed column of a select list is called.

use sqlparser::ast::{self, SelectItem};

use super::expr::strip_nested;
use super::{name_of, names_of};

/// The name that PostgreSQL gives an unnamed column (`FigureColname`).
pub(super) fn column_name(e: &ast::Expr) -> Option<String> {
    use ast::Expr as A;
    Some(match e {
        A::Identifier(i) => name_of(i),
        A::CompoundIdentifier(parts) => name_of(parts.last()?),
        A::Nested(inner) | A::Collate { expr: inner, .. } => return column_name(inner),
        A::CompoundFieldAccess { root, .. } => return column_name(root),
        A::Function(f) => {
            let names = names_of(&f.name).ok()?;
            names.last()?.clone()
        }
        A::Cast { expr, data_type, .. } => match column_name(expr) {
            Some(n) if !is_weak_name(expr) => n,
            _ => type_name(data_type),
        },
        A::TypedString(t) => type_name(&t.data_type),
        A::Interval(_) => "interval".into(),
        A::Value(v) => match v.value {
            ast::Value::Boolean(_) => "bool".into(),
            _ => return None,
        },
        A::Case { else_result, .. } => match else_result.as_deref().and_then(column_name) {
            Some(n) if else_result.as_deref().is_some_and(|e| !is_weak_name(e)) => n,
            _ => "case".into(),
        },
        A::Exists { .. } => "exists".into(),
        A::Subquery(q) => match &*q.body {
            ast::SetExpr::Select(s) => match s.projection.first()? {
                SelectItem::UnnamedExpr(e) => return column_name(e),
                SelectItem::ExprWithAlias { alias, .. } => name_of(alias),
                _ => return None,
            },
            ast::SetExpr::Values(_) => "column1".into(),
            _ => return None,
        },
        A::Array(_) => "array".into(),
        A::Tuple(_) => "row".into(),
        A::Extract { .. } => "extract".into(),
        A::Position { .. } => "position".into(),
        A::Substring { .. } => "substring".into(),
        A::Overlay { .. } => "overlay".into(),
        A::Ceil { .. } => "ceil".into(),
        A::Floor { .. } => "floor".into(),
        A::Trim { trim_where, .. } => match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim".into(),
            Some(ast::TrimWhereField::Trailing) => "rtrim".into(),
            _ => "btrim".into(),
        },
        A::AtTimeZone { .. } => "timezone".into(),
        _ => return None,
    })
}

/// Names that a cast's type overrides: those of CASE and of other casts.
fn is_weak_name(e: &ast::Expr) -> bool {
    match strip_nested(e) {
        ast::Expr::Case { else_result, .. } => else_result.as_deref().is_none_or(is_weak_name),
        ast::Expr::Cast { expr, .. } => column_name(expr).is_none() || is_weak_name(expr),
        ast::Expr::TypedString(_) | ast::Expr::Interval(_) | ast::Expr::Value(_) => true,
        _ => false,
    }
}

/// `typname` of a type as written.
fn type_name(ty: &ast::DataType) -> String {
    use ast::DataType as A;
    match ty {
        A::Int(_) | A::Integer(_) | A::Int4(_) => "int4",
        A::SmallInt(_) | A::Int2(_) => "int2",
        A::BigInt(_) | A::Int8(_) => "int8",
        A::Real | A::Float4 => "float4",
        A::Float(_) | A::DoublePrecision | A::Float8 | A::Double(_) => "float8",
        A::Bool | A::Boolean => "bool",
        A::Varchar(_) | A::CharVarying(_) | A::CharacterVarying(_) => "varchar",
        A::Char(_) | A::Character(_) => "bpchar",
        A::Numeric(_) | A::Decimal(_) | A::Dec(_) => "numeric",
        A::Timestamp(_, z) => match z {
            ast::TimezoneInfo::None | ast::TimezoneInfo::WithoutTimeZone => "timestamp",
            _ => "timestamptz",
        },
        A::Time(..) => "time",
        A::Interval { .. } => "interval",
        A::Array(ast::ArrayElemTypeDef::SquareBracket(e, _) | ast::ArrayElemTypeDef::AngleBracket(e)) => {
            return type_name(e);
        }
        A::Custom(n, _) => return names_of(n).ok().and_then(|mut n| n.pop()).unwrap_or_default(),
        other => return other.to_string().to_lowercase(),
    }
    .to_owned()
}
