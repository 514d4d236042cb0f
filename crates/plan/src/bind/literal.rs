//! Literals.

use meridian_datum::{CastContext, DataType, Datum, Result, SqlError, SqlState, parse_text};
use sqlparser::ast::{self, DateTimeField, Value};

use super::expr::{Cx, position, strip_nested};
use super::{At, Binder, pos};
use crate::expr::Expr;

impl Binder<'_> {
    pub(super) fn literal(&mut self, v: &ast::ValueWithSpan) -> Result<Expr> {
        let at = pos(v.span);
        match &v.value {
            Value::Number(n, _) => self.number(n, at),
            Value::SingleQuotedString(s)
            | Value::EscapedStringLiteral(s)
            | Value::UnicodeStringLiteral(s)
            | Value::NationalStringLiteral(s) => text(s, at),
            Value::DollarQuotedString(d) => text(&d.value, at),
            Value::Boolean(b) => Ok(Expr::bool(*b)),
            Value::Null => Ok(Expr::Const(Datum::Null, DataType::Unknown)),
            Value::Placeholder(p) => self.parameter(p, at),
            Value::HexStringLiteral(_) | Value::SingleQuotedByteStringLiteral(_) => {
                Err(SqlError::unsupported("a bit string constant").at(at))
            }
            other => Err(SqlError::unsupported(format!("constant {other}")).at(at)),
        }
    }

    /// `integer`, else `bigint`, else `numeric`, as the value fits.
    pub(super) fn number(&mut self, n: &str, at: u32) -> Result<Expr> {
        let digits = n.strip_prefix('-').unwrap_or(n);
        if digits.bytes().all(|b| b.is_ascii_digit())
            && let Ok(v) = n.parse::<i64>()
        {
            let ty = if i32::try_from(v).is_ok() { DataType::Int4 } else { DataType::Int8 };
            return Ok(Expr::Const(Datum::Int(v), ty));
        }
        if n.contains('_') {
            let message = format!("trailing junk after numeric literal at or near \"{n}\"");
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(at));
        }
        let value = parse_text(self.ctx.eval, n, &DataType::Numeric(None)).at(at)?;
        Ok(Expr::Const(value, DataType::Numeric(None)))
    }

    /// `-1` is a literal of its own, so that `-2147483648` is an integer.
    pub(super) fn negative_literal(&mut self, e: &ast::Expr) -> Result<Option<Expr>> {
        let ast::Expr::Value(v) = e else { return Ok(None) };
        let Value::Number(n, _) = &v.value else { return Ok(None) };
        self.number(&format!("-{n}"), pos(v.span)).map(Some)
    }

    /// `DATE '2020-01-01'`.
    pub(super) fn typed_string(&mut self, t: &ast::TypedString) -> Result<Expr> {
        let ty = self.data_type(&t.data_type)?;
        let value = self.literal(&t.value)?;
        self.coerce(value, &ty, CastContext::Explicit, pos(t.value.span))
    }

    /// `INTERVAL '1 day'`, `INTERVAL '1' DAY`.
    pub(super) fn interval(&mut self, i: &ast::Interval, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let at = position(&i.value);
        let value = self.expr(&i.value, cx)?;
        if let Some(p) = i.leading_precision.or(i.fractional_seconds_precision) {
            return Err(SqlError::unsupported(format!("type interval({p})")).at(at));
        }
        let Some(field) = &i.leading_field else {
            return self.coerce(value, &DataType::Interval, CastContext::Explicit, at);
        };
        if i.last_field.is_some() {
            return Err(SqlError::unsupported("interval fields of a range").at(at));
        }
        let ast::Expr::Value(v) = strip_nested(&i.value) else {
            return Err(SqlError::unsupported("interval fields of an expression").at(at));
        };
        let unit = match field {
            DateTimeField::Year | DateTimeField::Years => "year",
            DateTimeField::Month | DateTimeField::Months => "month",
            DateTimeField::Day | DateTimeField::Days => "day",
            DateTimeField::Hour | DateTimeField::Hours => "hour",
            DateTimeField::Minute | DateTimeField::Minutes => "minute",
            DateTimeField::Second | DateTimeField::Seconds => "second",
            other => return Err(SqlError::unsupported(format!("interval field {other}")).at(at)),
        };
        let Value::SingleQuotedString(s) = &v.value else {
            return Err(SqlError::unsupported("interval fields of a number").at(at));
        };
        let plain = s.trim().parse::<f64>().is_ok();
        let text = if plain { format!("{s} {unit}") } else { s.clone() };
        let value = Expr::Const(Datum::from(text), DataType::Unknown);
        self.coerce(value, &DataType::Interval, CastContext::Explicit, at)
    }
}

/// A string literal, of no type yet.
fn text(s: &str, at: u32) -> Result<Expr> {
    if s.contains('\0') {
        let message = "invalid byte sequence for encoding \"UTF8\": 0x00";
        return Err(SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message).at(at));
    }
    Ok(Expr::Const(Datum::text(s), DataType::Unknown))
}
