//! `check` and `workload`: whether what clients saw can be explained. Their status says so: 0 when it can, 1 when not
//! or when it could not be found out, 2 for a history that is none.

use std::fs::File;
use std::io::BufWriter;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use meridian_history::History;
use meridian_workload::{Counts, Options, Recorder, Summary, WorkloadError, places};

use crate::args::{CheckArgs, WorkloadRun, WorkloadStep, WorkloadTarget};

fn complain(message: &str, status: u8) -> ExitCode {
    eprintln!("meridian: {message}");
    ExitCode::from(status)
}

/// `meridian check FILE`.
pub(crate) fn check(args: &CheckArgs) -> ExitCode {
    let path = args.file.display();
    let text = match std::fs::read(&args.file) {
        Ok(text) => text,
        Err(error) => return complain(&format!("cannot read {path}: {error}"), 2),
    };
    let history = match History::parse(&text) {
        Ok(history) => history,
        Err(error) => return complain(&format!("{path}: {error}"), 2),
    };
    match meridian_history::check(&history) {
        Err(error) => complain(&format!("{path}: {error}"), 2),
        Ok(report) if report.is_valid() => {
            println!("valid: {}", report.summary());
            ExitCode::SUCCESS
        }
        Ok(report) => {
            println!("NOT strictly serializable: {}\n\n{}", report.summary(), report.explanation());
            ExitCode::from(1)
        }
    }
}

/// `meridian workload init|run`.
pub(crate) async fn workload(step: WorkloadStep) -> ExitCode {
    let result = match step {
        WorkloadStep::Init(target) => init(&target).await.map(|()| true),
        WorkloadStep::Run(run) => run_workload(run).await.map(|summary| summary.violations.is_empty()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => complain(&error.to_string(), 1),
    }
}

async fn init(target: &WorkloadTarget) -> Result<(), WorkloadError> {
    let workload =
        meridian_workload::by_name(&target.name).expect("the name was checked with the command line");
    meridian_workload::setup(workload.as_ref(), &places(&target.url)).await
}

async fn run_workload(run: WorkloadRun) -> Result<Summary, WorkloadError> {
    let workload =
        meridian_workload::by_name(&run.target.name).expect("the name was checked with the command line");
    let recorder = match &run.history {
        None => None,
        Some(path) => {
            let file = File::create(path).map_err(|error| WorkloadError::History { error })?;
            Some(Recorder::new(Box::new(BufWriter::new(file))))
        }
    };
    let options =
        Options { places: places(&run.target.url), clients: run.clients, seed: run.seed, limit: run.limit };
    let running = meridian_workload::start(workload, options, recorder);
    let began = Instant::now();
    let mut before = Counts::default();
    while began.elapsed() < run.duration {
        let left = run.duration.saturating_sub(began.elapsed());
        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
        println!("{}", running.progress(&mut before));
    }
    let summary = running.finish().await?;
    println!("\n{summary}");
    Ok(summary)
}
