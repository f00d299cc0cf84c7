//! One block of four rows, taken apart: while still packed the rows are transposed, as on x86, and then nibbles, high bits and
//! scales of all four come out by the same instructions.

use std::arch::aarch64::*;

use bytemuck::Zeroable;

use super::super::{LANES, gather, load, transpose, widen};
use crate::kernels::panel::{PANEL, Panel};
use crate::kernels::superblocks::formats::{
    Format, PART, PARTS, Q4K, Q5K, Q6K, SUPERBLOCK, SuperBlock, Unpacked,
};

/// One block of four rows; lane `l` is row `l`'s.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// Vector `w` holds elements `4 * w..4 * w + 4`: signed where the format has no minima, which leaves nothing to take off
    /// the dot products, unsigned where it has.
    pub(super) quants: [int8x16_t; SUPERBLOCK / 4],
    /// Of each span of elements that share one.
    pub(super) scales: [int32x4_t; PARTS],
    /// Of each span, if the format has minima.
    pub(super) mins: [int16x4_t; PARTS],
    pub(super) scale: float32x4_t,
    pub(super) min: float32x4_t,
}

impl Group {
    /// Unpacks block `index` of the four rows from `row` on, in a panel of 16 rows of `blocks` blocks.
    #[target_feature(enable = "neon")]
    pub(super) fn load<B: SuperBlock>(
        weights: Panel<'_, B>,
        row: usize,
        index: usize,
        blocks: usize,
    ) -> Self {
        assert!(row + LANES <= PANEL && index < blocks && weights.blocks.len() == PANEL * blocks);
        let first = std::ptr::from_ref(weights.block(row, index, blocks)).cast::<u8>();
        let stride = weights.strides(blocks).0 * size_of::<B>();
        let mut group = Self {
            quants: [vdupq_n_s8(0); SUPERBLOCK / 4],
            scales: [vdupq_n_s32(0); PARTS],
            mins: [vdup_n_s16(0); PARTS],
            scale: vdupq_n_f32(0.0),
            min: vdupq_n_f32(0.0),
        };
        // SAFETY: row `r`'s block lies at `first + r * stride` and is of the format's size.
        #[allow(unsafe_code)]
        unsafe {
            match B::FORMAT {
                Format::Q4K => group.set_q4k(first, stride),
                Format::Q5K => group.set_q5k(first, stride),
                Format::Q6K => group.set_q6k(first, stride),
                Format::Q2K | Format::Q3K => {
                    group.set_unpacked([0, 1, 2, 3].map(|r| weights.block(row + r, index, blocks)));
                }
            }
        }
        group
    }

    /// # Safety
    /// A block of `Q4_K` must be readable at `first + row * stride` for each of four rows.
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn set_q4k(&mut self, first: *const u8, stride: usize) {
        // SAFETY: each load of 16 bytes lies in its row's block.
        unsafe {
            self.set_six_bit_scales(transpose(first, stride));
            for at in 0..8 {
                let packed = transpose(first.add(Q4K::QUANTS_AT + at * 16), stride);
                for i in 0..4 {
                    let word = at / 2 * 16 + at % 2 * 4 + i;
                    let [low, high] = nibbles(packed[i]);
                    self.quants[word] = vreinterpretq_s8_u8(low);
                    self.quants[word + 8] = vreinterpretq_s8_u8(high);
                }
            }
        }
    }

    /// # Safety
    /// A block of `Q5_K` must be readable at `first + row * stride` for each of four rows.
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn set_q5k(&mut self, first: *const u8, stride: usize) {
        // SAFETY: each load of 16 bytes lies in its row's block.
        unsafe {
            self.set_six_bit_scales(transpose(first, stride));
            let high =
                [transpose(first.add(Q5K::HIGH_AT), stride), transpose(first.add(Q5K::HIGH_AT + 16), stride)];
            for at in 0..8 {
                let packed = transpose(first.add(Q5K::QUANTS_AT + at * 16), stride);
                for i in 0..4 {
                    let span = at / 2 * 2;
                    let word = span * 8 + at % 2 * 4 + i;
                    let nibbles = nibbles(packed[i]);
                    for next in 0..2 {
                        let bits = vshlq_u8(high[at % 2][i], vdupq_n_s8(4 - (span + next) as i8));
                        let quants = vbslq_u8(vdupq_n_u8(0x10), bits, nibbles[next]);
                        self.quants[word + next * 8] = vreinterpretq_s8_u8(quants);
                    }
                }
            }
        }
    }

