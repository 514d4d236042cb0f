//! JSON as PostgreSQL's `json` has it: a text that is checked and kept as it was written, and the JSON that values
//! become.
//!
//! The check goes over the text once with a stack of its own, so that nesting costs a bit a level and no stack frames.
//! Escapes are looked at for their form alone, as in `json_in`: only `jsonb` has to know what they mean.

use std::fmt::Write as _;

use crate::array::ArrayValue;
use crate::context::EvalContext;
use crate::date_style::DateStyle;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::format::datetime_out::{write_timestamp, write_timestamptz};
use crate::format::{natural_type, to_text};
use crate::state::SqlState;
use crate::types::DataType;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Comma,
    Colon,
    String,
    /// A number, `true`, `false`, `null`.
    Scalar,
    End,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    Value,
    /// After `[`
    ElementOrEnd,
    /// After `{`
    KeyOrEnd,
    Key,
    Colon,
    /// After a value.
    Next,
}

/// Checks that a text is JSON; 22P02 otherwise.
pub(crate) fn check_json(text: &str) -> Result<()> {
    let mut lexer = Lexer { text, start: 0, at: 0 };
    // Whether each open bracket is an object's.
    let mut open: Vec<bool> = Vec::new();
    let mut expected = Expected::Value;
    loop {
        let token = lexer.token()?;
        expected = match (expected, token) {
            (Expected::Value | Expected::ElementOrEnd, Token::ObjectStart) => {
                open.push(true);
                Expected::KeyOrEnd
            }
            (Expected::Value | Expected::ElementOrEnd, Token::ArrayStart) => {
                open.push(false);
                Expected::ElementOrEnd
            }
            (Expected::Value | Expected::ElementOrEnd, Token::String | Token::Scalar) => Expected::Next,
            (Expected::ElementOrEnd, Token::ArrayEnd) | (Expected::KeyOrEnd, Token::ObjectEnd) => {
                open.pop();
                Expected::Next
            }
            (Expected::KeyOrEnd | Expected::Key, Token::String) => Expected::Colon,
            (Expected::Colon, Token::Colon) => Expected::Value,
            (Expected::Next, token) => match (open.last(), token) {
                (None, Token::End) => return Ok(()),
                (Some(true), Token::Comma) => Expected::Key,
                (Some(false), Token::Comma) => Expected::Value,
                (Some(true), Token::ObjectEnd) | (Some(false), Token::ArrayEnd) => {
                    open.pop();
                    Expected::Next
                }
                (None, _) => return Err(lexer.unexpected("end of input")),
                (Some(true), _) => return Err(lexer.unexpected("\",\" or \"}\"")),
                (Some(false), _) => return Err(lexer.unexpected("\",\" or \"]\"")),
            },
            (Expected::Value | Expected::ElementOrEnd, _) => return Err(lexer.unexpected("JSON value")),
            (Expected::KeyOrEnd, _) => return Err(lexer.unexpected("string or \"}\"")),
            (Expected::Key, _) => return Err(lexer.unexpected("string")),
            (Expected::Colon, _) => return Err(lexer.unexpected("\":\"")),
        };
    }
}

