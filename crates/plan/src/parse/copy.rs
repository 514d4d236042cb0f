//! `COPY`.

use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::tokenizer::Token;

use super::commands::{TableName, table_name};
use super::cursor::Cursor;
use super::{error, parser};
use crate::ddl::{CopyFormat, CopyKind};

/// `COPY` as written.
#[derive(Debug)]
pub(crate) struct CopySyntax {
    pub(crate) source: CopySource,
    /// `FROM STDIN`; otherwise `TO STDOUT`.
    pub(crate) from: bool,
    pub(crate) format: CopyFormat,
}

/// What is copied.
#[derive(Debug)]
pub(crate) enum CopySource {
    Table { name: TableName, columns: Vec<(String, u32)> },
    Query(Box<sqlparser::ast::Statement>),
}

/// Reads what follows the word COPY.
pub(super) fn read(c: &mut Cursor<'_>) -> Result<CopySyntax> {
    let source = if c.token(&Token::LParen) { query(c)? } else { table(c)? };
    let from = if c.word("FROM") {
        true
    } else if c.word("TO") {
        false
    } else {
        return Err(c.error());
    };
    if c.word("PROGRAM") {
        return Err(SqlError::unsupported("COPY PROGRAM"));
    }
    if matches!(c.peek(), Some(Token::SingleQuotedString(_))) {
        return Err(SqlError::unsupported("COPY with a file on the server")
            .with_hint("Use psql's \\copy, or COPY FROM STDIN and COPY TO STDOUT."));
    }
    // Either word means the client, whatever the direction.
    if !(c.word("STDIN") || c.word("STDOUT")) {
        return Err(c.error());
    }
    let format = options(c)?;
    if from && c.word("WHERE") {
        return Err(SqlError::unsupported("COPY FROM ... WHERE"));
    }
    c.expect_end()?;
    Ok(CopySyntax { source, from, format })
}

fn table(c: &mut Cursor<'_>) -> Result<CopySource> {
    let name = table_name(c)?;
    let mut columns = Vec::new();
    if c.token(&Token::LParen) {
        loop {
            let position = c.position();
            columns.push((c.ident()?, position));
            if !c.token(&Token::Comma) {
                break;
            }
        }
        c.expect(&Token::RParen)?;
    }
    Ok(CopySource::Table { name, columns })
}

fn query(c: &mut Cursor<'_>) -> Result<CopySource> {
    let start = c.at;
    let mut depth = 1;
    while depth > 0 {
        match c.peek() {
            Some(Token::LParen) => depth += 1,
            Some(Token::RParen) => depth -= 1,
            Some(_) => {}
            None => return Err(c.error()),
        }
        c.at += 1;
    }
    let mut p = parser(c.tokens[start..c.at - 1].to_vec());
    let statement = p.parse_statement().map_err(|e| error::syntax(e, c.source, &p))?;
    if p.peek_token().token != Token::EOF {
        return Err(error::near(&p.peek_token(), c.source));
    }
    Ok(CopySource::Query(Box::new(statement)))
}

/// Options as they are gathered; what depends on the format is settled at the end.
#[derive(Default)]
struct Options {
    kind: Option<CopyKind>,
    delimiter: Option<String>,
    null: Option<String>,
    header: bool,
    quote: Option<String>,
    escape: Option<String>,
}

fn options(c: &mut Cursor<'_>) -> Result<CopyFormat> {
    let mut o = Options::default();
    let _ = c.word("WITH");
    if c.token(&Token::LParen) {
        loop {
            parenthesised(c, &mut o)?;
            if !c.token(&Token::Comma) {
                break;
            }
        }
        c.expect(&Token::RParen)?;
    } else {
        legacy(c, &mut o)?;
    }
    finish(o)
}

