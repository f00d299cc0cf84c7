//! AVX-512 VNNI: 16 weight rows to a register, four elements of each to an instruction.
//!
//! Rows are interleaved by 4x4 transposes of 32-bit words while still packed, as in [`super::super::vnni`]; the nibbles,
//! high bits and scales of 16 rows are then taken apart by the same few instructions. Blocks hold too much for registers,
//! so they are always unpacked to memory: one at a time for few activation rows, the whole panel for many.

use std::arch::x86_64::*;
use std::cell::RefCell;

use bytemuck::Zeroable;

use super::super::stream::Ahead;
use super::super::vnni::{halves, transpose};
use crate::kernels::columns::Columns;
use crate::kernels::padded::with_full_panel;
use crate::kernels::panel::{PANEL, Panel};
use crate::kernels::superblocks::activations::{Q8K, Q8KRows};
use crate::kernels::superblocks::formats::{Format, Q4K, Q5K, Q6K, SUPERBLOCK, SuperBlock, Unpacked};

/// Activation rows multiplied at a time.
const TILE: usize = 8;
/// 32-bit words of a block's quants.
const WORDS: usize = SUPERBLOCK / 4;

/// One block of 16 rows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Interleaved {
    /// `[element / 4][row][element % 4]`: one dot product instruction takes four elements of every row.
    quants: [[u8; 4 * PANEL]; WORDS],
    /// `[span][row]`: the scale of elements that share one.
    scales: [[i32; PANEL]; 16],
    /// `[part / 2][row][part % 2]`.
    mins: [[[i16; 2]; PANEL]; 8],
    /// Factor on the scales, by row.
    scale: [f32; PANEL],
    /// Factor on the minima, by row.
    min: [f32; PANEL],
}

impl Interleaved {
    const ZERO: Self = Self {
        quants: [[0; 4 * PANEL]; WORDS],
        scales: [[0; PANEL]; 16],
        mins: [[[0; 2]; PANEL]; 8],
        scale: [0.0; PANEL],
        min: [0.0; PANEL],
    };
}

thread_local! {
    static INTERLEAVED: RefCell<Vec<Interleaved>> = const { RefCell::new(Vec::new()) };
}

/// See [`crate::kernels::superblocks::multiply`], which checked the lengths and that this machine has AVX-512 VNNI.
pub(in crate::kernels) fn multiply<B: SuperBlock>(
    weights: Panel<'_, B>,
    activations: &Q8KRows,
    out: &mut Columns<'_>,
) {
    let blocks = activations.blocks();
    with_full_panel(weights, blocks, |weights| {
        INTERLEAVED.with_borrow_mut(|panel| {
            if panel.len() < blocks {
                panel.resize(blocks, Interleaved::ZERO);
            }
            // SAFETY: the instruction set was detected; `weights` holds 16 rows of `blocks` blocks.
            #[allow(unsafe_code)]
            unsafe {
                product(weights, activations, &mut panel[..blocks], out);
            }
        });
    });
}

/// # Safety
/// `weights` must hold 16 rows of `activations.blocks()` blocks.
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn product<B: SuperBlock>(
    weights: Panel<'_, B>,
    activations: &Q8KRows,
    panel: &mut [Interleaved],
    out: &mut Columns<'_>,
) {
    let rows = activations.rows();
    // SAFETY: the rows of `weights` are as long as `panel`; the row ranges end at `rows`.
    unsafe {
        match rows {
            1 => return few::<1, B>(weights, activations, panel, out),
            2 => return few::<2, B>(weights, activations, panel, out),
            3 => return few::<3, B>(weights, activations, panel, out),
            4 => return few::<4, B>(weights, activations, panel, out),
            _ => {}
        }
        for (index, target) in panel.iter_mut().enumerate() {
            interleave(weights, index, activations.blocks(), target);
        }
        let mut row = 0;
        while row + TILE <= rows {
            tile::<TILE, B>(panel, activations, row, out);
            row += TILE;
        }
        if row + 4 <= rows {
            tile::<4, B>(panel, activations, row, out);
            row += 4;
        }
        match rows - row {
            3 => tile::<3, B>(panel, activations, row, out),
            2 => tile::<2, B>(panel, activations, row, out),
            1 => tile::<1, B>(panel, activations, row, out),
            _ => {}
        }
    }
}

