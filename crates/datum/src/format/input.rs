//! The type input functions.

use std::sync::Arc;

use crate::array::ArrayValue;
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::decimal::Decimal;
use crate::error::{Result, SqlError};
use crate::format::array::parse_array;
use crate::format::{check_json, parse_date, parse_interval, parse_time, parse_timestamp, parse_timestamptz};
use crate::state::SqlState;
use crate::types::DataType;

/// Longest `name`, in bytes (`NAMEDATALEN - 1`).
const MAX_NAME: usize = 63;

/// Reads the text form of a type. Lengths and precisions of the type are not applied: see [`crate::cast::cast`].
pub fn parse_text(ctx: &EvalContext, text: &str, data_type: &DataType) -> Result<Datum> {
    Ok(match data_type {
        DataType::Int2 => Datum::Int(parse_int(text, "smallint", i64::from(i16::MIN), i64::from(i16::MAX))?),
        DataType::Int4 => Datum::Int(parse_int(text, "integer", i64::from(i32::MIN), i64::from(i32::MAX))?),
        DataType::Int8 => Datum::Int(parse_int(text, "bigint", i64::MIN, i64::MAX)?),
        DataType::Text | DataType::Varchar(_) | DataType::Unknown => Datum::Text(text.into()),
        DataType::Char(_) => Datum::Char(text.into()),
        DataType::Name => Datum::Text(truncate_name(text).into()),
        DataType::InternalChar => {
            let first = text.chars().next().map_or(0, char::len_utf8);
            Datum::Text(text[..first].into())
        }
        DataType::Bool => {
            Datum::Bool(parse_bool(text).ok_or_else(|| SqlError::invalid_text("boolean", text))?)
        }
        DataType::Float8 => Datum::Float8(parse_float(text, "double precision", |v| v.is_infinite())?),
        DataType::Float4 => {
            Datum::Float4(parse_float(text, "real", |v| (v as f32).is_infinite()).and_then(|_| {
                let single = parse_single(text)?;
                Ok(single)
            })?)
        }
        DataType::Numeric(_) => Datum::Numeric(text.parse::<Decimal>()?),
        DataType::Bytea => Datum::Bytea(parse_bytea(text)?.into()),
        DataType::Date => Datum::Date(parse_date(ctx, text)?),
        DataType::Time => Datum::Time(parse_time(ctx, text)?),
        DataType::Timestamp => Datum::Timestamp(parse_timestamp(ctx, text)?),
        DataType::TimestampTz => Datum::TimestampTz(parse_timestamptz(ctx, text)?),
        DataType::Interval => Datum::Interval(parse_interval(text)?),
        DataType::Uuid => Datum::Uuid(parse_uuid(text)?),
        DataType::Json => {
            check_json(text)?;
            Datum::Text(text.into())
        }
        DataType::Oid => Datum::Int(parse_oid(text, "oid")?),
        DataType::RegClass | DataType::RegProc | DataType::RegNamespace | DataType::RegType => {
            parse_reg(text, data_type)?
        }
        DataType::Int2Vector => Datum::Array(parse_vector(ctx, text, DataType::Int2)?),
        DataType::OidVector => Datum::Array(parse_vector(ctx, text, DataType::Oid)?),
        DataType::Array(e) => Datum::Array(Arc::new(parse_array(ctx, text, e)?)),
        DataType::Record => return Err(SqlError::unsupported("input of anonymous composite types")),
        DataType::Void => Datum::Null,
    })
}

fn blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

fn truncate_name(text: &str) -> &str {
    if text.len() <= MAX_NAME {
        return text;
    }
    &text[..text.floor_char_boundary(MAX_NAME)]
}

fn parse_int(text: &str, type_name: &str, min: i64, max: i64) -> Result<i64> {
    let trimmed = text.trim_matches(blank);
    let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(SqlError::invalid_text(type_name, text));
    }
    match trimmed.parse::<i64>() {
        Ok(v) if (min..=max).contains(&v) => Ok(v),
        _ => Err(SqlError::literal_out_of_range(text, type_name)),
    }
}

fn parse_oid(text: &str, type_name: &str) -> Result<i64> {
    let trimmed = text.trim_matches(blank);
    let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(SqlError::invalid_text(type_name, text));
    }
    match trimmed.parse::<i64>() {
        Ok(v) if (0..=i64::from(u32::MAX)).contains(&v) => Ok(v),
        // As strtoul has it: a negative number wraps.
        Ok(v) if (i64::from(i32::MIN)..0).contains(&v) => Ok(i64::from(v as u32)),
        _ => Err(SqlError::literal_out_of_range(text, type_name)),
    }
}

