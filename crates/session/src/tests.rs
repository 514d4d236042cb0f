//! Golden scripts over the store in memory.
//!
//! A script is blocks separated by blank lines: SQL, a line `----`, what the client sees. A first line `-- b` runs the
//! block in another session of that name. `UPDATE=1` rewrites the scripts; the difference is then reviewed.

mod advisory;
mod block_ddl;
mod constrain;
mod differential;
mod jobs;
mod missing_values;
mod protocol;
mod replay;
mod schema_time;
mod several;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use meridian_catalog::{CatalogCache, CatalogStore};
use meridian_datum::{Batch, EvalContext, SqlError, to_text};
use meridian_kv_api::{Kv, MemoryKv, ReadWriteOptions};
use meridian_types::Duration;

use crate::{
    CommandTag, CopyHeader, Flow, ResultSink, RowDescription, ServerSettings, Session, SessionFactory,
    SessionParams, Severity, SinkClosed,
};

/// A sink that writes what the client would see as text.
#[derive(Default)]
pub(crate) struct TextSink {
    pub(crate) out: String,
    pub(crate) flushed: usize,
}

#[async_trait]
impl ResultSink for TextSink {
    fn describe(&mut self, rows: &RowDescription) {
        let names: Vec<&str> = rows.fields.iter().map(|f| &*f.name).collect();
        writeln!(self.out, "[{}]", names.join(" | ")).unwrap();
    }

    fn batch(&mut self, rows: &RowDescription, batch: &Batch, context: &EvalContext) -> Result<(), SqlError> {
        assert_eq!(rows.fields.len(), batch.columns().len(), "a batch has the described columns");
        for r in 0..batch.len() {
            let values: Vec<String> = rows
                .fields
                .iter()
                .enumerate()
                .map(|(c, f)| {
                    let d = batch.get(c, r);
                    if d.is_null() { "NULL".to_owned() } else { to_text(context, &d, &f.data_type) }
                })
                .collect();
            writeln!(self.out, "{}", values.join(" | ")).unwrap();
        }
        Ok(())
    }

    fn complete(&mut self, tag: CommandTag) {
        writeln!(self.out, "{tag}").unwrap();
    }

    fn empty_query(&mut self) {
        self.out.push_str("EMPTY\n");
    }

    fn suspended(&mut self) {
        self.out.push_str("SUSPENDED\n");
    }

    fn notice(&mut self, severity: Severity, notice: &SqlError) {
        writeln!(self.out, "{}: {}", severity.name(), notice.message).unwrap();
    }

    fn parameter_status(&mut self, name: &str, value: &str) {
        writeln!(self.out, "PARAMETER {name}={value}").unwrap();
    }

    fn copy_in(&mut self, header: CopyHeader) {
        writeln!(self.out, "COPY IN {}", header.columns).unwrap();
    }

    fn copy_out(&mut self, header: CopyHeader) {
        writeln!(self.out, "COPY OUT {}", header.columns).unwrap();
    }

    fn copy_data(&mut self, data: &[u8]) {
        self.out.push_str(std::str::from_utf8(data).unwrap());
    }

    fn copy_out_done(&mut self) {}

    fn position(&self) -> u64 {
        self.out.len() as u64
    }

    fn rewind(&mut self, position: u64) -> bool {
        let position = position as usize;
        if position < self.flushed {
            return false;
        }
        self.out.truncate(position);
        true
    }

    fn appended(&self, position: u64) -> Option<&[u8]> {
        (position as usize >= self.flushed).then(|| &self.out.as_bytes()[position as usize..])
    }

    fn is_full(&self) -> bool {
        false
    }

    async fn flush(&mut self) -> Result<(), SinkClosed> {
        self.flushed = self.out.len();
        Ok(())
    }
}

