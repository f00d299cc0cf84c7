//! Text to tokens and back: vocabularies, chat templates, incremental detokenising, stop strings.
//!
//! Everything is built from the metadata of one GGUF file and is immutable afterwards, so a host builds a [`Text`]
//! once and shares it. The behaviour is llama-server's, id by id and byte by byte; where a rule looks arbitrary
//! (a space before the first word, which tokens end a generation) it is the reference's rule.

mod detokenizer;
mod error;
mod stop;
mod template;
mod tokenizer;
mod vocab;

use reprise_gguf::Metadata;

pub use detokenizer::Detokenizer;
pub use error::TextError;
pub use stop::{StopMatcher, StopOutcome};
pub use template::{ChatTemplate, Continuation, LocalTime, Reasoning, TemplateInput};
pub use tokenizer::{Special, Tokenizer};
pub use vocab::{Fim, TokenKind, Vocab, VocabKind};

/// All that a host needs to turn requests into tokens and tokens into text: built once per model, then shared.
#[derive(Debug)]
pub struct Text {
    /// The model's tokenizer.
    pub tokenizer: Tokenizer,
    /// The model's chat template, or the ChatML fallback.
    pub template: ChatTemplate,
}

impl Text {
    /// Builds both from the metadata of a GGUF file.
    ///
    /// # Errors
    /// [`TextError`] when the vocabulary is missing, inconsistent or of an unsupported kind, or when the template of
    /// the file cannot be parsed.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TextError> {
        let tokenizer = Tokenizer::from_metadata(metadata)?;
        let template = ChatTemplate::from_metadata(metadata, tokenizer.vocab())?;
        Ok(Self { tokenizer, template })
    }
}
