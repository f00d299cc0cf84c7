//! `Q4_K`, `Q5_K` and `Q6_K` of 8 rows, taken apart in registers.

use std::arch::x86_64::*;

use super::super::super::avx2::{halves, transpose};
use super::{HALF, Heads, store};
use crate::kernels::panel::{Order, PANEL, Panel};
use crate::kernels::superblocks::formats::{Format, Q4K, Q5K, Q6K, SuperBlock};
use crate::kernels::weave::words_end;

/// One block of each of 8 rows.
pub(super) trait Rows: Copy {
    /// Four words of each row, from byte `at` of its block on, a multiple of 16.
    ///
    /// # Safety
    /// The blocks must reach so far and the machine have AVX2.
    #[allow(unsafe_code)]
    unsafe fn four(self, at: usize) -> [__m256i; 4];

    /// The f16 that ends each row's block of `B`, which is two bytes longer than its words.
    ///
    /// # Safety
    /// As for [`Rows::four`], and the machine have F16C.
    #[allow(unsafe_code)]
    unsafe fn last_half<B>(self) -> __m256;
}

/// What becomes of the quants. A trait and no closure: what calls a closure has not its instruction set, and does not inline it.
pub(super) trait Take {
    /// Takes four words of quants from `word` on, a word being four elements of each row. The four share their scale.
    ///
    /// # Safety
    /// The machine must have AVX2, and `word` be a multiple of 4 and within a block.
    #[allow(unsafe_code)]
    unsafe fn take(&mut self, word: usize, quad: [__m256i; 4]);
}

/// Blocks that lie so many bytes apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Apart(*const u8, usize);

/// Blocks that were [woven](crate::kernels::weave) together with those of the panel's other 8 rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Woven {
    /// The words of all 16 rows.
    words: *const u8,
    /// Which of these rows come first.
    row: usize,
}

impl Apart {
    /// Block `index` of half of a panel's rows of `blocks` blocks.
    ///
    /// # Panics
    /// If there are not so many.
    pub(super) fn of<B: SuperBlock>(
        weights: &Panel<'_, B>,
        half: usize,
        index: usize,
        blocks: usize,
    ) -> Self {
        check(weights, false, half, index, blocks);
        let (row_stride, block_stride) = weights.strides(blocks);
        let first = &weights.blocks[index * block_stride + half * HALF * row_stride..];
        Self(first.as_ptr().cast(), row_stride * size_of::<B>())
    }
}

impl Woven {
    /// As [`Apart::of`].
    pub(super) fn of<B: SuperBlock>(
        weights: &Panel<'_, B>,
        half: usize,
        index: usize,
        blocks: usize,
    ) -> Self {
        check(weights, true, half, index, blocks);
        Self { words: weights.blocks[index * PANEL..].as_ptr().cast(), row: half * HALF }
    }
}

/// # Panics
/// If the panel, woven or not, has no such block.
fn check<B>(weights: &Panel<'_, B>, woven: bool, half: usize, index: usize, blocks: usize) {
    assert!(half < 2 && index < blocks, "no such block");
    assert_eq!(
        (weights.blocks.len(), weights.order == Order::Woven),
        (PANEL * blocks, woven),
        "not such a panel"
    );
}

impl Rows for Apart {
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn four(self, at: usize) -> [__m256i; 4] {
        // SAFETY: the caller's promise.
        unsafe { transpose(self.0.add(at), self.1) }
    }

    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn last_half<B>(self) -> __m256 {
        // SAFETY: the caller's promise; what is loaded with it lies before it.
        let [.., last] = unsafe { transpose(self.0.add(size_of::<B>() - 16), self.1) };
        halves(_mm256_srli_epi32::<16>(last))
    }
}

impl Rows for Woven {
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn four(self, at: usize) -> [__m256i; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let first = self.words.add(at * PANEL + self.row * 4).cast::<__m256i>();
            [0, 2, 4, 6].map(|half_line| _mm256_loadu_si256(first.add(half_line)))
        }
    }

    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn last_half<B>(self) -> __m256 {
        const { assert!(size_of::<B>() == words_end::<B>() + 2) };
        // SAFETY: the caller's promise.
        unsafe {
            _mm256_cvtph_ps(_mm_loadu_si128(self.words.add(words_end::<B>() * PANEL + self.row * 2).cast()))
        }
    }
}

/// Unpacks scales and minima.
///
/// # Safety
/// `rows` must be blocks of `B`, a format that this file knows.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn heads<B: SuperBlock, R: Rows>(rows: R, to: &mut Heads) {
    // SAFETY: the parts lie in the format's block.
    unsafe {
        match B::FORMAT {
            Format::Q6K => {
                signed_scales(rows.four(Q6K::SCALES_AT), to);
                let scale = _mm256_castps_si256(rows.last_half::<Q6K>());
                store(&mut to.scale, scale);
                store(&mut to.min, scale);
            }
            _ => six_bit_scales(rows.four(0), to),
        }
    }
}

