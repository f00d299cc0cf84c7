//! Probabilities for the client: of the model (before the chain) or of the draw (after it).

use reprise_gguf::TokenId;
use reprise_text::Text;

use super::candidates::{Candidate, Candidates, by_logit};
use super::order;
use super::{TokenProb, TokenProbs};

/// Which probabilities a step reports.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Spells the tokens.
    pub text: &'a Text,
    /// How many candidates.
    pub top: u32,
    /// After the chain rather than before.
    pub post_sampling: bool,
    /// Control tokens are spelled out.
    pub special: bool,
}

impl Report<'_> {
    /// Log-probabilities of the model; neither bias nor grammar nor any sampler shows in them. `scratch` is overwritten.
    pub(super) fn before_chain(
        &self,
        logits: &[f32],
        chosen: Candidate,
        scratch: &mut Vec<Candidate>,
    ) -> TokenProbs {
        let (logarithm, top) = logarithms(logits, self.top as usize, scratch);
        let value = logits.get(chosen.id as usize).map_or(f32::MIN, |&logit| logarithm(logit));
        TokenProbs {
            chosen: self.token(chosen.id, value),
            top: top.map(|(id, value)| self.token(id, value)).collect(),
        }
    }

    /// Probabilities among the candidates that the chain left.
    pub(super) fn after_chain(&self, chosen: Candidate, candidates: &mut Candidates) -> TokenProbs {
        TokenProbs {
            chosen: self.token(chosen.id, chosen.p),
            top: most_likely(candidates, self.top as usize)
                .map(|(id, value)| self.token(id, value))
                .collect(),
        }
    }

    fn token(&self, id: u32, value: f32) -> TokenProb {
        let id = TokenId(id);
        let tokenizer = &self.text.tokenizer;
        let bytes = if self.special { tokenizer.piece(id) } else { tokenizer.piece_plain(id) };
        TokenProb { id, bytes: bytes.to_vec(), value }
    }
}

/// What makes a logit a log-probability over the whole vocabulary, and the `count` best tokens with theirs.
///
/// The sum is an `f32` over the candidates with the reported ones in front, as in the reference; the logarithm of zero
/// is the smallest finite number.
pub(super) fn logarithms<'a>(
    logits: &[f32],
    count: usize,
    scratch: &'a mut Vec<Candidate>,
) -> (impl Fn(f32) -> f32 + Copy, impl Iterator<Item = (u32, f32)> + 'a) {
    let count = count.min(logits.len());
    scratch.clear();
    scratch.extend(logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit, p: 0.0 }));
    order::partial_sort(scratch, count, by_logit);
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum = scratch.iter().fold(0.0_f32, |sum, item| sum + (item.logit - max).exp());
    let logarithm = move |logit: f32| {
        let p = (logit - max).exp() / sum;
        if p == 0.0 { f32::MIN } else { p.ln() }
    };
    (logarithm, scratch[..count].iter().map(move |item| (item.id, logarithm(item.logit))))
}

/// The `count` most likely candidates; impossible ones are left out.
pub(super) fn most_likely(
    candidates: &mut Candidates,
    count: usize,
) -> impl Iterator<Item = (u32, f32)> + '_ {
    if !candidates.sorted {
        order::sort(&mut candidates.items, |a, b| a.p > b.p);
    }
    candidates.items.iter().take(count).take_while(|item| item.p != 0.0).map(|item| (item.id, item.p))
}
