//! AVX-512: `Q4_K`, `Q5_K` and `Q6_K` of 16 rows, taken apart in registers.

use std::arch::x86_64::*;

use super::super::vnni::{halves, transpose};
use super::vnni::{Heads, store};
use crate::kernels::panel::{Order, PANEL, Panel};
use crate::kernels::superblocks::formats::{Format, Q4K, Q5K, Q6K, SuperBlock};
use crate::kernels::weave::words_end;

/// One block of each of 16 rows.
pub(super) trait Rows: Copy {
    /// Four words of each row, from byte `at` of its block on, a multiple of 16.
    ///
    /// # Safety
    /// The blocks must reach so far and the machine have AVX-512.
    #[allow(unsafe_code)]
    unsafe fn four(self, at: usize) -> [__m512i; 4];

    /// The f16 that ends each row's block of `B`, which is two bytes longer than its words.
    ///
    /// # Safety
    /// As for [`Rows::four`].
    #[allow(unsafe_code)]
    unsafe fn last_half<B>(self) -> __m512;
}

/// Blocks that lie so many bytes apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Apart(*const u8, usize);

/// Blocks that were [woven](crate::kernels::weave) together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Woven(*const u8);

impl Apart {
    /// Block `index` of the panel's rows of `blocks` blocks.
    ///
    /// # Panics
    /// If there are not so many.
    pub(super) fn of<B: SuperBlock>(weights: &Panel<'_, B>, index: usize, blocks: usize) -> Self {
        assert!(index < blocks && weights.blocks.len() == PANEL * blocks && weights.order != Order::Woven);
        let (row_stride, block_stride) = weights.strides(blocks);
        Self(weights.blocks[index * block_stride..].as_ptr().cast(), row_stride * size_of::<B>())
    }
}

impl Woven {
    /// As [`Apart::of`].
    pub(super) fn of<B: SuperBlock>(weights: &Panel<'_, B>, index: usize, blocks: usize) -> Self {
        assert!(index < blocks && weights.blocks.len() == PANEL * blocks && weights.order == Order::Woven);
        Self(weights.blocks[index * PANEL..].as_ptr().cast())
    }
}

impl Rows for Apart {
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
    unsafe fn four(self, at: usize) -> [__m512i; 4] {
        // SAFETY: the caller's promise.
        unsafe { transpose(self.0.add(at), self.1) }
    }

    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
    unsafe fn last_half<B>(self) -> __m512 {
        // SAFETY: the caller's promise; what is loaded with it lies before it.
        let [.., last] = unsafe { transpose(self.0.add(size_of::<B>() - 16), self.1) };
        halves(_mm512_srli_epi32::<16>(last))
    }
}

impl Rows for Woven {
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
    unsafe fn four(self, at: usize) -> [__m512i; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let first = self.0.add(at * PANEL);
            std::array::from_fn(|word| _mm512_loadu_si512(first.add(word * 64).cast()))
        }
    }

    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
    unsafe fn last_half<B>(self) -> __m512 {
        const { assert!(size_of::<B>() == words_end::<B>() + 2) };
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(self.0.add(words_end::<B>() * PANEL).cast())) }
    }
}

/// Unpacks scales and minima.
///
/// # Safety
/// `rows` must be blocks of `B`, a format that this file knows.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
pub(super) unsafe fn heads<B: SuperBlock>(rows: impl Rows, to: &mut Heads) {
    // SAFETY: the parts lie in the format's block.
    unsafe {
        match B::FORMAT {
            Format::Q6K => {
                signed_scales(rows.four(Q6K::SCALES_AT), to);
                let scale = _mm512_castps_si512(rows.last_half::<Q6K>());
                store(&mut to.scale, scale);
                store(&mut to.min, scale);
            }
            _ => six_bit_scales(rows.four(0), to),
        }
    }
}

