//! The end of every architecture: output norm, and the projection onto the vocabulary for the rows that want it.

use reprise_compute::{Backend, Pass, Projection};
use reprise_gguf::ModelSource;

use crate::ModelError;
use crate::activations::Activations;
use crate::hparams::HyperParameters;
use crate::weights::{Linear, WeightLoader};

/// What a step computes from the residual stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// Nothing: only the KV is wanted.
    None,
    /// Normed hidden states of all rows, into [`Activations::normed`].
    AllHidden,
    /// Logits of these rows, at least one, into [`Activations::logits`].
    Logits(&'a [u32]),
}

/// Output norm and language-model head.
#[derive(Debug)]
pub(crate) struct Head<W> {
    norm: W,
    /// `None`: tied to the token embedding.
    output: Option<Linear<W>>,
    eps: f32,
    softcap: Option<f32>,
}

impl<W> Head<W> {
    /// Loads `output_norm.weight` and, unless tied, `output.weight` with its bias.
    ///
    /// # Errors
    /// [`ModelError`] as [`WeightLoader::matrix`].
    pub(crate) async fn load<S: ModelSource, B: Backend<Weight = W>>(
        weights: &mut WeightLoader<'_, S, B>,
        hparams: &HyperParameters,
        softcap: Option<f32>,
    ) -> Result<Self, ModelError> {
        let norm = weights.vector("output_norm.weight", hparams.width).await?;
        let output = if weights.has("output.weight") {
            Some(weights.linear("output", hparams.vocab, hparams.width).await?)
        } else {
            None
        };
        Ok(Self { norm, output, eps: hparams.eps, softcap })
    }

    /// Norms the rows that are wanted before the projection, the most expensive of a step, sees them.
    pub(crate) fn forward<P: Pass<Weight = W>>(
        &self,
        pass: &mut P,
        embedding: &W,
        rows: Rows<'_>,
        a: &mut Activations<P::Tensor>,
    ) {
        let rows = match rows {
            Rows::None => return,
            Rows::AllHidden => return pass.norm(&a.x, &self.norm, self.eps, &mut a.normed),
            Rows::Logits(rows) => rows,
        };
        pass.gather(&a.x, rows, &mut a.last);
        pass.norm(&a.last, &self.norm, self.eps, &mut a.normed);
        let projection = match &self.output {
            Some(output) => output.to(&mut a.logits),
            None => Projection { weight: embedding, bias: None, out: &mut a.logits },
        };
        pass.linear(&a.normed, &mut [projection]);
        if let Some(cap) = self.softcap {
            pass.softcap(&mut a.logits, cap);
        }
    }
}
