//! The `meridian` binary: command line, configuration file, logging. Everything else is in `meridian-server`.

mod args;
mod config;
mod logging;

use std::process::ExitCode;

use clap::Parser;
use meridian_server::ServerError;

use crate::args::{Cli, Command};

/// Small allocations dominate a database's request path; mimalloc makes them cheaper than the system allocator does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = match config::expand(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(error) => return fail(&error.to_string()),
    };
    let cli = Cli::parse_from(args);
    logging::start(&cli);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("meridian").build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start threads: {error}")),
    };
    let result = runtime.block_on(run(cli.command));
    // Connections of clients that never leave must not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

async fn run(command: Command) -> Result<(), ServerError> {
    match command {
        Command::Demo(args) => meridian_server::demo(args.into()).await,
        Command::Start(args) => meridian_server::start(args.try_into()?).await,
        Command::Init(args) => meridian_server::init(&args.host).await,
        Command::TimeMaster(args) => meridian_server::time_master(args.into()).await,
        Command::Status(args) => meridian_server::status(&args.host, args.json).await,
        Command::Version => {
            println!("meridian {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("meridian: {message}");
    ExitCode::from(1)
}
