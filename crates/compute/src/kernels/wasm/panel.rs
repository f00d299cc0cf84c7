//! 16 weight rows as four groups of four, a row to a lane.
//!
//! The bytes of a group are transposed by 32-bit words while still packed, as on x86, so that no sum crosses lanes. Few
//! activation rows are multiplied as the weights are unpacked; from [`UNPACK_ROWS`] on half a panel is unpacked to memory
//! that stays in L1, and read from there by tiles of [`TILE`] activation rows.

// Counted loops throughout: iterator adapters and `array::map` are not inlined around vectors on this target.
#![allow(clippy::needless_range_loop, reason = "see above")]

use std::arch::wasm32::*;
use std::cell::RefCell;

use bytemuck::Pod;

use super::dot::{Dot, Wide};
#[cfg(target_feature = "relaxed-simd")]
use super::dot::{Pairs4Bit, Pairs5Bit, Quads, SplitQuads};
use super::halves::{high_halves, low_halves};
use crate::kernels::Isa;
use crate::kernels::activations::{BlockScale, Q8Rows};
use crate::kernels::blocks::{BLOCK, Block32, Quants};
use crate::kernels::columns::Columns;
use crate::kernels::padded::with_full_panel;
use crate::kernels::panel::{Order, PANEL, Panel};

/// Weight rows of a vector.
pub(super) const LANES: usize = 4;
/// Groups of a panel.
const GROUPS: usize = PANEL / LANES;
/// Groups unpacked and multiplied at a time: as many sums as the registers hold.
const HALF: usize = GROUPS / 2;
/// Activation rows multiplied at a time with unpacked weights.
const TILE: usize = 4;
/// Activation rows from which unpacking first pays.
const UNPACK_ROWS: usize = 4;

/// Runs `$body` for the eight words of a block, with `$word` known to the compiler each time: what a loop over vectors
/// that must stay in registers needs, and what the optimiser would decide too late.
macro_rules! for_each_word {
    ($word:ident => $body:block) => {
        for_each_word!(@ $word $body 0 1 2 3 4 5 6 7)
    };
    (@ $word:ident $body:block $($number:literal)*) => {$({
        let $word: usize = $number;
        $body
    })*};
}

/// One block of 32 elements of four rows.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// Unsigned quants: lane `l` of vector `w` holds elements `4 * w..4 * w + 4` of row `l`.
    quants: [v128; 8],
    scales: v128,
    mins: v128,
}

thread_local! {
    static UNPACKED: RefCell<Vec<Group>> = const { RefCell::new(Vec::new()) };
}

/// See [`crate::kernels::panel::multiply`], which checked the lengths.
pub(in crate::kernels) fn multiply<B: Block32>(
    isa: Isa,
    Panel { blocks, next, order }: Panel<'_, B>,
    activations: &Q8Rows,
    out: &mut Columns<'_>,
) {
    assert_eq!(order, Order::Rows, "nothing is repacked here");
    let weights = Panel { blocks, next, order };
    with_full_panel(weights, activations.blocks(), |Panel { blocks: weights, .. }| match (isa, B::QUANTS) {
        #[cfg(target_feature = "relaxed-simd")]
        (Isa::RelaxedPairs, Quants::Nibbles) => product::<Pairs4Bit, B>(weights, next, activations, out),
        #[cfg(target_feature = "relaxed-simd")]
        (Isa::RelaxedPairs, Quants::NibblesAndBit) => {
            product::<Pairs5Bit, B>(weights, next, activations, out);
        }
        #[cfg(target_feature = "relaxed-simd")]
        (Isa::RelaxedDot, Quants::Nibbles | Quants::NibblesAndBit) => {
            product::<Quads, B>(weights, next, activations, out);
        }
        #[cfg(target_feature = "relaxed-simd")]
        (Isa::RelaxedDot, Quants::Bytes) => product::<SplitQuads, B>(weights, next, activations, out),
        _ => product::<Wide, B>(weights, next, activations, out),
    });
}