/// Names of objects need a catalog, so only their numbers are read here; types are known without one.
fn parse_reg(text: &str, data_type: &DataType) -> Result<Datum> {
    if text == "-" {
        return Ok(Datum::Int(0));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        return parse_oid(text, data_type.info().sql_name).map(Datum::Int);
    }
    if *data_type != DataType::RegType {
        return Err(SqlError::unsupported(format!("a name as constant of type {data_type} in this place")));
    }
    let bare = text.trim().strip_prefix("pg_catalog.").unwrap_or(text.trim());
    let (name, is_array) = match bare.strip_suffix("[]") {
        Some(e) => (e, true),
        None => (bare, false),
    };
    let name = name.split_once('(').map_or(name, |(n, _)| n).trim_end();
    let folded = if name.starts_with('"') { name.to_owned() } else { name.to_ascii_lowercase() };
    let found = DataType::from_name(&folded).map(|t| if is_array { DataType::array(t) } else { t });
    found
        .map(|t| Datum::Int(i64::from(t.oid())))
        .ok_or_else(|| SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist")))
}

/// `parse_bool`: any unique prefix of a truth value's name.
fn parse_bool(text: &str) -> Option<bool> {
    let trimmed = text.trim_matches(blank);
    let prefix = |of: &str, least: usize| {
        trimmed.len() >= least
            && trimmed.len() <= of.len()
            && of.as_bytes()[..trimmed.len()].eq_ignore_ascii_case(trimmed.as_bytes())
    };
    if prefix("true", 1) || prefix("yes", 1) || prefix("on", 2) || trimmed == "1" {
        return Some(true);
    }
    if prefix("false", 1) || prefix("no", 1) || prefix("off", 2) || trimmed == "0" {
        return Some(false);
    }
    None
}

fn float_special(trimmed: &str) -> Option<f64> {
    let bare = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    if bare.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    if bare.eq_ignore_ascii_case("infinity") || bare.eq_ignore_ascii_case("inf") {
        return Some(if trimmed.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    None
}

fn is_zero_text(trimmed: &str) -> bool {
    let mantissa = trimmed.split(['e', 'E']).next().unwrap_or(trimmed);
    !mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b))
}

fn float_range(text: &str, type_name: &str) -> SqlError {
    let message = format!("\"{text}\" is out of range for type {type_name}");
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
}

fn parse_float(text: &str, type_name: &str, overflows: impl Fn(f64) -> bool) -> Result<f64> {
    let trimmed = text.trim_matches(blank);
    if let Some(v) = float_special(trimmed) {
        return Ok(v);
    }
    // Rust's own special names are excluded above or must be refused.
    if !trimmed.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return Err(SqlError::invalid_text(type_name, text));
    }
    let Ok(v) = trimmed.parse::<f64>() else { return Err(SqlError::invalid_text(type_name, text)) };
    if overflows(v) || (v == 0.0 && !is_zero_text(trimmed)) {
        return Err(float_range(trimmed, type_name));
    }
    Ok(v)
}

fn parse_single(text: &str) -> Result<f32> {
    let trimmed = text.trim_matches(blank);
    if let Some(v) = float_special(trimmed) {
        return Ok(v as f32);
    }
    // Parsed as a single at once: rounding twice could miss the nearest value.
    let Ok(v) = trimmed.parse::<f32>() else { return Err(SqlError::invalid_text("real", text)) };
    if v == 0.0 && !is_zero_text(trimmed) {
        return Err(float_range(trimmed, "real"));
    }
    Ok(v)
}

fn hex_value(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).map(|d| d as u8)
}

pub(crate) fn decode_hex(text: &str) -> Result<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len() / 2);
    let mut at = 0;
    while at < bytes.len() {
        if matches!(bytes[at], b' ' | b'\n' | b'\t' | b'\r') {
            at += 1;
            continue;
        }
        let digit = |at: usize| {
            let c = text[at..].chars().next().expect("the index is a boundary within the text");
            hex_value(bytes[at])
                .ok_or_else(|| SqlError::invalid_parameter(format!("invalid hexadecimal digit: \"{c}\"")))
        };
        let high = digit(at)?;
        if at + 1 >= bytes.len() {
            return Err(SqlError::invalid_parameter("invalid hexadecimal data: odd number of digits"));
        }
        out.push(high << 4 | digit(at + 1)?);
        at += 2;
    }
    Ok(out)
}

/// `byteain`: hex after `\x`, else the escape format.
fn parse_bytea(text: &str) -> Result<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        return decode_hex(hex);
    }
    decode_escape(text)
}

pub(crate) fn decode_escape(text: &str) -> Result<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            out.push(bytes[at]);
            at += 1;
        } else if bytes.get(at + 1) == Some(&b'\\') {
            out.push(b'\\');
            at += 2;
        } else {
            let octal =
                |i: usize, max: u8| bytes.get(at + i).filter(|b| (b'0'..=max).contains(b)).map(|b| b - b'0');
            match (octal(1, b'3'), octal(2, b'7'), octal(3, b'7')) {
                (Some(a), Some(b), Some(c)) => out.push(a << 6 | b << 3 | c),
                _ => {
                    return Err(SqlError::new(
                        SqlState::INVALID_TEXT_REPRESENTATION,
                        "invalid input syntax for type bytea",
                    ));
                }
            }
            at += 4;
        }
    }
    Ok(out)
}

/// `uuid_in`: hex digits, braces around them and a hyphen after any four of them allowed.
fn parse_uuid(text: &str) -> Result<[u8; 16]> {
    let invalid = || SqlError::invalid_text("uuid", text);
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(invalid)?,
        None => text,
    };
    let bytes = inner.as_bytes();
    let mut out = [0u8; 16];
    let mut at = 0;
    for (i, byte) in out.iter_mut().enumerate() {
        let digit = |at: usize| bytes.get(at).and_then(|b| hex_value(*b)).ok_or_else(invalid);
        *byte = digit(at)? << 4 | digit(at + 1)?;
        at += 2;
        if i % 2 == 1 && i < 15 && bytes.get(at) == Some(&b'-') {
            at += 1;
        }
    }
    if at == bytes.len() { Ok(out) } else { Err(invalid()) }
}

fn parse_vector(ctx: &EvalContext, text: &str, element: DataType) -> Result<Arc<ArrayValue>> {
    let elements: Result<Vec<Datum>> =
        text.split_ascii_whitespace().map(|t| parse_text(ctx, t, &element)).collect();
    Ok(Arc::new(ArrayValue::vector(element, elements?)))
}
