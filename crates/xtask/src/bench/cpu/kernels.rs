//! The arithmetic without a server: our `bench` example, `llama-bench`, `llama-batched-bench`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Figures;
use super::table::{Side, Table};
use crate::bench::peer::Peer;
use crate::bench::stats::Better;
use crate::process;

/// Sequences of a batch in decoding.
const BATCHES: [usize; 4] = [1, 2, 4, 8];
const BATCHED_TOKENS: usize = 64;

/// One thing to measure.
#[derive(Clone, Copy)]
pub(super) enum Test {
    /// A prompt and tokens generated one at a time, both behind `depth` tokens.
    Single { prompt: usize, generated: usize, depth: usize },
    /// Tokens generated in several sequences at once, each behind `depth` tokens of its own.
    Batched { depth: usize },
}

/// What is measured of every file.
pub(super) const TESTS: [Test; 5] = [
    Test::Single { prompt: 512, generated: 128, depth: 0 },
    Test::Single { prompt: 2048, generated: 0, depth: 0 },
    Test::Single { prompt: 0, generated: 128, depth: 2048 },
    Test::Batched { depth: 0 },
    Test::Batched { depth: 512 },
];

impl Test {
    /// What kind of figures it gives.
    pub(super) fn kind(self) -> Figures {
        match self {
            Self::Single { prompt: ..=512, depth: 0, .. } => Figures::Short,
            Self::Single { .. } => Figures::Long,
            Self::Batched { .. } => Figures::Batched,
        }
    }

    /// The row of a figure that a program calls `pp512`, `tg128` or `tg64x8`.
    fn row(self, figure: &str) -> String {
        let (Self::Single { depth, .. } | Self::Batched { depth }) = self;
        let behind = if depth > 0 { format!(" at {depth}") } else { String::new() };
        match figure.split_once('x') {
            Some((figure, count)) => format!("{figure} x {count}{behind}"),
            None => format!("{figure}{behind}"),
        }
    }

    /// Adds a sample, and behind the last of a batched test how much faster the largest batch is than a single sequence.
    fn add(self, table: &mut Table, side: Side, samples: &[(String, f64)]) {
        for (figure, speed) in samples {
            table.add(side, &self.row(figure), Better::Higher, *speed);
        }
        if let (Self::Batched { .. }, [(_, one), .., (_, most)]) = (self, samples) {
            let name = self.row("batch of 8 to 1, times");
            table.add(side, &name, Better::Higher, most / one);
        }
    }
}

/// Ours, by the example that `program` is; the roof that it found goes to `roof`.
pub(super) fn ours(
    program: &Path,
    model: &Path,
    threads: usize,
    test: Test,
    [table, roof]: [&mut Table; 2],
) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(model).arg(threads.to_string());
    let numbers = match test {
        Test::Single { prompt, generated, depth } => [prompt, generated, depth],
        Test::Batched { depth } => [0, BATCHED_TOKENS, depth],
    };
    command.args(numbers.map(|number| number.to_string()));
    if matches!(test, Test::Batched { .. }) {
        command.arg(BATCHES.map(|count| count.to_string()).join(","));
    }
    let text = process::output(&mut command)?;
    for (name, value) in parse_roof(&text) {
        roof.add(Side::Ours, name, Better::Higher, value);
    }
    let rows = parse_ours(&text);
    let samples: Vec<_> = rows.iter().map(|(figure, speed, _)| (figure.clone(), *speed)).collect();
    test.add(table, Side::Ours, &samples);
    for (figure, _, roof) in &rows {
        table.add_roof(&test.row(figure), *roof);
    }
    Ok(())
}

