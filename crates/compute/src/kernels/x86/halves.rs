//! AVX-512: f16 and bf16 weights, 16 rows to a register, one element of each to a fused multiply-add.
//!
//! Rows are interleaved by 4x4 transposes of 32-bit words, two elements each, and widened to f32. An output element adds its
//! products in order and starts a new sum every [`RUN`] elements, for one activation row as for many. Few activation rows
//! are multiplied straight from the registers; for more the panel is widened once, and read from the second cache.

use std::any::TypeId;
use std::arch::x86_64::*;
use std::cell::RefCell;

use half::bf16;

use super::stream::Ahead;
use super::vnni::{halves, transpose};
use crate::kernels::columns::Columns;
use crate::kernels::floats::{Float, GROUP};
use crate::kernels::lines::Lines;
use crate::kernels::padded::with_full_panel;
use crate::kernels::panel::{PANEL, Panel};

/// Activation rows from which widening the panel first pays.
const WIDEN_ROWS: usize = 9;
/// Activation rows multiplied at a time: sums, running sums and a weight in 32 registers.
const TILE: usize = 12;
/// Elements of a block.
const BLOCK: usize = GROUP;
/// Products added before they are added to the sum: keeps rounding errors from growing with the width.
const RUN: usize = 128;

thread_local! {
    static WIDENED: RefCell<Lines> = RefCell::new(Lines::default());
}

/// See [`crate::kernels::floats::multiply`], which checked the lengths and that this machine has AVX-512.
pub(in crate::kernels) fn multiply<T: Float>(
    weights: Panel<'_, [T; GROUP]>,
    blocks: usize,
    x: &[f32],
    out: &mut Columns<'_>,
) {
    with_full_panel(weights, blocks, |weights| {
        // SAFETY: the instruction set was detected; the panel holds 16 rows of `blocks` blocks.
        #[allow(unsafe_code)]
        unsafe {
            product(weights, blocks, x, out);
        }
    });
}

/// # Safety
/// The panel must hold 16 rows of `blocks` blocks.
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
unsafe fn product<T: Float>(weights: Panel<'_, [T; GROUP]>, blocks: usize, x: &[f32], out: &mut Columns<'_>) {
    assert_eq!(weights.blocks.len(), PANEL * blocks, "a full panel");
    let width = blocks * BLOCK;
    let rows = x.len() / width;
    if rows < WIDEN_ROWS {
        // SAFETY: the caller's promise.
        unsafe {
            match rows {
                1 => packed_rows::<T, 1>(weights, x, out),
                2 => packed_rows::<T, 2>(weights, x, out),
                3 => packed_rows::<T, 3>(weights, x, out),
                4 => packed_rows::<T, 4>(weights, x, out),
                5 => packed_rows::<T, 5>(weights, x, out),
                6 => packed_rows::<T, 6>(weights, x, out),
                7 => packed_rows::<T, 7>(weights, x, out),
                8 => packed_rows::<T, 8>(weights, x, out),
                _ => {}
            }
        }
        return;
    }
    WIDENED.with_borrow_mut(|widened| {
        let panel = widened.resize(width * PANEL);
        for (index, to) in panel.as_chunks_mut::<{ BLOCK * PANEL }>().0.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let eight = unsafe { load(weights, blocks, index) };
            for (to, eight) in to.as_chunks_mut::<PANEL>().0.iter_mut().zip(eight) {
                // SAFETY: `to` is as long as a register.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr(), eight) };
            }
        }
        let panel = panel.as_chunks::<PANEL>().0;
        let mut row = 0;
        while row + TILE <= rows {
            tile::<TILE>(panel, &x[row * width..][..TILE * width], row, out);
            row += TILE;
        }
        while row + 4 <= rows {
            tile::<4>(panel, &x[row * width..][..4 * width], row, out);
            row += 4;
        }
        while row < rows {
            tile::<1>(panel, &x[row * width..][..width], row, out);
            row += 1;
        }
    });
}

