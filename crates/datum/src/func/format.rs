//! `format()`: `%s`, `%I`, `%L`, with positions and widths.

use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::func::access::text;
use crate::func::registry::Ty::{Any, Text};
use crate::func::registry::{FunctionDef, def};
use crate::func::string::{output, quote_identifier, quote_literal};
use crate::state::SqlState;

fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut n: Option<usize> = None;
    while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
        n = Some(n.unwrap_or(0).saturating_mul(10).saturating_add(d as usize).min(1 << 20));
        chars.next();
    }
    n
}

fn format(ctx: &EvalContext, a: &[Datum]) -> Result<Datum> {
    if a[0].is_null() {
        return Ok(Datum::Null);
    }
    let mut out = String::new();
    let mut next = 1;
    let mut chars = text(&a[0]).chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut width = digits(&mut chars);
        let mut position = None;
        if chars.peek() == Some(&'$') {
            chars.next();
            position = width.take();
            if position == Some(0) {
                return Err(SqlError::invalid_parameter(
                    "format specifies argument 0, but arguments are numbered from 1",
                ));
            }
        }
        let left = chars.peek() == Some(&'-');
        if left {
            chars.next();
        }
        width = width.or_else(|| digits(&mut chars));
        if chars.peek() == Some(&'*') {
            return Err(SqlError::unsupported("a width taken from an argument of format()"));
        }
        let Some(kind) = chars.next() else {
            return Err(SqlError::invalid_parameter("unterminated format() type specifier")
                .with_hint("For a single \"%\" use \"%%\"."));
        };
        if !matches!(kind, 's' | 'I' | 'L') {
            return Err(SqlError::invalid_parameter(format!(
                "unrecognized format() type specifier \"{kind}\""
            ))
            .with_hint("For a single \"%\" use \"%%\"."));
        }
        let index = position.unwrap_or(next);
        next = index + 1;
        let value =
            a.get(index).ok_or_else(|| SqlError::invalid_parameter("too few arguments for format()"))?;
        let shown = match (kind, value.is_null()) {
            ('s', true) => String::new(),
            ('s', false) => output(ctx, value),
            ('I', true) => {
                return Err(SqlError::new(
                    SqlState::NULL_VALUE_NOT_ALLOWED,
                    "null values cannot be formatted as an SQL identifier",
                ));
            }
            ('I', false) => quote_identifier(&output(ctx, value)),
            (_, true) => "NULL".to_owned(),
            (_, false) => quote_literal(&output(ctx, value)),
        };
        let padding = width.unwrap_or(0).saturating_sub(shown.chars().count());
        if !left {
            out.extend(std::iter::repeat_n(' ', padding));
        }
        out.push_str(&shown);
        if left {
            out.extend(std::iter::repeat_n(' ', padding));
        }
    }
    Ok(Datum::from(out))
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("format", &[Text], Text, format).on_null().stable(),
    def("format", &[Text, Any], Text, format).variadic().on_null().stable(),
];
