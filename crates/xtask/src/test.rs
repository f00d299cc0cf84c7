//! `cargo xtask test`: every check and every test, cheapest first.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::process::{self, cargo};
use crate::{setup, tidy, wasm};

/// Options of the test run.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Leave out the wasm32 check (no target on this machine)
    #[arg(long)]
    no_wasm: bool,
}

/// Options of the recorder.
#[derive(Args)]
pub(crate) struct RecordArgs {
    /// Scenarios to record; all when none is named
    scenarios: Vec<String>,
}

/// Everything that must pass before a change lands.
pub(crate) fn run(arguments: &TestArgs) -> Result<()> {
    let models = setup::models()?;
    process::run(&mut cargo(["fmt", "--all", "--check"]))?;
    tidy::check()?;
    licences()?;
    process::run(&mut cargo(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    process::run(
        // Tests that need a real model are ignored where there is none; here there is.
        cargo(["test", "--workspace", "--locked", "--", "--include-ignored"]).env("REPRISE_MODELS", &models),
    )?;
    // The whole workspace, as above: a part of it would have other features, and be built anew.
    process::run(&mut cargo(["build", "--workspace", "--locked"]))?;
    process::run(conformance(&["--target", "native"]).env("REPRISE_MODELS", &models))?;
    if arguments.no_wasm {
        println!("wasm32 check left out");
    } else {
        wasm::check()?;
    }
    println!("all checks and tests passed");
    Ok(())
}

/// Records the conformance suite's expected values; only ever from llama-server.
pub(crate) fn record(arguments: &RecordArgs) -> Result<()> {
    let server = std::env::var_os("LLAMA_SERVER").context("LLAMA_SERVER must name a llama-server binary")?;
    ensure!(PathBuf::from(&server).is_file(), "LLAMA_SERVER does not name a file");
    let models = setup::models()?;
    process::run(&mut cargo(["build", "--workspace", "--locked"]))?;
    process::run(
        conformance(&["--target", "llama-server", "--record"])
            .args(&arguments.scenarios)
            .env("REPRISE_MODELS", &models),
    )
}

fn conformance(arguments: &[&str]) -> Command {
    let mut command = Command::new(process::root().join("target/debug/conformance"));
    command.args(arguments);
    command
}

/// Licences, sources and bans; advisories where their database can be had.
fn licences() -> Result<()> {
    let tool = setup::cargo_deny()?;
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&tool);
        command.args(arguments);
        command
    };
    process::run(&mut deny(&["--offline", "check", "licenses", "bans", "sources"]))?;
    if std::env::var_os("REPRISE_NO_ADVISORIES").is_some() {
        println!("advisories were not checked: REPRISE_NO_ADVISORIES is set");
        return Ok(());
    }
    if let Err(error) = process::output(&mut deny(&["fetch", "db"])) {
        println!("advisories were not checked, their database cannot be had from here: {error:#}");
        return Ok(());
    }
    process::run(&mut deny(&["--offline", "check", "advisories"]))
}
