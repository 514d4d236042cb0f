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
    if !write_special(value, out) {
        let mut digits = Stack::<32>::new();
        write!(digits, "{value:e}").expect("a double's digits fit the buffer");
        write_shortest(digits.filled(), 15, out);
    }
}

/// Writes a single in the fewest digits that read back as the same value.
pub fn write_f32<B: BufMut>(value: f32, out: &mut B) {
    if !write_special(f64::from(value), out) {
        let mut digits = Stack::<32>::new();
        write!(digits, "{value:e}").expect("a single's digits fit the buffer");
        write_shortest(digits.filled(), 6, out);
    }
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
    let exponent: i32 = std::str::from_utf8(&scientific[e + 1..])
        .ok()
        .and_then(|s| s.parse().ok())
        .expect("an exponent is a number");
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
