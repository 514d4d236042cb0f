//! `DECLARE`, `FETCH` and `MOVE`.

use std::sync::Arc;

use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::tokenizer::Token;

use super::commands::Command;
use super::cursor::Cursor;
use super::parse_statement;
use crate::session::{FetchDirection, SessionStatement};

/// `DECLARE name [options] CURSOR [WITH | WITHOUT HOLD] FOR query`; the first word is read.
pub(super) fn declare(c: &mut Cursor<'_>, source: &Arc<str>, range: (usize, usize)) -> Result<Command> {
    let name = c.ident()?;
    let mut scroll = false;
    loop {
        let at = c.position();
        if c.word("BINARY") {
            return Err(SqlError::unsupported("a BINARY cursor").with_position(at));
        } else if c.words(&["NO", "SCROLL"]) || c.word("ASENSITIVE") || c.word("INSENSITIVE") {
            // No cursor sees what is written after it was declared.
        } else if c.word("SCROLL") {
            scroll = true;
        } else {
            break;
        }
    }
    c.expect_word("CURSOR")?;
    let hold = c.words(&["WITH", "HOLD"]);
    let _ = !hold && c.words(&["WITHOUT", "HOLD"]);
    c.expect_word("FOR")?;
    let rest = c.tokens[c.at..].to_vec();
    if rest.is_empty() {
        return Err(c.error());
    }
    let query = Arc::new(parse_statement(rest, source, range)?);
    if !query.is_query() {
        return Err(c.error());
    }
    Ok(Command::Declare { name, scroll, hold, query })
}

/// `FETCH [direction] [FROM | IN] name`, and the same of `MOVE`; the first word is read.
pub(super) fn fetch(c: &mut Cursor<'_>, is_move: bool) -> Result<SessionStatement> {
    use FetchDirection as D;
    let direction = if c.word("NEXT") {
        D::Forward(1)
    } else if c.word("PRIOR") {
        D::Forward(-1)
    } else if c.word("FIRST") {
        D::Absolute(1)
    } else if c.word("LAST") {
        D::Absolute(-1)
    } else if c.word("ABSOLUTE") {
        D::Absolute(count(c)?.ok_or_else(|| c.error())?)
    } else if c.word("RELATIVE") {
        D::Relative(count(c)?.ok_or_else(|| c.error())?)
    } else if c.word("ALL") || c.words(&["FORWARD", "ALL"]) {
        D::All
    } else if c.words(&["BACKWARD", "ALL"]) {
        D::AllBackward
    } else if c.word("BACKWARD") {
        D::Forward(-count(c)?.unwrap_or(1))
    } else {
        // The word may be the cursor's name.
        let _ = c.tokens.len() > c.at + 1 && c.word("FORWARD");
        D::Forward(count(c)?.unwrap_or(1))
    };
    let _ = c.word("FROM") || c.word("IN");
    Ok(SessionStatement::Fetch { name: c.ident()?, direction, is_move })
}

/// A signed number, if there is one.
fn count(c: &mut Cursor<'_>) -> Result<Option<i64>> {
    let start = c.at;
    let position = c.position();
    let negative = c.token(&Token::Minus);
    let _ = !negative && c.token(&Token::Plus);
    let Some(Token::Number(n, _)) = c.peek() else {
        c.at = start;
        return Ok(None);
    };
    c.at += 1;
    // PostgreSQL's counts have 32 bits.
    let value: i32 = format!("{}{n}", if negative { "-" } else { "" }).parse().map_err(|_| {
        let message = format!("syntax error at or near \"{n}\"");
        SqlError::new(SqlState::SYNTAX_ERROR, message).with_position(position)
    })?;
    Ok(Some(i64::from(value)))
}
