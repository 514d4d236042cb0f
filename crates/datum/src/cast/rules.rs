//! `pg_cast`, with the conversions through text that PostgreSQL adds to it.

use crate::cast::CastContext;
use crate::types::{DataType, TypeCategory};

/// Whether a cast exists in the context. Modifiers (lengths, precisions) do not matter. An untyped literal casts to
/// everything.
pub fn can_cast(from: &DataType, to: &DataType, context: CastContext) -> bool {
    use DataType as D;
    if from.same_type(to) || *from == D::Unknown {
        return true;
    }
    if let Some(required) = listed(from, to) {
        return context >= required;
    }
    if let (Some(a), D::Array(b)) = (from.element(), to) {
        return can_cast(&a, b, context);
    }
    // Everything has a text form: written to strings on assignment, read from them on demand.
    if to.category() == TypeCategory::String {
        return context >= CastContext::Assignment && *from != D::Void;
    }
    if from.category() == TypeCategory::String {
        return context >= CastContext::Explicit && !matches!(to, D::Record | D::Void);
    }
    false
}

/// The weakest context of the casts that `pg_cast` lists.
fn listed(from: &DataType, to: &DataType) -> Option<CastContext> {
    use CastContext::{Assignment, Explicit, Implicit};
    use DataType as D;
    let rank = |t: &DataType| match t {
        D::Int2 => Some(0),
        D::Int4 => Some(1),
        D::Int8 => Some(2),
        D::Numeric(_) => Some(3),
        D::Float4 => Some(4),
        D::Float8 => Some(5),
        _ => None,
    };
    // Numbers widen implicitly in this order and narrow on assignment.
    if let (Some(a), Some(b)) = (rank(from), rank(to)) {
        return Some(if a < b { Implicit } else { Assignment });
    }
    if from.is_oid_like() && to.is_oid_like() {
        let through_oid = *from == D::Oid || *to == D::Oid;
        return through_oid.then_some(Implicit);
    }
    Some(match (from, to) {
        (D::Int2 | D::Int4 | D::Int8, t) if t.is_oid_like() => Implicit,
        (f, D::Int8) if f.is_oid_like() => Assignment,
        (f, D::Int4) if f.is_oid_like() => Assignment,
        (D::Int4, D::Bool) | (D::Bool, D::Int4) => Explicit,
        (D::Int4, D::InternalChar) | (D::InternalChar, D::Int4) => Explicit,
        (D::Text | D::Varchar(_), D::RegClass) => Implicit,
        (D::Text | D::Varchar(_) | D::Char(_), D::Text | D::Varchar(_) | D::Char(_) | D::Name) => Implicit,
        (D::Name, D::Text) | (D::InternalChar, D::Text) => Implicit,
        (D::Name, D::Varchar(_) | D::Char(_)) => Assignment,
        (D::InternalChar, D::Varchar(_) | D::Char(_)) => Assignment,
        (D::Text | D::Varchar(_) | D::Char(_), D::InternalChar) => Assignment,
        (D::Date, D::Timestamp | D::TimestampTz) | (D::Timestamp, D::TimestampTz) => Implicit,
        (D::Timestamp, D::Date | D::Time) => Assignment,
        (D::TimestampTz, D::Date | D::Time | D::Timestamp) => Assignment,
        (D::Time, D::Interval) => Implicit,
        (D::Interval, D::Time) => Assignment,
        _ => return None,
    })
}
