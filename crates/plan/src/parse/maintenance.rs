//! `VACUUM`, `ANALYZE` and their kin.

use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::tokenizer::Token;

use super::commands::{Command, MaintainedTable, table_name};
use super::cursor::Cursor;

/// Options in parentheses, per command. What most of them ask for happens here by itself, or does not exist to be asked
/// for; their names are checked, since a misspelt one would be taken for a wish that was granted.
const VACUUM: &[&str] = &[
    "full",
    "freeze",
    "verbose",
    "analyze",
    "disable_page_skipping",
    "skip_locked",
    "index_cleanup",
    "process_main",
    "process_toast",
    "truncate",
    "parallel",
    "skip_database_stats",
    "only_database_stats",
    "buffer_usage_limit",
];
const ANALYZE: &[&str] = &["verbose", "skip_locked", "buffer_usage_limit"];

/// `VACUUM [(options)] [FULL] [FREEZE] [VERBOSE] [ANALYZE] [tables]` and its kin; the first word is read.
pub(super) fn read(word: &str, c: &mut Cursor<'_>) -> Result<Command> {
    let (command, options) = match word {
        "VACUUM" => ("VACUUM", VACUUM),
        "CHECKPOINT" => {
            c.expect_end()?;
            return Ok(Command::Maintenance { command: "CHECKPOINT", analyze: false, tables: Vec::new() });
        }
        // Indexes are rebuilt by nobody here: entries are written with their rows.
        "REINDEX" => return Ok(Command::Unsupported("REINDEX", c.start())),
        "CLUSTER" => return Ok(Command::Unsupported("CLUSTER", c.start())),
        _ => ("ANALYZE", ANALYZE),
    };
    let mut analyze = command == "ANALYZE";
    if c.token(&Token::LParen) {
        loop {
            analyze |= option(command, options, c)?;
            if !c.token(&Token::Comma) {
                break;
            }
        }
        c.expect(&Token::RParen)?;
    } else if command == "VACUUM" {
        let _ = c.word("FULL");
        let _ = c.word("FREEZE");
        let _ = c.word("VERBOSE");
        analyze |= c.word("ANALYZE") || c.word("ANALYSE");
    } else {
        let _ = c.word("VERBOSE");
    }
    let mut tables = Vec::new();
    while !c.at_end() {
        tables.push(table(c)?);
        if !c.token(&Token::Comma) {
            break;
        }
    }
    c.expect_end()?;
    if !analyze && tables.iter().any(|t| !t.columns.is_empty()) {
        let message = "ANALYZE option must be specified when a column list is provided";
        return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    }
    Ok(Command::Maintenance { command, analyze, tables })
}

/// Reads an option, and says whether it asks for statistics.
fn option(command: &str, known: &[&str], c: &mut Cursor<'_>) -> Result<bool> {
    let position = c.position();
    let name = c.ident()?;
    let name = if name == "analyse" { "analyze".to_owned() } else { name };
    if !known.contains(&name.as_str()) {
        let message = format!("unrecognized {command} option \"{name}\"");
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).with_position(position));
    }
    let value = match c.peek() {
        Some(Token::Comma | Token::RParen) | None => None,
        Some(Token::Number(text, _) | Token::SingleQuotedString(text)) => Some(text.to_lowercase()),
        Some(Token::Word(w)) => Some(w.value.to_lowercase()),
        Some(_) => return Err(c.error()),
    };
    if value.is_some() {
        c.at += 1;
    }
    if matches!(name.as_str(), "parallel" | "buffer_usage_limit" | "index_cleanup") {
        return Ok(false);
    }
    match value.as_deref() {
        None | Some("true" | "on" | "1") => Ok(name == "analyze"),
        Some("false" | "off" | "0") => Ok(false),
        Some(_) => {
            let message = format!("{name} requires a Boolean value");
            Err(SqlError::new(SqlState::SYNTAX_ERROR, message).with_position(position))
        }
    }
}

/// `[ONLY] name [(columns)]`
fn table(c: &mut Cursor<'_>) -> Result<MaintainedTable> {
    let _ = c.word("ONLY");
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
    Ok(MaintainedTable { name, columns })
}
