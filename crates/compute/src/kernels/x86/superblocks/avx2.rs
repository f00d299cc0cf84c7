//! AVX2: 8 weight rows to a register, four elements of each to a multiply-add pair.
//!
//! `vpmaddubsw` adds two products in i16, and several such sums may be added before they are widened; the scale rides in the
//! multiplication that widens them. Few activation rows are multiplied as the quants come apart; for many the rows are unpacked to
//! memory first.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over the registers' arrays read as the arithmetic they are"
)]

mod packed;

use std::arch::x86_64::*;
use std::cell::RefCell;

use bytemuck::Zeroable;

use self::packed::Take;
use super::super::avx2::{self, transpose};
use super::super::stream::Ahead;
use super::weaves;
use crate::kernels::columns::Columns;
use crate::kernels::padded::with_full_panel;
use crate::kernels::panel::{Order, PANEL, Panel};
use crate::kernels::superblocks::activations::{Q8K, Q8KRows};
use crate::kernels::superblocks::formats::{PARTS, SUPERBLOCK, SuperBlock, Unpacked};

/// Weight rows of a register.
const HALF: usize = PANEL / 2;
/// Activation rows multiplied at a time: as many as the 16 registers hold.
const TILE: usize = 4;
/// 32-bit words of a block's quants.
const WORDS: usize = SUPERBLOCK / 4;
/// Four words each.
const QUADS: usize = WORDS / 4;

/// One block of 8 rows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
struct Interleaved {
    /// `[element / 4][row][element % 4]`.
    quants: [[u8; 4 * HALF]; WORDS],
    heads: Heads,
}

/// Scales and minima of a block of 8 rows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
struct Heads {
    /// `[span][row]`, twice each: the scale of elements that share one.
    scales: [[[i16; 2]; HALF]; PARTS],
    /// `[part / 2][row][part % 2]`.
    mins: [[[i16; 2]; HALF]; PARTS / 2],
    /// Factor on the scales, by row.
    scale: [f32; HALF],
    /// Factor on the minima, by row.
    min: [f32; HALF],
}

impl Heads {
    const ZERO: Self = Self {
        scales: [[[0; 2]; HALF]; PARTS],
        mins: [[[0; 2]; HALF]; PARTS / 2],
        scale: [0.0; HALF],
        min: [0.0; HALF],
    };
}

