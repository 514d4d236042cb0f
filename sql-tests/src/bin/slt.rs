//! Runs sqllogictest files against any server that speaks the Postgres protocol, or records their expected output.
//!
//! ```text
//! slt run    'host=127.0.0.1 port=15432 user=root dbname=defaultdb' FILE...
//! slt record 'host=127.0.0.1 port=5432 user=postgres dbname=postgres' FILE...
//! slt score  'host=127.0.0.1 port=15432 user=root dbname=defaultdb' FILE...
//! slt failures 'host=127.0.0.1 port=15432 user=root dbname=defaultdb' FILE...
//! slt specs  'URL of a node;URL of another' FILE...
//! ```
//! `specs` runs PostgreSQL's isolation specs, and prints for each whether the transactions that committed are serializable;
//! with `HIDDEN_RETRIES` set, the server is left to run transactions again that lose a conflict.
//! `score` gives each file a database of its own, goes on after failures, and ends with their most frequent causes;
//! `failures` prints each of them as well. `record` is how the files in `sql-tests/sql` got their answers: from PostgreSQL 15.

#![allow(clippy::unwrap_used, reason = "a developer's tool")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use meridian_sql_tests::isolation::{Conflicts, Spec, Verdict, run_spec};
use meridian_sql_tests::{Score, SltClient, run_file, score_file};
use sqllogictest::Runner;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, url, files @ ..] = args.as_slice() else {
        eprintln!("usage: slt run|record|score|failures|specs URL FILE...");
        return ExitCode::from(2);
    };
    if mode == "specs" {
        return specs(url, files).await;
    }
    if mode == "score" || mode == "failures" {
        return score(url, files, mode == "failures").await;
    }
    let mut failed = 0;
    for file in files.iter().map(PathBuf::from) {
        let start = Instant::now();
        if mode == "record" {
            let url = url.clone();
            let mut runner = Runner::new(move || {
                let url = url.clone();
                async move { SltClient::connect(&url).await }
            });
            runner
                .update_test_file(
                    &file,
                    " ",
                    sqllogictest::default_validator,
                    sqllogictest::default_normalizer,
                    sqllogictest::default_column_validator,
                )
                .await
                .unwrap();
            continue;
        }
        match run_file(url, &file).await {
            Ok(n) => println!("{}: {n} records, {:?}", file.display(), start.elapsed()),
            Err(error) => {
                failed += 1;
                println!("{}: FAILED\n{error}", file.display());
            }
        }
    }
    println!("{} passed, {failed} failed", files.len() - failed);
    ExitCode::from(u8::from(failed > 0))
}

/// Causes of failure that a score ends with.
const CAUSES_SHOWN: usize = 60;

async fn score(url: &str, files: &[String], verbose: bool) -> ExitCode {
    let mut sum = Score::default();
    for file in files.iter().map(PathBuf::from) {
        match score_file(url, &file, verbose).await {
            Ok(score) => {
                println!("{}\t{}/{}", file.display(), score.passed, score.total);
                sum.add(score);
            }
            Err(error) => {
                eprintln!("{}: {error}", file.display());
                return ExitCode::FAILURE;
            }
        }
    }
    let mut causes: Vec<(usize, String)> = sum.causes.into_iter().map(|(cause, n)| (n, cause)).collect();
    causes.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    for (n, cause) in causes.iter().take(CAUSES_SHOWN) {
        println!("{n:6}  {cause}");
    }
    let percent = 100.0 * sum.passed as f64 / sum.total.max(1) as f64;
    println!("TOTAL\t{}/{}\t{percent:.1}%", sum.passed, sum.total);
    ExitCode::SUCCESS
}

async fn specs(urls: &str, files: &[String]) -> ExitCode {
    let urls: Vec<String> = urls.split(';').map(str::to_owned).collect();
    let mut failed = false;
    for file in files {
        let spec =
            match std::fs::read_to_string(file).map_err(|e| e.to_string()).and_then(|t| Spec::parse(&t)) {
                Ok(spec) => spec,
                Err(error) => {
                    println!("{file}\tUNREADABLE\t{error}");
                    failed = true;
                    continue;
                }
            };
        let start = Instant::now();
        let conflicts =
            if std::env::var_os("HIDDEN_RETRIES").is_some() { Conflicts::Hidden } else { Conflicts::Shown };
        let reports = match run_spec(&urls, &spec, conflicts).await {
            Ok(reports) => reports,
            Err(error) => {
                println!("{file}\tNOT RUN\t{error}");
                continue;
            }
        };
        let of = |verdict: &Verdict| reports.iter().filter(|r| r.verdict == *verdict).count();
        let (right, unjudged) = (of(&Verdict::Serializable), of(&Verdict::NotJudged));
        println!(
            "{file}\t{right} serializable, {unjudged} not judged, {} WRONG of {}; {} waits, {} aborted\t{:.1?}",
            reports.len() - right - unjudged,
            spec.interleavings(),
            reports.iter().map(|r| r.waited).sum::<usize>(),
            reports.iter().map(|r| r.aborted).sum::<usize>(),
            start.elapsed()
        );
        for report in reports {
            if let Verdict::Wrong(why) = report.verdict {
                failed = true;
                println!("  {}: {why}\n{}", report.permutation, report.trace);
            }
        }
    }
    ExitCode::from(u8::from(failed))
}
