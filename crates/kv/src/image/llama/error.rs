//! Why a slot file of llama.cpp's is refused, and what to do about it.

use crate::image::KvType;

/// A slot file of llama.cpp's that cannot be used. The texts are for the operator who asked for the restore.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LlamaError {
    /// Written by a llama.cpp with another version of the format.
    #[error("a llama.cpp slot file of version {found}; version 4 is read, which llama.cpp b11434 writes")]
    Version {
        /// Version of the file.
        found: u32,
    },
    /// Ends early.
    #[error("the llama.cpp slot file is cut off: it has {found} bytes; save the slot again")]
    Truncated {
        /// Bytes at hand.
        found: u64,
    },
    /// Goes on after its end.
    #[error(
        "the llama.cpp slot file has {extra} bytes after its end; it is damaged or of a kind of model that is not read"
    )]
    Trailing {
        /// Bytes too many.
        extra: u64,
    },
    /// The token list is of another version.
    #[error("the llama.cpp slot file's token list has version {found}; version 1 is read")]
    TokensVersion {
        /// Version of the list.
        found: u32,
    },
    /// The token list does not end where it should.
    #[error("the llama.cpp slot file's token list is damaged; save the slot again")]
    Tokens,
    /// Images or audio among the tokens.
    #[error("the llama.cpp slot file holds images or audio, which this server does not know")]
    Media,
    /// More than one sequence.
    #[error("the llama.cpp slot file holds more than one sequence; save a single slot")]
    Sequences,
    /// Tokens without KV, or KV without tokens.
    #[error(
        "the llama.cpp slot file holds {tokens} tokens, but KV for {cells}; it is damaged or its window has moved on"
    )]
    Cells {
        /// Length of the token list.
        tokens: u32,
        /// Cells of KV.
        cells: u32,
    },
    /// Positions are not `0..tokens`.
    #[error("position {found} of the llama.cpp slot file is doubled or outside its {tokens} tokens")]
    Position {
        /// The position.
        found: i32,
        /// Length of the token list.
        tokens: u32,
    },
    /// V is said to be neither transposed nor not.
    #[error("the llama.cpp slot file does not say how its V is laid out; save the slot again")]
    Transposition,
    /// Another number of layers.
    #[error(
        "the llama.cpp slot file holds {found} layers, the model has {expected}: it is of another model, or of one with a \
         sliding window, whose files are not read"
    )]
    Layers {
        /// Layers of the file.
        found: u32,
        /// Layers of the loaded model.
        expected: u32,
    },
    /// K or V were multiplied by a rotation before they were quantised.
    #[error(
        "the K or V of the llama.cpp slot file is rotated, as llama-server does with quantised types; save it from a \
         llama-server that runs with f16 or with LLAMA_ATTN_ROT_DISABLE=1"
    )]
    Rotated,
    /// Another element type.
    #[error(
        "{which} is of ggml type {found} in the llama.cpp slot file and of {} here (F32 is 0, F16 is 1, Q4_0 is 2, Q8_0 \
         is 8); start the server with the same --cache-type-k and --cache-type-v",
        *.expected as u32
    )]
    KvType {
        /// `K` or `V`.
        which: &'static str,
        /// Number in the file.
        found: u32,
        /// The loaded model's.
        expected: KvType,
    },
    /// Other sizes of heads.
    #[error(
        "a row of {which} takes {found} bytes in the llama.cpp slot file and {expected} here: it is of another model"
    )]
    Row {
        /// `K` or `V`.
        which: &'static str,
        /// Bytes in the file.
        found: u64,
        /// Bytes that the layout implies.
        expected: u64,
    },
}
