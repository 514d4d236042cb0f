//! LIKE and regular expressions.
//!
//! PostgreSQL's regular expressions are translated to the `regex` crate's: the same classes and quantifiers, with the
//! escapes that differ rewritten. What that engine refuses by design (back references, look-around) is 0A000.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::array::ArrayValue;
use crate::column::kernels::{Kernel, TextTest};
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::func::access::{int, text};
use crate::func::registry::Ty::{Bool, Char, Int4, Name, Text, TextArray};
use crate::func::registry::{FunctionDef, Ty, def};
use crate::state::SqlState;
use crate::types::DataType;

/// Compiled expressions that a thread keeps. A statement has few patterns, but calls them for every row.
const CACHED_EXPRESSIONS: usize = 64;

fn like(a: &[Datum], insensitive: bool) -> Result<bool> {
    LikePattern::compile(text(&a[1]), insensitive).map(|p| p.matches(text(&a[0])))
}

const fn like_def(
    symbol: &'static str,
    args: &'static [Ty],
    negated: bool,
    insensitive: bool,
) -> FunctionDef {
    let eval = match (negated, insensitive) {
        (false, false) => |_: &EvalContext, a: &[Datum]| like(a, false).map(Datum::Bool),
        (true, false) => |_: &EvalContext, a: &[Datum]| like(a, false).map(|m| Datum::Bool(!m)),
        (false, true) => |_: &EvalContext, a: &[Datum]| like(a, true).map(Datum::Bool),
        (true, true) => |_: &EvalContext, a: &[Datum]| like(a, true).map(|m| Datum::Bool(!m)),
    };
    def(symbol, args, Bool, eval).kernel(Kernel::Text(TextTest::Like { insensitive }, negated))
}

const fn regex_def(
    symbol: &'static str,
    args: &'static [Ty],
    negated: bool,
    insensitive: bool,
) -> FunctionDef {
    let eval = match (negated, insensitive) {
        (false, false) => |_: &EvalContext, a: &[Datum]| search(a, false).map(Datum::Bool),
        (true, false) => |_: &EvalContext, a: &[Datum]| search(a, false).map(|m| Datum::Bool(!m)),
        (false, true) => |_: &EvalContext, a: &[Datum]| search(a, true).map(Datum::Bool),
        (true, true) => |_: &EvalContext, a: &[Datum]| search(a, true).map(|m| Datum::Bool(!m)),
    };
    def(symbol, args, Bool, eval).kernel(Kernel::Text(TextTest::Regex { insensitive }, negated))
}

pub(super) const OPERATORS: &[FunctionDef] = &[
    like_def("~~", &[Text, Text], false, false),
    like_def("~~", &[Char, Text], false, false),
    like_def("~~", &[Name, Text], false, false),
    like_def("!~~", &[Text, Text], true, false),
    like_def("!~~", &[Char, Text], true, false),
    like_def("!~~", &[Name, Text], true, false),
    like_def("~~*", &[Text, Text], false, true),
    like_def("~~*", &[Char, Text], false, true),
    like_def("~~*", &[Name, Text], false, true),
    like_def("!~~*", &[Text, Text], true, true),
    like_def("!~~*", &[Char, Text], true, true),
    like_def("!~~*", &[Name, Text], true, true),
    regex_def("~", &[Text, Text], false, false),
    regex_def("~", &[Char, Text], false, false),
    regex_def("~", &[Name, Text], false, false),
    regex_def("!~", &[Text, Text], true, false),
    regex_def("!~", &[Char, Text], true, false),
    regex_def("!~", &[Name, Text], true, false),
    regex_def("~*", &[Text, Text], false, true),
    regex_def("~*", &[Char, Text], false, true),
    regex_def("~*", &[Name, Text], false, true),
    regex_def("!~*", &[Text, Text], true, true),
    regex_def("!~*", &[Char, Text], true, true),
    regex_def("!~*", &[Name, Text], true, true),
];

/// A compiled LIKE pattern.
pub(crate) struct LikePattern {
    shape: Shape,
    insensitive: bool,
}

