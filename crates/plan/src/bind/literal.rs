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

    /// `INTERVAL '1 day'`, and with fields: `INTERVAL '1' DAY`, `INTERVAL '1-2' YEAR TO MONTH`, `INTERVAL '1.5' SECOND(0)`.
    pub(super) fn interval(&mut self, i: &ast::Interval, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let at = position(&i.value);
        let value = self.expr(&i.value, cx)?;
        let precision = i.fractional_seconds_precision.or(i.leading_precision);
        let Some(first) = &i.leading_field else {
            let interval = self.coerce(value, &DataType::Interval, CastContext::Explicit, at)?;
            return restrict(interval, None, precision, at);
        };
        let first = field(first).at(at)?;
        let last = match &i.last_field {
            Some(last) => field(last).at(at)?,
            None => first,
        };
        if last < first || (first <= Field::Month) != (last <= Field::Month) {
            return Err(
                SqlError::new(SqlState::SYNTAX_ERROR, "syntax error in the fields of an interval").at(at)
            );
        }
        let ast::Expr::Value(v) = strip_nested(&i.value) else {
            return Err(SqlError::unsupported("interval fields of an expression").at(at));
        };
        let Value::SingleQuotedString(s) = &v.value else {
            return Err(SqlError::unsupported("interval fields of a number").at(at));
        };
        let text = with_unit(s.trim(), first, last);
        let value = Expr::Const(Datum::from(text), DataType::Unknown);
        let interval = self.coerce(value, &DataType::Interval, CastContext::Explicit, at)?;
        restrict(interval, Some(last), precision, at)
    }
}

/// The fields of an interval, the coarsest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

fn field(f: &DateTimeField) -> Result<Field> {
    Ok(match f {
        DateTimeField::Year | DateTimeField::Years => Field::Year,
        DateTimeField::Month | DateTimeField::Months => Field::Month,
        DateTimeField::Day | DateTimeField::Days => Field::Day,
        DateTimeField::Hour | DateTimeField::Hours => Field::Hour,
        DateTimeField::Minute | DateTimeField::Minutes => Field::Minute,
        DateTimeField::Second | DateTimeField::Seconds => Field::Second,
        other => return Err(SqlError::unsupported(format!("interval field {other}"))),
    })
}

/// A bare number counts the last field; two numbers with a colon are minutes and seconds where hours are left out.
fn with_unit(text: &str, first: Field, last: Field) -> String {
    let unit = match last {
        Field::Year => "year",
        Field::Month => "month",
        Field::Day => "day",
        Field::Hour => "hour",
        Field::Minute => "minute",
        Field::Second => "second",
    };
    if text.parse::<f64>().is_ok() {
        return format!("{text} {unit}");
    }
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-' | b'+') => text.split_at(1),
        _ => ("", text),
    };
    let is_clock = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b':' | b'.'));
    if first == Field::Minute && last == Field::Second && is_clock && digits.matches(':').count() == 1 {
        return format!("{sign}00:{digits}");
    }
    text.to_owned()
}

/// Leaves out what is finer than the last field, and rounds seconds to a number of digits.
fn restrict(e: Expr, last: Option<Field>, precision: Option<u64>, at: u32) -> Result<Expr> {
    const HOUR: i64 = 60 * MINUTE;
    const MINUTE: i64 = 60_000_000;
    let Expr::Const(Datum::Interval(mut i), ty) = e else {
        if precision.is_some_and(|p| p < 6) {
            return Err(SqlError::unsupported("the precision of an interval that is no constant").at(at));
        }
        return Ok(e);
    };
    match last {
        Some(Field::Year) => {
            i.months -= i.months % 12;
            (i.days, i.us) = (0, 0);
        }
        Some(Field::Month) => (i.days, i.us) = (0, 0),
        Some(Field::Day) => i.us = 0,
        Some(Field::Hour) => i.us -= i.us % HOUR,
        Some(Field::Minute) => i.us -= i.us % MINUTE,
        Some(Field::Second) | None => {}
    }
    if let Some(p) = precision.filter(|p| *p < 6) {
        let unit = 10i64.pow(6 - p as u32);
        let half = if i.us < 0 { -unit / 2 } else { unit / 2 };
        let rounded = i.us.saturating_add(half);
        i.us = rounded - rounded % unit;
    }
    Ok(Expr::Const(Datum::Interval(i), ty))
}

/// A string literal, of no type yet.
fn text(s: &str, at: u32) -> Result<Expr> {
    if s.contains('\0') {
        let message = "invalid byte sequence for encoding \"UTF8\": 0x00";
        return Err(SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message).at(at));
    }
    Ok(Expr::Const(Datum::text(s), DataType::Unknown))
}
