//! The random numbers of the C++ standard library over `std::mt19937`, draw by draw as libstdc++ makes them.

use rand_mt::Mt;

use super::candidates::Candidate;

/// One generator. Every stochastic sampler owns one, seeded alike: a sampler that does not draw leaves the others where
/// they are.
#[derive(Debug, Clone)]
pub(super) struct Generator(Mt);

impl Generator {
    pub(super) fn new(seed: u32) -> Self {
        Self(Mt::new(seed))
    }

    /// `uniform_real_distribution<double>(0, 1)`: two outputs, the low half first, below one.
    pub(super) fn uniform_f64(&mut self) -> f64 {
        const WORD: f64 = 4_294_967_296.0;
        let low = f64::from(self.0.next_u32());
        let high = f64::from(self.0.next_u32());
        ((low + high * WORD) / (WORD * WORD)).min(1.0_f64.next_down())
    }

    /// `uniform_real_distribution<float>(0, 1)`: one output, below one.
    #[allow(clippy::cast_precision_loss)] // rounding to the nearest float is what the reference does
    pub(super) fn uniform_f32(&mut self) -> f32 {
        (self.0.next_u32() as f32 / 4_294_967_296.0).min(1.0_f32.next_down())
    }

    /// `discrete_distribution` over the candidates' probabilities. A single candidate is taken without a draw.
    pub(super) fn discrete(&mut self, candidates: &[Candidate]) -> usize {
        let last = candidates.len().saturating_sub(1);
        if last == 0 {
            return 0;
        }
        let sum: f64 = candidates.iter().fold(0.0, |sum, candidate| sum + f64::from(candidate.p));
        let target = self.uniform_f64();
        let mut running = 0.0;
        candidates[..last]
            .iter()
            .position(|candidate| {
                running += f64::from(candidate.p) / sum;
                running >= target
            })
            .unwrap_or(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(probabilities: &[f32]) -> Vec<Candidate> {
        probabilities.iter().map(|&p| Candidate { id: 0, logit: 0.0, p }).collect()
    }

    /// The first outputs of `std::mt19937(5489)` are published: 3499211612, 581869302, 3890346734, 3586334585.
    #[test]
    fn draws_use_the_outputs_in_order() {
        let mut generator = Generator::new(5489);
        let expected = (3_499_211_612.0 + 581_869_302.0 * 2_f64.powi(32)) / 2_f64.powi(64);
        assert_eq!(generator.uniform_f64().to_bits(), expected.to_bits());
        assert_eq!(generator.uniform_f32().to_bits(), (3_890_346_734_u32 as f32 / 2_f32.powi(32)).to_bits());
    }

    #[test]
    fn discrete_takes_the_first_whose_running_sum_reaches_the_draw() {
        // The first draw of seed 5489 is 0.1354...
        assert_eq!(Generator::new(5489).discrete(&candidates(&[0.1, 0.05, 0.85])), 1);
        assert_eq!(Generator::new(5489).discrete(&candidates(&[0.2, 0.8])), 0);
        assert_eq!(Generator::new(5489).discrete(&candidates(&[0.0, 0.0, 1.0])), 2);
    }

    #[test]
    fn a_single_candidate_costs_no_draw() {
        let mut generator = Generator::new(7);
        assert_eq!(generator.discrete(&candidates(&[1.0])), 0);
        assert_eq!(generator.uniform_f64().to_bits(), Generator::new(7).uniform_f64().to_bits());
    }
}
