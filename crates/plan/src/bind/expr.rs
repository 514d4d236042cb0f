//! Scalar expressions.

use meridian_datum::{CastContext, DataType, Datum, Result, SqlError, SqlState};
use sqlparser::ast::{self, Spanned, UnaryOperator};

use super::agg::Aggregates;
use super::scope::Scope;
use super::window::Windows;
use super::{At, Binder, name_of, pos};
use crate::expr::Expr;

/// The clause that an expression stands in, for what may stand there and for messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Clause {
    Select,
    Where,
    Having,
    GroupBy,
    OrderBy,
    JoinOn,
    FromFunction,
    Values,
    Limit,
    Offset,
    UpdateSource,
    AggregateArgument,
    Filter,
    WindowDefinition,
    Default,
    Check,
    IndexPredicate,
    IndexExpression,
    Execute,
    Transform,
}

impl Clause {
    /// PostgreSQL's name of the clause in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Clause::Select => "SELECT",
            Clause::Where => "WHERE",
            Clause::Having => "HAVING",
            Clause::GroupBy => "GROUP BY",
            Clause::OrderBy => "ORDER BY",
            Clause::JoinOn => "JOIN conditions",
            Clause::FromFunction => "functions in FROM",
            Clause::Values => "VALUES",
            Clause::Limit => "LIMIT",
            Clause::Offset => "OFFSET",
            Clause::UpdateSource => "UPDATE",
            Clause::AggregateArgument => "aggregate arguments",
            Clause::Filter => "FILTER",
            Clause::WindowDefinition => "window definitions",
            Clause::Default => "DEFAULT expressions",
            Clause::Check => "check constraints",
            Clause::IndexPredicate => "index predicates",
            Clause::IndexExpression => "index expressions",
            Clause::Execute => "EXECUTE parameters",
            Clause::Transform => "transform expressions",
        }
    }
}

/// Where an expression is bound.
pub(crate) struct Cx<'c, 's> {
    pub(crate) scope: &'c Scope<'s>,
    pub(crate) clause: Clause,
    /// Gathers aggregates, where they may stand.
    pub(crate) aggregates: Option<&'c mut Aggregates>,
    /// Gathers window functions, where they may stand.
    pub(crate) windows: Option<&'c mut Windows>,
}

impl<'c, 's> Cx<'c, 's> {
    pub(crate) fn new(scope: &'c Scope<'s>, clause: Clause) -> Self {
        Cx { scope, clause, aggregates: None, windows: None }
    }
}