/// Products with `R` activation rows, all there are; each block is multiplied as soon as it is unpacked.
///
/// # Safety
/// As for [`product`].
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn few<const R: usize, B: SuperBlock>(
    weights: Panel<'_, B>,
    activations: &Q8KRows,
    panel: &mut [Interleaved],
    out: &mut Columns<'_>,
) {
    let (blocks, ahead) = (activations.blocks(), Ahead::of(&weights));
    let Some(target) = panel.first_mut() else { return };
    let mut sums = [_mm512_setzero_ps(); R];
    for index in 0..blocks {
        ahead.prefetch(index);
        // SAFETY: `index` is below the blocks of a row.
        unsafe { interleave(weights, index, blocks, target) };
        let by: [&Q8K; R] = std::array::from_fn(|r| &activations.as_slice()[r * blocks + index]);
        accumulate::<R, B>(target, by, &mut sums);
    }
    write(sums, 0, out);
}

/// Products of the panel with activation rows `row..row + R`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn tile<const R: usize, B: SuperBlock>(
    panel: &[Interleaved],
    activations: &Q8KRows,
    row: usize,
    out: &mut Columns<'_>,
) {
    let blocks = panel.len();
    let rows = &activations.as_slice()[row * blocks..][..R * blocks];
    let mut sums = [_mm512_setzero_ps(); R];
    for (index, block) in panel.iter().enumerate() {
        accumulate::<R, B>(block, std::array::from_fn(|r| &rows[r * blocks + index]), &mut sums);
    }
    write(sums, row, out);
}

/// Adds the products of one block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn accumulate<const R: usize, B: SuperBlock>(block: &Interleaved, by: [&Q8K; R], sums: &mut [__m512; R]) {
    let mut scaled = [_mm512_setzero_si512(); R];
    for (span, words) in block.quants.chunks_exact(B::SPAN / 4).enumerate() {
        let mut dots = [_mm512_setzero_si512(); R];
        for (word, weights) in words.iter().enumerate() {
            let weights = load(weights);
            for (dot, by) in dots.iter_mut().zip(by) {
                let four = by.quants.as_chunks::<4>().0[span * (B::SPAN / 4) + word];
                *dot = _mm512_dpbusd_epi32(*dot, weights, _mm512_set1_epi32(bytemuck::cast(four)));
            }
        }
        let scale = load(&block.scales[span]);
        for (scaled, dot) in scaled.iter_mut().zip(dots) {
            *scaled = _mm512_add_epi32(*scaled, _mm512_mullo_epi32(dot, scale));
        }
    }
    let mut lowered = [_mm512_setzero_si512(); R];
    for (pair, mins) in block.mins.iter().enumerate() {
        let mins = load(mins);
        for (lowered, by) in lowered.iter_mut().zip(by) {
            let two = by.sums.as_chunks::<2>().0[pair];
            *lowered = _mm512_dpwssd_epi32(*lowered, mins, _mm512_set1_epi32(bytemuck::cast(two)));
        }
    }
    let [scale, min] = [&block.scale, &block.min].map(|factors| _mm512_castsi512_ps(load(factors)));
    for r in 0..R {
        let term = if B::SYMMETRIC {
            _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(scaled[r], lowered[r])), scale)
        } else {
            let upper = _mm512_mul_ps(_mm512_cvtepi32_ps(scaled[r]), scale);
            _mm512_sub_ps(upper, _mm512_mul_ps(_mm512_cvtepi32_ps(lowered[r]), min))
        };
        sums[r] = _mm512_add_ps(sums[r], _mm512_mul_ps(term, _mm512_set1_ps(by[r].scale)));
    }
}