/// Figure, tokens a second, per cent of the roof.
fn parse_ours(text: &str) -> Vec<(String, f64, f64)> {
    let row = |line: &str| {
        let [figure, speed, roof] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
        Some((figure.to_owned(), speed.parse().ok()?, roof.parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}

/// What the machine does at best.
fn parse_roof(text: &str) -> Vec<(&'static str, f64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("roof: ")).unwrap_or_default();
    let names = ["roof, G multiply-adds/s", "roof, GB/s read"];
    let numbers = line.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok());
    names.into_iter().zip(numbers).collect()
}

/// llama.cpp's, if it has the program: of each figure the better with flash attention and without it.
pub(super) fn peers(peer: &Peer, model: &Path, threads: usize, test: Test, table: &mut Table) -> Result<()> {
    let threads = threads.to_string();
    let samples = match test {
        Test::Single { prompt, generated, depth } => {
            let Some(program) = peer.program("llama-bench") else { return Ok(()) };
            let mut command = Command::new(program);
            command.arg("-m").arg(model).args(["-r", "1", "-o", "json", "-fa", "0,1", "-t", &threads]);
            command.args(["-p", &prompt.to_string(), "-n", &generated.to_string(), "-d", &depth.to_string()]);
            parse_bench(&process::output(&mut command)?)?
        }
        Test::Batched { depth } => {
            let Some(program) = peer.program("llama-batched-bench") else { return Ok(()) };
            // Without a prompt it divides by zero, and its JSON is none.
            let depth = depth.max(1);
            let most = BATCHES.into_iter().max().unwrap_or(1);
            let context = (most * (depth + BATCHED_TOKENS)).to_string();
            let batches = BATCHES.map(|count| count.to_string()).join(",");
            let mut samples = Vec::new();
            for flash in ["on", "off"] {
                let mut command = Command::new(&program);
                command.arg("-m").arg(model).args(["-t", &threads, "-c", &context, "-fa", flash]);
                command.args([
                    "-npp",
                    &depth.to_string(),
                    "-ntg",
                    &BATCHED_TOKENS.to_string(),
                    "-npl",
                    &batches,
                ]);
                command.args(["--output-format", "jsonl"]);
                keep_better(&mut samples, parse_batched(&process::output(&mut command)?)?);
            }
            samples
        }
    };
    test.add(table, Side::Peers, &samples);
    Ok(())
}

fn keep_better(samples: &mut Vec<(String, f64)>, more: Vec<(String, f64)>) {
    for (figure, speed) in more {
        match samples.iter_mut().find(|(known, _)| *known == figure) {
            Some((_, best)) => *best = best.max(speed),
            None => samples.push((figure, speed)),
        }
    }
}

fn parse_bench(json: &str) -> Result<Vec<(String, f64)>> {
    let results: Vec<Value> = serde_json::from_str(json).context("llama-bench gave no JSON")?;
    let mut samples = Vec::new();
    for result in &results {
        let number =
            |name: &str| result[name].as_u64().with_context(|| format!("llama-bench says no {name}"));
        let speed = result["avg_ts"].as_f64().context("llama-bench says no avg_ts")?;
        let figure = match number("n_gen")? {
            0 => format!("pp{}", number("n_prompt")?),
            generated => format!("tg{generated}"),
        };
        keep_better(&mut samples, vec![(figure, speed)]);
    }
    Ok(samples)
}

fn parse_batched(lines: &str) -> Result<Vec<(String, f64)>> {
    let results = lines.lines().filter(|line| line.starts_with('{'));
    let sample = |line: &str| {
        let result: Value = serde_json::from_str(line)?;
        let count =
            |name: &str| result[name].as_u64().with_context(|| format!("llama-batched-bench says no {name}"));
        let speed = result["speed_tg"].as_f64().context("llama-batched-bench says no speed_tg")?;
        Ok((format!("tg{}x{}", count("tg")?, count("pl")?), speed))
    };
    results.map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_peers_figures_the_better_is_taken() {
        let json = r#"[{"n_prompt": 512, "n_gen": 0, "avg_ts": 3.5}, {"n_prompt": 0, "n_gen": 128, "avg_ts": 2.0},
            {"n_prompt": 512, "n_gen": 0, "avg_ts": 3.0}, {"n_prompt": 0, "n_gen": 128, "avg_ts": 2.5}]"#;
        assert_eq!(parse_bench(json).unwrap(), [("pp512".to_owned(), 3.5), ("tg128".to_owned(), 2.5)]);
        let lines = "\n{\"pp\": 0, \"tg\": 64, \"pl\": 8, \"speed_tg\": 150.5}\nllama_perf: 1\n";
        assert_eq!(parse_batched(lines).unwrap(), [("tg64x8".to_owned(), 150.5)]);
        assert!(parse_bench("no").is_err());
    }

    #[test]
    fn a_batched_test_ends_with_its_gain() {
        let text = "CPU (2 threads, AVX-512 VNNI), loaded in 90 ms\nroof: 460.0 G multiply-adds/s, 34.5 GB/s\ntg64x1 100.00 50.0\ntg64x8 400.00 25.5\n";
        let rows = parse_ours(text);
        assert_eq!(parse_roof(text), [("roof, G multiply-adds/s", 460.0), ("roof, GB/s read", 34.5)]);
        assert_eq!(rows, [("tg64x1".to_owned(), 100.0, 50.0), ("tg64x8".to_owned(), 400.0, 25.5)]);
        assert_eq!(Test::Batched { depth: 512 }.row("tg64x8"), "tg64 x 8 at 512");
        assert_eq!(Test::Single { prompt: 512, generated: 0, depth: 0 }.row("pp512"), "pp512");
    }
}
