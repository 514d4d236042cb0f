//! SQL text to syntax trees, within limits of size and nesting.
//!
//! The grammar is sqlparser's, with PostgreSQL's expressions completed in [`dialect`]. Three things are done around it:
//!
//! - statements of the session (`BEGIN`, `SET`, `SHOW`, `COPY`, ...) are read from the tokens here, since their grammar is
//!   PostgreSQL's own and small ([`commands`]);
//! - clauses that sqlparser does not know are taken out of the token stream before it sees them ([`hooks`]):
//!   `AS OF SYSTEM TIME`, `INTERLEAVE IN PARENT`, `ON CONFLICT (...) WHERE`, `OPERATOR(schema.op)`; and spellings that it does not know are
//!   changed to ones that it does;
//! - token positions are rewritten to character offsets in the whole text, so that every span in a syntax tree is a
//!   position that an error can carry.
//!
//! A statement whose syntax tree would be too deep to be walked on a small stack is refused with 54001, before any
//! recursion begins.

mod commands;
mod conflict;
mod copy;
mod cursor;
mod cursors;
mod dialect;
mod error;
mod hooks;
mod limits;
mod maintenance;
mod objects;
mod roles;

use std::sync::Arc;

use meridian_datum::{Result, SqlError, SqlState};
use meridian_types::Timestamp;
use sqlparser::ast::Statement;
use sqlparser::parser::{Parser, ParserOptions};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

pub(crate) use commands::{AlterSyntax, Command, MaintainedTable, TableName};
pub(crate) use conflict::{ConflictElements, target_number};
pub(crate) use copy::{CopySource, CopySyntax};
pub(crate) use dialect::SYMMETRIC;
pub(crate) use hooks::{Hooks, InterleaveClause, is_empty_list, is_mere_name};
pub(crate) use limits::too_complex;

pub(crate) static DIALECT: dialect::Postgres = dialect::Postgres;

/// Bytes of one query string; larger ones are 54000. PostgreSQL's own limit is 1 GB of message.
pub const SQL_BYTES_MAX: usize = 64 << 20;

/// A statement of a query string.
#[derive(Clone, Debug)]
pub struct ParsedStatement {
    pub(crate) syntax: Arc<Syntax>,
    pub(crate) hooks: Hooks,
    /// The whole query string; positions of errors count in it.
    pub(crate) source: Arc<str>,
    /// The statement's text, without its terminator.
    pub text: Arc<str>,
    /// The text of a schema change without the clause that schedules it.
    pub(crate) change: Arc<str>,
    /// Where it begins in the query string: characters, counted from 1.
    pub(crate) position: u32,
    /// Planning it takes more stack than a task can be relied on to have.
    pub(crate) is_deep: bool,
}

/// What a statement is.
#[derive(Debug)]
pub(crate) enum Syntax {
    /// Read by sqlparser.
    Ast(Statement),
    /// Read here.
    Command(Command),
}

impl ParsedStatement {
    /// The moment that `AS OF SYSTEM TIME` names, whose catalog the statement has to be planned on.
    pub fn as_of(&self, eval: &meridian_datum::EvalContext) -> Result<Option<crate::planned::AsOf>> {
        self.hooks.as_of.as_ref().map(|clause| clause.resolve(eval)).transpose()
    }

    /// Whether it says `AS OF SYSTEM TIME`.
    pub fn has_as_of(&self) -> bool {
        self.hooks.as_of.is_some()
    }

    /// The moment at which the schema change shall take effect, and the statement without that clause.
    ///
    /// # Errors
    /// 22023 for a time that has passed.
    pub fn scheduled(&self, eval: &meridian_datum::EvalContext) -> Result<Option<(Timestamp, Arc<str>)>> {
        let Some(clause) = &self.hooks.at_timestamp else { return Ok(None) };
        let invalid = || {
            let message = format!("AT TIMESTAMP '{}' is no time to come", clause.value);
            SqlError::invalid_parameter(message).with_position(clause.position)
        };
        let crate::planned::AsOf::At(at) = hooks::as_of_value(&clause.value, eval).map_err(|_| invalid())?
        else {
            return Err(invalid());
        };
        let now = u64::try_from(eval.statement_timestamp.saturating_add(hooks::EPOCH_MICROS)).unwrap_or(0);
        if at <= Timestamp::from_nanos(now.saturating_mul(1_000)) {
            return Err(invalid());
        }
        Ok(Some((at, self.change.clone())))
    }

    /// Whether it is a query, which may read at a staleness that the session has set.
    pub fn is_query(&self) -> bool {
        matches!(&*self.syntax, Syntax::Ast(Statement::Query(_)))
    }

    /// Whether it ends a transaction block, and so may run in a failed one: `COMMIT`, `ROLLBACK`, `ROLLBACK TO`.
    pub fn ends_transaction(&self) -> bool {
        match &*self.syntax {
            Syntax::Command(Command::Session(s)) => s.ends_transaction(),
            _ => false,
        }
    }
}