struct Lexer<'a> {
    text: &'a str,
    /// Where the last token begins.
    start: usize,
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn token(&mut self) -> Result<Token> {
        self.skip(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'));
        self.start = self.at;
        let Some(byte) = self.peek() else { return Ok(Token::End) };
        let single = match byte {
            b'{' => Token::ObjectStart,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayStart,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => return self.number(),
            _ => {
                self.skip(is_word);
                if matches!(self.shown(), "true" | "false" | "null") {
                    return Ok(Token::Scalar);
                }
                if self.at == self.start {
                    self.at += 1;
                }
                return Err(self.invalid());
            }
        };
        self.at += 1;
        Ok(single)
    }

    fn string(&mut self) -> Result<Token> {
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(self.invalid()),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Token::String);
                }
                Some(b'\\') => self.escape()?,
                Some(byte) if byte < 0x20 => {
                    return Err(error(format!("Character with value 0x{byte:02x} must be escaped.")));
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<()> {
        let begin = self.at;
        self.at += 1;
        match self.peek() {
            None => Err(self.invalid()),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                let digits = self.text.as_bytes().get(self.at + 1..).unwrap_or_default();
                if digits.len() < 4 && digits.iter().all(u8::is_ascii_hexdigit) {
                    self.at = self.text.len();
                    return Err(self.invalid());
                }
                if !digits.iter().take(4).all(u8::is_ascii_hexdigit) {
                    return Err(error("\"\\u\" must be followed by four hexadecimal digits."));
                }
                self.at += 5;
                Ok(())
            }
            Some(_) => {
                let c = self.text[self.at..].chars().next().map_or(0, char::len_utf8);
                let sequence = &self.text[begin..self.at + c];
                Err(error(format!("Escape sequence \"{sequence}\" is invalid.")))
            }
        }
    }

    /// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    fn number(&mut self) -> Result<Token> {
        let digits = |l: &mut Self| {
            let from = l.at;
            l.skip(|b| b.is_ascii_digit());
            l.at > from
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let mut is_valid = if self.peek() == Some(b'0') {
            self.at += 1;
            true
        } else {
            digits(self)
        };
        if self.peek() == Some(b'.') {
            self.at += 1;
            is_valid &= digits(self);
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            is_valid &= digits(self);
        }
        // What stands right behind belongs to the token, and makes it none.
        let end = self.at;
        self.skip(is_word);
        if is_valid && self.at == end { Ok(Token::Scalar) } else { Err(self.invalid()) }
    }

    fn shown(&self) -> &str {
        &self.text[self.start..self.at]
    }

    fn invalid(&self) -> SqlError {
        error(format!("Token \"{}\" is invalid.", self.shown()))
    }

    fn unexpected(&self, wanted: &str) -> SqlError {
        if self.start == self.text.len() {
            return error("The input string ended unexpectedly.");
        }
        error(format!("Expected {wanted}, but found \"{}\".", self.shown()))
    }
}

/// Bytes of words, among them every byte of a character beyond ASCII.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn error(detail: impl Into<std::borrow::Cow<'static, str>>) -> SqlError {
    SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json")
        .with_detail(detail)
}

/// Writes a value as JSON.
pub(crate) fn write_json(ctx: &EvalContext, value: &Datum, data_type: &DataType, out: &mut String) {
    let iso = DateStyle::default();
    match value {
        Datum::Null => out.push_str("null"),
        Datum::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
        Datum::Text(s) if *data_type == DataType::Json => out.push_str(s),
        // Names of objects are none of this crate's business; their numbers are no numbers to PostgreSQL.
        Datum::Int(_) if data_type.is_oid_like() => quote(&to_text(ctx, value, data_type), out),
        Datum::Int(_) => out.push_str(&to_text(ctx, value, data_type)),
        Datum::Float4(_) | Datum::Float8(_) | Datum::Numeric(_) => {
            let text = to_text(ctx, value, data_type);
            let is_finite = text.bytes().any(|b| b.is_ascii_digit());
            if is_finite { out.push_str(&text) } else { quote(&text, out) }
        }
        Datum::Timestamp(v) => {
            let mut bytes = Vec::new();
            write_timestamp(*v, iso, &mut bytes);
            quote(&xsd(bytes, false), out);
        }
        Datum::TimestampTz(v) => {
            let mut bytes = Vec::new();
            write_timestamptz(*v, &ctx.time_zone, iso, &mut bytes);
            quote(&xsd(bytes, true), out);
        }
        Datum::Date(v) => {
            let mut bytes = Vec::new();
            super::datetime_out::write_date(*v, iso, &mut bytes);
            quote(&String::from_utf8(bytes).expect("dates are ASCII"), out);
        }
        Datum::Array(a) => write_array(ctx, a, out),
        Datum::Record(fields) => {
            out.push('{');
            for (i, field) in fields.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                write!(out, "{comma}\"f{}\":", i + 1).expect("a string takes everything");
                write_json(ctx, field, &natural_type(field), out);
            }
            out.push('}');
        }
        Datum::Text(_)
        | Datum::Char(_)
        | Datum::Bytea(_)
        | Datum::Time(_)
        | Datum::Interval(_)
        | Datum::Uuid(_) => quote(&to_text(ctx, value, data_type), out),
    }
}

