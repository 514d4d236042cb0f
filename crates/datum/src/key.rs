//! Values as columns of keys.
//!
//! `meridian-keys` knows how bytes sort; here is which of its primitives a SQL type takes. Keys hold values up to
//! equality: `1.0` and `1.00` are one key, so are `1 mon` and `30 days`, and `-0` is `0`. A type where equal values can
//! look different is not [`key_is_exact`]; whoever stores a row keeps such a column in the row's value too and takes
//! what it shows from there.

use std::sync::Arc;

use meridian_keys::{Decimal as KeyDecimal, Direction, KeyBuilder, KeyError, KeyReader, Nulls};

use crate::datum::Datum;
use crate::decimal::Decimal;
use crate::error::{Result, SqlError};
use crate::interval::{DAYS_PER_MONTH, Interval, US_PER_DAY};
use crate::state::SqlState;
use crate::types::DataType;

/// Whether values of the type can be columns of a key.
pub fn is_key_type(data_type: &DataType) -> bool {
    !matches!(
        data_type,
        DataType::Array(_)
            | DataType::Int2Vector
            | DataType::OidVector
            | DataType::Record
            | DataType::Json
            | DataType::Void
            | DataType::Unknown
    )
}

/// Whether a value can be had back from its key as it was.
pub fn key_is_exact(data_type: &DataType) -> bool {
    !matches!(
        data_type,
        DataType::Numeric(None)
            | DataType::Interval
            | DataType::Float4
            | DataType::Float8
            | DataType::Char(None)
    )
}