/// Products of a widened panel with `R` activation rows.
#[target_feature(enable = "avx512f,avx2,fma")]
fn tile<const R: usize>(panel: &[[f32; PANEL]], x: &[f32], row: usize, out: &mut Columns<'_>) {
    let width = panel.len();
    assert_eq!(x.len(), R * width, "rows as wide as the panel");
    let mut sums = [_mm512_setzero_ps(); R];
    for first in (0..width).step_by(RUN) {
        let mut run = [_mm512_setzero_ps(); R];
        for at in first..width.min(first + RUN) {
            // SAFETY: a column of the panel is as long as a register; `at < width`, and `x` holds R rows of `width`.
            #[allow(unsafe_code)]
            unsafe {
                let weights = _mm512_loadu_ps(panel.get_unchecked(at).as_ptr());
                for (r, run) in run.iter_mut().enumerate() {
                    *run = _mm512_fmadd_ps(weights, _mm512_set1_ps(*x.get_unchecked(r * width + at)), *run);
                }
            }
        }
        for (sum, run) in sums.iter_mut().zip(run) {
            *sum = _mm512_add_ps(*sum, run);
        }
    }
    for (r, sum) in sums.into_iter().enumerate() {
        write(sum, row + r, out);
    }
}

/// Products with `R` activation rows as the weights lie in memory.
///
/// # Safety
/// The panel must hold 16 rows as wide as each of those in `x`.
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
unsafe fn packed_rows<T: Float, const R: usize>(
    weights: Panel<'_, [T; GROUP]>,
    x: &[f32],
    out: &mut Columns<'_>,
) {
    let (xs, _) = x.as_chunks::<BLOCK>();
    let (blocks, ahead) = (xs.len() / R, Ahead::of(&weights));
    let mut sums = [_mm512_setzero_ps(); R];
    for first in (0..blocks).step_by(RUN / BLOCK) {
        let mut run = [_mm512_setzero_ps(); R];
        for index in first..blocks.min(first + RUN / BLOCK) {
            ahead.prefetch(index);
            // SAFETY: the caller's promise.
            let eight = unsafe { load(weights, blocks, index) };
            for (r, run) in run.iter_mut().enumerate() {
                for (weights, x) in eight.into_iter().zip(&xs[r * blocks + index]) {
                    *run = _mm512_fmadd_ps(weights, _mm512_set1_ps(*x), *run);
                }
            }
        }
        for (sum, run) in sums.iter_mut().zip(run) {
            *sum = _mm512_add_ps(*sum, run);
        }
    }
    for (r, sum) in sums.into_iter().enumerate() {
        write(sum, r, out);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn write(sum: __m512, row: usize, out: &mut Columns<'_>) {
    let mut values = [0f32; PANEL];
    // SAFETY: `values` is 64 bytes.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_storeu_ps(values.as_mut_ptr(), sum);
    }
    out.set(row, 0, &values);
}

/// Eight elements of 16 rows as f32, a register for each element.
///
/// # Safety
/// The panel must hold 16 rows of `blocks` blocks, and `index` be below that.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
unsafe fn load<T: Float>(weights: Panel<'_, [T; GROUP]>, blocks: usize, index: usize) -> [__m512; BLOCK] {
    let (row_stride, block_stride) = weights.strides(blocks);
    // SAFETY: the caller's promise; a block is 16 bytes.
    let words = unsafe {
        let first = weights.blocks.as_ptr().add(index * block_stride);
        transpose(first.cast(), row_stride * size_of::<[T; GROUP]>())
    };
    let mut eight = [_mm512_setzero_ps(); BLOCK];
    for (two, word) in eight.as_chunks_mut::<2>().0.iter_mut().zip(words) {
        *two = if TypeId::of::<T>() == TypeId::of::<bf16>() {
            let high = _mm512_and_si512(word, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(word)), _mm512_castsi512_ps(high)]
        } else {
            [halves(word), halves(_mm512_srli_epi32::<16>(word))]
        };
    }
    eight
}
