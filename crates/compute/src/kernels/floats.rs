//! Matrix product of float weights (f32, f16, bf16) with f32 activations.
//!
//! But for 16-bit weights on AVX-512 (`x86::halves`), an output element is the sum of eight lanes, lane `l` adding the products of elements `l`, `l + 8`, ... in order; the
//! last elements of a width that is no multiple of eight are padded with zeros. Products are fused on x86,
//! on ARM and by relaxed vectors.

use bytemuck::Pod;
use half::{bf16, f16};

use super::Isa;
use super::columns::Columns;
use super::math::sum8;
use super::panel::{Order, Panel};

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

/// Elements that lie together where rows are interleaved.
pub(crate) const GROUP: usize = 8;

/// How the kernel for `T` in rows of `width` wants them; interleaved ones in groups of [`GROUP`] elements.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "only x86 has such a kernel"))]
pub(crate) fn order<T: Float>(isa: Isa, width: usize) -> Order {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni if size_of::<T>() == 2 && width.is_multiple_of(GROUP) => Order::Interleaved,
        _ => Order::Rows,
    }
}

/// Writes the products of a panel of elements, `width` a row, with the rows of `x` to `out`.
///
/// # Panics
/// If the lengths do not fit together, or the rows are interleaved where the kernel [wants](order) none that are.
pub(crate) fn multiply<T: Float>(
    isa: Isa,
    weights: Panel<'_, T>,
    width: usize,
    x: &[f32],
    out: &mut Columns<'_>,
) {
    weights.check(out.width(), width);
    if width == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if order::<T>(isa, width) == Order::Interleaved {
        let [blocks, next] = [weights.blocks, weights.next].map(|elements| elements.as_chunks::<GROUP>().0);
        let groups = Panel { blocks, next, order: weights.order };
        super::x86::halves::multiply(groups, width / GROUP, x, out);
        return;
    }
    assert_eq!(weights.order, Order::Rows, "this kernel takes row after row");
    let weights = weights.blocks;
    match isa {
        Isa::Portable => portable(weights, width, x, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512Vnni => super::x86::floats::multiply(weights, width, x, out),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot => super::arm::floats::multiply(weights, width, x, out),
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
