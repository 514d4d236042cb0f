//! Statements that the session carries out itself.

use std::sync::Arc;

use meridian_catalog::CatalogSnapshot;
use meridian_datum::{Batch, CastContext, DataType, Datum, SqlError, SqlState, cast};
use meridian_kv_api::{LockWait, Locking, ReadLock};
use meridian_plan::session::{Discard, SessionStatement, TransactionModes};
use meridian_types::Timestamp;

use crate::api::{CommandTag, Flow, ResultSink, RowDescription, Severity};
use crate::block::{Mark, Modes, isolation_name};
use crate::extended::Prepared;
use crate::roles::ROOT;
use crate::session::Session;

fn no_transaction() -> SqlError {
    SqlError::new(SqlState::NO_ACTIVE_SQL_TRANSACTION, "there is no transaction in progress")
}

#[cold]
pub(crate) fn only_in_block(what: &str) -> SqlError {
    SqlError::new(
        SqlState::NO_ACTIVE_SQL_TRANSACTION,
        format!("{what} can only be used in transaction blocks"),
    )
}

#[cold]
pub(crate) fn not_in_block(what: &str) -> SqlError {
    SqlError::new(SqlState::ACTIVE_SQL_TRANSACTION, format!("{what} cannot run inside a transaction block"))
}

/// `2026-01-31 10:00:00.123456789+00`: the form that AS OF SYSTEM TIME reads back exactly.
fn timestamp_text(t: Option<Timestamp>) -> String {
    let Some(t) = t else { return String::new() };
    let nanos = t.as_nanos();
    let micros =
        (nanos / 1_000_000_000) as i64 * 1_000_000 - crate::settings::staleness::POSTGRES_EPOCH_MICROS;
    let text = meridian_datum::to_text(
        &meridian_datum::EvalContext::default(),
        &Datum::TimestampTz(micros),
        &DataType::TimestampTz,
    );
    let whole = text.trim_end_matches("+00");
    format!("{whole}.{:09}+00", nanos % 1_000_000_000)
}

/// Why a role can't be dropped.
fn role_uses(catalog: &CatalogSnapshot, user: &str, name: &str) -> Option<SqlError> {
    let owns = catalog.databases().any(|d| d.owner == name)
        || catalog.schemas().any(|s| s.owner == name)
        || catalog.tables().any(|t| t.owner == name);
    if name == ROOT {
        let message = "role \"root\" is required by the database system";
        return Some(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message));
    }
    if name == user {
        return Some(SqlError::new(SqlState::OBJECT_IN_USE, "current user cannot be dropped"));
    }
    owns.then(|| {
        let message = format!("role \"{name}\" cannot be dropped because some objects depend on it");
        SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
    })
}

