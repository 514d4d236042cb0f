//! Arrays and rows as text.

use bytes::BufMut;

use crate::array::{ArrayValue, Dimension, check_dimensions};
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::format::{parse_text, to_text};
use crate::state::SqlState;
use crate::types::DataType;

/// `array_out`.
pub(super) fn write_array<B: BufMut>(ctx: &EvalContext, array: &ArrayValue, out: &mut B) {
    if array.dimensions().iter().any(|d| d.lower != 1) {
        for d in array.dimensions() {
            out.put_slice(format!("[{}:{}]", d.lower, i64::from(d.lower) + i64::from(d.len) - 1).as_bytes());
        }
        out.put_u8(b'=');
    }
    if array.is_empty() {
        return out.put_slice(b"{}");
    }
    let mut elements = array.elements().iter();
    write_level(ctx, array, array.dimensions(), &mut elements, out);
}

fn write_level<'a, B: BufMut>(
    ctx: &EvalContext,
    array: &ArrayValue,
    dimensions: &[Dimension],
    elements: &mut impl Iterator<Item = &'a Datum>,
    out: &mut B,
) {
    out.put_u8(b'{');
    for i in 0..dimensions[0].len {
        if i > 0 {
            out.put_u8(b',');
        }
        if dimensions.len() > 1 {
            write_level(ctx, array, &dimensions[1..], elements, out);
        } else {
            let e = elements.next().expect("the dimensions count the elements");
            write_element(ctx, e, array.element_type(), out);
        }
    }
    out.put_u8(b'}');
}

fn write_element<B: BufMut>(ctx: &EvalContext, value: &Datum, element_type: &DataType, out: &mut B) {
    match value {
        Datum::Null => return out.put_slice(b"NULL"),
        Datum::Int(v) if !element_type.is_oid_like() => return super::number::write_i64(*v, out),
        _ => {}
    }
    let text = to_text(ctx, value, element_type);
    let special =
        |b: u8| matches!(b, b'"' | b'\\' | b'{' | b'}' | b',') || b.is_ascii_whitespace() || b == 0x0b;
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.bytes().any(special) {
        return out.put_slice(text.as_bytes());
    }
    out.put_u8(b'"');
    for b in text.bytes() {
        if matches!(b, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(b);
    }
    out.put_u8(b'"');
}

/// The element type to print a value as, where only its representation is known.
pub(crate) fn natural_type(value: &Datum) -> DataType {
    match value {
        Datum::Bool(_) => DataType::Bool,
        Datum::Int(_) => DataType::Int8,
        Datum::Float4(_) => DataType::Float4,
        Datum::Float8(_) => DataType::Float8,
        Datum::Numeric(_) => DataType::Numeric(None),
        Datum::Null | Datum::Text(_) => DataType::Text,
        Datum::Char(_) => DataType::Char(None),
        Datum::Bytea(_) => DataType::Bytea,
        Datum::Date(_) => DataType::Date,
        Datum::Time(_) => DataType::Time,
        Datum::Timestamp(_) => DataType::Timestamp,
        Datum::TimestampTz(_) => DataType::TimestampTz,
        Datum::Interval(_) => DataType::Interval,
        Datum::Uuid(_) => DataType::Uuid,
        Datum::Array(a) => DataType::array(a.element_type().clone()),
        Datum::Record(_) => DataType::Record,
    }
}

/// `record_out`.
pub(super) fn write_record<B: BufMut>(ctx: &EvalContext, fields: &[Datum], out: &mut B) {
    out.put_u8(b'(');
    for (i, f) in fields.iter().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        if f.is_null() {
            continue;
        }
        let text = to_text(ctx, f, &natural_type(f));
        let special =
            |b: u8| matches!(b, b'"' | b'\\' | b'(' | b')' | b',') || b.is_ascii_whitespace() || b == 0x0b;
        if !text.is_empty() && !text.bytes().any(special) {
            out.put_slice(text.as_bytes());
            continue;
        }
        out.put_u8(b'"');
        for b in text.bytes() {
            if matches!(b, b'"' | b'\\') {
                out.put_u8(b);
            }
            out.put_u8(b);
        }
        out.put_u8(b'"');
    }
    out.put_u8(b')');
}

fn malformed(text: &str, detail: impl Into<std::borrow::Cow<'static, str>>) -> SqlError {
    SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, format!("malformed array literal: \"{text}\""))
        .with_detail(detail)
}

/// `array_in`.
pub(super) fn parse_array(ctx: &EvalContext, text: &str, element_type: &DataType) -> Result<ArrayValue> {
    let mut parser =
        Parser { ctx, text, rest: text.trim_start(), element_type, lens: Vec::new(), elements: Vec::new() };
    let lowers = parser.explicit_dimensions()?;
    if !parser.rest.starts_with('{') {
        let detail = if lowers.is_empty() {
            "Array value must start with \"{\" or dimension information."
        } else {
            "Array contents must start with \"{\"."
        };
        return Err(malformed(text, detail));
    }
    parser.level(0)?;
    if !parser.rest.trim().is_empty() {
        return Err(malformed(text, "Junk after closing right brace."));
    }
    let Parser { lens, elements, .. } = parser;
    if elements.is_empty() {
        return Ok(ArrayValue::new(element_type.clone(), Vec::new()));
    }
    let lens: Vec<i32> = lens.into_iter().map(|l| l.expect("closed levels have lengths")).collect();
    if !lowers.is_empty()
        && (lowers.len() != lens.len() || lowers.iter().zip(&lens).any(|(d, l)| d.len != *l))
    {
        return Err(malformed(text, "Specified array dimensions do not match array contents."));
    }
    let dimensions = if lowers.is_empty() {
        lens.into_iter().map(|len| Dimension { len, lower: 1 }).collect()
    } else {
        lowers
    };
    Ok(ArrayValue::with_dimensions(element_type.clone(), dimensions, elements))
}

