//! What can go wrong below the models.

use reprise_gguf::{GgmlDType, SourceError};

/// A failure of a backend.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// No kernel for this quantisation.
    #[error("tensors of type {0:?} are not supported by this backend")]
    UnsupportedType(GgmlDType),
    /// A buffer does not fit its declared shape.
    #[error("{what} holds {found} bytes where its shape asks for {wanted}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Bytes that the shape asks for.
        wanted: usize,
        /// Bytes given.
        found: usize,
    },
    /// A KV cell outside the memory, or one never written.
    #[error("KV block {block} is {state}")]
    Block {
        /// Physical block.
        block: u32,
        /// `outside the KV memory` or `empty`.
        state: &'static str,
    },
    /// Operands that do not fit together, or a row, token or head that does not exist.
    #[error("{op}: {detail}")]
    Operands {
        /// The operation, by its name in [`crate::Pass`].
        op: &'static str,
        /// What does not fit, with the numbers.
        detail: String,
    },
    /// The bytes of a weight could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The device is out of memory, or refuses.
    #[error("compute device: {0}")]
    Device(String),
    /// The device is gone, with all that was in its memory: nothing that this backend made can be used any more. Holds
    /// the device's reason.
    #[error("the GPU device was lost: {0}")]
    DeviceLost(String),
}
