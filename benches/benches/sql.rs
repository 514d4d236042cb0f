//! SQL above the store: planning a point select, rows on the wire, and a whole session over the store in memory.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use meridian_catalog::{CatalogCache, CatalogStore};
use meridian_datum::{Batch, DataType, Datum, EvalContext, SqlError};
use meridian_kv_api::{Kv, MemoryKv, ReadWriteOptions};
use meridian_pgwire_server::encode;
use meridian_plan::{PlanContext, Template};
use meridian_session::{
    BindParams, CommandTag, CopyHeader, Field, Flow, Format, ResultSink, RowDescription, ServerSettings,
    Session, SessionFactory, SessionParams, Severity, SinkClosed,
};
use meridian_types::Duration;
use tokio::runtime::{Builder, Runtime};

const TABLE: &str = "CREATE TABLE accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84))";
const ROWS: i64 = 1_000;

/// Keeps the rows of the last statement.
#[derive(Default)]
struct Sink {
    out: BytesMut,
}

#[async_trait]
impl ResultSink for Sink {
    fn describe(&mut self, rows: &RowDescription) {
        encode::row_description(&mut self.out, rows);
    }

    fn batch(&mut self, rows: &RowDescription, batch: &Batch, context: &EvalContext) -> Result<(), SqlError> {
        encode::data_rows(&mut self.out, rows, batch, context)
    }

    fn complete(&mut self, _: CommandTag) {}

    fn empty_query(&mut self) {}

    fn suspended(&mut self) {}

    fn notice(&mut self, _: Severity, _: &SqlError) {}

    fn parameter_status(&mut self, _: &str, _: &str) {}

    fn copy_in(&mut self, _: CopyHeader) {}

    fn copy_out(&mut self, _: CopyHeader) {}

    fn copy_data(&mut self, _: &[u8]) {}

    fn copy_out_done(&mut self) {}

    fn position(&self) -> u64 {
        self.out.len() as u64
    }

    fn rewind(&mut self, position: u64) -> bool {
        self.out.truncate(position as usize);
        true
    }

    fn appended(&self, position: u64) -> Option<&[u8]> {
        Some(&self.out[position as usize..])
    }

    fn is_full(&self) -> bool {
        false
    }

    async fn flush(&mut self) -> Result<(), SinkClosed> {
        self.out.clear();
        Ok(())
    }
}

/// A database of one table in memory.
struct World {
    runtime: Runtime,
    catalog: Arc<CatalogCache>,
    session: Session,
}

impl World {
    fn new() -> World {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (catalog, session) = runtime.block_on(async {
            let kv = Arc::new(MemoryKv::new());
            let txn = kv.begin(ReadWriteOptions::default());
            CatalogStore::bootstrap(&*txn).await.unwrap();
            txn.commit().await.unwrap();
            let catalog = Arc::new(CatalogCache::new(kv.clone(), Duration::from_secs(3_600)));
            catalog.refresh().await.unwrap();
            let factory = SessionFactory::new(kv.clone(), kv, catalog.clone(), ServerSettings::default());
            let params = SessionParams {
                user: "root".into(),
                database: "defaultdb".into(),
                ..SessionParams::default()
            };
            let mut session = factory.open(params).await.unwrap();
            let rows: Vec<String> = (0..ROWS).map(|id| format!("({id}, 1, 0, 'x')")).collect();
            for sql in [TABLE.to_owned(), format!("INSERT INTO accounts VALUES {}", rows.join(","))] {
                session.simple_query(&sql, &mut Sink::default()).await.unwrap();
            }
            (catalog, session)
        });
        World { runtime, catalog, session }
    }
}

fn planning(c: &mut Criterion) {
    let world = World::new();
    let snapshot = world.catalog.latest();
    let path = ["public".to_owned()];
    let eval = EvalContext::default();
    let context = PlanContext {
        snapshot: &snapshot,
        database: "defaultdb",
        user: "root",
        search_path: &path,
        param_types: &[],
        eval: &eval,
    };
    let sql = "SELECT abalance FROM accounts WHERE aid = 77";
    c.bench_function("plan: parse, bind and plan a point select", |b| {
        b.iter(|| {
            let parsed = meridian_plan::parse(black_box(sql)).unwrap();
            meridian_plan::plan_statement(&context, &parsed[0]).unwrap()
        });
    });
    c.bench_function("plan: the template of a point select", |b| {
        b.iter(|| Template::of(black_box(sql)).unwrap());
    });
}

fn wire(c: &mut Criterion) {
    let types = [DataType::Int4, DataType::Int8, DataType::Text];
    let mut batch = Batch::with_capacity(&types, ROWS as usize);
    for id in 0..ROWS {
        batch.push_row(&[Datum::Int(id), Datum::Int(id * 1_000_003), Datum::from("a moderately long name")]);
    }
    let context = EvalContext::default();
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, format) in [("text", Format::Text), ("binary", Format::Binary)] {
        let field = |data_type: &DataType| Field {
            name: "column".into(),
            table_oid: 0,
            column_number: 0,
            data_type: data_type.clone(),
            format,
        };
        let rows = RowDescription { fields: types.iter().map(field).collect() };
        let mut out = BytesMut::new();
        group.bench_function(format!("1,000 rows of two integers and a text, {name}"), |b| {
            b.iter(|| {
                out.clear();
                encode::data_rows(&mut out, &rows, black_box(&batch), &context).unwrap();
            });
        });
    }
    group.finish();
}

fn session(c: &mut Criterion) {
    let World { runtime, mut session, catalog: _catalog } = World::new();
    let mut sink = Sink::default();
    let parse = session.parse("q", "SELECT abalance FROM accounts WHERE aid = $1", &[]);
    runtime.block_on(parse).unwrap();
    let mut id = 0;
    c.bench_function("session: a prepared point select over the store in memory", |b| {
        b.iter(|| {
            id = (id + 7) % ROWS;
            let text = id.to_string();
            let parameters = [Some(text.as_bytes())];
            let bind = BindParams { parameter_formats: &[], parameters: &parameters, result_formats: &[] };
            runtime.block_on(async {
                session.bind("", "q", bind).await.unwrap();
                let flow = session.execute("", 0, &mut sink).await.unwrap();
                assert_eq!(flow, Flow::Done);
                session.sync(&mut sink).await.unwrap();
                sink.flush().await.unwrap();
            });
        });
    });
    c.bench_function("session: a point select as text over the store in memory", |b| {
        b.iter(|| {
            id = (id + 7) % ROWS;
            let sql = format!("SELECT abalance FROM accounts WHERE aid = {id}");
            runtime.block_on(async {
                session.simple_query(&sql, &mut sink).await.unwrap();
                sink.flush().await.unwrap();
            });
        });
    });
}

criterion_group!(benches, planning, wire, session);
criterion_main!(benches);
