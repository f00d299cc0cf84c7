//! The tokens still in the running for one step, and what all samplers do with them: softmax and ordering.

use super::order;

/// One token in the running.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) id: u32,
    pub(super) logit: f32,
    /// Valid after [`Candidates::softmax`] or a selecting sampler.
    pub(super) p: f32,
}

/// The candidates of one step. The buffers live as long as the sampler, so a step allocates nothing.
///
/// Sums run in the order of the candidates and in the width of the reference, so that a sum that decides a token is the
/// same number.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) items: Vec<Candidate>,
    /// Whether the items descend by logit. Samplers that change logits individually clear it.
    pub(super) sorted: bool,
    /// Index of the chosen item, set by the sampler that ends the chain.
    pub(super) selected: usize,
    scratch: Vec<Candidate>,
    buckets: Vec<u8>,
}

/// Selections up to this size are made by a heap, larger ones by buckets.
const HEAP_LIMIT: usize = 128;
const BUCKETS: usize = 128;
/// Logits outside this range share the outermost buckets.
const BUCKET_RANGE: std::ops::Range<f32> = -10.0..10.0;

impl Candidates {
    /// Starts a step with the whole vocabulary in order. A NaN, which has no place in an order, becomes impossible.
    pub(super) fn load(&mut self, logits: &[f32]) {
        self.items.clear();
        self.items.extend(logits.iter().zip(0..).map(|(&logit, id)| Candidate {
            id,
            logit: if logit.is_nan() { f32::NEG_INFINITY } else { logit },
            p: 0.0,
        }));
        self.sorted = false;
        self.selected = 0;
    }

    /// Starts a step with the best candidates alone, given in descending order.
    pub(super) fn load_best(&mut self, logits: &[f32], tokens: &[u32]) {
        self.items.clear();
        self.items.extend(logits.iter().zip(tokens).map(|(&logit, &id)| Candidate { id, logit, p: 0.0 }));
        self.sorted = true;
        self.selected = 0;
    }

    /// The token that the chain has selected.
    pub(super) fn chosen(&self) -> Option<Candidate> {
        self.items.get(self.selected).copied()
    }

    /// Sets every probability from the logits; on demand sorts first.
    pub(super) fn softmax(&mut self, sort: bool) {
        if sort {
            self.sort();
        }
        let max = self.max_logit();
        let mut sum = 0.0_f32;
        for item in &mut self.items {
            item.p = (item.logit - max).exp();
            sum += item.p;
        }
        for item in &mut self.items {
            item.p /= sum;
        }
    }

    /// The highest logit.
    pub(super) fn max_logit(&self) -> f32 {
        let first = self.items.first().map_or(f32::NEG_INFINITY, |item| item.logit);
        if self.sorted {
            return first;
        }
        self.items.iter().fold(first, |max, item| if max < item.logit { item.logit } else { max })
    }

    /// Sorts all candidates, unless they are.
    pub(super) fn sort(&mut self) {
        if !self.sorted {
            self.select_top(self.items.len());
        }
    }

    /// Keeps the `count` best candidates, sorted.
    pub(super) fn keep_top(&mut self, count: usize) {
        let count = count.min(self.items.len());
        if !self.sorted {
            self.select_top(count);
        }
        self.items.truncate(count);
    }

    /// The candidates with the `count` best in front, sorted; the candidates themselves stay as they are.
    pub(super) fn leading(&mut self, count: usize) -> &[Candidate] {
        self.bucket_sort(count.min(self.items.len()));
        &self.scratch
    }

    /// Replaces the candidates by the first `count` of the last [`Candidates::leading`].
    pub(super) fn take_leading(&mut self, count: usize) {
        self.scratch.truncate(count);
        std::mem::swap(&mut self.items, &mut self.scratch);
        self.sorted = true;
    }

    /// Replaces the candidates by those at `indices`, in that order, which is not the order of logits.
    pub(super) fn take_indices(&mut self, indices: &[u32]) {
        self.scratch.clear();
        self.scratch.extend(indices.iter().map(|&index| self.items[index as usize]));
        std::mem::swap(&mut self.items, &mut self.scratch);
        self.sorted = false;
    }

