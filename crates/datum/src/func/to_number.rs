//! `to_char` of numbers, and `to_number`.
//!
//! The rules for blanks, signs and missing digits are PostgreSQL's `NUM_processor`, position by position.

use crate::context::EvalContext;
use crate::datum::Datum;
use crate::decimal::Decimal;
use crate::error::{Result, SqlError};
use crate::func::access::{f4, f8, int, num, text};
use crate::func::picture::Case;
use crate::func::registry::Ty::{Float4, Float8, Int4, Int8, Numeric, Text};
use crate::func::registry::{FunctionDef, def};
use crate::func::to_char::ordinal_suffix;
use crate::state::SqlState;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    Nine,
    Zero,
    Point,
    Comma,
    Currency,
    Minus,
    Plus,
    Sign,
    Ordinal(Case),
    Literal(char),
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Locale {
    #[default]
    None,
    Before,
    After,
}

/// A number's template.
#[derive(Default)]
struct Template {
    nodes: Vec<Node>,
    /// Digits before and after the point.
    pre: usize,
    post: usize,
    fill: bool,
    /// The first and one past the last position of a `0`.
    zero: bool,
    zero_start: usize,
    zero_end: usize,
    decimal: bool,
    bracket: bool,
    minus: bool,
    plus: bool,
    /// `S`, and how many digits stood before it.
    sign: Locale,
    digits_before_sign: usize,
}

fn syntax(message: &'static str) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, message)
}

impl Template {
    fn parse(format: &str) -> Result<Template> {
        let mut t = Template::default();
        let mut rest = format;
        while let Some(c) = rest.chars().next() {
            let two = rest.get(..2).map(str::to_ascii_uppercase).unwrap_or_default();
            let mut len = c.len_utf8();
            match (two.as_str(), c.to_ascii_uppercase()) {
                ("FM", _) => {
                    t.fill = true;
                    len = 2;
                }
                ("MI", _) => {
                    t.minus = true;
                    t.nodes.push(Node::Minus);
                    len = 2;
                }
                ("PL", _) => {
                    t.plus = true;
                    t.nodes.push(Node::Plus);
                    len = 2;
                }
                ("SG", _) => {
                    (t.minus, t.plus) = (true, true);
                    t.nodes.push(Node::Sign);
                    len = 2;
                }
                ("PR", _) => {
                    if t.sign != Locale::None || t.plus || t.minus {
                        return Err(syntax("cannot use \"PR\" and \"S\"/\"PL\"/\"MI\"/\"SG\" together"));
                    }
                    t.bracket = true;
                    len = 2;
                }
                ("TH", _) => {
                    t.nodes.push(Node::Ordinal(if c == 'T' { Case::Upper } else { Case::Lower }));
                    len = 2;
                }
                ("RN", _) => return Err(SqlError::unsupported("a Roman numeral in a number's format")),
                ("EE", _) if rest.get(..4).is_some_and(|e| e.eq_ignore_ascii_case("EEEE")) => {
                    return Err(SqlError::unsupported("scientific notation in a number's format"));
                }
                (_, 'V') => return Err(SqlError::unsupported("\"V\" in a number's format")),
                (_, '9') => t.digit(Node::Nine)?,
                (_, '0') => t.digit(Node::Zero)?,
                (_, '.' | 'D') => {
                    if t.decimal {
                        return Err(syntax("multiple decimal points"));
                    }
                    t.decimal = true;
                    t.nodes.push(Node::Point);
                }
                (_, ',' | 'G') => t.nodes.push(Node::Comma),
                (_, 'L') => t.nodes.push(Node::Currency),
                (_, 'S') => t.locale_sign()?,
                (_, '"') => {
                    let inner = &rest[1..];
                    let end = inner.find('"').unwrap_or(inner.len());
                    t.nodes.extend(inner[..end].chars().map(Node::Literal));
                    len = (end + 2).min(rest.len());
                }
                _ => t.nodes.push(Node::Literal(c)),
            }
            rest = &rest[len..];
        }
        Ok(t)
    }

    fn digit(&mut self, node: Node) -> Result<()> {
        if self.bracket {
            return Err(syntax("\"9\" must be ahead of \"PR\""));
        }
        if node == Node::Zero && !self.zero && !self.decimal {
            self.zero = true;
            self.zero_start = self.pre;
        }
        if self.decimal {
            self.post += 1;
        } else {
            self.pre += 1;
        }
        if node == Node::Zero {
            self.zero_end = self.pre + self.post;
        }
        self.nodes.push(node);
        Ok(())
    }

