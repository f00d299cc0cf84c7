//! The canonical shape of KV memory, the same on every backend and in slot images.

use std::fmt;
use std::str::FromStr;

use crate::BLOCK_TOKENS;

/// What elements of K or V are stored as, in llama.cpp's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// IEEE half.
    #[default]
    F16,
    /// ggml's `Q8_0`: 32 signed bytes behind their f16 scale.
    Q8_0,
    /// ggml's `Q4_0`: 32 numbers of 4 bits, less 8, behind their f16 scale.
    Q4_0,
}

impl KvType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F16, Self::Q8_0, Self::Q4_0];

    /// Elements that are stored together.
    #[must_use]
    pub fn block(self) -> usize {
        match self {
            Self::F16 => 1,
            Self::Q8_0 | Self::Q4_0 => 32,
        }
    }

    /// Bytes of `elements` elements, a multiple of [`KvType::block`].
    #[must_use]
    pub fn bytes(self, elements: usize) -> usize {
        let of_block = match self {
            Self::F16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
        };
        elements / self.block() * of_block
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        })
    }
}

impl FromStr for KvType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|known| known.to_string() == name);
        known.ok_or_else(|| format!("'{name}' is no type of KV memory here; there are f16, q8_0 and q4_0"))
    }
}

/// Sizes of one token's K and V.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Transformer layers.
    pub layers: usize,
    /// KV heads of a layer.
    pub kv_heads: usize,
    /// Elements of a head, the same for K and V.
    pub head_dim: usize,
    /// What K is stored as.
    pub keys: KvType,
    /// What V is stored as.
    pub values: KvType,
}

impl KvShape {
    /// A shape whose elements are all f16.
    #[must_use]
    pub const fn f16(layers: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self { layers, kv_heads, head_dim, keys: KvType::F16, values: KvType::F16 }
    }

    /// Elements of one token's K (or V) in one layer.
    #[must_use]
    pub fn row(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Bytes of `tokens` tokens over all layers, K and V.
    #[must_use]
    pub fn bytes(&self, tokens: usize) -> usize {
        self.layers * tokens * (self.keys.bytes(self.row()) + self.values.bytes(self.row()))
    }

    /// Bytes of one full block.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.bytes(BLOCK_TOKENS)
    }

    /// Whether heads are stored whole: a head's elements must be a multiple of what its type stores together.
    #[must_use]
    pub fn keeps_heads_whole(&self) -> bool {
        [self.keys, self.values].iter().all(|kv_type| self.head_dim.is_multiple_of(kv_type.block()))
    }
}
