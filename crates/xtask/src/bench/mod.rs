//! `cargo xtask bench`: measured side by side, reported as ratios.

mod client;
mod http;
mod servers;
mod stats;

use anyhow::{Result, bail};
use clap::Args;

/// Options of the benchmarks.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// The servers over HTTP: TTFT, decoding, clients, slot files
    #[arg(long)]
    http: bool,
    /// Rounds; each measures every server once, in turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Threads of each server
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Runs what was asked for.
pub(crate) fn run(arguments: &BenchArgs) -> Result<()> {
    if !arguments.http {
        bail!("say what to measure: --http");
    }
    http::run(arguments.rounds.max(1), arguments.threads.max(1))
}
