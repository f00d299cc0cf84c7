//! Temperature, plain and dynamic.
//!
//! Plain: `logit / t`; at or below zero the best candidate is the only one left possible (the first of equals).
//! Dynamic: `t = low + (high - low) * (H / H_max)^exponent` with the entropy `H` of the candidates, where `low` and
//! `high` are the temperature minus and plus the range. (llama.cpp, `llama_sampler_temp` and `_temp_ext`.)

use super::candidates::Candidates;

/// Divides the logits by `temperature`.
pub(super) fn scale(candidates: &mut Candidates, temperature: f32) {
    if temperature > 0.0 {
        for item in &mut candidates.items {
            item.logit /= temperature;
        }
        return;
    }
    let Some(mut best) = candidates.items.first().map(|item| item.logit) else { return };
    let mut best_index = 0;
    for index in 1..candidates.items.len() {
        let logit = candidates.items[index].logit;
        let loser = if logit > best { std::mem::replace(&mut best_index, index) } else { index };
        best = best.max(logit);
        candidates.items[loser].logit = f32::NEG_INFINITY;
    }
}

#[derive(Debug)]
pub(super) struct Temperature {
    pub(super) value: f32,
    pub(super) range: f32,
    pub(super) exponent: f32,
}

impl Temperature {
    pub(super) fn apply(&self, candidates: &mut Candidates) {
        if self.range <= 0.0 {
            // Dividing by one is exact, so a neutral temperature needs no case of its own.
            scale(candidates, self.value);
        } else if candidates.items.len() > 1 {
            let temperature = self.dynamic(candidates);
            scale(candidates, temperature);
        }
    }

    fn dynamic(&self, candidates: &mut Candidates) -> f32 {
        let low = (self.value - self.range).max(0.0);
        let high = self.value + self.range;
        let most = -(1.0 / candidates.items.len() as f32).ln();
        candidates.softmax(true);
        let entropy = candidates
            .items
            .iter()
            .filter(|item| item.p > 0.0)
            .fold(0.0_f32, |entropy, item| entropy - item.p * item.p.ln());
        low + (high - low) * (entropy / most).powf(self.exponent)
    }
}
