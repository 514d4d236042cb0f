use meridian_datum::SqlState;

use super::{Syntax, parse};
use crate::parse::commands::Command;
use crate::session::{RoleChange, SessionStatement};

fn role_change(sql: &str) -> Result<RoleChange, SqlState> {
    let mut statements = parse(sql).map_err(|e| e.state)?;
    let statement = statements.pop().expect("there is one");
    match &*statement.syntax {
        Syntax::Command(Command::Session(SessionStatement::Role(change))) => Ok(change.clone()),
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn roles_are_read_as_postgresql_writes_them() {
    for sql in [
        "CREATE USER ann SUPERUSER PASSWORD 'x'",
        "create role ann with login superuser createdb encrypted password 'x'",
    ] {
        let Ok(RoleChange::Create { name, password }) = role_change(sql) else { panic!("{sql}") };
        assert_eq!((name.as_str(), password.as_ref().map(|p| p.0.as_str())), ("ann", Some("x")), "{sql}");
    }
    let Ok(RoleChange::Alter { name, password }) = role_change("ALTER USER \"Ann\" WITH PASSWORD NULL")
    else {
        panic!("it is read");
    };
    assert_eq!((name.as_str(), password), ("Ann", Some(None)));
    let Ok(RoleChange::Drop { names, if_exists }) = role_change("DROP ROLE IF EXISTS a, b") else {
        panic!("it is read");
    };
    assert_eq!((names, if_exists), (vec!["a".to_owned(), "b".to_owned()], true));
}

#[test]
fn what_would_make_a_role_less_than_all_powerful_is_refused_by_name() {
    for sql in [
        "CREATE USER ann",
        "CREATE ROLE ann SUPERUSER",
        "CREATE USER ann SUPERUSER NOCREATEDB",
        "CREATE USER ann SUPERUSER VALID UNTIL '2030-01-01'",
        "ALTER USER ann NOLOGIN",
        "ALTER ROLE ann SET work_mem = 1",
        "ALTER ROLE ann RENAME TO bob",
        "CREATE USER MAPPING FOR ann SERVER s",
    ] {
        assert_eq!(role_change(sql).err(), Some(SqlState::FEATURE_NOT_SUPPORTED), "{sql}");
    }
    for sql in ["CREATE USER", "ALTER USER ann PASSWORD", "CREATE USER ann SUPERUSER SWIFT", "DROP ROLE a,"] {
        assert_eq!(role_change(sql).err(), Some(SqlState::SYNTAX_ERROR), "{sql}");
    }
}

#[test]
fn passwords_are_not_printed() {
    let change = role_change("ALTER USER ann PASSWORD 'geheim'").expect("it is read");
    assert!(!format!("{change:?}").contains("geheim"));
}
