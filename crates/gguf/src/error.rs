//! What can be wrong with a model file, and what to do about it.

use crate::SourceError;

/// A model file that cannot be used, or lacks what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The first bytes are not `GGUF`.
    #[error(
        "not a GGUF file: it begins with {found}. Give the path of a .gguf model (other formats are converted with llama.cpp's convert_hf_to_gguf.py)"
    )]
    NotGguf {
        /// The first bytes, escaped.
        found: String,
    },
    /// A GGUF version that is not read here.
    #[error("GGUF version {found} is not supported, only 2 and 3 are: {advice}")]
    Version {
        /// Version in the file.
        found: u32,
        /// What to do.
        advice: &'static str,
    },
    /// The head of the file contradicts itself.
    #[error("the file is damaged or cut off: {reason} (at byte {at}). Download it again")]
    Header {
        /// Where reading stopped, bytes from the start.
        at: u64,
        /// What was found there.
        reason: String,
    },
    /// The file ends before what its header promises.
    #[error("the file is truncated: {what} ends at byte {end}, the file has {len}. Download it again")]
    Truncated {
        /// What is cut off: a tensor, or the header.
        what: String,
        /// Where it should end (at least), bytes from the start.
        end: u64,
        /// Length of the file.
        len: u64,
    },
    /// A quantisation that nothing here computes with.
    #[error(
        "tensor '{tensor}' has type {found}, which is not supported. Use a file quantised as F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K or Q6_K"
    )]
    UnsupportedType {
        /// Name of the tensor.
        tensor: String,
        /// Number and, when known, name of the type.
        found: String,
    },
    /// A directory entry that cannot be true.
    #[error("the file is damaged: tensor '{tensor}' {reason}. Download it again")]
    Tensor {
        /// Name of the tensor.
        tensor: String,
        /// What is wrong with its entry.
        reason: String,
    },
    /// A tensor that the architecture needs is not in the file.
    #[error(
        "the file has no tensor '{0}': it is incomplete, or of an architecture that differs from the one it names"
    )]
    MissingTensor(String),
    /// A metadata key that is needed is not in the file.
    #[error("the file has no metadata key '{0}': it is incomplete. Convert or download the model again")]
    MissingKey(String),
    /// A metadata value of another type than its key is known to have.
    #[error("metadata key '{key}' should be {wanted}, but the file has {found}")]
    KeyType {
        /// The key.
        key: String,
        /// Type that is needed.
        wanted: &'static str,
        /// Type in the file; for a number that does not fit, also the number.
        found: String,
    },
    /// A file could not be written ([`crate::build`]).
    #[error("writing a GGUF file failed: {0}")]
    Write(String),
}
