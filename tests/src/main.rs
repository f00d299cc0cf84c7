//! `cargo run -p conformance -- --target native|llama-server`: runs the suite, or records it.
#![allow(clippy::print_stdout)] // a command-line tool talks to its terminal

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use conformance::fixtures;
use conformance::suite::{Outcome, Scenario, Target, run};

/// Holds a server to what llama-server does.
#[derive(Parser)]
struct Cli {
    /// Who answers
    #[arg(long, value_enum, default_value = "native")]
    target: TargetArg,
    /// Record the expected values (from llama-server only)
    #[arg(long)]
    record: bool,
    /// Scenarios whose names contain one of these; all when none is given
    names: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum TargetArg {
    Native,
    LlamaServer,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let target = match cli.target {
        TargetArg::Native => Target::Native,
        TargetArg::LlamaServer => Target::LlamaServer,
    };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut scenarios = Scenario::load_all(&root.join("scenarios"))?;
    scenarios
        .retain(|scenario| cli.names.is_empty() || cli.names.iter().any(|name| scenario.name.contains(name)));
    ensure!(!scenarios.is_empty(), "no scenario has such a name");
    let fixtures = tempfile::tempdir()?;
    fixtures::write_all(fixtures.path())?;

    let mut count = Count::default();
    for scenario in &scenarios {
        count.add(scenario, play(scenario, target, fixtures.path(), cli.record));
    }
    println!("conformance, target {}:", if target == Target::Native { "native" } else { "llama-server" });
    let Count { passed, known, failed, skipped } = count;
    println!("known failures: {known}");
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn play(scenario: &Scenario, target: Target, fixtures: &Path, recording: bool) -> Outcome {
    run(scenario, target, fixtures, recording)
        .unwrap_or_else(|error| Outcome::Failed(vec![format!("{error:#}")]))
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