enum Shape {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    General(Vec<Part>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Char(char),
    One,
    Many,
}

impl LikePattern {
    /// Compiles a pattern with `\` as its escape.
    pub(crate) fn compile(pattern: &str, insensitive: bool) -> Result<LikePattern> {
        let folded;
        let pattern = if insensitive {
            folded = pattern.to_lowercase();
            &folded
        } else {
            pattern
        };
        let mut parts = Vec::with_capacity(pattern.len());
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '%' if parts.last() == Some(&Part::Many) => continue,
                '%' => Part::Many,
                '_' => Part::One,
                '\\' => Part::Char(chars.next().ok_or_else(|| {
                    SqlError::new(
                        SqlState::INVALID_ESCAPE_SEQUENCE,
                        "LIKE pattern must not end with escape character",
                    )
                })?),
                c => Part::Char(c),
            });
        }
        Ok(LikePattern { shape: Shape::of(parts), insensitive })
    }

    /// Whether a string matches as a whole.
    pub(crate) fn matches(&self, s: &str) -> bool {
        let folded;
        let s = if self.insensitive {
            folded = s.to_lowercase();
            &folded
        } else {
            s
        };
        match &self.shape {
            Shape::Exact(p) => s == p,
            Shape::Prefix(p) => s.starts_with(p.as_str()),
            Shape::Suffix(p) => s.ends_with(p.as_str()),
            Shape::Contains(p) => s.contains(p.as_str()),
            Shape::General(parts) => matches_general(parts, s),
        }
    }
}

impl Shape {
    fn of(parts: Vec<Part>) -> Shape {
        let front = parts.first() == Some(&Part::Many);
        let back = parts.len() > 1 && parts.last() == Some(&Part::Many);
        let middle = &parts[usize::from(front)..parts.len() - usize::from(back)];
        let literal: Option<String> =
            middle.iter().map(|p| if let Part::Char(c) = p { Some(*c) } else { None }).collect();
        match (literal, front, back) {
            (None, _, _) => Shape::General(parts),
            (Some(s), false, false) => Shape::Exact(s),
            (Some(s), false, true) => Shape::Prefix(s),
            (Some(s), true, false) => Shape::Suffix(s),
            (Some(s), true, true) => Shape::Contains(s),
        }
    }
}

/// Greedy matching with one backtrack point: only the last `%` ever needs another try.
fn matches_general(parts: &[Part], s: &str) -> bool {
    let (mut at, mut rest) = (0, s);
    let mut retry: Option<(usize, &str)> = None;
    loop {
        let advanced = match parts.get(at) {
            None if rest.is_empty() => return true,
            None => false,
            Some(Part::Many) => {
                retry = Some((at + 1, rest));
                at += 1;
                continue;
            }
            Some(part) => match rest.chars().next() {
                Some(c) if *part == Part::One || *part == Part::Char(c) => {
                    rest = &rest[c.len_utf8()..];
                    at += 1;
                    true
                }
                _ => false,
            },
        };
        if advanced {
            continue;
        }
        let Some((after, from)) = retry else { return false };
        let Some(skipped) = from.chars().next() else { return false };
        rest = &from[skipped.len_utf8()..];
        retry = Some((after, rest));
        at = after;
    }
}

/// `LIKE pattern ESCAPE e`: the pattern rewritten to the escape `\`.
fn like_escape(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let (pattern, escape) = (text(&a[0]), text(&a[1]));
    let mut escape_chars = escape.chars();
    let (e, more) = (escape_chars.next(), escape_chars.next());
    if more.is_some() {
        return Err(SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
            .with_hint("Escape string must be empty or one character."));
    }
    let mut out = String::with_capacity(pattern.len() + 4);
    let mut after_escape = false;
    for c in pattern.chars() {
        if after_escape {
            out.push(c);
            after_escape = false;
        } else if Some(c) == e {
            out.push('\\');
            after_escape = true;
        } else if c == '\\' {
            out.push_str("\\\\");
        } else {
            out.push(c);
        }
    }
    Ok(Datum::from(out))
}

