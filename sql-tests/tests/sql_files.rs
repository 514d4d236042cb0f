//! The SQL test files against a real three-node cluster, over the wire.

#![allow(clippy::unwrap_used)]

#[path = "sql_files/messages.rs"]
mod messages;
#[path = "sql_files/retries.rs"]
mod retries;
#[path = "sql_files/timeouts.rs"]
mod timeouts;

use std::path::{Path, PathBuf};
use std::time::Instant;

use meridian_sql_tests::isolation::{Conflicts, Report, Spec, Verdict, run_spec};
use meridian_sql_tests::{Cluster, ClusterKind, connect, package_folder, run_file};

/// Drops every table, so that each file starts from nothing.
async fn clean(url: &str) {
    let client = connect(url).await.unwrap();
    let tables = client
        .simple_query("SELECT schemaname, tablename FROM pg_tables WHERE schemaname = 'public'")
        .await
        .unwrap();
    for message in tables {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            let table = row.get(1).unwrap().replace('"', "\"\"");
            client.simple_query(&format!("DROP TABLE public.\"{table}\"")).await.unwrap();
        }
    }
}

async fn run_all(url: &str, files: &[PathBuf]) -> (usize, Vec<String>) {
    let mut records = 0;
    let mut failures = Vec::new();
    for file in files {
        let start = Instant::now();
        match run_file(url, file).await {
            Ok(n) => {
                records += n;
                println!("{}: {n} records in {:?}", file.display(), start.elapsed());
            }
            Err(error) => failures.push(format!("{}: {error}", file.display())),
        }
        clean(url).await;
    }
    (records, failures)
}

fn files_in(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn sql_files_answer_as_postgresql() {
    let cluster = Cluster::start(ClusterKind::Demo, "sql").await;
    let files = files_in(&package_folder().join("sql"), "slt");
    assert!(files.len() >= 10, "the SQL files are missing");
    // Not the node that leads, so that requests cross the transport.
    let (records, failures) = run_all(&cluster.url(1), &files).await;
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(records >= 2_500, "only {records} records were run");
}

/// SQLite's corpus, where it is unpacked: `SQLITE_CORPUS` names the folder with `select1.test`.
#[tokio::test]
async fn sqlite_select_files() {
    let Some(dir) = sqlite_corpus() else {
        println!("skipped: SQLite's corpus is not here (set SQLITE_CORPUS)");
        return;
    };
    let cluster = Cluster::start(ClusterKind::Demo, "sqlite").await;
    let files: Vec<PathBuf> = (1..=4).map(|i| dir.join(format!("select{i}.test"))).collect();
    let start = Instant::now();
    let (records, failures) = run_all(&cluster.url(0), &files).await;
    let elapsed = start.elapsed();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    println!("{records} records, {:.0} a second", records as f64 / elapsed.as_secs_f64());
}

/// The corpus named by the environment, or unpacked from the archive beside the project into a temporary folder.
fn sqlite_corpus() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("SQLITE_CORPUS") {
        return Some(dir.into());
    }
    let archive = package_folder().join("../../shared/corpora/sqlite.tar.xz");
    if !archive.is_file() {
        return None;
    }
    let target = std::env::temp_dir().join("meridian-sqlite-corpus");
    std::fs::create_dir_all(&target).unwrap();
    let unpacked = std::process::Command::new("tar")
        .arg("xJf")
        .arg(&archive)
        .arg("-C")
        .arg(&target)
        .args((1..=4).map(|i| format!("sqlite-sqllogictest/test/select{i}.test")))
        .status()
        .unwrap();
    assert!(unpacked.success(), "cannot unpack {}", archive.display());
    Some(target.join("sqlite-sqllogictest/test"))
}

/// Prints what came of a spec's interleavings, and answers those that are wrong.
fn wrong(name: &str, reports: &[Report]) -> Vec<String> {
    let sum = |count: fn(&Report) -> usize| reports.iter().map(count).sum::<usize>();
    println!(
        "{name}: {} interleavings, {} steps waited, {} transactions committed, {} aborted",
        reports.len(),
        sum(|r| r.waited),
        sum(|r| r.committed),
        sum(|r| r.aborted)
    );
    let mut wrong = Vec::new();
    for report in reports {
        // The oldest transaction is never aborted for another: somebody gets to the end.
        let stopped = report.committed + report.given_up == 0;
        if report.verdict != Verdict::Serializable || stopped {
            wrong.push(format!("{name}: {}: {:?}\n{}", report.permutation, report.verdict, report.trace));
        }
    }
    wrong
}

