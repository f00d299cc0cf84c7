//! Whole-model agreement with llama-server: KL divergence of the next token's distribution, over the vocabulary.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client;
use super::servers::Server;
use crate::{process, setup};

/// What is read: English, and code.
const TEXTS: [&str; 2] = ["README.md", "crates/compute/src/backend.rs"];
/// Tokens taken of each text.
const TEXT_TOKENS: usize = 1000;
/// Log-probability of what underflowed to nothing: below that of the smallest positive `f32`.
const FLOOR: f64 = -104.0;
/// For every server: one slot, no cache but the slot's own.
const FLAGS: [&str; 6] = ["-np", "1", "-c", "4096", "--cache-ram", "0"];

/// A model to compare with, and how.
struct Subject {
    /// Name in the folder of models.
    file: &'static str,
    /// Tokens from one compared position to the next: an answer with a large vocabulary is large.
    step: usize,
    /// Flags of its own.
    flags: &'static [&'static str],
}

const SUBJECTS: [Subject; 2] = [
    Subject { file: "SmolLM2-135M-Instruct.Q4_1.gguf", step: 10, flags: &[] },
    Subject { file: "gemma-3-270m-Q4_K_M.gguf", step: 50, flags: &["--swa-full"] },
];

/// The programs that are compared.
struct Binaries {
    ours: PathBuf,
    peer: PathBuf,
}

/// One server compared with llama-server as it comes.
#[derive(Default)]
struct Agreement {
    /// KL divergence at each position.
    divergences: Vec<f64>,
    /// Positions at which both find the same token the likeliest.
    same_top: usize,
}

impl Agreement {
    fn add(&mut self, reference: &[f64], other: &[f64]) {
        self.divergences.push(kl_divergence(reference, other));
        self.same_top += usize::from(likeliest(reference) == likeliest(other));
    }

    fn print(&self, model: &str, pair: &str) {
        let positions = self.divergences.len() as f64;
        let mean = self.divergences.iter().sum::<f64>() / positions;
        let max = self.divergences.iter().copied().fold(0.0, f64::max);
        let top = 100.0 * self.same_top as f64 / positions;
        println!("| {model} | {positions} | {pair} | {mean:.2e} | {max:.2e} | {top:.1} % |");
    }
}

/// Compares ours with llama-server and, as the yardstick, llama-server with itself without flash attention.
pub(super) fn run(threads: usize) -> Result<()> {
    let peer = std::env::var_os("LLAMA_SERVER")
        .context("--agreement compares with llama-server: set LLAMA_SERVER to its binary")?;
    let models = setup::models()?;
    let servers = Binaries { ours: process::release_server()?, peer: peer.into() };
    let mut rows = Vec::new();
    for subject in &SUBJECTS {
        rows.push(compare(subject, &models.join(subject.file), &servers, threads)?);
    }
    println!("\nKL(llama-server || other) in nats over the whole vocabulary; {TEXT_TOKENS} tokens each of");
    println!("{}; {threads} threads\n", TEXTS.join(" and "));
    println!(
        "| model | positions | other | mean KL | max KL | same top-1 |\n| --- | ---: | --- | ---: | ---: | ---: |"
    );
    for (subject, [ours, without]) in SUBJECTS.iter().zip(&rows) {
        ours.print(subject.file, "reprise");
        without.print(subject.file, "llama-server -fa off");
    }
    Ok(())
}

/// Ours and llama-server without flash attention, each against llama-server.
fn compare(subject: &Subject, model: &Path, servers: &Binaries, threads: usize) -> Result<[Agreement; 2]> {
    let flags = [&FLAGS, subject.flags].concat();
    let without_flash = [&flags[..], &["-fa", "off"]].concat();
    let reference = Server::start(&servers.peer, model, threads, &flags)?;
    let others = [
        Server::start(&servers.ours, model, threads, &flags)?,
        Server::start(&servers.peer, model, threads, &without_flash)?,
    ];
    let vocabulary = vocabulary(&reference.url)?;
    let mut agreements = [Agreement::default(), Agreement::default()];
    for text in TEXTS {
        eprintln!("{}: {text}", subject.file);
        let tokens = tokens(&reference.url, text)?;
        for end in (subject.step..=TEXT_TOKENS).step_by(subject.step) {
            let expected = log_probabilities(&reference.url, &tokens[..end], vocabulary)?;
            for (agreement, other) in agreements.iter_mut().zip(&others) {
                agreement.add(&expected, &log_probabilities(&other.url, &tokens[..end], vocabulary)?);
            }
        }
    }
    Ok(agreements)
}

