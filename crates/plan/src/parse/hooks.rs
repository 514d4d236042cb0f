//! Clauses that are taken out of the token stream before sqlparser reads it.

use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::ast;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::conflict::ConflictElements;
use super::cursor::is_word;
use crate::planned::AsOf;

/// What was taken out of a statement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hooks {
    /// `AS OF SYSTEM TIME`
    pub(crate) as_of: Option<AsOfClause>,
    /// `INTERLEAVE IN PARENT`
    pub(crate) interleave: Option<InterleaveClause>,
    /// `AT TIMESTAMP`
    pub(crate) at_timestamp: Option<AtClause>,
    /// `ON CONFLICT (lower(name)) WHERE ...`, in the order of the text.
    pub(crate) conflict_targets: Vec<ConflictElements>,
}

/// `AT TIMESTAMP 'value'` behind a schema change.
#[derive(Clone, Debug)]
pub(crate) struct AtClause {
    /// The literal.
    pub(crate) value: String,
    /// Where it stands.
    pub(crate) position: u32,
    /// Where the clause begins: the statement ends before.
    pub(crate) start: u64,
}

/// `AS OF SYSTEM TIME value`.
#[derive(Clone, Debug)]
pub(crate) struct AsOfClause {
    /// The literal.
    pub(crate) value: String,
    /// Where it stands.
    pub(crate) position: u32,
}

/// `INTERLEAVE IN PARENT name [ON DELETE CASCADE | NO ACTION]`.
#[derive(Clone, Debug)]
pub(crate) struct InterleaveClause {
    pub(crate) parent: Vec<String>,
    pub(crate) cascade: bool,
    pub(crate) position: u32,
}

/// Takes the clauses out.
pub(super) fn apply(tokens: &mut Vec<TokenWithSpan>, source: &str) -> Result<Hooks> {
    let mut hooks = Hooks { at_timestamp: take_at_timestamp(tokens), ..Hooks::default() };
    expand_table(tokens);
    // Nobody waits for the removal of an index anyway; sqlparser does not know the word here.
    if words(tokens, 0, &["DROP", "INDEX", "CONCURRENTLY"]) {
        tokens.remove(2);
    }
    unwrap_insert_source(tokens);
    type_columns_of_query(tokens);
    let mut i = 0;
    while i < tokens.len() {
        let Token::Word(w) = &tokens[i].token else {
            i += 1;
            continue;
        };
        if w.quote_style.is_some() {
            i += 1;
            continue;
        }
        match w.keyword {
            Keyword::AS if words(tokens, i, &["AS", "OF", "SYSTEM", "TIME"]) => {
                hooks.as_of = Some(take_as_of(tokens, i)?);
                continue;
            }
            Keyword::FOR => shorten_lock(tokens, i),
            Keyword::ON if words(tokens, i, &["ON", "CONFLICT"]) => {
                super::conflict::take(tokens, i, source, &mut hooks.conflict_targets)?;
            }
            Keyword::SELECT => name_empty_list(tokens, i),
            Keyword::TRIM => shorten_trim(tokens, i),
            Keyword::ONLY => drop_only(tokens, i),
            Keyword::TABLESPACE if i > 0 && tokens[i - 1].token == Token::RParen => {
                take_tablespace(tokens, i)?;
            }
            _ if w.value.eq_ignore_ascii_case("interleave")
                && words(tokens, i, &["INTERLEAVE", "IN", "PARENT"]) =>
            {
                hooks.interleave = Some(take_interleave(tokens, i)?);
                continue;
            }
            _ if w.value.eq_ignore_ascii_case("operator") => flatten_operator(tokens, i),
            _ => {}
        }
        i += 1;
    }
    Ok(hooks)
}

/// Only schema changes can be scheduled; behind anything else the words are a syntax error.
fn take_at_timestamp(tokens: &mut Vec<TokenWithSpan>) -> Option<AtClause> {
    let changes = ["ALTER", "CREATE", "DROP", "TRUNCATE"];
    if !tokens.first().is_some_and(|t| changes.iter().any(|w| is_word(&t.token, w))) {
        return None;
    }
    let at = tokens.len().checked_sub(3)?;
    let Token::SingleQuotedString(value) = &tokens[at + 2].token else { return None };
    if !words(tokens, at, &["AT", "TIMESTAMP"]) {
        return None;
    }
    let clause = AtClause {
        value: value.clone(),
        position: tokens[at + 2].span.start.column as u32,
        start: tokens[at].span.start.column,
    };
    tokens.truncate(at);
    Some(clause)
}

