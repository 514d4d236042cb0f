//! What casts do to values.

use std::sync::Arc;

use crate::array::ArrayValue;
use crate::calendar::{END_TIMESTAMP, US_PER_DAY, is_infinite, split};
use crate::cast::{CastContext, cast};
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::decimal::Decimal;
use crate::error::{Result, SqlError};
use crate::format::{parse_text, to_text};
use crate::interval::Interval;
use crate::state::SqlState;
use crate::types::DataType;

/// Converts between different types, without the target's modifier.
pub(super) fn convert(
    ctx: &EvalContext,
    value: Datum,
    from: &DataType,
    to: &DataType,
    context: CastContext,
) -> Result<Datum> {
    use DataType as D;
    if *from == D::Unknown {
        return match &value {
            Datum::Text(s) => parse_text(ctx, s, to),
            _ => Ok(value),
        };
    }
    Ok(match (value, to) {
        (Datum::Int(v), D::Int2) => {
            Datum::Int(int_in(v, "smallint", i64::from(i16::MIN), i64::from(i16::MAX))?)
        }
        (Datum::Int(v), D::Int4) if from.is_oid_like() => Datum::Int(i64::from(v as u32 as i32)),
        (Datum::Int(v), D::Int4) => {
            Datum::Int(int_in(v, "integer", i64::from(i32::MIN), i64::from(i32::MAX))?)
        }
        (Datum::Int(v), D::Int8) => Datum::Int(v),
        (Datum::Int(v), t) if t.is_oid_like() => Datum::Int(to_oid(v, from)?),
        (Datum::Int(v), D::Float4) => Datum::Float4(v as f32),
        (Datum::Int(v), D::Float8) => Datum::Float8(v as f64),
        (Datum::Int(v), D::Numeric(_)) => Datum::Numeric(v.into()),
        (Datum::Int(v), D::Bool) => Datum::Bool(v != 0),
        (Datum::Int(v), D::InternalChar) => internal_char(v)?,
        (Datum::Bool(v), D::Int4) => Datum::Int(i64::from(v)),
        (Datum::Bool(v), t) if t.is_string() && *t != D::Name => string(if v { "true" } else { "false" }, t),
        (Datum::Float4(v), D::Float8) => Datum::Float8(f64::from(v)),
        (Datum::Float4(v), D::Numeric(_)) => Datum::Numeric(Decimal::from_f32(v)),
        (Datum::Float4(v), t) if t.is_integer() => float_to_int(f64::from(v), t)?,
        (Datum::Float8(v), D::Float4) => Datum::Float4(narrow(v)?),
        (Datum::Float8(v), D::Numeric(_)) => Datum::Numeric(Decimal::from_f64(v)),
        (Datum::Float8(v), t) if t.is_integer() => float_to_int(v, t)?,
        (Datum::Numeric(v), t) if t.is_integer() => numeric_to_int(&v, t)?,
        (Datum::Numeric(v), D::Float8) => Datum::Float8(numeric_to_f64(&v)?),
        (Datum::Numeric(v), D::Float4) => Datum::Float4(numeric_to_f32(&v)?),
        (Datum::Date(v), D::Timestamp) => Datum::Timestamp(date_to_timestamp(v)?),
        (Datum::Date(v), D::TimestampTz) => Datum::TimestampTz(ctx.time_zone.to_utc(date_to_timestamp(v)?)),
        (Datum::Timestamp(v), D::TimestampTz) => Datum::TimestampTz(ctx.time_zone.to_utc(v)),
        (Datum::TimestampTz(v), D::Timestamp) => Datum::Timestamp(ctx.time_zone.to_local(v)),
        (Datum::Timestamp(v), D::Date) => Datum::Date(timestamp_to_date(v)),
        (Datum::TimestampTz(v), D::Date) => Datum::Date(timestamp_to_date(ctx.time_zone.to_local(v))),
        (Datum::Timestamp(v), D::Time) => time_of(v),
        (Datum::TimestampTz(v), D::Time) => time_of(ctx.time_zone.to_local(v)),
        (Datum::Time(v), D::Interval) => Datum::Interval(Interval::new(0, 0, v)),
        (Datum::Interval(v), D::Time) => Datum::Time(v.us.rem_euclid(US_PER_DAY)),
        (Datum::Array(a), D::Array(e)) => Datum::Array(convert_array(ctx, &a, e, context)?),
        (Datum::Char(s), D::Text | D::Varchar(_) | D::Name) => string(s.trim_end_matches(' '), to),
        (Datum::Text(s), D::Text | D::Varchar(_)) => Datum::Text(s),
        (Datum::Text(s), D::Char(_)) => Datum::Char(s),
        (Datum::Text(s), D::Int4) if *from == D::InternalChar => {
            Datum::Int(i64::from(s.bytes().next().unwrap_or(0) as i8))
        }
        (Datum::Text(s) | Datum::Char(s), t) => parse_text(ctx, &s, t)?,
        (value, t) if t.is_string() => string(&to_text(ctx, &value, from), t),
        _ => return Err(SqlError::cannot_cast(&from.to_string(), &to.to_string())),
    })
}

