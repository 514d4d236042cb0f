//! `CREATE DATABASE`, whose options sqlparser does not know, and kinds of objects that do not exist here.
//!
//! A statement about such a kind is refused by the kind's name (0A000) before its grammar is looked at: a syntax error
//! would send its author looking for a mistake.

use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::tokenizer::Token;

use super::commands::Command;
use super::cursor::Cursor;

/// Kinds of objects, each with the verbs of the statements that are refused.
const MISSING: &[(&str, &[&str])] = &[
    ("ACCESS METHOD", &["CREATE", "DROP"]),
    ("AGGREGATE", &["CREATE", "ALTER", "DROP"]),
    ("CAST", &["CREATE", "DROP"]),
    ("COLLATION", &["CREATE", "ALTER", "DROP"]),
    ("CONVERSION", &["CREATE", "ALTER", "DROP"]),
    ("DATABASE", &["ALTER"]),
    ("DEFAULT PRIVILEGES", &["ALTER"]),
    ("DOMAIN", &["CREATE", "ALTER", "DROP"]),
    ("EVENT TRIGGER", &["CREATE", "ALTER", "DROP"]),
    ("EXTENSION", &["ALTER"]),
    ("FOREIGN DATA WRAPPER", &["CREATE", "ALTER", "DROP"]),
    ("FOREIGN TABLE", &["CREATE", "ALTER", "DROP"]),
    ("FUNCTION", &["CREATE", "ALTER"]),
    ("LANGUAGE", &["CREATE", "ALTER", "DROP"]),
    ("LARGE OBJECT", &["ALTER"]),
    ("MATERIALIZED VIEW", &["ALTER"]),
    ("OPERATOR CLASS", &["CREATE", "ALTER", "DROP"]),
    ("OPERATOR FAMILY", &["CREATE", "ALTER", "DROP"]),
    ("OPERATOR", &["CREATE", "ALTER", "DROP"]),
    ("POLICY", &["CREATE", "ALTER"]),
    ("PROCEDURE", &["CREATE", "ALTER"]),
    ("PUBLICATION", &["CREATE", "ALTER", "DROP"]),
    ("ROUTINE", &["ALTER", "DROP"]),
    ("RULE", &["CREATE", "ALTER", "DROP"]),
    ("SEQUENCE", &["ALTER"]),
    ("SERVER", &["CREATE", "ALTER", "DROP"]),
    ("STATISTICS", &["CREATE", "ALTER", "DROP"]),
    ("SUBSCRIPTION", &["CREATE", "ALTER", "DROP"]),
    ("SYSTEM", &["ALTER"]),
    ("TABLESPACE", &["CREATE", "ALTER", "DROP"]),
    ("TEXT SEARCH", &["CREATE", "ALTER", "DROP"]),
    ("TRANSFORM", &["CREATE", "DROP"]),
    ("TRIGGER", &["CREATE", "ALTER"]),
    ("TYPE", &["CREATE", "ALTER"]),
    ("USER MAPPING", &["CREATE", "ALTER", "DROP"]),
    ("VIEW", &["ALTER"]),
];

/// Reads `CREATE`, `ALTER` or `DROP` of what sqlparser is not asked about; the verb is read.
pub(super) fn read(verb: &'static str, c: &mut Cursor<'_>) -> Result<Option<Command>> {
    let start = c.at;
    if verb == "CREATE" {
        if c.word("DATABASE") {
            return database(c).map(Some);
        }
        let _ = c.words(&["OR", "REPLACE"]) || c.word("CONSTRAINT") || c.word("TRUSTED");
        let _ = c.word("PROCEDURAL");
    }
    let kind = MISSING.iter().find(|(kind, verbs)| {
        let words: Vec<&str> = kind.split(' ').collect();
        verbs.contains(&verb) && c.words(&words)
    });
    c.at = start;
    Ok(kind.map(|(kind, _)| Command::UnsupportedObject { verb, kind, position: c.start() }))
}

