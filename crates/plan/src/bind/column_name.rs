//! What an unnamed column of a select list is called.

use sqlparser::ast::{self, SelectItem};

use super::{name_of, names_of};

/// The name that PostgreSQL gives an unnamed column (`FigureColname`).
pub(super) fn column_name(e: &ast::Expr) -> Option<String> {
    figure(e).0
}

/// The name, and whether a cast's type overrides it, as it does those of CASE, of constants and of other casts. One walk
/// for both: each level of a chain of casts asks for both of the one below.
fn figure(e: &ast::Expr) -> (Option<String>, bool) {
    use ast::Expr as A;
    match e {
        A::Nested(inner) => figure(inner),
        A::Cast { expr, data_type, .. } => match figure(expr) {
            (Some(name), false) => (Some(name), false),
            _ => (Some(type_name(data_type)), true),
        },
        A::Case { else_result, .. } => match else_result.as_deref().map(figure) {
            Some((Some(name), false)) => (Some(name), false),
            Some((None, false)) => (Some("case".into()), false),
            Some((_, true)) | None => (Some("case".into()), true),
        },
        A::TypedString(t) => (Some(type_name(&t.data_type)), true),
        A::Interval(_) => (Some("interval".into()), true),
        A::Value(v) => (matches!(v.value, ast::Value::Boolean(_)).then(|| "bool".into()), true),
        _ => (strong_name(e), false),
    }
}

fn strong_name(e: &ast::Expr) -> Option<String> {
    use ast::Expr as A;
    Some(match e {
        A::Identifier(i) => name_of(i),
        A::CompoundIdentifier(parts) => name_of(parts.last()?),
        A::Collate { expr: inner, .. } => return column_name(inner),
        A::CompoundFieldAccess { root, .. } => return column_name(root),
        A::Function(f) => {
            let names = names_of(&f.name).ok()?;
            names.last()?.clone()
        }
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
