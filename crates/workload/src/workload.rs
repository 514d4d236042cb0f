//! What a workload is.

use async_trait::async_trait;
use meridian_history::RecordedOp;
use rand::rngs::SmallRng;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::bank::Bank;
use crate::lists::Lists;
use crate::outcome::Outcome;
use crate::registers::{LongFork, Monotonic, Registers};
use crate::set::Set;

/// The names of the workloads.
pub const NAMES: [&str; 6] = ["bank", "list-append", "register", "set", "long-fork", "monotonic"];

/// One transaction before it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Its operations, reads unanswered; what is recorded.
    pub operations: Vec<RecordedOp>,
    /// Whether it begins with `BEGIN READ ONLY`.
    pub is_read_only: bool,
    /// What only the workload understands.
    pub(crate) detail: Detail,
}

/// What a plan says beside its operations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Detail {
    None,
    /// So much money goes from the first account to the second.
    Transfer(i64),
    /// A read of the whole set, and how many additions had been acknowledged when it was planned.
    ReadSet(usize),
}

/// What the body of a transaction saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answers {
    /// The plan's operations, reads answered.
    pub operations: Vec<RecordedOp>,
    /// What is wrong with it, in a sentence; counts when the transaction commits, since one that aborts may have seen
    /// anything.
    pub wrong: Option<String>,
}

impl From<Vec<RecordedOp>> for Answers {
    fn from(operations: Vec<RecordedOp>) -> Answers {
        Answers { operations, wrong: None }
    }
}

/// A mix of transactions and the rules for what they see.
#[async_trait]
pub trait Workload: Send + Sync {
    /// Makes its tables anew.
    ///
    /// # Errors
    /// The server refuses.
    async fn setup(&self, client: &Client) -> Result<(), Error>;

    /// The next transaction.
    fn plan(&self, rng: &mut SmallRng) -> Plan;

    /// Runs a plan inside of a transaction that has begun.
    ///
    /// # Errors
    /// A statement failed.
    async fn body(&self, client: &Client, plan: &Plan) -> Result<Answers, Error>;

    /// Learns what became of a transaction.
    fn observe(&self, _plan: &Plan, _outcome: Outcome) {}

    /// Looks at the tables when all is over, and answers what is wrong.
    ///
    /// # Errors
    /// The server refuses.
    async fn check(&self, _client: &Client) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}

/// A workload by its name.
pub fn by_name(name: &str) -> Option<Box<dyn Workload>> {
    match name {
        "bank" => Some(Box::new(Bank::new())),
        "list-append" => Some(Box::new(Lists::new())),
        "register" => Some(Box::new(Registers::new())),
        "set" => Some(Box::new(Set::new())),
        "long-fork" => Some(Box::new(LongFork::new())),
        "monotonic" => Some(Box::new(Monotonic::new())),
        _ => None,
    }
}

/// The rows of a statement, as text. Parameters are numbers, so that statements are simply put together.
pub(crate) async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
    let messages = client.simple_query(sql).await?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).map(str::to_string)).collect())
        }
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

/// A whole number of a row; anything else is a server that answers something else than was asked.
pub(crate) fn number(row: &[Option<String>], column: usize) -> i64 {
    let text = row.get(column).and_then(Option::as_deref);
    text.and_then(|t| t.parse().ok()).unwrap_or_else(|| panic!("column {column} of {row:?} is no number"))
}
