//! Float weights: four weight rows times two activation rows in registers.

// Counted loops throughout: around vectors, iterator adapters and `array::map` are inlined by link-time optimisation at best.
#![allow(clippy::needless_range_loop, reason = "see above")]

use std::any::TypeId;
use std::arch::aarch64::*;
use std::cell::RefCell;

use half::bf16;

use super::{load, load_halves, store, widen};
use crate::kernels::columns::Columns;
use crate::kernels::floats::{Float, LANES};
use crate::kernels::math::sum8;

/// Weight rows multiplied at a time.
const COLUMNS: usize = 4;
/// Activation rows multiplied at a time.
const TILE: usize = 2;
/// Activation rows from which converting 16-bit weights to f32 first pays.
const WIDEN_ROWS: usize = 4;

thread_local! {
    static WIDENED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// See [`crate::kernels::floats::multiply`], which checked the lengths.
pub(in crate::kernels) fn multiply<T: Float>(weights: &[T], width: usize, x: &[f32], out: &mut Columns<'_>) {
    // SAFETY: every aarch64 processor has NEON.
    #[allow(unsafe_code)]
    unsafe {
        if x.len() / width < WIDEN_ROWS || TypeId::of::<T>() == TypeId::of::<f32>() {
            product(weights, width, x, out);
            return;
        }
        WIDENED.with_borrow_mut(|widened| {
            widened.resize(weights.len(), 0.0);
            let (from, from_rest) = weights.as_chunks();
            let (to, to_rest) = widened.as_chunks_mut::<LANES>();
            for (from, to) in from.iter().zip(to) {
                store_eight(to, load_eight(from));
            }
            for (from, to) in from_rest.iter().zip(to_rest) {
                *to = from.widen();
            }
            product(widened, width, x, out);
        });
    }
}

#[target_feature(enable = "neon")]
fn product<T: Float>(weights: &[T], width: usize, x: &[f32], out: &mut Columns<'_>) {
    let (rows, columns) = (x.len() / width, weights.len() / width);
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
#[target_feature(enable = "neon")]
fn tile<const C: usize, const R: usize, T: Float>(
    weights: &[T],
    width: usize,
    x: &[f32],
    column: usize,
    row: usize,
    out: &mut Columns<'_>,
) {
    assert!(weights.len() == C * width && x.len() == R * width);
    let count = width / LANES;
    let mut weight_eights: [&[[T; LANES]]; C] = [&[]; C];
    for c in 0..C {
        weight_eights[c] = &weights[c * width..].as_chunks().0[..count];
    }
    let mut x_eights: [&[[f32; LANES]]; R] = [&[]; R];
    for r in 0..R {
        x_eights[r] = &x[r * width..].as_chunks().0[..count];
    }
    let mut sums = [[[vdupq_n_f32(0.0); 2]; C]; R];
    for at in 0..count {
        let mut eights = [[vdupq_n_f32(0.0); 2]; C];
        for c in 0..C {
            eights[c] = load_eight(&weight_eights[c][at]);
        }
        for r in 0..R {
            let x = load_eight(&x_eights[r][at]);
            for c in 0..C {
                sums[r][c][0] = vfmaq_f32(sums[r][c][0], eights[c][0], x[0]);
                sums[r][c][1] = vfmaq_f32(sums[r][c][1], eights[c][1], x[1]);
            }
        }
    }
    for r in 0..R {
        let mut values = [0f32; C];
        for c in 0..C {
            let mut lanes = [0f32; LANES];
            store_eight(&mut lanes, sums[r][c]);
            for (lane, at) in lanes.iter_mut().zip(count * LANES..width) {
                *lane = weights[c * width + at].widen().mul_add(x[r * width + at], *lane);
            }
            values[c] = sum8(lanes);
        }
        out.set(row + r, column, &values);
    }
}

/// Eight weights as f32.
#[inline]
#[target_feature(enable = "neon")]
fn load_eight<T: Float>(from: &[T; LANES]) -> [float32x4_t; 2] {
    let bytes = bytemuck::bytes_of(from);
    // The comparison of types is decided at compile time.
    if TypeId::of::<T>() == TypeId::of::<f32>() {
        let (floats, _) = bytemuck::cast_slice(bytes).as_chunks();
        return [load(&floats[0]), load(&floats[1])];
    }
    let (halves, _) = bytemuck::cast_slice(bytes).as_chunks();
    let halves = load_halves(&halves[0]);
    if TypeId::of::<T>() == TypeId::of::<bf16>() {
        let words = [vshll_n_u16::<16>(vget_low_u16(halves)), vshll_high_n_u16::<16>(halves)];
        [vreinterpretq_f32_u32(words[0]), vreinterpretq_f32_u32(words[1])]
    } else {
        [widen(vget_low_u16(halves)), widen(vget_high_u16(halves))]
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn store_eight(to: &mut [f32; LANES], from: [float32x4_t; 2]) {
    let (halves, _) = to.as_chunks_mut();
    store(&mut halves[0], from[0]);
    store(&mut halves[1], from[1]);
}
