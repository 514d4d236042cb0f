//! The type output functions.

use bytes::BufMut;

use crate::context::EvalContext;
use crate::datum::Datum;
use crate::format::array::{write_array, write_record};
use crate::format::datetime_out::{
    write_date, write_interval, write_time, write_timestamp, write_timestamptz,
};
use crate::format::number::{write_f32, write_f64, write_i64};
use crate::types::DataType;

/// Writes the text form. NULL writes nothing: the wire has a length of -1 for it.
pub fn write_text<B: BufMut>(ctx: &EvalContext, value: &Datum, data_type: &DataType, out: &mut B) {
    match value {
        Datum::Null => {}
        Datum::Int(v) => match data_type {
            DataType::RegType => write_regtype(*v, out),
            DataType::RegClass | DataType::RegProc | DataType::RegNamespace if *v == 0 => out.put_u8(b'-'),
            _ => write_i64(*v, out),
        },
        Datum::Text(s) | Datum::Char(s) => out.put_slice(s.as_bytes()),
        Datum::Bool(v) => out.put_u8(if *v { b't' } else { b'f' }),
        Datum::Float4(v) => write_f32(*v, out),
        Datum::Float8(v) => write_f64(*v, out),
        Datum::Numeric(v) => {
            use std::fmt::Write;
            write!(Adapter(out), "{v}").expect("a growing buffer takes everything");
        }
        Datum::Bytea(b) => write_hex(b, out),
        Datum::Date(v) => write_date(*v, ctx.date_style, out),
        Datum::Time(v) => write_time(*v, out),
        Datum::Timestamp(v) => write_timestamp(*v, ctx.date_style, out),
        Datum::TimestampTz(v) => write_timestamptz(*v, &ctx.time_zone, ctx.date_style, out),
        Datum::Interval(v) => write_interval(v, out),
        Datum::Uuid(v) => write_uuid(v, out),
        Datum::Array(a) => match data_type {
            DataType::Int2Vector | DataType::OidVector => {
                for (i, e) in a.elements().iter().enumerate() {
                    if i > 0 {
                        out.put_u8(b' ');
                    }
                    write_text(ctx, e, a.element_type(), out);
                }
            }
            _ => write_array(ctx, a, out),
        },
        Datum::Record(r) => write_record(ctx, r, out),
    }
}

/// The text form as a string.
pub fn to_text(ctx: &EvalContext, value: &Datum, data_type: &DataType) -> String {
    let mut out = Vec::new();
    write_text(ctx, value, data_type, &mut out);
    String::from_utf8(out).expect("text output is UTF-8")
}

struct Adapter<'a, B>(&'a mut B);

impl<B: BufMut> std::fmt::Write for Adapter<'_, B> {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0.put_slice(s.as_bytes());
        Ok(())
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn write_hex<B: BufMut>(bytes: &[u8], out: &mut B) {
    out.put_slice(b"\\x");
    for b in bytes {
        out.put_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
    }
}

fn write_uuid<B: BufMut>(bytes: &[u8; 16], out: &mut B) {
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, b) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(b >> 4)];
        text[at + 1] = HEX[usize::from(b & 15)];
        at += 2;
    }
    out.put_slice(&text);
}

fn write_regtype<B: BufMut>(oid: i64, out: &mut B) {
    match u32::try_from(oid).ok().and_then(|o| DataType::from_oid(o, -1)) {
        Some(t) => out.put_slice(t.to_string().as_bytes()),
        None if oid == 0 => out.put_u8(b'-'),
        None => write_i64(oid, out),
    }
}
