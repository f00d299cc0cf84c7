//! The slot image: a slot's tokens and KV as bytes that any Reprise host can restore. Pure; the host moves the bytes.
//!
//! All numbers are little-endian.
//!
//! ```text
//! header   magic [8] | version u32 | tokens u32 | fingerprint [32]
//!          layers u32 | kv_heads u32 | head_dim u32 | head_dim_v u32 | kv type u32 | block_tokens u32 | exact u32
//!          token ids u32 * tokens
//!          XXH3-64 of everything above
//! frames   one for each block of `block_tokens` tokens, the last may be partial:
//!          payload length u64 | XXH3-64 of the payload, seeded with the header's checksum + block number | payload
//! trailer  optional: "RPRSTAG\n" | keyed BLAKE3 [32] of everything before it, see [`StateKey`]
//! ```
//!
//! A payload is `[layer][K, V][token][kv_head][head_dim]` in the KV type, which is ggml's number of K's type; V's, where it
//! is another, stands in the upper half. The seed ties a frame to its image and its place, so
//! swapped or foreign blocks are found like flipped bits.

pub mod llama;

mod decode;
mod encode;
mod error;
mod reader;
mod tag;

pub use decode::{Expected, Frames, Image, claimed_tokens};
pub use encode::{Encoder, FRAME_HEADER_LEN};
pub use error::ImageError;
pub use tag::{ShortKey, StateKey};

use reprise_gguf::TokenId;

use crate::BLOCK_TOKENS;

/// What a slot image says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageHeader {
    /// What makes two models' KV interchangeable, from the model.
    pub fingerprint: [u8; 32],
    /// Shape of the payloads.
    pub layout: Layout,
    /// The slot's tokens; token `i` lies at position `i`.
    pub tokens: Vec<TokenId>,
    /// Leading tokens whose KV is what evaluating them from an empty cache gives: those behind a context shift saw others.
    pub exact: u32,
}

impl ImageHeader {
    /// Number of blocks, and so of frames.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.tokens.len().div_ceil(self.layout.block_tokens.max(1) as usize)
    }

    /// Tokens in block `index`; zero past the end.
    #[must_use]
    pub fn tokens_in(&self, index: usize) -> u32 {
        let block = self.layout.block_tokens as usize;
        let tokens = self.tokens.len().saturating_sub(index.saturating_mul(block)).min(block);
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }

    /// Bytes of block `index`'s payload.
    #[must_use]
    pub fn payload_len(&self, index: usize) -> u64 {
        self.layout.token_bytes().saturating_mul(u64::from(self.tokens_in(index)))
    }

    /// Bytes of the whole image, without a trailer.
    #[must_use]
    pub fn image_len(&self) -> u64 {
        let payload = self.layout.token_bytes().saturating_mul(self.tokens.len() as u64);
        let frames = self.blocks() as u64 * FRAME_HEADER_LEN as u64;
        encode::header_len(self.tokens.len() as u64).saturating_add(frames).saturating_add(payload)
    }
}

/// Shape of one token's K and V and how tokens are cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Transformer layers.
    pub layers: u32,
    /// KV heads of a layer.
    pub kv_heads: u32,
    /// Elements of a head of K.
    pub head_dim: u32,
    /// Elements of a head of V.
    pub head_dim_v: u32,
    /// What K is stored as.
    pub keys: KvType,
    /// What V is stored as.
    pub values: KvType,
    /// Tokens in a block.
    pub block_tokens: u32,
}

impl Layout {
    /// A layout of f16 elements with this build's block size.
    #[must_use]
    pub fn new(layers: u32, kv_heads: u32, head_dim: u32, head_dim_v: u32) -> Self {
        let (keys, values) = (KvType::F16, KvType::F16);
        Self { layers, kv_heads, head_dim, head_dim_v, keys, values, block_tokens: BLOCK_TOKENS }
    }

    /// Bytes of one token over all layers, K and V.
    #[must_use]
    pub fn token_bytes(&self) -> u64 {
        u64::from(self.layers).saturating_mul(self.key_bytes().saturating_add(self.value_bytes()))
    }

    /// Bytes of one token's K in one layer.
    fn key_bytes(&self) -> u64 {
        self.keys.bytes(u64::from(self.kv_heads).saturating_mul(u64::from(self.head_dim)))
    }

    /// Bytes of one token's V in one layer.
    fn value_bytes(&self) -> u64 {
        self.values.bytes(self.value_elements())
    }

    /// Elements of one token's V in one layer.
    fn value_elements(&self) -> u64 {
        u64::from(self.kv_heads).saturating_mul(u64::from(self.head_dim_v))
    }
}

/// What elements of K or V are stored as, with ggml's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum KvType {
    /// IEEE half.
    F16 = 1,
    /// 18 bytes for 32 elements.
    Q4_0 = 2,
    /// 34 bytes for 32 elements.
    Q8_0 = 8,
}

impl KvType {
    fn bytes(self, elements: u64) -> u64 {
        match self {
            Self::F16 => elements.saturating_mul(2),
            Self::Q4_0 => (elements / 32).saturating_mul(18),
            Self::Q8_0 => (elements / 32).saturating_mul(34),
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        [Self::F16, Self::Q4_0, Self::Q8_0].into_iter().find(|known| *known as u32 == number)
    }
}

/// One number for two types.
fn pack(keys: KvType, values: KvType) -> u32 {
    if keys == values { keys as u32 } else { keys as u32 | (values as u32) << 16 }
}

/// The types of a number of [`pack`]'s; `None` when this build does not know them.
fn unpack(number: u32) -> Option<(KvType, KvType)> {
    let keys = KvType::from_number(number & 0xffff)?;
    let values = if number >> 16 == 0 { keys } else { KvType::from_number(number >> 16)? };
    (pack(keys, values) == number).then_some((keys, values))
}
