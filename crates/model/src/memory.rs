//! What a model will cost, told before anything is read: a host refuses what cannot fit.

use reprise_compute::KvShape;
use reprise_gguf::{Gguf, TensorInfo};

use crate::activations;
use crate::hparams::HyperParameters;
use crate::{LoadOptions, ModelError};

/// Bytes that a loaded model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Tensor data; pages of the file where the host maps it.
    pub weights: u64,
    /// KV memory once every block was written.
    pub kv: u64,
    /// Activations and logits of a step.
    pub activations: u64,
}

impl MemoryNeed {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv).saturating_add(self.activations)
    }
}

/// What [`crate::load`] would take with these options. Sums too large for a `u64` saturate.
///
/// # Errors
/// [`ModelError`] when the file's hyper-parameters are not those of a model that we can run.
pub fn memory_needed(gguf: &Gguf, options: &LoadOptions) -> Result<MemoryNeed, ModelError> {
    let hparams = HyperParameters::read(gguf)?;
    Ok(MemoryNeed {
        weights: gguf.tensors().map(TensorInfo::bytes).sum(),
        kv: kv_bytes(hparams.kv_shape(options), options.blocks),
        activations: activations::bytes(&hparams, options),
    })
}

/// Bytes of `blocks` full blocks; sizes are limited, so that this fits a `u64` where it may not fit a `usize`.
pub(crate) fn kv_bytes(shape: KvShape, blocks: u32) -> u64 {
    let row = shape.keys.bytes(shape.row()) + shape.values.bytes(shape.row());
    let cell = shape.layers as u64 * row as u64;
    cell * reprise_compute::BLOCK_TOKENS as u64 * u64::from(blocks)
}