    fn locale_sign(&mut self) -> Result<()> {
        if self.sign != Locale::None {
            return Err(syntax("cannot use \"S\" twice"));
        }
        if self.plus || self.minus || self.bracket {
            return Err(syntax("cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together"));
        }
        self.sign = if self.decimal { Locale::After } else { Locale::Before };
        self.digits_before_sign = self.pre;
        Ok(())
    }
}

/// One number on its way through a template.
struct Writer<'a> {
    t: &'a Template,
    negative: bool,
    /// The digits with their point.
    number: &'a [u8],
    at: usize,
    position: usize,
    /// Positions before the first digit.
    blanks: usize,
    count: usize,
    /// The last digit worth showing, with `FM`.
    last: Option<usize>,
    sign_written: bool,
    sign: Locale,
    bracket: bool,
    in_number: bool,
    out: String,
}

impl<'a> Writer<'a> {
    fn new(t: &'a Template, negative: bool, number: &'a [u8], blanks: usize) -> Writer<'a> {
        let (mut sign, mut bracket) = (t.sign, t.bracket);
        let sign_written = if t.plus || t.minus {
            !t.plus || t.minus
        } else {
            if !negative && t.fill {
                bracket = false;
            }
            if t.sign == Locale::Before && t.pre == t.digits_before_sign {
                sign = Locale::After;
            }
            !negative && t.fill && t.sign == Locale::None
        };
        let mut last = None;
        if t.fill && t.decimal {
            let point = number.iter().position(|b| *b == b'.');
            last = point.map(|p| number.iter().rposition(|b| *b != b'0').unwrap_or(p).max(p));
            if let Some(l) = last.as_mut()
                && t.zero_end > blanks
            {
                *l = (*l).max(t.zero_end - blanks);
            }
        }
        let mut count = (t.post + t.pre).saturating_sub(1);
        if !sign_written && blanks == 0 {
            count += 1;
        }
        Writer {
            t,
            negative,
            number,
            at: 0,
            position: 0,
            blanks,
            count,
            last,
            sign_written,
            sign,
            bracket,
            in_number: false,
            out: String::new(),
        }
    }

    fn current(&self) -> u8 {
        self.number.get(self.at).copied().unwrap_or(0)
    }

    /// A zero before the point that the template does not ask for.
    fn is_idle_zero(&self) -> bool {
        !self.t.zero && self.at == 0 && self.number.first() == Some(&b'0') && self.t.post != 0
    }

    fn last_is_point(&self) -> bool {
        self.last.is_some_and(|l| self.number.get(l) == Some(&b'.'))
    }

    fn write_sign(&mut self) {
        let begins = self.position >= self.blanks || (self.t.zero && self.t.zero_start == self.position);
        if self.sign_written || !begins || (self.is_idle_zero() && !self.last_is_point()) {
            return;
        }
        if self.sign != Locale::None {
            if self.sign == Locale::Before {
                self.out.push(if self.negative { '-' } else { '+' });
                self.sign_written = true;
            }
            return;
        }
        if self.bracket {
            self.out.push(if self.negative { '<' } else { ' ' });
        } else if self.negative {
            self.out.push('-');
        } else if !self.t.fill {
            self.out.push(' ');
        }
        self.sign_written = true;
    }

    fn write_digit(&mut self, node: Node) {
        self.in_number = false;
        self.write_sign();
        if self.position < self.blanks && (!self.t.zero || self.t.zero_start > self.position) {
            if !self.t.fill {
                self.out.push(' ');
            }
        } else if self.t.zero && self.position < self.blanks {
            self.out.push('0');
            self.in_number = true;
        } else {
            if self.current() == b'.' {
                if !self.last_is_point() || self.t.fill {
                    self.out.push('.');
                }
            } else if self.last.is_some_and(|l| self.at > l) && node != Node::Zero {
                // Trailing zeros are dropped.
            } else if self.is_idle_zero() {
                if !self.t.fill {
                    self.out.push(' ');
                } else if self.last_is_point() {
                    self.out.push('0');
                }
            } else if self.at < self.number.len() {
                self.out.push(char::from(self.current()));
                self.in_number = true;
            }
            if self.at < self.number.len() {
                self.at += 1;
            }
        }
        let mut end = self.count + usize::from(self.blanks > 0) + usize::from(self.t.decimal);
        if self.last == Some(self.at) {
            end = self.position;
        }
        if self.position + 1 == end {
            if self.sign_written && self.bracket {
                self.out.push(if self.negative { '>' } else { ' ' });
            } else if self.sign == Locale::After {
                self.out.push(if self.negative { '-' } else { '+' });
            }
        }
        self.position += 1;
    }

    fn run(mut self) -> String {
        for i in 0..self.t.nodes.len() {
            let node = self.t.nodes[i];
            match node {
                Node::Nine | Node::Zero | Node::Point => self.write_digit(node),
                Node::Comma if self.in_number => self.out.push(','),
                Node::Comma | Node::Currency if self.t.fill && !self.in_number => {}
                Node::Comma | Node::Currency => self.out.push(' '),
                Node::Minus if self.negative => self.out.push('-'),
                Node::Plus if !self.negative => self.out.push('+'),
                Node::Minus | Node::Plus if self.t.fill => {}
                Node::Minus | Node::Plus => self.out.push(' '),
                Node::Sign => self.out.push(if self.negative { '-' } else { '+' }),
                Node::Ordinal(case) => {
                    if !self.negative && !self.t.decimal && self.number.first() != Some(&b'#') {
                        let digits = std::str::from_utf8(self.number).expect("digits are ASCII").to_owned();
                        self.out.push_str(ordinal_suffix(&digits, case));
                    }
                }
                Node::Literal(c) => self.out.push(c),
            }
        }
        self.out
    }
}

