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

#[cfg(test)]
mod tests {
    use super::*;

    fn mirostat(version: u8, tau: f32) -> Mirostat {
        Mirostat::new(params::Mirostat { version, tau, eta: 0.5 }, 4, 5489)
    }

    /// The first draw of seed 5489 is 0.1354...: always the first candidate here.
    #[test]
    fn version_2_cuts_at_the_allowed_surprise_and_learns() {
        // Surprises of 1, 2, 3 and 3 bits; 2.2 are allowed, so that the first has two thirds of what is left.
        let mut sampler = mirostat(2, 1.1);
        let mut candidates = Candidates::weighing(&[2.0, 8.0, 4.0, 2.0]);
        sampler.apply(&mut candidates);
        assert_eq!(candidates.ids(), [1, 2]);
        assert_eq!(candidates.selected, 0);
        let observed = 1.5_f32.log2();
        assert!((sampler.mu - (2.2 - 0.5 * (observed - 1.1))).abs() < 1e-5);
    }

    #[test]
    fn version_2_keeps_at_least_one() {
        let mut candidates = Candidates::weighing(&[1.0, 1.0]);
        mirostat(2, 0.1).apply(&mut candidates);
        assert_eq!(candidates.items.len(), 1);
    }

    /// Weights of 1/rank squared have the Zipf exponent 2, so `k = (2^mu / (1 - 1/n))^(1/2)`.
    #[test]
    fn version_1_keeps_what_the_fitted_distribution_asks_for() {
        let weights = [1.0, 1.0 / 4.0, 1.0 / 9.0, 1.0 / 16.0];
        let mut candidates = Candidates::weighing(&weights);
        candidates.softmax(true);
        // mu = 2.4: the root of 5.278 / 0.75 is 2.65.
        assert_eq!(mirostat(1, 1.2).estimated_k(&candidates), 2);
        assert_eq!(mirostat(1, 1.9).estimated_k(&candidates), 4);
        mirostat(1, 1.2).apply(&mut candidates);
        assert_eq!(candidates.ids(), [0, 1]);
        let mut alone = Candidates::weighing(&[1.0]);
        mirostat(1, 1.2).apply(&mut alone);
        assert_eq!((alone.items.len(), alone.selected), (1, 0));
    }
}