/// `TABLE t` is `SELECT * FROM t`.
fn expand_table(tokens: &mut Vec<TokenWithSpan>) {
    if tokens.len() > 1 && is_word(&tokens[0].token, "TABLE") {
        let span = tokens[0].span;
        let token = |token| TokenWithSpan { token, span };
        let select = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")].map(token);
        tokens.splice(0..1, select);
    }
}

fn words(tokens: &[TokenWithSpan], at: usize, expected: &[&str]) -> bool {
    expected.iter().enumerate().all(|(k, e)| tokens.get(at + k).is_some_and(|t| is_word(&t.token, e)))
}

fn take_as_of(tokens: &mut Vec<TokenWithSpan>, at: usize) -> Result<AsOfClause> {
    let position = tokens.get(at + 4).map_or(tokens[at].span.start.column, |t| t.span.start.column) as u32;
    let (value, used) = match tokens.get(at + 4).map(|t| &t.token) {
        Some(Token::SingleQuotedString(s) | Token::Number(s, _)) => (s.clone(), 5),
        Some(Token::Minus) => match tokens.get(at + 5).map(|t| &t.token) {
            Some(Token::Number(s, _)) => (format!("-{s}"), 6),
            _ => return Err(as_of_error(position)),
        },
        _ => return Err(as_of_error(position)),
    };
    tokens.drain(at..at + used);
    Ok(AsOfClause { value, position })
}

fn as_of_error(position: u32) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, "AS OF SYSTEM TIME must be followed by a literal")
        .with_position(position)
}

fn take_interleave(tokens: &mut Vec<TokenWithSpan>, at: usize) -> Result<InterleaveClause> {
    let position = tokens[at].span.start.column as u32;
    let mut next = at + 3;
    let mut parent = Vec::new();
    loop {
        match tokens.get(next).map(|t| &t.token) {
            Some(Token::Word(w)) => {
                let name = if w.quote_style.is_some() { w.value.clone() } else { w.value.to_lowercase() };
                parent.push(name);
            }
            _ => {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "INTERLEAVE IN PARENT must name a table")
                    .with_position(position));
            }
        }
        next += 1;
        if tokens.get(next).is_some_and(|t| t.token == Token::Period) {
            next += 1;
        } else {
            break;
        }
    }
    let mut cascade = false;
    if words(tokens, next, &["ON", "DELETE", "CASCADE"]) {
        cascade = true;
        next += 3;
    } else if words(tokens, next, &["ON", "DELETE", "NO", "ACTION"]) {
        next += 4;
    }
    tokens.drain(at..next);
    Ok(InterleaveClause { parent, cascade, position })
}

/// A name that no client can write, since text holds no zero byte: the only item of an empty select list.
const EMPTY_LIST: &str = "\0";

/// Whether a select item stands for an empty list.
pub(crate) fn is_empty_list(item: &ast::SelectItem) -> bool {
    matches!(item, ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(i)) if i.value == EMPTY_LIST)
}

/// `SELECT` and `SELECT WHERE ...`: sqlparser knows an empty list only before FROM.
fn name_empty_list(tokens: &mut Vec<TokenWithSpan>, at: usize) {
    let is_empty = match tokens.get(at + 1).map(|t| &t.token) {
        None | Some(Token::RParen) => true,
        Some(Token::Word(w)) => matches!(
            w.keyword,
            Keyword::WHERE
                | Keyword::GROUP
                | Keyword::HAVING
                | Keyword::ORDER
                | Keyword::LIMIT
                | Keyword::OFFSET
                | Keyword::FETCH
                | Keyword::FOR
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
        ),
        Some(_) => false,
    };
    if is_empty {
        let span = tokens[at].span;
        tokens.insert(at + 1, TokenWithSpan { token: Token::make_word(EMPTY_LIST, Some('"')), span });
    }
}

/// A type that no client can write: that of a column whose type its query gives.
const TYPE_OF_QUERY: &str = "\0";

/// Whether a column definition is a mere name.
pub(crate) fn is_mere_name(c: &ast::ColumnDef) -> bool {
    let is_marker = |name: &ast::ObjectName| match name.0.as_slice() {
        [only] => only.as_ident().is_some_and(|i| i.value == TYPE_OF_QUERY),
        _ => false,
    };
    c.options.is_empty() && matches!(&c.data_type, ast::DataType::Custom(name, _) if is_marker(name))
}