struct Parser<'a> {
    ctx: &'a EvalContext,
    text: &'a str,
    rest: &'a str,
    element_type: &'a DataType,
    /// The length of every level, known once its first sub-array is closed.
    lens: Vec<Option<i32>>,
    elements: Vec<Datum>,
}

impl Parser<'_> {
    fn explicit_dimensions(&mut self) -> Result<Vec<Dimension>> {
        let mut dimensions = Vec::new();
        while let Some(after) = self.rest.strip_prefix('[') {
            let bad = || malformed(self.text, "\"[\" must introduce explicitly-specified array dimensions.");
            let (inside, after) = after.split_once(']').ok_or_else(bad)?;
            let (lower, upper) = inside.split_once(':').unwrap_or(("1", inside));
            let (Ok(lower), Ok(upper)) = (lower.trim().parse::<i32>(), upper.trim().parse::<i32>()) else {
                return Err(bad());
            };
            if upper < lower {
                return Err(SqlError::new(
                    SqlState::ARRAY_SUBSCRIPT_ERROR,
                    "upper bound cannot be less than lower bound",
                ));
            }
            let len = upper.checked_sub(lower).and_then(|l| l.checked_add(1)).ok_or_else(bad)?;
            dimensions.push(Dimension { len, lower });
            self.rest = after.trim_start();
        }
        if !dimensions.is_empty() {
            let Some(after) = self.rest.strip_prefix('=') else {
                return Err(malformed(self.text, "Missing \"=\" after array dimensions."));
            };
            self.rest = after.trim_start();
        }
        Ok(dimensions)
    }

    /// Reads `{...}`; `rest` begins with the brace.
    fn level(&mut self, depth: usize) -> Result<()> {
        check_dimensions(depth + 1)?;
        if self.lens.len() == depth {
            self.lens.push(None);
        }
        self.rest = self.rest[1..].trim_start();
        let mut count = 0;
        if let Some(after) = self.rest.strip_prefix('}') {
            if depth > 0 {
                return Err(malformed(self.text, "Unexpected \"}\" character."));
            }
            self.rest = after;
            return self.close(depth, 0);
        }
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.starts_with('{') {
                if self.lens.len() == depth + 1 && (count > 0 || self.lens[depth].is_some()) {
                    return Err(self.ragged());
                }
                self.level(depth + 1)?;
            } else {
                if self.lens.len() > depth + 1 {
                    return Err(self.ragged());
                }
                let element = self.element()?;
                self.elements.push(element);
            }
            count += 1;
            self.rest = self.rest.trim_start();
            match self.rest.chars().next() {
                Some(',') => self.rest = &self.rest[1..],
                Some('}') => {
                    self.rest = &self.rest[1..];
                    return self.close(depth, count);
                }
                Some(_) => return Err(malformed(self.text, "Unexpected array element.")),
                None => return Err(malformed(self.text, "Unexpected end of input.")),
            }
        }
    }

    fn ragged(&self) -> SqlError {
        malformed(self.text, "Multidimensional arrays must have sub-arrays with matching dimensions.")
    }

    fn close(&mut self, depth: usize, count: i32) -> Result<()> {
        match self.lens[depth] {
            None => self.lens[depth] = Some(count),
            Some(len) if len == count => {}
            Some(_) => return Err(self.ragged()),
        }
        Ok(())
    }

    fn element(&mut self) -> Result<Datum> {
        let mut value = String::new();
        let mut chars = self.rest.char_indices();
        if self.rest.starts_with('"') {
            chars.next();
            loop {
                match chars.next() {
                    Some((i, '"')) => {
                        self.rest = &self.rest[i + 1..];
                        return parse_text(self.ctx, &value, self.element_type);
                    }
                    Some((_, '\\')) => value.extend(chars.next().map(|(_, c)| c)),
                    Some((_, c)) => value.push(c),
                    None => return Err(malformed(self.text, "Unexpected end of input.")),
                }
            }
        }
        let mut escaped = false;
        // Blanks at the end do not count, unless a backslash protects them.
        let mut kept = 0;
        let end = loop {
            match chars.next() {
                Some((i, ',' | '}')) => break i,
                Some((_, '"')) => return Err(malformed(self.text, "Unexpected array element.")),
                Some((i, '{')) => {
                    let _ = i;
                    return Err(malformed(self.text, "Unexpected \"{\" character."));
                }
                Some((_, '\\')) => {
                    escaped = true;
                    value.extend(chars.next().map(|(_, c)| c));
                    kept = value.len();
                }
                Some((_, c)) => {
                    value.push(c);
                    if !c.is_ascii_whitespace() {
                        kept = value.len();
                    }
                }
                None => return Err(malformed(self.text, "Unexpected end of input.")),
            }
        };
        value.truncate(kept);
        self.rest = &self.rest[end..];
        if value.is_empty() {
            let found = self.rest.chars().next().unwrap_or(',');
            return Err(malformed(self.text, format!("Unexpected \"{found}\" character.")));
        }
        if !escaped && value.eq_ignore_ascii_case("null") {
            return Ok(Datum::Null);
        }
        parse_text(self.ctx, &value, self.element_type)
    }
}
