//! DRY ("don't repeat yourself"): tokens that would go on with a sequence the text already contains are penalised,
//! exponentially in the length of the repetition.
//!
//! A token that followed an earlier occurrence of the last `n` tokens loses `multiplier * base^(n - allowed_length)`,
//! where `n >= allowed_length`. A repetition never reaches back over a sequence breaker, and a breaker itself is never
//! penalised. (p-e-w's proposal; llama.cpp, `llama_sampler_dry`.) Lengths of repetitions come from the Z-function of
//! the reversed window, so a step is linear in it.

mod breakers;

pub(super) use breakers::Breakers;

use std::collections::VecDeque;

use reprise_gguf::TokenId;

use super::candidates::Candidates;
use super::params::DryParams;

#[derive(Debug)]
pub(super) struct Dry {
    multiplier: f32,
    base: f32,
    allowed_length: usize,
    breakers: Breakers,
    /// The last tokens, newest first, at most `length`.
    recent: VecDeque<u32>,
    length: usize,
    /// Of each suffix of the reversed window, how far it agrees with its beginning.
    agreement: Vec<usize>,
    /// By token id: one more than the longest repetition that the token would continue; zero for none.
    continued: Vec<u32>,
}

impl Dry {
    /// `None` when switched off. `length` is the number of tokens looked back on; `breakers` is asked only when needed.
    pub(super) fn new(
        params: &DryParams,
        length: usize,
        vocab: usize,
        breakers: impl FnOnce() -> Breakers,
    ) -> Option<Self> {
        let idle = params.multiplier == 0.0 || params.base < 1.0 || length == 0;
        (!idle).then(|| Self {
            multiplier: params.multiplier,
            base: params.base,
            allowed_length: usize::try_from(params.allowed_length).unwrap_or(0),
            breakers: breakers(),
            recent: VecDeque::new(),
            length,
            agreement: Vec::new(),
            continued: vec![0; vocab],
        })
    }

    pub(super) fn accept(&mut self, token: TokenId) {
        if self.recent.len() == self.length {
            self.recent.pop_back();
        }
        self.recent.push_front(token.0);
    }

    pub(super) fn apply(&mut self, candidates: &mut Candidates) {
        let most = self.largest_exponent();
        let recent: &[u32] = self.recent.make_contiguous();
        if recent.len() <= self.allowed_length {
            return;
        }
        let reach = self.breakers.reach(recent);
        if reach < self.allowed_length {
            return;
        }
        z_function(recent, &mut self.agreement);

        for (at, &agreement) in self.agreement.iter().enumerate().skip(1) {
            let repeated = agreement.min(reach);
            if repeated < self.allowed_length {
                continue;
            }
            if let Some(longest) = self.continued.get_mut(recent[at - 1] as usize) {
                *longest = (*longest).max(repeated as u32 + 1);
            }
        }
        for candidate in &mut candidates.items {
            let Some(repeated) = self.continued[candidate.id as usize].checked_sub(1) else { continue };
            if self.breakers.is_breaker(candidate.id) {
                continue;
            }
            let exponent = (repeated - self.allowed_length as u32).min(most);
            candidate.logit -=
                (f64::from(self.multiplier) * f64::from(self.base).powf(f64::from(exponent))) as f32;
        }
        for &token in recent {
            if let Some(longest) = self.continued.get_mut(token as usize) {
                *longest = 0;
            }
        }
        candidates.sorted = false;
    }

    /// The exponent beyond which a power of the base would leave the range of an `f32`.
    fn largest_exponent(&self) -> u32 {
        const LN_F32_MAX: f32 = 88.722_84;
        let limit = if self.base > 1.000_001 { (LN_F32_MAX / self.base.ln()) as u32 } else { 0 };
        if limit == 0 { u32::MAX } else { limit }
    }
}

/// `z[i]` is the length of the longest common prefix of `text` and `text[i..]`; `z[0]` is unused.
fn z_function(text: &[u32], z: &mut Vec<usize>) {
    z.clear();
    z.resize(text.len(), 0);
    // The match that reaches furthest so far: text[left..right] == text[..right - left].
    let (mut left, mut right) = (0, 0);
    for at in 1..text.len() {
        let mut length = if at < right { z[at - left].min(right - at) } else { 0 };
        while at + length < text.len() && text[length] == text[at + length] {
            length += 1;
        }
        z[at] = length;
        if at + length > right {
            (left, right) = (at, at + length);
        }
    }
}

#[cfg(test)]
mod tests;
