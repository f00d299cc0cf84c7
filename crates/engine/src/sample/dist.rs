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