    fn select_top(&mut self, count: usize) {
        if count <= HEAP_LIMIT {
            order::partial_sort(&mut self.items, count, by_logit);
            self.items.truncate(count);
            self.sorted = true;
        } else {
            self.bucket_sort(count);
            self.take_leading(count);
        }
    }

    /// Counts the logits into buckets, moves the buckets that hold the best `count` to the scratch, best first, and
    /// sorts them there.
    fn bucket_sort(&mut self, count: usize) {
        const SCALE: f32 = BUCKETS as f32 / (BUCKET_RANGE.end - BUCKET_RANGE.start);
        const OFFSET: f32 = -BUCKET_RANGE.start * SCALE;
        let mut sizes = [0_usize; BUCKETS];
        self.buckets.clear();
        self.buckets.extend(self.items.iter().map(|item| {
            let bucket = ((SCALE * item.logit + OFFSET) as i32).clamp(0, BUCKETS as i32 - 1) as u8;
            sizes[usize::from(bucket)] += 1;
            bucket
        }));

        let mut starts = [0_usize; BUCKETS];
        let mut end = 0;
        let mut lowest = BUCKETS;
        while lowest > 0 && (end < count || lowest == BUCKETS) {
            lowest -= 1;
            starts[lowest] = end;
            end += sizes[lowest];
        }

        self.scratch.clear();
        self.scratch.resize(end, Candidate { id: 0, logit: 0.0, p: 0.0 });
        let mut next = starts;
        for (item, &bucket) in self.items.iter().zip(&self.buckets) {
            let bucket = usize::from(bucket);
            if bucket >= lowest {
                self.scratch[next[bucket]] = *item;
                next[bucket] += 1;
            }
        }
        for bucket in lowest + 1..BUCKETS {
            order::sort(&mut self.scratch[starts[bucket]..next[bucket]], by_logit);
        }
        let tail = starts[lowest];
        order::partial_sort(&mut self.scratch[tail..], count - tail, by_logit);
    }
}

/// Descending by logit.
pub(super) fn by_logit(a: &Candidate, b: &Candidate) -> bool {
    a.logit > b.logit
}

#[cfg(test)]
impl Candidates {
    /// Candidates whose probabilities are in the ratio of `weights`.
    pub(super) fn weighing(weights: &[f32]) -> Self {
        let mut candidates = Self::default();
        candidates.load(&weights.iter().map(|weight| weight.ln()).collect::<Vec<_>>());
        candidates
    }

    /// The ids that are left, in order.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.items.iter().map(|item| item.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_is_a_distribution_in_the_order_of_the_candidates() {
        let mut candidates = Candidates::weighing(&[1.0, 5.0, 2.0]);
        candidates.softmax(false);
        let probabilities: Vec<_> = candidates.items.iter().map(|item| item.p).collect();
        for (found, expected) in probabilities.iter().zip([0.125, 0.625, 0.25]) {
            assert!((found - expected).abs() < 1e-6);
        }
        candidates.softmax(true);
        assert_eq!(candidates.ids(), [1, 2, 0]);
        assert!((candidates.items[0].p - 0.625).abs() < 1e-6);
    }

    #[test]
    fn buckets_and_heap_agree_where_nothing_ties() {
        let logits: Vec<f32> = (0..2000_u32).map(|id| ((id * 7919) % 2000) as f32 / 50.0 - 25.0).collect();
        for count in [1, 127, 128, 129, 500, 2000] {
            let mut candidates = Candidates::default();
            candidates.load(&logits);
            candidates.keep_top(count);
            let expected: Vec<_> = (0..count).map(|rank| (1999 - rank) as f32 / 50.0 - 25.0).collect();
            assert_eq!(
                candidates.items.iter().map(|item| item.logit).collect::<Vec<_>>(),
                expected,
                "{count}"
            );
        }
    }

    #[test]
    fn logits_beyond_the_buckets_are_ordered_too() {
        let mut logits = vec![0.0; 200];
        logits[3] = 1e30;
        logits[5] = f32::INFINITY;
        logits[7] = f32::NEG_INFINITY;
        logits[9] = -1e30;
        let mut candidates = Candidates::default();
        candidates.load(&logits);
        candidates.sort();
        assert_eq!(candidates.ids()[..2], [5, 3]);
        assert_eq!(candidates.ids()[198..], [9, 7]);
    }
}
