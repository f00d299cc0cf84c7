//! Stage 8: `gemma3`: Gemma 3, text.
//!
//! Five layers of six see only a sliding window and rotate with a base of their own; the sixth sees everything. Every
//! branch is normed on its way in and on its way out, every head of Q and K before RoPE; the feed-forward is gated
//! with GELU and the embedding scaled by `sqrt(width)`. Window layers store the KV of the whole context all the same:
//! any rollback stays possible.

use reprise_compute::{Activation, Attention, Backend, Pairing, Pass, Rope};
use reprise_gguf::{ModelSource, Value};

use super::{Step, full_attention};
use crate::ModelError;
use crate::activations::Activations;
use crate::head::Head;
use crate::hparams::{HyperParameters, Keys};
use crate::rope::{DEFAULT_BASE, RopeParameters, rope};
use crate::weights::{Linear, WeightLoader};

#[derive(Debug)]
pub(crate) struct Gemma3<W> {
    embedding: W,
    embedding_scale: f32,
    layers: Vec<Layer<W>>,
    head: Head<W>,
    head_dim: usize,
    eps: f32,
    /// Layers that see the whole context.
    global: Span,
    /// Layers that see a window of it.
    local: Span,
}

/// How a kind of layer rotates and attends.
#[derive(Debug)]
struct Span {
    rope: Rope,
    attention: Attention,
}

#[derive(Debug)]
struct Layer<W> {
    local: bool,
    attention_norm: W,
    q: Linear<W>,
    q_norm: W,
    k: Linear<W>,
    k_norm: W,
    v: Linear<W>,
    o: Linear<W>,
    attention_post_norm: W,
    ffn_norm: W,
    gate: Linear<W>,
    up: Linear<W>,
    down: Linear<W>,
    ffn_post_norm: W,
}

impl<W> Gemma3<W> {
    pub(crate) async fn load<S: ModelSource, B: Backend<Weight = W>>(
        weights: &mut WeightLoader<'_, S, B>,
        hparams: &HyperParameters,
        keys: Keys<'_>,
        parameters: RopeParameters,
    ) -> Result<Self, ModelError> {
        let (width, query, kv, ffn) =
            (hparams.width, hparams.query_width(), hparams.kv_width(), hparams.feed_forward);
        let (global, local) = spans(hparams, keys, parameters)?;
        let pattern = local_layers(hparams, keys)?;
        let softcap = keys.opt_softcap("final_logit_softcapping")?;

        let embedding = weights.matrix("token_embd.weight", hparams.vocab, width).await?;
        let mut layers = Vec::with_capacity(hparams.layers);
        for (i, local) in pattern.into_iter().enumerate() {
            let name = |part: &str| format!("blk.{i}.{part}");
            layers.push(Layer {
                local,
                attention_norm: weights.vector(&name("attn_norm.weight"), width).await?,
                q: weights.linear(&name("attn_q"), query, width).await?,
                q_norm: weights.vector(&name("attn_q_norm.weight"), hparams.head_dim).await?,
                k: weights.linear(&name("attn_k"), kv, width).await?,
                k_norm: weights.vector(&name("attn_k_norm.weight"), hparams.head_dim).await?,
                v: weights.linear(&name("attn_v"), kv, width).await?,
                o: weights.linear(&name("attn_output"), width, query).await?,
                attention_post_norm: weights.vector(&name("post_attention_norm.weight"), width).await?,
                ffn_norm: weights.vector(&name("ffn_norm.weight"), width).await?,
                gate: weights.linear(&name("ffn_gate"), ffn, width).await?,
                up: weights.linear(&name("ffn_up"), ffn, width).await?,
                down: weights.linear(&name("ffn_down"), width, ffn).await?,
                ffn_post_norm: weights.vector(&name("post_ffw_norm.weight"), width).await?,
            });
        }
        Ok(Self {
            embedding,
            embedding_scale: (width as f32).sqrt(),
            layers,
            head: Head::load(weights, hparams, softcap).await?,
            head_dim: hparams.head_dim,
            eps: hparams.eps,
            global,
            local,
        })
    }

