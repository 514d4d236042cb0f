//! Machine numbers as text, through a buffer on the stack.

use std::fmt::{self, Write};

use bytes::BufMut;

/// A buffer on the stack that formatting writes into.
struct Stack<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Stack<N> {
    fn new() -> Self {
        Stack { bytes: [0; N], len: 0 }
    }

    fn filled(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<const N: usize> Write for Stack<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.len + s.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Writes an integer.
pub fn write_i64<B: BufMut>(value: i64, out: &mut B) {
    const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
        2021222324252627282930313233343536373839\
        4041424344454647484950515253545556575859\
        6061626364656667686970717273747576777879\
        8081828384858687888990919293949596979899";
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    while rest >= 100 {
        let pair = (rest % 100) as usize * 2;
        rest /= 100;
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if rest >= 10 {
        let pair = rest as usize * 2;
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        buffer[at] = b'0' + rest as u8;
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    out.put_slice(&buffer[at..]);
}

/// Writes a double in the fewest digits that read back as the same value.
pub fn write_f64<B: BufMut>(value: f64, out: &mut B) {
    if write_special(value, out) {
        return;
    }
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let parts = match (bits >> 52 & 0x7ff) as i32 {
        0 => Binary { mantissa: fraction, exponent: -1074 },
        e => Binary { mantissa: fraction | 1 << 52, exponent: e - 1075 },
    };
    let mut digits = Stack::<32>::new();
    write!(digits, "{value:e}").expect("a double's digits fit the buffer");
    let shown = Shortest::of(digits.filled());
    if shown.is_settled(parts) {
        return write_shortest(digits.filled(), 15, out);
    }
    let at = |n: usize| format!("{value:.n$e}");
    let text = settle(&shown, parts, 17, at, |t| t.parse::<f64>().is_ok_and(|v| v == value));
    write_shortest(text.as_bytes(), 15, out);
}

/// Writes a single in the fewest digits that read back as the same value.
pub fn write_f32<B: BufMut>(value: f32, out: &mut B) {
    if write_special(f64::from(value), out) {
        return;
    }
    let bits = value.to_bits();
    let fraction = u64::from(bits & ((1 << 23) - 1));
    let parts = match (bits >> 23 & 0xff) as i32 {
        0 => Binary { mantissa: fraction, exponent: -149 },
        e => Binary { mantissa: fraction | 1 << 23, exponent: e - 150 },
    };
    let mut digits = Stack::<32>::new();
    write!(digits, "{value:e}").expect("a single's digits fit the buffer");
    let shown = Shortest::of(digits.filled());
    if shown.is_settled(parts) {
        return write_shortest(digits.filled(), 6, out);
    }
    let at = |n: usize| format!("{value:.n$e}");
    let text = settle(&shown, parts, 9, at, |t| t.parse::<f32>().is_ok_and(|v| v == value));
    write_shortest(text.as_bytes(), 6, out);
}

/// A float's magnitude: `mantissa * 2^exponent`.
#[derive(Clone, Copy)]
struct Binary {
    mantissa: u64,
    exponent: i32,
}

/// A decimal's magnitude: `digits * 10^-places`, the last digit not zero.
///
/// The standard library and PostgreSQL agree on the shortest digits but for two choices, which PostgreSQL inherits from
/// its Ryu: digits exactly between two floats do not count as either's, and of two decimals equally near the one with
/// the even last digit is taken.
struct Shortest {
    negative: bool,
    digits: u64,
    count: usize,
    places: i32,
}

impl Shortest {
    fn of(scientific: &[u8]) -> Shortest {
        let e = scientific.iter().position(|b| *b == b'e').expect("scientific notation has an exponent");
        let exponent = exponent_of(&scientific[e + 1..]);
        let (mut digits, mut count) = (0u64, 0);
        for d in scientific[..e].iter().filter(|b| b.is_ascii_digit()) {
            digits = digits * 10 + u64::from(d - b'0');
            count += 1;
        }
        let mut places = count as i32 - 1 - exponent;
        while digits != 0 && digits.is_multiple_of(10) {
            digits /= 10;
            count -= 1;
            places -= 1;
        }
        Shortest { negative: scientific[0] == b'-', digits, count, places }
    }

    fn is_settled(&self, v: Binary) -> bool {
        self.digits == 0 || !(self.is_boundary(v) || self.is_tie(v))
    }

    /// Whether the decimal lies exactly halfway to a neighbouring float.
    fn is_boundary(&self, v: Binary) -> bool {
        let middles = [2 * u128::from(v.mantissa) + 1, 2 * u128::from(v.mantissa) - 1];
        let exponent = v.exponent - 1;
        if exponent < 0 {
            // A middle has exactly as many decimal places as it has binary ones.
            if self.places != -exponent || self.places > 24 {
                return false;
            }
            let scale = 5u128.pow(self.places as u32);
            return middles.iter().any(|m| m.checked_mul(scale) == Some(u128::from(self.digits)));
        }
        if self.places > 0 || self.places < -24 || exponent > 70 {
            return false;
        }
        let decimal = u128::from(self.digits).checked_mul(10u128.pow(-self.places as u32));
        middles.iter().any(|m| decimal == Some(m << exponent))
    }

    /// Whether the float lies exactly halfway between this decimal and another of as many digits.
    fn is_tie(&self, v: Binary) -> bool {
        if v.mantissa == 0 {
            return false;
        }
        let zeros = v.mantissa.trailing_zeros();
        let (odd, exponent) = (v.mantissa >> zeros, v.exponent + zeros as i32);
        if exponent < 0 {
            return -exponent == self.places + 1;
        }
        if self.places >= 0 || self.places < -37 || exponent > 70 {
            return false;
        }
        let (value, unit) = (u128::from(odd) << exponent, 10u128.pow(-self.places as u32));
        value % unit * 2 == unit
    }

    fn text(&self, digits: u64) -> String {
        let sign = if self.negative { "-" } else { "" };
        let plain = digits.to_string();
        let exponent = plain.len() as i32 - 1 - self.places;
        let (lead, rest) = plain.split_at(1);
        let rest = rest.trim_end_matches('0');
        let point = if rest.is_empty() { "" } else { "." };
        format!("{sign}{lead}{point}{rest}e{exponent}")
    }
}

/// The digits that PostgreSQL would choose where the standard library chose differently.
#[cold]
fn settle(
    shown: &Shortest,
    v: Binary,
    most: usize,
    at: impl Fn(usize) -> String,
    reads_back: impl Fn(&str) -> bool,
) -> String {
    if shown.is_boundary(v) {
        for n in shown.count..most {
            let text = at(n);
            let candidate = Shortest::of(text.as_bytes());
            if reads_back(&text) && !candidate.is_boundary(v) {
                return candidate.text(candidate.digits);
            }
        }
    }
    if shown.digits % 2 == 1 && shown.is_tie(v) {
        // The library rounds a tie up, away from the even digit below.
        let lower = shown.text(shown.digits - 1);
        if reads_back(&lower) {
            return lower;
        }
    }
    shown.text(shown.digits)
}

fn exponent_of(text: &[u8]) -> i32 {
    std::str::from_utf8(text).ok().and_then(|s| s.parse().ok()).expect("an exponent is a number")
}

fn write_special<B: BufMut>(value: f64, out: &mut B) -> bool {
    let text: &[u8] = if value.is_nan() {
        b"NaN"
    } else if value == f64::INFINITY {
        b"Infinity"
    } else if value == f64::NEG_INFINITY {
        b"-Infinity"
    } else {
        return false;
    };
    out.put_slice(text);
    true
}

/// Turns `d.ddde±x` into PostgreSQL's choice of notation: plain between `1e-4` and `1e<limit>`, else an exponent of at
/// least two digits.
fn write_shortest<B: BufMut>(scientific: &[u8], limit: i32, out: &mut B) {
    let e = scientific.iter().position(|b| *b == b'e').expect("scientific notation has an exponent");
    let exponent = exponent_of(&scientific[e + 1..]);
    let mut mantissa = &scientific[..e];
    if mantissa[0] == b'-' {
        out.put_u8(b'-');
        mantissa = &mantissa[1..];
    }
    let (lead, fraction) = (mantissa[0], mantissa.get(2..).unwrap_or(&[]));
    if !(-4..limit).contains(&exponent) {
        out.put_slice(mantissa);
        out.put_u8(b'e');
        out.put_u8(if exponent < 0 { b'-' } else { b'+' });
        if exponent.abs() < 10 {
            out.put_u8(b'0');
        }
        return write_i64(i64::from(exponent.abs()), out);
    }
    if exponent < 0 {
        out.put_slice(b"0.");
        out.put_bytes(b'0', (-exponent - 1) as usize);
        out.put_u8(lead);
        out.put_slice(fraction);
        return;
    }
    let exponent = exponent as usize;
    out.put_u8(lead);
    if fraction.len() <= exponent {
        out.put_slice(fraction);
        out.put_bytes(b'0', exponent - fraction.len());
    } else {
        out.put_slice(&fraction[..exponent]);
        out.put_u8(b'.');
        out.put_slice(&fraction[exponent..]);
    }
}
