//! A whole prompt as text: what llama-server reports in the `prompt` field of an answer.

use reprise_gguf::TokenId;

use super::Tokenizer;

impl Tokenizer {
    /// The text of a prompt's tokens. Unlike [`Tokenizer::decode`] it drops the space that tokenising put before the
    /// first word, and, for vocabularies that want it, the spaces before punctuation.
    #[must_use]
    pub fn prompt_text(&self, ids: &[TokenId]) -> String {
        let mut bytes: Vec<u8> = ids.iter().flat_map(|&id| self.piece(id)).copied().collect();
        let first_is_spaced = ids.first().is_some_and(|&id| self.piece(id).starts_with(b" "));
        if self.vocab.add_space_prefix && first_is_spaced {
            bytes.remove(0);
        }
        if self.vocab.clean_spaces {
            bytes = contractions(&lone_apostrophes(&punctuation(&bytes)));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Drops the space before `?`, `!`, `.` and `,`.
fn punctuation(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (index, &byte) in text.iter().enumerate() {
        if index > 0 && text[index - 1] == b' ' && matches!(byte, b'?' | b'!' | b'.' | b',') {
            out.pop();
        }
        out.push(byte);
    }
    out
}

/// Drops both spaces around an apostrophe that stands alone.
fn lone_apostrophes(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(b" ' ") {
            out.push(b'\'');
            rest = tail;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

/// Drops the space before `'s`, `'m`, `'re` and `'ve`.
fn contractions(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (index, &byte) in text.iter().enumerate() {
        let rest = &text[index..];
        let contracted = [&b"'s"[..], b"'m", b"'re", b"'ve"].iter().any(|suffix| rest.starts_with(suffix));
        if index > 0 && text[index - 1] == b' ' && contracted {
            out.pop();
        }
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests;