/// A timestamp's ISO form as XML Schema has it: `T` between date and time, minutes in the offset.
fn xsd(iso: Vec<u8>, zoned: bool) -> String {
    let text = String::from_utf8(iso).expect("timestamps are ASCII");
    let Some((date, time)) = text.split_once(' ') else { return text };
    let (time, era) = time.split_once(' ').map_or((time, ""), |(t, _)| (t, " BC"));
    let hours_only = |t: &str| t.rfind(['+', '-']).is_some_and(|sign| t.len() - sign == 3);
    let minutes = if zoned && hours_only(time) { ":00" } else { "" };
    format!("{date}T{time}{minutes}{era}")
}

/// An array, its dimensions one within the other.
fn write_array(ctx: &EvalContext, array: &ArrayValue, out: &mut String) {
    fn level(
        ctx: &EvalContext,
        sizes: &[usize],
        elements: &mut std::slice::Iter<'_, Datum>,
        ty: &DataType,
        out: &mut String,
    ) {
        let Some((size, inner)) = sizes.split_first() else {
            let element = elements.next().expect("the dimensions count the elements");
            return write_json(ctx, element, ty, out);
        };
        out.push('[');
        for i in 0..*size {
            if i > 0 {
                out.push(',');
            }
            level(ctx, inner, elements, ty, out);
        }
        out.push(']');
    }
    let sizes: Vec<usize> = array.dimensions().iter().map(|d| d.len as usize).collect();
    if sizes.is_empty() {
        return out.push_str("[]");
    }
    level(ctx, &sizes, &mut array.elements().iter(), array.element_type(), out);
}

/// A JSON string.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes everything"),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(text: &str) -> String {
        let e = check_json(text).expect_err(text);
        assert_eq!(e.state, SqlState::INVALID_TEXT_REPRESENTATION);
        e.detail.clone().expect("it says what is wrong").into_owned()
    }

    #[test]
    fn json_is_taken() {
        for text in [
            "1",
            "-0",
            "0.5e-3",
            "1E+9",
            "\"\"",
            " null ",
            "true",
            "[]",
            "{}",
            "[1, \"a\", {\"b\": []}]",
            "{\"a\" : 1, \"a\" : {\"\\u0000\\n\" : \"é\"}}",
            "[[[[]]], {}]",
            "\t[\r\n]",
        ] {
            check_json(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        }
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        check_json(&deep).expect("nesting costs no stack");
    }

    /// The details are PostgreSQL 15's.
    #[test]
    fn what_is_no_json_is_told() {
        for (text, expected) in [
            ("", "The input string ended unexpectedly."),
            ("[1", "The input string ended unexpectedly."),
            ("{\"a\":", "The input string ended unexpectedly."),
            ("[,", "Expected JSON value, but found \",\"."),
            ("[1,]", "Expected JSON value, but found \"]\"."),
            ("{1", "Expected string or \"}\", but found \"1\"."),
            ("{\"a\":1,}", "Expected string, but found \"}\"."),
            ("{\"a\" 1", "Expected \":\", but found \"1\"."),
            ("{\"a\":1 2", "Expected \",\" or \"}\", but found \"2\"."),
            ("[1 2", "Expected \",\" or \"]\", but found \"2\"."),
            ("[1}", "Expected \",\" or \"]\", but found \"}\"."),
            ("1 2", "Expected end of input, but found \"2\"."),
            ("]", "Expected JSON value, but found \"]\"."),
            ("\"ab", "Token \"\"ab\" is invalid."),
            ("01", "Token \"01\" is invalid."),
            ("1.", "Token \"1.\" is invalid."),
            ("1x", "Token \"1x\" is invalid."),
            ("-", "Token \"-\" is invalid."),
            ("1e", "Token \"1e\" is invalid."),
            ("tru", "Token \"tru\" is invalid."),
            ("%%", "Token \"%\" is invalid."),
            ("é", "Token \"é\" is invalid."),
            ("\"\\x\"", "Escape sequence \"\\x\" is invalid."),
            ("\"\\u12\"", "\"\\u\" must be followed by four hexadecimal digits."),
            ("\"\n\"", "Character with value 0x0a must be escaped."),
        ] {
            assert_eq!(detail(text), expected, "{text}");
        }
    }
}
