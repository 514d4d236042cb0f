//! How many records of a corpus of sqllogictest files a server answers as expected.
//!
//! A test stops at the first surprise; a score goes on. It is meant for corpora that are larger than what the product
//! supports, to see which causes of failure are worth the most.
//!
//! Every file runs in a database of its own, which is dropped afterwards. A record that fails is counted under its
//! *cause*: the error's SQLSTATE and message with names and numbers taken out, so that equal causes fall together.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sqllogictest::{DefaultColumnType, Record, RecordOutput, Runner};

use crate::SltClient;

/// A record that takes longer counts as failed, and ends its file: the connection is in the middle of it.
const RECORD_TIME_MAX: Duration = Duration::from_secs(60);

/// Characters of a cause. Enough to tell causes apart, short enough for a line.
const CAUSE_CHARS: usize = 110;

/// What a corpus scored.
#[derive(Debug, Default)]
pub struct Score {
    /// Records that were answered as expected.
    pub passed: usize,
    /// Records that apply to PostgreSQL.
    pub total: usize,
    /// How many records failed for each cause.
    pub causes: BTreeMap<String, usize>,
}

impl Score {
    /// Adds another corpus's score.
    pub fn add(&mut self, other: Score) {
        self.passed += other.passed;
        self.total += other.total;
        for (cause, n) in other.causes {
            *self.causes.entry(cause).or_default() += n;
        }
        assert!(self.passed <= self.total, "a score counts no record twice");
    }
}

/// Scores one file against a database of its own on the server.
///
/// # Errors
/// The file cannot be read, or the server is not there.
pub async fn score_file(url: &str, path: &Path, verbose: bool) -> Result<Score, String> {
    let records = crate::client::read_file(path)?;
    let admin = crate::connect(url).await.map_err(|e| e.to_string())?;
    let database = format!("score_{}", std::process::id());
    let drop_it = format!("DROP DATABASE IF EXISTS {database}");
    admin.simple_query(&drop_it).await.map_err(|e| e.to_string())?;
    admin.simple_query(&format!("CREATE DATABASE {database}")).await.map_err(|e| e.to_string())?;
    let own = format!("{url} dbname={database}");
    let score = score_records(&own, records, path, verbose).await;
    admin.simple_query(&drop_it).await.map_err(|e| e.to_string())?;
    Ok(score)
}

async fn score_records(
    url: &str,
    records: Vec<Record<DefaultColumnType>>,
    path: &Path,
    verbose: bool,
) -> Score {
    let url = url.to_owned();
    let mut runner = Runner::new(move || {
        let url = url.clone();
        async move { SltClient::connect(&url).await }
    });
    if path.extension().is_some_and(|e| e == "test")
        && let Err(error) = crate::client::sqlite_format(&mut runner).await
    {
        let mut score = Score::default();
        score.causes.insert(cause(&error.display(false).to_string()), 1);
        return score;
    }
    let mut score = Score::default();
    for record in records {
        let is_test = match &record {
            Record::Statement { .. } | Record::Query { .. } => true,
            Record::Halt { .. } => break,
            _ => false,
        };
        let result = tokio::time::timeout(RECORD_TIME_MAX, runner.run_async(record)).await;
        let is_skipped = matches!(result, Ok(Ok(RecordOutput::Nothing)));
        let counted = is_test && !is_skipped;
        score.total += usize::from(counted);
        match result {
            Ok(Ok(_)) => score.passed += usize::from(counted),
            Ok(Err(error)) => {
                let text = error.display(false).to_string();
                if verbose {
                    println!("{text}\n");
                }
                *score.causes.entry(cause(&text)).or_default() += 1;
            }
            Err(_) => {
                *score.causes.entry("took longer than a minute".into()).or_default() += 1;
                break;
            }
        }
    }
    score
}

/// The line that tells why a record failed, with what differs between records of one cause taken out.
fn cause(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let line = match lines.find(|l| l.contains("(sqlstate ")) {
        Some(got) if first.contains("with error") => format!("another error: {}", got.trim()),
        _ => first.to_owned(),
    };
    let mut out = String::new();
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                out.push(c);
            }
            _ if quoted => {}
            c if c.is_ascii_digit() && !out.ends_with('9') => out.push('9'),
            c if c.is_ascii_digit() => {}
            c => out.push(c),
        }
        if out.len() > CAUSE_CHARS {
            break;
        }
    }
    out
}
