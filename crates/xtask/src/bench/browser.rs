//! The package in Chromium, side by side with wllama: builds what is needed and leaves the timing to the pages.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::modules::Purpose;
use crate::{npm, process, setup};

/// Prints a table of medians and ratios.
pub(crate) fn run(rounds: usize, threads: usize) -> Result<()> {
    let model = setup::default_model()?;
    npm::everything(Purpose::Shipping)?;
    npm::install("tests/bench")?;
    let mut bench = Command::new("node");
    bench.arg("tests/bench/bench.mjs").arg("--model").arg(model);
    bench.args(["--rounds", &rounds.to_string(), "--threads", &threads.to_string()]);
    if let Some(folder) = std::env::var_os("LLAMA_SERVER_DIR") {
        bench.arg("--llama-bench").arg(PathBuf::from(folder).join("llama-bench"));
    }
    process::run(bench.env("CHROMIUM", npm::chromium()?))
}