    pub(crate) fn forward<P: Pass<Weight = W>>(
        &self,
        pass: &mut P,
        step: Step<'_>,
        kv: &mut P::Kv,
        a: &mut Activations<P::Tensor>,
    ) {
        pass.embed(&self.embedding, step.tokens, self.embedding_scale, &mut a.x);

        for (i, layer) in self.layers.iter().enumerate() {
            let (rope, attention) = self.attention(i);
            pass.norm(&a.x, &layer.attention_norm, self.eps, &mut a.normed);
            pass.linear(&a.normed, &mut [layer.q.to(&mut a.q), layer.k.to(&mut a.k), layer.v.to(&mut a.v)]);
            pass.norm_heads(&mut a.q, &layer.q_norm, self.eps);
            pass.norm_heads(&mut a.k, &layer.k_norm, self.eps);
            pass.rope(&mut a.q, self.head_dim, rope);
            pass.rope(&mut a.k, self.head_dim, rope);
            pass.store_kv(kv, i, &a.k, &a.v);
            if step.ends_after_kv_of(i, self.layers.len()) {
                return;
            }
            pass.attention(kv, i, &a.q, attention, &mut a.attended);
            pass.linear(&a.attended, &mut [layer.o.to(&mut a.branch)]);
            pass.norm(&a.branch, &layer.attention_post_norm, self.eps, &mut a.normed);
            pass.add(&mut a.x, &a.normed);

            pass.norm(&a.x, &layer.ffn_norm, self.eps, &mut a.normed);
            pass.linear(&a.normed, &mut [layer.gate.to(&mut a.gate), layer.up.to(&mut a.up)]);
            pass.gate(&mut a.gate, &a.up, Activation::Gelu);
            pass.linear(&a.gate, &mut [layer.down.to(&mut a.branch)]);
            pass.norm(&a.branch, &layer.ffn_post_norm, self.eps, &mut a.normed);
            pass.add(&mut a.x, &a.normed);
        }

        self.head.forward(pass, &self.embedding, step.rows, a);
    }

    pub(crate) fn attention(&self, layer: usize) -> (&Rope, &Attention) {
        let Span { rope, attention } = if self.layers[layer].local { &self.local } else { &self.global };
        (rope, attention)
    }
}

/// The two kinds of layers, global and local.
fn spans(
    hparams: &HyperParameters,
    keys: Keys<'_>,
    parameters: RopeParameters,
) -> Result<(Span, Span), ModelError> {
    let mut attention = full_attention(hparams);
    // Gemma 3 27B, the only one of 62 layers, scales queries by the width over the heads, not by the length of a head.
    if hparams.layers == 62 {
        attention.scale = 1.0 / ((hparams.width / hparams.heads) as f32).sqrt();
    }
    let local_rope =
        RopeParameters { base: keys.opt_positive("rope.freq_base_swa")?.unwrap_or(DEFAULT_BASE), scale: 1.0 };
    let span = |parameters, window| Span {
        rope: rope(Pairing::Halves, hparams.head_dim, parameters, None),
        attention: Attention { window, ..attention },
    };
    Ok((span(parameters, None), span(local_rope, window(keys)?)))
}

/// Positions that a local layer sees; `None` in a file without local layers.
fn window(keys: Keys<'_>) -> Result<Option<usize>, ModelError> {
    let window = keys.metadata.opt_u32(&keys.name("attention.sliding_window"))?;
    Ok(window.filter(|&window| window > 0).map(|window| window as usize))
}

/// Which layers are local: all but every sixth, unless the file gives another period or one flag a layer.
fn local_layers(hparams: &HyperParameters, keys: Keys<'_>) -> Result<Vec<bool>, ModelError> {
    const PATTERN: &str = "attention.sliding_window_pattern";
    if window(keys)?.is_none() {
        return Ok(vec![false; hparams.layers]);
    }
    let name = keys.name(PATTERN);
    if matches!(keys.metadata.value(&name), Some(Value::Array(_))) {
        let flags = keys.metadata.bools(&name)?;
        if flags.len() != hparams.layers {
            let (found, layers) = (flags.len(), hparams.layers);
            return Err(keys.invalid(PATTERN, format_args!("has {found} flags for {layers} layers")));
        }
        return Ok(flags);
    }
    let period = keys.metadata.opt_u32(&name)?.unwrap_or(6) as usize;
    // A period of zero stands for local layers only.
    Ok((1..=hparams.layers).map(|nth| period == 0 || !nth.is_multiple_of(period)).collect())
}