/// The catalogue of isolation anomalies: no interleaving shows one, and the transactions did meet.
#[tokio::test]
async fn isolation_anomalies_do_not_occur() {
    let cluster = Cluster::start(ClusterKind::Demo, "isolation").await;
    let urls: Vec<String> = (0..3).map(|node| cluster.url(node)).collect();
    let files = files_in(&package_folder().join("isolation"), "spec");
    assert!(files.len() >= 20, "the specs are missing");
    let mut failures = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let spec = Spec::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for conflicts in [Conflicts::Shown, Conflicts::Hidden] {
            let reports = run_spec(&urls, &spec, conflicts).await.unwrap();
            assert_eq!(reports.len(), spec.interleavings(), "{name}: {:?}", reports[0].verdict);
            failures.extend(wrong(&name, &reports));
            assert!(reports.iter().any(|r| r.waited + r.aborted > 0), "{name}: nobody met anybody");
        }
    }
    failures.extend(postgresql_specs(&urls).await);
    let hermitage = corpus("isolation.tar.xz", "isolation/hermitage/postgres.md");
    let Some(document) = hermitage.map(|path| std::fs::read_to_string(path).unwrap()) else {
        println!("skipped: Hermitage's scripts are not here");
        return assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    };
    let scenarios = Spec::hermitage(&document);
    assert!(scenarios.len() >= 15, "only {} scenarios of Hermitage", scenarios.len());
    for (name, spec) in scenarios {
        for conflicts in [Conflicts::Shown, Conflicts::Hidden] {
            failures.extend(wrong(&name, &run_spec(&urls, &spec, conflicts).await.unwrap()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// PostgreSQL's own specs that concern SERIALIZABLE and locks, where they are: what is wrong.
async fn postgresql_specs(urls: &[String]) -> Vec<String> {
    const NAMES: [&str; 18] = [
        "deadlock-simple",
        "deadlock-soft",
        "insert-conflict-do-nothing",
        "insert-conflict-do-update",
        "multixact-no-deadlock",
        "multixact-no-forget",
        "nowait",
        "nowait-2",
        "nowait-3",
        "predicate-lock-hot-tuple",
        "read-only-anomaly",
        "read-only-anomaly-2",
        "read-write-unique",
        "serializable-parallel",
        "simple-write-skew",
        "skip-locked",
        "skip-locked-2",
        "total-cash",
    ];
    let Some(folder) = corpus("postgres15.tar.xz", "postgres15/isolation/specs") else {
        println!("skipped: PostgreSQL's isolation specs are not here");
        return Vec::new();
    };
    let mut failures = Vec::new();
    for name in NAMES {
        let text = std::fs::read_to_string(folder.join(name).with_extension("spec")).unwrap();
        let spec = Spec::parse(&text).unwrap();
        // A spec makes the tables that it uses, and knows of no others.
        clean(&urls[0]).await;
        let mut reports = run_spec(urls, &spec, Conflicts::Hidden).await.unwrap();
        assert_eq!(reports.len(), spec.interleavings(), "{name}: {:?}", reports[0].verdict);
        if name.starts_with("skip-locked") {
            // What a statement that skips rows answers is that of no order, and is not judged.
            assert!(reports.iter().any(|report| report.verdict == Verdict::NotJudged), "{name}");
            reports.retain(|report| report.verdict != Verdict::NotJudged);
        }
        failures.extend(wrong(name, &reports));
    }
    failures
}

/// A file of an archive in `shared/corpora` beside the project or above it, unpacked into a temporary folder; `None`
/// where the archive is not.
fn corpus(archive: &str, file: &str) -> Option<PathBuf> {
    let above = package_folder();
    let above = above.ancestors();
    let archive = above.map(|dir| dir.join("shared/corpora").join(archive)).find(|path| path.is_file())?;
    let target = std::env::temp_dir().join("meridian-corpora");
    std::fs::create_dir_all(&target).unwrap();
    let tar =
        std::process::Command::new("tar").arg("xJf").arg(&archive).arg("-C").arg(&target).arg(file).status();
    assert!(tar.unwrap().success(), "cannot unpack {}", archive.display());
    Some(target.join(file))
}
