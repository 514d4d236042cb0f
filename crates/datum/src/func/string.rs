//! String functions and operators. Lengths and positions count characters.

use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::format::to_text;
use crate::func::access::{bytes, int, text};
use crate::func::registry::Ty::{Any, Bool, Bytea, Char, Int4, Text, TextArray};
use crate::func::registry::{FunctionDef, Ty, def};
use crate::func::untyped;
use crate::state::SqlState;
use crate::types::DataType;

/// Longest string a function may make (PostgreSQL's `MaxAllocSize`).
const MAX_LENGTH: usize = 0x3fff_ffff;

fn string(s: impl Into<std::sync::Arc<str>>) -> Result<Datum> {
    Ok(Datum::Text(s.into()))
}

fn too_long() -> SqlError {
    SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "requested length too large")
}

fn joined(a: &str, b: &str) -> Result<Datum> {
    if a.len() + b.len() > MAX_LENGTH {
        return Err(too_long());
    }
    let mut s = String::with_capacity(a.len() + b.len());
    s.push_str(a);
    s.push_str(b);
    string(s)
}

fn concat_any(ctx: &EvalContext, a: &[Datum]) -> Result<Datum> {
    joined(&plain(ctx, &a[0]), &plain(ctx, &a[1]))
}

/// A value's text as a cast to `text` has it.
fn plain(ctx: &EvalContext, d: &Datum) -> String {
    match d {
        Datum::Text(s) => s.to_string(),
        Datum::Char(s) => s.trim_end_matches(' ').to_owned(),
        Datum::Bool(b) => b.to_string(),
        other => to_text(ctx, other, &untyped(other)),
    }
}

/// A double's text as its output function has it.
pub(super) fn output_f64(v: f64) -> String {
    output(&EvalContext::default(), &Datum::Float8(v))
}

/// A value's text as its output function has it, which `concat` uses.
pub(super) fn output(ctx: &EvalContext, d: &Datum) -> String {
    to_text(ctx, d, &untyped(d))
}

pub(super) const OPERATORS: &[FunctionDef] = &[
    def("||", &[Text, Text], Text, |_, a| joined(text(&a[0]), text(&a[1]))),
    def("||", &[Text, Ty::AnyNonArray], Text, concat_any).stable(),
    def("||", &[Ty::AnyNonArray, Text], Text, concat_any).stable(),
    def("||", &[Bytea, Bytea], Bytea, |_, a| Ok(Datum::bytea([bytes(&a[0]), bytes(&a[1])].concat()))),
    def("^@", &[Text, Text], Bool, |_, a| Ok(Datum::Bool(text(&a[0]).starts_with(text(&a[1]))))),
];

fn count(n: usize) -> Result<Datum> {
    Ok(Datum::Int(n as i64))
}

fn char_length(s: &str) -> usize {
    if s.is_ascii() { s.len() } else { s.chars().count() }
}

/// The byte offset of a character's index; the end for indices beyond it.
fn offset(s: &str, index: usize) -> usize {
    if s.is_ascii() {
        return index.min(s.len());
    }
    s.char_indices().nth(index).map_or(s.len(), |(i, _)| i)
}

/// The characters from 1-based `start`, `length` of them.
fn substring(s: &str, start: i64, length: Option<i64>) -> Result<&str> {
    let end = match length {
        Some(n) if n < 0 => {
            // The start may lie so far off that the end is no number; the length is still what is wrong.
            return Err(SqlError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
        }
        Some(n) => start.saturating_add(n),
        None => i64::MAX,
    };
    let from = start.max(1);
    if end <= from {
        return Ok("");
    }
    let begin = offset(s, (from - 1) as usize);
    let rest = &s[begin..];
    Ok(&rest[..offset(rest, usize::try_from(end - from).unwrap_or(usize::MAX))])
}

fn byte_substring(b: &[u8], start: i64, length: Option<i64>) -> Result<&[u8]> {
    let end = match length {
        Some(n) if n < 0 => {
            return Err(SqlError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
        }
        Some(n) => start.saturating_add(n),
        None => i64::MAX,
    };
    let from = start.max(1);
    let begin = ((from - 1) as usize).min(b.len());
    let stop = usize::try_from(end - 1).unwrap_or(0).clamp(begin, b.len());
    Ok(&b[begin..stop])
}

/// 1-based position of a substring in characters, 0 when absent.
fn position(haystack: &str, needle: &str) -> i64 {
    haystack.find(needle).map_or(0, |i| char_length(&haystack[..i]) as i64 + 1)
}

fn trimmed<'a>(s: &'a str, set: &str, front: bool, back: bool) -> &'a str {
    let mut s = s;
    if front {
        s = s.trim_start_matches(|c| set.contains(c));
    }
    if back {
        s = s.trim_end_matches(|c| set.contains(c));
    }
    s
}

