//! AVX-512: 32 registers hold eight keys' sums of three queries. Values take 16 lanes, since no lane meets another there.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over the registers' arrays read as the arithmetic they are"
)]

use std::arch::x86_64::*;
use std::ops::Range;

use half::f16;

use super::{Element, Head, Values, prefetch_at, transposed_sums};
use crate::BLOCK_TOKENS;
use crate::kernels::attention::{LANES, Running};
use crate::kernels::math::{exp, tanh};

/// Queries whose sums the registers hold.
const QUERIES: usize = 3;
/// Keys whose scores are summed side by side.
const KEYS: usize = 8;
/// Floats of a register.
const WIDE: usize = 16;

/// Elements of which a register holds sixteen.
pub(in crate::kernels) trait Wide: Element {
    /// Sixteen of them.
    ///
    /// # Safety
    /// They must be readable, and the machine have AVX-512.
    #[allow(unsafe_code)]
    unsafe fn sixteen(at: *const Self) -> __m512;
}

impl Wide for f32 {
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    unsafe fn sixteen(at: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(at) }
    }
}

impl Wide for f16 {
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,f16c")]
    unsafe fn sixteen(at: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
}

/// Adds a block's visible tokens to the softmax of every query. The machine has AVX-512.
///
/// # Panics
/// If the head ends before its last token does.
pub(in crate::kernels) fn attend<E: Wide>(
    queries: &[f32],
    head: Head<'_, E>,
    visible: &Range<usize>,
    softcap: Option<f32>,
    running: &mut [Running],
    out: &mut [f32],
) {
    head.check(queries, visible, running, out);
    let width = queries.len() / running.len();
    let parts = queries.chunks(QUERIES * width).zip(out.chunks_mut(QUERIES * width));
    for ((queries, out), running) in parts.zip(running.chunks_mut(QUERIES)) {
        // SAFETY: the instruction set was detected; the lengths were checked, and chunks are as many queries as `running`.
        #[allow(unsafe_code)]
        unsafe {
            match running.len() {
                1 => attend_some::<1, E>(queries, head, visible, softcap, running, out),
                2 => attend_some::<2, E>(queries, head, visible, softcap, running, out),
                _ => attend_some::<QUERIES, E>(queries, head, visible, softcap, running, out),
            }
        }
    }
}

/// # Safety
/// There must be `Q` queries, outputs and softmaxes, as wide as each other, a multiple of eight, and the head's tokens readable
/// at that width.
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma,f16c")]
unsafe fn attend_some<const Q: usize, E: Wide>(
    queries: &[f32],
    head: Head<'_, E>,
    visible: &Range<usize>,
    softcap: Option<f32>,
    running: &mut [Running],
    out: &mut [f32],
) {
    let width = queries.len() / Q;
    let [next_keys, next_values] = head.next();
    let mut scores = [[0f32; BLOCK_TOKENS]; Q];
    for first in (visible.start / KEYS * KEYS..visible.end).step_by(KEYS) {
        if E::STREAMS {
            for token in first..first + KEYS {
                prefetch_at(next_keys.wrapping_add(token * head.row), width);
            }
        }
        // SAFETY: eight tokens from `first` lie in the block, whose tokens are a multiple of eight.
        unsafe {
            let eight = scores8::<Q, E>(queries, width, head.keys.as_ptr().add(first * head.row), head.row);
            for (scores, eight) in scores.iter_mut().zip(eight) {
                _mm256_storeu_ps(scores.as_mut_ptr().add(first), eight);
            }
        }
    }
    let mut corrections = [0f32; Q];
    for ((scores, correction), running) in scores.iter_mut().zip(&mut corrections).zip(running) {
        *correction = softmax(scores, visible, softcap, running);
    }
    let mut at = 0;
    while at < width {
        // SAFETY: `at` and the elements taken stay within the width.
        unsafe {
            let (values, out) = (head.values.as_ptr().add(at), out.as_mut_ptr().add(at));
            let next = next_values.wrapping_add(at);
            let call = Values { values, next, row: head.row, out, width };
            at += match width - at {
                64.. => {
                    add_values::<Q, 4, E>(&scores, &corrections, visible, call);
                    64
                }
                WIDE.. => {
                    add_values::<Q, 1, E>(&scores, &corrections, visible, call);
                    WIDE
                }
                _ => {
                    add_eight::<Q, E>(&scores, &corrections, visible, call);
                    LANES
                }
            };
        }
    }
}

/// Scores of eight keys for every query.
///
/// # Safety
/// `Q` queries of `width`, a multiple of eight, must be there, and eight tokens of that width be readable, `row` apart.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma,f16c")]
unsafe fn scores8<const Q: usize, E: Wide>(
    queries: &[f32],
    width: usize,
    keys: *const E,
    row: usize,
) -> [__m256; Q] {
    let mut sums = [[_mm256_setzero_ps(); KEYS]; Q];
    for at in (0..width).step_by(LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let queries: [__m256; Q] =
                std::array::from_fn(|q| _mm256_loadu_ps(queries.as_ptr().add(q * width + at)));
            for token in 0..KEYS {
                let key = E::eight(keys.add(token * row + at));
                for q in 0..Q {
                    sums[q][token] = _mm256_fmadd_ps(queries[q], key, sums[q][token]);
                }
            }
        }
    }
    sums.map(
        #[inline(always)]
        |sums| transposed_sums(sums),
    )
}

