//! Stage 8: `qwen2`: Qwen 2 and 2.5.
//!
//! Pre-norm transformer with grouped-query attention and a SiLU-gated feed-forward; Q, K and V have biases, and RoPE
//! rotates the halves of a head against each other.

use reprise_compute::{Activation, Attention, Backend, Pairing, Pass, Rope};
use reprise_gguf::ModelSource;

use super::{Step, full_attention};
use crate::ModelError;
use crate::activations::Activations;
use crate::head::Head;
use crate::hparams::HyperParameters;
use crate::rope::{RopeParameters, rope};
use crate::weights::{Linear, WeightLoader};

#[derive(Debug)]
pub(crate) struct Qwen2<W> {
    embedding: W,
    layers: Vec<Layer<W>>,
    head: Head<W>,
    head_dim: usize,
    eps: f32,
    pub(crate) rope: Rope,
    pub(crate) attention: Attention,
}

#[derive(Debug)]
struct Layer<W> {
    attention_norm: W,
    q: Linear<W>,
    k: Linear<W>,
    v: Linear<W>,
    o: Linear<W>,
    ffn_norm: W,
    gate: Linear<W>,
    up: Linear<W>,
    down: Linear<W>,
}

impl<W> Qwen2<W> {
    pub(crate) async fn load<S: ModelSource, B: Backend<Weight = W>>(
        weights: &mut WeightLoader<'_, S, B>,
        hparams: &HyperParameters,
        parameters: RopeParameters,
    ) -> Result<Self, ModelError> {
        let (width, query, kv, ffn) =
            (hparams.width, hparams.query_width(), hparams.kv_width(), hparams.feed_forward);
        let embedding = weights.matrix("token_embd.weight", hparams.vocab, width).await?;
        let mut layers = Vec::with_capacity(hparams.layers);
        for i in 0..hparams.layers {
            let name = |part: &str| format!("blk.{i}.{part}");
            layers.push(Layer {
                attention_norm: weights.vector(&name("attn_norm.weight"), width).await?,
                q: weights.linear(&name("attn_q"), query, width).await?,
                k: weights.linear(&name("attn_k"), kv, width).await?,
                v: weights.linear(&name("attn_v"), kv, width).await?,
                o: weights.linear(&name("attn_output"), width, query).await?,
                ffn_norm: weights.vector(&name("ffn_norm.weight"), width).await?,
                gate: weights.linear(&name("ffn_gate"), ffn, width).await?,
                up: weights.linear(&name("ffn_up"), ffn, width).await?,
                down: weights.linear(&name("ffn_down"), width, ffn).await?,
            });
        }
        Ok(Self {
            embedding,
            layers,
            head: Head::load(weights, hparams, None).await?,
            head_dim: hparams.head_dim,
            eps: hparams.eps,
            rope: rope(Pairing::Halves, hparams.head_dim, parameters, None),
            attention: full_attention(hparams),
        })
    }

    pub(crate) fn forward<P: Pass<Weight = W>>(
        &self,
        pass: &mut P,
        step: Step<'_>,
        kv: &mut P::Kv,
        a: &mut Activations<P::Tensor>,
    ) {
        pass.embed(&self.embedding, step.tokens, 1.0, &mut a.x);

        for (i, layer) in self.layers.iter().enumerate() {
            pass.norm(&a.x, &layer.attention_norm, self.eps, &mut a.normed);
            pass.linear(&a.normed, &mut [layer.q.to(&mut a.q), layer.k.to(&mut a.k), layer.v.to(&mut a.v)]);
            pass.rope(&mut a.q, self.head_dim, &self.rope);
            pass.rope(&mut a.k, self.head_dim, &self.rope);
            pass.store_kv(kv, i, &a.k, &a.v);
            if step.ends_after_kv_of(i, self.layers.len()) {
                return;
            }
            pass.attention(kv, i, &a.q, &self.attention, &mut a.attended);
            pass.linear(&a.attended, &mut [layer.o.to(&mut a.branch)]);
            pass.add(&mut a.x, &a.branch);

            pass.norm(&a.x, &layer.ffn_norm, self.eps, &mut a.normed);
            pass.linear(&a.normed, &mut [layer.gate.to(&mut a.gate), layer.up.to(&mut a.up)]);
            pass.gate(&mut a.gate, &a.up, Activation::Silu);
            pass.linear(&a.gate, &mut [layer.down.to(&mut a.branch)]);
            pass.add(&mut a.x, &a.branch);
        }

        self.head.forward(pass, &self.embedding, step.rows, a);
    }
}
