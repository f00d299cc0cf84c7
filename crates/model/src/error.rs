//! What can go wrong in loading or running a model.

use reprise_compute::ComputeError;
use reprise_gguf::{GgufError, SourceError};

/// A failure of a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file's metadata or tensor directory does not describe a model that we can run.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Tensor data could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An architecture that is not implemented.
    #[error("model architecture '{0}' is not supported; supported are llama, qwen2, qwen3 and gemma3")]
    Architecture(String),
    /// A feature of a known architecture that is not implemented; names the key.
    #[error("unsupported model: {0}")]
    Unsupported(String),
    /// Metadata and tensors contradict each other; names the key or the tensor.
    #[error("invalid model: {0}")]
    Invalid(String),
    /// The backend refused a tensor of the file.
    #[error("tensor '{tensor}': {source}")]
    Tensor {
        /// Name of the tensor.
        tensor: String,
        /// The backend's reason.
        source: ComputeError,
    },
    /// A step that does not fit the model or its KV memory.
    #[error("invalid step: {0}")]
    Step(String),
    /// The backend failed.
    #[error(transparent)]
    Compute(ComputeError),
    /// The backend's device is gone, and the model with it: it has to be loaded again. Holds the device's reason.
    #[error("the GPU device was lost: {0}")]
    DeviceLost(String),
}

impl From<ComputeError> for ModelError {
    fn from(error: ComputeError) -> Self {
        match error {
            ComputeError::DeviceLost(reason) => Self::DeviceLost(reason),
            ComputeError::Source(error) => Self::Source(error),
            error => Self::Compute(error),
        }
    }
}
