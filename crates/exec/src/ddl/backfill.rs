//! The entries of existing rows of an index that writers maintain already and nobody reads (DESIGN section 6).
//!
//! Rows are read page by page at snapshots `S`, each after the index became writable at `T1`, and their entries are written
//! *at version S*, beneath whatever writers add above. So no row is locked and no writer waits:
//!
//! ```text
//!   row changed at t <= S       the snapshot has it, and so has its entry at S
//!   row changed at t >  S       the writer writes the new entry and removes the old one at t, which is above S
//! ```
//! Every commit at or below `S` is in the snapshot, which therefore is one of a timestamp of the gateway's choice and not of
//! a leader's. Snapshots are fresh every second, so that a build may take longer than old versions are kept.
//!
//! *Uniqueness.* A writer looks for another row's entry when it writes, and finds none where that is not filled in yet. So
//! once all is filled in, the table gets another version: whoever looked before that commits below its activation, and
//! whoever commits above looks at a complete index. At a timestamp above it the index is compared with the table: of two
//! rows with the same key one has no entry.
//!
//! *Others come first.* Pages are small, one of a span is under way at a time, and where it takes longer than it has to, the job rests
//! ([`Courtesy`]): a page goes the way of any commit, so what is in its way is in theirs.
//!
//! Several indexes are filled by one read of the table. Spans of different shards are filled at the same time.

use futures::stream::{FuturesOrdered, FuturesUnordered, StreamExt};
use meridian_catalog::{CatalogChange, CatalogSnapshot, IndexDesc, IndexId, JobPhase, TableDesc};
use meridian_datum::{Datum, Result, SqlError, SqlState};
use meridian_kv_api::{KvTxn, KvWrite, Locking, ReadBound, ReadOnlyOptions, ScanRequest};
use meridian_types::{Key, Span, Timestamp, limits};
use parking_lot::Mutex;
use std::time::Duration;

use super::index::has_all;
use super::jobs::{Directive, Running};
use super::pace::Courtesy;
use super::rows::commit_writes;
use super::{DdlServices, next_version};
use crate::check::{Check, Disagreement};
use crate::context::Statement;
use crate::dml::key_text;
use crate::kv_error::sql_error;
use crate::table::{Decoded, IndexReader, IndexWriter, Prefix};

/// Spans that are filled at a time: enough to keep the logs of several shards busy.
const SPANS_AT_A_TIME: usize = 4;
/// Rows that are read and written at a time. A statement that comes behind a page waits for it on every node, so a page is a
/// millisecond's work; one of [`limits::SCAN_PAGE_ROWS`] held up commits by ten.
const PAGE_ROWS: usize = 1_024;
/// Pages of a span whose entries are on their way at a time. With more of them a commit waits for all, and how long one
/// takes says nothing about others.
const PAGES_UNDER_WAY: usize = 1;
/// How long a snapshot is read from.
const SNAPSHOT_AGE: Duration = Duration::from_secs(1);

/// The rows of a table, in as many spans as there are shards.
pub(super) async fn spans(
    services: &DdlServices,
    catalog: &CatalogSnapshot,
    table: &TableDesc,
) -> Result<Vec<Span>> {
    spans_of(services, catalog, table, &table.primary).await
}

/// The same of an index.
async fn spans_of(
    services: &DdlServices,
    catalog: &CatalogSnapshot,
    table: &TableDesc,
    index: &IndexDesc,
) -> Result<Vec<Span>> {
    let all = Span::prefix(&Prefix::of(catalog, table, index)?.start().finish());
    let shards = services.cluster.shards().await.map_err(sql_error)?;
    let mut spans: Vec<Span> = shards
        .into_iter()
        .map(|s| Span::new(s.start, s.end).intersect(&all))
        .filter(|s| !s.is_empty())
        .collect();
    spans.sort_unstable_by(|a, b| a.start.cmp(&b.start));
    // The map may be in motion: what it leaves out or names twice does not matter to a scan of the whole.
    let is_whole = spans.first().is_some_and(|s| s.start == all.start)
        && spans.last().is_some_and(|s| s.end == all.end)
        && spans.windows(2).all(|w| w[0].end.as_ref() == Some(&w[1].start));
    Ok(if is_whole { spans } else { vec![all] })
}

/// How many rows there are, so that operators see how far a job is: as ANALYZE counted them, or counted now, which costs
/// a small part of what writing their entries does.
pub(super) async fn count(
    services: &DdlServices,
    statement: &Statement,
    table: &TableDesc,
    spans: &[Span],
) -> Result<u64> {
    if let Some(known) = statement.catalog.statistics(table.id) {
        return Ok(known.rows as u64);
    }
    count_rows(services, statement, spans).await
}