    /// # Safety
    /// A block of `Q6_K` must be readable at `first + row * stride` for each of four rows.
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn set_q6k(&mut self, first: *const u8, stride: usize) {
        let zero = vdupq_n_s8(Q6K::ZERO as i8);
        // SAFETY: each load lies in its row's block, which ends with the factor.
        unsafe {
            for half in 0..2 {
                for at in 0..4 {
                    let packed = transpose(first.add(half * 64 + at * 16), stride);
                    let high = transpose(first.add(Q6K::HIGH_AT + half * 32 + at % 2 * 16), stride);
                    for i in 0..4 {
                        let quarter = at / 2;
                        let word = (half * 4 + quarter) * 8 + at % 2 * 4 + i;
                        let nibbles = nibbles(packed[i]);
                        for next in 0..2 {
                            let bits = vshlq_u8(high[i], vdupq_n_s8(4 - 2 * (quarter + 2 * next) as i8));
                            let quants = vbslq_u8(vdupq_n_u8(0x30), bits, nibbles[next]);
                            self.quants[word + next * 16] = vsubq_s8(vreinterpretq_s8_u8(quants), zero);
                        }
                    }
                }
            }
            let scales = transpose(first.add(Q6K::SCALES_AT), stride);
            for part in 0..PARTS {
                let up = vdupq_n_s32(24 - 8 * (part % 4) as i32);
                let scales = vshlq_s32(vreinterpretq_s32_u8(scales[part / 4]), up);
                self.scales[part] = vshrq_n_s32::<24>(scales);
            }
            self.scale = widen(vshrn_n_u32::<16>(gather(first.add(size_of::<Q6K>() - 4), stride)));
        }
    }

    /// Scales and minima of `Q4_K` and `Q5_K` from the words of their heads: the factors, then 12 bytes that hold the first
    /// four in the low bits of their words 0 and 1, and of the others four bits in word 2 and two in words 0 and 1.
    #[inline]
    #[target_feature(enable = "neon")]
    fn set_six_bit_scales(&mut self, [factors, scales, mins, rest]: [uint8x16_t; 4]) {
        let factors = vreinterpretq_u32_u8(factors);
        self.scale = widen(vmovn_u32(factors));
        self.min = widen(vshrn_n_u32::<16>(factors));
        let six = vdupq_n_u8(0x3f);
        let [low, high] = nibbles(rest);
        let later = |rest, first| vbslq_u8(vdupq_n_u8(0x30), vshrq_n_u8::<2>(first), rest);
        let scales = [vandq_u8(scales, six), later(low, scales)];
        let mins = [vandq_u8(mins, six), later(high, mins)];
        for span in 0..8 {
            let part = |words: [uint8x16_t; 2]| {
                let down = vdupq_n_s32(-8 * (span % 4) as i32);
                let word = vshlq_u32(vreinterpretq_u32_u8(words[span / 4]), down);
                vreinterpretq_s32_u32(vandq_u32(word, vdupq_n_u32(0xff)))
            };
            self.scales[span] = part(scales);
            self.mins[span] = vmovn_s32(part(mins));
        }
    }

    /// The formats without a way of their own, row by row.
    #[target_feature(enable = "neon")]
    fn set_unpacked<B: SuperBlock>(&mut self, blocks: [&B; LANES]) {
        debug_assert_eq!(B::SPAN, PART, "a scale for each part");
        let mut rows = [Unpacked::zeroed(); LANES];
        let (mut scale, mut min) = ([0f32; LANES], [0f32; LANES]);
        for (row, block) in blocks.into_iter().enumerate() {
            block.unpack(&mut rows[row]);
            [scale[row], min[row]] = block.factors();
        }
        (self.scale, self.min) = (load(&scale), load(&min));
        let first = rows.as_ptr().cast::<u8>();
        let field = |offset: usize, at: usize| {
            // SAFETY: each field of a row is a multiple of 16 bytes long, and the loops below read it to its end.
            #[allow(unsafe_code)]
            unsafe {
                transpose(first.add(offset + at * 16), size_of::<Unpacked>())
            }
        };
        for (at, to) in self.quants.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (to, word) in to.iter_mut().zip(field(std::mem::offset_of!(Unpacked, quants), at)) {
                *to = vsubq_s8(vreinterpretq_s8_u8(word), vdupq_n_s8(B::ZERO as i8));
            }
        }
        for (at, to) in self.scales.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (to, twice) in to.iter_mut().zip(field(std::mem::offset_of!(Unpacked, scales), at)) {
                *to = vshrq_n_s32::<16>(vreinterpretq_s32_u8(twice));
            }
        }
        for (at, to) in self.mins.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let pairs = field(std::mem::offset_of!(Unpacked, mins), at);
            for (to, pair) in to.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
                let pair = vreinterpretq_s32_u8(pair);
                *to = [vmovn_s32(pair), vshrn_n_s32::<16>(pair)];
            }
        }
    }
}

/// The low and the high four bits of each byte.
#[inline]
#[target_feature(enable = "neon")]
fn nibbles(packed: uint8x16_t) -> [uint8x16_t; 2] {
    [vandq_u8(packed, vdupq_n_u8(0xf)), vshrq_n_u8::<4>(packed)]
}