fn vocabulary(url: &str) -> Result<usize> {
    let answer: Value = ureq::get(format!("{url}/v1/models")).call()?.body_mut().read_json()?;
    let size = answer["data"][0]["meta"]["n_vocab"].as_u64().context("no n_vocab in the answer")?;
    Ok(usize::try_from(size)?)
}

/// The first tokens of a file, after those that the model wants at a beginning.
fn tokens(url: &str, file: &str) -> Result<Vec<u32>> {
    let path = process::root().join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read '{}'", path.display()))?;
    let mut tokens = client::tokenize(url, &text, true)?;
    ensure!(tokens.len() >= TEXT_TOKENS, "'{file}' has only {} tokens", tokens.len());
    tokens.truncate(TEXT_TOKENS);
    Ok(tokens)
}

/// What is needed of a completion; typed, as the whole is tens of megabytes.
#[derive(Deserialize)]
struct Completion {
    completion_probabilities: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    top_logprobs: Vec<Candidate>,
}

#[derive(Deserialize)]
struct Candidate {
    id: usize,
    logprob: f64,
}

/// The log-probability of every token of the vocabulary, by id, after `prompt`.
fn log_probabilities(url: &str, prompt: &[u32], vocabulary: usize) -> Result<Vec<f64>> {
    let body = json!({
        "prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": vocabulary, "cache_prompt": true, "id_slot": 0,
    });
    let mut answer = Vec::new();
    let response = ureq::post(format!("{url}/completion")).send_json(body)?;
    response.into_body().into_reader().read_to_end(&mut answer)?;
    let completion: Completion = serde_json::from_slice(&answer)?;
    let step = completion.completion_probabilities.first().context("no probabilities in the answer")?;
    let mut found = vec![None; vocabulary];
    for candidate in &step.top_logprobs {
        *found.get_mut(candidate.id).context("a token beyond the vocabulary")? = Some(candidate.logprob);
    }
    found.into_iter().collect::<Option<_>>().context("not every token of the vocabulary was answered")
}

/// KL(reference || other) in nats. Both are normalized here: llama-server sums in `f32`, which over a large
/// vocabulary leaves the sum of the probabilities off by more than what is measured.
fn kl_divergence(reference: &[f64], other: &[f64]) -> f64 {
    let (reference_total, other_total) = (log_total(reference), log_total(other));
    let terms = reference.iter().zip(other).map(|(reference, other)| {
        let (reference, other) = (reference.max(FLOOR) - reference_total, other.max(FLOOR) - other_total);
        reference.exp() * (reference - other)
    });
    terms.sum()
}

fn log_total(log_probabilities: &[f64]) -> f64 {
    log_probabilities.iter().map(|value| value.max(FLOOR).exp()).sum::<f64>().ln()
}

fn likeliest(log_probabilities: &[f64]) -> Option<usize> {
    (0..log_probabilities.len()).max_by(|a, b| log_probabilities[*a].total_cmp(&log_probabilities[*b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_of_the_normalized_distributions() {
        let (even, skewed) = ([0.5f64.ln(), 0.5f64.ln()], [0.25f64.ln(), 0.75f64.ln()]);
        let expected = 0.5 * (0.5f64 / 0.25).ln() + 0.5 * (0.5f64 / 0.75).ln();
        assert!((kl_divergence(&even, &skewed) - expected).abs() < 1e-12);
        assert!(kl_divergence(&even, &[0.0, 0.0]).abs() < 1e-12);
        let nothing = f64::from(f32::MIN);
        assert!((kl_divergence(&[0.0, nothing], &even) - 2f64.ln()).abs() < 1e-12);
        assert!((kl_divergence(&even, &[0.0, nothing]) - (0.25f64.ln() - FLOOR) / 2.0).abs() < 1e-9);
        assert_eq!(likeliest(&skewed), Some(1));
    }
}
