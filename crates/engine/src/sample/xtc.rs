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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_last_that_reach_the_threshold_go() {
        let kept = |threshold, min_keep| {
            let mut candidates = Candidates::weighing(&[1.0, 5.0, 3.0, 1.0]);
            Xtc::new(1.0, threshold, min_keep, 1).unwrap().apply(&mut candidates);
            candidates.items.len()
        };
        assert_eq!(kept(0.25, 0), 3);
        assert_eq!(kept(0.4, 0), 4);
        assert_eq!(kept(0.05, 0), 1);
        assert_eq!(kept(0.25, 4), 4);
    }

    /// The second output of seed 5489 is small (0.135...), the first large (0.814...).
    #[test]
    fn it_acts_by_chance_and_draws_only_among_several() {
        let mut xtc = Xtc::new(0.5, 0.1, 0, 5489).unwrap();
        let mut left = |weights: &[f32]| {
            let mut candidates = Candidates::weighing(weights);
            xtc.apply(&mut candidates);
            candidates.items.len()
        };
        assert_eq!(left(&[1.0]), 1);
        assert_eq!(left(&[1.0, 1.0]), 2);
        assert_eq!(left(&[1.0, 1.0]), 1);
        assert!(Xtc::new(0.0, 0.1, 0, 1).is_none() && Xtc::new(1.0, 0.6, 0, 1).is_none());
    }
}
