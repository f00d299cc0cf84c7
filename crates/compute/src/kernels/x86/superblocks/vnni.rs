//! AVX-512 VNNI: 16 weight rows to a register, four elements of each to an instruction.
//!
//! Rows that are not woven together beforehand are by 4x4 transposes of 32-bit words while still packed, as in
//! [`super::super::vnni`]; the nibbles, high bits and scales of 16 rows are then taken apart by the same few instructions. Few
//! activation rows are multiplied as the quants come apart; for many the whole panel is unpacked to memory first.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over the registers' arrays read as the arithmetic they are"
)]

use std::arch::x86_64::*;
use std::cell::RefCell;

use bytemuck::Zeroable;

use super::super::stream::Ahead;
use super::super::vnni::transpose;
use super::{packed, weaves};
use crate::kernels::columns::Columns;
use crate::kernels::padded::with_full_panel;
use crate::kernels::panel::{Order, PANEL, Panel};
use crate::kernels::superblocks::activations::{Q8K, Q8KRows};
use crate::kernels::superblocks::formats::{SUPERBLOCK, SuperBlock, Unpacked};

/// Activation rows multiplied at a time.
const TILE: usize = 8;
/// 32-bit words of a block's quants.
const WORDS: usize = SUPERBLOCK / 4;
/// Four words each.
const QUADS: usize = WORDS / 4;

/// One block of 16 rows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Interleaved {
    /// `[element / 4][row][element % 4]`: one dot product instruction takes four elements of every row.
    quants: [[u8; 4 * PANEL]; WORDS],
    heads: Heads,
}

impl Interleaved {
    const ZERO: Self = Self { quants: [[0; 4 * PANEL]; WORDS], heads: Heads::ZERO };
}

/// Scales and minima of a block of 16 rows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Heads {
    /// `[span][row]`: the scale of elements that share one.
    pub(super) scales: [[i32; PANEL]; 16],
    /// `[part / 2][row][part % 2]`.
    pub(super) mins: [[[i16; 2]; PANEL]; 8],
    /// Factor on the scales, by row.
    pub(super) scale: [f32; PANEL],
    /// Factor on the minima, by row.
    pub(super) min: [f32; PANEL],
}

impl Heads {
    const ZERO: Self =
        Self { scales: [[0; PANEL]; 16], mins: [[[0; 2]; PANEL]; 8], scale: [0.0; PANEL], min: [0.0; PANEL] };
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
    let woven = weights.order == Order::Woven;
    // SAFETY: the rows of `weights` are as long as `panel`; the row ranges end at `rows`.
    unsafe {
        match rows {
            1 => return few::<1, B>(weights, activations, panel, out),
            2 => return few::<2, B>(weights, activations, panel, out),
            3 => return few::<3, B>(weights, activations, panel, out),
            4 => return few::<4, B>(weights, activations, panel, out),
            5 if woven => return few::<5, B>(weights, activations, panel, out),
            6 if woven => return few::<6, B>(weights, activations, panel, out),
            7 if woven => return few::<7, B>(weights, activations, panel, out),
            8 if woven => return few::<8, B>(weights, activations, panel, out),
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
        let by: [&Q8K; R] = std::array::from_fn(|r| &activations.as_slice()[r * blocks + index]);
        // SAFETY: `index` is below the blocks of a row; those that are taken apart in registers are of such a format.
        unsafe {
            match weights.order {
                Order::Woven => {
                    let rows = packed::Woven::of(&weights, index, blocks);
                    packed::heads::<B>(rows, &mut target.heads);
                    apart::<R, B>(rows, &target.heads, by, &mut sums, |part| ahead.part(index, part, QUADS));
                }
                Order::Rows | Order::Interleaved => {
                    ahead.prefetch(index);
                    interleave(weights, index, blocks, target);
                    accumulate::<R, B>(target, by, &mut sums);
                }
            }
        }
    }
    write(sums, 0, out);
}

/// Adds the products of one block as its quants come apart; `between` is called so many times with 0, 1 and so on.
///
/// # Safety
/// `rows` must be blocks of `B`, of a format that is taken [apart](weaves).
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn apart<const R: usize, B: SuperBlock>(
    rows: impl packed::Rows,
    heads: &Heads,
    by: [&Q8K; R],
    sums: &mut [__m512; R],
    mut between: impl FnMut(usize),
) {
    let mut scaled = [_mm512_setzero_si512(); R];
    let mut quad_of_block = 0;
    // SAFETY: the caller's promise.
    unsafe {
        packed::quads::<B>(rows, |word, quad| {
            between(quad_of_block);
            quad_of_block += 1;
            let scale = load(&heads.scales[word * 4 / B::SPAN]);
            for r in 0..R {
                let fours = by[r].quants.as_chunks::<4>().0;
                let mut dot = _mm512_setzero_si512();
                for i in 0..4 {
                    let four = _mm512_set1_epi32(bytemuck::cast(fours[word + i]));
                    dot = _mm512_dpbusd_epi32(dot, quad[i], four);
                }
                scaled[r] = _mm512_add_epi32(scaled[r], _mm512_mullo_epi32(dot, scale));
            }
        });
    }
    finish::<R, B>(heads, by, scaled, sums);
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
        let scale = load(&block.heads.scales[span]);
        for (scaled, dot) in scaled.iter_mut().zip(dots) {
            *scaled = _mm512_add_epi32(*scaled, _mm512_mullo_epi32(dot, scale));
        }
    }
    finish::<R, B>(&block.heads, by, scaled, sums);
}

