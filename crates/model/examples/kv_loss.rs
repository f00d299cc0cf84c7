//! What quantised KV memory costs in accuracy: Kullback-Leibler divergence from the logits over f16 KV.
//!
//! `cargo run --release -p reprise-model --example kv_loss -- model.gguf tokens.txt [threads]`, the second file holding token ids
//! (decimal, separated by anything else, as `/tokenize` gives them). Each position's logits are compared; for every pair of types
//! it prints the mean and largest divergence (nats) and how often the best token is the same. Perplexity is that of the text.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that reads files and prints")]

use std::error::Error;

use bytes::Bytes;
use futures::executor::block_on;
use reprise_compute::{BLOCK_TOKENS, Cpu, KvType};
use reprise_gguf::{Gguf, MemorySource, TokenId};
use reprise_model::{Forward, LoadOptions, Output, Sequence, StepOutput, load};

const TYPES: [[KvType; 2]; 4] = [
    [KvType::F16, KvType::F16],
    [KvType::Q8_0, KvType::Q8_0],
    [KvType::Q8_0, KvType::Q4_0],
    [KvType::Q4_0, KvType::Q4_0],
];
/// Tokens of a context; each is evaluated anew from its first.
const CONTEXT: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (file, tokens) =
        arguments.next().zip(arguments.next()).ok_or("name a GGUF file and one of tokens")?;
    let threads = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let source = MemorySource(Bytes::from(std::fs::read(file)?));
    let text = std::fs::read_to_string(tokens)?;
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
    let tokens = numbers.map(|word| word.parse().map(TokenId)).collect::<Result<Vec<_>, _>>()?;

    let mut exact = Vec::new();
    for [keys, values] in TYPES {
        let found = log_probabilities(&source, &tokens, [keys, values], threads)?;
        if exact.is_empty() {
            exact.clone_from(&found);
        }
        let surprise: f64 = found.iter().zip(targets(&tokens)).map(|(row, next)| -f64::from(row[next])).sum();
        let losses: Vec<f64> =
            exact.iter().zip(&found).map(|(exact, found)| divergence(exact, found)).collect();
        let same = exact.iter().zip(&found).filter(|(exact, found)| best(exact) == best(found)).count();
        println!(
            "K {keys}, V {values}: {} positions, divergence {:.2e} (largest {:.2e}), same best token {:.2} %, perplexity {:.4}",
            found.len(),
            losses.iter().sum::<f64>() / losses.len() as f64,
            losses.iter().copied().fold(0.0, f64::max),
            100.0 * same as f64 / found.len() as f64,
            (surprise / found.len() as f64).exp(),
        );
    }
    Ok(())
}

/// Of every position that has a next token in its context, the logarithms of all tokens' probabilities.
fn log_probabilities(
    source: &MemorySource,
    tokens: &[TokenId],
    [keys, values]: [KvType; 2],
    threads: usize,
) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let blocks = CONTEXT.div_ceil(BLOCK_TOKENS) as u32;
    let options = LoadOptions { blocks, keys, values, ..LoadOptions::default() };
    let mut model = block_on(async {
        let gguf = Gguf::open(source).await?;
        Ok::<_, Box<dyn Error>>(load(source, &gguf, Cpu::new(threads), options).await?)
    })?;
    let table: Vec<u32> = (0..blocks).collect();
    let (mut all, mut out) = (Vec::new(), StepOutput::default());
    for context in tokens.chunks(CONTEXT) {
        for (start, token) in context.iter().enumerate().take(context.len() - 1) {
            let step = Sequence {
                tokens: std::slice::from_ref(token),
                start: start as u32,
                blocks: &table,
                output: Output::LastLogits,
            };
            block_on(model.forward(&[step], &mut out))?;
            let max = out.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = out.logits.iter().map(|&x| f64::from(x - max).exp()).sum();
            all.push(out.logits.iter().map(|x| x - max - sum.ln() as f32).collect());
        }
    }
    Ok(all)
}

/// The tokens that [`log_probabilities`]' rows should have given.
fn targets(tokens: &[TokenId]) -> impl Iterator<Item = usize> {
    tokens.chunks(CONTEXT).flat_map(|context| &context[1..]).map(|token| token.0 as usize)
}

fn divergence(exact: &[f32], found: &[f32]) -> f64 {
    exact.iter().zip(found).map(|(&p, &q)| f64::from(p).exp() * f64::from(p - q)).sum()
}

fn best(row: &[f32]) -> Option<usize> {
    row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(token, _)| token)
}
