//! Whose KV is whose: a digest that differs whenever KV computed by one model is no use to another.

use std::collections::BTreeMap;

use blake3::Hasher;
use reprise_compute::{Attention, BLOCK_TOKENS, Pairing, Rope};
use reprise_gguf::Gguf;

use crate::arch::Network;
use crate::hparams::HyperParameters;

/// Type and order of stored KV; to be changed with them.
const KV_LAYOUT: &str = "f16 [layer][k,v][token][kv_head][head_dim] 1";

/// Bytes taken from each place of a tensor's data.
const SAMPLE: usize = 4096;

/// Digest of a tensor's data: its start, middle and end, which for small tensors is all of it. Reading a whole model
/// would cost more than loading a mapped one.
pub(crate) fn sample(data: &[u8]) -> blake3::Hash {
    if data.len() <= 3 * SAMPLE {
        return blake3::hash(data);
    }
    let middle = (data.len() - SAMPLE) / 2;
    let mut hasher = Hasher::new();
    hasher.update(&data[..SAMPLE]);
    hasher.update(&data[middle..middle + SAMPLE]);
    hasher.update(&data[data.len() - SAMPLE..]);
    hasher.finalize()
}

/// Digest over all that makes two models' KV interchangeable. `samples` holds the digest of each loaded tensor.
pub(crate) fn fingerprint<W>(
    gguf: &Gguf,
    hparams: &HyperParameters,
    network: &Network<W>,
    samples: &BTreeMap<String, blake3::Hash>,
) -> [u8; 32] {
    let mut hasher = Hasher::new();
    text(&mut hasher, KV_LAYOUT);
    number(&mut hasher, BLOCK_TOKENS);
    text(&mut hasher, hparams.architecture.name());
    let HyperParameters {
        architecture: _,
        vocab,
        width,
        layers,
        heads,
        kv_heads,
        head_dim,
        feed_forward,
        eps,
        ..
    } = hparams;
    for size in [vocab, width, layers, heads, kv_heads, head_dim, feed_forward] {
        number(&mut hasher, *size);
    }
    float(&mut hasher, *eps);
    for layer in 0..hparams.layers {
        let (rope, attention) = network.attention(layer);
        rotation(&mut hasher, rope);
        scores(&mut hasher, attention);
    }
    let mut directory: Vec<_> = gguf.tensors().collect();
    directory.sort_by(|a, b| a.name.cmp(&b.name));
    number(&mut hasher, directory.len());
    for tensor in directory {
        text(&mut hasher, &tensor.name);
        text(&mut hasher, &format!("{:?}", tensor.dtype));
        number(&mut hasher, tensor.dims.len());
        for &dim in &tensor.dims {
            number(&mut hasher, dim);
        }
        if let Some(sample) = samples.get(&tensor.name) {
            hasher.update(sample.as_bytes());
        }
    }
    hasher.finalize().into()
}

fn rotation(hasher: &mut Hasher, rope: &Rope) {
    text(
        hasher,
        match rope.pairing {
            Pairing::Adjacent => "adjacent",
            Pairing::Halves => "halves",
        },
    );
    number(hasher, rope.inverse_frequencies.len());
    for &frequency in &rope.inverse_frequencies {
        float(hasher, frequency);
    }
}

fn scores(hasher: &mut Hasher, attention: &Attention) {
    float(hasher, attention.scale);
    number(hasher, attention.window.unwrap_or(usize::MAX));
    float(hasher, attention.softcap.unwrap_or(0.0));
}

/// With its length before it, so that neighbours cannot run into each other.
fn text(hasher: &mut Hasher, text: &str) {
    number(hasher, text.len());
    hasher.update(text.as_bytes());
}

/// As 64 bits: the same on a browser's 32-bit target.
fn number(hasher: &mut Hasher, number: usize) {
    hasher.update(&(number as u64).to_le_bytes());
}

fn float(hasher: &mut Hasher, float: f32) {
    hasher.update(&float.to_bits().to_le_bytes());
}
