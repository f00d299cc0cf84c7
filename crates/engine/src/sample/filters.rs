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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_k_keeps_the_best_in_order() {
        let kept = |k| {
            let mut candidates = Candidates::weighing(&[1.0, 4.0, 2.0, 3.0]);
            top_k(&mut candidates, k);
            candidates.ids()
        };
        assert_eq!(kept(2), [1, 3]);
        assert_eq!(kept(9), [1, 3, 2, 0]);
        assert_eq!(kept(0), [0, 1, 2, 3]);
        assert_eq!(kept(-1), [0, 1, 2, 3]);
    }

    #[test]
    fn top_p_keeps_the_smallest_sufficient_set() {
        let kept = |p, min_keep| {
            let mut candidates = Candidates::weighing(&[1.0, 5.0, 2.0, 8.0]);
            top_p(&mut candidates, p, min_keep);
            candidates.ids()
        };
        assert_eq!(kept(0.4, 0), [3]);
        assert_eq!(kept(0.6, 0), [3, 1]);
        assert_eq!(kept(0.0, 3), [3, 1, 2]);
        assert_eq!(kept(1.0, 0), [0, 1, 2, 3]);
    }

    #[test]
    fn top_p_is_the_same_for_many_candidates() {
        let weights: Vec<f32> = (0..3000_u32).map(|id| 1.0 / (1 + (id * 7919) % 3000) as f32).collect();
        for p in [0.3, 0.7, 0.95] {
            let mut few = Candidates::weighing(&weights);
            few.sort();
            top_p(&mut few, p, 0);
            let mut many = Candidates::weighing(&weights);
            top_p(&mut many, p, 0);
            assert_eq!(few.ids(), many.ids());
        }
    }

    #[test]
    fn min_p_measures_against_the_best() {
        let kept = |p, min_keep, sorted| {
            let mut candidates = Candidates::weighing(&[1.0, 5.0, 2.0, 8.0]);
            if sorted {
                candidates.sort();
            }
            min_p(&mut candidates, p, min_keep);
            candidates.ids()
        };
        assert_eq!(kept(0.5, 0, true), [3, 1]);
        assert_eq!(kept(0.5, 0, false), [1, 3]);
        assert_eq!(kept(0.9, 3, false), [3, 1, 2]);
        assert_eq!(kept(0.0, 0, false), [0, 1, 2, 3]);
    }

    #[test]
    fn top_n_sigma_counts_deviations_of_the_logits() {
        // Mean 0, deviation 2.
        let logits = [2.0, -2.0, 2.0, -2.0, f32::NEG_INFINITY];
        let possible = |n| {
            let mut candidates = Candidates::default();
            candidates.load(&logits);
            top_n_sigma(&mut candidates, n);
            candidates
                .items
                .iter()
                .filter(|item| item.logit.is_finite())
                .map(|item| item.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(possible(1.9), [0, 2]);
        assert_eq!(possible(2.0), [0, 1, 2, 3]);
        assert_eq!(possible(0.0), [0, 1, 2, 3]);
    }
}
