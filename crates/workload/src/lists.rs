//! `list-append`: the workload from which most can be concluded.

use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use meridian_history::RecordedOp;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio_postgres::{Client, Error};

use crate::workload::{Answers, Detail, Plan, Workload, rows};

/// Lists are spread over so many tables, so that transactions cross shards.
const TABLES: u64 = 3;

/// So many lists are in use at a time. Few, so that transactions meet.
const ACTIVE: u64 = 9;

/// After so many appends for each active list, others take their place: the length of a list is bounded.
const APPENDS: u64 = 40;

const MAX_OPERATIONS: usize = 4;

pub(crate) struct Lists {
    next: AtomicI64,
}

impl Lists {
    pub(crate) fn new() -> Self {
        Lists { next: AtomicI64::new(1) }
    }
}

fn table(key: u64) -> u64 {
    key % TABLES
}

async fn read(client: &Client, key: u64) -> Result<Vec<i64>, Error> {
    let sql = format!("SELECT elements FROM list_{} WHERE id = {key}", table(key));
    let rows = rows(client, &sql).await?;
    let text = rows.first().and_then(|row| row[0].as_deref()).unwrap_or("");
    Ok(text.split_whitespace().map(|n| n.parse().expect("lists hold numbers")).collect())
}

#[async_trait]
impl Workload for Lists {
    async fn setup(&self, client: &Client) -> Result<(), Error> {
        for i in 0..TABLES {
            let sql = format!(
                "DROP TABLE IF EXISTS list_{i}; CREATE TABLE list_{i} (id bigint PRIMARY KEY, elements text NOT NULL)"
            );
            client.batch_execute(&sql).await?;
        }
        Ok(())
    }

    fn plan(&self, rng: &mut SmallRng) -> Plan {
        let count = rng.random_range(1..=MAX_OPERATIONS);
        let only_reads = rng.random_range(0..4) == 0;
        let generation = self.next.load(Ordering::Relaxed) as u64 / (ACTIVE * APPENDS);
        let mut operations = Vec::with_capacity(count);
        for _ in 0..count {
            let key = generation * ACTIVE + rng.random_range(0..ACTIVE);
            operations.push(match only_reads || rng.random() {
                true => RecordedOp::ReadList(key, None),
                false => RecordedOp::Append(key, self.next.fetch_add(1, Ordering::Relaxed)),
            });
        }
        Plan { operations, is_read_only: only_reads && rng.random(), detail: Detail::None }
    }

    async fn body(&self, client: &Client, plan: &Plan) -> Result<Answers, Error> {
        let mut answers = Vec::with_capacity(plan.operations.len());
        for operation in &plan.operations {
            answers.push(match operation {
                RecordedOp::ReadList(key, _) => RecordedOp::ReadList(*key, Some(read(client, *key).await?)),
                RecordedOp::Append(key, value) => {
                    let table = table(*key);
                    let sql = format!(
                        "INSERT INTO list_{table} VALUES ({key}, '{value}') \
                         ON CONFLICT (id) DO UPDATE SET elements = list_{table}.elements || ' ' || '{value}'"
                    );
                    client.batch_execute(&sql).await?;
                    operation.clone()
                }
                RecordedOp::Write(..) | RecordedOp::ReadRegister(..) => unreachable!("not planned"),
            });
        }
        Ok(answers.into())
    }
}
