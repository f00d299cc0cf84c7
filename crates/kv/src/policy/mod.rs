//! Which block to give up when memory is full.
//!
//! Three [`Expert`]s, LRU, predicted next use and decayed frequency, each run a shadow cache over ids only: same
//! capacity, same requests, same rule that only leaves go. The one whose shadow found most blocks lately decides what
//! really goes. LRU decides from the start and has to be beaten by a margin, so that a short or aimless history is
//! treated by LRU to the letter, and any other not much worse than by it.
//!
//! Every block costs about the same to recompute and takes the same memory, and blocks go tail first, so a block's worth
//! is only how soon it is asked for again. Time is the number of requests. Nothing here is random, and no answer depends
//! on the order in which leaves are offered.

mod expected;
mod experts;
mod history;
mod shadow;
#[cfg(test)]
mod tests;
mod tournament;

use expected::Expected;
use experts::{Expert, Rank, Time};
use history::History;
use shadow::Shadow;
use tournament::Tournament;

/// A block of the prefix tree: a hash over all tokens up to its end. Only an index: the tree compares tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeKey(pub(crate) u64);

/// What is known of past and waiting requests, and the decision drawn from it.
///
/// Memory is bounded: at most five records per block of capacity, and the blocks of as many waiting prompts as fit.
#[derive(Debug)]
pub(crate) struct Policy {
    capacity: u32,
    time: Time,
    history: History,
    shadows: [Shadow; Expert::COUNT],
    tournament: Tournament,
    expected: Expected,
}

impl Policy {
    /// For a tree of at most `capacity` blocks.
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            capacity,
            time: Time::new(capacity),
            history: History::new(capacity),
            shadows: Expert::ALL.map(|expert| Shadow::new(expert, capacity)),
            tournament: Tournament::new(capacity),
            expected: Expected::default(),
        }
    }

    /// A prompt was asked for: the keys of its blocks from the root on, held or not.
    ///
    /// A partly filled last block should be among them, so that the tree has no leaf unknown here; once it has been
    /// filled, [`Policy::grow`] gives its new key. What lies beyond the capacity is ignored.
    pub(crate) fn request(&mut self, path: &[NodeKey]) {
        let path = self.fitting(path);
        self.time.request(path.len());
        let found = [0, 1, 2].map(|at: usize| self.shadows[at].found(path, &self.history));
        self.tournament.round(found, &self.time);
        let records = self.history.request(path, &self.time);
        self.admit(&records);
    }

    /// The conversation of a request grew to `path` by generated tokens, from block `from` on. They belong to that
    /// request: they are as recent as its prompt, and nobody has asked for them yet.
    pub(crate) fn grow(&mut self, path: &[NodeKey], from: usize) {
        let path = self.fitting(path);
        let records = self.history.grow(path, from, &self.time);
        self.admit(&records);
    }

    /// Prompts that wait, the next one first: none of their blocks goes while there is another leaf. Replaces what was
    /// expected before.
    pub(crate) fn expect<'a>(&mut self, paths: impl Iterator<Item = &'a [NodeKey]>) {
        self.expected = Expected::new(paths, self.capacity);
    }

    /// Which of these leaves (with their depth, the root's being 1) to give up; `None` if there are none.
    pub(crate) fn victim(&self, leaves: impl Iterator<Item = (NodeKey, u32)>) -> Option<NodeKey> {
        let expert = self.tournament.leader();
        let rank = |(key, depth)| {
            let rank = match self.history.get(key) {
                Some(record) => expert.rank(record, &self.time),
                None => Rank::unknown(key, depth),
            };
            (self.expected.rank(key), rank, key)
        };
        leaves.map(rank).max().map(|(_, _, key)| key)
    }

    /// Proven reuse: how many requests have asked for a block, the one that made it included. Zero if it is unknown or
    /// was asked for too long ago.
    pub(crate) fn uses(&self, key: NodeKey) -> u32 {
        self.history.get(key).map_or(0, |record| record.uses)
    }

    fn fitting<'a>(&self, path: &'a [NodeKey]) -> &'a [NodeKey] {
        &path[..path.len().min(self.capacity as usize)]
    }

    /// Takes a path into all shadow caches; whatever none of them holds any more becomes a ghost.
    fn admit(&mut self, records: &[u32]) {
        for shadow in &mut self.shadows {
            shadow.admit(records, &mut self.history, &self.time);
        }
        self.history.forget();
    }
}
