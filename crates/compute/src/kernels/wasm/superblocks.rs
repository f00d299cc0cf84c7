//! K-quants, four rows to a vector as in [`super::panel`], unpacked to memory first.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops are inlined on this target, iterator adapters are not"
)]

use std::arch::wasm32::*;
use std::cell::RefCell;

use bytemuck::Zeroable;

use super::dot::{Dot, Wide};
#[cfg(target_feature = "relaxed-simd")]
use super::dot::{Pairs, Quads};
use super::panel::{LANES, touch, transpose};
use crate::kernels::Isa;
use crate::kernels::columns::Columns;
use crate::kernels::superblocks::activations::{Q8K, Q8KRows};
use crate::kernels::superblocks::formats::{SuperBlock, Unpacked};

/// Activation rows multiplied at a time.
const TILE: usize = 4;
/// Groups of four weight rows multiplied at a time.
const GROUPS: usize = 2;

/// One block of four rows; lane `l` is row `l`'s.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// Vector `w` holds elements `4 * w..4 * w + 4`.
    quants: [v128; 64],
    /// Of each part, twice in 16 bits.
    scales: [v128; 16],
    /// Of two parts each, in 16 bits.
    mins: [v128; 8],
    scale: v128,
    min: v128,
}

thread_local! {
    static GROUP: RefCell<Vec<Group>> = const { RefCell::new(Vec::new()) };
}

/// See [`crate::kernels::superblocks::multiply`], which checked the lengths.
pub(in crate::kernels) fn multiply<B: SuperBlock>(
    isa: Isa,
    weights: &[B],
    next: &[B],
    activations: &Q8KRows,
    out: &mut Columns<'_>,
) {
    const { assert!(B::LARGEST < 128, "relaxed products take 7 bits") };
    match isa {
        // Four words of a part are added in 16 bits, or two: `2 * 31 * 127 * 4 < 2^15`.
        #[cfg(target_feature = "relaxed-simd")]
        Isa::RelaxedPairs if B::LARGEST <= 31 => product::<Pairs<4>, B>(weights, next, activations, out),
        #[cfg(target_feature = "relaxed-simd")]
        Isa::RelaxedPairs => product::<Pairs<2>, B>(weights, next, activations, out),
        #[cfg(target_feature = "relaxed-simd")]
        Isa::RelaxedDot => product::<Quads, B>(weights, next, activations, out),
        _ => product::<Wide, B>(weights, next, activations, out),
    }
}

fn product<D: Dot, B: SuperBlock>(weights: &[B], next: &[B], activations: &Q8KRows, out: &mut Columns<'_>) {
    let (rows, blocks) = (activations.rows(), activations.blocks());
    let activations = activations.as_slice();
    GROUP.with_borrow_mut(|unpacked| {
        for first in (0..out.width()).step_by(LANES * GROUPS) {
            unpacked.clear();
            for index in 0..blocks {
                touch(next, first * blocks + index * LANES * GROUPS, LANES * GROUPS);
                for group in 0..GROUPS {
                    let first = first + group * LANES;
                    let mut four = [Unpacked::zeroed(); LANES];
                    let mut factors = [[0f32; 2]; LANES];
                    for row in 0..LANES.min(out.width().saturating_sub(first)) {
                        let block = &weights[(first + row) * blocks + index];
                        block.unpack(&mut four[row]);
                        factors[row] = block.factors();
                    }
                    unpacked.push(Group::new(&four, factors));
                }
            }
            let mut row = 0;
            while row + TILE <= rows {
                tile::<TILE, D, B>(unpacked, &activations[row * blocks..], row, first, out);
                row += TILE;
            }
            while row < rows {
                tile::<1, D, B>(unpacked, &activations[row * blocks..], row, first, out);
                row += 1;
            }
        }
    });
}

