//! Logit bias: `logit += bias`, the first sampler of every chain. Entries for the same token add up; negative infinity
//! bans a token. (llama.cpp, `llama_sampler_logit_bias`; end-of-generation tokens are banned this way by `ignore_eos`.)

use reprise_gguf::TokenId;

use super::candidates::Candidates;

#[derive(Debug)]
pub(super) struct LogitBias {
    pub(super) biases: Vec<(TokenId, f32)>,
}

impl LogitBias {
    /// Runs on the whole vocabulary, where a candidate's index is its id.
    pub(super) fn apply(&self, candidates: &mut Candidates) {
        for &(token, bias) in &self.biases {
            if let Some(candidate) = candidates.items.get_mut(token.0 as usize) {
                candidate.logit += bias;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_add_up_and_foreign_tokens_are_ignored() {
        let mut candidates = Candidates::default();
        candidates.load(&[1.0, 1.0, 1.0]);
        let ban = f32::NEG_INFINITY;
        let biases = vec![(TokenId(1), 0.5), (TokenId(9), 1.0), (TokenId(1), -2.0), (TokenId(2), ban)];
        LogitBias { biases }.apply(&mut candidates);
        assert_eq!(candidates.items.iter().map(|item| item.logit).collect::<Vec<_>>(), [1.0, -0.5, ban]);
    }
}