/// Parses a query string into its statements. Empty statements are left out, so that `;` gives none.
pub fn parse(sql: &str) -> Result<Vec<ParsedStatement>> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(SqlError::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            format!("query string of {} bytes exceeds the limit of {SQL_BYTES_MAX} bytes", sql.len()),
        ));
    }
    let source: Arc<str> = Arc::from(sql);
    let mut tokens = tokenize(sql)?.into_iter();
    let mut out = Vec::with_capacity(1);
    let offsets = Offsets::new(sql);
    while tokens.len() > 0 {
        // Moved, not cloned: each token owns its text.
        let piece: Vec<TokenWithSpan> = tokens.by_ref().take_while(|t| t.token != Token::SemiColon).collect();
        let (Some(first), Some(last)) = (piece.first(), piece.last()) else { continue };
        let range = (offsets.byte(first.span.start.column), offsets.byte(last.span.end.column));
        let is_deep = limits::check(&piece)?;
        let mut statement = parse_statement(piece, &source, range)?;
        statement.is_deep = is_deep;
        out.push(statement);
    }
    Ok(out)
}

/// Parses the text of an expression that a descriptor keeps: a default or a check.
pub(crate) fn parse_expression(sql: &str) -> Result<sqlparser::ast::Expr> {
    let tokens = tokenize(sql)?;
    limits::check(&tokens)?;
    let mut parser = parser(tokens);
    parser.parse_expr().map_err(|e| error::syntax(e, sql, &parser))
}

/// Whether an expression's text needs a deep stack.
pub(crate) fn is_deep_expression(sql: &str) -> Result<bool> {
    limits::check(&tokenize(sql)?)
}

/// Tokens without white space, with positions in characters from 1 in the field `column`.
fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>> {
    let mut tokens =
        Tokenizer::new(&DIALECT, sql).tokenize_with_location().map_err(|e| error::lexical(&e, sql))?;
    tokens.retain(|t| !matches!(t.token, Token::Whitespace(_)));
    if sql.as_bytes().contains(&b'\n') {
        let mut lines = vec![0u64];
        lines.extend(sql.chars().enumerate().filter(|(_, c)| *c == '\n').map(|(i, _)| i as u64 + 1));
        let flatten = |l: Location| {
            let base = lines.get(l.line.saturating_sub(1) as usize).copied().unwrap_or(0);
            Location { line: 1, column: base + l.column }
        };
        for t in &mut tokens {
            t.span.start = flatten(t.span.start);
            t.span.end = flatten(t.span.end);
        }
    }
    Ok(tokens)
}

pub(crate) fn parser(tokens: Vec<TokenWithSpan>) -> Parser<'static> {
    Parser::new(&DIALECT)
        .with_options(ParserOptions::new().with_trailing_commas(false))
        .with_recursion_limit(limits::RECURSION_MAX)
        .with_tokens_with_locations(tokens)
}

fn parse_statement(
    mut tokens: Vec<TokenWithSpan>,
    source: &Arc<str>,
    range: (usize, usize),
) -> Result<ParsedStatement> {
    let position = tokens.first().map_or(1, |t| t.span.start.column as u32);
    let hooks = hooks::apply(&mut tokens, source)?;
    let whole = range == (0, source.len());
    let text: Arc<str> = if whole { source.clone() } else { Arc::from(source[range.0..range.1].trim()) };
    let change = match &hooks.at_timestamp {
        Some(clause) => Arc::from(source[range.0..Offsets::new(source).byte(clause.start)].trim()),
        None => text.clone(),
    };
    let done = |syntax| ParsedStatement {
        change: change.clone(),
        syntax: Arc::new(syntax),
        hooks: hooks.clone(),
        source: source.clone(),
        text: text.clone(),
        position,
        is_deep: true,
    };
    if let Some(command) = commands::read(&tokens, source, range)? {
        return Ok(done(Syntax::Command(command)));
    }
    let mut parser = parser(tokens);
    let statement = parser.parse_statement().map_err(|e| error::syntax(e, source, &parser))?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return Err(error::near(&rest, source));
    }
    Ok(done(Syntax::Ast(statement)))
}

/// Character positions to byte positions.
struct Offsets<'a> {
    sql: &'a str,
    ascii: bool,
}

impl<'a> Offsets<'a> {
    fn new(sql: &'a str) -> Self {
        Offsets { sql, ascii: sql.is_ascii() }
    }

    /// The byte at which the character with this 1-based position begins.
    fn byte(&self, position: u64) -> usize {
        let skip = position.saturating_sub(1) as usize;
        if self.ascii {
            return skip.min(self.sql.len());
        }
        self.sql.char_indices().nth(skip).map_or(self.sql.len(), |(i, _)| i)
    }
}

/// The part of a text between two character positions, the second exclusive.
pub(crate) fn slice(sql: &str, start: u64, end: u64) -> &str {
    let offsets = Offsets::new(sql);
    let (a, b) = (offsets.byte(start), offsets.byte(end));
    if a <= b { &sql[a..b] } else { "" }
}

#[cfg(test)]
mod tests;
