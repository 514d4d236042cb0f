//! Writing rows.

use crate::datum::Datum;
use crate::row::{
    TAG_BIG_DECIMAL, TAG_BITS, TAG_BYTES, TAG_CHAR, TAG_DECIMAL, TAG_FALSE, TAG_FLOAT, TAG_INT, TAG_INTERVAL,
    TAG_NESTED, TAG_NULL, TAG_TRUE, TAG_UUID, VERSION,
};

/// Encodes the columns of a row, given in ascending order of their identifiers. NULLs take no space: an absent column
/// reads as NULL.
///
/// # Panics
/// When the identifiers do not ascend.
pub fn encode_row<'a>(columns: impl IntoIterator<Item = (u32, &'a Datum)>, out: &mut Vec<u8>) {
    encode_row_with_nulls(columns.into_iter().map(|(id, value)| (id, value, false)), out);
}

/// The same, where the NULLs of some columns are written, since they read as something else when they are absent.
///
/// # Panics
/// When the identifiers do not ascend.
pub fn encode_row_with_nulls<'a>(
    columns: impl IntoIterator<Item = (u32, &'a Datum, bool)>,
    out: &mut Vec<u8>,
) {
    out.push(VERSION);
    let mut previous = None;
    for (id, value, keeps_null) in columns {
        assert!(previous.is_none_or(|p| p < id), "the columns of a row are encoded in ascending order");
        if value.is_null() && !keeps_null {
            continue;
        }
        let delta = u64::from(id - previous.unwrap_or(0));
        write_field(delta, value, out);
        previous = Some(id);
    }
}

pub(super) fn varint(mut v: u64, out: &mut Vec<u8>) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn zigzag(v: i64, out: &mut Vec<u8>) {
    varint(((v << 1) ^ (v >> 63)) as u64, out);
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn tag(value: &Datum) -> u64 {
    match value {
        Datum::Null => TAG_NULL,
        Datum::Bool(false) => TAG_FALSE,
        Datum::Bool(true) => TAG_TRUE,
        Datum::Int(_) | Datum::Date(_) | Datum::Time(_) | Datum::Timestamp(_) | Datum::TimestampTz(_) => {
            TAG_INT
        }
        Datum::Float4(_) | Datum::Float8(_) => TAG_FLOAT,
        Datum::Text(_) | Datum::Bytea(_) => TAG_BYTES,
        Datum::Char(_) => TAG_CHAR,
        Datum::Numeric(d) => {
            if d.small_parts().is_some() {
                TAG_DECIMAL
            } else {
                TAG_BIG_DECIMAL
            }
        }
        Datum::Interval(_) => TAG_INTERVAL,
        Datum::Uuid(_) => TAG_UUID,
        Datum::Array(_) | Datum::Record(_) => TAG_NESTED,
    }
}

fn write_field(delta: u64, value: &Datum, out: &mut Vec<u8>) {
    varint(delta << TAG_BITS | tag(value), out);
    match value {
        Datum::Null | Datum::Bool(_) => {}
        Datum::Int(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => zigzag(*v, out),
        Datum::Date(v) => zigzag(i64::from(*v), out),
        Datum::Float4(v) => {
            out.push(4);
            out.extend_from_slice(&v.to_le_bytes());
        }
        Datum::Float8(v) => {
            out.push(8);
            out.extend_from_slice(&v.to_le_bytes());
        }
        Datum::Text(s) => write_bytes(s.as_bytes(), out),
        Datum::Char(s) => {
            let trimmed = s.trim_end_matches(' ');
            varint((s.len() - trimmed.len()) as u64, out);
            write_bytes(trimmed.as_bytes(), out);
        }
        Datum::Bytea(b) => write_bytes(b, out),
        Datum::Numeric(d) => match d.small_parts() {
            Some((coefficient, scale)) => {
                varint(u64::from(scale), out);
                zigzag(coefficient, out);
            }
            None => {
                let mut nested = Vec::new();
                match d.coefficient_bytes() {
                    Some(bytes) => {
                        nested.push(b'f');
                        varint(u64::from(d.scale()), &mut nested);
                        nested.extend_from_slice(&bytes);
                    }
                    None if d.is_nan() => nested.push(b'n'),
                    None if d.signum() > 0 => nested.push(b'+'),
                    None => nested.push(b'-'),
                }
                write_bytes(&nested, out);
            }
        },
        Datum::Interval(i) => {
            zigzag(i64::from(i.months), out);
            zigzag(i64::from(i.days), out);
            zigzag(i.us, out);
        }
        Datum::Uuid(u) => out.extend_from_slice(u),
        Datum::Array(a) => {
            let mut nested = Vec::new();
            varint(a.dimensions().len() as u64, &mut nested);
            for d in a.dimensions() {
                zigzag(i64::from(d.len), &mut nested);
                zigzag(i64::from(d.lower), &mut nested);
            }
            encode_values(a.elements(), &mut nested);
            write_bytes(&nested, out);
        }
        Datum::Record(r) => {
            let mut nested = Vec::new();
            encode_values(r, &mut nested);
            write_bytes(&nested, out);
        }
    }
}

/// Encodes a list of values, NULLs included, for spilling and shipping: their number, then fields whose delta is 1, or 2 after each NULL between.
pub fn encode_values(values: &[Datum], out: &mut Vec<u8>) {
    varint(values.len() as u64, out);
    let mut delta = 1;
    for v in values {
        if v.is_null() {
            delta += 1;
        } else {
            write_field(delta, v, out);
            delta = 1;
        }
    }
}
