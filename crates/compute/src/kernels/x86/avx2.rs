//! AVX2: 8 weight rows to a register, four elements of each to a multiply-add pair.
//!
//! `vpmaddubsw` adds two products in i16, which 4- and 5-bit quants cannot overflow; several such sums may even be added
//! before they are widened. 8-bit quants take their sign apart instead of their zero point.

use std::arch::x86_64::*;

use super::stream::Ahead;
use super::unpacked::{Interleaved, with_interleaved};
use crate::kernels::activations::{BlockScale, Q8Rows};
use crate::kernels::blocks::{BLOCK, Block32, Quants};
use crate::kernels::columns::Columns;
use crate::kernels::padded::with_full_panel;
use crate::kernels::panel::{PANEL, Panel};

/// Weight rows of a register.
const HALF: usize = PANEL / 2;
/// Activation rows multiplied at a time: as many as the 16 registers hold.
const TILE: usize = 4;

/// One block of 8 rows in registers; signed bytes stay signed.
#[derive(Clone, Copy)]
struct Eight {
    quants: [__m256i; 8],
    scales: __m256,
    mins: __m256,
}

/// A block's eight words of 8 rows. A trait and no closure: what calls a closure has not its instruction set, and does not inline it.
trait Words: Copy {
    /// # Safety
    /// AVX2 must be there, and `word` be below 8.
    #[allow(unsafe_code)]
    unsafe fn word(self, word: usize) -> __m256i;
}

impl Words for &[__m256i; 8] {
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn word(self, word: usize) -> __m256i {
        self[word]
    }
}

/// Half of a block that was unpacked to memory.
#[derive(Clone, Copy)]
struct InPanel<'a> {
    block: &'a Interleaved,
    half: usize,
}

impl Words for InPanel<'_> {
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn word(self, word: usize) -> __m256i {
        // SAFETY: half of a 64-byte row, which is aligned.
        unsafe { _mm256_load_si256(self.block.quants[word].as_ptr().add(self.half * 32).cast()) }
    }
}

/// See [`crate::kernels::panel::multiply`], which checked the lengths and that this machine has AVX2.
pub(in crate::kernels) fn multiply<B: Block32>(
    weights: Panel<'_, B>,
    activations: &Q8Rows,
    out: &mut Columns<'_>,
) {
    with_full_panel(weights, activations.blocks(), |weights| {
        // SAFETY: the instruction set was detected; `weights` holds 16 rows of as many blocks as the activations have.
        #[allow(unsafe_code)]
        unsafe {
            product(weights, activations, out);
        }
    });
}

/// # Safety
/// AVX2, FMA and F16C must be there, and `weights` hold 16 rows of `activations.blocks()` blocks.
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn product<B: Block32>(weights: Panel<'_, B>, activations: &Q8Rows, out: &mut Columns<'_>) {
    let (rows, blocks) = (activations.rows(), activations.blocks());
    // Of the others unpacking costs less than what four rows' sums and a block of 8 rows spill.
    let bytes = B::QUANTS == Quants::Bytes;
    // SAFETY: the caller's promise; the row ranges end at `rows`.
    unsafe {
        match rows {
            1 => return straight::<1, B>(weights, activations, out),
            2 => return straight::<2, B>(weights, activations, out),
            3 => return straight::<3, B>(weights, activations, out),
            4 if bytes => return straight::<4, B>(weights, activations, out),
            5 if bytes => return straight::<5, B>(weights, activations, out),
            6 if bytes => return straight::<6, B>(weights, activations, out),
            7 if bytes => return straight::<7, B>(weights, activations, out),
            8 if bytes => return straight::<8, B>(weights, activations, out),
            _ => {}
        }
        let (row_stride, block_stride) = weights.strides(blocks);
        let ahead = Ahead::of(&weights);
        with_interleaved(blocks, |panel| {
            for (index, target) in panel.iter_mut().enumerate() {
                ahead.prefetch(index);
                let first = weights.blocks.as_ptr().add(index * block_stride);
                unpack(first, row_stride, target);
            }
            for half in 0..2 {
                let mut row = 0;
                while row + TILE <= rows {
                    tile::<TILE, B>(panel, half, activations, row, out);
                    row += TILE;
                }
                while row < rows {
                    tile::<1, B>(panel, half, activations, row, out);
                    row += 1;
                }
            }
        });
    }
}

/// Products of the panel with `R` activation rows, all there are, each block multiplied as it comes: unpacking to memory first costs
/// more than it saves so few rows.
///
/// # Safety
/// As [`product`]; there must be `R` activation rows.
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn straight<const R: usize, B: Block32>(
    weights: Panel<'_, B>,
    activations: &Q8Rows,
    out: &mut Columns<'_>,
) {
    let blocks = activations.blocks();
    let (row_stride, block_stride) = weights.strides(blocks);
    let (first, ahead) = (weights.blocks.as_ptr(), Ahead::of(&weights));
    let (quants, scales) = rows_from::<R>(activations, 0);
    let mut sums = [[_mm256_setzero_ps(); R]; 2];
    for index in 0..blocks {
        ahead.prefetch(index);
        for (half, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `index < blocks`, so the block of each of the 16 rows lies in the panel, and each of the R rows has it.
            unsafe {
                let eight =
                    eight::<B>(first.add(index * block_stride + half * HALF * row_stride), row_stride);
                let dots = dots::<R, B, _>(&eight.quants, quants.add(index * BLOCK), blocks * BLOCK);
                for r in 0..R {
                    let by = &*scales.add(r * blocks + index);
                    sums[r] = _mm256_add_ps(sums[r], term::<B>(dots[r], by, eight.scales, eight.mins));
                }
            }
        }
    }
    for (half, sums) in sums.into_iter().enumerate() {
        store(sums, half, 0, out);
    }
}

