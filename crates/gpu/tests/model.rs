//! Whole models on the GPU: agreement with the double-precision reference, and what a step costs.

#[path = "../../model/tests/common/mod.rs"]
mod common;

use common::{ARCHITECTURES, LAYERS, Tiny, blocks, difference, evaluate, prompt, store};
use futures::executor::block_on;
use reprise_compute::reference::{Reference, Rounding};
use reprise_gguf::{GgmlDType, TokenId};
use reprise_gpu::{Counters, Gpu, GpuOptions};
use reprise_model::{Forward, ModelError, Output, Sequence, StepOutput};

/// Tokens of the prompts: across a block's border, and past the window of `gemma3`.
const PROMPT: usize = 45;

fn open() -> Gpu {
    block_on(Gpu::open(&GpuOptions::plain())).expect("a GPU, or Mesa's lavapipe")
}

#[test]
fn every_architecture_agrees_with_the_reference() {
    let gpu = open();
    for dtype in [GgmlDType::F32, GgmlDType::Q4_1] {
        for architecture in ARCHITECTURES {
            let tiny = Tiny::new(architecture, dtype, 7);
            let tokens = prompt(PROMPT + 1, 1);
            let (first, last) = tokens.split_at(PROMPT);
            let mut gpu = tiny.load(gpu.clone());
            let mut reference = tiny.load(Reference::new(Rounding::Exact));
            let (here, there) = (blocks(3, PROMPT), blocks(0, PROMPT));
            // A prompt, then one token: the kernels for many rows, and those for one.
            for (tokens, start) in [(first, 0), (last, PROMPT)] {
                let found = evaluate(&mut gpu, tokens, start, &here);
                let wanted = evaluate(&mut reference, tokens, start, &there);
                let difference = difference(&found, &wanted);
                println!("{architecture} {dtype:?}, {} tokens: {difference:.1e}", tokens.len());
                // f32 rounding, and KV that falls on the other side of an f16.
                assert!(difference < 1e-3, "{architecture} {dtype:?}: {difference}");
            }
        }
    }
}

#[test]
fn a_prompt_gives_the_same_logits_however_it_is_cut() {
    let gpu = open();
    for architecture in ARCHITECTURES {
        let mut model = Tiny::new(architecture, GgmlDType::Q4_0, 11).load(gpu.clone());
        let tokens = prompt(PROMPT, 2);
        let mut place = 0..;
        let mut cut = |size: usize| {
            let blocks = blocks(place.next().expect("room") * 2, PROMPT);
            let last = (PROMPT - 1) / size * size;
            for (index, chunk) in tokens[..last].chunks(size).enumerate() {
                store(&mut model, chunk, index * size, &blocks);
            }
            evaluate(&mut model, &tokens[last..], last, &blocks)
        };
        let whole = cut(PROMPT);
        for size in [1, 2, 7, 32] {
            assert_eq!(cut(size), whole, "{architecture} in chunks of {size}");
        }
    }
}

/// What a step of one token does that is not part of a layer: embedding, gathering, head, and two stages of the top-k.
const OUTSIDE: u64 = 5;

#[test]
fn a_decode_step_creates_nothing_and_dispatches_little() {
    for (architecture, a_layer) in [("llama", 6), ("qwen2", 6), ("qwen3", 6), ("gemma3", 8)] {
        let gpu = open();
        let handle = gpu.handle();
        let mut model = Tiny::new(architecture, GgmlDType::Q4_1, 3).load(gpu);
        let tokens = prompt(12, 5);
        store(&mut model, &tokens[..9], 0, &[0]);
        let mut decode = |at: usize| -> Counters {
            let before = handle.counters();
            let step = Sequence {
                tokens: &tokens[at..=at],
                start: at as u32,
                blocks: &[0],
                output: Output::Top(20),
            };
            let mut out = StepOutput::default();
            block_on(model.forward(&[step], &mut out)).expect("a step");
            assert!(out.top.tokens.len() >= 20, "{architecture}");
            handle.counters().since(&before)
        };
        let _warm = decode(9);
        for at in [10, 11] {
            let cost = decode(at);
            println!("{architecture}: {cost:?}");
            assert_eq!((cost.submits, cost.readbacks), (1, 1), "{architecture}");
            assert_eq!((cost.buffers, cost.bind_groups, cost.pipelines), (0, 0, 0), "{architecture}");
            assert_eq!(cost.dispatches, a_layer * LAYERS as u64 + OUTSIDE, "{architecture}");
            // The model asks for one more than the engine does, to know ties.
            assert_eq!(cost.bytes_read, 21 * 8, "{architecture}");
        }
    }
}

#[test]
fn a_lost_device_is_told() {
    let gpu = open();
    let handle = gpu.handle();
    let mut model = Tiny::new("llama", GgmlDType::Q8_0, 3).load(gpu);
    let tokens = prompt(4, 5);
    store(&mut model, &tokens, 0, &[0]);
    handle.lose();
    for tokens in [&tokens[..], &[TokenId(1)]] {
        let step = Sequence { tokens, start: 0, blocks: &[0], output: Output::LastLogits };
        let error = block_on(model.forward(&[step], &mut StepOutput::default())).expect_err("a lost device");
        assert!(matches!(error, ModelError::DeviceLost(_)), "{error:?}");
    }
    let error = block_on(model.export(0, 4)).expect_err("a lost device");
    assert!(matches!(error, ModelError::DeviceLost(_)), "{error:?}");
}
