//! The bytes that tokens stand for.

use std::sync::LazyLock;

use reprise_gguf::TokenId;

use crate::{TokenKind, Vocab, VocabKind};

/// U+2581, which SentencePiece writes for a space.
pub(super) const SPACE: &str = "▁";

/// The pieces of all tokens, one after the other.
#[derive(Debug)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    /// `ends[i]` is where token `i` ends and token `i + 1` starts.
    ends: Vec<usize>,
}

impl Pieces {
    pub(super) fn of(vocab: &Vocab) -> Self {
        let mut pieces =
            Self { bytes: Vec::with_capacity(vocab.len() * 8), ends: Vec::with_capacity(vocab.len()) };
        for id in vocab.ids() {
            push_piece(vocab, id, &mut pieces.bytes);
            pieces.ends.push(pieces.bytes.len());
        }
        pieces
    }

    /// The bytes of one token; none for an id outside the vocabulary.
    pub(super) fn bytes(&self, id: TokenId) -> &[u8] {
        let Some(&end) = self.ends.get(id.index()) else { return &[] };
        let start = id.index().checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..end]
    }
}

/// The text of one token, for a reader; what is no UTF-8 becomes U+FFFD.
pub(crate) fn text(vocab: &Vocab, id: TokenId) -> String {
    let mut bytes = Vec::new();
    push_piece(vocab, id, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn push_piece(vocab: &Vocab, id: TokenId, out: &mut Vec<u8>) {
    let text = vocab.text(id);
    match (vocab.token_kind(id), vocab.kind) {
        (TokenKind::Unknown | TokenKind::Control | TokenKind::UserDefined, _) => out.extend(text.bytes()),
        (TokenKind::Normal, VocabKind::Spm) => out.extend(text.replace(SPACE, " ").bytes()),
        (TokenKind::Normal, VocabKind::Bpe) => push_byte_level(text, out),
        (TokenKind::Byte, _) => out.extend(byte_value(text)),
        (TokenKind::Unused | TokenKind::Undefined, _) => {}
    }
}

/// The byte of a token written `<0xNN>`.
fn byte_value(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

/// Undoes the printable alphabet. A character that is not in it shows as such: the vocabulary is not byte-level.
fn push_byte_level(text: &str, out: &mut Vec<u8>) {
    for character in text.chars() {
        match byte_of(character) {
            Some(byte) => out.push(byte),
            None => {
                let mut buffer = [0; 4];
                let hex: String =
                    character.encode_utf8(&mut buffer).bytes().map(|byte| format!("{byte:02x}")).collect();
                out.extend(format!("[UNK_BYTE_0x{hex}{text}]").bytes());
            }
        }
    }
}

/// GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards, in order.
fn byte_of(character: char) -> Option<u8> {
    static SHIFTED: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..=0xff).filter(|&byte| !is_printable(byte)).collect());
    match u8::try_from(character) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => SHIFTED.get((u32::from(character) as usize).checked_sub(0x100)?).copied(),
    }
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

#[cfg(test)]
mod tests;
