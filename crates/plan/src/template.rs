//! Statements that differ only in their literals, and the one plan that serves them all.
//!
//! Clients of the simple protocol put values into the text, so that no text comes twice. A [`Template`] is what such texts
//! share: the text with its integers and strings taken out.
//!
//! ```text
//!   UPDATE t SET n = n + 5 WHERE k = 'a'
//!     text       UPDATE t SET n = n + <integer> WHERE k = <string>
//!     literals   5, 'a'
//!   parametrise: the syntax tree of one such text, with $1 and $2 in the places of its literals
//! ```
//! Reading a template takes one pass over the bytes and knows next to nothing of the grammar. What makes it sound is
//! [`Template::parametrise`]: each literal that the pass found must be met once in the syntax tree, as an expression, at
//! the same position and with the same value. A literal that is no expression (the length of a type, a typed string) is
//! not met, and the text has no template. Clauses in which a constant means something else than a parameter (ORDER BY 1,
//! GROUP BY 1, LIMIT) are refused. Texts with anything out of the ordinary (comments, escapes, dollars) have none either.
//!
//! Types: a parameter in the place of an integer has the literal's own type (`integer`, or `bigint` where that is too
//! small) and one in the place of a string has none yet, as the literals themselves. So the same operators and casts are
//! found for both.

use std::ops::ControlFlow;
use std::sync::Arc;

use meridian_datum::DataType;
use sqlparser::ast::{self, Value, ValueWithSpan, VisitMut, VisitorMut};

use crate::parse::{ParsedStatement, Syntax};
use crate::planner::DEEP_STACK;

/// Bytes of a text that is looked at: longer ones hold lists of values, of which no two are alike.
const TEXT_BYTES_MAX: usize = 2048;

/// Literals of a template.
const LITERALS_MAX: usize = 32;

/// Stand for literals in a template's text. A text that holds control characters of its own has no template.
const INT4: char = '\x01';
const INT8: char = '\x02';
const TEXT: char = '\x03';

/// A literal's value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Literal {
    /// An integer.
    Int(i64),
    /// A string, of no type yet.
    Text(String),
}

/// A statement's text without its literals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    /// The same for all texts that differ in literals only.
    pub text: String,
    /// The literals' types, [`DataType::Unknown`] for strings.
    pub types: Vec<DataType>,
    /// The literals, in order.
    pub literals: Vec<Literal>,
    /// Where they begin: characters, counted from 1.
    positions: Vec<u64>,
}

impl Template {
    /// The template of a text. `None` where there are no literals to take out, or it is not clear what they are.
    pub fn of(sql: &str) -> Option<Template> {
        let first = sql.trim_start().bytes().next()?;
        if sql.len() > TEXT_BYTES_MAX || !matches!(first | 0x20, b's' | b'i' | b'u' | b'd') {
            return None;
        }
        let mut reader = Reader {
            bytes: sql.as_bytes(),
            at: 0,
            position: 0,
            template: Template {
                text: String::with_capacity(sql.len()),
                types: Vec::new(),
                literals: Vec::new(),
                positions: Vec::new(),
            },
        };
        reader.read(sql)?;
        let template = reader.template;
        (1..=LITERALS_MAX).contains(&template.literals.len()).then_some(template)
    }

    /// The statement, which was parsed from the template's text, with parameters for literals.
    pub fn parametrise(&self, statement: &ParsedStatement) -> Option<ParsedStatement> {
        let Syntax::Ast(syntax) = &*statement.syntax else { return None };
        if statement.hooks.as_of.is_some() {
            return None;
        }
        let replace = || {
            let mut syntax = syntax.clone();
            let mut replacer = Replacer { template: self, is_met: vec![false; self.literals.len()] };
            let whole = syntax.visit(&mut replacer).is_continue() && replacer.is_met.iter().all(|met| *met);
            whole.then_some(syntax)
        };
        let syntax = if statement.is_deep { stacker::grow(DEEP_STACK, replace) } else { replace() }?;
        Some(ParsedStatement { syntax: Arc::new(Syntax::Ast(syntax)), ..statement.clone() })
    }

    fn push(&mut self, literal: Literal, ty: DataType, mark: char, position: u64) {
        self.text.push(mark);
        self.literals.push(literal);
        self.types.push(ty);
        self.positions.push(position);
    }
}

/// Reads a text once.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Characters before `at`.
    position: u64,
    template: Template,
}

/// A byte of a name or number, or of a character beyond ASCII.
fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80
}

