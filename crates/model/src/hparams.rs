//! Hyper-parameters that all architectures share, read from metadata and checked against each other.

use reprise_compute::KvShape;
use reprise_gguf::{Gguf, Metadata};

use crate::arch::Architecture;
use crate::{LoadOptions, ModelError};

/// Most layers that a file may claim, llama.cpp's limit too.
const MAX_LAYERS: u32 = 512;

/// Widest row of activations that a file may claim; eight times the widest model known.
const MAX_WIDTH: u32 = 1 << 19;

/// Sizes of a transformer. Every product of them that is taken here fits.
#[derive(Debug, Clone)]
pub(crate) struct HyperParameters {
    pub(crate) architecture: Architecture,
    /// Rows of the token embedding, equal to the length of the file's token list where it has one.
    pub(crate) vocab: usize,
    /// Width of the residual stream.
    pub(crate) width: usize,
    pub(crate) layers: usize,
    /// Query heads, a multiple of the KV heads.
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// Elements of a head, even, the same for Q, K and V.
    pub(crate) head_dim: usize,
    /// Width of the feed-forward.
    pub(crate) feed_forward: usize,
    /// Added to the mean square in every RMSNorm.
    pub(crate) eps: f32,
    /// Context length of the training, tokens.
    pub(crate) train_context: u32,
}

impl HyperParameters {
    /// Reads and checks the hyper-parameters of a file.
    ///
    /// # Errors
    /// [`ModelError`] naming the key or tensor that is missing, out of range or contradicted by another.
    pub(crate) fn read(gguf: &Gguf) -> Result<Self, ModelError> {
        let metadata = &gguf.metadata;
        let architecture = Architecture::from_name(metadata.architecture()?)?;
        let keys = Keys { metadata, architecture };

        let width = keys.size("embedding_length", MAX_WIDTH)?;
        let heads = keys.size("attention.head_count", MAX_WIDTH)?;
        let kv_heads = keys.opt_size("attention.head_count_kv", MAX_WIDTH)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(keys.invalid(
                "attention.head_count",
                format_args!("is {heads}, not a multiple of the {kv_heads} KV heads"),
            ));
        }
        let head_dim = match keys.opt_size("attention.key_length", MAX_WIDTH)? {
            Some(length) => length,
            None if width.is_multiple_of(heads) => width / heads,
            None => {
                return Err(keys.invalid(
                    "embedding_length",
                    format_args!("is {width}, which {heads} heads do not divide"),
                ));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(keys
                .invalid("attention.key_length", format_args!("is {head_dim}; RoPE needs an even length")));
        }
        if heads.checked_mul(head_dim).is_none_or(|all| all > MAX_WIDTH as usize) {
            return Err(keys.invalid(
                "attention.head_count",
                format_args!("is {heads}, too many heads of {head_dim} elements"),
            ));
        }
        for same in ["attention.value_length", "rope.dimension_count"] {
            if let Some(length) = keys.opt_size(same, MAX_WIDTH)?.filter(|&length| length != head_dim) {
                return Err(
                    keys.unsupported(same, format_args!("is {length} where heads have {head_dim} elements"))
                );
            }
        }
        let eps = metadata.f32(&keys.name("attention.layer_norm_rms_epsilon"))?;
        if !(eps.is_finite() && eps >= 0.0) {
            return Err(keys.invalid("attention.layer_norm_rms_epsilon", format_args!("is {eps}")));
        }
        if keys.metadata.opt_u32(&keys.name("expert_count"))?.is_some_and(|experts| experts > 0) {
            return Err(keys
                .unsupported("expert_count", format_args!("is set: mixtures of experts are not supported")));
        }
        if keys.metadata.opt_bool(&keys.name("attention.causal"))? == Some(false) {
            return Err(
                keys.unsupported("attention.causal", format_args!("is false: encoders are not supported"))
            );
        }
        Ok(Self {
            architecture,
            vocab: vocabulary(gguf, width)?,
            width,
            layers: keys.size("block_count", MAX_LAYERS)?,
            heads,
            kv_heads,
            head_dim,
            feed_forward: keys.size("feed_forward_length", MAX_WIDTH)?,
            eps,
            train_context: metadata.u32(&keys.name("context_length"))?,
        })
    }

    /// Width of the concatenated query heads.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the concatenated key (or value) heads.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    pub(crate) fn kv_shape(&self, options: &LoadOptions) -> KvShape {
        let LoadOptions { keys, values, .. } = *options;
        KvShape { layers: self.layers, kv_heads: self.kv_heads, head_dim: self.head_dim, keys, values }
    }
}

/// The rows of the token embedding, which must be the tokens of the vocabulary.
fn vocabulary(gguf: &Gguf, width: usize) -> Result<usize, ModelError> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    let embedding = gguf.tensor("token_embd.weight")?;
    let tokens = gguf.metadata.opt_strings(TOKENS)?.map_or(embedding.rows, |tokens| tokens.len());
    if embedding.rows != tokens {
        let rows = embedding.rows;
        return Err(ModelError::Invalid(format!(
            "tensor 'token_embd.weight' has {rows} rows, but '{TOKENS}' has {tokens} tokens"
        )));
    }
    if embedding.cols != width {
        return Err(ModelError::Invalid(format!(
            "tensor 'token_embd.weight' has rows of {} elements, but the embedding length is {width}",
            embedding.cols
        )));
    }
    Ok(tokens)
}

/// The metadata of one architecture, whose keys begin with its name.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    pub(crate) metadata: &'a Metadata,
    pub(crate) architecture: Architecture,
}

impl Keys<'_> {
    /// The full name of a key.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.name())
    }

    /// A size from 1 to `limit`.
    fn size(&self, key: &str, limit: u32) -> Result<usize, ModelError> {
        let value = self.metadata.u32(&self.name(key))?;
        self.limited(key, value, limit)
    }

    /// A size from 1 to `limit`, if the file has the key.
    pub(crate) fn opt_size(&self, key: &str, limit: u32) -> Result<Option<usize>, ModelError> {
        self.metadata.opt_u32(&self.name(key))?.map(|value| self.limited(key, value, limit)).transpose()
    }

    fn limited(&self, key: &str, value: u32, limit: u32) -> Result<usize, ModelError> {
        if (1..=limit).contains(&value) {
            Ok(value as usize)
        } else {
            Err(self.invalid(key, format_args!("is {value}, outside 1 to {limit}")))
        }
    }

    /// A positive, finite number, if the file has the key.
    pub(crate) fn opt_positive(&self, key: &str) -> Result<Option<f32>, ModelError> {
        match self.metadata.opt_f32(&self.name(key))? {
            Some(value) if !(value.is_finite() && value > 0.0) => {
                Err(self.invalid(key, format_args!("is {value}, not a positive number")))
            }
            value => Ok(value),
        }
    }

    /// A cap on logits, if the file has one; zero stands for none.
    ///
    /// # Errors
    /// [`ModelError`] when it is negative or not a number.
    pub(crate) fn opt_softcap(&self, key: &str) -> Result<Option<f32>, ModelError> {
        if self.metadata.opt_f32(&self.name(key))? == Some(0.0) { Ok(None) } else { self.opt_positive(key) }
    }

    pub(crate) fn invalid(&self, key: &str, why: std::fmt::Arguments<'_>) -> ModelError {
        ModelError::Invalid(format!("metadata key '{}' {why}", self.name(key)))
    }

    pub(crate) fn unsupported(&self, key: &str, why: std::fmt::Arguments<'_>) -> ModelError {
        ModelError::Unsupported(format!("metadata key '{}' {why}", self.name(key)))
    }
}
