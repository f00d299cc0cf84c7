//! Prompt lookup: what may come next is what followed the same tokens the last time.

use std::collections::HashMap;

use reprise_gguf::TokenId;

/// The tokens of a generation, with an index over their n-grams that grows with them: a token costs the same however
/// long the text is.
#[derive(Debug)]
pub(crate) struct Ngrams {
    /// Tokens of an n-gram, at least one.
    size: usize,
    tokens: Vec<TokenId>,
    /// Polynomial hash of the last `size` tokens.
    tail: u64,
    /// Weight of the oldest token in a hash.
    oldest: u64,
    /// By the n-gram's hash. The last n-gram of the text is not in it: nothing has followed it yet.
    seen: HashMap<u64, Seen>,
}

/// An n-gram that something has followed.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Where the text went on after it, the last time.
    next: usize,
    times: u32,
}

/// Base of the hash: odd, so that no token's weight ever vanishes.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

impl Ngrams {
    /// An index over the n-grams of `size` tokens in a text.
    pub(crate) fn new(size: u32, tokens: &[TokenId]) -> Self {
        let size = size.max(1);
        let mut ngrams = Self {
            size: size as usize,
            tokens: Vec::with_capacity(tokens.len()),
            tail: 0,
            oldest: BASE.wrapping_pow(size - 1),
            seen: HashMap::new(),
        };
        tokens.iter().for_each(|token| ngrams.push(*token));
        ngrams
    }

    /// Appends a token to the text.
    pub(crate) fn push(&mut self, token: TokenId) {
        let length = self.tokens.len();
        if let Some(first) = length.checked_sub(self.size) {
            let seen = self.seen.entry(self.tail).or_insert(Seen { next: length, times: 0 });
            *seen = Seen { next: length, times: seen.times.saturating_add(1) };
            self.tail = self.tail.wrapping_sub(digit(self.tokens[first]).wrapping_mul(self.oldest));
        }
        self.tail = self.tail.wrapping_mul(BASE).wrapping_add(digit(token));
        self.tokens.push(token);
    }

    /// What followed the last n-gram when it occurred before, the most recent time; at most `most` tokens, and nothing if
    /// it did not occur at least `times` times. Text that repeats itself up to the end is continued over the end.
    pub(crate) fn draft(&self, times: u32, most: usize) -> Vec<TokenId> {
        let seen = self.seen.get(&self.tail).filter(|seen| seen.times >= times);
        let Some((seen, tail)) = seen.zip(self.tokens.len().checked_sub(self.size)) else {
            return Vec::new();
        };
        // Two n-grams can have the same hash.
        if self.tokens[seen.next - self.size..seen.next] != self.tokens[tail..] {
            return Vec::new();
        }
        self.tokens[seen.next..].iter().copied().cycle().take(most).collect()
    }
}

/// A token in a hash: never zero, and spread over all bits.
fn digit(token: TokenId) -> u64 {
    (u64::from(token.0) + 1).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &str) -> Vec<TokenId> {
        text.bytes().map(|byte| TokenId(byte.into())).collect()
    }

    fn draft(size: u32, text: &str, times: u32, most: usize) -> String {
        let drafted = Ngrams::new(size, &tokens(text)).draft(times, most);
        drafted.iter().map(|token| char::from(token.0 as u8)).collect()
    }

    #[test]
    fn the_most_recent_occurrence_is_continued() {
        assert_eq!(draft(2, "abX abY ab", 1, 2), "Y ");
        assert_eq!(draft(3, "abX abY ab", 1, 2), "Y ");
        assert_eq!(draft(4, "abX abY ab", 1, 2), "", "no four tokens occurred before");
        assert_eq!(draft(2, "ab", 1, 4), "");
        assert_eq!(draft(2, "a", 1, 4), "");
        assert_eq!(draft(2, "", 1, 4), "");
        assert_eq!(draft(2, "abX ab", 1, 0), "");
    }

    #[test]
    fn a_repeating_end_goes_on_repeating() {
        assert_eq!(draft(1, "aa", 1, 5), "aaaaa");
        assert_eq!(draft(2, "xyzxy", 1, 7), "zxyzxyz");
    }

    #[test]
    fn rare_ngrams_are_no_hits() {
        assert_eq!(draft(2, "abX abY ab", 2, 1), "Y");
        assert_eq!(draft(2, "abX abY ab", 3, 1), "");
    }

    /// The definition, at the cost of reading the whole text.
    fn searched(size: usize, tokens: &[TokenId], times: u32, most: usize) -> Vec<TokenId> {
        let Some(tail) = tokens.len().checked_sub(size).map(|at| &tokens[at..]) else { return Vec::new() };
        let hits: Vec<usize> = (size..tokens.len()).filter(|end| &tokens[end - size..*end] == tail).collect();
        match hits.last() {
            Some(&next) if hits.len() >= times as usize => {
                let mut longer = tokens.to_vec();
                (0..most).for_each(|i| longer.push(longer[next + i]));
                longer.split_off(tokens.len())
            }
            _ => Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_search_finds(
            text in prop::collection::vec((0..3_u32).prop_map(TokenId), 0..80),
            size in 1..6_u32,
            times in 1..4_u32,
            most in 0..12_usize,
        ) {
            let mut ngrams = Ngrams::new(size, &[]);
            for end in 0..=text.len() {
                let expected = searched(size as usize, &text[..end], times, most);
                prop_assert_eq!(ngrams.draft(times, most), expected);
                if let Some(token) = text.get(end) {
                    ngrams.push(*token);
                }
            }
        }
    }
}