impl Interleaved {
    const ZERO: Self = Self { quants: [[0; 4 * HALF]; WORDS], heads: Heads::ZERO };
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
unsafe fn product<B: SuperBlock>(weights: Panel<'_, B>, activations: &Q8KRows, out: &mut Columns<'_>) {
    let (rows, blocks) = (activations.rows(), activations.blocks());
    // SAFETY: the caller's promise.
    unsafe {
        if weaves(B::FORMAT) {
            match rows {
                1 => return straight::<1, B>(weights, activations, out),
                2 => return straight::<2, B>(weights, activations, out),
                3 => return straight::<3, B>(weights, activations, out),
                4 => return straight::<4, B>(weights, activations, out),
                5 => return straight::<5, B>(weights, activations, out),
                6 => return straight::<6, B>(weights, activations, out),
                7 => return straight::<7, B>(weights, activations, out),
                8 => return straight::<8, B>(weights, activations, out),
                _ => {}
            }
        }
        INTERLEAVED.with_borrow_mut(|panel| {
            if panel.len() < blocks {
                panel.resize(blocks, Interleaved::ZERO);
            }
            let panel = &mut panel[..blocks];
            let ahead = Ahead::of(&weights);
            for half in 0..out.width().div_ceil(HALF) {
                for (index, target) in panel.iter_mut().enumerate() {
                    ahead.part(index, half, 2);
                    interleave(weights, half, index, blocks, target);
                }
                let mut row = 0;
                while row + TILE <= rows {
                    tile::<TILE, B>(panel, half, activations, row, out);
                    row += TILE;
                }
                match rows - row {
                    3 => tile::<3, B>(panel, half, activations, row, out),
                    2 => tile::<2, B>(panel, half, activations, row, out),
                    1 => tile::<1, B>(panel, half, activations, row, out),
                    _ => {}
                }
            }
        });
    }
}

/// Products of the panel with `R` activation rows, all there are, each block multiplied as it comes apart.
///
/// # Safety
/// As for [`product`]; the format must be one that is taken [apart](weaves), and there be `R` activation rows.
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn straight<const R: usize, B: SuperBlock>(
    weights: Panel<'_, B>,
    activations: &Q8KRows,
    out: &mut Columns<'_>,
) {
    let blocks = activations.blocks();
    let rows = &activations.as_slice()[..R * blocks];
    let ahead = Ahead::of(&weights);
    let mut heads = Heads::ZERO;
    let mut sums = [[_mm256_setzero_ps(); R]; 2];
    for index in 0..blocks {
        let by = std::array::from_fn(|r| &rows[r * blocks + index]);
        for (half, sums) in sums.iter_mut().enumerate() {
            let ahead = Part { ahead, index, first: half * QUADS };
            // SAFETY: the caller's promise.
            unsafe {
                if weights.order == Order::Woven {
                    let rows = packed::Woven::of(&weights, half, index, blocks);
                    multiply_block::<R, B, _>(rows, by, ahead, &mut heads, sums);
                } else {
                    let rows = packed::Apart::of(&weights, half, index, blocks);
                    multiply_block::<R, B, _>(rows, by, ahead, &mut heads, sums);
                }
            }
        }
    }
    for (half, sums) in sums.into_iter().enumerate() {
        avx2::store(sums, half, 0, out);
    }
}

/// Adds the products of one block of 8 rows as its quants come apart; `heads` is room for its scales.
///
/// # Safety
/// AVX2, FMA and F16C must be there, and `rows` be blocks of `B`, of a format that is taken [apart](weaves).
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply_block<const R: usize, B: SuperBlock, W: packed::Rows>(
    rows: W,
    by: [&Q8K; R],
    ahead: Part<B>,
    heads: &mut Heads,
    sums: &mut [__m256; R],
) {
    // SAFETY: the caller's promise.
    unsafe {
        packed::heads::<B, _>(rows, heads);
        let mut products = Products::<R, B> { heads, by, scaled: [_mm256_setzero_si256(); R], ahead };
        packed::quads::<B, _, _>(rows, &mut products);
        finish::<R, B>(products.heads, by, products.scaled, sums);
    }
}

/// What of the weights that follow is asked for next.
struct Part<B> {
    ahead: Ahead<B>,
    index: usize,
    /// Of twice [`QUADS`] parts.
    first: usize,
}

/// Multiplies quants as they come, and asks for a part of what follows each time.
struct Products<'a, const R: usize, B> {
    heads: &'a Heads,
    by: [&'a Q8K; R],
    /// Sums of scaled products.
    scaled: [__m256i; R],
    ahead: Part<B>,
}

impl<const R: usize, B: SuperBlock> Take for Products<'_, R, B> {
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn take(&mut self, word: usize, quad: [__m256i; 4]) {
        let Part { ahead, index, first } = &mut self.ahead;
        ahead.part(*index, *first, 2 * QUADS);
        *first += 1;
        let scales = load(&self.heads.scales[word * 4 / B::SPAN]);
        for r in 0..R {
            let fours = &self.by[r].quants.as_chunks::<16>().0[word / 4].as_chunks::<4>().0;
            let mut products = [_mm256_setzero_si256(); 4];
            for i in 0..4 {
                products[i] = _mm256_maddubs_epi16(quad[i], _mm256_set1_epi32(bytemuck::cast(fours[i])));
            }
            let pairs =
                [_mm256_add_epi16(products[0], products[1]), _mm256_add_epi16(products[2], products[3])];
            // Four sums of the largest quants stay below 2^15 up to 31: 2 * 31 * 127 * 4. Two do up to 63: 2 * 63 * 127 * 2.
            let scaled = if B::LARGEST <= 31 {
                _mm256_madd_epi16(_mm256_add_epi16(pairs[0], pairs[1]), scales)
            } else {
                _mm256_add_epi32(_mm256_madd_epi16(pairs[0], scales), _mm256_madd_epi16(pairs[1], scales))
            };
            self.scaled[r] = _mm256_add_epi32(self.scaled[r], scaled);
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
        let by = std::array::from_fn(|r| &rows[r * blocks + index]);
        let scaled = if B::SPAN == 32 && B::LARGEST <= 15 {
            scaled::<R, 8, B>(block, by)
        } else if B::LARGEST <= 31 {
            scaled::<R, 4, B>(block, by)
        } else {
            scaled::<R, 2, B>(block, by)
        };
        finish::<R, B>(&block.heads, by, scaled, &mut sums);
    }
    avx2::store(sums, half, row, out);
}

/// The sums of a block's scaled products. `ADDED` words' products are added before they are widened, which must stay
/// below 2^15: 2 * 15 * 127 * 8, 2 * 31 * 127 * 4, 2 * 63 * 127 * 2.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scaled<const R: usize, const ADDED: usize, B: SuperBlock>(
    block: &Interleaved,
    by: [&Q8K; R],
) -> [__m256i; R] {
    let mut scaled = [_mm256_setzero_si256(); R];
    for (group, words) in block.quants.as_chunks::<ADDED>().0.iter().enumerate() {
        let mut pairs = [_mm256_setzero_si256(); R];
        for word in 0..ADDED {
            let weights = load(&words[word]);
            for r in 0..R {
                let four = by[r].quants.as_chunks::<4>().0.as_chunks::<ADDED>().0[group][word];
                let products = _mm256_maddubs_epi16(weights, _mm256_set1_epi32(bytemuck::cast(four)));
                pairs[r] = if word == 0 { products } else { _mm256_add_epi16(pairs[r], products) };
            }
        }
        let scales = load(&block.heads.scales[group * ADDED * 4 / B::SPAN]);
        for r in 0..R {
            scaled[r] = _mm256_add_epi32(scaled[r], _mm256_madd_epi16(pairs[r], scales));
        }
    }
    scaled
}

