//! 16 weight rows as four groups of four, a row to a lane.
//!
//! The bytes of a group are transposed by 32-bit words while still packed, as on x86, so that no sum crosses lanes. Few
//! activation rows are multiplied as the weights are unpacked; from [`UNPACK_ROWS`] on half a panel is unpacked to memory
//! that stays in L1, and read from there by tiles of [`TILE`] activation rows.

// Counted loops throughout: around vectors, iterator adapters and `array::map` are inlined by link-time optimisation at best.
#![allow(clippy::needless_range_loop, reason = "see above")]

use std::arch::aarch64::*;
use std::cell::RefCell;

use super::dot::{Dot, Narrow, Quads, Wide, for_each_word};
use super::{LANES, gather, load_bytes, prefetch_blocks, store, transpose, widen};
use crate::kernels::Isa;
use crate::kernels::activations::{BlockScale, Q8Rows};
use crate::kernels::blocks::{BLOCK, Block32, Quants};
use crate::kernels::columns::Columns;
use crate::kernels::padded::with_full_panel;
use crate::kernels::panel::{PANEL, Panel};

/// Groups of a panel.
const GROUPS: usize = PANEL / LANES;
/// Groups unpacked and multiplied at a time: as many sums as the registers hold.
const HALF: usize = GROUPS / 2;
/// Activation rows multiplied at a time with unpacked weights.
const TILE: usize = 4;
/// Activation rows from which unpacking first pays.
const UNPACK_ROWS: usize = 4;

/// One block of 32 elements of four rows.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// Lane `l` of vector `w` holds elements `4 * w..4 * w + 4` of row `l`: as unsigned quants, but for signed bytes.
    quants: [int8x16_t; 8],
    scales: float32x4_t,
    mins: float32x4_t,
}

thread_local! {
    static UNPACKED: RefCell<Vec<[Group; HALF]>> = const { RefCell::new(Vec::new()) };
}

/// See [`crate::kernels::panel::multiply`], which checked the lengths.
pub(in crate::kernels) fn multiply<B: Block32>(
    isa: Isa,
    weights: Panel<'_, B>,
    activations: &Q8Rows,
    out: &mut Columns<'_>,
) {
    with_full_panel(weights, activations.blocks(), |weights| {
        // SAFETY: every aarch64 processor has NEON.
        #[allow(unsafe_code)]
        unsafe {
            match (isa, B::QUANTS) {
                (Isa::NeonDot, _) => product::<Quads, B>(weights, activations, out),
                (_, Quants::Bytes) => product::<Wide, B>(weights, activations, out),
                (_, Quants::Nibbles | Quants::NibblesAndBit) => {
                    product::<Narrow, B>(weights, activations, out);
                }
            }
        }
    });
}