impl Reader<'_> {
    fn read(&mut self, sql: &str) -> Option<()> {
        while let Some(&b) = self.bytes.get(self.at) {
            let next = self.bytes.get(self.at + 1).copied().unwrap_or(b' ');
            match b {
                b'\'' => self.string(sql)?,
                b'0'..=b'9' => self.number(sql)?,
                // A fraction without its whole part, or a name's qualification.
                b'.' if next.is_ascii_digit() => return None,
                b'"' => self.quoted(sql)?,
                b'-' if next == b'-' => return None,
                b'/' if next == b'*' => return None,
                b'$' | b'\\' | b'@' => return None,
                b if b.is_ascii_control() && !b.is_ascii_whitespace() => return None,
                b if is_word(b) => {
                    let start = self.at;
                    while self.bytes.get(self.at).is_some_and(|b| is_word(*b)) {
                        self.at += 1;
                    }
                    // `E'...'`, `U&"..."` and their kin.
                    if self.bytes.get(self.at).is_some_and(|b| matches!(b, b'\'' | b'&' | b'"')) {
                        return None;
                    }
                    self.copy(sql, start);
                }
                _ => {
                    self.at += 1;
                    self.copy(sql, self.at - 1);
                }
            }
        }
        Some(())
    }

    /// What was read since `start` stays in the text.
    fn copy(&mut self, sql: &str, start: usize) {
        let piece = &sql[start..self.at];
        self.position += piece.chars().count() as u64;
        self.template.text.push_str(piece);
    }

    fn string(&mut self, sql: &str) -> Option<()> {
        let start = self.at;
        let mut value = String::new();
        let mut from = start + 1;
        self.at += 1;
        loop {
            match self.bytes.get(self.at)? {
                b'\\' | 0 => return None,
                b'\'' => {
                    value.push_str(&sql[from..self.at]);
                    self.at += 1;
                    if self.bytes.get(self.at) != Some(&b'\'') {
                        break;
                    }
                    from = self.at;
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
        self.template.push(Literal::Text(value), DataType::Unknown, TEXT, self.position + 1);
        self.position += sql[start..self.at].chars().count() as u64;
        Some(())
    }

    /// An integer is taken out. Any other number stays: `numeric` literals carry a scale, and `2147483648` is an
    /// `integer` behind a minus and a `bigint` elsewhere.
    fn number(&mut self, sql: &str) -> Option<()> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        let is_integer = match self.bytes.get(self.at) {
            Some(b'.') => {
                self.at += 1;
                while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
                    self.at += 1;
                }
                false
            }
            _ => true,
        };
        if self.bytes.get(self.at).is_some_and(|b| is_word(*b) || matches!(b, b'.' | b'\'' | b'"')) {
            return None;
        }
        let limit = i64::from(i32::MAX);
        match sql[start..self.at].parse::<i64>() {
            Ok(n) if is_integer && n != limit + 1 => {
                let (ty, mark) = if n <= limit { (DataType::Int4, INT4) } else { (DataType::Int8, INT8) };
                self.template.push(Literal::Int(n), ty, mark, self.position + 1);
                self.position += (self.at - start) as u64;
            }
            _ => self.copy(sql, start),
        }
        Some(())
    }

    /// A quoted name stays as it is.
    fn quoted(&mut self, sql: &str) -> Option<()> {
        let start = self.at;
        self.at += 1;
        while *self.bytes.get(self.at)? != b'"' {
            self.at += 1;
        }
        self.at += 1;
        self.copy(sql, start);
        Some(())
    }
}

/// Puts parameters into a syntax tree.
struct Replacer<'a> {
    template: &'a Template,
    is_met: Vec<bool>,
}

impl Replacer<'_> {
    /// The parameter for a value; breaks at a literal that the template does not have.
    fn replace(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        let is_same = |literal: &Literal| match (literal, &value.value) {
            (Literal::Int(n), Value::Number(text, _)) => text.parse() == Ok(*n),
            (Literal::Text(text), Value::SingleQuotedString(s)) => s == text,
            _ => false,
        };
        let position = value.span.start.column;
        match self.template.positions.iter().position(|p| *p == position) {
            Some(at) if is_same(&self.template.literals[at]) && !self.is_met[at] => {
                self.is_met[at] = true;
                value.value = Value::Placeholder(format!("${}", at + 1));
                ControlFlow::Continue(())
            }
            Some(_) => ControlFlow::Break(()),
            None => match value.value {
                Value::Boolean(_) | Value::Null | Value::Number(..) => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            },
        }
    }
}

impl VisitorMut for Replacer<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        match expr {
            ast::Expr::Value(value) => self.replace(value),
            ast::Expr::Interval(_) | ast::Expr::TypedString(_) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        let is_plain = query.with.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
        if is_plain { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        if select.distinct.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn pre_visit_order_by(&mut self, _: &mut ast::OrderBy) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    fn pre_visit_group_by(&mut self, group_by: &mut ast::GroupByExpr) -> ControlFlow<()> {
        match group_by {
            ast::GroupByExpr::Expressions(exprs, _) if exprs.is_empty() => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}
