//! The end of the chain: draws one candidate from the softmax of the logits.
//!
//! One `uniform_real_distribution<double>` draw a step, also for a single candidate. The exponentials are `f32`, their
//! sum and the running sum `f64`; the first candidate whose running sum reaches `draw * sum` is taken.
//! (llama.cpp, `llama_sampler_dist`.)

use super::candidates::Candidates;
use super::draw::Generator;

#[derive(Debug)]
pub(super) struct Dist {
    generator: Generator,
}

impl Dist {
    pub(super) fn new(seed: u32) -> Self {
        Self { generator: Generator::new(seed) }
    }

    pub(super) fn apply(&mut self, candidates: &mut Candidates) {
        let draw = self.generator.uniform_f64();
        candidates.selected = 0;
        if let [only] = candidates.items.as_mut_slice() {
            only.p = 1.0;
            return;
        }
        let max = candidates.max_logit();
        let mut sum = 0.0_f64;
        for item in &mut candidates.items {
            item.p = (item.logit - max).exp();
            sum += f64::from(item.p);
        }
        let target = sum * draw;
        let mut running = 0.0_f64;
        let mut selected = None;
        for (index, item) in candidates.items.iter_mut().enumerate() {
            if selected.is_none() {
                running += f64::from(item.p);
                selected = (running >= target).then_some(index);
            }
            item.p = (f64::from(item.p) / sum) as f32;
        }
        candidates.selected = selected.unwrap_or(candidates.items.len().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first draws of seed 5489 are 0.1354... and 0.8350...
    #[test]
    fn the_running_sum_is_compared_with_the_draw() {
        let mut dist = Dist::new(5489);
        let mut selected = |weights: &[f32]| {
            let mut candidates = Candidates::weighing(weights);
            dist.apply(&mut candidates);
            (candidates.selected, candidates.items.iter().map(|item| item.p).collect::<Vec<_>>())
        };
        let (index, probabilities) = selected(&[1.0, 1.0, 8.0]);
        assert_eq!(index, 1);
        for (found, expected) in probabilities.iter().zip([0.1, 0.1, 0.8]) {
            assert!((found - expected).abs() < 1e-6);
        }
        assert_eq!(selected(&[8.0, 1.0, 1.0]).0, 1);
    }

    #[test]
    fn a_single_candidate_costs_a_draw_too() {
        let mut dist = Dist::new(5489);
        let mut alone = Candidates::weighing(&[3.0]);
        dist.apply(&mut alone);
        assert_eq!((alone.selected, alone.items[0].p), (0, 1.0));
        let mut candidates = Candidates::weighing(&[8.0, 1.0, 1.0]);
        dist.apply(&mut candidates);
        assert_eq!(candidates.selected, 1);
        dist.apply(&mut Candidates::default());
    }

    #[test]
    fn nothing_possible_selects_something() {
        let mut candidates = Candidates::default();
        candidates.load(&[f32::NEG_INFINITY; 3]);
        Dist::new(1).apply(&mut candidates);
        assert!(candidates.chosen().is_some());
    }
}
