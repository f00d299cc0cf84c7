//! `cargo run -p conformance -- --target native|browser-wasm|browser-webgpu|llama-server`: runs the suite, or records it.
#![allow(clippy::print_stdout)] // a command-line tool talks to its terminal

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use conformance::fixtures;
use conformance::suite::{Hosts, Outcome, Scenario, Target, is_generated, run};

/// Holds a host to what llama-server does.
#[derive(Parser)]
struct Cli {
    /// Who answers
    #[arg(long, value_enum, default_value = "native")]
    target: TargetArg,
    /// Record the expected values (from llama-server only)
    #[arg(long)]
    record: bool,
    /// Scenarios that run at the same time [default: 1, in a browser 2]
    #[arg(long)]
    jobs: Option<usize>,
    /// Play only every so manyth scenario, the first included: a host that takes long is sampled
    #[arg(long, value_name = "N", default_value_t = 1)]
    every: usize,
    /// Only scenarios whose models are generated: for hosts that a real one is too much for
    #[arg(long)]
    generated: bool,
    /// Write the generated models into this folder, and run nothing
    #[arg(long, value_name = "DIR")]
    write_fixtures: Option<PathBuf>,
    /// Scenarios whose names contain one of these; all when none is given
    names: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum TargetArg {
    Native,
    #[value(name = "browser-webgpu")]
    BrowserWebGpu,
    BrowserWasm,
    LlamaServer,
}

impl From<TargetArg> for Target {
    fn from(argument: TargetArg) -> Self {
        match argument {
            TargetArg::Native => Self::Native,
            TargetArg::BrowserWebGpu => Self::BrowserWebGpu,
            TargetArg::BrowserWasm => Self::BrowserWasm,
            TargetArg::LlamaServer => Self::LlamaServer,
        }
    }
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(folder) = &cli.write_fixtures {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make '{}'", folder.display()))?;
        fixtures::write_all(folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    let target = Target::from(cli.target);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut scenarios = Scenario::load_all(&root.join("scenarios"))?;
    scenarios
        .retain(|scenario| cli.names.is_empty() || cli.names.iter().any(|name| scenario.name.contains(name)));
    ensure!(!scenarios.is_empty(), "no scenario has such a name");
    let fixtures = tempfile::tempdir()?;
    fixtures::write_all(fixtures.path())?;
    scenarios.retain(|scenario| !cli.generated || is_generated(&scenario.model, fixtures.path()));
    let scenarios: Vec<_> = scenarios.into_iter().step_by(cli.every.max(1)).collect();

    let begin = Instant::now();
    // A page spends part of its time on starting and on waiting for the browser's other processes.
    let jobs =
        cli.jobs.unwrap_or(if matches!(target, Target::BrowserWasm | Target::BrowserWebGpu) { 2 } else { 1 });
    let hosts = Hosts::open(target, jobs)?;
    let mut count = Count::default();
    in_order(
        scenarios.len(),
        jobs,
        |at| play(&scenarios[at], &hosts, fixtures.path(), cli.record),
        |at, outcome| count.add(&scenarios[at], outcome),
    );
    println!("conformance, target {}, {} s:", target.name(), begin.elapsed().as_secs());
    let Count { passed, known, failed, skipped } = count;
    println!("known failures: {known}");
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn play(scenario: &Scenario, hosts: &Hosts, fixtures: &Path, recording: bool) -> Outcome {
    run(scenario, hosts, fixtures, recording)
        .unwrap_or_else(|error| Outcome::Failed(vec![format!("{error:#}")]))
}

/// Does `count` pieces of work, some at the same time, and hands over their results in order, as early as that allows.
fn in_order<T: Send>(
    count: usize,
    jobs: usize,
    work: impl Fn(usize) -> T + Sync,
    mut done: impl FnMut(usize, T),
) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (results, finished) = mpsc::channel();
        for _ in 0..jobs.max(1) {
            let (results, next, work) = (results.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    // The receiver lives as long as this scope.
                    if at >= count || results.send((at, work(at))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(results);
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for (at, result) in finished {
            early.insert(at, result);
            while let Some(result) = early.remove(&due) {
                done(due, result);
                due += 1;
            }
        }
    });
}

#[derive(Default)]
struct Count {
    passed: usize,
    known: usize,
    failed: usize,
    skipped: usize,
}

impl Count {
    fn add(&mut self, scenario: &Scenario, outcome: Outcome) {
        let (name, note) =
            (&scenario.name, scenario.difference.as_ref().map_or("", |_| " (deliberate difference)"));
        match outcome {
            Outcome::Passed => println!("ok        {name}{note}"),
            Outcome::Recorded => println!("recorded  {name}"),
            Outcome::KnownFailure(why) => {
                println!("known     {name}: {why}");
                self.known += 1;
                return;
            }
            Outcome::Skipped(why) => {
                println!("skipped   {name}: {why}");
                self.skipped += 1;
                return;
            }
            Outcome::Failed(faults) => {
                println!("FAILED    {name}: {}\n          {}", scenario.summary, faults.join("\n          "));
                self.failed += 1;
                return;
            }
        }
        self.passed += 1;
    }
}
