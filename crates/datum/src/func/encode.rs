//! Digests, encodings and identifiers.

use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::format::{decode_escape, decode_hex};
use crate::func::access::{bytes, int, text};
use crate::func::md5::md5;
use crate::func::registry::Ty::{Bytea, Int4, Int8, Text, Uuid};
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

/// Bob Jenkins' lookup3 as PostgreSQL's hash functions use it: clients name advisory locks by it.
fn hash_bytes(bytes: &[u8], seed: u64) -> (u32, u32) {
    let start = 0x9e37_79b9_u32.wrapping_add(bytes.len() as u32).wrapping_add(3_923_095);
    let mut v = [start; 3];
    if seed != 0 {
        v[0] = v[0].wrapping_add((seed >> 32) as u32);
        v[1] = v[1].wrapping_add(seed as u32);
        mix(&mut v);
    }
    let mut words = bytes.chunks_exact(12);
    for twelve in &mut words {
        for (value, word) in v.iter_mut().zip(twelve.chunks_exact(4)) {
            *value = value.wrapping_add(u32::from_le_bytes(word.try_into().expect("four bytes")));
        }
        mix(&mut v);
    }
    // The lowest byte of the last word is left out: the length stands there.
    let rest = words.remainder();
    for (i, byte) in rest.iter().enumerate() {
        let shift = if i < 8 { i % 4 * 8 } else { (i % 4 + 1) * 8 };
        v[i / 4] = v[i / 4].wrapping_add(u32::from(*byte) << shift);
    }
    let [mut a, mut b, mut c] = v;
    let step = |x: &mut u32, y: u32, bits: u32| *x = (*x ^ y).wrapping_sub(y.rotate_left(bits));
    step(&mut c, b, 14);
    step(&mut a, c, 11);
    step(&mut b, a, 25);
    step(&mut c, b, 16);
    step(&mut a, c, 4);
    step(&mut b, a, 14);
    step(&mut c, b, 24);
    (b, c)
}

fn mix(v: &mut [u32; 3]) {
    for (at, bits) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
        let (x, y, z) = (at % 3, (at + 2) % 3, (at + 1) % 3);
        v[x] = v[x].wrapping_sub(v[y]) ^ v[y].rotate_left(bits);
        v[y] = v[y].wrapping_add(v[z]);
    }
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
    def("hashtext", &[Text], Int4, |_, a| {
        let (_, low) = hash_bytes(text(&a[0]).as_bytes(), 0);
        Ok(Datum::Int(i64::from(low as i32)))
    }),
    def("hashtextextended", &[Text, Int8], Int8, |_, a| {
        let (high, low) = hash_bytes(text(&a[0]).as_bytes(), int(&a[1]) as u64);
        Ok(Datum::Int((u64::from(high) << 32 | u64::from(low)) as i64))
    }),
    def("encode", &[Bytea, Text], Text, encode),
    def("decode", &[Text, Text], Bytea, decode),
    def("convert_from", &[Bytea, Text], Text, |_, a| {
        crate::format::parse_binary(bytes(&a[0]), &crate::types::DataType::Text)
    }),
    def("convert_to", &[Text, Text], Bytea, |_, a| Ok(Datum::bytea(text(&a[0]).as_bytes()))),
    def("gen_random_uuid", &[], Uuid, random_uuid).volatile(),
];