/// Writes the sums of activation rows from `row` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn write<const R: usize>(sums: [__m512; R], row: usize, out: &mut Columns<'_>) {
    for (r, sum) in sums.into_iter().enumerate() {
        let mut values = [0f32; PANEL];
        // SAFETY: `values` is 64 bytes.
        #[allow(unsafe_code)]
        unsafe {
            _mm512_storeu_ps(values.as_mut_ptr(), sum);
        }
        out.set(row + r, 0, &values);
    }
}

/// Unpacks block `index` of 16 rows of `blocks` blocks each.
///
/// # Safety
/// There must be so many blocks.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn interleave<B: SuperBlock>(
    weights: Panel<'_, B>,
    index: usize,
    blocks: usize,
    to: &mut Interleaved,
) {
    assert!(index < blocks && weights.blocks.len() == PANEL * blocks);
    let first = std::ptr::from_ref(weights.block(0, index, blocks)).cast::<u8>();
    let stride = weights.strides(blocks).0 * size_of::<B>();
    // SAFETY: row `r`'s block lies at `first + r * stride` and is of the format's size.
    unsafe {
        match B::FORMAT {
            Format::Q4K => interleave_q4k(first, stride, to),
            Format::Q5K => interleave_q5k(first, stride, to),
            Format::Q6K => interleave_q6k(first, stride, to),
            Format::Q2K | Format::Q3K => interleave_unpacked(|row| weights.block(row, index, blocks), to),
        }
    }
}

/// # Safety
/// A block of `Q4_K` must be readable at `first + row * stride` for each of 16 rows.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
unsafe fn interleave_q4k(first: *const u8, stride: usize, to: &mut Interleaved) {
    let nibble = _mm512_set1_epi8(0xf);
    // SAFETY: each load of 16 bytes lies in its row's block.
    unsafe {
        six_bit_scales(transpose(first, stride), to);
        for at in 0..8 {
            let packed = transpose(first.add(Q4K::QUANTS_AT + at * 16), stride);
            for (word, packed) in packed.into_iter().enumerate() {
                let word = at / 2 * 16 + at % 2 * 4 + word;
                store(&mut to.quants[word], _mm512_and_si512(packed, nibble));
                store(&mut to.quants[word + 8], _mm512_and_si512(_mm512_srli_epi16::<4>(packed), nibble));
            }
        }
    }
}

/// # Safety
/// A block of `Q5_K` must be readable at `first + row * stride` for each of 16 rows.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
unsafe fn interleave_q5k(first: *const u8, stride: usize, to: &mut Interleaved) {
    let nibble = _mm512_set1_epi8(0xf);
    let bit = _mm512_set1_epi8(1);
    // SAFETY: each load of 16 bytes lies in its row's block.
    unsafe {
        six_bit_scales(transpose(first, stride), to);
        let high =
            [transpose(first.add(Q5K::HIGH_AT), stride), transpose(first.add(Q5K::HIGH_AT + 16), stride)];
        for at in 0..8 {
            let packed = transpose(first.add(Q5K::QUANTS_AT + at * 16), stride);
            for (word, packed) in packed.into_iter().enumerate() {
                let high = high[at % 2][word];
                let span = at / 2 * 2;
                let word = span * 8 + at % 2 * 4 + word;
                let packed = [packed, _mm512_srli_epi16::<4>(packed)];
                for (next, packed) in packed.into_iter().enumerate() {
                    let shift = _mm_cvtsi32_si128((span + next) as i32);
                    let bits = _mm512_and_si512(_mm512_srl_epi16(high, shift), bit);
                    let bits = _mm512_slli_epi16::<4>(bits);
                    let quants = _mm512_or_si512(_mm512_and_si512(packed, nibble), bits);
                    store(&mut to.quants[word + next * 8], quants);
                }
            }
        }
    }
}

