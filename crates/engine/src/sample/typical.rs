//! Locally typical sampling: keeps the candidates whose surprise is nearest to the expected surprise.
//!
//! With entropy `H = -sum p ln p` the candidates are ordered by `|-ln p - H|` and kept until their probabilities sum to
//! more than the given mass. (Meister et al., 2022; llama.cpp, `llama_sampler_typical`.) A candidate of zero
//! probability makes the entropy NaN, and with it every distance: as in the reference, the order is then that of a sort
//! in which all are equal.

use super::candidates::Candidates;
use super::order;

#[derive(Debug)]
pub(super) struct Typical {
    mass: f32,
    min_keep: usize,
    distances: Vec<f32>,
    indices: Vec<u32>,
}

impl Typical {
    /// `None` when everything is kept.
    pub(super) fn new(mass: f32, min_keep: usize) -> Option<Self> {
        (mass < 1.0).then(|| Self { mass, min_keep, distances: Vec::new(), indices: Vec::new() })
    }

    pub(super) fn apply(&mut self, candidates: &mut Candidates) {
        candidates.softmax(true);
        let items = &candidates.items;
        let entropy = items.iter().fold(0.0_f32, |sum, item| sum + -item.p * item.p.ln());
        self.distances.clear();
        self.distances.extend(items.iter().map(|item| (-item.p.ln() - entropy).abs()));
        self.indices.clear();
        self.indices.extend((0..).take(items.len()));
        let distances = &self.distances;
        order::sort(&mut self.indices, |&a, &b| distances[a as usize] < distances[b as usize]);

        let mut sum = 0.0_f32;
        let kept = self.indices.iter().zip(1..).find_map(|(&index, kept)| {
            sum += items[index as usize].p;
            (sum > self.mass && kept >= self.min_keep).then_some(kept)
        });
        candidates.take_indices(&self.indices[..kept.unwrap_or(items.len())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 8 : 4 : 2 : 2 the surprises are 1, 2, 3 and 3 bits and the entropy 1.75 bits: the second is the most typical.
    #[test]
    fn the_most_typical_candidates_stay() {
        let kept = |mass, min_keep| {
            let mut candidates = Candidates::weighing(&[2.0, 8.0, 4.0, 2.0]);
            Typical::new(mass, min_keep).unwrap().apply(&mut candidates);
            candidates.ids()
        };
        assert_eq!(kept(0.2, 0), [2]);
        assert_eq!(kept(0.2, 2), [2, 1]);
        assert_eq!(kept(0.7, 0), [2, 1]);
        assert_eq!(kept(0.99, 0).len(), 4);
        assert!(Typical::new(1.0, 0).is_none());
    }
}
