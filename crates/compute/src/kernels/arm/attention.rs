//! Attention: scores of eight keys at a time, then the values added 64 elements of a head at a time.

// Counted loops throughout: around vectors, iterator adapters and `array::map` are inlined by link-time optimisation at best.
#![allow(clippy::needless_range_loop, reason = "see above")]

use std::arch::aarch64::*;
use std::ops::Range;

use half::f16;

use super::{LANES, load, load_halves, store};
use crate::BLOCK_TOKENS;
use crate::kernels::attention::{Running, Widened, softmax};

/// Keys whose scores are summed side by side.
const KEYS: usize = 8;

/// Converts to f32; both slices are equally long.
pub(in crate::kernels) fn widen(from: &[f16], to: &mut [f32]) {
    let (from, from_rest) = from.as_chunks::<8>();
    let (to, to_rest) = to.as_chunks_mut::<8>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: every aarch64 processor has NEON.
        #[allow(unsafe_code)]
        unsafe {
            let eight = load_halves(bytemuck::cast_ref(from));
            let (halves, _) = to.as_chunks_mut();
            store(&mut halves[0], super::widen(vget_low_u16(eight)));
            store(&mut halves[1], super::widen(vget_high_u16(eight)));
        }
    }
    for (from, to) in from_rest.iter().zip(to_rest) {
        *to = from.to_f32();
    }
}

/// Asks for the cache lines of `head`, into the second cache: in the first they would push the widened keys out.
pub(in crate::kernels) fn prefetch(head: &[u8]) {
    const LINE: usize = 64;
    for first in head.iter().step_by(LINE) {
        super::prefetch::<2>((&raw const *first).cast());
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
    // SAFETY: every aarch64 processor has NEON.
    #[allow(unsafe_code)]
    unsafe {
        attend_neon(query, block, visible, softcap, running, out);
    }
}

#[target_feature(enable = "neon")]
fn attend_neon(
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
        if at + 16 * LANES <= width {
            add_values::<16>(&weights, correction, visible, values, width, &mut out[at..]);
            at += 16 * LANES;
        } else {
            add_values::<2>(&weights, correction, visible, values, width, &mut out[at..]);
            at += 2 * LANES;
        }
    }
}

/// Scores of the [`KEYS`] rows of `keys`.
#[target_feature(enable = "neon")]
fn score(query: &[f32], keys: &[f32]) -> [f32; KEYS] {
    let width = query.len();
    assert!(width > 0 && keys.len() == KEYS * width);
    let (query, _) = query.as_chunks::<LANES>();
    let (keys, _) = keys.as_chunks::<LANES>();
    let vectors = query.len();
    let mut sums = [vdupq_n_f32(0.0); KEYS];
    for at in 0..vectors {
        let query = load(&query[at]);
        for key in 0..KEYS {
            sums[key] = vfmaq_f32(sums[key], query, load(&keys[key * vectors + at]));
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    let mut scores = [[0f32; LANES]; 2];
    store(&mut scores[0], vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
    store(&mut scores[1], vpaddq_f32(vpaddq_f32(e, f), vpaddq_f32(g, h)));
    bytemuck::cast(scores)
}

/// `out = out * correction + sum of weight * value` over the visible tokens, for `V` vectors of the head.
#[target_feature(enable = "neon")]
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
    let mut sums = [vdupq_n_f32(0.0); V];
    for v in 0..V {
        sums[v] = vmulq_n_f32(load(&out[v]), correction);
    }
    for token in visible.clone() {
        let (values, _) = values[token * width..][..V * LANES].as_chunks::<LANES>();
        for v in 0..V {
            sums[v] = vfmaq_n_f32(sums[v], load(&values[v]), weights[token]);
        }
    }
    for v in 0..V {
        store(&mut out[v], sums[v]);
    }
}