/// `weights` holds 16 rows.
#[target_feature(enable = "neon")]
fn product<D: Dot, B: Block32>(weights: Panel<'_, B>, activations: &Q8Rows, out: &mut Columns<'_>) {
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
                    Group::load(weights, first, index, blocks),
                    Group::load(weights, first + 1, index, blocks),
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

/// Products of 16 rows as they lie in memory with `R` activation rows, all there are.
#[inline(never)]
#[target_feature(enable = "neon")]
fn few<const R: usize, D: Dot, B: Block32>(
    weights: Panel<'_, B>,
    activations: &Q8Rows,
    out: &mut Columns<'_>,
) {
    let blocks = activations.blocks();
    let quants = &activations.quants().as_chunks::<BLOCK>().0[..R * blocks];
    let scales = &activations.scales()[..R * blocks];
    let mut sums = [[vdupq_n_f32(0.0); GROUPS]; R];
    for index in 0..blocks {
        prefetch_blocks(weights.blocks.as_ptr(), (blocks + index) * PANEL, PANEL);
        for group in 0..GROUPS {
            let unpacked = Group::load(weights, group, index, blocks);
            for r in 0..R {
                let by = &scales[r * blocks + index];
                let four = words(&quants[r * blocks + index]);
                // Two sums, since each addition to one waits for the last.
                let mut dots = [D::start(zero_point::<B>(by)), D::start(vdupq_n_s32(0))];
                for_each_word!(WORD in [0 1 2 3 4 5 6 7] {
                    let half = WORD / 4;
                    dots[half] = D::add::<WORD>(dots[half], unpacked.quants[WORD], four[half]);
                });
                let dot = vaddq_s32(D::total(dots[0]), D::total(dots[1]));
                sums[r][group] = vaddq_f32(sums[r][group], term::<B>(dot, &unpacked, by));
            }
        }
    }
    for r in 0..R {
        for group in 0..GROUPS {
            set(out, r, group, sums[r][group]);
        }
    }
}

/// Products of half a panel with activation rows `row..row + R`.
#[inline(never)]
#[target_feature(enable = "neon")]
fn tile<const R: usize, D: Dot, B: Block32>(
    unpacked: &[[Group; HALF]],
    activations: &Q8Rows,
    row: usize,
    half: usize,
    out: &mut Columns<'_>,
) {
    let blocks = unpacked.len();
    let quants = &activations.quants().as_chunks::<BLOCK>().0[row * blocks..][..R * blocks];
    let scales = &activations.scales()[row * blocks..][..R * blocks];
    let mut sums = [[vdupq_n_f32(0.0); HALF]; R];
    for (index, groups) in unpacked.iter().enumerate() {
        let mut dots = [[D::start(vdupq_n_s32(0)); HALF]; R];
        let mut four = [[vdupq_n_s8(0); 2]; R];
        for r in 0..R {
            dots[r] = [D::start(zero_point::<B>(&scales[r * blocks + index])); HALF];
            four[r] = words(&quants[r * blocks + index]);
        }
        for_each_word!(WORD in [0 1 2 3 4 5 6 7] {
            for group in 0..HALF {
                let weights = groups[group].quants[WORD];
                for r in 0..R {
                    dots[r][group] = D::add::<WORD>(dots[r][group], weights, four[r][WORD / 4]);
                }
            }
        });
        for r in 0..R {
            let by = &scales[r * blocks + index];
            for group in 0..HALF {
                let term = term::<B>(D::total(dots[r][group]), &groups[group], by);
                sums[r][group] = vaddq_f32(sums[r][group], term);
            }
        }
    }
    for r in 0..R {
        for group in 0..HALF {
            set(out, row + r, half * HALF + group, sums[r][group]);
        }
    }
}

/// The quants of an activation block, four words to a vector.
#[inline]
#[target_feature(enable = "neon")]
fn words(quants: &[i8; BLOCK]) -> [int8x16_t; 2] {
    let (halves, _) = quants.as_chunks();
    [load_bytes(&halves[0]), load_bytes(&halves[1])]
}

/// What unsigned quants have too much in a dot product, with its sign turned; signed ones have nothing.
#[inline]
#[target_feature(enable = "neon")]
fn zero_point<B: Block32>(by: &BlockScale) -> int32x4_t {
    vdupq_n_s32(if B::QUANTS == Quants::Bytes { 0 } else { by.negated * B::ZERO })
}

/// What one block adds to the sums of four rows.
#[inline]
#[target_feature(enable = "neon")]
fn term<B: Block32>(dot: int32x4_t, weights: &Group, by: &BlockScale) -> float32x4_t {
    let term = vmulq_n_f32(vmulq_f32(vcvtq_f32_s32(dot), weights.scales), by.scale);
    if B::HAS_MIN { vaddq_f32(term, vmulq_n_f32(weights.mins, by.sum)) } else { term }
}

/// Writes the sums of a group, if the output is so wide.
#[inline]
#[target_feature(enable = "neon")]
fn set(out: &mut Columns<'_>, row: usize, group: usize, sums: float32x4_t) {
    if group * LANES < out.width() {
        let mut lanes = [0f32; LANES];
        store(&mut lanes, sums);
        out.set(row, group * LANES, &lanes);
    }
}

impl Group {
    /// Unpacks block `index` of the four rows of a group, in a panel of 16 rows of `blocks` blocks.
    #[inline]
    #[target_feature(enable = "neon")]
    fn load<B: Block32>(weights: Panel<'_, B>, group: usize, index: usize, blocks: usize) -> Self {
        assert!(group < GROUPS && index < blocks && weights.blocks.len() == PANEL * blocks);
        let first = std::ptr::from_ref(weights.block(group * LANES, index, blocks)).cast::<u8>();
        let stride = weights.strides(blocks).0 * size_of::<B>();
        // SAFETY: `first + row * stride` is block `index` of a row for each of the four rows; every load below stays within the
        // `size_of::<B>()` bytes of its block.
        #[allow(unsafe_code)]
        unsafe {
            let head = gather(first, stride);
            let scales = widen(vmovn_u32(head));
            let mins = if B::HAS_MIN { widen(vshrn_n_u32::<16>(head)) } else { vdupq_n_f32(0.0) };
            let low = transpose(first.add(B::QUANTS_AT), stride);
            let mut quants = [vdupq_n_u8(0); 8];
            if B::QUANTS == Quants::Bytes {
                let high = transpose(first.add(B::QUANTS_AT + 16), stride);
                for i in 0..4 {
                    (quants[i], quants[i + 4]) = (low[i], high[i]);
                }
            } else {
                for i in 0..4 {
                    quants[i] = vandq_u8(low[i], vdupq_n_u8(0xf));
                    quants[i + 4] = vshrq_n_u8::<4>(low[i]);
                }
            }
            if B::QUANTS == Quants::NibblesAndBit {
                // The bits stand just before the nibbles.
                insert_bits(gather(first.add(B::QUANTS_AT - 4), stride), &mut quants);
            }
            let mut signed = [vdupq_n_s8(0); 8];
            for i in 0..8 {
                signed[i] = vreinterpretq_s8_u8(quants[i]);
            }
            Self { quants: signed, scales, mins }
        }
    }
}

/// Puts bit `4 * w + i` of each lane into bit 4 of the lane's byte `i` in vector `w`.
#[inline]
#[target_feature(enable = "neon")]
fn insert_bits(bits: uint32x4_t, quants: &mut [uint8x16_t; 8]) {
    /// Byte 0 of each lane, four times.
    static FIRST_BYTES: [u8; 16] = [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12];

    let bits = vreinterpretq_u8_u32(bits);
    // SAFETY: the array is a vector long.
    #[allow(unsafe_code)]
    let first = unsafe { vld1q_u8(FIRST_BYTES.as_ptr()) };
    let mask = |bits| vreinterpretq_u8_u32(vdupq_n_u32(bits));
    let masks = [mask(0x0804_0201), mask(0x8040_2010)];
    for word in 0..8 {
        let four = vqtbl1q_u8(bits, vaddq_u8(first, vdupq_n_u8(word as u8 / 2)));
        quants[word] = vbslq_u8(vdupq_n_u8(0x10), vtstq_u8(four, masks[word % 2]), quants[word]);
    }
}