/// Calls `take(word, quads)` for every four words of quants, a word being four elements of each row, in no particular order. The
/// four share their scale.
///
/// # Safety
/// As for [`heads`].
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
pub(super) unsafe fn quads<B: SuperBlock>(rows: impl Rows, mut take: impl FnMut(usize, [__m512i; 4])) {
    let nibble = _mm512_set1_epi8(0xf);
    let low = |packed: [__m512i; 4]| packed.map(|word| _mm512_and_si512(word, nibble));
    let upper = |packed: [__m512i; 4]| packed.map(|word| _mm512_srli_epi16::<4>(word));
    // SAFETY: each 16 bytes lie in the format's block.
    unsafe {
        match B::FORMAT {
            Format::Q4K => {
                for at in 0..8 {
                    let packed = rows.four(Q4K::QUANTS_AT + at * 16);
                    let word = at / 2 * 16 + at % 2 * 4;
                    take(word, low(packed));
                    take(word + 8, low(upper(packed)));
                }
            }
            Format::Q5K => {
                let high = [rows.four(Q5K::HIGH_AT), rows.four(Q5K::HIGH_AT + 16)];
                for at in 0..8 {
                    let packed = rows.four(Q5K::QUANTS_AT + at * 16);
                    let span = at / 2 * 2;
                    let word = span * 8 + at % 2 * 4;
                    take(word, with_bits::<1>(low(packed), high[at % 2], span));
                    take(word + 8, with_bits::<1>(low(upper(packed)), high[at % 2], span + 1));
                }
            }
            _ => {
                for half in 0..2 {
                    for at in 0..4 {
                        let packed = rows.four(half * 64 + at * 16);
                        let high = rows.four(Q6K::HIGH_AT + half * 32 + at % 2 * 16);
                        let quarter = at / 2;
                        let word = (half * 4 + quarter) * 8 + at % 2 * 4;
                        take(word, with_bits::<3>(low(packed), high, 2 * quarter));
                        take(word + 16, with_bits::<3>(low(upper(packed)), high, 2 * quarter + 4));
                    }
                }
            }
        }
    }
}

/// Nibbles with the bits `MASK`, from bit `from` of each byte of `high` on, put above them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn with_bits<const MASK: i8>(nibbles: [__m512i; 4], high: [__m512i; 4], from: usize) -> [__m512i; 4] {
    let shift = _mm_cvtsi32_si128(from as i32);
    let mut quants = nibbles;
    for (quants, high) in quants.iter_mut().zip(high) {
        let bits = _mm512_and_si512(_mm512_srl_epi16(high, shift), _mm512_set1_epi8(MASK));
        *quants = _mm512_or_si512(*quants, _mm512_slli_epi16::<4>(bits));
    }
    quants
}

/// Scales of `Q6_K`, whose minima are the scales times 32: its quants stand 32 too high.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn signed_scales(scales: [__m512i; 4], to: &mut Heads) {
    for (word, scales) in scales.into_iter().enumerate() {
        let parts = [
            _mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(scales)),
            _mm512_srai_epi32::<24>(_mm512_slli_epi32::<16>(scales)),
            _mm512_srai_epi32::<24>(_mm512_slli_epi32::<8>(scales)),
            _mm512_srai_epi32::<24>(scales),
        ];
        for (part, scale) in parts.into_iter().enumerate() {
            store(&mut to.scales[word * 4 + part], scale);
        }
        for pair in 0..2 {
            // A scale times 32 stays within 16 bits.
            let low = _mm512_and_si512(parts[pair * 2], _mm512_set1_epi32(0xffff));
            let both = _mm512_or_si512(low, _mm512_slli_epi32::<16>(parts[pair * 2 + 1]));
            store(&mut to.mins[word * 2 + pair], _mm512_slli_epi16::<5>(both));
        }
    }
}

/// Scales and minima of `Q4_K` and `Q5_K` from the words of their heads: the factors, then 12 bytes that hold the first
/// four in the low bits of their words 0 and 1, and of the others four bits in word 2 and two in words 0 and 1.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
fn six_bit_scales([factors, scales, mins, rest]: [__m512i; 4], to: &mut Heads) {
    store(&mut to.scale, _mm512_castps_si512(halves(factors)));
    store(&mut to.min, _mm512_castps_si512(halves(_mm512_srli_epi32::<16>(factors))));
    let six = _mm512_set1_epi8(0x3f);
    let four = _mm512_set1_epi8(0xf);
    let two = _mm512_set1_epi8(0x30);
    let high = |word: __m512i| _mm512_and_si512(_mm512_srli_epi32::<2>(word), two);
    let later_scales = _mm512_or_si512(_mm512_and_si512(rest, four), high(scales));
    let later_mins = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32::<4>(rest), four), high(mins));
    let scales = [_mm512_and_si512(scales, six), later_scales];
    let mins = [_mm512_and_si512(mins, six), later_mins];
    let byte = _mm512_set1_epi32(0xff);
    for span in 0..8 {
        let shift = _mm_cvtsi32_si128((span % 4 * 8) as i32);
        let part = |words: [__m512i; 2]| _mm512_and_si512(_mm512_srl_epi32(words[span / 4], shift), byte);
        store(&mut to.scales[span], part(scales));
        let min = part(mins);
        store(&mut to.mins[span], _mm512_or_si512(min, _mm512_slli_epi32::<16>(min)));
    }
}