/// Adds what the scaled dot products of one block come to, less its minima.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn finish<const R: usize, B: SuperBlock>(
    heads: &Heads,
    by: [&Q8K; R],
    scaled: [__m512i; R],
    sums: &mut [__m512; R],
) {
    let mut lowered = [_mm512_setzero_si512(); R];
    for (pair, mins) in heads.mins.iter().enumerate() {
        let mins = load(mins);
        for (lowered, by) in lowered.iter_mut().zip(by) {
            let two = by.sums.as_chunks::<2>().0[pair];
            *lowered = _mm512_dpwssd_epi32(*lowered, mins, _mm512_set1_epi32(bytemuck::cast(two)));
        }
    }
    let [scale, min] = [&heads.scale, &heads.min].map(|factors| _mm512_castsi512_ps(load(factors)));
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
    if !weaves(B::FORMAT) {
        return interleave_unpacked(|row| weights.block(row, index, blocks), to);
    }
    let Interleaved { quants, heads } = to;
    let keep = |word: usize, quad: [__m512i; 4]| {
        for (to, quants) in quants[word..word + 4].iter_mut().zip(quad) {
            store(to, quants);
        }
    };
    // SAFETY: the caller's promise; the format is one that is taken apart.
    unsafe {
        if weights.order == Order::Woven {
            let rows = packed::Woven::of(&weights, index, blocks);
            packed::heads::<B>(rows, heads);
            packed::quads::<B>(rows, keep);
        } else {
            let rows = packed::Apart::of(&weights, index, blocks);
            packed::heads::<B>(rows, heads);
            packed::quads::<B>(rows, keep);
        }
    }
}

/// The formats without a way of their own, row by row.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
fn interleave_unpacked<'a, B: SuperBlock>(block: impl Fn(usize) -> &'a B, to: &mut Interleaved) {
    let mut rows = [Unpacked::zeroed(); PANEL];
    for (row, unpacked) in rows.iter_mut().enumerate() {
        let block = block(row);
        block.unpack(unpacked);
        [to.heads.scale[row], to.heads.min[row]] = block.factors();
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
        for (at, words) in to.heads.scales.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (to, twice) in words.iter_mut().zip(field(std::mem::offset_of!(Unpacked, scales), at)) {
                store(to, _mm512_srai_epi32::<16>(twice));
            }
        }
        for (at, words) in to.heads.mins.as_chunks_mut::<4>().0.iter_mut().enumerate() {
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
pub(super) fn store<T: bytemuck::Pod>(to: &mut T, value: __m512i) {
    const { assert!(size_of::<T>() == 64) };
    // SAFETY: the value is as long as a register and may be any bits; no alignment is asked for.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_storeu_si512(std::ptr::from_mut(to).cast(), value);
    }
}
