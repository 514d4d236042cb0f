//! `meridian.jobs` and `meridian.schema_changes`.

use meridian_catalog::{Job, JobState, JobWork};
use meridian_datum::{Datum, Result};
use meridian_kv_api::{ReadBound, ReadOnlyOptions};
use meridian_types::{Duration, Timestamp};

use super::cluster::{int, text, timestamptz};
use crate::context::Statement;
use crate::kv_error::sql_error;

async fn jobs(stmt: &Statement) -> Result<Vec<Job>> {
    let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false };
    let txn = stmt.kv.begin_read_only(options);
    Job::all(&*txn).await.map_err(|e| e.into_sql(sql_error))
}

/// The rows of `meridian.jobs`: all work in the background.
pub(super) async fn job_rows(stmt: &Statement) -> Result<Vec<Vec<Datum>>> {
    let now = stmt.kv.now().map_err(sql_error)?.latest();
    let row = |job: &Job| {
        let mut row = vec![
            int(job.id.get()),
            text(job.work.name()),
            text(&job.statement),
            text(job.state.name()),
            progress(job),
            Datum::Int(i64::from(job.runner.get())),
            timestamptz(job.created),
            opt_time(job.finished),
        ];
        row.extend(tail(job, now));
        row.push(if job.state == JobState::Running { timestamptz(job.lease_end) } else { Datum::Null });
        row
    };
    Ok(jobs(stmt).await?.iter().map(row).collect())
}

/// The rows of `meridian.schema_changes`: the same without what only tidies up.
pub(super) async fn schema_change_rows(stmt: &Statement) -> Result<Vec<Vec<Datum>>> {
    let now = stmt.kv.now().map_err(sql_error)?.latest();
    let row = |job: &Job| {
        let mut row = vec![
            int(job.id.get()),
            text(&job.table_name),
            text(&job.statement),
            text(job.state.name()),
            progress(job),
            opt_time(job.start_at),
            opt_time(job.started),
            opt_time(job.finished),
        ];
        row.extend(tail(job, now));
        row
    };
    let jobs = jobs(stmt).await?;
    Ok(jobs.iter().filter(|job| !matches!(job.work, JobWork::Clean { .. })).map(row).collect())
}

fn opt_time(t: Option<Timestamp>) -> Datum {
    t.map_or(Datum::Null, timestamptz)
}

/// How far a job is: its share of the rows, as far as their number is known.
fn progress(job: &Job) -> Datum {
    match (job.state, job.rows_total) {
        (JobState::Succeeded, _) => Datum::Float8(1.0),
        (_, None | Some(0)) => Datum::Null,
        (_, Some(total)) => Datum::Float8((job.rows_done as f64 / total as f64).min(1.0)),
    }
}

/// Error, phase, rows done and in all, rows a second, the end as it looks by now.
fn tail(job: &Job, now: Timestamp) -> [Datum; 6] {
    let end = job.finished.unwrap_or(now);
    let seconds = job.started.map_or(0.0, |started| end.since(started).as_nanos() as f64 / 1e9);
    let rate = job.rows_done as f64 / seconds;
    let eta = match job.rows_total {
        Some(total) if job.state == JobState::Running && rate.is_normal() => {
            let left = total.saturating_sub(job.rows_done) as f64 / rate;
            timestamptz(now + Duration::from_nanos((left * 1e9) as u64))
        }
        _ => Datum::Null,
    };
    [
        job.error.as_ref().map_or(Datum::Null, |e| match &e.detail {
            Some(detail) => text(format!("{} ({}): {detail}", e.message, e.code)),
            None => text(format!("{} ({})", e.message, e.code)),
        }),
        text(job.phase.name()),
        int(job.rows_done),
        job.rows_total.map_or(Datum::Null, int),
        if rate.is_finite() { Datum::Float8(rate) } else { Datum::Null },
        eta,
    ]
}
