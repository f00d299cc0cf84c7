//! Matrix product of float weights (f32, f16, bf16) with f32 activations.
//!
//! An output element is the sum of eight lanes, lane `l` adding the products of elements `l`, `l + 8`, ... in order; the
//! last elements of a width that is no multiple of eight are padded with zeros. Products are fused on x86
//! and by relaxed vectors.

use bytemuck::Pod;
use half::{bf16, f16};

use super::Isa;
use super::columns::Columns;
use super::math::sum8;

/// Elements added side by side.
pub(crate) const LANES: usize = 8;

/// An element type of unquantised weights.
pub(crate) trait Float: Pod + Send + Sync + std::fmt::Debug {
    /// The value; exact.
    fn widen(self) -> f32;
}

impl Float for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Float for f16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Float for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

/// Writes the products of weight rows, `width` elements each, with the rows of `x` to `out`.
///
/// # Panics
/// If the lengths do not fit together.
pub(crate) fn multiply<T: Float>(isa: Isa, weights: &[T], width: usize, x: &[f32], out: &mut Columns<'_>) {
    assert_eq!(weights.len(), out.width() * width, "weights and outputs differ in rows");
    if width == 0 {
        return;
    }
    match isa {
        Isa::Portable => portable(weights, width, x, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512Vnni => super::x86::floats::multiply(weights, width, x, out),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        _ => super::wasm::floats::multiply(weights, width, x, out),
    }
}

fn portable<T: Float>(weights: &[T], width: usize, x: &[f32], out: &mut Columns<'_>) {
    for (column, weights) in weights.chunks_exact(width).enumerate() {
        let (groups, rest) = weights.as_chunks::<LANES>();
        for (row, x) in x.chunks_exact(width).enumerate() {
            let (x, x_rest) = x.as_chunks::<LANES>();
            let mut lanes = [0f32; LANES];
            for (weights, x) in groups.iter().zip(x) {
                for ((lane, weight), x) in lanes.iter_mut().zip(weights).zip(x) {
                    *lane += weight.widen() * x;
                }
            }
            for ((lane, weight), x) in lanes.iter_mut().zip(rest).zip(x_rest) {
                *lane += weight.widen() * x;
            }
            out.set(row, column, &[sum8(lanes)]);
        }
    }
}

#[cfg(test)]
mod tests;
