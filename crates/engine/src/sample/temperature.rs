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

    /// Whether only the best candidate is left possible.
    pub(super) fn is_greedy(&self) -> bool {
        self.range <= 0.0 && self.value <= 0.0
    }

    /// Whether nothing changes.
    pub(super) fn is_neutral(&self) -> bool {
        self.range <= 0.0 && self.value == 1.0
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

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(candidates: &Candidates) -> Vec<f32> {
        candidates.items.iter().map(|item| item.logit).collect()
    }

    fn load(logits: &[f32]) -> Candidates {
        let mut candidates = Candidates::default();
        candidates.load(logits);
        candidates
    }

    #[test]
    fn zero_leaves_the_first_of_the_best() {
        let mut candidates = load(&[1.0, 3.0, 3.0, -1.0]);
        scale(&mut candidates, 0.0);
        assert_eq!(logits(&candidates), [f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
        scale(&mut Candidates::default(), 0.0);
    }

    #[test]
    fn positive_divides() {
        let mut candidates = load(&[1.0, -3.0]);
        scale(&mut candidates, 0.5);
        assert_eq!(logits(&candidates), [2.0, -6.0]);
    }

    #[test]
    fn the_dynamic_temperature_follows_the_entropy() {
        let dynamic = |weights: &[f32]| {
            let temperature = Temperature { value: 1.0, range: 0.5, exponent: 2.0 };
            temperature.dynamic(&mut Candidates::weighing(weights))
        };
        assert!((dynamic(&[1.0; 4]) - 1.5).abs() < 1e-6);
        assert!((dynamic(&[1.0, 0.0, 0.0]) - 0.5).abs() < 1e-6);
        // Half of the two bits possible, squared, of the way from 0.5 to 1.5.
        assert!((dynamic(&[1.0, 1.0, 0.0, 0.0]) - 0.75).abs() < 1e-6);
        let mut alone = load(&[3.0]);
        Temperature { value: 1.0, range: 0.5, exponent: 1.0 }.apply(&mut alone);
        assert_eq!(logits(&alone), [3.0]);
    }
}