fn string(text: &str, to: &DataType) -> Datum {
    match to {
        DataType::Char(_) => Datum::Char(text.into()),
        DataType::Name => Datum::Text(text[..text.floor_char_boundary(63)].into()),
        _ => Datum::Text(text.into()),
    }
}

fn int_in(v: i64, type_name: &str, min: i64, max: i64) -> Result<i64> {
    if (min..=max).contains(&v) { Ok(v) } else { Err(SqlError::out_of_range(type_name)) }
}

fn to_oid(v: i64, from: &DataType) -> Result<i64> {
    match from {
        // The bits of a smaller integer are taken as they are.
        DataType::Int2 | DataType::Int4 => Ok(i64::from(v as i32 as u32)),
        DataType::Int8 => int_in(v, "OID", 0, i64::from(u32::MAX)),
        _ => Ok(v),
    }
}

fn internal_char(v: i64) -> Result<Datum> {
    if !(i64::from(i8::MIN)..=i64::from(i8::MAX)).contains(&v) {
        return Err(SqlError::out_of_range("\"char\""));
    }
    if v < 0 {
        return Err(SqlError::unsupported("a \"char\" beyond ASCII"));
    }
    let c = char::from(v as u8);
    Ok(if v == 0 { Datum::text("") } else { Datum::text(c.to_string()) })
}

fn bounds(to: &DataType) -> (&'static str, i64, i64) {
    match to {
        DataType::Int2 => ("smallint", i64::from(i16::MIN), i64::from(i16::MAX)),
        DataType::Int4 => ("integer", i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => ("bigint", i64::MIN, i64::MAX),
    }
}

/// Rounds half to even, as C's `rint`.
fn float_to_int(v: f64, to: &DataType) -> Result<Datum> {
    let (name, min, max) = bounds(to);
    let rounded = v.round_ties_even();
    // The upper bound itself is no double for bigint; the next above it is, and is out of range.
    let fits = rounded >= min as f64
        && if *to == DataType::Int8 { rounded < max as f64 } else { rounded <= max as f64 };
    if !fits {
        return Err(SqlError::out_of_range(name));
    }
    Ok(Datum::Int(rounded as i64))
}

/// Rounds half away from zero.
fn numeric_to_int(v: &Decimal, to: &DataType) -> Result<Datum> {
    let (name, min, max) = bounds(to);
    if !v.is_finite() {
        let what = if v.is_nan() { "NaN" } else { "infinity" };
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("cannot convert {what} to {name}"),
        ));
    }
    match v.to_i64() {
        Some(i) => int_in(i, name, min, max).map(Datum::Int),
        None => Err(SqlError::out_of_range(name)),
    }
}

/// A double as a single, or 22003.
pub(crate) fn narrow(v: f64) -> Result<f32> {
    let single = v as f32;
    if single.is_infinite() && !v.is_infinite() {
        return Err(SqlError::float_overflow());
    }
    if single == 0.0 && v != 0.0 {
        return Err(SqlError::float_underflow());
    }
    Ok(single)
}

