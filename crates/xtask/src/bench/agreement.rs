//! Whole-model agreement with llama.cpp on a text, per quantisation: KL divergence of the next token's distribution, perplexity.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::cpu::models;
use super::peer::Peer;
use crate::process;

/// What is read, one behind the other: English, and code.
const TEXTS: [&str; 4] =
    ["README.md", "crates/compute/src/backend.rs", "crates/README.md", "crates/compute/NOTES.md"];
/// Tokens that a model sees at once; those of the second half are compared.
const CONTEXT: usize = 1024;
const CHUNKS: usize = 4;

/// One row of the table.
struct Row {
    positions: String,
    other: &'static str,
    mean: f64,
    same_top: f64,
    perplexities: [f64; 2],
}

/// Compares ours with llama.cpp as it comes and, as the yardstick, llama.cpp with itself without flash attention.
pub(super) fn run(threads: usize, only: &[String], peer: Option<&Peer>) -> Result<()> {
    let program = peer.and_then(|peer| peer.program("llama-perplexity"));
    let program = program.context(
        "--agreement compares with llama-perplexity: set LLAMA_SERVER_DIR to a folder that has it, or add --peer",
    )?;
    let ours = process::release_example("reprise-model", "agreement")?;
    // The distributions of a large vocabulary are a gigabyte: not for a temporary folder in memory.
    let folder = tempfile::tempdir_in(models::folder()?)?;
    let (text, base) = (folder.path().join("text"), folder.path().join("base"));
    fs::write(&text, texts()?)?;
    println!("KL(llama.cpp || other) in nats, in the second half of {CHUNKS} chunks of {CONTEXT} tokens of");
    println!("{}; {threads} threads\n", TEXTS.join(", "));
    println!(
        "| file | positions | other | mean KL | same top-1 | perplexity, llama.cpp | perplexity, other |"
    );
    println!("| --- | ---: | --- | ---: | ---: | ---: | ---: |");
    for model in models::trained(only)? {
        let theirs = Theirs { program: &program, model: &model, text: &text, base: &base, threads };
        let perplexity = figure(&theirs.run(&[])?, "Final estimate: PPL =")?;
        let mut command = Command::new(&ours);
        let found = process::output(command.arg(&model).arg(&base).arg(threads.to_string()))?;
        let positions = figure(&found, "positions")?;
        let row = |other, mean, same_top, ppl| Row {
            positions: positions.to_string(),
            other,
            mean,
            same_top,
            perplexities: [perplexity, ppl],
        };
        let name = models::name(&model);
        let same_top = 100.0 * figure(&found, "same_top")?;
        row("reprise", figure(&found, "mean_kl")?, same_top, figure(&found, "perplexity")?).print(&name);
        let found = theirs.run(&["--kl-divergence", "-fa", "off"])?;
        let same_top = figure(&found, "Same top p:")?;
        row("llama.cpp -fa off", figure(&found, "Mean    KLD:")?, same_top, figure(&found, "Mean PPL(Q)")?)
            .print(&name);
    }
    Ok(())
}

impl Row {
    fn print(&self, model: &str) {
        let Self { positions, other, mean, same_top, perplexities: [theirs, others] } = self;
        println!(
            "| {model} | {positions} | {other} | {mean:.2e} | {same_top:.1} % | {theirs:.4} | {others:.4} |"
        );
    }
}

/// llama-perplexity on a model and a text.
struct Theirs<'a> {
    program: &'a Path,
    model: &'a Path,
    text: &'a Path,
    /// Where the distributions are written to, or read from with `--kl-divergence`.
    base: &'a Path,
    threads: usize,
}

impl Theirs<'_> {
    fn run(&self, flags: &[&str]) -> Result<String> {
        let mut command = Command::new(self.program);
        command.arg("-m").arg(self.model).arg("-f").arg(self.text).arg("--kl-divergence-base").arg(self.base);
        let [context, chunks, threads] = [CONTEXT, CHUNKS, self.threads].map(|number| number.to_string());
        command.args(["-c", &context, "-b", &context, "--chunks", &chunks, "-t", &threads]).args(flags);
        process::output_of_both(&mut command)
    }
}

fn texts() -> Result<String> {
    let read = |file: &&str| {
        let path = process::root().join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read '{}'", path.display()))
    };
    TEXTS.iter().map(read).collect()
}

/// The first number behind `name`.
fn figure(text: &str, name: &str) -> Result<f64> {
    let rest = text.split_once(name).map(|(_, rest)| rest);
    let number = rest.and_then(|rest| {
        rest.split(|c: char| c.is_whitespace() || c == ':').find(|word| !word.is_empty())?.parse().ok()
    });
    number.with_context(|| format!("no '{name}' in\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_behind_their_names() {
        let text = "Final estimate: PPL = 12.3456 +/- 0.5\nMean PPL(Q)                   :  11.500000 ±   0.6\nmean_kl 1.5e-4\n";
        assert_eq!(figure(text, "Final estimate: PPL =").unwrap(), 12.3456);
        assert_eq!(figure(text, "Mean PPL(Q)").unwrap(), 11.5);
        assert_eq!(figure(text, "mean_kl").unwrap(), 1.5e-4);
        assert!(figure(text, "same_top").is_err());
    }
}
