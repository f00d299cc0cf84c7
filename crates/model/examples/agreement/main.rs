//! Agreement with llama.cpp on a text: KL divergence of the next token's distribution, and perplexity.
//!
//! `cargo run --release -p reprise-model --example agreement -- model.gguf base [threads]`, `base` being what `llama-perplexity
//! --kl-divergence-base` wrote with the same model. Prints a figure a line. `REPRISE_ISA` chooses the instruction set by name.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that reads files")]

mod base;

use std::error::Error;

use bytes::Bytes;
use futures::executor::block_on;
use reprise_compute::{BLOCK_TOKENS, Cpu};
use reprise_gguf::{Gguf, MemorySource, TokenId};
use reprise_model::{Forward, LoadOptions, Model, Output, Sequence, StepOutput, load};

use base::{Base, Candidate};

/// Tokens of a step without logits.
const STEP: usize = 512;
/// Tokens of a step that all have logits.
const SCORED: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (file, base) = arguments.next().zip(arguments.next()).ok_or("name a GGUF file and a base")?;
    let threads = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let cpu = match std::env::var("REPRISE_ISA") {
        Ok(name) => Cpu::new(threads).with_instructions(&name)?,
        Err(_) => Cpu::new(threads),
    };
    let source = MemorySource(Bytes::from(std::fs::read(file)?));
    let gguf = block_on(Gguf::open(&source))?;
    let mut base = Base::open(&base, gguf.tensor("token_embd.weight")?.rows)?;
    let blocks: Vec<u32> = (0..base.context.div_ceil(BLOCK_TOKENS) as u32).collect();
    let options = LoadOptions {
        blocks: blocks.len() as u32,
        batch: STEP,
        logit_rows: SCORED,
        ..LoadOptions::default()
    };
    let model = block_on(load(&source, &gguf, cpu, options))?;

    let mut text = Text { model, blocks, out: StepOutput::default() };
    let first = first_token(&gguf)?;
    let mut agreement = Agreement::default();
    for chunk in base.tokens.clone().chunks(base.context) {
        let mut tokens: Vec<_> = chunk.iter().copied().map(TokenId).collect();
        tokens[0] = first.unwrap_or(tokens[0]);
        let mut kept = Vec::new();
        text.score(&tokens, base.positions(), |position, logits| {
            base.next(&mut kept)?;
            agreement.add(&kept, logits, chunk[position + 1] as usize);
            Ok(())
        })?;
    }
    agreement.print();
    Ok(())
}

/// The token that llama.cpp puts in place of a chunk's first, for models that want one there.
fn first_token(gguf: &Gguf) -> Result<Option<TokenId>, Box<dyn Error>> {
    let sentence_piece = gguf.metadata.opt_string("tokenizer.ggml.model")? == Some("llama");
    let wanted = gguf.metadata.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(sentence_piece);
    Ok(gguf.metadata.opt_u32("tokenizer.ggml.bos_token_id")?.filter(|_| wanted).map(TokenId))
}

struct Text {
    model: Model<Cpu>,
    blocks: Vec<u32>,
    out: StepOutput,
}

impl Text {
    /// Evaluates `tokens` and hands the logits behind each of `positions`, of which the last is the last one that matters, to `take`.
    fn score(
        &mut self,
        tokens: &[TokenId],
        positions: std::ops::Range<usize>,
        mut take: impl FnMut(usize, &[f32]) -> Result<(), Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        let sequence = |start: usize, end: usize, output| Sequence {
            tokens: &tokens[start..end],
            start: start as u32,
            blocks: &self.blocks,
            output,
        };
        for start in (0..positions.start).step_by(STEP) {
            let step = sequence(start, positions.start.min(start + STEP), Output::Nothing);
            block_on(self.model.forward(&[step], &mut self.out))?;
        }
        let vocab = self.model.info().vocab;
        for start in positions.clone().step_by(SCORED) {
            // K and V of a step are all stored before anybody attends, so its tokens may be sequences of one token each that
            // share their blocks: each then has logits.
            let end = positions.end.min(start + SCORED);
            let step: Vec<_> = (start..end).map(|at| sequence(at, at + 1, Output::LastLogits)).collect();
            block_on(self.model.forward(&step, &mut self.out))?;
            for (position, logits) in (start..end).zip(self.out.logits.chunks(vocab)) {
                take(position, logits)?;
            }
        }
        Ok(())
    }
}

/// Sums over positions.
#[derive(Default)]
struct Agreement {
    positions: usize,
    divergence: f64,
    largest: f64,
    /// Positions at which both find the same token the likeliest.
    same_top: usize,
    /// Negative log-likelihood of the text.
    surprise: f64,
}

impl Agreement {
    fn add(&mut self, reference: &[Candidate], logits: &[f32], next: usize) {
        let divergence = kl_divergence(reference, logits);
        let likeliest = |best: Option<(usize, f64)>| best.map(|(token, _)| token);
        let ours = logits.iter().map(|&logit| f64::from(logit)).enumerate();
        let ours = likeliest(ours.max_by(|a, b| a.1.total_cmp(&b.1)));
        self.positions += 1;
        self.divergence += divergence;
        self.largest = self.largest.max(divergence);
        self.same_top +=
            usize::from(ours == likeliest(reference.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))));
        self.surprise += log_total(logits.iter().map(|&logit| f64::from(logit))) - f64::from(logits[next]);
    }

    fn print(&self) {
        let positions = self.positions as f64;
        println!("positions {}", self.positions);
        println!("mean_kl {:e}", self.divergence / positions);
        println!("max_kl {:e}", self.largest);
        println!("same_top {}", self.same_top as f64 / positions);
        println!("perplexity {:.4}", (self.surprise / positions).exp());
    }
}

/// KL(reference || ours) in nats among the reference's candidates, both normalised over them: what the file leaves out is
/// less than 1e-7 as likely as the likeliest.
fn kl_divergence(reference: &[Candidate], logits: &[f32]) -> f64 {
    let ours = |token: usize| f64::from(logits[token]);
    let reference_total = log_total(reference.iter().map(|&(_, value)| value));
    let total = log_total(reference.iter().map(|&(token, _)| ours(token)));
    let term = |&(token, value): &Candidate| {
        let (value, ours) = (value - reference_total, ours(token) - total);
        value.exp() * (value - ours)
    };
    reference.iter().map(term).sum()
}

/// Logarithm of the sum of what these are logarithms of.
fn log_total(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    most + values.map(|value| (value - most).exp()).sum::<f64>().ln()
}
