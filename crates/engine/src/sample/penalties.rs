//! Repeat, frequency and presence penalties over the last tokens, the prompt's among them.
//!
//! For a token seen `n > 0` times in the window: a logit above zero is divided by the repeat penalty, one at or below
//! zero multiplied; then `n * frequency + presence` is subtracted. (llama.cpp, `llama_sampler_penalties`.)

use std::collections::VecDeque;

use reprise_gguf::TokenId;

use super::candidates::Candidates;

#[derive(Debug)]
pub(super) struct Penalties {
    window: VecDeque<u32>,
    length: usize,
    /// Occurrences in the window, by token id.
    counts: Vec<u32>,
    repeat: f32,
    frequency: f32,
    presence: f32,
}

impl Penalties {
    /// `None` when nothing would be penalised. `length` is the number of tokens looked back on.
    pub(super) fn new(
        length: usize,
        vocab: usize,
        repeat: f32,
        frequency: f32,
        presence: f32,
    ) -> Option<Self> {
        let idle = length == 0 || (repeat == 1.0 && frequency == 0.0 && presence == 0.0);
        (!idle).then(|| Self {
            window: VecDeque::new(),
            length,
            counts: vec![0; vocab],
            repeat,
            frequency,
            presence,
        })
    }

    pub(super) fn accept(&mut self, token: TokenId) {
        let Some(count) = self.counts.get_mut(token.0 as usize) else { return };
        *count += 1;
        if self.window.len() == self.length
            && let Some(oldest) = self.window.pop_front()
        {
            self.counts[oldest as usize] -= 1;
        }
        self.window.push_back(token.0);
    }

    pub(super) fn apply(&self, candidates: &mut Candidates) {
        for candidate in &mut candidates.items {
            let count = self.counts[candidate.id as usize];
            if count == 0 {
                continue;
            }
            if candidate.logit <= 0.0 {
                candidate.logit *= self.repeat;
            } else {
                candidate.logit /= self.repeat;
            }
            candidate.logit -= count as f32 * self.frequency + self.presence;
        }
        candidates.sorted = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn penalised(penalties: &Penalties, logits: &[f32]) -> Vec<f32> {
        let mut candidates = Candidates::default();
        candidates.load(logits);
        penalties.apply(&mut candidates);
        candidates.items.iter().map(|item| item.logit).collect()
    }

    #[test]
    fn each_sign_of_a_logit_becomes_less_likely() {
        let mut penalties = Penalties::new(8, 4, 2.0, 0.25, 0.5).unwrap();
        for token in [0, 1, 1] {
            penalties.accept(TokenId(token));
        }
        assert_eq!(penalised(&penalties, &[3.0, -3.0, 3.0, 0.0]), [0.75, -7.0, 3.0, 0.0]);
    }

    #[test]
    fn the_window_forgets() {
        let mut penalties = Penalties::new(2, 4, 2.0, 0.0, 0.0).unwrap();
        for token in [0, 1, 2] {
            penalties.accept(TokenId(token));
        }
        assert_eq!(penalised(&penalties, &[4.0; 4]), [4.0, 2.0, 2.0, 4.0]);
    }

    #[test]
    fn neutral_settings_are_left_out() {
        assert!(Penalties::new(64, 4, 1.0, 0.0, 0.0).is_none());
        assert!(Penalties::new(0, 4, 2.0, 1.0, 1.0).is_none());
    }
}
