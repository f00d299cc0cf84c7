//! `cargo xtask bench`: measured side by side, reported as ratios.

mod agreement;
mod browser;
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
    /// The next token's distribution against that of LLAMA_SERVER, over the whole vocabulary
    #[arg(long)]
    agreement: bool,
    /// The package in Chromium against wllama, and against llama-bench where LLAMA_SERVER_DIR has one
    #[arg(long)]
    browser: bool,
    /// Rounds; each measures every server once, in turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Threads of each server, or of each engine in the browser
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Runs what was asked for.
pub(crate) fn run(arguments: &BenchArgs) -> Result<()> {
    if !arguments.http && !arguments.agreement && !arguments.browser {
        bail!("say what to measure: --http, --agreement, --browser");
    }
    let threads = arguments.threads.max(1);
    if arguments.browser {
        browser::run(arguments.rounds.max(1), threads)?;
    }
    if arguments.agreement {
        agreement::run(threads)?;
    }
    if arguments.http {
        http::run(arguments.rounds.max(1), threads)?;
    }
    Ok(())
}
