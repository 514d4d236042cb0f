//! The binary format: the types' send and receive functions.

use std::sync::Arc;

use bytes::{Buf, BufMut};

use crate::array::{ArrayValue, Dimension, check_dimensions};
use crate::calendar::{END_DATE, END_TIMESTAMP, MIN_DATE, MIN_TIMESTAMP, US_PER_DAY, is_infinite};
use crate::datum::Datum;
use crate::decimal::Decimal;
use crate::error::{Result, SqlError};
use crate::format::array::natural_type;
use crate::format::check_json;
use crate::interval::Interval;
use crate::state::SqlState;
use crate::types::DataType;

/// Writes the binary form. NULL writes nothing.
///
/// # Panics
/// When the value is not of the type's representation.
pub fn write_binary<B: BufMut>(value: &Datum, data_type: &DataType, out: &mut B) {
    match value {
        Datum::Null => {}
        Datum::Int(v) => match data_type {
            DataType::Int2 => out.put_i16(*v as i16),
            DataType::Int8 => out.put_i64(*v),
            DataType::Int4 => out.put_i32(*v as i32),
            t if t.is_oid_like() => out.put_u32(*v as u32),
            t => panic!("an integer cannot be sent as {t}"),
        },
        // The empty "char" is the zero byte.
        Datum::Text(s) if s.is_empty() && *data_type == DataType::InternalChar => out.put_u8(0),
        Datum::Text(s) | Datum::Char(s) => out.put_slice(s.as_bytes()),
        Datum::Bool(v) => out.put_u8(u8::from(*v)),
        Datum::Float4(v) => out.put_f32(*v),
        Datum::Float8(v) => out.put_f64(*v),
        Datum::Numeric(v) => v.write_binary(out),
        Datum::Bytea(b) => out.put_slice(b),
        Datum::Date(v) => out.put_i32(*v),
        Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => out.put_i64(*v),
        Datum::Interval(v) => {
            out.put_i64(v.us);
            out.put_i32(v.days);
            out.put_i32(v.months);
        }
        Datum::Uuid(v) => out.put_slice(v),
        Datum::Array(a) => write_array(a, out),
        Datum::Record(fields) => {
            out.put_i32(fields.len() as i32);
            for f in fields.iter() {
                let t = natural_type(f);
                out.put_u32(t.oid());
                write_field(f, &t, out);
            }
        }
    }
}

fn write_field<B: BufMut>(value: &Datum, data_type: &DataType, out: &mut B) {
    if value.is_null() {
        return out.put_i32(-1);
    }
    let mut bytes = Vec::new();
    write_binary(value, data_type, &mut bytes);
    out.put_i32(bytes.len() as i32);
    out.put_slice(&bytes);
}

fn write_array<B: BufMut>(array: &ArrayValue, out: &mut B) {
    out.put_i32(array.dimensions().len() as i32);
    out.put_i32(i32::from(array.elements().iter().any(Datum::is_null)));
    out.put_u32(array.element_type().oid());
    for d in array.dimensions() {
        out.put_i32(d.len);
        out.put_i32(d.lower);
    }
    for e in array.elements() {
        write_field(e, array.element_type(), out);
    }
}

fn incomplete() -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message")
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| {
        if bytes.len() < N {
            incomplete()
        } else {
            SqlError::invalid_binary("incorrect binary data format in bind parameter")
        }
    })
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    if bytes.contains(&0) {
        return Err(SqlError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ));
    }
    std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        let end = e.error_len().map_or(bytes.len(), |n| at + n);
        let hex: Vec<String> = bytes[at..end].iter().map(|b| format!("0x{b:02x}")).collect();
        SqlError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            format!("invalid byte sequence for encoding \"UTF8\": {}", hex.join(" ")),
        )
    })
}

