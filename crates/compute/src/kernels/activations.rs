//! Activations quantised to 8 bits in blocks of 32, for the integer dot products.
//!
//! The numbers are ggml's `Q8_0`/`Q8_1`: `scale = max |x| / 127` and `sum = scale * (sum of the quants)`, both rounded to
//! f16, quants rounded half to even. They are kept as f32 beside the quants, so that no kernel converts them again.

use half::f16;

use super::Isa;
use super::blocks::BLOCK;
use super::math::larger;

/// What a block of 32 quants is multiplied by.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C)]
pub(crate) struct BlockScale {
    /// Factor on the quants.
    pub(crate) scale: f32,
    /// `scale * (sum of the quants)`: what a weight's minimum is multiplied by.
    pub(crate) sum: f32,
    /// Minus the sum of the quants: what a weight's zero point is multiplied by.
    pub(crate) negated: i32,
}

/// Quantised rows; its memory is reused from call to call.
#[derive(Debug, Default)]
pub(crate) struct Q8Rows {
    quants: Vec<i8>,
    scales: Vec<BlockScale>,
    rows: usize,
    blocks: usize,
}

impl Q8Rows {
    /// Makes room for `rows` rows of `width` elements and gives the parts that [`quantize`] fills.
    pub(crate) fn resize(&mut self, rows: usize, width: usize) -> (&mut [i8], &mut [BlockScale]) {
        self.rows = rows;
        self.blocks = width / BLOCK;
        let blocks = rows * self.blocks;
        if self.scales.len() < blocks {
            self.quants.resize(blocks * BLOCK, 0);
            self.scales.resize(blocks, BlockScale::default());
        }
        (&mut self.quants[..blocks * BLOCK], &mut self.scales[..blocks])
    }

    /// Rows held.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks of a row.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Quants of all rows, `[rows][blocks * 32]`.
    pub(crate) fn quants(&self) -> &[i8] {
        &self.quants[..self.rows * self.blocks * BLOCK]
    }

    /// Scales of all rows, `[rows][blocks]`.
    pub(crate) fn scales(&self) -> &[BlockScale] {
        &self.scales[..self.rows * self.blocks]
    }
}

/// Quantises `x`, a multiple of 32 long.
pub(crate) fn quantize(isa: Isa, x: &[f32], quants: &mut [i8], scales: &mut [BlockScale]) {
    isa.run(
        #[inline(always)]
        || {
            let (x, _) = x.as_chunks::<BLOCK>();
            let (quants, _) = quants.as_chunks_mut::<BLOCK>();
            for ((x, quants), scale) in x.iter().zip(quants).zip(scales) {
                *scale = quantize_block(x, quants);
            }
        },
    );
}

#[inline(always)]
fn quantize_block(x: &[f32; BLOCK], quants: &mut [i8; BLOCK]) -> BlockScale {
    let mut lanes = [0f32; 8];
    for group in x.as_chunks::<8>().0 {
        for (lane, x) in lanes.iter_mut().zip(group) {
            *lane = larger(x.abs(), *lane);
        }
    }
    let max = lanes.into_iter().fold(0.0, larger);
    let scale = max / 127.0;
    let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
    let mut sum = 0;
    for (quant, x) in quants.iter_mut().zip(x) {
        *quant = round_half_even(x * inverse) as i8;
        sum += i32::from(*quant);
    }
    BlockScale {
        scale: f16::from_f32(scale).to_f32(),
        sum: f16::from_f32(scale * sum as f32).to_f32(),
        negated: -sum,
    }
}

/// Rounds `|x| < 2^22` half to even by letting the addition of `1.5 * 2^23` drop the fraction; unlike
/// [`f32::round_ties_even`] it becomes two instructions on every target.
#[inline(always)]
pub(crate) fn round_half_even(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn rounds_half_to_even() {
        for (x, wanted) in [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (126.6, 127), (-127.0, -127)]
        {
            assert_eq!(round_half_even(x), wanted, "{x}");
        }
    }

    #[test]
    fn quants_reproduce_the_elements_within_half_a_step() {
        let x: Vec<f32> = (0..96).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.13).collect();
        let mut rows = Q8Rows::default();
        let (quants, scales) = rows.resize(1, 96);
        quantize(Isa::detect(), &x, quants, scales);
        for (i, x) in x.iter().enumerate() {
            let scale = rows.scales()[i / 32].scale;
            let back = f32::from(rows.quants()[i]) * scale;
            assert!((x - back).abs() <= scale * 0.51 + x.abs() * 1e-3, "{i}: {x} became {back}");
        }
        for (block, scale) in rows.scales().iter().enumerate() {
            let sum: i32 = rows.quants()[block * 32..][..32].iter().map(|&q| i32::from(q)).sum();
            assert_eq!(-sum, scale.negated);
        }
    }

    #[test]
    fn zeros_and_non_finite_elements_do_not_panic() {
        let mut rows = Q8Rows::default();
        for fill in [0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE] {
            let (quants, scales) = rows.resize(1, 32);
            quantize(Isa::detect(), &[fill; 32], quants, scales);
        }
        let (quants, scales) = rows.resize(1, 32);
        quantize(Isa::detect(), &[0.0; 32], quants, scales);
        assert_eq!(rows.scales()[0], BlockScale::default());
        assert!(rows.quants().iter().all(|&q| q == 0));
    }
}