/// Adds what the scaled dot products of one block come to, less its minima.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn finish<const R: usize, B: SuperBlock>(
    heads: &Heads,
    by: [&Q8K; R],
    scaled: [__m256i; R],
    sums: &mut [__m256; R],
) {
    let scale = _mm256_castsi256_ps(load(&heads.scale));
    let min = _mm256_castsi256_ps(load(&heads.min));
    for r in 0..R {
        let mut lowered = _mm256_setzero_si256();
        for (mins, two) in heads.mins.iter().zip(by[r].sums.as_chunks::<2>().0) {
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

/// Unpacks block `index` of 8 rows of `blocks` blocks each.
///
/// # Safety
/// As for [`product`]; there must be so many blocks.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn interleave<B: SuperBlock>(
    weights: Panel<'_, B>,
    half: usize,
    index: usize,
    blocks: usize,
    to: &mut Interleaved,
) {
    if !weaves(B::FORMAT) {
        return interleave_unpacked(weights, half, index, blocks, to);
    }
    // SAFETY: the caller's promise; the format is one that is taken apart.
    unsafe {
        if weights.order == Order::Woven {
            let rows = packed::Woven::of(&weights, half, index, blocks);
            packed::heads::<B, _>(rows, &mut to.heads);
            packed::quads::<B, _, _>(rows, &mut to.quants);
        } else {
            let rows = packed::Apart::of(&weights, half, index, blocks);
            packed::heads::<B, _>(rows, &mut to.heads);
            packed::quads::<B, _, _>(rows, &mut to.quants);
        }
    }
}

/// Keeps the quants.
impl Take for [[u8; 4 * HALF]; WORDS] {
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn take(&mut self, word: usize, quad: [__m256i; 4]) {
        for (to, quants) in self[word..word + 4].iter_mut().zip(quad) {
            store(to, quants);
        }
    }
}

/// The formats without a way of their own, row by row.
#[target_feature(enable = "avx2,fma,f16c")]
fn interleave_unpacked<B: SuperBlock>(
    weights: Panel<'_, B>,
    half: usize,
    index: usize,
    blocks: usize,
    to: &mut Interleaved,
) {
    let mut rows = [Unpacked::zeroed(); HALF];
    for (row, unpacked) in rows.iter_mut().enumerate() {
        let block = weights.block(half * HALF + row, index, blocks);
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
            for (to, word) in words.iter_mut().zip(field(std::mem::offset_of!(Unpacked, scales), at)) {
                store(to, word);
            }
        }
        for (at, words) in to.heads.mins.as_chunks_mut::<4>().0.iter_mut().enumerate() {
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
