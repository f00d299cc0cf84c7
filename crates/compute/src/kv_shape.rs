//! The canonical shape of KV memory, the same on every backend and in slot images.

use crate::BLOCK_TOKENS;

/// Sizes of one token's K and V. Every element is f16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Transformer layers.
    pub layers: usize,
    /// KV heads of a layer.
    pub kv_heads: usize,
    /// Elements of a head, the same for K and V.
    pub head_dim: usize,
}

impl KvShape {
    /// f16 elements of one token's K (or V) in one layer.
    #[must_use]
    pub fn row(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Bytes of `tokens` tokens over all layers, K and V.
    #[must_use]
    pub fn bytes(&self, tokens: usize) -> usize {
        self.layers * 2 * tokens * self.row() * 2
    }

    /// Bytes of one full block.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.bytes(BLOCK_TOKENS)
    }
}
