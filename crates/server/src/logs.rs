//! Log lines on stderr, at llama-server's verbosity levels.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::cli::LogArgs;

/// Starts logging; `RUST_LOG` refines what the flags say.
pub(crate) fn start(arguments: &LogArgs) {
    let level = match arguments.verbosity {
        _ if arguments.log_disable => LevelFilter::ERROR,
        _ if arguments.verbose => LevelFilter::TRACE,
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
