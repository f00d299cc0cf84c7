//! `cargo xtask bench`: measured side by side, reported as ratios.

mod agreement;
mod browser;
mod client;
mod cpu;
mod http;
mod servers;
mod stats;

use std::path::PathBuf;

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
    /// The kernels on model files, against llama-bench where LLAMA_SERVER_DIR has one
    #[arg(long)]
    cpu: bool,
    /// With --cpu, only files whose name contains one of these: `--model q8_0,gemma`
    #[arg(long, value_delimiter = ',')]
    model: Vec<String>,
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

/// Options of `cargo xtask quantize`.
#[derive(Args)]
pub(crate) struct QuantizeArgs {
    /// The file to read
    source: PathBuf,
    /// f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k or q6_k
    quantisation: String,
    /// The file to write
    target: PathBuf,
}

/// Writes a model file in another quantisation.
pub(crate) fn quantize(arguments: &QuantizeArgs) -> Result<()> {
    let absolute = |path: &PathBuf| std::path::absolute(path);
    cpu::quantize(&absolute(&arguments.source)?, &arguments.quantisation, &absolute(&arguments.target)?)
}

/// Runs what was asked for.
pub(crate) fn run(arguments: &BenchArgs) -> Result<()> {
    if !(arguments.http || arguments.agreement || arguments.browser || arguments.cpu) {
        bail!("say what to measure: --cpu, --http, --agreement, --browser");
    }
    let threads = arguments.threads.max(1);
    if arguments.browser {
        browser::run(arguments.rounds.max(1), threads)?;
    }
    if arguments.cpu {
        cpu::run(arguments.rounds.max(1), threads, &arguments.model)?;
    }
    if arguments.agreement {
        agreement::run(threads)?;
    }
    if arguments.http {
        http::run(arguments.rounds.max(1), threads)?;
    }
    Ok(())
}
