//! AVX2, FMA and F16C: sixteen registers hold four keys' sums of three queries, or 32 elements of their values.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over the registers' arrays read as the arithmetic they are"
)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Element, Head, Values, prefetch_at, transposed_sums4};
use crate::BLOCK_TOKENS;
use crate::kernels::attention::{LANES, Running, softmax};

/// Queries whose sums the registers hold.
const QUERIES: usize = 3;
/// Keys whose sums become scores together.
const KEYS: usize = 4;

/// Adds a block's visible tokens to the softmax of every query. The machine has AVX2, FMA and F16C.
///
/// # Panics
/// If the head ends before its last token does.
pub(in crate::kernels) fn attend<E: Element>(
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
        // One query has its sums for eight keys, which wait for each other less.
        // SAFETY: the instruction set was detected; the lengths were checked, and chunks are as many queries as `running`.
        #[allow(unsafe_code)]
        unsafe {
            match running.len() {
                1 => attend_some::<1, 2, 8, E>(queries, head, visible, softcap, running, out),
                2 => attend_some::<2, 1, 4, E>(queries, head, visible, softcap, running, out),
                _ => attend_some::<QUERIES, 1, 4, E>(queries, head, visible, softcap, running, out),
            }
        }
    }
}

/// Takes `G` times four keys, and `V` registers of a value, at a time.
///
/// # Safety
/// There must be `Q` queries, outputs and softmaxes, as wide as each other, a multiple of eight, and the head's tokens readable
/// at that width.
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn attend_some<const Q: usize, const G: usize, const V: usize, E: Element>(
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
    for first in (visible.start / (G * KEYS) * (G * KEYS)..visible.end).step_by(G * KEYS) {
        if E::STREAMS {
            for token in first..first + G * KEYS {
                prefetch_at(next_keys.wrapping_add(token * head.row), width);
            }
        }
        // SAFETY: as many tokens from `first` lie in the block, whose tokens are a multiple of eight.
        unsafe {
            let keys = head.keys.as_ptr().add(first * head.row);
            let sums = scores_of::<Q, G, E>(queries, width, keys, head.row);
            for q in 0..Q {
                for group in 0..G {
                    let to = scores[q].as_mut_ptr().add(first + group * KEYS);
                    _mm_storeu_ps(to, transposed_sums4(sums[q][group]));
                }
            }
        }
    }
    let mut corrections = [0f32; Q];
    for ((scores, correction), running) in scores.iter_mut().zip(&mut corrections).zip(running) {
        (*scores, *correction) = softmax(*scores, visible, softcap, running);
    }
    let mut at = 0;
    while at < width {
        // SAFETY: `at` and the elements taken stay within the width.
        unsafe {
            let (values, out) = (head.values.as_ptr().add(at), out.as_mut_ptr().add(at));
            let call = Values { values, next: next_values.wrapping_add(at), row: head.row, out, width };
            at += if at + V * LANES <= width {
                add_values::<Q, V, E>(&scores, &corrections, visible, call);
                V * LANES
            } else {
                add_values::<Q, 1, E>(&scores, &corrections, visible, call);
                LANES
            };
        }
    }
}

/// The eight lanes of the scores of `G` times four keys, for every query.
///
/// # Safety
/// `Q` queries of `width`, a multiple of eight, must be there, and so many tokens of that width be readable, `row` apart.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn scores_of<const Q: usize, const G: usize, E: Element>(
    queries: &[f32],
    width: usize,
    keys: *const E,
    row: usize,
) -> [[[__m256; KEYS]; G]; Q] {
    let mut sums = [[[_mm256_setzero_ps(); KEYS]; G]; Q];
    for at in (0..width).step_by(LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut by = [_mm256_setzero_ps(); Q];
            for q in 0..Q {
                by[q] = _mm256_loadu_ps(queries.as_ptr().add(q * width + at));
            }
            for group in 0..G {
                for token in 0..KEYS {
                    let key = E::eight(keys.add((group * KEYS + token) * row + at));
                    for q in 0..Q {
                        sums[q][group][token] = _mm256_fmadd_ps(by[q], key, sums[q][group][token]);
                    }
                }
            }
        }
    }
    sums
}

/// `out = out * correction + sum of weight * value` over the visible tokens, for `V` registers of every query's head.
///
/// # Safety
/// `V * 8` elements must be readable at `values` and `row` elements apart for every visible token, and writable at `out` and
/// `width` floats apart for every query.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_values<const Q: usize, const V: usize, E: Element>(
    weights: &[[f32; BLOCK_TOKENS]; Q],
    corrections: &[f32; Q],
    visible: &Range<usize>,
    call: Values<E>,
) {
    let Values { values, next, row, out, width } = call;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); V]; Q];
        for q in 0..Q {
            for v in 0..V {
                let before = _mm256_loadu_ps(out.add(q * width + v * LANES));
                sums[q][v] = _mm256_mul_ps(before, _mm256_set1_ps(corrections[q]));
            }
        }
        for token in visible.clone() {
            if E::STREAMS {
                prefetch_at(next.wrapping_add(token * row), V * LANES);
            }
            let mut by = [_mm256_setzero_ps(); Q];
            for q in 0..Q {
                by[q] = _mm256_set1_ps(weights[q][token]);
            }
            for v in 0..V {
                let value = E::eight(values.add(token * row + v * LANES));
                for q in 0..Q {
                    sums[q][v] = _mm256_fmadd_ps(by[q], value, sums[q][v]);
                }
            }
        }
        for q in 0..Q {
            for v in 0..V {
                _mm256_storeu_ps(out.add(q * width + v * LANES), sums[q][v]);
            }
        }
    }
}
