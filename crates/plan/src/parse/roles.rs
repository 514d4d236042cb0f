//! `CREATE`, `ALTER` and `DROP` of roles.
//!
//! There are no privileges yet: every role may do everything and may log in. What a statement says of it is read, and
//! what would make a role less than that is refused by name, so that nobody believes in a wall that is not there.

use meridian_datum::{Result, SqlError, SqlState};
use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use crate::session::{Password, RoleChange, SessionStatement};

/// Options that say what is true of every role.
const HELD_BY_ALL: &[&str] = &["LOGIN", "SUPERUSER", "CREATEDB", "CREATEROLE", "INHERIT", "BYPASSRLS"];

/// Reads the rest of the statement behind `CREATE`, `ALTER` or `DROP`; `None` when it is not about roles.
pub(super) fn read(verb: &str, c: &mut Cursor<'_>) -> Result<Option<SessionStatement>> {
    let is_user = c.word("USER");
    if !is_user && !c.word("ROLE") {
        return Ok(None);
    }
    if is_user && c.word("MAPPING") {
        return Err(SqlError::unsupported(format!("{verb} USER MAPPING")));
    }
    let change = match verb {
        "DROP" => {
            let if_exists = c.words(&["IF", "EXISTS"]);
            let mut names = vec![c.ident()?];
            while c.token(&Token::Comma) {
                names.push(c.ident()?);
            }
            RoleChange::Drop { names, if_exists }
        }
        "ALTER" => {
            let name = c.ident()?;
            for (words, feature) in [
                (&["SET"][..], "ALTER ROLE ... SET"),
                (&["RESET"], "ALTER ROLE ... RESET"),
                (&["RENAME"], "ALTER ROLE ... RENAME"),
                (&["IN", "DATABASE"], "ALTER ROLE ... IN DATABASE"),
            ] {
                if c.words(words) {
                    return Err(SqlError::unsupported(feature));
                }
            }
            let options = options(c)?;
            RoleChange::Alter { name, password: options.password }
        }
        _ => {
            let name = c.ident()?;
            let options = options(c)?;
            if !options.superuser || !(options.login || is_user) {
                let feature = if options.superuser {
                    "CREATE ROLE without LOGIN"
                } else {
                    "CREATE ROLE without SUPERUSER"
                };
                let hint = "There are no privileges yet: every role may do everything. Say so with \
                            CREATE USER name SUPERUSER PASSWORD '...'.";
                return Err(SqlError::unsupported(feature).with_hint(hint));
            }
            RoleChange::Create { name, password: options.password.flatten() }
        }
    };
    c.expect_end()?;
    Ok(Some(SessionStatement::Role(change)))
}

#[derive(Default)]
struct Options {
    superuser: bool,
    login: bool,
    /// The inner `None` takes it away.
    password: Option<Option<Password>>,
}

fn options(c: &mut Cursor<'_>) -> Result<Options> {
    let mut options = Options::default();
    let _ = c.word("WITH");
    while !c.at_end() {
        let position = c.position();
        let _ = c.word("ENCRYPTED");
        if c.word("PASSWORD") {
            if options.password.is_some() {
                let message = "conflicting or redundant options";
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).with_position(position));
            }
            options.password = Some(password(c)?);
            continue;
        }
        let Some(Token::Word(word)) = c.peek() else { return Err(c.error()) };
        let word = word.value.to_ascii_uppercase();
        match word.as_str() {
            known if HELD_BY_ALL.contains(&known) => {
                options.superuser |= known == "SUPERUSER";
                options.login |= known == "LOGIN";
            }
            "NOLOGIN" | "NOSUPERUSER" | "NOCREATEDB" | "NOCREATEROLE" | "NOINHERIT" | "NOBYPASSRLS"
            | "REPLICATION" | "NOREPLICATION" | "CONNECTION" | "VALID" | "IN" | "ROLE" | "ADMIN"
            | "SYSID" | "USER" => {
                return Err(SqlError::unsupported(format!("{word} of roles")).with_position(position));
            }
            _ => return Err(c.error()),
        }
        c.at += 1;
    }
    Ok(options)
}

fn password(c: &mut Cursor<'_>) -> Result<Option<Password>> {
    if c.word("NULL") {
        return Ok(None);
    }
    match c.peek() {
        Some(Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s)) => {
            c.at += 1;
            Ok(Some(Password(s.clone())))
        }
        _ => Err(c.error()),
    }
}