/// Products of half a panel with activation rows `row..row + R`.
///
/// # Safety
/// AVX2 must be there; `panel` must hold `activations.blocks()` blocks, and there must be `row + R` activation rows.
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const R: usize, B: Block32>(
    panel: &[Interleaved],
    half: usize,
    activations: &Q8Rows,
    row: usize,
    out: &mut Columns<'_>,
) {
    let blocks = panel.len();
    let (quants, scales) = rows_from::<R>(activations, row);
    let mut sums = [_mm256_setzero_ps(); R];
    for (index, block) in panel.iter().enumerate() {
        // SAFETY: `index < blocks`, which each of the R rows has; half a row of the panel is one register, and aligned.
        unsafe {
            let words = InPanel { block, half };
            let dots = dots::<R, B, _>(words, quants.add(index * BLOCK), blocks * BLOCK);
            let weight_scales = _mm256_load_ps(block.scales.as_ptr().add(half * HALF));
            let mins = _mm256_load_ps(block.mins.as_ptr().add(half * HALF));
            for r in 0..R {
                let by = &*scales.add(r * blocks + index);
                sums[r] = _mm256_add_ps(sums[r], term::<B>(dots[r], by, weight_scales, mins));
            }
        }
    }
    store(sums, half, row, out);
}

/// Writes the sums of 8 columns, as far as there are columns.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store<const R: usize>(sums: [__m256; R], half: usize, row: usize, out: &mut Columns<'_>) {
    if half * HALF >= out.width() {
        return;
    }
    for (r, sum) in sums.into_iter().enumerate() {
        let mut values = [0f32; HALF];
        // SAFETY: `values` is 32 bytes.
        #[allow(unsafe_code)]
        unsafe {
            _mm256_storeu_ps(values.as_mut_ptr(), sum);
        }
        out.set(row + r, half * HALF, &values);
    }
}

/// Quants and scales of activation rows `row..row + R`.
///
/// # Panics
/// If there are not so many.
fn rows_from<const R: usize>(activations: &Q8Rows, row: usize) -> (*const i8, *const BlockScale) {
    let blocks = activations.blocks();
    let quants = &activations.quants()[row * blocks * BLOCK..][..R * blocks * BLOCK];
    let scales = &activations.scales()[row * blocks..][..R * blocks];
    (quants.as_ptr(), scales.as_ptr())
}

/// What a block adds to the sums of 8 rows, of its dot products with an activation row.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn term<B: Block32>(dot: __m256i, by: &BlockScale, scales: __m256, mins: __m256) -> __m256 {
    let mut dot = dot;
    if B::ZERO != 0 && B::QUANTS != Quants::Bytes {
        dot = _mm256_add_epi32(dot, _mm256_set1_epi32(by.negated * B::ZERO));
    }
    let dot = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), scales);
    let term = _mm256_mul_ps(dot, _mm256_set1_ps(by.scale));
    if B::HAS_MIN { _mm256_add_ps(term, _mm256_mul_ps(mins, _mm256_set1_ps(by.sum))) } else { term }
}

/// Dot products of one block of 8 rows with one block of `R` activation rows.
///
/// # Safety
/// 32 bytes must be readable at `quants + r * stride` for each `r`.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dots<const R: usize, B: Block32, W: Words>(
    words: W,
    quants: *const i8,
    stride: usize,
) -> [__m256i; R] {
    // How many i16 pair sums of the largest quants stay below 2^15: 2 * 15 * 127 * 8 and 2 * 31 * 127 * 4.
    let group = match B::QUANTS {
        Quants::Nibbles => 8,
        Quants::NibblesAndBit => 4,
        Quants::Bytes => 1,
    };
    let ones = _mm256_set1_epi16(1);
    let mut dots = [_mm256_setzero_si256(); R];
    for first in (0..8).step_by(group) {
        let mut pairs = [_mm256_setzero_si256(); R];
        for word in first..first + group {
            // SAFETY: there are eight words.
            let weights = unsafe { words.word(word) };
            for (r, pairs) in pairs.iter_mut().enumerate() {
                // SAFETY: the caller's promise; there are eight words.
                let four = unsafe { quants.add(r * stride + word * 4).cast::<i32>().read_unaligned() };
                let four = _mm256_set1_epi32(four);
                let products = if B::QUANTS == Quants::Bytes {
                    _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(four, weights))
                } else {
                    _mm256_maddubs_epi16(weights, four)
                };
                *pairs = if word == first { products } else { _mm256_add_epi16(*pairs, products) };
            }
        }
        for (dot, pairs) in dots.iter_mut().zip(pairs) {
            *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, ones));
        }
    }
    dots
}

