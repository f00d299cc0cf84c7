//! AVX2: 8 weight rows to a register, four elements of each to a multiply-add pair.
//!
//! `vpmaddubsw` adds two products in i16, which 4- and 5-bit quants cannot overflow; several such sums may even be added
//! before they are widened. 8-bit quants take their sign apart instead of their zero point.

use std::arch::x86_64::*;

use super::unpacked::{Interleaved, with_interleaved};
use crate::kernels::activations::Q8Rows;
use crate::kernels::blocks::{BLOCK, Block32, Quants};
use crate::kernels::columns::Columns;
use crate::kernels::padded::with_full_panel;
use crate::kernels::panel::{PANEL, Panel};

/// Weight rows of a register.
const HALF: usize = PANEL / 2;
/// Activation rows multiplied at a time: as many as the 16 registers hold.
const TILE: usize = 4;

/// See [`crate::kernels::panel::multiply`], which checked the lengths and that this machine has AVX2.
pub(in crate::kernels) fn multiply<B: Block32>(
    weights: Panel<'_, B>,
    activations: &Q8Rows,
    out: &mut Columns<'_>,
) {
    let (rows, blocks) = (activations.rows(), activations.blocks());
    let (row_stride, block_stride) = weights.strides(blocks);
    with_full_panel(weights, blocks, |weights| {
        with_interleaved(blocks, |panel| {
            // SAFETY: the instruction set was detected; `weights` holds 16 rows of `blocks` blocks, and the row ranges end
            // at `rows`.
            #[allow(unsafe_code)]
            unsafe {
                for (index, target) in panel.iter_mut().enumerate() {
                    unpack(weights.blocks.as_ptr().add(index * block_stride), row_stride, target);
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
            }
        });
    });
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
    let quants = activations.quants()[row * blocks * BLOCK..][..R * blocks * BLOCK].as_ptr();
    let scales = activations.scales()[row * blocks..][..R * blocks].as_ptr();
    let mut sums = [_mm256_setzero_ps(); R];
    for (index, block) in panel.iter().enumerate() {
        // SAFETY: `index < blocks`; the slices above hold R rows of `blocks` blocks; half a row of the panel is one register.
        unsafe {
            let dots = dots::<R, B>(block, half, quants.add(index * BLOCK), blocks * BLOCK);
            for r in 0..R {
                let by = &*scales.add(r * blocks + index);
                let mut dot = dots[r];
                if B::ZERO != 0 && B::QUANTS != Quants::Bytes {
                    dot = _mm256_add_epi32(dot, _mm256_set1_epi32(by.negated * B::ZERO));
                }
                let dot = _mm256_mul_ps(
                    _mm256_cvtepi32_ps(dot),
                    _mm256_load_ps(block.scales.as_ptr().add(half * HALF)),
                );
                let mut term = _mm256_mul_ps(dot, _mm256_set1_ps(by.scale));
                if B::HAS_MIN {
                    let mins = _mm256_load_ps(block.mins.as_ptr().add(half * HALF));
                    term = _mm256_add_ps(term, _mm256_mul_ps(mins, _mm256_set1_ps(by.sum)));
                }
                sums[r] = _mm256_add_ps(sums[r], term);
            }
        }
    }
    for (r, sum) in sums.into_iter().enumerate() {
        if half * HALF < out.width() {
            let mut values = [0f32; HALF];
            // SAFETY: `values` is 32 bytes.
            unsafe { _mm256_storeu_ps(values.as_mut_ptr(), sum) };
            out.set(row + r, half * HALF, &values);
        }
    }
}

/// Dot products of one block of 8 rows with one block of `R` activation rows.
///
/// # Safety
/// 32 bytes must be readable at `quants + r * stride` for each `r`.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dots<const R: usize, B: Block32>(
    block: &Interleaved,
    half: usize,
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
    for words in block.quants.chunks_exact(group) {
        let mut pairs = [_mm256_setzero_si256(); R];
        for (i, word) in words.iter().enumerate() {
            // SAFETY: half of a 64-byte row; the words are consecutive, so their index follows from their address.
            unsafe {
                let at = word.as_ptr().offset_from_unsigned(block.quants.as_ptr().cast::<u8>()) / (4 * PANEL);
                let weights = _mm256_load_si256(word.as_ptr().add(half * 32).cast());
                for (r, pairs) in pairs.iter_mut().enumerate() {
                    let four = quants.add(r * stride + at * 4).cast::<i32>().read_unaligned();
                    let four = _mm256_set1_epi32(four);
                    let products = if B::QUANTS == Quants::Bytes {
                        _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(four, weights))
                    } else {
                        _mm256_maddubs_epi16(weights, four)
                    };
                    *pairs = if i == 0 { products } else { _mm256_add_epi16(*pairs, products) };
                }
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
    let stride = row_stride * size_of::<B>();
    let nibble = _mm256_set1_epi8(0xf);
    for half in 0..2 {
        // SAFETY: each load stays within its row's block, each store within its half of a 64-byte row of the panel.
        unsafe {
            let first = first.add(half * HALF * row_stride).cast::<u8>();
            let mut store = |word: usize, value: __m256i| {
                _mm256_store_si256(target.quants[word].as_mut_ptr().add(half * 32).cast(), value);
            };
            let [head, next, ..] = transpose(first, stride);
            let low = transpose(first.add(B::QUANTS_AT), stride);
            if B::QUANTS == Quants::Bytes {
                let high = transpose(first.add(B::QUANTS_AT + 16), stride);
                for i in 0..4 {
                    store(i, low[i]);
                    store(i + 4, high[i]);
                }
            } else {
                let bits = match (B::QUANTS, B::HAS_MIN) {
                    (Quants::NibblesAndBit, true) => next,
                    (Quants::NibblesAndBit, false) => {
                        _mm256_or_si256(_mm256_srli_epi32::<16>(head), _mm256_slli_epi32::<16>(next))
                    }
                    _ => _mm256_setzero_si256(),
                };
                for (i, low) in low.into_iter().enumerate() {
                    let packed = [low, _mm256_srli_epi16::<4>(low)];
                    for (word, packed) in [i, i + 4].into_iter().zip(packed) {
                        let quants = _mm256_and_si256(packed, nibble);
                        let four = _mm256_srlv_epi32(bits, _mm256_set1_epi32(4 * word as i32));
                        store(word, _mm256_or_si256(quants, spread_bits(four)));
                    }
                }
            }
            _mm256_store_ps(target.scales.as_mut_ptr().add(half * HALF), halves(head));
            let mins = if B::HAS_MIN { _mm256_srli_epi32::<16>(head) } else { _mm256_setzero_si256() };
            _mm256_store_ps(target.mins.as_mut_ptr().add(half * HALF), halves(mins));
        }
    }
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
fn halves(words: __m256i) -> __m256 {
    let low = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
    let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(low, low));
    _mm256_cvtph_ps(_mm256_castsi256_si128(packed))
}
