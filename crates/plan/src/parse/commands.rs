//! Statements that are read from the tokens here: transactions, settings, COPY, PREPARE and maintenance.

use std::sync::Arc;

use meridian_datum::{Result, SqlError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::cursor::Cursor;
use super::{ParsedStatement, error, parse_statement, parser};
use crate::session::{Discard, Isolation, JobAction, SessionStatement, TransactionModes};

use super::copy::CopySyntax;

/// A statement that was read without sqlparser.
#[derive(Debug)]
pub(crate) enum Command {
    /// Complete as it stands.
    Session(SessionStatement),
    /// `VACUUM`, `ANALYZE` and their kin.
    Maintenance { command: &'static str, analyze: bool, tables: Vec<MaintainedTable> },
    /// `LOCK TABLE`
    Lock { tables: Vec<TableName>, exclusive: bool, nowait: bool },
    /// `PREPARE`
    Prepare { name: String, types: Vec<sqlparser::ast::DataType>, statement: Arc<ParsedStatement> },
    /// `DECLARE`
    Declare { name: String, scroll: bool, hold: bool, query: Arc<ParsedStatement> },
    /// `EXECUTE`
    Execute { name: String, args: Vec<sqlparser::ast::Expr> },
    /// `COPY`
    Copy(Box<CopySyntax>),
    /// `ALTER TABLE ... SET/RESET (...)`, `SET SCHEMA`
    AlterTable { table: TableName, if_exists: bool, action: AlterSyntax },
    /// `CREATE DATABASE`
    CreateDatabase { name: String, position: u32, if_not_exists: bool },
    /// Something that the database does not have, and where it stands.
    Unsupported(&'static str, u32),
    /// A statement about a kind of object that the database does not have.
    UnsupportedObject { verb: &'static str, kind: &'static str, position: u32 },
}

/// An `ALTER TABLE` action that sqlparser does not read.
#[derive(Debug)]
pub(crate) enum AlterSyntax {
    SetParameters(Vec<(String, Option<String>)>),
    SetSchema(String),
}

/// A possibly qualified table name and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct TableName {
    pub(crate) parts: Vec<String>,
    pub(crate) position: u32,
}

/// A table of `VACUUM` or `ANALYZE`, with the columns that are named.
#[derive(Clone, Debug)]
pub(crate) struct MaintainedTable {
    pub(crate) name: TableName,
    pub(crate) columns: Vec<(String, u32)>,
}

/// Reads the statement, if it is one of these.
pub(super) fn read(
    tokens: &[TokenWithSpan],
    source: &Arc<str>,
    range: (usize, usize),
) -> Result<Option<Command>> {
    let Some(Token::Word(first)) = tokens.first().map(|t| &t.token) else { return Ok(None) };
    let mut c = Cursor::new(tokens, source);
    c.at = 1;
    let word = first.value.to_ascii_uppercase();
    let session = |s| Ok(Some(Command::Session(s)));
    if matches!(word.as_str(), "CREATE" | "ALTER" | "DROP")
        && let Some(statement) = super::roles::read(&word, &mut c)?
    {
        return session(statement);
    }
    let command = match word.as_str() {
        "BEGIN" => {
            let _ = c.word("WORK") || c.word("TRANSACTION");
            SessionStatement::Begin(modes(&mut c)?)
        }
        "START" => {
            c.expect_word("TRANSACTION")?;
            SessionStatement::Begin(modes(&mut c)?)
        }
        "COMMIT" | "END" => {
            if c.word("PREPARED") {
                return Ok(Some(Command::Unsupported("COMMIT PREPARED", c.start())));
            }
            let _ = c.word("WORK") || c.word("TRANSACTION");
            SessionStatement::Commit { chain: chain(&mut c)? }
        }
        "ROLLBACK" | "ABORT" => rollback(&mut c)?,
        "SAVEPOINT" => SessionStatement::Savepoint(c.ident()?),
        "RELEASE" => {
            let _ = c.word("SAVEPOINT");
            SessionStatement::Release(c.ident()?)
        }
        "SET" => set(&mut c)?,
        "RESET" => {
            if c.word("ALL") {
                SessionStatement::Reset(None)
            } else if c.words(&["TIME", "ZONE"]) {
                SessionStatement::Reset(Some("timezone".into()))
            } else if c.words(&["TRANSACTION", "ISOLATION", "LEVEL"]) {
                SessionStatement::Reset(Some("transaction_isolation".into()))
            } else if c.words(&["SESSION", "AUTHORIZATION"]) {
                SessionStatement::Reset(Some("session_authorization".into()))
            } else {
                SessionStatement::Reset(Some(c.dotted()?.join(".")))
            }
        }
        "SHOW" => show(&mut c)?,
        "DEALLOCATE" => {
            let _ = c.word("PREPARE");
            if c.word("ALL") {
                SessionStatement::Deallocate(None)
            } else {
                SessionStatement::Deallocate(Some(c.ident()?))
            }
        }
        "DISCARD" => SessionStatement::Discard(if c.word("ALL") {
            Discard::All
        } else if c.word("PLANS") {
            Discard::Plans
        } else if c.word("SEQUENCES") {
            Discard::Sequences
        } else if c.word("TEMP") || c.word("TEMPORARY") {
            Discard::Temp
        } else {
            return Err(c.error());
        }),
        "PAUSE" | "RESUME" | "CANCEL" => {
            c.expect_word("JOB")?;
            let action = match word.as_str() {
                "PAUSE" => JobAction::Pause,
                "RESUME" => JobAction::Resume,
                _ => JobAction::Cancel,
            };
            SessionStatement::Job { action, job: integer(&mut c)? }
        }
        "VACUUM" | "ANALYZE" | "ANALYSE" | "CHECKPOINT" | "REINDEX" | "CLUSTER" => {
            return super::maintenance::read(&word, &mut c).map(Some);
        }
        "LOCK" => return lock(&mut c).map(Some),
        "PREPARE" => return prepare(&mut c, source, range).map(Some),
        "EXECUTE" => return execute(&mut c).map(Some),
        "COPY" => return super::copy::read(&mut c).map(|s| Some(Command::Copy(Box::new(s)))),
        "ALTER" => {
            return match super::objects::read("ALTER", &mut c)? {
                Some(command) => Ok(Some(command)),
                None => alter(&mut c),
            };
        }
        "CREATE" => return super::objects::read("CREATE", &mut c),
        "DROP" => return super::objects::read("DROP", &mut c),
        "LISTEN" => return Ok(Some(Command::Unsupported("LISTEN", c.start()))),
        // Nobody listens, so that nobody has to stop.
        "UNLISTEN" => {
            if !c.token(&Token::Mul) {
                c.ident()?;
            }
            SessionStatement::Unlisten
        }
        "NOTIFY" => return Ok(Some(Command::Unsupported("NOTIFY", c.start()))),
        "DECLARE" => return super::cursors::declare(&mut c, source, range).map(Some),
        "FETCH" => super::cursors::fetch(&mut c, false)?,
        "MOVE" => super::cursors::fetch(&mut c, true)?,
        "CLOSE" => SessionStatement::Close(if c.word("ALL") { None } else { Some(c.ident()?) }),
        "DO" => return Ok(Some(Command::Unsupported("DO", c.start()))),
        "LOAD" => return Ok(Some(Command::Unsupported("LOAD", c.start()))),
        "SECURITY" => return Ok(Some(Command::Unsupported("SECURITY LABEL", c.start()))),
        "IMPORT" => return Ok(Some(Command::Unsupported("IMPORT FOREIGN SCHEMA", c.start()))),
        "REASSIGN" => return Ok(Some(Command::Unsupported("REASSIGN OWNED", c.start()))),
        _ => return Ok(None),
    };
    c.expect_end()?;
    session(command)
}

fn integer(c: &mut Cursor<'_>) -> Result<i64> {
    match c.peek() {
        Some(Token::Number(n, _)) => {
            let value = n
                .parse()
                .map_err(|_| SqlError::literal_out_of_range(n, "bigint").with_position(c.position()))?;
            c.at += 1;
            Ok(value)
        }
        _ => Err(c.error()),
    }
}

fn chain(c: &mut Cursor<'_>) -> Result<bool> {
    if c.words(&["AND", "NO", "CHAIN"]) {
        return Ok(false);
    }
    Ok(c.words(&["AND", "CHAIN"]))
}

fn rollback(c: &mut Cursor<'_>) -> Result<SessionStatement> {
    let _ = c.word("WORK") || c.word("TRANSACTION");
    if c.word("TO") {
        let _ = c.word("SAVEPOINT");
        return Ok(SessionStatement::RollbackTo(c.ident()?));
    }
    Ok(SessionStatement::Rollback { chain: chain(c)? })
}

fn modes(c: &mut Cursor<'_>) -> Result<TransactionModes> {
    let mut m = TransactionModes::default();
    loop {
        if c.words(&["ISOLATION", "LEVEL"]) {
            m.isolation = Some(isolation(c)?);
        } else if c.words(&["READ", "ONLY"]) {
            m.read_only = Some(true);
        } else if c.words(&["READ", "WRITE"]) {
            m.read_only = Some(false);
        } else if c.words(&["NOT", "DEFERRABLE"]) {
            m.deferrable = Some(false);
        } else if c.word("DEFERRABLE") {
            m.deferrable = Some(true);
        } else {
            return Ok(m);
        }
        c.token(&Token::Comma);
    }
}

fn isolation(c: &mut Cursor<'_>) -> Result<Isolation> {
    Ok(if c.words(&["READ", "UNCOMMITTED"]) {
        Isolation::ReadUncommitted
    } else if c.words(&["READ", "COMMITTED"]) {
        Isolation::ReadCommitted
    } else if c.words(&["REPEATABLE", "READ"]) {
        Isolation::RepeatableRead
    } else if c.word("SERIALIZABLE") {
        Isolation::Serializable
    } else {
        return Err(c.error());
    })
}

fn set(c: &mut Cursor<'_>) -> Result<SessionStatement> {
    if c.words(&["CLUSTER", "SETTING"]) {
        let name = c.dotted()?.join(".").to_lowercase();
        if !(c.token(&Token::Eq) || c.word("TO")) {
            return Err(c.error());
        }
        return Ok(SessionStatement::SetCluster { name, value: setting_value(c)? });
    }
    if c.words(&["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
        return Ok(SessionStatement::SetSessionCharacteristics(modes(c)?));
    }
    if c.word("TRANSACTION") {
        if c.word("SNAPSHOT") {
            return Err(SqlError::unsupported("SET TRANSACTION SNAPSHOT"));
        }
        return Ok(SessionStatement::SetTransaction(modes(c)?));
    }
    if c.word("CONSTRAINTS") {
        return Err(SqlError::unsupported("SET CONSTRAINTS"));
    }
    let local = c.word("LOCAL");
    if !local && !matches!(c.tokens.get(c.at + 1).map(|t| &t.token), Some(Token::Eq)) {
        c.word("SESSION");
    }
    if c.words(&["TIME", "ZONE"]) {
        return Ok(SessionStatement::Set { name: "timezone".into(), value: zone_value(c)?, local });
    }
    if c.word("NAMES") {
        return Ok(SessionStatement::Set { name: "client_encoding".into(), value: setting_value(c)?, local });
    }
    if c.word("AUTHORIZATION") {
        return Ok(SessionStatement::Set {
            name: "session_authorization".into(),
            value: setting_value(c)?,
            local,
        });
    }
    if c.word("SCHEMA") {
        return Ok(SessionStatement::Set { name: "search_path".into(), value: setting_value(c)?, local });
    }
    let name = c.dotted()?.join(".").to_lowercase();
    if !(c.token(&Token::Eq) || c.word("TO")) && name != "role" {
        return Err(c.error());
    }
    Ok(SessionStatement::Set { name, value: setting_value(c)?, local })
}

/// `SET TIME ZONE`: a name, a number of hours, LOCAL, DEFAULT or an interval.
fn zone_value(c: &mut Cursor<'_>) -> Result<Option<String>> {
    if c.word("LOCAL") {
        return Ok(None);
    }
    if c.word("INTERVAL") {
        let value = setting_value(c)?;
        let _ = c.words(&["HOUR", "TO", "MINUTE"]);
        return Ok(value);
    }
    setting_value(c)
}

/// A value, or a list of values, as text. `None` is DEFAULT.
fn setting_value(c: &mut Cursor<'_>) -> Result<Option<String>> {
    if c.word("DEFAULT") {
        return Ok(None);
    }
    let mut out = String::new();
    loop {
        let minus = c.token(&Token::Minus);
        let _ = !minus && c.token(&Token::Plus);
        let part = match c.peek() {
            Some(Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s)) => s.clone(),
            Some(Token::Number(n, _)) => n.clone(),
            Some(Token::Word(w)) if w.quote_style.is_some() => w.value.clone(),
            Some(Token::Word(w)) => w.value.to_lowercase(),
            _ => return Err(c.error()),
        };
        c.at += 1;
        if minus {
            out.push('-');
        }
        out.push_str(&part);
        if !c.token(&Token::Comma) {
            return Ok(Some(out));
        }
        out.push_str(", ");
    }
}

fn show(c: &mut Cursor<'_>) -> Result<SessionStatement> {
    if c.word("ALL") {
        return Ok(SessionStatement::ShowAll);
    }
    if c.words(&["TIME", "ZONE"]) {
        return Ok(SessionStatement::Show("timezone".into()));
    }
    if c.words(&["TRANSACTION", "ISOLATION", "LEVEL"]) {
        return Ok(SessionStatement::Show("transaction_isolation".into()));
    }
    if c.words(&["SESSION", "AUTHORIZATION"]) {
        return Ok(SessionStatement::Show("session_authorization".into()));
    }
    if c.words(&["CLUSTER", "SETTING"]) {
        return Ok(SessionStatement::ShowCluster(c.dotted()?.join(".").to_lowercase()));
    }
    Ok(SessionStatement::Show(c.dotted()?.join(".").to_lowercase()))
}

pub(super) fn table_name(c: &mut Cursor<'_>) -> Result<TableName> {
    let position = c.position();
    Ok(TableName { parts: c.dotted()?, position })
}

fn lock(c: &mut Cursor<'_>) -> Result<Command> {
    let _ = c.word("TABLE");
    let mut tables = Vec::new();
    loop {
        let _ = c.word("ONLY");
        tables.push(table_name(c)?);
        if !c.token(&Token::Comma) {
            break;
        }
    }
    let mut exclusive = true;
    if c.word("IN") {
        let shared = [
            &["ACCESS", "SHARE"][..],
            &["ROW", "SHARE"],
            &["ROW", "EXCLUSIVE"],
            &["SHARE", "UPDATE", "EXCLUSIVE"],
            &["SHARE", "ROW", "EXCLUSIVE"],
            &["SHARE"],
        ];
        if let Some(words) = shared.iter().find(|w| c.words(w)) {
            exclusive = words.len() == 3;
        } else if !(c.words(&["ACCESS", "EXCLUSIVE"]) || c.word("EXCLUSIVE")) {
            return Err(c.error());
        }
        c.expect_word("MODE")?;
    }
    let nowait = c.word("NOWAIT");
    c.expect_end()?;
    Ok(Command::Lock { tables, exclusive, nowait })
}

fn prepare(c: &mut Cursor<'_>, source: &Arc<str>, range: (usize, usize)) -> Result<Command> {
    if c.word("TRANSACTION") {
        return Ok(Command::Unsupported("PREPARE TRANSACTION", c.start()));
    }
    let name = c.ident()?;
    let mut types = Vec::new();
    if c.token(&Token::LParen) {
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
        loop {
            types.push(p.parse_data_type().map_err(|e| error::syntax(e, source, &p))?);
            if !p.consume_token(&Token::Comma) {
                break;
            }
        }
    }
    c.expect_word("AS")?;
    let rest = c.tokens[c.at..].to_vec();
    if rest.is_empty() {
        return Err(c.error());
    }
    let statement = Arc::new(parse_statement(rest, source, range)?);
    Ok(Command::Prepare { name, types, statement })
}

fn execute(c: &mut Cursor<'_>) -> Result<Command> {
    let name = c.ident()?;
    let mut args = Vec::new();
    if c.token(&Token::LParen) {
        let mut p = parser(c.tokens[c.at..].to_vec());
        if p.consume_token(&Token::RParen) {
            return Ok(Command::Execute { name, args });
        }
        loop {
            args.push(p.parse_expr().map_err(|e| error::syntax(e, c.source, &p))?);
            if !p.consume_token(&Token::Comma) {
                break;
            }
        }
        if !p.consume_token(&Token::RParen) || p.peek_token().token != Token::EOF {
            return Err(error::near(&p.peek_token(), c.source));
        }
        return Ok(Command::Execute { name, args });
    }
    c.expect_end()?;
    Ok(Command::Execute { name, args })
}

/// `ALTER TABLE t SET (...)`, `RESET (...)`, `SET SCHEMA s`; everything else is sqlparser's.
fn alter(c: &mut Cursor<'_>) -> Result<Option<Command>> {
    if !c.word("TABLE") {
        return Ok(None);
    }
    let if_exists = c.words(&["IF", "EXISTS"]);
    let _ = c.word("ONLY");
    let Ok(table) = table_name(c) else { return Ok(None) };
    let action = if c.words(&["SET", "SCHEMA"]) {
        AlterSyntax::SetSchema(c.ident()?)
    } else if c.word("SET") && c.token(&Token::LParen) {
        let mut parameters = Vec::new();
        loop {
            let name = c.dotted()?.join(".");
            let value = if c.token(&Token::Eq) { setting_parameter(c)? } else { "true".to_owned() };
            parameters.push((name, Some(value)));
            if !c.token(&Token::Comma) {
                break;
            }
        }
        c.expect(&Token::RParen)?;
        AlterSyntax::SetParameters(parameters)
    } else if c.word("RESET") && c.token(&Token::LParen) {
        let mut parameters = Vec::new();
        loop {
            parameters.push((c.dotted()?.join("."), None));
            if !c.token(&Token::Comma) {
                break;
            }
        }
        c.expect(&Token::RParen)?;
        AlterSyntax::SetParameters(parameters)
    } else {
        return Ok(None);
    };
    c.expect_end()?;
    Ok(Some(Command::AlterTable { table, if_exists, action }))
}

fn setting_parameter(c: &mut Cursor<'_>) -> Result<String> {
    let text = match c.peek() {
        Some(Token::SingleQuotedString(s) | Token::Number(s, _)) => s.clone(),
        Some(Token::Word(w)) => w.value.to_lowercase(),
        _ => return Err(c.error()),
    };
    c.at += 1;
    Ok(text)
}