/// Interleaves one block of 16 rows; `first` is row 0's block. Signed bytes stay signed.
///
/// # Safety
/// AVX2 and F16C must be there, and blocks readable at `first + row * row_stride` for 16 rows.
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,f16c")]
unsafe fn unpack<B: Block32>(first: *const B, row_stride: usize, target: &mut Interleaved) {
    for half in 0..2 {
        // SAFETY: each store stays within its half of a 64-byte row of the panel.
        unsafe {
            let Eight { quants, scales, mins } = eight(first.add(half * HALF * row_stride), row_stride);
            for (target, quants) in target.quants.iter_mut().zip(quants) {
                _mm256_store_si256(target.as_mut_ptr().add(half * 32).cast(), quants);
            }
            _mm256_store_ps(target.scales.as_mut_ptr().add(half * HALF), scales);
            _mm256_store_ps(target.mins.as_mut_ptr().add(half * HALF), mins);
        }
    }
}

/// Interleaves one block of 8 rows; `first` is the first one's.
///
/// # Safety
/// AVX2 and F16C must be there, and blocks readable at `first + row * row_stride` for 8 rows.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn eight<B: Block32>(first: *const B, row_stride: usize) -> Eight {
    let stride = row_stride * size_of::<B>();
    let first = first.cast::<u8>();
    // SAFETY: each load stays within its row's block.
    let ([head, next, ..], low) =
        unsafe { (transpose(first, stride), transpose(first.add(B::QUANTS_AT), stride)) };
    let mut quants = [_mm256_setzero_si256(); 8];
    if B::QUANTS == Quants::Bytes {
        // SAFETY: as above.
        let high = unsafe { transpose(first.add(B::QUANTS_AT + 16), stride) };
        quants[..4].copy_from_slice(&low);
        quants[4..].copy_from_slice(&high);
    } else {
        let nibble = _mm256_set1_epi8(0xf);
        for (i, low) in low.into_iter().enumerate() {
            quants[i] = _mm256_and_si256(low, nibble);
            quants[i + 4] = _mm256_and_si256(_mm256_srli_epi16::<4>(low), nibble);
        }
    }
    if B::QUANTS == Quants::NibblesAndBit {
        // The bits follow the scales: word 1, or the word that straddles 0 and 1 when there is no minimum.
        let bits = if B::HAS_MIN {
            next
        } else {
            _mm256_or_si256(_mm256_srli_epi32::<16>(head), _mm256_slli_epi32::<16>(next))
        };
        for (word, quants) in quants.iter_mut().enumerate() {
            let four = _mm256_srlv_epi32(bits, _mm256_set1_epi32(4 * word as i32));
            *quants = _mm256_or_si256(*quants, spread_bits(four));
        }
    }
    let mins = if B::HAS_MIN { halves(_mm256_srli_epi32::<16>(head)) } else { _mm256_setzero_ps() };
    Eight { quants, scales: halves(head), mins }
}

/// Four 32-bit words of 8 rows: register `w` of the result holds word `w` of rows 0 to 7.
///
/// # Safety
/// Sixteen bytes must be readable at `first + row * stride` for each row.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn transpose(first: *const u8, stride: usize) -> [__m256i; 4] {
    let rows: [__m256i; 4] = std::array::from_fn(|i| {
        // SAFETY: the caller's promise.
        unsafe {
            let row = |r: usize| _mm_loadu_si128(first.add(r * stride).cast());
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(row(i)), row(i + 4))
        }
    });
    let low = [_mm256_unpacklo_epi32(rows[0], rows[1]), _mm256_unpacklo_epi32(rows[2], rows[3])];
    let high = [_mm256_unpackhi_epi32(rows[0], rows[1]), _mm256_unpackhi_epi32(rows[2], rows[3])];
    [
        _mm256_unpacklo_epi64(low[0], low[1]),
        _mm256_unpackhi_epi64(low[0], low[1]),
        _mm256_unpacklo_epi64(high[0], high[1]),
        _mm256_unpackhi_epi64(high[0], high[1]),
    ]
}

/// Bit `i` of each word as bit 4 of the word's byte `i`.
#[inline]
#[target_feature(enable = "avx2")]
fn spread_bits(words: __m256i) -> __m256i {
    // The multiplication puts copies 7 bits apart, so bit `i` of copy `i` falls on bit `8 * i`.
    let copies =
        _mm256_mullo_epi32(_mm256_and_si256(words, _mm256_set1_epi32(0xf)), _mm256_set1_epi32(0x0020_4081));
    _mm256_slli_epi32::<4>(_mm256_and_si256(copies, _mm256_set1_epi32(0x0101_0101)))
}

/// The low 16 bits of each word, as f16.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn halves(words: __m256i) -> __m256 {
    let low = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
    let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(low, low));
    _mm256_cvtph_ps(_mm256_castsi256_si128(packed))
}