impl Binder<'_> {
    /// Binds an expression. Its type may be unknown: the caller coerces.
    pub(crate) fn expr(&mut self, e: &ast::Expr, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        use ast::Expr as A;
        match e {
            A::Identifier(i) => self.identifier(i, cx),
            A::CompoundIdentifier(parts) => {
                let (last, qualifier) = parts.split_last().expect("a compound identifier has parts");
                let qualifier: Vec<String> = qualifier.iter().map(name_of).collect();
                self.qualified_column(cx.scope, &qualifier, &name_of(last), pos(parts[0].span))
            }
            A::Value(v) => self.literal(v),
            A::TypedString(t) => self.typed_string(t),
            A::Interval(i) => self.interval(i, cx),
            A::Nested(inner) => self.expr(inner, cx),
            A::BinaryOp { left, op, right } => self.binary(e, left, op, right, cx),
            A::UnaryOp { op, expr } => self.unary(e, *op, expr, cx),
            A::IsNull(x) => self.is_null(x, false, cx),
            A::IsNotNull(x) => self.is_null(x, true, cx),
            A::IsTrue(x) => self.is_bool(x, true, false, cx),
            A::IsNotTrue(x) => self.is_bool(x, true, true, cx),
            A::IsFalse(x) => self.is_bool(x, false, false, cx),
            A::IsNotFalse(x) => self.is_bool(x, false, true, cx),
            A::IsUnknown(x) => self.is_unknown(x, false, cx),
            A::IsNotUnknown(x) => self.is_unknown(x, true, cx),
            A::IsDistinctFrom(l, r) => self.is_distinct(e, l, r, false, cx),
            A::IsNotDistinctFrom(l, r) => self.is_distinct(e, l, r, true, cx),
            A::InList { expr, list, negated } => self.in_list(e, expr, list, *negated, cx),
            A::InSubquery { expr, subquery, negated } => self.in_subquery(expr, subquery, *negated, cx),
            A::Between { expr, negated, low, high } => self.between(e, expr, *negated, low, high, cx),
            A::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(e, if *negated { "!~~" } else { "~~" }, expr, pattern, escape_char.as_deref(), cx)
            }
            A::ILike { negated, any: false, expr, pattern, escape_char } => {
                self.like(e, if *negated { "!~~*" } else { "~~*" }, expr, pattern, escape_char.as_deref(), cx)
            }
            A::SimilarTo { negated, expr, pattern, escape_char } => {
                self.similar(e, *negated, expr, pattern, escape_char.as_deref(), cx)
            }
            A::AnyOp { left, compare_op, right, .. } => self.any_all(e, false, left, compare_op, right, cx),
            A::AllOp { left, compare_op, right } => self.any_all(e, true, left, compare_op, right, cx),
            A::Cast { kind, expr, data_type, .. } => self.cast(kind, expr, data_type, cx),
            A::AtTimeZone { timestamp, time_zone } => {
                // timezone(zone, timestamp)
                let zone = self.expr(time_zone, cx)?;
                let stamp = self.expr(timestamp, cx)?;
                self.call_named("timezone", vec![zone, stamp], position(e))
            }
            A::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), cx)
            }
            A::Exists { subquery, negated } => self.exists(subquery, *negated, cx),
            A::Subquery(q) => self.scalar_subquery(q, cx),
            A::Function(f) => self.function(f, cx),
            A::Array(a) => self.array(a, cx),
            A::CompoundFieldAccess { root, access_chain } => self.field_access(root, access_chain, cx),
            A::Tuple(items) => {
                let items = items.iter().map(|i| self.expr(i, cx)).collect::<Result<Vec<_>>>()?;
                Ok(Expr::Row(items))
            }
            A::Collate { expr, collation } => self.collate(expr, collation, cx),
            A::Extract { .. }
            | A::Position { .. }
            | A::Substring { .. }
            | A::Trim { .. }
            | A::Overlay { .. }
            | A::Ceil { .. }
            | A::Floor { .. } => self.keyword_function(e, cx),
            A::Prefixed { prefix, value } => {
                let operand = self.expr(value, cx)?;
                self.prefix_operator(&prefix.value, operand, pos(prefix.span))
            }
            A::JsonAccess { .. } | A::IsJson { .. } => {
                Err(SqlError::unsupported(format!("expression {e}")).at(position(e)))
            }
            A::GroupingSets(_) | A::Cube(_) | A::Rollup(_) => {
                let message = "grouping sets are allowed only in GROUP BY";
                Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(position(e)))
            }
            A::Wildcard(_) | A::QualifiedWildcard(..) => {
                Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"*\"").at(position(e)))
            }
            other => Err(SqlError::unsupported(format!("expression {other}")).at(position(e))),
        }
    }

    /// Binds an expression whose type must be known: an untyped literal is text.
    pub(crate) fn typed_expr(&mut self, e: &ast::Expr, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let bound = self.expr(e, cx)?;
        self.settle(bound)
    }

    /// Binds a condition.
    pub(crate) fn condition(&mut self, e: &ast::Expr, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let bound = self.expr(e, cx)?;
        let clause = match cx.clause {
            Clause::JoinOn => "JOIN/ON",
            Clause::IndexPredicate => "WHERE",
            other => other.name(),
        };
        self.coerce_bool(bound, clause, position(e))
    }

    fn identifier(&mut self, i: &ast::Ident, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let name = name_of(i);
        if i.quote_style.is_none()
            && is_value_keyword(&name)
            && let Some(e) = self.value_keyword(&name)?
        {
            return Ok(e);
        }
        if i.quote_style.is_none()
            && name == "default"
            && matches!(cx.clause, Clause::Values | Clause::UpdateSource)
        {
            let message = "DEFAULT is not allowed in this context";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(pos(i.span)));
        }
        self.column(cx.scope, &name, pos(i.span))
    }

    fn unary(
        &mut self,
        whole: &ast::Expr,
        op: UnaryOperator,
        e: &ast::Expr,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let symbol = match op {
            UnaryOperator::Not => {
                let inner = self.expr(e, cx)?;
                let inner = self.coerce_bool(inner, "NOT", position(e))?;
                return Ok(negate(inner));
            }
            UnaryOperator::Minus => {
                if let Some(literal) = self.negative_literal(e)? {
                    return Ok(literal);
                }
                "-"
            }
            UnaryOperator::Plus => "+",
            UnaryOperator::BitwiseNot => "~",
            UnaryOperator::PGAbs => "@",
            UnaryOperator::PGSquareRoot => "|/",
            UnaryOperator::PGCubeRoot => "||/",
            other => return Err(SqlError::unsupported(format!("operator {other}")).at(position(whole))),
        };
        let operand = self.expr(e, cx)?;
        self.prefix_operator(symbol, operand, position(whole))
    }

    fn is_null(&mut self, e: &ast::Expr, negated: bool, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let input = self.typed_expr(e, cx)?;
        if let Expr::Row(items) = input {
            // A row IS NULL when all its fields are, and IS NOT NULL when none is.
            let parts = items.into_iter().map(|i| Expr::IsNull { input: Box::new(i), negated }).collect();
            return Ok(conjunction(parts));
        }
        if let Expr::Const(d, _) = &input {
            return Ok(Expr::bool(d.is_null() != negated));
        }
        Ok(Expr::IsNull { input: Box::new(input), negated })
    }

    fn is_bool(&mut self, e: &ast::Expr, value: bool, negated: bool, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let input = self.expr(e, cx)?;
        let clause = match (negated, value) {
            (false, true) => "IS TRUE",
            (false, false) => "IS FALSE",
            (true, true) => "IS NOT TRUE",
            (true, false) => "IS NOT FALSE",
        };
        let input = self.coerce_bool(input, clause, position(e))?;
        if let Expr::Const(d, _) = &input {
            let is = d.as_bool() == Some(value);
            return Ok(Expr::bool(is != negated));
        }
        Ok(Expr::IsBool { input: Box::new(input), value, negated })
    }

    fn is_unknown(&mut self, e: &ast::Expr, negated: bool, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let input = self.expr(e, cx)?;
        let clause = if negated { "IS NOT UNKNOWN" } else { "IS UNKNOWN" };
        let input = self.coerce_bool(input, clause, position(e))?;
        Ok(Expr::IsNull { input: Box::new(input), negated })
    }

    fn is_distinct(
        &mut self,
        whole: &ast::Expr,
        left: &ast::Expr,
        right: &ast::Expr,
        negated: bool,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let l = self.expr(left, cx)?;
        let r = self.expr(right, cx)?;
        if let (Expr::Row(a), Expr::Row(b)) = (&l, &r) {
            if a.len() != b.len() {
                return Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    "unequal number of entries in row expressions",
                )
                .at(self.operator_position(left, right)));
            }
            let parts =
                a.iter().zip(b).map(|(x, y)| self.distinct_pair(x.clone(), y.clone(), true, position(whole)));
            let same = conjunction(parts.collect::<Result<Vec<_>>>()?);
            return Ok(if negated { same } else { negate(same) });
        }
        let at = self.operator_position(left, right);
        self.distinct_pair(l, r, negated, at)
    }

    fn distinct_pair(&mut self, l: Expr, r: Expr, negated: bool, position: u32) -> Result<Expr> {
        let is_null = |e: &Expr| matches!(e, Expr::Const(Datum::Null, _));
        let both_null = is_null(&l) && is_null(&r);
        // The comparison is chosen as for `=`; only its argument types are used.
        let equal = self.operator("=", l, r, position)?;
        let Expr::Call { args, .. } = equal else {
            return match equal {
                // Folded: both sides were constant, and NULL came out if either was NULL.
                Expr::Const(d, _) => Ok(Expr::bool(d.as_bool().unwrap_or(both_null) == negated)),
                _ => Err(SqlError::internal("a comparison is a call")),
            };
        };
        let [left, right]: [Expr; 2] =
            args.try_into().map_err(|_| SqlError::internal("a comparison has two arguments"))?;
        Ok(Expr::IsDistinct { left: Box::new(left), right: Box::new(right), negated })
    }

    fn cast(
        &mut self,
        kind: &ast::CastKind,
        e: &ast::Expr,
        data_type: &ast::DataType,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        if matches!(kind, ast::CastKind::TryCast | ast::CastKind::SafeCast) {
            return Err(SqlError::unsupported("TRY_CAST"));
        }
        let to = self.data_type(data_type).at(position(e))?;
        if let (ast::Expr::Array(a), DataType::Array(element)) = (strip_nested(e), &to) {
            return self.typed_array(a, element, cx);
        }
        let inner = self.expr(e, cx)?;
        self.coerce(inner, &to, CastContext::Explicit, position(e))
    }

    fn collate(&mut self, e: &ast::Expr, collation: &ast::ObjectName, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let name = super::names_of(collation)?;
        let last = name.last().map_or("", String::as_str);
        // Text is ordered by bytes, which is what these collations say.
        if !matches!(
            last.to_ascii_lowercase().as_str(),
            "c" | "posix" | "default" | "ucs_basic" | "c.utf8" | "c.utf-8"
        ) {
            let message = format!("collation \"{last}\" for encoding \"UTF8\" does not exist");
            return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message).at(super::position_of(collation)));
        }
        let inner = self.typed_expr(e, cx)?;
        if !inner.ty().is_string() {
            let message = format!("collations are not supported by type {}", inner.ty());
            return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).at(position(e)));
        }
        Ok(inner)
    }

    /// Where the operator between two expressions stands: the first character after the left one that is no blank.
    pub(super) fn operator_position(&self, left: &ast::Expr, right: &ast::Expr) -> u32 {
        let (end, start) = (end(left), u64::from(position(right)));
        if end == 0 || start <= end {
            return position(left);
        }
        let between = crate::parse::slice(self.source, end, start);
        let skip = between.chars().take_while(|c| c.is_whitespace() || *c == ')').count();
        (end as usize + skip) as u32
    }
}