/// Reads the binary form of a type.
pub fn parse_binary(bytes: &[u8], data_type: &DataType) -> Result<Datum> {
    Ok(match data_type {
        DataType::Bool => Datum::Bool(fixed::<1>(bytes)?[0] != 0),
        DataType::Int2 => Datum::Int(i64::from(i16::from_be_bytes(fixed(bytes)?))),
        DataType::Int4 => Datum::Int(i64::from(i32::from_be_bytes(fixed(bytes)?))),
        DataType::Int8 => Datum::Int(i64::from_be_bytes(fixed(bytes)?)),
        DataType::Oid
        | DataType::RegClass
        | DataType::RegType
        | DataType::RegProc
        | DataType::RegNamespace => Datum::Int(i64::from(u32::from_be_bytes(fixed(bytes)?))),
        DataType::Float4 => Datum::Float4(f32::from_be_bytes(fixed(bytes)?)),
        DataType::Float8 => Datum::Float8(f64::from_be_bytes(fixed(bytes)?)),
        DataType::Numeric(_) => Datum::Numeric(Decimal::parse_binary(bytes)?),
        DataType::Text | DataType::Varchar(_) | DataType::Unknown | DataType::Name => {
            Datum::Text(utf8(bytes)?.into())
        }
        DataType::Json => {
            let text = utf8(bytes)?;
            check_json(text)?;
            Datum::Text(text.into())
        }
        DataType::InternalChar if bytes == [0] => Datum::text(""),
        DataType::InternalChar => Datum::Text(utf8(&fixed::<1>(bytes)?)?.into()),
        DataType::Char(_) => Datum::Char(utf8(bytes)?.into()),
        DataType::Bytea => Datum::Bytea(bytes.into()),
        DataType::Date => {
            let days = i32::from_be_bytes(fixed(bytes)?);
            if !(MIN_DATE..END_DATE).contains(&days) && days != i32::MIN && days != i32::MAX {
                return Err(SqlError::datetime_out_of_range("date"));
            }
            Datum::Date(days)
        }
        DataType::Time => {
            let us = i64::from_be_bytes(fixed(bytes)?);
            if !(0..=US_PER_DAY).contains(&us) {
                return Err(SqlError::datetime_out_of_range("time"));
            }
            Datum::Time(us)
        }
        DataType::Timestamp => Datum::Timestamp(timestamp(bytes)?),
        DataType::TimestampTz => Datum::TimestampTz(timestamp(bytes)?),
        DataType::Interval => {
            let mut b = &fixed::<16>(bytes)?[..];
            let (us, days, months) = (b.get_i64(), b.get_i32(), b.get_i32());
            Datum::Interval(Interval::new(months, days, us))
        }
        DataType::Uuid => Datum::Uuid(fixed(bytes)?),
        DataType::Array(_) | DataType::Int2Vector | DataType::OidVector => parse_array(bytes, data_type)?,
        DataType::Record => return Err(SqlError::unsupported("input of anonymous composite types")),
        DataType::Void => Datum::Null,
    })
}

fn timestamp(bytes: &[u8]) -> Result<i64> {
    let us = i64::from_be_bytes(fixed(bytes)?);
    if !(MIN_TIMESTAMP..END_TIMESTAMP).contains(&us) && !is_infinite(us) {
        return Err(SqlError::datetime_out_of_range("timestamp"));
    }
    Ok(us)
}

fn parse_array(mut bytes: &[u8], data_type: &DataType) -> Result<Datum> {
    fn int(bytes: &mut &[u8]) -> Result<i32> {
        if bytes.len() < 4 {
            return Err(incomplete());
        }
        Ok(bytes.get_i32())
    }
    let element_type = data_type.element().expect("only arrays get here");
    let dimension_count = int(&mut bytes)?;
    let count = usize::try_from(dimension_count)
        .map_err(|_| SqlError::invalid_binary(format!("invalid number of dimensions: {dimension_count}")))?;
    check_dimensions(count)?;
    if !matches!(int(&mut bytes)?, 0 | 1) {
        return Err(SqlError::invalid_binary("invalid array flags"));
    }
    let sent = int(&mut bytes)? as u32;
    if sent != element_type.oid() {
        return Err(SqlError::new(
            SqlState::DATATYPE_MISMATCH,
            format!("binary data has array element type {sent} instead of expected {}", element_type.oid()),
        ));
    }
    let mut dimensions = Vec::with_capacity(count);
    let mut total: usize = usize::from(count > 0);
    for _ in 0..count {
        let (len, lower) = (int(&mut bytes)?, int(&mut bytes)?);
        let size = usize::try_from(len).map_err(|_| SqlError::invalid_binary("invalid array dimension"))?;
        // Every element takes four bytes at least, which bounds what a length may claim.
        total = total.checked_mul(size).filter(|t| *t <= bytes.len()).ok_or_else(incomplete)?;
        dimensions.push(Dimension { len, lower });
    }
    let mut elements = Vec::with_capacity(total);
    for _ in 0..total {
        let len = int(&mut bytes)?;
        if len == -1 {
            elements.push(Datum::Null);
            continue;
        }
        let len = usize::try_from(len).ok().filter(|l| *l <= bytes.len()).ok_or_else(incomplete)?;
        elements.push(parse_binary(&bytes[..len], &element_type)?);
        bytes.advance(len);
    }
    if !bytes.is_empty() {
        return Err(SqlError::invalid_binary("incorrect binary data format in bind parameter"));
    }
    Ok(Datum::Array(Arc::new(ArrayValue::with_dimensions(element_type, dimensions, elements))))
}
