//! Mirostat: keeps the surprise of the text near a target instead of filtering by fixed thresholds.
//!
//! Both versions draw with `discrete_distribution` and then move `mu`, the surprise still allowed, by
//! `eta * (observed - tau)`, where surprise is `-log2 p`. Version 1 turns `mu` into a top-k by estimating the Zipf
//! exponent of the distribution from its best 100 tokens; version 2 cuts at `mu` directly. (Basu et al., 2021;
//! llama.cpp, `llama_sampler_mirostat` and `_mirostat_v2`.)

use super::candidates::Candidates;
use super::draw::Generator;
use super::params;

/// Tokens from which version 1 estimates the exponent.
const ESTIMATED_FROM: usize = 100;

#[derive(Debug)]
pub(super) struct Mirostat {
    params: params::Mirostat,
    vocab: usize,
    mu: f32,
    generator: Generator,
}

impl Mirostat {
    pub(super) fn new(params: params::Mirostat, vocab: usize, seed: u32) -> Self {
        Self { params, vocab, mu: 2.0 * params.tau, generator: Generator::new(seed) }
    }

    pub(super) fn apply(&mut self, candidates: &mut Candidates) {
        if candidates.items.is_empty() {
            return;
        }
        candidates.softmax(true);
        if self.params.version == 1 {
            let kept = self.estimated_k(candidates);
            candidates.keep_top(kept);
        } else {
            if let Some(cut) = candidates.items.iter().position(|item| -item.p.log2() > self.mu) {
                candidates.items.truncate(cut.max(1));
            }
        }
        candidates.softmax(true);
        candidates.selected = self.generator.discrete(&candidates.items);
        let observed = -candidates.items[candidates.selected].p.log2();
        self.mu -= self.params.eta * (observed - self.params.tau);
    }

    /// How many tokens have an expected surprise of `mu`, given a Zipf distribution fitted to the candidates.
    fn estimated_k(&self, candidates: &Candidates) -> usize {
        let mut products = 0.0_f32;
        let mut squares = 0.0_f32;
        for (rank, pair) in candidates.items.windows(2).take(ESTIMATED_FROM - 1).enumerate() {
            let t = ((rank + 2) as f32 / (rank + 1) as f32).ln();
            let b = (pair[0].p / pair[1].p).ln();
            products += t * b;
            squares += t * t;
        }
        let exponent = products / squares;
        let epsilon = exponent - 1.0;
        let k = ((epsilon * 2.0_f32.powf(self.mu)) / (1.0 - (self.vocab as f32).powf(-epsilon)))
            .powf(1.0 / exponent);
        // A NaN becomes zero, a number beyond the range the largest.
        (k as usize).max(1)
    }
}
