//! Runs sqllogictest files against any server that speaks the Postgres protocol, or records their expected output.
//!
//! ```text
//! slt run    'host=127.0.0.1 port=15432 user=root dbname=defaultdb' FILE...
//! slt record 'host=127.0.0.1 port=5432 user=postgres dbname=postgres' FILE...
//! ```
//! `record` is how the files in `sql-tests/sql` got their answers: from PostgreSQL 15.

#![allow(clippy::unwrap_used, reason = "a developer's tool")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use meridian_sql_tests::{SltClient, run_file};
use sqllogictest::Runner;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, url, files @ ..] = args.as_slice() else {
        eprintln!("usage: slt run|record URL FILE...");
        return ExitCode::from(2);
    };
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
