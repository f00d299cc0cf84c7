//! What a request to the engine can fail with.

use reprise_kv::RestoreError;
use reprise_kv::image::ImageError;

use crate::StoreError;

/// A variant exists only where a caller acts on it or its HTTP status differs.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The prompt fills the slot's context or more.
    #[error(
        "request ({prompt} tokens) exceeds the available context size ({context} tokens), try increasing it"
    )]
    ContextExceeded {
        /// Tokens of the prompt.
        prompt: usize,
        /// Context of the slot, tokens.
        context: u32,
    },
    /// The shared pool is full and every slot that could give way is busy.
    #[error("Context size has been exceeded.")]
    PoolExhausted,
    /// The request is wrong; the text says how.
    #[error("{0}")]
    Invalid(String),
    /// The prompt or a bias names a token outside the vocabulary.
    #[error("Prompt contains invalid tokens")]
    InvalidTokens,
    /// Not possible with this model or these flags.
    #[error("{0}")]
    Unsupported(String),
    /// The slot holds another tenant's tokens.
    #[error("slot {slot} holds tokens of another API key; they are given to that key only")]
    Foreign {
        /// The slot.
        slot: u32,
    },
    /// A slot file could not be written.
    #[error("Unable to save slot: {0}")]
    Save(StoreError),
    /// A slot file could not be read.
    #[error("Unable to restore slot: {0}")]
    Restore(StoreError),
    /// A slot file is not one that this engine can take.
    #[error("Unable to restore slot: {0}")]
    Image(ImageError),
    /// A slot file is good, but there is no room for it.
    #[error("Unable to restore slot: {0}")]
    Room(RestoreError),
    /// The backend failed.
    #[error("{0}")]
    Backend(String),
    /// The GPU is gone, with the model and all slots: the host has to load them again. Holds the device's reason.
    #[error("the GPU device was lost: {0}; try again")]
    DeviceLost(String),
    /// The engine has stopped.
    #[error("the engine has shut down")]
    Closed,
}
