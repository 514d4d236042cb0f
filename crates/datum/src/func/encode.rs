//! Digests, encodings and identifiers.

use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::format::{decode_escape, decode_hex};
use crate::func::access::{bytes, text};
use crate::func::md5::md5;
use crate::func::registry::Ty::{Bytea, Text, Uuid};
use crate::func::registry::{FunctionDef, def};

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// MIME base64: lines of 76 characters, as PostgreSQL breaks them.
fn base64(input: &[u8]) -> String {
    const LINE: usize = 76;
    let mut out = String::with_capacity(input.len() * 4 / 3 + input.len() / 57 + 4);
    let mut column = 0;
    for chunk in input.chunks(3) {
        if column == LINE {
            out.push('\n');
            column = 0;
        }
        let word = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = BASE64[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
        column += 4;
    }
    out
}

fn unbase64(s: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(s.len() * 3 / 4);
    let (mut word, mut have, mut padding) = (0u32, 0, 0);
    for c in s.bytes() {
        if matches!(c, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        }
        let digit = if c == b'=' {
            if padding == 0 && have < 2 {
                return Err(SqlError::invalid_parameter("unexpected \"=\" while decoding base64 sequence"));
            }
            padding += 1;
            0
        } else {
            let found = BASE64.iter().position(|d| *d == c).filter(|_| padding == 0);
            found.ok_or_else(|| {
                SqlError::invalid_parameter(format!(
                    "invalid symbol \"{}\" found while decoding base64 sequence",
                    char::from(c)
                ))
            })? as u32
        };
        word = word << 6 | digit;
        have += 1;
        if have == 4 {
            out.extend_from_slice(&word.to_be_bytes()[1..4 - padding.min(2)]);
            (word, have) = (0, 0);
        }
    }
    if have != 0 {
        return Err(SqlError::invalid_parameter("invalid base64 end sequence")
            .with_hint("Input data is missing padding, is truncated, or is otherwise corrupted."));
    }
    Ok(out)
}

fn escape(input: &[u8]) -> String {
    let mut out = String::with_capacity(input.len());
    for b in input {
        match b {
            0 | 0x80.. => out.push_str(&format!("\\{b:03o}")),
            b'\\' => out.push_str("\\\\"),
            b => out.push(char::from(*b)),
        }
    }
    out
}

fn unrecognized(format: &str) -> SqlError {
    SqlError::invalid_parameter(format!("unrecognized encoding: \"{format}\""))
}

fn encode(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let (input, format) = (bytes(&a[0]), text(&a[1]));
    Ok(Datum::from(match format.to_ascii_lowercase().as_str() {
        "hex" => hex(input),
        "base64" => base64(input),
        "escape" => escape(input),
        _ => return Err(unrecognized(format)),
    }))
}

fn decode(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let (input, format) = (text(&a[0]), text(&a[1]));
    Ok(Datum::bytea(match format.to_ascii_lowercase().as_str() {
        "hex" => decode_hex(input)?,
        "base64" => unbase64(input)?,
        "escape" => decode_escape(input)?,
        _ => return Err(unrecognized(format)),
    }))
}

/// A random UUID of version 4 (RFC 4122).
fn random_uuid(ctx: &EvalContext, _: &[Datum]) -> Result<Datum> {
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&ctx.next_random().to_be_bytes());
    bytes[8..].copy_from_slice(&ctx.next_random().to_be_bytes());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(Datum::Uuid(bytes))
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("md5", &[Text], Text, |_, a| Ok(Datum::from(hex(&md5(text(&a[0]).as_bytes()))))),
    def("md5", &[Bytea], Text, |_, a| Ok(Datum::from(hex(&md5(bytes(&a[0])))))),
    def("encode", &[Bytea, Text], Text, encode),
    def("decode", &[Text, Text], Bytea, decode),
    def("convert_from", &[Bytea, Text], Text, |_, a| {
        crate::format::parse_binary(bytes(&a[0]), &crate::types::DataType::Text)
    }),
    def("convert_to", &[Text, Text], Bytea, |_, a| Ok(Datum::bytea(text(&a[0]).as_bytes()))),
    def("gen_random_uuid", &[], Uuid, random_uuid).volatile(),
];
