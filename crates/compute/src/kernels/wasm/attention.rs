//! Attention: scores of eight keys at a time, then the values added 32 elements of a head at a time.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops are inlined on this target, iterator adapters are not"
)]

use std::arch::wasm32::*;
use std::ops::Range;

use half::f16;

use super::halves::low_halves;
use super::{LANES, load, load_halves, mul_add, store};
use crate::BLOCK_TOKENS;
use crate::kernels::attention::{Running, Widened, softmax};

/// Keys whose scores are summed side by side.
const KEYS: usize = 8;

/// Converts to f32; both slices are equally long.
pub(in crate::kernels) fn widen(from: &[f16], to: &mut [f32]) {
    let (from, from_rest) = from.as_chunks::<LANES>();
    let (to, to_rest) = to.as_chunks_mut::<LANES>();
    for (from, to) in from.iter().zip(to) {
        store(to, low_halves(load_halves(bytemuck::cast_ref(from))));
    }
    for (from, to) in from_rest.iter().zip(to_rest) {
        *to = from.to_f32();
    }
}

/// See [`crate::kernels::attention::attend`], which checked the lengths.
pub(in crate::kernels) fn attend(
    query: &[f32],
    block: Widened<'_>,
    visible: &Range<usize>,
    softcap: Option<f32>,
    running: &mut Running,
    out: &mut [f32],
) {
    let width = query.len();
    let mut scores = [0f32; BLOCK_TOKENS];
    for (index, scores) in scores.as_chunks_mut::<KEYS>().0.iter_mut().enumerate() {
        let first = index * KEYS;
        if first < visible.end && first + KEYS > visible.start {
            *scores = score(query, &block.keys[first * width..(first + KEYS) * width]);
        }
    }
    let (weights, correction) = softmax(scores, visible, softcap, running);
    let mut at = 0;
    while at < width {
        let values = &block.values[at..];
        if at + 8 * LANES <= width {
            add_values::<8>(&weights, correction, visible, values, width, &mut out[at..]);
            at += 8 * LANES;
        } else {
            add_values::<1>(&weights, correction, visible, values, width, &mut out[at..]);
            at += LANES;
        }
    }
}

/// Scores of the [`KEYS`] rows of `keys`.
fn score(query: &[f32], keys: &[f32]) -> [f32; KEYS] {
    let width = query.len();
    assert!(width > 0 && keys.len() == KEYS * width);
    let (query, _) = query.as_chunks::<LANES>();
    let (keys, _) = keys.as_chunks::<LANES>();
    let vectors = query.len();
    let mut sums = [f32x4_splat(0.0); KEYS];
    for at in 0..vectors {
        let query = load(&query[at]);
        for key in 0..KEYS {
            sums[key] = mul_add(query, load(&keys[key * vectors + at]), sums[key]);
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    let mut scores = [[0f32; LANES]; 2];
    store(&mut scores[0], sum_across([a, b, c, d]));
    store(&mut scores[1], sum_across([e, f, g, h]));
    bytemuck::cast(scores)
}

/// Lane `l` of the result is the sum of the lanes of vector `l`.
fn sum_across([a, b, c, d]: [v128; 4]) -> v128 {
    let add_halves = |a, b| f32x4_add(i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
    let (low, high) = (add_halves(a, b), add_halves(c, d));
    f32x4_add(i64x2_shuffle::<0, 2>(low, high), i64x2_shuffle::<1, 3>(low, high))
}

/// `out = out * correction + sum of weight * value` over the visible tokens, for `V` vectors of the head.
fn add_values<const V: usize>(
    weights: &[f32; BLOCK_TOKENS],
    correction: f32,
    visible: &Range<usize>,
    values: &[f32],
    width: usize,
    out: &mut [f32],
) {
    let (out, _) = out.as_chunks_mut::<LANES>();
    let out = &mut out[..V];
    let correction = f32x4_splat(correction);
    let mut sums = [correction; V];
    for v in 0..V {
        sums[v] = f32x4_mul(load(&out[v]), correction);
    }
    for token in visible.clone() {
        let weight = f32x4_splat(weights[token]);
        let (values, _) = values[token * width..][..V * LANES].as_chunks::<LANES>();
        for v in 0..V {
            sums[v] = mul_add(weight, load(&values[v]), sums[v]);
        }
    }
    for v in 0..V {
        store(&mut out[v], sums[v]);
    }
}
