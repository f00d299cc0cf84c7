//! Integer matrix product: 16 weight rows (a panel) of a k-quant against quantised activation rows.
//!
//! Unpacked, all five formats look the same: blocks of 256 elements in 16 parts, an element being
//! `(quant * part scale) * scale - part minimum * min`, all but `scale` and `min` small integers. An output element is
//! computed as: for each block in order, the exact `i32` sums of `part scale * dot` and of `part minimum * activation sum`,
//! then `sum += (scaled * scale - lowered * min) * activation_scale`, each operation rounded to f32 on its own. As in
//! [`super::panel`], every kernel gives the same bits therefore, for one row and for a thousand.

pub(crate) mod activations;
pub(crate) mod formats;
#[cfg(test)]
mod tests;

use bytemuck::Zeroable;

use self::activations::{Q8K, Q8KRows};
use self::formats::{PART, SuperBlock, Unpacked};
use super::Isa;
use super::columns::Columns;
use super::panel::{Order, Panel};

/// Activation rows that the portable kernel multiplies with a block it has unpacked.
const TILE: usize = 8;

/// How the kernel for these blocks wants them to lie.
pub(crate) fn order<B: SuperBlock>(isa: Isa) -> Order {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512Vnni if super::x86::superblocks::weaves(B::FORMAT) => Order::Woven,
        _ => Order::Interleaved,
    }
}

/// Writes the products of a panel with every activation row to `out`.
///
/// # Panics
/// If the lengths do not fit together.
pub(crate) fn multiply<B: SuperBlock>(
    isa: Isa,
    weights: Panel<'_, B>,
    activations: &Q8KRows,
    out: &mut Columns<'_>,
) {
    weights.check(out.width(), activations.blocks());
    assert!(
        weights.order != Order::Woven || order::<B>(isa) == Order::Woven,
        "this kernel takes no woven blocks"
    );
    if activations.rows() == 0 {
        return;
    }
    match isa {
        Isa::Portable => portable(weights, activations, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => super::x86::superblocks::avx2::multiply(weights, activations, out),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => super::x86::superblocks::vnni::multiply(weights, activations, out),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot => super::arm::superblocks::multiply(isa, weights, activations, out),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        _ => super::wasm::superblocks::multiply(isa, weights.blocks, weights.next, activations, out),
    }
}

fn portable<B: SuperBlock>(weights: Panel<'_, B>, activations: &Q8KRows, out: &mut Columns<'_>) {
    let (rows, blocks) = (activations.rows(), activations.blocks());
    let mut unpacked = Unpacked::zeroed();
    for column in 0..out.width() {
        for first in (0..rows).step_by(TILE) {
            let mut sums = [0f32; TILE];
            let taken = TILE.min(rows - first);
            for index in 0..blocks {
                let weight = weights.block(column, index, blocks);
                weight.unpack(&mut unpacked);
                let [scale, min] = weight.factors();
                for (row, sum) in sums[..taken].iter_mut().enumerate() {
                    let by = &activations.as_slice()[(first + row) * blocks + index];
                    let (scaled, lowered) = integers(&unpacked, by);
                    let term = if B::SYMMETRIC {
                        (scaled - lowered) as f32 * scale
                    } else {
                        scaled as f32 * scale - lowered as f32 * min
                    };
                    *sum += term * by.scale;
                }
            }
            for (row, sum) in sums[..taken].iter().enumerate() {
                out.set(first + row, column, &[*sum]);
            }
        }
    }
}

/// The sums of `part scale * dot` and of `part minimum * activation sum`.
fn integers(weights: &Unpacked, by: &Q8K) -> (i32, i32) {
    let (mut scaled, mut lowered) = (0, 0);
    let parts = weights.quants.as_chunks::<PART>().0.iter().zip(by.quants.as_chunks::<PART>().0);
    for (part, (weight, by_quants)) in parts.enumerate() {
        let products = weight.iter().zip(by_quants);
        let dot: i32 = products.map(|(&w, &a)| i32::from(w) * i32::from(a)).sum();
        scaled += dot * i32::from(weights.scales[part][0]);
        lowered += i32::from(weights.mins[part]) * i32::from(by.sums[part]);
    }
    (scaled, lowered)
}
