//! `cargo xtask bench`: measured side by side, reported as ratios.

mod agreement;
mod browser;
mod cache;
mod client;
mod cpu;
mod http;
mod peer;
mod servers;
mod stats;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use peer::Peer;

use crate::process::{self, cargo};

/// Options of the benchmarks.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// The servers over HTTP: TTFT, decoding, clients, slot files; against LLAMA_SERVER, or LLAMA_SERVER_DIR's llama-server
    #[arg(long)]
    http: bool,
    /// KL divergence and perplexity per quantisation, against llama-perplexity
    #[arg(long)]
    agreement: bool,
    /// The kernels on model files, of the machine's roof too; servers' start, first token and memory; against llama.cpp's
    /// programs where LLAMA_SERVER_DIR has them
    #[arg(long)]
    cpu: bool,
    /// Build llama.cpp into the cache where there is no LLAMA_SERVER_DIR; takes some 20 minutes, once
    #[arg(long)]
    peer: bool,
    /// With --cpu and --agreement, only files whose name contains one of these: `--model q8_0,gemma`
    #[arg(long, value_delimiter = ',')]
    model: Vec<String>,
    /// With --cpu, only these figures
    #[arg(long, value_enum, value_delimiter = ',')]
    figures: Vec<cpu::Figures>,
    /// The package in Chromium against wllama, and against llama-bench where LLAMA_SERVER_DIR has one
    #[arg(long)]
    browser: bool,
    /// What the prompt cache saves, in slots, in memory and on disk, and what it costs; against llama-server as with --http
    #[arg(long)]
    cache: bool,
    /// With --cache, only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<cache::Part>,
    /// The eviction policy on made-up histories of requests, against others and the best possible; needs no model
    #[arg(long)]
    cache_sim: bool,
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
    let (source, target) = (absolute(&arguments.source)?, absolute(&arguments.target)?);
    cpu::models::make("quantize", &source, &arguments.quantisation, &target)
}

/// Runs what was asked for.
pub(crate) fn run(arguments: &BenchArgs) -> Result<()> {
    let BenchArgs { http, agreement, cpu, browser, cache, cache_sim, .. } = *arguments;
    if !(http || agreement || cpu || browser || cache || cache_sim) {
        bail!("say what to measure: --cpu, --http, --agreement, --browser, --cache, --cache-sim");
    }
    if arguments.cache_sim {
        process::run(&mut cargo(["run", "--release", "-p", "reprise-kv", "--example", "cache_sim"]))?;
    }
    let (rounds, threads) = (arguments.rounds.max(1), arguments.threads.max(1));
    if arguments.browser {
        browser::run(rounds, threads)?;
    }
    if arguments.cpu || arguments.agreement {
        let peer = Peer::find(arguments.peer)?;
        if arguments.cpu {
            let (only, figures) = (arguments.model.clone(), arguments.figures.clone());
            cpu::run(&cpu::Options { rounds, threads, only, figures }, peer.as_ref())?;
        }
        if arguments.agreement {
            agreement::run(threads, &arguments.model, peer.as_ref())?;
        }
    }
    if arguments.cache {
        cache::run(&arguments.part, rounds, threads, peer::server(arguments.peer)?)?;
    }
    if arguments.http {
        http::run(rounds, threads, peer::server(arguments.peer)?)?;
    }
    Ok(())
}
