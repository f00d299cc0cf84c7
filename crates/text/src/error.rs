//! What can go wrong between text and tokens.

use reprise_gguf::GgufError;

/// Errors of this crate. The last three can be caused by a request, the others only by a model's file.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A metadata key is missing or has the wrong type.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// `tokenizer.ggml.model` names a family that this crate does not implement.
    #[error(
        "unsupported tokenizer '{0}' (tokenizer.ggml.model): supported are 'llama' (SPM) and 'gpt2' (BPE)"
    )]
    UnsupportedModel(String),
    /// `tokenizer.ggml.pre` names a pre-tokenizer that this crate does not implement.
    #[error("unsupported pre-tokenizer '{0}' (tokenizer.ggml.pre)")]
    UnsupportedPreTokenizer(String),
    /// The vocabulary contradicts itself; the text says how.
    #[error("bad vocabulary: {0}")]
    Vocabulary(String),
    /// A message is not what a chat message must be.
    #[error("Failed to parse messages: {0}")]
    Messages(String),
    /// A tool is not what a tool description must be.
    #[error("Failed to parse tools: {0}")]
    Tools(String),
    /// The chat template cannot be parsed or refused the messages; the text is the template engine's.
    #[error("chat template: {0}")]
    Template(String),
}
