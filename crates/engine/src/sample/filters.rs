//! Samplers that keep the head of a distribution: top-k, top-p, min-p, top-n-sigma.
//!
//! Each is switched off by its neutral value. `min_keep` candidates always survive top-p and min-p.

use super::candidates::Candidates;

/// Above this many unsorted candidates top-p first tries to get by with the best [`NUCLEUS_GUESS`].
const NUCLEUS_SORTS_ALL: usize = 1024;
const NUCLEUS_GUESS: usize = 256;

/// Keeps the `k` most likely candidates; all of them at or below zero. (Fan et al., 2018.)
pub(super) fn top_k(candidates: &mut Candidates, k: i32) {
    if let Ok(k @ 1..) = usize::try_from(k) {
        candidates.keep_top(k);
    }
}

/// Keeps the smallest set of most likely candidates whose probabilities sum to at least `p`. (Holtzman et al., 2019.)
pub(super) fn top_p(candidates: &mut Candidates, p: f32, min_keep: usize) {
    if p >= 1.0 || candidates.items.is_empty() {
        return;
    }
    candidates.softmax(false);
    let total = candidates.items.len();
    if candidates.sorted || total <= NUCLEUS_SORTS_ALL {
        candidates.sort();
        let kept = nucleus(candidates.items.iter().map(|item| item.p), p, min_keep).unwrap_or(total);
        candidates.items.truncate(kept);
        return;
    }
    let guess = candidates.leading(NUCLEUS_GUESS)[..NUCLEUS_GUESS].iter().map(|item| item.p);
    let kept = nucleus(guess, p, min_keep).unwrap_or_else(|| {
        let all = candidates.leading(total).iter().map(|item| item.p);
        nucleus(all, p, min_keep).unwrap_or(total)
    });
    candidates.take_leading(kept);
}

fn nucleus(probabilities: impl Iterator<Item = f32>, p: f32, min_keep: usize) -> Option<usize> {
    let mut sum = 0.0_f32;
    probabilities.zip(1..).find_map(|(probability, kept)| {
        sum += probability;
        (sum >= p && kept >= min_keep).then_some(kept)
    })
}

/// Keeps candidates whose probability is at least `p` times that of the best: `logit >= max + ln p`. (Nguyen et al.,
/// 2024.)
pub(super) fn min_p(candidates: &mut Candidates, p: f32, min_keep: usize) {
    if p <= 0.0 || candidates.items.is_empty() {
        return;
    }
    if !candidates.sorted {
        let least = candidates.max_logit() + p.ln();
        let kept = candidates.items.iter().filter(|item| item.logit >= least).count();
        if kept > 0 && kept >= min_keep {
            candidates.items.retain(|item| item.logit >= least);
            return;
        }
        candidates.sort();
    }
    let least = candidates.items[0].logit + p.ln();
    let kept = candidates
        .items
        .iter()
        .enumerate()
        .skip(1)
        .find(|&(index, item)| item.logit < least && index >= min_keep)
        .map_or(candidates.items.len(), |(index, _)| index);
    candidates.items.truncate(kept);
}

/// Rules out candidates more than `n` standard deviations of the logits below the best. They stay in the list, with a
/// logit of negative infinity. (Tang et al., 2024.)
pub(super) fn top_n_sigma(candidates: &mut Candidates, n: f32) {
    if n <= 0.0 || candidates.items.len() <= 1 {
        return;
    }
    let possible =
        || candidates.items.iter().map(|item| item.logit).filter(|&logit| logit != f32::NEG_INFINITY);
    let count = possible().count() as f32;
    if count == 0.0 {
        return;
    }
    let max = candidates.max_logit();
    let mean = possible().fold(0.0_f32, |sum, logit| sum + logit) / count;
    // Each square is taken and added as an f64, the sum kept as an f32.
    let squares =
        possible().fold(0.0_f32, |sum, logit| (f64::from(sum) + f64::from(logit - mean).powi(2)) as f32);
    let least = max - n * (squares / count).sqrt();
    for item in &mut candidates.items {
        if item.logit < least {
            item.logit = f32::NEG_INFINITY;
        }
    }
}