impl Session {
    /// Carries a statement out.
    pub(crate) async fn run_control(
        &mut self,
        statement: &SessionStatement,
        describes: bool,
        rows: Option<&Arc<RowDescription>>,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let tag = match statement {
            SessionStatement::Empty => {
                sink.empty_query();
                return Ok(Flow::Done);
            }
            SessionStatement::Show(name) => {
                let value = self.show(name)?;
                self.send_texts(&[vec![value]], describes, rows, sink)?;
                "SHOW"
            }
            SessionStatement::ShowCluster(name) => {
                let value = self.shared.server.cluster.show(name)?;
                self.send_texts(&[vec![value]], describes, rows, sink)?;
                "SHOW"
            }
            SessionStatement::ShowAll => {
                let all = self.settings.lock().all();
                let lines: Vec<Vec<String>> =
                    all.into_iter().map(|(n, v)| vec![n, v, String::new()]).collect();
                self.send_texts(&lines, describes, rows, sink)?;
                "SHOW"
            }
            SessionStatement::Execute { name, args, types } => {
                return Box::pin(self.execute_prepared(name, args, types, describes, sink)).await;
            }
            SessionStatement::Fetch { name, direction, is_move } => {
                self.fetch_from((name, *direction, *is_move), describes, rows, sink).await?;
                return Ok(Flow::Done);
            }
            SessionStatement::Close(name) => self.close_cursor(name.as_deref())?,
            SessionStatement::Begin(modes) => self.begin_block(modes, sink)?,
            SessionStatement::Commit { chain } => self.commit_block(*chain, sink).await?,
            SessionStatement::Rollback { chain } => self.roll_back_block(*chain, sink).await,
            SessionStatement::Savepoint(name) => self.savepoint(name)?,
            SessionStatement::Release(name) => self.release(name)?,
            SessionStatement::RollbackTo(name) => self.roll_back_to(name).await?,
            SessionStatement::SetTransaction(modes) => self.set_transaction(modes, sink)?,
            SessionStatement::SetSessionCharacteristics(modes) => self.set_characteristics(modes)?,
            SessionStatement::Set { name, value, local } => self.set(name, value.as_deref(), *local, sink)?,
            SessionStatement::Reset(name) => self.reset(name.as_deref())?,
            SessionStatement::Prepare { name, types, statement } => {
                self.prepare(name, types.clone(), statement.clone())?
            }
            SessionStatement::Deallocate(name) => self.deallocate(name.as_deref())?,
            SessionStatement::Discard(what) => {
                let tag = self.discard(*what)?;
                if *what == Discard::All {
                    self.locks.unlock_all().await;
                }
                tag
            }
            SessionStatement::LockTable { tables, exclusive, nowait } => {
                self.lock_tables(tables, *exclusive, *nowait).await?
            }
            SessionStatement::Maintenance { command, analyze, tables } => {
                if *analyze {
                    self.ddl_services().analyze(&self.database, tables).await?;
                }
                command
            }
            SessionStatement::Unlisten => "UNLISTEN",
            SessionStatement::SetCluster { name, value } => {
                if self.transaction.as_ref().is_some_and(|t| t.is_explicit) {
                    return Err(not_in_block("SET CLUSTER SETTING"));
                }
                let shared = &self.shared;
                shared.server.cluster.set(&*shared.kv, name, value.as_deref()).await?;
                "SET"
            }
            SessionStatement::Role(change) => {
                if self.transaction.as_ref().is_some_and(|t| t.is_explicit) {
                    return Err(not_in_block("statements about roles"));
                }
                let shared = self.shared.clone();
                let catalog = shared.catalog.acquire().await.map_err(meridian_exec::sql_error)?;
                let user = self.user.clone();
                let uses = |name: &str| role_uses(catalog.snapshot(), &user, name);
                shared.server.roles.change(&*shared.kv, change, uses).await?
            }
            SessionStatement::Job { action, job } => self.control_job(*action, *job).await?,
            SessionStatement::Copy(_) => panic!("COPY is run by the executor"),
            SessionStatement::Declare { .. } => panic!("a cursor is declared with its parameters"),
        };
        sink.complete(CommandTag::Plain(tag));
        Ok(Flow::Done)
    }

    fn send_texts(
        &self,
        lines: &[Vec<String>],
        describes: bool,
        rows: Option<&Arc<RowDescription>>,
        sink: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let Some(rows) = rows else { return Ok(()) };
        if describes {
            sink.describe(rows);
        }
        let types = vec![DataType::Text; rows.fields.len()];
        let mut batch = Batch::with_capacity(&types, lines.len());
        for line in lines {
            let mut values: Vec<Datum> = line.iter().map(|s| Datum::from(s.as_str())).collect();
            values.resize(types.len(), Datum::Null);
            batch.push_row(&values);
        }
        sink.batch(rows, &batch, &self.eval_context())
    }

    fn show(&self, name: &str) -> Result<String, SqlError> {
        let on_off = |b: bool| if b { "on" } else { "off" }.to_owned();
        let modes = self.transaction.as_ref().map(|t| &t.modes);
        let lower = name.to_ascii_lowercase();
        Ok(match (lower.as_str(), modes) {
            ("commit_timestamp" | "spanner.commit_timestamp", _) => timestamp_text(self.commit_timestamp),
            ("read_timestamp" | "spanner.read_timestamp", _) => {
                let open =
                    self.transaction.as_ref().and_then(|t| t.kv.as_ref()).and_then(|kv| kv.read_timestamp());
                timestamp_text(open.or(self.read_timestamp))
            }
            ("transaction_isolation" | "transaction isolation level", Some(m)) => m.isolation.to_string(),
            ("transaction_read_only", Some(m)) => on_off(m.read_only),
            ("transaction_deferrable", Some(m)) => on_off(m.deferrable),
            ("transaction isolation level", None) => "serializable".to_owned(),
            _ => self.settings.lock().show(name)?.1.to_string(),
        })
    }