/// # Safety
/// A block of `Q6_K` must be readable at `first + row * stride` for each of 16 rows.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
unsafe fn interleave_q6k(first: *const u8, stride: usize, to: &mut Interleaved) {
    let nibble = _mm512_set1_epi8(0xf);
    let two_bits = _mm512_set1_epi8(3);
    // SAFETY: each load of 16 bytes lies in its row's block.
    unsafe {
        for half in 0..2 {
            for at in 0..4 {
                let packed = transpose(first.add(half * 64 + at * 16), stride);
                let high = transpose(first.add(Q6K::HIGH_AT + half * 32 + at % 2 * 16), stride);
                for (word, (packed, high)) in packed.into_iter().zip(high).enumerate() {
                    let quarter = at / 2;
                    let word = (half * 4 + quarter) * 8 + at % 2 * 4 + word;
                    let packed = [packed, _mm512_srli_epi16::<4>(packed)];
                    for (next, packed) in packed.into_iter().enumerate() {
                        let shift = _mm_cvtsi32_si128(2 * (quarter + 2 * next) as i32);
                        let bits = _mm512_and_si512(_mm512_srl_epi16(high, shift), two_bits);
                        let bits = _mm512_slli_epi16::<4>(bits);
                        let quants = _mm512_or_si512(_mm512_and_si512(packed, nibble), bits);
                        store(&mut to.quants[word + next * 16], quants);
                    }
                }
            }
        }
        let scales = transpose(first.add(Q6K::SCALES_AT), stride);
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
        // The scale ends the block; what is loaded with it lies before it.
        let [.., last] = transpose(first.add(size_of::<Q6K>() - 16), stride);
        let scale = _mm512_castps_si512(halves(_mm512_srli_epi32::<16>(last)));
        store(&mut to.scale, scale);
        store(&mut to.min, scale);
    }
}

/// Scales and minima of `Q4_K` and `Q5_K` from the words of their heads: the factors, then 12 bytes that hold the first
/// four in the low bits of their words 0 and 1, and of the others four bits in word 2 and two in words 0 and 1.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
fn six_bit_scales([factors, scales, mins, rest]: [__m512i; 4], to: &mut Interleaved) {
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

/// The formats without a way of their own, row by row.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
fn interleave_unpacked<'a, B: SuperBlock>(block: impl Fn(usize) -> &'a B, to: &mut Interleaved) {
    let mut rows = [Unpacked::zeroed(); PANEL];
    for (row, unpacked) in rows.iter_mut().enumerate() {
        let block = block(row);
        block.unpack(unpacked);
        [to.scale[row], to.min[row]] = block.factors();
    }
    let first = rows.as_ptr().cast::<u8>();
    // SAFETY: each field of a row is a multiple of 16 bytes long, and the loops read it to its end.
    #[allow(unsafe_code)]
    unsafe {
        let field = |offset: usize, at: usize| transpose(first.add(offset + at * 16), size_of::<Unpacked>());
        for (at, words) in to.quants.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (to, word) in words.iter_mut().zip(field(std::mem::offset_of!(Unpacked, quants), at)) {
                store(to, word);
            }
        }
        for (at, words) in to.scales.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (to, twice) in words.iter_mut().zip(field(std::mem::offset_of!(Unpacked, scales), at)) {
                store(to, _mm512_srai_epi32::<16>(twice));
            }
        }
        for (at, words) in to.mins.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (to, word) in words.iter_mut().zip(field(std::mem::offset_of!(Unpacked, mins), at)) {
                store(to, word);
            }
        }
    }
}

/// A line of an [`Interleaved`].
#[inline]
#[target_feature(enable = "avx512f")]
fn load<T>(from: &T) -> __m512i {
    const { assert!(size_of::<T>() == 64) };
    // SAFETY: the value is as long as a register; no alignment is asked for.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_loadu_si512(std::ptr::from_ref(from).cast())
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store<T: bytemuck::Pod>(to: &mut T, value: __m512i) {
    const { assert!(size_of::<T>() == 64) };
    // SAFETY: the value is as long as a register and may be any bits; no alignment is asked for.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_storeu_si512(std::ptr::from_mut(to).cast(), value);
    }
}