/// How many rows some spans have, in the statement's snapshot.
pub(super) async fn count_rows(services: &DdlServices, statement: &Statement, spans: &[Span]) -> Result<u64> {
    let mut rows = 0;
    for span in spans {
        let mut rest = Some(span.clone());
        while let Some(span) = rest {
            statement.checkpoint().await?;
            let limit = limits::SCAN_PAGE_ROWS;
            let request = ScanRequest { span, reverse: false, limit, locking: Locking::SHARED };
            let page = statement.wait(statement.txn.scan(request)).await?;
            rows += page.rows.len() as u64;
            rest = page.resume;
            services.pace.rest(Duration::ZERO).await;
        }
    }
    Ok(rows)
}

/// Writes the entries of the rows of some spans. Returns once whoever reads them above the present time sees them.
pub(super) async fn fill(
    services: &DdlServices,
    catalog: &CatalogSnapshot,
    running: &Running,
    table: &TableDesc,
    ids: &[IndexId],
    spans: Vec<Span>,
) -> Result<Directive> {
    let missing = || SqlError::internal("an index was made and is not there");
    let indexes =
        ids.iter().map(|id| table.index(*id).ok_or_else(missing)).collect::<Result<Vec<&IndexDesc>>>()?;
    let writer = |index: &&IndexDesc| IndexWriter::new(catalog, table, index);
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let work = Filler {
        services,
        running,
        writers: indexes.iter().map(writer).collect::<Result<_>>()?,
        reader: IndexReader::new(catalog, table, &table.primary, &all)?,
        left: Mutex::new(spans.iter().cloned().map(Some).collect()),
        closed: Mutex::new(Timestamp::ZERO),
        courtesy: Mutex::default(),
    };
    let mut waiting = spans.into_iter().enumerate();
    let mut under_way = FuturesUnordered::new();
    let mut failure = None;
    loop {
        while under_way.len() < SPANS_AT_A_TIME
            && failure.is_none()
            && let Some((at, span)) = waiting.next()
        {
            under_way.push(work.span(at, span));
        }
        // To the end of each, whatever the others met: nothing is written once the job is over.
        let Some(ended) = under_way.next().await else { break };
        if let Err(e) = ended {
            failure.get_or_insert(e);
        }
    }
    if let Some(e) = failure {
        return Err(e);
    }
    let closed = *work.closed.lock();
    services.wait_until(closed).await?;
    for index in indexes {
        show(services, catalog, table, index).await?;
    }
    Ok(running.directive())
}

/// Commits something to every shard of an index. A leader serves a strong read of one shard at the newest commit that it
/// has shown, and on a shard where nothing else happens that may be older than the entries. What is removed is not there.
async fn show(
    services: &DdlServices,
    catalog: &CatalogSnapshot,
    table: &TableDesc,
    index: &IndexDesc,
) -> Result<()> {
    let whole = Prefix::of(catalog, table, index)?.start().finish();
    let spans = spans_of(services, catalog, table, index).await?;
    // No entry has one of these keys: the index's own has no columns, and behind a whole key nothing is whole.
    let key = |start: Key| if start == whole { start } else { start.next() };
    let touched = spans.into_iter().map(|span| KvWrite { key: key(span.start), value: None }).collect();
    commit_writes(&*services.kv, touched).await.map_err(sql_error)
}

/// What fills indexes.
struct Filler<'a> {
    services: &'a DdlServices,
    running: &'a Running,
    writers: Vec<IndexWriter>,
    reader: IndexReader,
    /// What is left of each span.
    left: Mutex<Vec<Option<Span>>>,
    /// Up to where readers may not come yet.
    closed: Mutex<Timestamp>,
    /// How much of the time is left to others.
    courtesy: Mutex<Courtesy>,
}

/// A page of entries.
struct Page {
    rows: u64,
    at: Timestamp,
    entries: Vec<KvWrite>,
    /// What is left of the span behind it.
    rest: Option<Span>,
}