/// `CREATE TABLE t (a, b) AS SELECT ...`: sqlparser wants columns to have types.
fn type_columns_of_query(tokens: &mut Vec<TokenWithSpan>) {
    if !tokens.first().is_some_and(|t| is_word(&t.token, "CREATE")) || !words(tokens, 1, &["TABLE"]) {
        return;
    }
    let Some(open) = tokens.iter().position(|t| t.token == Token::LParen) else { return };
    let mut at = open + 1;
    loop {
        if !matches!(tokens.get(at).map(|t| &t.token), Some(Token::Word(_))) {
            return;
        }
        match tokens.get(at + 1).map(|t| &t.token) {
            Some(Token::Comma) => at += 2,
            Some(Token::RParen) => break,
            _ => return,
        }
    }
    let mut name = at;
    while name > open {
        let span = tokens[name].span;
        tokens.insert(name + 1, TokenWithSpan { token: Token::make_word(TYPE_OF_QUERY, Some('"')), span });
        name -= 2;
    }
}

/// `trim(LEADING FROM x)` and `trim(FROM x)`: without characters to trim, sqlparser wants no FROM.
fn shorten_trim(tokens: &mut Vec<TokenWithSpan>, at: usize) {
    if tokens.get(at + 1).is_none_or(|t| t.token != Token::LParen) {
        return;
    }
    let is_side = |t: &TokenWithSpan| ["LEADING", "TRAILING", "BOTH"].iter().any(|w| is_word(&t.token, w));
    let from = if tokens.get(at + 2).is_some_and(is_side) { at + 3 } else { at + 2 };
    if words(tokens, from, &["FROM"]) {
        tokens.remove(from);
    }
}

/// `FROM ONLY t` and `FROM ONLY (t)`: no table has tables that inherit from it, so that only it is all of it.
fn drop_only(tokens: &mut Vec<TokenWithSpan>, at: usize) {
    let follows = |i: usize| match tokens.get(i).map(|t| &t.token) {
        Some(Token::Comma) => true,
        Some(Token::Word(w)) if w.quote_style.is_none() => matches!(
            w.keyword,
            Keyword::FROM
                | Keyword::JOIN
                | Keyword::UPDATE
                | Keyword::USING
                | Keyword::TRUNCATE
                | Keyword::TABLE
        ),
        _ => false,
    };
    if at == 0 || !follows(at - 1) {
        return;
    }
    let is_name = |i: usize| matches!(tokens.get(i).map(|t| &t.token), Some(Token::Word(_)));
    if is_name(at + 1) {
        tokens.remove(at);
        return;
    }
    let close = tokens.iter().skip(at).position(|t| t.token == Token::RParen);
    if let Some(close) = close
        && is_name(at + 2)
        && matches!(close, 3 | 5)
    {
        tokens.remove(at + close);
        tokens.drain(at..at + 2);
    }
}

/// `TABLESPACE pg_default` behind the columns of a table or an index: there is one tablespace.
fn take_tablespace(tokens: &mut Vec<TokenWithSpan>, at: usize) -> Result<()> {
    let Some(Token::Word(name)) = tokens.get(at + 1).map(|t| &t.token) else { return Ok(()) };
    if !is_word(&tokens[0].token, "CREATE") {
        return Ok(());
    }
    let name = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
    if name != "pg_default" {
        let message = format!("tablespace \"{name}\" does not exist");
        let position = tokens[at + 1].span.start.column as u32;
        return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message).with_position(position));
    }
    tokens.drain(at..at + 2);
    Ok(())
}

/// `INSERT INTO t (VALUES ...)`: parentheses around the rows mean nothing.
fn unwrap_insert_source(tokens: &mut Vec<TokenWithSpan>) {
    if !tokens.first().is_some_and(|t| is_word(&t.token, "INSERT")) {
        return;
    }
    let Some(open) =
        (1..tokens.len()).find(|i| tokens[*i].token == Token::LParen && words(tokens, i + 1, &["VALUES"]))
    else {
        return;
    };
    // In any other place these are a subquery's.
    let before = &tokens[open - 1].token;
    let is_source = matches!(before, Token::RParen)
        || matches!(before, Token::Word(w) if w.quote_style.is_some() || w.keyword != Keyword::FROM)
            && tokens[1..open].iter().all(|t| t.token != Token::LParen);
    if !is_source
        || tokens[1..open].iter().any(|t| is_word(&t.token, "SELECT") || is_word(&t.token, "VALUES"))
    {
        return;
    }
    let mut depth = 0usize;
    for i in open..tokens.len() {
        match tokens[i].token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            tokens.remove(i);
            tokens.remove(open);
            return;
        }
    }
}

