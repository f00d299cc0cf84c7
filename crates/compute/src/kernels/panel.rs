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

/// Up to [`PANEL`] weight rows of a matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel<'a, B> {
    /// Their blocks; of interleaved ones always those of 16 rows.
    pub(crate) blocks: &'a [B],
    /// What follows in memory, which the next call will read.
    #[cfg_attr(
        not(all(target_arch = "wasm32", target_feature = "simd128")),
        allow(dead_code, reason = "elsewhere there is an instruction that needs no proof of what follows")
    )]
    pub(crate) next: &'a [B],
    /// How they lie in memory.
    pub(crate) order: Order,
}

/// How the blocks of a panel lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Row after row, as in the file.
    Rows,
    /// The first block of every row, then the second of every row: what a kernel that takes 16 rows side by side reads as
    /// one stream.
    Interleaved,
    /// As `Interleaved`, and the blocks of the 16 rows [woven](super::weave) together.
    Woven,
}

impl<'a, B> Panel<'a, B> {
    /// Distance in blocks from a row to the next, and from a block of a row to its next, in rows of `blocks` blocks.
    pub(crate) fn strides(&self, blocks: usize) -> (usize, usize) {
        match self.order {
            Order::Rows => (blocks, 1),
            Order::Interleaved | Order::Woven => (1, PANEL),
        }
    }

    /// Block `index` of a row, in rows of `blocks` blocks that are not woven.
    pub(crate) fn block(&self, row: usize, index: usize, blocks: usize) -> &'a B {
        debug_assert_ne!(self.order, Order::Woven, "no block lies there");
        let (row_stride, block_stride) = self.strides(blocks);
        &self.blocks[row * row_stride + index * block_stride]
    }

    /// # Panics
    /// If these are not `columns` rows of `blocks` blocks.
    pub(crate) fn check(&self, columns: usize, blocks: usize) {
        assert!(columns <= PANEL, "a panel is at most 16 rows");
        let rows = if self.order == Order::Rows { columns } else { PANEL };
        assert_eq!(self.blocks.len(), rows * blocks, "weights and activations differ in width");
    }
}

/// Writes the products of a panel with every activation row to `out`.
///
/// # Panics
/// If the lengths do not fit together.
pub(crate) fn multiply<B: Block32>(
    isa: Isa,
    weights: Panel<'_, B>,
    activations: &Q8Rows,
    out: &mut Columns<'_>,
) {
    weights.check(out.width(), activations.blocks());
    if activations.rows() == 0 {
        return;
    }
    match isa {
        Isa::Portable => portable(weights, activations, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => super::x86::avx2::multiply(weights, activations, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => super::x86::vnni::multiply(weights, activations, out),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot => super::arm::panel::multiply(isa, weights, activations, out),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        _ => super::wasm::panel::multiply(isa, weights, activations, out),
    }
}

fn portable<B: Block32>(weights: Panel<'_, B>, activations: &Q8Rows, out: &mut Columns<'_>) {
    let (rows, blocks) = (activations.rows(), activations.blocks());
    let (quants, _) = activations.quants().as_chunks::<BLOCK>();
    for column in 0..out.width() {
        for first in (0..rows).step_by(TILE) {
            let mut sums = [0f32; TILE];
            let taken = TILE.min(rows - first);
            for index in 0..blocks {
                let weight = weights.block(column, index, blocks);
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