/// An error as scripts show it.
pub(crate) fn error_text(e: &SqlError) -> String {
    let mut out = format!("ERROR {}: {}\n", e.state.code(), e.message);
    if let Some(d) = &e.detail {
        writeln!(out, "DETAIL: {d}").unwrap();
    }
    if let Some(h) = &e.hint {
        writeln!(out, "HINT: {h}").unwrap();
    }
    out
}

/// A cluster of one store in memory.
pub(crate) struct World {
    pub(crate) kv: MemoryKv,
    pub(crate) factory: SessionFactory,
}

impl World {
    pub(crate) async fn new() -> World {
        let kv = MemoryKv::new();
        let txn = kv.begin(ReadWriteOptions::default());
        CatalogStore::bootstrap(&*txn).await.unwrap();
        txn.commit().await.unwrap();
        let shared: Arc<MemoryKv> = Arc::new(kv.clone());
        let catalog = Arc::new(CatalogCache::new(shared.clone(), Duration::from_secs(3)));
        catalog.refresh().await.unwrap();
        let factory = SessionFactory::new(shared.clone(), shared, catalog, ServerSettings::default());
        World { kv, factory }
    }

    pub(crate) async fn session(&self) -> Session {
        let params =
            SessionParams { user: "root".into(), database: "defaultdb".into(), ..SessionParams::default() };
        self.factory.open(params).await.unwrap()
    }
}

/// Runs a query string; COPY data follows the statement after a line `\copy`.
async fn run_block(session: &mut Session, sql: &str) -> String {
    let (sql, data) = match sql.split_once("\n\\copy\n") {
        Some((sql, data)) => (sql, Some(data)),
        None => (sql, None),
    };
    let mut sink = TextSink::default();
    let mut result = session.simple_query(sql, &mut sink).await;
    if let (Ok(Flow::CopyIn), Some(data)) = (&result, data) {
        result = match session.copy_data(data.as_bytes(), &mut sink).await {
            Ok(()) => session.copy_done(&mut sink).await,
            Err(e) => Err(e),
        };
    }
    let mut out = sink.out;
    if let Err(e) = &result {
        out.push_str(&error_text(e));
    }
    if session.status() != crate::TransactionStatus::Idle {
        writeln!(out, "({})", session.status().byte() as char).unwrap();
    }
    out
}

async fn run_script(path: &Path) {
    let script = std::fs::read_to_string(path).unwrap();
    let world = World::new().await;
    let mut sessions: BTreeMap<String, Session> = BTreeMap::new();
    let mut actual = String::new();
    for block in script.split("\n\n").map(str::trim).filter(|b| !b.is_empty()) {
        let Some((sql, _)) = block.split_once("\n----") else {
            assert!(
                block.lines().all(|l| l.starts_with('#')),
                "{}: a block without ----: {block}",
                path.display()
            );
            writeln!(actual, "{block}\n").unwrap();
            continue;
        };
        let name = match sql.lines().next().and_then(|l| l.strip_prefix("-- ")) {
            Some(word) if word.len() == 1 => word.to_owned(),
            _ => "a".to_owned(),
        };
        if !sessions.contains_key(&name) {
            sessions.insert(name.clone(), world.session().await);
        }
        let out = run_block(sessions.get_mut(&name).unwrap(), sql).await;
        writeln!(actual, "{sql}\n----\n{out}").unwrap();
    }
    let actual = format!("{}\n", actual.trim_end());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, actual).unwrap();
    } else if actual != script {
        for (a, b) in script.lines().zip(actual.lines()).filter(|(a, b)| a != b).take(5) {
            eprintln!("expected: {a}\nfound:    {b}");
        }
        panic!("{} differs:\n{actual}", path.display());
    }
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("src/tests/scripts");
                run_script(&folder.join(concat!(stringify!($name), ".sql"))).await;
            }
        )*
    };
}

scripts!(
    basics,
    transactions,
    joins,
    aggregates,
    writes,
    upsert,
    copy,
    ddl,
    subqueries,
    expressions,
    partial_indexes,
    expression_indexes,
    settings,
    conflicts,
    templates
);