/// Appends a value to a key.
///
/// # Errors
/// `0A000` for arrays and rows.
pub fn push_key(value: &Datum, direction: Direction, nulls: Nulls, key: &mut KeyBuilder) -> Result<()> {
    match value {
        Datum::Null => key.push_null(direction, nulls),
        Datum::Bool(v) => key.push_bool(*v, direction),
        Datum::Int(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => {
            key.push_int(*v, direction)
        }
        Datum::Date(v) => key.push_int(i64::from(*v), direction),
        Datum::Float4(v) => key.push_float(f64::from(*v), direction),
        Datum::Float8(v) => key.push_float(*v, direction),
        Datum::Numeric(v) => key.push_decimal(&to_key_decimal(v), direction),
        Datum::Text(s) => key.push_bytes(s.as_bytes(), direction),
        Datum::Char(s) => key.push_bytes(s.trim_end_matches(' ').as_bytes(), direction),
        Datum::Bytea(b) => key.push_bytes(b, direction),
        Datum::Interval(i) => key.push_int128(i.span(), direction),
        Datum::Uuid(u) => key.push_uuid(u128::from_be_bytes(*u), direction),
        Datum::Array(_) => return Err(SqlError::unsupported("an array in a key")),
        Datum::Record(_) => return Err(SqlError::unsupported("a row in a key")),
    }
    Ok(())
}

fn to_key_decimal(v: &Decimal) -> KeyDecimal {
    let Some((coefficient, scale)) = v.parts() else {
        return match (v.is_nan(), v.signum() > 0) {
            (true, _) => KeyDecimal::NaN,
            (false, true) => KeyDecimal::PosInfinity,
            (false, false) => KeyDecimal::NegInfinity,
        };
    };
    let digits: Vec<u8> = coefficient.magnitude().to_str_radix(10).bytes().map(|b| b - b'0').collect();
    KeyDecimal::finite(v.signum() < 0, &digits, i64::from(scale))
}

fn corrupt(error: &KeyError) -> SqlError {
    SqlError::new(SqlState::INDEX_CORRUPTED, "a stored key cannot be decoded").with_detail(error.to_string())
}

fn mistyped() -> SqlError {
    SqlError::new(SqlState::INDEX_CORRUPTED, "a stored key cannot be decoded")
        .with_detail("A value is out of its type's range.")
}

/// Reads the next value of a key. Where the type is not [`key_is_exact`] the value is equal to the one written, but may
/// look different.
pub fn read_key(key: &mut KeyReader<'_>, data_type: &DataType, direction: Direction) -> Result<Datum> {
    let fail = |e: KeyError| corrupt(&e);
    if key.read_null(direction).map_err(fail)? {
        return Ok(Datum::Null);
    }
    Ok(match data_type {
        DataType::Bool => Datum::Bool(key.read_bool(direction).map_err(fail)?),
        DataType::Int2 | DataType::Int4 | DataType::Int8 => {
            Datum::Int(key.read_int(direction).map_err(fail)?)
        }
        t if t.is_oid_like() => Datum::Int(key.read_int(direction).map_err(fail)?),
        DataType::Date => {
            let days = key.read_int(direction).map_err(fail)?;
            Datum::Date(i32::try_from(days).map_err(|_| mistyped())?)
        }
        DataType::Time => Datum::Time(key.read_int(direction).map_err(fail)?),
        DataType::Timestamp => Datum::Timestamp(key.read_int(direction).map_err(fail)?),
        DataType::TimestampTz => Datum::TimestampTz(key.read_int(direction).map_err(fail)?),
        DataType::Float4 => Datum::Float4(key.read_float(direction).map_err(fail)? as f32),
        DataType::Float8 => Datum::Float8(key.read_float(direction).map_err(fail)?),
        DataType::Numeric(modifier) => {
            let value = from_key_decimal(&key.read_decimal(direction).map_err(fail)?)?;
            Datum::Numeric(match modifier {
                Some(m) => value.round(i32::from(m.scale)),
                None => value,
            })
        }
        DataType::Text | DataType::Varchar(_) | DataType::Name | DataType::InternalChar => {
            Datum::Text(read_text(key, direction)?.into())
        }
        DataType::Char(n) => {
            let mut text = read_text(key, direction)?;
            let blanks = (n.unwrap_or(0) as usize).saturating_sub(text.chars().count());
            text.extend(std::iter::repeat_n(' ', blanks));
            Datum::Char(text.into())
        }
        DataType::Bytea => Datum::Bytea(Arc::from(key.read_bytes(direction).map_err(fail)?)),
        DataType::Interval => Datum::Interval(from_span(key.read_int128(direction).map_err(fail)?)?),
        DataType::Uuid => Datum::Uuid(key.read_uuid(direction).map_err(fail)?.to_be_bytes()),
        other => return Err(SqlError::unsupported(format!("type {other} in a key"))),
    })
}

fn read_text(key: &mut KeyReader<'_>, direction: Direction) -> Result<String> {
    String::from_utf8(key.read_bytes(direction).map_err(|e| corrupt(&e))?).map_err(|_| mistyped())
}

fn from_key_decimal(v: &KeyDecimal) -> Result<Decimal> {
    let (negative, digits, scale) = match v {
        KeyDecimal::NegInfinity => return Ok(Decimal::NEGATIVE_INFINITY),
        KeyDecimal::PosInfinity => return Ok(Decimal::INFINITY),
        KeyDecimal::NaN => return Ok(Decimal::NAN),
        KeyDecimal::Finite { negative, digits, .. } => (*negative, digits, v.scale().unwrap_or(0)),
    };
    let mut text = String::with_capacity(digits.len() + 8);
    if negative {
        text.push('-');
    }
    text.extend(digits.iter().map(|d| char::from(b'0' + d)));
    if digits.is_empty() {
        text.push('0');
    }
    text.push_str(&format!("e{}", -scale));
    text.parse().map_err(|_| mistyped())
}

/// The interval that an order's number stands for, in the fewest parts.
fn from_span(span: i128) -> Result<Interval> {
    let month = i128::from(DAYS_PER_MONTH) * i128::from(US_PER_DAY);
    let (months, rest) = (span / month, span % month);
    let (days, us) = (rest / i128::from(US_PER_DAY), rest % i128::from(US_PER_DAY));
    match i32::try_from(months) {
        Ok(months) => Ok(Interval::new(months, days as i32, us as i64)),
        // Beyond the range of months the microseconds carry the rest.
        Err(_) => {
            let months = if span > 0 { i32::MAX } else { i32::MIN };
            let us = span - i128::from(months) * month;
            let days = (us / i128::from(US_PER_DAY)).clamp(i128::from(i32::MIN), i128::from(i32::MAX));
            let us = i64::try_from(us - days * i128::from(US_PER_DAY)).map_err(|_| mistyped())?;
            Ok(Interval::new(months, days as i32, us))
        }
    }
}
