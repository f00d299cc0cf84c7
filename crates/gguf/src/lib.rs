//! GGUF model files: metadata, tensor directory, token ids, read by range.
//!
//! [`Gguf::open`] reads the head of a file through a [`ModelSource`] (a mapped file, HTTP ranges, memory), never the
//! whole of it. Files are hostile until proven otherwise: every length, count and offset is checked against the bytes
//! that are there before it is used, and an error says what to do about the file.

pub mod build;
mod error;
mod file;
mod header;
mod metadata;
mod source;
mod tensor;
mod token;

/// Block layouts of tensor data: `block_size()` elements stored in `type_size()` bytes.
pub use candle_core::quantized::GgmlDType;
/// A metadata value as GGUF stores it.
pub use candle_core::quantized::gguf_file::Value;
pub use error::GgufError;
pub use file::Gguf;
pub use metadata::Metadata;
pub use source::{MemorySource, ModelSource, SourceError};
pub use tensor::TensorInfo;
pub use token::TokenId;
