//! AVX2 and FMA: four weight rows times up to three activation rows in registers.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over the registers' arrays read as the arithmetic they are"
)]

use std::any::TypeId;
use std::arch::x86_64::*;
use std::cell::RefCell;

use half::{bf16, f16};

use super::stream::{AHEAD, LINE};
use crate::kernels::columns::Columns;
use crate::kernels::floats::{Float, LANES};
use crate::kernels::math::sum8;

/// Weight rows multiplied at a time.
const COLUMNS: usize = 4;
/// Activation rows multiplied at a time.
const TILE: usize = 3;
/// Activation rows from which converting 16-bit weights to f32 first pays.
const WIDEN_ROWS: usize = 4;

thread_local! {
    static WIDENED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// See [`crate::kernels::floats::multiply`], which checked the lengths and that this machine has AVX2, FMA and F16C.
pub(in crate::kernels) fn multiply<T: Float>(weights: &[T], width: usize, x: &[f32], out: &mut Columns<'_>) {
    // SAFETY: the instruction set was detected.
    #[allow(unsafe_code)]
    unsafe {
        if x.len() / width < WIDEN_ROWS || TypeId::of::<T>() == TypeId::of::<f32>() {
            product(weights, width, x, out);
            return;
        }
        WIDENED.with_borrow_mut(|widened| {
            widened.resize(weights.len(), 0.0);
            widen(weights, widened);
            product(widened, width, x, out);
        });
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn product<T: Float>(weights: &[T], width: usize, x: &[f32], out: &mut Columns<'_>) {
    let rows = x.len() / width;
    let columns = weights.len() / width;
    let mut column = 0;
    while column < columns {
        let taken = if column + COLUMNS <= columns { COLUMNS } else { 1 };
        let weights = &weights[column * width..(column + taken) * width];
        let mut row = 0;
        while row < rows {
            let step = if row + TILE <= rows { TILE } else { 1 };
            let x = &x[row * width..(row + step) * width];
            match (taken, step) {
                (COLUMNS, TILE) => tile::<COLUMNS, TILE, T>(weights, width, x, column, row, out),
                (COLUMNS, _) => tile::<COLUMNS, 1, T>(weights, width, x, column, row, out),
                (_, TILE) => tile::<1, TILE, T>(weights, width, x, column, row, out),
                _ => tile::<1, 1, T>(weights, width, x, column, row, out),
            }
            row += step;
        }
        column += taken;
    }
}

/// Products of `C` weight rows with `R` activation rows.
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<const C: usize, const R: usize, T: Float>(
    weights: &[T],
    width: usize,
    x: &[f32],
    column: usize,
    row: usize,
    out: &mut Columns<'_>,
) {
    assert!(weights.len() == C * width && x.len() == R * width);
    let mut sums = [[_mm256_setzero_ps(); C]; R];
    let whole = width - width % LANES;
    for at in (0..whole).step_by(LANES) {
        // SAFETY: `at + 8 <= width`, and the slices hold C and R rows of `width`.
        #[allow(unsafe_code)]
        unsafe {
            if size_of::<T>() < size_of::<f32>() {
                // Straight from memory: the rows that follow, one line of one of them a step.
                const { assert!(LANES * COLUMNS * 2 == LINE) };
                let row = C + at / LANES % C;
                _mm_prefetch::<_MM_HINT_T0>(weights.as_ptr().wrapping_add(row * width + at).cast());
            }
            // One weight after the other: sums, activations and it are all the registers there are.
            let x: [__m256; R] = std::array::from_fn(|r| _mm256_loadu_ps(x.as_ptr().add(r * width + at)));
            for c in 0..C {
                let weights = load(weights.as_ptr().add(c * width + at));
                for r in 0..R {
                    sums[r][c] = _mm256_fmadd_ps(weights, x[r], sums[r][c]);
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let mut values = [0f32; C];
        for (c, value) in values.iter_mut().enumerate() {
            let mut lanes = [0f32; LANES];
            // SAFETY: `lanes` is 32 bytes.
            #[allow(unsafe_code)]
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), sums[c]);
            }
            let weights = &weights[c * width + whole..(c + 1) * width];
            let x = &x[r * width + whole..(r + 1) * width];
            for ((lane, weight), x) in lanes.iter_mut().zip(weights).zip(x) {
                *lane = weight.widen().mul_add(*x, *lane);
            }
            *value = sum8(lanes);
        }
        out.set(row + r, column, &values);
    }
}

/// Converts `from` to f32.
#[target_feature(enable = "avx2,fma,f16c")]
fn widen<T: Float>(from: &[T], to: &mut [f32]) {
    let (from, from_rest) = from.as_chunks::<LANES>();
    let (to, to_rest) = to.as_chunks_mut::<LANES>();
    for (at, (from, to)) in from.iter().zip(to).enumerate() {
        // SAFETY: both are eight elements; a prefetch of any address changes nothing but the caches.
        #[allow(unsafe_code)]
        unsafe {
            if at.is_multiple_of(LINE / size_of_val(from)) {
                _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_byte_add(AHEAD).cast());
            }
            _mm256_storeu_ps(to.as_mut_ptr(), load(from.as_ptr()));
        }
    }
    for (from, to) in from_rest.iter().zip(to_rest) {
        *to = from.widen();
    }
}

/// Eight weights as f32.
///
/// # Safety
/// Eight elements must be readable at `from`.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn load<T: Float>(from: *const T) -> __m256 {
    // SAFETY: the caller's promise; the comparison of types is decided at compile time.
    unsafe {
        if TypeId::of::<T>() == TypeId::of::<f16>() {
            _mm256_cvtph_ps(_mm_loadu_si128(from.cast()))
        } else if TypeId::of::<T>() == TypeId::of::<bf16>() {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        } else {
            _mm256_loadu_ps(from.cast())
        }
    }
}
