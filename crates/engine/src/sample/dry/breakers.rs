//! Sequence breakers: strings over which DRY does not look back, as tokens.

use std::collections::HashMap;

use reprise_gguf::TokenId;

/// Longer breakers are cut, bytes.
const MAX_BYTES: usize = 40;
/// Longer tails are cut, tokens.
const MAX_TAIL: usize = 20;

/// For each token that can begin a breaker the token sequences that complete it; empty where the token contains a
/// breaker whole.
#[derive(Debug, Default)]
pub(in crate::sample) struct Breakers(HashMap<u32, Vec<Vec<u32>>>);

impl Breakers {
    /// Finds the tokens that contain a breaker or end in its beginning. `pieces` are the bytes of every token in order,
    /// `encode` turns the rest of a breaker into tokens.
    pub(in crate::sample) fn new(
        strings: &[String],
        pieces: &[&[u8]],
        encode: impl Fn(&str) -> Vec<TokenId>,
    ) -> Self {
        let mut heads: HashMap<u32, Vec<Vec<u32>>> = HashMap::new();
        for breaker in strings.iter().filter(|string| !string.is_empty()) {
            let breaker = &breaker.as_bytes()[..breaker.len().min(MAX_BYTES)];
            // The tail depends only on how much of the breaker the token covers.
            let mut tails: Vec<Option<Vec<u32>>> = vec![None; breaker.len()];
            for (token, piece) in (0..).zip(pieces) {
                if piece.windows(breaker.len()).any(|window| window == breaker) {
                    heads.entry(token).or_default().push(Vec::new());
                    continue;
                }
                for covered in
                    (1..breaker.len()).rev().filter(|&covered| piece.ends_with(&breaker[..covered]))
                {
                    // A cut inside a character leaves bytes that are no text: such a tail cannot be asked for.
                    let Ok(rest) = std::str::from_utf8(&breaker[covered..]) else { continue };
                    let tail = tails[covered].get_or_insert_with(|| {
                        encode(rest).into_iter().take(MAX_TAIL).map(|token| token.0).collect()
                    });
                    let known = heads.entry(token).or_default();
                    if !known.contains(tail) {
                        known.push(tail.clone());
                    }
                }
            }
        }
        Self(heads)
    }

    /// How many of the last tokens (`recent`, newest first) come after the last breaker.
    pub(super) fn reach(&self, recent: &[u32]) -> usize {
        let after = |at: usize| {
            let tails = self.0.get(&recent[at])?;
            let follows = |tail: &&Vec<u32>| {
                tail.len() <= at
                    && tail.iter().zip(recent[..at].iter().rev()).all(|(expected, token)| expected == token)
            };
            Some(at - tails.iter().filter(follows).map(Vec::len).max()?)
        };
        (0..recent.len()).find_map(after).unwrap_or(recent.len())
    }

    /// Whether the token contains a breaker whole.
    pub(super) fn is_breaker(&self, token: u32) -> bool {
        self.0.get(&token).is_some_and(|tails| tails.iter().any(Vec::is_empty))
    }
}
