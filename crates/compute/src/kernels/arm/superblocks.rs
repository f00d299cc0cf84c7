//! K-quants, four rows to a vector as in [`super::panel`], unpacked to memory first: one block at a time for few activation
//! rows, half a panel for many.

// Counted loops throughout: around vectors, iterator adapters and `array::map` are inlined by link-time optimisation at best.
#![allow(clippy::needless_range_loop, reason = "see above")]

mod group;

use std::arch::aarch64::*;
use std::cell::RefCell;

use self::group::Group;
use super::dot::{Dot, Narrow, Quads, for_each_word};
use super::{LANES, load_bytes, prefetch_blocks, store};
use crate::kernels::Isa;
use crate::kernels::columns::Columns;
use crate::kernels::padded::with_full_panel;
use crate::kernels::panel::{PANEL, Panel};
use crate::kernels::superblocks::activations::{Q8K, Q8KRows};
use crate::kernels::superblocks::formats::{PART, SUPERBLOCK, SuperBlock};

/// Groups of a panel.
const GROUPS: usize = PANEL / LANES;
/// Groups multiplied at a time.
const HALF: usize = GROUPS / 2;
/// Activation rows from which unpacking half a panel first pays.
const UNPACK_ROWS: usize = 4;

thread_local! {
    static UNPACKED: RefCell<Vec<[Group; HALF]>> = const { RefCell::new(Vec::new()) };
}

/// See [`crate::kernels::superblocks::multiply`], which checked the lengths.
pub(in crate::kernels) fn multiply<B: SuperBlock>(
    isa: Isa,
    weights: Panel<'_, B>,
    activations: &Q8KRows,
    out: &mut Columns<'_>,
) {
    const { assert!((B::LARGEST - B::ZERO) * 128 * (B::SPAN as i32 / 4) < 1 << 15, "a span's sum in 16 bits") };
    with_full_panel(weights, activations.blocks(), |weights| {
        // As many activation rows as the sums in the registers allow.
        // SAFETY: every aarch64 processor has NEON.
        #[allow(unsafe_code)]
        unsafe {
            if isa == Isa::NeonDot {
                product::<4, Quads, B>(weights, activations, out);
            } else {
                product::<2, Narrow, B>(weights, activations, out);
            }
        }
    });
}

/// `weights` holds 16 rows; `TILE` activation rows are multiplied at a time.
#[target_feature(enable = "neon")]
fn product<const TILE: usize, D: Dot, B: SuperBlock>(
    weights: Panel<'_, B>,
    activations: &Q8KRows,
    out: &mut Columns<'_>,
) {
    let (rows, blocks) = (activations.rows(), activations.blocks());
    const { assert!(UNPACK_ROWS == 4, "the numbers of rows below") };
    match rows {
        0 => return,
        1 => return few::<1, D, B>(weights, activations, out),
        2 => return few::<2, D, B>(weights, activations, out),
        3 => return few::<3, D, B>(weights, activations, out),
        _ => {}
    }
    UNPACKED.with_borrow_mut(|unpacked| {
        for half in 0..GROUPS / HALF {
            unpacked.clear();
            for index in 0..blocks {
                let first = half * HALF;
                unpacked.push([
                    Group::load(weights, first * LANES, index, blocks),
                    Group::load(weights, (first + 1) * LANES, index, blocks),
                ]);
            }
            let mut row = 0;
            while row + TILE <= rows {
                tile::<TILE, D, B>(unpacked, activations, row, half, out);
                row += TILE;
            }
            while row < rows {
                tile::<1, D, B>(unpacked, activations, row, half, out);
                row += 1;
            }
        }
    });
}

/// Products with `R` activation rows, all there are; each block is multiplied as soon as it is unpacked.
#[target_feature(enable = "neon")]
fn few<const R: usize, D: Dot, B: SuperBlock>(
    weights: Panel<'_, B>,
    activations: &Q8KRows,
    out: &mut Columns<'_>,
) {
    let blocks = activations.blocks();
    let mut sums = [[[vdupq_n_f32(0.0); 1]; R]; GROUPS];
    for index in 0..blocks {
        prefetch_blocks(weights.blocks.as_ptr(), (blocks + index) * PANEL, PANEL);
        let by = &activations.as_slice()[index..];
        for group in 0..GROUPS {
            let unpacked = [Group::load(weights, group * LANES, index, blocks)];
            accumulate::<R, 1, D, B>(&unpacked, by, blocks, &mut sums[group]);
        }
    }
    for group in 0..GROUPS {
        write(sums[group], 0, group, out);
    }
}

