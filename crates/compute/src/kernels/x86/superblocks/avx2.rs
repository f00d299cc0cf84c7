//! AVX2: 8 weight rows to a register, four elements of each to a multiply-add pair.
//!
//! `vpmaddubsw` adds two products in i16, and several such sums may be added before they are widened; the scale rides in the
//! multiplication that widens them.

use std::arch::x86_64::*;
use std::cell::RefCell;

use bytemuck::Zeroable;

use super::super::avx2::transpose;
use crate::kernels::columns::Columns;
use crate::kernels::padded::with_full_panel;
use crate::kernels::panel::{PANEL, Panel};
use crate::kernels::superblocks::activations::{Q8K, Q8KRows};
use crate::kernels::superblocks::formats::{PART, SuperBlock, Unpacked};

/// Weight rows of a register.
const HALF: usize = PANEL / 2;
/// Activation rows multiplied at a time: as many as the 16 registers hold.
const TILE: usize = 4;
/// 32-bit words of a part's quants.
const WORDS: usize = PART / 4;

/// One block of 8 rows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
struct Interleaved {
    /// `[part][element / 4][row][element % 4]`.
    quants: [[[u8; 4 * HALF]; WORDS]; 16],
    /// `[part][row]`, twice each.
    scales: [[[i16; 2]; HALF]; 16],
    /// `[part / 2][row][part % 2]`.
    mins: [[[i16; 2]; HALF]; 8],
    /// Factor on the scales, by row.
    scale: [f32; HALF],
    /// Factor on the minima, by row.
    min: [f32; HALF],
}

impl Interleaved {
    const ZERO: Self = Self {
        quants: [[[0; 4 * HALF]; WORDS]; 16],
        scales: [[[0; 2]; HALF]; 16],
        mins: [[[0; 2]; HALF]; 8],
        scale: [0.0; HALF],
        min: [0.0; HALF],
    };
}

thread_local! {
    static INTERLEAVED: RefCell<Vec<Interleaved>> = const { RefCell::new(Vec::new()) };
}

/// See [`crate::kernels::superblocks::multiply`], which checked the lengths and that this machine has AVX2.
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
            // SAFETY: the instruction set was detected.
            #[allow(unsafe_code)]
            unsafe {
                product(weights, activations, &mut panel[..blocks], out);
            }
        });
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
fn product<B: SuperBlock>(
    weights: Panel<'_, B>,
    activations: &Q8KRows,
    panel: &mut [Interleaved],
    out: &mut Columns<'_>,
) {
    let (rows, blocks) = (activations.rows(), activations.blocks());
    for half in 0..out.width().div_ceil(HALF) {
        for (index, target) in panel.iter_mut().enumerate() {
            interleave(|row| weights.block(half * HALF + row, index, blocks), target);
        }
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

/// Products of half a panel with activation rows `row..row + R`.
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<const R: usize, B: SuperBlock>(
    panel: &[Interleaved],
    half: usize,
    activations: &Q8KRows,
    row: usize,
    out: &mut Columns<'_>,
) {
    let blocks = panel.len();
    let rows = &activations.as_slice()[row * blocks..][..R * blocks];
    let mut sums = [_mm256_setzero_ps(); R];
    for (index, block) in panel.iter().enumerate() {
        accumulate::<R, B>(block, std::array::from_fn(|r| &rows[r * blocks + index]), &mut sums);
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

/// Adds the products of one block.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn accumulate<const R: usize, B: SuperBlock>(block: &Interleaved, by: [&Q8K; R], sums: &mut [__m256; R]) {
    // How many words stay below 2^15 when added: 2 * 31 * 127 * 4 and 2 * 63 * 127 * 2.
    let added = if B::LARGEST <= 31 { WORDS } else { WORDS / 2 };
    let mut scaled = [_mm256_setzero_si256(); R];
    for (part, (words, scales)) in block.quants.iter().zip(&block.scales).enumerate() {
        let scales = load(scales);
        for (group, words) in words.chunks_exact(added).enumerate() {
            let mut pairs = [_mm256_setzero_si256(); R];
            for (word, weights) in words.iter().enumerate() {
                let weights = load(weights);
                for (pairs, by) in pairs.iter_mut().zip(by) {
                    let four = by.quants.as_chunks::<4>().0[part * WORDS + group * added + word];
                    let products = _mm256_maddubs_epi16(weights, _mm256_set1_epi32(bytemuck::cast(four)));
                    *pairs = _mm256_add_epi16(*pairs, products);
                }
            }
            for (scaled, pairs) in scaled.iter_mut().zip(pairs) {
                *scaled = _mm256_add_epi32(*scaled, _mm256_madd_epi16(pairs, scales));
            }
        }
    }
    let [scale, min] = [&block.scale, &block.min].map(|factors| _mm256_castsi256_ps(load(factors)));
    for r in 0..R {
        let mut lowered = _mm256_setzero_si256();
        for (mins, two) in block.mins.iter().zip(by[r].sums.as_chunks::<2>().0) {
            let two = _mm256_set1_epi32(bytemuck::cast(*two));
            lowered = _mm256_add_epi32(lowered, _mm256_madd_epi16(load(mins), two));
        }
        let term = if B::SYMMETRIC {
            _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(scaled[r], lowered)), scale)
        } else {
            let upper = _mm256_mul_ps(_mm256_cvtepi32_ps(scaled[r]), scale);
            _mm256_sub_ps(upper, _mm256_mul_ps(_mm256_cvtepi32_ps(lowered), min))
        };
        sums[r] = _mm256_add_ps(sums[r], _mm256_mul_ps(term, _mm256_set1_ps(by[r].scale)));
    }
}

/// Unpacks a block of 8 rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn interleave<'a, B: SuperBlock>(block: impl Fn(usize) -> &'a B, to: &mut Interleaved) {
    let mut rows = [Unpacked::zeroed(); HALF];
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
        for (at, words) in to.quants.iter_mut().enumerate() {
            for (to, word) in words.iter_mut().zip(field(std::mem::offset_of!(Unpacked, quants), at)) {
                store(to, word);
            }
        }
        for (at, words) in to.scales.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (to, word) in words.iter_mut().zip(field(std::mem::offset_of!(Unpacked, scales), at)) {
                store(to, word);
            }
        }
        for (at, words) in to.mins.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (to, word) in words.iter_mut().zip(field(std::mem::offset_of!(Unpacked, mins), at)) {
                store(to, word);
            }
        }
    }
}

/// A register's worth of an [`Interleaved`].
#[inline]
#[target_feature(enable = "avx2")]
fn load<T>(from: &T) -> __m256i {
    const { assert!(size_of::<T>() == 32) };
    // SAFETY: the value is as long as a register; no alignment is asked for.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_loadu_si256(std::ptr::from_ref(from).cast())
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store<T: bytemuck::Pod>(to: &mut T, value: __m256i) {
    const { assert!(size_of::<T>() == 32) };
    // SAFETY: the value is as long as a register and may be any bits; no alignment is asked for.
    #[allow(unsafe_code)]
    unsafe {
        _mm256_storeu_si256(std::ptr::from_mut(to).cast(), value);
    }
}
