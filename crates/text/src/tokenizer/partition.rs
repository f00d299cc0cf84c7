//! Special tokens in a text: cut out before anything else looks at it.

use aho_corasick::AhoCorasick;
use reprise_gguf::TokenId;

use crate::{TextError, TokenKind, Vocab};

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fragment<'a> {
    /// To be tokenised.
    Text(&'a str),
    /// A special token that stood there as text.
    Token(TokenId),
}

/// Finds the texts of special tokens.
#[derive(Debug)]
pub(super) struct Partition {
    automaton: AhoCorasick,
    /// Longest text first: the order in which they claim their places in a text.
    tokens: Vec<TokenId>,
    /// Whether the token counts only on request.
    on_request: Vec<bool>,
}

impl Partition {
    pub(super) fn of(vocab: &Vocab) -> Result<Self, TextError> {
        let mut tokens: Vec<TokenId> = vocab
            .ids()
            .filter(|&id| vocab.is_special(id) || vocab.token_kind(id) == TokenKind::UserDefined)
            .collect();
        tokens.sort_by_key(|&id| std::cmp::Reverse(vocab.text(id).len()));
        let automaton = AhoCorasick::new(tokens.iter().map(|&id| vocab.text(id)))
            .map_err(|error| TextError::Vocabulary(format!("special tokens: {error}")))?;
        let on_request = tokens.iter().map(|&id| vocab.is_special(id)).collect();
        Ok(Self { automaton, tokens, on_request })
    }

    /// Cuts a text. Where special tokens overlap, the longest wins wherever it stands; of one token's own overlapping
    /// places, the leftmost. With `parse` off only user-defined tokens are found.
    pub(super) fn split<'a>(&self, text: &'a str, parse: bool) -> Vec<Fragment<'a>> {
        let mut found: Vec<_> = self
            .automaton
            .find_overlapping_iter(text)
            .filter(|place| parse || !self.on_request[place.pattern().as_usize()])
            .collect();
        found.sort_unstable_by_key(|place| (place.pattern(), place.start()));

        // Places are claimed longest first, so what a place could overlap is never inside of it: its ends tell.
        let mut claimed = vec![false; if found.is_empty() { 0 } else { text.len() }];
        found.retain(|place| {
            let free = !claimed[place.start()] && !claimed[place.end() - 1];
            if free {
                claimed[place.range()].fill(true);
            }
            free
        });
        found.sort_unstable_by_key(aho_corasick::Match::start);

        let mut fragments = Vec::with_capacity(2 * found.len() + 1);
        let mut rest = 0;
        for place in found {
            if rest < place.start() {
                fragments.push(Fragment::Text(&text[rest..place.start()]));
            }
            fragments.push(Fragment::Token(self.tokens[place.pattern().as_usize()]));
            rest = place.end();
        }
        if rest < text.len() {
            fragments.push(Fragment::Text(&text[rest..]));
        }
        fragments
    }
}

#[cfg(test)]
mod tests;