/// Products of half a panel with activation rows `row..row + R`.
#[target_feature(enable = "neon")]
fn tile<const R: usize, D: Dot, B: SuperBlock>(
    unpacked: &[[Group; HALF]],
    activations: &Q8KRows,
    row: usize,
    half: usize,
    out: &mut Columns<'_>,
) {
    let blocks = unpacked.len();
    let rows = &activations.as_slice()[row * blocks..][..R * blocks];
    let mut sums = [[vdupq_n_f32(0.0); HALF]; R];
    for (index, groups) in unpacked.iter().enumerate() {
        accumulate::<R, HALF, D, B>(groups, &rows[index..], blocks, &mut sums);
    }
    write(sums, row, half * HALF, out);
}

/// Adds the products of one block with the first of `by` and every `blocks`th after it.
#[inline(never)]
#[target_feature(enable = "neon")]
fn accumulate<const R: usize, const G: usize, D: Dot, B: SuperBlock>(
    groups: &[Group; G],
    by: &[Q8K],
    blocks: usize,
    sums: &mut [[float32x4_t; G]; R],
) {
    let mut rows = [&by[0]; R];
    for r in 0..R {
        rows[r] = &by[r * blocks];
    }
    let none = vdupq_n_s32(0);
    let mut scaled = [[none; G]; R];
    for span in 0..SUPERBLOCK / B::SPAN {
        let mut dots = [[D::start(none); G]; R];
        for part in 0..B::SPAN / PART {
            let part = span * (B::SPAN / PART) + part;
            let mut four = [vdupq_n_s8(0); R];
            for r in 0..R {
                four[r] = load_bytes(&rows[r].quants.as_chunks::<PART>().0[part]);
            }
            for_each_word!(WORD in [0 1 2 3] {
                for g in 0..G {
                    let weights = groups[g].quants[part * 4 + WORD];
                    for r in 0..R {
                        dots[r][g] = D::add::<WORD>(dots[r][g], weights, four[r]);
                    }
                }
            });
        }
        for g in 0..G {
            for r in 0..R {
                scaled[r][g] = vmlaq_s32(scaled[r][g], D::total(dots[r][g]), groups[g].scales[span]);
            }
        }
    }
    for r in 0..R {
        let by = rows[r];
        for g in 0..G {
            let mut term = vmulq_f32(vcvtq_f32_s32(scaled[r][g]), groups[g].scale);
            if !B::SYMMETRIC {
                let lowered = vcvtq_f32_s32(lowered::<B>(&groups[g], by));
                term = vsubq_f32(term, vmulq_f32(lowered, groups[g].min));
            }
            sums[r][g] = vaddq_f32(sums[r][g], vmulq_n_f32(term, by.scale));
        }
    }
}

/// The sums of `part minimum * activation sum`.
#[inline]
#[target_feature(enable = "neon")]
fn lowered<B: SuperBlock>(group: &Group, by: &Q8K) -> int32x4_t {
    let mut lowered = vdupq_n_s32(0);
    for span in 0..SUPERBLOCK / B::SPAN {
        // The sum of 32 quants stays far below 2^15.
        let sum = if B::SPAN == PART { by.sums[span] } else { by.sums[2 * span] + by.sums[2 * span + 1] };
        lowered = vmlal_n_s16(lowered, group.mins[span], sum);
    }
    lowered
}

/// Writes the sums of activation rows from `row` on and of groups from `group` on, as far as the output goes.
#[target_feature(enable = "neon")]
fn write<const R: usize, const G: usize>(
    sums: [[float32x4_t; G]; R],
    row: usize,
    group: usize,
    out: &mut Columns<'_>,
) {
    for r in 0..R {
        for g in 0..G {
            let column = (group + g) * LANES;
            if column < out.width() {
                let mut values = [0f32; LANES];
                store(&mut values, sums[r][g]);
                out.set(row + r, column, &values);
            }
        }
    }
}