/// Products of the unpacked weight rows with `R` activation rows.
#[inline(never)]
fn tile<const R: usize, D: Dot, B: SuperBlock>(
    unpacked: &[Group],
    activations: &[Q8K],
    row: usize,
    column: usize,
    out: &mut Columns<'_>,
) {
    let (unpacked, _) = unpacked.as_chunks::<GROUPS>();
    let blocks = unpacked.len();
    let activations = &activations[..R * blocks];
    let mut sums = [[f32x4_splat(0.0); GROUPS]; R];
    for (index, groups) in unpacked.iter().enumerate() {
        let mut totals = [[i32x4_splat(0); GROUPS]; R];
        for part in 0..16 {
            for r in 0..R {
                let (quants, _) = activations[r * blocks + index].quants.as_chunks::<16>();
                let word = |word: usize| D::activations(splat(&quants[part], word));
                let four = [word(0), word(1), word(2), word(3)];
                for g in 0..GROUPS {
                    let weights = |word: usize| D::weights(groups[g].quants[part * 4 + word]);
                    let sum = D::add(D::zero(), 0, weights(0), four[0]);
                    let sum = D::add(sum, 1, weights(1), four[1]);
                    let sum = D::add(sum, 2, weights(2), four[2]);
                    let sum = D::add(sum, 3, weights(3), four[3]);
                    totals[r][g] = i32x4_add(totals[r][g], D::scaled(sum, groups[g].scales[part]));
                }
            }
        }
        for r in 0..R {
            let by = &activations[r * blocks + index];
            let pairs: &[[i16; 2]; 8] = bytemuck::cast_ref(&by.sums);
            for g in 0..GROUPS {
                let Group { mins, scale, min, .. } = &groups[g];
                let mut lower = i32x4_splat(0);
                for pair in 0..8 {
                    let two = i32x4_splat(bytemuck::cast(pairs[pair]));
                    lower = i32x4_add(lower, i32x4_dot_i16x8(mins[pair], two));
                }
                let term = if B::SYMMETRIC {
                    f32x4_mul(f32x4_convert_i32x4(i32x4_sub(totals[r][g], lower)), *scale)
                } else {
                    let upper = f32x4_mul(f32x4_convert_i32x4(totals[r][g]), *scale);
                    f32x4_sub(upper, f32x4_mul(f32x4_convert_i32x4(lower), *min))
                };
                sums[r][g] = f32x4_add(sums[r][g], f32x4_mul(term, f32x4_splat(by.scale)));
            }
        }
    }
    for r in 0..R {
        for g in 0..GROUPS {
            let column = column + g * LANES;
            if column < out.width() {
                let mut values = [0f32; LANES];
                super::store(&mut values, sums[r][g]);
                out.set(row + r, column, &values);
            }
        }
    }
}

/// Four activation quants in every lane.
#[inline(always)]
fn splat(quants: &[i8; 16], word: usize) -> v128 {
    let (words, _) = quants.as_chunks::<4>();
    i32x4_splat(bytemuck::cast(words[word]))
}

impl Group {
    fn new(rows: &[Unpacked; LANES], factors: [[f32; 2]; LANES]) -> Self {
        let mut group = Self {
            quants: [i32x4_splat(0); 64],
            scales: [i32x4_splat(0); 16],
            mins: [i32x4_splat(0); 8],
            scale: f32x4(factors[0][0], factors[1][0], factors[2][0], factors[3][0]),
            min: f32x4(factors[0][1], factors[1][1], factors[2][1], factors[3][1]),
        };
        let first: *const u8 = rows.as_ptr().cast();
        // SAFETY: each field of a row is a multiple of 16 bytes long, and the loops read it to its end.
        #[allow(unsafe_code)]
        unsafe {
            let field =
                |offset: usize, at: usize| transpose(first.add(offset + at * 16), size_of::<Unpacked>());
            let (quants, _) = group.quants.as_chunks_mut::<4>();
            for (at, to) in quants.iter_mut().enumerate() {
                *to = field(std::mem::offset_of!(Unpacked, quants), at);
            }
            let (scales, _) = group.scales.as_chunks_mut::<4>();
            for (at, to) in scales.iter_mut().enumerate() {
                *to = field(std::mem::offset_of!(Unpacked, scales), at);
            }
            let (mins, _) = group.mins.as_chunks_mut::<4>();
            for (at, to) in mins.iter_mut().enumerate() {
                *to = field(std::mem::offset_of!(Unpacked, mins), at);
            }
        }
        group
    }
}