    fn begin_block(
        &mut self,
        modes: &TransactionModes,
        sink: &mut dyn ResultSink,
    ) -> Result<&'static str, SqlError> {
        let t = self.transaction.as_mut().expect("every statement runs in a transaction of the session");
        if t.is_explicit {
            let e =
                SqlError::new(SqlState::ACTIVE_SQL_TRANSACTION, "there is already a transaction in progress");
            self.notice(sink, Severity::Warning, &e);
            return Ok("BEGIN");
        }
        // A snapshot that was taken for one statement alone does not serve a block.
        if t.kv_read_only && t.kv_is_spent {
            t.kv = None;
        }
        t.kv_is_spent = false;
        t.begin_block(modes, self.settings.lock().mark());
        Ok("BEGIN")
    }

    async fn commit_block(
        &mut self,
        chain: bool,
        sink: &mut dyn ResultSink,
    ) -> Result<&'static str, SqlError> {
        let t = self.transaction.as_ref().expect("every statement runs in a transaction of the session");
        let (explicit, failed, modes) = (t.is_explicit, t.is_failed, t.modes.clone());
        if !explicit {
            if chain {
                return Err(only_in_block("COMMIT AND CHAIN"));
            }
            self.notice(sink, Severity::Warning, &no_transaction());
        }
        let tag = if failed {
            self.roll_back().await;
            "ROLLBACK"
        } else {
            if let Err(e) = self.commit_journaled(sink).await {
                // An implicit transaction's owner may run it again, and must find its id.
                if explicit {
                    self.roll_back().await;
                }
                return Err(e);
            }
            "COMMIT"
        };
        if chain {
            self.chain(modes);
        }
        Ok(tag)
    }

    async fn roll_back_block(&mut self, chain: bool, sink: &mut dyn ResultSink) -> &'static str {
        let t = self.transaction.as_ref().expect("every statement runs in a transaction of the session");
        let (explicit, modes) = (t.is_explicit, t.modes.clone());
        if !explicit {
            self.notice(sink, Severity::Warning, &no_transaction());
        }
        self.roll_back().await;
        if chain && explicit {
            self.chain(modes);
        }
        "ROLLBACK"
    }

    /// AND CHAIN: a block with the modes of the one before.
    fn chain(&mut self, modes: Modes) {
        self.begin(true);
        let t = self.transaction.as_mut().expect("just begun");
        t.beginning.modes = modes.clone();
        t.modes = modes;
    }

    fn savepoint(&mut self, name: &str) -> Result<&'static str, SqlError> {
        let settings = self.settings.lock().mark();
        let t = self.transaction.as_mut().expect("every statement runs in a transaction of the session");
        if !t.is_explicit {
            return Err(only_in_block("SAVEPOINT"));
        }
        let kv = t.kv.as_ref().filter(|_| !t.kv_read_only).map(|kv| kv.savepoint());
        let catalog = t.lease.as_ref().and_then(|lease| lease.private().cloned());
        let changed_catalog = t.changed_catalog;
        t.savepoints.push(Mark { name: name.to_owned(), kv, settings, changed_catalog, catalog });
        Ok("SAVEPOINT")
    }

    fn release(&mut self, name: &str) -> Result<&'static str, SqlError> {
        let t = self.transaction.as_mut().expect("every statement runs in a transaction of the session");
        if !t.is_explicit {
            return Err(only_in_block("RELEASE SAVEPOINT"));
        }
        let at = t.find_savepoint(name)?;
        t.savepoints.truncate(at);
        Ok("RELEASE")
    }

    async fn roll_back_to(&mut self, name: &str) -> Result<&'static str, SqlError> {
        let t = self.transaction.as_mut().expect("every statement runs in a transaction of the session");
        if !t.is_explicit {
            return Err(only_in_block("ROLLBACK TO SAVEPOINT"));
        }
        let at = t.find_savepoint(name)?;
        t.savepoints.truncate(at + 1);
        let mark = &t.savepoints[at];
        let settings = mark.settings.clone();
        let outcome = match (&t.kv, mark.kv) {
            _ if t.kv_read_only => Ok(()),
            (Some(kv), Some(to)) => kv.rollback_to(to).await,
            // The store's transaction began after the mark: nothing written before it is to be kept.
            (Some(kv), None) => {
                let age = kv.id();
                kv.rollback().await;
                t.kv = None;
                t.retry_of = age;
                Ok(())
            }
            (None, _) => Ok(()),
        };
        outcome.map_err(meridian_exec::sql_error)?;
        t.changed_catalog = mark.changed_catalog;
        if let Some(lease) = &mut t.lease {
            lease.set_private(mark.catalog.clone());
        }
        t.is_failed = false;
        self.close_portals(false);
        self.settings.lock().restore(&settings);
        self.bump_settings();
        Ok("ROLLBACK")
    }

    fn set_transaction(
        &mut self,
        modes: &TransactionModes,
        sink: &mut dyn ResultSink,
    ) -> Result<&'static str, SqlError> {
        let t = self.transaction.as_mut().expect("every statement runs in a transaction of the session");
        if !t.is_explicit {
            self.notice(sink, Severity::Warning, &only_in_block("SET TRANSACTION"));
            return Ok("SET");
        }
        if t.has_run {
            let too_late = |what: &str| {
                Err(SqlError::new(
                    SqlState::ACTIVE_SQL_TRANSACTION,
                    format!("{what} must be set before any query"),
                ))
            };
            if modes.isolation.is_some_and(|i| *isolation_name(i) != *t.modes.isolation) {
                let message = "SET TRANSACTION ISOLATION LEVEL must be called before any query";
                return Err(SqlError::new(SqlState::ACTIVE_SQL_TRANSACTION, message));
            }
            if modes.read_only == Some(false) && t.modes.read_only {
                return too_late("transaction read-write mode");
            }
            if modes.as_of.is_some() {
                return too_late("AS OF SYSTEM TIME");
            }
        }
        t.modes.apply(modes);
        Ok("SET")
    }

    fn set_characteristics(&mut self, modes: &TransactionModes) -> Result<&'static str, SqlError> {
        if modes.as_of.is_some() {
            return Err(SqlError::unsupported("AS OF SYSTEM TIME as a session characteristic"));
        }
        let mut settings = self.settings.lock();
        if let Some(i) = modes.isolation {
            settings.set("default_transaction_isolation", Some(isolation_name(i)), false)?;
        }
        if let Some(r) = modes.read_only {
            settings.set("default_transaction_read_only", Some(if r { "on" } else { "off" }), false)?;
        }
        if let Some(d) = modes.deferrable {
            settings.set("default_transaction_deferrable", Some(if d { "on" } else { "off" }), false)?;
        }
        Ok("SET")
    }

    fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
        local: bool,
        sink: &mut dyn ResultSink,
    ) -> Result<&'static str, SqlError> {
        let t = self.transaction.as_mut().expect("every statement runs in a transaction of the session");
        let is_explicit = t.is_explicit;
        match name.to_ascii_lowercase().as_str() {
            "transaction_isolation" => {
                let level = value.unwrap_or("serializable").to_ascii_lowercase();
                self.settings.lock().set(name, Some(&level), true)?;
                t.modes.isolation = level.into();
                return Ok("SET");
            }
            "transaction_read_only" => {
                let wanted = value.and_then(crate::settings::parse_bool).ok_or_else(|| {
                    SqlError::invalid_parameter(
                        "parameter \"transaction_read_only\" requires a Boolean value",
                    )
                })?;
                let modes = TransactionModes { read_only: Some(wanted), ..TransactionModes::default() };
                return if is_explicit { self.set_transaction(&modes, sink) } else { Ok("SET") };
            }
            _ => {}
        }
        if local && !is_explicit {
            self.notice(sink, Severity::Warning, &only_in_block("SET LOCAL"));
            // The value is checked all the same.
            let mark = self.settings.lock().mark();
            let mut settings = self.settings.lock();
            let outcome = settings.set(name, value, true);
            settings.restore(&mark);
            return outcome.map(|()| "SET");
        }
        self.settings.lock().set(name, value, local)?;
        self.bump_settings();
        Ok("SET")
    }

    fn reset(&mut self, name: Option<&str>) -> Result<&'static str, SqlError> {
        match name {
            None => self.settings.lock().reset_all(),
            Some(name) => self.settings.lock().set(name, None, false)?,
        }
        self.bump_settings();
        Ok("RESET")
    }

    fn prepare(
        &mut self,
        name: &str,
        types: Vec<DataType>,
        parsed: Arc<meridian_plan::ParsedStatement>,
    ) -> Result<&'static str, SqlError> {
        if self.statements.contains_key(name) {
            return Err(duplicate_statement(name));
        }
        let plan = Arc::new(self.plan(&parsed, &types)?);
        let text = parsed.text.clone();
        self.statements
            .insert(name.to_owned(), Arc::new(Prepared::new(text, Some(parsed), types, plan, true)));
        self.note_prepared();
        Ok("PREPARE")
    }

    async fn execute_prepared(
        &mut self,
        name: &str,
        args: &[meridian_plan::Expr],
        types: &[DataType],
        describes: bool,
        sink: &mut dyn ResultSink,
    ) -> Result<Flow, SqlError> {
        let prepared = self.find_statement(name)?;
        if let Some(parsed) = &prepared.parsed {
            self.look_back(parsed).await?;
        }
        let plan = self.current_plan(&prepared)?;
        let wanted = plan.planned.param_types.clone();
        if args.len() != wanted.len() {
            let message = format!("wrong number of parameters for prepared statement \"{name}\"");
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).with_detail(format!(
                "Expected {} parameters but got {}.",
                wanted.len(),
                args.len()
            )));
        }
        let mut params = Vec::with_capacity(args.len());
        if !args.is_empty() {
            let statement = self.statement(&plan.planned, Vec::new())?;
            for ((arg, from), to) in args.iter().zip(types).zip(&wanted) {
                let value = statement.ctx().constant(arg).await?;
                params.push(cast(&statement.eval, value, from, to, CastContext::Assignment)?);
            }
        }
        let rows = plan.rows.clone();
        Box::pin(self.run_plan(&plan, params, rows, describes, sink)).await
    }

    fn deallocate(&mut self, name: Option<&str>) -> Result<&'static str, SqlError> {
        let tag = match name {
            None => {
                self.statements.clear();
                "DEALLOCATE ALL"
            }
            Some(name) if self.statements.remove(name).is_some() => "DEALLOCATE",
            Some(name) => return Err(unknown_statement(name)),
        };
        self.note_prepared();
        Ok(tag)
    }

    fn discard(&mut self, what: Discard) -> Result<&'static str, SqlError> {
        let in_block = self.transaction.as_ref().is_some_and(|t| t.is_explicit);
        Ok(match what {
            Discard::All if in_block => return Err(not_in_block("DISCARD ALL")),
            Discard::All => {
                self.portals.clear();
                self.statements.clear();
                self.note_prepared();
                self.plans.clear();
                self.settings.lock().reset_all();
                self.bump_settings();
                "DISCARD ALL"
            }
            Discard::Plans => {
                self.plans.clear();
                "DISCARD PLANS"
            }
            Discard::Sequences => "DISCARD SEQUENCES",
            Discard::Temp => "DISCARD TEMP",
        })
    }

    async fn lock_tables(
        &mut self,
        tables: &[meridian_catalog::TableRef],
        exclusive: bool,
        nowait: bool,
    ) -> Result<&'static str, SqlError> {
        let t = self.transaction.as_ref().expect("every statement runs in a transaction of the session");
        if !t.is_explicit {
            return Err(only_in_block("LOCK TABLE"));
        }
        let locking = Locking {
            lock: if exclusive { ReadLock::Exclusive } else { ReadLock::Shared },
            wait: if nowait { LockWait::NoWait } else { LockWait::Wait },
        };
        let planned = Arc::new(crate::execute::write_placeholder());
        let statement = self.statement(&planned, Vec::new())?;
        for table in tables {
            meridian_exec::lock_table(&statement, table, locking).await?;
        }
        Ok("LOCK TABLE")
    }
}

/// 42P05.
#[cold]
pub(crate) fn duplicate_statement(name: &str) -> SqlError {
    SqlError::new(
        SqlState::DUPLICATE_PREPARED_STATEMENT,
        format!("prepared statement \"{name}\" already exists"),
    )
}

/// 26000.
#[cold]
pub(crate) fn unknown_statement(name: &str) -> SqlError {
    let message = if name.is_empty() {
        "unnamed prepared statement does not exist".to_owned()
    } else {
        format!("prepared statement \"{name}\" does not exist")
    };
    SqlError::new(SqlState::INVALID_SQL_STATEMENT_NAME, message)
}
