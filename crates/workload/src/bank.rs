//! `bank`: money moves, and none is made or lost.
//!
//! Beside its balance an account names the transfer that wrote it last: balances repeat, transfers do not, and so the
//! history of the accounts is one of registers.

use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use meridian_history::RecordedOp;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio_postgres::{Client, Error};

use crate::workload::{Answers, Detail, Plan, Workload, number, rows};

const ACCOUNTS: u64 = 10;

const OPENING: i64 = 100;

const MAX_AMOUNT: i64 = 5;

pub(crate) struct Bank {
    next: AtomicI64,
}

impl Bank {
    pub(crate) fn new() -> Self {
        Bank { next: AtomicI64::new(1) }
    }

    async fn transfer(&self, client: &Client, plan: &Plan, amount: i64) -> Result<Vec<RecordedOp>, Error> {
        let mut answers = Vec::with_capacity(plan.operations.len());
        let mut balance = 0;
        let mut change = -amount;
        for operation in &plan.operations {
            answers.push(match operation {
                RecordedOp::ReadRegister(id, _) => {
                    let sql = format!("SELECT balance, writer FROM bank_{} WHERE id = {id}", id % 2);
                    let rows = rows(client, &sql).await?;
                    balance = number(&rows[0], 0);
                    RecordedOp::ReadRegister(*id, writer(&rows[0], 1))
                }
                RecordedOp::Write(id, writer) => {
                    let after = balance + change;
                    change = amount;
                    let table = id % 2;
                    let sql = format!(
                        "UPDATE bank_{table} SET balance = {after}, writer = {writer} WHERE id = {id}"
                    );
                    client.batch_execute(&sql).await?;
                    operation.clone()
                }
                RecordedOp::Append(..) | RecordedOp::ReadList(..) => unreachable!("not planned"),
            });
        }
        Ok(answers)
    }

    async fn balances(&self, client: &Client) -> Result<(i64, Vec<RecordedOp>), Error> {
        let sql = "SELECT id, balance, writer FROM bank_0 UNION ALL SELECT id, balance, writer FROM bank_1 ORDER BY 1";
        let rows = rows(client, sql).await?;
        let sum = rows.iter().map(|row| number(row, 1)).sum();
        let reads = rows.iter().map(|row| RecordedOp::ReadRegister(number(row, 0) as u64, writer(row, 2)));
        Ok((sum, reads.collect()))
    }
}

fn wrong_sum(sum: i64) -> Option<String> {
    let right = OPENING * ACCOUNTS as i64;
    (sum != right).then(|| format!("the balances sum up to {sum}, not {right}"))
}

/// Who wrote a row last; nobody has written the opening balance as far as the history knows.
fn writer(row: &[Option<String>], column: usize) -> Option<i64> {
    Some(number(row, column)).filter(|writer| *writer != 0)
}

#[async_trait]
impl Workload for Bank {
    async fn setup(&self, client: &Client) -> Result<(), Error> {
        for table in 0..2 {
            let rows: Vec<String> = (0..ACCOUNTS)
                .filter(|id| id % 2 == table)
                .map(|id| format!("({id}, {OPENING}, 0)"))
                .collect();
            let sql = format!(
                "DROP TABLE IF EXISTS bank_{table};
                 CREATE TABLE bank_{table} (id bigint PRIMARY KEY, balance bigint NOT NULL, writer bigint NOT NULL);
                 INSERT INTO bank_{table} VALUES {}",
                rows.join(", ")
            );
            client.batch_execute(&sql).await?;
        }
        Ok(())
    }

    fn plan(&self, rng: &mut SmallRng) -> Plan {
        if rng.random_range(0..4) == 0 {
            let operations = (0..ACCOUNTS).map(|id| RecordedOp::ReadRegister(id, None)).collect();
            return Plan { operations, is_read_only: rng.random(), detail: Detail::None };
        }
        let from = rng.random_range(0..ACCOUNTS);
        let to = (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let transfer = self.next.fetch_add(1, Ordering::Relaxed);
        let operations = vec![
            RecordedOp::ReadRegister(from, None),
            RecordedOp::Write(from, transfer),
            RecordedOp::ReadRegister(to, None),
            RecordedOp::Write(to, transfer),
        ];
        Plan { operations, is_read_only: false, detail: Detail::Transfer(rng.random_range(1..=MAX_AMOUNT)) }
    }

    async fn body(&self, client: &Client, plan: &Plan) -> Result<Answers, Error> {
        if let Detail::Transfer(amount) = plan.detail {
            return Ok(self.transfer(client, plan, amount).await?.into());
        }
        let (sum, operations) = self.balances(client).await?;
        Ok(Answers { operations, wrong: wrong_sum(sum) })
    }

    async fn check(&self, client: &Client) -> Result<Vec<String>, Error> {
        let (sum, _) = self.balances(client).await?;
        Ok(wrong_sum(sum).into_iter().collect())
    }
}