fn trim(a: &[Datum], front: bool, back: bool) -> Result<Datum> {
    let set = a.get(1).map_or(" ", text);
    string(trimmed(text(&a[0]), set, front, back))
}

/// The first `n` characters; a negative `n` leaves that many off the end.
fn left(s: &str, n: i64) -> &str {
    let keep = if n >= 0 { n as usize } else { char_length(s).saturating_sub(n.unsigned_abs() as usize) };
    &s[..offset(s, keep)]
}

fn right(s: &str, n: i64) -> &str {
    let len = char_length(s);
    let skip = if n >= 0 { len.saturating_sub(n as usize) } else { (n.unsigned_abs() as usize).min(len) };
    &s[offset(s, skip)..]
}

fn pad(a: &[Datum], front: bool) -> Result<Datum> {
    let (s, want, fill) = (text(&a[0]), int(&a[1]).max(0) as usize, a.get(2).map_or(" ", text));
    if want > MAX_LENGTH / 4 {
        return Err(too_long());
    }
    let have = char_length(s);
    if have >= want || fill.is_empty() {
        return string(&s[..offset(s, want)]);
    }
    let padding: String = fill.chars().cycle().take(want - have).collect();
    if front { joined(&padding, s) } else { joined(s, &padding) }
}

fn repeat(a: &[Datum]) -> Result<Datum> {
    let (s, n) = (text(&a[0]), int(&a[1]).max(0) as usize);
    if s.len().checked_mul(n).is_none_or(|len| len > MAX_LENGTH) {
        return Err(too_long());
    }
    string(s.repeat(n))
}

fn replace(a: &[Datum]) -> Result<Datum> {
    let (s, from, to) = (text(&a[0]), text(&a[1]), text(&a[2]));
    if from.is_empty() || !s.contains(from) {
        return Ok(a[0].clone());
    }
    string(s.replace(from, to))
}

fn translate(a: &[Datum]) -> Result<Datum> {
    let (s, from, to) = (text(&a[0]), text(&a[1]), text(&a[2]));
    let to: Vec<char> = to.chars().collect();
    let mapped: String = s
        .chars()
        .filter_map(|c| match from.chars().position(|f| f == c) {
            None => Some(c),
            Some(i) => to.get(i).copied(),
        })
        .collect();
    string(mapped)
}

fn split_part(a: &[Datum]) -> Result<Datum> {
    let (s, delimiter, n) = (text(&a[0]), text(&a[1]), int(&a[2]));
    if n == 0 {
        return Err(SqlError::invalid_parameter("field position must not be zero"));
    }
    if delimiter.is_empty() {
        return string(if n == 1 || n == -1 { s } else { "" });
    }
    let index = n.unsigned_abs() as usize - 1;
    let part = if n > 0 { s.split(delimiter).nth(index) } else { s.rsplit(delimiter).nth(index) };
    string(part.unwrap_or(""))
}

fn initcap(s: &str) -> String {
    let mut in_word = false;
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_alphanumeric();
    }
    out
}

fn chr(a: &[Datum]) -> Result<Datum> {
    let code = int(&a[0]);
    if code < 0 {
        return Err(SqlError::invalid_parameter("character number must be positive"));
    }
    if code == 0 {
        return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "null character not permitted"));
    }
    match u32::try_from(code).ok().and_then(char::from_u32) {
        Some(c) => string(c.to_string()),
        None => {
            let what = if code > 0x10_ffff { "too large for encoding" } else { "not valid for encoding" };
            Err(SqlError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("requested character {what}: {code}"),
            ))
        }
    }
}

fn concat(ctx: &EvalContext, a: &[Datum]) -> Result<Datum> {
    string(a.iter().filter(|d| !d.is_null()).map(|d| output(ctx, d)).collect::<String>())
}

