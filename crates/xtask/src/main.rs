//! `cargo xtask`: everything that a developer of this project runs.
#![allow(clippy::print_stdout)] // a command-line tool talks to its terminal

mod arm;
mod bench;
mod debian;
mod demo;
mod modules;
mod npm;
mod process;
mod setup;
mod test;
mod tidy;
mod wasm;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Set-up, demo, tests, benchmarks, checks.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch what demo and tests need: models, the wasm32 target, tools
    Setup,
    /// Serve the default model with the page, and say what to open
    Demo(demo::DemoArgs),
    /// Run every check and every test
    Test(test::TestArgs),
    /// Build the browser's engine, the package and the page
    Wasm,
    /// Measure, side by side with llama.cpp where LLAMA_SERVER or LLAMA_SERVER_DIR names it
    Bench(bench::BenchArgs),
    /// Write a model file in another quantisation, made of its dequantised tensors: good enough to measure speed with
    Quantize(bench::QuantizeArgs),
    /// Record the conformance suite's expected values from the llama-server that LLAMA_SERVER names
    Record(test::RecordArgs),
    /// Check the arrows between the crates, file sizes and module heads
    Tidy,
}

fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Setup => setup::everything(),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Wasm => npm::everything(modules::Purpose::Shipping),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Quantize(arguments) => bench::quantize(&arguments),
        Task::Record(arguments) => test::record(&arguments),
        Task::Tidy => tidy::check(),
    }
}
