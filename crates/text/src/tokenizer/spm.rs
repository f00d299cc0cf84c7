//! SentencePiece BPE: adjacent symbols merge by the score of the token that they make.

use std::collections::BinaryHeap;

use reprise_gguf::TokenId;

use crate::Vocab;

/// Appends the tokens of `text`, in which spaces are already escaped.
///
/// Of all adjacent pairs that make a token, the one with the highest score merges first, the leftmost of equals.
/// Characters that end up in no token become byte tokens.
///
/// This is not the `tokenizers` crate's BPE: that model ranks pairs, not the tokens they make, and wants both halves of
/// a pair to be tokens themselves. Scores written as such ranks lose ties and merges, and the list of pairs alone (half
/// a million for a vocabulary of 262k) takes several times as long to build as everything else here.
pub(super) fn encode(vocab: &Vocab, text: &str, output: &mut Vec<TokenId>) {
    let mut merger = Merger::new(vocab, text);
    merger.run();
    for symbol in merger.symbols.iter().filter(|symbol| symbol.len > 0) {
        let piece = &text[symbol.start..symbol.start + symbol.len];
        match vocab.find(piece) {
            Some(id) => output.push(id),
            None => output.extend(piece.bytes().filter_map(|byte| vocab.byte(byte).or(vocab.unk))),
        }
    }
}

/// A run of characters of the text; `len` is 0 once it has merged into its left neighbour.
struct Symbol {
    start: usize,
    len: usize,
    prev: Option<usize>,
    next: Option<usize>,
}

/// A pair of neighbours that makes a token. `len` tells, when its turn comes, whether both are still what they were.
#[derive(PartialEq)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Merger<'a> {
    vocab: &'a Vocab,
    text: &'a str,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Pair>,
}

impl<'a> Merger<'a> {
    fn new(vocab: &'a Vocab, text: &'a str) -> Self {
        let symbols = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, character))| {
                let len = character.len_utf8();
                let next = (start + len < text.len()).then_some(index + 1);
                Symbol { start, len, prev: index.checked_sub(1), next }
            })
            .collect();
        Self { vocab, text, symbols, queue: BinaryHeap::new() }
    }

    fn run(&mut self) {
        for right in 1..self.symbols.len() {
            self.consider(Some(right - 1), Some(right));
        }
        while let Some(pair) = self.queue.pop() {
            let (left_len, right_len) = (self.symbols[pair.left].len, self.symbols[pair.right].len);
            if left_len == 0 || right_len == 0 || left_len + right_len != pair.len {
                continue;
            }
            let next = self.symbols[pair.right].next;
            self.symbols[pair.right].len = 0;
            self.symbols[pair.left].len = pair.len;
            self.symbols[pair.left].next = next;
            if let Some(next) = next {
                self.symbols[next].prev = Some(pair.left);
            }
            self.consider(self.symbols[pair.left].prev, Some(pair.left));
            self.consider(Some(pair.left), next);
        }
    }

    /// Queues a pair if it makes a token.
    fn consider(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let start = self.symbols[left].start;
        let len = self.symbols[left].len + self.symbols[right].len;
        if let Some(id) = self.vocab.find(&self.text[start..start + len]) {
            self.queue.push(Pair { score: self.vocab.score(id), left, right, len });
        }
    }
}

#[cfg(test)]
mod tests;
