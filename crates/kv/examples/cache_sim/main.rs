//! How much of their prompts a prompt cache finds, under this and other eviction policies, and how far from the best
//! possible that is.
//!
//! `cargo run --release -p reprise-kv --example cache_sim` prints a Markdown table and whether the targets are met; it
//! fails if they are not. `-- tune` runs on the seeds that the policy's constants were chosen on instead of those kept
//! back for the report.
#![allow(clippy::print_stdout, reason = "a program that prints a table")]

mod belady;
mod chat;
mod real;
mod report;
mod rivals;
mod tree;
mod whole;
mod workloads;

/// The policy that ships, compiled once more: it is private to the crate.
#[allow(dead_code, reason = "the simulator has no queue and no disk")]
#[path = "../../src/policy/mod.rs"]
mod policy;

use std::process::ExitCode;

use report::Report;
use workloads::Request;

/// Memory: ten prompts of the usual length, in blocks.
const CAPACITY: usize = 10 * workloads::PROMPT_BLOCKS;
/// Requests per workload and seed.
const REQUESTS: usize = 2000;
const HELD_OUT_SEEDS: std::ops::Range<u64> = 1..11;
const TUNING_SEEDS: std::ops::Range<u64> = 101..111;

/// A cache under test.
trait Contender {
    /// Takes a request and its answer; gives the leading blocks of the prompt that it held before.
    fn serve(&mut self, request: &Request) -> usize;
}

fn main() -> ExitCode {
    let tune = std::env::args().any(|argument| argument == "tune");
    let mut report = Report::default();
    for workload in workloads::all() {
        for seed in if tune { TUNING_SEEDS } else { HELD_OUT_SEEDS } {
            let requests = workload.requests(seed, REQUESTS);
            for (column, mut contender) in rivals::all(&requests).into_iter().enumerate() {
                let found = requests.iter().map(|request| contender.serve(request));
                report.add(&workload, column, requests.iter().zip(found));
            }
        }
    }
    println!("{report}");
    if report.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
