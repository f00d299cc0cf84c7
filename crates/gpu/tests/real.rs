//! A real model on the GPU against the double-precision reference: SmolLM2 from the folder that `REPRISE_MODELS` names.

use std::path::PathBuf;

use bytes::Bytes;
use futures::executor::block_on;
use reprise_compute::Backend;
use reprise_compute::reference::{Reference, Rounding};
use reprise_gguf::{Gguf, MemorySource, TokenId};
use reprise_gpu::{Gpu, GpuOptions};
use reprise_model::{Forward, LoadOptions, Model, Output, Sequence, StepOutput, load};

const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// Two blocks, so that attention reads its table.
const BLOCKS: [u32; 3] = [2, 0, 1];
/// Tokens of the prompt: "The capital of France is", then some more that make a text.
const PROMPT: [u32; 20] =
    [504, 3575, 282, 4649, 314, 7042, 30, 198, 198, 504, 1797, 1918, 553, 253, 2155, 282, 4723, 30, 198, 504];
/// Tokens compared: each is one step of decoding, fed with the reference's choice, and takes a software adapter a second.
const STEPS: usize = 12;

fn open<B: Backend>(backend: B) -> Model<B> {
    let folder =
        std::env::var_os("REPRISE_MODELS").expect("REPRISE_MODELS names the folder of the real models");
    #[expect(clippy::disallowed_methods, reason = "a test is a host")]
    let bytes = std::fs::read(PathBuf::from(folder).join(FILE)).expect("a readable model");
    let source = MemorySource(Bytes::from(bytes));
    let options = LoadOptions { blocks: 3, batch: 64, ..LoadOptions::default() };
    block_on(async {
        let gguf = Gguf::open(&source).await?;
        load(&source, &gguf, backend, options).await
    })
    .expect("a model that loads")
}

fn logits<B: Backend>(model: &mut Model<B>, tokens: &[u32], start: usize) -> Vec<f32> {
    let tokens: Vec<_> = tokens.iter().copied().map(TokenId).collect();
    let step = Sequence { tokens: &tokens, start: start as u32, blocks: &BLOCKS, output: Output::LastLogits };
    let mut out = StepOutput::default();
    block_on(model.forward(&[step], &mut out)).expect("a step");
    out.logits
}

fn best(logits: &[f32]) -> u32 {
    logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("a vocabulary").0 as u32
}

/// Kullback-Leibler divergence of the softmax of `found` from that of `wanted`, nats.
fn divergence(found: &[f32], wanted: &[f32]) -> f64 {
    let log_softmax = |logits: &[f32]| -> Vec<f64> {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
        logits.iter().map(|x| f64::from(x - max) - sum.ln()).collect()
    };
    log_softmax(found).iter().zip(&log_softmax(wanted)).map(|(f, w)| w.exp() * (w - f)).sum()
}

/// What the reference says after the prompt and after each of its own choices.
fn reference() -> (Vec<u32>, Vec<Vec<f32>>) {
    let mut model = open(Reference::new(Rounding::Exact));
    let mut tokens = PROMPT.to_vec();
    let mut all = vec![logits(&mut model, &PROMPT, 0)];
    for _ in 0..STEPS {
        let next = best(all.last().expect("the prompt's"));
        all.push(logits(&mut model, &[next], tokens.len()));
        tokens.push(next);
    }
    (tokens, all)
}

/// Holds variants of the kernels, each with its largest mean divergence, against the exact reference.
#[test]
#[ignore = "needs REPRISE_MODELS"]
fn smollm2_agrees_with_the_reference() {
    let plain = GpuOptions::plain();
    let (tokens, wanted) = reference();
    for (name, options, most) in [
        ("plain", plain, 1e-5),
        ("subgroups", GpuOptions { subgroups: true, ..plain }, 1e-5),
        ("f16", GpuOptions { f16: true, ..plain }, 1e-3),
        // What 8-bit activations cost, here as on the CPU; the reason why this variant has to be asked for.
        ("dot4", GpuOptions { dot4: true, ..plain }, 5e-3),
    ] {
        let mut model = open(block_on(Gpu::open(&options)).expect("a GPU, or Mesa's lavapipe"));
        let mut worst: f64 = 0.0;
        let mut sum = 0.0;
        let mut agreed = 0;
        let steps = std::iter::once((&PROMPT[..], 0))
            .chain((PROMPT.len()..tokens.len()).map(|at| (&tokens[at..=at], at)));
        for ((tokens, start), wanted) in steps.zip(&wanted) {
            let found = logits(&mut model, tokens, start);
            let divergence = divergence(&found, wanted);
            worst = worst.max(divergence);
            sum += divergence;
            agreed += usize::from(best(&found) == best(wanted));
        }
        let count = wanted.len();
        let mean = sum / count as f64;
        println!("SmolLM2, {name}: KL mean {mean:.2e}, worst {worst:.2e}, top-1 {agreed} of {count}");
        assert!(mean < most, "{name}: KL divergence {mean}");
        assert!(agreed * 100 >= count * 99, "{name}: top-1 {agreed} of {count}");
    }
}
