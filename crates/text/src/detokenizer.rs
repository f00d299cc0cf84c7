//! Stage 10: token bytes to text, never splitting a UTF-8 character.

/// Joins the bytes of generated tokens into text: a character that spans several tokens comes out whole, with the
/// token that completes it.
#[derive(Debug, Default, Clone)]
pub struct Detokenizer {
    /// The start of one character, at most three bytes.
    held: Vec<u8>,
}

impl Detokenizer {
    /// A detokenizer that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the bytes of one token and returns the text that is complete by now. An incomplete character at the end
    /// is held back; bytes that can never become one turn into U+FFFD, as [`String::from_utf8_lossy`] does it.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.held.len());
        let mut incomplete = 0;
        let mut chunks = self.held.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            if chunks.peek().is_none() && is_prefix_of_char(chunk.invalid()) {
                incomplete = chunk.invalid().len();
            } else if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.held.drain(..self.held.len() - incomplete);
        text
    }

    /// Ends the text: what was held back can no longer be completed and comes out as U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }

    /// Bytes held back at the moment, 0 to 3.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.held.len()
    }
}

/// Whether more bytes could turn these into a character. The standard library tells: an error without a length means
/// that the input ended too early.
fn is_prefix_of_char(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests;