/// `FOR NO KEY UPDATE` and `FOR KEY SHARE` lock rows no less than `FOR UPDATE` and `FOR SHARE` do here;
/// `FOR READ ONLY` locks nothing.
fn shorten_lock(tokens: &mut Vec<TokenWithSpan>, at: usize) {
    if words(tokens, at, &["FOR", "NO", "KEY", "UPDATE"]) {
        tokens.drain(at + 1..at + 3);
    } else if words(tokens, at, &["FOR", "KEY", "SHARE"]) {
        tokens.remove(at + 1);
    } else if words(tokens, at, &["FOR", "READ", "ONLY"]) && at + 3 == tokens.len() {
        tokens.truncate(at);
    }
}

/// `OPERATOR(pg_catalog.~)` to `~`: operators have no schemas here but the built-in one.
fn flatten_operator(tokens: &mut Vec<TokenWithSpan>, at: usize) {
    let kind = |k: usize| tokens.get(at + k).map(|t| &t.token);
    if kind(1) != Some(&Token::LParen) {
        return;
    }
    let operator = match (kind(2), kind(3)) {
        (Some(Token::Word(w)), Some(Token::Period)) if w.value.eq_ignore_ascii_case("pg_catalog") => at + 4,
        (Some(Token::Word(_)), _) => return,
        _ => at + 2,
    };
    if tokens.get(operator + 1).is_some_and(|t| t.token == Token::RParen) {
        let op = tokens[operator].clone();
        tokens.splice(at..operator + 2, [op]);
    }
}

impl AsOfClause {
    /// The moment that the literal names: an interval before now (`-10s`), nanoseconds since 1970 as a decimal, or a
    /// timestamp.
    pub(crate) fn resolve(&self, eval: &meridian_datum::EvalContext) -> Result<AsOf> {
        crate::parse::hooks::as_of_value(&self.value, eval).map_err(|e| e.or_position(self.position))
    }
}

/// Microseconds between 1970 and 2000, the epochs of Unix and of PostgreSQL.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

pub(crate) fn as_of_value(text: &str, eval: &meridian_datum::EvalContext) -> Result<AsOf> {
    use meridian_datum::{DataType, Datum, parse_text};
    let invalid = || SqlError::invalid_parameter(format!("invalid AS OF SYSTEM TIME value: \"{text}\""));
    let trimmed = text.trim();
    if !trimmed.is_empty() && trimmed.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let whole = trimmed.split('.').next().unwrap_or(trimmed);
        let nanos: u64 = whole.parse().map_err(|_| invalid())?;
        return Ok(AsOf::At(meridian_types::Timestamp::from_nanos(nanos)));
    }
    if let Some(span) = trimmed.strip_prefix('-')
        && let Ok(Datum::Interval(i)) = parse_text(eval, span, &DataType::Interval)
    {
        let days = i64::from(i.months) * 30 + i64::from(i.days);
        let micros = days * 86_400_000_000 + i.us;
        let nanos = u64::try_from(micros).map_err(|_| invalid())?.saturating_mul(1_000);
        return Ok(AsOf::Ago(nanos));
    }
    // PostgreSQL's timestamps end at microseconds; the store's do not, so further digits are read here.
    let (stamp, nanos) = split_nanos(trimmed);
    match parse_text(eval, &stamp, &DataType::TimestampTz) {
        Ok(Datum::TimestampTz(t)) => {
            let micros =
                u64::try_from(t.checked_add(EPOCH_MICROS).ok_or_else(invalid)?).map_err(|_| invalid())?;
            Ok(AsOf::At(meridian_types::Timestamp::from_nanos(micros.saturating_mul(1_000) + nanos)))
        }
        _ => Err(invalid()),
    }
}

/// Takes digits seven to nine of the fraction of seconds out of a timestamp's text.
fn split_nanos(text: &str) -> (String, u64) {
    let Some(point) = text.find('.') else { return (text.to_owned(), 0) };
    let digits: String = text[point + 1..].chars().take_while(char::is_ascii_digit).collect();
    if digits.len() <= 6 {
        return (text.to_owned(), 0);
    }
    let mut extra: String = digits.chars().skip(6).take(3).collect();
    while extra.len() < 3 {
        extra.push('0');
    }
    let rest = &text[point + 1 + digits.len()..];
    (format!("{}{}{rest}", &text[..=point], &digits[..6]), extra.parse().unwrap_or(0))
}
