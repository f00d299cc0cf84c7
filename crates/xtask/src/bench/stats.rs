//! Medians and pairwise ratios.

/// Samples of one figure, one a round, of each server.
#[derive(Default)]
pub(super) struct Figure {
    /// Ours, in rounds.
    pub ours: Vec<f64>,
    /// The peer's, in the same rounds; empty when there is none.
    pub peers: Vec<f64>,
}

/// Whether a larger or a smaller figure is better.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Better {
    /// Speeds.
    Higher,
    /// Times.
    Lower,
}

impl Figure {
    /// How many times better we are, the median over the rounds of the ratio within each round.
    pub(super) fn advantage(&self, better: Better) -> Option<f64> {
        let ratios = self.ours.iter().zip(&self.peers).map(|(ours, peers)| match better {
            Better::Higher => ours / peers,
            Better::Lower => peers / ours,
        });
        median(&ratios.collect::<Vec<_>>())
    }
}

/// The middle sample, or the mean of the two middle ones.
pub(super) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// A figure for a table; a dash when there is none.
pub(super) fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_the_outlier() {
        assert_eq!(median(&[3.0, 100.0, 1.0]), Some(3.0));
        assert_eq!(median(&[1.0, 2.0, 3.0, 4.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn an_advantage_is_above_one_for_times_and_speeds_alike() {
        let figure = Figure { ours: vec![2.0, 2.0], peers: vec![1.0, 1.0] };
        assert_eq!(figure.advantage(Better::Higher), Some(2.0));
        assert_eq!(figure.advantage(Better::Lower), Some(0.5));
        assert_eq!(Figure { ours: vec![1.0], peers: vec![] }.advantage(Better::Lower), None);
    }
}
