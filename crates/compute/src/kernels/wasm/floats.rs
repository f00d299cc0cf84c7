//! Float weights: a few weight rows times a few activation rows in registers.

use std::any::TypeId;
use std::arch::wasm32::*;
use std::cell::RefCell;

use half::bf16;

use super::halves::low_halves;
use super::{load_bytes, load_halves, mul_add, store};
use crate::kernels::columns::Columns;
use crate::kernels::floats::{Float, LANES};
use crate::kernels::math::sum8;

/// Weight rows multiplied at a time with one activation row.
const COLUMNS: usize = 4;
/// Weight and activation rows multiplied at a time when there are several of both.
const TILE: usize = 2;
/// Activation rows from which converting 16-bit weights to f32 first pays.
const WIDEN_ROWS: usize = 2;

thread_local! {
    static WIDENED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// See [`crate::kernels::floats::multiply`], which checked the lengths.
pub(in crate::kernels) fn multiply<T: Float>(weights: &[T], width: usize, x: &[f32], out: &mut Columns<'_>) {
    if x.len() / width < WIDEN_ROWS || TypeId::of::<T>() == TypeId::of::<f32>() {
        product(weights, width, x, out);
        return;
    }
    WIDENED.with_borrow_mut(|widened| {
        widened.clear();
        let (eights, rest) = weights.as_chunks::<LANES>();
        widened.reserve(weights.len());
        for eight in eights {
            let mut floats = [0f32; LANES];
            let (halves, _) = floats.as_chunks_mut();
            for (half, vector) in halves.iter_mut().zip(load_eight(eight)) {
                store(half, vector);
            }
            widened.extend_from_slice(&floats);
        }
        widened.extend(rest.iter().map(|weight| weight.widen()));
        product(widened, width, x, out);
    });
}

fn product<T: Float>(weights: &[T], width: usize, x: &[f32], out: &mut Columns<'_>) {
    let (rows, columns) = (x.len() / width, weights.len() / width);
    let mut row = 0;
    while row < rows {
        let step = if row + TILE <= rows { TILE } else { 1 };
        let x = &x[row * width..(row + step) * width];
        let mut column = 0;
        while column < columns {
            let wide = if step == 1 { COLUMNS } else { TILE };
            let taken = if column + wide <= columns { wide } else { 1 };
            let weights = &weights[column * width..(column + taken) * width];
            match (taken, step) {
                (COLUMNS, _) => tile::<COLUMNS, 1, T>(weights, width, x, column, row, out),
                (TILE, _) => tile::<TILE, TILE, T>(weights, width, x, column, row, out),
                (_, TILE) => tile::<1, TILE, T>(weights, width, x, column, row, out),
                _ => tile::<1, 1, T>(weights, width, x, column, row, out),
            }
            column += taken;
        }
        row += step;
    }
}

/// Products of `C` weight rows with `R` activation rows.
fn tile<const C: usize, const R: usize, T: Float>(
    weights: &[T],
    width: usize,
    x: &[f32],
    column: usize,
    row: usize,
    out: &mut Columns<'_>,
) {
    assert!(weights.len() == C * width && x.len() == R * width);
    let weights: [(&[[T; LANES]], &[T]); C] =
        std::array::from_fn(|c| weights[c * width..(c + 1) * width].as_chunks());
    let x: [(&[[f32; LANES]], &[f32]); R] =
        std::array::from_fn(|r| x[r * width..(r + 1) * width].as_chunks());
    let mut sums = [[[f32x4_splat(0.0); 2]; C]; R];
    for at in 0..width / LANES {
        let weights = weights.map(|(eights, _)| load_eight(&eights[at]));
        for (sums, (eights, _)) in sums.iter_mut().zip(x) {
            let x = load_eight(&eights[at]);
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = [mul_add(weights[0], x[0], sum[0]), mul_add(weights[1], x[1], sum[1])];
            }
        }
    }
    for (r, (sums, (_, x))) in sums.into_iter().zip(x).enumerate() {
        let mut values = [0f32; C];
        for ((value, sum), (_, weights)) in values.iter_mut().zip(sums).zip(weights) {
            let mut lanes = [0f32; LANES];
            let (halves, _) = lanes.as_chunks_mut();
            for (half, sum) in halves.iter_mut().zip(sum) {
                store(half, sum);
            }
            for ((lane, weight), x) in lanes.iter_mut().zip(weights).zip(x) {
                *lane = f32x4_extract_lane::<0>(mul_add(
                    f32x4_splat(weight.widen()),
                    f32x4_splat(*x),
                    f32x4_splat(*lane),
                ));
            }
            *value = sum8(lanes);
        }
        out.set(row + r, column, &values);
    }
}

/// Eight weights as f32.
#[inline(always)]
fn load_eight<T: Float>(from: &[T; LANES]) -> [v128; 2] {
    let bytes = bytemuck::bytes_of(from);
    // The comparison of types is decided at compile time.
    if TypeId::of::<T>() == TypeId::of::<f32>() {
        let (floats, _) = bytes.as_chunks();
        return [load_bytes(&floats[0]), load_bytes(&floats[1])];
    }
    let (halves, _) = bytes.as_chunks();
    let words = [load_halves(&halves[0]), load_halves(&halves[1])];
    if TypeId::of::<T>() == TypeId::of::<bf16>() {
        words.map(|words| i32x4_shl(words, 16))
    } else {
        words.map(low_halves)
    }
}