/// Where an expression begins. The left side of a chain of operators is walked in a loop, since every link asks.
pub(crate) fn position(e: &ast::Expr) -> u32 {
    let mut first = e;
    while let ast::Expr::BinaryOp { left, .. }
    | ast::Expr::IsNull(left)
    | ast::Expr::IsNotNull(left)
    | ast::Expr::AtTimeZone { timestamp: left, .. } = first
    {
        first = left;
    }
    match pos(first.span()) {
        0 => pos(e.span()),
        at => at,
    }
}

/// Behind which column an expression ends.
fn end(e: &ast::Expr) -> u64 {
    let mut last = e;
    while let ast::Expr::BinaryOp { right, .. } = last {
        last = right;
    }
    match last.span().end.column {
        0 => e.span().end.column,
        at => at,
    }
}

/// The expression without parentheses around it.
pub(super) fn strip_nested(mut e: &ast::Expr) -> &ast::Expr {
    while let ast::Expr::Nested(inner) = e {
        e = inner;
    }
    e
}

/// NOT, pushed into what has a negated form.
pub(crate) fn negate(e: Expr) -> Expr {
    match e {
        Expr::Not(inner) => *inner,
        Expr::Const(Datum::Bool(b), ty) => Expr::Const(Datum::Bool(!b), ty),
        Expr::Const(Datum::Null, ty) => Expr::Const(Datum::Null, ty),
        Expr::IsNull { input, negated } => Expr::IsNull { input, negated: !negated },
        Expr::IsBool { input, value, negated } => Expr::IsBool { input, value, negated: !negated },
        Expr::IsDistinct { left, right, negated } => Expr::IsDistinct { left, right, negated: !negated },
        Expr::InSet { input, set, has_null, negated } => {
            Expr::InSet { input, set, has_null, negated: !negated }
        }
        other => Expr::Not(Box::new(other)),
    }
}

