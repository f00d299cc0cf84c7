//! What the kernels for AVX2 and AVX-512 have in common: up to three queries are taken at a time, so that each key and value is
//! loaded, and widened, once for all of them.
//!
//! Scores are summed in eight lanes whatever the registers' width, the order in which every kernel adds them.

mod avx2;
mod avx512;

use std::arch::x86_64::*;
use std::ops::Range;

use half::f16;

use self::avx512::Wide;
use super::stream::LINE;
use crate::BLOCK_TOKENS;
use crate::kernels::Isa;
use crate::kernels::attention::{LANES, Running};

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
    for line in 0..(elements * size_of::<E>()).div_ceil(LINE) {
        // SAFETY: a prefetch of any address, mapped or not, changes nothing but the caches.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(at.cast::<i8>().wrapping_add(line * LINE));
        }
    }
}

/// Adds a block's visible tokens to the softmax of every query, by the kernel for `isa`, which this machine has and is not the
/// portable one.
///
/// # Panics
/// If the head ends before its last token does.
pub(in crate::kernels) fn attend<E: Wide>(
    isa: Isa,
    queries: &[f32],
    head: Head<'_, E>,
    visible: &Range<usize>,
    softcap: Option<f32>,
    running: &mut [Running],
    out: &mut [f32],
) {
    match isa {
        Isa::Avx512Vnni => avx512::attend(queries, head, visible, softcap, running, out),
        Isa::Avx2 => avx2::attend(queries, head, visible, softcap, running, out),
        Isa::Portable => unreachable!("it takes one query at a time"),
    }
}

/// What keys and values are stored as.
pub(in crate::kernels) trait Element: Copy {
    /// Whether they are read once, from memory, rather than again and again from the first cache.
    const STREAMS: bool;

    /// Eight of them.
    ///
    /// # Safety
    /// They must be readable, and the machine have AVX2 and F16C.
    #[allow(unsafe_code)]
    unsafe fn eight(at: *const Self) -> __m256;
}

impl Element for f32 {
    const STREAMS: bool = false;

    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn eight(at: *const Self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(at) }
    }
}

impl Element for f16 {
    const STREAMS: bool = true;

    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn eight(at: *const Self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
    }
}

/// One head of a block's keys and values, `row` elements from token to token.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Head<'a, E> {
    /// Keys from the head's first on.
    pub(in crate::kernels) keys: &'a [E],
    /// Values, likewise.
    pub(in crate::kernels) values: &'a [E],
    /// Elements from a token to the next.
    pub(in crate::kernels) row: usize,
    /// The same head of the block that will be read after this one.
    pub(in crate::kernels) next: Option<[&'a [E]; 2]>,
}

impl<E> Head<'_, E> {
    /// Keys and values of the next block, or once more of this one.
    fn next(&self) -> [*const E; 2] {
        self.next.unwrap_or([self.keys, self.values]).map(<[E]>::as_ptr)
    }

    /// # Panics
    /// If the head ends before its last token does, or the queries do not fit to it.
    fn check(&self, queries: &[f32], visible: &Range<usize>, running: &[Running], out: &[f32]) {
        let width = queries.len() / running.len();
        let needed = (BLOCK_TOKENS - 1) * self.row + width;
        assert!(self.keys.len() >= needed && self.values.len() >= needed, "a block");
        assert!(width.is_multiple_of(LANES) && queries.len() == width * running.len(), "padded heads");
        assert!(out.len() == queries.len() && visible.end <= BLOCK_TOKENS, "tokens of the block");
    }
}

/// Where the values of one part of a head are and go.
#[derive(Clone, Copy)]
struct Values<E> {
    values: *const E,
    next: *const E,
    row: usize,
    out: *mut f32,
    width: usize,
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

/// As [`transposed_sums`], of four.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transposed_sums4([a, b, c, d]: [__m256; 4]) -> __m128 {
    let both = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps::<1>(both))
}
