//! Stage 4: text to tokens, and tokens to the bytes that they stand for.

mod bpe;
mod partition;
pub(crate) mod piece;
pub(crate) mod pre;
mod prompt;
mod spm;

use reprise_gguf::{Metadata, TokenId};

use self::bpe::Bpe;
use self::partition::{Fragment, Partition};
use self::piece::Pieces;
use crate::{TextError, Vocab, VocabKind};

/// How a text's special tokens are treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Special {
    /// Whether BOS and EOS are added, as the model's file wants them.
    pub add: bool,
    /// Whether the text of a control token (`<|im_end|>`) becomes that token. Off, it is text like any other.
    pub parse: bool,
}

/// Text to tokens and back, for one vocabulary. Immutable, `Send` and `Sync`.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    pieces: Pieces,
    partition: Partition,
    /// `None` for SPM, which needs nothing but the vocabulary.
    bpe: Option<Bpe>,
}

impl Tokenizer {
    /// Builds the tokenizer of a GGUF file.
    ///
    /// # Errors
    /// [`TextError`] when the vocabulary is missing, inconsistent or of an unsupported kind.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TextError> {
        let mut vocab = Vocab::from_metadata(metadata)?;
        let bpe = match vocab.kind {
            VocabKind::Spm => None,
            VocabKind::Bpe => Some(Bpe::from_metadata(metadata, &vocab)?),
        };
        if let Some(bpe) = &bpe {
            let mut line_feed = Vec::new();
            bpe.encode("\n", &mut line_feed);
            vocab.nl = line_feed.first().copied().or(vocab.pad);
        }
        let pieces = Pieces::of(&vocab);
        let partition = Partition::of(&vocab)?;
        Ok(Self { vocab, pieces, partition, bpe })
    }

    /// The vocabulary and its rules.
    #[must_use]
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The tokens of a text.
    #[must_use]
    pub fn encode(&self, text: &str, special: Special) -> Vec<TokenId> {
        let mut output = Vec::with_capacity(text.len() / 3 + 2);
        if special.add && self.vocab.add_bos {
            output.extend(self.vocab.bos);
        }
        // Text gets its space at the start and after a special token only.
        let mut after_special = true;
        for fragment in self.partition.split(text, special.parse) {
            match fragment {
                Fragment::Token(id) => output.push(id),
                Fragment::Text(text) => self.encode_text(text, after_special, &mut output),
            }
            after_special = matches!(fragment, Fragment::Token(_));
        }
        if special.add && self.vocab.add_eos {
            output.extend(self.vocab.eos);
        }
        output
    }

    fn encode_text(&self, text: &str, after_special: bool, output: &mut Vec<TokenId>) {
        match &self.bpe {
            Some(bpe) => bpe.encode(text, output),
            None => {
                let prefix = if self.vocab.add_space_prefix && after_special { " " } else { "" };
                spm::encode(&self.vocab, &[prefix, text].concat().replace(' ', piece::SPACE), output);
            }
        }
    }

    /// The bytes a token stands for, a control token's being its text; none for an id outside the vocabulary.
    #[must_use]
    pub fn piece(&self, id: TokenId) -> &[u8] {
        self.pieces.bytes(id)
    }

    /// The bytes a token adds to generated text: those of [`Tokenizer::piece`], but none for control tokens and the
    /// unknown token.
    #[must_use]
    pub fn piece_plain(&self, id: TokenId) -> &[u8] {
        if self.vocab.is_special(id) { &[] } else { self.pieces.bytes(id) }
    }

    /// The text of tokens, as llama-server's `/detokenize` gives it: the pieces one after the other, control tokens
    /// too. What is no UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn decode(&self, ids: &[TokenId]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.piece(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests;