fn concat_ws(ctx: &EvalContext, a: &[Datum]) -> Result<Datum> {
    if a[0].is_null() {
        return Ok(Datum::Null);
    }
    let parts: Vec<String> = a[1..].iter().filter(|d| !d.is_null()).map(|d| output(ctx, d)).collect();
    string(parts.join(text(&a[0])))
}

fn quote_ident(s: &str) -> String {
    let mut chars = s.chars();
    let safe_start = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    let safe = safe_start && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if safe && !RESERVED.contains(&s) { s.to_owned() } else { format!("\"{}\"", s.replace('"', "\"\"")) }
}

/// Words that `quote_ident` must quote: PostgreSQL's keywords but for the unreserved ones.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

pub(super) fn quote_identifier(s: &str) -> String {
    quote_ident(s)
}

pub(super) fn quote_literal(s: &str) -> String {
    let quoted = s.replace('\'', "''");
    if s.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

fn overlay(a: &[Datum]) -> Result<Datum> {
    let (s, new, from) = (text(&a[0]), text(&a[1]), int(&a[2]));
    let count = a.get(3).map_or(char_length(new) as i64, int);
    if from <= 0 {
        return Err(SqlError::new(SqlState::SUBSTRING_ERROR, "negative substring length not allowed"));
    }
    let after = from + count;
    if i32::try_from(after).is_err() {
        return Err(SqlError::out_of_range("integer"));
    }
    let head = substring(s, 1, Some(from - 1))?;
    let tail = substring(s, after, None)?;
    string(format!("{head}{new}{tail}"))
}

fn string_to_array(ctx: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let _ = ctx;
    if a[0].is_null() {
        return Ok(Datum::Null);
    }
    let s = text(&a[0]);
    let null_text = a.get(2).filter(|d| !d.is_null()).map(text);
    let parts: Vec<String> = match &a[1] {
        _ if s.is_empty() => Vec::new(),
        Datum::Null => s.chars().map(String::from).collect(),
        d if text(d).is_empty() => vec![s.to_owned()],
        d => s.split(text(d)).map(str::to_owned).collect(),
    };
    let elements = parts
        .into_iter()
        .map(|p| if null_text == Some(p.as_str()) { Datum::Null } else { Datum::from(p) })
        .collect();
    Ok(Datum::Array(std::sync::Arc::new(crate::array::ArrayValue::new(DataType::Text, elements))))
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("length", &[Text], Int4, |_, a| count(char_length(text(&a[0])))),
    def("length", &[Char], Int4, |_, a| count(char_length(text(&a[0]).trim_end_matches(' ')))),
    def("length", &[Bytea], Int4, |_, a| count(bytes(&a[0]).len())),
    def("char_length", &[Text], Int4, |_, a| count(char_length(text(&a[0])))),
    def("char_length", &[Char], Int4, |_, a| count(char_length(text(&a[0]).trim_end_matches(' ')))),
    def("character_length", &[Text], Int4, |_, a| count(char_length(text(&a[0])))),
    def("character_length", &[Char], Int4, |_, a| count(char_length(text(&a[0]).trim_end_matches(' ')))),
    def("octet_length", &[Text], Int4, |_, a| count(text(&a[0]).len())),
    def("octet_length", &[Char], Int4, |_, a| count(text(&a[0]).len())),
    def("octet_length", &[Bytea], Int4, |_, a| count(bytes(&a[0]).len())),
    def("bit_length", &[Text], Int4, |_, a| count(text(&a[0]).len() * 8)),
    def("bit_length", &[Bytea], Int4, |_, a| count(bytes(&a[0]).len() * 8)),
    def("lower", &[Text], Text, |_, a| string(text(&a[0]).to_lowercase())),
    def("upper", &[Text], Text, |_, a| string(text(&a[0]).to_uppercase())),
    def("initcap", &[Text], Text, |_, a| string(initcap(text(&a[0])))),
    def("substr", &[Text, Int4], Text, |_, a| string(substring(text(&a[0]), int(&a[1]), None)?)),
    def("substr", &[Text, Int4, Int4], Text, |_, a| {
        string(substring(text(&a[0]), int(&a[1]), Some(int(&a[2])))?)
    }),
    def("substring", &[Text, Int4], Text, |_, a| string(substring(text(&a[0]), int(&a[1]), None)?)),
    def("substring", &[Text, Int4, Int4], Text, |_, a| {
        string(substring(text(&a[0]), int(&a[1]), Some(int(&a[2])))?)
    }),
    def("substr", &[Bytea, Int4], Bytea, |_, a| {
        Ok(Datum::bytea(byte_substring(bytes(&a[0]), int(&a[1]), None)?))
    }),
    def("substr", &[Bytea, Int4, Int4], Bytea, |_, a| {
        Ok(Datum::bytea(byte_substring(bytes(&a[0]), int(&a[1]), Some(int(&a[2])))?))
    }),
    def("substring", &[Bytea, Int4], Bytea, |_, a| {
        Ok(Datum::bytea(byte_substring(bytes(&a[0]), int(&a[1]), None)?))
    }),
    def("substring", &[Bytea, Int4, Int4], Bytea, |_, a| {
        Ok(Datum::bytea(byte_substring(bytes(&a[0]), int(&a[1]), Some(int(&a[2])))?))
    }),
    def("overlay", &[Text, Text, Int4], Text, |_, a| overlay(a)),
    def("overlay", &[Text, Text, Int4, Int4], Text, |_, a| overlay(a)),
    def("position", &[Text, Text], Int4, |_, a| Ok(Datum::Int(position(text(&a[0]), text(&a[1]))))),
    def("strpos", &[Text, Text], Int4, |_, a| Ok(Datum::Int(position(text(&a[0]), text(&a[1]))))),
    def("btrim", &[Text], Text, |_, a| trim(a, true, true)),
    def("btrim", &[Text, Text], Text, |_, a| trim(a, true, true)),
    def("ltrim", &[Text], Text, |_, a| trim(a, true, false)),
    def("ltrim", &[Text, Text], Text, |_, a| trim(a, true, false)),
    def("rtrim", &[Text], Text, |_, a| trim(a, false, true)),
    def("rtrim", &[Text, Text], Text, |_, a| trim(a, false, true)),
    def("left", &[Text, Int4], Text, |_, a| string(left(text(&a[0]), int(&a[1])))),
    def("right", &[Text, Int4], Text, |_, a| string(right(text(&a[0]), int(&a[1])))),
    def("lpad", &[Text, Int4], Text, |_, a| pad(a, true)),
    def("lpad", &[Text, Int4, Text], Text, |_, a| pad(a, true)),
    def("rpad", &[Text, Int4], Text, |_, a| pad(a, false)),
    def("rpad", &[Text, Int4, Text], Text, |_, a| pad(a, false)),
    def("repeat", &[Text, Int4], Text, |_, a| repeat(a)),
    def("reverse", &[Text], Text, |_, a| string(text(&a[0]).chars().rev().collect::<String>())),
    def("replace", &[Text, Text, Text], Text, |_, a| replace(a)),
    def("translate", &[Text, Text, Text], Text, |_, a| translate(a)),
    def("split_part", &[Text, Text, Int4], Text, |_, a| split_part(a)),
    def("starts_with", &[Text, Text], Bool, |_, a| Ok(Datum::Bool(text(&a[0]).starts_with(text(&a[1]))))),
    def("ascii", &[Text], Int4, |_, a| {
        Ok(Datum::Int(text(&a[0]).chars().next().map_or(0, |c| i64::from(u32::from(c)))))
    }),
    def("chr", &[Int4], Text, |_, a| chr(a)),
    def("concat", &[Any], Text, concat).variadic().on_null().stable(),
    def("concat_ws", &[Text, Any], Text, concat_ws).variadic().on_null().stable(),
    def("quote_ident", &[Text], Text, |_, a| string(quote_ident(text(&a[0])))),
    def("quote_literal", &[Text], Text, |_, a| string(quote_literal(text(&a[0])))),
    def("quote_literal", &[Ty::AnyElement], Text, |ctx, a| string(quote_literal(&plain(ctx, &a[0]))))
        .stable(),
    def("quote_nullable", &[Text], Text, |_, a| {
        string(if a[0].is_null() { "NULL".to_owned() } else { quote_literal(text(&a[0])) })
    })
    .on_null(),
    def("quote_nullable", &[Ty::AnyElement], Text, |ctx, a| {
        string(if a[0].is_null() { "NULL".to_owned() } else { quote_literal(&plain(ctx, &a[0])) })
    })
    .on_null()
    .stable(),
    def("string_to_array", &[Text, Text], TextArray, string_to_array).on_null(),
    def("string_to_array", &[Text, Text, Text], TextArray, string_to_array).on_null(),
];