fn invalid_regex(detail: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_REGULAR_EXPRESSION, format!("invalid regular expression: {detail}"))
}

/// Flags of a PostgreSQL regular expression.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Flags {
    insensitive: bool,
    global: bool,
    newline: bool,
    extended: bool,
    literal: bool,
}

impl Flags {
    fn parse(flags: &str) -> Result<Flags> {
        let mut out = Flags::default();
        for c in flags.chars() {
            match c {
                'g' => out.global = true,
                'i' => out.insensitive = true,
                'c' => out.insensitive = false,
                'n' | 'm' => out.newline = true,
                's' => out.newline = false,
                'x' => out.extended = true,
                't' => out.extended = false,
                'q' => out.literal = true,
                'b' | 'e' | 'p' | 'w' => {
                    return Err(SqlError::unsupported(format!("regular expression option \"{c}\"")));
                }
                _ => {
                    return Err(SqlError::invalid_parameter(format!(
                        "invalid regular expression option: \"{c}\""
                    )));
                }
            }
        }
        Ok(out)
    }
}

/// A pattern of PostgreSQL's advanced regular expressions as one of the `regex` crate's.
fn translate(pattern: &str) -> Result<String> {
    let pattern = pattern.strip_prefix("***:").unwrap_or(pattern);
    if let Some(literal) = pattern.strip_prefix("***=") {
        return Ok(regex::escape(literal));
    }
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                None => return Err(invalid_regex("invalid escape \\ sequence")),
                Some('y') => out.push_str("\\b"),
                Some('Y') => out.push_str("\\B"),
                Some('m') => out.push_str("\\b{start}"),
                Some('M') => out.push_str("\\b{end}"),
                Some('Z') => out.push_str("\\z"),
                Some('e') => out.push_str("\\x1b"),
                Some('b') => out.push_str("\\x08"),
                Some('B') => out.push_str("\\\\"),
                Some(d) if d.is_ascii_digit() && d != '0' => {
                    return Err(SqlError::unsupported("a back reference in a regular expression"));
                }
                Some(
                    c @ ('A' | 'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'n' | 't' | 'r' | 'f' | 'v' | 'a' | 'x'
                    | 'u'),
                ) => {
                    out.push('\\');
                    out.push(c);
                }
                Some(c) => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            },
            '[' => bracket(&mut chars, &mut out)?,
            '{' if !chars.peek().is_some_and(char::is_ascii_digit) => out.push_str("\\{"),
            '(' if chars.peek() == Some(&'?') => {
                let mut ahead = chars.clone();
                ahead.next();
                if matches!(ahead.next(), Some('=' | '!' | '<')) {
                    return Err(SqlError::unsupported("look-around in a regular expression"));
                }
                out.push('(');
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

/// A bracket expression, whose inner brackets and doubled operators mean themselves in PostgreSQL.
fn bracket(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) -> Result<()> {
    out.push('[');
    if chars.peek() == Some(&'^') {
        chars.next();
        out.push('^');
    }
    let mut first = true;
    loop {
        match chars.next() {
            None => return Err(invalid_regex("brackets [] not balanced")),
            Some(']') if !first => {
                out.push(']');
                return Ok(());
            }
            Some('[') if matches!(chars.peek(), Some(':')) => {
                out.push('[');
                while let Some(c) = chars.next() {
                    out.push(c);
                    if c == ':' && chars.peek() == Some(&']') {
                        out.push(']');
                        chars.next();
                        break;
                    }
                }
            }
            Some('\\') => {
                out.push('\\');
                out.push(chars.next().ok_or_else(|| invalid_regex("invalid escape \\ sequence"))?);
            }
            Some(c @ ('[' | ']' | '&' | '~')) => {
                out.push('\\');
                out.push(c);
            }
            Some('-') if chars.peek() == Some(&'-') => out.push_str("\\-"),
            Some(c) => out.push(c),
        }
        first = false;
    }
}

fn build(pattern: &str, flags: Flags) -> Result<Regex> {
    let translated = if flags.literal { regex::escape(pattern) } else { translate(pattern)? };
    RegexBuilder::new(&translated)
        .case_insensitive(flags.insensitive)
        .dot_matches_new_line(!flags.newline)
        .multi_line(flags.newline)
        .ignore_whitespace(flags.extended)
        .build()
        .map_err(|e| match e {
            regex::Error::CompiledTooBig(_) => invalid_regex("regular expression is too complex"),
            e => {
                let text = e.to_string();
                let last =
                    text.lines().last().unwrap_or("syntax error").trim_start_matches("error: ").to_owned();
                if last.contains("repetition operator missing") {
                    return invalid_regex("quantifier operand invalid");
                }
                invalid_regex(&last)
            }
        })
}

thread_local! {
    static CACHE: RefCell<BTreeMap<(String, Flags), Regex>> = const { RefCell::new(BTreeMap::new()) };
}

fn compiled(pattern: &str, flags: Flags) -> Result<Regex> {
    CACHE.with_borrow_mut(|cache| {
        let key = (pattern.to_owned(), Flags { global: false, ..flags });
        if let Some(r) = cache.get(&key) {
            return Ok(r.clone());
        }
        let regex = build(pattern, flags)?;
        if cache.len() >= CACHED_EXPRESSIONS {
            cache.clear();
        }
        cache.insert(key, regex.clone());
        Ok(regex)
    })
}

/// The compiled form of an operator's pattern, for kernels with a constant one.
pub(crate) fn operator_regex(pattern: &str, insensitive: bool) -> Result<Regex> {
    compiled(pattern, Flags { insensitive, ..Flags::default() })
}

fn search(a: &[Datum], insensitive: bool) -> Result<bool> {
    Ok(operator_regex(text(&a[1]), insensitive)?.is_match(text(&a[0])))
}

fn flags(a: &[Datum], at: usize) -> Result<Flags> {
    a.get(at).map_or(Ok(Flags::default()), |f| Flags::parse(text(f)))
}

/// What a replacement text says: `\1` to `\9`, `\&`, `\\`.
fn expand(replacement: &str, captures: &regex::Captures<'_>, out: &mut String) {
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('&') => out.push_str(&captures[0]),
            Some(d) if d.is_ascii_digit() && d != '0' => {
                let group = d as usize - '0' as usize;
                out.push_str(captures.get(group).map_or("", |m| m.as_str()));
            }
            Some('\\') | None => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
        }
    }
}

