//! The kernels on model files against llama-bench, in turns.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::stats::{Better, Figure, median};
use crate::{process, setup};

/// Quantisations that are made of the default model, besides the one it comes in.
const QUANTISATIONS: [&str; 6] = ["q4_0", "q5_0", "q5_1", "q8_0", "f16", "bf16"];
/// Prompt tokens, generated tokens and the depth they are measured at.
const TESTS: [(usize, usize, usize); 3] = [(512, 128, 0), (2048, 0, 0), (0, 128, 2048)];

/// Measures ours and, when `LLAMA_SERVER_DIR` has a `llama-bench`, that, in turn in every round.
pub(super) fn run(rounds: usize, threads: usize, only: &[String]) -> Result<()> {
    let build = ["build", "--release", "--locked", "-p", "reprise-model", "--example", "bench"];
    process::run(&mut process::cargo(build))?;
    let bench = process::root().join("target/release/examples/bench");
    let peer = match std::env::var_os("LLAMA_SERVER_DIR") {
        Some(folder) => {
            let peer = PathBuf::from(folder).join("llama-bench");
            ensure!(peer.is_file(), "LLAMA_SERVER_DIR has no llama-bench");
            Some(peer)
        }
        None => None,
    };
    println!(
        "{threads} threads, medians of {rounds} interleaved rounds, tokens/s; llama-bench with the better of -fa 0 and 1;\n\
         ratio: how many times faster ours is, median of the rounds' ratios\n"
    );
    println!("| file | figure | reprise | llama.cpp | ratio | load |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for model in models()? {
        let name = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !only.is_empty() && !only.iter().any(|wanted| name.to_lowercase().contains(&wanted.to_lowercase()))
        {
            continue;
        }
        for (prompt, generated, depth) in TESTS {
            let mut figures = [Figure::default(), Figure::default()];
            for _ in 0..rounds {
                let ours = ours(&bench, &model, threads, (prompt, generated, depth))?;
                let theirs =
                    peer.as_deref().map(|peer| theirs(peer, &model, threads, (prompt, generated, depth)));
                let theirs = theirs.transpose()?;
                for (index, figure) in figures.iter_mut().enumerate() {
                    figure.ours.extend(ours[index]);
                    figure.peers.extend(theirs.and_then(|theirs| theirs[index]));
                }
            }
            for (figure, (test, count)) in figures.iter().zip([("pp", prompt), ("tg", generated)]) {
                if count > 0 {
                    let depth = if depth > 0 { format!(" at {depth}") } else { String::new() };
                    print_row(&name, &format!("{test}{count}{depth}"), figure);
                }
            }
        }
    }
    Ok(())
}

/// The model files, made where they are missing.
fn models() -> Result<Vec<PathBuf>> {
    let source = setup::default_model()?;
    let folder = setup::cache_folder()?.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
    let mut models = vec![source.clone()];
    for quantisation in QUANTISATIONS {
        let target = folder.join(format!("SmolLM2-135M-{quantisation}.gguf"));
        if !target.exists() {
            quantize(&source, quantisation, &target)?;
        }
        models.push(target);
    }
    let folder = setup::models()?;
    models.push(folder.join("gemma-3-270m-Q4_K_M.gguf"));
    Ok(models)
}

/// Writes a model file in another quantisation.
pub(super) fn quantize(source: &Path, quantisation: &str, target: &Path) -> Result<()> {
    let run = ["run", "--release", "--locked", "-p", "reprise-gguf", "--example", "quantize", "--"];
    // A file that was not finished must not be taken for one.
    let partial = target.with_extension("partial");
    process::run(process::cargo(run).arg(source).arg(quantisation).arg(&partial))?;
    std::fs::rename(&partial, target).with_context(|| format!("cannot write '{}'", target.display()))
}

/// Prompt and generation speed, where asked for.
fn ours(bench: &Path, model: &Path, threads: usize, test: (usize, usize, usize)) -> Result<[Option<f64>; 2]> {
    let (prompt, generated, depth) = test;
    let numbers = [threads, prompt, generated, depth].map(|number| number.to_string());
    let text = process::output(Command::new(bench).arg(model).args(numbers))?;
    let speed = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split(' ').nth(1)?.parse().ok())
    };
    Ok([speed("pp"), speed("tg")])
}

/// The same of llama-bench: of each figure the better with flash attention and without it.
fn theirs(
    peer: &Path,
    model: &Path,
    threads: usize,
    test: (usize, usize, usize),
) -> Result<[Option<f64>; 2]> {
    let (prompt, generated, depth) = test;
    let mut command = Command::new(peer);
    command.arg("-m").arg(model).args(["-r", "1", "-o", "json", "-fa", "0,1", "-t", &threads.to_string()]);
    command.args(["-p", &prompt.to_string(), "-n", &generated.to_string(), "-d", &depth.to_string()]);
    let results: Vec<Value> =
        serde_json::from_str(&process::output(&mut command)?).context("llama-bench gave no JSON")?;
    let mut best = [None; 2];
    for result in &results {
        let index = usize::from(result["n_gen"].as_u64().unwrap_or_default() > 0);
        let speed = result["avg_ts"].as_f64();
        best[index] = [best[index], speed].into_iter().flatten().reduce(f64::max);
    }
    Ok(best)
}

fn print_row(model: &str, test: &str, figure: &Figure) {
    let number = |samples: &[f64]| median(samples).map_or("-".to_owned(), |value| format!("{value:.1}"));
    let ratio = figure.advantage(Better::Higher).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    println!(
        "| {model} | {test} | {} | {} | {ratio} | {load} |",
        number(&figure.ours),
        number(&figure.peers)
    );
}