/// Gives every four words of quants to `to`, in no particular order.
///
/// # Safety
/// As for [`heads`].
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn quads<B: SuperBlock, R: Rows, T: Take>(rows: R, to: &mut T) {
    // SAFETY: each 16 bytes lie in the format's block.
    unsafe {
        match B::FORMAT {
            Format::Q4K => {
                for at in 0..8 {
                    let packed = rows.four(Q4K::QUANTS_AT + at * 16);
                    let word = at / 2 * 16 + at % 2 * 4;
                    to.take(word, low(packed));
                    to.take(word + 8, low(upper(packed)));
                }
            }
            Format::Q5K => {
                for at in 0..8 {
                    let packed = rows.four(Q5K::QUANTS_AT + at * 16);
                    let high = rows.four(Q5K::HIGH_AT + at % 2 * 16);
                    let span = at / 2 * 2;
                    let word = span * 8 + at % 2 * 4;
                    to.take(word, with_bits::<1>(low(packed), high, span));
                    to.take(word + 8, with_bits::<1>(low(upper(packed)), high, span + 1));
                }
            }
            _ => {
                for half in 0..2 {
                    for at in 0..4 {
                        let packed = rows.four(half * 64 + at * 16);
                        let high = rows.four(Q6K::HIGH_AT + half * 32 + at % 2 * 16);
                        let quarter = at / 2;
                        let word = (half * 4 + quarter) * 8 + at % 2 * 4;
                        to.take(word, with_bits::<3>(low(packed), high, 2 * quarter));
                        to.take(word + 16, with_bits::<3>(low(upper(packed)), high, 2 * quarter + 4));
                    }
                }
            }
        }
    }
}

/// The low nibble of each byte.
#[inline]
#[target_feature(enable = "avx2")]
fn low(packed: [__m256i; 4]) -> [__m256i; 4] {
    let nibble = _mm256_set1_epi8(0xf);
    let mut quants = packed;
    for quants in &mut quants {
        *quants = _mm256_and_si256(*quants, nibble);
    }
    quants
}

/// The high nibble of each byte in its low one, with bits of its neighbour above it.
#[inline]
#[target_feature(enable = "avx2")]
fn upper(packed: [__m256i; 4]) -> [__m256i; 4] {
    let mut quants = packed;
    for quants in &mut quants {
        *quants = _mm256_srli_epi16::<4>(*quants);
    }
    quants
}

/// Nibbles with the bits `MASK`, from bit `from` of each byte of `high` on, put above them.
#[inline]
#[target_feature(enable = "avx2")]
fn with_bits<const MASK: i8>(nibbles: [__m256i; 4], high: [__m256i; 4], from: usize) -> [__m256i; 4] {
    let shift = _mm_cvtsi32_si128(from as i32);
    let mut quants = nibbles;
    for (quants, high) in quants.iter_mut().zip(high) {
        let bits = _mm256_and_si256(_mm256_srl_epi16(high, shift), _mm256_set1_epi8(MASK));
        *quants = _mm256_or_si256(*quants, _mm256_slli_epi16::<4>(bits));
    }
    quants
}

/// Scales of `Q6_K`, whose minima are the scales times 32: its quants stand 32 too high.
#[inline]
#[target_feature(enable = "avx2")]
fn signed_scales(words: [__m256i; 4], to: &mut Heads) {
    for (word, scales) in words.into_iter().enumerate() {
        for byte in 0..4 {
            let high = bytes_at(scales, [NONE, byte, NONE, byte]);
            store(&mut to.scales[word * 4 + byte as usize], _mm256_srai_epi16::<8>(high));
        }
        for pair in 0..2 {
            // What stands 8 bits too high is shifted back by 3 of them: times 32, which stays within 16 bits.
            let high = bytes_at(scales, [NONE, pair * 2, NONE, pair * 2 + 1]);
            store(&mut to.mins[word * 2 + pair as usize], _mm256_srai_epi16::<3>(high));
        }
    }
}

/// Scales and minima of `Q4_K` and `Q5_K` from the words of their heads: the factors, then 12 bytes that hold the first
/// four in the low bits of their words 0 and 1, and of the others four bits in word 2 and two in words 0 and 1.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn six_bit_scales([factors, scales, mins, rest]: [__m256i; 4], to: &mut Heads) {
    store(&mut to.scale, _mm256_castps_si256(halves(factors)));
    store(&mut to.min, _mm256_castps_si256(halves(_mm256_srli_epi32::<16>(factors))));
    let six = _mm256_set1_epi8(0x3f);
    let four = _mm256_set1_epi8(0xf);
    let two = _mm256_set1_epi8(0x30);
    let high = |word: __m256i| _mm256_and_si256(_mm256_srli_epi32::<2>(word), two);
    let later_scales = _mm256_or_si256(_mm256_and_si256(rest, four), high(scales));
    let later_mins = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi32::<4>(rest), four), high(mins));
    let scales = [_mm256_and_si256(scales, six), later_scales];
    let mins = [_mm256_and_si256(mins, six), later_mins];
    for span in 0..8 {
        let byte = (span % 4) as i8;
        let twice = |words: [__m256i; 2]| bytes_at(words[span / 4], [byte, NONE, byte, NONE]);
        store(&mut to.scales[span], twice(scales));
        store(&mut to.mins[span], twice(mins));
    }
}

/// No byte of a word, for [`bytes_at`]: a zero.
const NONE: i8 = -128;

/// Of each 32-bit word the bytes with these numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes_at(words: __m256i, numbers: [i8; 4]) -> __m256i {
    let numbers = _mm256_set1_epi32(i32::from_le_bytes(numbers.map(|number| number as u8)));
    let first = _mm_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c);
    // Of a number only the lowest four bits and the sign are looked at.
    _mm256_shuffle_epi8(words, _mm256_or_si256(numbers, _mm256_broadcastsi128_si256(first)))
}
