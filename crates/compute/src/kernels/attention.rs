//! Attention of one query row over one block of keys and values, with a running softmax.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::Isa;
use super::math::{exp, larger, sum8, tanh, tree8};
use crate::BLOCK_TOKENS;

/// Elements of a padded head are a multiple of this.
pub(crate) const LANES: usize = 8;

/// Softmax over the keys seen so far: `out = sum of e^(score - max) * value`, `sum` the same without the value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Running {
    /// Largest score.
    pub(crate) max: f32,
    /// Sum of the exponentials.
    pub(crate) sum: f32,
}

impl Running {
    /// No key seen.
    pub(crate) const EMPTY: Self = Self { max: f32::NEG_INFINITY, sum: 0.0 };
}

/// One block of keys and values of a KV head, `[BLOCK_TOKENS][padded head] f32`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockView<'a> {
    /// Keys.
    pub(crate) keys: &'a [f32],
    /// Values.
    pub(crate) values: &'a [f32],
}

/// Widens one head of `tokens` tokens, `row` elements apart, to rows of `padded` floats. The padding is not written.
pub(crate) fn widen_head(
    isa: Isa,
    from: &[f16],
    row: usize,
    head: Range<usize>,
    padded: usize,
    to: &mut [f32],
) {
    for (from, to) in from.chunks_exact(row).zip(to.chunks_exact_mut(padded)) {
        let from = &from[head.clone()];
        let to = &mut to[..from.len()];
        match isa {
            Isa::Portable => from.convert_to_f32_slice(to),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512Vnni => super::x86::attention::widen(from, to),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon | Isa::NeonDot => super::arm::attention::widen(from, to),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            _ => super::wasm::attention::widen(from, to),
        }
    }
}

/// Asks for the memory that [`widen_head`] will read.
#[cfg_attr(
    not(any(target_arch = "aarch64", target_arch = "x86_64")),
    allow(unused_variables, reason = "elsewhere there is no instruction for it")
)]
pub(crate) fn prefetch_head(isa: Isa, from: &[f16], row: usize, head: Range<usize>) {
    match isa {
        Isa::Portable => {}
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512Vnni => {
            for from in from.chunks_exact(row) {
                super::x86::attention::prefetch(&from[head.clone()]);
            }
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot => {
            for from in from.chunks_exact(row) {
                super::arm::attention::prefetch(&from[head.clone()]);
            }
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        _ => {}
    }
}

/// Adds the `visible` tokens of a block to a query row's softmax. `query` is scaled already.
///
/// # Panics
/// If the lengths do not fit together or `visible` leaves the block.
pub(crate) fn attend(
    isa: Isa,
    query: &[f32],
    block: BlockView<'_>,
    visible: Range<usize>,
    softcap: Option<f32>,
    running: &mut Running,
    out: &mut [f32],
) {
    let width = query.len();
    assert!(width.is_multiple_of(LANES) && out.len() == width, "a padded head");
    assert!(
        block.keys.len() == BLOCK_TOKENS * width && block.values.len() == BLOCK_TOKENS * width,
        "a block"
    );
    assert!(visible.end <= BLOCK_TOKENS, "tokens of the block");
    match isa {
        Isa::Portable => {
            let scores = portable_scores(query, block.keys);
            let (weights, correction) = softmax(scores, &visible, softcap, running);
            for (out, at) in out.chunks_exact_mut(LANES).zip((0..).step_by(LANES)) {
                for out in &mut *out {
                    *out *= correction;
                }
                for token in visible.clone() {
                    let values = &block.values[token * width + at..][..LANES];
                    for (out, value) in out.iter_mut().zip(values) {
                        *out += weights[token] * value;
                    }
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512Vnni => {
            super::x86::attention::attend(query, block, visible, softcap, running, out);
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot => {
            super::arm::attention::attend(query, block, visible, softcap, running, out);
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        _ => super::wasm::attention::attend(query, block, visible, softcap, running, out),
    }
}

/// Adds softmax `b` to softmax `a`; the order of the two matters to the last bit.
pub(crate) fn merge(isa: Isa, a: &mut Running, a_out: &mut [f32], b: Running, b_out: &[f32]) {
    if b.sum == 0.0 {
        return;
    }
    isa.run(
        #[inline(always)]
        || {
            let max = a.max.max(b.max);
            let (keep, add) = (exp(a.max - max), exp(b.max - max));
            for (a, b) in a_out.iter_mut().zip(b_out) {
                *a = *a * keep + b * add;
            }
            *a = Running { max, sum: a.sum * keep + b.sum * add };
        },
    );
}

fn portable_scores(query: &[f32], keys: &[f32]) -> [f32; BLOCK_TOKENS] {
    let mut scores = [0f32; BLOCK_TOKENS];
    for (score, key) in scores.iter_mut().zip(keys.chunks_exact(query.len())) {
        let mut lanes = [0f32; LANES];
        for (query, key) in query.as_chunks::<LANES>().0.iter().zip(key.as_chunks::<LANES>().0) {
            for ((lane, query), key) in lanes.iter_mut().zip(query).zip(key) {
                *lane += query * key;
            }
        }
        *score = sum8(lanes);
    }
    scores
}

/// Weights of the block's tokens, 0 where not visible, and the factor that earlier sums are multiplied by.
#[inline(always)]
pub(super) fn softmax(
    mut scores: [f32; BLOCK_TOKENS],
    visible: &Range<usize>,
    softcap: Option<f32>,
    running: &mut Running,
) -> ([f32; BLOCK_TOKENS], f32) {
    if let Some(cap) = softcap {
        for score in &mut scores {
            *score = tanh(*score / cap) * cap;
        }
    }
    scores[..visible.start].fill(f32::NEG_INFINITY);
    scores[visible.end..].fill(f32::NEG_INFINITY);
    let mut lanes = [running.max; LANES];
    for group in scores.as_chunks::<LANES>().0 {
        for (lane, score) in lanes.iter_mut().zip(group) {
            *lane = larger(*lane, *score);
        }
    }
    let max = tree8(lanes, larger);
    // Most blocks do not hold the largest score so far; `exp(0)` is 1 to the bit.
    let correction = if max == running.max { 1.0 } else { exp(running.max - max) };
    for score in &mut scores {
        *score = exp(*score - max);
    }
    let mut sums = [0f32; LANES];
    for group in scores.as_chunks::<LANES>().0 {
        for (sum, score) in sums.iter_mut().zip(group) {
            *sum += score;
        }
    }
    *running = Running { max, sum: running.sum * correction + sum8(sums) };
    (scores, correction)
}
