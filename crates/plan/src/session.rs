//! Statements that the session carries out itself.

use std::sync::Arc;

use meridian_catalog::TableRef;
use meridian_datum::DataType;

use crate::ddl::Copy;
use crate::expr::Expr;
use crate::parse::ParsedStatement;
use crate::planned::{AsOf, PlannedStatement};

/// A statement of the session.
#[derive(Clone, Debug)]
pub enum SessionStatement {
    /// `BEGIN`, `START TRANSACTION`
    Begin(TransactionModes),
    /// `COMMIT`, `END`
    Commit {
        /// `AND CHAIN`
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`
    Rollback {
        /// `AND CHAIN`
        chain: bool,
    },
    /// `SAVEPOINT`
    Savepoint(String),
    /// `RELEASE SAVEPOINT`
    Release(String),
    /// `ROLLBACK TO SAVEPOINT`
    RollbackTo(String),
    /// `SET TRANSACTION`
    SetTransaction(TransactionModes),
    /// `SET SESSION CHARACTERISTICS AS TRANSACTION`
    SetSessionCharacteristics(TransactionModes),
    /// `SET [LOCAL] name = value`; `None` is DEFAULT.
    Set {
        /// The setting.
        name: String,
        /// The value as text; lists are joined by ", ".
        value: Option<String>,
        /// Until the end of the transaction.
        local: bool,
    },
    /// `SET CLUSTER SETTING name = value`
    SetCluster {
        /// The setting.
        name: String,
        /// The value; `None` is DEFAULT.
        value: Option<String>,
    },
    /// `CREATE ROLE`, `ALTER ROLE`, `DROP ROLE`
    Role(RoleChange),
    /// `RESET name`, `RESET ALL`
    Reset(Option<String>),
    /// `SHOW name`
    Show(String),
    /// `SHOW CLUSTER SETTING name`
    ShowCluster(String),
    /// `SHOW ALL`
    ShowAll,
    /// `PREPARE`
    Prepare {
        /// Its name.
        name: String,
        /// Declared parameter types.
        types: Vec<DataType>,
        /// The statement, to be planned with these types.
        statement: Arc<ParsedStatement>,
    },
    /// `EXECUTE`
    Execute {
        /// Its name.
        name: String,
        /// The arguments without input row; to be cast to the parameters' types by assignment.
        args: Vec<Expr>,
        /// Each argument came with this type.
        types: Vec<DataType>,
    },
    /// `DECLARE name CURSOR FOR query`; the statement's parameters are the query's.
    Declare {
        /// The cursor's name.
        name: String,
        /// `SCROLL`: its rows can be fetched in either direction.
        scroll: bool,
        /// `WITH HOLD`: it outlives its transaction.
        hold: bool,
        /// The query.
        query: Arc<PlannedStatement>,
    },
    /// `FETCH`, `MOVE`
    Fetch {
        /// The cursor.
        name: String,
        /// Which rows.
        direction: FetchDirection,
        /// `MOVE`: the rows are passed over.
        is_move: bool,
    },
    /// `CLOSE`; `None` is ALL.
    Close(Option<String>),
    /// `DEALLOCATE`; `None` is ALL.
    Deallocate(Option<String>),
    /// `DISCARD`
    Discard(Discard),
    /// `LOCK TABLE`: what it protects is held by the table's span.
    LockTable {
        /// The tables.
        tables: Vec<TableRef>,
        /// Writers and readers are kept out, not only writers.
        exclusive: bool,
        /// `NOWAIT`
        nowait: bool,
    },
    /// `VACUUM`, `ANALYZE`, `CHECKPOINT`, `CLUSTER`, `REINDEX`: old versions are collected by the store on its own
    /// account. ANALYZE refreshes row counts of the tables (all when empty).
    Maintenance {
        /// The command's first word.
        command: &'static str,
        /// Gather statistics.
        analyze: bool,
        /// Of which tables.
        tables: Vec<TableRef>,
    },
    /// `COPY`
    Copy(Box<Copy>),
    /// `KILL`-like control of jobs: `PAUSE JOB`, `RESUME JOB`, `CANCEL JOB`.
    Job {
        /// What.
        action: JobAction,
        /// Which.
        job: i64,
    },
    /// `UNLISTEN`, of which there is nothing to do.
    Unlisten,
    /// An empty query string.
    Empty,
}

/// Which rows of a cursor. A negative number counts backwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchDirection {
    /// So many rows from here on.
    Forward(i64),
    /// All that are left.
    All,
    /// All before this one, in reverse.
    AllBackward,
    /// The row with this number, counted from 1.
    Absolute(i64),
    /// The row so many rows on.
    Relative(i64),
}

/// What is done to a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobAction {
    /// `PAUSE JOB`
    Pause,
    /// `RESUME JOB`
    Resume,
    /// `CANCEL JOB`
    Cancel,
}

/// `DISCARD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Discard {
    /// Everything.
    All,
    /// Cached plans.
    Plans,
    /// Cached sequence values.
    Sequences,
    /// Temporary tables.
    Temp,
}

/// Modes of a transaction; `None` is the session's default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TransactionModes {
    /// `READ ONLY`, `READ WRITE`
    pub read_only: Option<bool>,
    /// `ISOLATION LEVEL`; all of them run strictly serializable.
    pub isolation: Option<Isolation>,
    /// `[NOT] DEFERRABLE`
    pub deferrable: Option<bool>,
    /// `AS OF SYSTEM TIME`
    pub as_of: Option<AsOf>,
}

/// An isolation level by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    /// `READ UNCOMMITTED`
    ReadUncommitted,
    /// `READ COMMITTED`
    ReadCommitted,
    /// `REPEATABLE READ`
    RepeatableRead,
    /// `SERIALIZABLE`
    Serializable,
}

impl SessionStatement {
    /// Whether it may run in a failed transaction block.
    pub fn ends_transaction(&self) -> bool {
        matches!(
            self,
            SessionStatement::Commit { .. }
                | SessionStatement::Rollback { .. }
                | SessionStatement::RollbackTo(_)
        )
    }
}

/// What a statement does to roles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RoleChange {
    /// `CREATE ROLE`
    Create {
        /// Its name.
        name: String,
        /// Without one, nobody logs in by password.
        password: Option<Password>,
    },
    /// `ALTER ROLE`
    Alter {
        /// Its name.
        name: String,
        /// The new password; the inner `None` takes it away.
        password: Option<Option<Password>>,
    },
    /// `DROP ROLE`
    Drop {
        /// Their names.
        names: Vec<String>,
        /// Those that there are not are passed over.
        if_exists: bool,
    },
}

/// A password, or the verifier of one. Not to be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(...)")
    }
}