/// `CREATE DATABASE [IF NOT EXISTS] name [[WITH] option [=] value ...]`. An option is accepted when it asks for what every
/// database has, and refused otherwise.
fn database(c: &mut Cursor<'_>) -> Result<Command> {
    let if_not_exists = c.words(&["IF", "NOT", "EXISTS"]);
    let position = c.position();
    let name = c.ident()?;
    let _ = c.word("WITH");
    let mut seen: Vec<String> = Vec::new();
    while !c.at_end() {
        let at = c.position();
        let option =
            if c.words(&["CONNECTION", "LIMIT"]) { "connection limit".to_owned() } else { c.ident()? };
        let _ = c.token(&Token::Eq);
        let value = value(c)?;
        if seen.contains(&option) {
            let message = "conflicting or redundant options";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).with_position(at));
        }
        database_option(&option, value.as_deref()).map_err(|e| e.or_position(at))?;
        seen.push(option);
    }
    Ok(Command::CreateDatabase { name, position, if_not_exists })
}

/// A value as text; `None` is DEFAULT.
fn value(c: &mut Cursor<'_>) -> Result<Option<String>> {
    if c.word("DEFAULT") {
        return Ok(None);
    }
    let minus = c.token(&Token::Minus);
    let text = match c.peek() {
        Some(Token::Number(n, _)) if minus => format!("-{n}"),
        Some(Token::Number(n, _)) => n.clone(),
        Some(Token::SingleQuotedString(s)) if !minus => s.clone(),
        Some(Token::Word(w)) if !minus && w.quote_style.is_some() => w.value.clone(),
        Some(Token::Word(w)) if !minus => w.value.to_lowercase(),
        _ => return Err(c.error()),
    };
    c.at += 1;
    Ok(Some(text))
}

fn database_option(option: &str, value: Option<&str>) -> Result<()> {
    let is_what_all_have = |value: &str| {
        let plain = value.to_ascii_lowercase();
        match option {
            // Nothing is in either but what every database has.
            "template" => matches!(plain.as_str(), "template0" | "template1"),
            "encoding" => matches!(plain.replace(['-', '_'], "").as_str(), "utf8" | "unicode" | "6"),
            "lc_collate" => matches!(plain.as_str(), "c" | "posix"),
            "lc_ctype" => matches!(plain.as_str(), "c.utf-8" | "c.utf8"),
            // Text is ordered as in C, and its letters are Unicode's.
            "locale" => matches!(plain.as_str(), "c" | "posix" | "c.utf-8" | "c.utf8"),
            "locale_provider" => plain == "libc",
            "owner" => matches!(plain.as_str(), "root" | "current_user" | "session_user" | "current_role"),
            "tablespace" => plain == "pg_default",
            "strategy" => matches!(plain.as_str(), "wal_log" | "file_copy"),
            "allow_connections" => matches!(plain.as_str(), "true" | "on" | "1" | "yes"),
            "is_template" => matches!(plain.as_str(), "false" | "off" | "0" | "no"),
            "connection limit" => plain == "-1",
            _ => false,
        }
    };
    let known = [
        "template",
        "encoding",
        "lc_collate",
        "lc_ctype",
        "locale",
        "locale_provider",
        "owner",
        "tablespace",
        "strategy",
        "allow_connections",
        "is_template",
        "connection limit",
        "builtin_locale",
        "icu_locale",
        "icu_rules",
        "collation_version",
        "oid",
    ];
    if !known.contains(&option) {
        let message = format!("option \"{option}\" not recognized");
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
    }
    match value {
        None => Ok(()),
        Some(value) if is_what_all_have(value) => Ok(()),
        Some(value) => {
            let name = option.to_uppercase();
            Err(SqlError::unsupported(format!("CREATE DATABASE with {name} \"{value}\"")))
        }
    }
}
