//! sqlparser's errors in PostgreSQL's words.

use meridian_datum::{SqlError, SqlState};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, TokenizerError};

use super::{limits, slice};

/// `syntax error at or near "x"`.
pub(super) fn near(token: &TokenWithSpan, source: &str) -> SqlError {
    if token.token == Token::EOF {
        return end_of_input(source);
    }
    let (start, end) = (token.span.start.column, token.span.end.column);
    let text = slice(source, start, end);
    SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{text}\""))
        .with_position(start as u32)
}

/// `syntax error at end of input`.
pub(super) fn end_of_input(source: &str) -> SqlError {
    let end = source.trim_end_matches([';', ' ', '\n', '\t', '\r']).chars().count() as u32 + 1;
    SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input").with_position(end)
}

/// An error of the grammar.
pub(super) fn syntax(e: ParserError, source: &str, parser: &Parser<'_>) -> SqlError {
    let message = match e {
        ParserError::RecursionLimitExceeded => return limits::too_complex(),
        ParserError::TokenizerError(m) | ParserError::ParserError(m) => m,
    };
    if message.contains("found: EOF") {
        return end_of_input(source);
    }
    match found_at(&message) {
        Some(position) => {
            let text = token_at(source, position);
            SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{text}\""))
                .with_position(position as u32)
        }
        None => near(&parser.peek_token(), source),
    }
}

/// The position in "... found: x at Line: 1, Column: 9".
fn found_at(message: &str) -> Option<u64> {
    let (_, rest) = message.rsplit_once("Column: ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The token that begins at a position, near enough for a message.
fn token_at(source: &str, position: u64) -> String {
    let rest = slice(source, position, u64::MAX);
    let mut chars = rest.chars();
    let Some(first) = chars.next() else { return String::new() };
    if first == '\'' || first == '"' {
        let end = rest[1..].find(first).map_or(rest.len(), |i| i + 2);
        return rest[..end].to_owned();
    }
    if first.is_alphanumeric() || first == '_' || first == '$' {
        return rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '$' || *c == '.')
            .collect();
    }
    first.to_string()
}

/// An error of the tokenizer.
pub(super) fn lexical(e: &TokenizerError, source: &str) -> SqlError {
    let message = &e.message;
    let mut position = e.location.column;
    for line in source.split_inclusive('\n').take(e.location.line.saturating_sub(1) as usize) {
        position += line.chars().count() as u64;
    }
    let what = if message.contains("comment") {
        "unterminated /* comment"
    } else if message.contains("dollar") {
        "unterminated dollar-quoted string"
    } else if message.contains("identifier") || message.contains("Expected close delimiter '\"'") {
        "unterminated quoted identifier"
    } else if message.contains("nterminated") {
        "unterminated quoted string"
    } else {
        "syntax error"
    };
    let rest = slice(source, position, u64::MAX);
    let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("{what} at or near \"{rest}\""));
    error.with_position(position.max(1) as u32)
}
