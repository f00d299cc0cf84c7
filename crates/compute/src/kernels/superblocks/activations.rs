//! Activations quantised to 8 bits in blocks of 256, for the products with k-quants.
//!
//! The numbers are ggml's `Q8_K`: the element of the largest magnitude becomes -127, quants are rounded half to even, and the
//! scale stays f32.

use bytemuck::{Pod, Zeroable};

use super::formats::{PART, PARTS, SUPERBLOCK};
use crate::kernels::Isa;
use crate::kernels::activations::round_half_even;
use crate::kernels::math::larger;

/// A block of 256 quantised elements.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q8K {
    /// Factor on the quants.
    pub(crate) scale: f32,
    /// Signed quants in element order.
    pub(crate) quants: [i8; SUPERBLOCK],
    /// Sum of the quants of each part.
    pub(crate) sums: [i16; PARTS],
}

/// Quantised rows; its memory is reused from call to call.
#[derive(Debug, Default)]
pub(crate) struct Q8KRows {
    quantised: Vec<Q8K>,
    rows: usize,
    blocks: usize,
}

impl Q8KRows {
    /// Makes room for `rows` rows of `width` elements and gives the blocks that [`quantize`] fills.
    pub(crate) fn resize(&mut self, rows: usize, width: usize) -> &mut [Q8K] {
        (self.rows, self.blocks) = (rows, width / SUPERBLOCK);
        let blocks = rows * self.blocks;
        if self.quantised.len() < blocks {
            self.quantised.resize(blocks, Q8K::zeroed());
        }
        &mut self.quantised[..blocks]
    }

    /// Rows held.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks of a row.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Blocks of all rows, `[rows][blocks]`.
    pub(crate) fn as_slice(&self) -> &[Q8K] {
        &self.quantised[..self.rows * self.blocks]
    }
}

/// Quantises `x`, a multiple of 256 long.
pub(crate) fn quantize(isa: Isa, x: &[f32], quantised: &mut [Q8K]) {
    isa.run(
        #[inline(always)]
        || {
            for (x, to) in x.as_chunks::<SUPERBLOCK>().0.iter().zip(quantised) {
                quantize_block(x, to);
            }
        },
    );
}

#[inline(always)]
fn quantize_block(x: &[f32; SUPERBLOCK], to: &mut Q8K) {
    let mut lanes = [0f32; 8];
    for group in x.as_chunks::<8>().0 {
        for (lane, x) in lanes.iter_mut().zip(group) {
            *lane = larger(x.abs(), *lane);
        }
    }
    let largest = lanes.into_iter().fold(0.0, larger);
    // The sign of the first that is so large; of nothing but zeros and NaN, none is.
    let Some(&first) = x.iter().find(|x| x.abs() == largest && largest > 0.0) else {
        *to = Q8K::zeroed();
        return;
    };
    let inverse = -127.0 / first;
    for (quant, x) in to.quants.iter_mut().zip(x) {
        *quant = round_half_even(x * inverse) as i8;
    }
    for (sum, part) in to.sums.iter_mut().zip(to.quants.as_chunks::<PART>().0) {
        *sum = part.iter().map(|&quant| i16::from(quant)).sum();
    }
    to.scale = 1.0 / inverse;
}
