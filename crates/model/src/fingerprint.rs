//! Whose KV is whose: a digest that differs whenever KV computed by one model is no use to another.

use std::collections::BTreeMap;
use std::ops::Range;

use blake3::Hasher;
use bytes::Bytes;
use reprise_compute::{Attention, BLOCK_TOKENS, KvShape, KvType, Pairing, Rope};
use reprise_gguf::{Gguf, ModelSource, SourceError};

use crate::arch::Network;
use crate::hparams::HyperParameters;

/// Type and order of stored KV; to be changed with them.
const KV_LAYOUT: &str = "f16 [layer][k,v][token][kv_head][head_dim] 1";

/// Bytes taken from each place of a tensor's data.
const SAMPLE: u64 = 4096;

/// Digest of the data in `range`, a tensor's: its start, middle and end, which for small tensors is all of it. Reading a
/// whole model would cost more than loading a mapped one.
///
/// # Errors
/// [`SourceError`] when the data cannot be read.
pub(crate) async fn sample(
    source: &impl ModelSource,
    range: Range<u64>,
) -> Result<blake3::Hash, SourceError> {
    let Range { start, end } = range;
    let length = end.saturating_sub(start);
    let mut hasher = Hasher::new();
    if length <= 3 * SAMPLE {
        hasher.update(&read(source, start..end).await?);
        return Ok(hasher.finalize());
    }
    for first in [start, start + (length - SAMPLE) / 2, end - SAMPLE] {
        hasher.update(&read(source, first..first + SAMPLE).await?);
    }
    Ok(hasher.finalize())
}

/// The bytes of `range`, all of them.
///
/// # Errors
/// [`SourceError`] when the read fails or gives another number of bytes.
pub(crate) async fn read(source: &impl ModelSource, range: Range<u64>) -> Result<Bytes, SourceError> {
    let data = source.read(range.clone()).await?;
    if data.len() as u64 == range.end - range.start {
        Ok(data)
    } else {
        Err(SourceError::Short { range, found: data.len() })
    }
}

/// Digest over all that makes two models' KV interchangeable. `samples` holds the digest of each loaded tensor.
pub(crate) fn fingerprint<W>(
    gguf: &Gguf,
    hparams: &HyperParameters,
    shape: KvShape,
    network: &Network<W>,
    samples: &BTreeMap<String, blake3::Hash>,
) -> [u8; 32] {
    let mut hasher = Hasher::new();
    text(&mut hasher, KV_LAYOUT);
    number(&mut hasher, BLOCK_TOKENS);
    // Of f16 nothing is said: images that were made before there was a choice still fit.
    for (part, kv_type) in [("K", shape.keys), ("V", shape.values)] {
        if kv_type != KvType::F16 {
            text(&mut hasher, &format!("{part} {kv_type}"));
        }
    }
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
    // Not `usize::MAX`, which is another number on a 32-bit target.
    hasher.update(&attention.window.map_or(u64::MAX, |window| window as u64).to_le_bytes());
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

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use reprise_gguf::MemorySource;

    use super::*;

    #[test]
    fn a_sample_is_the_start_the_middle_and_the_end() {
        let bytes: Vec<u8> = (0..40_000_u32).map(|i| ((i * i) >> 7) as u8).collect();
        let source = MemorySource(bytes.clone().into());
        let found = |range| block_on(sample(&source, range)).unwrap();
        assert_eq!(found(10..12_298), blake3::hash(&bytes[10..12_298]));
        // 12,289 bytes from the tenth on: one more than the three samples hold.
        let parts = [&bytes[10..4106], &bytes[4106..8202], &bytes[8203..12_299]].concat();
        assert_eq!(found(10..12_299), blake3::hash(&parts));
        let parts = [&bytes[..4096], &bytes[17_952..22_048], &bytes[35_904..]].concat();
        assert_eq!(found(0..40_000), blake3::hash(&parts));
        assert_eq!(found(5..5), blake3::hash(&[]));
        assert!(block_on(sample(&source, 39_000..41_000)).is_err());
    }
}
