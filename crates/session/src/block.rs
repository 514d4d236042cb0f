//! The transaction block.
//!
//! ```text
//!             statement outside a block
//!   Idle ───────────────────────────────> Implicit ── Sync, end of the query string ──> Idle
//!    |                                       | BEGIN
//!    | BEGIN                                 v
//!    +────────────────────────────────────> Explicit ── COMMIT, ROLLBACK ──> Idle
//!                                            |     ^
//!                                     error  v     | ROLLBACK TO SAVEPOINT
//!                                           Failed ── COMMIT, ROLLBACK ──> Idle
//! ```
//! The store's transaction begins with the first statement that needs it, so that `BEGIN` costs nothing and a snapshot is
//! as late as it may be. A failed block has no open reads or writes but keeps its store transaction while there is
//! a savepoint to go back to.

use std::sync::Arc;
use std::time::Duration;

use meridian_catalog::CatalogSnapshot;
use meridian_datum::{SqlError, SqlState};
use meridian_exec::ddl::BlockChange;
use meridian_kv_api::{KvTxn, Savepoint};
use meridian_plan::planned::AsOf;
use meridian_plan::session::{Isolation, TransactionModes};
use meridian_types::TxnId;

use crate::api::TransactionStatus;
use crate::catalog_access::Lease;
use crate::journal::{Journal, Lost};
use crate::settings::SettingsMark;
use crate::several::Outlook;

/// A transaction of the session.
pub(crate) struct Transaction {
    /// `BEGIN` was said.
    pub(crate) is_explicit: bool,
    /// A statement failed.
    pub(crate) is_failed: bool,
    /// Access mode, isolation, snapshot.
    pub(crate) modes: Modes,
    /// The store's transaction, once begun.
    pub(crate) kv: Option<Arc<dyn KvTxn>>,
    /// The store's transaction can only read.
    pub(crate) kv_read_only: bool,
    /// How long the store's transaction waits for locks.
    pub(crate) lock_timeout: Option<Duration>,
    /// The store's transaction was for one statement, and has had it.
    pub(crate) kv_is_spent: bool,
    /// What an implicit transaction may still come to do.
    pub(crate) outlook: Outlook,
    /// The catalog that its statements are planned on.
    pub(crate) lease: Option<Lease>,
    /// What SET changed is undone to here.
    pub(crate) settings: SettingsMark,
    /// Marks, oldest first.
    pub(crate) savepoints: Vec<Mark>,
    /// `now()`, in microseconds of the PostgreSQL epoch.
    pub(crate) started: i64,
    /// Some statement ran, so that SET TRANSACTION comes too late.
    pub(crate) has_run: bool,
    /// What the commit has to do, when descriptors were changed.
    pub(crate) changed_catalog: Option<BlockChange>,
    /// An earlier attempt whose age is kept.
    pub(crate) retry_of: Option<TxnId>,
    /// How it was when the block began.
    pub(crate) beginning: Beginning,
    /// What the block, or the several statements of a message, have done since then.
    pub(crate) journal: Journal,
    /// How often it was run again.
    pub(crate) attempts: u32,
}

/// What a block that is run again begins with.
pub(crate) struct Beginning {
    pub(crate) modes: Modes,
    pub(crate) settings: SettingsMark,
}

/// Modes of a transaction in force.
#[derive(Clone, Debug)]
pub(crate) struct Modes {
    pub(crate) read_only: bool,
    pub(crate) isolation: Arc<str>,
    pub(crate) deferrable: bool,
    pub(crate) as_of: Option<AsOf>,
}

/// A savepoint.
pub(crate) struct Mark {
    pub(crate) name: String,
    /// Where the write buffer was; `None` when the store's transaction had not begun.
    pub(crate) kv: Option<Savepoint>,
    pub(crate) settings: SettingsMark,
    /// What the block had changed in the catalog, and the catalog with it.
    pub(crate) changed_catalog: Option<BlockChange>,
    pub(crate) catalog: Option<Arc<CatalogSnapshot>>,
}

/// An isolation level's name.
pub(crate) fn isolation_name(level: Isolation) -> &'static str {
    match level {
        Isolation::ReadUncommitted => "read uncommitted",
        Isolation::ReadCommitted => "read committed",
        Isolation::RepeatableRead => "repeatable read",
        Isolation::Serializable => "serializable",
    }
}

impl Modes {
    /// Applies what was said.
    pub(crate) fn apply(&mut self, said: &TransactionModes) {
        if let Some(v) = said.read_only {
            self.read_only = v;
        }
        if let Some(v) = said.isolation {
            self.isolation = isolation_name(v).into();
        }
        if let Some(v) = said.deferrable {
            self.deferrable = v;
        }
        if said.as_of.is_some() {
            self.as_of = said.as_of;
            self.read_only = true;
        }
    }
}

impl Transaction {
    pub(crate) fn new(modes: Modes, settings: SettingsMark, started: i64, is_explicit: bool) -> Self {
        let beginning = Beginning { modes: modes.clone(), settings: settings.clone() };
        Transaction {
            is_explicit,
            is_failed: false,
            modes,
            kv: None,
            kv_read_only: false,
            lock_timeout: None,
            kv_is_spent: false,
            outlook: Outlook::Unknown,
            lease: None,
            settings,
            savepoints: Vec::new(),
            started,
            has_run: false,
            changed_catalog: None,
            retry_of: None,
            beginning,
            journal: if is_explicit { Journal::default() } else { Journal::none(Lost::NoBlock) },
            attempts: 0,
        }
    }

    /// Several statements of one query string, or a COPY: what they do is written down, as in a block.
    pub(crate) fn keep_journal(&mut self) {
        assert!(!self.has_run, "a journal has everything that the transaction has done");
        self.journal = Journal::default();
    }

    /// BEGIN: from here on it is a block. What ran before in the same query string can't be run again with it.
    pub(crate) fn begin_block(&mut self, modes: &TransactionModes, settings: SettingsMark) {
        self.is_explicit = true;
        self.modes.apply(modes);
        self.beginning = Beginning { modes: self.modes.clone(), settings };
        self.journal = if self.has_run { Journal::none(Lost::NoBlock) } else { Journal::default() };
    }

    /// The position of the latest savepoint with this name.
    pub(crate) fn find_savepoint(&self, name: &str) -> Result<usize, SqlError> {
        self.savepoints.iter().rposition(|s| s.name == name).ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_SAVEPOINT_SPECIFICATION,
                format!("savepoint \"{name}\" does not exist"),
            )
        })
    }

    /// The byte of ReadyForQuery while this transaction is open.
    pub(crate) fn status(&self) -> TransactionStatus {
        match (self.is_explicit, self.is_failed) {
            (true, true) => TransactionStatus::Failed,
            (true, false) => TransactionStatus::InBlock,
            (false, _) => TransactionStatus::Idle,
        }
    }
}

/// 25P02.
#[cold]
pub(crate) fn in_failed_transaction() -> SqlError {
    SqlError::new(
        SqlState::IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}