fn regexp_replace(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let (s, replacement) = (text(&a[0]), text(&a[2]));
    let flags = flags(a, 3)?;
    let regex = compiled(text(&a[1]), flags)?;
    let limit = usize::from(!flags.global);
    let replaced = regex.replacen(s, limit, |c: &regex::Captures<'_>| {
        let mut out = String::new();
        expand(replacement, c, &mut out);
        out
    });
    Ok(Datum::from(&*replaced))
}

fn text_array(elements: Vec<Datum>) -> Datum {
    Datum::Array(Arc::new(ArrayValue::new(DataType::Text, elements)))
}

/// The groups of a match, or the whole of it when there are none.
fn groups(captures: &regex::Captures<'_>) -> Vec<Datum> {
    let of = |m: Option<regex::Match<'_>>| m.map_or(Datum::Null, |m| Datum::from(m.as_str()));
    if captures.len() == 1 { vec![of(captures.get(0))] } else { captures.iter().skip(1).map(of).collect() }
}

fn regexp_match(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let flags = flags(a, 2)?;
    if flags.global {
        return Err(SqlError::invalid_parameter("regexp_match() does not support the \"global\" option")
            .with_hint("Use the regexp_matches function instead."));
    }
    let regex = compiled(text(&a[1]), flags)?;
    Ok(regex.captures(text(&a[0])).map_or(Datum::Null, |c| text_array(groups(&c))))
}

