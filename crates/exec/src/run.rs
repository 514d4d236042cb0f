//! Running a planned statement and handing out its rows.
//!
//! Operators borrow the statement's plan, so an operator tree cannot be kept beside what it borrows. The tree therefore
//! lives inside a future that owns the statement; the future lays each batch in a slot and goes on when the slot is
//! empty again. A portal that is suspended is such a future that nobody polls.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use meridian_datum::{Batch, Result};
use meridian_plan::ddl::CopyDirection;
use meridian_plan::session::SessionStatement;
use meridian_plan::{Operator as Op, Plan, StatementPlan};
use parking_lot::Mutex;

use crate::context::Statement;
use crate::ops;

type Slot = Arc<Mutex<Option<Batch>>>;

/// A statement that is being executed.
pub struct Execution {
    statement: Arc<Statement>,
    future: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
    slot: Slot,
}

impl std::fmt::Debug for Execution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Execution").field("is_running", &self.future.is_some()).finish()
    }
}

impl Execution {
    /// Starts a statement whose plan is an operator tree: a query, a write, or COPY TO.
    pub fn start(statement: Arc<Statement>) -> Self {
        let slot = Slot::default();
        let future = Box::pin(drive(statement.clone(), slot.clone()));
        Execution { statement, future: Some(future), slot }
    }

    /// The next rows; `None` when the statement is done.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        std::future::poll_fn(|cx| {
            let Some(future) = &mut self.future else { return Poll::Ready(Ok(None)) };
            let state = future.as_mut().poll(cx);
            if state.is_ready() {
                self.future = None;
            }
            if let Some(batch) = self.slot.lock().take() {
                return Poll::Ready(Ok(Some(batch)));
            }
            state.map_ok(|()| None)
        })
        .await
    }

    /// Rows written so far.
    pub fn affected(&self) -> u64 {
        self.statement.affected()
    }
}

/// Lays a batch in the slot and waits until it was taken. Whoever takes it polls again, so nobody is woken.
async fn hand_out(slot: &Slot, batch: Batch) {
    *slot.lock() = Some(batch);
    std::future::poll_fn(|_| if slot.lock().is_none() { Poll::Ready(()) } else { Poll::Pending }).await;
}

async fn drive(statement: Arc<Statement>, slot: Slot) -> Result<()> {
    run_plan(&statement, plan_of(&statement.planned.plan), &slot).await?;
    run_unread_writes(&statement).await
}

/// The operator tree of a statement: a query, or what COPY TO sends.
fn plan_of(plan: &StatementPlan) -> &Plan {
    match plan {
        StatementPlan::Query(plan) => return plan,
        StatementPlan::Session(s) => {
            if let SessionStatement::Copy(copy) = s.as_ref()
                && let CopyDirection::To { query, .. } = &copy.direction
            {
                return query;
            }
        }
        _ => {}
    }
    panic!("only operator trees are executed by operators")
}

async fn run_plan(statement: &Statement, plan: &Plan, slot: &Slot) -> Result<()> {
    let mut op = ops::build(statement.ctx(), plan)?;
    while let Some(batch) = op.next().await? {
        hand_out(slot, batch).await;
    }
    Ok(())
}

/// A write in the WITH list takes effect whether or not the query reads its rows.
async fn run_unread_writes(statement: &Statement) -> Result<()> {
    for (index, cte) in statement.planned.ctes.iter().enumerate() {
        if contains_write(cte) {
            ops::cte_rows(statement.ctx(), index).await?;
        }
    }
    Ok(())
}

fn contains_write(plan: &Plan) -> bool {
    match &plan.op {
        Op::Modify(_) => true,
        Op::Filter { input, .. } | Op::Project { input, .. } | Op::Limit { input, .. } => {
            contains_write(input)
        }
        _ => false,
    }
}
