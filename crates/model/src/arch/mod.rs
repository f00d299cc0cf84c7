//! Stage 8: the architectures. A closed set, so an enum: each variant's file reads as its forward pass.

mod gemma3;
mod llama;
mod qwen2;
mod qwen3;

use reprise_compute::{Attention, Backend, Pass, Rope};
use reprise_gguf::ModelSource;

use crate::ModelError;
use crate::activations::Activations;
use crate::head::Rows;
use crate::hparams::{HyperParameters, Keys};
use crate::rope::RopeParameters;
use crate::weights::WeightLoader;

/// The architectures that are implemented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
    Gemma3,
}

impl Architecture {
    /// The architecture of a `general.architecture`.
    ///
    /// # Errors
    /// [`ModelError::Architecture`].
    pub(crate) fn from_name(name: &str) -> Result<Self, ModelError> {
        [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Gemma3]
            .into_iter()
            .find(|architecture| architecture.name() == name)
            .ok_or_else(|| ModelError::Architecture(name.to_owned()))
    }

    /// Its name in GGUF, which begins its metadata keys.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3",
        }
    }
}

/// The input of a forward pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    /// One token a row.
    pub(crate) tokens: &'a [u32],
    /// What is computed from the last layer.
    pub(crate) rows: Rows<'a>,
}

impl Step<'_> {
    /// Whether nothing is wanted beyond the KV of this layer: in the last one, for all but the last chunk of a prompt.
    fn ends_after_kv_of(&self, layer: usize, layers: usize) -> bool {
        layer + 1 == layers && matches!(self.rows, Rows::None)
    }
}

/// A loaded transformer: its weights, and how its layers attend.
#[derive(Debug)]
pub(crate) enum Network<W> {
    Llama(llama::Llama<W>),
    Qwen2(qwen2::Qwen2<W>),
    Qwen3(qwen3::Qwen3<W>),
    Gemma3(gemma3::Gemma3<W>),
}

impl<W> Network<W> {
    /// Loads the architecture that the hyper-parameters name.
    ///
    /// # Errors
    /// [`ModelError`] naming the key or the tensor.
    pub(crate) async fn load<S: ModelSource, B: Backend<Weight = W>>(
        weights: &mut WeightLoader<'_, S, B>,
        hparams: &HyperParameters,
        keys: Keys<'_>,
        rope: RopeParameters,
    ) -> Result<Self, ModelError> {
        Ok(match hparams.architecture {
            Architecture::Llama => Self::Llama(llama::Llama::load(weights, hparams, rope).await?),
            Architecture::Qwen2 => Self::Qwen2(qwen2::Qwen2::load(weights, hparams, rope).await?),
            Architecture::Qwen3 => Self::Qwen3(qwen3::Qwen3::load(weights, hparams, rope).await?),
            Architecture::Gemma3 => Self::Gemma3(gemma3::Gemma3::load(weights, hparams, keys, rope).await?),
        })
    }

    /// Records the operations of a step: KV of every row, and what `step.rows` asks for.
    pub(crate) fn forward<P: Pass<Weight = W>>(
        &self,
        pass: &mut P,
        step: Step<'_>,
        kv: &mut P::Kv,
        a: &mut Activations<P::Tensor>,
    ) {
        match self {
            Self::Llama(network) => network.forward(pass, step, kv, a),
            Self::Qwen2(network) => network.forward(pass, step, kv, a),
            Self::Qwen3(network) => network.forward(pass, step, kv, a),
            Self::Gemma3(network) => network.forward(pass, step, kv, a),
        }
    }

    /// How a layer rotates and attends: what stored K depends on beyond the weights.
    pub(crate) fn attention(&self, layer: usize) -> (&Rope, &Attention) {
        match self {
            Self::Llama(network) => (&network.rope, &network.attention),
            Self::Qwen2(network) => (&network.rope, &network.attention),
            Self::Qwen3(network) => (&network.rope, &network.attention),
            Self::Gemma3(network) => network.attention(layer),
        }
    }
}

/// Causal attention over the whole context, scores scaled by `1 / sqrt(head_dim)`.
fn full_attention(hparams: &HyperParameters) -> Attention {
    let scale = 1.0 / (hparams.head_dim as f32).sqrt();
    Attention { heads: hparams.heads, scale, window: None, softcap: None }
}
