//! `cargo xtask test`: every check and every test, cheapest first.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::arm::{self, Neon};
use crate::modules::Purpose;
use crate::process::{self, cargo};
use crate::{npm, setup, tidy, wasm};

/// What is played in the browser, where each scenario costs seconds; the native run plays them all. A real model is too much
/// for a software adapter: a prompt of 60 tokens takes it minutes.
const BROWSER_SAMPLES: [(&str, &[&str]); 2] =
    [("browser-wasm", &["--every", "3"]), ("browser-webgpu", &["--every", "16", "--generated"])];

/// Options of the test run.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Leave out the browser: no wasm32 target, Node or Chromium on this machine
    #[arg(long)]
    no_browser: bool,
    /// Only the browser's part, with the programs that an earlier run built
    #[arg(long, conflicts_with = "no_browser")]
    only_browser: bool,
    /// Also what takes long: all scenarios in the browser instead of samples (half an hour for WebGPU on a software adapter,
    /// which compiles every page's shaders anew), and the lints of what only the browser or ARM compiles
    #[arg(long)]
    thorough: bool,
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
    npm::software_vulkan()?;
    let mut closing = Closing::default();
    if !arguments.only_browser {
        process::run(&mut cargo(["fmt", "--all", "--check"]))?;
        tidy::check()?;
        licences()?;
        native(&models, arguments.thorough, &mut closing)?;
    }
    if arguments.no_browser {
        println!("the browser was left out: --no-browser");
    } else {
        browser(&models, arguments.thorough, &mut closing)?;
    }
    closing.print();
    println!("all checks and tests passed");
    Ok(())
}

/// What runs on this machine without a browser.
fn native(models: &Path, thorough: bool, closing: &mut Closing) -> Result<()> {
    process::run(&mut cargo(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    // Tests that need a real model are ignored where there is none; here there is.
    let tests = ["test", "--workspace", "--locked", "--", "--include-ignored", "--show-output"];
    let text = process::tee(cargo(tests).env("REPRISE_MODELS", models))?;
    closing.rust("Rust tests", &text);
    closing.keep(&text, "op suite ");
    neon(thorough, closing)?;
    // With the tests once more: alone, the binaries would have other features, and all below them be built anew.
    process::run(&mut cargo(["build", "--workspace", "--bins", "--tests", "--locked"]))?;
    closing.conformance("native", &[], models)
}

/// The kernels for ARM.
fn neon(thorough: bool, closing: &mut Closing) -> Result<()> {
    match arm::neon()? {
        Neon::Native => {}
        Neon::Emulated(toolchain) => {
            if thorough {
                arm::clippy(&toolchain)?;
            }
            let text = process::tee(&mut arm::tests(&toolchain))?;
            ensure!(text.contains("NEON dotprod"), "the emulated processor has no dot products to test");
            closing.rust("Rust tests of `compute` on emulated ARM", &text);
            closing.keep(&text, "op suite ");
        }
        Neon::Missing(what) => {
            closing.0.push(format!("NEON kernels: not tested, this machine lacks {what}"));
        }
    }
    Ok(())
}

/// The engine in Node and in Chromium, the package, the page.
fn browser(models: &Path, thorough: bool, closing: &mut Closing) -> Result<()> {
    let chromium = npm::chromium()?;
    if thorough {
        wasm::clippy()?;
    }
    npm::everything(Purpose::Tests)?;
    npm::install("tests/bridge")?;
    let with_environment = |command: &mut Command| {
        command
            .env("REPRISE_MODELS", models)
            .env("REPRISE_SERVER", process::root().join("target/debug/reprise-server"))
            .env("REPRISE_FIXTURES", process::root().join("target/fixtures"))
            .env("CHROMIUM", &chromium);
    };
    process::run(&mut conformance(&["--write-fixtures", "target/fixtures"]))?;
    for (folder, script, name) in [
        ("web", "test", "npm tests"),
        ("web", "test:node", "Node import test"),
        ("web", "test:openai", "OpenAI client test"),
        ("www", "test", "tests of the page"),
    ] {
        let mut tests = npm::npm(folder, &["run", script]);
        with_environment(&mut tests);
        closing.node(name, &process::tee(&mut tests)?);
    }
    for (target, sample) in BROWSER_SAMPLES {
        closing.conformance(target, if thorough { &[] } else { sample }, models)?;
    }
    let mut tests = npm::npm("tests/bridge", &["test"]);
    with_environment(&mut tests);
    let text = process::tee(&mut tests)?;
    closing.keep(&text, "op suite ");
    closing.node("browser tests", &text);
    Ok(())
}

/// The runners' closing lines, told again at the end of the run.
#[derive(Default)]
struct Closing(Vec<String>);

impl Closing {
    /// Sums up the test binaries of `cargo test`.
    fn rust(&mut self, name: &str, text: &str) {
        let passed = text.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
        let passed: usize = passed.filter_map(|rest| rest.split(' ').next()?.parse::<usize>().ok()).sum();
        self.0.push(format!("{name}: {passed} passed"));
    }

    /// Node's test runner closes with `# pass 12` or `ℹ pass 12`.
    fn node(&mut self, name: &str, text: &str) {
        let counts = text.lines().map(|line| line.trim_start_matches(['#', 'ℹ', ' ']));
        let counts: Vec<_> = counts
            .filter(|line| ["pass ", "fail ", "skipped "].iter().any(|c| line.starts_with(c)))
            .collect();
        self.0.push(format!("{name}: {}", counts.join(", ")));
    }

    /// Keeps the lines that hold `mark`.
    fn keep(&mut self, text: &str, mark: &str) {
        let lines = text.lines().filter_map(|line| line.find(mark).map(|at| line[at..].trim().to_owned()));
        self.0.extend(lines);
    }

    /// Runs the suite against a target.
    fn conformance(&mut self, target: &str, arguments: &[&str], models: &Path) -> Result<()> {
        let mut run = conformance(&["--target", target]);
        let text = process::tee(run.args(arguments).env("REPRISE_MODELS", models))?;
        let lines: Vec<_> = text.lines().rev().take(2).collect();
        self.0.push(format!(
            "conformance {target}: {}",
            lines.into_iter().rev().collect::<Vec<_>>().join("; ")
        ));
        Ok(())
    }

    fn print(&self) {
        println!("\nclosing lines:");
        for line in &self.0 {
            println!("  {line}");
        }
    }
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
    // The check stays offline, and reads every package of the lock file, other platforms' too: they must be there.
    process::run(&mut cargo(["fetch", "--locked"]))?;
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
