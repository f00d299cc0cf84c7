//! The vocabulary of a model: its tokens, what they are for, and the rules that come with them.

mod load;
mod special;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use reprise_gguf::TokenId;

/// The tokenizer family, `tokenizer.ggml.model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VocabKind {
    /// `llama`: SentencePiece BPE with scores and byte fallback.
    Spm,
    /// `gpt2`: byte-level BPE with ranked merges.
    Bpe,
}

impl VocabKind {
    /// The number llama-server reports as `vocab_type` in `/v1/models`.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Spm => 1,
            Self::Bpe => 2,
        }
    }
}

/// What a token is, `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Stands for its text.
    Normal,
    /// The unknown token.
    Unknown,
    /// Steers the model (`<s>`, `<|im_end|>`): found in text only on request, and not part of generated text.
    Control,
    /// Added by the model's author: found in any text before everything else.
    UserDefined,
    /// Reserved; stands for nothing.
    Unused,
    /// One byte, written `<0xNN>`.
    Byte,
    /// Of no known type; stands for nothing.
    Undefined,
}

/// Tokens for filling in the middle of a text (`/infill`), where the model has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fim {
    /// Before the text that precedes the gap.
    pub prefix: Option<TokenId>,
    /// Before the text that follows the gap.
    pub suffix: Option<TokenId>,
    /// Where generation of the gap starts.
    pub middle: Option<TokenId>,
    /// Padding; ends a generation.
    pub pad: Option<TokenId>,
    /// Before a repository's name.
    pub repo: Option<TokenId>,
    /// Before a file's name.
    pub separator: Option<TokenId>,
}

/// One entry of the vocabulary.
#[derive(Debug)]
struct Token {
    text: Arc<str>,
    /// Priority of merges that make this token (SPM).
    score: f32,
    kind: TokenKind,
}

/// The vocabulary of one model, immutable after loading.
#[derive(Debug)]
pub struct Vocab {
    /// The tokenizer family.
    pub kind: VocabKind,
    /// `tokenizer.ggml.pre`, the pre-tokenizer of byte-level BPE; "default" where the file names none.
    pub pre: String,
    /// Beginning of a sequence.
    pub bos: Option<TokenId>,
    /// End of a sequence.
    pub eos: Option<TokenId>,
    /// End of a turn.
    pub eot: Option<TokenId>,
    /// End of a message.
    pub eom: Option<TokenId>,
    /// Unknown.
    pub unk: Option<TokenId>,
    /// Padding.
    pub pad: Option<TokenId>,
    /// A line feed, the first token of it if it takes several.
    pub nl: Option<TokenId>,
    /// Fill-in-the-middle tokens.
    pub fim: Fim,
    /// Whether a prompt starts with [`Vocab::bos`].
    pub add_bos: bool,
    /// Whether a prompt ends with [`Vocab::eos`].
    pub add_eos: bool,
    /// SPM: whether text at the start, or after a special token, gets a space put before it.
    pub add_space_prefix: bool,
    /// Whether rendering a whole prompt drops the space before punctuation.
    pub clean_spaces: bool,
    /// Tokens that must never be sampled.
    pub suppressed: Vec<TokenId>,
    tokens: Vec<Token>,
    ids: HashMap<Arc<str>, TokenId>,
    end_of_generation: BTreeSet<TokenId>,
}

impl Vocab {
    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens; never true of a vocabulary from a file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether the id is one of this vocabulary.
    #[must_use]
    pub fn contains(&self, id: TokenId) -> bool {
        id.index() < self.tokens.len()
    }

    /// The token with exactly this text, as the file spells it (`▁the`, `Ġthe`).
    #[must_use]
    pub fn find(&self, text: &str) -> Option<TokenId> {
        self.ids.get(text).copied()
    }

    /// A token's text as the file spells it; empty for an id outside the vocabulary.
    #[must_use]
    pub fn text(&self, id: TokenId) -> &str {
        self.tokens.get(id.index()).map_or("", |token| &token.text)
    }

    /// A token's score; 0 where the file has none.
    #[must_use]
    pub fn score(&self, id: TokenId) -> f32 {
        self.tokens.get(id.index()).map_or(0.0, |token| token.score)
    }

    /// What a token is.
    #[must_use]
    pub fn token_kind(&self, id: TokenId) -> TokenKind {
        self.tokens.get(id.index()).map_or(TokenKind::Undefined, |token| token.kind)
    }

    /// Whether this is a control token.
    #[must_use]
    pub fn is_control(&self, id: TokenId) -> bool {
        self.token_kind(id) == TokenKind::Control
    }

    /// Whether sampling this token ends the generation.
    #[must_use]
    pub fn is_eog(&self, id: TokenId) -> bool {
        self.end_of_generation.contains(&id)
    }

    /// The tokens that end a generation, in ascending order.
    pub fn end_of_generation(&self) -> impl Iterator<Item = TokenId> {
        self.end_of_generation.iter().copied()
    }

    /// The ids of all tokens.
    pub(crate) fn ids(&self) -> impl Iterator<Item = TokenId> {
        // A GGUF vocabulary's ids are u32 by the format, so the count fits.
        (0u32..).map(TokenId).take(self.tokens.len())
    }

    /// The token that stands for one byte: `<0xNN>`, else the byte itself as text.
    pub(crate) fn byte(&self, byte: u8) -> Option<TokenId> {
        let as_text = || byte.is_ascii().then(|| self.find(char::from(byte).encode_utf8(&mut [0; 4])))?;
        self.find(&format!("<0x{byte:02X}>")).or_else(as_text)
    }

    /// Whether generated text leaves this token out unless it is asked for.
    pub(crate) fn is_special(&self, id: TokenId) -> bool {
        matches!(self.token_kind(id), TokenKind::Control | TokenKind::Unknown)
    }
}

#[cfg(test)]
mod tests;
