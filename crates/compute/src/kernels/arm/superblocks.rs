//! K-quants, four rows to a vector as in [`super::panel`], unpacked to memory first: one block at a time for few activation
//! rows, half a panel for many.
//!
//! Quants of formats without minima are unpacked signed, which leaves nothing to take off the dot products.

use std::arch::aarch64::*;
use std::cell::RefCell;

use bytemuck::Zeroable;

use super::dot::{Dot, Narrow, Quads, for_each_lane};
use super::{LANES, load_bytes, prefetch_blocks, store, transpose};
use crate::kernels::Isa;
use crate::kernels::columns::Columns;
use crate::kernels::padded::with_full_panel;
use crate::kernels::panel::{PANEL, Panel};
use crate::kernels::superblocks::activations::{Q8K, Q8KRows};
use crate::kernels::superblocks::formats::{PART, PARTS, SUPERBLOCK, SuperBlock, Unpacked};

/// Groups of a panel.
const GROUPS: usize = PANEL / LANES;
/// Groups multiplied at a time.
const HALF: usize = GROUPS / 2;
/// Activation rows from which unpacking half a panel first pays.
const UNPACK_ROWS: usize = 4;

/// One block of four rows; lane `l` is row `l`'s.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// Vector `w` holds elements `4 * w..4 * w + 4`.
    quants: [int8x16_t; SUPERBLOCK / 4],
    /// Of each span of elements that share one.
    scales: [int32x4_t; PARTS],
    /// Of each span.
    mins: [int16x4_t; PARTS],
    scale: float32x4_t,
    min: float32x4_t,
}

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
            unpacked.extend((0..blocks).map(|index| {
                std::array::from_fn(|group| Group::load(weights, half * HALF + group, index, blocks))
            }));
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
        let by: [&Q8K; R] = std::array::from_fn(|r| &activations.as_slice()[r * blocks + index]);
        for (group, sums) in sums.iter_mut().enumerate() {
            accumulate::<R, 1, D, B>(&[Group::load(weights, group, index, blocks)], by, sums);
        }
    }
    for (group, sums) in sums.into_iter().enumerate() {
        write(sums, 0, group, out);
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
        let by = std::array::from_fn(|r| &rows[r * blocks + index]);
        accumulate::<R, HALF, D, B>(groups, by, &mut sums);
    }
    write(sums, row, half * HALF, out);
}

/// Adds the products of one block.
#[inline(never)]
#[target_feature(enable = "neon")]
fn accumulate<const R: usize, const G: usize, D: Dot, B: SuperBlock>(
    groups: &[Group; G],
    by: [&Q8K; R],
    sums: &mut [[float32x4_t; G]; R],
) {
    let none = vdupq_n_s32(0);
    let mut scaled = [[none; G]; R];
    for span in 0..SUPERBLOCK / B::SPAN {
        let mut dots = [[D::start(none); G]; R];
        for part in 0..B::SPAN / PART {
            let part = span * (B::SPAN / PART) + part;
            let four = by.map(|by| load_bytes(&by.quants.as_chunks::<PART>().0[part]));
            for_each_lane!(LANE => {
                for (g, group) in groups.iter().enumerate() {
                    let weights = group.quants[part * 4 + LANE as usize];
                    for (dots, four) in dots.iter_mut().zip(four) {
                        dots[g] = D::add::<LANE>(dots[g], weights, four);
                    }
                }
            });
        }
        for (g, group) in groups.iter().enumerate() {
            for (scaled, dots) in scaled.iter_mut().zip(dots) {
                scaled[g] = vmlaq_s32(scaled[g], D::total(dots[g]), group.scales[span]);
            }
        }
    }
    for (r, by) in by.into_iter().enumerate() {
        for (g, group) in groups.iter().enumerate() {
            let mut term = vmulq_f32(vcvtq_f32_s32(scaled[r][g]), group.scale);
            if !B::SYMMETRIC {
                let lowered = vcvtq_f32_s32(lowered::<B>(group, by));
                term = vsubq_f32(term, vmulq_f32(lowered, group.min));
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
    for (span, parts) in by.sums.chunks_exact(B::SPAN / PART).enumerate() {
        // A part's sum is at most `16 * 128`.
        lowered = vmlal_n_s16(lowered, group.mins[span], parts.iter().sum());
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
    for (r, sums) in sums.into_iter().enumerate() {
        for (g, sum) in sums.into_iter().enumerate() {
            let column = (group + g) * LANES;
            if column < out.width() {
                let mut values = [0f32; LANES];
                store(&mut values, sum);
                out.set(row + r, column, &values);
            }
        }
    }
}

impl Group {
    /// Unpacks block `index` of the four rows of a group, in a panel of 16 rows of `blocks` blocks.
    #[target_feature(enable = "neon")]
    fn load<B: SuperBlock>(weights: Panel<'_, B>, group: usize, index: usize, blocks: usize) -> Self {
        let mut rows = [Unpacked::zeroed(); LANES];
        let (mut scale, mut min) = ([0f32; LANES], [0f32; LANES]);
        for (row, unpacked) in rows.iter_mut().enumerate() {
            let block = weights.block(group * LANES + row, index, blocks);
            block.unpack(unpacked);
            [scale[row], min[row]] = block.factors();
        }
        let mut group = Self {
            quants: [vdupq_n_s8(0); SUPERBLOCK / 4],
            scales: [vdupq_n_s32(0); PARTS],
            mins: [vdup_n_s16(0); PARTS],
            scale: super::load(&scale),
            min: super::load(&min),
        };
        let first = rows.as_ptr().cast::<u8>();
        // SAFETY: each field of a row is a multiple of 16 bytes long, and the loops read it to its end.
        #[allow(unsafe_code)]
        let field = |offset: usize, at: usize| unsafe {
            transpose(first.add(offset + at * 16), size_of::<Unpacked>())
        };
        for (at, to) in group.quants.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let words = field(std::mem::offset_of!(Unpacked, quants), at);
            *to = words.map(|word| vsubq_s8(vreinterpretq_s8_u8(word), vdupq_n_s8(B::ZERO as i8)));
        }
        let parts = B::SPAN / PART;
        for at in 0..PARTS / 4 {
            let scales = field(std::mem::offset_of!(Unpacked, scales), at);
            for (word, twice) in scales.into_iter().enumerate().step_by(parts) {
                group.scales[(at * 4 + word) / parts] = vshrq_n_s32::<16>(vreinterpretq_s32_u8(twice));
            }
        }
        for at in 0..PARTS / 8 {
            let mins = field(std::mem::offset_of!(Unpacked, mins), at);
            for (word, pair) in mins.into_iter().enumerate() {
                let pair = vreinterpretq_s32_u8(pair);
                let span = (at * 4 + word) * 2 / parts;
                group.mins[span] = vmovn_s32(pair);
                if parts == 1 {
                    group.mins[span + 1] = vshrn_n_s32::<16>(pair);
                }
            }
        }
        group
    }
}
