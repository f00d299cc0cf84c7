//! AVX2, FMA and F16C: scores of eight keys at a time, then the values added 64 elements of a head at a time.

pub(in crate::kernels) mod together;

use std::arch::x86_64::*;
use std::ops::Range;

use half::f16;

use crate::BLOCK_TOKENS;
use crate::kernels::attention::{LANES, Running, Widened, softmax};

/// Converts eight elements at a time; both slices are equally long.
pub(in crate::kernels) fn widen(from: &[f16], to: &mut [f32]) {
    #[target_feature(enable = "avx2,f16c")]
    fn eights(from: &[[f16; LANES]], to: &mut [[f32; LANES]]) {
        for (from, to) in from.iter().zip(to) {
            // SAFETY: both are eight elements.
            #[allow(unsafe_code)]
            unsafe {
                let eight = _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()));
                _mm256_storeu_ps(to.as_mut_ptr(), eight);
            }
        }
    }

    let (from, from_rest) = from.as_chunks();
    let (to, to_rest) = to.as_chunks_mut();
    // SAFETY: the instruction set was detected.
    #[allow(unsafe_code)]
    unsafe {
        eights(from, to);
    }
    for (from, to) in from_rest.iter().zip(to_rest) {
        *to = from.to_f32();
    }
}

/// Asks for the cache lines of `head`, into the second cache: in the first they would push the widened keys out.
pub(in crate::kernels) fn prefetch(head: &[u8]) {
    prefetch_at(head.as_ptr(), head.len());
}

/// As [`prefetch`], of so many elements that need not be there.
#[inline(always)]
fn prefetch_at<E>(at: *const E, elements: usize) {
    const LINE: usize = 64;
    for line in 0..(elements * size_of::<E>()).div_ceil(LINE) {
        // SAFETY: a prefetch of any address, mapped or not, changes nothing but the caches.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(at.cast::<i8>().wrapping_add(line * LINE));
        }
    }
}

/// See [`crate::kernels::attention::attend`], which checked the lengths and that this machine has AVX2 and FMA.
pub(in crate::kernels) fn attend(
    query: &[f32],
    block: Widened<'_>,
    visible: &Range<usize>,
    softcap: Option<f32>,
    running: &mut Running,
    out: &mut [f32],
) {
    // SAFETY: the instruction set was detected; the caller checked the lengths.
    #[allow(unsafe_code)]
    unsafe {
        attend_avx2(query, block, visible, softcap, running, out);
    }
}

/// # Safety
/// `query` and `out` must be equally long, a multiple of eight; the block must hold [`BLOCK_TOKENS`] rows of that width
/// and `visible` lie within them.
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn attend_avx2(
    query: &[f32],
    block: Widened<'_>,
    visible: &Range<usize>,
    softcap: Option<f32>,
    running: &mut Running,
    out: &mut [f32],
) {
    let width = query.len();
    let mut scores = [0f32; BLOCK_TOKENS];
    for first in (visible.start / 8 * 8..visible.end).step_by(8) {
        // SAFETY: eight rows from `first` lie in the block, since its tokens are a multiple of eight.
        unsafe {
            let eight = scores8(query, block.keys.as_ptr().add(first * width));
            _mm256_storeu_ps(scores.as_mut_ptr().add(first), eight);
        }
    }
    let (weights, correction) = softmax(scores, visible, softcap, running);
    let (mut at, values) = (0, block.values.as_ptr());
    while at < width {
        // SAFETY: `at` and the vectors taken stay within the width.
        unsafe {
            let (values, out) = (values.add(at), out.as_mut_ptr().add(at));
            if at + 64 <= width {
                add_values::<8>(&weights, correction, visible, values, width, out);
                at += 64;
            } else {
                add_values::<1>(&weights, correction, visible, values, width, out);
                at += LANES;
            }
        }
    }
}

/// Scores of eight keys that lie one after the other.
///
/// # Safety
/// Eight rows of `query.len()`, a multiple of eight, must be readable at `keys`.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn scores8(query: &[f32], keys: *const f32) -> __m256 {
    let width = query.len();
    let mut sums = [_mm256_setzero_ps(); 8];
    for at in (0..width).step_by(LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let query = _mm256_loadu_ps(query.as_ptr().add(at));
            for (token, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_fmadd_ps(query, _mm256_loadu_ps(keys.add(token * width + at)), *sum);
            }
        }
    }
    transposed_sums(sums)
}

/// Lane `t` of the result is the tree sum of `sums[t]`: each step adds neighbouring lanes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transposed_sums(sums: [__m256; 8]) -> __m256 {
    let [a, b, c, d, e, f, g, h] = sums;
    let low = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    let high = _mm256_hadd_ps(_mm256_hadd_ps(e, f), _mm256_hadd_ps(g, h));
    _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
}

/// `out = out * correction + sum of weight * value` over the visible tokens, for `V` vectors of the head.
///
/// # Safety
/// `V * 8` elements must be readable at `values` and `width` elements apart for every visible token, and writable at `out`.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_values<const V: usize>(
    weights: &[f32; BLOCK_TOKENS],
    correction: f32,
    visible: &Range<usize>,
    values: *const f32,
    width: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let correction = _mm256_set1_ps(correction);
        let mut sums: [__m256; V] =
            std::array::from_fn(|v| _mm256_mul_ps(_mm256_loadu_ps(out.add(v * LANES)), correction));
        for token in visible.clone() {
            let weight = _mm256_set1_ps(weights[token]);
            for (v, sum) in sums.iter_mut().enumerate() {
                let value = _mm256_loadu_ps(values.add(token * width + v * LANES));
                *sum = _mm256_fmadd_ps(weight, value, *sum);
            }
        }
        for (v, sum) in sums.into_iter().enumerate() {
            _mm256_storeu_ps(out.add(v * LANES), sum);
        }
    }
}