/// AND of the parts, flattened; constants are folded.
pub(crate) fn conjunction(parts: Vec<Expr>) -> Expr {
    let mut flat = Vec::with_capacity(parts.len());
    for p in parts {
        match p {
            Expr::And(inner) => flat.extend(inner),
            Expr::Const(Datum::Bool(true), _) => {}
            f @ Expr::Const(Datum::Bool(false), _) => return f,
            other => flat.push(other),
        }
    }
    match flat.len() {
        0 => Expr::bool(true),
        1 => flat.pop().expect("one"),
        _ => Expr::And(flat),
    }
}

/// OR of the parts, flattened; constants are folded.
pub(crate) fn disjunction(parts: Vec<Expr>) -> Expr {
    let mut flat = Vec::with_capacity(parts.len());
    for p in parts {
        match p {
            Expr::Or(inner) => flat.extend(inner),
            Expr::Const(Datum::Bool(false), _) => {}
            t @ Expr::Const(Datum::Bool(true), _) => return t,
            other => flat.push(other),
        }
    }
    match flat.len() {
        0 => Expr::bool(false),
        1 => flat.pop().expect("one"),
        _ => Expr::Or(flat),
    }
}

/// Words that are values rather than columns.
fn is_value_keyword(name: &str) -> bool {
    matches!(
        name,
        "current_date"
            | "current_time"
            | "current_timestamp"
            | "localtime"
            | "localtimestamp"
            | "current_user"
            | "session_user"
            | "current_role"
            | "user"
            | "current_catalog"
            | "current_schema"
    )
}
