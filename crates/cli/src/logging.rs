//! Logs go to standard error; standard output is for what was asked for.

use tracing_subscriber::EnvFilter;

use crate::args::Cli;

/// Starts logging. A filter that can't be parsed is reported and replaced by `warn`.
pub(crate) fn start(cli: &Cli) {
    let filter = EnvFilter::try_new(&cli.log).unwrap_or_else(|error| {
        eprintln!("meridian: log filter '{}' is ignored: {error}", cli.log);
        EnvFilter::new("warn")
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_format.as_str() {
        "json" => builder.json().init(),
        _ => builder.init(),
    }
}