/// `out = out * correction + sum of weight * value` over the visible tokens, for `V` registers of every query's head.
///
/// # Safety
/// `V * 16` elements must be readable at `values` and `row` elements apart for every visible token, and writable at `out` and
/// `width` floats apart for every query.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma,f16c")]
unsafe fn add_values<const Q: usize, const V: usize, E: Wide>(
    weights: &[[f32; BLOCK_TOKENS]; Q],
    corrections: &[f32; Q],
    visible: &Range<usize>,
    call: Values<E>,
) {
    let Values { values, next, row, out, width } = call;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); V]; Q];
        for q in 0..Q {
            for v in 0..V {
                let before = _mm512_loadu_ps(out.add(q * width + v * WIDE));
                sums[q][v] = _mm512_mul_ps(before, _mm512_set1_ps(corrections[q]));
            }
        }
        for token in visible.clone() {
            if E::STREAMS {
                prefetch_at(next.wrapping_add(token * row), V * WIDE);
            }
            let by: [__m512; Q] = std::array::from_fn(|q| _mm512_set1_ps(weights[q][token]));
            for v in 0..V {
                let value = E::sixteen(values.add(token * row + v * WIDE));
                for q in 0..Q {
                    sums[q][v] = _mm512_fmadd_ps(by[q], value, sums[q][v]);
                }
            }
        }
        for q in 0..Q {
            for v in 0..V {
                _mm512_storeu_ps(out.add(q * width + v * WIDE), sums[q][v]);
            }
        }
    }
}

/// As [`add_values`], for the last eight elements of a head.
///
/// # Safety
/// As there, with eight elements.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma,f16c")]
unsafe fn add_eight<const Q: usize, E: Wide>(
    weights: &[[f32; BLOCK_TOKENS]; Q],
    corrections: &[f32; Q],
    visible: &Range<usize>,
    call: Values<E>,
) {
    let Values { values, row, out, width, .. } = call;
    // SAFETY: the caller's promise.
    unsafe {
        for q in 0..Q {
            let out = out.add(q * width);
            let mut sum = _mm256_mul_ps(_mm256_loadu_ps(out), _mm256_set1_ps(corrections[q]));
            for token in visible.clone() {
                let value = E::eight(values.add(token * row));
                sum = _mm256_fmadd_ps(_mm256_set1_ps(weights[q][token]), value, sum);
            }
            _mm256_storeu_ps(out, sum);
        }
    }
}

/// Turns the scores of a block's tokens into weights, 0 where not visible; returns the factor that earlier sums are multiplied
/// by.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
fn softmax(
    scores: &mut [f32; BLOCK_TOKENS],
    visible: &Range<usize>,
    softcap: Option<f32>,
    running: &mut Running,
) -> f32 {
    if let Some(cap) = softcap {
        for score in &mut *scores {
            *score = tanh(*score / cap) * cap;
        }
    }
    let below = |end: usize| u32::try_from((1u64 << end) - 1).unwrap_or(u32::MAX);
    let seen = below(visible.end) & !below(visible.start);
    let masks = [seen as u16, (seen >> 16) as u16];
    let none = _mm512_set1_ps(f32::NEG_INFINITY);
    // SAFETY: the scores are two registers long.
    #[allow(unsafe_code)]
    let [a, b] = unsafe {
        [0, 1].map(|half| _mm512_mask_loadu_ps(none, masks[half], scores.as_ptr().add(half * WIDE)))
    };
    let max = _mm512_reduce_max_ps(_mm512_max_ps(a, b)).max(running.max);
    let against = _mm512_set1_ps(max);
    let [a, b] = [a, b].map(|scores| exp16(_mm512_sub_ps(scores, against)));
    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_storeu_ps(scores.as_mut_ptr(), a);
        _mm512_storeu_ps(scores.as_mut_ptr().add(WIDE), b);
    }
    // Most blocks do not hold the largest score so far.
    let correction = if max == running.max { 1.0 } else { exp(running.max - max) };
    let sum = _mm512_reduce_add_ps(_mm512_add_ps(a, b));
    *running = Running { max, sum: running.sum * correction + sum };
    correction
}

/// `e^x` for `x` up to 0, to about 1 unit in the last place; 0 below -87.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp16(x: __m512) -> __m512 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Taylor coefficients from the seventh on; |r| <= ln(2) / 2 keeps the first omitted term below 6e-9.
    const C: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

    let large_enough = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_set1_ps(-87.0));
    let n = _mm512_roundscale_ps::<0>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN2_HIGH), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN2_LOW), r);
    let mut tail = _mm512_set1_ps(1.0 / 5040.0);
    for c in C {
        tail = _mm512_fmadd_ps(tail, r, _mm512_set1_ps(c));
    }
    _mm512_maskz_scalef_ps(large_enough, tail, n)
}
