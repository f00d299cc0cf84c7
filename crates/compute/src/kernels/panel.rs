//! Integer matrix product: 16 weight rows (a panel) of a 32-element block format against quantised activation rows.
//!
//! An output element is computed as: for each block in order, the exact `i32` dot product, then
//! `sum += dot * weight_scale * activation_scale (+ weight_min * activation_sum)`, each operation rounded to f32 on its
//! own. Integer addition is associative and the float operations stand in this one order, so every kernel here gives the
//! same bits, for one row and for a thousand.

use super::Isa;
use super::activations::Q8Rows;
use super::blocks::{BLOCK, Block32};
use super::columns::Columns;

/// Weight rows that a kernel takes at a time.
pub(crate) const PANEL: usize = 16;
/// Activation rows that the portable kernel multiplies with a block it has unpacked.
const TILE: usize = 8;

/// Writes the products of up to 16 weight rows, `weights` in row order, with every activation row to `out`. `next` is what
/// follows them in memory, which the next call will read.
///
/// # Panics
/// If the lengths do not fit together.
#[cfg_attr(
    not(all(target_arch = "wasm32", target_feature = "simd128")),
    allow(
        unused_variables,
        reason = "elsewhere there is an instruction that needs no proof of what follows"
    )
)]
pub(crate) fn multiply<B: Block32>(
    isa: Isa,
    weights: &[B],
    next: &[B],
    activations: &Q8Rows,
    out: &mut Columns<'_>,
) {
    assert!(out.width() <= PANEL, "a panel is at most 16 rows");
    assert_eq!(weights.len(), out.width() * activations.blocks(), "weights and activations differ in width");
    if activations.rows() == 0 {
        return;
    }
    match isa {
        Isa::Portable => portable(weights, activations, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => super::x86::avx2::multiply(weights, activations, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => super::x86::vnni::multiply(weights, activations, out),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        _ => super::wasm::panel::multiply(isa, weights, next, activations, out),
    }
}

fn portable<B: Block32>(weights: &[B], activations: &Q8Rows, out: &mut Columns<'_>) {
    let (rows, blocks) = (activations.rows(), activations.blocks());
    let (quants, _) = activations.quants().as_chunks::<BLOCK>();
    for (column, weights) in weights.chunks_exact(blocks.max(1)).enumerate() {
        for first in (0..rows).step_by(TILE) {
            let mut sums = [0f32; TILE];
            let taken = TILE.min(rows - first);
            for (index, weight) in weights.iter().enumerate() {
                let (unpacked, scale, min) = (weight.quants(), weight.scale(), weight.min());
                for (row, sum) in sums[..taken].iter_mut().enumerate() {
                    let at = (first + row) * blocks + index;
                    let by = &activations.scales()[at];
                    let products = unpacked.iter().zip(&quants[at]);
                    let dot: i32 = products.map(|(&w, &a)| i32::from(w) * i32::from(a)).sum();
                    let mut term = (dot + by.negated * B::ZERO) as f32 * scale * by.scale;
                    if B::HAS_MIN {
                        term += min * by.sum;
                    }
                    *sum += term;
                }
            }
            for (row, sum) in sums[..taken].iter().enumerate() {
                out.set(first + row, column, &[*sum]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