pub(crate) fn numeric_to_f64(v: &Decimal) -> Result<f64> {
    let double = v.to_f64();
    let lost = v.is_finite() && (double.is_infinite() || (double == 0.0 && !v.is_zero()));
    if lost {
        let message = format!("\"{v}\" is out of range for type double precision");
        return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
    }
    Ok(double)
}

fn numeric_to_f32(v: &Decimal) -> Result<f32> {
    if !v.is_finite() {
        return Ok(v.to_f64() as f32);
    }
    let single: f32 = v.to_string().parse().expect("a numeric's text is a number");
    if single.is_infinite() || (single == 0.0 && !v.is_zero()) {
        let message = format!("\"{v}\" is out of range for type real");
        return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
    }
    Ok(single)
}

pub(crate) fn date_to_timestamp(days: i32) -> Result<i64> {
    match days {
        i32::MIN => Ok(i64::MIN),
        i32::MAX => Ok(i64::MAX),
        _ => {
            let us = i64::from(days).checked_mul(US_PER_DAY).filter(|us| *us < END_TIMESTAMP);
            us.ok_or_else(|| {
                SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range for timestamp")
            })
        }
    }
}

pub(crate) fn timestamp_to_date(us: i64) -> i32 {
    match us {
        i64::MIN => i32::MIN,
        i64::MAX => i32::MAX,
        _ => split(us).0 as i32,
    }
}

fn time_of(us: i64) -> Datum {
    if is_infinite(us) { Datum::Null } else { Datum::Time(split(us).1) }
}

fn convert_array(
    ctx: &EvalContext,
    array: &ArrayValue,
    to: &DataType,
    context: CastContext,
) -> Result<Arc<ArrayValue>> {
    let from = array.element_type();
    let elements: Result<Vec<Datum>> =
        array.elements().iter().map(|e| cast(ctx, e.clone(), from, to, context)).collect();
    Ok(Arc::new(ArrayValue::with_dimensions(to.clone(), array.dimensions().to_vec(), elements?)))
}

/// Fits a value of the type to the type's modifier.
pub(super) fn fit(value: Datum, to: &DataType, context: CastContext) -> Result<Datum> {
    Ok(match (value, to) {
        (Datum::Numeric(v), DataType::Numeric(Some(m))) => Datum::Numeric(v.with_modifier(*m)?),
        (Datum::Text(s), DataType::Varchar(Some(n))) => match cut(&s, *n, to, context)? {
            Some(end) => Datum::Text(s[..end].into()),
            None => Datum::Text(s),
        },
        (Datum::Char(s), DataType::Char(Some(n))) => match cut(&s, *n, to, context)? {
            Some(end) => Datum::Char(s[..end].into()),
            None => Datum::Char(pad(s, *n as usize)),
        },
        (Datum::Array(a), DataType::Array(e)) => {
            let elements: Result<Vec<Datum>> = a
                .elements()
                .iter()
                .map(|v| if v.is_null() { Ok(Datum::Null) } else { fit(v.clone(), e, context) })
                .collect();
            let element_type = (**e).clone();
            let fitted = ArrayValue::with_dimensions(element_type, a.dimensions().to_vec(), elements?);
            Datum::Array(Arc::new(fitted))
        }
        (value, _) => value,
    })
}

/// Where a string of more than `n` characters must be cut; an error unless the cast was written out or only blanks
/// would go.
fn cut(text: &str, n: u32, to: &DataType, context: CastContext) -> Result<Option<usize>> {
    if text.len() <= n as usize {
        return Ok(None);
    }
    let Some((end, _)) = text.char_indices().nth(n as usize) else { return Ok(None) };
    if context != CastContext::Explicit && !text[end..].bytes().all(|b| b == b' ') {
        return Err(SqlError::value_too_long(&to.to_string()));
    }
    Ok(Some(end))
}

fn pad(text: Arc<str>, n: usize) -> Arc<str> {
    let have = text.chars().count();
    if have >= n {
        return text;
    }
    let mut padded = String::with_capacity(text.len() + n - have);
    padded.push_str(&text);
    padded.extend(std::iter::repeat_n(' ', n - have));
    padded.into()
}