impl Filler<'_> {
    /// Fills one span; stops early where operators want that.
    async fn span(&self, place: usize, span: Span) -> Result<()> {
        let mut rest = Some(span);
        let mut snapshot: Option<(Box<dyn KvTxn>, tokio::time::Instant)> = None;
        let mut writes = FuturesOrdered::new();
        let mut failure = None;
        while let Some(span) = rest.take().filter(|_| self.running.directive() == Directive::Go) {
            if snapshot.as_ref().is_none_or(|(_, since)| since.elapsed() > SNAPSHOT_AGE) {
                let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false };
                snapshot = Some((self.services.kv.begin_read_only(options), tokio::time::Instant::now()));
            }
            let (txn, _) = snapshot.as_ref().expect("a snapshot was begun");
            match self.read(&**txn, span).await {
                Ok(page) => {
                    rest = page.rest.clone();
                    writes.push_back(self.write(place, page));
                }
                Err(e) => {
                    failure = Some(e);
                    break;
                }
            }
            let rested = self.services.pace.rest(self.courtesy.lock().rest());
            tokio::pin!(rested);
            let mut has_rested = false;
            while failure.is_none() && (!has_rested || writes.len() >= PAGES_UNDER_WAY) {
                tokio::select! {
                    biased;
                    () = &mut rested, if !has_rested => has_rested = true,
                    Some(written) = writes.next(), if !writes.is_empty() => failure = written.err(),
                }
            }
            if failure.is_some() {
                break;
            }
        }
        while let Some(written) = writes.next().await {
            if let Err(e) = written {
                failure.get_or_insert(e);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn read(&self, txn: &dyn KvTxn, span: Span) -> Result<Page> {
        let request = ScanRequest { span, reverse: false, limit: PAGE_ROWS, locking: Locking::SHARED };
        let page = txn.scan(request).await.map_err(sql_error)?;
        let at = txn.read_timestamp().expect("a snapshot that was read has a timestamp");
        let mut batch = self.reader.batch(page.rows.len());
        for (key, value) in &page.rows {
            let _: Decoded = self.reader.read(key.as_bytes(), value, &mut batch)?;
        }
        let mut entries = Vec::with_capacity(batch.len());
        for r in 0..batch.len() {
            let row = batch.row(r);
            for writer in &self.writers {
                entries.extend(writer.entry(&row)?);
            }
        }
        tokio::task::yield_now().await;
        Ok(Page { rows: batch.len() as u64, at, entries, rest: page.resume })
    }

    async fn write(&self, place: usize, page: Page) -> Result<()> {
        if !page.entries.is_empty() {
            self.services.wait_until(page.at).await?;
            let until = self.running.lease_end();
            let begun = tokio::time::Instant::now();
            let closed = self.services.kv.fill(page.at, until, page.entries).await.map_err(sql_error)?;
            self.courtesy.lock().note(begun.elapsed());
            let mut known = self.closed.lock();
            *known = known.max(closed);
        }
        let left = {
            let mut left = self.left.lock();
            left[place] = page.rest;
            left.iter().flatten().cloned().collect()
        };
        self.running.advance(page.rows, left);
        Ok(())
    }
}

/// Makes sure that nobody commits any more who looked for conflicts in an index that was incomplete: gives the table
/// another version, together with the job's next phase.
pub(super) async fn settle_writers(
    services: &DdlServices,
    running: &Running,
    ids: &[IndexId],
) -> Result<Directive> {
    loop {
        let desc = services.current(running.table()).await?;
        let Some(desc) = desc.filter(|t| has_all(t, ids)) else { return running.abandon().await };
        let next = CatalogChange::ReplaceTable(Box::new(next_version(&desc)));
        match services.change(vec![next, running.in_phase(JobPhase::Validation)]).await {
            Ok(_) => break,
            Err(e) if running.may_retry(&e).await? => {}
            Err(e) => return Err(e),
        }
    }
    let total = running.job().rows_total;
    running.begin_phase(JobPhase::Validation, total, Vec::new());
    Ok(Directive::Go)
}

/// Compares unique indexes with the table at one timestamp.
///
/// # Errors
/// 23505 with a row whose key is another row's, too.
pub(super) async fn validate(
    running: &Running,
    statement: &Statement,
    table: &TableDesc,
    ids: &[IndexId],
) -> Result<Directive> {
    let indexes = ids.iter().filter_map(|id| table.index(*id)).filter(|index| index.unique);
    let check = Check::new(statement, &*statement.txn, table, indexes)?;
    let mut stop = None;
    let found = check
        .run(|rows| {
            running.count(rows);
            match running.directive() {
                Directive::Go => Ok(()),
                directive => {
                    stop = Some(directive);
                    Err(super::jobs::cancelled())
                }
            }
        })
        .await;
    if let Some(directive) = stop {
        return Ok(directive);
    }
    match found? {
        None => Ok(Directive::Go),
        Some((id, Disagreement::NoEntry(row))) => Err(duplicated(statement, table, id, &row)?),
        Some((_, Disagreement::NoRow(entry))) => {
            Err(SqlError::internal(format!("a backfill has left an entry without a row: {entry:?}")))
        }
    }
}

#[cold]
fn duplicated(statement: &Statement, table: &TableDesc, id: IndexId, row: &[Datum]) -> Result<SqlError> {
    let index = table.index(id).expect("it was compared");
    let writer = IndexWriter::new(&statement.catalog, table, index)?;
    let message = format!("could not create unique index \"{}\"", index.name);
    Ok(SqlError::new(SqlState::UNIQUE_VIOLATION, message)
        .with_detail(format!("{} is duplicated.", key_text(statement, table, &writer, row)))
        .with_table(statement.catalog.schema_name(table), table.name.clone())
        .with_constraint(index.name.clone()))
}