/// `weights` holds 16 rows.
fn product<D: Dot, B: Block32>(weights: &[B], next: &[B], activations: &Q8Rows, out: &mut Columns<'_>) {
    let (rows, blocks) = (activations.rows(), activations.blocks());
    assert_eq!(weights.len(), PANEL * blocks, "a full panel");
    if rows < UNPACK_ROWS {
        for row in 0..rows {
            packed_row::<D, B>(weights, next, activations, row, out);
        }
        return;
    }
    UNPACKED.with_borrow_mut(|unpacked| {
        for half in 0..GROUPS / HALF {
            unpacked.clear();
            let weights = &weights[half * HALF * LANES * blocks..][..HALF * LANES * blocks];
            for index in 0..blocks {
                for group in 0..HALF {
                    unpacked.push(Group::load(&weights[group * LANES * blocks..][..LANES * blocks], index));
                }
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

/// Products of 16 rows as they lie in the file with one activation row.
#[inline(never)]
fn packed_row<D: Dot, B: Block32>(
    weights: &[B],
    next: &[B],
    activations: &Q8Rows,
    row: usize,
    out: &mut Columns<'_>,
) {
    let blocks = activations.blocks();
    let quants = &activations.quants().as_chunks::<BLOCK>().0[row * blocks..][..blocks];
    let scales = &activations.scales()[row * blocks..][..blocks];
    for group in 0..GROUPS {
        let weights = &weights[group * LANES * blocks..][..LANES * blocks];
        let mut sum = f32x4_splat(0.0);
        for (index, (quants, by)) in quants.iter().zip(scales).enumerate() {
            touch(next, (group * blocks + index) * LANES, LANES);
            let group = Group::load(weights, index);
            let mut dot = D::zero();
            for_each_word!(word => {
                let four = D::activations(splat(quants, word));
                dot = D::add(dot, word, D::weights(group.quants[word]), four);
            });
            sum = f32x4_add(sum, term::<B>(D::total(dot), group.scales, group.mins, by));
        }
        set(out, row, group, sum);
    }
}

/// Products of half a panel with activation rows `row..row + R`.
#[inline(never)]
fn tile<const R: usize, D: Dot, B: Block32>(
    unpacked: &[Group],
    activations: &Q8Rows,
    row: usize,
    half: usize,
    out: &mut Columns<'_>,
) {
    let blocks = activations.blocks();
    let quants = &activations.quants().as_chunks::<BLOCK>().0[row * blocks..][..R * blocks];
    let scales = &activations.scales()[row * blocks..][..R * blocks];
    let mut sums = [[f32x4_splat(0.0); HALF]; R];
    for (index, groups) in unpacked.as_chunks::<HALF>().0.iter().enumerate() {
        let mut dots = [[D::zero(); HALF]; R];
        for_each_word!(word => {
            for r in 0..R {
                let four = D::activations(splat(&quants[r * blocks + index], word));
                for group in 0..HALF {
                    let weights = D::weights(groups[group].quants[word]);
                    dots[r][group] = D::add(dots[r][group], word, weights, four);
                }
            }
        });
        for r in 0..R {
            let by = &scales[r * blocks + index];
            for group in 0..HALF {
                let Group { scales, mins, .. } = groups[group];
                sums[r][group] =
                    f32x4_add(sums[r][group], term::<B>(D::total(dots[r][group]), scales, mins, by));
            }
        }
    }
    for r in 0..R {
        for group in 0..HALF {
            set(out, row + r, half * HALF + group, sums[r][group]);
        }
    }
}

/// Reads a byte of each cache line of some blocks. Four rows side by side are not one stream to the hardware, but weights as
/// a whole are, so what comes next is touched in the order of its addresses; wasm has no instruction that only prefetches.
#[inline(always)]
pub(super) fn touch<B: Pod>(blocks: &[B], first: usize, count: usize) {
    const LINE: usize = 64;
    if let Some(blocks) = blocks.get(first..first + count) {
        for byte in bytemuck::cast_slice::<B, u8>(blocks).iter().step_by(LINE) {
            // SAFETY: a reference may be read; volatile, because nobody wants the value.
            #[allow(unsafe_code)]
            let _ = unsafe { std::ptr::read_volatile(byte) };
        }
    }
}

/// What one block adds to the sums of four rows.
#[inline(always)]
fn term<B: Block32>(mut dot: v128, scales: v128, mins: v128, by: &BlockScale) -> v128 {
    if B::ZERO != 0 {
        dot = i32x4_add(dot, i32x4_splat(by.negated * B::ZERO));
    }
    let term = f32x4_mul(f32x4_mul(f32x4_convert_i32x4(dot), scales), f32x4_splat(by.scale));
    if B::HAS_MIN { f32x4_add(term, f32x4_mul(mins, f32x4_splat(by.sum))) } else { term }
}

/// Writes the sums of a group, if the output is so wide.
#[inline(always)]
fn set(out: &mut Columns<'_>, row: usize, group: usize, sums: v128) {
    if group * LANES < out.width() {
        let lanes = [
            f32x4_extract_lane::<0>(sums),
            f32x4_extract_lane::<1>(sums),
            f32x4_extract_lane::<2>(sums),
            f32x4_extract_lane::<3>(sums),
        ];
        out.set(row, group * LANES, &lanes);
    }
}

/// Four activation quants in every lane.
#[inline(always)]
fn splat(quants: &[i8; BLOCK], word: usize) -> v128 {
    assert!(word < BLOCK / 4);
    // SAFETY: four bytes from `4 * word` on lie in the block.
    #[allow(unsafe_code)]
    unsafe {
        v128_load32_splat(quants.as_ptr().add(word * 4).cast())
    }
}

impl Group {
    /// Unpacks block `index` of four rows.
    #[inline(always)]
    fn load<B: Block32>(rows: &[B], index: usize) -> Self {
        let blocks = rows.len() / LANES;
        assert!(index < blocks);
        let first = rows[index..].as_ptr().cast::<u8>();
        let stride = blocks * size_of::<B>();
        // SAFETY: `first + row * stride` is block `index` of a row for each of the four rows; every load below stays within the
        // `size_of::<B>()` bytes of its block.
        #[allow(unsafe_code)]
        unsafe {
            let head = gather(first, stride);
            let scales = low_halves(head);
            let mins = if B::HAS_MIN { high_halves(head) } else { f32x4_splat(0.0) };
            let packed = transpose(first.add(B::QUANTS_AT), stride);
            let mut quants = [i32x4_splat(0); 8];
            if B::QUANTS == Quants::Bytes {
                let high = transpose(first.add(B::QUANTS_AT + 16), stride);
                let sign = i8x16_splat(i8::MIN);
                for i in 0..4 {
                    quants[i] = v128_xor(packed[i], sign);
                    quants[i + 4] = v128_xor(high[i], sign);
                }
            } else {
                let nibble = u8x16_splat(0xf);
                for i in 0..4 {
                    quants[i] = v128_and(packed[i], nibble);
                    quants[i + 4] = v128_and(u16x8_shr(packed[i], 4), nibble);
                }
            }
            if B::QUANTS == Quants::NibblesAndBit {
                // The bits stand just before the nibbles.
                let bits = spread_bits(gather(first.add(B::QUANTS_AT - 4), stride));
                for_each_word!(word => { quants[word] = v128_or(quants[word], bits[word]); });
            }
            Self { quants, scales, mins }
        }
    }
}

/// One 32-bit word of four rows.
///
/// # Safety
/// Four bytes must be readable at `first + row * stride` for each row.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn gather(first: *const u8, stride: usize) -> v128 {
    // SAFETY: the caller's promise.
    unsafe {
        let word = |row: usize| first.add(row * stride).cast::<u32>();
        let words = v128_load32_zero(word(0));
        let words = v128_load32_lane::<1>(words, word(1));
        let words = v128_load32_lane::<2>(words, word(2));
        v128_load32_lane::<3>(words, word(3))
    }
}

/// Four 32-bit words of four rows: vector `w` of the result holds word `w` of each row.
///
/// # Safety
/// Sixteen bytes must be readable at `first + row * stride` for each row.
#[allow(unsafe_code)]
#[inline(always)]
pub(super) unsafe fn transpose(first: *const u8, stride: usize) -> [v128; 4] {
    // SAFETY: the caller's promise.
    let [a, b, c, d] = unsafe {
        let row = |row: usize| v128_load(first.add(row * stride).cast());
        [row(0), row(1), row(2), row(3)]
    };
    let low = [i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<0, 4, 1, 5>(c, d)];
    let high = [i32x4_shuffle::<2, 6, 3, 7>(a, b), i32x4_shuffle::<2, 6, 3, 7>(c, d)];
    [
        i64x2_shuffle::<0, 2>(low[0], low[1]),
        i64x2_shuffle::<1, 3>(low[0], low[1]),
        i64x2_shuffle::<0, 2>(high[0], high[1]),
        i64x2_shuffle::<1, 3>(high[0], high[1]),
    ]
}

/// Bit `4 * w + i` of each lane as bit 4 of the lane's byte `i` in vector `w` of the result.
#[inline(always)]
fn spread_bits(bits: v128) -> [v128; 8] {
    let bytes = [
        i8x16_shuffle::<0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12>(bits, bits),
        i8x16_shuffle::<1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9, 9, 13, 13, 13, 13>(bits, bits),
        i8x16_shuffle::<2, 2, 2, 2, 6, 6, 6, 6, 10, 10, 10, 10, 14, 14, 14, 14>(bits, bits),
        i8x16_shuffle::<3, 3, 3, 3, 7, 7, 7, 7, 11, 11, 11, 11, 15, 15, 15, 15>(bits, bits),
    ];
    let masks = [u32x4_splat(0x0804_0201), u32x4_splat(0x8040_2010)];
    let mut spread = [i32x4_splat(0); 8];
    for_each_word!(word => {
        let mask = masks[word % 2];
        let set = i8x16_eq(v128_and(bytes[word / 2], mask), mask);
        spread[word] = v128_and(set, u8x16_splat(0x10));
    });
    spread
}