fn write(format: &str, negative: bool, digits: &str, post: usize) -> Result<Datum> {
    let mut template = Template::parse(format)?;
    template.post = template.post.min(post);
    let whole = digits.find('.').unwrap_or(digits.len());
    let overflow;
    let (number, blanks) = if whole > template.pre {
        overflow = format!("{}.{}", "#".repeat(template.pre), "#".repeat(template.post));
        (overflow.as_str(), 0)
    } else {
        (digits, template.pre - whole)
    };
    Ok(Datum::from(Writer::new(&template, negative, number.as_bytes(), blanks).run()))
}

fn of_numeric(format: &str, value: &Decimal) -> Result<Datum> {
    if format.is_empty() {
        return Ok(Datum::Null);
    }
    let post = Template::parse(format)?.post;
    let text = value.round(post as i32).to_string();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(d) => (true, d),
        None => (false, text.as_str()),
    };
    write(format, negative, digits, post)
}

fn of_float(format: &str, value: f64, significant: usize) -> Result<Datum> {
    if format.is_empty() {
        return Ok(Datum::Null);
    }
    let mut post = Template::parse(format)?.post;
    if !value.is_finite() {
        return write(format, value < 0.0, &value.abs().to_string(), post);
    }
    // Digits that the type cannot vouch for are not shown.
    let whole = format!("{:.0}", value.abs()).len();
    post = post.min(significant.saturating_sub(whole));
    let digits = format!("{:.post$}", value.abs());
    let negative = value < 0.0 || (value == 0.0 && value.is_sign_negative());
    write(format, negative, &digits, post)
}

/// `to_number`: the digits of a text, with the point and the sign that its format allows.
fn to_number(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let (input, format) = (text(&a[0]), text(&a[1]));
    if format.is_empty() {
        return Ok(Datum::Null);
    }
    let template = Template::parse(format)?;
    let (mut negative, mut digits, mut pointed) = (false, String::new(), false);
    let (mut pre, mut post) = (0, 0);
    for c in input.chars() {
        match c {
            '0'..='9' if pointed && post < template.post => {
                digits.push(c);
                post += 1;
            }
            '0'..='9' if !pointed && pre < template.pre => {
                digits.push(c);
                pre += 1;
            }
            '.' if template.decimal && !pointed => {
                digits.push(c);
                pointed = true;
            }
            '-' | '<' => negative = true,
            _ => {}
        }
    }
    if pre + post == 0 {
        return Err(SqlError::invalid_text("numeric", " "));
    }
    let value: Decimal = digits.parse()?;
    Ok(Datum::Numeric(if negative { value.neg() } else { value }))
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("to_char", &[Int4, Text], Text, |_, a| of_numeric(text(&a[1]), &Decimal::from(int(&a[0])))).stable(),
    def("to_char", &[Int8, Text], Text, |_, a| of_numeric(text(&a[1]), &Decimal::from(int(&a[0])))).stable(),
    def("to_char", &[Numeric, Text], Text, |_, a| of_numeric(text(&a[1]), num(&a[0]))).stable(),
    def("to_char", &[Float8, Text], Text, |_, a| of_float(text(&a[1]), f8(&a[0]), 15)).stable(),
    def("to_char", &[Float4, Text], Text, |_, a| of_float(text(&a[1]), f64::from(f4(&a[0])), 6)).stable(),
    def("to_number", &[Text, Text], Numeric, to_number).stable(),
];
