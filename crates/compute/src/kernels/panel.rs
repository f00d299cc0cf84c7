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

/// Writes the products of up to 16 weight rows, `weights` in row order, with every activation row to `out`.
///
/// # Panics
/// If the lengths do not fit together.
pub(crate) fn multiply<B: Block32>(isa: Isa, weights: &[B], activations: &Q8Rows, out: &mut Columns<'_>) {
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
    }
}

fn portable<B: Block32>(weights: &[B], activations: &Q8Rows, out: &mut Columns<'_>) {
    let blocks = activations.blocks();
    if blocks == 0 {
        return;
    }
    for (column, weights) in weights.chunks_exact(blocks).enumerate() {
        let rows = activations.quants().chunks_exact(blocks * BLOCK);
        for (row, (quants, scales)) in rows.zip(activations.scales().chunks_exact(blocks)).enumerate() {
            let (quants, _) = quants.as_chunks::<BLOCK>();
            let mut sum = 0f32;
            for ((weight, quants), by) in weights.iter().zip(quants).zip(scales) {
                let products = weight.quants().into_iter().zip(quants);
                let dot: i32 = products.map(|(w, &a)| i32::from(w) * i32::from(a)).sum();
                let mut term = (dot + by.negated * B::ZERO) as f32 * weight.scale() * by.scale;
                if B::HAS_MIN {
                    term += weight.min() * by.sum;
                }
                sum += term;
            }
            out.set(row, column, &[sum]);
        }
    }
}

#[cfg(test)]
mod tests;
