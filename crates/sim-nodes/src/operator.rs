//! An operator who is busy while things go wrong: splits, hand-overs, moves of replicas, schema changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use meridian_workload::Place;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio_postgres::{Client, SimpleQueryMessage};

/// A statement that takes longer is given up, with its connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often the operator got something done.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) stop: AtomicBool,
    pub(crate) statements: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// A cell of the first row.
async fn cell(client: &Client, sql: &str) -> Option<String> {
    let messages = client.simple_query(sql).await.ok()?;
    messages.into_iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// What the operator thinks of next. Whatever can't be done now is left.
async fn idea(client: &Client, rng: &mut SmallRng, n: u64) -> Option<String> {
    let tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1";
    let table = cell(client, tables).await?;
    let group = |sql: &str| {
        let sql = sql.to_owned();
        async move { cell(client, &sql).await }
    };
    let nodes: u32 = cell(client, "SELECT count(*) FROM meridian.nodes").await?.parse().ok()?;
    let node = rng.random_range(1..=nodes);
    Some(match rng.random_range(0..12) {
        0 | 1 => format!("SELECT meridian.split_at('{table}', {})", rng.random_range(1..60)),
        2..5 => {
            let offset = rng.random_range(0..6);
            let group =
                group(&format!("SELECT shard_id FROM meridian.shards ORDER BY 1 OFFSET {offset} LIMIT 1"))
                    .await?;
            format!("SELECT meridian.transfer_leader({group}, {node})")
        }
        5 | 6 => {
            let column = format!(
                "SELECT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid = '{table}'::regclass ORDER BY attnum DESC LIMIT 1"
            );
            let column = cell(client, &column).await?;
            format!("CREATE INDEX sim_{n} ON {table} ({column})")
        }
        7 => {
            let index = cell(
                client,
                "SELECT indexname FROM pg_indexes WHERE indexname LIKE 'sim_%' ORDER BY 1 LIMIT 1",
            )
            .await?;
            format!("DROP INDEX {index}")
        }
        8 | 9 => {
            let offset = rng.random_range(0..6);
            let group =
                group(&format!("SELECT shard_id FROM meridian.shards ORDER BY 1 OFFSET {offset} LIMIT 1"))
                    .await?;
            let home = format!("SELECT replicas[1] FROM meridian.shards WHERE shard_id = {group}");
            let from = cell(client, &home).await?;
            format!("SELECT meridian.move_replica({group}, {from}, {node})")
        }
        10 => format!("ALTER TABLE {table} ADD COLUMN sim_{n} int DEFAULT {n}"),
        _ => {
            let column = format!(
                "SELECT attname FROM pg_attribute WHERE attname LIKE 'sim_%' AND attrelid = '{table}'::regclass ORDER BY 1 LIMIT 1"
            );
            let column = cell(client, &column).await?;
            format!("ALTER TABLE {table} DROP COLUMN {column}")
        }
    })
}

/// Works until told to stop.
pub(crate) async fn operate(places: Vec<Arc<dyn Place>>, mut rng: SmallRng, done: Arc<Done>) {
    let mut client = None;
    let mut n = 0;
    while !done.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..1_500))).await;
        if client.as_ref().is_none_or(Client::is_closed) {
            let place = &places[rng.random_range(0..places.len())];
            client = tokio::time::timeout(PATIENCE, place.connect()).await.ok().and_then(Result::ok);
        }
        let Some(connected) = &client else { continue };
        n += 1;
        let work = async {
            let Some(statement) = idea(connected, &mut rng, n).await else { return false };
            connected.batch_execute(&statement).await.is_ok()
        };
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(true) => drop(done.statements.fetch_add(1, Ordering::Relaxed)),
            Ok(false) => drop(done.failed.fetch_add(1, Ordering::Relaxed)),
            Err(_) => client = None,
        }
    }
}
