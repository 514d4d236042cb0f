//! What a running statement has at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meridian_catalog::CatalogSnapshot;
use meridian_datum::{Batch, Datum, EvalContext, Result};
use meridian_kv_api::{Cluster, Kv, KvError, KvTxn};
use meridian_plan::PlannedStatement;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::cancel::CancelHandle;
use crate::eval::SubqueryCache;
use crate::kv_error::sql_error;
use crate::memory::MemoryAccount;
use crate::session_view::SessionView;

/// What a statement runs in: its transaction, its parameters and the services of the node.
pub struct Environment {
    /// The transaction.
    pub txn: Arc<dyn KvTxn>,
    /// The store, for TrueTime and for transactions of schema changes.
    pub kv: Arc<dyn Kv>,
    /// What operators see and do.
    pub cluster: Arc<dyn Cluster>,
    /// The catalog that the statement was planned on.
    pub catalog: Arc<CatalogSnapshot>,
    /// The session.
    pub session: Arc<dyn SessionView>,
    /// Cancellation.
    pub cancel: CancelHandle,
    /// Memory.
    pub memory: MemoryAccount,
    /// Time zone and times.
    pub eval: EvalContext,
    /// Values of `$1`, `$2`, ...
    pub params: Vec<Datum>,
}

/// How long a statement keeps its thread: whoever comes next on it waits so long, and for the batch under way.
const TURN: Duration = Duration::from_millis(1);

/// One execution of a planned statement.
pub struct Statement {
    /// What is executed.
    pub planned: Arc<PlannedStatement>,
    env: Environment,
    pub(crate) subqueries: SubqueryCache,
    pub(crate) ctes: Vec<OnceCell<Vec<Batch>>>,
    /// Rows written by the statement's own operator (not by those in its WITH list).
    affected: AtomicU64,
    begun: Instant,
    /// When its turn on the thread began, about, in nanoseconds after `begun`.
    turn: AtomicU64,
}

impl std::ops::Deref for Statement {
    type Target = Environment;

    fn deref(&self) -> &Environment {
        &self.env
    }
}

impl Statement {
    /// A statement that has not begun.
    pub fn new(planned: Arc<PlannedStatement>, env: Environment) -> Self {
        let ctes = planned.ctes.iter().map(|_| OnceCell::new()).collect();
        Statement {
            planned,
            env,
            subqueries: SubqueryCache::default(),
            ctes,
            affected: AtomicU64::new(0),
            begun: Instant::now(),
            turn: AtomicU64::new(0),
        }
    }

    /// The context of the statement's outermost plan.
    pub fn ctx(&self) -> Ctx<'_> {
        Ctx { stmt: self, outer: &[], work: None }
    }

    /// Rows written.
    pub fn affected(&self) -> u64 {
        self.affected.load(Ordering::Relaxed)
    }

    pub(crate) fn add_affected(&self, rows: u64) {
        self.affected.fetch_add(rows, Ordering::Relaxed);
    }

    /// Called once per batch by whatever loops over rows: stops a cancelled statement, and lets other tasks of the
    /// thread run.
    pub(crate) async fn checkpoint(&self) -> Result<()> {
        self.cancel.check()?;
        // Tokio's own budget counts steps, and a step over a page of rows takes a hundred times as long as it thinks.
        let turn = Duration::from_nanos(self.turn.load(Ordering::Relaxed));
        if self.begun.elapsed().saturating_sub(turn) > TURN {
            tokio::task::yield_now().await;
            self.turn.store(self.begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits for the store, unless the statement is cancelled first.
    pub(crate) async fn wait<T>(&self, call: impl Future<Output = Result<T, KvError>>) -> Result<T> {
        self.cancel.guard(call).await?.map_err(sql_error)
    }
}

/// A statement and the values that an enclosing row passes in.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// The statement.
    pub stmt: &'a Statement,
    /// Values of [`Expr::Outer`](meridian_plan::Expr::Outer).
    pub outer: &'a [Datum],
    /// Rows that the steps of recursive queries read.
    pub(crate) work: Option<&'a Work<'a>>,
}

/// The rows that the last step of a recursive query added; those of the recursive query around it are its parent's.
pub(crate) struct Work<'a> {
    pub(crate) index: usize,
    pub(crate) rows: &'a [Batch],
    pub(crate) parent: Option<&'a Work<'a>>,
}

impl<'a> Ctx<'a> {
    /// The rows of a recursive query's last step.
    ///
    /// # Panics
    /// When no such query runs here: the binder lets only its step read them.
    pub(crate) fn work_rows(&self, index: usize) -> &'a [Batch] {
        let mut work = self.work;
        while let Some(w) = work {
            if w.index == index {
                return w.rows;
            }
            work = w.parent;
        }
        panic!("the rows of recursive query {index} are read outside of its step")
    }
}
