//! XTC ("exclude top choices"): with some probability removes every candidate that reaches the threshold but the least
//! likely of them.
//!
//! It draws from its own generator, one `uniform_real_distribution<float>` a step that has more than one candidate.
//! (llama.cpp, `llama_sampler_xtc`, after p-e-w's proposal.)

use super::candidates::Candidates;
use super::draw::Generator;

#[derive(Debug)]
pub(super) struct Xtc {
    probability: f32,
    threshold: f32,
    min_keep: usize,
    generator: Generator,
}

impl Xtc {
    /// `None` when nothing can be excluded: two candidates cannot both exceed one half.
    pub(super) fn new(probability: f32, threshold: f32, min_keep: usize, seed: u32) -> Option<Self> {
        let idle = probability <= 0.0 || threshold > 0.5;
        (!idle).then(|| Self { probability, threshold, min_keep, generator: Generator::new(seed) })
    }

    pub(super) fn apply(&mut self, candidates: &mut Candidates) {
        if candidates.items.len() < 2 || self.generator.uniform_f32() > self.probability {
            return;
        }
        candidates.softmax(true);
        let reaching = candidates.items.iter().take_while(|item| item.p >= self.threshold).count();
        let excluded = reaching.saturating_sub(1);
        if excluded > 0 && candidates.items.len() - excluded >= self.min_keep {
            candidates.items.drain(..excluded);
        }
    }
}
