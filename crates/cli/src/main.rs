//! The `meridian` binary: command line, configuration file, logging. Everything else is in `meridian-server`.

mod args;
mod config;
mod logging;
mod proof;
mod sim;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use meridian_server::ServerError;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::args::{Cli, Command, NodeCommand};

/// Small allocations dominate a database's request path; mimalloc makes them cheaper than the system allocator does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stack of a thread that serves SQL. Plans are run and dropped by recursion, and the planner's limits of nesting and of
/// chains are set so that the deepest plan it lets through needs less than half of this. Memory is taken when it is used.
const SQL_STACK: usize = 128 << 20;

/// Replication recurses into nothing that a client has sent.
const REPLICATION_STACK: usize = 2 << 20;

/// How long tasks may take to end at the exit.
const EXIT_WITHIN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args = match config::expand(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(error) => return fail(&error.to_string()),
    };
    let cli = Cli::parse_from(args);
    logging::start(&cli);
    // It has one thread and its own time.
    if let Command::Sim(args) = cli.command {
        return sim::sim(&args.into());
    }
    let runtimes = threads("meridian", sql_workers(), SQL_STACK)
        .and_then(|sql| Ok((sql, threads("replication", 1, REPLICATION_STACK)?)));
    let (sql, replication) = match runtimes {
        Ok(runtimes) => runtimes,
        Err(error) => return fail(&format!("cannot start threads: {error}")),
    };
    let result = match cli.command {
        Command::Check(args) => return proof::check(&args),
        Command::Workload(args) => return sql.block_on(proof::workload(args.step)),
        command => sql.block_on(run(command, replication.handle())),
    };
    // Connections of clients that never leave must not hold up the exit.
    sql.shutdown_timeout(EXIT_WITHIN);
    replication.shutdown_timeout(EXIT_WITHIN);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// The rest of the cores is for replication, the log, the engine and the kernel. A session's work is short and mostly
/// waits: with a worker per core they would mainly wake each other.
fn sql_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

fn threads(name: &str, workers: usize, stack: usize) -> std::io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers).thread_stack_size(stack).enable_all().thread_name(name).build()
}

async fn run(command: Command, replication: &Handle) -> Result<(), ServerError> {
    match command {
        Command::Demo(args) => meridian_server::demo(args.into(), replication).await,
        Command::Start(args) => meridian_server::start(args.try_into()?, replication).await,
        Command::Init(args) => meridian_server::init(&args.into()).await,
        Command::TimeMaster(args) => meridian_server::time_master(args.into()).await,
        Command::Node(NodeCommand::List(args)) => meridian_server::node_list(&args.into()).await,
        Command::Node(NodeCommand::Drain(args)) => meridian_server::node_drain(&args.into()).await,
        Command::Node(NodeCommand::Decommission(args)) => {
            meridian_server::node_decommission(&args.target.into(), args.node).await
        }
        Command::Status(args) => meridian_server::status(&args.target.into(), args.json).await,
        Command::Sim(_) => unreachable!("it needs no runtime, and was run without"),
        Command::Check(_) | Command::Workload(_) => unreachable!("they end with a status of their own"),
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
