//! The vocabulary of a GGUF file, with llama-server's defaults for what the file leaves out.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use reprise_gguf::{Metadata, TokenId};

use super::{Fim, Token, TokenKind, Vocab, VocabKind};
use crate::TextError;
use crate::tokenizer::pre;

impl Vocab {
    /// Reads the vocabulary and its rules. [`Vocab::nl`] of a byte-level vocabulary is found by tokenising, which is
    /// the tokenizer's part.
    pub(crate) fn from_metadata(metadata: &Metadata) -> Result<Self, TextError> {
        let kind = match metadata.string("tokenizer.ggml.model")? {
            "llama" => VocabKind::Spm,
            "gpt2" => VocabKind::Bpe,
            other => return Err(TextError::UnsupportedModel(other.to_owned())),
        };
        let (tokens, ids) = tokens(metadata)?;
        let special = Special { metadata, len: tokens.len() };
        let default = |id| move || Some(TokenId(id));
        let pre = match metadata.opt_string("tokenizer.ggml.pre")? {
            None | Some("") => "default",
            Some(name) => name,
        };
        let rules = match kind {
            VocabKind::Spm => pre::Rules { add_bos: true, clean_spaces: false, ..pre::Rules::default() },
            VocabKind::Bpe => pre::rules(pre)?,
        };
        let (bos, eos, unk) = match kind {
            VocabKind::Spm => (1, 2, Some(0)),
            VocabKind::Bpe => (11, 11, None),
        };
        let mut vocab = Self {
            kind,
            pre: pre.to_owned(),
            bos: special.id("bos_token_id", default(bos))?,
            eos: special.id("eos_token_id", default(eos))?,
            eot: special.id("eot_token_id", || None)?,
            eom: special.id("eom_token_id", || None)?,
            unk: special.id("unknown_token_id", || unk.map(TokenId))?,
            pad: special.id("padding_token_id", || None)?,
            nl: None,
            fim: special.fim()?,
            add_bos: metadata.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(rules.add_bos),
            add_eos: metadata.opt_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            add_space_prefix: metadata
                .opt_bool("tokenizer.ggml.add_space_prefix")?
                .unwrap_or(kind == VocabKind::Spm),
            clean_spaces: rules.clean_spaces,
            suppressed: special.suppressed()?,
            tokens,
            ids,
            end_of_generation: BTreeSet::new(),
        };
        if kind == VocabKind::Spm {
            vocab.nl = vocab.byte(b'\n').or(vocab.pad);
        }
        vocab.detect_special_tokens();
        Ok(vocab)
    }
}

type Tokens = (Vec<Token>, HashMap<Arc<str>, TokenId>);

/// The tokens in order and their ids by text.
fn tokens(metadata: &Metadata) -> Result<Tokens, TextError> {
    let texts = metadata.strings("tokenizer.ggml.tokens")?;
    let count = u32::try_from(texts.len())
        .map_err(|_| TextError::Vocabulary(format!("{} tokens do not fit 32-bit ids", texts.len())))?;
    if count == 0 {
        return Err(TextError::Vocabulary("tokenizer.ggml.tokens is empty".to_owned()));
    }
    let scores = metadata.opt_f32s("tokenizer.ggml.scores")?;
    let kinds = metadata.opt_u32s("tokenizer.ggml.token_type")?;
    long_enough("scores", scores.as_deref().map(<[f32]>::len), texts.len())?;
    long_enough("token_type", kinds.as_deref().map(<[u32]>::len), texts.len())?;

    let mut tokens = Vec::with_capacity(texts.len());
    let mut ids = HashMap::with_capacity(texts.len());
    for (id, &text) in (0..count).zip(&texts) {
        let text: Arc<str> = if text.is_empty() { format!("[EMPTY_{id}]").into() } else { text.into() };
        if let Some(first) = ids.insert(Arc::clone(&text), TokenId(id)) {
            return Err(TextError::Vocabulary(format!("tokens {first} and {id} are both {text:?}")));
        }
        let index = id as usize;
        let score = scores.as_ref().map_or(0.0, |scores| scores[index]);
        if score.is_nan() {
            return Err(TextError::Vocabulary(format!("the score of token {id} is not a number")));
        }
        tokens.push(Token {
            text,
            // Zero has one sign here, so that scores have one order.
            score: score + 0.0,
            kind: kinds.as_ref().map_or(TokenKind::Normal, |kinds| token_kind(kinds[index])),
        });
    }
    Ok((tokens, ids))
}

fn long_enough(array: &str, len: Option<usize>, tokens: usize) -> Result<(), TextError> {
    match len {
        Some(len) if len < tokens => Err(TextError::Vocabulary(format!(
            "tokenizer.ggml.{array} has {len} entries for {tokens} tokens"
        ))),
        _ => Ok(()),
    }
}

/// The numbers are GGUF's, taken over from SentencePiece.
fn token_kind(number: u32) -> TokenKind {
    match number {
        1 => TokenKind::Normal,
        2 => TokenKind::Unknown,
        3 => TokenKind::Control,
        4 => TokenKind::UserDefined,
        5 => TokenKind::Unused,
        6 => TokenKind::Byte,
        _ => TokenKind::Undefined,
    }
}

/// Reads `tokenizer.ggml.*_token_id` keys: an id outside the vocabulary is as good as none.
struct Special<'a> {
    metadata: &'a Metadata,
    len: usize,
}

impl Special<'_> {
    fn id(
        &self,
        name: &str,
        default: impl FnOnce() -> Option<TokenId>,
    ) -> Result<Option<TokenId>, TextError> {
        let in_range = |id: &TokenId| id.index() < self.len;
        let stated = self.metadata.opt_u32(&format!("tokenizer.ggml.{name}"))?.map(TokenId);
        if let Some(id) = stated.filter(|id| !in_range(id)) {
            tracing::warn!(key = name, %id, tokens = self.len, "special token outside the vocabulary, ignored");
        }
        Ok(stated.filter(in_range).or_else(|| default().filter(in_range)))
    }

    /// The three deprecated keys are the ones that older converters wrote; they win, as they are read last.
    fn fim(&self) -> Result<Fim, TextError> {
        let either = |old: &str, new: &str| match self.id(old, || None)? {
            None => self.id(new, || None),
            found => Ok(found),
        };
        Ok(Fim {
            prefix: either("prefix_token_id", "fim_pre_token_id")?,
            suffix: either("suffix_token_id", "fim_suf_token_id")?,
            middle: either("middle_token_id", "fim_mid_token_id")?,
            pad: self.id("fim_pad_token_id", || None)?,
            repo: self.id("fim_rep_token_id", || None)?,
            separator: self.id("fim_sep_token_id", || None)?,
        })
    }

    fn suppressed(&self) -> Result<Vec<TokenId>, TextError> {
        let ids = self.metadata.opt_u32s("tokenizer.ggml.suppress_tokens")?.unwrap_or_default();
        Ok(ids.into_iter().map(TokenId).filter(|id| id.index() < self.len).collect())
    }
}
