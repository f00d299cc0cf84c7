//! Activation buffers of a step, made once and used by every layer of every step.

use reprise_compute::Backend;

use crate::hparams::HyperParameters;
use crate::{LoadOptions, ModelError};

/// The tensors that the operations of a forward pass read and write, `[tokens, width]` each.
#[derive(Debug)]
pub(crate) struct Activations<T> {
    /// The residual stream.
    pub(crate) x: T,
    /// A normed copy of the residual stream or of a branch.
    pub(crate) normed: T,
    /// All query heads.
    pub(crate) q: T,
    /// All key heads.
    pub(crate) k: T,
    /// All value heads.
    pub(crate) v: T,
    /// What the query heads attended to.
    pub(crate) attended: T,
    /// What a branch adds to the residual stream.
    pub(crate) branch: T,
    /// The gated half of the feed-forward.
    pub(crate) gate: T,
    /// The other half.
    pub(crate) up: T,
    /// Rows of the residual stream whose logits are wanted.
    pub(crate) last: T,
    /// `[rows of last, vocabulary]`.
    pub(crate) logits: T,
}

impl<T> Activations<T> {
    /// Takes the memory of all buffers.
    ///
    /// # Errors
    /// [`ModelError`] when the backend has none.
    pub(crate) fn new<B: Backend<Tensor = T>>(
        backend: &B,
        hparams: &HyperParameters,
        options: &LoadOptions,
    ) -> Result<Self, ModelError> {
        let tokens = |width| backend.tensor(options.batch, width);
        let rows = |width| backend.tensor(options.logit_rows, width);
        Ok(Self {
            x: tokens(hparams.width)?,
            normed: tokens(hparams.width)?,
            q: tokens(hparams.query_width())?,
            k: tokens(hparams.kv_width())?,
            v: tokens(hparams.kv_width())?,
            attended: tokens(hparams.query_width())?,
            branch: tokens(hparams.width)?,
            gate: tokens(hparams.feed_forward)?,
            up: tokens(hparams.feed_forward)?,
            last: rows(hparams.width)?,
            logits: rows(hparams.vocab)?,
        })
    }
}

/// Bytes that [`Activations::new`] takes.
pub(crate) fn bytes(hparams: &HyperParameters, options: &LoadOptions) -> u64 {
    let token =
        3 * hparams.width + 2 * hparams.query_width() + 2 * hparams.kv_width() + 2 * hparams.feed_forward;
    let row = hparams.width + hparams.vocab;
    let elements = (token as u64)
        .saturating_mul(options.batch as u64)
        .saturating_add((row as u64).saturating_mul(options.logit_rows as u64));
    elements.saturating_mul(size_of::<f32>() as u64)
}
