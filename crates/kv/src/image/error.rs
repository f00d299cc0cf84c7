//! Why an image is refused, and what to do about it.

use crate::image::Layout;
use crate::image::llama::LlamaError;

/// A slot image that cannot be used. The texts are for the operator who asked for the restore.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Other bytes, an empty file, another program's format.
    #[error("not a Reprise slot image; restore a file that this server has saved")]
    NotAnImage,
    /// Written by another version of the format.
    #[error(
        "slot image version {found} is not supported, this build reads version {expected}; save the slot again"
    )]
    Version {
        /// Version in the image.
        found: u32,
        /// Version of this build.
        expected: u32,
    },
    /// Ends early.
    #[error("the slot image is cut off: {wanted} bytes are needed, {found} are there; save the slot again")]
    Truncated {
        /// Bytes that the image announces.
        wanted: u64,
        /// Bytes at hand.
        found: u64,
    },
    /// Goes on after its end.
    #[error("the slot image has {extra} bytes after its end; it is damaged, save the slot again")]
    Trailing {
        /// Bytes too many.
        extra: u64,
    },
    /// The header's checksum does not match.
    #[error("the slot image's header is damaged (checksum mismatch); save the slot again")]
    HeaderChecksum,
    /// A block's checksum does not match.
    #[error("block {block} of the slot image is damaged (checksum mismatch); save the slot again")]
    BlockChecksum {
        /// Number of the block.
        block: usize,
    },
    /// A block's length is not what the header implies.
    #[error(
        "block {block} of the slot image has {found} bytes instead of {expected}; it is damaged, save the slot again"
    )]
    BlockLength {
        /// Number of the block.
        block: usize,
        /// Length in the image.
        found: u64,
        /// Length that the layout implies.
        expected: u64,
    },
    /// Made by another model.
    #[error(
        "the slot image was saved with another model or other RoPE settings \
         (fingerprint {}, loaded {}); load that model to restore it",
        short(.found), short(.expected)
    )]
    OtherModel {
        /// Fingerprint in the image.
        found: Box<[u8; 32]>,
        /// Fingerprint of the loaded model.
        expected: Box<[u8; 32]>,
    },
    /// The same model, laid out differently.
    #[error(
        "the slot image's KV layout ({found:?}) differs from the model's ({expected:?}); save the slot again"
    )]
    Layout {
        /// Layout in the image.
        found: Box<Layout>,
        /// Layout of the loaded model.
        expected: Box<Layout>,
    },
    /// An element type that this build does not know.
    #[error(
        "the slot image's KV type {found} is not supported (F16 is 1, Q4_0 is 2, Q8_0 is 8); save the slot again"
    )]
    KvType {
        /// Number in the image.
        found: u32,
    },
    /// More tokens than the slot can hold.
    #[error(
        "the slot image holds {found} tokens, the slot only {limit}; start the server with a larger context"
    )]
    TooManyTokens {
        /// Tokens of the image.
        found: u32,
        /// Most tokens of the slot.
        limit: u32,
    },
    /// A token outside the vocabulary.
    #[error("token {token} at position {position} of the slot image is outside the vocabulary of {vocab}")]
    BadToken {
        /// Where.
        position: usize,
        /// The id.
        token: u32,
        /// Tokens in the vocabulary.
        vocab: u32,
    },
    /// The encoder was given a payload of the wrong length, or too few or too many of them.
    #[error("block {block} of the slot has {found} bytes of KV instead of {expected}")]
    Payload {
        /// Number of the block.
        block: usize,
        /// Bytes given.
        found: u64,
        /// Bytes that the layout implies.
        expected: u64,
    },
    /// A tag was demanded and there is none.
    #[error(
        "the slot image has no tag, and this server was started with --state-key: it takes only images that it has given out"
    )]
    Untagged,
    /// The tag is not that of the image.
    #[error("the slot image's tag is wrong: it was changed, or given out with another --state-key")]
    Tag,
    /// A slot file of llama.cpp's that cannot be read.
    #[error(transparent)]
    Llama(#[from] LlamaError),
}

fn short(fingerprint: &[u8; 32]) -> String {
    fingerprint[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