fn parenthesised(c: &mut Cursor<'_>, o: &mut Options) -> Result<()> {
    let name = c.ident()?;
    match name.as_str() {
        "format" => {
            let position = c.position();
            let format = text(c)?.to_lowercase();
            o.kind = Some(match format.as_str() {
                "text" => CopyKind::Text,
                "csv" => CopyKind::Csv,
                "binary" => CopyKind::Binary,
                other => {
                    return Err(SqlError::invalid_parameter(format!(
                        "COPY format \"{other}\" not recognized"
                    ))
                    .with_position(position));
                }
            });
        }
        "delimiter" => o.delimiter = Some(text(c)?),
        "null" => o.null = Some(text(c)?),
        "quote" => o.quote = Some(text(c)?),
        "escape" => o.escape = Some(text(c)?),
        "header" => o.header = flag(c)?,
        // Every loaded row is visible at its transaction's commit, as without FREEZE; it is only a promise of speed.
        "freeze" => {
            flag(c)?;
        }
        "encoding" => {
            let encoding = text(c)?;
            if !matches!(encoding.to_uppercase().as_str(), "UTF8" | "UTF-8" | "SQL_ASCII") {
                return Err(SqlError::unsupported(format!("COPY ENCODING '{encoding}'")));
            }
        }
        other => {
            let state = SqlState::SYNTAX_ERROR;
            return match other {
                "force_quote" | "force_not_null" | "force_null" => {
                    Err(SqlError::unsupported(format!("COPY {}", other.to_uppercase())))
                }
                _ => Err(SqlError::new(state, format!("option \"{other}\" not recognized"))),
            };
        }
    }
    Ok(())
}

fn legacy(c: &mut Cursor<'_>, o: &mut Options) -> Result<()> {
    loop {
        if c.word("BINARY") {
            o.kind = Some(CopyKind::Binary);
        } else if c.word("CSV") {
            o.kind = Some(CopyKind::Csv);
        } else if c.word("HEADER") {
            o.header = true;
        } else if c.word("FREEZE") {
            continue;
        } else if c.word("DELIMITER") || c.word("DELIMITERS") {
            let _ = c.word("AS");
            o.delimiter = Some(text(c)?);
        } else if c.word("NULL") {
            let _ = c.word("AS");
            o.null = Some(text(c)?);
        } else if c.word("QUOTE") {
            let _ = c.word("AS");
            o.quote = Some(text(c)?);
        } else if c.word("ESCAPE") {
            let _ = c.word("AS");
            o.escape = Some(text(c)?);
        } else {
            return Ok(());
        }
    }
}

fn text(c: &mut Cursor<'_>) -> Result<String> {
    let s = match c.peek() {
        Some(Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s)) => s.clone(),
        Some(Token::Word(w)) => w.value.clone(),
        _ => return Err(c.error()),
    };
    c.at += 1;
    Ok(s)
}

fn flag(c: &mut Cursor<'_>) -> Result<bool> {
    let value = match c.peek() {
        Some(Token::Word(w)) => w.value.to_lowercase(),
        Some(Token::Number(n, _)) => n.clone(),
        Some(Token::SingleQuotedString(s)) => s.to_lowercase(),
        _ => return Ok(true),
    };
    c.at += 1;
    match value.as_str() {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        other => Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("invalid boolean \"{other}\""))),
    }
}

fn byte(what: &str, text: Option<String>, default: u8) -> Result<u8> {
    match text {
        None => Ok(default),
        Some(t) if t.len() == 1 => Ok(t.as_bytes()[0]),
        Some(_) => Err(SqlError::unsupported(format!("COPY {what} other than a single one-byte character"))
            .with_hint(format!("COPY {what} must be a single one-byte character."))),
    }
}

fn finish(o: Options) -> Result<CopyFormat> {
    let kind = o.kind.unwrap_or(CopyKind::Text);
    if kind == CopyKind::Binary {
        let given = [("DELIMITER", o.delimiter.is_some()), ("NULL", o.null.is_some()), ("HEADER", o.header)];
        if let Some((what, _)) = given.iter().find(|(_, given)| *given) {
            let message = format!("cannot specify {what} in BINARY mode");
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
        }
    }
    let csv = kind == CopyKind::Csv;
    if !csv && (o.quote.is_some() || o.escape.is_some()) {
        let what = if o.quote.is_some() { "quote" } else { "escape" };
        return Err(SqlError::unsupported(format!("COPY {what} outside CSV mode")));
    }
    let quote = byte("quote", o.quote, b'"')?;
    Ok(CopyFormat {
        kind,
        delimiter: byte("delimiter", o.delimiter, if csv { b',' } else { b'\t' })?,
        null: o.null.unwrap_or_else(|| if csv { String::new() } else { "\\N".to_owned() }),
        header: o.header,
        quote,
        escape: byte("escape", o.escape, quote)?,
    })
}
