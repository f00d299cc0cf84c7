//! What a host decides about a model before it is loaded.

use std::fmt;

use reprise_compute::KvType;

/// Sizes and rules of a loaded model.
pub struct LoadOptions {
    /// KV memory, blocks of [`reprise_compute::BLOCK_TOKENS`] tokens.
    pub blocks: u32,
    /// Tokens that one step may hold over all its sequences (`-ub`).
    pub batch: usize,
    /// Rows of logits that one step may ask for: one for each slot, and one for each drafted token.
    pub logit_rows: usize,
    /// What K is stored as (`-ctk`).
    pub keys: KvType,
    /// What V is stored as (`-ctv`).
    pub values: KvType,
    /// What the host says in place of the file's RoPE.
    pub rope: RopeOverrides,
    /// Called after each tensor.
    pub progress: Option<Box<dyn FnMut(LoadProgress)>>,
}

impl Default for LoadOptions {
    /// One slot of 4096 tokens, steps of 512: llama-server's `-ub`.
    fn default() -> Self {
        Self {
            blocks: 128,
            batch: 512,
            logit_rows: 1,
            keys: KvType::F16,
            values: KvType::F16,
            rope: RopeOverrides::default(),
            progress: None,
        }
    }
}

impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("blocks", &self.blocks)
            .field("batch", &self.batch)
            .field("logit_rows", &self.logit_rows)
            .field("keys", &self.keys)
            .field("values", &self.values)
            .field("rope", &self.rope)
            .finish_non_exhaustive()
    }
}

/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of tensor data handed to the backend.
    pub loaded: u64,
    /// Bytes of all tensors of the file.
    pub total: u64,
}

/// RoPE parameters that replace those of the file (`--rope-freq-base`, `--rope-freq-scale`, `--rope-scaling`).
///
/// As in llama-server they change the layers that see the whole context; the sliding-window layers of `gemma3` keep
/// their own base, unscaled.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RopeOverrides {
    /// Base of the rotation frequencies.
    pub freq_base: Option<f32>,
    /// Factor on positions: `1 / N` stretches the context `N` times.
    pub freq_scale: Option<f32>,
    /// How positions are scaled.
    pub scaling: Option<RopeScaling>,
}

/// A way to stretch a context beyond the trained one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeScaling {
    /// Not at all, whatever scale the file or the host gives.
    None,
    /// All frequencies by the same factor.
    Linear,
}
