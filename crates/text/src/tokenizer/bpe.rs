//! Byte-level BPE: the model and the pre-tokenizer of the `tokenizers` crate, fed from a GGUF vocabulary.

use std::collections::HashSet;

use reprise_gguf::{Metadata, TokenId};
use tokenizers::models::bpe::{self, BPE};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::pre;
use crate::{TextError, Vocab};

/// Cuts text by the vocabulary's patterns and merges each piece.
#[derive(Debug)]
pub(super) struct Bpe {
    pre_tokenizer: Sequence,
    model: BPE,
}

impl Bpe {
    /// # Errors
    /// [`TextError`] when the file has no merges, or none of its rules for cutting text is known.
    pub(super) fn from_metadata(metadata: &Metadata, vocab: &Vocab) -> Result<Self, TextError> {
        let rules = pre::rules(&vocab.pre)?;
        let merges = merges(metadata, vocab)?;
        let ids = vocab.ids().map(|id| (vocab.text(id).to_owned(), id.0));
        let model = BPE::builder()
            .vocab_and_merges(ids.collect::<bpe::Vocab>(), merges)
            .ignore_merges(rules.ignore_merges)
            .build()
            .map_err(|error| TextError::Vocabulary(format!("merges: {error}")))?;
        Ok(Self { pre_tokenizer: rules.pre_tokenizer()?, model })
    }

    /// Appends the tokens of `text`. Bytes that the vocabulary lacks are left out.
    pub(super) fn encode(&self, text: &str, output: &mut Vec<TokenId>) {
        let mut pieces = self.cut(text);
        if let Err(error) = pieces.tokenize(|piece| self.model.tokenize(piece.get())) {
            // The model has no unknown token to miss, the only way to fail.
            tracing::error!(%error, "text not tokenized");
        }
        for (_, _, tokens) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            output.extend(tokens.iter().flatten().map(|token| TokenId(token.id)));
        }
    }

    /// The pieces of a text in the byte-level alphabet. A text that the patterns give up on (they may only backtrack so
    /// far) is one piece: other tokens than the model expects, but all of the text.
    fn cut(&self, text: &str) -> PreTokenizedString {
        let mut pieces = PreTokenizedString::from(text);
        if let Err(error) = self.pre_tokenizer.pre_tokenize(&mut pieces) {
            tracing::warn!(%error, bytes = text.len(), "text too hard to cut, merged as a whole");
            pieces = PreTokenizedString::from(text);
            if let Err(error) = pre::byte_level().pre_tokenize(&mut pieces) {
                tracing::error!(%error, "text not tokenized");
            }
        }
        pieces
    }
}

/// The merges in order of rank, the first of equal ones, without those that make no token (they could never be
/// seen in an output).
fn merges(metadata: &Metadata, vocab: &Vocab) -> Result<Vec<(String, String)>, TextError> {
    let lines = metadata.opt_strings("tokenizer.ggml.merges")?.ok_or_else(|| {
        TextError::Vocabulary(
            "a 'gpt2' vocabulary needs tokenizer.ggml.merges; convert the model again".to_owned(),
        )
    })?;
    let mut seen = HashSet::with_capacity(lines.len());
    let mut merges = Vec::with_capacity(lines.len());
    for line in lines {
        // A merge may start with a space in vocabularies that are not byte-level; the separator is the next one.
        let separator = line.char_indices().skip(1).find(|&(_, character)| character == ' ');
        let Some((at, _)) = separator else {
            return Err(TextError::Vocabulary(format!("merge {line:?} is not a pair")));
        };
        let (left, right) = (&line[..at], &line[at + 1..]);
        let known = [left, right, &[left, right].concat()].into_iter().all(|text| vocab.find(text).is_some());
        if known && seen.insert(line) {
            merges.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(merges)
}