fn regexp_substring(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let regex = compiled(text(&a[1]), Flags::default())?;
    Ok(regex.captures(text(&a[0])).map_or(Datum::Null, |c| groups(&c).swap_remove(0)))
}

fn regexp_split(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let regex = compiled(text(&a[1]), flags(a, 2)?)?;
    let s = text(&a[0]);
    let (mut parts, mut from) = (Vec::new(), 0);
    for m in regex.find_iter(s) {
        // An empty match at either end of a piece splits nothing.
        if m.is_empty() && (m.start() == from || m.start() == s.len()) {
            continue;
        }
        parts.push(Datum::from(&s[from..m.start()]));
        from = m.end();
    }
    parts.push(Datum::from(&s[from..]));
    Ok(text_array(parts))
}

fn regexp_count(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let regex = compiled(text(&a[1]), Flags::default())?;
    let from = a.get(2).map_or(1, int);
    if from <= 0 {
        return Err(SqlError::invalid_parameter(format!("invalid value for parameter \"start\": {from}")));
    }
    let s = text(&a[0]);
    let begin = s.char_indices().nth(from as usize - 1).map_or(s.len(), |(i, _)| i);
    Ok(Datum::Int(regex.find_iter(&s[begin..]).count() as i64))
}

/// `SIMILAR TO`: the SQL pattern as an anchored regular expression.
fn similar_to_escape(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let pattern = text(&a[0]);
    let escape = a.get(1).map_or("\\", text);
    if escape.chars().nth(1).is_some() {
        return Err(SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
            .with_hint("Escape string must be empty or one character."));
    }
    let escape = escape.chars().next();
    let mut out = String::from("^(?:");
    let (mut escaped, mut in_class) = (false, false);
    for c in pattern.chars() {
        if escaped {
            out.push('\\');
            out.push(c);
            escaped = false;
        } else if Some(c) == escape {
            escaped = true;
        } else if in_class {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
            in_class = c != ']';
        } else {
            match c {
                '[' => {
                    out.push(c);
                    in_class = true;
                }
                '%' => out.push_str(".*"),
                '_' => out.push('.'),
                '(' => out.push_str("(?:"),
                '\\' | '.' | '^' | '$' => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push(c),
            }
        }
    }
    out.push_str(")$");
    Ok(Datum::from(out))
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("like_escape", &[Text, Text], Text, like_escape),
    def("similar_to_escape", &[Text], Text, similar_to_escape),
    def("similar_to_escape", &[Text, Text], Text, similar_to_escape),
    def("like", &[Text, Text], Bool, |_, a| like(a, false).map(Datum::Bool)),
    def("notlike", &[Text, Text], Bool, |_, a| like(a, false).map(|m| Datum::Bool(!m))),
    def("regexp_replace", &[Text, Text, Text], Text, regexp_replace),
    def("regexp_replace", &[Text, Text, Text, Text], Text, regexp_replace),
    def("regexp_match", &[Text, Text], TextArray, regexp_match),
    def("regexp_match", &[Text, Text, Text], TextArray, regexp_match),
    def("regexp_like", &[Text, Text], Bool, |_, a| search(a, false).map(Datum::Bool)),
    def("regexp_like", &[Text, Text, Text], Bool, |_, a| {
        Ok(Datum::Bool(compiled(text(&a[1]), flags(a, 2)?)?.is_match(text(&a[0]))))
    }),
    def("regexp_substr", &[Text, Text], Text, |_, a| {
        let regex = compiled(text(&a[1]), Flags::default())?;
        Ok(regex.find(text(&a[0])).map_or(Datum::Null, |m| Datum::from(m.as_str())))
    }),
    def("regexp_count", &[Text, Text], Int4, regexp_count),
    def("regexp_count", &[Text, Text, Int4], Int4, regexp_count),
    def("regexp_split_to_array", &[Text, Text], TextArray, regexp_split),
    def("regexp_split_to_array", &[Text, Text, Text], TextArray, regexp_split),
    def("substring", &[Text, Text], Text, regexp_substring),
];
